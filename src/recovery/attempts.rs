//! How often a record was tried, and what that means for it.
//!
//! Separate from the session because it is a count by class of failure, without IO. What is
//! transient has all the time there is, and a bound in each invocation only; what failed without
//! a class may never work, so those attempts are bounded over all invocations. Neither uses up
//! the other's.
//!
//! What it gives up: without progress nothing is known of earlier invocations.

use super::progress::Remembered;
use crate::{processor::Class, retry::TRIES_IN_PLACE};

/// How often a record has failed, in all invocations and in this one.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Tried {
    pub(crate) attempts: u32,
    /// Those of the attempts that failed without a class.
    pub(crate) unclassified: u32,
    unclassified_here: u32,
    transient_here: u32,
    pub(crate) first_failed_ms: i64,
}

impl Tried {
    /// What earlier invocations left of a record, which fails now if it never did before.
    pub(crate) fn before(remembered: &Remembered, now_ms: i64) -> Self {
        let Remembered { attempts, unclassified, first_failed_ms, .. } = *remembered;
        let first_failed_ms = first_failed_ms.unwrap_or(now_ms);
        Self { attempts, unclassified, first_failed_ms, ..Self::default() }
    }

    /// Takes note of a failed attempt.
    pub(crate) fn count(&mut self, class: Class) {
        let one_more = |count: &mut u32| *count = count.saturating_add(1);
        one_more(&mut self.attempts);
        match class {
            Class::Retry => one_more(&mut self.transient_here),
            Class::Unclassified => {
                one_more(&mut self.unclassified);
                one_more(&mut self.unclassified_here);
            }
            Class::Park | Class::Halt => {}
        }
    }

    /// Takes note of starts that had no outcome.
    pub(crate) fn count_starts(&mut self, starts: u32) {
        self.attempts = self.attempts.saturating_add(starts);
    }

    /// Whether a record whose last attempt failed with this class may be tried again in this
    /// invocation.
    pub(crate) fn may_try_again(&self, class: Class, max_attempts: u32) -> bool {
        match class {
            Class::Retry => self.transient_here < TRIES_IN_PLACE,
            Class::Unclassified => self.unclassified_here < max_attempts,
            Class::Park | Class::Halt => false,
        }
    }

    /// Whether a failure of this class means that the record is set aside.
    pub(crate) fn is_given_up(&self, class: Class, max_attempts: u32) -> bool {
        match class {
            Class::Park => true,
            Class::Unclassified => self.unclassified >= max_attempts,
            Class::Retry | Class::Halt => false,
        }
    }
}
