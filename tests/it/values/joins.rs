//! Joins through the ledger: both sides change at once, and the rows are those of `SQLite`.
//!
//! Rows that say which item is named are not shown to others until the transaction that wrote them
//! is answered, as `DynamoDB` may do it.

use super::{Played, attribute, checker, play_each, record, rows, run, wire::Broken};
use changefold::{
    event::Value,
    view::{definition::View, evaluate::evaluate_joined, sql},
};
use rusqlite::{Connection, types::Value as Sql};
use serde_json::{Value as Json, json};
use std::collections::BTreeMap;

const VIEWS: &str = "
    CREATE MATERIALIZED VIEW by_country AS
      SELECT c.country, count(*) AS n, sum(o.x) AS total, sum(o.x * c.rate) AS weighted
      FROM orders o LEFT JOIN customers c ON c.id = o.customer GROUP BY c.country;
    CREATE MATERIALIZED VIEW countries AS
      SELECT c.country, min(o.x) AS lo, count(DISTINCT o.g) AS d
      FROM orders o JOIN customers c ON c.id = o.customer WHERE c.active GROUP BY c.country;
    CREATE MATERIALIZED VIEW named AS
      SELECT o.g, o.x, c.country, coalesce(c.rate, 0) AS rate
      FROM orders o LEFT JOIN customers c ON c.id = o.customer
      WHERE o.x IS NOT NULL OR c.active;";

const SEEDS: u64 = 200;
const CUSTOMERS: usize = 4;

/// The attributes of an item, or nothing where it was removed.
type Image = Option<BTreeMap<&'static str, Value<'static>>>;

struct Change {
    key: usize,
    image: Image,
}

fn text(text: impl Into<String>) -> Value<'static> {
    Value::Text(text.into().into())
}

fn number(value: usize) -> Value<'static> {
    Value::Number(value.to_string().into())
}

fn any_order(rng: &mut fastrand::Rng) -> BTreeMap<&'static str, Value<'static>> {
    let mut image = BTreeMap::new();
    if rng.usize(..6) > 0 {
        image.insert("g", text(["A", "B"][rng.usize(..2)]));
    }
    match rng.usize(..8) {
        0 => {}
        1 => drop(image.insert("x", text("wrong"))),
        _ => drop(image.insert("x", number(rng.usize(..5)))),
    }
    match rng.usize(..12) {
        0 => {}
        1 => drop(image.insert("customer", Value::Null)),
        2 => drop(image.insert("customer", Value::Bool(true))),
        3 => drop(image.insert("customer", number(1))),
        _ => drop(image.insert("customer", text(format!("c{}", rng.usize(..=CUSTOMERS))))),
    }
    image
}

fn any_customer(rng: &mut fastrand::Rng) -> BTreeMap<&'static str, Value<'static>> {
    let mut image = BTreeMap::new();
    match rng.usize(..5) {
        0 => {}
        at => drop(image.insert("country", text(["DE", "FR", "é", "DE"][at - 1]))),
    }
    match rng.usize(..9) {
        0 => {}
        1 => drop(image.insert("rate", text("wrong"))),
        _ => drop(image.insert("rate", number(rng.usize(..4)))),
    }
    if rng.usize(..5) > 0 {
        image.insert("active", Value::Bool(rng.bool()));
    }
    image
}

fn history(
    rng: &mut fastrand::Rng,
    (changes, keys): (std::ops::Range<usize>, usize),
    any: fn(&mut fastrand::Rng) -> BTreeMap<&'static str, Value<'static>>,
) -> Vec<Change> {
    (0..rng.usize(changes))
        .map(|_| Change { key: rng.usize(..keys), image: (rng.usize(..4) > 0).then(|| any(rng)) })
        .collect()
}

fn image(change: &Change) -> Option<Json> {
    let members = change.image.as_ref()?.iter();
    let members = members.map(|(name, value)| ((*name).to_owned(), attribute(value)));
    Some(Json::Object(members.collect()))
}

fn orders(history: &[Change]) -> Vec<Json> {
    let numbered = history.iter().enumerate();
    numbered.map(|(at, change)| record(at, change.key, image(change).as_ref())).collect()
}

/// The records of the table of customers, whose key is `id`.
fn customers(history: &[Change]) -> Vec<Json> {
    let numbered = history.iter().enumerate();
    let records = numbered.map(|(at, change)| {
        let id = json!({"S": format!("c{}", change.key)});
        let mut image = image(change);
        if let Some(image) = &mut image {
            image["id"] = id.clone();
        }
        let mut record = record(50_000 + at, change.key, image.as_ref());
        record["dynamodb"]["Keys"] = json!({"id": id});
        let arn = record["eventSourceARN"].as_str().unwrap().replace("orders", "customers");
        record["eventSourceARN"] = arn.into();
        record
    });
    records.collect()
}

type Items = BTreeMap<usize, Value<'static>>;

fn items(history: &[Change], id: bool) -> Items {
    let mut items = Items::new();
    for change in history {
        let Some(image) = &change.image else {
            items.remove(&change.key);
            continue;
        };
        let id = id.then(|| ("id".into(), text(format!("c{}", change.key))));
        let members = image.iter().map(|(name, value)| ((*name).into(), value.clone()));
        items.insert(change.key, Value::Map(members.chain(id).collect()));
    }
    items
}

/// Loads items that a view can use, and gives the rows of its SELECT.
fn by_sqlite(view: &View, select: &str, orders: &Items, customers: &Items) -> Vec<String> {
    let database = Connection::open_in_memory().unwrap();
    let load = |table: &str, columns: &[&str], items: &mut dyn Iterator<Item = &Value<'_>>| {
        database.execute(&format!("CREATE TABLE {table} ({})", columns.join(", ")), []).unwrap();
        for item in items {
            let value = |name: &&str| match item.get(name) {
                Some(Value::Text(text)) => Sql::Text(text.clone().into_owned()),
                Some(Value::Number(digits)) => Sql::Integer(digits.parse().unwrap()),
                Some(Value::Bool(value)) => Sql::Integer(i64::from(*value)),
                _ => Sql::Null,
            };
            let places = vec!["?"; columns.len()].join(", ");
            let insert = format!("INSERT INTO {table} VALUES ({places})");
            let values = columns.iter().map(value);
            database.execute(&insert, rusqlite::params_from_iter(values)).unwrap();
        }
    };
    let is_usable = |order: &&Value<'_>| {
        let of = |customer: &&Value<'_>| customer.get("id") == order.get("customer");
        let named = order.get("customer").and_then(|_| customers.values().find(of));
        !matches!(order.get("customer"), Some(Value::Bool(_)))
            && evaluate_joined(view, order, named).is_ok()
    };
    load("orders", &["g", "x", "customer"], &mut orders.values().filter(is_usable));
    load("customers", &["id", "country", "rate", "active"], &mut customers.values());
    let mut statement = database.prepare(select).unwrap();
    let columns = statement.column_count();
    let rows = statement.query_map([], |row| {
        let cell = |at| {
            Ok(match row.get::<_, Sql>(at)? {
                Sql::Null => "NULL".to_owned(),
                Sql::Integer(value) => value.to_string(),
                Sql::Text(text) => text,
                other => panic!("{other:?}"),
            })
        };
        let cells: rusqlite::Result<Vec<String>> = (0..columns).map(cell).collect();
        Ok(cells?.join(" "))
    });
    let mut rows: Vec<String> = rows.unwrap().map(Result::unwrap).collect();
    rows.sort();
    rows
}

fn play(seed: u64, broken: Option<Broken>) -> Played {
    let mut rng = fastrand::Rng::with_seed(seed);
    let left = history(&mut rng, (15..45, 8), any_order);
    let right = history(&mut rng, (8..25, CUSTOMERS), any_customer);
    let ran = run(seed, (VIEWS, vec![orders(&left), customers(&right)]), broken);
    let at_rest = || {
        let (left, right) = (items(&left, false), items(&right, true));
        for (view, found) in ran.views.iter().zip(rows(&ran)) {
            let text = crate::oracle::statements(VIEWS);
            let text = text.iter().find(|text| text.contains(&format!("VIEW {} AS", view.name)));
            let (_, select) = text.unwrap().split_once(" AS\n").unwrap();
            let mut found: Vec<_> = found.split("; ").filter(|row| !row.is_empty()).collect();
            found.sort_unstable();
            let expected = by_sqlite(view, select, &left, &right);
            if found != expected {
                return Some(format!("{}: {found:?}\n  instead of {expected:?}", view.name));
            }
        }
        checker::check(&ran.embedded).err()
    };
    Played { wrong: ran.wrong.clone().or_else(at_rest), met: ran.met }
}

#[test]
fn both_sides_change_at_once_and_the_rows_are_those_of_sqlite() {
    assert_eq!(sql::parse(VIEWS).unwrap().len(), 3);
    let met = play_each(SEEDS, |seed| play(seed, None));
    for what in ["checked", "conflict", "hidden", "lost", "overtaken", "throttled"] {
        assert!(met.get(what).is_some_and(|times| *times > 20), "{what} in {met:?}");
    }
}

#[track_caller]
fn is_caught(broken: Broken) {
    let caught = (0..SEEDS).any(|seed| play(seed, Some(broken)).wrong.is_some());
    assert!(caught, "{broken:?} went unnoticed in {SEEDS} seeds");
}

#[test]
fn control_without_the_read_after_the_write_items_miss_a_change() {
    is_caught(Broken::MirrorsOnce);
}

#[test]
fn control_an_item_that_is_joined_again_without_its_revision_is_wrong() {
    is_caught(Broken::RejoinUnguarded);
}

#[test]
fn control_references_behind_the_transaction_are_missed() {
    is_caught(Broken::ReferencesApart);
}
