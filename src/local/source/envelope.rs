//! What the desk reads of a record: where it stands and whom it is about. Images and data
//! stay unread, and the record is delivered in its own bytes.
//!
//! Separate from [`event`](crate::event), which is the function's: the desk must not deliver
//! only what the function can read.

use crate::record::{SequenceNumber, SequenceNumberError, Source, Timestamp};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::{borrow::Cow, ops::Range};

/// The desk's view of one record.
#[derive(Debug)]
pub(super) struct Envelope<'a> {
    pub(super) source: Source,
    pub(super) stream_arn: Cow<'a, str>,
    pub(super) sequence_number: SequenceNumber<'a>,
    pub(super) arrival: Option<Timestamp>,
    shard: Option<String>,
    key: Key<'a>,
    text: &'a [u8],
    shard_member: Option<Range<usize>>,
    /// The record without the fixture's own members, where it has one beside `shardId`.
    bare: Option<Vec<u8>>,
}

#[derive(Debug)]
enum Key<'a> {
    Item(Option<&'a RawValue>),
    Partition(Cow<'a, str>),
}

#[derive(Deserialize)]
struct Outside<'a> {
    #[serde(borrow, rename = "shardId")]
    shard_id: Option<&'a RawValue>,
    #[serde(borrow, rename = "endsBatch")]
    ends_batch: Option<&'a RawValue>,
    #[serde(borrow, rename = "eventID")]
    event_id: Option<Cow<'a, str>>,
    #[serde(borrow, rename = "eventSource")]
    event_source: Option<Cow<'a, str>>,
    #[serde(borrow, rename = "eventSourceARN")]
    event_source_arn: Option<Cow<'a, str>>,
    #[serde(borrow)]
    dynamodb: Option<DynamoDb<'a>>,
    #[serde(borrow)]
    kinesis: Option<Kinesis<'a>>,
}

#[derive(Deserialize)]
struct DynamoDb<'a> {
    #[serde(borrow, rename = "SequenceNumber")]
    sequence_number: Option<Cow<'a, str>>,
    #[serde(borrow, rename = "Keys")]
    keys: Option<&'a RawValue>,
    #[serde(rename = "ApproximateCreationDateTime")]
    created: Option<f64>,
}

#[derive(Deserialize)]
struct Kinesis<'a> {
    #[serde(borrow, rename = "sequenceNumber")]
    sequence_number: Option<Cow<'a, str>>,
    #[serde(borrow, rename = "partitionKey")]
    partition_key: Option<Cow<'a, str>>,
    #[serde(rename = "approximateArrivalTimestamp")]
    arrived: Option<f64>,
}

impl<'a> Envelope<'a> {
    /// Reads one record.
    pub(super) fn read(text: &'a [u8]) -> Result<Self, EnvelopeError> {
        let outside: Outside<'a> = serde_json::from_slice(text).map_err(|error| {
            if error.is_data() { EnvelopeError::NotARecord } else { broken(&error) }
        })?;
        let (source, number, arrival, key) = match (outside.dynamodb, outside.kinesis) {
            (Some(change), None) => {
                let key = Key::Item(change.keys);
                (Source::DynamoDb, change.sequence_number, change.created, key)
            }
            (None, Some(data)) => {
                let key = Key::Partition(data.partition_key.unwrap_or_default());
                (Source::Kinesis, data.sequence_number, data.arrived, key)
            }
            _ => return Err(EnvelopeError::NotARecord),
        };
        let service = match source {
            Source::DynamoDb => "aws:dynamodb",
            Source::Kinesis => "aws:kinesis",
            Source::Sqs => "aws:sqs",
        };
        if outside.event_source.is_some_and(|found| found != service) {
            return Err(EnvelopeError::NotARecord);
        }
        let number = number.ok_or(EnvelopeError::NoSequenceNumber)?;
        let member = outside.shard_id.map(|raw| shard_member(text, raw)).transpose()?;
        let mark = outside.ends_batch.filter(|raw| raw.get() == "true");
        let bare = match mark.and_then(|raw| member_of(text, raw, b"\"endsBatch\"")) {
            Some(mark) => {
                let rest = [&text[..mark.start], &text[mark.end..]].concat();
                Some(Envelope::read(&rest)?.body())
            }
            None => None,
        };
        let of_event_id = match (source, &outside.event_id) {
            (Source::Kinesis, Some(id)) => id.split_once(':').map(|(shard, _)| shard.to_owned()),
            _ => None,
        };
        let (of_member, shard_member) = member.unzip();
        Ok(Self {
            source,
            stream_arn: outside.event_source_arn.ok_or(EnvelopeError::NoStream)?,
            sequence_number: SequenceNumber::new(number)?,
            arrival: arrival.map(milliseconds),
            shard: of_event_id.or(of_member),
            key,
            text,
            shard_member,
            bare,
        })
    }

    /// The shard the record names, if it names one.
    pub(super) fn shard(&self) -> Option<&str> {
        self.shard.as_deref()
    }

    /// Whether a recorded batch ended with it: the fixture's own member `endsBatch` is `true`.
    pub(super) fn ends_batch(&self) -> bool {
        self.bare.is_some()
    }

    /// The record as it is delivered: without the fixture's own members `shardId` and
    /// `endsBatch`, else byte for byte.
    pub(super) fn body(&self) -> Vec<u8> {
        match (&self.bare, &self.shard_member) {
            (Some(bare), _) => bare.clone(),
            (None, None) => self.text.to_vec(),
            (None, Some(member)) => [&self.text[..member.start], &self.text[member.end..]].concat(),
        }
    }

    /// Tells items (or partition keys) apart, the same in every run.
    pub(super) fn key(&self) -> u64 {
        match &self.key {
            Key::Partition(key) => fnv1a(key.as_bytes()),
            // A map of `serde_json` is sorted by name, so the order of writing does not count.
            Key::Item(keys) => {
                let keys = keys
                    .and_then(|raw| serde_json::from_str::<serde_json::Map<_, _>>(raw.get()).ok());
                let text = serde_json::Value::Object(keys.unwrap_or_default()).to_string();
                fnv1a(text.as_bytes())
            }
        }
    }
}

/// 64-bit FNV-1a: no seed, so that a record meets the same sub-lane in every run.
fn fnv1a(bytes: &[u8]) -> u64 {
    const OFFSET_BASIS: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0100_0000_01b3;
    bytes.iter().fold(OFFSET_BASIS, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(PRIME))
}

/// Lambda writes seconds as a float, sometimes with an exponent.
#[expect(clippy::cast_possible_truncation, reason = "a cast saturates; epoch times are far below")]
fn milliseconds(seconds: f64) -> Timestamp {
    Timestamp((seconds * 1000.0).round() as i64)
}

/// The shard a record names in the fixture's own member, and the bytes the member takes up
/// with the comma that joins it.
fn shard_member(text: &[u8], raw: &RawValue) -> Result<(String, Range<usize>), EnvelopeError> {
    let shard: String = serde_json::from_str(raw.get()).map_err(|_| EnvelopeError::ShardId)?;
    if shard.is_empty() {
        return Err(EnvelopeError::ShardId);
    }
    let member = member_of(text, raw, b"\"shardId\"").ok_or(EnvelopeError::ShardId)?;
    Ok((shard, member))
}

/// The bytes that a member takes up with the comma that joins it; none if its name is written
/// with escapes.
fn member_of(text: &[u8], raw: &RawValue, name: &[u8]) -> Option<Range<usize>> {
    // The raw value borrows from the text, so its address tells where it stands.
    let value = raw.get().as_ptr().addr() - text.as_ptr().addr();
    let mut start = text[..value].trim_ascii_end().len().saturating_sub(1); // the colon
    start = text[..start].trim_ascii_end().len();
    if !text[..start].ends_with(name) {
        return None;
    }
    start -= name.len();
    let mut end = value + raw.get().len();
    let after = text[end..].trim_ascii_start();
    if let Some(rest) = after.strip_prefix(b",") {
        end = text.len() - rest.trim_ascii_start().len();
    } else if text[..start].trim_ascii_end().ends_with(b",") {
        start = text[..start].trim_ascii_end().len() - 1;
        start = text[..start].trim_ascii_end().len();
    }
    Some(start..end)
}

/// Says where JSON breaks; `serde_json` itself adds a line number, which in one line is 1.
fn broken(error: &serde_json::Error) -> EnvelopeError {
    let message = error.to_string();
    let end = message.rfind(" at line ").unwrap_or(message.len());
    EnvelopeError::BrokenJson { column: error.column(), message: message[..end].to_owned() }
}

/// Why a text is not a record that can be delivered.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(in crate::local) enum EnvelopeError {
    #[error("broken JSON at column {column}: {message}")]
    BrokenJson { column: usize, message: String },
    #[error(
        "not a record: expected an object with `eventSourceARN` and either `dynamodb` or \
         `kinesis`, as in `Records` of a Lambda event"
    )]
    NotARecord,
    #[error("the record has no sequence number")]
    NoSequenceNumber,
    #[error("the record has no `eventSourceARN`, which names its table or stream")]
    NoStream,
    #[error("{0}")]
    SequenceNumber(#[from] SequenceNumberError),
    #[error("the member `shardId` is not a text, or its name is written with escapes")]
    ShardId,
}

#[cfg(test)]
mod tests {
    use super::{Envelope, EnvelopeError};

    const REST: &str = r#""eventSourceARN":"arn","dynamodb":{"SequenceNumber":"7","Keys":{"b":{"N":"1"},"a":{"S":"x"}}}"#;

    #[track_caller]
    fn check_body(text: &str, shard: &str, body: &str) {
        let envelope = Envelope::read(text.as_bytes()).unwrap();
        assert_eq!(envelope.shard(), Some(shard));
        assert_eq!(String::from_utf8(envelope.body()).unwrap(), body);
    }

    #[test]
    fn the_shard_is_taken_off_and_the_rest_stays_byte_for_byte() {
        let whole = format!("{{{REST}}}");
        check_body(&format!(r#"{{"shardId":"s",{REST}}}"#), "s", &whole);
        check_body(&format!(r#"{{"shardId" : "s" , {REST}}}"#), "s", &whole);
        check_body(&format!(r#"{{{REST} , "shardId":"s"}}"#), "s", &whole);
        check_body(
            &format!(r#"{{ "x": "\"shardId\":1,", "shardId":"s",  {REST} }}"#),
            "s",
            &format!(r#"{{ "x": "\"shardId\":1,", {REST} }}"#),
        );
    }

    #[test]
    fn a_mark_of_a_batchs_end_is_taken_off_too() {
        let whole = format!("{{{REST}}}");
        for text in [
            format!(r#"{{"shardId":"s","endsBatch":true,{REST}}}"#),
            format!(r#"{{"endsBatch": true , "shardId":"s", {REST}}}"#),
            format!(r#"{{{REST},"shardId":"s","endsBatch":true}}"#),
            format!(r#"{{"shardId":"s",{REST}, "endsBatch" : true}}"#),
        ] {
            check_body(&text, "s", &whole);
            assert!(Envelope::read(text.as_bytes()).unwrap().ends_batch());
        }
        assert!(!Envelope::read(whole.as_bytes()).unwrap().ends_batch());
    }

    #[test]
    fn kinesis_names_the_shard_in_its_event_id() {
        let text = r#"{"eventID":"shardId-6:12","shardId":"other","eventSourceARN":"arn",
            "kinesis":{"sequenceNumber":"12","partitionKey":"k"}}"#;
        assert_eq!(Envelope::read(text.as_bytes()).unwrap().shard(), Some("shardId-6"));
    }

    #[test]
    fn the_key_does_not_depend_on_the_order_of_writing() {
        let turned =
            REST.replace(r#""b":{"N":"1"},"a":{"S":"x"}"#, r#""a": {"S":"x"}, "b": {"N":"1"}"#);
        let other = REST.replace(r#""S":"x""#, r#""S":"y""#);
        let key = |rest: &str| Envelope::read(format!("{{{rest}}}").as_bytes()).unwrap().key();
        assert_eq!(key(REST), key(&turned));
        assert_ne!(key(REST), key(&other));
    }

    #[test]
    fn seconds_become_milliseconds_in_every_notation() {
        for (written, expected) in [
            ("1545084650.987", 1_545_084_650_987),
            ("1.789651658E9", 1_789_651_658_000),
            ("1", 1000),
        ] {
            let text = format!(
                r#"{{"eventSourceARN":"a","dynamodb":{{"SequenceNumber":"1","ApproximateCreationDateTime":{written}}}}}"#
            );
            let arrival = Envelope::read(text.as_bytes()).unwrap().arrival;
            assert_eq!(arrival.map(|found| found.0), Some(expected), "{written}");
        }
    }

    #[track_caller]
    fn check_error(text: &str, expected: &EnvelopeError) {
        assert_eq!(&Envelope::read(text.as_bytes()).unwrap_err(), expected, "{text}");
    }

    #[test]
    fn what_is_not_a_record_is_refused() {
        check_error("7", &EnvelopeError::NotARecord);
        check_error("{}", &EnvelopeError::NotARecord);
        check_error(r#"{"dynamodb":{},"kinesis":{}}"#, &EnvelopeError::NotARecord);
        check_error(
            r#"{"eventSource":"aws:sqs","dynamodb":{"SequenceNumber":"1"}}"#,
            &EnvelopeError::NotARecord,
        );
        check_error(r#"{"eventSourceARN":"a","dynamodb":{}}"#, &EnvelopeError::NoSequenceNumber);
        check_error(r#"{"dynamodb":{"SequenceNumber":"1"}}"#, &EnvelopeError::NoStream);
        check_error(&format!(r#"{{"shardId":7,{REST}}}"#), &EnvelopeError::ShardId);
        check_error(&format!(r#"{{"shard\u0049d":"s",{REST}}}"#), &EnvelopeError::ShardId);
    }
}
