//! A message of an SQS queue: its id, its attributes, and the document in its body.
//!
//! The body is a JSON string. It is unescaped at the first question for it and kept by the
//! record, so that what is read from it may borrow from it. If it is the envelope of a parked
//! record, and its queue is one of [`ParkedQueues`], that record is what the message is about.
//! From any other queue an envelope is a document like others: whoever may send to a queue
//! could otherwise write changes of any key. The record's text is kept as well, and the record
//! is read from it anew at each question, because a value cannot keep both a text and what
//! borrows from it. A parked message that was parked in a message is opened down to the
//! innermost; each of them has to come from a queue that is believed.
//!
//! What it gives up: in a queue that is believed, a document of somebody else whose member
//! `changefold` is a number cannot be told from an envelope of ours, and is refused or opened
//! like one. Member names: AWS Lambda developer guide, "Using Lambda with Amazon SQS".

use super::{
    Body, Record, RecordKey,
    document::{read_bytes, read_document},
    error::{DecodeError, DecodeReason},
    json::{self, Cursor, Fault},
    members::{Members, known_members, read_text},
};
use crate::{
    record::{Change, SequenceNumber, Timestamp},
    recovery::park::envelope::{self, VERSION},
};
use serde::Deserialize;
use std::{
    borrow::Cow,
    sync::{Arc, OnceLock},
};

/// The queues whose messages may bring parked records back, by ARN.
///
/// Only their owner may be able to send to them: an envelope stands for a change of any key,
/// under any name. None are believed by default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ParkedQueues(Option<Arc<[String]>>);

impl ParkedQueues {
    /// The queues with these ARNs.
    #[must_use]
    pub fn new(arns: impl IntoIterator<Item = String>) -> Self {
        let arns: Arc<[String]> = arns.into_iter().collect();
        Self((!arns.is_empty()).then_some(arns))
    }

    /// Whether there are any.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    fn contains(&self, queue_arn: &str) -> bool {
        self.0.iter().flat_map(|arns| arns.iter()).any(|arn| arn == queue_arn)
    }
}

known_members!(Attribute {
    SequenceNumber = "SequenceNumber",
    Group = "MessageGroupId",
    Sent = "SentTimestamp",
    ReceiveCount = "ApproximateReceiveCount",
});

/// What `attributes` holds of interest, all of it text.
#[derive(Debug, Default)]
pub(super) struct Attributes<'a> {
    sequence_number: Option<Cow<'a, str>>,
    group: Option<Cow<'a, str>>,
    sent: Option<Timestamp>,
    receive_count: Option<u32>,
}

impl<'a> Attributes<'a> {
    pub(super) fn read(
        cursor: &mut Cursor<'a>,
        repeated: &mut Option<&'static str>,
    ) -> Result<Self, Fault> {
        let mut attributes = Self::default();
        let Some(mut members) = Members::<Attribute>::open(cursor)? else {
            return Ok(attributes);
        };
        while let Some(member) = members.next(cursor, repeated)? {
            let text = cursor.text()?;
            match member {
                Attribute::SequenceNumber => attributes.sequence_number = text,
                Attribute::Group => attributes.group = text,
                Attribute::Sent => {
                    attributes.sent = text.and_then(|text| text.parse().ok()).map(Timestamp);
                }
                Attribute::ReceiveCount => {
                    attributes.receive_count = text.and_then(|text| text.parse().ok());
                }
            }
        }
        Ok(attributes)
    }
}

/// A message, its body still as text.
#[derive(Debug)]
pub(super) struct SqsBody<'a> {
    message_id: Cow<'a, str>,
    attributes: Attributes<'a>,
    is_fifo: bool,
    body: Option<&'a str>,
    /// The queues that are believed, if its own is one of them.
    believed: Option<ParkedQueues>,
    text: OnceLock<Result<String, DecodeError>>,
    /// The parked record in the body, if it is one's envelope.
    parked: OnceLock<Result<Option<String>, DecodeError>>,
    /// The document in the parked record, if it holds one.
    document: OnceLock<Result<Vec<u8>, DecodeError>>,
}

impl<'a> SqsBody<'a> {
    /// A message under an id that is not empty.
    pub(super) fn new(
        message_id: Cow<'a, str>,
        attributes: Attributes<'a>,
        body: Option<&'a str>,
        queue_arn: Option<&str>,
    ) -> Self {
        // A group alone does not make a FIFO queue: fair queues have groups as well.
        let is_fifo = attributes.sequence_number.is_some()
            || queue_arn.is_some_and(|arn| arn.rsplit('.').next() == Some("fifo"));
        Self {
            message_id,
            attributes,
            is_fifo,
            body,
            believed: None,
            text: OnceLock::new(),
            parked: OnceLock::new(),
            document: OnceLock::new(),
        }
    }

    /// Lets the body be the envelope of a parked record, if its queue is one of these.
    pub(super) fn believe(&mut self, queues: &ParkedQueues, queue_arn: Option<&str>) {
        let is_believed = queue_arn.is_some_and(|arn| queues.contains(arn));
        self.believed = is_believed.then(|| queues.clone());
        (self.parked, self.document) = (OnceLock::new(), OnceLock::new());
    }

    /// The FIFO queue's number, or the place in the event where there is none. Nothing is
    /// reported by it, so one that is no number costs nothing but itself.
    pub(super) fn sequence_number(&self, index: usize) -> Cow<'a, str> {
        let own = self.attributes.sequence_number.clone().filter(|_| self.is_numbered());
        own.unwrap_or_else(|| index.to_string().into())
    }

    /// Whether the queue itself gave the message a number.
    pub(super) fn is_numbered(&self) -> bool {
        let own = self.attributes.sequence_number.as_deref();
        own.is_some_and(|text| SequenceNumber::new(text).is_ok())
    }

    pub(super) fn message_id(&self) -> &str {
        &self.message_id
    }

    /// The group of a FIFO queue's message. SQS takes none without; if one came, it would
    /// stay in order with its like.
    pub(super) fn group(&self) -> Option<&str> {
        self.is_fifo.then(|| self.attributes.group.as_deref().unwrap_or_default())
    }

    pub(super) fn sent(&self) -> Option<Timestamp> {
        self.attributes.sent
    }

    pub(super) fn receive_count(&self) -> Option<u32> {
        self.attributes.receive_count
    }

    /// The body, unescaped.
    pub(super) fn text(&self) -> Result<&str, DecodeError> {
        let text = self.text.get_or_init(|| read_text(self.body, "body").map(Cow::into_owned));
        text.as_deref().map_err(Clone::clone)
    }

    /// The record that a message brings back, if its body is the envelope of one.
    pub(super) fn inner(&self) -> Result<Option<Record<'_>>, DecodeError> {
        self.parked()?.map(open_record).transpose()
    }

    fn parked(&self) -> Result<Option<&str>, DecodeError> {
        let Some(queues) = &self.believed else { return Ok(None) };
        let parked = self.parked.get_or_init(|| parked_record(self.text()?, queues));
        parked.as_ref().map(Option::as_deref).map_err(Clone::clone)
    }

    pub(super) fn key(&self) -> Result<RecordKey<'_>, DecodeError> {
        // A body that is no string is nobody's envelope, and the message still has its key.
        let inner = if self.text().is_ok() { self.inner()? } else { None };
        match inner.as_ref().map(|inner| &inner.body) {
            // Nothing is taken out of a record that stands alone.
            None | Some(Body::User(_)) => Ok(self.own_key()),
            Some(Body::DynamoDb(body)) => body.keys(),
            Some(Body::Kinesis(body)) => body.key(),
            Some(Body::Sqs(body)) => Ok(body.own_key()),
        }
    }

    fn own_key(&self) -> RecordKey<'a> {
        RecordKey::Partition(if self.is_fifo {
            self.attributes.group.clone().unwrap_or_default()
        } else {
            self.message_id.clone()
        })
    }

    pub(super) fn change<'s, T: Deserialize<'s>>(&'s self) -> Result<Change<T>, DecodeError> {
        let Some(inner) = self.inner()? else {
            return Ok(Change::Insert { new: Some(read_document(self.text()?, "body")?) });
        };
        let root = match &inner.body {
            Body::DynamoDb(body) => return body.change(&inner),
            Body::Kinesis(_) | Body::User(_) => "data",
            Body::Sqs(_) => "body",
        };
        let document = self
            .document
            .get_or_init(|| inner.data().map(|data| data.unwrap_or_default().to_vec()));
        let document = document.as_deref().map_err(Clone::clone)?;
        Ok(Change::Insert { new: Some(read_bytes(document, root)?) })
    }
}

/// The text of the innermost record whose envelope `body` is, if it is one. One text at a time
/// is kept on the way, however often a record was parked.
fn parked_record(body: &str, queues: &ParkedQueues) -> Result<Option<String>, DecodeError> {
    let mut innermost = None;
    let mut next = enveloped(body)?.map(Cow::into_owned);
    while let Some(text) = next.take() {
        let record = open_record(&text)?;
        if let Body::Sqs(message) = &record.body
            && record.stream_arn().is_some_and(|arn| queues.contains(arn))
        {
            next = enveloped(message.text()?)?.map(Cow::into_owned);
        }
        drop(record);
        innermost = Some(text);
    }
    Ok(innermost)
}

fn open_record(text: &str) -> Result<Record<'_>, DecodeError> {
    let record = Record::read(text)
        .map_err(|error| DecodeError::new("body.record", DecodeReason::Parked(error)))?;
    record.check_members()?;
    Ok(record)
}

/// The record's text in an envelope of ours; none if `body` is another document, or no JSON.
fn enveloped(body: &str) -> Result<Option<Cow<'_, str>>, DecodeError> {
    // Spares every other body the pass over its members. We never write the name escaped.
    if !body.contains("\"changefold\"") {
        return Ok(None);
    }
    let Ok(envelope) = Envelope::read(&mut Cursor::new(body)) else {
        return Ok(None);
    };
    let Some(version) = envelope.version.filter(|version| json::is_number(version)) else {
        return Ok(None);
    };
    if let Some(member) = envelope.repeated {
        return Err(DecodeError::new(format!("body.{member}"), DecodeReason::Repeated));
    }
    if version.parse() != Ok(VERSION) {
        let reason = DecodeReason::Version { known: VERSION };
        return Err(DecodeError::new("body.changefold", reason));
    }
    let record = read_text(envelope.record, "body.record")?;
    let Some(encoding) = envelope.encoding.filter(|encoding| *encoding != "null") else {
        return Ok(Some(record));
    };
    let encoding = read_text(Some(encoding), "body.record_encoding")?;
    let bytes = envelope.bytes.and_then(|bytes| bytes.parse().ok());
    envelope::decoded(&record, &encoding, bytes)
        .map(|record| Some(Cow::Owned(record)))
        .map_err(|error| DecodeError::new("body.record", DecodeReason::Packed(error)))
}

known_members!(EnvelopeMember {
    Version = "changefold",
    Record = "record",
    Encoding = "record_encoding",
    Bytes = "record_bytes",
});

/// The members that tell an envelope, each still as text.
#[derive(Default)]
struct Envelope<'a> {
    version: Option<&'a str>,
    record: Option<&'a str>,
    encoding: Option<&'a str>,
    bytes: Option<&'a str>,
    repeated: Option<&'static str>,
}

impl<'a> Envelope<'a> {
    fn read(cursor: &mut Cursor<'a>) -> Result<Self, Fault> {
        let mut envelope = Self::default();
        let Some(mut members) = Members::<EnvelopeMember>::open(cursor)? else {
            return Ok(envelope);
        };
        while let Some(member) = members.next(cursor, &mut envelope.repeated)? {
            let value = Some(cursor.raw()?);
            match member {
                EnvelopeMember::Version => envelope.version = value,
                EnvelopeMember::Record => envelope.record = value,
                EnvelopeMember::Encoding => envelope.encoding = value,
                EnvelopeMember::Bytes => envelope.bytes = value,
            }
        }
        cursor.end()?;
        Ok(envelope)
    }
}
