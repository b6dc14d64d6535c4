//! How long an invocation may go on.
//!
//! Four moments before Lambda's deadline. From the *reserve* on nothing new starts; it is
//! learned from the batch: its slowest record so far, and the time to write progress and
//! parks. At the *hard limit* what still runs is cancelled, with just the writes left to do.
//! No send to a destination goes on past the *end of sends*, and no write past the *end of
//! writes*, so that the reply gets out; what is not confirmed by then is not finished. A timeout
//! would instead fail the whole batch, and take the process with it.
//!
//! What it gives up: among records that take no time the clock is read for some only. A
//! processor that suddenly blocks the thread is noticed a few records later.

use crate::{
    backoff::REPLY_MS, call::Call, clock::Clock, concurrent::CALLS_AT_ONCE, record::Timestamp,
};
use futures_util::future::{Either, select};
use std::{cell::Cell, pin::pin};

/// The least time kept for the writes, in milliseconds.
const WRITES_MS_MIN: i64 = 300;

/// The least time counted for a send, in milliseconds, until one was made.
const SEND_MS_FIRST: i64 = 50;

/// Records that one transaction parks.
const PARKED_AT_ONCE: usize = 90;

/// The least time kept for the records under way, in milliseconds.
const RECORD_MS_MIN: i64 = 200;

/// How many of the slowest store calls the writes at the end are taken for: a park is a
/// transaction and perhaps one more look, and progress is written after it.
const CALLS: i64 = 4;

/// How many records may start without a look at the clock, after others that took no time.
const LOOKS_SKIPPED_MAX: u32 = 7;

/// The time left above which they may, in milliseconds: if those records suddenly block the
/// thread for half a second each, the reserve is still whole.
const PLENTY_MS: i64 = 4_000;

/// Writes that wait for the end of the pass.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Expected {
    /// Records to be parked, and the most of one key: those go one after another.
    pub(crate) records: usize,
    pub(crate) of_one_key: usize,
    /// Whether they are sent to a destination as well.
    pub(crate) are_sent: bool,
}

/// The guard of one invocation.
#[derive(Debug)]
pub(crate) struct Deadline<'c> {
    clock: &'c dyn Clock,
    began: Timestamp,
    ends: Timestamp,
    slowest_record_ms: Cell<i64>,
    slowest_call_ms: Cell<i64>,
    slowest_send_ms: Cell<Option<i64>>,
    expected: Cell<Expected>,
    /// When a record began that ended without waiting, and that nothing is learned of yet.
    ended_at_once: Cell<Option<Timestamp>>,
    /// How many looks at the clock were left out since the last, and how many may be.
    skipped: Cell<u32>,
    may_skip: Cell<u32>,
}

impl<'c> Deadline<'c> {
    pub(crate) fn new(clock: &'c dyn Clock, call: &Call) -> Self {
        Self {
            clock,
            began: clock.now(),
            ends: call.deadline,
            slowest_record_ms: Cell::new(0),
            slowest_call_ms: Cell::new(0),
            slowest_send_ms: Cell::new(None),
            expected: Cell::default(),
            ended_at_once: Cell::new(None),
            skipped: Cell::new(0),
            may_skip: Cell::new(0),
        }
    }

    /// The present moment, near enough for a record that is about to start. It is also when
    /// the record before ended, if that waited for nothing, so such a record costs one look at
    /// the clock; and a row of them that takes no time costs one look together, as long as
    /// there is plenty of time left.
    pub(crate) fn look(&self) -> Timestamp {
        let skipped = self.skipped.get();
        if let (Some(began), true) = (self.ended_at_once.get(), skipped < self.may_skip.get()) {
            self.skipped.set(skipped + 1);
            return began;
        }
        let now = self.now();
        let took = self.ended_at_once.take().map(|began| now.0.saturating_sub(began.0));
        self.slowest_record_ms.update(|slowest| slowest.max(took.unwrap_or_default()));
        let is_quick = took.is_some_and(|took| took <= 1);
        let is_far = self.reserve().0.saturating_sub(now.0) > PLENTY_MS;
        let may_skip = (self.may_skip.get() * 2 + 1).min(LOOKS_SKIPPED_MAX);
        self.may_skip.set(if is_quick && is_far { may_skip } else { 0 });
        self.skipped.set(0);
        now
    }

    /// The present moment after something waited: what ended at once before that did so long
    /// before now.
    pub(crate) fn look_after_wait(&self) -> Timestamp {
        self.ended_at_once.set(None);
        self.may_skip.set(0);
        self.now()
    }

    /// A record that began at this moment has just ended without waiting; how long it took is
    /// learned at the next look.
    pub(crate) fn learn_at_next_look(&self, began: Timestamp) {
        self.ended_at_once.set(Some(began));
    }

    fn learn(&self, Timestamp(began): Timestamp, Timestamp(now): Timestamp) {
        let took = now.saturating_sub(began);
        self.slowest_record_ms.set(self.slowest_record_ms.get().max(took));
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Lambda's own limit.
    pub(crate) fn ends(&self) -> Timestamp {
        self.ends
    }

    /// Takes note of how long a record took.
    pub(crate) fn learn_record(&self, since: Timestamp) {
        let now = self.look_after_wait();
        self.learn(since, now);
    }

    /// Takes note of how long a store call took.
    pub(crate) fn learn_call(&self, Timestamp(since): Timestamp) {
        let took = self.now().0.saturating_sub(since);
        self.slowest_call_ms.set(self.slowest_call_ms.get().max(took));
    }

    /// Takes note of how long a send to a destination took.
    #[cfg(feature = "destinations")]
    pub(crate) fn learn_send(&self, Timestamp(since): Timestamp) {
        let took = self.now().0.saturating_sub(since);
        let slowest = self.slowest_send_ms.get().unwrap_or_default();
        self.slowest_send_ms.set(Some(slowest.max(took)));
    }

    /// Takes note of what is to be written at the end of the pass.
    pub(crate) fn expect(&self, expected: Expected) {
        self.expected.set(expected);
    }

    /// One more record is to be parked, and with it so many of its key.
    pub(crate) fn expect_one_more(&self, of_its_key: usize, is_sent: bool) {
        let Expected { records, of_one_key, are_sent } = self.expected.get();
        self.expected.set(Expected {
            records: records + 1,
            of_one_key: of_one_key.max(of_its_key),
            are_sent: are_sent || is_sent,
        });
    }

    /// When nothing new starts any more.
    pub(crate) fn reserve(&self) -> Timestamp {
        let record = self.slowest_record_ms.get().max(RECORD_MS_MIN);
        self.before(self.to_write_ms().saturating_add(record), 2)
    }

    /// When what still runs is cancelled.
    pub(crate) fn hard_limit(&self) -> Timestamp {
        self.before(self.to_write_ms(), 4)
    }

    /// When no send goes on any more: what was sent has to be written.
    #[cfg(feature = "destinations")]
    pub(crate) fn sends_end(&self) -> Timestamp {
        self.before(REPLY_MS.saturating_add(self.writes_ms()), 5)
    }

    /// When no write goes on any more. As the calls to services give up (`backoff.rs`).
    pub(crate) fn writes_end(&self) -> Timestamp {
        self.before(REPLY_MS, 8)
    }

    /// Whether a send that begins now will end in time, going by those before it.
    #[cfg(feature = "destinations")]
    pub(crate) fn has_time_to_send(&self) -> bool {
        let send = self.slowest_send_ms.get().unwrap_or(0);
        self.now().0.saturating_add(send) < self.sends_end().0
    }

    /// Whether a write that begins now will end in time, going by those before it.
    pub(crate) fn has_time_to_write(&self) -> bool {
        self.now().0.saturating_add(self.slowest_call_ms.get()) < self.writes_end().0
    }

    /// Waits for a work until a moment; none if it is not done by then, and cancelled.
    pub(crate) async fn until<T>(
        &self,
        moment: Timestamp,
        work: impl Future<Output = T>,
    ) -> Option<T> {
        match select(pin!(work), self.clock.watch(moment)).await {
            Either::Left((done, _)) => Some(done),
            Either::Right(((), _)) => None,
        }
    }

    pub(crate) fn is_late(&self) -> bool {
        self.now() >= self.reserve()
    }

    /// Whether a record that would start at this moment must not.
    pub(crate) fn is_late_at(&self, now: Timestamp) -> bool {
        now >= self.reserve()
    }

    /// Whether a record that began at this moment had at least half of the time until the hard
    /// limit.
    pub(crate) fn is_early(&self, Timestamp(moment): Timestamp) -> bool {
        let whole = self.hard_limit().0.saturating_sub(self.began.0);
        moment.saturating_sub(self.began.0) <= whole / 2
    }

    fn writes_ms(&self) -> i64 {
        (CALLS.saturating_mul(self.slowest_call_ms.get())).max(WRITES_MS_MIN)
    }

    /// Everything that is to be done after the last record: sends and parks of several keys go
    /// on beside each other.
    fn to_write_ms(&self) -> i64 {
        let Expected { records, of_one_key, are_sent } = self.expected.get();
        let in_a_row = of_one_key.max(records.div_ceil(CALLS_AT_ONCE));
        let times =
            |count: usize, each: i64| i64::try_from(count).unwrap_or(i64::MAX).saturating_mul(each);
        let sends = if are_sent {
            times(in_a_row, self.slowest_send_ms.get().unwrap_or(SEND_MS_FIRST))
        } else {
            0
        };
        let parks = times(in_a_row / PARKED_AT_ONCE, self.slowest_call_ms.get());
        [self.writes_ms(), sends, parks].into_iter().fold(REPLY_MS, i64::saturating_add)
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
            slowest_record_ms: Cell::new(unit),
            slowest_call_ms: Cell::new(call),
            slowest_send_ms: Cell::new(None),
            expected: Cell::default(),
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
        assert!(deadline.slowest_record_ms.get() >= 300);
        // Near the end each is looked at.
        let near = call(clock.now().0 + 4_000);
        let deadline = Deadline::new(&clock, &near);
        assert_eq!(run(&clock, &deadline, 100, 0), (100, false));
        assert!(run(&clock, &deadline, 100, 40).1);
    }

    #[test]
    fn the_reserve_grows_with_what_the_batch_takes() {
        check(60_000, 0, 0, 700, 500);
        check(60_000, 2_000, 0, 2_500, 500);
        check(60_000, 2_000, 500, 4_200, 2_200);
        // Of a short timeout it takes half, and the limit a quarter.
        check(800, 0, 0, 400, 200);
        check(10_000, 30_000, 9_000, 5_000, 2_500);
    }

    #[test]
    fn what_is_to_be_sent_and_parked_has_its_time() {
        let clock = Counted::default();
        let call = Call::new("", Timestamp(60_000));
        let deadline = Deadline::new(&clock, &call);
        let limit = |records, of_one_key, are_sent| {
            deadline.expect(Expected { records, of_one_key, are_sent });
            60_000 - deadline.hard_limit().0
        };
        assert_eq!(limit(0, 0, true), 500);
        assert_eq!(limit(100, 100, true), 500 + 100 * 50);
        assert_eq!(limit(100, 1, true), 500 + 4 * 50, "keys beside each other");
        assert_eq!(limit(100, 100, false), 500);
        let began = clock.now();
        clock.now.fetch_add(200, Relaxed);
        deadline.learn_send(began);
        assert_eq!(limit(20, 20, true), 500 + 20 * 200);
        assert_eq!(limit(10_000, 10_000, true), 15_000, "a quarter at most");
        deadline.learn_call(began);
        assert_eq!(limit(1_000, 1_000, false), 200 + 4 * 200 + 11 * 200);
        // What is sent can still be parked, and what is parked be told.
        assert_eq!(deadline.sends_end().0, 60_000 - 200 - 4 * 200);
        assert_eq!(deadline.writes_end().0, 60_000 - REPLY_MS);
        clock.now.store(deadline.sends_end().0 - 200, Relaxed);
        assert!(!deadline.has_time_to_send() && deadline.has_time_to_write());
        clock.now.store(deadline.writes_end().0 - 200, Relaxed);
        assert!(!deadline.has_time_to_write());
    }
}
