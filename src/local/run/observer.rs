//! What a run tells whoever watches it.

use crate::{
    local::mapping::{Millis, OnFailure, Outcome},
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
