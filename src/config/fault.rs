//! What is wrong with settings: all faults at once, each with its remedy.

use std::fmt;

/// Settings that cannot be used, all of them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ConfigError {
    pub(super) faults: Vec<Fault>,
}

impl ConfigError {
    /// Stable code, reported to Lambda as the error type.
    pub const CODE: &'static str = "SettingsInvalid";

    /// Every fault, in a fixed order.
    #[must_use]
    pub fn faults(&self) -> &[Fault] {
        &self.faults
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for fault in &self.faults {
            write!(f, "{separator}{fault}")?;
            separator = "; ";
        }
        Ok(())
    }
}

/// One setting that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// It has to be set.
    #[error("{name} is not set: {remedy}")]
    Missing {
        /// The variable.
        name: &'static str,
        /// What it should hold.
        remedy: &'static str,
    },
    /// It does not hold what it should. The value itself is not repeated.
    #[error("{name} is not valid: expected {expected}")]
    Invalid {
        /// The variable.
        name: &'static str,
        /// What it should hold.
        expected: &'static str,
    },
    /// Two settings do not go together.
    #[error("{name} does not go with {with}: {remedy}")]
    Conflict {
        /// The variable.
        name: &'static str,
        /// The other one.
        with: &'static str,
        /// What helps.
        remedy: &'static str,
    },
    /// It names a file that is of no use.
    #[error("{name} is not usable: {reason}")]
    Unusable {
        /// The variable.
        name: &'static str,
        /// The file, and why not.
        reason: String,
    },
    /// There is no such setting.
    #[error("{name} is not a setting: did you mean {nearest}?")]
    Unknown {
        /// The variable.
        name: String,
        /// The known setting whose name is nearest.
        nearest: &'static str,
    },
}
