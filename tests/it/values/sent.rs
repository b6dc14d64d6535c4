//! What is sent for a change: which rows it reads, which it writes, and under which conditions.

use crate::{
    reconcile::{Shop, number},
    support::{self, order},
    verify::{is_found_and_mended, rows},
};
use aws_smithy_runtime_api::client::{
    http::{HttpConnector, HttpConnectorFuture},
    orchestrator::HttpRequest,
};
use changefold::store::{Store, embedded::Embedded};
use serde_json::{Value, json};
use std::{
    fmt,
    sync::{Arc, Mutex},
};

const ENDS: &str = "CREATE MATERIALIZED VIEW ends AS
    SELECT region, min(amount) AS lo, max(amount) AS hi, count(DISTINCT status) AS d FROM orders
    GROUP BY region;";

/// Answers in the store's place, or lets the store answer.
type Instead = Box<dyn FnMut(&str, &Value, &Embedded) -> Option<(u16, String)> + Send>;

/// A store whose requests are kept.
#[derive(Clone)]
pub(super) struct Sent {
    pub(super) store: Embedded,
    requests: Arc<Mutex<Vec<(String, Value)>>>,
    instead: Arc<Mutex<Option<Instead>>>,
}

impl fmt::Debug for Sent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sent")
    }
}

impl HttpConnector for Sent {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let target = request.headers().get("x-amz-target").unwrap_or_default().to_owned();
        let body: Value =
            serde_json::from_slice(request.body().bytes().unwrap_or_default()).unwrap();
        let operation = target.rsplit('.').next().unwrap_or_default().to_owned();
        let instead = match self.instead.lock().unwrap().as_mut() {
            Some(instead) => instead(&operation, &body, &self.store),
            None => None,
        };
        let stored = || self.store.answer(&target, body.to_string().as_bytes());
        let answer = instead.unwrap_or_else(stored);
        self.requests.lock().unwrap().push((operation, body));
        HttpConnectorFuture::ready(Ok(super::wire::response(answer)))
    }
}

impl Sent {
    /// The views `text` over no item, in a store of their own.
    pub(super) async fn shop(text: &str) -> (Self, Shop) {
        let store = Embedded::open(None).unwrap();
        let sent = Self { store, requests: Arc::default(), instead: Arc::default() };
        let clock = Arc::new(changefold::clock::SystemClock);
        let endpoint = support::local_endpoint(Some("http://embedded"));
        let store = Store::new(support::client_of(sent.clone()), &endpoint, clock, 1);
        store.ensure_table("orders", &["pk"], None, support::FOREVER).await.unwrap();
        let function = support::function(text, &store, "a_").await;
        (sent, Shop { store, function })
    }

    /// Lets this answer until it is replaced.
    pub(super) fn answered_by(
        &self,
        instead: impl FnMut(&str, &Value, &Embedded) -> Option<(u16, String)> + Send + 'static,
    ) {
        *self.instead.lock().unwrap() = Some(Box::new(instead));
    }

    /// What was sent since this was asked last: operations and bodies.
    pub(super) fn take(&self) -> Vec<(String, Value)> {
        std::mem::take(&mut self.requests.lock().unwrap())
    }
}

/// The actions of all transactions.
pub(super) fn actions_of(sent: Vec<(String, Value)>) -> Vec<Value> {
    let written = sent.into_iter().filter(|(it, _)| it == "TransactWriteItems");
    written.flat_map(|(_, body)| body["TransactItems"].as_array().unwrap().clone()).collect()
}

/// The update of a view's row among actions.
fn update(actions: &[Value]) -> &Value {
    actions.iter().find_map(|it| it.get("Update").filter(|it| it["TableName"] == "a_ends")).unwrap()
}

#[test]
fn a_change_of_other_values_is_not_conditional_on_an_extreme() {
    support::block_on(async {
        let (sent, shop) = Sent::shop(ENDS).await;
        shop.deliver(order(100, "INSERT", "O#1", Some(("EU", "5", "OPEN")))).await;
        shop.deliver(order(101, "INSERT", "O#2", Some(("EU", "9", "OPEN")))).await;
        sent.take();
        shop.deliver(order(102, "MODIFY", "O#1", Some(("EU", "5", "PAID")))).await;
        let sent_now = sent.take();
        let is_group = |it: &&(String, Value)| it.1["RequestItems"].get("a_ends").is_some();
        assert_eq!(sent_now.iter().filter(is_group).count(), 0, "{sent_now:?}");
        let actions = actions_of(sent_now);
        let update = update(&actions);
        assert!(update.get("ConditionExpression").is_none(), "{update}");
        assert!(!update["UpdateExpression"].as_str().unwrap().contains("#m"), "{update}");
        assert_eq!(support::table(&shop.function.work().rows(0, 9).await.unwrap()), "EU 5 9 2");
        // A value that is compared with it is.
        shop.deliver(order(103, "INSERT", "O#3", Some(("EU", "7", "PAID")))).await;
        let actions = actions_of(sent.take());
        assert!(self::update(&actions).get("ConditionExpression").is_some());
        assert_eq!(support::table(&shop.function.work().rows(0, 9).await.unwrap()), "EU 5 9 2");
    });
}

#[test]
fn two_who_count_a_value_that_others_have_do_not_hinder_each_other() {
    support::block_on(async {
        let (sent, shop) = Sent::shop(ENDS).await;
        for (at, key) in [(100, "O#1"), (101, "O#2"), (102, "O#3"), (103, "O#4")] {
            shop.deliver(order(at, "INSERT", key, Some(("EU", "5", "OPEN")))).await;
        }
        for (record, more) in [
            (order(104, "INSERT", "O#5", Some(("EU", "5", "OPEN"))), "1"),
            (order(105, "REMOVE", "O#1", None), "-1"),
        ] {
            // Another one has counted the value since it was read.
            let mut has_counted = false;
            sent.answered_by(move |operation, _, store| {
                if operation == "TransactWriteItems" && !has_counted {
                    has_counted = true;
                    let update = json!({
                        "TableName": "a_ledger-values",
                        "Key": {"pk": {"S": "ends~1#0#S2:EU"}, "sk": {"S": "N22015"}},
                        "UpdateExpression": "ADD n :more",
                        "ExpressionAttributeValues": {":more": {"N": more}},
                    });
                    let target = "DynamoDB_20120810.UpdateItem";
                    let (status, answer) = store.answer(target, update.to_string().as_bytes());
                    assert_eq!(status, 200, "{answer}");
                }
                None
            });
            sent.take();
            shop.deliver(record).await;
            let sent = sent.take();
            let written = sent.iter().filter(|(it, _)| it == "TransactWriteItems");
            assert_eq!(written.count(), 1, "{sent:?}");
        }
    });
}

/// Answers the next query of the values of amounts in `EU` with these: a transaction that has
/// changed the group's row has not been shown in the values' rows yet.
fn shows_once(sent: &Sent, amounts: &'static [&'static str]) {
    let mut left = Some(amounts);
    sent.answered_by(move |operation, body, _| {
        let is_meant = operation == "Query" && body["TableName"] == "a_ledger-values";
        let amounts = if is_meant { left.take()? } else { return None };
        let row = |sort_key: &&str| {
            json!({"pk": {"S": "ends~1#0#S2:EU"}, "sk": {"S": sort_key}, "n": {"N": "1"}})
        };
        let rows: Vec<Value> = amounts.iter().map(row).collect();
        Some((200, json!({"Count": rows.len(), "Items": rows}).to_string()))
    });
}

/// A shop with these amounts in `EU`, of the items from `O#1` on.
async fn shop_of(amounts: &[&str]) -> (Sent, Shop) {
    let (sent, shop) = Sent::shop(ENDS).await;
    for (at, amount) in (1_u32..).zip(amounts) {
        let key = format!("O#{at}");
        shop.set(&key, Some(("EU", number(amount), "OPEN"))).await;
        shop.deliver(order(100 + at, "INSERT", &key, Some(("EU", amount, "OPEN")))).await;
    }
    (sent, shop)
}

async fn remove(shop: &Shop, at: u32, key: &str) {
    shop.set(key, None).await;
    shop.deliver(order(at, "REMOVE", key, None)).await;
}

#[test]
fn a_value_that_is_gone_and_still_shown_does_not_become_the_smallest() {
    support::block_on(async {
        let (sent, shop) = shop_of(&["1", "2", "3"]).await;
        remove(&shop, 200, "O#2").await;
        shows_once(&sent, &["N22011", "N22012"]);
        remove(&shop, 201, "O#1").await;
        assert_eq!(support::table(&shop.function.work().rows(0, 9).await.unwrap()), "EU 3 3 1");
    });
}

/// The schedule that no condition can keep out: nobody can ask for a row that he does not know of.
#[test]
fn a_smallest_value_that_was_not_shown_yet_is_found_and_mended() {
    support::block_on(async {
        let (sent, shop) = shop_of(&["1", "2", "3", "1.5"]).await;
        shows_once(&sent, &["N22011", "N22012"]);
        remove(&shop, 201, "O#1").await;
        let shown = || async { support::table(&shop.function.work().rows(0, 9).await.unwrap()) };
        assert_eq!(shown().await, "EU 2 3 1");
        let said = r#"{"_rows":"3","d":"1","hi":"3","lo":"#;
        let items = "pk=O#2+pk=O#3+pk=O#4";
        let told = format!(r#"group ends EU: {said}"1.5"}} {said}"2"}} {items}"#);
        is_found_and_mended(&shop, &rows(), &[&told]).await;
        assert_eq!(shown().await, "EU 1.5 3 1");
    });
}
