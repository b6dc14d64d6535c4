//! A FIFO queue and its event source mapping, as far as order and redelivery go.
//!
//! Sources: Amazon SQS developer guide, "FIFO queue delivery logic": messages of a group come
//! in order, and as long as one of a group is in invocation none of the group is given out. A
//! message that is not deleted is in invocation until its visibility timeout ends, then it is
//! received again, with a greater count. Lambda developer guide, "Using Lambda with Amazon SQS":
//! after a reply the messages it does not name are deleted; after an error none is. A batch may
//! have several groups; as many batches are under way as there are groups.

use super::{
    harness::Harness,
    in_flight::{InFlight, ManualClock},
    script::{KEYS, OPERATIONS, Script},
    simulation::{TIMEOUT_MS, called},
    wire::Broken,
};
use bytes::Bytes;
use changefold::{clock::Clock, local::target::Target, record::Timestamp};
use futures_util::future::FutureExt;
use serde_json::Value;
use std::collections::VecDeque;

/// Six times the function's timeout, as AWS recommends.
const VISIBILITY_MS: i64 = 6 * TIMEOUT_MS;
/// Batches under way at a time.
const BATCHES: usize = 3;

/// More than a run takes that comes to an end.
const BATCHES_MAX: usize = 5_000;

/// What is left of the queue.
struct Queue<'q> {
    script: &'q Script,
    /// By group, in order: what is not deleted.
    groups: Vec<VecDeque<usize>>,
    /// By group: until when one of its messages is in invocation.
    in_flight: Vec<Option<i64>>,
    /// By message: how often it was received.
    received: Vec<u32>,
    rng: fastrand::Rng,
}

/// What ended.
pub(crate) enum Landed {
    /// A batch, with the reply, if it came through.
    Batch {
        messages: Vec<usize>,
        until: i64,
        reply: Option<Bytes>,
    },
    Operator,
}

impl<'q> Queue<'q> {
    fn new(script: &'q Script, seed: u64) -> Self {
        let groups = script.by_key.iter().map(|of_key| of_key.iter().copied().collect());
        Self {
            script,
            groups: groups.collect(),
            in_flight: vec![None; script.by_key.len()],
            received: vec![0; script.records.len()],
            rng: fastrand::Rng::with_seed(seed ^ 0x9ef0),
        }
    }

    /// Messages of groups of which none is in invocation, each group's in order.
    fn receive(&mut self, now: i64, most: usize) -> Vec<usize> {
        let mut messages = Vec::new();
        let from = self.rng.usize(..=KEYS);
        for group in (0..=KEYS).map(|at| (from + at) % (KEYS + 1)) {
            if self.groups[group].is_empty() || self.in_flight[group].is_some_and(|it| it > now) {
                continue;
            }
            let most_of_group = self.rng.usize(1..=most);
            let room = most - messages.len();
            let taken = self.groups[group].iter().take(most_of_group.min(room));
            messages.extend(taken);
            self.in_flight[group] = Some(now + VISIBILITY_MS);
            if messages.len() == most {
                break;
            }
        }
        for message in &messages {
            self.received[*message] += 1;
        }
        messages
    }

    fn event(&self, messages: &[usize]) -> Bytes {
        let text = |at: &usize| self.script.text(*at, self.received[*at]);
        let records: Vec<_> = messages.iter().map(text).collect();
        format!(r#"{{"Records":[{}]}}"#, records.join(",")).into()
    }

    /// What the reply does not name is deleted, the rest stays in invocation until its time is up.
    fn land(&mut self, messages: &[usize], until: i64, reply: Option<&Bytes>) {
        if let Some(reply) = reply {
            let reply: Value = serde_json::from_slice(reply).unwrap();
            let named = reply["batchItemFailures"].as_array().unwrap();
            let named: Vec<usize> = named
                .iter()
                .map(|it| self.script.find(it["itemIdentifier"].as_str().unwrap()).unwrap())
                .collect();
            for group in &mut self.groups {
                group.retain(|at| named.contains(at) || !messages.contains(at));
            }
        }
        let key_of = |at: &usize| self.script.records[*at].key;
        for message in messages {
            let group = key_of(message);
            let is_left = self.groups[group].iter().any(|at| messages.contains(at));
            if self.in_flight[group] == Some(until) && !is_left {
                self.in_flight[group] = None;
            }
        }
    }

    /// When the next group is free again.
    fn next(&self, now: i64) -> Option<i64> {
        self.in_flight.iter().flatten().copied().filter(|moment| *moment > now).min()
    }

    fn is_empty(&self) -> bool {
        self.groups.iter().all(VecDeque::is_empty)
    }
}

/// Delivers all messages, with an operator beside.
pub(crate) fn run(harness: &Harness, clock: &ManualClock, broken: Option<Broken>) {
    let script = &harness.checker.script;
    let mut queue = Queue::new(script, harness.settings.seed);
    let mut in_flight = InFlight::new(clock, harness.settings.seed);
    let mut requests = 0..OPERATIONS;
    let mut batches = 0;
    while !queue.is_empty() {
        if batches > BATCHES_MAX {
            return harness.checker.violated("stuck", "messages come again and again");
        }
        let Timestamp(now) = clock.now();
        let is_busy = in_flight.len() >= BATCHES;
        let messages =
            if is_busy { Vec::new() } else { queue.receive(now, harness.settings.batch_size) };
        if !messages.is_empty() {
            batches += 1;
            let call = called(&format!("batch-{batches}"), Timestamp(now + TIMEOUT_MS));
            let (event, deadline) = (queue.event(&messages), call.deadline);
            if messages.iter().any(|at| queue.received[*at] > 1) {
                harness.checker.count("received again");
            }
            let (until, lost) = (now + VISIBILITY_MS, messages.clone());
            let is_lost = harness.settings.faults && queue.rng.u8(..12) == 0;
            let invoked = harness.invoke(event, call).map(move |reply| Landed::Batch {
                messages,
                until,
                reply: reply.ok().filter(|_| !is_lost),
            });
            let cut_off = Landed::Batch { messages: lost, until, reply: None };
            in_flight.launch(invoked.boxed_local(), deadline, cut_off);
        }
        if queue.rng.u8(..100) == 0 && requests.next().is_some() {
            let call = called("operator", Timestamp(now + TIMEOUT_MS));
            let deadline = call.deadline;
            let served = async move {
                harness.serve_operator(1, &call).await;
                Landed::Operator
            };
            in_flight.launch(served.boxed_local(), deadline, Landed::Operator);
        }
        match in_flight.turn(queue.next(now)) {
            Err(()) => return harness.checker.violated("stuck", "messages are left in the queue"),
            Ok(Some(Landed::Batch { messages, until, reply })) => {
                let reply = reply.map(|reply| only_first(broken, reply));
                queue.land(&messages, until, reply.as_ref());
            }
            Ok(Some(Landed::Operator) | None) => {}
        }
    }
    while in_flight.len() > 0 && in_flight.turn(None).is_ok() {}
}

/// A control: a reply that names the first unfinished message, as a stream's does.
fn only_first(broken: Option<Broken>, reply: Bytes) -> Bytes {
    if broken != Some(Broken::OnlyFirstNamed) {
        return reply;
    }
    let mut told: Value = serde_json::from_slice(&reply).unwrap();
    told["batchItemFailures"].as_array_mut().unwrap().truncate(1);
    told.to_string().into()
}
