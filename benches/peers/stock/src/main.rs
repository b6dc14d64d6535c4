//! What people write today to keep a count per group: one `ADD` for each change.
//!
//! The runtime, the event types and the client are set up as their own guides do. It is at
//! least once only; what it is measured for is how soon the first reply is there.

use aws_config::BehaviorVersion;
use aws_lambda_events::event::dynamodb::Event;
use aws_sdk_dynamodb::{Client, types::AttributeValue};
use lambda_runtime::{Error, LambdaEvent, run, service_fn};
use serde_dynamo::AttributeValue as Attribute;

#[tokio::main]
async fn main() -> Result<(), Error> {
    let config = aws_config::load_defaults(BehaviorVersion::latest()).await;
    let client = Client::new(&config);
    let table = std::env::var("STOCK_TABLE")?;
    run(service_fn(async |event: LambdaEvent<Event>| {
        for record in event.payload.records {
            let Some(Attribute::S(region)) = record.change.new_image.get("region") else {
                continue;
            };
            client
                .update_item()
                .table_name(&table)
                .key("_pk", AttributeValue::S(region.clone()))
                .update_expression("ADD orders :one")
                .expression_attribute_values(":one", AttributeValue::N("1".to_owned()))
                .send()
                .await?;
        }
        Ok::<(), Error>(())
    }))
    .await
}
