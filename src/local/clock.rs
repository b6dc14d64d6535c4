//! The time of a run, and whose turn it is.
//!
//! A run's time passes only by backoff, batching windows and what an invocation declares by
//! sleeping, so an hour of retries takes no time. While the run loop polls an invocation, that
//! invocation is *current* here: the clock adds what it has slept, and the faulty HTTP client
//! knows whom a store call belongs to. What sleeps at the same time sleeps side by side: when
//! all of an invocation waits, its time moves to the first who is due. Where the function is
//! another process, time is real: it passes by itself, and the run waits for its moments. One
//! lock-free thread polls all invocations; the locks are there because the SDK asks for `Sync`.

use super::{faults::StoreFaults, mapping::Millis};
use crate::{
    clock::{Clock, SystemClock},
    record::Timestamp,
};
use futures_util::future::{BoxFuture, FutureExt, select};
use std::{
    collections::BTreeMap,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

/// The clock of a run.
#[derive(Debug)]
pub struct VirtualClock {
    time_zero: Timestamp,
    /// When the clock was made, by the machine's clock.
    made: Timestamp,
    now: AtomicU64,
    current: Mutex<Option<Arc<Turn>>>,
    pace: Pace,
}

/// What takes real time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// Nothing does: function and store are in this process.
    Virtual,
    /// An invocation's sleep does: a store across the network needs the pauses that backing
    /// off is for.
    RealSleep,
    /// Everything does: the function is another process, with a clock of its own. Timeouts
    /// are then the target's to keep.
    Real,
}

/// What the desk keeps of one invocation while it runs.
#[derive(Debug)]
pub struct Turn {
    started: Millis,
    slept: AtomicU64,
    faults: Mutex<StoreFaults>,
    timers: Mutex<Timers>,
}

/// Who waits for a moment of one invocation.
#[derive(Debug, Default)]
struct Timers {
    /// By the time slept when they are due, and a number that tells them apart.
    waiting: BTreeMap<(Millis, u64), Waiting>,
    so_far: u64,
}

#[derive(Debug)]
struct Waiting {
    waker: Waker,
    /// Whether time may move on because of it, as opposed to watching over others.
    sleeps: bool,
}

/// A place among the timers; gives it up when it is dropped.
#[derive(Debug)]
struct Timer {
    turn: Arc<Turn>,
    due: Millis,
    number: u64,
    sleeps: bool,
}

impl VirtualClock {
    /// A clock that stands at time zero, which in real time is now.
    #[must_use]
    pub fn new(time_zero: Timestamp, pace: Pace) -> Arc<Self> {
        let made = SystemClock.now();
        let time_zero = if pace == Pace::Real { made } else { time_zero };
        let now = AtomicU64::new(0);
        Arc::new(Self { time_zero, made, now, current: Mutex::new(None), pace })
    }

    /// The moment `at`, as the function sees it.
    #[must_use]
    pub fn timestamp(&self, at: Millis) -> Timestamp {
        Timestamp(self.time_zero.0.saturating_add_unsigned(at))
    }

    /// Time of the run.
    #[must_use]
    pub fn elapsed(&self) -> Millis {
        if self.is_real() {
            let since = SystemClock.now().0.saturating_sub(self.made.0);
            self.advance_to(Millis::try_from(since).unwrap_or_default());
        }
        self.now.load(Ordering::Relaxed)
    }

    /// Whether time passes by itself.
    #[must_use]
    pub fn is_real(&self) -> bool {
        self.pace == Pace::Real
    }

    /// Passes the time until `moment`.
    pub(super) async fn pass_to(&self, moment: Millis) {
        if self.is_real() {
            self.comes(Some(moment)).await;
        } else {
            self.advance_to(moment);
        }
    }

    /// Waits until a moment comes by itself. Virtual time does not pass by itself.
    pub(super) async fn comes(&self, moment: Option<Millis>) {
        let Some(moment) = moment.filter(|_| self.is_real()) else {
            return std::future::pending().await;
        };
        while let Some(left) = moment.checked_sub(self.elapsed()).filter(|left| *left > 0) {
            SystemClock.sleep(Duration::from_millis(left)).await;
        }
    }

    /// Moves on; time never goes back.
    fn advance_to(&self, moment: Millis) {
        self.now.fetch_max(moment, Ordering::Relaxed);
    }

    /// Makes an invocation, or none, the current one.
    pub(super) fn give_turn(&self, turn: Option<Arc<Turn>>) {
        *lock(&self.current) = turn;
    }

    /// The invocation that is being polled.
    #[must_use]
    pub fn current(&self) -> Option<Arc<Turn>> {
        lock(&self.current).clone()
    }
}

impl Turn {
    pub(super) fn new(started: Millis, faults: StoreFaults) -> Arc<Self> {
        let slept = AtomicU64::new(0);
        Arc::new(Self { started, slept, faults: Mutex::new(faults), timers: Mutex::default() })
    }

    /// Moves on to the first timer that is due, if somebody sleeps: to be called when nothing
    /// else can go on.
    pub(super) fn pass_time(&self) {
        let timers = lock(&self.timers);
        if !timers.waiting.values().any(|waiting| waiting.sleeps) {
            return;
        }
        if let Some(((due, _), waiting)) = timers.waiting.first_key_value() {
            self.slept.fetch_max(*due, Ordering::Relaxed);
            waiting.waker.wake_by_ref();
        }
    }

    fn timer(self: &Arc<Self>, due: Millis, sleeps: bool) -> Timer {
        let mut timers = lock(&self.timers);
        timers.so_far += 1;
        Timer { turn: Arc::clone(self), due, number: timers.so_far, sleeps }
    }

    /// How long the invocation has taken: what it slept.
    pub(super) fn slept(&self) -> Millis {
        self.slept.load(Ordering::Relaxed)
    }

    /// When it started.
    pub(super) fn started(&self) -> Millis {
        self.started
    }

    /// The faults that its store calls are to meet.
    pub(super) fn faults(&self) -> MutexGuard<'_, StoreFaults> {
        lock(&self.faults)
    }
}

/// A panic elsewhere ends the run anyway; what the lock guards is still whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Clock for VirtualClock {
    fn now(&self) -> Timestamp {
        let moment = match self.current().filter(|_| !self.is_real()) {
            Some(turn) => turn.started() + turn.slept(),
            None => self.elapsed(),
        };
        self.timestamp(moment)
    }

    /// Inside an invocation, its time passes when nothing else of it can go on. Outside of one
    /// there is no virtual time to pass (tables are being made): it waits for real.
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        let Some(turn) = self.current().filter(|_| !self.is_real()) else {
            return SystemClock.sleep(duration);
        };
        let length = Millis::try_from(duration.as_millis()).unwrap_or(Millis::MAX);
        match self.pace {
            Pace::Virtual => turn.timer(turn.slept().saturating_add(length), true).boxed(),
            Pace::RealSleep | Pace::Real => async move {
                SystemClock.sleep(duration).await;
                turn.slept.fetch_add(length, Ordering::Relaxed);
            }
            .boxed(),
        }
    }

    fn watch(&self, Timestamp(moment): Timestamp) -> BoxFuture<'static, ()> {
        let left = u64::try_from(moment.saturating_sub(self.now().0)).unwrap_or(0);
        let in_real_time = tokio::time::sleep(Duration::from_millis(left));
        let Some(turn) = self.current() else { return in_real_time.boxed() };
        let due = turn.slept().saturating_add(left);
        select(turn.timer(due, false), Box::pin(in_real_time)).map(|_| ()).boxed()
    }
}

impl Future for Timer {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut timers = lock(&self.turn.timers);
        let place = (self.due, self.number);
        if self.turn.slept() >= self.due {
            timers.waiting.remove(&place);
            return Poll::Ready(());
        }
        let waiting = Waiting { waker: context.waker().clone(), sleeps: self.sleeps };
        timers.waiting.insert(place, waiting);
        Poll::Pending
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        lock(&self.turn.timers).waiting.remove(&(self.due, self.number));
    }
}

/// Gives every other invocation the chance to go first.
pub(super) async fn yield_once() {
    let mut yielded = false;
    std::future::poll_fn(|context| {
        if yielded {
            return Poll::Ready(());
        }
        yielded = true;
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

#[cfg(test)]
mod tests {
    use super::{Pace, Turn, VirtualClock};
    use crate::{
        clock::{Clock, SystemClock},
        local::faults::StoreFaults,
        record::Timestamp,
    };
    use futures_util::FutureExt;
    use std::{sync::Arc, time::Duration};

    #[test]
    fn sleepers_sleep_side_by_side_and_take_virtual_time() {
        let clock = VirtualClock::new(Timestamp(1_000), Pace::Virtual);
        clock.advance_to(50);
        clock.advance_to(20);
        let turn = Turn::new(50, StoreFaults::default());
        clock.give_turn(Some(Arc::clone(&turn)));
        let mut short = clock.sleep(Duration::from_mins(1));
        let mut long = clock.sleep(Duration::from_hours(1));
        assert_eq!(((&mut long).now_or_never(), (&mut short).now_or_never()), (None, None));
        turn.pass_time();
        assert_eq!(((&mut long).now_or_never(), (&mut short).now_or_never()), (None, Some(())));
        assert_eq!(clock.now(), Timestamp(1_000 + 50 + 60_000));
        turn.pass_time();
        assert_eq!((&mut long).now_or_never(), Some(()));
        assert_eq!(clock.now(), Timestamp(1_000 + 50 + 3_600_000));
        clock.give_turn(None);
        assert_eq!(clock.now(), Timestamp(1_050));
        assert_eq!(turn.slept(), 3_600_000);
    }

    #[tokio::test]
    async fn a_watch_alone_passes_no_time_but_is_met_by_a_sleeper() {
        let clock = VirtualClock::new(Timestamp(0), Pace::Virtual);
        let turn = Turn::new(0, StoreFaults::default());
        clock.give_turn(Some(Arc::clone(&turn)));
        let mut watch = clock.watch(Timestamp(60_000));
        assert_eq!((&mut watch).now_or_never(), None);
        turn.pass_time();
        assert_eq!(clock.now(), Timestamp(0));
        let mut sleep = clock.sleep(Duration::from_hours(1));
        assert_eq!((&mut sleep).now_or_never(), None);
        turn.pass_time();
        assert_eq!((&mut sleep).now_or_never(), None);
        assert_eq!((&mut watch).now_or_never(), Some(()));
        assert_eq!(clock.now(), Timestamp(60_000));
        drop(sleep);
        turn.pass_time();
        assert_eq!(clock.now(), Timestamp(60_000));
    }

    #[test]
    fn real_time_begins_now_and_passes_by_itself() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let _entered = runtime.enter();
        let clock = VirtualClock::new(Timestamp(1_000), Pace::Real);
        let machine = || SystemClock.now();
        let before = machine();
        clock.give_turn(Some(Turn::new(7_000_000, StoreFaults::default())));
        assert!((before..=machine()).contains(&clock.now()), "an invocation adds nothing");
        assert_eq!(clock.comes(Some(0)).now_or_never(), Some(()));
        assert_eq!(clock.comes(Some(60_000)).now_or_never(), None);
    }
}
