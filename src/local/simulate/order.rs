//! Who comes first of those that could go at one moment: no rule of AWS's says it.

use crate::local::mapping::{READINGS, ReadingError, one_of};

/// The readings that are the driver's, not the mapping's.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Order {
    /// `siblings`: shards that begin at one moment.
    pub(super) siblings: Turn,
    /// `replies`: calls that end at one moment.
    pub(super) replies: Turn,
}

/// Which of several is first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Turn {
    /// The first that was listed, or that began.
    #[default]
    First,
    /// The last.
    Last,
}

impl Order {
    const NAMES: [&str; 2] = ["siblings", "replies"];

    /// # Errors
    /// There is no such reading, neither here nor of the mapping.
    pub(super) fn set(&mut self, name: &str, value: &str) -> Result<(), ReadingError> {
        let turn = match name {
            "siblings" => &mut self.siblings,
            "replies" => &mut self.replies,
            _ => {
                let known = [&READINGS[..], &Self::NAMES].concat().join(", ");
                return Err(ReadingError::Unknown { name: name.to_owned(), known });
            }
        };
        *turn = one_of(name, value, &[("first", Turn::First), ("last", Turn::Last)])?;
        Ok(())
    }
}
