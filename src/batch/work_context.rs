//! What every work on batches has beside its processor, and does with it.
//!
//! Separate from the passes over a batch, because this is about what comes before and beside
//! them: reading what is known, taking in what the mapping gave up, an operator's request.

use super::{
    Setup,
    passes::{Run, work_through},
};
use crate::{
    call::{Call, Halt, Measures},
    clock::Clock,
    deadline::Deadline,
    event::Record,
    layout::{Layout, Order},
    operation::Operation,
    outcome::Outcome,
    processor::Failure,
    recovery::{
        durable::DurableState,
        redrive::{Operator, Runner},
        session::{Admission, Session},
    },
    retry::Pauses,
};
use serde_json::Value;
use std::sync::Arc;

/// What a work has, whatever its processor is.
#[derive(Debug)]
pub(super) struct WorkContext {
    pub(super) order: Order,
    pub(super) durable: DurableState,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) pauses: Pauses,
}

impl WorkContext {
    /// Order by key, and nothing is kept.
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        let (order, durable) = (Order::default(), DurableState::none());
        Self { order, durable, clock, pauses: Pauses::new(0) }
    }

    /// What a setup says, beside the processor and its concurrency.
    pub(super) fn set_up(setup: Setup) -> Self {
        let Setup { order, concurrency: _, durable, clock, seed } = setup;
        Self { order, durable, clock, pauses: Pauses::new(seed) }
    }

    /// Works on a batch, each record as the run that `begin` makes does it.
    ///
    /// # Errors
    /// What is known of the records cannot be read, or the work halts.
    pub(super) async fn work<'r, R: Run<'r>>(
        &'r self,
        (records, outcomes): (&'r [Record<'r>], &mut [Outcome]),
        measures: &'r mut Measures,
        (call, deadline): (&'r Call, &'r Deadline<'r>),
        begin: impl FnOnce(Session<'r>) -> R,
    ) -> Result<(), Halt> {
        let session = self.open(records, measures, (call, deadline)).await?;
        work_through(begin(session), outcomes).await
    }

    /// Reads what is known of the records.
    ///
    /// # Errors
    /// The order cannot be told, or what is known cannot be read.
    async fn open<'s>(
        &'s self,
        records: &'s [Record<'s>],
        measures: &'s mut Measures,
        (call, deadline): (&'s Call, &'s Deadline<'s>),
    ) -> Result<Session<'s>, Halt> {
        let layout = Layout::of(records, &self.order)?;
        let known = (&self.durable, &self.order);
        let opened = Session::open(known, (records, layout), measures, (call, deadline));
        // Boxed: a user's crate, which compiles this, should need no larger recursion limit.
        Box::pin(opened).await
    }

    /// Parks records that the mapping gave up, each key in its order; they are not run.
    ///
    /// # Errors
    /// There is no park, or what is known of the records cannot be read.
    pub(super) async fn park_given_up(
        &self,
        records: &[Record<'_>],
        outcomes: &mut [Outcome],
        measures: &mut Measures,
        (condition, call): (&str, &Call),
    ) -> Result<(), Halt> {
        let deadline = Deadline::new(&*self.clock, call);
        let session = self.open(records, measures, (call, &deadline)).await?;
        Box::pin(session.park_all(condition)).await?;
        session.tell(outcomes);
        Ok(())
    }

    /// Carries out an operator's request, with the work's own way to run a record.
    ///
    /// # Errors
    /// There is no park, or it does not answer.
    pub(super) async fn operate(
        &self,
        runner: &impl Runner,
        operation: &Operation,
        call: &Call,
    ) -> Result<Value, Halt> {
        let Some(park) = self.durable.park_of(call) else { return Err(Halt::no_park()) };
        let (durable, clock, pauses) = (&self.durable, &*self.clock, &self.pauses);
        let owner = format!("{} {}", call.request_id, clock.now().0);
        let operator = Operator { runner, durable, park: &park, clock, pauses, call, owner };
        Box::pin(operator.operate(operation)).await
    }
}

impl Session<'_> {
    /// Sets every record aside that is neither finished nor parked already: the mapping has
    /// given them up.
    ///
    /// # Errors
    /// There is nowhere to set them aside.
    async fn park_all(&self, condition: &str) -> Result<(), Halt> {
        if !self.can_park() {
            return Err(Halt::no_park());
        }
        self.rescues.set(true);
        let code = match condition {
            "RetryAttemptsExhausted" => "RetryAttemptsExhausted",
            "RecordAgeExceeded" => "RecordAgeExceeded",
            _ => "GivenUpByMapping",
        };
        for at in 0..self.records.len() {
            match self.admission(at) {
                Admission::Finished => self.outcomes[at].set(Outcome::AlreadyApplied),
                Admission::Held => self.queue_behind(at),
                Admission::Run => {
                    self.set_aside(at, &Failure::park(GivenUpByMapping).with_code(code));
                }
            }
        }
        // A key that was closed meanwhile: its records were not tried, so they are parked.
        let lifted = self.flush().await;
        for at in &lifted {
            self.set_aside(*at, &Failure::park(GivenUpByMapping).with_code(code));
        }
        if !lifted.is_empty() {
            self.flush().await;
        }
        Ok(())
    }
}

/// The mapping stopped delivering the record.
#[derive(Debug, thiserror::Error)]
#[error("the event source mapping gave the record up")]
struct GivenUpByMapping;
