//! One shard of the mapping and its place in the backlog.

use super::{Setting, backlog::Stream};
use crate::{
    local::mapping::{Entry, Records, Shard, ShardIdentity},
    record::SequenceNumber,
};
use std::collections::VecDeque;

/// So many unfinished records of one shard are read at most while a backoff could pass first,
/// beside two batches for each sub-lane. As many as one read of a Kinesis shard returns.
const READ_AHEAD_MAX: usize = 10_000;

/// A shard and what was read of it.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) name: String,
    pub(super) machine: Shard,
    /// Records up to here were delivered by an earlier run.
    skip_through: Option<SequenceNumber<'static>>,
    /// Positions handed to the machine and not passed by its checkpoint yet.
    unfinished: VecDeque<SequenceNumber<'static>>,
    /// The last record of a batch that is to be sent as it was recorded, full or not. Until then
    /// nothing is read behind it.
    cut: Option<SequenceNumber<'static>>,
    /// Whether the backlog was told that every record has met its fate.
    is_over: bool,
}

impl Lane {
    pub(super) fn new(name: &str, stream: &Stream, setting: &Setting) -> Self {
        let identity = ShardIdentity {
            source: stream.source,
            shard_id: name.to_owned(),
            stream_arn: stream.arn.clone(),
            function_arn: setting.function_arn.clone(),
            mapping_uuid: stream.mapping_uuid.clone(),
            time_zero: stream.time_zero,
        };
        let skip_through = if setting.from_start { None } else { setting.checkpoints.of(name) };
        Self {
            name: name.to_owned(),
            machine: Shard::new(identity, setting.parameters.clone()),
            skip_through,
            unfinished: VecDeque::new(),
            cut: None,
            is_over: false,
        }
    }

    /// Takes the next record, unless an earlier run has delivered it; tells whether it did.
    pub(super) fn offer(&mut self, entry: Entry) -> bool {
        if self.skip_through.as_ref().is_some_and(|through| entry.sequence_number <= *through) {
            return false;
        }
        self.unfinished.push_back(entry.sequence_number.clone());
        self.machine.offer(entry);
        true
    }

    /// The newest record was the last of its batch when it was recorded.
    pub(super) fn cut(&mut self) {
        self.cut = self.unfinished.back().cloned();
    }

    /// Tells the machine whether more is read before it sends a batch that is not full.
    pub(super) fn is_fed(&mut self, is_fed: bool) {
        if self.is_cut() {
            self.machine.cut();
        } else {
            self.machine.at_tip(!is_fed);
        }
    }

    /// Whether a batch is to be sent as it was recorded.
    pub(super) fn is_cut(&self) -> bool {
        self.cut.is_some()
    }

    /// Nothing of a recorded batch is left to be sent; tells whether that is new.
    pub(super) fn forget_cut(&mut self) -> bool {
        self.cut.take().is_some()
    }

    /// A call begins, perhaps that of the recorded batch.
    pub(super) fn sends(&mut self, records: &Records) {
        let last = records.last().map(|last| &last.sequence_number);
        self.cut.take_if(|cut| last == Some(&*cut));
    }

    /// Whether it has not read ahead too far yet.
    pub(super) fn takes_more(&self) -> bool {
        if self.is_cut() {
            return false;
        }
        let parameters = self.machine.parameters();
        let batches = 2 * parameters.parallelization_factor * parameters.batch_size;
        self.unfinished.len() < READ_AHEAD_MAX + batches
    }

    /// Takes note that the machine is done; tells whether that is new.
    pub(super) fn ends(&mut self) -> bool {
        !std::mem::replace(&mut self.is_over, true)
    }

    pub(super) fn is_over(&self) -> bool {
        self.is_over
    }

    pub(super) fn has_unfinished(&self) -> bool {
        !self.unfinished.is_empty()
    }

    /// Drops the positions that the machine's checkpoint has passed; tells whether there were
    /// any.
    pub(super) fn forget_finished(&mut self) -> bool {
        let Some(checkpoint) = self.machine.checkpoint() else { return false };
        let before = self.unfinished.len();
        while self.unfinished.front().is_some_and(|number| number <= checkpoint) {
            self.unfinished.pop_front();
        }
        self.unfinished.len() < before
    }
}
