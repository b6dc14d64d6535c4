//! Events, read through the public API: the decoder against `aws_lambda_events` and
//! `serde_json`, and what becomes of events and records that are not as they should be.

#![expect(clippy::unwrap_used, reason = "helpers of tests: a panic is the failure")]

mod agreement;
mod documents;
mod fuzzed;
mod generated;
mod sqs;

use changefold::{
    event::{self, DecodeError, EventError, Number, RecordKey, Value},
    record::{Change, RemoveCause, Source, Timestamp},
};
use serde::Deserialize;
use std::{collections::BTreeMap, fs, path::Path};

pub(crate) fn fixture(name: &str) -> Vec<u8> {
    fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/events").join(name)).unwrap()
}

/// An event of one DynamoDB record per body, numbered from 1.
pub(crate) fn dynamodb_event(name: &str, bodies: &[&str]) -> String {
    let records: Vec<String> = bodies
        .iter()
        .enumerate()
        .map(|(at, body)| {
            format!(
                r#"{{"eventSource":"aws:dynamodb","eventName":"{name}","dynamodb":{{"SequenceNumber":"{}",{body}}},"eventSourceARN":"arn:aws:dynamodb:eu-west-1:123456789012:table/orders/stream/2026-09-19T08:00:00.000"}}"#,
                at + 1
            )
        })
        .collect();
    format!(r#"{{"Records":[{}]}}"#, records.join(","))
}

/// An event of one Kinesis record with this data.
pub(crate) fn kinesis_event(data: &[u8]) -> String {
    format!(
        r#"{{"Records":[{{"kinesis":{{"partitionKey":"p","sequenceNumber":"7","data":"{}"}},"eventSource":"aws:kinesis","eventID":"shardId-000000000003:7","eventSourceARN":"arn:aws:kinesis:eu-west-1:123456789012:stream/clicks/consumer/fast:1"}}]}}"#,
        base64_simd::STANDARD.encode_to_string(data)
    )
}

/// The new image of a one-record insert with this `NewImage`, as `T`.
pub(crate) fn image<T: for<'a> Deserialize<'a>>(image: &str) -> Result<T, DecodeError> {
    let event = dynamodb_event("INSERT", &[&format!(r#""NewImage":{image}"#)]);
    let batch = event::parse(event.as_bytes());
    match batch.records().unwrap()[0].change()? {
        Change::Insert { new: Some(new) } => Ok(new),
        _ => panic!("an insert with its image"),
    }
}

#[track_caller]
fn check_event_error(payload: &str, code: &str, message: &str) {
    let batch = event::parse(payload.as_bytes());
    let error = batch.records().unwrap_err();
    assert_eq!((error.code(), error.to_string().as_str()), (code, message), "{payload}");
}

#[test]
fn an_event_that_cannot_be_trusted_says_why() {
    let record = |fields: &str| format!("{{\"Records\": [{{{fields}}}]}}");
    check_event_error(
        "{\"Records\": [\n  {]}",
        "EventNotJson",
        "the payload is not JSON: line 2, column 4: a member name in quotes is expected",
    );
    check_event_error(
        "{\"Records\": []} x",
        "EventNotJson",
        "the payload is not JSON: line 1, column 17: there is text after the value",
    );
    let no_records =
        "the payload has no `Records` array: it is not an event of a stream or a queue";
    check_event_error("{}", "EventWithoutRecords", no_records);
    check_event_error("[]", "EventWithoutRecords", no_records);
    check_event_error("{\"Records\": null}", "EventWithoutRecords", no_records);
    check_event_error("{\"Records\": [], \"Records\": []}", "EventWithoutRecords", no_records);
    let not_stream = |found: &str| {
        format!(
            "record 0 is not from a stream or a queue: `eventSource` is {found}, \
             expected `aws:dynamodb`, `aws:kinesis` or `aws:sqs`"
        )
    };
    check_event_error(&record(""), "EventSourceUnknown", &not_stream("missing"));
    check_event_error("{\"Records\": [7]}", "EventSourceUnknown", &not_stream("missing"));
    check_event_error(
        &record("\"eventSource\": \"aws:sns\""),
        "EventSourceUnknown",
        &not_stream("`aws:sns`"),
    );
    check_event_error(
        &record("\"eventSource\": \"my secret\""),
        "EventSourceUnknown",
        &not_stream("another"),
    );
}

#[test]
fn an_event_with_a_record_that_cannot_be_addressed_is_refused() {
    let kinesis = |body: &str| {
        let good = "{\"eventSource\":\"aws:kinesis\",\"kinesis\":{\"sequenceNumber\":\"1\"}}";
        format!("{{\"Records\": [{good}, {{\"eventSource\":\"aws:kinesis\", {body}}}]}}")
    };
    let none = "record 1 has no sequence number, so it cannot be reported as unfinished";
    check_event_error(&kinesis("\"a\":1"), "SequenceNumberMissing", none);
    check_event_error(&kinesis("\"kinesis\":[]"), "SequenceNumberMissing", none);
    check_event_error(&kinesis("\"kinesis\":{}"), "SequenceNumberMissing", none);
    check_event_error(
        &kinesis("\"kinesis\":{\"sequenceNumber\":2}"),
        "SequenceNumberMissing",
        none,
    );
    for number in ["", "-1", "1 ", "0x2", &"9".repeat(130)] {
        check_event_error(
            &kinesis(&format!("\"kinesis\":{{\"sequenceNumber\":\"{number}\"}}")),
            "SequenceNumberInvalid",
            "record 1 cannot be reported as unfinished",
        );
    }
    check_event_error(
        &kinesis("\"kinesis\":{\"sequenceNumber\":\"2\",\"sequenceNumber\":\"3\"}"),
        "EventMemberRepeated",
        "record 1 has `sequenceNumber` twice",
    );
    check_event_error(
        "{\"Records\": [{\"eventSource\":\"aws:kinesis\",\"kinesis\":{\"sequenceNumber\":\"1\"}},
          {\"eventSource\":\"aws:dynamodb\",\"dynamodb\":{\"SequenceNumber\":\"2\"}}]}",
        "EventSourcesMixed",
        "record 1 is from another service than record 0",
    );
}

#[test]
fn an_event_may_be_empty_or_of_a_tumbling_window() {
    let batch = event::parse(b" {\"Records\": [ ]} ");
    assert!(batch.records().unwrap().is_empty());
    let window = br#"{"Records":[{"eventSource":"aws:dynamodb","dynamodb":{"SequenceNumber":"1"}}],
        "window":{"start":"2026-09-19T09:00:00Z"},"state":{"Records":[1]},"shardId":"shardId-07"}"#;
    let batch = event::parse(window);
    assert_eq!(batch.records().unwrap()[0].shard_id(), Some("shardId-07"));
    assert!(matches!(event::parse(b"\xff").records(), Err(EventError::NotJson { .. })));
}

#[test]
fn a_record_says_where_it_is_from() {
    let event = dynamodb_event(
        "MODIFY",
        &[r#""ApproximateCreationDateTime":1.789651658E9,"Keys":{"sk":{"N":"2"},"pk":{"S":"a"}}"#],
    );
    let batch = event::parse(event.as_bytes());
    let record = &batch.records().unwrap()[0];
    assert_eq!(record.source(), Source::DynamoDb);
    assert_eq!(record.stream_name(), Some("orders"));
    assert_eq!(record.stream_label(), Some("2026-09-19T08:00:00.000"));
    assert_eq!(record.shard_id(), None);
    assert_eq!(record.approximate_arrival(), Some(Timestamp(1_789_651_658_000)));
    assert_eq!(
        record.keys(),
        Ok(RecordKey::Item(vec![
            ("pk".into(), Value::Text("a".into())),
            ("sk".into(), Value::Number("2".into())),
        ]))
    );
    assert!(record.raw().starts_with("{\"eventSource\"") && record.raw().ends_with("000\"}"));

    let event = kinesis_event(b"{}");
    let batch = event::parse(event.as_bytes());
    let record = &batch.records().unwrap()[0];
    assert_eq!(record.source(), Source::Kinesis);
    assert_eq!(record.stream_name(), Some("clicks"));
    assert_eq!(record.stream_label(), None);
    assert_eq!(record.shard_id(), Some("shardId-000000000003"));
    assert_eq!(record.approximate_arrival(), None);
    assert_eq!(record.keys(), Ok(RecordKey::Partition("p".into())));
}

#[test]
fn an_absent_image_is_not_an_empty_one() {
    type Item = BTreeMap<String, String>;
    let bodies = [r#""Keys":{}"#, r#""NewImage":{},"OldImage":null"#, r#""OldImage":{}"#];
    let event = dynamodb_event("MODIFY", &bodies);
    let batch = event::parse(event.as_bytes());
    let changes: Vec<Change<Item>> =
        batch.records().unwrap().iter().map(|record| record.change().unwrap()).collect();
    let empty = || Some(Item::new());
    assert_eq!(
        changes,
        [
            Change::Modify { old: None, new: None },
            Change::Modify { old: None, new: empty() },
            Change::Modify { old: empty(), new: None },
        ]
    );
}

#[test]
fn a_removal_names_its_cause() {
    let check = |identity: &str, expected| {
        let event = format!(
            r#"{{"Records":[{{"userIdentity":{identity},"eventSource":"aws:dynamodb","eventName":"REMOVE","dynamodb":{{"SequenceNumber":"1"}}}}]}}"#
        );
        let batch = event::parse(event.as_bytes());
        let found = match batch.records().unwrap()[0].values() {
            Ok(Change::Remove { old: None, cause }) => Ok(cause),
            Ok(_) => panic!("a removal"),
            Err(error) => Err(error.path().to_owned()),
        };
        assert_eq!(found, expected, "{identity}");
    };
    let service = "dynamodb.amazonaws.com";
    check(&format!(r#"{{"type":"Service","principalId":"{service}"}}"#), Ok(RemoveCause::Ttl));
    check(&format!(r#"{{"type":"Role","principalId":"{service}"}}"#), Ok(RemoveCause::User));
    check(r#"{"type":"Service","principalId":"other.amazonaws.com"}"#, Ok(RemoveCause::User));
    check(r#"{"principalId":null,"more":1}"#, Ok(RemoveCause::User));
    check("null", Ok(RemoveCause::User));
    check(r#"{"type":7}"#, Err("userIdentity.type".to_owned()));
}

#[test]
fn one_bad_record_costs_its_neighbours_nothing() {
    let good = r#""Keys":{"id":{"S":"k"}},"NewImage":{"id":{"S":"v"}}"#;
    let bad = [
        r#""NewImage":{"id":{"S":7}}"#,
        r#""NewImage":{"id":{"X":"v"}}"#,
        r#""NewImage":{"id":{}}"#,
        r#""NewImage":{"id":{"S":"v","N":"1"}}"#,
        r#""NewImage":{"id":"v"}"#,
        r#""NewImage":[]"#,
        r#""NewImage":{"id":{"N":"one"}}"#,
        r#""NewImage":{"id":{"B":"a"}}"#,
        r#""NewImage":{"id":{"BS":["AA==","?"]}}"#,
        r#""NewImage":{"id":{"S":"\ud800"}}"#,
        r#""NewImage":{"id":{"NULL":false}}"#,
        r#""NewImage":{},"NewImage":{}"#,
    ];
    for bad in bad {
        let event = dynamodb_event("INSERT", &[good, bad, good]);
        let batch = event::parse(event.as_bytes());
        let records = batch.records().unwrap();
        assert!(records[1].values().is_err(), "{bad}");
        assert_eq!(records[1].sequence_number().as_str(), "2");
        assert!(records[1].keys().is_err(), "{bad}");
        for at in [0, 2] {
            assert!(records[at].values().is_ok() && records[at].keys().is_ok(), "{bad}");
        }
    }
}

#[derive(Debug, Deserialize)]
#[expect(dead_code, reason = "only reading is tested")]
struct Order {
    id: String,
    lines: Vec<Line>,
}

#[derive(Debug, Deserialize)]
#[expect(dead_code, reason = "only reading is tested")]
struct Line {
    price: u8,
    state: Option<State>,
}

#[derive(Debug, Deserialize)]
enum State {
    Open,
}

#[test]
fn a_decode_error_names_the_place_and_never_a_value() {
    let check = |lines: &str, code: &str, message: &str| {
        let text = format!(r#"{{"id":{{"S":"o"}},"lines":{lines}}}"#);
        let error = image::<Order>(&text).unwrap_err();
        assert_eq!((error.code(), error.to_string().as_str()), (code, message), "{lines}");
    };
    let line = |fields: &str| format!(r#"{{"L":[{{"M":{{{fields}}}}}]}}"#);
    let price = "`NewImage.lines[0].price`";
    let price_of = |value: &str| line(&format!(r#""price":{value}"#));
    check(
        &price_of(r#"{"S":"4111"}"#),
        "TypeMismatch",
        &format!("{price} is a string, expected u8"),
    );
    check(
        &price_of(r#"{"N":"4111"}"#),
        "ValueRefused",
        &format!("{price} is an integer that does not fit, expected u8"),
    );
    check(
        &price_of(r#"{"N":"1.5"}"#),
        "TypeMismatch",
        &format!("{price} is a number with a fraction, expected u8"),
    );
    check(
        &price_of(r#"{"N":"4111x"}"#),
        "NumberInvalid",
        &format!("{price} is not a decimal number"),
    );
    check(&line(""), "Missing", &format!("{price} is missing"));
    check(
        &line(r#""price":{"N":"1"},"state":{"S":"4111"}"#),
        "UnknownName",
        "`NewImage.lines[0].state` is an unknown name, expected `Open`",
    );
    check(
        &line(r#""price":{"N":"1"},"price":{"N":"1"}"#),
        "Repeated",
        &format!("{price} is there twice"),
    );
    check(r#"{"S":"4111"}"#, "TypeMismatch", "`NewImage.lines` is a string, expected a sequence");
    assert!(matches!(image::<State>(r#"{"Open":{"NULL":true}}"#).unwrap(), State::Open));
}

#[test]
fn a_message_of_the_type_itself_is_dropped() {
    #[derive(Debug)]
    struct Card;
    impl<'de> Deserialize<'de> for Card {
        fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            let number = String::deserialize(deserializer)?;
            Err(serde::de::Error::custom(format!("{number} has no valid check digit")))
        }
    }
    let error = image::<BTreeMap<String, Option<Card>>>(r#"{"card":{"S":"4111"}}"#).unwrap_err();
    assert_eq!((error.code(), error.path()), ("Refused", "NewImage.*"));
    assert!(!format!("{error} {error:?}").contains("4111"), "{error:?}");
}

/// A path names the fields of the type; the keys of a map are the payload's, as its values are.
#[test]
fn the_key_of_a_map_stays_out_of_a_path() {
    #[derive(Debug, Deserialize)]
    #[expect(dead_code, reason = "only decoded")]
    struct Visits {
        by_person: BTreeMap<String, Visit>,
    }
    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only decoded")]
    struct Visit {
        minutes: Option<u32>,
        way: Option<Way>,
    }
    #[derive(Debug, Deserialize)]
    #[expect(dead_code, reason = "only decoded")]
    enum Way {
        Bus { line: u32 },
    }
    let check = |visit: &str, path: &str| {
        let attributes = format!(r#"{{"by_person":{{"M":{{"Ada Byron":{{"M":{{{visit}}}}}}}}}}}"#);
        let error = image::<Visits>(&attributes).unwrap_err();
        assert_eq!(error.path(), path);
        let told = format!("{error} {error:?}");
        assert!(!told.contains("Ada") && !told.contains("Byron"), "{told}");
    };
    check(r#""minutes":{"S":"Byron"}"#, "NewImage.by_person.*.minutes");
    check(r#""Byron":{"N":"1"}"#, "NewImage.by_person.*.*");
    check(
        r#""way":{"M":{"Bus":{"M":{"line":{"S":"Byron"}}}}}"#,
        "NewImage.by_person.*.way.Bus.line",
    );
    check(r#""way":{"M":{"Byron":{"M":{}}}}"#, "NewImage.by_person.*.way");
}

#[test]
fn an_unknown_event_name_is_the_records_error() {
    let event = dynamodb_event("UPSERT", &[r#""Keys":{"id":{"S":"a"}}"#]);
    let batch = event::parse(event.as_bytes());
    let record = &batch.records().unwrap()[0];
    let error = record.values().unwrap_err();
    assert_eq!((error.code(), error.path()), ("UnknownName", "eventName"));
    assert!(record.keys().is_ok());
}

#[test]
fn numbers_keep_every_digit() {
    let digits = "-12345678901234567890.123456789012345678";
    let text = format!(r#"{{"n":{{"N":"{digits}"}},"s":{{"NS":["1","{digits}"]}}}}"#);
    let value = image::<Whole>(&text).unwrap().0;
    assert_eq!(value.get("n"), Some(&Value::Number(digits.into())));
    assert_eq!(value.get("s"), Some(&Value::NumberSet(vec!["1".into(), digits.into()])));
    assert_eq!(image::<BTreeMap<String, Numbers>>(&text).unwrap()["n"].0, digits);
    let document = format!("[{digits}, 1e2]");
    let event = kinesis_event(document.as_bytes());
    let batch = event::parse(event.as_bytes());
    let Ok(Change::Insert { new: Some(numbers) }) =
        batch.records().unwrap()[0].change::<Vec<Number<'_>>>()
    else {
        panic!("a list of numbers")
    };
    assert_eq!(numbers[0].as_str(), digits);
    assert_eq!(numbers[1].as_str(), "1e2");
}

/// A `Value` that outlives the event of a test.
#[derive(Debug, PartialEq)]
pub(crate) struct Whole(pub(crate) Value<'static>);

impl<'de> Deserialize<'de> for Whole {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Value::deserialize(deserializer).map(|value| Self(value.into_owned()))
    }
}

/// A number's digits, or the first of a set.
struct Numbers(String);

impl<'de> Deserialize<'de> for Numbers {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::Number(digits) => Ok(Self(digits.into_owned())),
            Value::NumberSet(set) => Ok(Self(set[0].clone().into_owned())),
            _ => Err(serde::de::Error::custom("no number")),
        }
    }
}

#[test]
fn neighbours_with_one_number_are_one_unit() {
    let event = String::from_utf8(fixture("example-kinesis-event.json")).unwrap();
    let event = event.replace("49568167373333333334444444444444444444444444444444444444", "5");
    let event = event.replace("49568167373333333333333333333333333333333333333333333333", "5");
    let batch = event::parse(event.as_bytes());
    let ordinals: Vec<u32> = batch.records().unwrap().iter().map(event::Record::ordinal).collect();
    assert_eq!(ordinals, [0, 1]);
    assert_eq!(batch.units().unwrap().map(<[_]>::len).collect::<Vec<_>>(), [2]);
    let event = dynamodb_event("INSERT", &[r#""a":1"#, r#""a":1"#]);
    let batch = event::parse(event.as_bytes());
    assert_eq!(batch.units().unwrap().map(<[_]>::len).collect::<Vec<_>>(), [1, 1]);
}

#[test]
fn what_can_be_borrowed_is_borrowed() {
    #[derive(Deserialize)]
    struct Item<'a> {
        name: &'a str,
        #[serde(borrow)]
        price: Number<'a>,
        sku: Option<&'a str>,
    }
    let event = dynamodb_event(
        "INSERT",
        &[r#""NewImage":{"name":{"S":"é"},"price":{"N":"1.0"},"sku":{"NULL":true}}"#],
    );
    let batch = event::parse(event.as_bytes());
    let Ok(Change::Insert { new: Some(item) }) = batch.records().unwrap()[0].change::<Item<'_>>()
    else {
        panic!("an insert")
    };
    assert!(event.as_bytes().as_ptr_range().contains(&item.name.as_ptr()));
    assert_eq!((item.price.as_str(), item.sku), ("1.0", None));

    let event = kinesis_event(br#"{"name":"x","price":1.50,"sku":"s"}"#);
    let batch = event::parse(event.as_bytes());
    let record = &batch.records().unwrap()[0];
    let Ok(Change::Insert { new: Some(item) }) = record.change::<Item<'_>>() else {
        panic!("an insert")
    };
    let data = record.data().unwrap().unwrap();
    assert!(data.as_ptr_range().contains(&item.name.as_ptr()));
    assert_eq!((item.price.as_str(), item.sku), ("1.50", Some("s")));
}

#[test]
fn kinesis_data_that_is_no_document_is_the_records_error() {
    let check = |data: &[u8], code: &str| {
        let event = kinesis_event(data);
        let batch = event::parse(event.as_bytes());
        let record = &batch.records().unwrap()[0];
        assert_eq!(record.values().unwrap_err().code(), code);
        assert_eq!(record.data(), Ok(Some(data)));
    };
    check(b"Hello World", "JsonInvalid");
    check(b"", "JsonInvalid");
    check(b"\"\xff\"", "Utf8Invalid");
    let event = kinesis_event(b"{}").replace("e30=", "e30");
    let batch = event::parse(event.as_bytes());
    assert_eq!(batch.records().unwrap()[0].values().unwrap_err().code(), "Base64Invalid");
}
