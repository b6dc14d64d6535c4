//! A [`Processor`] over one batch: lanes beside each other, each in stream order.
//!
//! It is separate from the views because a processor is called record by record, with
//! anything in between, while the views write many records in one transaction. It keeps
//! these invariants: a record starts when every earlier one of its lane is finished, or queued
//! behind a parked one; only a processor that returned `Ok` makes a record *applied*, and only
//! a confirmed park makes it *parked*; without progress, nothing later than the lowest failed
//! record of a stream starts. All lanes run on one task, so the order of events is a function
//! of the processor alone.
//!
//! What it gives up: a processor that never lets go of its thread cannot be cancelled; it runs
//! into Lambda's own timeout, and counts as one that killed the process.

mod batch;

use super::{Setup, Work, work_context::WorkContext};
use crate::{
    call::{Call, Halt, Measures},
    clock::Clock,
    deadline::Deadline,
    event::Record,
    layout::{Order, undecodable},
    operation::Operation,
    outcome::Outcome,
    processor::{Context, Failure, Processor, errors::panicked},
    recovery::{durable::DurableState, redrive::Runner},
    retry::Pauses,
};
use batch::Batch;
use serde_json::Value;
use std::{
    future::poll_fn,
    num::NonZeroUsize,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::{Pin, pin},
    sync::Arc,
    task::{self, Poll},
};

/// How many records run at a time unless told otherwise: enough to hide a store's latency, few
/// enough not to crowd a small table.
pub const CONCURRENCY_DEFAULT: NonZeroUsize = NonZeroUsize::new(16).expect("16 is not zero");

/// Work by a [`Processor`], one change at a time.
#[derive(Debug)]
pub struct Lanes<P> {
    processor: P,
    concurrency: NonZeroUsize,
    context: WorkContext,
}

impl<P: Processor> Lanes<P> {
    /// Lanes by key, [`CONCURRENCY_DEFAULT`] at a time, that keep nothing.
    pub fn new(processor: P, clock: Arc<dyn Clock>) -> Self {
        Self { processor, concurrency: CONCURRENCY_DEFAULT, context: WorkContext::new(clock) }
    }

    /// Lanes as the settings say.
    pub fn set_up(processor: P, setup: Setup) -> Self {
        Self { processor, concurrency: setup.concurrency, context: WorkContext::set_up(setup) }
    }

    /// The processor in its lanes.
    pub fn processor(&self) -> &P {
        &self.processor
    }

    /// What is kept of records.
    pub fn durable_state(&self) -> &DurableState {
        &self.context.durable
    }

    /// Chooses which records have to stay in order.
    #[must_use]
    pub fn with_order(self, order: Order) -> Self {
        Self { context: WorkContext { order, ..self.context }, ..self }
    }

    /// Chooses how many records run at a time.
    #[must_use]
    pub fn with_concurrency(self, concurrency: NonZeroUsize) -> Self {
        Self { concurrency, ..self }
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

    /// Runs one record once.
    pub(super) async fn run_once<'r>(
        &self,
        record: &'r Record<'r>,
        call: &'r Call,
        attempt: u32,
    ) -> Result<(), Failure> {
        let context = Context::new(record, call, attempt);
        let mut processing = pin!(None);
        poll_fn(|task| poll_guarded(processing.as_mut(), || self.begin(record, &context), task))
            .await
    }

    /// Reads the change and hands it to the processor.
    fn begin<'r>(
        &self,
        record: &'r Record<'r>,
        context: &Context<'r>,
    ) -> Result<impl Future<Output = Result<(), Failure>>, Failure> {
        let change = record.change::<P::Item<'r>>().map_err(undecodable)?;
        Ok(self.processor.process(change, context))
    }
}

/// Polls the processing of a record in its place, and begins it there at the first time.
///
/// Reading runs the user's `Deserialize`, so all of it stands inside the guard against panics.
/// After one the processor is called again: as with a mutex, its state is its own care.
fn poll_guarded<F: Future<Output = Result<(), Failure>>>(
    mut processing: Pin<&mut Option<F>>,
    begin: impl FnOnce() -> Result<F, Failure>,
    task: &mut task::Context<'_>,
) -> Poll<Result<(), Failure>> {
    let polled = catch_unwind(AssertUnwindSafe(|| {
        if processing.is_none() {
            processing.set(Some(begin()?));
        }
        let polled = processing.as_mut().as_pin_mut().map_or(Poll::Pending, |it| it.poll(task));
        if polled.is_ready() {
            processing.set(None);
        }
        polled
    }));
    polled.unwrap_or_else(|_| Poll::Ready(Err(panicked())))
}

impl<P: Processor> Work for Lanes<P> {
    async fn work(
        &self,
        records: &[Record<'_>],
        outcomes: &mut [Outcome],
        measures: &mut Measures,
        call: &Call,
    ) -> Result<(), Halt> {
        let deadline = Deadline::new(&*self.context.clock, call);
        let begin = |session| Batch::new(self, (call, &deadline), session);
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

impl<P: Processor> Runner for Lanes<P> {
    fn concurrency(&self) -> usize {
        self.concurrency.get()
    }

    async fn run<'r>(
        &self,
        record: &'r Record<'r>,
        call: &'r Call,
        attempt: u32,
    ) -> Result<(), Failure> {
        self.run_once(record, call, attempt).await
    }

    fn read<'r>(&self, record: &'r Record<'r>) -> Result<(), Failure> {
        record.change::<P::Item<'_>>().map(drop).map_err(undecodable)
    }
}
