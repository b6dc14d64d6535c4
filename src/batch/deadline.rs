//! How long an invocation may go on.
//!
//! Two moments before Lambda's deadline. From the *reserve* on nothing new starts; it is
//! learned from the batch: its slowest record so far, and the time to write progress and
//! parks. At the *hard limit* what still runs is cancelled, with just the writes left to do.
//! A timeout would instead fail the whole batch, and take the process with it.
//!
//! What it gives up: among records that take no time the clock is read for some only. A
//! processor that suddenly blocks the thread is noticed a few records later.

use super::Call;
use crate::{clock::Clock, record::Timestamp};
use std::cell::Cell;

/// The least time kept for the writes and the reply, in milliseconds.
const WRITES_MS_MIN: i64 = 300;

/// The least time kept for the records under way, in milliseconds.
const UNIT_MS_MIN: i64 = 200;

/// How many of the slowest store calls the writes at the end are taken for: a park is a
/// transaction and perhaps one more look, and progress is written after it.
const CALLS: i64 = 4;

/// How many records may start without a look at the clock, after others that took no time.
const LOOKS_SKIPPED_MAX: u32 = 7;

/// The time left above which they may, in milliseconds: if those records suddenly block the
/// thread for half a second each, the reserve is still whole.
const PLENTY_MS: i64 = 4_000;

/// The guard of one invocation.
#[derive(Debug)]
pub(super) struct Deadline<'c> {
    clock: &'c dyn Clock,
    began: Timestamp,
    ends: Timestamp,
    slowest_unit_ms: Cell<i64>,
    slowest_call_ms: Cell<i64>,
    /// When a record began that ended without waiting, and that nothing is learned of yet.
    ended_at_once: Cell<Option<Timestamp>>,
    /// How many looks at the clock were left out since the last, and how many may be.
    skipped: Cell<u32>,
    may_skip: Cell<u32>,
}

impl<'c> Deadline<'c> {
    pub(super) fn new(clock: &'c dyn Clock, call: &Call) -> Self {
        Self {
            clock,
            began: clock.now(),
            ends: call.deadline,
            slowest_unit_ms: Cell::new(0),
            slowest_call_ms: Cell::new(0),
            ended_at_once: Cell::new(None),
            skipped: Cell::new(0),
            may_skip: Cell::new(0),
        }
    }

    /// The present moment, near enough for a record that is about to start. It is also when
    /// the record before ended, if that waited for nothing, so such a record costs one look at
    /// the clock; and a row of them that takes no time costs one look together, as long as
    /// there is plenty of time left.
    pub(super) fn look(&self) -> Timestamp {
        let skipped = self.skipped.get();
        if let (Some(began), true) = (self.ended_at_once.get(), skipped < self.may_skip.get()) {
            self.skipped.set(skipped + 1);
            return began;
        }
        let now = self.now();
        let took = self.ended_at_once.take().map(|began| now.0.saturating_sub(began.0));
        self.slowest_unit_ms.update(|slowest| slowest.max(took.unwrap_or_default()));
        let is_quick = took.is_some_and(|took| took <= 1);
        let is_far = self.reserve().0.saturating_sub(now.0) > PLENTY_MS;
        let may_skip = (self.may_skip.get() * 2 + 1).min(LOOKS_SKIPPED_MAX);
        self.may_skip.set(if is_quick && is_far { may_skip } else { 0 });
        self.skipped.set(0);
        now
    }

    /// The present moment after something waited: what ended at once before that did so long
    /// before now.
    pub(super) fn look_after_wait(&self) -> Timestamp {
        self.ended_at_once.set(None);
        self.may_skip.set(0);
        self.now()
    }

    /// A record that began at this moment has just ended without waiting; how long it took is
    /// learned at the next look.
    pub(super) fn learn_at_next_look(&self, began: Timestamp) {
        self.ended_at_once.set(Some(began));
    }

    fn learn(&self, Timestamp(began): Timestamp, Timestamp(now): Timestamp) {
        let took = now.saturating_sub(began);
        self.slowest_unit_ms.set(self.slowest_unit_ms.get().max(took));
    }

    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Lambda's own limit.
    pub(super) fn ends(&self) -> Timestamp {
        self.ends
    }

    /// Takes note of how long a record took.
    pub(super) fn learn_unit(&self, since: Timestamp) {
        let now = self.look_after_wait();
        self.learn(since, now);
    }

    /// Takes note of how long a store call took.
    pub(super) fn learn_call(&self, Timestamp(since): Timestamp) {
        let took = self.now().0.saturating_sub(since);
        self.slowest_call_ms.set(self.slowest_call_ms.get().max(took));
    }

    /// When nothing new starts any more.
    pub(super) fn reserve(&self) -> Timestamp {
        let unit = self.slowest_unit_ms.get().max(UNIT_MS_MIN);
        self.before(self.writes_ms().saturating_add(unit), 2)
    }

    /// When what still runs is cancelled.
    pub(super) fn hard_limit(&self) -> Timestamp {
        self.before(self.writes_ms(), 4)
    }

    pub(super) fn is_late(&self) -> bool {
        self.now() >= self.reserve()
    }

    /// Whether a record that would start at this moment must not.
    pub(super) fn is_late_at(&self, now: Timestamp) -> bool {
        now >= self.reserve()
    }

    fn writes_ms(&self) -> i64 {
        (CALLS.saturating_mul(self.slowest_call_ms.get())).max(WRITES_MS_MIN)
    }

    /// A moment so much before the end, but no more than a part of the whole: a short timeout
    /// must not be all reserve.
    fn before(&self, length_ms: i64, part: i64) -> Timestamp {
        let whole = self.ends.0.saturating_sub(self.began.0).max(0);
        Timestamp(self.ends.0.saturating_sub(length_ms.min(whole / part)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;
    use futures_util::future::{BoxFuture, FutureExt, pending};
    use std::{
        sync::atomic::{AtomicI64, Ordering::Relaxed},
        time::Duration,
    };

    #[track_caller]
    fn check(length: i64, unit: i64, call: i64, reserve: i64, hard: i64) {
        let began = SystemClock.now();
        let deadline = Deadline {
            clock: &SystemClock,
            began,
            ends: Timestamp(began.0 + length),
            slowest_unit_ms: Cell::new(unit),
            slowest_call_ms: Cell::new(call),
            ended_at_once: Cell::new(None),
            skipped: Cell::new(0),
            may_skip: Cell::new(0),
        };
        let left = |moment: Timestamp| began.0 + length - moment.0;
        assert_eq!((left(deadline.reserve()), left(deadline.hard_limit())), (reserve, hard));
    }

    /// A clock that counts how often it is read, and stands still until it is told to go on.
    #[derive(Debug, Default)]
    struct Counted {
        now: AtomicI64,
        looks: AtomicI64,
    }

    impl Clock for Counted {
        fn now(&self) -> Timestamp {
            self.looks.fetch_add(1, Relaxed);
            Timestamp(self.now.load(Relaxed))
        }

        fn sleep(&self, _: Duration) -> BoxFuture<'static, ()> {
            pending().boxed()
        }

        fn watch(&self, _: Timestamp) -> BoxFuture<'static, ()> {
            pending().boxed()
        }
    }

    /// Starts records that end at once and take so long, and gives back how often the clock
    /// was read and whether a start was late.
    fn run(clock: &Counted, deadline: &Deadline<'_>, records: i64, took: i64) -> (i64, bool) {
        let before = clock.looks.load(Relaxed);
        let mut is_late = false;
        for _ in 0..records {
            let began = deadline.look();
            is_late |= deadline.is_late_at(began);
            clock.now.fetch_add(took, Relaxed);
            deadline.learn_at_next_look(began);
        }
        (clock.looks.load(Relaxed) - before, is_late)
    }

    #[test]
    fn records_that_take_no_time_share_a_look_at_the_clock() {
        let clock = Counted::default();
        let call = |deadline| Call::new("", Timestamp(deadline));
        let far = call(60_000);
        let deadline = Deadline::new(&clock, &far);
        let (looks, is_late) = run(&clock, &deadline, 1_000, 0);
        assert!((100..=140).contains(&looks) && !is_late, "{looks} looks");
        // When they begin to take time, it is seen after a few, and then each time.
        let (looks, _) = run(&clock, &deadline, 20, 300);
        assert!(looks >= 12, "{looks} looks");
        assert!(deadline.slowest_unit_ms.get() >= 300);
        // Near the end each is looked at.
        let near = call(clock.now().0 + 4_000);
        let deadline = Deadline::new(&clock, &near);
        assert_eq!(run(&clock, &deadline, 100, 0), (100, false));
        assert!(run(&clock, &deadline, 100, 40).1);
    }

    #[test]
    fn the_reserve_grows_with_what_the_batch_takes() {
        check(60_000, 0, 0, 500, 300);
        check(60_000, 2_000, 0, 2_300, 300);
        check(60_000, 2_000, 500, 4_000, 2_000);
        // Of a short timeout it takes half, and the limit a quarter.
        check(800, 0, 0, 400, 200);
        check(10_000, 30_000, 9_000, 5_000, 2_500);
    }
}
