//! A live stream as the mapping's input: DynamoDB Streams or Kinesis, read as Lambda reads them.
//!
//! One task lists the stream's shards now and then and whenever one ends, one task a shard reads
//! it (`reader`). What they bring stands in a buffer that is never far ahead of the mapping.
//! Which shards are read at all is the mapping's own rule
//! (`Lineage`). The services are reached through the official SDKs,
//! so that AWS, DynamoDB Local, kinesis-local and the desk's own endpoint are read alike.
//!
//! What it keeps: a record is passed only when it was handed over; a read that fails is made
//! again, for as long as the stream is there; a place that the stream has trimmed is told. What
//! it gives up: consumers with enhanced fan-out, and the order in which the shards of different
//! streams would be read.

mod buffer;
mod discovery;
mod error;
mod event;
mod reader;
mod resolve;
#[cfg(test)]
mod tests;

pub use error::{LiveError, Notice};
pub use resolve::{Found, kinesis_stream, table_stream};

use super::{
    checkpoint::Checkpoints,
    mapping::{Lineage, Listed, Parameters, StartingPosition},
    run::{Backlog, Next, RunError, Stream},
};
use crate::{
    record::{Source, Timestamp},
    recovery::{
        services::Services,
        stream::{Clients, Position, Shard},
    },
};
use buffer::Buffers;
use discovery::Discovery;
use futures_util::{FutureExt as _, future::BoxFuture};
use reader::Reader;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    panic::AssertUnwindSafe,
    sync::Arc,
};
use tokio::task::JoinSet;

/// A call that opens a stream may take so long.
const PATIENCE_MS: i64 = 10_000;

/// Resolves after the next write to the stream's endpoint, counted from the call.
pub type Written = Arc<dyn Fn() -> BoxFuture<'static, ()> + Send + Sync>;

/// Hears what a person should know of the reading.
pub type Tell = Arc<dyn Fn(&Notice) + Send + Sync>;

/// What reading a stream needs.
#[derive(Clone)]
pub struct Reading {
    /// How to reach the services.
    pub services: Services,
    /// The service the stream belongs to.
    pub source: Source,
    /// The stream, or the mapping's consumer of it: what its records name.
    pub event_source_arn: String,
    /// The role that the function is invoked with, as records of Kinesis name it.
    pub invoked_as: String,
    /// The mapping's identity, new for every run.
    pub mapping_uuid: String,
    /// Time zero of the run.
    pub time_zero: Timestamp,
    /// Wakes readers, where the endpoint can; else they poll as often as Lambda does.
    pub written: Option<Written>,
    /// Whom to tell.
    pub tell: Tell,
}

impl fmt::Debug for Reading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reading")
            .field("event_source_arn", &self.event_source_arn)
            .finish_non_exhaustive()
    }
}

/// A stream that is being read. Dropping it ends the reading.
#[derive(Debug)]
pub struct Live {
    reading: Arc<Reading>,
    clients: Arc<Clients>,
    buffers: Arc<Buffers>,
    lineage: Lineage,
    /// The shards that were there at the beginning; later ones are read from their horizon.
    initial: BTreeSet<String>,
    starting: Position,
    /// Iterators of LATEST that stand at the beginning, of those that nobody reads yet.
    latest: BTreeMap<String, (String, Timestamp)>,
    checkpoints: Checkpoints,
    read_ahead: usize,
    /// By the run's number.
    begun: Vec<String>,
    tasks: JoinSet<()>,
}

impl Live {
    /// Lists the stream's shards and begins to read it: each shard behind its checkpoint, and
    /// without one at the mapping's starting position. Where that is LATEST, every shard has its
    /// place when this returns, also one that is read later; the checkpoints keep the moment of
    /// the first beginning, and a later run begins there.
    ///
    /// # Errors
    /// The stream is not there, or cannot be reached.
    pub async fn open(
        reading: Reading,
        parameters: &Parameters,
        checkpoints: &mut Checkpoints,
    ) -> Result<Self, LiveError> {
        let reading = Arc::new(reading);
        let clients = Arc::new(Clients::new(&reading.services));
        let discovery = Discovery::new(Arc::clone(&reading), Arc::clone(&clients));
        let listing = discovery.list().await?;
        let now = clients.services.clock().now();
        let starting = starting(parameters, checkpoints, now);
        let (starting, latest) = match starting {
            Position::Latest => {
                let latest = latest(&reading, &clients, &listing, now).await?;
                (Position::Since(now), latest)
            }
            starting => (starting, BTreeMap::new()),
        };
        let buffers = Arc::new(Buffers::default());
        let mut tasks = JoinSet::new();
        tasks.spawn(discovery.repeat(Arc::clone(&buffers)));
        let initial = listing.iter().map(|shard| shard.shard_id.clone()).collect();
        buffers.list(listing);
        Ok(Self {
            reading,
            clients,
            buffers,
            lineage: Lineage::default(),
            initial,
            starting,
            latest,
            checkpoints: checkpoints.clone(),
            read_ahead: parameters.batch_size,
            begun: Vec::new(),
            tasks,
        })
    }

    /// Where the reading of a shard begins.
    fn position(&self, shard_id: &str) -> Position {
        if let Some(number) = self.checkpoints.of(shard_id) {
            return Position::After(number);
        }
        if self.initial.contains(shard_id) { self.starting.clone() } else { Position::Horizon }
    }
}

/// An iterator of LATEST for each shard, also for one that is read when its parents are.
async fn latest(
    reading: &Reading,
    clients: &Clients,
    listing: &[Listed],
    now: Timestamp,
) -> Result<BTreeMap<String, (String, Timestamp)>, LiveError> {
    let deadline = Timestamp(now.0.saturating_add(PATIENCE_MS));
    let mut latest = BTreeMap::new();
    for Listed { shard_id, .. } in listing {
        let shard = Shard::new(clients, reading.source, &reading.event_source_arn, shard_id);
        match shard.iterator(&Position::Latest, deadline).await {
            Ok(Some(iterator)) => {
                latest.insert(shard_id.clone(), (iterator, now));
            }
            // One that has just been trimmed has nothing to read.
            Ok(None) => {}
            Err(error) if error.code == "ResourceNotFoundException" => {}
            Err(error) => return Err(LiveError::Call { place: shard.place(), error }),
        }
    }
    Ok(latest)
}

/// The starting position of shards that have no checkpoint.
fn starting(parameters: &Parameters, kept: &mut Checkpoints, now: Timestamp) -> Position {
    match parameters.starting_position {
        StartingPosition::TrimHorizon => Position::Horizon,
        StartingPosition::AtTimestamp => {
            parameters.starting_timestamp.map_or(Position::Horizon, Position::Since)
        }
        StartingPosition::Latest => {
            let begun = kept.begun();
            if begun.is_none() {
                kept.begin(now);
            }
            begun.map_or(Position::Latest, Position::Since)
        }
    }
}

impl Backlog for Live {
    fn stream(&self) -> Stream {
        Stream {
            source: self.reading.source,
            arn: self.reading.event_source_arn.clone(),
            time_zero: self.reading.time_zero,
            mapping_uuid: self.reading.mapping_uuid.clone(),
        }
    }

    fn begin(&mut self) -> Vec<String> {
        if let Some(listing) = self.buffers.take_listing() {
            self.lineage.learn(&listing);
        }
        let begun = self.lineage.begin();
        for shard_id in &begun {
            let has_checkpoint = self.checkpoints.of(shard_id).is_some();
            let position = self.position(shard_id);
            self.buffers.open(shard_id);
            let reader = Reader {
                reading: Arc::clone(&self.reading),
                clients: Arc::clone(&self.clients),
                buffers: Arc::clone(&self.buffers),
                shard_id: shard_id.clone(),
                read_ahead: self.read_ahead,
            };
            let (buffers, place) = (Arc::clone(&self.buffers), reader.place());
            let latest = self.latest.remove(shard_id).filter(|_| !has_checkpoint);
            let reading = async move {
                match latest {
                    Some(latest) => reader.read_latest(latest).await,
                    None => reader.read(position).await,
                }
            };
            self.tasks.spawn(async move {
                if AssertUnwindSafe(reading).catch_unwind().await.is_err() {
                    buffers.fail(LiveError::BrokenOff { place });
                }
            });
            (self.reading.tell)(&Notice::Begun { shard_id: shard_id.clone() });
        }
        self.begun.extend(begun.iter().cloned());
        begun
    }

    fn has_more(&self, shard: usize) -> bool {
        self.begun.get(shard).is_some_and(|shard_id| self.buffers.has_more(shard_id))
    }

    fn next(&mut self, shard: usize, _: &dyn Fn(usize) -> bool) -> Result<Next, RunError> {
        let Some(shard_id) = self.begun.get(shard) else { return Ok(Next::Nothing) };
        Ok(match self.buffers.take(shard_id) {
            buffer::Taken::Entry(entry) => Next::Record(shard, entry),
            buffer::Taken::Nothing => Next::Nothing,
            buffer::Taken::End => Next::End,
        })
    }

    fn finish(&mut self, shard: usize) {
        let Some(shard_id) = self.begun.get(shard) else { return };
        self.lineage.finish(shard_id);
        self.buffers.close(shard_id);
        (self.reading.tell)(&Notice::Finished { shard_id: shard_id.clone() });
    }

    fn is_live(&self) -> bool {
        true
    }

    async fn changes(&self) -> Result<(), RunError> {
        self.buffers.changes().await.map_err(|error| RunError::Stream(Box::new(error)))
    }
}

/// A shard of a listing.
fn listed(shard_id: &str, parents: impl IntoIterator<Item = Option<String>>) -> Listed {
    let parents = parents.into_iter().flatten().collect();
    Listed { shard_id: shard_id.to_owned(), parents }
}
