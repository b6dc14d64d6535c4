//! What readers are shown: some of the groups, for some time, or all attributes of an item.

use crate::{
    reconcile::{Shop, number},
    support::{self, FOREVER, call, local_endpoint, order},
    values::record,
    verify::{is_clean, is_found_and_mended, rows, source, tamper},
};
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use changefold::{
    clock::Clock,
    record::Timestamp,
    store::{Store, embedded::Embedded},
    view::{
        read::{Condition, Reader, Rows},
        scalar::Scalar,
    },
};
use futures_util::future::BoxFuture;
use serde_json::{Value, json};
use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

/// Midnight before the records of [`order`] were created.
const DAY_S: i64 = 1_789_603_200;

/// A clock that a test sets, in seconds.
#[derive(Debug)]
struct Set(AtomicI64);

impl Clock for Set {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::SeqCst) * 1_000)
    }

    fn sleep(&self, _: Duration) -> BoxFuture<'static, ()> {
        Box::pin(std::future::ready(()))
    }

    fn watch(&self, _: Timestamp) -> BoxFuture<'static, ()> {
        Box::pin(std::future::pending())
    }
}

fn scan(embedded: &Embedded, table: &str) -> Vec<Value> {
    let request = json!({ "TableName": table }).to_string();
    let (status, answer) = embedded.answer("DynamoDB_20120810.Scan", request.as_bytes());
    assert_eq!(status, 200, "{answer}");
    let mut answer: Value = serde_json::from_str(&answer).unwrap();
    let mut rows: Vec<Value> = serde_json::from_value(answer["Items"].take()).unwrap();
    rows.sort_by_key(|row| row["_pk"].to_string());
    rows
}

fn store(embedded: &Embedded, clock: Arc<dyn Clock>) -> Store {
    let client = SharedHttpClient::new(embedded.clone());
    Store::new(client, &local_endpoint(Some("http://embedded")), clock, 1)
}

async fn read(store: &Store, view: &str, conditions: &[Condition]) -> Rows {
    let reader = Reader::open(store.clone(), ("a_ledger", "a_"), view, FOREVER).await.unwrap();
    reader.rows(conditions, None, FOREVER, &mut |_| {}).await.unwrap()
}

async fn shown(store: &Store, view: &str) -> String {
    text(&read(store, view, &[]).await.rows)
}

fn text(rows: &[Vec<Scalar>]) -> String {
    let row = |row: &Vec<Scalar>| row.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    rows.iter().map(row).collect::<Vec<_>>().join("; ")
}

#[test]
fn having_and_limit_say_which_groups_are_shown_and_a_wrong_index_is_mended() {
    const VIEWS: &str = "CREATE MATERIALIZED VIEW best AS
        SELECT region, count(*) AS n, sum(amount) AS total FROM orders GROUP BY region
        HAVING n < 3 ORDER BY total DESC LIMIT 2;
        CREATE MATERIALIZED VIEW some AS SELECT count(*) AS n FROM orders HAVING count(*) > 1;";
    support::block_on(async {
        let store = support::embedded_at_url(12);
        store.ensure_table("orders", &["pk"], None, FOREVER).await.unwrap();
        let function = support::function(VIEWS, &store, "a_").await;
        let shop = Shop { store, function };
        assert_eq!(shown(&shop.store, "some").await, "");
        let orders = [("A", "5"), ("B", "7"), ("C", "6"), ("D", "6"), ("E", "9"), ("E", "1")];
        for (at, (region, amount)) in (100..).zip(orders) {
            let key = format!("O#{at}");
            shop.set(&key, Some((region, number(amount), "OPEN"))).await;
            shop.deliver(order(at, "INSERT", &key, Some((region, amount, "OPEN")))).await;
        }
        let first = "E 2 10; B 1 7";
        assert_eq!(shown(&shop.store, "best").await, first);
        assert_eq!(shown(&shop.store, "some").await, "6");
        let listed = shop.function.work().rows(0, 1).await.unwrap();
        assert_eq!((support::table(&listed).as_str(), listed.total), ("E 2 10", 2));
        // Conditions ask those that are shown, and no others.
        for (region, found) in [("B", "B 1 7"), ("C", "")] {
            let of = Condition::equals("region", Scalar::Text(region.to_owned()));
            assert_eq!(text(&read(&shop.store, "best", &[of]).await.rows), found);
        }
        is_clean(&shop).await;
        // Out of the index, or in it without items.
        tamper(&shop, "a_best", ("_pk", "S1:B"), |row| drop(row.remove("_top"))).await;
        assert_eq!(shown(&shop.store, "best").await, "E 2 10; C 1 6");
        let expected = r#"{"_n_total":"1","_rows":"1","n":"1","total":"7"}"#;
        let told = format!(r#"group best B: {expected} "not as changefold writes it" pk=O#101"#);
        is_found_and_mended(&shop, &rows(), &[&told]).await;
        assert_eq!(shown(&shop.store, "best").await, first);
        // With three items HAVING passes it, and equal ones come in the order of their keys.
        shop.set("O#106", Some(("E", number("1"), "OPEN"))).await;
        shop.deliver(order(106, "INSERT", "O#106", Some(("E", "1", "OPEN")))).await;
        assert_eq!(shown(&shop.store, "best").await, "B 1 7; C 1 6");
        shop.set("O#102", None).await;
        shop.deliver(order(107, "REMOVE", "O#102", None)).await;
        assert_eq!(shown(&shop.store, "best").await, "B 1 7; D 1 6");
        is_clean(&shop).await;
    });
}

#[test]
fn groups_of_a_time_go_when_their_time_is_over_and_are_exact_until_then() {
    const VIEW: &str = "CREATE MATERIALIZED VIEW days WITH (retain = '2 days') AS
        SELECT date_trunc('day', region) AS day, count(*) AS n, sum(amount) AS total FROM orders
        GROUP BY 1";
    support::block_on(async {
        let embedded = Embedded::open(None).unwrap();
        let clock = Arc::new(Set(AtomicI64::new(DAY_S + 3_600)));
        let store = store(&embedded, clock.clone());
        store.ensure_table("orders", &["pk"], None, FOREVER).await.unwrap();
        let function = support::function(VIEW, &store, "a_").await;
        let shop = Shop { store, function };
        let set = async |at: u32, key: &str, new: Option<(&str, &str)>| {
            let time = |day: &str| format!("2026-09-{day}T08:05:00Z");
            let new = new.map(|(day, amount)| (time(day), amount));
            let item = new.as_ref().map(|(day, amount)| (&**day, number(amount), "OPEN"));
            shop.set(key, item).await;
            let event = if new.is_some() { "MODIFY" } else { "REMOVE" };
            let new = new.as_ref().map(|(day, amount)| (&**day, *amount, "OPEN"));
            shop.deliver(order(at, event, key, new)).await;
        };
        set(100, "a", Some(("17", "3"))).await;
        set(101, "b", Some(("15", "5"))).await;
        // Over at the beginning of the 17th.
        set(102, "c", Some(("14", "7"))).await;
        let both = "2026-09-15T00:00:00Z 1 5; 2026-09-17T00:00:00Z 1 3";
        assert_eq!(shown(&shop.store, "days").await, both);
        let stored = scan(&embedded, "a_days");
        assert_eq!(stored.len(), 2);
        assert_eq!(stored[0]["_ttl"]["N"], (DAY_S + 86_400).to_string());
        is_clean(&shop).await;
        // What leaves a group that is over is not taken off it, and joins the other one.
        set(103, "c", Some(("17", "7"))).await;
        let both = "2026-09-15T00:00:00Z 1 5; 2026-09-17T00:00:00Z 2 10";
        clock.0.store(DAY_S + 86_399, Ordering::SeqCst);
        assert_eq!(shown(&shop.store, "days").await, both);
        // Then nobody is shown the row. It is still there, and exact for whose clock is late.
        clock.0.store(DAY_S + 86_400, Ordering::SeqCst);
        let one = "2026-09-17T00:00:00Z 2 10";
        assert_eq!(shown(&shop.store, "days").await, one);
        let listed = shop.function.work().rows(0, usize::MAX).await.unwrap();
        assert_eq!((support::table(&listed).as_str(), listed.total), (one, 1));
        set(104, "b", Some(("15", "6"))).await;
        assert_eq!(scan(&embedded, "a_days")[0]["total"]["N"], "6");
        clock.0.store(DAY_S + 87_000, Ordering::SeqCst);
        set(105, "b", Some(("15", "8"))).await;
        assert_eq!(scan(&embedded, "a_days")[0]["total"]["N"], "6");
        // As time to live deletes it; no row of what is left over comes again.
        let delete = json!({ "TableName": "a_days", "Key": { "_pk": stored[0]["_pk"] } });
        let delete = delete.to_string();
        let (status, _) = embedded.answer("DynamoDB_20120810.DeleteItem", delete.as_bytes());
        assert_eq!(status, 200);
        set(106, "b", None).await;
        set(107, "d", Some(("15", "1"))).await;
        assert_eq!(scan(&embedded, "a_days").len(), 1);
        assert_eq!(shown(&shop.store, "days").await, one);
        is_clean(&shop).await;
    });
}

#[test]
fn a_row_of_all_attributes_is_its_item() {
    const VIEW: &str = "CREATE MATERIALIZED VIEW whole AS SELECT * FROM orders WHERE NOT hidden;
        CREATE MATERIALIZED VIEW some AS SELECT hidden FROM orders;";
    support::block_on(async {
        let embedded = Embedded::open(None).unwrap();
        let store = store(&embedded, Arc::new(changefold::clock::SystemClock));
        let function = support::function(VIEW, &store, "a_").await;
        let deliver = async |number: usize, key: usize, image: Option<&Value>| {
            let event = json!({ "Records": [record(number, key, image)] }).to_string();
            let reply = function.invoke(event.as_bytes(), &call()).await.unwrap();
            assert_eq!(serde_json::to_value(&reply).unwrap(), json!({"batchItemFailures": []}));
        };
        let image = json!({
            "pk": {"S": "k1"}, "hidden": {"BOOL": false}, "n": {"N": "12.5"}, "t": {"S": ""},
            "b": {"B": "AAEC"}, "nothing": {"NULL": true}, "_rev": {"N": "7"}, "_pk": {"S": "mine"},
            "list": {"L": [{"N": "1"}, {"M": {"x": {"SS": ["a", "b"]}}}, {"BS": ["AA=="]}]},
            "numbers": {"NS": ["2.5"]}, "with.point": {"S": "é"},
        });
        deliver(1, 1, Some(&image)).await;
        deliver(2, 2, Some(&json!({"pk": {"S": "k2"}, "hidden": {"BOOL": true}}))).await;
        let rows = scan(&embedded, "a_whole");
        assert_eq!(rows.len(), 1);
        let mut expected = image.clone();
        expected.as_object_mut().unwrap().remove("_rev");
        expected["_pk"] = rows[0]["_pk"].clone();
        assert_eq!((&rows[0], rows[0]["_pk"]["S"].as_str()), (&expected, Some("S2:k1")));
        // Attributes that are gone leave the row, and what comes again changes nothing.
        let less = json!({"pk": {"S": "k1"}, "hidden": {"BOOL": false}, "n": {"N": "1E2"}});
        deliver(3, 1, Some(&less)).await;
        deliver(1, 1, Some(&image)).await;
        deliver(4, 3, Some(&json!({"pk": {"S": "k3"}, "hidden": {"BOOL": false}}))).await;
        let Rows { columns, rows, .. } = read(&store, "whole", &[]).await;
        assert_eq!(columns, ["hidden", "n", "pk"]);
        assert_eq!(text(&rows), "false 100 k1; false NULL k3");
        let of = Condition::equals("n", Scalar::Number(100.into()));
        assert_eq!(text(&read(&store, "whole", &[of]).await.rows), "false 100 k1");
        deliver(5, 1, None).await;
        assert_eq!(text(&read(&store, "whole", &[]).await.rows), "false k3");
        // Too large for a row with its key; it comes back with the next good change.
        let large = json!({"pk": {"S": "k3"}, "hidden": {"BOOL": false},
            "t": {"S": "x".repeat(400_000)}});
        deliver(6, 3, Some(&large)).await;
        assert_eq!(text(&read(&store, "whole", &[]).await.rows), "");
        let quarantined = function.work().quarantined(9).await.unwrap();
        assert_eq!(quarantined.count, 1);
        assert_eq!(shown(&store, "some").await, "true; false");
    });
}

#[test]
fn a_row_of_all_attributes_is_verified_and_mended() {
    support::block_on(async {
        let store = support::embedded_at_url(13);
        store.ensure_table("orders", &["pk"], None, FOREVER).await.unwrap();
        let view = "CREATE MATERIALIZED VIEW whole AS SELECT * FROM orders";
        let function = support::function(view, &store, "a_").await;
        let shop = Shop { store, function };
        shop.set("O#1", Some(("EU", number("5"), "OPEN"))).await;
        // The record has an attribute more than the item in the table by now.
        shop.deliver(order(100, "INSERT", "O#1", Some(("EU", "5.0", "OPEN")))).await;
        let told = r#"item whole : "a row" {"other":["note"],"row":"a row"} pk=O#1"#;
        is_found_and_mended(&shop, &source(), &[told]).await;
        let rows = read(&shop.store, "whole", &[]).await;
        assert_eq!(rows.columns, ["amount", "pk", "region", "status"]);
    });
}
