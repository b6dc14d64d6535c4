//! What is asked of views to take in an archive of their stream.
//!
//! Separate from the backfill, which reads a table: a Kinesis stream has no scan, and an archive
//! of its records takes its place. The records are those that the stream has delivered, and go
//! through the ledger as those do, so what it knows is skipped.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The records of one call at most: more than Lambda delivers of a Kinesis stream by default,
/// fewer than a call could do in a minute.
pub const RECORDS_MAX: usize = 1_000;

/// Records of an archive.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Replay {
    /// The records as Lambda delivers them, of tables or of Kinesis streams; their order does not
    /// matter. [`RECORDS_MAX`] at most.
    pub records: Vec<Value>,
    /// What arrived before this moment, in milliseconds since the epoch, the Kinesis stream has
    /// never brought to these views. Without it records are refused of which the ledger may have
    /// forgotten that they were applied.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delivered_from_ms: Option<i64>,
}

/// What became of records of an archive.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replayed {
    /// They are in the views from now on. Changes of one item that come together count as the
    /// newest of them.
    pub applied: u64,
    /// The ledger knew them, or what has come after them.
    pub skipped: u64,
    /// Places of those that are not finished: they are to come again.
    pub unfinished: Vec<usize>,
}
