//! Definitions that change: generations of a view, side by side.
//!
//! A changed or added view is a new generation: it has a table and ledger rows of its own, and the
//! same function feeds it beside what is served. A backfill brings in what the table has, and one
//! conditional write makes it current (`switch`). A command takes a generation away (`drop`).
//!
//! **What a backfill may rely on.** Every invocation asks, with each look at the ledger, at which
//! revision the served views changed last, and does nothing where that is news to it: it reads the
//! registry and begins again. So an invocation that does not know a generation has looked before
//! it was registered, and all its records were created before that. The generation's date is the
//! store's own, of a moment at which it was registered, and nobody serves it before it is dated.
//! Hence every record that is created `CLOCKS_MS` after that date or later goes through
//! functions that know the generation.
//!
//! What was created before may have been finished by a function that does not know it, and a late
//! copy may still come. So the generation takes no such record (unless it has a newer one of the
//! item by then, in which case versions decide), and its backfill reads the table later, at
//! `READ_AFTER_MS` after the date: what it reads contains all of them. The generation is thus
//! what a new ledger is whose mapping began at its date, and the rest is the proof of any backfill
//! (`backfill`). To wait alone would not do: a late copy of an item's older record would replace
//! what the scan brought in, and the newer record, finished long ago, would not come again.
//!
//! **What a drop may rely on.** An invocation that is under way may still write rows of what was
//! dropped, and Lambda ends it within 900 s. So rows are deleted `IN_FLIGHT_MS` later. Numbers
//! of generations, and so their tables and ledger rows, are never used again.
//!
//! What it gives up: while two generations are served, every change costs the write units of both.

mod diff;
mod drop;
mod lookup;
mod switch;

pub use lookup::{Current, LookupError, current_table};

use crate::record::Timestamp;

/// How far the store's date and that of a stream's record may be apart, in milliseconds, and
/// what both round away.
const CLOCKS_MS: i64 = 5_000;
/// So much after its date a generation's backfill reads its first item, in milliseconds: behind
/// the first record that it takes, and behind what an eventually consistent read may miss.
const READ_AFTER_MS: i64 = 60_000;
/// So much after a drop rows are deleted, in milliseconds: no invocation lasts longer.
///
/// Source: "Lambda quotas", function timeout: 900 seconds.
const IN_FLIGHT_MS: i64 = 900_000 + CLOCKS_MS;

/// What the commands that change generations know beside what is served.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked<'a> {
    /// What a table's name begins with.
    pub(super) prefix: &'a str,
}

/// Records that were created before are not for a generation of this date.
pub(super) fn first_record(Timestamp(since): Timestamp) -> Timestamp {
    Timestamp(since.saturating_add(CLOCKS_MS))
}

/// Whether a generation that takes records from `from` on may rely on what was read of its source
/// at this moment.
pub(super) fn may_read(Timestamp(from): Timestamp, Timestamp(read): Timestamp) -> bool {
    read >= from.saturating_add(READ_AFTER_MS - CLOCKS_MS)
}

/// When the backfill of a generation of this date may read its first item.
pub(super) fn first_read(Timestamp(since): Timestamp) -> Timestamp {
    Timestamp(since.saturating_add(READ_AFTER_MS))
}
