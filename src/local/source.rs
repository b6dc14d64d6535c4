//! Where the desk's records come from: fixtures, read twice.
//!
//! The first pass checks every record and learns what a mapping has to know before it starts:
//! the stream, its shards, and the moment the backlog was complete (time zero of the run's
//! virtual time). The second pass, a [`Feed`], hands the records over one by one. Two passes
//! cost time and buy two things: a mistake in the last line is reported before anything is
//! applied, and memory does not grow with the number of records. What it gives up: a fixture
//! has to be a file, not a pipe.

mod archive;
mod envelope;
mod feed;
mod fixture;
mod lineage;
mod recut;
mod stated;

use super::mapping::Listed;
use crate::record::{Source, Timestamp};
pub use archive::{Archive, Archived};
use envelope::{Envelope, EnvelopeError};
#[cfg(feature = "dev")]
pub(in crate::local) use feed::delivered;
pub use feed::{Fed, Feed};
use fixture::Reader;
use lineage::Shards;
use recut::{Recut, Resharded};
pub(in crate::local) use stated::{LineageError, ShardLine, Stated};
use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

/// The shard of records that name none; in the form of DynamoDB's own shard ids.
const ONLY_SHARD: &str = "shardId-00000000000000000000-00000000";

/// One or several fixture files that passed the first pass: the backlog of one stream.
#[derive(Debug, Clone)]
pub struct Fixtures {
    paths: Vec<PathBuf>,
    source: Source,
    stream_arn: String,
    /// In order of first appearance.
    shards: Vec<Listed>,
    /// For each shard how many lines of the files stand before its end.
    ends: Vec<u64>,
    recut: Option<Arc<Recut>>,
    /// Lines of all files: records, and what states shards.
    lines: u64,
    records: u64,
    time_zero: Timestamp,
}

impl Fixtures {
    /// Reads and checks the files, in the order given: `.json` holds a Lambda event, `.jsonl`
    /// one record a line, and `.gz` after either is taken off.
    ///
    /// # Errors
    /// A file cannot be read or is not a fixture; a record is broken, lacks its sequence
    /// number or stands behind a greater one in its shard or in one that it continues; a shard
    /// begins before its parents end; the records come from more than one stream; there is no
    /// record at all. The message names file and line.
    pub fn open(paths: &[PathBuf]) -> Result<Self, FixtureError> {
        let mut survey = Survey::default();
        let mut reader = Reader::new(paths.to_vec());
        while let Some(raw) = reader.next()? {
            let place = raw.place();
            let added = Line::read(raw.bytes).and_then(|line| match line {
                Line::Record(envelope) => survey.add(&envelope, raw.shard, &place),
                Line::Shard(line) => survey.shards.state(line, &place),
            });
            added.map_err(|problem| place.error(problem))?;
            survey.lines += 1;
        }
        survey.finish(paths)
    }

    /// The same records in shards that are split and merged while the stream goes on, at places
    /// that the seed decides.
    ///
    /// # Errors
    /// The files state themselves which shards continue which.
    pub fn resharded(&self, seed: u64) -> Result<Self, FixtureError> {
        if self.shards.iter().any(|shard| !shard.parents.is_empty()) {
            let path = self.paths.first().cloned().unwrap_or_default();
            return Err(FixtureError::of_file(&path, Problem::Stated));
        }
        let Resharded { recut, shards, ends } = Recut::draw(seed, &self.shards, self.lines);
        Ok(Self { shards, ends, recut: Some(Arc::new(recut)), ..self.clone() })
    }

    /// The service the records come from.
    #[must_use]
    pub fn source(&self) -> Source {
        self.source
    }

    /// The `eventSourceARN` that all records share.
    #[must_use]
    pub fn stream_arn(&self) -> &str {
        &self.stream_arn
    }

    /// The name of the table or the stream, as it stands in the ARN.
    #[must_use]
    pub fn stream_name(&self) -> &str {
        stream_name(&self.stream_arn)
    }

    /// The shards in order of first appearance, with the shards that each continues.
    #[must_use]
    pub fn shards(&self) -> &[Listed] {
        &self.shards
    }

    /// How many records there are.
    #[must_use]
    pub fn records(&self) -> u64 {
        self.records
    }

    /// When the backlog was complete: the newest of the records' own timestamps, and the
    /// epoch where no record has one.
    #[must_use]
    pub fn time_zero(&self) -> Timestamp {
        self.time_zero
    }

    /// Starts the second pass.
    #[must_use]
    pub fn feed(&self) -> Feed {
        Feed::new(self)
    }
}

/// The name in `arn:aws:dynamodb:…:table/NAME/stream/…` or `arn:aws:kinesis:…:stream/NAME`.
pub(in crate::local) fn stream_name(arn: &str) -> &str {
    let resource = arn.splitn(6, ':').nth(5).unwrap_or_default();
    resource.split('/').nth(1).unwrap_or(resource)
}

/// The shard of a record: its own, else its event's, else the only one.
fn shard_of<'r>(envelope: &'r Envelope<'_>, of_event: Option<&'r str>) -> &'r str {
    envelope.shard().or(of_event).unwrap_or(ONLY_SHARD)
}

/// What a line of a fixture says.
enum Line<'a> {
    Record(Envelope<'a>),
    Shard(ShardLine),
}

impl<'a> Line<'a> {
    fn read(text: &'a [u8]) -> Result<Self, Problem> {
        match Envelope::read(text) {
            Ok(envelope) => Ok(Self::Record(envelope)),
            Err(EnvelopeError::NotARecord) => {
                let shard = lineage::read(text).map(Self::Shard);
                shard.ok_or(Problem::Record(EnvelopeError::NotARecord))
            }
            Err(problem) => Err(Problem::Record(problem)),
        }
    }
}

/// What the first pass has learned so far.
#[derive(Debug, Default)]
struct Survey {
    stream: Option<(Source, String)>,
    shards: Shards,
    lines: u64,
    records: u64,
    newest: Option<Timestamp>,
}

impl Survey {
    fn add(
        &mut self,
        envelope: &Envelope<'_>,
        shard_of_event: Option<&str>,
        place: &fixture::Place,
    ) -> Result<(), Problem> {
        self.check_stream(envelope)?;
        let shard = shard_of(envelope, shard_of_event);
        let may_repeat = envelope.source != Source::DynamoDb;
        let place = (place, self.lines);
        self.shards.record(shard, &envelope.sequence_number, may_repeat, place)?;
        self.records += 1;
        self.newest = self.newest.max(envelope.arrival);
        Ok(())
    }

    fn check_stream(&mut self, envelope: &Envelope<'_>) -> Result<(), Problem> {
        match &self.stream {
            None => {
                self.stream = Some((envelope.source, envelope.stream_arn.to_string()));
                Ok(())
            }
            Some((source, _)) if *source != envelope.source => {
                Err(Problem::MixedSources { found: envelope.source, before: *source })
            }
            Some((_, arn)) if *arn != envelope.stream_arn => Err(Problem::MixedStreams {
                found: envelope.stream_arn.to_string(),
                before: arn.clone(),
            }),
            Some(_) => Ok(()),
        }
    }

    fn finish(self, paths: &[PathBuf]) -> Result<Fixtures, FixtureError> {
        let Some((source, stream_arn)) = self.stream else {
            let path = paths.first().cloned().unwrap_or_default();
            return Err(FixtureError::of_file(&path, Problem::NoRecords));
        };
        let (shards, ends) = self.shards.finish();
        Ok(Fixtures {
            paths: paths.to_vec(),
            source,
            stream_arn,
            shards,
            ends,
            recut: None,
            lines: self.lines,
            records: self.records,
            time_zero: self.newest.unwrap_or_default(),
        })
    }
}

/// A fixture cannot be used.
#[derive(Debug)]
pub struct FixtureError {
    path: PathBuf,
    line: Option<u64>,
    problem: Box<Problem>,
}

impl fmt::Display for FixtureError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path.display())?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        write!(f, ": {}", self.problem)
    }
}

impl std::error::Error for FixtureError {
    /// What lies below the problem, which the message has told already.
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.problem.source()
    }
}

impl FixtureError {
    fn of_file(path: &Path, problem: Problem) -> Self {
        Self { path: path.to_owned(), line: None, problem: Box::new(problem) }
    }
}

/// What is wrong with a fixture. Messages name members and positions, never payload values.
#[derive(Debug, thiserror::Error)]
enum Problem {
    #[error("cannot be read")]
    Unreadable(#[source] std::io::Error),
    #[error(
        "{what} has more than {megabytes} MiB, unpacked, and Lambda delivers no more than 6; one \
         record a line goes into a `.jsonl` file"
    )]
    TooLong { what: &'static str, megabytes: u64 },
    #[error("a fixture is read twice and has to be a regular file")]
    NotAFile,
    #[error("a fixture ends in `.json` (a Lambda event) or `.jsonl` (one record a line), or `.gz`")]
    UnknownKind,
    #[error("the Lambda event has no list `Records`; one record a line goes into a `.jsonl` file")]
    NoEvent,
    #[error("broken JSON: {0}")]
    BrokenJson(String),
    #[error("there is no record in it")]
    NoRecords,
    #[error("{0}")]
    Record(EnvelopeError),
    #[error(
        "sequence number {found} of shard `{shard}` does not come after {before} ({place}); \
         records of several shards need a member `shardId`"
    )]
    NotGrowing { shard: String, found: String, before: String, place: String },
    #[error(transparent)]
    Lineage(#[from] LineageError),
    #[error("a record of shard `{shard}`, which ended where its child is stated ({place})")]
    Ended { shard: String, place: String },
    #[error(
        "its lines state which shards continue which, so no seed can reshard it; leave out \
         --reshard"
    )]
    Stated,
    #[error(
        "a record of {} after records of {}; one replay is one event source mapping over one \
         stream", name(*found), name(*before)
    )]
    MixedSources { found: Source, before: Source },
    #[error(
        "a record of `{found}` after records of `{before}`; one replay is one event source \
         mapping over one stream"
    )]
    MixedStreams { found: String, before: String },
}

fn name(source: Source) -> &'static str {
    match source {
        Source::DynamoDb => "DynamoDB",
        Source::Kinesis => "Kinesis",
        Source::Sqs => "SQS",
    }
}

#[cfg(test)]
mod tests {
    use super::stream_name;

    #[test]
    fn the_stream_is_named_by_its_arn() {
        for (arn, name) in [
            ("arn:aws:dynamodb:eu-west-1:1:table/orders/stream/2026-01-01T00:00:00.000", "orders"),
            ("arn:aws:kinesis:eu-west-1:1:stream/clicks", "clicks"),
            ("arn:aws:kinesis:eu-west-1:1:stream/clicks/consumer/views:1", "clicks"),
            ("nonsense", ""),
        ] {
            assert_eq!(stream_name(arn), name, "{arn}");
        }
    }
}
