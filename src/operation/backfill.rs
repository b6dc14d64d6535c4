//! What an operator asks of views over a table that has data already.
//!
//! Separate from the operations on parked records because nothing of those is shared but the
//! way they come: one event, one bounded portion of work, one answer that says what is left.

pub mod chain;
pub mod export;

use super::verified::LastVerified;
use crate::view::building::{RunState, ViewState};
use chain::{Chain, ChainStatus};
use export::{Export, Given};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One step of a backfill: bringing every item that a table has into its views.
///
/// A run has a number of segments. It is begun once; then each call works on a bounded portion
/// of one segment, until none is left; then the stream catches up. Everything that a step does
/// can be done twice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Backfill {
    /// Says how much there is and what it takes; changes nothing.
    Estimate(OfTable),
    /// Begins a run, or goes on with one that was paused or stopped.
    Begin(Begin),
    /// Works on a portion of one segment.
    Work(Portion),
    /// Lets the function work by itself, link after link.
    Chain(Chain),
    /// Says the views ready, if the stream has passed the end of the scan.
    Finish(Finish),
    /// Lets rows of removed items go that were kept while views were built.
    Tidy(Tidy),
    /// Stops a run between two portions.
    Stop(OfTable),
    /// Says how far the views are built; changes nothing.
    Status(Which),
}

impl Default for Backfill {
    fn default() -> Self {
        Self::Status(Which::default())
    }
}

impl Backfill {
    /// Whether it changes nothing.
    #[must_use]
    pub fn only_reads(&self) -> bool {
        matches!(self, Self::Estimate(_) | Self::Status(_))
    }
}

/// A source of views.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OfTable {
    /// A table by its name or ARN.
    pub table: String,
}

/// Which sources are meant; none means all.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Which {
    /// A table by its name or ARN.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub table: Option<String>,
}

/// How a run is to go.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Begin {
    /// A table by its name or ARN.
    pub table: String,
    /// In how many segments it is read, 1 to 1000; [`SEGMENTS_DEFAULT`] unless said. A run that
    /// goes on keeps those it has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub segments: Option<u32>,
    /// Read units a second of the whole run at most; [`UNITS_PER_S_DEFAULT`] unless said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_units_per_s: Option<u32>,
    /// Write units a second of the whole run at most; [`UNITS_PER_S_DEFAULT`] unless said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub write_units_per_s: Option<u32>,
    /// The run pauses when it has used so many units, read and written; none is no ceiling.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub units_max: Option<u64>,
    /// Begins again although a run has read everything already.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub again: bool,
    /// Although the table has no stream that would keep the views up to date.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub without_stream: bool,
    /// Reads an export of the table instead of the table. The run begins before the export is
    /// made, and is begun again with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub export: Option<Export>,
}

/// How many segments a run has unless told otherwise.
pub const SEGMENTS_DEFAULT: u32 = 8;
/// What a run uses at most in a second unless told otherwise, of read units and of write units:
/// a quarter of what a new table with on-demand capacity takes in writes.
pub const UNITS_PER_S_DEFAULT: u32 = 1_000;

/// What a call is to work on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Portion {
    /// A table by its name or ARN.
    pub table: String,
    /// The run, as it was begun.
    pub run: String,
    /// Which segment, from 0; the first that nobody works on unless said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub segment: Option<u32>,
    /// The items, if the run reads an export.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub given: Option<Given>,
}

/// How far the stream is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Finish {
    /// A table by its name or ARN.
    pub table: String,
    /// The age of the oldest record that is still to be processed, in milliseconds: Lambda's
    /// metric `IteratorAge`, the largest of the last minutes. Without it the views are ready
    /// when the stream has forgotten everything from before the end of the scan.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub iterator_age_ms: Option<u64>,
}

/// Which rows to let go.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Tidy {
    /// A table by its name or ARN; its views are ready.
    pub table: String,
    /// Goes on where an earlier answer ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// Rows that were let go: they have a time to live now.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Tidied {
    /// How many.
    pub rows: u64,
    /// Where to go on; `None` at the end of the ledger.
    pub cursor: Option<String>,
    /// Read units that were used.
    pub read_units: f64,
    /// Write units that were used.
    pub write_units: f64,
}

/// How much there is, and what bringing it in takes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// The source, by its ARN.
    pub source: String,
    /// The views that read it.
    pub views: Vec<String>,
    /// Items, as DynamoDB counts them about every six hours.
    pub items: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Whether the table has a stream with new images.
    pub has_stream: bool,
    /// Read units: half a unit for 4 KB of the table, and one for each ledger row.
    pub read_units: f64,
    /// Write units if each view has few groups: two for each ledger row, and what the rows of
    /// the views cost when a transaction shares them.
    pub write_units_min: f64,
    /// Write units if every item has a row of its own in each view.
    pub write_units_max: f64,
    /// Of these, what each item takes, wherever it is read from.
    #[serde(default)]
    pub per_item: PerItem,
}

/// Units that bringing one item in takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct PerItem {
    /// Read units to look up its ledger rows.
    pub read_units: f64,
    /// Write units if each view has few groups.
    pub write_units_min: f64,
    /// Write units if every item has a row of its own in each view.
    pub write_units_max: f64,
}

/// A run that was begun.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Begun {
    /// The source, by its ARN.
    pub source: String,
    /// The run.
    pub run: String,
    /// In how many segments it is read.
    pub segments: u32,
    /// How it stands.
    pub state: RunState,
    /// In how many milliseconds it may read its first item: a generation has to be known to
    /// every invocation first.
    #[serde(default)]
    pub wait_ms: u64,
    /// What it reads instead of the table, if anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub export: Option<Export>,
    /// Of which moment an export has to be at least that it reads, in milliseconds since the
    /// epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub export_from_ms: Option<i64>,
}

/// What a call has done.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Worked {
    /// The segment it worked on; none if there was none to be had.
    pub segment: Option<u32>,
    /// How the run stands after it; none if that is not known.
    pub state: Option<RunState>,
    /// What it did.
    pub counts: Counts,
    /// Items that cannot be brought in, the first of them.
    pub not_done: Vec<NotDone>,
    /// Read units that were used.
    pub read_units: f64,
    /// Write units that were used.
    pub write_units: f64,
    /// Why the call ended.
    pub stopped: Option<Stopped>,
    /// How long to wait before the next call, in milliseconds.
    pub wait_ms: u64,
    /// The same in whole seconds, for what cannot wait less.
    #[serde(default)]
    pub wait_s: u64,
    /// How many items of the segment are in, if the run reads an export.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<u64>,
}

/// Why a call of a backfill ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Stopped {
    /// Its segment is read to the end.
    SegmentDone,
    /// All segments are.
    AllDone,
    /// The invocation has no time left.
    Deadline,
    /// The run's rates leave nothing for now.
    Rate,
    /// A store throttled it: the whole run gives way for a while.
    Throttled,
    /// The run has used up its units.
    Units,
    /// The run was stopped.
    Stopped,
    /// Another call works on the segment, or on every segment that is left.
    Leased,
    /// Another call has taken the segment over.
    LeaseLost,
    /// A store did not answer.
    Unanswered,
    /// The generation that is built was registered a moment ago.
    TooEarly,
    /// The items that were given are in, or are not the next of their segment: those at
    /// [`position`](Worked::position) are.
    NextItems,
}

/// What became of items.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Items that were read.
    pub scanned: u64,
    /// Of these, those that came into the views.
    pub added: u64,
    /// Those that the ledger knew already, from the stream or an earlier call.
    pub known: u64,
    /// Of those that came in, those that some view leaves out.
    pub quarantined: u64,
    /// Those that cannot be brought in.
    pub not_done: u64,
}

impl Counts {
    /// Adds what another call has done.
    pub fn add(&mut self, other: Self) {
        self.scanned += other.scanned;
        self.added += other.added;
        self.known += other.known;
        self.quarantined += other.quarantined;
        self.not_done += other.not_done;
    }
}

/// How far views are built.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Every generation of every view of the function.
    pub views: Vec<ViewStatus>,
    /// The runs over their sources.
    pub runs: Vec<RunStatus>,
    /// What the last verifications have found.
    #[serde(default)]
    pub verified: Vec<LastVerified>,
}

/// How far a view is built.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ViewStatus {
    /// The view.
    pub view: String,
    /// Which generation of it, from 1.
    pub generation: u32,
    /// The table of this generation.
    pub table: String,
    /// Whether it is the one that readers are given.
    pub is_current: bool,
    /// How far it is; none if it was never backfilled.
    pub state: Option<ViewState>,
    /// The source that its run reads, by its ARN.
    pub source: Option<String>,
}

/// How a run stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunStatus {
    /// The source, by its ARN.
    pub source: String,
    /// The run.
    pub run: String,
    /// The generations of the source's views that it builds.
    #[serde(default)]
    pub generations: Vec<u32>,
    /// How it stands.
    pub state: RunState,
    /// In how many segments it is read.
    pub segments: u32,
    /// How many are read to the end.
    pub segments_done: u32,
    /// Items of the table when the run began, as DynamoDB counted them.
    pub items_expected: u64,
    /// What it has done.
    pub counts: Counts,
    /// Items that could not be brought in, the first of each segment.
    pub not_done: Vec<NotDone>,
    /// Read units that were used.
    pub read_units: f64,
    /// Write units that were used.
    pub write_units: f64,
    /// When it was begun, in milliseconds since the epoch.
    pub began_ms: i64,
    /// When the last segment was read to the end.
    pub scan_end_ms: Option<i64>,
    /// The chain that works on it, if one was started.
    #[serde(default)]
    pub chain: Option<ChainStatus>,
    /// What it reads instead of the table, if anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub export: Option<Export>,
    /// Until when the views catch up at the longest, without an iterator age.
    pub ready_by_ms: Option<i64>,
    /// The function's own time.
    pub now_ms: i64,
}

/// Which items to bring from their source into the views, whatever the ledger says of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReconcileRequest {
    /// The source: a table by its name or ARN.
    pub table: String,
    /// The keys of the items, as DynamoDB's own JSON: `{"order_id":{"S":"o-1007"}}`.
    pub keys: Vec<Value>,
}

/// What became of items that were to be reconciled.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reconciled {
    /// The views have them as the source has them.
    pub done: u64,
    /// They cannot be brought in.
    pub not_done: Vec<NotDone>,
    /// There was no time for them.
    pub unfinished: u64,
}

/// An item that cannot be brought into the views.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotDone {
    /// The item's key, for people.
    pub key: String,
    /// Code of the reason.
    pub code: String,
    /// The reason.
    pub reason: String,
}
