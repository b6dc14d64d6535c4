//! An item with more elements than a transaction holds: from its stream, a scan and its source.

use super::{checker, sent::Sent};
use crate::{
    reconcile::Shop,
    support::{self, call, order},
    verify::{is_clean, is_found_and_mended, rows, tamper},
};
use aws_sdk_dynamodb::types::AttributeValue;
use changefold::{
    call::Call,
    clock::{Clock as _, SystemClock},
    operation::{
        self, Operation,
        backfill::{Backfill, Begin, Begun, Portion, ReconcileRequest, Stopped, Worked},
    },
    outcome::Answer,
    record::Timestamp,
    store::embedded::Embedded,
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

const VIEWS: &str = "
    CREATE MATERIALIZED VIEW lines AS
      SELECT line.s, count(*) AS n, sum(line.q) AS total, min(line.q) AS lo
      FROM orders o, unnest(o.amount) AS line GROUP BY line.s;
    CREATE MATERIALIZED VIEW regions AS
      SELECT region, count(*) AS n FROM orders GROUP BY region;";

/// Far more groups than the 100 actions of a transaction.
const MANY: usize = 300;

/// A line for each of these groups, with this size.
fn lines(groups: std::ops::Range<usize>, size: usize) -> AttributeValue {
    let line = |at: usize| {
        AttributeValue::M(
            [
                ("s".to_owned(), AttributeValue::S(format!("s{at:03}"))),
                ("q".to_owned(), AttributeValue::N((size + at % 2).to_string())),
            ]
            .into(),
        )
    };
    AttributeValue::L(groups.map(line).collect())
}

fn record(number: u32, key: &str, lines: &AttributeValue) -> String {
    let AttributeValue::L(lines) = lines else { panic!("no list") };
    let line = |line: &AttributeValue| {
        let line = line.as_m().unwrap();
        json!({"M": {"s": {"S": line["s"].as_s().unwrap()}, "q": {"N": line["q"].as_n().unwrap()}}})
    };
    let list = json!({ "L": lines.iter().map(line).collect::<Vec<_>>() }).to_string();
    order(number, "MODIFY", key, Some(("EU", "LIST", "OPEN"))).replace(r#"{"N":"LIST"}"#, &list)
}

/// The record as it is of the table that is scanned here.
fn of_embedded(record: &str) -> String {
    record.replace(
        "arn:aws:dynamodb:us-east-1:123456789012:table/orders",
        "arn:aws:dynamodb:dynoxide:000000000000:table/orders",
    )
}

/// How many groups there are, and what they add up to.
async fn totals(shop: &Shop) -> (usize, i64, i64) {
    let listing = shop.function.work().rows(0, usize::MAX).await.unwrap();
    let number = |row: &[changefold::view::scalar::Scalar], at: usize| {
        row[at].to_string().parse::<i64>().unwrap_or_default()
    };
    let sum = |at: usize| listing.rows.iter().map(|row| number(row, at)).sum();
    (listing.rows.len(), sum(1), sum(2))
}

pub(super) async fn operate<T: DeserializeOwned>(shop: &Shop, operation: Operation) -> T {
    let answer = shop.function.invoke(&operation::event(operation), &call()).await.unwrap();
    let Answer::Operation(answer) = answer else { panic!("no answer to an operation") };
    serde_json::from_value(answer).unwrap()
}

/// Whether an item is in the ledger as it was written in part.
fn is_in_part(sent: &Sent) -> bool {
    let rows = checker::scan(&sent.store, "a_ledger");
    rows.iter().any(|row| row.contains_key("part"))
}

/// Lets one transaction of the view through, and nothing after it.
fn one_part_alone() -> impl FnMut(&str, &Value, &Embedded) -> Option<(u16, String)> + Send {
    let mut written = 0;
    move |operation, body, _| {
        let is_of_item = body.to_string().contains("a_lines");
        written += usize::from(operation == "TransactWriteItems" && is_of_item);
        let throttled = json!({
            "__type": "com.amazonaws.dynamodb.v20120810#ThrottlingException",
            "message": "too many",
        });
        (written > 1).then(|| (400, throttled.to_string()))
    }
}

/// Delivers a record that cannot be finished in its time.
async fn deliver_until_soon(shop: &Shop, record: String) {
    let event = format!("{{\"Records\":[{record}]}}");
    let now = SystemClock.now();
    let soon = Call::new("test", Timestamp(now.0 + 1_500));
    let reply = shop.function.invoke(event.as_bytes(), &soon).await.unwrap();
    let reply = serde_json::to_string(&reply).unwrap();
    assert!(reply.contains("itemIdentifier"), "{reply}");
}

/// Reads a whole table once.
pub(super) async fn scan(shop: &Shop, table: &str) {
    let table = table.to_owned();
    let request = Begin { table: table.clone(), without_stream: true, ..Begin::default() };
    let begun: Begun = operate(shop, Operation::Backfill(Backfill::Begin(request))).await;
    loop {
        let portion =
            Portion { table: table.clone(), run: begun.run.clone(), ..Portion::default() };
        let worked: Worked = operate(shop, Operation::Backfill(Backfill::Work(portion))).await;
        assert_eq!(worked.not_done.len(), 0);
        if worked.stopped == Some(Stopped::AllDone) {
            break;
        }
    }
}

#[test]
fn many_elements_come_change_and_go_in_parts() {
    support::block_on(async {
        let (sent, shop) = Sent::shop(VIEWS).await;
        for (number, key, image) in [
            (100, "O#1", Some(lines(0..MANY, 5))),
            (101, "O#2", Some(lines(0..10, 1))),
            (102, "O#1", Some(lines(150..150 + MANY, 7))),
            (103, "O#1", None),
        ] {
            let before = shop.store.usage();
            if let Some(lines) = &image {
                shop.set(key, Some(("EU", lines.clone(), "OPEN"))).await;
                shop.deliver(record(number, key, lines)).await;
            } else {
                shop.set(key, None).await;
                shop.deliver(order(number, "REMOVE", key, None)).await;
            }
            let few = shop.store.usage().since(before).calls < 6;
            assert_eq!(few, key == "O#2", "{number}");
            is_clean(&shop).await;
        }
        assert!(!is_in_part(&sent));
        // Ten groups are left of the others: ten lines of sizes 1 and 2.
        let listing = shop.function.work().rows(0, usize::MAX).await.unwrap();
        assert_eq!(support::table(&listing).split("; ").next(), Some("s000 1 1 1"));
        assert_eq!(totals(&shop).await, (10, 10, 15));
    });
}

#[test]
fn what_is_scanned_and_reconciled_in_parts_is_whole() {
    support::block_on(async {
        let (sent, shop) = Sent::shop(VIEWS).await;
        shop.set("O#1", Some(("EU", lines(0..MANY, 5), "OPEN"))).await;
        shop.set("O#2", Some(("US", lines(200..200 + MANY, 1), "OPEN"))).await;
        scan(&shop, "orders").await;
        assert_eq!(totals(&shop).await, (500, 600, 300 * 5 + 150 + 300 + 150));
        assert!(!is_in_part(&sent));
        shop.set("O#2", Some(("US", lines(0..MANY, 9), "OPEN"))).await;
        let keys = vec![json!({"pk": {"S": "O#2"}})];
        let request = ReconcileRequest { table: "orders".to_owned(), keys };
        let told: Value = operate(&shop, Operation::Reconcile(request)).await;
        assert_eq!(told["done"], 1);
        assert!(!is_in_part(&sent));
        assert_eq!(totals(&shop).await, (300, 600, 300 * 14 + 300));
    });
}

#[test]
fn rows_and_ledger_changed_by_hand_are_found_and_mended() {
    support::block_on(async {
        let (_, shop) = Sent::shop(VIEWS).await;
        let image = lines(0..MANY, 5);
        shop.set("O#1", Some(("EU", image.clone(), "OPEN"))).await;
        shop.deliver(record(100, "O#1", &image)).await;
        let whole = totals(&shop).await;
        let nine = || AttributeValue::N("9".to_owned());
        tamper(&shop, "a_lines", ("_pk", "S4:s007"), |row| {
            row.insert("total".to_owned(), nine());
        })
        .await;
        let told = concat!(
            r#"group lines s007: {"_n_total":"1","_rows":"1","lo":"6","n":"1","total":"6"} "#,
            r#"{"_n_total":"1","_rows":"1","lo":"6","n":"1","total":"9"} pk=O#1"#
        );
        is_found_and_mended(&shop, &rows(), &[told]).await;
        assert_eq!(totals(&shop).await, whole);
    });
}

/// A newer change meets one that was written in part: it starts from what is there.
#[test]
fn a_newer_change_and_a_late_copy_after_a_part() {
    support::block_on(async {
        let (sent, shop) = Sent::shop(VIEWS).await;
        let (old, new) = (lines(0..MANY, 5), lines(100..100 + MANY, 7));
        shop.set("O#1", Some(("EU", new.clone(), "OPEN"))).await;
        // Where the records come from is written down once.
        shop.deliver(order(99, "REMOVE", "O#9", None)).await;
        sent.answered_by(one_part_alone());
        deliver_until_soon(&shop, record(100, "O#1", &old)).await;
        assert!(is_in_part(&sent));
        sent.answered_by(|_, _, _| None);
        shop.deliver(record(101, "O#1", &new)).await;
        is_clean(&shop).await;
        shop.deliver(record(100, "O#1", &old)).await;
        is_clean(&shop).await;
        assert_eq!(totals(&shop).await, (300, 300, 300 * 7 + 150));
        assert!(!is_in_part(&sent));
    });
}

/// What a scan has read long ago does not take the place of a change that was written in part.
#[test]
fn a_scan_does_not_finish_what_a_record_has_begun() {
    support::block_on(async {
        let (sent, shop) = Sent::shop(VIEWS).await;
        let (old, new) = (lines(0..MANY, 5), lines(0..MANY, 7));
        shop.deliver(of_embedded(&record(100, "O#1", &old))).await;
        sent.answered_by(one_part_alone());
        deliver_until_soon(&shop, of_embedded(&record(101, "O#1", &new))).await;
        assert!(is_in_part(&sent));
        sent.answered_by(|_, _, _| None);
        // The table has what was before.
        shop.set("O#1", Some(("EU", old.clone(), "OPEN"))).await;
        scan(&shop, "orders").await;
        assert!(is_in_part(&sent), "the scan left it as it is");
        shop.deliver(of_embedded(&record(101, "O#1", &new))).await;
        assert_eq!(totals(&shop).await, (300, 300, 300 * 7 + 150));
        // A copy of the first record, which was acknowledged long ago.
        shop.deliver(of_embedded(&record(100, "O#1", &old))).await;
        assert_eq!(totals(&shop).await, (300, 300, 300 * 7 + 150));
    });
}
