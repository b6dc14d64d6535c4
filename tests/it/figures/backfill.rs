//! What bringing 1,000 items in costs, in units, as the tables say it.

use crate::support::{self, call};
use aws_sdk_dynamodb::types::{AttributeValue, Put, TransactWriteItem};
use changefold::{
    operation::{
        self, Operation,
        backfill::{Backfill, Begin, Begun, Portion, Stopped, Worked},
    },
    outcome::Answer,
    store::Item,
};
use serde::de::DeserializeOwned;

const ITEMS: usize = 1_000;

const VIEW: &str = "CREATE MATERIALIZED VIEW totals AS \
    SELECT g, count(*) AS n, sum(amount) AS total FROM backfilled GROUP BY g;";

/// Read and written units of a run over 1,000 items of 1 KB in so many groups.
async fn units(groups: usize, units_per_s: u32) -> (f64, f64) {
    let store = support::embedded_at_url(41);
    let function = support::function(VIEW, &store, "").await;
    store.ensure_table("backfilled", &["pk"], None, support::FOREVER).await.unwrap();
    for key in 0..ITEMS {
        let item = Item::from([
            ("pk".to_owned(), AttributeValue::S(format!("item-{key:06}"))),
            ("g".to_owned(), AttributeValue::S(format!("group-{}", key % groups))),
            ("amount".to_owned(), AttributeValue::N(key.to_string())),
            ("rest".to_owned(), AttributeValue::S("x".repeat(970))),
        ]);
        let put = Put::builder().table_name("backfilled").set_item(Some(item)).build().unwrap();
        let action = TransactWriteItem::builder().put(put).build();
        store.transact(vec![action], support::FOREVER).await.unwrap();
    }
    let table = || "backfilled".to_owned();
    let step = Backfill::Begin(Begin {
        table: table(),
        segments: Some(1),
        read_units_per_s: Some(units_per_s),
        write_units_per_s: Some(units_per_s),
        without_stream: true,
        ..Begin::default()
    });
    let begun: Begun = ask(&function, step).await;
    let portion = Portion { table: table(), run: begun.run, ..Portion::default() };
    let worked: Worked = ask(&function, Backfill::Work(portion)).await;
    assert_eq!((worked.stopped, worked.counts.added), (Some(Stopped::SegmentDone), 1_000));
    (worked.read_units, worked.write_units)
}

async fn ask<T: DeserializeOwned>(
    function: &changefold::handler::Function<changefold::view::Views>,
    step: Backfill,
) -> T {
    let event = operation::event(Operation::Backfill(step));
    let Answer::Operation(answer) = function.invoke(&event, &call()).await.unwrap() else {
        panic!("a reply to an operation");
    };
    serde_json::from_value(answer).unwrap()
}

#[test]
#[expect(clippy::print_stdout, reason = "tests/figures.sh reads it")]
fn a_backfill_costs_its_ledger_rows_and_what_transactions_share() {
    println!("| groups | units a second | read units | write units |");
    println!("|--:|--:|--:|--:|");
    support::block_on(async {
        for groups in [1, 10, 100] {
            for units_per_s in [1_000, 100_000] {
                let (read, write) = units(groups, units_per_s).await;
                println!("| {groups} | {units_per_s} | {read:.0} | {write:.0} |");
                // Half a unit for 4 KB, and one for each ledger row; then what is looked up.
                assert!((1_125.0..1_400.0).contains(&read), "{groups}: {read} read units");
                assert!((2_000.0..4_100.0).contains(&write), "{groups}: {write} write units");
            }
        }
    });
}
