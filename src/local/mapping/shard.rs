//! One shard of a mapping: its sub-lanes, its one checkpoint, and whose turn it is.
//!
//! Records are spread over `ParallelizationFactor` sub-lanes by the hash of their key. AWS
//! documents only that the order per key is kept; sub-lanes keep it and make a run
//! repeatable. What it gives up: a sub-lane whose keys are rare waits with a part of a batch
//! until the input closes, as reading on for it alone would hold the whole input in memory.

use super::{
    Entry, InvocationId, Millis, OnFailure, Outcome, Parameters, Records, Reply, ShardIdentity,
    Step,
    checkpoint::Progress,
    lane::{Fates, Input, Lane, LaneStep, positions},
};
use crate::record::SequenceNumber;
use std::{collections::VecDeque, sync::Arc};

/// The state machine of one shard.
#[derive(Debug)]
pub struct Shard {
    identity: Arc<ShardIdentity>,
    parameters: Parameters,
    lanes: Vec<Lane>,
    /// The sub-lane to look at first, so that none starves.
    turn: usize,
    input: Input,
    progress: Progress,
    partings: VecDeque<Parting>,
    bisects: u64,
    filtered: u64,
    /// Whether a record was met that the mapping begins with.
    has_begun: bool,
    passed: u64,
    lost: u64,
}

/// Records that no call will have any more, and who is told so.
#[derive(Debug)]
enum Parting {
    /// The destination.
    Discarded(OnFailure),
    /// Nobody at AWS.
    Lost(Records),
}

impl Shard {
    /// An open shard without records.
    #[must_use]
    pub fn new(identity: ShardIdentity, parameters: Parameters) -> Self {
        let identity = Arc::new(identity);
        let lanes = (0..parameters.parallelization_factor.max(1))
            .map(|i| Lane::new(i, &identity))
            .collect();
        Self {
            identity,
            parameters,
            lanes,
            turn: 0,
            input: Input::More,
            progress: Progress::default(),
            partings: VecDeque::new(),
            bisects: 0,
            filtered: 0,
            has_begun: false,
            passed: 0,
            lost: 0,
        }
    }

    /// Adds the next record of the shard. One that came before the mapping's starting position,
    /// or that no filter takes, has met its fate with that: it joins no batch, and the checkpoint
    /// passes it like a finished one.
    ///
    /// # Panics
    /// It was said that no more would come, or the record's sequence number is lower than one
    /// before it.
    pub fn offer(&mut self, entry: Entry) {
        assert!(!self.input.is_final(), "no more records were to come");
        self.progress.begin(&entry.sequence_number);
        self.has_begun = self.has_begun || self.parameters.begins_at(entry.arrival);
        if !self.has_begun {
            self.passed += 1;
            self.progress.resolve(&entry.sequence_number);
            return;
        }
        // AWS filters before batches are made and does not filter again at a retry.
        if !self.parameters.filters.takes(self.identity.source, &entry.body) {
            self.filtered += 1;
            self.progress.resolve(&entry.sequence_number);
            return;
        }
        let lanes = self.lanes.len() as u64;
        let lane = usize::try_from(entry.key % lanes).expect("there are at most ten lanes");
        self.lanes[lane].push(entry);
    }

    /// Says that the shard has ended: no more records will come, and what there is need not wait
    /// for its batching window.
    pub fn close(&mut self) {
        self.takes(Input::Closed);
    }

    /// Says that no more records will come, though the shard has not ended: so it is at the end
    /// of a recording. A batch that is not full is sent when its batching window is over, and
    /// a tumbling window that is open is ended.
    pub fn end_of_input(&mut self) {
        self.takes(Input::Over);
    }

    /// Says whether the stream has no more records at this moment: then a batch need not be full,
    /// it is sent when its batching window is over. To be said before each poll; a backlog, whose
    /// end is known, never says it.
    ///
    /// Who says it knows that the next record has a number of its own, so the newest one is
    /// passed by the checkpoint like the others.
    pub fn at_tip(&mut self, is_at_tip: bool) {
        self.takes(if is_at_tip { Input::AtTip } else { Input::More });
    }

    /// Says that the records offered were one batch when they were recorded: they are sent at once,
    /// though it is not full and whatever the batching window. To be said instead of
    /// [`at_tip`](Self::at_tip), by who knows the same of the next record.
    pub fn cut(&mut self) {
        self.takes(Input::Cut);
    }

    fn takes(&mut self, input: Input) {
        if !self.input.is_final() {
            self.input = input;
            if input != Input::More {
                self.progress.settle();
            }
        }
    }

    /// Says what to do at this moment. Call it again after every step that was done.
    pub fn poll(&mut self, now: Millis) -> Step {
        if let Some(step) = self.next_parting() {
            return step;
        }
        let mut wake: Option<Millis> = None;
        let (mut hungry, mut busy) = (false, false);
        for offset in 0..self.lanes.len() {
            let index = (self.turn + offset) % self.lanes.len();
            let mut fates = Fates::default();
            let step = self.lanes[index].step(now, self.input, &self.parameters, &mut fates);
            self.settle(fates, now);
            match step {
                LaneStep::Invoke(invocation) => {
                    self.turn = (index + 1) % self.lanes.len();
                    return Step::Invoke(invocation);
                }
                LaneStep::Discarded => {
                    if let Some(step) = self.next_parting() {
                        return step;
                    }
                }
                LaneStep::Wait(until) => wake = Some(wake.map_or(until, |wake| wake.min(until))),
                LaneStep::Busy => busy = true,
                LaneStep::Hungry => hungry = true,
                LaneStep::Idle => {}
            }
        }
        if hungry && !self.reads_far_enough() {
            return Step::Read;
        }
        match (wake, busy) {
            (Some(wake), _) => Step::Wait(wake),
            (None, true) => Step::Busy,
            (None, false) => Step::Done,
        }
    }

    /// Takes the answer to a call, and says how the mapping reads it.
    ///
    /// # Panics
    /// The call is not under way: unknown, or answered before.
    pub fn reply(&mut self, id: InvocationId, now: Millis, reply: Reply) -> Outcome {
        let mut fates = Fates::default();
        let outcome = self.lanes[id.lane].reply(id, now, reply, &self.parameters, &mut fates);
        self.settle(fates, now);
        outcome
    }

    /// The position at or below which every record has met its fate; `None` at the start.
    ///
    /// A discarded record counts once its on-failure record was handed out by
    /// [`Step::Deliver`], and a lost one likewise. The newest record counts once a later one was
    /// offered or it was said that none is there ([`at_tip`](Self::at_tip), [`close`](Self::close),
    /// [`end_of_input`](Self::end_of_input)), as neighbours may share a sequence number.
    #[must_use]
    pub fn checkpoint(&self) -> Option<&SequenceNumber<'static>> {
        self.progress.checkpoint()
    }

    /// When the first of the sub-lanes goes on that wait out a backoff or a batching window.
    /// [`Step::Read`] does not tell, and the driver may have reasons to let time pass before it
    /// reads.
    #[must_use]
    pub fn wakes_at(&self) -> Option<Millis> {
        self.lanes.iter().filter_map(|lane| lane.due(self.input, &self.parameters)).min()
    }

    /// How often a failing batch was halved.
    #[must_use]
    pub fn bisects(&self) -> u64 {
        self.bisects
    }

    /// How many records no filter took.
    #[must_use]
    pub fn filtered(&self) -> u64 {
        self.filtered
    }

    /// How many records came before the starting position.
    #[must_use]
    pub fn passed(&self) -> u64 {
        self.passed
    }

    /// How many records the stream no longer had when they were to be sent.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// The parameters the shard works by.
    #[must_use]
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// Whether a sub-lane with a call under way has its next batch already. A lane that
    /// waits out a backoff does not count: it must not hold up the others.
    fn reads_far_enough(&self) -> bool {
        self.lanes.iter().any(|lane| lane.is_in_flight() && lane.has_full_batch(&self.parameters))
    }

    fn settle(&mut self, fates: Fates, now: Millis) {
        self.bisects += fates.bisects;
        for records in &fates.succeeded {
            positions(records).for_each(|position| self.progress.resolve(position));
        }
        for records in fates.lost {
            self.lost += records.len() as u64;
            self.partings.push_back(Parting::Lost(records));
        }
        for discard in fates.discarded {
            let on_failure = OnFailure::new(
                discard,
                Arc::clone(&self.identity),
                now,
                self.parameters.on_failure.clone(),
            );
            self.partings.push_back(Parting::Discarded(on_failure));
        }
    }

    /// The checkpoint passes discarded and lost records only here, when the driver gets to know
    /// them.
    fn next_parting(&mut self) -> Option<Step> {
        let parting = self.partings.pop_front()?;
        let (Parting::Discarded(OnFailure { records, .. }) | Parting::Lost(records)) = &parting;
        positions(records).for_each(|position| self.progress.resolve(position));
        Some(match parting {
            Parting::Discarded(on_failure) => Step::Deliver(on_failure),
            Parting::Lost(records) => Step::Lost(records),
        })
    }
}
