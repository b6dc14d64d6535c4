//! The recorded events, read by `aws_lambda_events` and by us.

use super::fixture;
use aws_lambda_events::{dynamodb, kinesis};
use changefold::{
    event::{self, Record, RecordKey, Value},
    record::{Change, Timestamp},
};
use serde_dynamo::{AttributeValue, Item};
#[cfg(feature = "aws_lambda_events")]
use {changefold::event::DecodeError, serde::de::DeserializeOwned, std::fmt::Debug};

/// The other crate's tree of attribute values as ours, maps sorted by name.
pub(crate) fn value(attribute: &AttributeValue) -> Value<'static> {
    fn texts(set: &[String]) -> Vec<std::borrow::Cow<'static, str>> {
        set.iter().map(|text| text.clone().into()).collect()
    }
    match attribute {
        AttributeValue::N(digits) => Value::Number(digits.clone().into()),
        AttributeValue::S(text) => Value::Text(text.clone().into()),
        AttributeValue::Bool(value) => Value::Bool(*value),
        AttributeValue::B(bytes) => Value::Binary(bytes.clone().into()),
        AttributeValue::Null(_) => Value::Null,
        AttributeValue::M(map) => item(map),
        AttributeValue::L(list) => Value::List(list.iter().map(value).collect()),
        AttributeValue::Ss(set) => Value::TextSet(texts(set)),
        AttributeValue::Ns(set) => Value::NumberSet(texts(set)),
        AttributeValue::Bs(set) => {
            Value::BinarySet(set.iter().map(|bytes| bytes.clone().into()).collect())
        }
    }
}

#[expect(clippy::disallowed_types, reason = "the other crate's type; sorted at once")]
pub(crate) fn item(item: &std::collections::HashMap<String, AttributeValue>) -> Value<'static> {
    sorted(Value::Map(
        item.iter().map(|(name, attribute)| (name.clone().into(), value(attribute))).collect(),
    ))
}

/// The value with all its maps in order of name.
pub(crate) fn sorted(value: Value<'_>) -> Value<'static> {
    match value.into_owned() {
        Value::Map(members) => {
            let mut members: Vec<_> =
                members.into_iter().map(|(name, value)| (name, sorted(value))).collect();
            members.sort_by(|(a, _), (b, _)| a.cmp(b));
            Value::Map(members)
        }
        Value::List(list) => Value::List(list.into_iter().map(sorted).collect()),
        other => other,
    }
}

/// The record as a type of `aws_lambda_events` is what that crate itself reads from the same
/// bytes, and is refused where it is refused there.
#[cfg(feature = "aws_lambda_events")]
#[track_caller]
pub(crate) fn check_conversion<'r, T>(record: &'r Record<'_>)
where
    T: TryFrom<&'r Record<'r>, Error = DecodeError> + DeserializeOwned + PartialEq + Debug,
{
    let theirs = serde_json::from_str::<T>(record.raw());
    match (T::try_from(record), theirs) {
        (Ok(ours), Ok(theirs)) => assert_eq!(ours, theirs),
        (Err(_), Err(_)) => {}
        // Which of two members counts is nobody's guess.
        (Err(error), Ok(_)) => assert_eq!(error.code(), "Repeated", "{error}: {}", record.raw()),
        // DIFFERENCE: what nobody asks for is only balanced here.
        (Ok(_), Err(error)) => assert!(error.is_syntax(), "{error}: {}", record.raw()),
    }
}

#[cfg(not(feature = "aws_lambda_events"))]
pub(crate) fn check_conversion<T>(_: &Record<'_>) {}

/// DIFFERENCE: `aws_lambda_events` makes an absent image an empty one.
fn or_empty(image: Option<Value<'_>>) -> Value<'static> {
    image.map_or(Value::Map(Vec::new()), sorted)
}

#[track_caller]
pub(crate) fn check_dynamodb(payload: &[u8]) {
    let theirs: dynamodb::Event = serde_json::from_slice(payload).unwrap();
    let batch = event::parse(payload);
    let ours = batch.records().unwrap();
    assert_eq!(ours.len(), theirs.records.len());
    for (ours, theirs) in ours.iter().zip(&theirs.records) {
        check_conversion::<dynamodb::EventRecord>(ours);
        let body = &theirs.change;
        assert_eq!(Some(ours.sequence_number().as_str()), body.sequence_number.as_deref());
        assert_eq!(ours.stream_arn(), theirs.event_source_arn.as_deref());
        assert_eq!(ours.event_id(), Some(theirs.event_id.as_str()));
        let millis = body.approximate_creation_date_time.timestamp_millis();
        assert_eq!(ours.approximate_arrival().unwrap_or_default(), Timestamp(millis));
        match ours.keys() {
            Ok(RecordKey::Item(keys)) => assert_eq!(Value::Map(keys), item(&body.keys)),
            Ok(RecordKey::Partition(_)) => panic!("a partition key"),
            Err(error) => {
                assert_eq!((error.code(), body.keys.len()), ("Missing", 0), "{error}");
            }
        }
        let image = |image: &Item| item(image);
        match ours.values().unwrap() {
            Change::Insert { new } => {
                assert_eq!(theirs.event_name, "INSERT");
                assert_eq!(or_empty(new), image(&body.new_image));
            }
            Change::Modify { old, new } => {
                assert_eq!(theirs.event_name, "MODIFY");
                assert_eq!(or_empty(new), image(&body.new_image));
                assert_eq!(or_empty(old), image(&body.old_image));
            }
            Change::Remove { old, .. } => {
                assert_eq!(theirs.event_name, "REMOVE");
                assert_eq!(or_empty(old), image(&body.old_image));
            }
        }
    }
}

#[track_caller]
pub(crate) fn check_kinesis(payload: &[u8]) {
    let theirs: kinesis::KinesisEvent = serde_json::from_slice(payload).unwrap();
    let batch = event::parse(payload);
    let ours = batch.records().unwrap();
    assert_eq!(ours.len(), theirs.records.len());
    for (ours, theirs) in ours.iter().zip(&theirs.records) {
        check_conversion::<kinesis::KinesisEventRecord>(ours);
        let body = &theirs.kinesis;
        assert_eq!(ours.sequence_number().as_str(), body.sequence_number);
        assert_eq!(ours.stream_arn(), theirs.event_source_arn.as_deref());
        assert_eq!(ours.event_id(), theirs.event_id.as_deref());
        assert_eq!(ours.keys(), Ok(RecordKey::Partition(body.partition_key.as_str().into())));
        let millis = body.approximate_arrival_timestamp.0.timestamp_millis();
        assert_eq!(ours.approximate_arrival(), Some(Timestamp(millis)));
        assert_eq!(ours.data(), Ok(Some(body.data.0.as_slice())));
    }
}

#[test]
fn recorded_dynamodb_events_read_as_aws_lambda_events_reads_them() {
    check_dynamodb(&fixture("example-dynamodb-event.json"));
    check_dynamodb(&fixture("example-dynamodb-event-null-items.json"));
}

#[test]
fn recorded_kinesis_events_read_as_aws_lambda_events_reads_them() {
    check_kinesis(&fixture("example-kinesis-event.json"));
    check_kinesis(&fixture("example-kinesis-event-encrypted.json"));
}

#[test]
fn a_recorded_record_without_sequence_number_is_refused() {
    let record = fixture("example-dynamodb-event-record-with-optional-fields.json");
    let payload = [b"{\"Records\":[", record.as_slice(), b"]}"].concat();
    assert!(serde_json::from_slice::<dynamodb::Event>(&payload).is_ok());
    let batch = event::parse(&payload);
    assert_eq!(batch.records().unwrap_err().code(), "SequenceNumberMissing");
    // With a number, everything else it leaves out is optional to us as well.
    let numbered = String::from_utf8(payload)
        .unwrap()
        .replace("\"Keys\"", "\"SequenceNumber\":\"1\",\"Keys\"");
    check_dynamodb(numbered.as_bytes());
}

#[cfg(feature = "aws_lambda_events")]
#[test]
fn a_record_of_another_service_and_one_with_a_member_twice_are_no_record_of_theirs() {
    let payload = fixture("example-kinesis-event.json");
    let batch = event::parse(&payload);
    let error = dynamodb::EventRecord::try_from(&batch.records().unwrap()[0]).unwrap_err();
    assert_eq!(error.to_string(), "`eventSource` is an unknown name, expected `aws:dynamodb`");
    let twice = r#"{"Records":[{"eventSource":"aws:dynamodb","dynamodb":{"SequenceNumber":"1","Keys":{},"Keys":{}}}]}"#;
    let batch = event::parse(twice.as_bytes());
    let error = dynamodb::EventRecord::try_from(&batch.records().unwrap()[0]).unwrap_err();
    assert_eq!(error.code(), "Repeated");
    // What does not fit is named by its place, and not repeated.
    let secret = r#"{"Records":[{"eventID":"1","eventName":"INSERT","awsRegion":"r","eventSource":"aws:dynamodb","dynamodb":{"SequenceNumber":"1","SizeBytes":"s3cret","ApproximateCreationDateTime":1}}]}"#;
    let batch = event::parse(secret.as_bytes());
    let error = dynamodb::EventRecord::try_from(&batch.records().unwrap()[0]).unwrap_err();
    assert_eq!(error.path(), "record.dynamodb.SizeBytes");
    assert!(!error.to_string().contains("s3cret"), "{error}");
}
