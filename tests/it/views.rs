//! Views kept by the function itself, on the embedded store and on AWS's own DynamoDB Local.

use crate::support::{self, call, order};
use changefold::{
    call::Halt,
    handler::Function,
    operation::{self, Operation, Redrive, Selection},
    outcome::Answer,
    store::Store,
    view::{Views, quarantine::Page, registry::Owner, rows::Listing},
};
use std::{collections::BTreeSet, sync::Arc};

const VIEWS: &str = "
    CREATE MATERIALIZED VIEW totals AS
      SELECT region, count(*) AS orders, sum(amount) AS total, avg(amount) AS mean
      FROM orders WHERE status <> 'CANCELLED' GROUP BY region;
    CREATE MATERIALIZED VIEW everything AS SELECT count(*) AS n, sum(amount) AS total FROM orders;
    CREATE MATERIALIZED VIEW open_orders AS
      SELECT pk, amount FROM orders WHERE status = 'OPEN';";

async fn open(store: &Store, prefix: &str) -> Function<Views> {
    support::function(VIEWS, store, prefix).await
}

async fn rows(function: &Function<Views>, view: usize) -> Listing {
    function.work().rows(view, usize::MAX).await.unwrap()
}

/// Everything the ledger's conditions promise, against whatever store answers.
async fn the_ledger_keeps_its_promises(store: Store, prefix: &str) {
    let function = open(&store, prefix).await;
    let deliver = async |records: &[String]| {
        let event = format!("{{\"Records\":[{}]}}", records.join(","));
        let reply = function.invoke(event.as_bytes(), &call()).await.unwrap();
        assert_eq!(serde_json::to_string(&reply).unwrap(), r#"{"batchItemFailures":[]}"#);
    };
    let first = [
        order(100, "INSERT", "O#1", Some(("EU", "10.50", "OPEN"))),
        order(101, "INSERT", "O#2", Some(("EU", "0.25", "OPEN"))),
        order(102, "INSERT", "O#3", Some(("US", "7", "OPEN"))),
    ];
    deliver(&first).await;
    deliver(&first).await;
    assert_eq!(support::table(&rows(&function, 0).await), "EU 2 10.75 5.375; US 1 7 7");
    assert_eq!(support::table(&rows(&function, 1).await), "3 17.75");
    assert_eq!(support::table(&rows(&function, 2).await), "O#1 10.5; O#2 0.25; O#3 7");

    // The order moves to another group; its newest change decides, wherever it stands.
    let moved = order(110, "MODIFY", "O#1", Some(("US", "11", "PAID")));
    deliver(&[moved.clone(), order(105, "MODIFY", "O#1", Some(("EU", "99", "OPEN")))]).await;
    assert_eq!(support::table(&rows(&function, 0).await), "EU 1 0.25 0.25; US 2 18 9");
    assert_eq!(support::table(&rows(&function, 2).await), "O#2 0.25; O#3 7");

    // Late duplicates change nothing; a cancelled order leaves its group, a removed one too.
    deliver(&first).await;
    deliver(&[order(120, "MODIFY", "O#3", Some(("US", "7", "CANCELLED")))]).await;
    deliver(&[order(121, "REMOVE", "O#2", None), moved]).await;
    deliver(&first).await;
    assert_eq!(support::table(&rows(&function, 0).await), "US 1 11 11");
    assert_eq!(support::table(&rows(&function, 1).await), "2 18");
    assert_eq!(support::table(&rows(&function, 2).await), "");
}

/// Many functions at once on the same hot rows, each delivering every batch.
async fn twins_count_once(store: Store, prefix: &str) {
    let function = Arc::new(open(&store, prefix).await);
    let batches: Vec<String> = (0..6)
        .map(|batch| {
            let records: Vec<String> = (0..10)
                .map(|n| {
                    let number = batch * 10 + n;
                    let key = format!("O#{}", number % 7);
                    order(number, "MODIFY", &key, Some(("EU", "1.5", "OPEN")))
                })
                .collect();
            format!("{{\"Records\":[{}]}}", records.join(","))
        })
        .collect();
    let twins = (0..4).map(|_| async {
        for batch in &batches {
            let reply = function.invoke(batch.as_bytes(), &call()).await.unwrap();
            assert_eq!(serde_json::to_string(&reply).unwrap(), r#"{"batchItemFailures":[]}"#);
        }
    });
    futures_util::future::join_all(twins).await;
    assert_eq!(support::table(&rows(&function, 0).await), "EU 7 10.5 1.5");
    assert_eq!(support::table(&rows(&function, 1).await), "7 10.5");
}

#[test]
fn the_embedded_store_keeps_the_ledgers_promises() {
    support::block_on(async {
        the_ledger_keeps_its_promises(support::embedded(1), "a_").await;
        twins_count_once(support::embedded(2), "b_").await;
    });
}

/// `tests/dynamodb_local.sh` starts AWS's own DynamoDB Local and names it in the environment;
/// without it there is nothing to run against, and the test above covers the embedded store.
#[test]
fn dynamodb_local_keeps_the_ledgers_promises() {
    let Some(url) = support::environment("CHANGEFOLD_TEST_DYNAMODB_LOCAL") else {
        return;
    };
    support::block_on(async {
        the_ledger_keeps_its_promises(support::endpoint(&url), "a_").await;
        twins_count_once(support::endpoint(&url), "b_").await;
    });
}

#[test]
fn a_changed_or_added_view_is_built_beside_what_is_served() {
    support::block_on(async {
        let store = support::embedded(3);
        let function = open(&store, "c_").await;
        let event = |number, region| {
            let record =
                order(number, "INSERT", &format!("O#{number}"), Some((region, "1", "OPEN")));
            format!("{{\"Records\":[{record}]}}")
        };
        function.invoke(event(1, "EU").as_bytes(), &call()).await.unwrap();

        let layout_only = VIEWS.replace("WHERE", "\n where  ");
        support::try_function(&layout_only, &store, "c_").await.expect("the same definition");
        let changed = VIEWS.replace("'CANCELLED'", "'VOID'");
        let views = changefold::view::sql::parse(&changed).unwrap();
        let owner = Owner::new("test");
        let tables = ("c_ledger", "c_");
        let opened = Views::open(views, store.clone(), tables, &owner, support::FOREVER).await;
        let error = opened.unwrap_err();
        assert_eq!(error.code(), "ViewTableMissing");
        let error = error.to_string();
        assert!(error.contains("generation 2 needs a table c_totals_g2"), "{error}");
        let added =
            format!("{changed} CREATE MATERIALIZED VIEW more AS SELECT count(*) AS n FROM orders;");
        let later = support::try_function(&added, &store, "c_").await.unwrap();
        let other_source =
            format!("{VIEWS} CREATE MATERIALIZED VIEW hits AS SELECT count(*) AS n FROM clicks;");
        support::try_function(&other_source, &store, "c_").await.expect("no item of clicks yet");
        // Either version serves what the other has: the first learns it before the next batch.
        // A record from before the generation is not for it: its backfill reads the item.
        for function in [&function, &later] {
            function.invoke(event(2, "US").as_bytes(), &call()).await.unwrap();
            let rows = async |view, generation| {
                let rows = function.work().rows_of((view, generation), 9).await.unwrap();
                rows.map(|rows| support::table(&rows))
            };
            assert_eq!(rows("totals", 1).await.as_deref(), Some("EU 1 1 1; US 1 1 1"));
            assert_eq!(rows("totals", 2).await.as_deref(), Some(""));
            assert_eq!(rows("more", 2).await.as_deref(), Some("0"));
            assert_eq!(rows("totals", 3).await, None);
        }
    });
}

/// What an item was before its newest change of the batch is not even read; where the newest
/// cannot be read, the one before it counts and the newest is delivered again.
#[test]
fn only_the_newest_change_of_an_item_is_looked_at() {
    let broken = |number: u32| {
        order(number, "MODIFY", "O#1", Some(("EU", "1", "OPEN")))
            .replace(r#""amount":{"N":"1"}"#, r#""amount":{"N":1}"#)
    };
    let good = |number: u32| order(number, "MODIFY", "O#1", Some(("EU", "5", "OPEN")));
    support::block_on(async {
        for (records, failures, rows) in [
            ([good(2), broken(1)], "", "EU 1 5 5"),
            ([broken(3), good(4)], "", "EU 1 5 5"),
            ([good(5), broken(6)], r#"{"itemIdentifier":"6"}"#, "EU 1 5 5"),
        ] {
            let function = open(&support::embedded(6), "f_").await;
            let event = format!("{{\"Records\":[{}]}}", records.join(","));
            let reply = function.invoke(event.as_bytes(), &call()).await.unwrap();
            let expected = format!(r#"{{"batchItemFailures":[{failures}]}}"#);
            assert_eq!(serde_json::to_string(&reply).unwrap(), expected);
            assert_eq!(support::table(&self::rows(&function, 0).await), rows);
        }
    });
}

/// 1,000 changes of 1,000 items in 100 groups: ten reads and one for the fence of their source
/// and what is served, and as few transactions as hold them.
#[test]
fn a_batch_asks_the_store_as_seldom_as_can_be() {
    support::block_on(async {
        let function = open(&support::embedded(7), "g_").await;
        let region = |number: u32| format!("R{}", number % 100);
        for round in 0..2 {
            let records: Vec<String> = (0..1000)
                .map(|number| {
                    let (key, region) = (format!("O#{number}"), region(number));
                    let amount = (round + 1).to_string();
                    let image = Some((&*region, &*amount, "CANCELLED"));
                    order(round * 1000 + number + 1, "MODIFY", &key, image)
                })
                .collect();
            let event = format!("{{\"Records\":[{}]}}", records.join(","));
            let before = function.work().store().usage();
            function.invoke(event.as_bytes(), &call()).await.unwrap();
            // Each item is in one row of `everything` alone: a guard each, and the row. Once in
            // a ledger's life its source is looked up and written down.
            let bound = if round == 0 { 2 } else { 0 };
            let calls = function.work().store().usage().since(before).calls;
            assert_eq!(calls, 11 + 11 + bound, "{round}");
        }
    });
}

#[test]
fn a_queue_is_refused_with_the_reason() {
    support::block_on(async {
        let function = open(&support::embedded(5), "e_").await;
        let event = r#"{"Records":[{"messageId":"m","body":"{}","eventSource":"aws:sqs","eventSourceARN":"arn:aws:sqs:us-east-1:123456789012:orders"}]}"#;
        let halt = function.invoke(event.as_bytes(), &call()).await.unwrap_err();
        assert_eq!(halt.code, "SourceUnfit");
        assert!(halt.message.contains("no version"), "{halt}");
        assert!(halt.message.contains("remove this event source"), "no remedy in: {halt}");
    });
}

#[test]
fn an_item_that_cannot_be_evaluated_is_left_out_of_that_view_alone() {
    support::block_on(async {
        let store = support::embedded(4);
        let function = open(&store, "d_").await;
        let bad = order(2, "INSERT", "O#2", Some(("EU", "1", "OPEN")))
            .replace(r#""amount":{"N":"1"}"#, r#""amount":{"S":"12,50"}"#);
        assert!(bad.contains("12,50"));
        let event = format!(
            "{{\"Records\":[{},{bad}]}}",
            order(1, "INSERT", "O#1", Some(("EU", "1", "OPEN")))
        );
        let reply = function.invoke(event.as_bytes(), &call()).await.unwrap();
        assert_eq!(serde_json::to_string(&reply).unwrap(), r#"{"batchItemFailures":[]}"#);
        assert_eq!(support::table(&rows(&function, 0).await), "EU 1 1 1");
        assert_eq!(support::table(&rows(&function, 2).await), "O#1 1; O#2 12,50");
        let quarantined = function.work().quarantined(10).await.unwrap();
        assert_eq!(quarantined.count, 2);
        let first = &quarantined.first[0];
        assert_eq!(
            [&first.view, &first.key, &first.attribute, &first.expected, &first.found],
            ["everything", "pk=O#2", "amount", "N", "S"]
        );
        assert_eq!(first.sequence_number, "2");

        // Its next change is good: it comes back by itself.
        let good = order(3, "MODIFY", "O#2", Some(("EU", "2", "OPEN")));
        let event = format!("{{\"Records\":[{good}]}}");
        function.invoke(event.as_bytes(), &call()).await.unwrap();
        assert_eq!(support::table(&rows(&function, 0).await), "EU 2 3 1.5");
        assert_eq!(function.work().quarantined(10).await.unwrap().count, 0);
    });
}

async fn operate(function: &Function<Views>, operation: Operation) -> Result<Page, Halt> {
    match function.invoke(&operation::event(operation), &call()).await? {
        Answer::Operation(answer) => Ok(serde_json::from_value(answer).unwrap()),
        Answer::Reply(reply) => panic!("{reply:?}"),
    }
}

/// Items nobody can evaluate, among others, listed as an operator asks for them.
#[test]
fn quarantined_items_are_listed_in_parts() {
    support::block_on(async {
        let function = open(&support::embedded(8), "h_").await;
        let records: Vec<String> = (1..=90)
            .map(|number| {
                let amount = if number % 3 == 0 { "many" } else { "1" };
                order(number, "INSERT", &format!("O#{number}"), Some(("EU", amount, "PAID")))
                    .replace(r#"{"N":"many"}"#, r#"{"S":"many"}"#)
            })
            .collect();
        let event = format!("{{\"Records\":[{}]}}", records.join(","));
        function.invoke(event.as_bytes(), &call()).await.unwrap();

        let mut selection = Selection { limit: Some(7), ..Selection::default() };
        let (mut seen, mut parts) = (BTreeSet::new(), 0);
        loop {
            let page = operate(&function, Operation::List(selection.clone())).await.unwrap();
            assert!(page.quarantined.len() <= 8, "an item's reasons stay together");
            assert!(page.read_units > 0.0, "{page:?}");
            for item in &page.quarantined {
                assert!(seen.insert((item.view.clone(), item.key.clone())), "twice: {item:?}");
                assert_eq!((item.attribute.as_str(), item.found.as_str()), ("amount", "S"));
                let source = "arn:aws:dynamodb:us-east-1:123456789012:table/orders";
                assert_eq!(item.source, source);
            }
            parts += 1;
            selection.cursor = page.cursor;
            if selection.cursor.is_none() {
                break;
            }
        }
        // Each of the thirty is missing in `totals` and in `everything`.
        assert_eq!((seen.len(), parts >= 8), (60, true), "{parts} parts");

        let one = Selection { keys: vec!["pk=O#33".to_owned()], ..Selection::default() };
        let page = operate(&function, Operation::List(one)).await.unwrap();
        let numbers: Vec<&str> =
            page.quarantined.iter().map(|item| item.sequence_number.as_str()).collect();
        assert_eq!(numbers, ["33", "33"]);
    });
}

#[test]
fn what_views_cannot_be_asked_is_refused_with_what_can() {
    support::block_on(async {
        let function = open(&support::embedded(9), "i_").await;
        let by_code = Selection { error_code: Some("x".to_owned()), ..Selection::default() };
        for (operation, remedy) in [
            (Operation::Show(Selection::default()), "`list`"),
            (Operation::Redrive(Redrive::default()), "next good change"),
            (Operation::List(by_code), "`sequence_number`"),
        ] {
            let halt = operate(&function, operation).await.unwrap_err();
            assert_eq!(halt.code, "OperationUnsupported");
            assert!(halt.message.contains(remedy), "no {remedy} in: {halt}");
        }
    });
}
