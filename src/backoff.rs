//! Waiting between two tries of a call: full jitter, and never into the time of the reply.
//!
//! Separate so that everything that talks to a service waits alike: the store, the
//! destinations, the streams. What it gives up: no budget is shared between calls; each has
//! tries of its own.

use crate::{clock::Clock, record::Timestamp};
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// Time kept before Lambda's deadline for the reply, in milliseconds: no other try begins then.
/// The invocation counts its own writes by the same moment (`batch/deadline.rs`), so that it
/// counts on no try that is not made, and none is made that it does not count on.
pub(crate) const REPLY_MS: i64 = 200;

/// First step and ceiling of the backoff (exactly-once.md's ladder: 10 ms doubling to 1 s).
const FIRST_MS: u64 = 10;
const MAX_MS: u64 = 1_000;
/// A call is given up after so many tries even when the deadline is far.
const TRIES_MAX: u32 = 16;

/// Waits between tries; a seed makes the waits repeatable.
#[derive(Debug, Clone)]
pub(crate) struct Backoff {
    clock: Arc<dyn Clock>,
    rng: Arc<Mutex<fastrand::Rng>>,
}

impl Backoff {
    pub(crate) fn new(clock: Arc<dyn Clock>, seed: u64) -> Self {
        Self { clock, rng: Arc::new(Mutex::new(fastrand::Rng::with_seed(seed))) }
    }

    pub(crate) fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// A number that follows from the seed and how many there were before.
    pub(crate) fn random(&self) -> u64 {
        self.rng.lock().unwrap_or_else(PoisonError::into_inner).u64(..)
    }

    /// Waits with full jitter; false when the tries are used up, or another one that takes as
    /// long as the last would go on into the time of the reply.
    pub(crate) async fn wait(&self, tries: &mut Tries) -> bool {
        let ceiling = (FIRST_MS << tries.done.min(10)).min(MAX_MS);
        let pause_ms = self.rng.lock().unwrap_or_else(PoisonError::into_inner).u64(0..=ceiling);
        tries.done += 1;
        let Timestamp(now) = self.clock.now();
        let took = tries.began.map_or(0, |Timestamp(began)| now.saturating_sub(began));
        let ends_ms = now.saturating_add_unsigned(pause_ms).saturating_add(took);
        if tries.done >= TRIES_MAX || ends_ms > tries.deadline.0.saturating_sub(REPLY_MS) {
            return false;
        }
        self.clock.sleep(Duration::from_millis(pause_ms)).await;
        tries.began = Some(self.clock.now());
        true
    }
}

/// How often a call was tried, and until when it may be.
#[derive(Debug)]
pub(crate) struct Tries {
    done: u32,
    deadline: Timestamp,
    /// When the last one began; not known of the first.
    began: Option<Timestamp>,
}

impl Tries {
    pub(crate) fn new(deadline: Timestamp) -> Self {
        Self { done: 0, deadline, began: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::future::{BoxFuture, FutureExt, pending, ready};
    use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

    /// A clock that goes on while it is waited by.
    #[derive(Debug, Default)]
    struct Told(AtomicI64);

    impl Clock for Told {
        fn now(&self) -> Timestamp {
            Timestamp(self.0.load(Relaxed))
        }

        fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
            self.0.fetch_add(i64::try_from(duration.as_millis()).unwrap(), Relaxed);
            ready(()).boxed()
        }

        fn watch(&self, _: Timestamp) -> BoxFuture<'static, ()> {
            pending().boxed()
        }
    }

    /// Tries that take so long each, from a moment on; gives back when the last one ended.
    fn last_end(began: i64, took: i64) -> i64 {
        let clock = Arc::new(Told(AtomicI64::new(began)));
        let backoff = Backoff::new(clock.clone(), 1);
        let mut tries = Tries::new(Timestamp(10_000));
        loop {
            clock.0.fetch_add(took, Relaxed);
            let end = clock.now().0;
            if !backoff.wait(&mut tries).now_or_never().unwrap() {
                return end;
            }
        }
    }

    #[test]
    fn tries_go_on_until_the_time_of_the_reply_and_not_into_it() {
        for began in (5_000..9_500).step_by(100) {
            // Sixteen tries pause for five seconds in all, about.
            let end = last_end(began, 40);
            assert!(end <= 10_000 - REPLY_MS, "from {began}: {end}");
            assert!(end > 7_000, "from {began}: {end}");
        }
        assert!(last_end(8_500, 20) > 8_600, "none in the last second and a half");
        assert!(last_end(6_000, 1_500) <= 10_000 - REPLY_MS);
    }
}
