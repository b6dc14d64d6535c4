//! Generated views through the ledger, against `SQLite` over the items that are left.
//!
//! Each item has a past: it comes as another one, changes, is removed and comes again, or goes for
//! good. So it moves between groups, and values go whose last holder it was. The batches are cut
//! anywhere, and some come twice.

use super::record;
use crate::{
    sql::{
        items::{Item, any_item},
        operators::{Definition, definition},
        same_as_sqlite,
    },
    support,
};
use changefold::view::{evaluate::evaluate, sql};
use proptest::prelude::*;
use serde_json::{Value, json};

/// What became of an item, from its first change on.
type Past = (Item, Vec<Option<Item>>);

fn pasts() -> impl Strategy<Value = Vec<Past>> {
    let change = prop::option::weighted(0.8, any_item());
    prop::collection::vec((any_item(), prop::collection::vec(change, 0..4)), 1..12)
}

async fn check(definition: &Definition, pasts: &[Past], few: usize) -> Result<(), TestCaseError> {
    let text = definition.statement();
    let view = sql::parse(&text).unwrap().remove(0);
    let store = support::embedded(1);
    let function = support::function(&text, &store, "views_").await;
    let longest = pasts.iter().map(|(_, changes)| changes.len()).max().unwrap_or(0);
    let mut records = Vec::new();
    for at in 0..=longest {
        for (key, (first, changes)) in pasts.iter().enumerate() {
            let image = match at.checked_sub(1) {
                None => Some(first),
                Some(at) if at < changes.len() => changes[at].as_ref(),
                Some(_) => continue,
            };
            let image = image.map(|item| super::attribute(&item.value())["M"].take());
            records.push(record(records.len(), key, image.as_ref()));
        }
    }
    for (at, batch) in records.chunks(few).enumerate() {
        deliver(&function, batch).await;
        if at % 3 == 2 {
            deliver(&function, &records[..batch.len()]).await;
        }
    }
    let left = pasts.iter().filter_map(|(first, changes)| match changes.last() {
        None => Some(first),
        Some(last) => last.as_ref(),
    });
    let taken: Vec<&Item> = left.filter(|item| evaluate(&view, &item.value()).is_ok()).collect();
    let listing = function.work().rows(0, usize::MAX).await.unwrap();
    same_as_sqlite(definition, &listing.rows, &taken)
}

async fn deliver(
    function: &changefold::handler::Function<changefold::view::Views>,
    records: &[Value],
) {
    let event = json!({ "Records": records }).to_string();
    let reply = function.invoke(event.as_bytes(), &support::call()).await.unwrap();
    assert_eq!(serde_json::to_string(&reply).unwrap(), r#"{"batchItemFailures":[]}"#);
}

proptest! {
    #![proptest_config(crate::sql::cases(150))]

    #[test]
    fn every_view_has_the_rows_of_sqlite_through_the_ledger(
        definition in definition(),
        pasts in pasts(),
        few in 1..30_usize,
    ) {
        support::block_on(check(&definition, &pasts, few))?;
    }
}
