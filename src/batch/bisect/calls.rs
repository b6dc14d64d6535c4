//! The calls of one batch: which records go together, and what a failure makes of them.
//!
//! It is separate from the work as a whole because this is the state of one invocation. What
//! is to be sent is assembled from the left, call by call, and each failing call is settled,
//! down to its records, before the next is assembled. So when a record is looked at, every
//! earlier one of its lane has its outcome, is queued, or is in the very call that is being
//! assembled; then what must not overtake it waits for the next one.
//!
//! What it gives up: a repeated call after a report is smaller than it could be, because it is
//! not filled up with later records.

use super::Bulk;
use crate::{
    batch::passes::Run,
    call::{Call, Halt},
    deadline::Deadline,
    outcome::Outcome,
    processor::{BatchFailure, BatchItem, BatchProcessor, Class, Context, Failure, errors::halted},
    recovery::session::{Admission, Session},
    retry::TRIES_IN_PLACE,
    telemetry,
};
use futures_util::future::{Either, select};
use std::{cell::Cell, collections::BTreeSet, pin::pin};

/// The records of a call.
type Items<'r, P> = Vec<BatchItem<'r, <P as BatchProcessor>::Item<'r>>>;

/// One batch on its way through the calls.
pub(super) struct Calls<'r, P> {
    bulk: &'r Bulk<P>,
    call: &'r Call,
    deadline: &'r Deadline<'r>,
    session: Session<'r>,
    /// By lane: whether a record of it failed and stays, so that no later one is sent.
    stopped_lanes: Vec<Cell<bool>>,
    /// No record from here on is sent.
    end: Cell<usize>,
    has_begun: Cell<bool>,
    /// Nothing at all is sent any more.
    is_over: Cell<bool>,
}

/// How a call with its repetitions ended.
enum Ended<I> {
    /// It is known what becomes of each of its records.
    Settled,
    /// One of these fails.
    Divided(Vec<I>),
}

/// What the failure of one record alone means.
enum Blamed {
    /// It is set aside.
    Parked,
    /// It may work at another try.
    TryAgain,
    /// It was tried as often as makes sense here.
    GiveUp,
}

impl<'r, P: BatchProcessor> Calls<'r, P> {
    pub(super) fn new(
        bulk: &'r Bulk<P>,
        (call, deadline): (&'r Call, &'r Deadline<'r>),
        session: Session<'r>,
    ) -> Self {
        let stopped_lanes = vec![Cell::new(false); session.layout.len()];
        let (end, has_begun, is_over) = (Cell::new(usize::MAX), Cell::default(), Cell::default());
        Self { bulk, call, deadline, session, stopped_lanes, end, has_begun, is_over }
    }
}

impl<'r, P: BatchProcessor> Run<'r> for Calls<'r, P> {
    fn session(&self) -> &Session<'r> {
        &self.session
    }

    async fn pass(&self, wanted: &[usize]) -> Result<(), Halt> {
        if self.is_over.get() {
            return Ok(());
        }
        for at in self.session.look_at_unkeyed(wanted)? {
            self.stopped_lanes[self.session.layout.lane(at)].set(true);
            if !self.session.records[at].source().is_queue() {
                self.end.update(|end| end.min(at));
            }
        }
        let mut left = wanted;
        while !left.is_empty() && !self.is_over.get() {
            let items;
            (items, left) = self.assemble(left);
            self.bisect(items).await?;
        }
        Ok(())
    }
}

impl<'r, P: BatchProcessor> Calls<'r, P> {
    /// The records of the next call, and those left for later ones. Records that are not sent
    /// are settled on the way. One that queues or fails here may do so only when every earlier
    /// one of its lane is settled, so the call ends before it if it has such a record.
    fn assemble<'w>(&self, wanted: &'w [usize]) -> (Items<'r, P>, &'w [usize]) {
        let limit = self.bulk.processor.limit().get();
        let (mut items, mut lanes) = (Items::<'r, P>::new(), BTreeSet::new());
        for (place, &at) in wanted.iter().enumerate() {
            let rest = &wanted[place..];
            if items.len() >= limit {
                return (items, rest);
            }
            if self.is_passed_over(at) {
                continue;
            }
            let lane = self.session.layout.lane(at);
            let is_behind = lanes.contains(&lane);
            match self.session.admission(at) {
                Admission::Finished => self.session.outcomes[at].set(Outcome::AlreadyApplied),
                Admission::Held if is_behind => return (items, rest),
                Admission::Held => self.session.queue_behind(at),
                Admission::Run => match self.read(at) {
                    Ok(item) => {
                        lanes.insert(lane);
                        items.push(item);
                    }
                    Err(_) if is_behind => return (items, rest),
                    Err(failure) => items.extend(self.read_again(at, failure)),
                },
            }
        }
        (items, &[])
    }

    /// Whether a record is done with, or must not be sent for what failed before it.
    fn is_passed_over(&self, at: usize) -> bool {
        self.session.is_past(at)
            || at >= self.end.get()
            || self.stopped_lanes[self.session.layout.lane(at)].get()
    }

    fn read(&self, at: usize) -> Result<BatchItem<'r, P::Item<'r>>, Failure> {
        let record = &self.session.records[at];
        let attempt = self.session.attempts(at).saturating_add(1);
        Bulk::<P>::read(at, record, Context::new(record, self.call, attempt))
    }

    /// A record that cannot be read fails alone, without a call. A panic may have been chance.
    fn read_again(&self, at: usize, failure: Failure) -> Option<BatchItem<'r, P::Item<'r>>> {
        let mut failure = failure;
        loop {
            match self.blame(at, &failure) {
                Blamed::TryAgain => {}
                Blamed::Parked => return None,
                Blamed::GiveUp => {
                    self.log((at, 1), &failure);
                    self.fail(at);
                    return None;
                }
            }
            match self.read(at) {
                Ok(item) => return Some(item),
                Err(again) => failure = again,
            }
        }
    }

    /// Makes a call, and what becomes of it, down to the records that fail.
    async fn bisect(&self, items: Items<'r, P>) -> Result<(), Halt> {
        let mut pieces = vec![items];
        let mut is_first = true;
        while !self.is_over.get()
            && let Some(mut piece) = pieces.pop()
        {
            // What failed to the left may have changed what these records are.
            piece.retain(|item| self.is_free(item.at()));
            if piece.is_empty() {
                continue;
            }
            if self.has_begun.get() && self.deadline.is_late() {
                if self.session.is_past(0) {
                    self.session.measures.borrow_mut().deadline_stops += 1;
                }
                self.is_over.set(true);
                break;
            }
            match self.send(piece, is_first).await? {
                Ended::Settled => {}
                Ended::Divided(mut left) => {
                    let right = left.split_off(left.len().div_ceil(2));
                    pieces.extend([right, left]);
                }
            }
            is_first = false;
        }
        Ok(())
    }

    /// Whether a record of a call may still be sent; one that is held by now queues.
    fn is_free(&self, at: usize) -> bool {
        if self.is_passed_over(at) {
            return false;
        }
        let is_held = self.session.admission(at) == Admission::Held;
        if is_held {
            self.session.queue_behind(at);
        }
        !is_held
    }

    /// Makes a call, and repeats it while that makes sense.
    async fn send(
        &self,
        mut items: Items<'r, P>,
        is_first: bool,
    ) -> Result<Ended<BatchItem<'r, P::Item<'r>>>, Halt> {
        let session = &self.session;
        let (mut tries, mut transient) = (0, 0);
        loop {
            tries += 1;
            if tries > 1 || !is_first {
                session.measures.borrow_mut().retried_in_place += items.len() as u64;
            }
            let Some(result) = self.call(&mut items).await else { return Ok(Ended::Settled) };
            let Err(failure) = result else {
                self.apply(&items);
                return Ok(Ended::Settled);
            };
            let (failure, finished) = failure.into_parts();
            let (sent, first_sent) = (items.len(), &session.records[items[0].at()]);
            items = self.take_finished(items, &finished);
            let is_transient = match failure.class() {
                Class::Halt => return Err(halted((first_sent, sent), failure)),
                Class::Retry => true,
                Class::Unclassified | Class::Park => false,
            };
            transient += u32::from(is_transient);
            let Some(first) = items.first().map(BatchItem::at) else {
                session.measures.borrow_mut().count_failure(failure.code());
                return Ok(Ended::Settled);
            };
            let again = if sent > 1 {
                session.measures.borrow_mut().count_failure(failure.code());
                if !is_transient {
                    self.log((first, items.len()), &failure);
                    return Ok(Ended::Divided(items));
                }
                transient < TRIES_IN_PLACE
            } else {
                match self.blame(first, &failure) {
                    // Transient tries of the call count, also those with other records.
                    Blamed::TryAgain => !is_transient || transient < TRIES_IN_PLACE,
                    Blamed::GiveUp => false,
                    Blamed::Parked => return Ok(Ended::Settled),
                }
            };
            let (pauses, clock) = (&self.bulk.context.pauses, &*self.bulk.context.clock);
            if !again || !pauses.before_try(tries, clock, self.deadline.reserve()).await {
                self.log((first, items.len()), &failure);
                for item in &items {
                    self.fail(item.at());
                }
                // What lasts through all tries is not one record's: no other call is made.
                self.is_over.update(|is_over| is_over || is_transient);
                return Ok(Ended::Settled);
            }
        }
    }

    /// Says that a record, or a call with several unfinished ones, failed.
    fn log(&self, (first, unfinished): (usize, usize), failure: &Failure) {
        let (record, code, reason) =
            (&self.session.records[first], failure.code(), failure.reason());
        if unfinished == 1 {
            telemetry::record_failed(record, self.call, code, reason);
        } else {
            telemetry::bulk_call_failed((record, unfinished), self.call, code, reason);
        }
    }

    /// Makes one call; none if it was cut off, which ends the work.
    async fn call(&self, items: &mut Items<'r, P>) -> Option<Result<(), BatchFailure>> {
        for item in items.iter_mut() {
            item.set_attempt(self.session.attempts(item.at()).saturating_add(1));
        }
        self.has_begun.set(true);
        let began = self.deadline.now();
        let limit = self.bulk.context.clock.watch(self.deadline.hard_limit());
        let result = {
            let processed = pin!(self.bulk.run_once(items));
            match select(processed, limit).await {
                Either::Left((result, _)) => Some(result),
                Either::Right(_) => None,
            }
        };
        self.deadline.learn_record(began);
        if result.is_none() {
            self.session.measures.borrow_mut().deadline_stops += 1;
            for item in &*items {
                self.session.cut_off(item.at(), items.len() > 1);
            }
            self.is_over.set(true);
        }
        result
    }

    fn apply<'i>(&self, items: impl IntoIterator<Item = &'i BatchItem<'r, P::Item<'r>>>)
    where
        P: 'i,
        'r: 'i,
    {
        for item in items {
            self.session.outcomes[item.at()].set(Outcome::Applied);
        }
    }

    /// Takes out what the processor says is finished.
    fn take_finished(&self, items: Items<'r, P>, finished: &BTreeSet<usize>) -> Items<'r, P> {
        let (done, left): (Vec<_>, Vec<_>) =
            items.into_iter().enumerate().partition(|(place, _)| finished.contains(place));
        self.apply(done.iter().map(|(_, item)| item));
        left.into_iter().map(|(_, item)| item).collect()
    }

    /// A record alone failed: that counts, and may park it.
    fn blame(&self, at: usize, failure: &Failure) -> Blamed {
        let (session, class) = (&self.session, failure.class());
        session.note_attempt(at, failure);
        if session.is_parked_by(at, class) {
            let record = &session.records[at];
            telemetry::record_parking(record, self.call, failure.code(), failure.reason());
            session.set_aside(at, failure);
            return Blamed::Parked;
        }
        if session.may_try_again(at, class) { Blamed::TryAgain } else { Blamed::GiveUp }
    }

    /// A record fails and stays: nothing behind it is sent.
    fn fail(&self, at: usize) {
        self.session.outcomes[at].set(Outcome::Failed);
        self.stopped_lanes[self.session.layout.lane(at)].set(true);
        if !self.session.goes_on_after_failure() {
            self.end.update(|end| end.min(at));
        }
    }
}
