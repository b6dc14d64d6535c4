//! What the store is asked for while views are kept: a count, the same on every machine.
//!
//! The embedded store counts each request of the official client, whatever becomes of it. The
//! tables are open before; every change has to be in the views when the reply is there.

use crate::measure::{Goal, Row};
use aws_sdk_dynamodb::config::{Credentials, SharedCredentialsProvider};
use changefold::{
    call::Call,
    clock::SystemClock,
    handler::Function,
    record::Timestamp,
    store::{self, Endpoint, Store},
    view::{Views, registry::Owner, sql},
};
use fastrand::Rng;
use std::sync::Arc;

const VIEW: &str = "CREATE MATERIALIZED VIEW by_region AS
    SELECT region, count(*) AS orders, sum(amount) AS total FROM orders GROUP BY region";
const FOREVER: Timestamp = Timestamp(i64::MAX);
const CHANGES: usize = 1000;
const GROUPS: usize = 100;

pub(crate) fn rows() -> Vec<Row> {
    let plain = |rng: &mut Rng, item: usize| (item, home(item), rng.u32(1..10_000));
    let moving = |rng: &mut Rng, item: usize| (item, rng.usize(..GROUPS), rng.u32(1..10_000));
    let of_few = |rng: &mut Rng, _| {
        let item = rng.usize(..50);
        (item, home(item), rng.u32(1..10_000))
    };
    let (inserted, stayed) = calls(CHANGES, plain);
    let (_, moved) = calls(CHANGES, moving);
    let (_, repeated) = calls(CHANGES, of_few);
    let (_, small) = calls(100, plain);
    let goal =
        Goal::at_most("store calls per 1,000 changes, 100 groups, batch 1,000, ledger", 40.0, 25.0);
    let note = format!(
        "inserts {inserted:.0}; every item into another group {moved:.0}; \
         of 50 items {repeated:.0}; batches of 100 {small:.0}"
    );
    vec![Row::counted(goal, stayed, note)]
}

/// The group of an item that stays where it is, drawn once.
fn home(item: usize) -> usize {
    Rng::with_seed(item as u64).usize(..GROUPS)
}

/// How many calls 1,000 changes take in batches of a size: when their items are new, and when
/// they are there.
fn calls(
    batch: usize,
    mut change: impl FnMut(&mut Rng, usize) -> (usize, usize, u32),
) -> (f64, f64) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let function = function().await;
        let mut rng = Rng::with_seed(7);
        let mut counts = [0.0; 2];
        for (round, count) in counts.iter_mut().enumerate() {
            let changes: Vec<String> = (0..CHANGES)
                .map(|item| record(round * CHANGES + item, change(&mut rng, item)))
                .collect();
            let before = function.work().store().usage();
            for batch in changes.chunks(batch) {
                let event = format!("{{\"Records\":[{}]}}", batch.join(","));
                let call = Call::new("", FOREVER);
                let reply = function.invoke(event.as_bytes(), &call).await.unwrap();
                let reply = serde_json::to_string(&reply).unwrap();
                assert_eq!(reply, r#"{"batchItemFailures":[]}"#, "every change is in");
            }
            *count = function.work().store().usage().since(before).calls as f64;
        }
        (counts[0], counts[1])
    })
}

async fn function() -> Function<Views> {
    let local = Credentials::new("local", "local", None, None, "");
    let credentials = SharedCredentialsProvider::new(local);
    let endpoint = Endpoint { region: "us-east-1".to_owned(), url: None, credentials };
    let client = store::embedded::open(None).unwrap();
    let store = Store::new(client, &endpoint, Arc::new(SystemClock), 1);
    let views = sql::parse(VIEW).unwrap();
    Views::ensure_tables(&views, &store, "ledger", "view_", FOREVER).await.unwrap();
    let views = Views::open(views, store, ("ledger", "view_"), &Owner::new("bench"), FOREVER)
        .await
        .unwrap();
    Function::new(views, Arc::new(SystemClock))
}

fn record(number: usize, (item, group, amount): (usize, usize, u32)) -> String {
    format!(
        r#"{{"eventID":"{number}","eventName":"MODIFY","eventSource":"aws:dynamodb","dynamodb":{{"ApproximateCreationDateTime":1789649451.0,"Keys":{{"pk":{{"S":"O#{item}"}}}},"NewImage":{{"pk":{{"S":"O#{item}"}},"region":{{"S":"R{group}"}},"amount":{{"N":"{amount}"}}}},"SequenceNumber":"{}","SizeBytes":1,"StreamViewType":"NEW_IMAGE"}},"eventSourceARN":"arn:aws:dynamodb:us-east-1:123456789012:table/orders/stream/2026-09-17T12:50:51.000"}}"#,
        number + 1
    )
}
