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
    Setup, Work,
    passes::WorkContext,
    schedule::Schedule,
    worker_pool::{Slot, WorkSource, WorkerPool},
};
use crate::{
    call::{Call, Halt, Measures},
    clock::Clock,
    deadline::Deadline,
    event::Record,
    layout::{Order, undecodable},
    operation::Operation,
    outcome::Outcome,
    processor::{
        Class, Context, Failure, Processor,
        errors::{halted, panicked},
    },
    record::Timestamp,
    recovery::{
        durable::DurableState,
        redrive::Runner,
        session::{Admission, Session},
    },
    retry::{Circuit, Pauses},
    telemetry,
};
use futures_util::future::{Either, LocalBoxFuture, select};
use serde_json::Value;
use std::{
    cell::{Cell, RefCell},
    convert::Infallible,
    future::poll_fn,
    num::NonZeroUsize,
    ops::Range,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::{Pin, pin},
    rc::Rc,
    sync::Arc,
    task::{self, Poll},
};

/// How many units run at a time unless told otherwise: enough to hide a store's latency, few
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
        let Setup { order, concurrency, durable, clock, seed } = setup;
        let context = WorkContext { order, durable, clock, pauses: Pauses::new(seed) };
        Self { processor, concurrency, context }
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

    /// Chooses how many units run at a time.
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
        let calls_before = self.context.durable.store_calls();
        let deadline = Deadline::new(&*self.context.clock, call);
        let session = self.context.open(records, measures, (call, &deadline)).await?;
        let run = Run {
            lanes: self,
            call,
            deadline: &deadline,
            circuit: RefCell::default(),
            lowest_failed: Cell::new(usize::MAX),
            in_flight: vec![Cell::new(false); records.len()],
            session,
        };
        let passes = run.session.in_passes(async |wanted| run.run_pass(wanted).await);
        let ran = Box::pin(passes).await;
        run.session.tell(outcomes);
        drop(run);
        measures.store_calls = self.context.durable.store_calls() - calls_before;
        ran
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
struct Pass<'w, 'r, P> {
    run: &'w Run<'r, P>,
    /// The records, as they are scheduled.
    records: &'w [usize],
    schedule: RefCell<Schedule>,
    has_begun: Cell<bool>,
    halt: RefCell<Option<Halt>>,
}

/// Whether a record is to be run.
enum Entry {
    /// There is nothing to do for it any more.
    Settled,
    /// One before it failed.
    Closed,
    Open,
}

/// What came of a try.
enum Tried {
    Ended(Ended),
    /// It may work after a pause.
    Again(Failure),
}

/// What a worker is at.
#[derive(Default)]
struct Current {
    unit: Option<usize>,
    /// Where in the pass its records stand that are not looked at yet.
    places: Range<usize>,
    /// When it started, until its first record runs.
    now: Option<Timestamp>,
    ended: Ended,
}

/// How a record, or a unit so far, ended.
#[derive(Default)]
enum Ended {
    /// All of its records are finished, or queued.
    #[default]
    Finished,
    /// A record failed, or the unit was stopped before all had started.
    Unfinished,
    /// The invocation fails.
    Halted(Box<Halt>),
}

impl<P: Processor> WorkSource for Pass<'_, '_, P> {
    fn has_work(&self) -> bool {
        self.halt.borrow().is_none() && self.schedule.borrow_mut().has_ready()
    }

    fn is_over(&self) -> bool {
        self.halt.borrow().is_some() || self.schedule.borrow_mut().is_over()
    }

    fn work(&self, slot: Rc<Slot>) -> LocalBoxFuture<'_, Infallible> {
        let run = self.run;
        // One block: a future of its own for each step would be moved at each.
        Box::pin(async move {
            let mut current = Current::default();
            loop {
                let Some((at, mut began)) = self.take(&mut current, &slot) else {
                    slot.wait_for_work().await;
                    continue;
                };
                let mut tries = 1;
                current.ended = loop {
                    let (context, turns) = (run.record_context(at), slot.turns());
                    let mut processing = pin!(None);
                    let result = poll_fn(|task| {
                        poll_guarded(processing.as_mut(), || run.begin(at, &context), task)
                    })
                    .await;
                    let has_waited = slot.turns() != turns;
                    match run.settle(at, result, (began, has_waited)) {
                        Tried::Ended(ended) => break ended,
                        Tried::Again(failure) if !run.pauses(tries).await => {
                            break run.give_up(at, &failure);
                        }
                        Tried::Again(_) => {}
                    }
                    tries += 1;
                    began = run.deadline.look_after_wait();
                };
            }
        })
    }
}

impl<P: Processor> Pass<'_, '_, P> {
    /// The next record that a worker runs, and when it begins: of the unit it is at,
    /// or else of the earliest that may start. None if there is none, or another has its turn.
    fn take(&self, current: &mut Current, slot: &Slot) -> Option<(usize, Timestamp)> {
        loop {
            if let Some(unit) = current.unit {
                while matches!(current.ended, Ended::Finished)
                    && let Some(place) = current.places.next()
                {
                    let at = self.records[place];
                    match self.run.enter(at) {
                        Entry::Settled => {}
                        Entry::Closed => current.ended = Ended::Unfinished,
                        Entry::Open => {
                            let now = current.now.take();
                            return Some((at, now.unwrap_or_else(|| self.run.deadline.look())));
                        }
                    }
                }
                self.end(unit, std::mem::take(current).ended);
                if slot.is_another_woken() {
                    return None;
                }
            }
            let (unit, now) = self.start()?;
            let places = self.schedule.borrow().records(unit);
            *current = Current { unit: Some(unit), places, now: Some(now), ended: Ended::Finished };
        }
    }

    /// Starts the earliest unit that may start, at the moment given back.
    fn start(&self) -> Option<(usize, Timestamp)> {
        let run = self.run;
        let mut schedule = self.schedule.borrow_mut();
        if self.halt.borrow().is_some() || !schedule.has_ready() {
            return None;
        }
        if run.circuit.borrow().is_open() {
            schedule.stop_from(0);
            return None;
        }
        let now = run.deadline.look();
        if self.has_begun.replace(true) && run.deadline.is_late_at(now) {
            // Stopping is progress only when the first unit is finished: until then the reply
            // would name the record that it began with.
            if schedule.is_finished(0) {
                run.session.measures.borrow_mut().deadline_stops += 1;
            }
            schedule.stop_from(0);
            return None;
        }
        schedule.start().map(|unit| (unit, now))
    }

    fn end(&self, unit: usize, ended: Ended) {
        let mut schedule = self.schedule.borrow_mut();
        match ended {
            Ended::Finished => schedule.finish(unit),
            Ended::Unfinished if self.run.session.goes_on_after_failure() => schedule.stop_lanes(),
            Ended::Unfinished => schedule.fail(unit),
            Ended::Halted(halt) => *self.halt.borrow_mut() = Some(*halt),
        }
    }
}

impl<'r, P: Processor> Run<'r, P> {
    /// Runs these records as far as they go.
    async fn run_pass(&self, wanted: &[usize]) -> Result<(), Halt> {
        let mut schedule = self.schedule(wanted);
        for at in self.session.look_at_unkeyed(wanted)? {
            let unit = schedule.unit_of(wanted.partition_point(|it| *it < at));
            if self.session.records[at].source().is_queue() {
                schedule.withhold(unit);
            } else {
                schedule.stop_from(unit);
            }
        }
        let pass = Pass {
            run: self,
            records: wanted,
            schedule: RefCell::new(schedule),
            has_begun: Cell::new(false),
            halt: RefCell::new(None),
        };
        let pool = WorkerPool::new(&pass);
        // Not made unless something has to wait.
        let limit =
            pin!(async { self.lanes.context.clock.watch(self.deadline.hard_limit()).await });
        let is_cut_off = match select(pool, limit).await {
            Either::Left(((), _)) => false,
            // What still runs is dropped first.
            Either::Right(((), pool)) => {
                drop(pool);
                true
            }
        };
        if is_cut_off {
            self.cut_off();
        }
        pass.halt.take().map_or(Ok(()), Err)
    }

    fn schedule(&self, wanted: &[usize]) -> Schedule {
        let Session { records, layout, .. } = &self.session;
        let room = (layout.len(), wanted.len());
        let mut schedule = Schedule::new(room, self.lanes.concurrency.get());
        let mut before = None;
        for &at in wanted {
            // The first of its number shares a unit with none before it.
            let neighbour = before.replace(at).filter(|_| records[at].ordinal() > 0);
            let shares = neighbour.is_some_and(|it: usize| records[it].shares_unit(&records[at]));
            schedule.push(layout.lane(at), !shares);
        }
        schedule
    }

    /// Looks whether a record is to be run, and settles one that is not.
    fn enter(&self, at: usize) -> Entry {
        if self.session.is_past(at) {
            return Entry::Settled;
        }
        match self.session.admission(at) {
            Admission::Finished => self.session.outcomes[at].set(Outcome::AlreadyApplied),
            Admission::Held => self.session.queue_behind(at),
            Admission::Run if self.lowest_failed.get() < at => return Entry::Closed,
            Admission::Run => {
                self.in_flight[at].set(true);
                return Entry::Open;
            }
        }
        Entry::Settled
    }

    fn record_context(&self, at: usize) -> Context<'r> {
        let attempt = self.session.attempts(at).saturating_add(1);
        Context::new(&self.session.records[at], self.call, attempt)
    }

    fn begin(
        &self,
        at: usize,
        context: &Context<'r>,
    ) -> Result<impl Future<Output = Result<(), Failure>>, Failure> {
        self.lanes.begin(&self.session.records[at], context)
    }

    /// Says what a try of a record comes to: when it began, whether it has waited for something.
    fn settle(
        &self,
        at: usize,
        result: Result<(), Failure>,
        (began, has_waited): (Timestamp, bool),
    ) -> Tried {
        let Err(failure) = result else {
            if has_waited {
                self.deadline.learn_unit(began);
            } else {
                self.deadline.learn_at_next_look(began);
            }
            self.circuit.borrow_mut().note(None, self.session.layout.lane(at));
            self.session.outcomes[at].set(Outcome::Applied);
            self.in_flight[at].set(false);
            return Tried::Ended(Ended::Finished);
        };
        self.deadline.learn_unit(began);
        self.settle_failure(at, failure)
    }

    #[cold]
    fn settle_failure(&self, at: usize, failure: Failure) -> Tried {
        let record = &self.session.records[at];
        let class = failure.class();
        if class == Class::Halt {
            return Tried::Ended(Ended::Halted(Box::new(halted((record, 1), failure))));
        }
        let transient = (class == Class::Retry).then_some(failure.code());
        self.circuit.borrow_mut().note(transient, self.session.layout.lane(at));
        self.session.note_attempt(at, &failure);
        if self.session.is_parked_by(at, class) {
            telemetry::record_parking(record, self.call, failure.code(), failure.reason());
            self.session.set_aside(at, &failure);
            self.in_flight[at].set(false);
            return Tried::Ended(Ended::Finished);
        }
        if self.session.may_try_again(at, class) && !self.circuit.borrow().is_open() {
            Tried::Again(failure)
        } else {
            Tried::Ended(self.give_up(at, &failure))
        }
    }

    /// Waits before the next try; tells whether there is to be one. Boxed, so that what never
    /// pauses has no room for it.
    fn pauses(&self, tries: u32) -> LocalBoxFuture<'_, bool> {
        let WorkContext { pauses, clock, .. } = &self.lanes.context;
        Box::pin(async move {
            let goes_on = pauses.before_try(tries, &**clock, self.deadline.reserve()).await
                && !self.circuit.borrow().is_open();
            if goes_on {
                self.session.measures.borrow_mut().retried_in_place += 1;
            }
            goes_on
        })
    }

    /// A record was tried as often as makes sense here.
    fn give_up(&self, at: usize, failure: &Failure) -> Ended {
        let record = &self.session.records[at];
        telemetry::record_failed(record, self.call, failure.code(), failure.reason());
        self.session.outcomes[at].set(Outcome::Failed);
        if !self.session.goes_on_after_failure() {
            self.lowest_failed.update(|lowest| lowest.min(at));
        }
        self.in_flight[at].set(false);
        Ended::Unfinished
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
