//! The second pass: records on demand, for the shards that can take them.
//!
//! All shards share one reader as long as they keep pace. When the next record belongs to a
//! shard that takes no more for now (its head is being retried), that shard gets a reader of
//! its own at this place and the others go on: a stuck shard holds up no other one, and
//! nothing is kept in memory for it. So does a shard that may not begin yet.

#[cfg(feature = "dev")]
use super::envelope::EnvelopeError;
use super::{
    FixtureError, Fixtures, Line, envelope::Envelope, fixture::Reader, recut::Recut, shard_of,
};
use crate::local::mapping::Entry;
use bytes::Bytes;
use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
};

/// A record of a fixture.
#[derive(Debug, Clone)]
pub struct Fed {
    /// The number of its shard in [`Fixtures::shards`](super::Fixtures::shards).
    pub shard: usize,
    /// The record.
    pub entry: Entry,
    /// Whether a batch ended with it when it was recorded.
    pub ends_batch: bool,
}

/// Hands over the records of checked fixtures, in the order of each shard.
#[derive(Debug)]
pub struct Feed {
    paths: Vec<PathBuf>,
    shards: BTreeMap<String, usize>,
    /// For each shard how many lines stand before its end.
    ends: Vec<u64>,
    recut: Option<Arc<Recut>>,
    cursors: Vec<Cursor>,
}

/// One reader and the shards it reads for.
#[derive(Debug)]
struct Cursor {
    reader: Reader,
    /// How many lines this reader has passed.
    position: u64,
    shards: BTreeSet<usize>,
}

impl Feed {
    pub(super) fn new(fixtures: &Fixtures) -> Self {
        let reader = Reader::new(fixtures.paths.clone());
        let shards = 0..fixtures.shards.len();
        let cursor = Cursor { reader, position: 0, shards: shards.clone().collect() };
        let names = fixtures.shards.iter().map(|shard| shard.shard_id.clone());
        Self {
            paths: fixtures.paths.clone(),
            shards: names.zip(shards).collect(),
            ends: fixtures.ends.clone(),
            recut: fixtures.recut.clone(),
            cursors: vec![cursor],
        }
    }

    /// Reads on towards the next record of the shard `wanted` and returns the first record
    /// met of a shard that `accepts`. None means that `wanted` has no more.
    ///
    /// # Errors
    /// A file cannot be read any more or differs from the first pass.
    pub fn next(
        &mut self,
        wanted: usize,
        accepts: impl Fn(usize) -> bool,
    ) -> Result<Option<Fed>, FixtureError> {
        let Some(at) = self.cursors.iter().position(|cursor| cursor.shards.contains(&wanted))
        else {
            return Ok(None);
        };
        if self.cursors[at].position >= self.ends[wanted] {
            return Ok(None);
        }
        let mut found = None;
        let mut left_behind = Vec::new();
        let cursor = &mut self.cursors[at];
        while let Some(raw) = cursor.reader.next()? {
            let (place, position) = (raw.place(), cursor.position);
            cursor.position += 1;
            let line = Line::read(raw.bytes).map_err(|problem| place.error(problem))?;
            let Line::Record(envelope) = line else { continue };
            let shard = self.shards.get(shard_of(&envelope, raw.shard)).copied();
            let shard = match (&self.recut, shard) {
                (Some(recut), Some(shard)) => Some(recut.shard_of(shard, envelope.key(), position)),
                (_, shard) => shard,
            };
            if let Some(shard) = shard.filter(|shard| cursor.shards.contains(shard)) {
                if shard == wanted || accepts(shard) {
                    let (entry, ends_batch) = (entry(&envelope), envelope.ends_batch());
                    found = Some(Fed { shard, entry, ends_batch });
                    break;
                }
                cursor.shards.remove(&shard);
                left_behind.push((shard, position));
            }
        }
        if found.is_none() {
            self.cursors.remove(at);
        }
        for (shard, position) in left_behind {
            let cursor = self.reopen(shard, position)?;
            self.cursors.push(cursor);
        }
        Ok(found)
    }

    /// A reader for one shard that stands before the line at `position`.
    fn reopen(&self, shard: usize, position: u64) -> Result<Cursor, FixtureError> {
        let mut reader = Reader::new(self.paths.clone());
        for _ in 0..position {
            reader.next()?;
        }
        Ok(Cursor { reader, position, shards: BTreeSet::from([shard]) })
    }
}

/// The entry of a record that a stream has given, from the text that Lambda would deliver.
#[cfg(feature = "dev")]
pub(in crate::local) fn delivered(text: &[u8]) -> Result<Entry, EnvelopeError> {
    Envelope::read(text).map(|envelope| entry(&envelope))
}

fn entry(envelope: &Envelope<'_>) -> Entry {
    Entry {
        sequence_number: envelope.sequence_number.clone().into_owned(),
        key: envelope.key(),
        arrival: envelope.arrival,
        present_since: 0,
        body: Bytes::from(envelope.body()),
    }
}
