//! Items brought from their table into the views, whatever the ledger says of them.

use crate::support::{self, call, order};
use aws_sdk_dynamodb::types::{AttributeValue, Delete, Put, TransactWriteItem};
use changefold::{
    call::Halt,
    handler::Function,
    operation::{
        self, Operation, Selection,
        backfill::{ReconcileRequest, Reconciled},
    },
    outcome::Answer,
    store::{Item, Store},
    view::Views,
};
use serde_json::json;

pub(crate) const VIEWS: &str = "
    CREATE MATERIALIZED VIEW totals AS
      SELECT region, count(*) AS orders, sum(amount) AS total FROM orders GROUP BY region;
    CREATE MATERIALIZED VIEW open_orders AS
      SELECT pk, amount FROM orders WHERE status = 'OPEN';";

/// The table that the records of [`order`] come from.
pub(crate) const ORDERS: &str = "arn:aws:dynamodb:us-east-1:123456789012:table/orders";

pub(crate) struct Shop {
    pub(crate) store: Store,
    pub(crate) function: Function<Views>,
}

impl Shop {
    pub(crate) async fn open(seed: u64) -> Self {
        Self::in_store(support::embedded_at_url(seed)).await
    }

    pub(crate) async fn in_store(store: Store) -> Self {
        store.ensure_table("orders", &["pk"], None, support::FOREVER).await.unwrap();
        let function = support::function(VIEWS, &store, "a_").await;
        Self { store, function }
    }

    /// Writes an item, or takes it away, without telling anybody.
    pub(crate) async fn set(&self, key: &str, item: Option<(&str, AttributeValue, &str)>) {
        let text = |text: &str| AttributeValue::S(text.to_owned());
        let action = TransactWriteItem::builder();
        let action = match item {
            None => {
                let delete = Delete::builder().table_name("orders").key("pk", text(key));
                action.delete(delete.build().unwrap())
            }
            Some((region, amount, status)) => {
                let item = Item::from([
                    ("pk".to_owned(), text(key)),
                    ("region".to_owned(), text(region)),
                    ("amount".to_owned(), amount),
                    ("status".to_owned(), text(status)),
                ]);
                let put = Put::builder().table_name("orders").set_item(Some(item));
                action.put(put.build().unwrap())
            }
        };
        self.store.transact(vec![action.build()], support::FOREVER).await.unwrap();
    }

    pub(crate) async fn deliver(&self, record: String) {
        let event = format!("{{\"Records\":[{record}]}}");
        let reply = self.function.invoke(event.as_bytes(), &call()).await.unwrap();
        assert_eq!(serde_json::to_string(&reply).unwrap(), r#"{"batchItemFailures":[]}"#);
    }

    pub(crate) async fn try_reconcile(
        &self,
        table: &str,
        keys: &[&str],
    ) -> Result<Reconciled, Halt> {
        let keys = keys.iter().map(|key| json!({"pk": {"S": key}})).collect();
        let request = ReconcileRequest { table: table.to_owned(), keys };
        let event = operation::event(Operation::Reconcile(request));
        let Answer::Operation(answer) = self.function.invoke(&event, &call()).await? else {
            panic!("no answer to an operation");
        };
        Ok(serde_json::from_value(answer).unwrap())
    }

    async fn reconcile(&self, keys: &[&str]) {
        let told = self.try_reconcile(ORDERS, keys).await.unwrap();
        assert_eq!(told, Reconciled { done: keys.len() as u64, ..Reconciled::default() });
    }

    async fn rows(&self) -> (String, String) {
        let rows = async |view: usize| {
            support::table(&self.function.work().rows(view, usize::MAX).await.unwrap())
        };
        (rows(0).await, rows(1).await)
    }

    pub(crate) async fn check(&self, totals: &str, open: &str) {
        assert_eq!(self.rows().await, (totals.to_owned(), open.to_owned()));
    }
}

pub(crate) fn number(digits: &str) -> AttributeValue {
    AttributeValue::N(digits.to_owned())
}

/// The same record, created in the year 2100.
fn of_later(record: &str) -> String {
    record.replace("1789649451.0", "4102444800.0")
}

#[test]
fn a_change_that_the_mapping_lost_is_brought_in() {
    support::block_on(async {
        let shop = Shop::open(1).await;
        shop.deliver(order(100, "INSERT", "O#1", Some(("EU", "10", "OPEN")))).await;
        shop.set("O#1", Some(("US", number("11"), "PAID"))).await;
        shop.set("O#2", Some(("EU", number("0.5"), "OPEN"))).await;
        shop.check("EU 1 10", "O#1 10").await;
        for _ in 0..2 {
            shop.reconcile(&["O#1", "O#2"]).await;
            shop.check("EU 1 0.5; US 1 11", "O#2 0.5").await;
        }
        // What changes later is newer, whatever its version is compared with.
        let later = of_later(&order(130, "MODIFY", "O#1", Some(("US", "12", "OPEN"))));
        shop.deliver(later).await;
        let later = of_later(&order(7, "MODIFY", "O#2", Some(("US", "1", "PAID"))));
        shop.deliver(later).await;
        shop.check("US 2 13", "O#1 12").await;
    });
}

#[test]
fn a_late_copy_of_what_the_source_already_contained_does_not_take_it_back() {
    support::block_on(async {
        let shop = Shop::open(2).await;
        let old = order(100, "INSERT", "O#1", Some(("EU", "10", "OPEN")));
        shop.deliver(old.clone()).await;
        shop.set("O#1", Some(("US", number("11"), "PAID"))).await;
        shop.reconcile(&["O#1"]).await;
        // Version 110 was lost on its way, and so was 120, which made the item what it is.
        shop.deliver(order(110, "MODIFY", "O#1", Some(("EU", "99", "OPEN")))).await;
        shop.deliver(old).await;
        shop.check("US 1 11", "").await;
    });
}

#[test]
fn an_item_that_is_gone_goes_out_and_stays_out() {
    support::block_on(async {
        let shop = Shop::open(3).await;
        let old = order(100, "INSERT", "O#1", Some(("EU", "10", "OPEN")));
        shop.deliver(old.clone()).await;
        // O#2 came and went, and the mapping lost both.
        shop.reconcile(&["O#1", "O#2"]).await;
        shop.check("", "").await;
        shop.deliver(old).await;
        shop.deliver(order(90, "INSERT", "O#2", Some(("EU", "1", "OPEN")))).await;
        shop.check("", "").await;
        let key = format!("K#{ORDERS}#S3:O#1");
        let row = shop.store.get("a_ledger", "pk", &key, support::FOREVER).await.unwrap().unwrap();
        assert!(row.contains_key("ttl"), "a tombstone ends by itself");
    });
}

#[test]
fn what_cannot_be_evaluated_is_quarantined_until_it_can() {
    support::block_on(async {
        let shop = Shop::open(4).await;
        let quarantined = async || {
            let quarantined = shop.function.work().quarantined(10).await.unwrap();
            let told = quarantined.first.iter().map(|it| (it.view.clone(), it.key.clone()));
            told.collect::<Vec<_>>()
        };
        shop.set("O#1", Some(("EU", AttributeValue::S("ten".into()), "OPEN"))).await;
        shop.reconcile(&["O#1"]).await;
        assert_eq!(quarantined().await, [("totals".to_owned(), "pk=O#1".to_owned())]);
        shop.check("", "O#1 ten").await;
        shop.set("O#1", Some(("EU", number("10"), "OPEN"))).await;
        shop.reconcile(&["O#1"]).await;
        assert_eq!(quarantined().await, []);
        shop.check("EU 1 10", "O#1 10").await;
    });
}

#[test]
fn an_item_that_no_row_can_hold_is_named_and_the_others_are_brought_in() {
    support::block_on(async {
        let shop = Shop::open(5).await;
        shop.set("O#1", Some(("EU", number("1"), "PAID"))).await;
        // An item may have 400 KB, and a row of a projection has its key twice.
        let long = "O".repeat(1_000);
        let amount = AttributeValue::S("1".repeat(400 * 1_024 - 1_100));
        shop.set(&long, Some(("EU", amount, "OPEN"))).await;
        shop.set("O#3", Some(("EU", number("3"), "PAID"))).await;
        let told = shop.try_reconcile(ORDERS, &["O#1", &long, "O#3"]).await.unwrap();
        let keys: Vec<&str> = told.not_done.iter().map(|it| &*it.key).collect();
        assert_eq!((told.done, keys, told.unfinished), (2, vec![&*format!("pk={long}")], 0));
        shop.check("EU 2 4", "").await;
    });
}

#[test]
fn what_is_not_there_is_refused_and_says_what_helps() {
    support::block_on(async {
        let shop = Shop::open(6).await;
        shop.deliver(order(1, "INSERT", "O#1", Some(("EU", "1", "OPEN")))).await;
        let refused = async |table: &str, key: &str| {
            let halt = shop.try_reconcile(table, &[key]).await.unwrap_err();
            (halt.code, halt.message)
        };
        let (code, message) = refused("clicks", "a").await;
        assert_eq!((code, message.contains("FROM clicks")), ("NoViewForSource", true));
        // The embedded store makes up an ARN; the records say another one.
        let (code, message) = refused("orders", "a").await;
        assert_eq!((code, message.contains(ORDERS)), ("SourceAmbiguous", true));
        let keys = vec![json!({"id": {"S": "a"}})];
        let request = ReconcileRequest { table: ORDERS.to_owned(), keys };
        let event = operation::event(Operation::Reconcile(request));
        let halt = shop.function.invoke(&event, &call()).await.unwrap_err();
        assert_eq!(halt.code, "KeyInvalid");
        let shown = operation::event(Operation::Show(Selection::default()));
        assert_eq!(
            shop.function.invoke(&shown, &call()).await.unwrap_err().code,
            "OperationUnsupported"
        );
    });
}
