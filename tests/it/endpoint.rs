//! The desk's endpoint through the official clients: what they write is what they read, and what
//! is refused is refused by AWS's names.

mod kills;
mod kinesis;
mod tables;
mod wire;

use crate::support::config;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, KeySchemaElement, KeyType,
    ScalarAttributeType, StreamSpecification, StreamViewType,
};
use aws_sdk_dynamodbstreams::types::{Record, ShardIteratorType};
use changefold::{
    clock::{Clock, SystemClock},
    local::endpoint::{Endpoint, Serving},
    record::Timestamp,
};
use futures_util::future::BoxFuture;
use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

const HOUR_MS: i64 = 3_600_000;

/// The machine's clock, set forward by milliseconds; nobody waits long for it.
#[derive(Debug, Clone, Default)]
struct SetForward(Arc<AtomicI64>);

impl Clock for SetForward {
    fn now(&self) -> Timestamp {
        Timestamp(SystemClock.now().0 + self.0.load(Ordering::Relaxed))
    }

    fn sleep(&self, _: Duration) -> BoxFuture<'static, ()> {
        SystemClock.sleep(Duration::from_millis(20))
    }

    fn watch(&self, _: Timestamp) -> BoxFuture<'static, ()> {
        self.sleep(Duration::ZERO)
    }
}

impl SetForward {
    fn by(&self, millis: i64) {
        self.0.fetch_add(millis, Ordering::Relaxed);
    }
}

/// The three services, as a program finds them at one URL.
struct Clients {
    tables: aws_sdk_dynamodb::Client,
    streams: aws_sdk_dynamodbstreams::Client,
    kinesis: aws_sdk_kinesis::Client,
}

impl Clients {
    fn at(url: &str) -> Self {
        Self {
            tables: aws_sdk_dynamodb::Client::from_conf(config!(aws_sdk_dynamodb, url).build()),
            streams: aws_sdk_dynamodbstreams::Client::from_conf(
                config!(aws_sdk_dynamodbstreams, url).build(),
            ),
            kinesis: aws_sdk_kinesis::Client::from_conf(config!(aws_sdk_kinesis, url).build()),
        }
    }

    /// Makes a table with a stream, and says the stream's ARN.
    async fn create_table(&self, name: &str, view: StreamViewType) -> String {
        let key = KeySchemaElement::builder().attribute_name("id").key_type(KeyType::Hash);
        let attribute = AttributeDefinition::builder()
            .attribute_name("id")
            .attribute_type(ScalarAttributeType::S);
        let stream = StreamSpecification::builder().stream_enabled(true).stream_view_type(view);
        let made = self
            .tables
            .create_table()
            .table_name(name)
            .key_schema(key.build().unwrap())
            .attribute_definitions(attribute.build().unwrap())
            .billing_mode(BillingMode::PayPerRequest)
            .stream_specification(stream.build().unwrap());
        let made = made.send().await.unwrap().table_description.unwrap();
        made.latest_stream_arn.unwrap()
    }

    async fn put(&self, table: &str, id: &str, value: &str) {
        let put = self.tables.put_item().table_name(table);
        let put = put.item("id", AttributeValue::S(id.to_owned()));
        put.item("value", AttributeValue::N(value.to_owned())).send().await.unwrap();
    }

    /// The shard of a stream.
    async fn shard(&self, arn: &str) -> aws_sdk_dynamodbstreams::types::Shard {
        let described = self.streams.describe_stream().stream_arn(arn).send().await.unwrap();
        described.stream_description.unwrap().shards.unwrap().remove(0)
    }

    async fn begin(&self, arn: &str, kind: ShardIteratorType) -> String {
        let shard = self.shard(arn).await.shard_id.unwrap();
        let iterator = self.streams.get_shard_iterator().stream_arn(arn).shard_id(shard);
        let iterator = iterator.shard_iterator_type(kind).send().await.unwrap();
        iterator.shard_iterator.unwrap()
    }

    /// All records of a stream.
    async fn changes(&self, arn: &str) -> Vec<Record> {
        let mut next = Some(self.begin(arn, ShardIteratorType::TrimHorizon).await);
        let mut found = vec![];
        while let Some(iterator) = next {
            let answer = self.streams.get_records().shard_iterator(iterator).send().await.unwrap();
            let records = answer.records.unwrap_or_default();
            next = answer.next_shard_iterator.filter(|_| !records.is_empty());
            found.extend(records);
        }
        found
    }
}

async fn desk() -> (Endpoint, Clients, SetForward) {
    let clock = SetForward::default();
    let endpoint = Endpoint::start(Serving::in_memory(Arc::new(clock.clone()))).await.unwrap();
    let clients = Clients::at(&endpoint.url());
    (endpoint, clients, clock)
}
