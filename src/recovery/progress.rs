//! What is remembered of records beyond the checkpoint: finished ones, attempts, starts.
//!
//! When a batch ends early, Lambda delivers again from the lowest unfinished record, and cuts
//! as it likes: a suffix, halves, sub-lanes, another size. So the place where a record is
//! remembered is a pure function of the record and of who works on it: consumer, source and
//! the five minutes the record arrived in choose a few rows, and its shard one of them; where
//! the shard is not known, a hash does. A hash of its position, key and data is its mark there.
//! Every redelivery, whatever instance gets it, looks in the same place. Neighbours with one
//! position and the same content have one mark, so they are remembered together or not at all.
//!
//! A row holds a set of marks of finished records, and by mark the attempts, the first failure
//! and the starts without outcome of unfinished ones. Sets are joined and numbers written as
//! sums, so that every write may be sent twice. Rows expire by themselves.
//!
//! What it gives up: a row that is full when it is written takes no more, and its records are
//! processed again instead of skipped, which is what happens without progress. The same comes
//! of another number of stripes, and of rows that were written before consumers were told
//! apart: what is not found is not remembered. No order is lost by that, since a record that is
//! not skipped runs in its lane, before the later ones.

use crate::{
    concurrent,
    event::Record,
    record::{Source, Timestamp},
    store::{
        Item, Store, StoreError, Trouble,
        rows::{Change, RowKey, number, number_of, text, text_of},
    },
};
use aws_sdk_dynamodb::{primitives::Blob, types::AttributeValue};
use sha2::{Digest, Sha256};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

/// Name of the table's key attribute.
pub const PROGRESS_KEY: &str = "pk";

/// Name of the table's time-to-live attribute.
pub const PROGRESS_TTL: &str = "ttl";

/// How many rows share five minutes of one source whose records do not tell their shard,
/// unless told otherwise.
pub const STRIPES_DEFAULT: u16 = 4;

/// A row with so many marks takes no more: 88 KB, and what one more write adds. An item may
/// have 400 KB.
pub const MARKS_MAX: usize = 8_000;

/// Marks that one write adds.
const MARKS_PER_WRITE: usize = 4_000;

/// A row with attempts or starts of so many records takes no more, a hundred bytes each.
pub const TRIED_MAX: usize = 2_000;

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
    stripes: u16,
    consumer: String,
    /// Whether a record that comes alone is marked before it runs.
    pub(crate) marks_starts: bool,
}

/// Where one record is remembered.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    row: String,
    mark: Mark,
}

/// What earlier deliveries left of one record.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Remembered {
    pub(crate) finished: bool,
    pub(crate) attempts: u32,
    /// Those of the attempts that failed without a class.
    pub(crate) unclassified: u32,
    pub(crate) first_failed_ms: Option<i64>,
    /// Starts that had no outcome: the process died each time.
    pub(crate) starts: u32,
}

/// What is to be remembered of one record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Note {
    Finished,
    Tried { attempts: u32, unclassified: u32, first_failed_ms: i64 },
}

/// The rows of one batch, as they were read.
#[derive(Debug, Default)]
pub(crate) struct Memory(BTreeMap<String, Row>);

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
        let consumer = String::new();
        Self { store, table, retention_s, stripes: STRIPES_DEFAULT, consumer, marks_starts: true }
    }

    /// Chooses how many rows share five minutes of a source whose records do not tell their
    /// shard, at least one. It may be changed at any time: what is remembered under another
    /// number is not found, so those records are processed again.
    #[must_use]
    pub fn with_stripes(self, stripes: u16) -> Self {
        Self { stripes: stripes.max(1), ..self }
    }

    /// What one consumer remembers.
    pub(crate) fn of_consumer(&self, consumer: String) -> Self {
        Self { consumer, ..self.clone() }
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
    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    /// The rows to read for a batch.
    pub(crate) fn rows(&self, places: &[Place]) -> Vec<RowKey<'_>> {
        let rows: BTreeSet<&str> = places.iter().map(|place| place.row.as_str()).collect();
        rows.into_iter().map(|row| RowKey { table: &self.table, key: key(row) }).collect()
    }

    /// Takes what belongs to it out of the rows that were read.
    pub(crate) fn recall(&self, rows: &[(String, Item)]) -> Memory {
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

    /// Notes that a record is about to run, as the `starts`th time without an outcome. In a
    /// row that is full it is not noted, and the record may run all the same.
    ///
    /// # Errors
    /// The store did not confirm it, so the record must not run.
    pub(crate) async fn mark_start(
        &self,
        (place, memory): (&Place, &Memory),
        starts: u32,
        (now, deadline): (Timestamp, Timestamp),
    ) -> Result<(), StoreError> {
        let update = "SET #s = :s, #t = :t";
        let change = Change::update(&self.table, key(&place.row), update)
            .name("#s", name_of('s', &place.mark))
            .name("#t", PROGRESS_TTL)
            .value(":s", number(starts))
            .value(":t", self.expiry(now));
        let new = usize::from(!memory.has_tried(&place.row, &place.mark));
        noted(self.store.change(&counting(change, new), deadline).await).map(drop)
    }

    /// Remembers what became of records, several rows at a time; how many writes found their
    /// row full.
    ///
    /// # Errors
    /// The store did not confirm all of it. Nothing is lost: what is not remembered is
    /// processed again.
    pub(crate) async fn remember(
        &self,
        notes: &[(Place, Note)],
        memory: &Memory,
        (now, deadline): (Timestamp, Timestamp),
    ) -> Result<u64, StoreError> {
        let mut by_row: BTreeMap<&str, Vec<(&Mark, Note)>> = BTreeMap::new();
        for (place, note) in notes {
            by_row.entry(&place.row).or_default().push((&place.mark, *note));
        }
        let changes = by_row.iter().flat_map(|(row, notes)| self.changes(row, notes, memory, now));
        let changes: Vec<Change> = changes.collect();
        let writes = changes.iter().map(|change| self.store.change(change, deadline));
        let (mut full, mut failed) = (0, None);
        for result in concurrent::all(writes).await {
            match noted(result) {
                Ok(is_noted) => full += u64::from(!is_noted),
                Err(error) => failed = Some(error),
            }
        }
        failed.map_or(Ok(full), Err)
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
        let finished =
            notes.iter().filter(|(mark, note)| matches!(note, Note::Finished) && !is_known(mark));
        // One mark may be there twice, and a set takes it once.
        let finished: BTreeSet<&Mark> = finished.map(|(mark, _)| *mark).collect();
        let finished: Vec<Blob> =
            finished.into_iter().map(|mark| Blob::new(mark.as_slice())).collect();
        let tried: BTreeMap<&Mark, [i64; 3]> = notes
            .iter()
            .filter_map(|(mark, note)| match *note {
                Note::Finished => None,
                Note::Tried { attempts, unclassified, first_failed_ms } => {
                    Some((*mark, [attempts.into(), unclassified.into(), first_failed_ms]))
                }
            })
            .collect();
        // Those that are there already need no room.
        let (known, new): (Vec<_>, Vec<_>) =
            tried.into_iter().partition(|(mark, _)| memory.has_tried(row, mark));
        let again = known.chunks(TRIED_PER_WRITE).map(|tried| self.tried(row, tried, now));
        let first = new.chunks(TRIED_PER_WRITE);
        let first = first.map(|tried| counting(self.tried(row, tried, now), tried.len()));
        let finished = finished.chunks(MARKS_PER_WRITE).map(|marks| {
            Change::update(&self.table, key(row), "ADD ids :ids SET #t = :t")
                .only_if("attribute_not_exists(ids) OR size(ids) < :max")
                .name("#t", PROGRESS_TTL)
                .value(":ids", AttributeValue::Bs(marks.to_vec()))
                .value(":max", number(MARKS_MAX))
                .value(":t", self.expiry(now))
        });
        again.chain(first).chain(finished).collect()
    }

    /// Attempts of unfinished records; that they had an outcome takes their starts away.
    fn tried(&self, row: &str, tried: &[(&Mark, [i64; 3])], now: Timestamp) -> Change {
        let (mut set, mut remove) = ("SET #t = :t".to_owned(), String::new());
        let mut change = Change::update(&self.table, key(row), "")
            .name("#t", PROGRESS_TTL)
            .value(":t", self.expiry(now));
        for (at, (mark, [attempts, unclassified, first_failed_ms])) in tried.iter().enumerate() {
            write!(set, ", #a{at} = :a{at}, #u{at} = :u{at}").expect(WRITES);
            write!(set, ", #f{at} = if_not_exists(#f{at}, :f{at})").expect(WRITES);
            write!(remove, "{} #s{at}", if at == 0 { " REMOVE" } else { "," }).expect(WRITES);
            change = change
                .name(format!("#a{at}"), name_of('a', mark))
                .name(format!("#u{at}"), name_of('u', mark))
                .name(format!("#f{at}"), name_of('f', mark))
                .name(format!("#s{at}"), name_of('s', mark))
                .value(format!(":a{at}"), number(attempts))
                .value(format!(":u{at}"), number(unclassified))
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
    pub(crate) fn of(&self, place: &Place) -> Remembered {
        let Some(row) = self.0.get(&place.row) else { return Remembered::default() };
        let field = |kind| name_of(kind, &place.mark);
        Remembered {
            finished: row.finished.contains(&place.mark),
            attempts: number_of(&row.item, &field('a')).unwrap_or(0),
            unclassified: number_of(&row.item, &field('u')).unwrap_or(0),
            first_failed_ms: number_of(&row.item, &field('f')),
            starts: number_of(&row.item, &field('s')).unwrap_or(0),
        }
    }

    /// Whether a row has attempts or starts of a record.
    fn has_tried(&self, row: &str, mark: &Mark) -> bool {
        let row = self.0.get(row);
        row.is_some_and(|row| {
            ['a', 's'].iter().any(|kind| row.item.contains_key(&name_of(*kind, mark)))
        })
    }
}

/// A change that adds attempts or starts of so many records to a row, if that has room. What is
/// counted twice, because an answer was lost, only makes it full earlier.
fn counting(change: Change, new: usize) -> Change {
    if new == 0 {
        return change;
    }
    let update = change.update.clone().unwrap_or_default() + " ADD tried :new";
    Change { update: Some(update), ..change }
        .only_if("attribute_not_exists(tried) OR tried < :max")
        .value(":new", number(new))
        .value(":max", number(TRIED_MAX))
}

/// Whether a write was made; not if its row is full.
fn noted(written: Result<(), StoreError>) -> Result<bool, StoreError> {
    match written {
        Ok(()) => Ok(true),
        Err(error) if error.trouble == Trouble::Guard => Ok(false),
        Err(error) => Err(error),
    }
}

impl Progress {
    /// The place of a record: a function of the record, never of the batch it comes in.
    pub(crate) fn place(&self, record: &Record<'_>) -> Place {
        let source = record.source_arn().unwrap_or_default();
        let Timestamp(arrived) = record.approximate_arrival().unwrap_or_default();
        let mut hash = Sha256::new();
        let shard = record.shard_id().filter(|_| record.source() == Source::Kinesis);
        for part in [
            shard,
            Some(&*record.sequence_number().sortable()),
            record.keys().ok().map(|key| key.canonical()).as_deref(),
            record.data_text(),
        ] {
            let part = part.unwrap_or_default();
            hash.update(part.len().to_le_bytes());
            hash.update(part);
        }
        if let Some(place) = record.sub_sequence() {
            hash.update(place.to_le_bytes());
        }
        let hash = hash.finalize();
        let mut mark = Mark::default();
        mark.copy_from_slice(&hash[..10]);
        let (consumer, minutes) = (&self.consumer, arrived.div_euclid(BUCKET_MS));
        let row = if let Some(shard) = shard {
            format!("P#{consumer}#{source}#{minutes}#{shard}")
        } else {
            let stripe = u16::from_be_bytes([hash[10], hash[11]]) % self.stripes;
            format!("P#{consumer}#{source}#{minutes}#{stripe}")
        };
        Place { row, mark }
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
mod tests;
