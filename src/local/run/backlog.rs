//! Where the records of a run come from: a fixture, or a stream that goes on.
//!
//! Separate because it is all that the run knows of either. A fixture is there as a whole: every
//! shard begins at once, there is always more until there is nothing, and nothing changes by
//! itself. A live stream has shards that begin later, pauses, and no end.

use super::RunError;
use crate::{
    local::{
        mapping::Entry,
        source::{Fed, Feed, Fixtures},
    },
    record::{Source, Timestamp},
};

/// The stream that the records of a run are of.
#[derive(Debug, Clone)]
pub struct Stream {
    /// The service it belongs to.
    pub source: Source,
    /// Its ARN.
    pub arn: String,
    /// The moment that time zero of the run stands for.
    pub time_zero: Timestamp,
    /// The mapping's identity: request ids are made of it, so a live one has another each time.
    pub mapping_uuid: String,
}

/// One step of reading a shard.
#[derive(Debug)]
pub enum Next {
    /// A record, with the number of its shard; perhaps another shard than the one asked for.
    Record(usize, Entry),
    /// The same, and with it ended a batch when it was recorded.
    LastOfBatch(usize, Entry),
    /// Nothing at this moment.
    Nothing,
    /// The shard has ended.
    End,
}

/// What a run reads from. Shards are numbered in the order in which they begin.
pub trait Backlog {
    /// What all its records are of.
    fn stream(&self) -> Stream;

    /// The shards that begin now, each told once.
    fn begin(&mut self) -> Vec<String>;

    /// Whether asking the shard for its next record is of use at this moment.
    fn has_more(&self, shard: usize) -> bool;

    /// The next record of a shard. A backlog that reads shards together may give a record of
    /// another one that `accepts` it.
    ///
    /// # Errors
    /// It cannot be read any more.
    fn next(&mut self, shard: usize, accepts: &dyn Fn(usize) -> bool) -> Result<Next, RunError>;

    /// Takes note that every record of an ended shard has met its fate.
    fn finish(&mut self, shard: usize);

    /// Whether records may come that are not there yet.
    fn is_live(&self) -> bool;

    /// Waits until a shard may begin or may have more than at the last look, and fails if the
    /// stream cannot be read any more. A backlog that is not live waits for ever.
    fn changes(&self) -> impl Future<Output = Result<(), RunError>>;
}

/// The mapping of a fixture; its identity only has to look like one.
const MAPPING_UUID: &str = "00000000-0000-4000-8000-000000000000";

/// A fixture, from its beginning.
#[derive(Debug)]
pub(super) struct Recorded {
    stream: Stream,
    shards: Vec<String>,
    feed: Feed,
}

impl Recorded {
    pub(super) fn new(fixtures: &Fixtures) -> Self {
        let stream = Stream {
            source: fixtures.source(),
            arn: fixtures.stream_arn().to_owned(),
            time_zero: fixtures.time_zero(),
            mapping_uuid: MAPPING_UUID.to_owned(),
        };
        Self { stream, shards: fixtures.shards().to_vec(), feed: fixtures.feed() }
    }
}

impl Backlog for Recorded {
    fn stream(&self) -> Stream {
        self.stream.clone()
    }

    fn begin(&mut self) -> Vec<String> {
        std::mem::take(&mut self.shards)
    }

    fn has_more(&self, _: usize) -> bool {
        true
    }

    fn next(&mut self, shard: usize, accepts: &dyn Fn(usize) -> bool) -> Result<Next, RunError> {
        Ok(match self.feed.next(shard, accepts)? {
            Some(Fed { shard, entry, ends_batch: false }) => Next::Record(shard, entry),
            Some(Fed { shard, entry, ends_batch: true }) => Next::LastOfBatch(shard, entry),
            None => Next::End,
        })
    }

    fn finish(&mut self, _: usize) {}

    fn is_live(&self) -> bool {
        false
    }

    fn changes(&self) -> impl Future<Output = Result<(), RunError>> {
        std::future::pending()
    }
}
