//! What the last verifications have found, as `view status` tells it.
//!
//! Separate from the verification because the status of a backfill tells of it too.

use serde::{Deserialize, Serialize};

/// What the last verification of a kind has found; the next one of the kind takes its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastVerified {
    /// The source that the ledger was compared with, by its ARN; none if rows and ledger were
    /// compared.
    pub source: Option<String>,
    /// When it ended, in milliseconds since 1970.
    pub ended_ms: i64,
    /// Whether it came to its end. Another ended where it had found as much as a call may tell of.
    pub is_whole: bool,
    /// Only so many items, or groups, were compared; none is all.
    pub sample: Option<u64>,
    /// What it has found.
    pub found: Found,
}

/// What a verification has found so far; the cursor carries it from call to call.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// Items, groups and rows that were compared.
    pub checked: u64,
    /// What has drifted, by view; a view that has not drifted is left out.
    pub drift: Vec<ViewDrift>,
    /// How much could not be decided.
    pub undecided: u64,
    /// How much could not be compared.
    pub not_done: u64,
}

/// How much of a view has drifted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ViewDrift {
    /// The view.
    pub view: String,
    /// Which generation of it.
    pub generation: u32,
    /// Its groups, rows or items that have drifted.
    pub drift: u64,
}
