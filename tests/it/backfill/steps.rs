//! What each step of a backfill says, and what it refuses.

use crate::support::{self, call};
use aws_sdk_dynamodb::types::{AttributeValue, Put, TransactWriteItem};
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use changefold::{
    call::{Call, Halt},
    handler::Function,
    operation::{
        self, Operation, Operations,
        backfill::{
            Backfill, Begin, Begun, Estimate, Finish, OfTable, Portion, ReconcileRequest,
            Reconciled, Status, Stopped, Which, Worked,
        },
    },
    outcome::Answer,
    record::Timestamp,
    store::{Item, Store, embedded::Embedded},
    view::{
        Views,
        building::{RunState, ViewState},
    },
};
use serde::de::DeserializeOwned;
use serde_json::json;
use std::sync::Arc;

pub(super) const VIEWS: &str = "
    CREATE MATERIALIZED VIEW totals AS
      SELECT region, count(*) AS orders, sum(amount) AS total FROM orders GROUP BY region;
    CREATE MATERIALIZED VIEW open_orders AS
      SELECT pk, amount FROM orders WHERE status = 'OPEN';
    CREATE MATERIALIZED VIEW pages AS SELECT page, count(*) AS n FROM clicks GROUP BY page;";

/// A function over a table with so many items and a stream.
pub(crate) struct Shop {
    pub(super) embedded: Embedded,
    store: Store,
    pub(super) function: Function<Views>,
}

impl Shop {
    async fn open(items: usize) -> Self {
        Self::in_store(Embedded::open(None).unwrap(), items).await
    }

    /// The function, and its table if it is to be filled.
    pub(super) async fn in_store(embedded: Embedded, items: usize) -> Self {
        let endpoint = support::local_endpoint(Some("http://embedded"));
        let client = SharedHttpClient::new(embedded.clone());
        let store = Store::new(client, &endpoint, Arc::new(changefold::clock::SystemClock), 1);
        let function = support::function(VIEWS, &store, "shop_").await;
        let shop = Self { embedded, store, function };
        if items > 0 {
            shop.make_table("NEW_IMAGE");
        }
        for key in 0..items {
            shop.put(key, AttributeValue::N(key.to_string())).await;
        }
        shop
    }

    fn ask(&self, operation: &str, body: serde_json::Value) {
        let target = format!("DynamoDB_20120810.{operation}");
        let (status, told) = self.embedded.answer(&target, body.to_string().as_bytes());
        assert_eq!(status, 200, "{told}");
    }

    fn make_table(&self, stream: &str) {
        self.ask(
            "CreateTable",
            json!({
                "TableName": "orders", "BillingMode": "PAY_PER_REQUEST",
                "KeySchema": [{"AttributeName": "pk", "KeyType": "HASH"}],
                "AttributeDefinitions": [{"AttributeName": "pk", "AttributeType": "S"}],
                "StreamSpecification": {"StreamEnabled": true, "StreamViewType": stream},
            }),
        );
    }

    async fn put(&self, key: usize, amount: AttributeValue) {
        put(&self.store, "orders", key, amount).await;
    }

    async fn step<T: DeserializeOwned>(&self, step: Backfill, call: &Call) -> Result<T, Halt> {
        operate(&self.function, Operation::Backfill(step), call).await
    }

    async fn begin(&self, begin: Begin) -> Result<Begun, Halt> {
        let begin = Begin { table: "orders".to_owned(), ..begin };
        self.step(Backfill::Begin(begin), &call()).await
    }

    async fn work(&self, run: &str, segment: Option<u32>) -> Result<Worked, Halt> {
        let run = run.to_owned();
        let portion = Portion { table: "orders".to_owned(), run, segment, given: None };
        self.step(Backfill::Work(portion), &call()).await
    }

    async fn status(&self) -> Status {
        self.step(Backfill::Status(Which::default()), &call()).await.unwrap()
    }

    async fn states(&self) -> Vec<Option<ViewState>> {
        self.status().await.views.iter().map(|view| view.state).collect()
    }

    async fn rows(&self) -> String {
        support::table(&self.function.work().rows(0, usize::MAX).await.unwrap())
    }
}

async fn put(store: &Store, table: &str, key: usize, amount: AttributeValue) {
    let text = |text: &str| AttributeValue::S(text.to_owned());
    let item = Item::from([
        ("pk".to_owned(), text(&format!("O#{key:04}"))),
        ("region".to_owned(), text(["EU", "US"][key % 2])),
        ("amount".to_owned(), amount),
        ("status".to_owned(), text(["OPEN", "PAID"][key % 2])),
    ]);
    let put = Put::builder().table_name(table).set_item(Some(item)).build().unwrap();
    let action = TransactWriteItem::builder().put(put).build();
    store.transact(vec![action], support::FOREVER).await.unwrap();
}

async fn operate<T: DeserializeOwned>(
    function: &Function<Views>,
    operation: Operation,
    call: &Call,
) -> Result<T, Halt> {
    let event = operation::event(operation);
    let Answer::Operation(answer) = function.invoke(&event, call).await? else {
        panic!("a reply to an operation");
    };
    Ok(serde_json::from_value(answer).unwrap())
}

/// A table that no other test has, backfilled and reconciled at whatever store answers.
async fn a_store_is_backfilled(store: Store) {
    const SOURCE: &str = "backfilled";
    let views = VIEWS.replace("FROM orders", "FROM backfilled");
    let function = support::function(&views, &store, "backfill_").await;
    store.ensure_table(SOURCE, &["pk"], None, support::FOREVER).await.unwrap();
    for key in 0..300 {
        put(&store, SOURCE, key, AttributeValue::N(key.to_string())).await;
    }
    let step = Backfill::Begin(Begin {
        table: SOURCE.to_owned(),
        segments: Some(3),
        without_stream: true,
        ..Begin::default()
    });
    let begun: Begun = operate(&function, Operation::Backfill(step), &call()).await.unwrap();
    let mut added = 0;
    loop {
        let (table, run) = (SOURCE.to_owned(), begun.run.clone());
        let work = Backfill::Work(Portion { table, run, ..Portion::default() });
        let worked: Worked = operate(&function, Operation::Backfill(work), &call()).await.unwrap();
        added += worked.counts.added;
        if worked.stopped == Some(Stopped::AllDone) {
            break;
        }
    }
    let rows = async || support::table(&function.work().rows(0, usize::MAX).await.unwrap());
    assert_eq!((added, &*rows().await), (300, "EU 150 22350; US 150 22500"));
    put(&store, SOURCE, 2, AttributeValue::N("1000".into())).await;
    let keys = vec![json!({"pk": {"S": "O#0002"}}), json!({"pk": {"S": "gone"}})];
    let reconcile = Operation::Reconcile(ReconcileRequest { table: SOURCE.to_owned(), keys });
    let told: Reconciled = operate(&function, reconcile, &call()).await.unwrap();
    assert_eq!((told.done, &*rows().await), (2, "EU 150 23348; US 150 22500"));
}

#[test]
fn the_embedded_store_is_backfilled() {
    support::block_on(async {
        a_store_is_backfilled(support::embedded_at_url(31)).await;
    });
}

/// As in `views.rs`: `tests/dynamodb_local.sh` starts AWS's own.
#[test]
fn dynamodb_local_is_backfilled() {
    let Some(url) = support::environment("CHANGEFOLD_TEST_DYNAMODB_LOCAL") else {
        return;
    };
    support::block_on(a_store_is_backfilled(support::endpoint(&url)));
}

fn of_orders() -> OfTable {
    OfTable { table: "orders".to_owned() }
}

#[test]
fn a_run_goes_from_building_over_catching_up_to_ready() {
    support::block_on(async {
        let shop = Shop::open(100).await;
        let estimate: Estimate = shop.step(Backfill::Estimate(of_orders()), &call()).await.unwrap();
        assert_eq!((estimate.items, estimate.has_stream), (100, true));
        assert_eq!(estimate.views, ["totals", "open_orders"]);
        assert_eq!(shop.states().await, [None, None, None], "an estimate changes nothing");

        let begun = shop.begin(Begin { segments: Some(3), ..Begin::default() }).await.unwrap();
        assert_eq!((begun.segments, begun.state), (3, RunState::Scanning));
        let building = Some(ViewState::Building);
        assert_eq!(shop.states().await, [building, building, None], "clicks are another source");
        assert_eq!(shop.begin(Begin::default()).await.unwrap(), begun, "the run goes on");

        let mut counts = (0, 0);
        for segment in [Some(2), None, None] {
            let worked = shop.work(&begun.run, segment).await.unwrap();
            assert_eq!(worked.stopped, Some(Stopped::SegmentDone));
            assert!(segment.is_none() || worked.segment == segment);
            counts.0 += worked.counts.scanned;
            counts.1 += worked.counts.added;
        }
        assert_eq!(counts, (100, 100));
        let worked = shop.work(&begun.run, None).await.unwrap();
        assert_eq!(worked.stopped, Some(Stopped::AllDone));
        let catching_up = Some(ViewState::CatchingUp);
        assert_eq!(shop.states().await, [catching_up, catching_up, None]);
        assert_eq!(shop.rows().await, "EU 50 2450; US 50 2500");

        // The stream is an hour behind: it has not passed the end of the scan.
        let finish = |age| {
            let finish = Finish { table: "orders".to_owned(), iterator_age_ms: age };
            Backfill::Finish(finish)
        };
        for age in [None, Some(3_600_000), Some(0)] {
            let status: Status = shop.step(finish(age), &call()).await.unwrap();
            assert_eq!(status.runs[0].state, RunState::CatchingUp, "{age:?}");
        }
        let run = &shop.status().await.runs[0];
        assert_eq!((run.segments, run.segments_done, run.counts.added), (3, 3, 100));
        assert!(run.write_units > 200.0 && run.read_units > 100.0, "{run:?}");
    });
}

#[test]
fn a_ceiling_pauses_the_run_and_a_higher_one_goes_on() {
    support::block_on(async {
        let shop = Shop::open(200).await;
        let up_to = |units_max| Begin { units_max: Some(units_max), ..Begin::default() };
        let begun = shop.begin(up_to(150)).await.unwrap();
        let stopped = loop {
            let worked = shop.work(&begun.run, None).await.unwrap();
            if worked.stopped != Some(Stopped::SegmentDone) {
                break worked;
            }
        };
        assert_eq!(
            (stopped.stopped, stopped.state),
            (Some(Stopped::Units), Some(RunState::Paused))
        );
        let run = &shop.status().await.runs[0];
        assert!(run.read_units + run.write_units <= 155.0, "{run:?}");
        assert!((1..200).contains(&run.counts.added), "{run:?}");
        let paused = shop.work(&begun.run, None).await.unwrap();
        assert_eq!(paused.stopped, Some(Stopped::Units));
        assert_eq!(shop.begin(up_to(100_000)).await.unwrap(), begun);
        while shop.work(&begun.run, None).await.unwrap().stopped != Some(Stopped::AllDone) {}
        assert_eq!(shop.rows().await, "EU 100 9900; US 100 10000");
    });
}

#[test]
fn a_stopped_run_works_no_more_until_it_is_begun_again() {
    support::block_on(async {
        let shop = Shop::open(10).await;
        let begun = shop.begin(Begin::default()).await.unwrap();
        let status: Status = shop.step(Backfill::Stop(of_orders()), &call()).await.unwrap();
        assert_eq!(status.runs[0].state, RunState::Stopped);
        let worked = shop.work(&begun.run, None).await.unwrap();
        assert_eq!((worked.stopped, worked.counts.scanned), (Some(Stopped::Stopped), 0));
        assert_eq!(shop.begin(Begin::default()).await.unwrap().run, begun.run);
        while shop.work(&begun.run, None).await.unwrap().stopped != Some(Stopped::AllDone) {}
        // A run that is over is begun again on purpose alone, and everything is known then.
        assert_eq!(shop.begin(Begin::default()).await.unwrap().state, RunState::CatchingUp);
        let again = shop.begin(Begin { again: true, ..Begin::default() }).await.unwrap();
        assert_ne!(again.run, begun.run);
        let refused = shop.work(&begun.run, None).await.unwrap_err();
        assert_eq!(refused.code, "RunNotCurrent");
        while shop.work(&again.run, None).await.unwrap().stopped != Some(Stopped::AllDone) {}
        let counts = shop.status().await.runs[0].counts;
        assert_eq!((counts.scanned, counts.added, counts.known), (10, 0, 10));
        assert_eq!(shop.rows().await, "EU 5 20; US 5 25");
    });
}

#[test]
fn a_call_stops_before_its_deadline_and_the_next_goes_on() {
    support::block_on(async {
        let shop = Shop::open(300).await;
        let slow = Begin {
            segments: Some(1),
            write_units_per_s: Some(200),
            read_units_per_s: Some(200),
            ..Begin::default()
        };
        let begun = shop.begin(slow).await.unwrap();
        let short = || {
            let now = changefold::clock::Clock::now(&changefold::clock::SystemClock);
            Call::new("same", Timestamp(now.0 + 1_200))
        };
        let portion = || {
            let (table, run) = ("orders".to_owned(), begun.run.clone());
            Backfill::Work(Portion { table, run, segment: Some(0), given: None })
        };
        let first: Worked = shop.step(portion(), &short()).await.unwrap();
        assert!(matches!(first.stopped, Some(Stopped::Rate | Stopped::Deadline)), "{first:?}");
        let second: Worked = shop.step(portion(), &short()).await.unwrap();
        let (one, two) = (first.counts, second.counts);
        assert!(one.added > 0 && two.added > 0 && two.known == 0, "{one:?} {two:?}");
    });
}

#[test]
fn items_that_nobody_can_evaluate_are_quarantined_and_unwritable_ones_named() {
    support::block_on(async {
        let shop = Shop::open(4).await;
        shop.put(4, AttributeValue::S("four".into())).await;
        // A row of the projection has the key twice, and no room for it.
        let item = json!({
            "pk": {"S": "O".repeat(1_000)}, "region": {"S": "EU"}, "status": {"S": "OPEN"},
            "amount": {"S": "1".repeat(400 * 1_024 - 1_100)},
        });
        shop.ask("PutItem", json!({"TableName": "orders", "Item": item}));
        let begun = shop.begin(Begin::default()).await.unwrap();
        while shop.work(&begun.run, None).await.unwrap().stopped != Some(Stopped::AllDone) {}
        let run = &shop.status().await.runs[0];
        assert_eq!((run.counts.scanned, run.counts.added), (6, 5));
        assert_eq!((run.counts.quarantined, run.counts.not_done), (1, 1));
        assert!(run.not_done[0].key.starts_with("pk=OOO"), "{run:?}");
        assert_eq!(shop.rows().await, "EU 2 2; US 2 4");
        let quarantined = shop.function.work().quarantined(10).await.unwrap();
        assert_eq!(quarantined.first[0].key, "pk=O#0004");
        // A view that lacks an item is not said ready, however far the stream is.
        let finish = Finish { table: "orders".to_owned(), iterator_age_ms: Some(0) };
        let status: Status = shop.step(Backfill::Finish(finish), &call()).await.unwrap();
        assert_eq!(status.runs[0].state, RunState::CatchingUp);
    });
}

#[test]
fn what_cannot_be_backfilled_is_refused_and_says_what_helps() {
    support::block_on(async {
        let shop = Shop::open(1).await;
        let refused = async |begin: Begin| {
            let halt = shop.begin(begin).await.unwrap_err();
            (halt.code, halt.message)
        };
        assert_eq!(
            refused(Begin { segments: Some(0), ..Begin::default() }).await.0,
            "BackfillInvalid"
        );
        let worked = shop.work("none", None).await.unwrap_err();
        assert_eq!(worked.code, "RunNotCurrent");
        let of = |table: &str| Backfill::Estimate(OfTable { table: table.to_owned() });
        let halt = shop.step::<Estimate>(of("clicks"), &call()).await.unwrap_err();
        assert_eq!(halt.code, "SourceTableMissing");

        // The table is deleted under the run, and made again.
        let begun = shop.begin(Begin::default()).await.unwrap();
        shop.ask("DeleteTable", json!({"TableName": "orders"}));
        let halt = shop.work(&begun.run, None).await.unwrap_err();
        assert_eq!(halt.code, "SourceTableMissing");
        shop.make_table("KEYS_ONLY");
        let halt = shop.work(&begun.run, None).await.unwrap_err();
        assert_eq!(halt.code, "SourceTableReplaced");
        let (code, message) = refused(Begin::default()).await;
        assert_eq!((code, message.contains("NEW_AND_OLD_IMAGES")), ("SourceHasNoStream", true));
        let again = Begin { without_stream: true, again: true, ..Begin::default() };
        assert_eq!(refused(again.clone()).await.0, "SourceTableReplaced", "it is still running");
        shop.step::<Status>(Backfill::Stop(of_orders()), &call()).await.unwrap();
        assert_ne!(shop.begin(again).await.unwrap().run, begun.run);
    });
}

#[test]
fn a_function_that_only_tells_begins_nothing() {
    support::block_on(async {
        let Shop { function, .. } = Shop::open(1).await;
        let function = function.with_operations(Operations::Read);
        let ask = async |step: Backfill| {
            let event = operation::event(Operation::Backfill(step));
            function.invoke(&event, &call()).await.map(|_| ()).map_err(|halt| halt.code)
        };
        assert_eq!(ask(Backfill::Estimate(of_orders())).await, Ok(()));
        assert_eq!(ask(Backfill::Status(Which::default())).await, Ok(()));
        let begin = Begin { table: "orders".to_owned(), ..Begin::default() };
        for step in [
            Backfill::Begin(begin),
            Backfill::Stop(of_orders()),
            Backfill::Work(Portion::default()),
            Backfill::Finish(Finish::default()),
        ] {
            assert_eq!(ask(step).await, Err("OperationsReadOnly"));
        }
    });
}
