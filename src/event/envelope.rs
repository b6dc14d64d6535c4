//! The event around the records: one pass over the payload finds and addresses each.
//!
//! Separate from the bodies because its errors are the event's, not a record's. It reads
//! what addresses a record and leaves every other value as a slice of the payload; a value
//! of the wrong type that is not needed for the address is the record's error, later.

use super::{
    Body, Record,
    dynamodb::DynamoDbBody,
    error::EventError,
    json::{Cursor, Fault, Problem, line_and_column},
    kinesis::KinesisBody,
    members::Members,
    sqs::{Attributes, SqsBody},
};
use crate::record::{SequenceNumber, Source};
use std::borrow::Cow;

/// Reads the records of an event, and whether it belongs to a tumbling window.
pub(super) fn read_event(payload: &[u8]) -> Result<(Vec<Record<'_>>, bool), EventError> {
    let not_json = |at, problem| {
        let (line, column) = line_and_column(payload, at);
        EventError::NotJson { line, column, problem }
    };
    let text = std::str::from_utf8(payload)
        .map_err(|error| not_json(error.valid_up_to(), "the text is not UTF-8"))?;
    let mut cursor = Cursor::new(text);
    let mut event = Event::default();
    let read = event.read(&mut cursor).and_then(|()| cursor.end());
    read.map_err(|Fault { at, problem }| not_json(at, Problem::text(problem)))?;
    let is_windowed = event.is_windowed;
    Ok((event.finish()?, is_windowed))
}

/// Reads one record that stands alone, as a parked one does.
pub(super) fn read_record(text: &str) -> Result<Record<'_>, EventError> {
    let mut cursor = Cursor::new(text);
    let fields = Fields::read(&mut cursor).and_then(|fields| cursor.end().map(|()| fields));
    let fields = fields.map_err(|Fault { at, problem }| {
        let (line, column) = line_and_column(text.as_bytes(), at);
        EventError::NotJson { line, column, problem: Problem::text(problem) }
    })?;
    fields.record(0, None)
}

#[derive(Default)]
struct Event<'a> {
    records: Option<Vec<Record<'a>>>,
    shard_id: Option<Cow<'a, str>>,
    is_windowed: bool,
    /// The first thing wrong with the event, if the text is JSON at all.
    error: Option<EventError>,
}

impl<'a> Event<'a> {
    fn read(&mut self, cursor: &mut Cursor<'a>) -> Result<(), Fault> {
        let mut repeated = None;
        let Some(mut members) = Members::open(cursor, &["Records", "shardId", "window"])? else {
            return Ok(());
        };
        while let Some(member) = members.next(cursor, &mut repeated)? {
            match member {
                "Records" => self.read_records(cursor)?,
                "window" => self.is_windowed = cursor.raw()? != "null",
                _ => self.shard_id = cursor.text()?,
            }
        }
        if repeated == Some("Records") {
            self.records = None;
        }
        Ok(())
    }

    fn read_records(&mut self, cursor: &mut Cursor<'a>) -> Result<(), Fault> {
        if !cursor.eat(b'[') {
            return cursor.skip();
        }
        let records = self.records.insert(Vec::new());
        let mut first = true;
        let mut index = 0;
        while cursor.next_element(&mut first)? {
            match Fields::read(cursor)?.record(index, records.last()) {
                Ok(record) => records.push(record),
                Err(error) => {
                    self.error.get_or_insert(error);
                }
            }
            index += 1;
        }
        Ok(())
    }

    fn finish(self) -> Result<Vec<Record<'a>>, EventError> {
        if let Some(error) = self.error {
            return Err(error);
        }
        let mut records = self.records.ok_or(EventError::NoRecords)?;
        if let Some(shard_id) = self.shard_id {
            for record in &mut records {
                record.shard_id.get_or_insert_with(|| shard_id.clone());
            }
        }
        Ok(records)
    }
}

const RECORD_MEMBERS: &[&str] = &[
    "dynamodb",
    "kinesis",
    "eventSource",
    "eventID",
    "eventName",
    "eventSourceARN",
    "userIdentity",
    "messageId",
    "body",
    "attributes",
];

/// Members by which a record is addressed: if one is there twice, the record is nobody.
const ADDRESS: &[&str] = &[
    "dynamodb",
    "kinesis",
    "eventSource",
    "SequenceNumber",
    "sequenceNumber",
    "messageId",
    "attributes",
    "MessageGroupId",
];

/// The members of one element of `Records`.
#[derive(Default)]
struct Fields<'a> {
    text: &'a str,
    source: Option<Cow<'a, str>>,
    event_id: Option<Cow<'a, str>>,
    stream_arn: Option<Cow<'a, str>>,
    event_name: Option<&'a str>,
    user_identity: Option<&'a str>,
    dynamodb: Option<DynamoDbBody<'a>>,
    kinesis: Option<KinesisBody<'a>>,
    message_id: Option<Cow<'a, str>>,
    attributes: Attributes<'a>,
    body: Option<&'a str>,
    repeated: Option<&'static str>,
}

impl<'a> Fields<'a> {
    fn read(cursor: &mut Cursor<'a>) -> Result<Self, Fault> {
        let mut fields = Self::default();
        cursor.peek();
        let start = cursor.place();
        let Some(mut members) = Members::open(cursor, RECORD_MEMBERS)? else {
            return Ok(fields);
        };
        let mut repeated = None;
        while let Some(member) = members.next(cursor, &mut repeated)? {
            match member {
                "dynamodb" => {
                    fields.dynamodb = Some(DynamoDbBody::read(cursor, &mut fields.repeated)?);
                }
                "kinesis" => {
                    fields.kinesis = Some(KinesisBody::read(cursor, &mut fields.repeated)?);
                }
                "eventSource" => fields.source = cursor.text()?,
                "eventID" => fields.event_id = cursor.text()?,
                "eventName" => fields.event_name = Some(cursor.raw()?),
                "eventSourceARN" => fields.stream_arn = cursor.text()?,
                "messageId" => fields.message_id = cursor.text()?,
                "body" => fields.body = Some(cursor.raw()?),
                "attributes" => {
                    fields.attributes = Attributes::read(cursor, &mut fields.repeated)?;
                }
                _ => fields.user_identity = Some(cursor.raw()?),
            }
        }
        fields.repeated = repeated.or(fields.repeated);
        fields.text = cursor.since(start);
        Ok(fields)
    }

    fn record(self, index: usize, before: Option<&Record<'a>>) -> Result<Record<'a>, EventError> {
        if let Some(member) = self.repeated.filter(|member| ADDRESS.contains(member)) {
            return Err(EventError::RepeatedMember { index, member });
        }
        let (source, body) = match self.source.as_deref() {
            Some("aws:dynamodb") => {
                (Source::DynamoDb, Body::DynamoDb(self.dynamodb.unwrap_or_default()))
            }
            Some("aws:kinesis") => {
                (Source::Kinesis, Body::Kinesis(self.kinesis.unwrap_or_default()))
            }
            Some("aws:sqs") => {
                let message_id = self.message_id.filter(|id| !id.is_empty());
                let message_id = message_id.ok_or(EventError::NoMessageId { index })?;
                let arn = self.stream_arn.as_deref();
                let body = SqsBody::new(message_id, self.attributes, self.body, arn);
                (Source::Sqs, Body::Sqs(Box::new(body)))
            }
            other => return Err(EventError::UnknownSource { index, found: source_name(other) }),
        };
        if before.is_some_and(|before| before.source != source) {
            return Err(EventError::MixedSources { index });
        }
        let (sequence_number, arrival) = match &body {
            Body::DynamoDb(body) => (body.sequence_number.clone(), body.arrival),
            Body::Kinesis(body) => (body.sequence_number.clone(), body.arrival),
            Body::Sqs(body) => (Some(body.sequence_number(index)), body.sent()),
        };
        let sequence_number = sequence_number.ok_or(EventError::NoSequenceNumber { index })?;
        let sequence_number = SequenceNumber::new(sequence_number)
            .map_err(|source| EventError::SequenceNumber { index, source })?;
        let ordinal = match before {
            Some(before) if !source.is_queue() && before.sequence_number == sequence_number => {
                before.ordinal + 1
            }
            _ => 0,
        };
        Ok(Record {
            source,
            sequence_number,
            ordinal,
            text: self.text,
            shard_id: self.event_id.as_ref().and_then(shard_id_of),
            event_id: self.event_id,
            stream_arn: self.stream_arn,
            event_name: self.event_name,
            user_identity: self.user_identity,
            arrival,
            body,
            repeated: self.repeated,
        })
    }
}

/// An event source for an error message: only what looks like a service's name is shown.
fn source_name(found: Option<&str>) -> String {
    let is_name = |text: &&str| {
        text.len() <= 40
            && text.starts_with("aws:")
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b":-".contains(&byte))
    };
    match found {
        None => "missing".to_owned(),
        Some(text) => {
            Some(text).filter(is_name).map_or("another".into(), |text| format!("`{text}`"))
        }
    }
}

/// The shard of a Kinesis record: `eventID` is `shardId-…:sequence number`.
fn shard_id_of<'a>(event_id: &Cow<'a, str>) -> Option<Cow<'a, str>> {
    match event_id {
        Cow::Borrowed(text) => shard_part(text).map(Cow::Borrowed),
        Cow::Owned(text) => shard_part(text).map(|part| Cow::Owned(part.to_owned())),
    }
}

fn shard_part(event_id: &str) -> Option<&str> {
    event_id.split_once(':').map(|(shard, _)| shard).filter(|shard| shard.starts_with("shardId-"))
}
