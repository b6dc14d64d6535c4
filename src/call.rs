//! One invocation of the function: what is known of it, what is counted, and how it fails.
//!
//! Everything that works on records speaks of these three, from the processor to the log. So
//! they stand below all of it, in a file that knows nothing of batches.

use crate::record::Timestamp;
use std::{collections::BTreeMap, error::Error};

/// What is known of one invocation.
#[derive(Debug, Clone)]
pub struct Call {
    /// Lambda's id of this request; retries of the same batch repeat it.
    pub request_id: String,
    /// When Lambda cuts this invocation off.
    pub deadline: Timestamp,
    /// The ARN the function was invoked by, with the alias or version if there was one.
    pub function_arn: Option<String>,
    /// Who called, as far as Lambda tells: for the log alone, since a caller may say anything.
    pub caller: Option<String>,
}

impl Call {
    /// An invocation by nobody in particular.
    #[must_use]
    pub fn new(request_id: impl Into<String>, deadline: Timestamp) -> Self {
        Self { request_id: request_id.into(), deadline, function_arn: None, caller: None }
    }

    /// Tells the ARN that the function was invoked by.
    #[must_use]
    pub fn with_function_arn(self, function_arn: impl Into<String>) -> Self {
        Self { function_arn: Some(function_arn.into()), ..self }
    }

    /// Tells who called.
    #[must_use]
    pub fn with_caller(self, caller: Option<String>) -> Self {
        Self { caller, ..self }
    }
}

/// What a work counts beside its outcomes, for the invocation's metrics.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Measures {
    /// HTTP requests sent to the store, repeated ones included.
    pub store_calls: u64,
    /// Tries beyond the first of a record in this invocation.
    pub retried_in_place: u64,
    /// Records parked only because they queue behind another.
    pub held: u64,
    /// Records that the park had no room for, and that only the destination has.
    pub sent_past_park: u64,
    /// Keys with parked records when the invocation ended, as far as it knows.
    pub keys_parked: u64,
    /// Seconds since the first of them was parked.
    pub oldest_parked_s: u64,
    /// Whether the invocation ended early for want of time.
    pub deadline_stops: u64,
    /// Failed attempts by code, [`FAILURE_CODES_MAX`] codes at most.
    pub failures: BTreeMap<&'static str, u64>,
}

/// More codes than this are counted as `Other`: names of metrics have to be few.
pub const FAILURE_CODES_MAX: usize = 20;

impl Measures {
    /// Counts a failed attempt.
    pub(crate) fn count_failure(&mut self, code: &'static str) {
        let is_room = self.failures.len() < FAILURE_CODES_MAX || self.failures.contains_key(code);
        *self.failures.entry(if is_room { code } else { "Other" }).or_default() += 1;
    }
}

/// The invocation must fail as a whole.
#[derive(Debug, thiserror::Error)]
#[error("{code}: {message}")]
pub struct Halt {
    /// Stable code, reported to Lambda as the error type.
    pub code: &'static str,
    /// What is wrong and what helps.
    pub message: String,
    /// What it came from.
    #[source]
    pub source: Option<Box<dyn Error + Send + Sync>>,
}

impl Halt {
    /// Names a reason that has no error below it.
    #[must_use]
    pub fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), source: None }
    }

    /// There is nothing an operator could ask for.
    pub(crate) fn no_park() -> Self {
        Self::new(
            "OperationUnsupported",
            "this function parks no records: a processor needs CHANGEFOLD_PARK_TABLE for it",
        )
    }

    /// There are no views that an operator could ask for.
    pub(crate) fn no_views() -> Self {
        Self::new("OperationUnsupported", "this function keeps no views: it has a processor")
    }

    /// Keeps the error this came from.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }
}
