//! Where the records of a run come from: a fixture, or a stream that goes on.
//!
//! Separate because it is all that the run knows of either. A fixture is there as a whole: there
//! is always more until there is nothing, and nothing changes by itself. A live stream has pauses,
//! and no end. In both a shard begins when those are finished that it continues.

use super::RunError;
use crate::{
    local::{
        mapping::{Entry, Lineage},
        source::{Fed, Feed, Fixtures},
    },
    record::{Source, Timestamp},
};
use std::collections::BTreeMap;

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
    /// No more was recorded of the shard, which has not ended.
    Over,
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
    /// The names, by the feed's numbers.
    shards: Vec<String>,
    lineage: Lineage,
    feed: Feed,
    /// The feed's numbers, by the run's.
    begun: Vec<usize>,
    /// The run's numbers, by the feed's.
    numbers: BTreeMap<usize, usize>,
}

impl Recorded {
    pub(super) fn new(fixtures: &Fixtures) -> Self {
        let stream = Stream {
            source: fixtures.source(),
            arn: fixtures.stream_arn().to_owned(),
            time_zero: fixtures.time_zero(),
            mapping_uuid: MAPPING_UUID.to_owned(),
        };
        let mut lineage = Lineage::default();
        lineage.learn(fixtures.shards());
        Self {
            stream,
            shards: fixtures.shards().iter().map(|shard| shard.shard_id.clone()).collect(),
            lineage,
            feed: fixtures.feed(),
            begun: Vec::new(),
            numbers: BTreeMap::new(),
        }
    }
}

impl Backlog for Recorded {
    fn stream(&self) -> Stream {
        self.stream.clone()
    }

    /// In the order in which the fixture has them.
    fn begin(&mut self) -> Vec<String> {
        let open = self.lineage.begin();
        if open.is_empty() {
            return open;
        }
        let in_order = self.shards.iter().enumerate().filter(|(_, name)| open.contains(name));
        let mut names = Vec::new();
        for (number, name) in in_order {
            self.numbers.insert(number, self.begun.len());
            self.begun.push(number);
            names.push(name.clone());
        }
        names
    }

    fn has_more(&self, _: usize) -> bool {
        true
    }

    fn next(&mut self, shard: usize, accepts: &dyn Fn(usize) -> bool) -> Result<Next, RunError> {
        let Some(wanted) = self.begun.get(shard).copied() else { return Ok(Next::Over) };
        let accepts = |other: usize| self.numbers.get(&other).copied().is_some_and(accepts);
        let Some(Fed { shard: of, entry, ends_batch }) = self.feed.next(wanted, accepts)? else {
            let has_ended = self.lineage.is_continued(&self.shards[wanted]);
            return Ok(if has_ended { Next::End } else { Next::Over });
        };
        let Some(&of) = self.numbers.get(&of) else { return Ok(Next::Over) };
        Ok(if ends_batch { Next::LastOfBatch(of, entry) } else { Next::Record(of, entry) })
    }

    fn finish(&mut self, shard: usize) {
        if let Some(name) = self.begun.get(shard).and_then(|number| self.shards.get(*number)) {
            self.lineage.finish(name);
        }
    }

    fn is_live(&self) -> bool {
        false
    }

    fn changes(&self) -> impl Future<Output = Result<(), RunError>> {
        std::future::pending()
    }
}
