//! The live desk: streams that go on, read through the SDKs as Lambda reads them.

mod desk;
mod kills;
mod streams;

pub(crate) use desk::{Desk, Scratch};

use crate::{oracle, support};
use aws_sdk_dynamodb::{
    Client,
    config::{BehaviorVersion, retry::RetryConfig},
    types::AttributeValue,
};
use changefold::{
    record::Timestamp,
    recovery::consumer::LOCAL,
    view::{Views, registry::Owner, sql},
};
use serde_json::json;

/// Two views of orders: one that adds up, one that shows.
const VIEWS: &str = "
CREATE MATERIALIZED VIEW totals AS
SELECT customer.id AS customer_id, count(*) AS orders, sum(amount) AS total
FROM orders WHERE status <> 'CANCELLED' GROUP BY customer.id;
CREATE MATERIALIZED VIEW open_orders AS
SELECT order_id, amount FROM orders WHERE status = 'PLACED';
";

pub(crate) fn dynamodb(url: &str) -> Client {
    let config = aws_sdk_dynamodb::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(aws_sdk_dynamodb::config::Region::new("us-east-1"))
        .credentials_provider(support::local_endpoint(None).credentials)
        .endpoint_url(url)
        .retry_config(RetryConfig::disabled())
        .http_client(changefold::store::network())
        .build();
    Client::from_conf(config)
}

/// The `number`th change. Every order is placed and then changed once, so that a change which is
/// lost is missing for good.
fn order(number: u32) -> (String, serde_json::Value) {
    let place = number / 2;
    let key = format!("o{place}");
    let later = ["PAID", "CANCELLED", "PLACED"][(place % 3) as usize];
    let item = json!({
        "order_id": {"S": key},
        "customer": {"M": {"id": {"S": format!("planted-7f3a-{}", number % 11)}}},
        "amount": {"N": format!("{}.{:02}", number % 500, number % 100)},
        "status": {"S": if number.is_multiple_of(2) { "PLACED" } else { later }},
    });
    (key, item)
}

/// Puts one order; when it returns, the put was acknowledged.
async fn put(client: &Client, number: u32) -> Result<(), String> {
    let (key, item) = order(number);
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let customer = AttributeValue::S(text(&item["customer"]["M"]["id"]["S"]));
    client
        .put_item()
        .table_name("orders")
        .item("order_id", AttributeValue::S(key))
        .item("customer", AttributeValue::M([("id".to_owned(), customer)].into()))
        .item("amount", AttributeValue::N(text(&item["amount"]["N"])))
        .item("status", AttributeValue::S(text(&item["status"]["S"])))
        .send()
        .await
        .map(|_| ())
        .map_err(|error| format!("{error:?}"))
}

/// The items after so many puts.
fn items(numbers: impl Iterator<Item = u32>) -> oracle::Items {
    numbers.map(order).collect()
}

/// What differs between the views at an endpoint and `SQLite`.
async fn differences(url: &str, items: &oracle::Items) -> Vec<String> {
    let store = support::endpoint(url);
    let views = sql::parse(VIEWS).unwrap();
    let tables = ("changefold_ledger", "changefold_");
    let deadline = Timestamp(i64::MAX);
    let views = Views::attach(views, store, tables, &Owner::new(LOCAL), deadline).await.unwrap();
    let mut found = Vec::new();
    for (at, statement) in oracle::statements(VIEWS).iter().enumerate() {
        let listing = views.rows(at, usize::MAX).await.unwrap();
        found.extend(oracle::compare(statement, "orders", items, &listing).err());
    }
    found
}
