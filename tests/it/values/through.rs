//! Generated views through the ledger, against `SQLite` over the items that are left.
//!
//! Each item has a past: it comes as another one, changes, is removed and comes again, or goes for
//! good. So it moves between groups, and values go whose last holder it was. What items name in
//! another table changes between. The batches are cut anywhere, and some come twice.

use super::record;
use crate::{
    sql::{
        contribution,
        items::{Item, KEYS, Named, Names, any_item, any_named},
        operators::{Definition, definition},
        same_as_sqlite,
    },
    support,
};
use changefold::view::sql;
use proptest::prelude::*;
use serde_json::{Value, json};

/// What became of an item, from its first change on.
type Past = (Item, Vec<Option<Item>>);

fn pasts() -> impl Strategy<Value = Vec<Past>> {
    let change = prop::option::weighted(0.8, any_item());
    prop::collection::vec((any_item(), prop::collection::vec(change, 0..4)), 1..12)
}

/// A change of an item that others name, and before which of theirs it comes.
type OfNamed = (usize, i64, Option<Named>);

fn of_named() -> impl Strategy<Value = Vec<OfNamed>> {
    let image = prop::option::weighted(0.8, any_named());
    prop::collection::vec((0..40_usize, KEYS, image), 0..12)
}

/// The record of a change of such an item.
fn record_of_named(number: usize, key: i64, image: Option<&Value>) -> Value {
    let mut record = record(number, 0, image);
    record["dynamodb"]["Keys"] = json!({"k": {"N": key.to_string()}});
    let arn = record["eventSourceARN"].as_str().unwrap().replace("orders", "named");
    record["eventSourceARN"] = arn.into();
    record
}

async fn check(
    definition: &Definition,
    (pasts, of_named): (&[Past], &[OfNamed]),
    few: usize,
) -> Result<(), TestCaseError> {
    let text = definition.statement();
    let view = sql::parse(&text).unwrap().remove(0);
    let store = support::embedded(1);
    let function = support::function(&text, &store, "views_").await;
    let longest = pasts.iter().map(|(_, changes)| changes.len()).max().unwrap_or(0);
    let mut records = Vec::new();
    let mut beside = Vec::new();
    let mut names = Names::new();
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
    if view.join.is_some() {
        for (number, (before, key, of_named)) in of_named.iter().enumerate() {
            let image = of_named.as_ref();
            let image = image.map(|item| super::attribute(&item.value(*key))["M"].take());
            beside.push((before / few, record_of_named(number, *key, image.as_ref())));
            match of_named {
                Some(one) => drop(names.insert(*key, one.clone())),
                None => drop(names.remove(key)),
            }
        }
        // Those of one table come in their order.
        let mut latest = 0;
        for (before, _) in &mut beside {
            latest = latest.max(*before);
            *before = latest;
        }
    }
    let mut beside = beside.into_iter().peekable();
    for (at, batch) in records.chunks(few).enumerate() {
        while let Some((_, record)) = beside.next_if(|(before, _)| *before <= at) {
            deliver(&function, &[record]).await;
        }
        deliver(&function, batch).await;
        if at % 3 == 2 {
            deliver(&function, &records[..batch.len()]).await;
        }
    }
    for (_, record) in beside {
        deliver(&function, &[record]).await;
    }
    let left = pasts.iter().filter_map(|(first, changes)| match changes.last() {
        None => Some(first),
        Some(last) => last.as_ref(),
    });
    let taken: Vec<&Item> = left.filter(|item| contribution(&view, item, &names).is_ok()).collect();
    let listing = function.work().rows(0, usize::MAX).await.unwrap();
    same_as_sqlite(definition, &listing.rows, (&taken, &names))
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
        of_named in of_named(),
        few in 1..30_usize,
    ) {
        support::block_on(check(&definition, (&pasts, &of_named), few))?;
    }
}
