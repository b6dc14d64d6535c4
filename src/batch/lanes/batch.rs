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

/// How a record ended.
enum Ended {
    /// It is finished, or queued.
    Finished,
    /// It failed, or one before it did.
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
            let mut ended = None;
            loop {
                let Some((place, mut began)) = self.take(ended.take(), &slot) else {
                    slot.wait_for_work().await;
                    continue;
                };
                let (at, mut tries) = (self.records[place], 1);
                let how = loop {
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
                ended = Some((place, how));
            }
        })
    }
}

impl<P: Processor> Pass<'_, '_, P> {
    /// Where the earliest record stands that may start and has to run, and when it begins, after
    /// the one before has ended. None if there is none, or another worker has its turn.
    fn take(&self, before: Option<(usize, Ended)>, slot: &Slot) -> Option<(usize, Timestamp)> {
        let mut ended = before;
        loop {
            if let Some((place, how)) = ended.take() {
                self.end(place, how);
                if slot.is_another_woken() {
                    return None;
                }
            }
            let (place, now) = self.start()?;
            match self.run.enter(self.records[place]) {
                Entry::Open => return Some((place, now)),
                Entry::Settled => ended = Some((place, Ended::Finished)),
                Entry::Closed => ended = Some((place, Ended::Unfinished)),
            }
        }
    }

    /// Starts the earliest record that may start, at the moment given back.
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
            // Stopping is progress only when the first number is finished: until then the reply
            // would name what it began with.
            let firsts = self.firsts();
            if schedule.earliest().is_some_and(|earliest| earliest >= firsts) {
                if (0..firsts).all(|first| schedule.is_finished(first)) {
                    run.session.measures.borrow_mut().deadline_stops += 1;
                }
                schedule.stop_from(firsts);
            }
        }
        schedule.start().map(|place| (place, now))
    }

    /// How many records have the first one's number: what Lambda is told of together.
    fn firsts(&self) -> usize {
        let record = |place: &usize| &self.run.session.records[*place];
        let Some(first) = self.records.first().map(record) else { return 0 };
        let behind = self.records.iter().map(record).skip(1);
        1 + behind.take_while(|record| first.shares_unit(record)).count()
    }

    fn end(&self, place: usize, ended: Ended) {
        let mut schedule = self.schedule.borrow_mut();
        match ended {
            Ended::Finished => schedule.finish(place),
            Ended::Unfinished if self.run.session.goes_on_after_failure() => schedule.stop_lane(),
            Ended::Unfinished => schedule.fail(place),
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
            let place = wanted.partition_point(|it| *it < at);
            if self.session.records[at].source().is_queue() {
                schedule.withhold(place);
            } else {
                schedule.stop_from(place);
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
        let layout = &self.session.layout;
        let room = (layout.len(), wanted.len());
        let mut schedule = Schedule::new(room, self.lanes.concurrency.get());
        for at in wanted {
            schedule.push(layout.lane(*at));
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
                self.deadline.learn_record(began);
            } else {
                self.deadline.learn_at_next_look(began);
            }
            self.circuit.borrow_mut().note(None, self.session.layout.lane(at));
            self.session.outcomes[at].set(Outcome::Applied);
            self.in_flight[at].set(false);
            return Tried::Ended(Ended::Finished);
        };
        self.deadline.learn_record(began);
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
