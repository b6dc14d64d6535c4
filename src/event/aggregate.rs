//! Records that a producer's library packed into one record of a data stream.
//!
//! The Kinesis Producer Library, the agents and the aggregators built on it put many user
//! records into one. An ordinary iterator delivers it as it is; under enhanced fan-out Lambda
//! takes it apart, and delivers each user record as one of the stream with the same number.
//! Here it is taken apart the same way, so what comes after sees no difference: each has its
//! own partition key and data, and a place among its neighbours.
//!
//! The format: four magic bytes, a protobuf message of two tables and the records, the MD5 of
//! the message. Source: `aggregation-format.md` of awslabs/amazon-kinesis-producer. What begins
//! with the magic and is not that stays one record, as AWS and the client library have it, and
//! who reads its data as a document is told what is wrong.
//!
//! What it gives up: after a reshard, a user record may stand in a shard whose hash keys do not
//! contain its own. An event does not say which those are, so it is processed where it stands.

use super::{
    Body, DecodeError, DecodeReason, Record, RecordKey,
    document::read_bytes,
    error::{AGGREGATED_MAX, AggregateError},
    kinesis::{HASH_KEY, KinesisBody, SUB_SEQUENCE},
};
use crate::record::Change;
use base64_simd::STANDARD;
use md5::{Digest as _, Md5};
use serde::Deserialize;
use std::{
    borrow::Cow,
    ops::Range,
    sync::{Arc, OnceLock},
};

const MAGIC: &[u8] = &[0xf3, 0x89, 0x9a, 0xc2];

/// How base64 of the magic begins, after the quote of the JSON string.
const MAGIC_TEXT: &str = "\"84maw";

const DIGEST_BYTES: usize = 16;

/// One of the user records of an aggregate.
#[derive(Debug)]
pub(super) struct UserRecord<'a> {
    aggregate: Arc<Aggregate<'a>>,
    at: usize,
    /// Its JSON object, made when it is asked for.
    text: OnceLock<String>,
}

#[derive(Debug)]
struct Aggregate<'a> {
    /// The record of the stream, its data decoded.
    body: KinesisBody<'a>,
    text: &'a str,
    message: Message,
}

/// Where the parts of an aggregate stand in its data.
#[derive(Debug, Default, PartialEq, Eq)]
struct Message {
    partition_keys: Vec<Range<usize>>,
    hash_keys: Vec<Range<usize>>,
    records: Vec<Packed>,
}

#[derive(Debug, PartialEq, Eq)]
struct Packed {
    /// Its place in the table.
    partition_key: usize,
    hash_key: Option<usize>,
    data: Range<usize>,
}

impl Record<'_> {
    /// Adds the record to those before it, or, if it is an aggregate, the user records in it.
    #[inline]
    pub(super) fn unpack_into(self, records: &mut Vec<Self>) {
        match &self.body {
            Body::Kinesis(body) if body.begins_with(MAGIC_TEXT) => self.take_apart(records),
            _ => records.push(self),
        }
    }

    #[cold]
    fn take_apart(mut self, records: &mut Vec<Self>) {
        // Lambda has taken apart what comes to a consumer: each is one user record.
        let is_apart = self.may_be_unpacked() || self.sub_sequence().is_some();
        let message = match &self.body {
            Body::Kinesis(body) if !is_apart && self.repeated.is_none() => body.aggregate(),
            _ => None,
        };
        let (Some(message), Body::Kinesis(body)) = (message, &mut self.body) else {
            return records.push(self);
        };
        let (body, count) = (std::mem::take(body), message.records.len());
        let aggregate = Arc::new(Aggregate { body, text: self.text, message });
        let places = (0..count).zip(0..);
        records.extend(places.map(|(at, ordinal)| Self {
            source: self.source,
            sequence_number: self.sequence_number.clone(),
            ordinal,
            text: self.text,
            event_id: self.event_id.clone(),
            shard_id: self.shard_id.clone(),
            stream_arn: self.stream_arn.clone(),
            event_name: self.event_name,
            user_identity: self.user_identity,
            body: Body::User(Box::new(UserRecord::new(Arc::clone(&aggregate), at))),
            repeated: None,
            made: None,
        }));
    }
}

impl KinesisBody<'_> {
    /// What is packed into the record, if it is one that can be taken apart.
    fn aggregate(&self) -> Option<Message> {
        self.texts()?;
        Message::read(self.data().ok()?).ok()
    }
}

impl<'a> UserRecord<'a> {
    fn new(aggregate: Arc<Aggregate<'a>>, at: usize) -> Self {
        Self { aggregate, at, text: OnceLock::new() }
    }

    /// The record of the stream that it was packed into.
    pub(super) fn stream_record(&self) -> &KinesisBody<'a> {
        &self.aggregate.body
    }

    fn packed(&self) -> &Packed {
        &self.aggregate.message.records[self.at]
    }

    pub(super) fn data(&self) -> &[u8] {
        // It has been decoded.
        let data = self.aggregate.body.data().unwrap_or_default();
        data.get(self.packed().data.clone()).unwrap_or_default()
    }

    fn key_text(&self, place: &Range<usize>) -> &str {
        let data = self.aggregate.body.data().unwrap_or_default();
        let text = data.get(place.clone()).and_then(|text| str::from_utf8(text).ok());
        text.unwrap_or_default()
    }

    pub(super) fn partition_key(&self) -> &str {
        self.key_text(&self.aggregate.message.partition_keys[self.packed().partition_key])
    }

    pub(super) fn explicit_hash_key(&self) -> Option<&str> {
        let place = &self.aggregate.message.hash_keys[self.packed().hash_key?];
        Some(self.key_text(place))
    }

    pub(super) fn key(&self) -> RecordKey<'_> {
        RecordKey::Partition(Cow::Borrowed(self.partition_key()))
    }

    pub(super) fn change<'s, T: Deserialize<'s>>(&'s self) -> Result<Change<T>, DecodeError> {
        Ok(Change::Insert { new: Some(read_bytes(self.data(), "data")?) })
    }

    /// Its JSON object: the one of the stream's record, with the user record's own key and data.
    /// Two more members, in the words of the client library, keep what would be lost.
    pub(super) fn text(&self) -> &str {
        self.text.get_or_init(|| {
            let Aggregate { body, text, .. } = &*self.aggregate;
            // What has no texts is not taken apart.
            let Some((key, data)) = body.texts() else { return (*text).to_owned() };
            let own_key = json_string(self.partition_key());
            let (data_text, at) = (STANDARD.encode_to_string(self.data()), self.at);
            let hash_key = self.explicit_hash_key();
            let hash_key = hash_key.map(|it| format!(",\"{HASH_KEY}\":{}", json_string(it)));
            let hash_key = hash_key.unwrap_or_default();
            let own_data = format!("\"{data_text}\",\"{SUB_SEQUENCE}\":{at}{hash_key}");
            let mut parts = [(place(text, key), own_key), (place(text, data), own_data)];
            parts.sort_by_key(|(place, _)| place.start);
            let (mut whole, mut from) = (String::new(), 0);
            for (place, own) in parts {
                whole.push_str(&text[from..place.start]);
                whole.push_str(&own);
                from = place.end;
            }
            whole.push_str(&text[from..]);
            whole
        })
    }
}

fn json_string(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Where a part of a text stands in it.
fn place(text: &str, part: &str) -> Range<usize> {
    let start = part.as_ptr().addr() - text.as_ptr().addr();
    start..start + part.len()
}

/// What is wrong with data that is no document: that it is no aggregate, if it begins as one.
#[cold]
pub(super) fn why_no_document(body: &KinesisBody<'_>, error: DecodeError) -> DecodeError {
    let data = body.data().ok().filter(|data| data.starts_with(MAGIC));
    let why = data.and_then(|data| Message::read(data).err());
    why.map_or(error, |why| DecodeError::new("data", DecodeReason::Aggregate(why)))
}

impl Message {
    fn read(data: &[u8]) -> Result<Self, AggregateError> {
        let end = data.len().saturating_sub(DIGEST_BYTES);
        let body = data.get(MAGIC.len()..end).ok_or(AggregateError::Checksum)?;
        if !data.starts_with(MAGIC) || Md5::digest(body)[..] != data[end..] {
            return Err(AggregateError::Checksum);
        }
        let mut message = Self::default();
        let mut fields = Fields { data, at: MAGIC.len(), end };
        let mut unread = Vec::new();
        while let Some((field, value)) = fields.next()? {
            match (field, value) {
                (1, Value::Bytes(key)) => message.partition_keys.push(fields.text(key)?),
                (2, Value::Bytes(key)) => message.hash_keys.push(fields.text(key)?),
                (3, Value::Bytes(record)) if unread.len() < AGGREGATED_MAX => unread.push(record),
                (3, Value::Bytes(_)) => return Err(AggregateError::TooMany),
                _ => {}
            }
        }
        if unread.is_empty() {
            return Err(AggregateError::Empty);
        }
        // The tables may stand behind the records.
        for (at, place) in unread.into_iter().enumerate() {
            let packed = message.packed(at, Fields { data, at: place.start, end: place.end })?;
            message.records.push(packed);
        }
        Ok(message)
    }

    fn packed(&self, record: usize, mut fields: Fields<'_>) -> Result<Packed, AggregateError> {
        let missing = |part| AggregateError::Incomplete { record, part };
        let within = |index: u64, table: &[Range<usize>]| {
            usize::try_from(index).ok().filter(|index| *index < table.len())
        };
        let (mut partition_key, mut hash_key, mut data) = (None, None, None);
        while let Some((field, value)) = fields.next()? {
            match (field, value) {
                (1, Value::Number(index)) => partition_key = within(index, &self.partition_keys),
                (2, Value::Number(index)) => {
                    let index = within(index, &self.hash_keys);
                    hash_key = Some(index.ok_or(missing("explicit hash key"))?);
                }
                (3, Value::Bytes(bytes)) => data = Some(bytes),
                _ => {}
            }
        }
        Ok(Packed {
            partition_key: partition_key.ok_or(missing("partition key"))?,
            hash_key,
            data: data.ok_or(missing("data"))?,
        })
    }
}

/// The fields of a message in the encoding of protocol buffers.
struct Fields<'d> {
    data: &'d [u8],
    at: usize,
    end: usize,
}

enum Value {
    Number(u64),
    Bytes(Range<usize>),
    /// Of a type that aggregates do not have; newer producers may add them.
    Other,
}

impl Fields<'_> {
    /// The number of the next field, and its value.
    fn next(&mut self) -> Result<Option<(u64, Value)>, AggregateError> {
        if self.at == self.end {
            return Ok(None);
        }
        let start = self.at;
        let tag = self.number()?;
        let value = match tag & 7 {
            0 => Value::Number(self.number()?),
            2 => {
                let bytes = self.number()?;
                Value::Bytes(self.pass(bytes)?)
            }
            1 => self.pass(8).map(|_| Value::Other)?,
            5 => self.pass(4).map(|_| Value::Other)?,
            _ => return Err(AggregateError::Message { at: start }),
        };
        Ok(Some((tag >> 3, value)))
    }

    fn number(&mut self) -> Result<u64, AggregateError> {
        let start = self.at;
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let place = self.pass(1)?;
            let byte = u64::from(self.data[place.start]);
            number |= (byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(AggregateError::Message { at: start })
    }

    fn pass(&mut self, bytes: u64) -> Result<Range<usize>, AggregateError> {
        let start = self.at;
        let left = self.end - start;
        let bytes = usize::try_from(bytes).ok().filter(|bytes| *bytes <= left);
        self.at = start + bytes.ok_or(AggregateError::Message { at: start })?;
        Ok(start..self.at)
    }

    fn text(&self, place: Range<usize>) -> Result<Range<usize>, AggregateError> {
        let is_text = str::from_utf8(&self.data[place.clone()]).is_ok();
        if is_text { Ok(place) } else { Err(AggregateError::Message { at: place.start }) }
    }
}
