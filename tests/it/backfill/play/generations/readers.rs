//! What readers find while views change: each generation against `SQLite`.

use super::{Broken, Change, ORDERS, SOME_CHANGED};
use crate::{backfill::play::VIEWS, oracle, support};
use changefold::{
    store::Store,
    view::{Views, registry::Owner, sql},
};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    pin::pin,
    task::{Context, Poll, Waker},
};

impl Change {
    /// The functions behind the wire: nothing else goes on meanwhile.
    fn views(&self) -> Views {
        let files = sql::parse(self.later).unwrap();
        let owner = Owner::new("test");
        let store: Store = self.play().calm_store();
        at_once(Views::attach(files, store, ("ledger", ""), &owner, support::FOREVER)).unwrap()
    }

    fn text(&self, view: &str, generation: u32) -> String {
        let text = if generation == 1 { VIEWS } else { self.later };
        let named = format!("VIEW {view} ");
        let mut statements = oracle::statements(text).into_iter();
        statements.find(|statement| statement.contains(&named)).unwrap()
    }

    /// Compares what is current with the SQL over the changes that it knows of each item.
    pub(super) fn look(&self, view: &str) {
        let play = self.play();
        let key = json!({"TableName": "ledger", "Key": {"pk": {"S": format!("S#{view}")}}});
        let row = play.ask("GetItem", &key)["Item"].take();
        let generation = row["generation"]["N"].as_str().map_or(1, |it| it.parse().unwrap());
        let views = self.views();
        let listing = views.rows_of((view, generation), usize::MAX);
        let Some(listing) = at_once(listing).unwrap() else {
            return self.tell(format!("{view}: generation {generation} is not served"));
        };
        let items = match self.items(generation) {
            Ok(items) => items,
            Err(error) => return self.tell(format!("{view}: {error}")),
        };
        let differs = oracle::compare(&self.text(view, generation), "orders", &items, &listing);
        if let Err(error) = differs {
            self.tell(format!("{view}, generation {generation}: {error}"));
        }
    }

    fn tell(&self, what: String) {
        let now = self.play().world.now();
        self.found.borrow_mut().push(format!("{now}: {what}"));
    }

    /// The items as a generation knows them: each as some change of it left it.
    fn items(&self, generation: u32) -> Result<oracle::Items, String> {
        let kind = if generation == 1 { "#" } else { "~2#" };
        let prefix = format!("K#{ORDERS}{kind}");
        let rows = self.play().all_of("ledger").into_iter();
        let rows: BTreeMap<String, Value> = rows
            .filter(|row| row["pk"]["S"].as_str().unwrap().starts_with(&prefix))
            .map(|row| (row["key"]["S"].as_str().unwrap().to_owned(), row))
            .collect();
        let since = self.registered_ms();
        let mut items = oracle::Items::new();
        for (key, changes) in self.history.borrow().iter() {
            let name = format!("pk=O#{key}");
            let image = match rows.get(&name).map(|row| (row, row["v"]["S"].as_str().unwrap())) {
                Some((_, "")) if generation == 1 => changes[0].2.clone(),
                None if generation == 1 => None,
                Some((_, version)) if !version.is_empty() => {
                    let sequence = version.split(':').nth(version.split(':').count() - 2);
                    let sequence: u64 = sequence.unwrap().parse().unwrap();
                    let of = changes.iter().find(|(number, ..)| *number == sequence);
                    of.ok_or_else(|| format!("{name}: {version} is no change of it"))?.2.clone()
                }
                // It was scanned, or was not there to be: as the last change left it that is not
                // for the generation. All others from before the scan are delivered by now.
                row => {
                    let is_before = |at: i64| at / 1_000 * 1_000 < since + 5_000;
                    let last = changes.iter().rfind(|(_, at, _)| is_before(*at));
                    let image = last.and_then(|(.., image)| image.clone());
                    let contributions = row.map(|(row, _)| row["c"]["S"].as_str().unwrap());
                    if !contributes(image.as_ref(), contributions) {
                        return Err(format!("{name}: {contributions:?} is not of {image:?}"));
                    }
                    image
                }
            };
            items.extend(image.map(|image| (name, image)));
        }
        Ok(items)
    }

    /// When the second generation was seen registered.
    fn registered_ms(&self) -> i64 {
        let key = json!({"TableName": "ledger", "Key": {"pk": {"S": "V#"}}});
        let row = self.play().ask("GetItem", &key)["Item"].take();
        let served = row["served"]["L"].as_array().cloned().unwrap_or_default();
        let since = served.iter().filter_map(|it| it["M"]["since_ms"]["N"].as_str()).next_back();
        let is_shifted = self.play().setup.broken == Some(Broken::GenerationNotFenced);
        let shift = if is_shifted { 3_600_000 } else { 0 };
        since.map_or(0, |since| since.parse::<i64>().unwrap() + shift)
    }

    /// Compares every generation with the table, when nothing goes on.
    pub(super) fn is_exact_at_rest(&self, when: &str, has_former: bool) {
        let items = self.play().all_of("orders").into_iter();
        let items: oracle::Items = items.map(|item| (item["pk"].to_string(), item)).collect();
        let views = self.views();
        for view in ["totals", "everything", "open_orders"] {
            let is_changed = self.changed().contains(&view);
            for generation in [1, 2] {
                let listing = views.rows_of((view, generation), usize::MAX);
                let listing = at_once(listing).unwrap();
                let is_there = if generation == 1 { has_former || !is_changed } else { is_changed };
                match listing {
                    Some(listing) if is_there => {
                        let text = self.text(view, generation);
                        let differs = oracle::compare(&text, "orders", &items, &listing).err();
                        if let Some(error) = differs {
                            self.tell(format!("{when}: {view}, generation {generation}: {error}"));
                        }
                    }
                    None if !is_there => {}
                    _ => self.tell(format!("{when}: {view}: generation {generation}: {is_there}")),
                }
            }
        }
    }

    /// After the drop nothing of what was before is there.
    pub(super) fn nothing_is_left(&self) {
        for view in self.changed() {
            let rows = self.play().all_of(view).len();
            if rows > 0 {
                self.tell(format!("{view}: {rows} rows of the former generation are left"));
            }
        }
        let values = self.play().all_of("ledger-values");
        let is_former = |row: &&Value| row["pk"]["S"].as_str().unwrap().starts_with("totals~1#");
        if let Some(row) = values.iter().find(is_former) {
            self.tell(format!("{row} is left of the former generation"));
        }
        let is_paid = |item: &Value| item["status"]["S"] == "PAID";
        let has_groups = self.play().all_of("orders").iter().any(is_paid);
        if values.is_empty() == has_groups {
            let told = format!("the later generation: groups: {has_groups}, values: {values:?}");
            self.tell(told);
        }
        let own = format!("K#{ORDERS}#");
        let keys = self.play().all_of("ledger").into_iter();
        let keys: Vec<String> =
            keys.map(|row| row["pk"]["S"].as_str().unwrap().to_owned()).collect();
        let has_own = keys.iter().any(|key| key.starts_with(&own));
        if has_own != (self.later == SOME_CHANGED) {
            self.tell(format!("ledger rows of the former generation: {has_own}"));
        }
        if let Some(key) = keys.iter().find(|key| key.starts_with("S#") && key.ends_with("~1")) {
            self.tell(format!("{key} is left"));
        }
    }
}

/// The end of what asks the store past the wire, while the world stands still.
fn at_once<T>(asked: impl Future<Output = T>) -> T {
    let mut asked = pin!(asked);
    let mut context = Context::from_waker(Waker::noop());
    for _ in 0..10_000 {
        if let Poll::Ready(told) = asked.as_mut().poll(&mut context) {
            return told;
        }
    }
    panic!("the store does not answer at once");
}

/// Whether an image contributes this to the views of the later version.
fn contributes(image: Option<&Value>, contributions: Option<&str>) -> bool {
    let (Some(image), Some(contributions)) = (image, contributions) else {
        return image.is_none() && contributions.is_none();
    };
    let told: Value = serde_json::from_str(contributions).unwrap();
    let status = image["status"]["S"].as_str().unwrap();
    let number = |value: &Value| -> f64 { value.as_str().unwrap().parse().unwrap() };
    let is_total = match (&told["totals"], status) {
        (Value::Null, status) => status != "PAID",
        (totals, "PAID") => {
            let region = image["region"]["S"].as_str().unwrap();
            let amount = number(&image["amount"]["N"]);
            totals[0] == format!("S{}:{region}", region.len())
                && (number(&totals[1][1][1]) - amount).abs() < 1e-9
        }
        _ => false,
    };
    is_total && told["open_orders"].is_boolean() == (status == "OPEN")
}
