//! One batch of records, whoever works on it.
//!
//! [`Work`] is the seam between the way through the function, which is the same for
//! everybody (`handler.rs`), and what is done with the records: your processor in its lanes
//! ([`lanes`]) or in bulk calls ([`bisect`]), or the views. A work fills in outcomes that start
//! as *not attempted*; it cannot say where Lambda is to stand, so it cannot move past a record
//! it forgot.

pub mod bisect;
pub mod lanes;
mod passes;
mod schedule;
mod work_context;
mod worker_pool;

pub use crate::layout::Order;

use crate::{
    call::{Call, Halt, Measures},
    clock::Clock,
    event::Record,
    operation::Operation,
    outcome::Outcome,
    recovery::durable::DurableState,
};
use std::{num::NonZeroUsize, sync::Arc};

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
    pub durable: DurableState,
    /// The clock the function lives by.
    pub clock: Arc<dyn Clock>,
    /// The seed of the pauses.
    pub seed: u64,
}
