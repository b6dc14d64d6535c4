//! Changes that a table streams into a Kinesis data stream: what a record is to which view, and
//! what cannot be decided.

mod flights;

use crate::{
    reconcile::{ORDERS, Shop, number},
    support::{self, call, order},
};
use changefold::{
    call::Halt,
    operation::{
        self, Operation,
        backfill::{Backfill, Begin, Begun, Finish, Portion, Status, Stopped, Worked},
    },
    outcome::Answer,
};
use serde::de::DeserializeOwned;

const STREAM: &str = "arn:aws:kinesis:us-east-1:123456789012:stream/changes";
const MOMENT: u64 = 1_789_649_451_000_000;

/// A record of a data stream with this data.
fn carrying(position: u32, stream_arn: &str, data: &str) -> String {
    let data = base64_simd::STANDARD.encode_to_string(data);
    format!(
        r#"{{"kinesis":{{"kinesisSchemaVersion":"1.0","partitionKey":"p","sequenceNumber":"{position}","data":"{data}","approximateArrivalTimestamp":1789649452.5}},"eventSource":"aws:kinesis","eventVersion":"1.0","eventID":"shardId-000000000000:{position}","eventName":"aws:kinesis:record","awsRegion":"us-east-1","eventSourceARN":"{stream_arn}"}}"#
    )
}

/// What the table `orders` streams of a change at so many microseconds.
fn document(micros: u64, event_name: &str, key: &str, new: Option<(&str, &str, &str)>) -> String {
    let record = order(1, event_name, key, new);
    let mut record: serde_json::Value = serde_json::from_str(&record).unwrap();
    flights::into_document(&mut record, "orders", (micros, "MICROSECOND"));
    record.to_string()
}

fn change(position: u32, after: u64, key: &str, new: Option<(&str, &str, &str)>) -> String {
    let event_name = if new.is_some() { "MODIFY" } else { "REMOVE" };
    carrying(position, STREAM, &document(MOMENT + after, event_name, key, new))
}

async fn invoked(shop: &Shop, records: &[String]) -> Result<String, Halt> {
    let event = format!("{{\"Records\":[{}]}}", records.join(","));
    let reply = shop.function.invoke(event.as_bytes(), &call()).await?;
    Ok(serde_json::to_string(&reply).unwrap())
}

async fn left_out(shop: &Shop) -> Vec<String> {
    let quarantined = shop.function.work().quarantined(usize::MAX).await.unwrap();
    let mut keys: Vec<String> = quarantined.first.into_iter().map(|item| item.key).collect();
    keys.dedup();
    keys
}

#[test]
fn the_moment_decides_and_not_the_place_in_the_data_stream() {
    support::block_on(async {
        let shop = Shop::open(1).await;
        shop.deliver(change(1, 5, "a", Some(("north", "5", "OPEN")))).await;
        shop.deliver(change(2, 3, "a", Some(("south", "3", "OPEN")))).await;
        shop.check("north 1 5", "a 5").await;
        shop.deliver(change(3, 9, "a", None)).await;
        shop.deliver(change(4, 5, "a", Some(("north", "5", "OPEN")))).await;
        shop.check("", "").await;
        // In one batch as well.
        let batch = [
            change(5, 30, "b", Some(("north", "30", "OPEN"))),
            change(6, 20, "b", Some(("north", "20", "OPEN"))),
            change(7, 30, "b", Some(("north", "30", "OPEN"))),
        ];
        assert_eq!(invoked(&shop, &batch).await.unwrap(), r#"{"batchItemFailures":[]}"#);
        shop.check("north 1 30", "b 30").await;
    });
}

#[test]
fn a_data_stream_with_the_name_of_a_table_brings_nothing_else_into_its_views() {
    let stream = STREAM.replace("changes", "orders");
    let named = |position, data: &str| carrying(position, &stream, data);
    let of_orders = |after, key| document(MOMENT + after, "INSERT", key, Some(("EU", "5", "OPEN")));
    let of_others = of_orders(9, "x").replace(r#""tableName":"orders""#, r#""tableName":"others""#);
    support::block_on(async {
        let shop = Shop::open(9).await;
        let failed = r#"{"batchItemFailures":[{"itemIdentifier":"2"}]}"#;
        for other in [of_others.as_str(), r#"{"x":1}"#] {
            let batch = [named(1, &of_orders(1, "a")), named(2, other)];
            assert_eq!(invoked(&shop, &batch).await.unwrap(), failed);
            shop.check("EU 1 5", "a 5").await;
        }
        // The ledger knows the table from then on.
        assert_eq!(invoked(&shop, &[named(2, &of_others)]).await.unwrap(), failed);
        shop.check("EU 1 5", "a 5").await;
    });
}

#[test]
fn two_changes_of_one_moment_are_read_from_their_table() {
    support::block_on(async {
        let shop = Shop::open(2).await;
        shop.set("a", Some(("south", number("7"), "OPEN"))).await;
        shop.deliver(change(1, 5, "a", Some(("south", "7", "OPEN")))).await;
        shop.check("south 1 7", "a 7").await;
        // Whichever comes later.
        shop.deliver(change(2, 5, "a", Some(("north", "5", "OPEN")))).await;
        shop.check("south 1 7", "a 7").await;
        assert_eq!(left_out(&shop).await, Vec::<String>::new());
        // And both at once, and copies of both.
        shop.set("b", Some(("east", number("1"), "OPEN"))).await;
        let batch = [
            change(3, 6, "b", Some(("west", "2", "OPEN"))),
            change(4, 6, "b", Some(("east", "1", "OPEN"))),
        ];
        for _ in 0..2 {
            assert_eq!(invoked(&shop, &batch).await.unwrap(), r#"{"batchItemFailures":[]}"#);
            shop.check("east 1 1; south 1 7", "a 7; b 1").await;
        }
        // What was made before the table was read is in it; what comes in 2100 is not.
        shop.deliver(change(5, 7, "a", None)).await;
        shop.check("east 1 1; south 1 7", "a 7; b 1").await;
        shop.deliver(carrying(6, STREAM, &document(4_102_444_800_000_000, "REMOVE", "a", None)))
            .await;
        shop.check("east 1 1", "b 1").await;
    });
}

#[test]
fn without_the_table_such_an_item_is_left_out_until_something_later_comes() {
    support::block_on(async {
        let store = support::embedded_at_url(3);
        let function = support::function(crate::reconcile::VIEWS, &store, "a_").await;
        let shop = Shop { store, function };
        shop.deliver(change(1, 5, "a", Some(("south", "7", "OPEN")))).await;
        shop.deliver(change(2, 5, "b", Some(("south", "1", "OPEN")))).await;
        shop.deliver(change(3, 5, "a", Some(("north", "5", "OPEN")))).await;
        shop.check("south 1 1", "b 1").await;
        assert_eq!(left_out(&shop).await, ["pk=a"]);
        // A third one, and a copy, change nothing.
        shop.deliver(change(4, 5, "a", None)).await;
        shop.deliver(change(5, 5, "a", Some(("south", "7", "OPEN")))).await;
        assert_eq!(left_out(&shop).await, ["pk=a"]);
        shop.deliver(change(6, 6, "a", Some(("east", "9", "OPEN")))).await;
        shop.check("east 1 9; south 1 1", "a 9; b 1").await;
        assert_eq!(left_out(&shop).await, Vec::<String>::new());
        // The same moment; then the table is there, and a copy makes it be asked.
        shop.deliver(change(7, 6, "a", None)).await;
        assert_eq!(left_out(&shop).await, ["pk=a"]);
        shop.store.ensure_table("orders", &["pk"], None, support::FOREVER).await.unwrap();
        shop.set("a", Some(("east", number("9"), "OPEN"))).await;
        shop.deliver(change(8, 6, "a", None)).await;
        shop.check("east 1 9; south 1 1", "a 9; b 1").await;
        assert_eq!(left_out(&shop).await, Vec::<String>::new());
    });
}

#[test]
fn a_bad_document_is_one_bad_record() {
    support::block_on(async {
        let shop = Shop::open(4).await;
        let good = document(MOMENT, "INSERT", "x", Some(("north", "1", "OPEN")));
        let bad = [
            good.replace("ApproximateCreationDateTime\"", "Created\""),
            good.replace("\"Keys\"", "\"keys\""),
            good.replace("INSERT", "UPSERT"),
            good.replace("NewImage", "Image"),
            good[..good.len() / 2].to_owned(),
            r#"{"page":"/"}"#.to_owned(),
            "no JSON".to_owned(),
        ];
        for (at, bad) in bad.iter().enumerate() {
            let position = 10 * u32::try_from(at).unwrap();
            let key = format!("k{at}");
            let batch = [
                change(position + 1, 0, &key, Some(("north", "1", "OPEN"))),
                carrying(position + 2, STREAM, bad),
                change(position + 3, 0, &format!("{key}b"), Some(("north", "1", "OPEN"))),
            ];
            let reply = invoked(&shop, &batch).await.unwrap();
            let failed =
                format!(r#"{{"batchItemFailures":[{{"itemIdentifier":"{}"}}]}}"#, position + 2);
            assert_eq!(reply, failed, "{bad}");
        }
        let rows = shop.function.work().rows(0, usize::MAX).await.unwrap();
        assert_eq!(support::table(&rows), format!("north {0} {0}", 2 * bad.len()));
    });
}

#[test]
fn a_table_that_comes_in_both_ways_is_refused() {
    support::block_on(async {
        let of_stream = order(7, "MODIFY", "a", Some(("north", "1", "OPEN")));
        let of_data_stream = change(7, 0, "a", Some(("north", "2", "OPEN")));
        for (first, second) in [(&of_stream, &of_data_stream), (&of_data_stream, &of_stream)] {
            let shop = Shop::open(5).await;
            shop.deliver(first.clone()).await;
            let halt = invoked(&shop, std::slice::from_ref(second)).await.unwrap_err();
            assert_eq!(halt.code, "SourceUnfit");
            assert!(halt.message.contains("map one of them only"), "{}", halt.message);
        }
    });
}

#[test]
fn a_view_reads_the_table_or_the_documents_as_it_says() {
    support::block_on(async {
        const VIEWS: &str = "
            CREATE MATERIALIZED VIEW of_table AS
              SELECT region, count(*) AS orders FROM orders GROUP BY region;
            CREATE MATERIALIZED VIEW of_documents AS
              SELECT eventName, count(*) AS changes FROM changes GROUP BY eventName;";
        let store = support::embedded_at_url(6);
        let function = support::function(VIEWS, &store, "a_").await;
        let shop = Shop { store, function };
        shop.deliver(change(1, 5, "a", Some(("south", "7", "OPEN")))).await;
        shop.deliver(change(2, 4, "a", Some(("north", "7", "OPEN")))).await;
        shop.deliver(carrying(3, STREAM, r#"{"eventName":"other"}"#)).await;
        shop.check("south 1", "MODIFY 2; other 1").await;
    });
}

#[test]
fn a_data_stream_of_the_tables_name_carries_the_table() {
    support::block_on(async {
        let shop = Shop::open(7).await;
        let stream = STREAM.replace("changes", "orders");
        let moved = |record: String| record.replace(STREAM, &stream);
        shop.deliver(moved(change(1, 5, "a", Some(("south", "7", "OPEN"))))).await;
        shop.deliver(moved(change(2, 4, "a", Some(("north", "8", "OPEN"))))).await;
        shop.check("south 1 7", "a 7").await;
    });
}

#[test]
fn a_data_stream_or_table_that_no_view_names_is_refused_by_name() {
    support::block_on(async {
        let shop = Shop::open(8).await;
        let of_others = document(MOMENT, "REMOVE", "x", None).replace("orders", "others");
        for (data, expected) in [
            (
                &*of_others,
                "no view reads FROM others, a table that streams its changes into changes",
            ),
            (r#"{"page":"/"}"#, "no view reads FROM changes, and the record carries no change"),
        ] {
            let halt = invoked(&shop, &[carrying(1, STREAM, data)]).await.unwrap_err();
            assert_eq!(halt.code, "NoViewForSource");
            assert!(halt.message.starts_with(expected), "{}", halt.message);
        }
    });
}

async fn backfill<T: DeserializeOwned>(shop: &Shop, step: Backfill) -> Result<T, Halt> {
    let event = operation::event(Operation::Backfill(step));
    let Answer::Operation(answer) = shop.function.invoke(&event, &call()).await? else {
        panic!("no answer to an operation");
    };
    Ok(serde_json::from_value(answer).unwrap())
}

#[test]
fn a_table_without_a_stream_of_its_own_is_backfilled_beside_its_changes() {
    support::block_on(async {
        let shop = Shop::open(10).await;
        for key in ["a", "b", "c"] {
            shop.set(key, Some(("south", number("1"), "OPEN"))).await;
        }
        let table = ORDERS.to_owned();
        let begin = Begin { table: table.clone(), segments: Some(1), ..Begin::default() };
        let halt = backfill::<Begun>(&shop, Backfill::Begin(begin.clone())).await.unwrap_err();
        assert_eq!(halt.code, "SourceHasNoStream");
        assert!(halt.message.contains("--without-stream"), "{}", halt.message);
        let begin = Backfill::Begin(Begin { without_stream: true, ..begin });
        let run: Begun = backfill(&shop, begin).await.unwrap();
        // One changes before it is read, and one while it is read.
        shop.set("b", Some(("north", number("5"), "OPEN"))).await;
        shop.deliver(change(1, 9, "b", Some(("north", "5", "OPEN")))).await;
        let work = || {
            let (table, run) = (table.clone(), run.run.clone());
            Backfill::Work(Portion { table, run, ..Portion::default() })
        };
        let mut portions = 0;
        while backfill::<Worked>(&shop, work()).await.unwrap().stopped != Some(Stopped::AllDone) {
            portions += 1;
            assert!(portions < 20);
        }
        shop.set("c", None).await;
        shop.check("north 1 5; south 2 2", "a 1; b 5; c 1").await;
        // What comes late is older than what was read, or newer.
        shop.deliver(change(2, 3, "b", Some(("west", "3", "OPEN")))).await;
        shop.deliver(change(3, 4, "c", Some(("south", "1", "OPEN")))).await;
        shop.deliver(change(4, 5, "c", None)).await;
        let finish = Finish { table, iterator_age_ms: Some(0) };
        let _: Status = backfill(&shop, Backfill::Finish(finish)).await.unwrap();
        shop.check("north 1 5; south 1 1", "a 1; b 5").await;
    });
}

#[test]
fn what_was_reconciled_is_not_taken_back_by_a_late_copy() {
    support::block_on(async {
        let shop = Shop::open(9).await;
        shop.deliver(change(1, 5, "a", Some(("south", "7", "OPEN")))).await;
        shop.set("a", Some(("north", number("8"), "OPEN"))).await;
        let told = shop.try_reconcile(ORDERS, &["a"]).await.unwrap();
        assert_eq!(told.done, 1);
        shop.check("north 1 8", "a 8").await;
        // Created before the table was read, though later than what the ledger knew.
        let late = carrying(2, STREAM, &document(1_500_000_000_000_000, "REMOVE", "a", None));
        shop.deliver(late).await;
        shop.check("north 1 8", "a 8").await;
    });
}

#[test]
fn a_fixture_of_such_a_stream_is_checked_and_planned_as_the_tables_own() {
    let told = |arguments: &[&str], fixture: &str| {
        let fixture = format!("fixtures/{fixture}");
        let program = std::process::Command::new(env!("CARGO_BIN_EXE_changefold"))
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .args(arguments)
            .args(["--fixture", &fixture])
            .output()
            .unwrap();
        let text = String::from_utf8([program.stdout, program.stderr].concat()).unwrap();
        // Copies are counted, so shares of the changes differ.
        let is_share = |line: &&str| line.contains(" % of the changes");
        text.lines().filter(|line| !is_share(line)).collect::<Vec<_>>().join("\n")
    };
    let check = ["view", "check", "views/flights.sql"];
    let (own, streamed) = ("flights-600.jsonl.gz", "flights-600-streamed.jsonl.gz");
    assert_eq!(told(&check, streamed), told(&check, own));
    let plan = ["view", "plan", "--views", "views/flights.sql"];
    let planned = told(&plan, streamed);
    assert!(planned.contains("late_by_day"), "{planned}");
}
