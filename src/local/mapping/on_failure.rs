//! The record that AWS sends to the on-failure destination, in AWS's own field order.
//!
//! Separate because its shape is a contract with whoever reads the destination: recorded
//! from AWS for DynamoDB Streams and Kinesis, byte for byte but for the values.

mod delivered;

use super::{Destination, Millis, Records, ShardIdentity, reply::Failure};
use crate::{
    civil::civil_date,
    record::{SequenceNumber, Source, Timestamp},
};
use serde::{Serialize, Serializer};
use std::{fmt, sync::Arc};

/// Why records were discarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Condition {
    /// The function failed more often than `MaximumRetryAttempts` allows, or the record is
    /// too large to be sent at all.
    RetryAttemptsExhausted,
    /// The records got older than `MaximumRecordAgeInSeconds`.
    RecordAgeExceeded,
}

impl Condition {
    /// AWS's own word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RetryAttemptsExhausted => "RetryAttemptsExhausted",
            Self::RecordAgeExceeded => "RecordAgeExceeded",
        }
    }
}

/// A work item that was given up.
#[derive(Debug)]
pub(super) struct Discard {
    pub(super) records: Records,
    pub(super) request_id: Arc<str>,
    pub(super) attempts: u32,
    pub(super) condition: Condition,
    /// How the last attempt ended; `None` when age ended it.
    pub(super) failure: Option<Failure>,
}

impl Discard {
    /// Both as one, if the other follows this one in its batch and ended alike.
    pub(super) fn joined(&self, next: &Self) -> Option<Self> {
        if self.condition != next.condition || self.failure != next.failure {
            return None;
        }
        let records = self.records.joined(&next.records)?;
        let request_id = Arc::clone(&next.request_id);
        Some(Self { records, request_id, ..*next })
    }
}

/// Discarded records, as the destination hears of them; none if it was a window's last call.
#[derive(Debug, Clone)]
pub struct OnFailure {
    /// The discarded records.
    pub records: Records,
    /// Why they were discarded.
    pub condition: Condition,
    /// Calls made with exactly these records; at least 1, as AWS counts.
    pub approximate_invoke_count: u32,
    /// `Unhandled` after a function error; `None` after a report, or when nothing ran.
    pub function_error: Option<&'static str>,
    /// `awsRequestId` of the last call.
    pub request_id: Arc<str>,
    /// When it was written.
    pub timestamp: Timestamp,
    /// Who is to hear of it; `None`: the records are skipped silently.
    pub destination: Option<Destination>,
    /// Whether the function ran: only then there is a `responseContext`.
    executed: bool,
    identity: Arc<ShardIdentity>,
}

impl OnFailure {
    pub(super) fn new(
        discard: Discard,
        identity: Arc<ShardIdentity>,
        now: Millis,
        destination: Option<Destination>,
    ) -> Self {
        let since = i64::try_from(now).unwrap_or(i64::MAX);
        Self {
            condition: discard.condition,
            approximate_invoke_count: discard.attempts.max(1),
            function_error: discard.failure.and_then(Failure::function_error),
            request_id: discard.request_id,
            timestamp: Timestamp(identity.time_zero.0.saturating_add(since)),
            destination,
            executed: matches!(discard.failure, Some(Failure::FunctionError | Failure::Reported)),
            records: discard.records,
            identity,
        }
    }

    /// The shard that they are of.
    #[must_use]
    pub fn shard_id(&self) -> &str {
        &self.identity.shard_id
    }

    /// Position of the first discarded record.
    #[must_use]
    pub fn first(&self) -> Option<&SequenceNumber<'static>> {
        self.records.first().map(|record| &record.sequence_number)
    }

    /// Position of the last discarded record.
    #[must_use]
    pub fn last(&self) -> Option<&SequenceNumber<'static>> {
        self.records.last().map(|record| &record.sequence_number)
    }

    /// The document as this destination gets it: a bucket also gets the payload. Without
    /// a destination it is what a queue would get.
    ///
    /// # Panics
    /// Never: the document is text and numbers.
    #[must_use]
    pub fn to_json(&self, destination: Option<&Destination>) -> String {
        let document = self.document(matches!(destination, Some(Destination::S3(_))));
        serde_json::to_string(&document).expect("a document of text and numbers serialises")
    }

    fn document(&self, with_payload: bool) -> Document<'_> {
        let batch_info = BatchInfo {
            shard_id: &self.identity.shard_id,
            start_sequence_number: self.first().map(SequenceNumber::as_str),
            end_sequence_number: self.last().map(SequenceNumber::as_str),
            first_arrival: self.arrival(self.records.first().and_then(|entry| entry.arrival)),
            last_arrival: self.arrival(self.records.last().and_then(|entry| entry.arrival)),
            batch_size: (!self.records.is_empty()).then_some(self.records.len()),
            stream_arn: &self.identity.stream_arn,
        };
        let (dynamodb, kinesis) = match self.identity.source {
            Source::DynamoDb => (Some(batch_info), None),
            Source::Kinesis => (None, Some(batch_info)),
            Source::Sqs => (None, None),
        };
        Document {
            request_context: RequestContext {
                request_id: &self.request_id,
                function_arn: &self.identity.function_arn,
                condition: self.condition,
                approximate_invoke_count: self.approximate_invoke_count,
            },
            response_context: self.executed.then_some(ResponseContext {
                status_code: 200,
                executed_version: "$LATEST",
                function_error: self.function_error,
            }),
            version: "1.0",
            payload: with_payload
                .then(|| String::from_utf8_lossy(&self.records.event()).into_owned()),
            timestamp: Iso8601 { at: self.timestamp, milliseconds: true },
            dynamodb,
            kinesis,
            time_window_info: self.records.window().filter(|window| window.is_final).map(|it| {
                TimeWindowInfo {
                    window: Bounds { start: second(it.start), end: second(it.end) },
                    is_final_invoke_for_window: true,
                    is_window_terminated_early: it.is_terminated_early,
                }
            }),
        }
    }

    /// Kinesis tells milliseconds, DynamoDB Streams only seconds.
    fn arrival(&self, at: Option<Timestamp>) -> Option<Iso8601> {
        let milliseconds = match self.identity.source {
            Source::DynamoDb => false,
            Source::Kinesis | Source::Sqs => true,
        };
        at.map(|at| Iso8601 { at, milliseconds })
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document<'a> {
    request_context: RequestContext<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_context: Option<ResponseContext>,
    version: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<String>,
    timestamp: Iso8601,
    #[serde(rename = "DDBStreamBatchInfo", skip_serializing_if = "Option::is_none")]
    dynamodb: Option<BatchInfo<'a>>,
    #[serde(rename = "KinesisBatchInfo", skip_serializing_if = "Option::is_none")]
    kinesis: Option<BatchInfo<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    time_window_info: Option<TimeWindowInfo>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TimeWindowInfo {
    window: Bounds,
    is_final_invoke_for_window: bool,
    is_window_terminated_early: bool,
}

#[derive(Serialize)]
struct Bounds {
    start: Iso8601,
    end: Iso8601,
}

/// As windows tell their bounds.
pub(super) fn second(at: Timestamp) -> Iso8601 {
    Iso8601 { at, milliseconds: false }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RequestContext<'a> {
    request_id: &'a str,
    function_arn: &'a str,
    condition: Condition,
    approximate_invoke_count: u32,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ResponseContext {
    status_code: u16,
    executed_version: &'static str,
    function_error: Option<&'static str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct BatchInfo<'a> {
    shard_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    start_sequence_number: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    end_sequence_number: Option<&'a str>,
    #[serde(rename = "approximateArrivalOfFirstRecord", skip_serializing_if = "Option::is_none")]
    first_arrival: Option<Iso8601>,
    #[serde(rename = "approximateArrivalOfLastRecord", skip_serializing_if = "Option::is_none")]
    last_arrival: Option<Iso8601>,
    #[serde(skip_serializing_if = "Option::is_none")]
    batch_size: Option<usize>,
    stream_arn: &'a str,
}

/// A moment as AWS writes it: UTC, ending in `Z`.
pub(super) struct Iso8601 {
    pub(super) at: Timestamp,
    pub(super) milliseconds: bool,
}

impl Serialize for Iso8601 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl fmt::Display for Iso8601 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (day, time) = (self.at.0.div_euclid(86_400_000), self.at.0.rem_euclid(86_400_000));
        let (year, month, day) = civil_date(day);
        let (hour, minute, second) = (time / 3_600_000, time / 60_000 % 60, time / 1000 % 60);
        let fraction =
            if self.milliseconds { format!(".{:03}", time % 1000) } else { String::new() };
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{fraction}Z")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::local::mapping::Entry;
    use bytes::Bytes;

    fn discard(condition: Condition, failure: Option<Failure>, attempts: u32) -> Discard {
        let entry = |number: &'static str, arrival, body: &'static str| Entry {
            sequence_number: SequenceNumber::new(number).unwrap(),
            key: 0,
            arrival,
            present_since: 0,
            body: Bytes::from_static(body.as_bytes()),
        };
        // 2026-09-17T13:02:26.500Z and a second later.
        let first = entry("9700", Some(Timestamp(1_789_650_146_500)), r#"{"a":"x"}"#);
        let last = entry("11900", Some(Timestamp(1_789_650_147_999)), r#"{"b": 1.5E9}"#);
        Discard {
            records: Records::whole(vec![first, last]),
            request_id: "id-of-the-call".into(),
            attempts,
            condition,
            failure,
        }
    }

    #[track_caller]
    fn check(source: Source, discard: Discard, destination: Option<&Destination>, expected: &str) {
        let (stream, function) = ("arn:stream".to_owned(), "arn:function".to_owned());
        let identity = ShardIdentity {
            source,
            shard_id: "shardId-1".to_owned(),
            stream_arn: stream,
            function_arn: function,
            mapping_uuid: "uuid".to_owned(),
            time_zero: Timestamp(1_789_650_220_000),
        };
        let on_failure = OnFailure::new(discard, Arc::new(identity), 11, destination.cloned());
        assert_eq!(on_failure.to_json(destination), expected);
    }

    const EXHAUSTED: Condition = Condition::RetryAttemptsExhausted;

    // R18
    #[test]
    fn dynamodb_tells_arrivals_in_seconds() {
        check(
            Source::DynamoDb,
            discard(EXHAUSTED, Some(Failure::FunctionError), 2),
            None,
            concat!(
                r#"{"requestContext":{"requestId":"id-of-the-call","functionArn":"arn:function","#,
                r#""condition":"RetryAttemptsExhausted","approximateInvokeCount":2},"#,
                r#""responseContext":{"statusCode":200,"executedVersion":"$LATEST","#,
                r#""functionError":"Unhandled"},"#,
                r#""version":"1.0","timestamp":"2026-09-17T13:03:40.011Z","#,
                r#""DDBStreamBatchInfo":{"shardId":"shardId-1","startSequenceNumber":"9700","#,
                r#""endSequenceNumber":"11900","#,
                r#""approximateArrivalOfFirstRecord":"2026-09-17T13:02:26Z","#,
                r#""approximateArrivalOfLastRecord":"2026-09-17T13:02:27Z","#,
                r#""batchSize":2,"streamArn":"arn:stream"}}"#,
            ),
        );
    }

    // R18, R19
    #[test]
    fn kinesis_tells_milliseconds_and_a_report_is_no_function_error() {
        check(
            Source::Kinesis,
            discard(EXHAUSTED, Some(Failure::Reported), 4),
            Some(&Destination::Sqs(String::new())),
            concat!(
                r#"{"requestContext":{"requestId":"id-of-the-call","functionArn":"arn:function","#,
                r#""condition":"RetryAttemptsExhausted","approximateInvokeCount":4},"#,
                r#""responseContext":{"statusCode":200,"executedVersion":"$LATEST","#,
                r#""functionError":null},"#,
                r#""version":"1.0","timestamp":"2026-09-17T13:03:40.011Z","#,
                r#""KinesisBatchInfo":{"shardId":"shardId-1","startSequenceNumber":"9700","#,
                r#""endSequenceNumber":"11900","#,
                r#""approximateArrivalOfFirstRecord":"2026-09-17T13:02:26.500Z","#,
                r#""approximateArrivalOfLastRecord":"2026-09-17T13:02:27.999Z","#,
                r#""batchSize":2,"streamArn":"arn:stream"}}"#,
            ),
        );
    }

    // R18, R19
    #[test]
    fn a_bucket_gets_the_payload_as_text_and_age_has_no_response() {
        check(
            Source::DynamoDb,
            discard(Condition::RecordAgeExceeded, None, 0),
            Some(&Destination::S3(String::new())),
            concat!(
                r#"{"requestContext":{"requestId":"id-of-the-call","functionArn":"arn:function","#,
                r#""condition":"RecordAgeExceeded","approximateInvokeCount":1},"#,
                r#""version":"1.0","#,
                r#""payload":"{\"Records\":[{\"a\":\"x\"},{\"b\": 1.5E9}]}","#,
                r#""timestamp":"2026-09-17T13:03:40.011Z","#,
                r#""DDBStreamBatchInfo":{"shardId":"shardId-1","startSequenceNumber":"9700","#,
                r#""endSequenceNumber":"11900","#,
                r#""approximateArrivalOfFirstRecord":"2026-09-17T13:02:26Z","#,
                r#""approximateArrivalOfLastRecord":"2026-09-17T13:02:27Z","#,
                r#""batchSize":2,"streamArn":"arn:stream"}}"#,
            ),
        );
    }
}
