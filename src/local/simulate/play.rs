//! One case in virtual time: shards that begin when they may, records that arrive, calls that
//! take as long as the function says.
//!
//! The mapping is the one that a replay drives ([`Shard`], [`Lineage`]); here is only what a
//! stream and a function do. At one moment every shard is asked until none can do more, then the
//! next moment comes: a reply, an arrival, or the end of a wait. A call that takes no time is over
//! before anything else happens.

use super::{
    CALLS_MAX,
    case::{Case, Discarded, Function},
    order::Turn,
    seconds::Since,
    trace::{After, Trace},
};
use crate::{
    local::mapping::{
        Entry, Invocation, InvocationId, Lineage, Millis, OnFailure, Reply, Shard, ShardIdentity,
        StartingPosition, Step, WindowCall,
    },
    record::{SequenceNumber, Source, Timestamp},
};
use bytes::Bytes;
use serde_json::Value;
use std::collections::BTreeMap;

/// Runs a case to its end, or until it has made too many calls, or attempts without one.
pub(super) fn play(case: &Case, trace: Trace) -> Trace {
    let mut lineage = Lineage::default();
    lineage.learn(&case.contents.shards);
    let replies = BTreeMap::new();
    Play { case, lineage, feedings: Vec::new(), replies, now: 0, calls: 0, idle: 0, trace }
        .through()
}

struct Play<'c> {
    case: &'c Case,
    lineage: Lineage,
    /// The shards that have begun, in the order in which they did.
    feedings: Vec<Feeding<'c>>,
    /// Replies on their way, by the moment they come and whose turn it is then.
    replies: BTreeMap<(Millis, i64), Arriving>,
    now: Millis,
    calls: usize,
    /// Moments that have come since anything happened but attempts that make no call.
    idle: usize,
    trace: Trace,
}

/// A reply on its way.
struct Arriving {
    shard: usize,
    id: InvocationId,
    call: usize,
    reply: Reply,
}

/// A shard of a case, and what is still to come of it.
struct Feeding<'c> {
    case: &'c Case,
    /// Its number in the case.
    shard: u64,
    shard_id: &'c str,
    machine: Shard,
    /// The place of its next record in it.
    next: u64,
    /// What `trace` was told last.
    checkpoint: Option<u64>,
    /// Whether every record has met its fate.
    is_done: bool,
    /// Whether its children were told so.
    is_over: bool,
}

/// The case has made too many calls.
struct TooMany;

impl Play<'_> {
    fn through(mut self) -> Trace {
        loop {
            let Ok(wake) = self.attend() else {
                self.trace.unfinished = true;
                return self.trace;
            };
            let reply = self.replies.first_key_value().map(|((moment, _), _)| *moment);
            let Some(moment) = [wake, reply].into_iter().flatten().min() else {
                return self.trace;
            };
            // What is too large for an event is tried again without a call.
            if self.idle == CALLS_MAX {
                self.trace.unfinished = true;
                return self.trace;
            }
            self.idle += 1;
            self.now = moment;
            while let Some(first) = self.replies.first_entry().filter(|it| it.key().0 <= self.now) {
                let arriving = first.remove();
                self.hand_over(arriving);
            }
        }
    }

    /// Asks every shard until none can do more at this moment; tells when one goes on by itself.
    fn attend(&mut self) -> Result<Option<Millis>, TooMany> {
        loop {
            self.begin_shards();
            let (mut wake, mut has_ended) = (None::<Millis>, false);
            for shard in 0..self.feedings.len() {
                let moment = self.attend_shard(shard)?;
                wake = [wake, moment].into_iter().flatten().min();
                has_ended |= self.feedings[shard].ends(&mut self.lineage);
            }
            if !has_ended {
                return Ok(wake);
            }
        }
    }

    fn begin_shards(&mut self) {
        let names = self.lineage.begin();
        let shards = self.case.contents.shards.iter().zip(0..);
        let mut begun = Vec::new();
        for (shard, number) in shards.filter(|(shard, _)| names.contains(&shard.shard_id)) {
            let mut feeding = Feeding::new(self.case, number, &shard.shard_id);
            let expired = feeding.begin(shard.parents.is_empty());
            self.trace.lost.extend((!expired.is_empty()).then_some(expired));
            begun.push(feeding);
        }
        if self.case.order.siblings == Turn::Last {
            begun.reverse();
        }
        self.feedings.append(&mut begun);
    }

    fn attend_shard(&mut self, shard: usize) -> Result<Option<Millis>, TooMany> {
        loop {
            let now = self.now;
            let feeding = &mut self.feedings[shard];
            let (is_fed, arrives) = feeding.arrival(now);
            feeding.machine.at_tip(!is_fed && arrives.is_some());
            let waits = match feeding.machine.poll(now) {
                Step::Invoke(_) if self.calls == CALLS_MAX => return Err(TooMany),
                Step::Invoke(invocation) => {
                    self.call(shard, &invocation);
                    continue;
                }
                Step::Deliver(on_failure) => {
                    self.idle = 0;
                    self.trace.on_failure.push(discarded(&on_failure));
                    self.trace.documents.push(on_failure.to_json(None));
                    feeding.stands(now, After::OnFailure, &mut self.trace);
                    continue;
                }
                Step::Lost(records) => {
                    self.idle = 0;
                    self.trace.lost.push(self::numbers(&records));
                    feeding.stands(now, After::Lost, &mut self.trace);
                    continue;
                }
                Step::Read if is_fed => {
                    self.idle = 0;
                    feeding.offer();
                    feeding.stands(now, After::Read, &mut self.trace);
                    continue;
                }
                Step::Read if arrives.is_none() => {
                    if self.lineage.is_continued(feeding.shard_id) {
                        feeding.machine.close();
                    } else {
                        feeding.machine.end_of_input();
                    }
                    feeding.stands(now, After::Read, &mut self.trace);
                    continue;
                }
                Step::Read => feeding.machine.wakes_at(),
                Step::Wait(moment) => Some(moment),
                Step::Busy => None,
                Step::Done => {
                    feeding.is_done = true;
                    return Ok(None);
                }
            };
            feeding.stands(now, After::Read, &mut self.trace);
            return Ok([waits, arrives.filter(|_| !is_fed)].into_iter().flatten().min());
        }
    }

    fn call(&mut self, shard: usize, invocation: &Invocation) {
        let function = &self.case.function;
        let numbers = numbers(&invocation.records);
        let reply = function.answer(&numbers, invocation.records.window(), self.now);
        self.trace.invocations.push(numbers);
        self.trace.begins(self.now, self.feedings[shard].shard_id, invocation);
        let call = self.calls;
        self.calls += 1;
        self.idle = 0;
        let arriving = Arriving { shard, id: invocation.id, call, reply };
        let Since(takes) = function.takes;
        if takes == 0 {
            self.hand_over(arriving);
            return;
        }
        let turn = i64::try_from(call).unwrap_or(i64::MAX);
        let turn = if self.case.order.replies == Turn::Last { -turn } else { turn };
        self.replies.insert((self.now + takes, turn), arriving);
    }

    fn hand_over(&mut self, arriving: Arriving) {
        let Arriving { shard, id, call, reply } = arriving;
        let feeding = &mut self.feedings[shard];
        let outcome = feeding.machine.reply(id, self.now, reply);
        self.trace.ends(call, self.now, outcome);
        feeding.stands(self.now, After::Reply, &mut self.trace);
    }
}

impl<'c> Feeding<'c> {
    fn new(case: &'c Case, shard: u64, shard_id: &'c str) -> Self {
        let machine = Shard::new(identity(case.source, shard_id), case.parameters.clone());
        Self {
            case,
            shard,
            shard_id,
            machine,
            next: 0,
            checkpoint: None,
            is_done: false,
            is_over: false,
        }
    }

    /// Begins where the mapping does, if it has no parents, otherwise at its beginning. Tells which
    /// of its records the stream had let expire before the first moment.
    fn begin(&mut self, is_first: bool) -> Vec<u64> {
        let Case { parameters, contents, .. } = self.case;
        let skips = is_first && parameters.starting_position == StartingPosition::Latest;
        let kept_s = parameters.retention_s.map_or(i64::MAX, i64::from);
        let oldest = if skips { 0 } else { kept_s.saturating_mul(-1_000) };
        let mut expired = Vec::new();
        while let Some(number) = self.number().filter(|number| contents.at(*number) < oldest) {
            let is_wanted = parameters.begins_at(Some(Timestamp(contents.at(number))));
            if !skips && is_wanted {
                expired.push(number);
            }
            self.next += 1;
        }
        expired
    }

    /// The next record.
    fn number(&self) -> Option<u64> {
        self.case.contents.number_at(self.shard, self.next)
    }

    /// Whether the next record is there, and when it comes or came; none if there is none.
    fn arrival(&self, now: Millis) -> (bool, Option<Millis>) {
        let arrives = self.number().map(|number| self.case.contents.at(number));
        let arrives = arrives.map(|at| Millis::try_from(at).unwrap_or(0));
        (arrives.is_some_and(|at| at <= now), arrives)
    }

    fn offer(&mut self) {
        let Some(number) = self.number() else { return };
        let written = self.case.contents.written(number);
        self.next += 1;
        self.machine.offer(Entry {
            sequence_number: SequenceNumber::new(number.to_string())
                .expect("a number is written in decimal digits"),
            key: written.key,
            arrival: Some(Timestamp(written.at)),
            present_since: written.at,
            body: Bytes::from(written.body),
        });
    }

    /// Tells where the shard stands: after a reading only if it has moved.
    fn stands(&mut self, now: Millis, after: After, trace: &mut Trace) {
        let checkpoint = self.machine.checkpoint().map(number);
        if after != After::Read || checkpoint != self.checkpoint {
            trace.stands(now, self.shard_id, after, checkpoint);
        }
        self.checkpoint = checkpoint;
    }

    /// Lets its children begin when every record has met its fate; tells whether that is new.
    fn ends(&mut self, lineage: &mut Lineage) -> bool {
        if self.is_over || !self.is_done {
            return false;
        }
        self.is_over = true;
        lineage.finish(self.shard_id);
        true
    }
}

fn identity(source: Source, shard_id: &str) -> ShardIdentity {
    ShardIdentity {
        source,
        shard_id: shard_id.to_owned(),
        stream_arn: "simulated".to_owned(),
        function_arn: "simulated".to_owned(),
        mapping_uuid: "simulated".to_owned(),
        time_zero: Timestamp(0),
    }
}

fn number(sequence_number: &SequenceNumber<'_>) -> u64 {
    sequence_number.as_str().parse().expect("made from a number by `offer`")
}

fn numbers(records: &[Entry]) -> Vec<u64> {
    records.iter().map(|entry| number(&entry.sequence_number)).collect()
}

fn discarded(on_failure: &OnFailure) -> Discarded {
    Discarded {
        first: on_failure.first().map(number),
        last: on_failure.last().map(number),
        batch_size: on_failure.records.len(),
        approximate_invoke_count: on_failure.approximate_invoke_count,
        condition: on_failure.condition.as_str().to_owned(),
        function_error: on_failure.function_error.map(str::to_owned),
    }
}

impl Function {
    /// What the function does with these records at this moment.
    fn answer(&self, records: &[u64], window: Option<&WindowCall>, now: Millis) -> Reply {
        if Since(now) < self.throttled_until {
            return Reply::NotInvoked;
        }
        let is_healed = self.heals_at.is_some_and(|at| at <= Since(now));
        if self.throws_at_window_end && !is_healed && window.is_some_and(|it| it.is_final) {
            return Reply::FunctionError;
        }
        let healed = Self { replies: self.replies.clone(), ..Self::default() };
        let rule = if is_healed { &healed } else { self };
        let returned = rule.returned(records, u64::to_string);
        let Some(mut response) = returned else { return Reply::FunctionError };
        if let Some((bytes, state)) = self.state_bytes.zip(response.get_mut("state")) {
            *state = Value::String("s".repeat(bytes.saturating_sub(2)));
        }
        Reply::Returned(Bytes::from(response.to_string()))
    }

    /// What the function returns for these records: none, if one of `throws_on` is among them;
    /// a report of those of `reports` that are, each by its identifier; otherwise `replies`, or
    /// an empty report.
    pub(in crate::local) fn returned(
        &self,
        records: &[u64],
        identifier: impl Fn(&u64) -> String,
    ) -> Option<Value> {
        if self.throws_on.iter().any(|number| records.contains(number)) {
            return None;
        }
        let reported = self.reports.iter().filter(|number| records.contains(number));
        let failures: Vec<Value> = reported
            .map(|number| serde_json::json!({ "itemIdentifier": identifier(number) }))
            .collect();
        Some(match &self.replies {
            Some(replies) if failures.is_empty() => replies.clone(),
            // The state is for windows; without them nobody looks at it.
            _ => serde_json::json!({ "batchItemFailures": failures, "state": {} }),
        })
    }
}
