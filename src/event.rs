//! The bytes Lambda delivers, as a batch of records.
//!
//! [`parse`] passes over the payload once. It finds the records and what addresses each
//! (service, sequence number, stream, arrival); keys, images and data stay slices of the
//! payload until a record is asked for them, and what is not asked for is never read. So a
//! record that cannot be read is that record's [`DecodeError`], and it still has its sequence
//! number to be reported by. Only where no record can be trusted does the whole event fail,
//! with an [`EventError`].
//!
//! What is read is accepted and valued as `serde_json` does it. What is passed has to be UTF-8
//! and to balance its brackets and quotes; if it is no JSON beyond that, who asks for it is told.
//!
//! Values are read straight into your type, which may borrow from the payload:
//! - DynamoDB's type-tagged JSON: `S` into strings, `N` into integers, floats, or a string
//!   of its digits, `B` into bytes, `M` into structs and maps, `L` and the sets into
//!   sequences, `NULL` into `None` or `()`.
//! - Kinesis data and the bodies of queued messages: any JSON document, as `serde_json` would
//!   read it.
//!
//! A message whose body is the [envelope](crate::recovery::park::envelope::Envelope) of a parked
//! record is read as that record, if its queue is [believed](Batch::believing). An SNS
//! notification is not: a queue that is subscribed to a topic without raw message delivery gets
//! documents with `Type` and `Message`, and that is what is read.
//!
//! A record of a data stream into which the Kinesis Producer Library packed others is taken
//! apart: each user record is one of the batch, with its own key and data, its neighbours'
//! sequence number, and an [ordinal](Record::ordinal), as Lambda delivers it under enhanced
//! fan-out.
//!
//! A record of a data stream that carries the change of a table's item is a document like any
//! other, and [`Record::table_change`] reads it as that change.
//!
//! [`Number`] and [`Value`] are exact where serde's own types cannot be.
//!
//! What it gives up: an attribute that a type does not name may be no JSON and nobody notices;
//! and a value is read anew each time it is asked for.

#![expect(
    clippy::inline_always,
    reason = "tokens are a few bytes: a call costs as much as reading one (benches/ratios)"
)]

mod aggregate;
mod attribute;
mod containers;
mod document;
mod dynamodb;
mod envelope;
mod error;
mod forward;
mod json;
mod key;
mod kinesis;
#[cfg(feature = "aws_lambda_events")]
mod lambda_events;
mod members;
mod number;
pub(crate) mod record_key;
mod scalar;
mod sqs;
mod table_change;
mod value;

pub use error::{AGGREGATED_MAX, AggregateError, DecodeError, DecodeReason, EventError};
pub use number::Number;
pub use sqs::ParkedQueues;
pub use value::Value;

use crate::record::{Change, SequenceNumber, Source, Timestamp};
use aggregate::UserRecord;
use dynamodb::DynamoDbBody;
use kinesis::KinesisBody;
use record_key::KeyText;
use serde::Deserialize;
use sqs::SqsBody;
use std::borrow::Cow;
use table_change::Made;

/// One invocation's records, borrowing from its payload.
#[derive(Debug)]
pub struct Batch<'a> {
    records: Result<Vec<Record<'a>>, EventError>,
    is_windowed: bool,
}

/// Reads an event of a DynamoDB stream, a Kinesis data stream or an SQS queue.
///
/// Never fails itself: what makes the whole event unusable is said by [`Batch::records`].
///
/// # Examples
/// ```
/// use changefold::{event, record::Change};
/// let payload = br#"{"Records": [{
///     "eventSource": "aws:dynamodb", "eventName": "INSERT",
///     "dynamodb": {
///         "SequenceNumber": "111", "Keys": {"id": {"S": "o1"}},
///         "NewImage": {"id": {"S": "o1"}, "amount": {"N": "12.50"}}
///     }
/// }]}"#;
///
/// #[derive(serde::Deserialize)]
/// struct Order<'a> {
///     id: &'a str,
///     #[serde(borrow)]
///     amount: event::Number<'a>,
/// }
///
/// let batch = event::parse(payload);
/// for record in batch.records().map_err(Clone::clone)? {
///     let Change::Insert { new: Some(order) } = record.change::<Order>()? else { panic!() };
///     assert_eq!((order.id, order.amount.as_str()), ("o1", "12.50"));
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use]
pub fn parse(payload: &[u8]) -> Batch<'_> {
    match envelope::read_event(payload) {
        Ok((records, is_windowed)) => Batch { records: Ok(records), is_windowed },
        Err(error) => Batch { records: Err(error), is_windowed: false },
    }
}

impl<'a> Batch<'a> {
    /// The records in stream order. An event may have none.
    ///
    /// # Errors
    /// The payload is not JSON or not an event of a stream or a queue; a record has no usable
    /// sequence number or no message id, or one of its identifying members twice; the records
    /// are from several services.
    pub fn records(&self) -> Result<&[Record<'a>], &EventError> {
        self.records.as_deref()
    }

    /// Gives the first record its place among neighbours with its sequence number: a parked
    /// record comes back alone.
    pub(crate) fn with_ordinal(mut self, ordinal: u32) -> Self {
        if let Some(first) = self.records.as_mut().ok().and_then(|records| records.first_mut()) {
            first.ordinal = ordinal;
        }
        self
    }

    /// Believes the envelopes of parked records that come from these queues: such a message is
    /// about the record in it. From other queues an envelope is a document like any other.
    #[must_use]
    pub fn believing(mut self, queues: &ParkedQueues) -> Self {
        for record in self.records.as_mut().map_or(&mut [][..], |records| records) {
            if let Body::Sqs(body) = &mut record.body {
                body.believe(queues, record.stream_arn.as_deref());
            }
        }
        self
    }

    /// The records themselves, to be sorted by what is in them.
    #[cfg(feature = "destinations")]
    pub(crate) fn into_records(self) -> Result<Vec<Record<'a>>, EventError> {
        self.records
    }

    /// Whether the event belongs to a tumbling window (`TumblingWindowInSeconds`): Lambda
    /// then expects a `state` in the reply.
    #[must_use]
    pub fn is_windowed(&self) -> bool {
        self.is_windowed
    }

    /// The records in stream order, neighbours with one sequence number together.
    ///
    /// Lambda can only be told a sequence number, so such neighbours share one outcome. They
    /// occur where a producer's library had packed several into one. A message of a queue is
    /// always a unit of its own.
    ///
    /// # Errors
    /// As [`records`](Self::records).
    pub fn units(&self) -> Result<impl Iterator<Item = &[Record<'a>]>, &EventError> {
        Ok(self.records()?.chunk_by(Record::shares_unit))
    }
}

/// Reads the attributes of an item in DynamoDB's notation, which the payload had or
/// [`Value::to_image`] has written.
///
/// # Errors
/// It is not that.
pub(crate) fn image(text: &str) -> Result<Value<'_>, DecodeError> {
    attribute::read_item(text, "image")
}

/// One record: always addressable, perhaps unreadable.
#[derive(Debug)]
pub struct Record<'a> {
    source: Source,
    sequence_number: SequenceNumber<'a>,
    ordinal: u32,
    text: &'a str,
    event_id: Option<Cow<'a, str>>,
    /// Of the event of a tumbling window.
    shard_id: Option<Cow<'a, str>>,
    stream_arn: Option<Cow<'a, str>>,
    event_name: Option<&'a str>,
    user_identity: Option<&'a str>,
    body: Body<'a>,
    /// A member that is there twice, so that no reading of the record can be trusted.
    repeated: Option<&'static str>,
    /// Of a change that came through a data stream.
    made: Option<Made>,
}

#[derive(Debug)]
enum Body<'a> {
    DynamoDb(DynamoDbBody<'a>),
    Kinesis(KinesisBody<'a>),
    User(Box<UserRecord<'a>>),
    Sqs(Box<SqsBody<'a>>),
}

impl<'a> Record<'a> {
    /// Reads one record that stands alone, as a parked one does.
    fn read(text: &'a str) -> Result<Self, EventError> {
        envelope::read_record(text)
    }

    /// The service the record comes from.
    #[must_use]
    pub fn source(&self) -> Source {
        self.source
    }

    /// Position of the record in its shard.
    ///
    /// A FIFO queue numbers its messages within their group. A standard queue does not: the
    /// number is the message's place in the event, from 0, and **another one at the next
    /// delivery**. The name of a queue's message is its [`message_id`](Self::message_id).
    #[must_use]
    pub fn sequence_number(&self) -> &SequenceNumber<'a> {
        &self.sequence_number
    }

    /// Position among neighbours of the batch with the same sequence number, from 0; of a
    /// queue's message always 0.
    #[must_use]
    pub fn ordinal(&self) -> u32 {
        self.ordinal
    }

    /// Whether Lambda can only be told of this record and its neighbour together, so that
    /// they share one outcome.
    #[must_use]
    pub fn shares_unit(&self, neighbour: &Record<'_>) -> bool {
        !self.source.is_queue() && self.sequence_number == neighbour.sequence_number
    }

    /// `messageId` of a queue's message: the same at every delivery, never empty. None for a
    /// record of a stream.
    #[must_use]
    pub fn message_id(&self) -> Option<&str> {
        self.message().map(SqsBody::message_id)
    }

    /// `MessageGroupId` of a FIFO queue's message: within it, messages are in order. A standard
    /// queue may have groups too (fair queues), but they keep no order and are not told here.
    #[must_use]
    pub fn message_group(&self) -> Option<&str> {
        self.message().and_then(SqsBody::group)
    }

    /// The number that a FIFO queue gave its message: within the group, in the order of sending.
    pub(crate) fn fifo_number(&self) -> Option<&SequenceNumber<'a>> {
        let is_numbered = self.message().is_some_and(SqsBody::is_numbered);
        is_numbered.then_some(&self.sequence_number)
    }

    /// How often a queue has delivered this message, this time included, approximately; none
    /// for a record of a stream.
    #[must_use]
    pub fn receive_count(&self) -> Option<u32> {
        self.message().and_then(SqsBody::receive_count)
    }

    fn message(&self) -> Option<&SqsBody<'a>> {
        match &self.body {
            Body::DynamoDb(_) | Body::Kinesis(_) | Body::User(_) => None,
            Body::Sqs(body) => Some(body),
        }
    }

    /// The parked record that a queue's message brings back, if its body is one's envelope and
    /// its queue is [believed](Batch::believing): where it stood, when it arrived, from which
    /// stream. It is read anew each time.
    ///
    /// # Errors
    /// The body is no string, or an envelope of another version or of no record.
    pub fn inner(&self) -> Result<Option<Record<'_>>, DecodeError> {
        self.check_members()?;
        self.message().map_or(Ok(None), SqsBody::inner)
    }

    /// The record's JSON object, byte for byte as it was delivered. That of a record taken out of
    /// an aggregate is the aggregate's, with the record's own key and data.
    #[must_use]
    pub fn raw(&self) -> &str {
        match &self.body {
            Body::User(body) => body.text(),
            Body::DynamoDb(_) | Body::Kinesis(_) | Body::Sqs(_) => self.text,
        }
    }

    /// `eventID`, if there is one.
    #[must_use]
    pub fn event_id(&self) -> Option<&str> {
        self.event_id.as_deref()
    }

    /// `eventSourceARN`, if there is one.
    #[must_use]
    pub fn stream_arn(&self) -> Option<&str> {
        self.stream_arn.as_deref()
    }

    /// Name of the table, data stream or queue in the ARN.
    #[must_use]
    pub fn stream_name(&self) -> Option<&str> {
        Some(self.stream_resource()?.split('/').next().unwrap_or_default())
    }

    /// Label of a DynamoDB stream: what follows `/stream/` in the ARN.
    #[must_use]
    pub fn stream_label(&self) -> Option<&str> {
        match self.source {
            Source::DynamoDb => self.stream_resource()?.split_once("/stream/").map(|(_, it)| it),
            Source::Kinesis | Source::Sqs => None,
        }
    }

    /// The resource part of the ARN (its sixth) without its type: `name/stream/label` of a
    /// table's stream, `name` or `name/consumer/…` of a data stream, `name` of a queue.
    fn stream_resource(&self) -> Option<&str> {
        let kind = match self.source {
            Source::DynamoDb => "table/",
            Source::Kinesis => "stream/",
            Source::Sqs => "",
        };
        let resource = self.stream_arn()?.splitn(6, ':').nth(5)?.strip_prefix(kind)?;
        (!resource.is_empty()).then_some(resource)
    }

    /// The table or data stream itself, as an ARN without the label of a DynamoDB stream and
    /// without the consumer of a Kinesis one: the same before and after either changes.
    #[must_use]
    pub(crate) fn source_arn(&self) -> Option<&str> {
        let arn = self.stream_arn()?;
        let resource = self.stream_resource()?;
        let name = resource.split('/').next().unwrap_or_default();
        Some(&arn[..arn.len() - resource.len() + name.len()])
    }

    /// The shard, where the event tells it: from a Kinesis `eventID`, or from the event of a
    /// tumbling window. An ordinary DynamoDB event does not have it.
    #[must_use]
    pub fn shard_id(&self) -> Option<&str> {
        let own = match self.source {
            // `eventID` is `shardId-…:sequence number`.
            Source::Kinesis => self.event_id().and_then(|id| id.split_once(':')),
            Source::DynamoDb | Source::Sqs => None,
        };
        let own = own.map(|(shard, _)| shard).filter(|shard| shard.starts_with("shardId-"));
        own.or(self.shard_id.as_deref())
    }

    /// When the change reached the stream, approximately, or when the message was sent; none if
    /// absent or not a number.
    #[must_use]
    pub fn approximate_arrival(&self) -> Option<Timestamp> {
        if let Some(made) = self.made {
            return Some(made.timestamp());
        }
        match &self.body {
            Body::DynamoDb(body) => body.arrival(),
            Body::Kinesis(body) => body.arrival(),
            Body::User(body) => body.stream_record().arrival(),
            Body::Sqs(body) => body.sent(),
        }
    }

    /// What the record is about: the item's key attributes, the partition key, or what stands
    /// for one in a queue. A parked record in a message is about its own key.
    ///
    /// # Errors
    /// The keys are missing or cannot be read.
    pub fn keys(&self) -> Result<RecordKey<'_>, DecodeError> {
        self.check_members()?;
        match &self.body {
            Body::DynamoDb(body) => body.keys(),
            Body::Kinesis(body) => body.key(),
            Body::User(body) => Ok(body.key()),
            Body::Sqs(body) => body.key(),
        }
    }

    /// The key as it stands in the payload, where it stands there as one value. Keys that are
    /// there twice cannot be trusted.
    pub(crate) fn key_text(&self) -> Option<KeyText<'a>> {
        if self.repeated.is_some() {
            return None;
        }
        match &self.body {
            Body::DynamoDb(body) => body.keys_text().map(KeyText::Item),
            Body::Kinesis(body) => body.key_text().map(KeyText::Partition),
            // Its text is unescaped, so it could not be told from one that is written otherwise.
            Body::User(_) | Body::Sqs(_) => None,
        }
    }

    /// A Kinesis record's data as it stands in the payload: what tells neighbours with one
    /// sequence number apart, however AWS cuts.
    pub(crate) fn data_text(&self) -> Option<&'a str> {
        match &self.body {
            Body::Kinesis(body) => body.data_text(),
            Body::DynamoDb(_) | Body::User(_) | Body::Sqs(_) => None,
        }
    }

    /// Place of the record in the aggregate that it was packed into, if it was taken apart here:
    /// the same at every delivery, however AWS cuts.
    pub(crate) fn sub_sequence(&self) -> Option<u32> {
        match &self.body {
            Body::Kinesis(body) => body.sub_sequence(),
            Body::User(_) => Some(self.ordinal),
            Body::DynamoDb(_) | Body::Sqs(_) => None,
        }
    }

    /// Whether it is the first of what was taken out of one element of the event, or all of it.
    pub(crate) fn is_first_of_element(&self) -> bool {
        self.ordinal == 0 || !matches!(self.body, Body::User(_))
    }

    /// The hash key that the producer chose for a record of a data stream, if it chose one and
    /// packed the record into another. An event does not tell that of other records.
    #[must_use]
    pub fn explicit_hash_key(&self) -> Option<Cow<'_, str>> {
        match &self.body {
            Body::Kinesis(body) => body.explicit_hash_key(),
            Body::User(body) => body.explicit_hash_key().map(Cow::Borrowed),
            Body::DynamoDb(_) | Body::Sqs(_) => None,
        }
    }

    /// Whether it may be one of several that Lambda unpacked from one record of the stream: it
    /// came through enhanced fan-out, where they have one sequence number together. An
    /// ordinary iterator leaves them packed.
    pub(crate) fn may_be_unpacked(&self) -> bool {
        let consumer = self.stream_resource().is_some_and(|it| it.contains("/consumer/"));
        self.source == Source::Kinesis && consumer
    }

    /// The change, its images or its Kinesis document read into your type.
    ///
    /// Only the images that belong to the change's kind are read. The change of a queue's
    /// message is the insert of its body, or the change of the parked record it brings back.
    ///
    /// # Errors
    /// `eventName` is unknown, an image, the data or the body is malformed, or it does not fit
    /// `T`; the body is an envelope of a parked record that cannot be opened.
    #[inline]
    pub fn change<'s, T: Deserialize<'s>>(&'s self) -> Result<Change<T>, DecodeError> {
        self.check_members()?;
        match &self.body {
            Body::DynamoDb(body) => body.change(self),
            Body::Kinesis(body) => {
                body.change().map_err(|error| aggregate::why_no_document(body, error))
            }
            Body::User(body) => body.change(),
            Body::Sqs(body) => body.change(),
        }
    }

    /// The change without loss and without a type of yours.
    ///
    /// # Errors
    /// As [`change`](Self::change).
    pub fn values(&self) -> Result<Change<Value<'_>>, DecodeError> {
        self.change()
    }

    /// The bytes of a Kinesis record's data or of a message's body; none for a DynamoDB record.
    ///
    /// # Errors
    /// They are missing or not a string, or the data is not base64.
    pub fn data(&self) -> Result<Option<&[u8]>, DecodeError> {
        self.check_members()?;
        match &self.body {
            Body::DynamoDb(_) => Ok(None),
            Body::Kinesis(body) => body.data().map(Some),
            Body::User(body) => Ok(Some(body.data())),
            Body::Sqs(body) => body.text().map(|text| Some(text.as_bytes())),
        }
    }

    /// The new image of a table's item as it stands in the payload; none where it is gone.
    pub(crate) fn new_image_text(&self) -> Option<&'a str> {
        match &self.body {
            Body::DynamoDb(body) => {
                let is_gone = self.event_name().is_ok_and(|name| name == "REMOVE");
                body.new_image_text().filter(|_| !is_gone)
            }
            Body::Kinesis(_) | Body::User(_) | Body::Sqs(_) => None,
        }
    }

    fn event_name(&self) -> Result<Cow<'a, str>, DecodeError> {
        members::read_text(self.event_name, "eventName")
    }

    fn check_members(&self) -> Result<(), DecodeError> {
        match self.repeated {
            None => Ok(()),
            Some(member) => Err(DecodeError::new(member, DecodeReason::Repeated)),
        }
    }
}

/// Identity of the item or partition a record is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum RecordKey<'a> {
    /// The key attributes, sorted by name.
    Item(Vec<(Cow<'a, str>, Value<'a>)>),
    /// A Kinesis partition key; the group of a FIFO queue's message; the id of a standard
    /// queue's message, which is in order with none.
    Partition(Cow<'a, str>),
}
