//! One shard, read from its position to its end.
//!
//! The loop never gives up and never skips: a call that fails is made again with the same
//! iterator, an iterator that has expired is renewed behind the last record that was read. An
//! endless empty shard costs one call for each poll. Lambda polls DynamoDB four times a second
//! and Kinesis once (Lambda developer guide, "Polling and batching streams"); an endpoint that
//! says when it was written to is asked then. While there is more, a shard is read up to five
//! times a second, which is all that AWS allows.

use super::{
    LiveError, Notice, Reading,
    buffer::Buffers,
    discovery::Discovery,
    event::{Read, entries},
};
use crate::{
    record::{SequenceNumber, Source, Timestamp},
    recovery::{
        services::CallError,
        stream::{Clients, Page, Position, Shard},
    },
};
use std::{sync::Arc, time::Duration};

/// Five reads a second.
const BETWEEN_READS: Duration = Duration::from_millis(200);
const DYNAMODB_POLL: Duration = Duration::from_millis(250);
const KINESIS_POLL: Duration = Duration::from_secs(1);
/// A call is tried again by itself for so long; then the person is told.
const PATIENCE_MS: i64 = 5_000;
/// Between two attempts that failed for longer.
const PAUSE: Duration = Duration::from_secs(1);
/// The most records that one read returns, unless a batch is larger. Kinesis would return 10,000,
/// but a buffer holds what one read returns, of each shard.
const RECORDS_MAX: u64 = 1_000;
/// The most records that a batch can have, and a read of Kinesis.
const BATCH_MAX: u64 = 10_000;

/// What reads one shard.
#[derive(Debug)]
pub(super) struct Reader {
    pub(super) reading: Arc<Reading>,
    pub(super) clients: Arc<Clients>,
    pub(super) buffers: Arc<Buffers>,
    pub(super) shard_id: String,
    /// With so many entries in its buffer a shard is not read on.
    pub(super) read_ahead: usize,
}

/// Where a reader stands.
struct Place {
    /// What the next iterator begins at.
    position: Position,
    iterator: Option<String>,
    /// Records from before are not handed over: the iterator began before this moment, as
    /// DynamoDB has none for it. Once a record is handed over, all are.
    since: Option<Timestamp>,
    /// The last record that was handed over, now or before the checkpoint: it and those before
    /// it are not handed over again.
    passed: Option<SequenceNumber<'static>>,
    /// The last record that was handed over in this run: the mapping takes none from before it.
    highest: Option<SequenceNumber<'static>>,
    /// Whether the iterator is of a stream that was there before: another of its name may have
    /// taken its place.
    may_be_anew: bool,
    has_read: bool,
}

/// What one call came to.
enum Step {
    /// There is an iterator now, or another position to ask one for.
    Ready,
    Records,
    Nothing,
    End,
}

/// Why there is none.
enum Failed {
    /// The same call may succeed later.
    ForNow(CallError),
    /// A record cannot be delivered, so what is behind it is not either.
    Blocked(LiveError),
    ForGood(LiveError),
}

impl Reader {
    pub(super) async fn read(self, position: Position) {
        self.go_on(Place::at(position)).await;
    }

    /// Reads on from an iterator of LATEST that was asked for at this moment.
    pub(super) async fn read_latest(self, (iterator, asked): (String, Timestamp)) {
        let place = Place { iterator: Some(iterator), ..Place::at(Position::Since(asked)) };
        self.go_on(place).await;
    }

    async fn go_on(self, mut place: Place) {
        let mut is_troubled = false;
        loop {
            self.buffers.room(&self.shard_id, self.read_ahead).await;
            let written = self.reading.written.as_ref().map(|written| written());
            let step = self.step(&mut place).await;
            // An iterator alone says nothing of what stands in the way.
            let goes_on = matches!(&step, Ok(Step::Records | Step::Nothing | Step::End));
            if goes_on && std::mem::take(&mut is_troubled) {
                self.tell(&Notice::Recovered { place: self.place() });
            }
            match step {
                Ok(Step::Ready) => {}
                Ok(Step::Records) if written.is_some() => {}
                Ok(Step::Records) => self.sleep(BETWEEN_READS).await,
                Ok(Step::Nothing) => match written {
                    None => self.sleep(self.poll()).await,
                    Some(written) => {
                        tokio::select! {
                            () = written => {}
                            () = self.sleep(self.poll()) => {}
                        }
                    }
                },
                Ok(Step::End) => return self.buffers.end(&self.shard_id),
                Err(Failed::ForNow(error)) => {
                    if !std::mem::replace(&mut is_troubled, true) {
                        self.tell(&Notice::Trouble { place: self.place(), error });
                    }
                    self.sleep(PAUSE).await;
                }
                Err(Failed::Blocked(error)) => {
                    if !std::mem::replace(&mut is_troubled, true) {
                        self.tell(&Notice::Blocked { error });
                    }
                    self.sleep(PAUSE).await;
                }
                Err(Failed::ForGood(error)) => return self.buffers.fail(error),
            }
        }
    }

    /// One call: for an iterator, or for records.
    async fn step(&self, place: &mut Place) -> Result<Step, Failed> {
        let shard = self.shard();
        let now = self.clients.services.clock().now();
        let deadline = Timestamp(now.0.saturating_add(PATIENCE_MS));
        let Some(iterator) = place.iterator.take() else {
            match shard.iterator(&place.position, deadline).await {
                Ok(iterator) => {
                    if iterator.is_none() {
                        self.sleep(BETWEEN_READS).await;
                    }
                    place.take_iterator(iterator, now);
                }
                Err(error) => return self.move_place(place, error).await,
            }
            return Ok(Step::Ready);
        };
        match shard.records(&iterator, self.records_max(), deadline).await {
            Ok(page) => self.hand_over(page, &shard, place),
            Err(error) if error.code == "ExpiredIteratorException" => {
                self.sleep(BETWEEN_READS).await;
                Ok(Step::Ready)
            }
            Err(error) => {
                place.iterator = (error.code != "TrimmedDataAccessException").then_some(iterator);
                self.move_place(place, error).await
            }
        }
    }

    /// What a refused call changes about the place: nothing, unless the place is not there.
    async fn move_place(&self, place: &mut Place, error: CallError) -> Result<Step, Failed> {
        let (shard_id, after) = (self.shard_id.clone(), place.position.name());
        let is_after = matches!(place.position, Position::After(_));
        let is_first = place.iterator.is_none() && (!place.has_read || place.may_be_anew);
        match error.code.as_str() {
            "TrimmedDataAccessException" if is_after => {
                self.tell(&Notice::Trimmed { shard_id, after });
                place.position = Position::Horizon;
            }
            // Nothing was read yet, so what is asked for again is all there is.
            "TrimmedDataAccessException" => {}
            "InvalidArgumentException" | "ValidationException" if is_after && is_first => {
                self.tell(&Notice::UnknownPosition { shard_id, after });
                let highest = place.highest.take();
                *place = Place { highest, ..Place::at(Position::Horizon) };
            }
            "ResourceNotFoundException" => return self.miss(place, error).await,
            _ => return Err(Failed::ForNow(error)),
        }
        self.sleep(BETWEEN_READS).await;
        Ok(Step::Ready)
    }

    /// Nothing is there: the stream is gone, or it was made anew under its name, or the shard was
    /// trimmed with all its records, which ends it.
    async fn miss(&self, place: &mut Place, error: CallError) -> Result<Step, Failed> {
        let discovery = Discovery::new(Arc::clone(&self.reading), Arc::clone(&self.clients));
        match discovery.list().await {
            Ok(listing) if listing.iter().any(|shard| shard.shard_id == self.shard_id) => {
                place.iterator = None;
                place.may_be_anew = true;
                Err(Failed::ForNow(error))
            }
            Ok(_) => {
                let after = place.position.name();
                self.tell(&Notice::Trimmed { shard_id: self.shard_id.clone(), after });
                Ok(Step::End)
            }
            Err(missing @ LiveError::Missing { .. }) => Err(Failed::ForGood(missing)),
            Err(_) => Err(Failed::ForNow(error)),
        }
    }

    fn hand_over(&self, page: Page, shard: &Shard<'_>, place: &mut Place) -> Result<Step, Failed> {
        let next = page.next.clone();
        let Read { mut entries, last, blocked } = entries(page, shard, &self.reading, place.since);
        // At the horizon, where a trimmed place is left for, they may still be there.
        entries.retain(|it| place.passed.as_ref().is_none_or(|last| it.sequence_number > *last));
        if let (Some(first), Some(last)) = (entries.first(), entries.last()) {
            if place.highest.as_ref().is_some_and(|highest| first.sequence_number <= *highest) {
                let (place, sequence_number) = (self.place(), first.sequence_number.to_string());
                return Err(Failed::ForGood(LiveError::MadeAnew { place, sequence_number }));
            }
            place.highest = Some(last.sequence_number.clone());
            place.since = None;
            self.buffers.push(&self.shard_id, entries);
        }
        let has_records = last.is_some();
        if let Some(last) = last {
            place.passed = place.passed.take().max(Some(last.clone()));
            place.position = Position::After(last);
            (place.has_read, place.may_be_anew) = (true, false);
        }
        if let Some(error) = blocked {
            return Err(Failed::Blocked(error));
        }
        place.iterator = next;
        Ok(match (&place.iterator, has_records) {
            (None, _) => Step::End,
            (Some(_), true) => Step::Records,
            (Some(_), false) => Step::Nothing,
        })
    }

    /// A batch comes whole with one read: at the end of what there is it is not waited for.
    fn records_max(&self) -> u64 {
        let batch = u64::try_from(self.read_ahead).unwrap_or(BATCH_MAX);
        RECORDS_MAX.max(batch).min(BATCH_MAX)
    }

    fn shard(&self) -> Shard<'_> {
        let Reading { source, event_source_arn, .. } = &*self.reading;
        Shard::new(&self.clients, *source, event_source_arn, &self.shard_id)
    }

    pub(super) fn place(&self) -> String {
        self.shard().place()
    }

    fn poll(&self) -> Duration {
        if self.reading.source == Source::Kinesis { KINESIS_POLL } else { DYNAMODB_POLL }
    }

    async fn sleep(&self, duration: Duration) {
        self.clients.services.clock().sleep(duration).await;
    }

    fn tell(&self, notice: &Notice) {
        (self.reading.tell)(notice);
    }
}

impl Place {
    fn at(position: Position) -> Self {
        let passed = match &position {
            Position::After(number) => Some(number.clone()),
            _ => None,
        };
        Self {
            position,
            iterator: None,
            since: None,
            passed,
            highest: None,
            may_be_anew: false,
            has_read: false,
        }
    }

    /// An iterator of LATEST that expires before the first record came is renewed at the moment
    /// of the first. What the first one brings came after it, whatever our clock says.
    fn take_iterator(&mut self, iterator: Option<String>, asked: Timestamp) {
        match self.position {
            Position::Latest => self.position = Position::Since(asked),
            Position::Since(since) => self.since = Some(since),
            _ => {}
        }
        self.iterator = iterator;
    }
}
