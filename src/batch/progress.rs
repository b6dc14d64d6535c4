//! What is remembered of records beyond the checkpoint: finished ones, attempts, starts.
//!
//! When a batch ends early, Lambda delivers again from the lowest unfinished record, and cuts
//! as it likes: a suffix, halves, sub-lanes, another size. So the place where a record is
//! remembered is a pure function of the record alone: its source and the five minutes it
//! arrived in choose a row, one of [`STRIPES`]; a hash of its position and key is its mark
//! there. Every redelivery, whatever instance gets it, looks in the same place.
//!
//! A row holds a set of marks of finished records, and by mark the attempts, the first failure
//! and the starts without outcome of unfinished ones. Sets are joined and numbers written as
//! sums, so that every write may be sent twice. Rows expire by themselves.
//!
//! What it gives up: a row takes [`MARKS_MAX`] marks; beyond, records are processed again
//! instead of skipped, which is what happens without progress.

use crate::{
    event::Record,
    record::Timestamp,
    store::{
        Item, Store, StoreError,
        rows::{Change, RowKey, number, number_of, text, text_of},
    },
};
use aws_sdk_dynamodb::{primitives::Blob, types::AttributeValue};
use futures_util::future::try_join_all;
use sha2::{Digest, Sha256};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

/// Name of the table's key attribute.
pub const PROGRESS_KEY: &str = "pk";

/// Name of the table's time-to-live attribute.
pub const PROGRESS_TTL: &str = "ttl";

/// How many rows share five minutes of one source.
pub const STRIPES: u8 = 4;

/// The most marks of one row: 88 KB, far from the 400 KB an item may have.
pub const MARKS_MAX: usize = 8_000;

/// Length of the time that shares rows, in milliseconds.
const BUCKET_MS: i64 = 300_000;

/// How long rows outlive the stream's retention, in seconds: a record that was just read may
/// be delivered once more after the stream has forgotten it.
const SLACK_S: i64 = 3_600;

/// Unfinished records that one write of a row can hold: expressions are bounded at 4 KB.
const TRIED_PER_WRITE: usize = 16;

const WRITES: &str = "a String takes all text";

/// 80 bits: with 8,000 records in a row two of them meet once in 10^16 rows.
type Mark = [u8; 10];

/// The memory of what is beyond the checkpoint, in a table of its own.
#[derive(Debug, Clone)]
pub struct Progress {
    store: Store,
    table: String,
    retention_s: i64,
    /// Whether a record that comes alone is marked before it runs.
    pub(super) marks_starts: bool,
}

/// Where one record is remembered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    row: String,
    mark: Mark,
}

/// What earlier deliveries left of one record.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Remembered {
    pub(super) finished: bool,
    pub(super) attempts: u32,
    pub(super) first_failed_ms: Option<i64>,
    /// Starts that had no outcome: the process died each time.
    pub(super) starts: u32,
}

/// What is to be remembered of one record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Note {
    Finished,
    Tried { attempts: u32, first_failed_ms: i64 },
}

/// The rows of one batch, as they were read.
#[derive(Debug, Default)]
pub(super) struct Memory(BTreeMap<String, Row>);

#[derive(Debug)]
struct Row {
    item: Item,
    finished: BTreeSet<Mark>,
}

impl Progress {
    /// A memory in this table. `retention_hours` is how long the stream keeps records.
    #[must_use]
    pub fn new(store: Store, table: String, retention_hours: u32) -> Self {
        let retention_s = i64::from(retention_hours) * 3_600;
        Self { store, table, retention_s, marks_starts: true }
    }

    /// Leaves out the one write that a record costs which comes alone: then a record that
    /// kills the process is not recognised.
    #[must_use]
    pub fn without_crash_marks(self) -> Self {
        Self { marks_starts: false, ..self }
    }

    /// Makes the table, unless it is there already.
    ///
    /// # Errors
    /// The store refuses, or cannot be reached.
    pub async fn ensure_table(&self, deadline: Timestamp) -> Result<(), StoreError> {
        self.store.ensure_table(&self.table, &[PROGRESS_KEY], Some(PROGRESS_TTL), deadline).await
    }

    /// The store it is in.
    pub(super) fn store(&self) -> &Store {
        &self.store
    }

    /// The rows to read for a batch.
    pub(super) fn rows(&self, places: &[Place]) -> Vec<RowKey<'_>> {
        let rows: BTreeSet<&str> = places.iter().map(|place| place.row.as_str()).collect();
        rows.into_iter().map(|row| RowKey { table: &self.table, key: key(row) }).collect()
    }

    /// Takes what belongs to it out of the rows that were read.
    pub(super) fn recall(&self, rows: &[(String, Item)]) -> Memory {
        let mine = rows.iter().filter(|(table, _)| *table == self.table);
        Memory(
            mine.filter_map(|(_, item)| {
                let finished = item.get("ids").and_then(|ids| ids.as_bs().ok());
                let finished = finished.into_iter().flatten();
                let finished = finished.filter_map(|mark| mark.as_ref().try_into().ok()).collect();
                let row = text_of(item, PROGRESS_KEY)?.to_owned();
                Some((row, Row { item: item.clone(), finished }))
            })
            .collect(),
        )
    }

    /// Notes that a record is about to run, as the `starts`th time without an outcome.
    ///
    /// # Errors
    /// The store did not confirm it, so the record must not run.
    pub(super) async fn mark_start(
        &self,
        place: &Place,
        starts: u32,
        (now, deadline): (Timestamp, Timestamp),
    ) -> Result<(), StoreError> {
        let change = Change::update(&self.table, key(&place.row), "SET #s = :s, #t = :t")
            .name("#s", name_of('s', &place.mark))
            .name("#t", PROGRESS_TTL)
            .value(":s", number(starts))
            .value(":t", self.expiry(now));
        self.store.change(&change, deadline).await
    }

    /// Remembers what became of records, all rows at once.
    ///
    /// # Errors
    /// The store did not confirm all of it. Nothing is lost: what is not remembered is
    /// processed again.
    pub(super) async fn remember(
        &self,
        notes: &[(Place, Note)],
        memory: &Memory,
        (now, deadline): (Timestamp, Timestamp),
    ) -> Result<(), StoreError> {
        let mut by_row: BTreeMap<&str, Vec<(&Mark, Note)>> = BTreeMap::new();
        for (place, note) in notes {
            by_row.entry(&place.row).or_default().push((&place.mark, *note));
        }
        let changes = by_row.iter().flat_map(|(row, notes)| self.changes(row, notes, memory, now));
        let changes: Vec<Change> = changes.collect();
        try_join_all(changes.iter().map(|change| self.store.change(change, deadline))).await?;
        Ok(())
    }

    fn changes(
        &self,
        row: &str,
        notes: &[(&Mark, Note)],
        memory: &Memory,
        now: Timestamp,
    ) -> Vec<Change> {
        let known = memory.0.get(row);
        let is_known = |mark: &Mark| known.is_some_and(|row| row.finished.contains(mark));
        let room = MARKS_MAX.saturating_sub(known.map_or(0, |row| row.finished.len()));
        let finished =
            notes.iter().filter(|(mark, note)| matches!(note, Note::Finished) && !is_known(mark));
        let finished: Vec<Blob> =
            finished.take(room).map(|(mark, _)| Blob::new(mark.as_slice())).collect();
        let tried: Vec<(&Mark, u32, i64)> = notes
            .iter()
            .filter_map(|(mark, note)| match note {
                Note::Finished => None,
                Note::Tried { attempts, first_failed_ms } => {
                    Some((*mark, *attempts, *first_failed_ms))
                }
            })
            .collect();
        let mut changes: Vec<Change> =
            tried.chunks(TRIED_PER_WRITE).map(|tried| self.tried(row, tried, now)).collect();
        if !finished.is_empty() {
            changes.push(
                Change::update(&self.table, key(row), "ADD ids :ids SET #t = :t")
                    .name("#t", PROGRESS_TTL)
                    .value(":ids", AttributeValue::Bs(finished))
                    .value(":t", self.expiry(now)),
            );
        }
        changes
    }

    /// Attempts of unfinished records; that they had an outcome takes their starts away.
    fn tried(&self, row: &str, tried: &[(&Mark, u32, i64)], now: Timestamp) -> Change {
        let (mut set, mut remove) = ("SET #t = :t".to_owned(), String::new());
        let mut change = Change::update(&self.table, key(row), "")
            .name("#t", PROGRESS_TTL)
            .value(":t", self.expiry(now));
        for (at, (mark, attempts, first_failed_ms)) in tried.iter().enumerate() {
            write!(set, ", #a{at} = :a{at}, #f{at} = if_not_exists(#f{at}, :f{at})").expect(WRITES);
            write!(remove, "{} #s{at}", if at == 0 { " REMOVE" } else { "," }).expect(WRITES);
            change = change
                .name(format!("#a{at}"), name_of('a', mark))
                .name(format!("#f{at}"), name_of('f', mark))
                .name(format!("#s{at}"), name_of('s', mark))
                .value(format!(":a{at}"), number(attempts))
                .value(format!(":f{at}"), number(first_failed_ms));
        }
        Change { update: Some(set + &remove), ..change }
    }

    fn expiry(&self, Timestamp(now): Timestamp) -> AttributeValue {
        number(now / 1_000 + self.retention_s + SLACK_S)
    }
}

impl Memory {
    /// What is remembered of one record.
    pub(super) fn of(&self, place: &Place) -> Remembered {
        let Some(row) = self.0.get(&place.row) else { return Remembered::default() };
        let field = |kind| name_of(kind, &place.mark);
        Remembered {
            finished: row.finished.contains(&place.mark),
            attempts: number_of(&row.item, &field('a')).unwrap_or(0),
            first_failed_ms: number_of(&row.item, &field('f')),
            starts: number_of(&row.item, &field('s')).unwrap_or(0),
        }
    }
}

impl Place {
    /// The place of a record: a function of the record, never of the batch it comes in.
    pub(super) fn of(record: &Record<'_>) -> Self {
        let source = record.source_arn().unwrap_or_default();
        let Timestamp(arrived) = record.approximate_arrival().unwrap_or_default();
        let mut hash = Sha256::new();
        for part in [
            record.shard_id().filter(|_| record.source() == crate::record::Source::Kinesis),
            Some(&*record.sequence_number().sortable()),
            Some(&*record.ordinal().to_string()),
            record.keys().ok().map(|key| key.canonical()).as_deref(),
        ] {
            let part = part.unwrap_or_default();
            hash.update(part.len().to_le_bytes());
            hash.update(part);
        }
        let hash = hash.finalize();
        let mut mark = Mark::default();
        mark.copy_from_slice(&hash[..10]);
        let row = format!("P#{source}#{}#{}", arrived.div_euclid(BUCKET_MS), hash[10] % STRIPES);
        Self { row, mark }
    }
}

fn key(row: &str) -> Item {
    Item::from([(PROGRESS_KEY.to_owned(), text(row))])
}

/// An attribute of one record in its row.
fn name_of(kind: char, mark: &Mark) -> String {
    format!("{kind}_{}", base64_simd::URL_SAFE_NO_PAD.encode_to_string(mark))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event;

    fn event(arrival: &str, number: &str, stream: &str) -> String {
        format!(
            r#"{{"Records":[{{"kinesis":{{"partitionKey":"a","sequenceNumber":"{number}",
            "data":"e30=","approximateArrivalTimestamp":{arrival}}},"eventSource":"aws:kinesis",
            "eventID":"shardId-000000000006:{number}",
            "eventSourceARN":"arn:aws:kinesis:us-east-2:1:stream/{stream}"}}]}}"#
        )
    }

    #[track_caller]
    fn place(arrival: &str, number: &str, stream: &str) -> Place {
        let payload = event(arrival, number, stream);
        let batch = event::parse(payload.as_bytes());
        Place::of(&batch.records().unwrap()[0])
    }

    #[test]
    fn a_place_belongs_to_the_record_alone() {
        let here = place("1545084650.987", "1", "clicks");
        assert_eq!(here, place("1.545084650987E9", "1", "clicks/consumer/c:1"));
        assert_eq!(
            here.row.rsplit_once('#').unwrap().0,
            "P#arn:aws:kinesis:us-east-2:1:stream/clicks#5150282"
        );
        assert_ne!(here.mark, place("1545084650.987", "2", "clicks").mark);
        assert_ne!(here.row, place("1545094650.987", "1", "clicks").row);
    }
}
