//! Virtual time, and whose turn it is.
//!
//! A run's time passes only by backoff, batching windows and what an invocation declares by
//! sleeping, so an hour of retries takes no time. While the run loop polls an invocation, that
//! invocation is *current* here: the clock adds what it has slept, and the faulty HTTP client
//! knows whom a store call belongs to. One lock-free thread polls all invocations; the locks
//! are there because the SDK asks for `Sync`.

use super::{faults::StoreFaults, mapping::Millis};
use crate::{clock::Clock, record::Timestamp};
use futures_util::future::{BoxFuture, FutureExt};
use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::Poll,
    time::Duration,
};

/// The clock of a run.
#[derive(Debug)]
pub struct VirtualClock {
    time_zero: Timestamp,
    now: AtomicU64,
    current: Mutex<Option<Arc<Turn>>>,
    pace: Pace,
}

/// Whether sleeping also takes real time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// It does not: the store is in this process.
    Virtual,
    /// It does: a store across the network needs the pauses that backing off is for.
    Real,
}

/// What the desk keeps of one invocation while it runs.
#[derive(Debug)]
pub struct Turn {
    started: Millis,
    slept: AtomicU64,
    faults: Mutex<StoreFaults>,
}

impl VirtualClock {
    /// A clock that stands at time zero.
    #[must_use]
    pub fn new(time_zero: Timestamp, pace: Pace) -> Arc<Self> {
        let now = AtomicU64::new(0);
        Arc::new(Self { time_zero, now, current: Mutex::new(None), pace })
    }

    /// The moment `at`, as the function sees it.
    #[must_use]
    pub fn timestamp(&self, at: Millis) -> Timestamp {
        Timestamp(self.time_zero.0.saturating_add_unsigned(at))
    }

    /// Virtual time of the run.
    #[must_use]
    pub fn elapsed(&self) -> Millis {
        self.now.load(Ordering::Relaxed)
    }

    /// Moves on; time never goes back.
    pub(super) fn advance_to(&self, moment: Millis) {
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
        Arc::new(Self { started, slept: AtomicU64::new(0), faults: Mutex::new(faults) })
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
        let moment = match self.current() {
            Some(turn) => turn.started() + turn.slept(),
            None => self.elapsed(),
        };
        self.timestamp(moment)
    }

    /// Inside an invocation, adds to its declared duration and lets others run. Outside of one
    /// there is no virtual time to pass (tables are being made): it waits for real.
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        let Some(turn) = self.current() else { return tokio::time::sleep(duration).boxed() };
        let pace = self.pace;
        async move {
            let length = Millis::try_from(duration.as_millis()).unwrap_or(Millis::MAX);
            turn.slept.fetch_add(length, Ordering::Relaxed);
            match pace {
                Pace::Virtual => yield_once().await,
                Pace::Real => tokio::time::sleep(duration).await,
            }
        }
        .boxed()
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
    use crate::{clock::Clock, local::faults::StoreFaults, record::Timestamp};
    use futures_util::FutureExt;
    use std::{sync::Arc, time::Duration};

    #[test]
    fn sleeping_takes_virtual_time_and_yields_once() {
        let clock = VirtualClock::new(Timestamp(1_000), Pace::Virtual);
        clock.advance_to(50);
        clock.advance_to(20);
        let turn = Turn::new(50, StoreFaults::default());
        clock.give_turn(Some(Arc::clone(&turn)));
        let mut sleep = clock.sleep(Duration::from_hours(1));
        assert_eq!((&mut sleep).now_or_never(), None);
        assert_eq!((&mut sleep).now_or_never(), Some(()));
        assert_eq!(clock.now(), Timestamp(1_000 + 50 + 3_600_000));
        clock.give_turn(None);
        assert_eq!(clock.now(), Timestamp(1_050));
        assert_eq!(turn.slept(), 3_600_000);
    }
}
