//! What Kinesis refuses, by AWS's names.

use serde_json::json;
use std::fmt;

pub(super) type Result<T> = std::result::Result<T, KinesisError>;

/// A refusal: AWS's name for it, and what to do.
#[derive(Debug, thiserror::Error)]
#[error("{code}: {message}")]
pub(super) struct KinesisError {
    code: &'static str,
    message: String,
}

impl KinesisError {
    fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// There is no such stream or shard.
    pub(super) fn not_found(message: impl Into<String>) -> Self {
        Self::new("ResourceNotFoundException", message)
    }

    /// It is there already, or not in a state for this.
    pub(super) fn in_use(message: impl Into<String>) -> Self {
        Self::new("ResourceInUseException", message)
    }

    /// A value makes no sense here.
    pub(super) fn argument(message: impl Into<String>) -> Self {
        Self::new("InvalidArgumentException", message)
    }

    /// A value makes no sense anywhere.
    pub(super) fn validation(message: impl Into<String>) -> Self {
        Self::new("ValidationException", message)
    }

    /// A value breaks a constraint of AWS's model of the API.
    pub(super) fn constraint(value: impl fmt::Display, member: &str, must: &str) -> Self {
        Self::validation(format!(
            "1 validation error detected: Value '{value}' at '{member}' failed to satisfy \
             constraint: Member must {must}"
        ))
    }

    /// More than the account may have.
    pub(super) fn limit(message: impl Into<String>) -> Self {
        Self::new("LimitExceededException", message)
    }

    /// An iterator that is too old.
    pub(super) fn expired_iterator(age_ms: i64, max_ms: i64) -> Self {
        Self::new(
            "ExpiredIteratorException",
            format!(
                "Iterator expired. It is {age_ms} milliseconds old, and {max_ms} are tolerated; \
                 get another by GetShardIterator"
            ),
        )
    }

    /// A token of a listing that is too old.
    pub(super) fn expired_token() -> Self {
        Self::new(
            "ExpiredNextTokenException",
            "The NextToken is older than 300 seconds; begin the listing again",
        )
    }

    /// No such operation here.
    pub(super) fn unserved(operation: &str, served: &[&str]) -> Self {
        let fan_out = ["RegisterStreamConsumer", "SubscribeToShard"].contains(&operation);
        let instead = if fan_out { " (read by GetRecords instead)" } else { "" };
        Self::new(
            "UnknownOperationException",
            format!(
                "the desk's Kinesis does not serve {operation:?}{instead}; it serves {}",
                served.join(", ")
            ),
        )
    }

    /// The request is not JSON, or not of the right types. Nothing of it is said again.
    pub(super) fn unreadable(error: &serde_json::Error) -> Self {
        let message = error.to_string();
        if message.starts_with("missing field") {
            let message = message.rfind(" at line ").map_or(&*message, |at| &message[..at]);
            return Self::validation(format!("1 validation error detected: {message}"));
        }
        let place = format!("line {} column {}", error.line(), error.column());
        let what = if error.is_data() { "has a member of another type" } else { "is not JSON" };
        Self::new("SerializationException", format!("the request {what} at {place}"))
    }

    /// The HTTP status.
    pub(super) fn status(&self) -> u16 {
        if self.code == "InternalFailure" { 500 } else { 400 }
    }

    /// The body.
    pub(super) fn to_json(&self) -> String {
        json!({ "__type": self.code, "message": self.message }).to_string()
    }
}

impl From<rusqlite::Error> for KinesisError {
    fn from(error: rusqlite::Error) -> Self {
        Self::new("InternalFailure", format!("the desk's Kinesis cannot use its tables: {error}"))
    }
}
