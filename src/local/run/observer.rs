//! What a run tells whoever watches it.

use crate::{
    local::mapping::{Entry, Millis, OnFailure, Outcome, Records},
    record::SequenceNumber,
};

/// A call of the function that has ended. Of its records it tells no content.
#[derive(Debug)]
pub struct Invoked<'a> {
    /// The shard.
    pub shard: &'a str,
    /// How many records it was called with.
    pub records: usize,
    /// The position of the first of them.
    pub first: Option<&'a SequenceNumber<'static>>,
    /// The position of the last of them.
    pub last: Option<&'a SequenceNumber<'static>>,
    /// When its reply came, in milliseconds since time zero.
    pub at: Millis,
    /// What the mapping takes its end for.
    pub outcome: Outcome,
    /// How long it took, in milliseconds.
    pub took: Millis,
    /// The age of the last of them when the call began, in milliseconds: what AWS calls the
    /// iterator's age.
    pub age: Option<Millis>,
    /// What the function said, where it ended without a reply.
    pub error: Option<&'a str>,
}

/// Hears what a run does while it goes on.
pub trait Observer {
    /// So many records were read in all.
    fn read(&mut self, records: u64);

    /// The mapping has got the reply to a call.
    fn invoked(&mut self, invoked: &Invoked<'_>);

    /// The mapping has given up records.
    fn discarded(&mut self, on_failure: &OnFailure);

    /// The stream had let records of a shard expire.
    fn lost(&mut self, _shard: &str, _records: &Records) {}

    /// A record of a shard was handed to the mapping.
    fn came(&mut self, _shard: &str, _entry: &Entry) {}

    /// A call of the function begins.
    fn begun(&mut self, _shard: &str, _records: &Records) {}

    /// Every record of a shard up to here has met its fate.
    fn passed(&mut self, _shard: &str, _checkpoint: &SequenceNumber<'_>) {}
}

/// Hears of records alone.
pub(super) struct Counting<'p>(pub(super) &'p mut dyn FnMut(u64));

impl Observer for Counting<'_> {
    fn read(&mut self, records: u64) {
        (self.0)(records);
    }

    fn invoked(&mut self, _: &Invoked<'_>) {}

    fn discarded(&mut self, _: &OnFailure) {}
}
