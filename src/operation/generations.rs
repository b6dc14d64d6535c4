//! What an operator asks of views whose definitions change.
//!
//! Separate from the backfill because these change what is served, and it fills it.

use super::backfill::Estimate;
use serde::{Deserialize, Serialize};

/// Which generation of a view is to be current.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Switch {
    /// The view.
    pub view: String,
    /// The generation; the newest unless said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<u32>,
}

/// A generation is current.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Switched {
    /// The view.
    pub view: String,
    /// The generation that was current before; none if the view had none.
    pub from: Option<u32>,
    /// The one that is now.
    pub generation: u32,
    /// Its table.
    pub table: String,
}

/// What is to be dropped.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DropView {
    /// The view.
    pub view: String,
    /// The generation, which is not the current one; the whole view unless said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<u32>,
    /// Nothing is dropped without it.
    pub yes: bool,
    /// Read units a second of this call at most, about;
    /// [`UNITS_PER_S_DEFAULT`](super::backfill::UNITS_PER_S_DEFAULT) unless said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_units_per_s: Option<u32>,
    /// Write units a second of this call at most, about;
    /// [`UNITS_PER_S_DEFAULT`](super::backfill::UNITS_PER_S_DEFAULT) unless said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub write_units_per_s: Option<u32>,
    /// The longest timeout that the function has had since it served this, in seconds; Lambda's
    /// 900 unless said. Rows are deleted when no invocation of before is under way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_s: Option<u32>,
    /// Goes on where an earlier answer ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// What a call of a drop has done.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct DroppedView {
    /// The view.
    pub view: String,
    /// Generations whose rows are still to be deleted.
    pub left: Vec<u32>,
    /// Rows that this call has deleted.
    pub rows: u64,
    /// How long to wait before the next call, in milliseconds.
    pub wait_ms: u64,
    /// Where to go on deleting, if this call has not come to the end.
    #[serde(default)]
    pub cursor: Option<String>,
    /// Read units that were used.
    pub read_units: f64,
    /// Write units that were used.
    pub write_units: f64,
}

/// The definitions that a deploy would bring.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Diff {
    /// Their texts, each a whole statement.
    pub views: Vec<String>,
}

/// What a deploy would do.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Differences {
    /// Every view of the files and of the registry.
    pub views: Vec<Difference>,
    /// What the backfills take that it would need, for each source.
    pub backfills: Vec<Estimate>,
    /// Sources whose backfill is not estimated, because they cannot be described.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_estimated: Vec<String>,
}

/// What a deploy would do to a view.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// The view.
    pub view: String,
    /// What becomes of it.
    pub change: Kind,
    /// Of a changed one, the parts that change: `columns`, `filter`, `group by`, `from`, `key`,
    /// `options`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<String>,
    /// The generation that would be built, or that has the definition already.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<u32>,
    /// The table of that generation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub table: Option<String>,
}

/// What becomes of a view.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// It is new, and the ledger has no items of its source: it begins with what comes.
    Joins,
    /// It is new, and is built beside what is served.
    Added,
    /// Its definition is another one, and is built beside the present one.
    Changed,
    /// A generation that is not current has the definition already.
    Built,
    /// Nothing.
    Unchanged,
    /// It is registered and not in the files: it is served until it is dropped.
    Absent,
}

impl Kind {
    /// How people are told.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Joins => "joins",
            Self::Added => "added",
            Self::Changed => "changed",
            Self::Built => "has a generation",
            Self::Unchanged => "unchanged",
            Self::Absent => "not in the files",
        }
    }
}
