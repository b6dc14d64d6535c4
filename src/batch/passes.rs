//! What the lanes and the bulk calls do alike around the records they run.
//!
//! The work on a batch goes in passes: run the records, confirm the parks, run those whose key
//! was opened meanwhile, and at the end remember what is beyond the checkpoint. It is separate
//! from `durable.rs`, which knows what a record is, because this is about when it is asked; and
//! from the two works, so that a record without a key, or one that is cut off, fares the same
//! in both. It keeps that nothing is remembered before the last park is confirmed.
//!
//! What it gives up: a lifted record runs after others of its pass, never among them. Its key
//! was held until then, so no order is lost.

use crate::{
    call::{Call, Halt, Measures},
    clock::Clock,
    deadline::Deadline,
    event::Record,
    layout::{Layout, Order},
    operation::Operation,
    outcome::Outcome,
    processor::{Class, Failure, errors::timed_out},
    recovery::{
        durable::DurableState,
        redrive::{Operator, Runner},
        session::{Admission, Session},
    },
    retry::Pauses,
    telemetry,
};
use serde_json::Value;
use std::sync::Arc;

impl Session<'_> {
    /// Runs all records, pass by pass, as long as there are any to run.
    ///
    /// # Errors
    /// The work halts: in a pass, or because a record's start cannot be noted.
    pub(super) async fn in_passes(
        &self,
        pass: impl AsyncFn(&[usize]) -> Result<(), Halt>,
    ) -> Result<(), Halt> {
        self.note_begun_later().await?;
        self.start_alone().await?;
        let mut wanted: Vec<usize> = (0..self.records.len()).collect();
        loop {
            if let Err(halt) = pass(&wanted).await {
                self.forget_start().await;
                return Err(halt);
            }
            wanted = self.flush().await;
            if !self.goes_on_after_failure() {
                wanted.retain(|at| !self.is_after_failed(*at));
            }
            if wanted.is_empty() || self.deadline.is_late() {
                break;
            }
        }
        self.remember().await;
        Ok(())
    }

    fn is_after_failed(&self, at: usize) -> bool {
        self.outcomes[..at].iter().any(|outcome| outcome.get() == Outcome::Failed)
    }

    /// Looks at the records whose lane is unknown. Such a record could belong to any: it halts,
    /// or is parked on its own, or fails; those that fail are given back.
    ///
    /// # Errors
    /// The record halts the work.
    pub(super) fn look_at_unkeyed(&self, wanted: &[usize]) -> Result<Vec<usize>, Halt> {
        let mut failed = Vec::new();
        for (at, failure) in &self.layout.unkeyed {
            if self.admission(*at) == Admission::Finished || wanted.binary_search(at).is_err() {
                continue;
            }
            let record = &self.records[*at];
            if failure.class() == Class::Halt || self.halts_on_unkeyed() {
                return Err(Halt::new(
                    failure.code(),
                    format!(
                        "record {}: the key that orders it cannot be read, and keys are held: \
                         correct the order, or set CHANGEFOLD_ON_UNKEYED=park",
                        record.sequence_number()
                    ),
                ));
            }
            self.note_attempt(*at, failure);
            telemetry::record_failed(record, self.call, failure.code(), failure.reason());
            if failure.class() != Class::Retry && self.can_park() {
                self.set_aside(*at, failure);
            } else {
                self.outcomes[*at].set(Outcome::Failed);
                failed.push(*at);
            }
        }
        Ok(failed)
    }

    /// A record still ran at the hard limit, and was cancelled. Of the batch's first unfinished
    /// record that is a failed attempt, because nothing else stood in its way; unless it shared
    /// its call with others.
    pub(super) fn cut_off(&self, at: usize, is_shared: bool) {
        self.outcomes[at].set(Outcome::Failed);
        let failure = timed_out();
        telemetry::record_failed(&self.records[at], self.call, failure.code(), failure.reason());
        if is_shared || !(0..at).all(|before| self.is_past(before)) {
            return;
        }
        self.note_attempt(at, &failure);
        if self.is_parked_by(at, failure.class()) {
            self.set_aside(at, &failure);
        }
    }

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

    /// Says what became of the records.
    pub(super) fn tell(&self, outcomes: &mut [Outcome]) {
        for (outcome, said) in outcomes.iter_mut().zip(&self.outcomes) {
            *outcome = said.get();
        }
    }
}

/// What every work on batches has beside its processor, and does with it.
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

    /// Reads what is known of the records.
    ///
    /// # Errors
    /// The order cannot be told, or what is known cannot be read.
    pub(super) async fn open<'s>(
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

/// The mapping stopped delivering the record.
#[derive(Debug, thiserror::Error)]
#[error("the event source mapping gave the record up")]
struct GivenUpByMapping;
