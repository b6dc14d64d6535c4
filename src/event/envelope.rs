//! The event around the records: one pass over the payload finds and addresses each.
//!
//! Separate from the bodies because its errors are the event's, not a record's. It reads
//! what addresses a record and leaves every other value as a slice of the payload; a value
//! of the wrong type that is not needed for the address is the record's error, later.

use super::{
    Body, Record,
    dynamodb::DynamoDbBody,
    error::EventError,
    json::{self, Cursor, Fault, Problem, line_and_column},
    kinesis::KinesisBody,
    members::{Members, is_address, known_members, note_repeated},
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
    let text = json::text(payload).map_err(|at| not_json(at, "the text is not UTF-8"))?;
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
    let mut fields = Fields::default();
    let read = fields.read(&mut cursor).and_then(|()| cursor.end());
    read.map_err(|Fault { at, problem }| {
        let (line, column) = line_and_column(text.as_bytes(), at);
        EventError::NotJson { line, column, problem: Problem::text(problem) }
    })?;
    fields.finish(0, None)
}

known_members!(EventMember {
    Records = "Records",
    ShardId = "shardId",
    Window = "window",
});

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
        let Some(mut members) = Members::<EventMember>::open(cursor)? else {
            return Ok(());
        };
        while let Some(member) = members.next(cursor, &mut repeated)? {
            match member {
                EventMember::Records => self.read_records(cursor)?,
                EventMember::Window => self.is_windowed = cursor.raw()? != "null",
                EventMember::ShardId => self.shard_id = cursor.text()?,
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
            let start = cursor.place();
            let mut fields = Fields::default();
            fields.read(cursor)?;
            if index == 0 {
                // The others will be about as long.
                records.reserve_exact(1 + cursor.left() / (cursor.place() - start).max(1));
            }
            match fields.finish(index, records.last()) {
                Ok(record) => record.unpack_into(records),
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
                record.shard_id = Some(shard_id.clone());
            }
        }
        Ok(records)
    }
}

known_members!(RecordMember {
    EventId = "eventID",
    EventName = "eventName",
    EventSource = "eventSource",
    DynamoDb = "dynamodb",
    Kinesis = "kinesis",
    EventSourceArn = "eventSourceARN",
    UserIdentity = "userIdentity",
    MessageId = "messageId",
    Body = "body",
    Attributes = "attributes",
} passes "eventVersion" "awsRegion" "invokeIdentityArn");

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
    fn read(&mut self, cursor: &mut Cursor<'a>) -> Result<(), Fault> {
        let fields = self;
        cursor.peek();
        let start = cursor.place();
        let Some(mut members) = Members::<RecordMember>::open(cursor)? else {
            return Ok(());
        };
        let mut repeated = None;
        while let Some(member) = members.next(cursor, &mut repeated)? {
            match member {
                RecordMember::DynamoDb => {
                    let body = fields.dynamodb.insert(DynamoDbBody::default());
                    body.read(cursor, &mut fields.repeated)?;
                }
                RecordMember::Kinesis => {
                    let body = fields.kinesis.insert(KinesisBody::default());
                    body.read(cursor, &mut fields.repeated)?;
                }
                RecordMember::EventSource => fields.source = cursor.text()?,
                RecordMember::EventId => fields.event_id = cursor.text()?,
                RecordMember::EventName => fields.event_name = Some(cursor.raw()?),
                RecordMember::EventSourceArn => fields.stream_arn = cursor.text()?,
                RecordMember::MessageId => fields.message_id = cursor.text()?,
                RecordMember::Body => fields.body = Some(cursor.raw()?),
                RecordMember::Attributes => {
                    fields.attributes = Attributes::read(cursor, &mut fields.repeated)?;
                }
                RecordMember::UserIdentity => fields.user_identity = Some(cursor.raw()?),
            }
        }
        if let Some(name) = repeated {
            note_repeated(&mut fields.repeated, name);
        }
        fields.text = cursor.since(start);
        Ok(())
    }

    /// The record, behind another one.
    fn finish(self, index: usize, before: Option<&Record<'a>>) -> Result<Record<'a>, EventError> {
        if let Some(member) = self.repeated.filter(|member| is_address(member)) {
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
        let sequence_number = match &body {
            Body::DynamoDb(body) => body.sequence_number.clone(),
            Body::Kinesis(body) => body.sequence_number.clone(),
            Body::User(_) => None,
            Body::Sqs(body) => Some(body.sequence_number(index)),
        };
        let sequence_number = sequence_number.ok_or(EventError::NoSequenceNumber { index })?;
        let sequence_number = SequenceNumber::new(sequence_number)
            .map_err(|source| EventError::SequenceNumber { index, source })?;
        let sub_sequence = match &body {
            Body::Kinesis(body) => body.sub_sequence(),
            Body::DynamoDb(_) | Body::User(_) | Body::Sqs(_) => None,
        };
        let ordinal = match before {
            _ if let Some(place) = sub_sequence => place,
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
            shard_id: None,
            event_id: self.event_id,
            stream_arn: self.stream_arn,
            event_name: self.event_name,
            user_identity: self.user_identity,
            body,
            repeated: self.repeated,
            made: None,
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
