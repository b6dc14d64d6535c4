//! One shard of either service: iterators, pages, retention.
//!
//! Separate so that every way through a shard is written once. What it gives up: Kinesis is
//! read by `GetRecords` even where the mapping has a consumer of its own, so it shares the
//! shard's five reads a second.

use super::{Clients, text};
use crate::{
    record::{SequenceNumber, Source, Timestamp},
    recovery::services::{CallError, Services},
};
use aws_sdk_dynamodbstreams::types::ShardIteratorType as DynamoDbIterator;
use aws_sdk_kinesis::types::ShardIteratorType as KinesisIterator;
use aws_smithy_types::DateTime;
#[cfg(feature = "destinations")]
use std::time::Duration;

/// The most records of a page: DynamoDB Streams allows no more, and of Kinesis no more than
/// 10 MiB come anyway.
pub(crate) const PAGE_RECORDS_MAX: u64 = 1_000;

/// The most records of a page of Kinesis.
const KINESIS_RECORDS_MAX: u64 = 10_000;

const GET_RECORDS: &str = "GetRecords";

/// The most records of a page, by service.
fn page_records_max(source: Source) -> u64 {
    if source == Source::Kinesis { KINESIS_RECORDS_MAX } else { PAGE_RECORDS_MAX }
}

/// Where an iterator begins.
#[derive(Debug, Clone)]
pub(crate) enum Position {
    At(SequenceNumber<'static>),
    After(SequenceNumber<'static>),
    /// The oldest record the shard still has.
    Horizon,
    /// Only what comes after the iterator.
    Latest,
    /// The first record that arrived at this moment or later; of DynamoDB, which has no such
    /// iterator, the oldest record there is.
    Since(Timestamp),
}

impl Position {
    /// What it is called in messages.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::At(number) | Self::After(number) => number.to_string(),
            Self::Horizon => "TRIM_HORIZON".to_owned(),
            Self::Latest => "LATEST".to_owned(),
            Self::Since(_) => "AT_TIMESTAMP".to_owned(),
        }
    }
}

/// What one `GetRecords` brought.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) records: Vec<(SequenceNumber<'static>, RawRecord)>,
    /// `None` at the end of the shard.
    pub(crate) next: Option<String>,
    /// The stream says that there is nothing newer.
    pub(crate) is_at_tip: bool,
}

/// A record as its SDK has it.
#[derive(Debug)]
pub(crate) enum RawRecord {
    Kinesis(aws_sdk_kinesis::types::Record),
    DynamoDb(Box<aws_sdk_dynamodbstreams::types::Record>),
}

impl RawRecord {
    /// The record as Lambda delivers it. `invoked_as` is the role that the function is invoked
    /// with, where that is known.
    ///
    /// # Errors
    /// Says what the record has that has no text.
    pub(crate) fn text(
        &self,
        shard: &Shard<'_>,
        invoked_as: Option<&str>,
    ) -> Result<String, &'static str> {
        let place = text::Place {
            stream_arn: shard.event_source_arn,
            shard_id: shard.id,
            region: region(shard.event_source_arn),
            invoked_as,
        };
        match self {
            Self::Kinesis(record) => Ok(text::kinesis(record, place)),
            Self::DynamoDb(record) => text::dynamodb(record, place),
        }
    }
}

/// A shard, with the clients to read it.
#[derive(Debug)]
pub(crate) struct Shard<'a> {
    clients: &'a Clients,
    source: Source,
    id: &'a str,
    /// What its records name: the stream, or the mapping's consumer of it.
    event_source_arn: &'a str,
    /// The stream's own ARN, without a consumer.
    stream_arn: &'a str,
    /// The Region to ask instead of the configured one.
    region: Option<&'a str>,
}

impl<'a> Shard<'a> {
    /// A shard of a stream; a queue has none.
    pub(crate) fn new(
        clients: &'a Clients,
        source: Source,
        event_source_arn: &'a str,
        id: &'a str,
    ) -> Self {
        let endpoints = &clients.services.endpoints;
        let (stream_arn, endpoint) = match source {
            Source::DynamoDb | Source::Sqs => (event_source_arn, &endpoints.dynamodb_streams),
            Source::Kinesis => {
                let stream = event_source_arn.split("/consumer/").next();
                (stream.unwrap_or_default(), &endpoints.kinesis)
            }
        };
        let region = Some(region(stream_arn));
        let region = region.filter(|region| endpoint.url.is_none() && !region.is_empty());
        Self { clients, source, id, event_source_arn, stream_arn, region }
    }

    pub(crate) fn services(&self) -> &'a Services {
        &self.clients.services
    }

    /// Stream and shard, for errors.
    pub(crate) fn place(&self) -> String {
        format!("{}, shard {}", self.stream_arn, self.id)
    }

    pub(crate) async fn iterator(
        &self,
        position: &Position,
        deadline: Timestamp,
    ) -> Result<Option<String>, CallError> {
        const OPERATION: &str = "GetShardIterator";
        let number = match position {
            Position::At(number) | Position::After(number) => Some(number.as_str().to_owned()),
            Position::Horizon | Position::Latest | Position::Since(_) => None,
        };
        match self.source {
            Source::Kinesis => {
                let kind = match position {
                    Position::At(_) => KinesisIterator::AtSequenceNumber,
                    Position::After(_) => KinesisIterator::AfterSequenceNumber,
                    Position::Horizon => KinesisIterator::TrimHorizon,
                    Position::Latest => KinesisIterator::Latest,
                    Position::Since(_) => KinesisIterator::AtTimestamp,
                };
                let moment = match position {
                    Position::Since(Timestamp(moment)) => Some(DateTime::from_millis(*moment)),
                    _ => None,
                };
                let request = self
                    .clients
                    .kinesis
                    .get_shard_iterator()
                    .stream_arn(self.stream_arn)
                    .shard_id(self.id)
                    .shard_iterator_type(kind)
                    .set_starting_sequence_number(number)
                    .set_timestamp(moment);
                let attempt = || request.clone().customize().config_override(self.kinesis()).send();
                let answer = self.services().call(OPERATION, deadline, attempt).await?;
                Ok(answer.shard_iterator)
            }
            Source::DynamoDb | Source::Sqs => {
                let kind = match position {
                    Position::At(_) => DynamoDbIterator::AtSequenceNumber,
                    Position::After(_) => DynamoDbIterator::AfterSequenceNumber,
                    Position::Horizon | Position::Since(_) => DynamoDbIterator::TrimHorizon,
                    Position::Latest => DynamoDbIterator::Latest,
                };
                let request = self
                    .clients
                    .dynamodb
                    .get_shard_iterator()
                    .stream_arn(self.stream_arn)
                    .shard_id(self.id)
                    .shard_iterator_type(kind)
                    .set_sequence_number(number);
                let attempt =
                    || request.clone().customize().config_override(self.dynamodb()).send();
                let answer = self.services().call(OPERATION, deadline, attempt).await?;
                Ok(answer.shard_iterator)
            }
        }
    }

    pub(crate) async fn records(
        &self,
        iterator: &str,
        limit: u64,
        deadline: Timestamp,
    ) -> Result<Page, CallError> {
        let limit = i32::try_from(limit.clamp(1, page_records_max(self.source))).unwrap_or(1);
        match self.source {
            Source::Kinesis => {
                let request =
                    self.clients.kinesis.get_records().shard_iterator(iterator).limit(limit);
                // Needed where the stream is another account's.
                let request = request.stream_arn(self.stream_arn);
                let attempt = || request.clone().customize().config_override(self.kinesis()).send();
                let answer = self.services().call(GET_RECORDS, deadline, attempt).await?;
                Ok(Page {
                    is_at_tip: answer.millis_behind_latest == Some(0),
                    next: answer.next_shard_iterator,
                    records: numbered(answer.records, |record| {
                        let number = record.sequence_number.clone();
                        Some((number, RawRecord::Kinesis(record)))
                    })?,
                })
            }
            Source::DynamoDb | Source::Sqs => {
                let request =
                    self.clients.dynamodb.get_records().shard_iterator(iterator).limit(limit);
                let attempt =
                    || request.clone().customize().config_override(self.dynamodb()).send();
                let answer = self.services().call(GET_RECORDS, deadline, attempt).await?;
                Ok(Page {
                    is_at_tip: false,
                    next: answer.next_shard_iterator,
                    records: numbered(answer.records.unwrap_or_default(), |record| {
                        let number = record.dynamodb()?.sequence_number()?.to_owned();
                        Some((number, RawRecord::DynamoDb(Box::new(record))))
                    })?,
                })
            }
        }
    }

    /// How long the stream keeps a record; `None` if it does not say, for instance because
    /// it may not be asked.
    #[cfg(feature = "destinations")]
    pub(crate) async fn kinesis_retention(&self, deadline: Timestamp) -> Option<Duration> {
        let request = self.clients.kinesis.describe_stream_summary().stream_arn(self.stream_arn);
        let attempt = || request.clone().customize().config_override(self.kinesis()).send();
        let answer = self.services().call("DescribeStreamSummary", deadline, attempt).await.ok()?;
        let hours = answer.stream_description_summary()?.retention_period_hours();
        Some(Duration::from_hours(u64::try_from(hours).ok()?))
    }

    fn kinesis(&self) -> aws_sdk_kinesis::config::Builder {
        let mut config = aws_sdk_kinesis::config::Builder::new();
        if let Some(region) = self.region {
            config.set_region(Some(aws_sdk_kinesis::config::Region::new(region.to_owned())));
        }
        config
    }

    fn dynamodb(&self) -> aws_sdk_dynamodbstreams::config::Builder {
        let mut config = aws_sdk_dynamodbstreams::config::Builder::new();
        if let Some(region) = self.region {
            config
                .set_region(Some(aws_sdk_dynamodbstreams::config::Region::new(region.to_owned())));
        }
        config
    }
}

/// A record without a usable position does not exist in either service; without one it could
/// not be told whether the range is whole.
fn numbered<R>(
    records: Vec<R>,
    split: impl Fn(R) -> Option<(String, RawRecord)>,
) -> Result<Vec<(SequenceNumber<'static>, RawRecord)>, CallError> {
    let split = |record| {
        let (number, record) = split(record)?;
        Some((SequenceNumber::new(number).ok()?, record))
    };
    let numbered: Option<_> = records.into_iter().map(split).collect();
    numbered.ok_or_else(|| CallError {
        operation: GET_RECORDS,
        code: "AnswerUnreadable".to_owned(),
        message: "a record has no usable sequence number".to_owned(),
        is_transient: false,
    })
}

/// The fourth part of an ARN.
pub(crate) fn region(arn: &str) -> &str {
    arn.split(':').nth(3).unwrap_or_default()
}
