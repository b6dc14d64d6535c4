//! Values and extremes that were changed by hand, found and mended.

use crate::{
    reconcile::{Shop, number},
    support::{self, call, order},
    verify::{is_clean, is_found_and_mended, rows, tamper},
};
use aws_sdk_dynamodb::types::{AttributeValue, Delete, Put, TransactWriteItem};
use changefold::{
    operation::{self, Operation, backfill::ReconcileRequest},
    store::Item,
    view::values,
};
use serde_json::json;

const ENDS: &str = "CREATE MATERIALIZED VIEW ends AS
    SELECT region, min(amount) AS lo, max(amount) AS hi, count(DISTINCT amount) AS d,
      sum(DISTINCT amount) AS s FROM orders GROUP BY region;";

async fn shop(seed: u64) -> Shop {
    let store = support::embedded_at_url(seed);
    store.ensure_table("orders", &["pk"], None, support::FOREVER).await.unwrap();
    let function = support::function(ENDS, &store, "a_").await;
    let shop = Shop { store, function };
    for (at, key, region, amount) in [
        (100, "O#1", "EU", "10"),
        (101, "O#2", "EU", "0.5"),
        (102, "O#3", "US", "7"),
        (103, "O#4", "EU", "10.0"),
    ] {
        shop.set(key, Some((region, number(amount), "OPEN"))).await;
        shop.deliver(order(at, "INSERT", key, Some((region, amount, "OPEN")))).await;
    }
    is_clean(&shop).await;
    check(&shop, WHOLE).await;
    shop
}

const WHOLE: &str = "EU 0.5 10 2 10.5; US 7 7 1 7";

async fn check(shop: &Shop, expected: &str) {
    let found = shop.function.work().rows(0, usize::MAX).await.unwrap();
    assert_eq!(support::table(&found), expected);
}

/// Puts a value's row, or deletes it.
async fn set_value(shop: &Shop, group: &str, sort_key: &str, items: Option<&str>) {
    let text = |text: &str| AttributeValue::S(text.to_owned());
    let mut item = Item::from([
        ("pk".to_owned(), text(&format!("ends~1#0#{group}"))),
        ("sk".to_owned(), text(sort_key)),
    ]);
    let table = values::table_name("a_ledger");
    let action = TransactWriteItem::builder();
    let action = match items {
        None => {
            let delete = Delete::builder().table_name(table).set_key(Some(item));
            action.delete(delete.build().unwrap())
        }
        Some(items) => {
            item.insert("n".to_owned(), number(items));
            action.put(Put::builder().table_name(table).set_item(Some(item)).build().unwrap())
        }
    };
    shop.store.transact(vec![action.build()], support::FOREVER).await.unwrap();
}

const EU: (&str, &str) = ("_pk", "S2:EU");
const SAID: &str = r#""_n_s":"2","_rows":"3""#;
const REST: &str = r#""d":"2","hi":"10","lo":"0.5","s":"10.5"}"#;
const ITEMS: &str = "pk=O#1+pk=O#2+pk=O#4";

#[test]
fn extremes_and_values_changed_by_hand_are_found_and_mended() {
    support::block_on(async {
        let shop = shop(1).await;
        let expected = format!("{{{SAID},{REST}");
        for (name, value, found) in [
            ("lo", "3", expected.replace(r#""lo":"0.5""#, r#""lo":"3""#)),
            ("d", "9", expected.replace(r#""d":"2""#, r#""d":"9""#)),
        ] {
            tamper(&shop, "a_ends", EU, |row| drop(row.insert(name.to_owned(), number(value))))
                .await;
            let told = format!("group ends EU: {expected} {found} {ITEMS}");
            is_found_and_mended(&shop, &rows(), &[&told]).await;
            check(&shop, WHOLE).await;
        }
        let values = |what: &str| format!(r#"{{{SAID},"_values":"{what}",{REST}"#);
        for (sort_key, items, found) in [
            ("N21995", None, "1, 1 otherwise"),
            ("N22021", Some("5"), "2, 1 otherwise"),
            ("N21999", Some("1"), "3, 1 otherwise"),
        ] {
            // 0.5 is N22005, 10 is N22021.
            let sort_key = if items.is_none() { "N22005" } else { sort_key };
            set_value(&shop, "S2:EU", sort_key, items).await;
            let told = format!("group ends EU: {} {} {ITEMS}", values("2"), values(found));
            is_found_and_mended(&shop, &rows(), &[&told]).await;
            check(&shop, WHOLE).await;
        }
        // What the stream changes later it changes on the right values.
        shop.set("O#2", None).await;
        shop.deliver(order(110, "REMOVE", "O#2", None)).await;
        check(&shop, "EU 10 10 1 10; US 7 7 1 7").await;
        shop.set("O#1", None).await;
        shop.deliver(order(111, "REMOVE", "O#1", None)).await;
        check(&shop, "EU 10 10 1 10; US 7 7 1 7").await;
        is_clean(&shop).await;
    });
}

#[test]
fn values_of_a_group_that_is_not_there_are_deleted() {
    support::block_on(async {
        let shop = shop(2).await;
        for at in 0..250 {
            set_value(&shop, "S4:APAC", &format!("N2202{}1", 10 + at), Some("1")).await;
        }
        let none = r#"{"_n_s":"0","_rows":"0","_values":"0","d":"0","s":"0"}"#;
        let told = format!(r#"group ends APAC: {none} "no row" "#);
        is_found_and_mended(&shop, &rows(), &[&told]).await;
        check(&shop, WHOLE).await;
    });
}

/// The room for values of groups that differ is that of one cursor.
#[test]
fn groups_that_have_more_values_together_than_there_is_room_for_are_mended() {
    support::block_on(async {
        let shop = shop(5).await;
        let groups = ["S4:APAC", "S5:LATAM"];
        for group in groups {
            for at in 0..800 {
                let value = format!("S{at:03}{}", "x".repeat(1_000));
                set_value(&shop, group, &value, Some("1")).await;
            }
        }
        let none = r#"{"_n_s":"0","_rows":"0","_values":"0","d":"0","s":"0"}"#;
        let told = ["APAC", "LATAM"].map(|it| format!(r#"group ends {it}: {none} "no row" "#));
        is_found_and_mended(&shop, &rows(), &[&told[0], &told[1]]).await;
        check(&shop, WHOLE).await;
    });
}

#[test]
fn an_item_that_is_reconciled_takes_its_value_along() {
    support::block_on(async {
        let shop = shop(3).await;
        shop.set("O#2", Some(("US", number("99"), "PAID"))).await;
        let request = ReconcileRequest {
            table: crate::reconcile::ORDERS.to_owned(),
            keys: vec![json!({"pk": {"S": "O#2"}})],
        };
        let event = operation::event(Operation::Reconcile(request));
        shop.function.invoke(&event, &call()).await.unwrap();
        check(&shop, "EU 10 10 1 10; US 7 99 2 106").await;
        is_clean(&shop).await;
    });
}

#[test]
fn a_function_without_the_table_of_values_is_refused_with_the_remedy() {
    support::block_on(async {
        let store = support::embedded(4);
        let plain = "CREATE MATERIALIZED VIEW plain AS SELECT count(*) AS n FROM orders;";
        support::function(plain, &store, "b_").await;
        let views = changefold::view::sql::parse(&[plain, ENDS].concat()).unwrap();
        let owner = changefold::view::registry::Owner::new("test");
        let tables = ("b_ledger", "b_");
        let open =
            changefold::view::Views::open(views, store.clone(), tables, &owner, support::FOREVER);
        let error = open.await.unwrap_err();
        assert_eq!(error.code(), "ValuesTableMissing");
        for part in ["view ends", "b_ledger-values", "string key `pk`", "sort key `sk`"] {
            assert!(error.to_string().contains(part), "no {part} in: {error}");
        }
        // Nothing was registered, and what needs no values goes on.
        support::function(plain, &store, "b_").await;
    });
}
