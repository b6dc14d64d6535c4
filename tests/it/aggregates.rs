//! Records that the Kinesis Producer Library packed into one: held against what AWS's own
//! aggregator for Python wrote (`fixtures/clicks-aggregated.jsonl`).

#![expect(clippy::unwrap_used, reason = "helpers of tests: a panic is the failure")]

pub(crate) mod packed;
mod run;

use changefold::{
    event::{self, AGGREGATED_MAX, Record, RecordKey},
    record::Change,
};
use packed::{UserRecord, aggregate, message, sealed};
use proptest::prelude::*;
use serde_json::Value;
use std::{collections::BTreeMap, path::Path};

fn lines(fixture: &str) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(fixture);
    std::fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect()
}

fn event_of(records: &[String]) -> String {
    format!(r#"{{"Records":[{}]}}"#, records.join(","))
}

/// A record of a stream with this data.
fn record_of(stream: &str, data: &[u8]) -> String {
    let data = base64_simd::STANDARD.encode_to_string(data);
    format!(
        r#"{{"kinesis":{{"kinesisSchemaVersion":"1.0","partitionKey":"outer","sequenceNumber":"7","data":"{data}","approximateArrivalTimestamp":1772442059.489}},"eventSource":"aws:kinesis","eventID":"shardId-000000000003:7","eventSourceARN":"arn:aws:kinesis:eu-west-1:123456789012:stream/{stream}"}}"#
    )
}

fn user_record(key: &str, data: &str) -> UserRecord {
    (key.to_owned(), None, data.as_bytes().to_vec())
}

fn partition_key(record: &Record<'_>) -> String {
    let RecordKey::Partition(key) = record.keys().unwrap() else { panic!("no partition key") };
    key.into_owned()
}

fn content(record: &Record<'_>) -> UserRecord {
    let hash_key = record.explicit_hash_key().map(std::borrow::Cow::into_owned);
    (partition_key(record), hash_key, record.data().unwrap().unwrap().to_vec())
}

/// By shard: partition keys and data in stream order.
fn clicks(lines: &[String]) -> BTreeMap<String, Vec<(String, Vec<u8>)>> {
    let event = event_of(lines);
    let batch = event::parse(event.as_bytes());
    let mut clicks: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for record in batch.records().unwrap() {
        let (key, _, data) = content(record);
        clicks.entry(record.shard_id().unwrap().to_owned()).or_default().push((key, data));
    }
    clicks
}

#[test]
fn what_aws_aggregator_packed_is_what_was_put_in() {
    let packed = lines("clicks-aggregated.jsonl");
    assert_eq!(packed.len(), 30);
    let plain = clicks(&lines("clicks.jsonl"));
    assert_eq!(clicks(&packed), plain);
    assert_eq!(plain.values().map(Vec::len).sum::<usize>(), 100);
}

#[test]
fn user_records_share_a_number_and_are_told_apart_by_their_place() {
    let mut hash_keys = 0;
    for line in lines("clicks-aggregated.jsonl") {
        let event = event_of(std::slice::from_ref(&line));
        let batch = event::parse(event.as_bytes());
        let records = batch.records().unwrap();
        assert_eq!(batch.units().unwrap().count(), 1);
        let line: Value = serde_json::from_str(&line).unwrap();
        for (place, record) in records.iter().enumerate() {
            assert_eq!(record.ordinal() as usize, place);
            assert_eq!(record.sequence_number().as_str(), line["kinesis"]["sequenceNumber"]);
            assert_eq!(record.event_id().unwrap(), line["eventID"]);
            hash_keys += usize::from(record.explicit_hash_key().is_some());
            let Change::Insert { new: Some(_) } =
                record.change::<Value>().unwrap_or_else(|error| {
                    panic!("{error}");
                })
            else {
                panic!("no insert");
            };
        }
    }
    assert!(hash_keys > 20, "{hash_keys} explicit hash keys");
}

/// What is parked, sent and logged of a user record is a record of its own, with the stream's
/// members around it.
#[test]
fn the_text_of_a_user_record_is_read_as_that_record() {
    for line in lines("clicks-aggregated.jsonl") {
        let event = event_of(std::slice::from_ref(&line));
        let batch = event::parse(event.as_bytes());
        let whole: Value = serde_json::from_str(&line).unwrap();
        for record in batch.records().unwrap() {
            let alone = event_of(&[record.raw().to_owned()]);
            let again = event::parse(alone.as_bytes());
            let [again] = again.records().unwrap() else { panic!("not one record: {alone}") };
            assert_eq!(content(again), content(record));
            assert_eq!(again.ordinal(), record.ordinal());
            assert_eq!(again.approximate_arrival(), record.approximate_arrival());
            assert_eq!(again.raw(), record.raw());
            let mut own: Value = serde_json::from_str(record.raw()).unwrap();
            let kinesis = own["kinesis"].as_object_mut().unwrap();
            for member in ["subSequenceNumber", "explicitHashKey"] {
                kinesis.remove(member);
            }
            for member in ["partitionKey", "data"] {
                kinesis[member] = whole["kinesis"][member].clone();
            }
            assert_eq!(own, whole);
        }
    }
}

/// So that what the tests make themselves is the format, too.
#[test]
fn the_tests_write_the_bytes_that_aws_aggregator_wrote() {
    let mut aggregates = 0;
    for line in lines("clicks-aggregated.jsonl") {
        let event = event_of(std::slice::from_ref(&line));
        let batch = event::parse(event.as_bytes());
        let contents: Vec<UserRecord> = batch.records().unwrap().iter().map(content).collect();
        let line: Value = serde_json::from_str(&line).unwrap();
        let data = line["kinesis"]["data"].as_str().unwrap();
        if data.starts_with("84maw") {
            assert_eq!(base64_simd::STANDARD.encode_to_string(aggregate(&contents)), data);
            aggregates += 1;
        }
    }
    assert_eq!(aggregates, 29);
}

/// What is said of a record that is not taken apart, when it is read as a document.
#[track_caller]
fn check_whole(data: &[u8], said: &str) {
    let event = event_of(&[record_of("clicks", data)]);
    let batch = event::parse(event.as_bytes());
    let [record] = batch.records().unwrap() else { panic!("it was taken apart") };
    assert_eq!((partition_key(record).as_str(), record.ordinal()), ("outer", 0));
    assert_eq!(record.data().unwrap(), Some(data), "its bytes can be read all the same");
    let error = record.change::<Value>().unwrap_err();
    assert_eq!(error.code(), "AggregateBroken");
    let begin = "`data` begins as an aggregate of the Kinesis Producer Library and is none";
    assert_eq!(error.to_string(), format!("{begin}: {said}"));
}

// R40
#[test]
fn a_broken_aggregate_is_one_record_that_says_what_is_wrong() {
    let two = [user_record("a", "{}"), user_record("b", "{}")];
    let whole = aggregate(&two);
    check_whole(&whole[..4], "its checksum does not match");
    check_whole(&whole[..whole.len() - 1], "its checksum does not match");
    for at in 4..whole.len() {
        let mut broken = whole.clone();
        broken[at] ^= 1;
        check_whole(&broken, "its checksum does not match");
    }
    let message = message(&two);
    check_whole(&sealed(&message[..message.len() - 1]), "byte 20 is no part of its message");
    check_whole(&sealed(b""), "it has no user records");
    // No partition key at all; one that the table does not have; the same of a hash key; no data.
    check_whole(&sealed(b"\x1a\x02\x1a\x00"), "user record 0 has no partition key");
    check_whole(
        &sealed(b"\x0a\x01a\x1a\x04\x08\x01\x1a\x00"),
        "user record 0 has no partition key",
    );
    check_whole(
        &sealed(b"\x0a\x01a\x1a\x06\x08\x00\x10\x00\x1a\x00"),
        "user record 0 has no explicit hash key",
    );
    check_whole(&sealed(b"\x0a\x01a\x1a\x02\x08\x00"), "user record 0 has no data");
    check_whole(
        &sealed(b"\x0a\x01\xff\x1a\x04\x08\x00\x1a\x00"),
        "byte 6 is no part of its message",
    );
}

#[test]
fn no_record_becomes_more_than_a_hundred_thousand() {
    let most = vec![user_record("a", ""); AGGREGATED_MAX];
    let event = event_of(&[record_of("clicks", &aggregate(&most))]);
    assert_eq!(event::parse(event.as_bytes()).records().unwrap().len(), AGGREGATED_MAX);
    let more = [most, vec![user_record("a", "")]].concat();
    check_whole(&aggregate(&more), "it has more than 100000 user records");
}

/// Tables may stand behind the records, and members that nobody knows anywhere.
#[test]
fn the_message_is_read_as_protocol_buffers_are() {
    let record = &b"\x1a\x0c\x08\x00\x1a\x02{}\x22\x04\x0a\x02xy\x20\x07"[..];
    let table_and_unknown = b"\x0a\x01a\x29\0\0\0\0\0\0\0\0\x35\0\0\0\0";
    let message = [record, table_and_unknown].concat();
    let event = event_of(&[record_of("clicks", &sealed(&message))]);
    let batch = event::parse(event.as_bytes());
    let contents: Vec<UserRecord> = batch.records().unwrap().iter().map(content).collect();
    assert_eq!(contents, [user_record("a", "{}")]);
}

// R40
#[test]
fn what_lambda_took_apart_is_not_taken_apart_again() {
    let inner = aggregate(&[user_record("a", "1"), user_record("b", "2")]);
    let event = event_of(&[record_of("clicks/consumer/fast:1", &inner)]);
    assert_eq!(event::parse(event.as_bytes()).records().unwrap().len(), 1);
    // Nor is a user record whose data happens to be an aggregate.
    let outer = aggregate(&[("c".to_owned(), None, inner.clone())]);
    let event = event_of(&[record_of("clicks", &outer)]);
    let batch = event::parse(event.as_bytes());
    let [record] = batch.records().unwrap() else { panic!("not one record") };
    assert_eq!(content(record), ("c".to_owned(), None, inner));
    let alone = event_of(&[record.raw().to_owned()]);
    assert_eq!(event::parse(alone.as_bytes()).records().unwrap().len(), 1);
}

fn any_record() -> impl Strategy<Value = UserRecord> {
    let data = prop::collection::vec(any::<u8>(), 0..300);
    ("\\PC{0,40}", prop::option::of("[0-9]{1,39}"), data)
}

proptest! {
    #[test]
    fn any_user_records_come_out_as_they_went_in(
        records in prop::collection::vec(any_record(), 1..40),
    ) {
        let event = event_of(&[record_of("clicks", &aggregate(&records))]);
        let batch = event::parse(event.as_bytes());
        let contents: Vec<UserRecord> = batch.records().unwrap().iter().map(content).collect();
        prop_assert_eq!(&contents, &records);
        let texts: Vec<String> =
            batch.records().unwrap().iter().map(|record| record.raw().to_owned()).collect();
        let again = event_of(&texts);
        let again = event::parse(again.as_bytes());
        let contents: Vec<UserRecord> = again.records().unwrap().iter().map(content).collect();
        prop_assert_eq!(&contents, &records);
    }

    /// With the checksum made right again, whatever was done to the message.
    #[test]
    fn a_damaged_message_is_one_record_or_whole_ones(
        keys in prop::collection::vec("[a-c]", 1..6),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in any::<prop::sample::Index>(),
    ) {
        let records: Vec<UserRecord> = keys.iter().map(|key| user_record(key, "{}")).collect();
        let mut message = message(&records);
        for (at, byte) in damage {
            let at = at.index(message.len());
            message[at] = byte;
        }
        message.truncate(message.len() - cut.index(message.len()) / 8);
        let data = sealed(&message);
        let event = event_of(&[record_of("clicks", &data)]);
        let batch = event::parse(event.as_bytes());
        for record in batch.records().unwrap() {
            let (key, _, own) = content(record);
            prop_assert!(own.len() <= data.len() && (key == "outer" || key.len() < 64));
            prop_assert!(serde_json::from_str::<Value>(record.raw()).is_ok());
        }
    }
}
