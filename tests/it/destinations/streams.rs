//! Ranges of Kinesis and of a table's stream, read from servers that hold them.

use super::{config, services};
use crate::support::{FOREVER, block_on, environment};
use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, KeySchemaElement, KeyType,
    ScalarAttributeType, StreamSpecification, StreamViewType,
};
use aws_smithy_types::Blob;
use changefold::{
    clock::{Clock, SystemClock},
    event::{self, Value},
    record::{Change, RemoveCause, SequenceNumber, Source, Timestamp},
    recovery::{
        fetch::{Lost, Streams, Why},
        notice::Notice,
    },
};
use std::time::Duration;

fn notice(source: Source, stream_arn: &str, shard_id: &str, numbers: &[String]) -> Notice {
    let number = |text: &String| SequenceNumber::new(text.clone()).unwrap();
    Notice {
        source,
        stream_arn: stream_arn.to_owned(),
        shard_id: shard_id.to_owned(),
        first: number(&numbers[0]),
        last: number(&numbers[numbers.len() - 1]),
        batch_size: numbers.len() as u64,
        condition: "RetryAttemptsExhausted".to_owned(),
        first_arrival: Some(SystemClock.now()),
        last_arrival: None,
        payload: None,
        function_arn: String::new(),
    }
}

/// All pages of a range, what is lost of it, and how long the rest is kept.
struct Fetched {
    records: Vec<String>,
    lost: Option<Lost>,
    time_left: Option<Duration>,
}

async fn fetch(streams: &Streams, notice: &Notice) -> Fetched {
    let mut range = streams.range(notice);
    let mut records = Vec::new();
    while let Some(page) = range.page(FOREVER).await.unwrap() {
        records.extend(page);
    }
    let time_left = streams.time_left(notice, FOREVER).await;
    Fetched { records, lost: range.lost(), time_left }
}

fn event_of(fetched: &Fetched) -> String {
    format!(r#"{{"Records":[{}]}}"#, fetched.records.join(","))
}

fn nearly_a_day(time_left: Option<Duration>) {
    let minutes = Duration::from_mins(24 * 60 - 1)..=Duration::from_hours(24);
    assert!(time_left.is_some_and(|left| minutes.contains(&left)), "{time_left:?}");
}

#[track_caller]
fn all_lost(fetched: &Fetched, notice: &Notice, why: &[Why]) {
    assert!(fetched.records.is_empty());
    let lost = fetched.lost.as_ref().expect("all of it is lost");
    assert_eq!((lost.records, &lost.from, &lost.until), (notice.batch_size, &notice.first, &None));
    assert!(why.contains(&lost.why), "{lost:?}");
}

#[test]
fn a_range_of_kinesis_is_what_was_written() {
    let Some(server) = environment("CHANGEFOLD_TEST_KINESIS") else { return };
    block_on(async {
        let kinesis = aws_sdk_kinesis::Client::from_conf(config!(aws_sdk_kinesis, &server).build());
        kinesis.create_stream().stream_name("clicks").shard_count(1).send().await.unwrap();
        let summary = loop {
            let answer = kinesis.describe_stream_summary().stream_name("clicks").send().await;
            let summary = answer.unwrap().stream_description_summary.unwrap();
            if summary.stream_status == aws_sdk_kinesis::types::StreamStatus::Active {
                break summary;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        let mut numbers = Vec::new();
        let mut shard = String::new();
        for number in 0..40 {
            let put =
                kinesis.put_record().stream_name("clicks").partition_key(format!("k{number}"));
            let data = Blob::new(format!("{{\"click\":{number}}}"));
            let put = put.data(data).send().await.unwrap();
            numbers.push(put.sequence_number);
            shard = put.shard_id;
        }
        let streams = Streams::new(&services(&server));
        let consumer = format!("{}/consumer/c:1", summary.stream_arn);
        let range = notice(Source::Kinesis, &consumer, &shard, &numbers[5..35]);
        let fetched = fetch(&streams, &range).await;
        assert_eq!(fetched.lost, None);
        nearly_a_day(fetched.time_left);
        let text = event_of(&fetched);
        let batch = event::parse(text.as_bytes());
        let records = batch.records().unwrap();
        assert_eq!(records.len(), 30);
        for (record, index) in records.iter().zip(5..) {
            let number: &str = &numbers[index];
            assert_eq!(record.sequence_number().as_str(), number);
            assert_eq!(record.event_id(), Some(&*format!("{shard}:{number}")));
            assert_eq!(record.stream_name(), Some("clicks"));
            let data = format!("{{\"click\":{index}}}");
            assert_eq!(record.data().unwrap(), Some(data.as_bytes()));
            let age_ms = SystemClock.now().0 - record.approximate_arrival().unwrap().0;
            assert!((0..60_000).contains(&age_ms), "{age_ms}");
        }
        // In small pages, and longer than the batch: as a filter would leave it.
        let narrow = Notice { batch_size: 2, ..range.clone() };
        let mut pages = streams.range(&narrow);
        let mut sizes = Vec::new();
        while let Some(page) = pages.page(FOREVER).await.unwrap() {
            sizes.push(page.len());
        }
        assert_eq!((sizes, pages.lost()), (vec![2, 28], None));

        let no_shard = Notice { shard_id: "shardId-000000000009".to_owned(), ..range.clone() };
        let fetched = fetch(&streams, &no_shard).await;
        all_lost(&fetched, &no_shard, &[Why::NoShard]);
        let no_stream = summary.stream_arn.replace("clicks", "none");
        let no_stream = Notice { stream_arn: no_stream, ..range.clone() };
        let fetched = fetch(&streams, &no_stream).await;
        all_lost(&fetched, &no_stream, &[Why::NoShard]);
        assert_eq!(fetched.time_left, None);
        let strange = notice(Source::Kinesis, &consumer, &shard, &["1".to_owned(), "2".to_owned()]);
        let fetched = fetch(&streams, &strange).await;
        // AWS knows the shard and not the position; this server looks for the shard in it.
        let any = [Why::Trimmed, Why::NoShard, Why::UnknownPosition];
        all_lost(&fetched, &strange, &any);
    });
}

/// Makes a table with a stream; gives the stream's ARN.
pub(super) async fn table_with_stream(dynamodb: &aws_sdk_dynamodb::Client, name: &str) -> String {
    let id = AttributeDefinition::builder()
        .attribute_name("id")
        .attribute_type(ScalarAttributeType::S)
        .build();
    let key = KeySchemaElement::builder().attribute_name("id").key_type(KeyType::Hash).build();
    let stream = StreamSpecification::builder()
        .stream_enabled(true)
        .stream_view_type(StreamViewType::NewAndOldImages)
        .build();
    let request = dynamodb.create_table().table_name(name).attribute_definitions(id.unwrap());
    let request = request.key_schema(key.unwrap()).stream_specification(stream.unwrap());
    let created = request.billing_mode(BillingMode::PayPerRequest).send().await.unwrap();
    created.table_description.unwrap().latest_stream_arn.unwrap()
}

#[test]
fn a_range_of_a_tables_stream_is_what_was_written() {
    let Some(server) = environment("CHANGEFOLD_TEST_DYNAMODB_STREAMS") else { return };
    block_on(async {
        let config = config!(aws_sdk_dynamodb, &server).build();
        let dynamodb = aws_sdk_dynamodb::Client::from_conf(config);
        let stream_arn = table_with_stream(&dynamodb, "orders").await;
        let all_types = AttributeValue::M(
            [
                ("b".to_owned(), AttributeValue::B(Blob::new("foobar"))),
                ("bs".to_owned(), AttributeValue::Bs(vec![Blob::new([255])])),
                ("l".to_owned(), AttributeValue::L(vec![AttributeValue::Null(true)])),
                ("n".to_owned(), AttributeValue::N("-1.5".to_owned())),
                ("ns".to_owned(), AttributeValue::Ns(vec!["7".to_owned()])),
                ("ok".to_owned(), AttributeValue::Bool(true)),
                ("ss".to_owned(), AttributeValue::Ss(vec!["ä\"".to_owned()])),
            ]
            .into(),
        );
        let id = |number: u32| AttributeValue::S(format!("o-{number}"));
        for number in 0..10 {
            let put = dynamodb.put_item().table_name("orders").item("id", id(number));
            put.item("all", all_types.clone()).send().await.unwrap();
        }
        dynamodb.delete_item().table_name("orders").key("id", id(9)).send().await.unwrap();

        let config = config!(aws_sdk_dynamodbstreams, &server).build();
        let api = aws_sdk_dynamodbstreams::Client::from_conf(config);
        let described = api.describe_stream().stream_arn(&stream_arn).send().await.unwrap();
        let shard = described.stream_description.unwrap().shards.unwrap().remove(0);
        let shard = shard.shard_id.unwrap();
        let numbers = sequence_numbers(&api, &stream_arn, &shard).await;
        assert_eq!(numbers.len(), 11);

        let streams = Streams::new(&services(&server));
        let range = notice(Source::DynamoDb, &stream_arn, &shard, &numbers[4..]);
        let fetched = fetch(&streams, &range).await;
        assert_eq!(fetched.lost, None);
        nearly_a_day(fetched.time_left);
        let text = event_of(&fetched);
        let batch = event::parse(text.as_bytes());
        let records = batch.records().unwrap();
        assert_eq!(records.len(), 7);
        for (record, index) in records.iter().zip(4..) {
            assert_eq!(record.sequence_number().as_str(), numbers[index]);
            assert_eq!(record.stream_arn(), Some(&*stream_arn));
            assert!(record.approximate_arrival().is_some() && record.event_id().is_some());
        }
        let expected = Value::Map(vec![
            ("all".into(), expected_map()),
            ("id".into(), Value::Text("o-4".into())),
        ]);
        assert_eq!(records[0].values().unwrap(), Change::Insert { new: Some(expected) });
        let removed = records[6].values().unwrap();
        assert!(matches!(removed, Change::Remove { old: Some(_), cause: RemoveCause::User }));
        let sized = text.contains(r#""SizeBytes":"#) && text.contains("NEW_AND_OLD_IMAGES");
        assert!(sized, "{text}");

        let no_shard = Notice { shard_id: shard.replace(char::is_numeric, "0"), ..range.clone() };
        let fetched = fetch(&streams, &no_shard).await;
        all_lost(&fetched, &no_shard, &[Why::NoShard, Why::Trimmed]);
        // Before the oldest record: what a trimmed range looks like.
        let early = vec!["1".to_owned(), numbers[0].clone(), numbers[1].clone()];
        let early = notice(Source::DynamoDb, &stream_arn, &shard, &early);
        let fetched = fetch(&streams, &early).await;
        let lost = fetched.lost.expect("the first is not there");
        assert_eq!((fetched.records.len(), lost.records), (2, 1));
        assert_eq!(lost.until.unwrap().as_str(), numbers[0]);
        let old = Notice { first_arrival: Some(Timestamp(0)), ..early };
        let left = streams.time_left(&old, FOREVER).await;
        assert_eq!(left, Some(Duration::ZERO));
    });
}

fn expected_map() -> Value<'static> {
    Value::Map(vec![
        ("b".into(), Value::Binary(b"foobar".as_slice().into())),
        ("bs".into(), Value::BinarySet(vec![vec![255].into()])),
        ("l".into(), Value::List(vec![Value::Null])),
        ("n".into(), Value::Number("-1.5".into())),
        ("ns".into(), Value::NumberSet(vec!["7".into()])),
        ("ok".into(), Value::Bool(true)),
        ("ss".into(), Value::TextSet(vec!["ä\"".into()])),
    ])
}

/// Every position of a shard, asked for without the code under test.
pub(super) async fn sequence_numbers(
    api: &aws_sdk_dynamodbstreams::Client,
    stream_arn: &str,
    shard: &str,
) -> Vec<String> {
    let request = api.get_shard_iterator().stream_arn(stream_arn).shard_id(shard);
    let horizon = aws_sdk_dynamodbstreams::types::ShardIteratorType::TrimHorizon;
    let answer = request.shard_iterator_type(horizon).send().await.unwrap();
    let page = api.get_records().shard_iterator(answer.shard_iterator.unwrap()).send().await;
    let records = page.unwrap().records.unwrap();
    records.into_iter().map(|record| record.dynamodb.unwrap().sequence_number.unwrap()).collect()
}
