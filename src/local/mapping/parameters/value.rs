//! One value of a parameter, from JSON, YAML or the command line's text.
//!
//! Separate so that the table of parameters reads as a table. Every reader names the
//! parameter, the value and what would work when it refuses.

use super::{ParameterError, StartingPosition};
use crate::record::Timestamp;
use serde_json::Value;
use std::ops::RangeInclusive;

pub(super) fn invalid(name: &str, value: &Value, expected: &'static str) -> ParameterError {
    ParameterError::Invalid { name: name.to_owned(), found: value.to_string(), expected }
}

pub(super) fn as_integer(value: &Value) -> Option<i64> {
    match value {
        Value::Number(number) => number.as_i64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
}

/// An integer of this range; `expected` says the range in words.
pub(super) fn integer<T: TryFrom<i64>>(
    name: &str,
    value: &Value,
    expected: &'static str,
    range: RangeInclusive<i64>,
) -> Result<T, ParameterError> {
    as_integer(value)
        .filter(|number| range.contains(number))
        .and_then(|number| T::try_from(number).ok())
        .ok_or_else(|| invalid(name, value, expected))
}

/// An integer in which −1 stands for "without limit".
pub(super) fn limit(
    name: &str,
    value: &Value,
    expected: &'static str,
    range: RangeInclusive<i64>,
) -> Result<Option<u32>, ParameterError> {
    if as_integer(value) == Some(-1) {
        return Ok(None);
    }
    integer(name, value, expected, range).map(Some)
}

pub(super) fn boolean(name: &str, value: &Value) -> Result<bool, ParameterError> {
    match value {
        Value::Bool(flag) => Ok(*flag),
        Value::String(text) if text.eq_ignore_ascii_case("true") => Ok(true),
        Value::String(text) if text.eq_ignore_ascii_case("false") => Ok(false),
        _ => Err(invalid(name, value, "true or false")),
    }
}

pub(super) fn reports_batch_item_failures(
    name: &str,
    value: &Value,
) -> Result<bool, ParameterError> {
    let expected = "[] or [\"ReportBatchItemFailures\"]";
    let types: Vec<&str> = match value {
        Value::Null => Vec::new(),
        Value::Array(types) => types
            .iter()
            .map(|kind| kind.as_str().ok_or_else(|| invalid(name, value, expected)))
            .collect::<Result<_, _>>()?,
        Value::String(text) => text
            .trim_matches(['[', ']'])
            .split(',')
            .map(|kind| kind.trim().trim_matches('"'))
            .filter(|kind| !kind.is_empty())
            .collect(),
        _ => return Err(invalid(name, value, expected)),
    };
    match types.as_slice() {
        [] => Ok(false),
        ["ReportBatchItemFailures"] => Ok(true),
        _ => Err(invalid(name, value, expected)),
    }
}

/// A moment in Unix seconds, fractions allowed.
#[expect(clippy::cast_possible_truncation, reason = "the conversion saturates")]
pub(super) fn moment(name: &str, value: &Value) -> Result<Timestamp, ParameterError> {
    let seconds = match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    let seconds: f64 = seconds
        .filter(|seconds: &f64| seconds.is_finite() && *seconds >= 0.0)
        .ok_or_else(|| invalid(name, value, "Unix time in seconds, such as 1772442000.5"))?;
    Ok(Timestamp((seconds * 1_000.0).round() as i64))
}

pub(super) fn starting_position(
    name: &str,
    value: &Value,
) -> Result<StartingPosition, ParameterError> {
    match value.as_str() {
        Some("TRIM_HORIZON") => Ok(StartingPosition::TrimHorizon),
        Some("LATEST") => Ok(StartingPosition::Latest),
        Some("AT_TIMESTAMP") => Ok(StartingPosition::AtTimestamp),
        _ => Err(invalid(name, value, "TRIM_HORIZON, LATEST or AT_TIMESTAMP")),
    }
}
