//! One sub-lane of a shard: its batches, and the stack of work items of the batch under way.
//!
//! This is AWS's core algorithm. A batch begins as one work item. Progress or a bisect puts
//! new items on the stack, with a new count of attempts and without backoff; no progress
//! means the same item again after a backoff, until its retries or its records' age run out.
//! The stack is worked from the top, so the left half is finished before the right one
//! begins, and the next batch begins when the stack is empty.

use super::{
    ENVELOPE_CLOSE, ENVELOPE_OPEN, EVENT_BYTES_MAX, Entry, Invocation, InvocationId, Millis,
    Parameters, Records, ShardIdentity,
    on_failure::{Condition, Discard},
    readings::{Neighbours, ShardEnd, WindowStart},
    reply::{Failure, Outcome, Reply, Verdict, state, verdict},
    uuid::uuid,
    window::{End, Window},
};
use crate::record::SequenceNumber;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use std::{collections::VecDeque, sync::Arc};

/// Records that are sent together, and what has become of that so far.
#[derive(Debug)]
struct Item {
    records: Records,
    request_id: Arc<str>,
    /// Calls made with exactly these records.
    attempts: u32,
    /// Attempts, and calls that never reached the function: what backoff grows with.
    tries: u32,
    due: Millis,
    bisected: bool,
    /// It has no records, and ends the window.
    ends: Option<End>,
}

/// What is known of the records still to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Input {
    /// There are more: a batch waits until it is full.
    More,
    /// There are none at the moment.
    AtTip,
    /// What there is was one batch when it was recorded, and is to be sent as it is.
    Cut,
    /// There will be none, but the shard has not ended.
    Over,
    /// The shard has ended.
    Closed,
}

impl Input {
    /// Whether no more records come.
    pub(super) fn is_final(self) -> bool {
        matches!(self, Self::Over | Self::Closed)
    }
}

/// What one sub-lane could do now.
#[derive(Debug)]
pub(super) enum LaneStep {
    Invoke(Invocation),
    Wait(Millis),
    /// Records were given up, or are lost: tell of them before anything else is called.
    Discarded,
    /// A call is under way.
    Busy,
    /// No full batch, and more records may come.
    Hungry,
    /// Nothing left and nothing to come.
    Idle,
}

/// What became of records since the last look.
#[derive(Debug, Default)]
pub(super) struct Fates {
    pub(super) succeeded: Vec<Records>,
    pub(super) discarded: Vec<Discard>,
    /// What the stream no longer has.
    pub(super) lost: Vec<Records>,
    pub(super) bisects: u64,
}

/// One sub-lane.
#[derive(Debug)]
pub(super) struct Lane {
    index: usize,
    identity: Arc<ShardIdentity>,
    queue: VecDeque<Entry>,
    queued_body_bytes: usize,
    stack: Vec<Item>,
    in_flight: Option<InvocationId>,
    /// Discards of the batch under way, held back until it is resolved.
    deferred: Vec<Discard>,
    /// The tumbling window that has begun, if the mapping has any.
    window: Option<Window>,
    /// When the last call completed: the batching window counts from here.
    window_from: Millis,
    invocations: u64,
    request_ids: RequestIds,
}

impl Lane {
    pub(super) fn new(index: usize, identity: &Arc<ShardIdentity>) -> Self {
        Self {
            index,
            identity: Arc::clone(identity),
            queue: VecDeque::new(),
            queued_body_bytes: 0,
            stack: Vec::new(),
            in_flight: None,
            deferred: Vec::new(),
            window: None,
            window_from: 0,
            invocations: 0,
            request_ids: RequestIds::new(identity, index),
        }
    }

    pub(super) fn push(&mut self, entry: Entry) {
        self.queued_body_bytes += entry.body.len();
        self.queue.push_back(entry);
    }

    /// Whether the queue holds all that one batch can take.
    pub(super) fn has_full_batch(&self, parameters: &Parameters) -> bool {
        self.queue.len() >= parameters.batch_size
            || self.queued_event_bytes() > EVENT_BYTES_MAX
            || self.has_whole_window(parameters)
    }

    /// Whether the queue has a record of a later window than its first, so that no more can come
    /// for that one.
    fn has_whole_window(&self, parameters: &Parameters) -> bool {
        let window = self.window_of_next(parameters);
        window.zip(self.queue.back()).is_some_and(|(window, last)| window.is_before(last))
    }

    /// The window of the next batch: the one that is open, unless its first record is later.
    fn window_of_next(&self, parameters: &Parameters) -> Option<Window> {
        let (length_s, first) = (parameters.tumbling_window_s?, self.queue.front()?);
        match &self.window {
            Some(open) if !open.is_before(first) => Some(open.clone()),
            _ => Some(Window::of(first, length_s)),
        }
    }

    /// When the lane goes on by itself, if no call is under way: when the item on top may be
    /// called, or when a part of a batch has waited for long enough (`input`).
    pub(super) fn due(&self, input: Input, parameters: &Parameters) -> Option<Millis> {
        if self.is_in_flight() {
            return None;
        }
        let gathers = input != Input::More && !self.queue.is_empty();
        let item = self.stack.last().map(|item| item.due);
        item.or_else(|| gathers.then(|| self.window_ends(input, parameters)))
    }

    /// When a batch is sent that is not full.
    fn window_ends(&self, input: Input, parameters: &Parameters) -> Millis {
        let readings = &parameters.readings;
        let is_end = input == Input::Closed && readings.shard_end == ShardEnd::AtOnce;
        if is_end || input == Input::Cut {
            return 0;
        }
        let from = match readings.batching_window {
            WindowStart::LastCall => self.window_from,
            WindowStart::FirstRecord => {
                let first = self.queue.front().map_or(0, |first| first.present_since);
                Millis::try_from(first).unwrap_or(0)
            }
        };
        from + Millis::from(parameters.maximum_batching_window_s) * 1000
    }

    pub(super) fn is_in_flight(&self) -> bool {
        self.in_flight.is_some()
    }

    /// Says what to do at this moment, and does what needs no call: cuts a batch, drops what
    /// is too old, gives up on what cannot be sent.
    pub(super) fn step(
        &mut self,
        now: Millis,
        input: Input,
        parameters: &Parameters,
        fates: &mut Fates,
    ) -> LaneStep {
        loop {
            if !fates.discarded.is_empty() || !fates.lost.is_empty() {
                return LaneStep::Discarded;
            }
            if self.in_flight.is_some() {
                return LaneStep::Busy;
            }
            let Some(due) = self.stack.last().map(|item| item.due) else {
                match self.next_batch(now, input, parameters) {
                    Ok(item) => self.stack.push(item),
                    Err(step) => return step,
                }
                continue;
            };
            if due > now {
                return LaneStep::Wait(due);
            }
            if self.cut_old(now, parameters, fates) {
                continue;
            }
            let Some(item) = self.stack.last_mut() else { continue };
            if let Some(length_s) = parameters.tumbling_window_s {
                // What is called without a window open begins one: the first of its records.
                if self.window.is_none() {
                    self.window = item.records.first().map(|first| Window::of(first, length_s));
                }
                let (window, told) = (self.window.as_ref(), item.records.window());
                let is_told =
                    window.zip(told).is_some_and(|(it, told)| it.is_told_by(told, item.ends));
                if !is_told {
                    let call = window.map(|it| it.call(&self.identity, item.ends));
                    item.records = item.records.in_window(call);
                }
            }
            if item.records.event_bytes() > EVENT_BYTES_MAX {
                self.fail(Failure::Oversized, now, parameters, fates);
                continue;
            }
            let id = InvocationId { lane: self.index, serial: self.invocations };
            self.invocations += 1;
            self.in_flight = Some(id);
            return LaneStep::Invoke(Invocation {
                id,
                request_id: Arc::clone(&item.request_id),
                records: item.records.clone(),
                attempt: item.attempts + 1,
                bisected: item.bisected,
            });
        }
    }

    /// Takes the answer to the call under way.
    ///
    /// # Panics
    /// No such call is under way.
    pub(super) fn reply(
        &mut self,
        id: InvocationId,
        now: Millis,
        reply: Reply,
        parameters: &Parameters,
        fates: &mut Fates,
    ) -> Outcome {
        assert_eq!(
            self.in_flight.take(),
            Some(id),
            "a call is answered once, while it is under way"
        );
        let item = self.stack.last_mut().expect("a call under way has its item on the stack");
        self.window_from = now;
        let state = self.window.as_ref().and_then(|_| state(&reply));
        let verdict = match verdict(reply, &item.records, parameters) {
            Verdict::Success | Verdict::Partial(_) if self.window.is_some() && state.is_none() => {
                Verdict::Failure(Failure::Reported)
            }
            verdict => verdict,
        };
        let outcome = Outcome::from(verdict);
        match verdict {
            Verdict::Success if item.ends.is_some() => {
                self.stack.pop();
                self.window = None;
                self.release_if_resolved(parameters, fates);
            }
            Verdict::Success => {
                fates.succeeded.extend(self.stack.pop().map(|item| item.records));
                self.keep(state.as_deref(), now);
                self.release_if_resolved(parameters, fates);
            }
            Verdict::Partial(index) => {
                let bisected = item.bisected;
                let (finished, rest) = item.records.split_at(index);
                self.stack.pop();
                fates.succeeded.push(finished);
                self.push_item(rest, now, bisected);
                self.keep(state.as_deref(), now);
            }
            Verdict::Failure(failure) => {
                self.fail(failure, now, parameters, fates);
            }
            Verdict::NotInvoked => {
                item.tries = item.tries.saturating_add(1);
                item.due = now + parameters.readings.backoff(item.tries);
            }
        }
        outcome
    }

    /// Keeps the state that a call returned; one that is too large ends its window at once.
    fn keep(&mut self, state: Option<&RawValue>, now: Millis) {
        let Some((window, state)) = self.window.as_mut().zip(state) else { return };
        if window.keep(state) {
            let last = self.last_call(End::Early, now);
            self.stack.push(last);
        }
    }

    /// The last call of the window, which has no records.
    fn last_call(&mut self, end: End, now: Millis) -> Item {
        let request_id = self.request_ids.next();
        let records = Records::whole(Vec::new());
        let ends = Some(end);
        Item { records, request_id, attempts: 0, tries: 0, due: now, bisected: false, ends }
    }

    /// An attempt at the top item without progress: bisect, give up, or try again later.
    fn fail(&mut self, failure: Failure, now: Millis, parameters: &Parameters, fates: &mut Fates) {
        let Some(mut item) = self.stack.pop() else { return };
        item.attempts = item.attempts.saturating_add(1);
        item.tries = item.tries.saturating_add(1);
        if parameters.bisect_batch_on_function_error && item.records.len() > 1 {
            let (left, right) = item.records.split_at(item.records.len() / 2);
            fates.bisects += 1;
            self.push_item(right, now, true);
            self.push_item(left, now, true);
            return;
        }
        if parameters.maximum_retry_attempts.is_some_and(|retries| item.attempts > retries) {
            if item.ends.is_some() {
                self.window = None;
            }
            let condition = Condition::RetryAttemptsExhausted;
            self.discard(
                Discard {
                    records: item.records,
                    request_id: item.request_id,
                    attempts: item.attempts,
                    condition,
                    failure: Some(failure),
                },
                parameters,
                fates,
            );
            return;
        }
        item.due = now + parameters.readings.backoff(item.tries);
        self.stack.push(item);
    }

    /// Cuts off the top item's beginning what is too old for the mapping or its stream, whichever
    /// comes first; tells whether there was any.
    fn cut_old(&mut self, now: Millis, parameters: &Parameters, fates: &mut Fates) -> bool {
        let limit = |seconds: Option<u32>| seconds.unwrap_or(u32::MAX);
        if limit(parameters.retention_s) < limit(parameters.maximum_record_age_s) {
            return self.drop_trimmed(now, parameters, fates)
                || self.discard_expired(now, parameters, fates);
        }
        self.discard_expired(now, parameters, fates) || self.drop_trimmed(now, parameters, fates)
    }

    /// Drops what the stream no longer has: nobody is told but who drives the machine.
    fn drop_trimmed(&mut self, now: Millis, parameters: &Parameters, fates: &mut Fates) -> bool {
        let trimmed = self.older(now, parameters.retention_s);
        let Some(item) = self.stack.last_mut().filter(|_| trimmed > 0) else { return false };
        let (gone, rest) = item.records.split_at(trimmed);
        item.records = rest;
        if item.records.is_empty() {
            self.stack.pop();
        }
        fates.lost.push(gone);
        self.release_if_resolved(parameters, fates);
        true
    }

    /// How many records at the beginning of the top item are older than this.
    fn older(&self, now: Millis, seconds: Option<u32>) -> usize {
        let Some((seconds, item)) = seconds.zip(self.stack.last()) else { return 0 };
        let age_max = Millis::from(seconds) * 1000;
        let is_older = |entry: &&Entry| now.saturating_sub_signed(entry.present_since) > age_max;
        item.records.iter().take_while(is_older).count()
    }

    /// Cuts the expired beginning off the top item; tells whether there was one.
    fn discard_expired(&mut self, now: Millis, parameters: &Parameters, fates: &mut Fates) -> bool {
        let expired = self.older(now, parameters.maximum_record_age_s);
        let Some(item) = self.stack.last_mut().filter(|_| expired > 0) else { return false };
        let (old, fresh) = item.records.split_at(expired);
        let discard = Discard {
            records: old,
            request_id: Arc::clone(&item.request_id),
            attempts: item.attempts,
            condition: Condition::RecordAgeExceeded,
            failure: None,
        };
        item.records = fresh;
        if item.records.is_empty() {
            self.stack.pop();
        }
        self.discard(discard, parameters, fates);
        true
    }

    /// Under bisect AWS writes its records only after the rest of the batch is resolved.
    fn discard(&mut self, discard: Discard, parameters: &Parameters, fates: &mut Fates) {
        self.deferred.push(discard);
        if parameters.bisect_batch_on_function_error {
            self.release_if_resolved(parameters, fates);
        } else {
            fates.discarded.append(&mut self.deferred);
        }
    }

    fn release_if_resolved(&mut self, parameters: &Parameters, fates: &mut Fates) {
        if !self.stack.is_empty() {
            return;
        }
        if parameters.readings.on_failure == Neighbours::Single {
            fates.discarded.append(&mut self.deferred);
            return;
        }
        for discard in self.deferred.drain(..) {
            let joined = fates.discarded.last().and_then(|before| before.joined(&discard));
            if joined.is_some() {
                fates.discarded.pop();
            }
            fates.discarded.push(joined.unwrap_or(discard));
        }
    }

    fn push_item(&mut self, records: Records, due: Millis, bisected: bool) {
        let request_id = self.request_ids.next();
        let ends = None;
        self.stack.push(Item { records, request_id, attempts: 0, tries: 0, due, bisected, ends });
    }

    /// The next batch as a work item, or why there is none yet.
    fn next_batch(
        &mut self,
        now: Millis,
        input: Input,
        parameters: &Parameters,
    ) -> Result<Item, LaneStep> {
        if let Some(open) = &self.window {
            let is_over = self.queue.front().map_or(input.is_final(), |next| open.is_before(next));
            if is_over {
                return Ok(self.last_call(End::InTime, now));
            }
        }
        if !self.has_full_batch(parameters) {
            match input {
                Input::Over | Input::Closed if self.queue.is_empty() => {
                    return Err(LaneStep::Idle);
                }
                Input::More => return Err(LaneStep::Hungry),
                Input::AtTip | Input::Cut if self.queue.is_empty() => {
                    return Err(LaneStep::Hungry);
                }
                Input::AtTip | Input::Cut | Input::Over | Input::Closed => {}
            }
            let window_ends = self.window_ends(input, parameters);
            if window_ends > now {
                return Err(LaneStep::Wait(window_ends));
            }
        }
        let window = self.window_of_next(parameters);
        let count = self.batch_length(parameters.batch_size, window.as_ref());
        let batch: Vec<Entry> = self.queue.drain(..count).collect();
        self.queued_body_bytes -= batch.iter().map(|entry| entry.body.len()).sum::<usize>();
        Ok(Item {
            records: Records::whole(batch),
            request_id: self.request_ids.next(),
            attempts: 0,
            tries: 0,
            due: now,
            bisected: false,
            ends: None,
        })
    }

    /// How many records from the front make one event; at least one, even if it is too large.
    fn batch_length(&self, batch_size: usize, window: Option<&Window>) -> usize {
        let mut bytes = ENVELOPE_OPEN.len() + ENVELOPE_CLOSE.len();
        bytes += window.map_or(0, |window| window.call(&self.identity, None).members().len());
        let mut count = 0;
        for entry in self.queue.iter().take(batch_size) {
            if window.is_some_and(|window| window.is_before(entry)) {
                break;
            }
            bytes += entry.body.len() + usize::from(count > 0);
            if count > 0 && bytes > EVENT_BYTES_MAX {
                break;
            }
            count += 1;
        }
        count
    }

    fn queued_event_bytes(&self) -> usize {
        let commas = self.queue.len().saturating_sub(1);
        ENVELOPE_OPEN.len() + self.queued_body_bytes + commas + ENVELOPE_CLOSE.len()
    }
}

/// UUIDs that follow from where they are used, so that a run can be repeated.
#[derive(Debug)]
struct RequestIds {
    seed: [u8; 32],
    next: u64,
}

impl RequestIds {
    fn new(identity: &ShardIdentity, lane: usize) -> Self {
        let mut hash = Sha256::new();
        for part in [&identity.mapping_uuid, &identity.stream_arn, &identity.shard_id] {
            hash.update(part.len().to_be_bytes());
            hash.update(part.as_bytes());
        }
        hash.update(lane.to_be_bytes());
        Self { seed: hash.finalize().into(), next: 0 }
    }

    fn next(&mut self) -> Arc<str> {
        let mut hash = Sha256::new();
        hash.update(self.seed);
        hash.update(self.next.to_be_bytes());
        self.next += 1;
        uuid(&hash.finalize().into()).into()
    }
}

/// Positions of these records, for whoever keeps the checkpoint.
pub(super) fn positions(records: &Records) -> impl Iterator<Item = &SequenceNumber<'static>> {
    records.iter().map(|entry| &entry.sequence_number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Source, Timestamp};
    use std::collections::BTreeSet;

    #[test]
    fn request_ids_are_uuids_that_no_other_lane_has() {
        let identity = |shard_id: &str| ShardIdentity {
            source: Source::Kinesis,
            shard_id: shard_id.to_owned(),
            stream_arn: "stream".to_owned(),
            function_arn: "function".to_owned(),
            mapping_uuid: "mapping".to_owned(),
            time_zero: Timestamp(0),
        };
        let ids = |shard_id, lane| {
            let mut ids = RequestIds::new(&identity(shard_id), lane);
            [ids.next(), ids.next()]
        };
        assert_eq!(ids("a", 0), ids("a", 0), "a run can be repeated");
        let all: BTreeSet<Arc<str>> =
            [ids("a", 0), ids("a", 1), ids("b", 0)].into_iter().flatten().collect();
        assert_eq!(all.len(), 6);
        for id in all {
            let lengths: Vec<usize> = id.split('-').map(str::len).collect();
            assert_eq!(lengths, [8, 4, 4, 4, 12], "{id}");
            assert_eq!(&id[14..15], "8", "{id}");
            assert!(id.chars().all(|c| c == '-' || c.is_ascii_hexdigit()), "{id}");
        }
    }
}
