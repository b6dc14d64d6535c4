//! One shard of either service: iterators, pages, retention.
//!
//! Separate so that the way through a range is written once. What it gives up: Kinesis is
//! read by `GetRecords` even where the mapping has a consumer of its own, so it shares the
//! shard's five reads a second.

use super::{FetchError, Streams, text};
use crate::{
    record::{SequenceNumber, Source, Timestamp},
    recovery::{
        notice::Notice,
        services::{CallError, Services},
    },
};
use aws_sdk_dynamodbstreams::types::ShardIteratorType as DynamoDbIterator;
use aws_sdk_kinesis::types::ShardIteratorType as KinesisIterator;
use std::time::Duration;

/// The most records of a page: DynamoDB Streams allows no more, and of Kinesis no more than
/// 10 MiB come anyway.
pub(super) const PAGE_RECORDS_MAX: u64 = 1_000;

const GET_RECORDS: &str = "GetRecords";

/// Where an iterator begins.
#[derive(Debug, Clone)]
pub(super) enum Position {
    At(SequenceNumber<'static>),
    After(SequenceNumber<'static>),
    /// The oldest record the shard still has.
    Horizon,
}

/// What one `GetRecords` brought.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) records: Vec<(SequenceNumber<'static>, RawRecord)>,
    /// `None` at the end of the shard.
    pub(super) next: Option<String>,
    /// The stream says that there is nothing newer.
    pub(super) is_at_tip: bool,
}

/// A record as its SDK has it.
#[derive(Debug)]
pub(super) enum RawRecord {
    Kinesis(aws_sdk_kinesis::types::Record),
    DynamoDb(Box<aws_sdk_dynamodbstreams::types::Record>),
}

impl RawRecord {
    pub(super) fn text(&self, notice: &Notice, shard: &Shard<'_>) -> Result<String, FetchError> {
        let place = text::Place {
            stream_arn: &notice.stream_arn,
            shard_id: &notice.shard_id,
            region: region(&notice.stream_arn),
        };
        match self {
            Self::Kinesis(record) => Ok(text::kinesis(record, place)),
            Self::DynamoDb(record) => {
                text::dynamodb(record, place).map_err(|what| shard.unreadable(what))
            }
        }
    }
}

/// A shard, with the clients to read it.
#[derive(Debug)]
pub(super) struct Shard<'a> {
    streams: &'a Streams,
    notice: &'a Notice,
    /// The stream's own ARN, without a consumer.
    stream_arn: &'a str,
    /// The Region to ask instead of the configured one.
    region: Option<&'a str>,
}

impl<'a> Shard<'a> {
    /// A notice is about a stream: its parser gives no queue, which has no shards.
    pub(super) fn new(streams: &'a Streams, notice: &'a Notice) -> Self {
        let endpoints = &streams.services.endpoints;
        let (stream_arn, endpoint) = match notice.source {
            Source::DynamoDb | Source::Sqs => (&*notice.stream_arn, &endpoints.dynamodb_streams),
            Source::Kinesis => {
                let stream = notice.stream_arn.split("/consumer/").next();
                (stream.unwrap_or_default(), &endpoints.kinesis)
            }
        };
        let region = Some(region(stream_arn));
        let region = region.filter(|region| endpoint.url.is_none() && !region.is_empty());
        Self { streams, notice, stream_arn, region }
    }

    pub(super) fn services(&self) -> &'a Services {
        &self.streams.services
    }

    /// Stream and shard, for errors.
    pub(super) fn place(&self) -> String {
        format!("{}, shard {}", self.stream_arn, self.notice.shard_id)
    }

    fn unreadable(&self, what: &'static str) -> FetchError {
        FetchError::Unreadable { place: self.place(), what }
    }

    pub(super) async fn iterator(
        &self,
        position: &Position,
        deadline: Timestamp,
    ) -> Result<Option<String>, CallError> {
        const OPERATION: &str = "GetShardIterator";
        let number = match position {
            Position::At(number) | Position::After(number) => Some(number.as_str().to_owned()),
            Position::Horizon => None,
        };
        match self.notice.source {
            Source::Kinesis => {
                let kind = match position {
                    Position::At(_) => KinesisIterator::AtSequenceNumber,
                    Position::After(_) => KinesisIterator::AfterSequenceNumber,
                    Position::Horizon => KinesisIterator::TrimHorizon,
                };
                let request = self
                    .streams
                    .kinesis
                    .get_shard_iterator()
                    .stream_arn(self.stream_arn)
                    .shard_id(&self.notice.shard_id)
                    .shard_iterator_type(kind)
                    .set_starting_sequence_number(number);
                let attempt = || request.clone().customize().config_override(self.kinesis()).send();
                let answer = self.services().call(OPERATION, deadline, attempt).await?;
                Ok(answer.shard_iterator)
            }
            Source::DynamoDb | Source::Sqs => {
                let kind = match position {
                    Position::At(_) => DynamoDbIterator::AtSequenceNumber,
                    Position::After(_) => DynamoDbIterator::AfterSequenceNumber,
                    Position::Horizon => DynamoDbIterator::TrimHorizon,
                };
                let request = self
                    .streams
                    .dynamodb
                    .get_shard_iterator()
                    .stream_arn(self.stream_arn)
                    .shard_id(&self.notice.shard_id)
                    .shard_iterator_type(kind)
                    .set_sequence_number(number);
                let attempt =
                    || request.clone().customize().config_override(self.dynamodb()).send();
                let answer = self.services().call(OPERATION, deadline, attempt).await?;
                Ok(answer.shard_iterator)
            }
        }
    }

    pub(super) async fn records(
        &self,
        iterator: &str,
        limit: u64,
        deadline: Timestamp,
    ) -> Result<Page, CallError> {
        let limit = i32::try_from(limit.clamp(1, PAGE_RECORDS_MAX)).unwrap_or(1);
        match self.notice.source {
            Source::Kinesis => {
                let request =
                    self.streams.kinesis.get_records().shard_iterator(iterator).limit(limit);
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
                    self.streams.dynamodb.get_records().shard_iterator(iterator).limit(limit);
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
    pub(super) async fn kinesis_retention(&self, deadline: Timestamp) -> Option<Duration> {
        let request = self.streams.kinesis.describe_stream_summary().stream_arn(self.stream_arn);
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
fn region(arn: &str) -> &str {
    arn.split(':').nth(3).unwrap_or_default()
}
