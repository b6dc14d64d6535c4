//! Today's idiomatic Rust function: the official runtime parses the event into
//! `aws_lambda_events`, `serde_dynamo` reads both images into an owned type with all attributes.
//!
//! It is separate from our crate so that it is compiled with nothing of ours. What it gives
//! up: logging, so that nothing but the work is measured.

use aws_lambda_events::event::{
    dynamodb::Event,
    streams::{DynamoDbBatchItemFailure, DynamoDbEventResponse},
};
use lambda_runtime::{Error, LambdaEvent, service_fn};
use serde::Deserialize;
use std::hint::black_box;

#[derive(Debug, Deserialize)]
#[expect(dead_code, reason = "that all is read is what is measured")]
struct Order {
    pk: String,
    sk: String,
    status: String,
    total: f64,
    currency: String,
    #[serde(rename = "createdAt")]
    created_at: u64,
    paid: bool,
    version: u32,
    address: Address,
    items: Vec<Line>,
    tags: Vec<String>,
    #[serde(with = "serde_bytes")]
    sig: Vec<u8>,
    note: Option<String>,
}

#[derive(Debug, Deserialize)]
#[expect(dead_code, reason = "that all is read is what is measured")]
struct Address {
    street: String,
    city: String,
    zip: String,
}

#[derive(Debug, Deserialize)]
#[expect(dead_code, reason = "that all is read is what is measured")]
struct Line {
    sku: String,
    qty: u32,
    price: f64,
}

fn order(item: serde_dynamo::Item) -> Result<Option<Order>, serde_dynamo::Error> {
    if item.is_empty() { Ok(None) } else { serde_dynamo::from_item(item).map(Some) }
}

async fn handle(event: LambdaEvent<Event>) -> Result<DynamoDbEventResponse, Error> {
    let mut response = DynamoDbEventResponse::default();
    for record in event.payload.records {
        let new = order(record.change.new_image);
        let old = order(record.change.old_image);
        if new.is_err() || old.is_err() {
            let mut failure = DynamoDbBatchItemFailure::default();
            failure.item_identifier = record.change.sequence_number;
            response.batch_item_failures.push(failure);
            break;
        }
        let _ = black_box((new, old));
    }
    Ok(response)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    lambda_runtime::run(service_fn(handle)).await
}
