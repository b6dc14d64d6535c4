//! The on-failure document of an event source mapping: which positions it gave up, and why.
//!
//! Separate from its carriers because its shape is AWS's contract, the counterpart of
//! `local/mapping/on_failure.rs`. It needs what finds the records (stream, shard, first and
//! last position) and takes the rest as it comes. What it gives up: a tumbling window's
//! final call has no records, so its document is an error of its own.

use crate::record::{SequenceNumber, SequenceNumberError, Source, Timestamp};
use aws_smithy_types::{DateTime, date_time::Format};
use serde::Deserialize;
use serde_json::value::RawValue;

/// Records of one shard that the mapping gave up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// The service they came from.
    pub source: Source,
    /// The stream; of Kinesis perhaps a consumer of it.
    pub stream_arn: String,
    /// The shard.
    pub shard_id: String,
    /// Position of the first record.
    pub first: SequenceNumber<'static>,
    /// Position of the last record.
    pub last: SequenceNumber<'static>,
    /// How many records were given up.
    pub batch_size: u64,
    /// Why, in AWS's word: `RetryAttemptsExhausted`, `RecordAgeExceeded`.
    pub condition: String,
    /// When the first record arrived, if told.
    pub first_arrival: Option<Timestamp>,
    /// When the last record arrived, if told.
    pub last_arrival: Option<Timestamp>,
    /// The event as the function got it, where the destination was a bucket.
    pub payload: Option<String>,
    /// The function that failed, as the mapping names it.
    pub function_arn: String,
}

impl Notice {
    /// Reads the document.
    ///
    /// # Errors
    /// It is another document, or one that does not say where the records are.
    pub fn read(text: &str) -> Result<Self, NoticeError> {
        let document: Document<'_> =
            serde_json::from_str(text).map_err(|_| NoticeError::UnknownShape)?;
        let (source, batch) = match (document.dynamodb, document.kinesis) {
            (Some(batch), None) => (Source::DynamoDb, batch),
            (None, Some(batch)) => (Source::Kinesis, batch),
            _ => return Err(NoticeError::UnknownShape),
        };
        if document.time_window.is_some() && batch.first.is_none() {
            return Err(NoticeError::Window);
        }
        let context = document.context.unwrap_or_default();
        let (first, last) = (position(batch.first, FIRST)?, position(batch.last, LAST)?);
        if first > last {
            return Err(NoticeError::Reversed);
        }
        Ok(Self {
            source,
            stream_arn: present(batch.stream_arn, "streamArn")?,
            shard_id: present(batch.shard_id, "shardId")?,
            first,
            last,
            batch_size: batch.size.ok_or(NoticeError::Missing { member: "batchSize" })?,
            condition: context.condition.unwrap_or_default(),
            first_arrival: batch.first_arrival.as_deref().and_then(moment),
            last_arrival: batch.last_arrival.as_deref().and_then(moment),
            payload: document.payload.and_then(payload),
            function_arn: context.function_arn.unwrap_or_default(),
        })
    }
}

const FIRST: &str = "startSequenceNumber";
const LAST: &str = "endSequenceNumber";

#[derive(Deserialize)]
struct Document<'a> {
    #[serde(rename = "requestContext")]
    context: Option<Context>,
    #[serde(borrow)]
    payload: Option<&'a RawValue>,
    #[serde(rename = "DDBStreamBatchInfo")]
    dynamodb: Option<BatchInfo>,
    #[serde(rename = "KinesisBatchInfo")]
    kinesis: Option<BatchInfo>,
    #[serde(rename = "timeWindowInfo", borrow)]
    time_window: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Context {
    function_arn: Option<String>,
    condition: Option<String>,
}

#[derive(Deserialize)]
struct BatchInfo {
    #[serde(rename = "shardId")]
    shard_id: Option<String>,
    #[serde(rename = "startSequenceNumber")]
    first: Option<String>,
    #[serde(rename = "endSequenceNumber")]
    last: Option<String>,
    #[serde(rename = "approximateArrivalOfFirstRecord")]
    first_arrival: Option<String>,
    #[serde(rename = "approximateArrivalOfLastRecord")]
    last_arrival: Option<String>,
    #[serde(rename = "batchSize")]
    size: Option<u64>,
    #[serde(rename = "streamArn")]
    stream_arn: Option<String>,
}

fn present(member: Option<String>, name: &'static str) -> Result<String, NoticeError> {
    member.filter(|text| !text.is_empty()).ok_or(NoticeError::Missing { member: name })
}

fn position(
    member: Option<String>,
    name: &'static str,
) -> Result<SequenceNumber<'static>, NoticeError> {
    let text = member.ok_or(NoticeError::Missing { member: name })?;
    SequenceNumber::new(text).map_err(|source| NoticeError::SequenceNumber { member: name, source })
}

/// `2026-09-17T13:02:26Z`, with or without a fraction. What cannot be read is not known.
fn moment(text: &str) -> Option<Timestamp> {
    let at = DateTime::from_str(text, Format::DateTime).ok()?;
    at.to_millis().ok().map(Timestamp)
}

/// AWS writes the event as a string; some imitations as an object.
fn payload(member: &RawValue) -> Option<String> {
    match member.get() {
        "null" => None,
        text if text.starts_with('"') => serde_json::from_str(text).ok(),
        text => Some(text.to_owned()),
    }
}

/// Why a message cannot be followed to its records.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NoticeError {
    /// It is something else. Nothing of it is repeated here: it may be anything.
    #[error(
        "the message is no on-failure message of a stream's event source mapping; send such \
         messages only, or send them elsewhere"
    )]
    UnknownShape,
    /// An object that is not one of the mapping's, or one that was not created.
    #[error(
        "the object is none that a mapping has written (aws/lambda/…); notify of \
         s3:ObjectCreated:* with that prefix only"
    )]
    OtherObject,
    /// The final call of a tumbling window failed: it has no records to fetch.
    #[error(
        "the on-failure message is of a tumbling window's final call, which has no records; \
         its state is lost with it"
    )]
    Window,
    /// A member that is needed is not there.
    #[error("the on-failure message has no `{member}`, so its records cannot be found")]
    Missing {
        /// Name of the member.
        member: &'static str,
    },
    /// A position that is none.
    #[error("the on-failure message's `{member}` cannot be used")]
    SequenceNumber {
        /// Name of the member.
        member: &'static str,
        /// What is wrong with it.
        source: SequenceNumberError,
    },
    /// The range ends before it begins.
    #[error("the on-failure message's `endSequenceNumber` is before its `startSequenceNumber`")]
    Reversed,
}

impl NoticeError {
    /// Whether it is an on-failure message all the same.
    #[must_use]
    pub fn is_of_notice(&self) -> bool {
        !matches!(self, Self::UnknownShape | Self::OtherObject)
    }
}
