//! What a function's answer means for the records of one call.
//!
//! Separate because it is AWS's table and nothing else: recorded rows of the partial batch
//! response, one arm each. Rows AWS has not shown are read the safe way: anything that is
//! not clearly a success or clearly names a record of the batch fails the whole batch.

use super::{Claim, Entry, Parameters, Readings};
use crate::record::SequenceNumber;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Map, Value, value::RawValue};

/// How a call ended, as the driver saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// The function returned this body.
    Returned(Bytes),
    /// The function threw, timed out or crashed: `Unhandled`.
    FunctionError,
    /// The call never reached the function (throttled): it costs no retry.
    NotInvoked,
}

/// What a call came to, for whoever watches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Every record is finished.
    Succeeded,
    /// So many records from the first on are finished.
    Partial(usize),
    /// None is: the function failed, or its answer says so.
    Failed,
    /// The call never reached the function.
    NotInvoked,
}

impl From<Verdict> for Outcome {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Success => Self::Succeeded,
            Verdict::Partial(finished) => Self::Partial(finished),
            Verdict::Failure(_) => Self::Failed,
            Verdict::NotInvoked => Self::NotInvoked,
        }
    }
}

/// What follows for the records of the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Success,
    /// Everything before this index, which is greater than zero, succeeded.
    Partial(usize),
    Failure(Failure),
    NotInvoked,
}

/// Why a work item made no progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failure {
    FunctionError,
    /// The function ran and its answer fails the batch from its first record.
    Reported,
    /// The event is too large to send, so nothing ran.
    Oversized,
}

impl Failure {
    /// `responseContext.functionError` of the on-failure record.
    pub(super) fn function_error(self) -> Option<&'static str> {
        match self {
            Self::FunctionError => Some("Unhandled"),
            Self::Reported | Self::Oversized => None,
        }
    }
}

/// The state that the function returned to a call of a window.
///
/// A reply without one fails the call. Source: Lambda developer guide, "Implementing stateful
/// DynamoDB stream processing".
pub(super) fn state(reply: &Reply) -> Option<Box<RawValue>> {
    #[derive(Deserialize)]
    struct Windowed {
        state: Option<Box<RawValue>>,
    }
    let Reply::Returned(body) = reply else { return None };
    serde_json::from_slice::<Windowed>(body).ok()?.state
}

/// Reads a reply as AWS does, in AWS's order: not invoked, function error, then the body.
pub(super) fn verdict(reply: Reply, records: &[Entry], parameters: &Parameters) -> Verdict {
    let body = match reply {
        Reply::NotInvoked => return Verdict::NotInvoked,
        Reply::FunctionError => return Verdict::Failure(Failure::FunctionError),
        Reply::Returned(body) => body,
    };
    let body = body.trim_ascii();
    if body.is_empty() {
        return Verdict::Success;
    }
    let Ok(response) = serde_json::from_slice::<Value>(body) else {
        return Verdict::Failure(Failure::FunctionError);
    };
    if !parameters.report_batch_item_failures {
        return Verdict::Success;
    }
    match first_failed(&response, records, &parameters.readings) {
        Ok(None) => Verdict::Success,
        Ok(Some(index)) if index > 0 => Verdict::Partial(index),
        // A report that points at the first record is no progress: a plain failure.
        Ok(Some(_)) | Err(Unreadable) => Verdict::Failure(Failure::Reported),
    }
}

/// The response fails the whole batch.
struct Unreadable;

/// The index of the lowest reported record.
fn first_failed(
    response: &Value,
    records: &[Entry],
    readings: &Readings,
) -> Result<Option<usize>, Unreadable> {
    let members = match response {
        Value::Null => return Ok(None),
        Value::String(text) if text.is_empty() => return Ok(None),
        Value::Array(elements) if elements.is_empty() => return Ok(None),
        Value::Object(members) => members,
        _ => return Err(Unreadable),
    };
    let items = match members.get("batchItemFailures") {
        // A list that is not there is AWS's null list, whatever else the response says.
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Array(items)) => items,
        Some(_) => return Err(Unreadable),
    };
    let mut lowest: Option<usize> = None;
    let mut has_foreign = false;
    for item in items {
        let is_empty = item.as_object().is_some_and(Map::is_empty);
        if is_empty && readings.empty_elements == Claim::Ignored {
            continue;
        }
        match reported(item, records) {
            Ok(index) => lowest = Some(lowest.map_or(index, |lowest| lowest.min(index))),
            Err(Unreadable) if readings.foreign_identifiers == Claim::Ignored => has_foreign = true,
            Err(Unreadable) => return Err(Unreadable),
        }
    }
    // Beside none that is of the batch it is a failure whatever is made of it.
    if has_foreign && lowest.is_none() { Err(Unreadable) } else { Ok(lowest) }
}

/// The index of the record that one element names: AWS accepts its own text only.
fn reported(item: &Value, records: &[Entry]) -> Result<usize, Unreadable> {
    let identifier = item.get("itemIdentifier").and_then(Value::as_str).ok_or(Unreadable)?;
    let wanted = SequenceNumber::new(identifier).map_err(|_| Unreadable)?;
    // Records stand in the order of their numbers; of neighbours with one number, the first.
    let index = records.partition_point(|record| record.sequence_number < wanted);
    match records.get(index) {
        Some(record) if record.sequence_number.as_str() == identifier => Ok(index),
        _ => Err(Unreadable),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records() -> Vec<Entry> {
        // Two neighbours share a number, as de-aggregated records do.
        let number = |text: &'static str| SequenceNumber::new(text).unwrap();
        ["9", "10", "10", "100"]
            .map(|text| Entry {
                sequence_number: number(text),
                key: 0,
                arrival: None,
                present_since: 0,
                body: Bytes::new(),
            })
            .to_vec()
    }

    fn parameters(report_batch_item_failures: bool) -> Parameters {
        Parameters { report_batch_item_failures, ..Parameters::default() }
    }

    const WHOLE: Verdict = Verdict::Failure(Failure::Reported);

    #[track_caller]
    fn check(body: &'static str, reports_failures: bool, expected: Verdict) {
        let reply = Reply::Returned(Bytes::from_static(body.as_bytes()));
        let parameters = parameters(reports_failures);
        assert_eq!(verdict(reply, &records(), &parameters), expected, "{body}");
    }

    // R4
    #[test]
    fn an_answer_without_a_report_is_success() {
        for body in [
            "",
            " \n",
            "null",
            "{}",
            "[]",
            r#""""#,
            r#"{"batchItemFailures":[]}"#,
            r#"{"batchItemFailures":null}"#,
            r#"{"batchItemFailures":[],"more":1}"#,
            r#"{"statusCode":200}"#,
        ] {
            check(body, true, Verdict::Success);
        }
    }

    // R6, R7
    #[test]
    fn the_lowest_reported_record_is_where_progress_ends() {
        let of = |ids: &str| -> &'static str {
            let items: Vec<String> = ids
                .split(' ')
                .map(|id| format!(r#"{{"itemIdentifier":"{id}","more":true}}"#))
                .collect();
            format!(r#"{{"batchItemFailures":[{}]}}"#, items.join(",")).leak()
        };
        check(of("10"), true, Verdict::Partial(1));
        check(of("100"), true, Verdict::Partial(3));
        // Numerically, not as text, and whatever the order of the report.
        check(of("100 10"), true, Verdict::Partial(1));
        check(of("10 10"), true, Verdict::Partial(1));
        check(of("9"), true, WHOLE);
        check(of("100 9"), true, WHOLE);
        // One that cannot be true spoils the rest.
        check(of("10 11"), true, WHOLE);
        check(of("0100"), true, WHOLE);
        check(of("not-in-batch"), true, WHOLE);
    }

    // R5, R8
    #[test]
    fn a_report_that_cannot_be_read_fails_the_whole_batch() {
        for body in [
            r#"{"batchItemFailures":[{"itemIdentifier":""}]}"#,
            r#"{"batchItemFailures":[{"itemIdentifier":null}]}"#,
            r#"{"batchItemFailures":[{"itemIdentifier":123}]}"#,
            r#"{"batchItemFailures":[{"itemIdentifier":10}]}"#,
            r#"{"batchItemFailures":[{"itemIdentifier":["10"]}]}"#,
            r#"{"batchItemFailures":[{"foo":123}]}"#,
            r#"{"batchItemFailures":[{"foo":null}]}"#,
            r#"{"batchItemFailures":[{}]}"#,
            r#"{"batchItemFailures":["10"]}"#,
            r#"{"batchItemFailures":[null]}"#,
            r#"{"batchItemFailures":{}}"#,
            r#"{"batchItemFailures":"10"}"#,
            r#"{"batchItemFailures":false}"#,
            "[1]",
            "1",
            "true",
            r#""done""#,
        ] {
            check(body, true, WHOLE);
        }
    }

    // R3
    #[test]
    fn without_report_batch_item_failures_any_json_is_success() {
        for body in ["null", "1", r#"{"batchItemFailures":[{"itemIdentifier":"10"}]}"#] {
            check(body, false, Verdict::Success);
        }
    }

    // R2
    #[test]
    fn an_answer_that_is_not_json_is_a_function_error() {
        for reports_failures in [false, true] {
            check("done", reports_failures, Verdict::Failure(Failure::FunctionError));
            check("{", reports_failures, Verdict::Failure(Failure::FunctionError));
        }
    }

    #[test]
    fn a_call_that_failed_has_no_answer_to_read() {
        let failed = Verdict::Failure(Failure::FunctionError);
        let parameters = parameters(true);
        assert_eq!(verdict(Reply::FunctionError, &records(), &parameters), failed);
        assert_eq!(verdict(Reply::NotInvoked, &records(), &parameters), Verdict::NotInvoked);
    }
}
