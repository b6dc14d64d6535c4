//! A view that joins: its tables scanned, compared and mended, each for itself.

use super::{
    elements::{operate, scan},
    sent::Sent,
};
use crate::{
    reconcile::{ORDERS, Shop, number},
    support::{self, call, order},
    verify::{source, walked},
};
use aws_sdk_dynamodb::types::{AttributeValue, Delete, Put, TransactWriteItem};
use changefold::{
    operation::{
        Operation,
        backfill::{ReconcileRequest, Reconciled},
        verify::Verify,
    },
    store::Item,
};
use serde_json::json;

const VIEWS: &str = "
    CREATE MATERIALIZED VIEW by_continent AS
      SELECT r.continent, count(*) AS orders, sum(o.amount) AS total, max(o.amount) AS most
      FROM orders o LEFT JOIN regions r ON r.name = o.region GROUP BY r.continent;
    CREATE MATERIALIZED VIEW named AS
      SELECT o.pk, r.continent FROM orders o JOIN regions r ON r.name = o.region;";

fn text(text: &str) -> AttributeValue {
    AttributeValue::S(text.to_owned())
}

/// Writes a region, or takes it away, without telling anybody.
async fn set_region(shop: &Shop, name: &str, continent: Option<&str>) {
    let action = TransactWriteItem::builder();
    let action = match continent {
        None => {
            let delete = Delete::builder().table_name("regions").key("name", text(name));
            action.delete(delete.build().unwrap())
        }
        Some(continent) => {
            let item = Item::from([
                ("name".to_owned(), text(name)),
                ("continent".to_owned(), text(continent)),
            ]);
            let put = Put::builder().table_name("regions").set_item(Some(item));
            action.put(put.build().unwrap())
        }
    };
    shop.store.transact(vec![action.build()], support::FOREVER).await.unwrap();
}

/// The record of a region.
fn region(number: u32, name: &str, continent: Option<&str>) -> String {
    let image = continent.map_or_else(String::new, |continent| {
        format!(r#""NewImage":{{"name":{{"S":"{name}"}},"continent":{{"S":"{continent}"}}}},"#)
    });
    let event_name = if continent.is_some() { "MODIFY" } else { "REMOVE" };
    format!(
        r#"{{"eventID":"{number}","eventName":"{event_name}","eventVersion":"1.1","eventSource":"aws:dynamodb","awsRegion":"us-east-1","dynamodb":{{"ApproximateCreationDateTime":1789649451.0,"Keys":{{"name":{{"S":"{name}"}}}},{image}"SequenceNumber":"{number}","SizeBytes":1,"StreamViewType":"NEW_AND_OLD_IMAGES"}},"eventSourceARN":"{}/stream/2026-09-17T12:50:51.000"}}"#,
        ORDERS.replace("orders", "regions")
    )
}

async fn shop() -> Shop {
    let (_, shop) = Sent::shop(VIEWS).await;
    shop.store.ensure_table("regions", &["name"], None, support::FOREVER).await.unwrap();
    for (key, region, amount) in [("O#1", "EU", "10"), ("O#2", "EU", "0.5"), ("O#3", "US", "7")] {
        shop.set(key, Some((region, number(amount), "OPEN"))).await;
    }
    set_region(&shop, "EU", Some("Europe")).await;
    set_region(&shop, "US", Some("America")).await;
    shop
}

async fn check(shop: &Shop, continents: &str, named: &str) {
    for (view, expected) in [continents, named].into_iter().enumerate() {
        let found = shop.function.work().rows(view, usize::MAX).await.unwrap();
        assert_eq!(support::table(&found), expected, "view {view}");
    }
}

const WHOLE: &str = "America 1 7 7; Europe 2 10.5 10";
const NAMED: &str = "O#1 Europe; O#2 Europe; O#3 America";

#[test]
fn both_tables_are_scanned_in_either_order() {
    support::block_on(async {
        for tables in [["orders", "regions"], ["regions", "orders"]] {
            let shop = shop().await;
            for table in tables {
                scan(&shop, table).await;
            }
            check(&shop, WHOLE, NAMED).await;
        }
    });
}

/// The same as their streams brought it.
async fn delivered() -> Shop {
    let shop = shop().await;
    for (at, key, region, amount) in
        [(100, "O#1", "EU", "10"), (101, "O#2", "EU", "0.5"), (102, "O#3", "US", "7")]
    {
        shop.deliver(order(at, "INSERT", key, Some((region, amount, "OPEN")))).await;
    }
    shop.deliver(region(103, "EU", Some("Europe"))).await;
    shop.deliver(region(104, "US", Some("America"))).await;
    check(&shop, WHOLE, NAMED).await;
    shop
}

#[test]
fn a_joined_item_changes_goes_and_comes_again() {
    support::block_on(async {
        let shop = delivered().await;
        for (number, continent, continents, named) in [
            (
                200,
                Some("Africa"),
                "Africa 2 10.5 10; America 1 7 7",
                "O#1 Africa; O#2 Africa; O#3 America",
            ),
            (201, None, "NULL 2 10.5 10; America 1 7 7", "O#3 America"),
            (202, Some("Europe"), WHOLE, NAMED),
        ] {
            set_region(&shop, "EU", continent).await;
            shop.deliver(region(number, "EU", continent)).await;
            check(&shop, continents, named).await;
        }
        // A late copy changes nothing, and an order moves.
        shop.deliver(region(200, "EU", Some("Africa"))).await;
        check(&shop, WHOLE, NAMED).await;
        shop.deliver(order(210, "MODIFY", "O#1", Some(("US", "10", "OPEN")))).await;
        check(&shop, "America 2 17 10; Europe 1 0.5 0.5", "O#1 America; O#2 Europe; O#3 America")
            .await;
    });
}

fn regions() -> Verify {
    Verify { table: Some(ORDERS.replace("orders", "regions")), ..source() }
}

#[test]
fn a_joined_item_that_the_mapping_lost_is_found_and_mended() {
    support::block_on(async {
        let shop = delivered().await;
        set_region(&shop, "EU", Some("Africa")).await;
        let request = regions();
        let told = "item by_continent : \"its attributes\" \"other ones\" name=EU";
        let also = "item named : \"its attributes\" \"other ones\" name=EU";
        let found = walked(&shop, &request).await;
        assert_eq!(found, [told, also]);
        let request = ReconcileRequest {
            table: ORDERS.replace("orders", "regions"),
            keys: vec![json!({"name": {"S": "EU"}})],
        };
        let done: Reconciled = operate(&shop, Operation::Reconcile(request)).await;
        assert_eq!(done, Reconciled { done: 1, ..Reconciled::default() });
        check(&shop, "Africa 2 10.5 10; America 1 7 7", "O#1 Africa; O#2 Africa; O#3 America")
            .await;
        assert_eq!(walked(&shop, &regions()).await, Vec::<String>::new());
        assert_eq!(walked(&shop, &source()).await, Vec::<String>::new());
        assert_eq!(walked(&shop, &Verify::default()).await, Vec::<String>::new());
    });
}

#[test]
fn an_order_that_the_mapping_lost_is_found_and_mended() {
    support::block_on(async {
        let shop = delivered().await;
        shop.set("O#2", Some(("US", number("0.5"), "OPEN"))).await;
        let request = source();
        let found = walked(&shop, &request).await;
        assert_eq!(found.len(), 2, "{found:?}");
        let request =
            ReconcileRequest { table: ORDERS.to_owned(), keys: vec![json!({"pk": {"S": "O#2"}})] };
        let _: Reconciled = operate(&shop, Operation::Reconcile(request)).await;
        check(&shop, "America 2 7.5 7; Europe 1 10 10", "O#1 Europe; O#2 America; O#3 America")
            .await;
        assert_eq!(walked(&shop, &source()).await, Vec::<String>::new());
    });
}

/// A table whose key is another one cannot be joined by this attribute.
#[test]
fn a_table_with_another_key_is_refused_with_the_remedy() {
    support::block_on(async {
        let shop = delivered().await;
        let other = region(300, "EU", Some("Africa")).replace(
            r#""Keys":{"name":{"S":"EU"}}"#,
            r#""Keys":{"name":{"S":"EU"},"sort":{"S":"1"}}"#,
        );
        let event = format!(r#"{{"Records":[{other}]}}"#);
        let halt = shop.function.invoke(event.as_bytes(), &call()).await.unwrap_err();
        assert_eq!(halt.code, "SourceUnfit");
        for part in ["view by_continent", "joins regions by name", "join by the key"] {
            assert!(halt.message.contains(part), "no {part} in {}", halt.message);
        }
    });
}
