//! A [`BatchProcessor`] over one batch: calls as large as they may be, halved down to the
//! record that fails.
//!
//! It is separate from the lanes because here one call has many records and one failure, which
//! does not say whose it is. A transient failure is everybody's: the same records go again,
//! whole. Any other is somebody's: the call is halved, left half first, and only a call that
//! had **one record alone** says something about that record, counts as its attempt, and parks
//! it. It keeps these invariants: calls run one at a time, in stream order, so a record is sent
//! when every earlier one of its lane is finished, or queued behind a parked one; what the
//! processor reports as finished is never sent again; a record that comes to be held or stopped
//! by a failure to its left is taken out of the call before it is made.
//!
//! For b bad records of n in one call's reach that is at most 1 + 2·b·⌈log2 n⌉ calls: a call
//! that fails has a bad record in it and is followed by two at most, and no record is in more
//! than ⌈log2 n⌉ calls above the one it has alone. It holds for permanent failures, and
//! unclassified ones at one attempt; with m attempts each unclassified bad record costs m - 1
//! calls more, and transient failures cost their own repetitions. An unreadable record is
//! within the bound: it is taken out before the call, which ends before it if an earlier record
//! of its key is in it (as before one whose key was held when the invocation began).
//!
//! What it gives up: records that fail only together (two of them in one call) pass when they
//! are parted. And lanes do not run beside each other, so the circuit of the lanes has no part
//! here: one bulk call that keeps failing for a passing reason ends the work by itself.

mod calls;

use super::{Setup, Work, work_context::WorkContext};
use crate::{
    call::{Call, Halt, Measures},
    clock::Clock,
    deadline::Deadline,
    event::Record,
    layout::{Order, undecodable},
    operation::Operation,
    outcome::Outcome,
    processor::{
        BatchFailure, BatchItem, BatchProcessor, Class, Context, Failure, errors::panicked,
    },
    recovery::{durable::DurableState, redrive::Runner},
    retry::Pauses,
};
use calls::Calls;
use futures_util::FutureExt;
use serde_json::Value;
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

/// Work by a [`BatchProcessor`], many changes in one call.
#[derive(Debug)]
pub struct Bulk<P> {
    processor: P,
    context: WorkContext,
}

impl<P: BatchProcessor> Bulk<P> {
    /// Bulk calls, in order by key, that keep nothing.
    pub fn new(processor: P, clock: Arc<dyn Clock>) -> Self {
        Self { processor, context: WorkContext::new(clock) }
    }

    /// Bulk calls as the settings say; the concurrency is always one.
    pub fn set_up(processor: P, setup: Setup) -> Self {
        Self { processor, context: WorkContext::set_up(setup) }
    }

    /// The processor that is called.
    pub fn processor(&self) -> &P {
        &self.processor
    }

    /// Chooses which records have to stay in order.
    #[must_use]
    pub fn with_order(self, order: Order) -> Self {
        Self { context: WorkContext { order, ..self.context }, ..self }
    }

    /// Chooses what is kept of records: progress, parks.
    #[must_use]
    pub fn with_durable_state(self, durable: DurableState) -> Self {
        Self { context: WorkContext { durable, ..self.context }, ..self }
    }

    /// Seeds the pauses before tries in place.
    #[must_use]
    pub fn with_seed(self, seed: u64) -> Self {
        Self { context: WorkContext { pauses: Pauses::new(seed), ..self.context }, ..self }
    }

    /// Reads one record.
    fn read<'r>(
        at: usize,
        record: &'r Record<'r>,
        context: Context<'r>,
    ) -> Result<BatchItem<'r, P::Item<'r>>, Failure> {
        // Reading runs the user's `Deserialize`.
        let change = catch_unwind(AssertUnwindSafe(|| record.change::<P::Item<'r>>()));
        let change = change.map_err(|_| panicked())?.map_err(undecodable)?;
        Ok(BatchItem::new(at, change, context))
    }

    /// Makes one call.
    async fn run_once<'r>(&self, items: &[BatchItem<'r, P::Item<'r>>]) -> Result<(), BatchFailure> {
        // After a panic the processor is called again: as with a mutex, its state is its own
        // care.
        let processed = AssertUnwindSafe(async { self.processor.process(items).await });
        processed.catch_unwind().await.unwrap_or_else(|_| Err(panicked().into()))
    }
}

impl<P: BatchProcessor> Work for Bulk<P> {
    async fn work(
        &self,
        records: &[Record<'_>],
        outcomes: &mut [Outcome],
        measures: &mut Measures,
        call: &Call,
    ) -> Result<(), Halt> {
        let deadline = Deadline::new(&*self.context.clock, call);
        let begin = |session| Calls::new(self, (call, &deadline), session);
        self.context.work((records, outcomes), measures, (call, &deadline), begin).await
    }

    async fn rescue(
        &self,
        records: &[Record<'_>],
        outcomes: &mut [Outcome],
        measures: &mut Measures,
        (condition, call): (&str, &Call),
    ) -> Result<(), Halt> {
        self.context.park_given_up(records, outcomes, measures, (condition, call)).await
    }

    async fn operate(&self, operation: &Operation, call: &Call) -> Result<Value, Halt> {
        self.context.operate(self, operation, call).await
    }
}

/// A parked record comes back by itself, in a call of its own.
impl<P: BatchProcessor> Runner for Bulk<P> {
    /// Calls are made one at a time, here as well.
    fn concurrency(&self) -> usize {
        1
    }

    async fn run<'r>(
        &self,
        record: &'r Record<'r>,
        call: &'r Call,
        attempt: u32,
    ) -> Result<(), Failure> {
        let item = Self::read(0, record, Context::new(record, call, attempt))?;
        let Err(failure) = self.run_once(&[item]).await else { return Ok(()) };
        let (failure, finished) = failure.into_parts();
        if finished.contains(&0) && failure.class() != Class::Halt { Ok(()) } else { Err(failure) }
    }

    fn read<'r>(&self, record: &'r Record<'r>) -> Result<(), Failure> {
        record.change::<P::Item<'_>>().map(drop).map_err(undecodable)
    }
}
