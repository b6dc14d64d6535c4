//! The raw records of fixture files, each with the place it stands at.
//!
//! Knows file names, compression and lines; what is inside a record is the envelope's affair.
//! A `.jsonl` file is held one line at a time, a Lambda event whole. How much that is at most
//! is said here and not by the file: a megabyte of gzip may unpack to a gigabyte.

use super::{FixtureError, Problem};
use crate::encoding::skip_mark;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::{
    fmt,
    fs::File,
    io::{BufRead, BufReader, Read},
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

/// The longest Lambda event read, in bytes. Lambda delivers 6 MiB; people indent it.
const EVENT_BYTES_MAX: u64 = 64 << 20;
/// The longest line read, in bytes: twice the base64 of the largest Kinesis record.
const LINE_BYTES_MAX: u64 = 32 << 20;

/// Reads the records of several files, one after another.
pub(super) struct Reader {
    paths: std::vec::IntoIter<PathBuf>,
    open: Option<OpenFile>,
}

struct OpenFile {
    path: Arc<Path>,
    records: Records,
}

enum Records {
    Lines {
        input: Box<dyn BufRead>,
        line: Vec<u8>,
        number: u64,
    },
    Event {
        text: Vec<u8>,
        shard: Option<String>,
        spans: std::vec::IntoIter<Span>,
        current: Option<Span>,
    },
}

/// Where a record of a Lambda event stands in its text.
struct Span {
    bytes: Range<usize>,
    line: u64,
}

/// One record as it stands in its file.
pub(super) struct Raw<'a> {
    /// The record's JSON object, without surrounding white space.
    pub(super) bytes: &'a [u8],
    /// The shard its event names: only events of tumbling windows do.
    pub(super) shard: Option<&'a str>,
    path: Arc<Path>,
    line: u64,
}

/// File and line of a record.
#[derive(Debug, Clone)]
pub(super) struct Place {
    path: Arc<Path>,
    line: u64,
}

impl Raw<'_> {
    pub(super) fn place(&self) -> Place {
        Place { path: Arc::clone(&self.path), line: self.line }
    }
}

impl Place {
    pub(super) fn error(&self, problem: Problem) -> FixtureError {
        let problem = Box::new(problem);
        FixtureError { path: self.path.to_path_buf(), line: Some(self.line), problem }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.path.display(), self.line)
    }
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").field("files_left", &self.paths.as_slice()).finish_non_exhaustive()
    }
}

impl Reader {
    pub(super) fn new(paths: Vec<PathBuf>) -> Self {
        Self { paths: paths.into_iter(), open: None }
    }

    /// The next record, or none at the end of the last file.
    pub(super) fn next(&mut self) -> Result<Option<Raw<'_>>, FixtureError> {
        // Advance first and borrow afterwards: a borrow that is returned lasts too long for
        // the loop.
        loop {
            let Some(open) = &mut self.open else {
                let Some(path) = self.paths.next() else { return Ok(None) };
                self.open = Some(OpenFile::open(&path)?);
                continue;
            };
            if open.advance()? {
                break;
            }
            self.open = None;
        }
        Ok(self.open.as_ref().map(OpenFile::current))
    }
}

impl OpenFile {
    fn open(path: &Path) -> Result<Self, FixtureError> {
        let fail = |problem| FixtureError::of_file(path, problem);
        let name = path.to_string_lossy();
        let (name, compressed) = match name.strip_suffix(".gz") {
            Some(inner) => (inner, true),
            None => (name.as_ref(), false),
        };
        let is = |ending: &str| Path::new(name).extension().is_some_and(|found| found == ending);
        if !is("json") && !is("jsonl") {
            return Err(fail(Problem::UnknownKind));
        }
        let file = File::open(path).map_err(|error| fail(Problem::Unreadable(error)))?;
        if !file.metadata().is_ok_and(|metadata| metadata.is_file()) {
            return Err(fail(Problem::NotAFile));
        }
        let input: Box<dyn BufRead> = if compressed {
            Box::new(BufReader::new(flate2::read::MultiGzDecoder::new(file)))
        } else {
            Box::new(BufReader::new(file))
        };
        let records = if is("json") {
            Records::of_event(input).map_err(fail)?
        } else {
            Records::Lines { input, line: Vec::new(), number: 0 }
        };
        Ok(Self { path: path.into(), records })
    }

    /// Moves to the next record; false at the end.
    fn advance(&mut self) -> Result<bool, FixtureError> {
        match &mut self.records {
            Records::Lines { input, line, number } => loop {
                line.clear();
                *number += 1;
                let fail =
                    |problem| Place { path: Arc::clone(&self.path), line: *number }.error(problem);
                let length = Read::take(&mut *input, LINE_BYTES_MAX + 1)
                    .read_until(b'\n', line)
                    .map_err(|error| fail(Problem::Unreadable(error)))?;
                if length == 0 {
                    return Ok(false);
                }
                check_length(line, LINE_BYTES_MAX, "a line").map_err(fail)?;
                if *number == 1 {
                    skip_mark(line).map_err(|error| {
                        FixtureError::of_file(&self.path, Problem::Unreadable(error))
                    })?;
                }
                if !line.trim_ascii().is_empty() {
                    return Ok(true);
                }
            },
            Records::Event { spans, current, .. } => {
                *current = spans.next();
                Ok(current.is_some())
            }
        }
    }

    fn current(&self) -> Raw<'_> {
        let path = Arc::clone(&self.path);
        match &self.records {
            Records::Lines { line, number, .. } => {
                Raw { bytes: line.trim_ascii(), shard: None, path, line: *number }
            }
            Records::Event { text, shard, current, .. } => {
                let (bytes, line) = current
                    .as_ref()
                    .map_or((&[][..], 0), |span| (&text[span.bytes.clone()], span.line));
                Raw { bytes, shard: shard.as_deref(), path, line }
            }
        }
    }
}

/// The outside of a Lambda event.
#[derive(Deserialize)]
struct Event<'a> {
    #[serde(borrow, rename = "Records")]
    records: Vec<&'a RawValue>,
    #[serde(rename = "shardId")]
    shard: Option<String>,
}

impl Records {
    fn of_event(input: impl Read) -> Result<Self, Problem> {
        let mut text = Vec::new();
        input.take(EVENT_BYTES_MAX + 1).read_to_end(&mut text).map_err(Problem::Unreadable)?;
        check_length(&text, EVENT_BYTES_MAX, "a Lambda event")?;
        skip_mark(&mut text).map_err(Problem::Unreadable)?;
        let event: Event<'_> = serde_json::from_slice(&text).map_err(|error| {
            if error.is_data() { Problem::NoEvent } else { Problem::BrokenJson(error.to_string()) }
        })?;
        let mut spans = Vec::with_capacity(event.records.len());
        let (mut line, mut counted_to) = (1, 0);
        for record in &event.records {
            // Where it stands follows from its address: the raw value borrows from the text.
            let start = record.get().as_ptr().addr() - text.as_ptr().addr();
            line += count_lines(&text[counted_to..start]);
            counted_to = start;
            spans.push(Span { bytes: start..start + record.get().len(), line });
        }
        let shard = event.shard;
        Ok(Self::Event { text, shard, spans: spans.into_iter(), current: None })
    }
}

fn check_length(text: &[u8], bytes_max: u64, what: &'static str) -> Result<(), Problem> {
    let megabytes = bytes_max >> 20;
    if text.len() as u64 > bytes_max { Err(Problem::TooLong { what, megabytes }) } else { Ok(()) }
}

fn count_lines(text: &[u8]) -> u64 {
    text.iter().fold(0, |count, byte| count + u64::from(*byte == b'\n'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recovery::park::packed::tests::bomb;

    #[test]
    fn a_file_that_unpacks_to_a_gigabyte_is_read_as_far_as_a_fixture_may_be() {
        // Broken behind what may be read: who goes on finds another fault.
        let mut gigabyte = bomb(1024);
        gigabyte.truncate(gigabyte.len() / 2);
        for (name, expected) in [
            ("bomb.json.gz", "a Lambda event has more than 64 MiB, unpacked"),
            ("bomb.jsonl.gz", "bomb.jsonl.gz:1: a line has more than 32 MiB, unpacked"),
        ] {
            let path = std::env::temp_dir().join(format!("{}-{name}", std::process::id()));
            std::fs::write(&path, &gigabyte).unwrap();
            let read = Reader::new(vec![path.clone()]).next().map(|raw| raw.is_some());
            std::fs::remove_file(&path).unwrap();
            let error = read.unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
