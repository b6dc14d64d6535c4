//! Records as the types of the crate [`aws_lambda_events`], for code that is written against
//! them.
//!
//! Behind the feature of that name, since nothing of ours needs it: reading a change into your
//! own type ([`Record::change`]) skips the tree of attributes that these types hold, and costs
//! an eighth (docs/speed.md). A record is read from its own bytes, with the errors of this
//! module: they name the place and no value.
//!
//! What it gives up: nothing converts back, because a record of ours borrows from the payload.

use super::{
    Record,
    document::read_document,
    error::{DecodeError, DecodeReason},
};
use crate::record::Source;
use aws_lambda_events::event::{dynamodb, kinesis, sqs};
use serde::de::DeserializeOwned;

/// The change of a DynamoDB item, whole.
///
/// # Examples
/// ```
/// use aws_lambda_events::event::dynamodb::EventRecord;
/// use changefold::event;
/// let payload = br#"{"Records": [{
///     "eventID": "1", "eventName": "INSERT", "eventSource": "aws:dynamodb",
///     "awsRegion": "eu-west-1",
///     "dynamodb": {
///         "ApproximateCreationDateTime": 1480642020, "SequenceNumber": "111", "SizeBytes": 26,
///         "Keys": {"id": {"S": "o1"}}, "NewImage": {"id": {"S": "o1"}, "lines": {"N": "3"}}
///     }
/// }]}"#;
///
/// #[derive(serde::Deserialize)]
/// struct Order {
///     lines: u32,
/// }
///
/// let batch = event::parse(payload);
/// for record in batch.records().map_err(Clone::clone)? {
///     let record = EventRecord::try_from(record)?;
///     let order: Order = serde_dynamo::from_item(record.change.new_image)?;
///     assert_eq!(order.lines, 3);
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
impl TryFrom<&Record<'_>> for dynamodb::EventRecord {
    type Error = DecodeError;

    fn try_from(record: &Record<'_>) -> Result<Self, DecodeError> {
        read(record, Source::DynamoDb)
    }
}

/// The record of a Kinesis data stream, its data decoded.
impl TryFrom<&Record<'_>> for kinesis::KinesisEventRecord {
    type Error = DecodeError;

    fn try_from(record: &Record<'_>) -> Result<Self, DecodeError> {
        read(record, Source::Kinesis)
    }
}

/// The message of an SQS queue. One that brings a parked record back is still the message; the
/// record in it is [`Record::inner`].
impl TryFrom<&Record<'_>> for sqs::SqsMessage {
    type Error = DecodeError;

    fn try_from(record: &Record<'_>) -> Result<Self, DecodeError> {
        read(record, Source::Sqs)
    }
}

/// # Errors
/// The record is another service's, has a member twice, or does not have what the type demands.
fn read<T: DeserializeOwned>(record: &Record<'_>, source: Source) -> Result<T, DecodeError> {
    record.check_members()?;
    if record.source() != source {
        let expected = match source {
            Source::DynamoDb => "aws:dynamodb",
            Source::Kinesis => "aws:kinesis",
            Source::Sqs => "aws:sqs",
        };
        let reason = DecodeReason::UnknownName { expected: format!("`{expected}`") };
        return Err(DecodeError::new("eventSource", reason));
    }
    read_document(record.raw(), "record")
}
