//! What comes through a mapping, written down as a fixture.
//!
//! A record is written when its batch is sent for the first time, or when it has met its fate
//! without: so the file ends with a whole batch whenever the program ends, and the last record of
//! each batch says that it is the last. A replay sends the same batches, and the function's answers
//! decide what they are cut into. What it gives up: with several batches of a shard at once the
//! batches are not marked.

use crate::{
    local::mapping::{Entry, Records},
    record::SequenceNumber,
};
use bytes::Bytes;
use serde_json::json;
use std::{
    collections::{BTreeMap, VecDeque},
    fs::File,
    io::{self, Write as _},
    path::Path,
};

/// Writes one fixture.
#[derive(Debug)]
pub(super) struct Recorder {
    file: File,
    marks_batches: bool,
    shards: BTreeMap<String, Pending>,
    /// The last record of each shard that is written.
    written: BTreeMap<String, SequenceNumber<'static>>,
}

/// Records of a shard that are not written yet, in their order.
#[derive(Debug, Default)]
struct Pending(VecDeque<(SequenceNumber<'static>, Bytes)>);

/// A file of records cannot be made.
#[derive(Debug, thiserror::Error)]
pub(super) enum RecordError {
    #[error("{0} is there already; name another file to record into, or remove it")]
    IsThere(String),
    #[error("{0} cannot be written")]
    Unwritable(String, #[source] io::Error),
}

impl Recorder {
    /// Makes the file.
    pub(super) fn create(path: &Path, parallelization_factor: usize) -> Result<Self, RecordError> {
        let name = path.display().to_string();
        let made = File::options().write(true).create_new(true).open(path);
        let file = made.map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => RecordError::IsThere(name),
            _ => RecordError::Unwritable(name, error),
        })?;
        Ok(Self {
            file,
            marks_batches: parallelization_factor == 1,
            shards: BTreeMap::new(),
            written: BTreeMap::new(),
        })
    }

    /// Another session reads on from the checkpoint: what is not written comes again, and so does
    /// some of what is.
    pub(super) fn reads_again(mut self) -> Self {
        self.shards.clear();
        self
    }

    /// A record was handed to the mapping.
    pub(super) fn came(&mut self, shard: &str, entry: &Entry) {
        if self.written.get(shard).is_some_and(|last| entry.sequence_number <= *last) {
            return;
        }
        let record = (entry.sequence_number.clone(), entry.body.clone());
        if let Some(pending) = self.shards.get_mut(shard) {
            pending.0.push_back(record);
        } else {
            self.shards.insert(shard.to_owned(), Pending([record].into()));
        }
    }

    /// A call begins: the first one of a batch, or one of what is left of it.
    pub(super) fn begun(&mut self, shard: &str, records: &Records) -> io::Result<()> {
        let Some(last) = records.last() else { return Ok(()) };
        self.write(shard, &last.sequence_number, self.marks_batches)
    }

    /// All up to here have met their fate.
    pub(super) fn passed(&mut self, shard: &str, through: &SequenceNumber<'_>) -> io::Result<()> {
        self.write(shard, through, false)
    }

    fn write(
        &mut self,
        shard: &str,
        through: &SequenceNumber<'_>,
        ends_batch: bool,
    ) -> io::Result<()> {
        let Some(Pending(pending)) = self.shards.get_mut(shard) else { return Ok(()) };
        let count = pending.iter().take_while(|(number, _)| number <= through).count();
        let mut lines = Vec::new();
        if let Some((last, _)) = count.checked_sub(1).and_then(|last| pending.get(last)) {
            self.written.insert(shard.to_owned(), last.clone());
        }
        for (at, (_, body)) in pending.drain(..count).enumerate() {
            let mark = if ends_batch && at + 1 == count { ",\"endsBatch\":true" } else { "" };
            write!(lines, "{{\"shardId\":{}{mark},", json!(shard))?;
            // A record is an object with members, as the mapping has read it.
            let members = body.trim_ascii_start().strip_prefix(b"{").unwrap_or_default();
            lines.extend(members.iter().filter(|byte| **byte != b'\n'));
            lines.push(b'\n');
        }
        self.file.write_all(&lines)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_another_session_reads_again_is_written_once() {
        let path = std::env::temp_dir().join(format!("changefold-record-{}", std::process::id()));
        let number = |number: u32| SequenceNumber::new(number.to_string()).unwrap();
        let entry = |at: u32| Entry {
            sequence_number: number(at),
            key: 0,
            arrival: None,
            present_since: 0,
            body: Bytes::from(format!("{{\"n\":{at}}}")),
        };
        let mut recorder = Recorder::create(&path, 1).unwrap();
        for at in 1..=6 {
            recorder.came("a", &entry(at));
        }
        recorder.passed("a", &number(4)).unwrap();
        let mut recorder = recorder.reads_again();
        // From a checkpoint before what is written.
        for at in 3..=8 {
            recorder.came("a", &entry(at));
        }
        recorder.passed("a", &number(8)).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let numbers: Vec<&str> = text.lines().map(|line| &line[line.len() - 2..]).collect();
        assert_eq!(numbers, ["1}", "2}", "3}", "4}", "5}", "6}", "7}", "8}"]);
    }
}
