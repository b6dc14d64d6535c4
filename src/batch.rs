//! One batch of records, whoever works on it.
//!
//! [`Work`] is the seam between the way through the function, which is the same for
//! everybody (`handler.rs`), and what is done with the records: your processor in its lanes
//! ([`lanes`]) or in bulk calls ([`bisect`]), or the views. A work fills in outcomes that start
//! as *not attempted*; it cannot say where Lambda is to stand, so it cannot move past a record
//! it forgot.

mod attempts;
pub mod bisect;
pub mod consumer;
mod crew;
mod deadline;
pub mod keeping;
pub mod lanes;
mod layout;
pub mod progress;
mod redrive;
pub mod retry;
mod rounds;
mod schedule;
mod session;
mod watch;

use crate::{
    clock::Clock, event::Record, operation::Operation, outcome::Outcome, record::Timestamp,
};
use keeping::Keeping;
use lanes::Order;
use std::{collections::BTreeMap, error::Error, num::NonZeroUsize, sync::Arc};

/// Work on one batch: the lanes of a [`Processor`](crate::processor::Processor), the bulk calls
/// of a [`BatchProcessor`](crate::processor::BatchProcessor), or the views.
pub trait Work {
    /// Works on the records and says, in `outcomes` (one per record, all `NotAttempted` at the
    /// start), what became of each; `measures` takes what the work wants counted, also when
    /// it fails.
    ///
    /// The future need not be `Send`: an execution environment serves one invocation at a
    /// time, on one task.
    ///
    /// # Errors
    /// Nothing can be trusted: the invocation fails and Lambda delivers the whole batch again.
    fn work(
        &self,
        records: &[Record<'_>],
        outcomes: &mut [Outcome],
        measures: &mut Measures,
        call: &Call,
    ) -> impl Future<Output = Result<(), Halt>>;

    /// Takes in records that the mapping gave up for this reason. Views, and whatever else
    /// may meet a record again at any time, just work on them.
    ///
    /// # Errors
    /// As [`work`](Self::work).
    fn rescue(
        &self,
        records: &[Record<'_>],
        outcomes: &mut [Outcome],
        measures: &mut Measures,
        (_condition, call): (&str, &Call),
    ) -> impl Future<Output = Result<(), Halt>> {
        self.work(records, outcomes, measures, call)
    }

    /// Carries out an operator's request.
    ///
    /// # Errors
    /// This work has no parked records, or the store does not answer.
    fn operate(
        &self,
        operation: &Operation,
        call: &Call,
    ) -> impl Future<Output = Result<serde_json::Value, Halt>> {
        let _ = (operation, call);
        std::future::ready(Err(Halt::no_park()))
    }
}

/// What a work over a processor is set up with, in the function and on the desk.
#[derive(Debug)]
pub struct Setup {
    /// Which records stay in order.
    pub order: Order,
    /// How many units run at a time, where they do.
    pub concurrency: NonZeroUsize,
    /// What is kept of records.
    pub keeping: Keeping,
    /// The clock the function lives by.
    pub clock: Arc<dyn Clock>,
    /// The seed of the pauses.
    pub seed: u64,
}

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

    /// Keeps the error this came from.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }
}
