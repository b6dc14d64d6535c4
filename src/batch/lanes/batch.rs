//! A batch on its way through the lanes: which record starts when, and what comes of a try.
//!
//! Separate from the lanes, which are the function's, because this is one invocation's.

use super::{Lanes, poll_guarded};
use crate::{
    batch::{
        passes::Run,
        schedule::Schedule,
        work_context::WorkContext,
        worker_pool::{Slot, WorkSource, WorkerPool},
    },
    call::{Call, Halt},
    deadline::Deadline,
    outcome::Outcome,
    processor::{Class, Context, Failure, Processor, errors::halted},
    record::Timestamp,
    recovery::session::{Admission, Session},
    retry::Circuit,
    telemetry,
};
use futures_util::future::{Either, LocalBoxFuture, select};
use std::{
    cell::{Cell, RefCell},
    convert::Infallible,
    future::poll_fn,
    ops::Range,
    pin::pin,
    rc::Rc,
};

/// One batch on its way through the lanes.
pub(super) struct Batch<'r, P> {
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
    run: &'w Batch<'r, P>,
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

impl<'r, P: Processor> Run<'r> for Batch<'r, P> {
    fn session(&self) -> &Session<'r> {
        &self.session
    }

    async fn pass(&self, wanted: &[usize]) -> Result<(), Halt> {
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
}

impl<'r, P: Processor> Batch<'r, P> {
    pub(super) fn new(
        lanes: &'r Lanes<P>,
        (call, deadline): (&'r Call, &'r Deadline<'r>),
        session: Session<'r>,
    ) -> Self {
        Self {
            lanes,
            call,
            deadline,
            circuit: RefCell::default(),
            lowest_failed: Cell::new(usize::MAX),
            in_flight: vec![Cell::new(false); session.records.len()],
            session,
        }
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
