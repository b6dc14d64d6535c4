//! Which groups readers are shown: HAVING, ORDER BY with LIMIT, and for how long.
//!
//! Separate because nothing of it changes what a row says: the rows of all groups are exact, and
//! what is said here is applied to them when they are read. Invariant: it asks nothing that a row
//! does not say.

use super::{Aggregate, Expression, Function, Output, Type};
use std::fmt;

/// Something that the row of a group says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OfGroup {
    /// Where it is in the definition.
    pub output: Output,
    /// What it is.
    pub shown: Shown,
}

/// What a row shows in one place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shown {
    /// A key of the group.
    Key(Expression),
    /// An aggregate over it.
    Aggregate(Aggregate),
}

/// The first groups by one of their columns. Equal ones are told by their keys, the smaller first.
/// Groups whose column is NULL are never among them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Top {
    /// Which column: a count, a sum, a minimum or a maximum.
    pub column: usize,
    /// Whether the largest come first.
    pub is_descending: bool,
    /// How many groups.
    pub limit: usize,
}

/// How long groups are kept after the end of their hour, day, ….
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retain {
    /// The key that is the beginning of an hour, a day, ….
    pub key: usize,
    /// For how many hours.
    pub hours: u32,
}

impl fmt::Display for Retain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.hours {
            hours if hours.is_multiple_of(24) => write!(f, "'{} days'", hours / 24),
            hours => write!(f, "'{hours} hours'"),
        }
    }
}

impl OfGroup {
    /// How tightly its text binds.
    pub(super) fn binding(&self) -> u8 {
        match &self.shown {
            Shown::Key(key) => key.binding(),
            Shown::Aggregate(_) => 8,
        }
    }

    /// Its type, as far as it is known without a row.
    pub(super) fn known_type(&self) -> Option<Type> {
        match &self.shown {
            Shown::Key(key) => key.known_type(),
            Shown::Aggregate(Aggregate { function, argument }) => match function {
                Function::Count
                | Function::CountDistinct
                | Function::Sum
                | Function::SumDistinct
                | Function::Avg => Some(Type::Number),
                Function::BoolAnd | Function::BoolOr => Some(Type::Bool),
                Function::Min | Function::Max => argument.as_ref()?.known_type(),
            },
        }
    }
}
