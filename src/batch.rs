//! One batch of records, whoever works on it.
//!
//! [`Work`] is the seam between the way through the function, which is the same for
//! everybody (`handler.rs`), and what is done with the records: your processor in its lanes
//! ([`lanes`]), or the views. A work fills in outcomes that start as *not attempted*; it
//! cannot say where Lambda is to stand, so it cannot move past a record it forgot.

pub mod lanes;
mod schedule;

use crate::{event::Record, outcome::Outcome, record::Timestamp};
use std::error::Error;

/// Work on one batch: the lanes of a [`Processor`](crate::processor::Processor), or the views.
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
}

/// What is known of one invocation.
#[derive(Debug, Clone)]
pub struct Call {
    /// Lambda's id of this request; retries of the same batch repeat it.
    pub request_id: String,
    /// When Lambda cuts this invocation off.
    pub deadline: Timestamp,
}

/// What a work counts beside its outcomes, for the invocation's metrics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Measures {
    /// HTTP requests sent to the store, repeated ones included.
    pub store_calls: u64,
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

    /// Keeps the error this came from.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }
}
