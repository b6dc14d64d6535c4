//! What an operator asks of views to know that they are exact, and to make them so.
//!
//! Separate from the other operations because it walks whole tables: each call works on a bounded
//! portion, and its answer has a cursor that says everything the next call needs. Nothing is kept
//! between two calls, so a walk can be given up anywhere. A cursor holds keys and partial sums.

use super::backfill::NotDone;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// How far behind the stream is taken to be at most, in milliseconds, unless told otherwise.
pub const ITERATOR_AGE_DEFAULT_MS: u64 = 60_000;

/// Drift that one walk tells of unless told otherwise; it ends there.
pub const DRIFT_MAX_DEFAULT: usize = 1_000;

/// Groups that one pass over the ledger adds up unless told otherwise: about 2 MB of cursor.
pub const GROUPS_MAX_DEFAULT: usize = 10_000;

/// What is compared with what.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Check {
    /// The rows of the views with the ledger, without the source.
    #[default]
    Rows,
    /// The ledger, and the rows of projections, with the source.
    Source,
}

/// What to verify, and how.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Verify {
    /// What is compared.
    pub check: Check,
    /// The source: a table by its name or ARN. Only for [`Check::Source`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub table: Option<String>,
    /// Only so many items, or groups, chosen by chance; all unless said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sample: Option<u64>,
    /// How far behind the stream is, in milliseconds: Lambda's metric `IteratorAge`, the largest
    /// of the last minutes. [`ITERATOR_AGE_DEFAULT_MS`] unless said. What has differed for
    /// longer has drifted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub iterator_age_ms: Option<u64>,
    /// Nobody writes, and no record is under way: what differs twice has drifted.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub at_rest: bool,
    /// At most so many groups at once, [`GROUPS_MAX_DEFAULT`] unless said: more groups take
    /// another pass over the ledger. Only for [`Check::Rows`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub groups_max: Option<usize>,
    /// The walk ends when it has told of so much drift in a call; [`DRIFT_MAX_DEFAULT`] unless
    /// said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// The call ends when it has used so many read units.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_units_max: Option<u32>,
    /// Goes on where an earlier answer ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// What to repair: whatever a verification would find. An item that differs is reconciled with
/// its source at once, for that does no harm to one whose change is under way.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Repair {
    /// What is compared, and how.
    pub of: Verify,
    /// Counts what would be mended, and changes nothing.
    pub dry_run: bool,
}

/// What a call has found and done.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Verified {
    /// Items, groups and rows that were compared.
    pub checked: u64,
    /// What has drifted. A repair tells what differed.
    pub drift: Vec<Drift>,
    /// What differed at every look, and was written between any two.
    pub undecided: Vec<NotDone>,
    /// What a repair has mended.
    pub mended: u64,
    /// What cannot be compared, or mended, and why.
    pub not_done: Vec<NotDone>,
    /// Why the call ended before its end.
    pub stopped: Option<Stopped>,
    /// How long to wait before the next call, in milliseconds.
    pub wait_ms: u64,
    /// Where to go on; `None` at the end.
    pub cursor: Option<String>,
    /// Read units that were used.
    pub read_units: f64,
    /// Write units that were used.
    pub write_units: f64,
}

/// Why a call ended before the walk's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Stopped {
    /// It has found as much drift as it may tell of.
    Limit,
    /// The invocation has no time left.
    Deadline,
    /// It has used its read units.
    Units,
    /// A store throttled it.
    Throttled,
    /// A store did not answer.
    Unanswered,
    /// What differs has to be looked at again later.
    Waits,
}

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drift {
    /// What it is: `item` (ledger or projection against the source), `group` (a row against the
    /// ledger), `row` (a projection's row against the ledger).
    pub what: String,
    /// The view.
    pub view: String,
    /// Which generation of it.
    #[serde(default = "first")]
    pub generation: u32,
    /// The group, or the item's key, as people read it.
    pub group: String,
    /// What should be there: of a group its sums; of an item only where it belongs, no values.
    pub expected: Value,
    /// What is there.
    pub found: Value,
    /// Keys of contributing items, the first of them.
    pub items: Vec<String>,
}

/// What functions from before generations served.
fn first() -> u32 {
    1
}
