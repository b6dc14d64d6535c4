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

use super::{
    Call, Halt, Measures, Setup, Work,
    crew::{Crew, Duty, Seat},
    deadline::Deadline,
    keeping::Keeping,
    layout::undecodable,
    redrive::Runner,
    retry::{Circuit, Pauses, TRIES_IN_PLACE},
    rounds::{Means, halted, panicked},
    schedule::Schedule,
    session::{Before, Session},
};
use crate::{
    clock::Clock,
    event::Record,
    operation::Operation,
    outcome::Outcome,
    processor::{Class, Context, Failure, Processor},
    record::Timestamp,
    telemetry,
};
use futures_util::future::{Either, LocalBoxFuture, select};
use serde_json::Value;
use std::{
    cell::{Cell, RefCell},
    convert::Infallible,
    future::poll_fn,
    num::NonZeroUsize,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    rc::Rc,
    sync::Arc,
    task::Poll,
};

pub use super::layout::Order;

/// How many units run at a time unless told otherwise: enough to hide a store's latency, few
/// enough not to crowd a small table.
pub const CONCURRENCY_DEFAULT: NonZeroUsize = NonZeroUsize::new(16).expect("16 is not zero");

/// Work by a [`Processor`], one change at a time.
#[derive(Debug)]
pub struct Lanes<P> {
    processor: P,
    concurrency: NonZeroUsize,
    means: Means,
}

impl<P: Processor> Lanes<P> {
    /// Lanes by key, [`CONCURRENCY_DEFAULT`] at a time, that keep nothing.
    pub fn new(processor: P, clock: Arc<dyn Clock>) -> Self {
        Self { processor, concurrency: CONCURRENCY_DEFAULT, means: Means::new(clock) }
    }

    /// Lanes as the settings say.
    pub fn set_up(processor: P, setup: Setup) -> Self {
        let Setup { order, concurrency, keeping, clock, seed } = setup;
        let means = Means { order, keeping, clock, pauses: Pauses::new(seed) };
        Self { processor, concurrency, means }
    }

    /// The processor in its lanes.
    pub fn processor(&self) -> &P {
        &self.processor
    }

    /// What is kept of records.
    pub fn keeping(&self) -> &Keeping {
        &self.means.keeping
    }

    /// Chooses which records have to stay in order.
    #[must_use]
    pub fn with_order(self, order: Order) -> Self {
        Self { means: Means { order, ..self.means }, ..self }
    }

    /// Chooses how many units run at a time.
    #[must_use]
    pub fn with_concurrency(self, concurrency: NonZeroUsize) -> Self {
        Self { concurrency, ..self }
    }

    /// Chooses what is kept of records: progress, parks.
    #[must_use]
    pub fn with_keeping(self, keeping: Keeping) -> Self {
        Self { means: Means { keeping, ..self.means }, ..self }
    }

    /// Seeds the pauses before tries in place.
    #[must_use]
    pub fn with_seed(self, seed: u64) -> Self {
        Self { means: Means { pauses: Pauses::new(seed), ..self.means }, ..self }
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
        // Reading runs the user's `Deserialize`, so it stands inside the guard as well. After
        // a panic the processor is called again: as with a mutex, its state is its own care.
        let poll = |task: &mut std::task::Context<'_>| {
            if processing.is_none() {
                let change = record.change::<P::Item<'_>>().map_err(undecodable)?;
                processing.set(Some(self.processor.process(change, &context)));
            }
            let result = processing.as_mut().as_pin_mut().map_or(Poll::Pending, |it| it.poll(task));
            if result.is_ready() {
                processing.set(None);
            }
            result
        };
        let mut poll = AssertUnwindSafe(poll);
        poll_fn(|task| {
            let guarded = AssertUnwindSafe(|| (poll.0)(task));
            catch_unwind(guarded).unwrap_or_else(|_| Poll::Ready(Err(panicked())))
        })
        .await
    }
}

impl<P: Processor> Work for Lanes<P> {
    async fn work(
        &self,
        records: &[Record<'_>],
        outcomes: &mut [Outcome],
        measures: &mut Measures,
        call: &Call,
    ) -> Result<(), Halt> {
        let calls_before = self.means.keeping.store_calls();
        let deadline = Deadline::new(&*self.means.clock, call);
        let session = self.means.open(records, measures, (call, &deadline)).await?;
        let run = Run {
            lanes: self,
            call,
            deadline: &deadline,
            circuit: RefCell::default(),
            lowest_failed: Cell::new(usize::MAX),
            in_flight: vec![Cell::new(false); records.len()],
            session,
        };
        let rounds = run.session.in_rounds(async |wanted| run.round(wanted).await);
        let ran = Box::pin(rounds).await;
        run.session.tell(outcomes);
        drop(run);
        measures.store_calls = self.means.keeping.store_calls() - calls_before;
        ran
    }

    async fn rescue(
        &self,
        records: &[Record<'_>],
        outcomes: &mut [Outcome],
        measures: &mut Measures,
        (condition, call): (&str, &Call),
    ) -> Result<(), Halt> {
        self.means.park_given_up(records, outcomes, measures, (condition, call)).await
    }

    async fn operate(&self, operation: &Operation, call: &Call) -> Result<Value, Halt> {
        self.means.operate(self, operation, call).await
    }
}

impl<P: Processor> Runner for Lanes<P> {
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

/// One batch on its way through the lanes.
struct Run<'r, P> {
    lanes: &'r Lanes<P>,
    call: &'r Call,
    deadline: &'r Deadline<'r>,
    session: Session<'r>,
    circuit: RefCell<Circuit>,
    /// The lowest record that failed, where nothing later may start.
    lowest_failed: Cell<usize>,
    /// By record: whether it runs.
    in_flight: Vec<Cell<bool>>,
}

/// Some of a batch's records on their way.
struct Round<'w, 'r, P> {
    run: &'w Run<'r, P>,
    /// The records, as they are scheduled.
    records: &'w [usize],
    schedule: RefCell<Schedule>,
    has_begun: Cell<bool>,
    halt: RefCell<Option<Halt>>,
}

/// How a unit ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    /// All of its records are finished, or queued.
    Finished,
    /// A record failed, or the unit was stopped before all had started.
    Unfinished,
}

impl<P: Processor> Duty for Round<'_, '_, P> {
    fn has_work(&self) -> bool {
        self.halt.borrow().is_none() && self.schedule.borrow_mut().has_ready()
    }

    fn is_over(&self) -> bool {
        self.halt.borrow().is_some() || self.schedule.borrow_mut().is_over()
    }

    fn serve<'d>(&'d self, seat: Rc<Seat>) -> LocalBoxFuture<'d, Infallible> {
        Box::pin(async move {
            loop {
                while let Some((unit, now)) = self.start() {
                    let records = self.schedule.borrow().records(unit);
                    let ended = self.run.unit(&self.records[records], &seat, now).await;
                    self.end(unit, ended);
                    if seat.is_anybody_rung() {
                        break;
                    }
                }
                seat.rest().await;
            }
        })
    }
}

impl<P: Processor> Round<'_, '_, P> {
    /// Starts the earliest unit that may start, at the moment given back.
    fn start(&self) -> Option<(usize, Timestamp)> {
        let run = self.run;
        let mut schedule = self.schedule.borrow_mut();
        while self.halt.borrow().is_none() && schedule.has_ready() {
            if run.circuit.borrow().is_open() {
                schedule.stop_from(0);
                break;
            }
            let now = run.deadline.look();
            if self.has_begun.replace(true) && run.deadline.is_late_at(now) {
                // Stopping is progress only when the first unit is finished: until then the
                // reply would name the record that it began with.
                if schedule.is_finished(0) {
                    run.session.measures.borrow_mut().deadline_stops += 1;
                }
                schedule.stop_from(0);
                break;
            }
            return schedule.start().map(|unit| (unit, now));
        }
        None
    }

    fn end(&self, unit: usize, ended: Result<Ended, Halt>) {
        let mut schedule = self.schedule.borrow_mut();
        match ended {
            Ok(Ended::Finished) => schedule.finish(unit),
            Ok(Ended::Unfinished) if self.run.session.goes_on_after_failure() => {
                schedule.stop_lanes();
            }
            Ok(Ended::Unfinished) => schedule.fail(unit),
            Err(halt) => *self.halt.borrow_mut() = Some(halt),
        }
    }
}

impl<P: Processor> Run<'_, P> {
    /// Runs these records as far as they go.
    async fn round(&self, wanted: &[usize]) -> Result<(), Halt> {
        let mut schedule = self.schedule(wanted);
        for at in self.session.look_at_unkeyed(wanted)? {
            let unit = schedule.unit_of(wanted.partition_point(|it| *it < at));
            if self.session.records[at].source().is_queue() {
                schedule.withhold(unit);
            } else {
                schedule.stop_from(unit);
            }
        }
        let round = Round {
            run: self,
            records: wanted,
            schedule: RefCell::new(schedule),
            has_begun: Cell::new(false),
            halt: RefCell::new(None),
        };
        let crew = Crew::new(&round);
        // Not made unless something has to wait.
        let limit = pin!(async { self.lanes.means.clock.watch(self.deadline.hard_limit()).await });
        let is_cut_off = match select(crew, limit).await {
            Either::Left(_) => false,
            // What still runs is dropped first.
            Either::Right((_, crew)) => {
                drop(crew);
                true
            }
        };
        if is_cut_off {
            self.cut_off();
        }
        round.halt.take().map_or(Ok(()), Err)
    }

    fn schedule(&self, wanted: &[usize]) -> Schedule {
        let Session { records, layout, .. } = &self.session;
        let room = (layout.len(), wanted.len());
        let mut schedule = Schedule::new(room, self.lanes.concurrency.get());
        let mut before = None;
        for &at in wanted {
            let neighbour = before.replace(at);
            let shares = neighbour.is_some_and(|it: usize| records[it].shares_unit(&records[at]));
            schedule.push(layout.lane(at), !shares);
        }
        schedule
    }

    /// Runs the records of one unit, one after another, from this moment on.
    async fn unit(&self, records: &[usize], seat: &Seat, now: Timestamp) -> Result<Ended, Halt> {
        let mut now = Some(now);
        for &at in records {
            let outcome = &self.session.outcomes[at];
            if self.session.is_past(at) {
                continue;
            }
            match self.session.before(at) {
                Before::Finished => outcome.set(Outcome::AlreadyApplied),
                Before::Held => self.session.queue_behind(at),
                Before::Free => {
                    if self.lowest_failed.get() < at {
                        return Ok(Ended::Unfinished);
                    }
                    self.in_flight[at].set(true);
                    let began = now.take().unwrap_or_else(|| self.deadline.look());
                    let is_done = self.attempt(at, seat, began).await?;
                    self.in_flight[at].set(false);
                    if !is_done {
                        outcome.set(Outcome::Failed);
                        if !self.session.goes_on_after_failure() {
                            self.lowest_failed.update(|lowest| lowest.min(at));
                        }
                        return Ok(Ended::Unfinished);
                    }
                }
            }
        }
        Ok(Ended::Finished)
    }

    /// Tries one record until it is done with, or as often as makes sense here. Tells whether
    /// it is applied or queued for parking.
    async fn attempt(&self, at: usize, seat: &Seat, mut began: Timestamp) -> Result<bool, Halt> {
        let record = &self.session.records[at];
        let lane = self.session.layout.lane(at);
        let mut tries = 0;
        loop {
            tries += 1;
            let attempt = self.session.attempts(at).saturating_add(1);
            let turns = seat.turns();
            let result = self.lanes.run_once(record, self.call, attempt).await;
            if result.is_ok() && seat.turns() == turns {
                self.deadline.learn_at_next_look(began);
            } else {
                self.deadline.learn_unit(began);
            }
            let Err(failure) = result else {
                self.circuit.borrow_mut().note(None, lane);
                self.session.outcomes[at].set(Outcome::Applied);
                return Ok(true);
            };
            let class = failure.class();
            if class == Class::Halt {
                return Err(halted((record, 1), failure));
            }
            let transient = (class == Class::Retry).then_some(failure.code());
            self.circuit.borrow_mut().note(transient, lane);
            self.session.note_attempt(at, &failure);
            if self.session.is_parked_by(at, class) {
                telemetry::record_parking(record, self.call, failure.code(), failure.reason());
                self.session.set_aside(at, &failure);
                return Ok(true);
            }
            let bound = match class {
                Class::Retry => TRIES_IN_PLACE,
                Class::Unclassified => self.session.max_attempts(),
                Class::Park | Class::Halt => 0,
            };
            let (pauses, clock) = (&self.lanes.means.pauses, &*self.lanes.means.clock);
            let again = tries < bound
                && !self.circuit.borrow().is_open()
                // Boxed, so that what never pauses has no room for it.
                && Box::pin(pauses.before_try(tries, clock, self.deadline.reserve())).await;
            if !again || self.circuit.borrow().is_open() {
                telemetry::record_failed(record, self.call, failure.code(), failure.reason());
                return Ok(false);
            }
            self.session.measures.borrow_mut().retried_in_place += 1;
            began = self.deadline.look();
        }
    }

    /// What still ran at the hard limit is cancelled. Of the batch's first record that is a
    /// failed attempt: nothing else stood in its way.
    fn cut_off(&self) {
        self.session.measures.borrow_mut().deadline_stops += 1;
        let in_flight = self.in_flight.iter().enumerate();
        for (at, _) in in_flight.filter(|(_, is_running)| is_running.get()) {
            self.session.cut_off(at, false);
        }
    }
}
