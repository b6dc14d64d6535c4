//! What is asked of a run that reads an export of its table instead of the table.
//!
//! An export of a table to S3 takes no capacity of the table. Whoever asks has the files: the
//! function is given their items, a bounded portion a call, and knows of each segment how many
//! of its items are in.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The items of one call at most.
pub const GIVEN_MAX: usize = 1_000;

/// What a run reads instead of its table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Export {
    /// An export that is yet to be made, or to be named.
    Awaited,
    /// This one.
    Made(ExportMade),
}

impl Export {
    /// The export, if it was named.
    #[must_use]
    pub fn made(&self) -> Option<&ExportMade> {
        match self {
            Self::Awaited => None,
            Self::Made(made) => Some(made),
        }
    }
}

/// An export of a whole table, as its manifest describes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExportMade {
    /// Its ARN.
    pub arn: String,
    /// The moment whose items it has, in milliseconds since the epoch.
    pub time_ms: i64,
    /// The table, by its ARN.
    pub table_arn: String,
    /// The table's own id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table_id: Option<String>,
    /// How many data files it has.
    pub files: u32,
    /// How many items.
    pub items: u64,
    /// How many bytes of the table.
    pub bytes: u64,
}

/// Items of a segment that a call is given.
///
/// The items of a segment are counted from 0 in an order that never changes. What the function
/// has had already of them it passes over; behind a gap it does nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Given {
    /// The position of the first of them.
    pub from: u64,
    /// The items, as DynamoDB's own JSON; [`GIVEN_MAX`] at most.
    pub items: Vec<Value>,
    /// Whether the segment ends behind them.
    pub is_end: bool,
}
