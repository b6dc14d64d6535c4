//! Waiting between two tries of a call: full jitter, and never past the deadline's reserve.
//!
//! Separate so that everything that talks to a service waits alike: the store, the
//! destinations, the streams. What it gives up: no budget is shared between calls; each has
//! tries of its own.

use crate::{clock::Clock, record::Timestamp};
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// Time kept back from the deadline: backing off stops here, so that a reply still gets out.
const RESERVE_MS: i64 = 2_000;
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

    /// Waits with full jitter; false when the tries or the time before the deadline's reserve
    /// are used up.
    pub(crate) async fn wait(&self, tries: &mut Tries) -> bool {
        let ceiling = (FIRST_MS << tries.done.min(10)).min(MAX_MS);
        let pause_ms = self.rng.lock().unwrap_or_else(PoisonError::into_inner).u64(0..=ceiling);
        tries.done += 1;
        let ends_ms = self.clock.now().0.saturating_add_unsigned(pause_ms);
        if tries.done >= TRIES_MAX || ends_ms > tries.deadline.0.saturating_sub(RESERVE_MS) {
            return false;
        }
        self.clock.sleep(Duration::from_millis(pause_ms)).await;
        true
    }
}

/// How often a call was tried, and until when it may be.
#[derive(Debug)]
pub(crate) struct Tries {
    done: u32,
    deadline: Timestamp,
}

impl Tries {
    pub(crate) fn new(deadline: Timestamp) -> Self {
        Self { done: 0, deadline }
    }
}
