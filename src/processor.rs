//! What you write: the processing of one change at a time.
//!
//! Two forms. A [`Processor`] names the type its images are read into; that type may borrow
//! from the payload. [`from_fn`] makes a processor of an `async` closure over an owned type.
//! Either way the changes of one key arrive one after another, in stream order, and perhaps
//! more than once: [`Context::identity`] is the same at every delivery.
//!
//! What this gives up: effects outside changefold's own tables are not exactly once. Make
//! them idempotent with the identity.

use crate::{
    batch::Call,
    event::{DecodeError, Record, RecordKey},
    record::{Change, SequenceNumber, Source, Timestamp},
};
use serde::{Deserialize, de::DeserializeOwned};
use std::{error::Error, fmt, marker::PhantomData};

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
///         send(order.id, order.amount, context.identity()).await?; // any error: Retry
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
    /// A panic in here costs this record alone: it counts as [`Failure::Retry`].
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
    pub(crate) fn new(record: &'a Record<'a>, call: &'a Call) -> Self {
        Self { record, call, attempt: 1 }
    }

    /// The service the record comes from.
    #[must_use]
    pub fn source(&self) -> Source {
        self.record.source()
    }

    /// ARN of the stream (`eventSourceARN`), where the event carries it.
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

    /// Position in the shard.
    #[must_use]
    pub fn sequence_number(&self) -> &'a SequenceNumber<'a> {
        self.record.sequence_number()
    }

    /// Place among neighbours with the same sequence number, from 0: Lambda takes a Kinesis
    /// aggregate apart under enhanced fan-out, and its records share one number.
    #[must_use]
    pub fn ordinal(&self) -> u32 {
        self.record.ordinal()
    }

    /// The item's key, or the Kinesis partition key.
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

    /// Which try of this record this is within the invocation, from 1.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// A name of this record that is the same at every delivery and no other record's: use it
    /// as the idempotency key of effects.
    #[must_use]
    pub fn identity(&self) -> Identity<'a> {
        Identity {
            stream_arn: self.stream_arn().unwrap_or_default(),
            // A DynamoDB shard is named in some deliveries only, so it cannot be part of a
            // stable name; Kinesis names it always and numbers records within it.
            shard_id: match self.source() {
                Source::Kinesis => self.shard_id().unwrap_or_default(),
                Source::DynamoDb => "",
            },
            sequence_number: self.sequence_number(),
            ordinal: self.ordinal(),
        }
    }
}

/// A stable name of a record; prints as `stream/shard/sequence number/ordinal`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity<'a> {
    stream_arn: &'a str,
    shard_id: &'a str,
    sequence_number: &'a SequenceNumber<'a>,
    ordinal: u32,
}

impl fmt::Display for Identity<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { stream_arn, shard_id, sequence_number, ordinal } = self;
        write!(f, "{stream_arn}/{shard_id}/{sequence_number}/{ordinal}")
    }
}

/// Why a change is not processed, and what is to become of it.
///
/// `?` turns any error into [`Retry`](Self::Retry): what nobody classified is never lost.
/// The text ends up in the log, so keep payload values out of it.
#[derive(Debug)]
pub enum Failure {
    /// Transient: deliver again.
    Retry(Box<dyn Error + Send + Sync>),
    /// This record will never work. Until a place to park it is configured it keeps blocking
    /// like [`Retry`](Self::Retry), because losing is never the default.
    Park(Box<dyn Error + Send + Sync>),
    /// Nothing can be trusted: fail the invocation.
    Halt(Box<dyn Error + Send + Sync>),
}

impl Failure {
    /// Transient: deliver again. Takes an error or a text.
    pub fn retry(reason: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Retry(reason.into())
    }

    /// This record will never work. Takes an error or a text.
    pub fn park(reason: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Park(reason.into())
    }

    /// Nothing can be trusted: fail the invocation. Takes an error or a text.
    pub fn halt(reason: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Halt(reason.into())
    }

    /// Stable code for logs and alarms.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Retry(_) => "ProcessorRetry",
            Self::Park(_) => "ProcessorPark",
            Self::Halt(_) => "ProcessorHalt",
        }
    }

    /// The reason alone.
    #[must_use]
    pub fn into_reason(self) -> Box<dyn Error + Send + Sync> {
        match self {
            Self::Retry(reason) | Self::Park(reason) | Self::Halt(reason) => reason,
        }
    }
}

impl<E: Error + Send + Sync + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::retry(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unclassified_error_is_retried() {
        fn fails() -> Result<(), Failure> {
            Err(fmt::Error)?;
            Ok(())
        }
        let failure = fails().unwrap_err();
        assert_eq!(failure.code(), "ProcessorRetry");
        assert_eq!(failure.into_reason().to_string(), fmt::Error.to_string());
    }

    #[test]
    fn every_failure_has_its_code() {
        let codes = [Failure::retry("x"), Failure::park("x"), Failure::halt(fmt::Error)];
        let codes = codes.each_ref().map(Failure::code);
        assert_eq!(codes, ["ProcessorRetry", "ProcessorPark", "ProcessorHalt"]);
    }
}
