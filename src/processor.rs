//! What you write: the processing of one change at a time, or of many in one call.
//!
//! A [`Processor`] names the type its images are read into; that type may borrow from the
//! payload. [`from_fn`] makes a processor of an `async` closure over an owned type. A
//! [`BatchProcessor`] gets many changes in one call, for stores that are written in bulk.
//! Either way the changes of one key arrive one after another, in stream order, and perhaps
//! more than once: [`Context::identity`] is the same at every delivery.
//!
//! What this gives up: effects outside changefold's own tables are not exactly once. Make
//! them idempotent with the identity.

mod bulk;
pub(crate) mod errors;

pub use bulk::{BatchFailure, BatchItem, BatchProcessor, FromBatchFn, from_batch_fn};

use crate::{
    call::Call,
    event::{DecodeError, Record, RecordKey},
    record::{Change, SequenceNumber, Source, Timestamp},
};
use serde::{Deserialize, de::DeserializeOwned};
use std::{borrow::Cow, error::Error, fmt, marker::PhantomData};

/// Your processing of one change.
///
/// # Examples
/// ```
/// use changefold::{processor::{Context, Failure, Processor}, record::Change};
///
/// #[derive(serde::Deserialize)]
/// struct Order<'a> {
///     id: &'a str, // borrowed from the payload
///     amount: u64,
/// }
///
/// struct Announce;
///
/// impl Processor for Announce {
///     type Item<'a> = Order<'a>;
///
///     async fn process(
///         &self,
///         change: Change<Order<'_>>,
///         context: &Context<'_>,
///     ) -> Result<(), Failure> {
///         let Some(order) = change.new_image() else { return Ok(()) };
///         if order.id.is_empty() {
///             return Err(Failure::park("an order without an id"));
///         }
///         send(order.id, order.amount, context.identity()).await?; // unclassified
///         Ok(())
///     }
/// }
/// # async fn send(_: &str, _: u64, _: impl ToString) -> std::io::Result<()> { Ok(()) }
/// ```
pub trait Processor {
    /// The type an image or a Kinesis document is read into; may borrow from the payload.
    type Item<'a>: Deserialize<'a>;

    /// Processes one change.
    ///
    /// A panic in here costs this record alone, and is [unclassified](Class::Unclassified).
    ///
    /// # Errors
    /// The change is not processed; the [`Failure`] says what is to become of it.
    fn process<'a>(
        &self,
        change: Change<Self::Item<'a>>,
        context: &Context<'a>,
    ) -> impl Future<Output = Result<(), Failure>>;
}

/// Makes a processor of an `async` closure.
///
/// # Examples
/// ```
/// use changefold::{processor, record::Change};
///
/// #[derive(serde::Deserialize)]
/// struct Order {
///     id: String,
/// }
///
/// let processor = processor::from_fn(async |change: Change<Order>, context| {
///     if let Some(order) = change.new_image() {
///         send(&order.id, context.identity()).await?;
///     }
///     Ok(())
/// });
/// # async fn send(_: &str, _: impl ToString) -> std::io::Result<()> { Ok(()) }
/// # fn is<P: processor::Processor>(_: P) {}
/// # is(processor);
/// ```
pub fn from_fn<T, F>(process: F) -> FromFn<T, F>
where
    T: DeserializeOwned,
    F: AsyncFn(Change<T>, &Context<'_>) -> Result<(), Failure>,
{
    FromFn { process, item: PhantomData }
}

/// The processor [`from_fn`] makes.
pub struct FromFn<T, F> {
    process: F,
    item: PhantomData<fn() -> T>,
}

impl<T, F> fmt::Debug for FromFn<T, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FromFn").finish_non_exhaustive()
    }
}

impl<T, F> Processor for FromFn<T, F>
where
    T: DeserializeOwned,
    F: AsyncFn(Change<T>, &Context<'_>) -> Result<(), Failure>,
{
    type Item<'a> = T;

    async fn process(&self, change: Change<T>, context: &Context<'_>) -> Result<(), Failure> {
        (self.process)(change, context).await
    }
}

/// Where a change stands: everything a processor may know beside the change itself.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    record: &'a Record<'a>,
    call: &'a Call,
    attempt: u32,
}

impl<'a> Context<'a> {
    pub(crate) fn new(record: &'a Record<'a>, call: &'a Call, attempt: u32) -> Self {
        Self { record, call, attempt }
    }

    pub(crate) fn with_attempt(self, attempt: u32) -> Self {
        Self { attempt, ..self }
    }

    /// The record itself, as it was delivered: its bytes ([`Record::raw`]), its `eventID`, its
    /// data or body ([`Record::data`]), its images in any other type ([`Record::change`]), and,
    /// with the feature `aws_lambda_events`, that crate's types of it.
    ///
    /// Of a queue's message this is the message; the parked record that it may bring back is
    /// [`inner`](Self::inner). Nothing is read here: what a record is asked for is read then.
    ///
    /// # Examples
    /// ```
    /// use changefold::{processor, record::Change};
    /// use serde::de::IgnoredAny;
    ///
    /// // No image is read into a type: the record is passed on as it came.
    /// let processor = processor::from_fn(async |_: Change<IgnoredAny>, context| {
    ///     forward(context.record().raw()).await?;
    ///     Ok(())
    /// });
    /// # async fn forward(_: &str) -> std::io::Result<()> { Ok(()) }
    /// # fn is<P: processor::Processor>(_: P) {}
    /// # is(processor);
    /// ```
    #[must_use]
    pub fn record(&self) -> &'a Record<'a> {
        self.record
    }

    /// The service the record comes from.
    #[must_use]
    pub fn source(&self) -> Source {
        self.record.source()
    }

    /// ARN of the stream or queue (`eventSourceARN`), where the event carries it.
    #[must_use]
    pub fn stream_arn(&self) -> Option<&'a str> {
        self.record.stream_arn()
    }

    /// Shard of the stream, where it is known: always for Kinesis, not for an ordinary
    /// DynamoDB event.
    #[must_use]
    pub fn shard_id(&self) -> Option<&'a str> {
        self.record.shard_id()
    }

    /// Position in the shard. Of a standard queue's message only its place in this event: see
    /// [`Record::sequence_number`].
    #[must_use]
    pub fn sequence_number(&self) -> &'a SequenceNumber<'a> {
        self.record.sequence_number()
    }

    /// Place among neighbours with the same sequence number, from 0: the records of a Kinesis
    /// aggregate share one number, whether they are taken apart here or, under enhanced fan-out,
    /// by Lambda.
    #[must_use]
    pub fn ordinal(&self) -> u32 {
        self.record.ordinal()
    }

    /// Id of the queue's message; none for a record of a stream.
    #[must_use]
    pub fn message_id(&self) -> Option<&'a str> {
        self.record.message_id()
    }

    /// Group of the FIFO queue's message.
    #[must_use]
    pub fn message_group(&self) -> Option<&'a str> {
        self.record.message_group()
    }

    /// How often the queue has delivered the message, this time included, approximately.
    #[must_use]
    pub fn receive_count(&self) -> Option<u32> {
        self.record.receive_count()
    }

    /// The parked record that a queue's message brings back: its stream, its position, its
    /// arrival. The change and the [`key`](Self::key) are this record's already.
    #[must_use]
    pub fn inner(&self) -> Option<Record<'a>> {
        // One that cannot be read is no change either, and the processor is not called.
        self.record.inner().ok().flatten()
    }

    /// The item's key, the Kinesis partition key, or what stands for one in a queue.
    ///
    /// # Errors
    /// The record's keys cannot be read.
    pub fn key(&self) -> Result<RecordKey<'a>, DecodeError> {
        self.record.keys()
    }

    /// When the record entered the stream, to the service's precision (DynamoDB: seconds).
    #[must_use]
    pub fn approximate_arrival(&self) -> Option<Timestamp> {
        self.record.approximate_arrival()
    }

    /// When Lambda cuts this invocation off.
    #[must_use]
    pub fn deadline(&self) -> Timestamp {
        self.call.deadline
    }

    /// Lambda's id of this invocation. Retries of the same batch repeat it: it is for logs,
    /// not for telling deliveries apart.
    #[must_use]
    pub fn request_id(&self) -> &'a str {
        &self.call.request_id
    }

    /// Which try of this record this is, from 1. Tries of earlier invocations count where
    /// they are remembered (`CHANGEFOLD_PROGRESS_TABLE`); calls shared with other records do not.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// A name of this record that is the same at every delivery and no other record's: use it
    /// as the idempotency key of effects. A parked record that comes back in a message keeps
    /// the name it had in its stream, so that effects it made before are known.
    ///
    /// Records that enhanced fan-out unpacked from one aggregate are numbered by their place in
    /// the batch. Should AWS cut a batch within an aggregate, the rest of it is numbered from 0
    /// again: where producers aggregate, put what tells two records apart into the effect's key.
    #[must_use]
    pub fn identity(&self) -> Identity<'a> {
        match self.inner() {
            None => Identity::of(self.record),
            Some(inner) => Identity::of(&inner).into_owned(),
        }
    }
}

/// A stable name of a record; prints as `stream/shard/sequence number/ordinal`, of a queue's
/// message as `queue/message id`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity<'a> {
    stream_arn: Cow<'a, str>,
    place: Place<'a>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Place<'a> {
    Stream { shard_id: Cow<'a, str>, sequence_number: SequenceNumber<'a>, ordinal: u32 },
    Queue { message_id: Cow<'a, str> },
}

impl<'a> Identity<'a> {
    fn of(record: &'a Record<'_>) -> Self {
        // A DynamoDB shard is named in some deliveries only, so it cannot be part of a stable
        // name; Kinesis names it always and numbers records within it.
        let shard_id = match record.source() {
            Source::Kinesis => record.shard_id().unwrap_or_default(),
            Source::DynamoDb | Source::Sqs => "",
        };
        let place = match record.message_id() {
            Some(message_id) => Place::Queue { message_id: message_id.into() },
            None => Place::Stream {
                shard_id: shard_id.into(),
                sequence_number: record.sequence_number().clone(),
                ordinal: record.ordinal(),
            },
        };
        Self { stream_arn: record.stream_arn().unwrap_or_default().into(), place }
    }

    /// A copy that no longer borrows from the payload.
    #[must_use]
    pub fn into_owned(self) -> Identity<'static> {
        let place = match self.place {
            Place::Stream { shard_id, sequence_number, ordinal } => Place::Stream {
                shard_id: shard_id.into_owned().into(),
                sequence_number: sequence_number.into_owned(),
                ordinal,
            },
            Place::Queue { message_id } => {
                Place::Queue { message_id: message_id.into_owned().into() }
            }
        };
        Identity { stream_arn: self.stream_arn.into_owned().into(), place }
    }
}

impl fmt::Display for Identity<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/", self.stream_arn)?;
        match &self.place {
            Place::Stream { shard_id, sequence_number, ordinal } => {
                write!(f, "{shard_id}/{sequence_number}/{ordinal}")
            }
            Place::Queue { message_id } => f.write_str(message_id),
        }
    }
}

/// Why a change is not processed, and what is to become of it.
///
/// `?` turns any error into an [unclassified](Class::Unclassified) failure: what nobody
/// classified is tried again, set aside after `CHANGEFOLD_MAX_ATTEMPTS` tries where a park is
/// configured, and never lost. The reason's text ends up in the log and beside the parked
/// record, so keep payload values out of it.
///
/// # Examples
/// ```
/// use changefold::processor::{Class, Failure};
/// let failure = Failure::retry("the shop does not answer").with_code("ShopDown");
/// assert_eq!((failure.class(), failure.code()), (Class::Retry, "ShopDown"));
/// ```
#[derive(Debug)]
pub struct Failure {
    class: Class,
    code: &'static str,
    reason: Box<dyn Error + Send + Sync>,
}

/// What is to become of a change that was not processed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Transient, whatever the record: tried again in place, then by Lambda, as long as it
    /// takes.
    Retry,
    /// Nobody said: tried again, and set aside after the last attempt if a park is configured.
    Unclassified,
    /// This record will never work: set aside. Without a park it keeps blocking, because
    /// losing is never the default.
    Park,
    /// Nothing can be trusted: the invocation fails.
    Halt,
}

impl Failure {
    fn new(class: Class, code: &'static str, reason: Box<dyn Error + Send + Sync>) -> Self {
        Self { class, code, reason }
    }

    /// Transient: try again. Takes an error or a text.
    pub fn retry(reason: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::new(Class::Retry, "ProcessorRetry", reason.into())
    }

    /// This record will never work. Takes an error or a text.
    pub fn park(reason: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::new(Class::Park, "ProcessorPark", reason.into())
    }

    /// Nothing can be trusted: fail the invocation. Takes an error or a text.
    pub fn halt(reason: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::new(Class::Halt, "ProcessorHalt", reason.into())
    }

    pub(crate) fn unclassified(
        code: &'static str,
        reason: impl Into<Box<dyn Error + Send + Sync>>,
    ) -> Self {
        Self::new(Class::Unclassified, code, reason.into())
    }

    /// Gives the failure a stable code of your own, for logs, alarms and the parked record.
    ///
    /// Five consecutive transient failures of one code over different keys end the work of an
    /// invocation: whatever they all need is down.
    #[must_use]
    pub fn with_code(self, code: &'static str) -> Self {
        Self { code, ..self }
    }

    /// The failure of a call of which these items, by their places in it, are finished all the
    /// same.
    #[must_use]
    pub fn after(self, finished: impl IntoIterator<Item = usize>) -> BatchFailure {
        BatchFailure::from(self).after(finished)
    }

    /// What is to become of the change.
    #[must_use]
    pub fn class(&self) -> Class {
        self.class
    }

    /// Stable code for logs and alarms.
    #[must_use]
    pub fn code(&self) -> &'static str {
        self.code
    }

    /// The reason alone.
    #[must_use]
    pub fn into_reason(self) -> Box<dyn Error + Send + Sync> {
        self.reason
    }

    pub(crate) fn reason(&self) -> &(dyn Error + Send + Sync + 'static) {
        &*self.reason
    }
}

impl<E: Error + Send + Sync + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::unclassified("ProcessorError", error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_nobody_classified_says_so() {
        fn fails() -> Result<(), Failure> {
            Err(fmt::Error)?;
            Ok(())
        }
        let failure = fails().unwrap_err();
        assert_eq!((failure.class(), failure.code()), (Class::Unclassified, "ProcessorError"));
        assert_eq!(failure.into_reason().to_string(), fmt::Error.to_string());
    }

    #[test]
    fn every_failure_has_its_code() {
        let codes = [Failure::retry("x"), Failure::park("x"), Failure::halt(fmt::Error)];
        let codes = codes.each_ref().map(Failure::code);
        assert_eq!(codes, ["ProcessorRetry", "ProcessorPark", "ProcessorHalt"]);
    }
}
