//! Trying again inside the invocation, and when not to.
//!
//! A transient failure is cheapest to repeat in place: nothing is delivered twice, the lane
//! just waits. Pauses are full jitter, so that functions that failed together do not come back
//! together. When the same thing is down for everybody, waiting in every lane in turn would
//! only use up the time: the circuit opens and the invocation ends early.

use crate::{clock::Clock, record::Timestamp};
use std::{
    collections::BTreeSet,
    sync::{Mutex, PoisonError},
    time::Duration,
};

/// How often a record, or a bulk call, with a transient failure is tried in one invocation.
pub const TRIES_IN_PLACE: u32 = 5;

/// How many consecutive transient failures of one code over different keys end an invocation.
pub const CIRCUIT_KEYS: usize = 5;

/// First step and ceiling of the pauses, in milliseconds.
const PAUSE_FIRST_MS: u64 = 50;
const PAUSE_MAX_MS: u64 = 2_000;

/// Pauses with full jitter, from one seed.
#[derive(Debug)]
pub(crate) struct Pauses(Mutex<fastrand::Rng>);

impl Pauses {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Mutex::new(fastrand::Rng::with_seed(seed)))
    }

    /// Waits before the next try; false, at once, if that would end after `until`, and false if
    /// it did.
    pub(crate) async fn before_try(
        &self,
        done: u32,
        clock: &dyn Clock,
        Timestamp(until): Timestamp,
    ) -> bool {
        let doubled = PAUSE_FIRST_MS << done.saturating_sub(1).min(10);
        let pause = {
            let mut rng = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            rng.u64(0..=doubled.min(PAUSE_MAX_MS))
        };
        if clock.now().0.saturating_add_unsigned(pause) >= until {
            return false;
        }
        clock.sleep(Duration::from_millis(pause)).await;
        // A process that was frozen meanwhile wakes long after: others have its records by then.
        clock.now().0 < until
    }
}

/// Notices that something everybody needs is down.
#[derive(Debug, Default)]
pub(crate) struct Circuit {
    code: Option<&'static str>,
    keys: BTreeSet<usize>,
}

impl Circuit {
    /// Takes note of one outcome: the code of a transient failure, or none.
    pub(crate) fn note(&mut self, transient: Option<&'static str>, key: usize) {
        if self.is_open() {
            return;
        }
        if self.code != transient {
            self.code = transient;
            self.keys.clear();
        }
        if transient.is_some() {
            self.keys.insert(key);
        }
    }

    /// Whether nothing more should be started.
    pub(crate) fn is_open(&self) -> bool {
        self.keys.len() >= CIRCUIT_KEYS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(outcomes: &[(Option<&'static str>, usize)], is_open: bool) {
        let mut circuit = Circuit::default();
        for (code, key) in outcomes {
            circuit.note(*code, *key);
        }
        assert_eq!(circuit.is_open(), is_open, "{outcomes:?}");
    }

    #[test]
    fn five_keys_in_a_row_open_the_circuit() {
        let down = |key| (Some("Down"), key);
        check(&[down(1), down(2), down(3), down(4)], false);
        check(&[down(1), down(2), down(3), down(4), down(5)], true);
        // One key that keeps failing is its own trouble.
        check(&[down(1), down(1), down(1), down(1), down(1)], false);
        check(&[down(1), down(2), (None, 9), down(3), down(4), down(5)], false);
        check(&[down(1), down(2), (Some("Slow"), 3), down(4), down(5)], false);
        // Open is open.
        check(&[down(1), down(2), down(3), down(4), down(5), (None, 6)], true);
    }
}
