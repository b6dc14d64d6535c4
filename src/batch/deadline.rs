//! How long an invocation may go on.
//!
//! Two moments before Lambda's deadline. From the *reserve* on nothing new starts; it is
//! learned from the batch: its slowest record so far, and the time to write progress and
//! parks. At the *hard limit* what still runs is cancelled, with just the writes left to do.
//! A timeout would instead fail the whole batch, and take the process with it.

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
        }
    }

    /// The present moment, where a record is about to start: also the one when the record
    /// before it ended, so that a record which waits for nothing costs one look at the clock.
    pub(super) fn look(&self) -> Timestamp {
        let now = self.now();
        if let Some(began) = self.ended_at_once.take() {
            self.learn(began, now);
        }
        now
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
        self.learn(since, self.now());
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
        self.is_late_at(self.look())
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
        };
        let left = |moment: Timestamp| began.0 + length - moment.0;
        assert_eq!((left(deadline.reserve()), left(deadline.hard_limit())), (reserve, hard));
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
