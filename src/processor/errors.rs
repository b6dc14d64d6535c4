//! How a call of the processor ends that gave no answer of its own, or one that ends it all.
//!
//! Live records and redriven ones end alike, so this stands below both.

use super::Failure;
use crate::{call::Halt, event::Record};

/// What a processor's panic is. What it said stays out of the log: it often quotes the value
/// it stumbled over.
pub(crate) fn panicked() -> Failure {
    Failure::unclassified("Panicked", Panicked)
}

/// What becomes of a record that still runs at the hard limit.
pub(crate) fn timed_out() -> Failure {
    Failure::unclassified("TimedOut", TimedOut)
}

/// The processor said that nothing can be trusted, in a call of so many records from this on.
pub(crate) fn halted((record, records): (&Record<'_>, usize), failure: Failure) -> Halt {
    let place = record.message_id().unwrap_or(record.sequence_number().as_str());
    let message = match records {
        1 => format!("the processor halted at record {place}"),
        _ => format!("the processor halted in a call of {records} records from {place} on"),
    };
    Halt::new(failure.code(), message).caused_by(failure.into_reason())
}

#[derive(Debug, thiserror::Error)]
#[error("the processor panicked; the log's `CodePanicError` says where")]
struct Panicked;

#[derive(Debug, thiserror::Error)]
#[error("it was still running shortly before the function's timeout, and was cancelled")]
struct TimedOut;
