//! The event source mapping as a state machine without IO.
//!
//! A [`Shard`] is told what is in the stream ([`Shard::offer`]), what time it is
//! ([`Shard::poll`]) and what the function answered ([`Shard::reply`]); it says what to do
//! next ([`Step`]). It holds no clock, no socket and no source of randomness, so an hour of
//! backoff takes no time, a run can be repeated exactly, and small cases can be enumerated.
//!
//! What it keeps: every record has exactly one fate (the function took it, no filter let it
//! through, it is in exactly one on-failure record, or the stream had let it expire); records of
//! one key are delivered in stream order; the checkpoint never retreats and never passes an
//! unfinished record; the call sequences are those recorded from AWS.
//!
//! Which of a stream's shards may be read at all is a machine of its own ([`Lineage`]).
//!
//! What it gives up: that the stream has let a record expire is found when the record is to be
//! sent, not at the moment itself.

mod checkpoint;
mod lane;
mod lineage;
mod on_failure;
mod parameters;
mod readings;
mod reply;
mod shard;
mod uuid;
mod window;

pub use self::{
    lineage::{Lineage, Listed},
    on_failure::{Condition, OnFailure},
    parameters::{Destination, ParameterError, Parameters, StartingPosition},
    readings::{
        Claim, Neighbours, READINGS, ReadingError, Readings, ShardEnd, WindowStart, one_of,
    },
    reply::{Outcome, Reply},
    shard::Shard,
    window::{STATE_BYTES_MAX, WindowCall},
};

pub(in crate::local) use self::parameters::RETENTION_HOURS;
use crate::record::{SequenceNumber, Source, Timestamp};
use bytes::Bytes;
use std::{
    ops::{Deref, Range},
    sync::Arc,
};

/// Milliseconds of virtual time since time zero.
pub type Millis = u64;

/// The most bytes of an invocation's JSON event, envelope included.
///
/// Source: Lambda's quota of 6 MB for a synchronous payload, read as 6 × 1024².
pub const EVENT_BYTES_MAX: usize = 6 * 1024 * 1024;

const ENVELOPE_OPEN: &[u8] = b"{\"Records\":[";
const ENVELOPE_CLOSE: &[u8] = b"]}";

/// Which shard of which mapping this is; goes into on-failure records and request ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardIdentity {
    /// The service the stream belongs to; decides the shape of the on-failure record.
    pub source: Source,
    /// The shard's own name.
    pub shard_id: String,
    /// The stream the records come from.
    pub stream_arn: String,
    /// The function the mapping calls, as it is mapped (perhaps qualified).
    pub function_arn: String,
    /// The mapping's own identity.
    pub mapping_uuid: String,
    /// The moment that virtual time zero stands for.
    pub time_zero: Timestamp,
}

/// A record as the mapping sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Position within the shard.
    pub sequence_number: SequenceNumber<'static>,
    /// Hash of the item key or partition key: chooses the sub-lane.
    pub key: u64,
    /// The record's own arrival time: reported, and held against the starting position.
    pub arrival: Option<Timestamp>,
    /// When the record came into the stream, in virtual time: its age counts from here.
    /// Zero for a backlog; negative for what was in a live stream before time zero.
    pub present_since: i64,
    /// The record's JSON object, delivered byte for byte.
    pub body: Bytes,
}

/// What one call delivers: consecutive records of one batch, none at a window's end. Cheap to
/// clone, reads as a slice of [`Entry`].
#[derive(Debug, Clone)]
pub struct Records {
    batch: Arc<[Entry]>,
    range: Range<usize>,
    window: Option<Arc<WindowCall>>,
}

impl Records {
    fn whole(batch: Vec<Entry>) -> Self {
        let range = 0..batch.len();
        Self { batch: batch.into(), range, window: None }
    }

    /// The same, as a call of a window.
    fn in_window(&self, window: Option<WindowCall>) -> Self {
        Self { window: window.map(Arc::new), ..self.clone() }
    }

    /// What the function is told of the window that they belong to, if the mapping has windows.
    #[must_use]
    pub fn window(&self) -> Option<&WindowCall> {
        self.window.as_deref()
    }

    /// These and what follows them in their batch, if that is what the others are.
    fn joined(&self, next: &Self) -> Option<Self> {
        let follow = Arc::ptr_eq(&self.batch, &next.batch) && self.range.end == next.range.start;
        follow.then(|| Self { range: self.range.start..next.range.end, ..self.clone() })
    }

    fn split_at(&self, index: usize) -> (Self, Self) {
        let middle = self.range.start + index;
        let left = Self { range: self.range.start..middle, ..self.clone() };
        let right = Self { range: middle..self.range.end, ..self.clone() };
        (left, right)
    }

    /// The JSON event of these records: `{"Records":[…]}`, each record byte for byte, and behind
    /// them what is told of their window.
    #[must_use]
    pub fn event(&self) -> Vec<u8> {
        let mut event = Vec::with_capacity(self.event_bytes());
        event.extend_from_slice(ENVELOPE_OPEN);
        for (index, entry) in self.iter().enumerate() {
            if index > 0 {
                event.push(b',');
            }
            event.extend_from_slice(&entry.body);
        }
        event.push(b']');
        event.extend_from_slice(self.members());
        event.push(b'}');
        event
    }

    fn members(&self) -> &[u8] {
        self.window().map_or(&[], |window| window.members().as_bytes())
    }

    /// The length of the event in bytes.
    fn event_bytes(&self) -> usize {
        let bodies: usize = self.iter().map(|entry| entry.body.len()).sum();
        let commas = self.len().saturating_sub(1);
        ENVELOPE_OPEN.len() + bodies + commas + self.members().len() + ENVELOPE_CLOSE.len()
    }
}

impl Deref for Records {
    type Target = [Entry];

    fn deref(&self) -> &[Entry] {
        &self.batch[self.range.clone()]
    }
}

/// One call of the function that is under way; unique within its shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InvocationId {
    lane: usize,
    serial: u64,
}

impl InvocationId {
    /// The sub-lane that the call is of, counted from 0.
    #[must_use]
    pub fn lane(self) -> usize {
        self.lane
    }
}

/// A call that the driver has to make and to answer with [`Shard::reply`].
#[derive(Debug, Clone)]
pub struct Invocation {
    /// Names this call in the reply.
    pub id: InvocationId,
    /// `awsRequestId`: a UUID, the same for every retry of one work item.
    pub request_id: Arc<str>,
    /// What to deliver.
    pub records: Records,
    /// 1 for the first call with exactly these records, 2 for its first retry, and so on;
    /// calls that never reached the function do not count.
    pub attempt: u32,
    /// Whether these records are a half made by bisecting.
    pub bisected: bool,
}

impl Invocation {
    /// The event to call the function with.
    #[must_use]
    pub fn payload(&self) -> Vec<u8> {
        self.records.event()
    }
}

/// What a shard wants next.
#[derive(Debug)]
#[must_use]
pub enum Step {
    /// Call the function, then give the answer to [`Shard::reply`].
    Invoke(Invocation),
    /// Records were discarded: send this to the on-failure destination, if there is one.
    Deliver(OnFailure),
    /// The stream had let these records expire before they were finished. AWS tells nobody.
    Lost(Records),
    /// A sub-lane waits for records and none has a full batch yet: offer more, or close.
    Read,
    /// Nothing before this moment; calls may be under way beside it.
    Wait(Millis),
    /// Only calls under way can bring progress.
    Busy,
    /// Closed, and every record has met its fate.
    Done,
}
