//! What the mapping gave up is parked before the stream forgets it, against real servers; and
//! what is parked is confirmed by table and destination.

use super::{
    config, queue, receive, services,
    streams::{sequence_numbers, table_with_stream},
};
use crate::support::{block_on, call, environment, local_endpoint};
use aws_sdk_dynamodb::types::AttributeValue;
use aws_smithy_types::{Blob, DateTime, date_time::Format};
use changefold::{
    batch::lanes::Lanes,
    clock::{Clock as _, SystemClock},
    handler::Function,
    operation::{self, Listing, Operation, Selection},
    processor::{self, Context, Failure, Processor},
    record::Change,
    recovery::{
        destination,
        durable::DurableState,
        park::{OnPark, Park, envelope::Envelope},
        progress::Progress,
        services::Services,
    },
    rescue::{Bucket, Rescue, Trust},
    store::{Store, embedded},
};
use serde::de::IgnoredAny;
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};

/// Keeps parks and progress in an embedded store of its own.
async fn durable_state() -> DurableState {
    let client = embedded::open(None).unwrap();
    let store = Store::new(client, &local_endpoint(None), Arc::new(SystemClock), 1);
    let durable = DurableState::none()
        .with_progress(Progress::new(store.clone(), "progress".to_owned(), 24))
        .with_park(Park::new(store, "park".to_owned(), OnPark::Hold, 24));
    durable.ensure_tables(crate::support::FOREVER).await.unwrap();
    durable
}

/// A function `f` whose processor sees nothing that works; it takes back what the mapping gave
/// up of one stream, also out of the bucket `given-up`.
fn function(
    durable: DurableState,
    rescued: Option<(Services, &str)>,
) -> Function<Lanes<impl Processor>> {
    let refuses = processor::from_fn(async |_: Change<IgnoredAny>, _: &Context<'_>| {
        Err(Failure::park("it refuses everything").with_code("Refused"))
    });
    let lanes = Lanes::new(refuses, Arc::new(SystemClock)).with_durable_state(durable);
    let rescue = rescued.map(|(services, stream)| {
        let bucket = Bucket { name: "given-up".to_owned(), owner: "000000000000".to_owned() };
        Rescue::new(services, Trust::new("f", vec![stream.to_owned()], vec![bucket]))
    });
    Function::new(lanes, Arc::new(SystemClock)).with_rescue(rescue)
}

async fn ask(function: &Function<Lanes<impl Processor>>, event: &[u8]) -> Value {
    serde_json::to_value(function.invoke(event, &call()).await.unwrap()).unwrap()
}

async fn parked(function: &Function<Lanes<impl Processor>>) -> Vec<(String, String, u64)> {
    let list = operation::event(Operation::List(Selection::default()));
    let listing: Listing = serde_json::from_value(ask(function, &list).await).unwrap();
    let mut parked: Vec<(String, String, u64)> =
        listing.parked.into_iter().map(|it| (it.key, it.error_code, it.held_behind)).collect();
    parked.sort();
    parked
}

/// The mapping's own document; the records are young enough to be kept for nearly a day.
fn document(kind: &str, stream_arn: &str, shard: &str, numbers: &[String]) -> Value {
    let now = DateTime::from_millis(SystemClock.now().0).fmt(Format::DateTime).unwrap();
    json!({
        "requestContext": {
            "requestId": "a", "functionArn": "arn:aws:lambda:us-east-1:1:function:f",
            "condition": "RetryAttemptsExhausted", "approximateInvokeCount": 3,
        },
        "responseContext": {
            "statusCode": 200, "executedVersion": "$LATEST", "functionError": null,
        },
        "version": "1.0", "timestamp": "2026-11-21T10:00:00.000Z",
        kind: {
            "shardId": shard,
            "startSequenceNumber": numbers.first(), "endSequenceNumber": numbers.last(),
            "approximateArrivalOfFirstRecord": now, "approximateArrivalOfLastRecord": now,
            "batchSize": numbers.len(), "streamArn": stream_arn,
        },
    })
}

fn queue_event(bodies: &[Value]) -> Vec<u8> {
    let message = |(at, body): (usize, &Value)| {
        json!({
            "messageId": format!("m{at}"), "receiptHandle": "r", "body": body.to_string(),
            "attributes": {"ApproximateReceiveCount": "1", "SentTimestamp": "1545082649183"},
            "messageAttributes": {}, "eventSource": "aws:sqs",
            "eventSourceARN": "arn:aws:sqs:us-east-1:1:given-up", "awsRegion": "us-east-1",
        })
    };
    let records: Vec<Value> = bodies.iter().enumerate().map(message).collect();
    json!({ "Records": records }).to_string().into_bytes()
}

#[test]
fn what_the_mapping_gave_up_of_kinesis_is_parked_once_and_held() {
    let Some(server) = environment("CHANGEFOLD_TEST_KINESIS") else { return };
    block_on(async {
        let kinesis = aws_sdk_kinesis::Client::from_conf(config!(aws_sdk_kinesis, &server).build());
        kinesis.create_stream().stream_name("given-up").shard_count(1).send().await.unwrap();
        let stream_arn = loop {
            let answer = kinesis.describe_stream_summary().stream_name("given-up").send().await;
            let summary = answer.unwrap().stream_description_summary.unwrap();
            if summary.stream_status == aws_sdk_kinesis::types::StreamStatus::Active {
                break summary.stream_arn;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        let (mut numbers, mut shard) = (Vec::new(), String::new());
        for number in 0..20 {
            let put = kinesis.put_record().stream_name("given-up");
            let put = put.partition_key(format!("k{}", number % 4));
            let put = put.data(Blob::new(format!("{{\"n\":{number}}}"))).send().await.unwrap();
            numbers.push(put.sequence_number);
            shard = put.shard_id;
        }
        let function = function(durable_state().await, Some((services(&server), &stream_arn)));
        let range = document("KinesisBatchInfo", &stream_arn, &shard, &numbers[5..15]);
        let nowhere = document("KinesisBatchInfo", &stream_arn, "shardId-9", &numbers[5..15]);
        // A message whose records cannot be saved is kept, by its id.
        let reply = ask(&function, &queue_event(&[nowhere, range.clone()])).await;
        assert_eq!(reply, json!({"batchItemFailures": [{"itemIdentifier": "m0"}]}));
        let of = |key: &str, behind| (key.to_owned(), "RetryAttemptsExhausted".to_owned(), behind);
        // Records 5 to 14 of four keys: each key's first is parked, the others queue behind.
        let expected = [of("k0", 1), of("k1", 2), of("k2", 2), of("k3", 1)];
        assert_eq!(parked(&function).await, expected);
        // Again, by hand: nothing is parked twice.
        let answer = ask(&function, range.to_string().as_bytes()).await;
        assert_eq!((&answer["rescued"], &answer["known"]), (&json!(0), &json!(10)), "{answer}");
        assert_eq!(answer["lost"], json!(0));
        assert!(answer["time_left_s"].as_u64().is_some_and(|left| left > 0), "{answer}");
        assert_eq!(parked(&function).await, expected);
    });
}

#[test]
fn what_the_mapping_gave_up_of_a_table_is_parked_and_the_lost_is_counted() {
    let Some(server) = environment("CHANGEFOLD_TEST_DYNAMODB_STREAMS") else { return };
    block_on(async {
        let dynamodb =
            aws_sdk_dynamodb::Client::from_conf(config!(aws_sdk_dynamodb, &server).build());
        let stream_arn = table_with_stream(&dynamodb, "given-up").await;
        for number in 0..6 {
            let id = AttributeValue::S(format!("o-{}", number % 2));
            let put = dynamodb.put_item().table_name("given-up").item("id", id);
            put.item("n", AttributeValue::N(number.to_string())).send().await.unwrap();
        }
        let config = config!(aws_sdk_dynamodbstreams, &server).build();
        let api = aws_sdk_dynamodbstreams::Client::from_conf(config);
        let described = api.describe_stream().stream_arn(&stream_arn).send().await.unwrap();
        let shard = described.stream_description.unwrap().shards.unwrap().remove(0);
        let shard = shard.shard_id.unwrap();
        let numbers = sequence_numbers(&api, &stream_arn, &shard).await;
        let function = function(durable_state().await, Some((services(&server), &stream_arn)));
        // One record before the oldest there is: the stream has trimmed it.
        let asked = [&["1".to_owned()], &numbers[..4]].concat();
        let range = document("DDBStreamBatchInfo", &stream_arn, &shard, &asked);
        let answer = ask(&function, range.to_string().as_bytes()).await;
        assert_eq!((&answer["rescued"], &answer["lost"]), (&json!(4), &json!(1)), "{answer}");
        let of = |key: &str| (key.to_owned(), "RetryAttemptsExhausted".to_owned(), 1);
        assert_eq!(parked(&function).await, [of("id=o-0"), of("id=o-1")]);
    });
}

#[test]
fn a_buckets_object_has_the_records_itself() {
    let Some(server) = environment("CHANGEFOLD_TEST_MINISTACK") else { return };
    block_on(async {
        let config = config!(aws_sdk_s3, &server).force_path_style(true).build();
        let s3 = aws_sdk_s3::Client::from_conf(config);
        s3.create_bucket().bucket("given-up").send().await.unwrap();
        let record = crate::support::order(7, "INSERT", "a", None);
        let stream =
            "arn:aws:dynamodb:us-east-1:123456789012:table/orders/stream/2026-09-17T12:50:51.000";
        let mut document = document("DDBStreamBatchInfo", stream, "shardId-1", &["7".to_owned()]);
        document["payload"] = json!(format!(r#"{{"Records":[{record}]}}"#));
        let key = "aws/lambda/uuid/shardId-1/2026/11/21/2026-11-21T10.00.00-x";
        let body = aws_sdk_s3::primitives::ByteStream::from(document.to_string().into_bytes());
        s3.put_object().bucket("given-up").key(key).body(body).send().await.unwrap();
        let event = json!({"Records": [{
            "eventVersion": "2.1", "eventSource": "aws:s3", "eventName": "ObjectCreated:Put",
            "s3": {"bucket": {"name": "given-up"}, "object": {"key": key.replace(':', "%3A")}},
        }]});
        let function = function(durable_state().await, Some((services(&server), stream)));
        let answer = ask(&function, event.to_string().as_bytes()).await;
        assert_eq!(answer["rescued"], json!(1), "{answer}");
        let expected = ("pk=a".to_owned(), "RetryAttemptsExhausted".to_owned(), 0);
        assert_eq!(parked(&function).await, [expected]);
    });
}

#[test]
fn a_record_is_parked_when_table_and_destination_have_it() {
    let Some(server) = environment("CHANGEFOLD_TEST_MINISTACK") else { return };
    block_on(async {
        let sqs = aws_sdk_sqs::Client::from_conf(config!(aws_sdk_sqs, &server).build());
        let url = queue(&sqs, "set-aside").await;
        let event = format!(
            r#"{{"Records":[{},{}]}}"#,
            crate::support::order(1, "INSERT", "a", None),
            crate::support::order(2, "INSERT", "a", None)
        );
        let to = |address: &str| destination::open(address, &services(&server)).unwrap();
        let sent = function(durable_state().await.with_destination(to(&url)), None);
        assert_eq!(ask(&sent, event.as_bytes()).await, json!({"batchItemFailures": []}));
        assert_eq!(parked(&sent).await, [("pk=a".to_owned(), "Refused".to_owned(), 1)]);
        let bodies = receive(&sqs, &url, 2).await;
        let mut found: Vec<Envelope> =
            bodies.iter().map(|body| serde_json::from_str(body).unwrap()).collect();
        found.sort_by(|a, b| a.sequence_number.cmp(&b.sequence_number));
        assert_eq!(found[0].error_code, "Refused");
        assert_eq!(found[1].error_code, "HeldBehindParked");
        // Without the destination's word the record is not finished, and not parked either.
        let missing = format!("{server}/000000000000/not-there");
        let unsent = function(durable_state().await.with_destination(to(&missing)), None);
        let named = json!({"batchItemFailures": [{"itemIdentifier": "1"}]});
        assert_eq!(ask(&unsent, event.as_bytes()).await, named);
        assert_eq!(parked(&unsent).await, []);
    });
}
