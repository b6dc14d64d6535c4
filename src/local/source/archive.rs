//! The records of an archive: the formats of fixtures, without the order of a stream.
//!
//! A run of the desk needs the order in which a shard delivers, and reads its files twice. An
//! archive goes into a ledger, which knows the order by the records' versions, so its files are
//! read once and in any order. What it gives up: what is wrong with the last line is told when
//! everything before it is in.

use super::{FixtureError, Line, Problem, fixture::Reader};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// A record of an archive.
#[derive(Debug)]
pub struct Archived {
    /// The record as Lambda delivers it.
    pub record: Value,
    /// The bytes that it takes.
    pub bytes: usize,
    /// File and line.
    pub place: String,
}

/// Reads the records of files, one after another.
#[derive(Debug)]
pub struct Archive(Reader);

impl Archive {
    /// Opens nothing yet.
    #[must_use]
    pub fn of(paths: Vec<PathBuf>) -> Self {
        Self(Reader::new(paths))
    }

    /// Whether a file's name is one that is read: `.json` holds a Lambda event, `.jsonl` one
    /// record a line, and `.gz` after either is taken off.
    #[must_use]
    pub fn is_read(name: &str) -> bool {
        let name = Path::new(name.strip_suffix(".gz").unwrap_or(name));
        name.extension().is_some_and(|ending| ending == "json" || ending == "jsonl")
    }

    /// The next record; none at the end of the last file.
    ///
    /// # Errors
    /// A file cannot be read, or something in it is no record. The message names file and line.
    pub fn next_record(&mut self) -> Result<Option<Archived>, FixtureError> {
        loop {
            let Some(raw) = self.0.next()? else { return Ok(None) };
            let place = raw.place();
            // An archive has no order, so it does not matter which shards continue which.
            let line = Line::read(raw.bytes).map_err(|problem| place.error(problem))?;
            let Line::Record(envelope) = line else { continue };
            let body = envelope.body();
            let record = serde_json::from_slice(&body);
            let record =
                record.map_err(|error| place.error(Problem::BrokenJson(error.to_string())))?;
            return Ok(Some(Archived { record, bytes: body.len(), place: place.to_string() }));
        }
    }
}
