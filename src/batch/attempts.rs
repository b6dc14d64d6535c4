//! How often a record was tried, and what that means for it.
//!
//! Separate from the session because it is one count by class of failure. What is transient has
//! all the time there is, and a bound in each invocation only; what failed without a class may
//! never work, so those attempts are bounded over all invocations. Neither uses up the other's.
//!
//! What it gives up: without progress nothing is known of earlier invocations.

use super::{progress::Remembered, retry::TRIES_IN_PLACE, session::Session};
use crate::processor::{Class, Failure};

/// How often a record has failed, in all invocations and in this one.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Tried {
    pub(super) attempts: u32,
    /// Those of the attempts that failed without a class: they are bounded, because such a
    /// record may never work. What is transient has all the time there is.
    pub(super) unclassified: u32,
    pub(super) unclassified_here: u32,
    pub(super) transient_here: u32,
    pub(super) first_failed_ms: i64,
}

impl Session<'_> {
    pub(super) fn tried(&self, at: usize) -> Tried {
        let here = self.tried.borrow().get(&at).copied();
        here.unwrap_or_else(|| {
            let Remembered { attempts, unclassified, first_failed_ms, .. } = self.remembered(at);
            let first_failed_ms = first_failed_ms.unwrap_or_else(|| self.deadline.now().0);
            Tried { attempts, unclassified, first_failed_ms, ..Tried::default() }
        })
    }

    /// Attempts of a record so far, those of earlier invocations included.
    pub(super) fn attempts(&self, at: usize) -> u32 {
        let here = self.tried.borrow().get(&at).map(|tried| tried.attempts);
        here.unwrap_or_else(|| self.remembered(at).attempts)
    }

    /// Takes note of a failed attempt.
    pub(super) fn note_attempt(&self, at: usize, failure: &Failure) {
        let mut tried = self.tried(at);
        let one_more = |count: &mut u32| *count = count.saturating_add(1);
        one_more(&mut tried.attempts);
        match failure.class() {
            Class::Retry => one_more(&mut tried.transient_here),
            Class::Unclassified => {
                one_more(&mut tried.unclassified);
                one_more(&mut tried.unclassified_here);
            }
            Class::Park | Class::Halt => {}
        }
        self.tried.borrow_mut().insert(at, tried);
        self.measures.borrow_mut().count_failure(failure.code());
    }

    /// Whether a record whose last attempt, which was noted, failed with this class may be tried
    /// again in this invocation.
    pub(super) fn may_try_again(&self, at: usize, class: Class) -> bool {
        let tried = self.tried(at);
        match class {
            Class::Retry => tried.transient_here < TRIES_IN_PLACE,
            Class::Unclassified => tried.unclassified_here < self.keeping.max_attempts(),
            Class::Park | Class::Halt => false,
        }
    }

    /// Whether a failure means that the record is set aside.
    pub(super) fn is_parked_by(&self, at: usize, class: Class) -> bool {
        let is_due = match class {
            Class::Park => true,
            Class::Unclassified => self.tried(at).unclassified >= self.keeping.max_attempts(),
            Class::Retry | Class::Halt => false,
        };
        is_due && self.can_park()
    }
}
