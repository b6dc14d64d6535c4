//! A driver in virtual time that checks every invariant of the mapping at every step.

use bytes::Bytes;
use changefold::{
    local::mapping::{
        Condition, Entry, Invocation, InvocationId, Millis, Parameters, Reply, Shard,
        ShardIdentity, Step,
    },
    record::{SequenceNumber, Source, Timestamp},
};
use std::collections::{BTreeMap, BTreeSet};

/// How the function answers one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    Succeed,
    /// Reports the record at this index, or at the last one if there are fewer.
    Report(usize),
    Throw,
    Throttle,
}

/// One call as the function saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Call {
    pub(super) at: Millis,
    pub(super) records: Vec<u64>,
}

/// One on-failure record, by what it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Discarded {
    pub(super) at: Millis,
    pub(super) records: Vec<u64>,
    pub(super) count: u32,
    pub(super) condition: Condition,
    pub(super) function_error: Option<&'static str>,
}

#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct History {
    pub(super) calls: Vec<Call>,
    pub(super) discarded: Vec<Discarded>,
    pub(super) filtered: Vec<u64>,
    pub(super) lost: Vec<u64>,
    pub(super) request_ids: Vec<String>,
    pub(super) bisects: u64,
}

pub(super) fn identity() -> ShardIdentity {
    ShardIdentity {
        source: Source::Kinesis,
        shard_id: "shardId-000000000000".to_owned(),
        stream_arn: "arn:aws:kinesis:eu-west-1:123456789012:stream/orders".to_owned(),
        function_arn: "arn:aws:lambda:eu-west-1:123456789012:function:views".to_owned(),
        mapping_uuid: "a0b1".to_owned(),
        time_zero: Timestamp(0),
    }
}

/// Record `number` as it is delivered.
fn body(number: u64) -> String {
    format!(r#"{{"n": {number}, "kinesis": {{}}}}"#)
}

/// Record `number`, whose body says so.
pub(super) fn entry(number: u64, key: u64) -> Entry {
    Entry {
        sequence_number: SequenceNumber::new(number.to_string()).unwrap(),
        key,
        arrival: None,
        present_since: 0,
        body: Bytes::from(body(number)),
    }
}

pub(super) fn numbers(entries: &[Entry]) -> Vec<u64> {
    entries.iter().map(|entry| entry.sequence_number.as_str().parse().unwrap()).collect()
}

/// Runs the shard to its end over this backlog.
///
/// # Panics
/// An invariant does not hold.
pub(super) fn run(
    parameters: &Parameters,
    backlog: Vec<Entry>,
    answer: impl FnMut(&[u64]) -> (Answer, Millis),
) -> History {
    let mut run = Run::new(parameters, &backlog, answer);
    let mut input = backlog.into_iter();
    for _ in 0..1_000_000 {
        let step = run.shard.poll(run.now);
        let done = matches!(step, Step::Done);
        run.take(step, &mut input);
        run.check_checkpoint();
        if done {
            run.history.bisects = run.shard.bisects();
            return run.history;
        }
    }
    panic!("the shard did not come to an end");
}

struct Run<F> {
    shard: Shard,
    now: Millis,
    answer: F,
    parameters: Parameters,
    keys: BTreeMap<u64, u64>,
    unresolved: BTreeSet<u64>,
    /// Out of retries; under bisect their on-failure record comes only after the batch.
    exhausted: BTreeSet<u64>,
    /// By the moment of the answer, then in the order of the calls.
    in_flight: BTreeMap<(Millis, usize), (InvocationId, Vec<u64>, Answer)>,
    /// Calls that reached the function, and their records, by request id.
    items: BTreeMap<String, (u32, Vec<u64>)>,
    passed: u64,
    history: History,
}

impl<F: FnMut(&[u64]) -> (Answer, Millis)> Run<F> {
    fn new(parameters: &Parameters, backlog: &[Entry], answer: F) -> Self {
        let number = |entry: &Entry| entry.sequence_number.as_str().parse().unwrap();
        let keys: BTreeMap<u64, u64> =
            backlog.iter().map(|entry| (number(entry), entry.key)).collect();
        Self {
            shard: Shard::new(identity(), parameters.clone()),
            now: 0,
            answer,
            parameters: parameters.clone(),
            unresolved: keys.keys().copied().collect(),
            keys,
            exhausted: BTreeSet::new(),
            in_flight: BTreeMap::new(),
            items: BTreeMap::new(),
            passed: 0,
            history: History::default(),
        }
    }

    fn take(&mut self, step: Step, input: &mut impl Iterator<Item = Entry>) {
        match step {
            Step::Invoke(invocation) => self.invoke(&invocation),
            Step::Deliver(on_failure) => {
                let records = numbers(&on_failure.records);
                assert!(!records.is_empty(), "an on-failure record is about something");
                self.resolve(&records);
                self.history.discarded.push(Discarded {
                    at: u64::try_from(on_failure.timestamp.0).unwrap(),
                    records,
                    count: on_failure.approximate_invoke_count,
                    condition: on_failure.condition,
                    function_error: on_failure.function_error,
                });
            }
            Step::Lost(records) => {
                let records = numbers(&records);
                let retention = self.parameters.retention_s.expect("nothing expires without it");
                assert!(self.now > Millis::from(retention) * 1000, "{records:?} at {}", self.now);
                self.resolve(&records);
                self.history.lost.extend(records);
            }
            Step::Read => match input.next() {
                Some(entry) => self.offer(entry),
                None => self.shard.end_of_input(),
            },
            Step::Wait(until) => {
                assert!(until > self.now, "waiting for {until} at {} is a loop", self.now);
                match self.in_flight.first_key_value() {
                    Some((&(end, _), _)) if end <= until => self.reply(),
                    _ => self.now = until,
                }
            }
            Step::Busy => self.reply(),
            Step::Done => {
                assert_eq!(input.next(), None, "the input is read to its end");
                assert!(self.unresolved.is_empty(), "{:?} have no fate", self.unresolved);
                assert!(self.in_flight.is_empty(), "nothing is under way at the end");
                let last = self.keys.last_key_value().map_or(0, |(number, _)| *number);
                assert_eq!(self.passed, last, "the checkpoint comes to the end");
            }
        }
    }

    /// A record that is filtered has its fate at once.
    fn offer(&mut self, entry: Entry) {
        let records = numbers(std::slice::from_ref(&entry));
        let filtered = self.shard.filtered();
        self.shard.offer(entry);
        if self.shard.filtered() > filtered {
            self.history.filtered.extend(&records);
            self.resolve(&records);
        }
    }

    fn invoke(&mut self, invocation: &Invocation) {
        let records = numbers(&invocation.records);
        assert!(records.is_sorted_by(|a, b| a < b), "{records:?} are out of order");
        self.check_lane_order(&records);
        let bodies: Vec<String> = records.iter().map(|number| body(*number)).collect();
        let payload = String::from_utf8(invocation.payload()).unwrap();
        assert_eq!(payload, format!(r#"{{"Records":[{}]}}"#, bodies.join(",")));

        let id = invocation.request_id.to_string();
        let (answer, duration) = (self.answer)(&records);
        let (calls, of_item) = self.items.entry(id.clone()).or_insert((0, records.clone()));
        assert_eq!(*of_item, records, "one request id, one item");
        assert_eq!(invocation.attempt, *calls + 1, "attempts count calls with these records");
        let retries = self.parameters.maximum_retry_attempts;
        assert!(retries.is_none_or(|retries| *calls <= retries), "{calls} calls before this");
        *calls += u32::from(answer != Answer::Throttle);

        self.history.request_ids.push(id);
        let serial = self.history.calls.len();
        self.history.calls.push(Call { at: self.now, records: records.clone() });
        let flight = (invocation.id, records, answer);
        self.in_flight.insert((self.now + duration, serial), flight);
    }

    /// No two calls of one sub-lane at once, and a record only after all before it that
    /// share its key.
    fn check_lane_order(&self, records: &[u64]) {
        let lanes = self.parameters.parallelization_factor as u64;
        let lane = |number: &u64| self.keys[number] % lanes;
        assert!(records.iter().all(|number| lane(number) == lane(&records[0])));
        for (_, other, _) in self.in_flight.values() {
            assert_ne!(lane(&other[0]), lane(&records[0]), "{other:?} are under way");
        }
        for number in records {
            assert!(self.unresolved.contains(number), "{number} has had its fate");
            let earlier = self
                .unresolved
                .range(..number)
                .filter(|earlier| !self.exhausted.contains(earlier) && !self.is_expired())
                .find(|earlier| self.keys[earlier] == self.keys[number]);
            if let Some(earlier) = earlier {
                assert!(records.contains(earlier), "{earlier} comes before {number}");
            }
        }
    }

    fn reply(&mut self) {
        let ((end, _), (id, records, answer)) =
            self.in_flight.pop_first().expect("busy means that a call is under way");
        self.now = self.now.max(end);
        let reply = match answer {
            Answer::Succeed => Reply::Returned(Bytes::from_static(b"{}")),
            Answer::Throw => Reply::FunctionError,
            Answer::Throttle => Reply::NotInvoked,
            Answer::Report(index) => {
                let number = records[index.min(records.len() - 1)];
                let body = format!(r#"{{"batchItemFailures":[{{"itemIdentifier":"{number}"}}]}}"#);
                Reply::Returned(Bytes::from(body))
            }
        };
        let finished = match answer {
            Answer::Report(index) if self.parameters.report_batch_item_failures => {
                index.min(records.len() - 1)
            }
            Answer::Succeed | Answer::Report(_) => records.len(),
            Answer::Throw | Answer::Throttle => 0,
        };
        self.resolve(&records[..finished]);
        if finished == 0 && answer != Answer::Throttle && records.len() == 1 {
            let calls = self.items.values().filter(|(_, of_item)| *of_item == records);
            let calls: u32 = calls.map(|(calls, _)| calls).sum();
            if self.parameters.maximum_retry_attempts.is_some_and(|retries| calls > retries) {
                self.exhausted.insert(records[0]);
            }
        }
        self.shard.reply(id, self.now, reply);
    }

    fn is_expired(&self) -> bool {
        let limits = [self.parameters.maximum_record_age_s, self.parameters.retention_s];
        limits.into_iter().flatten().any(|seconds| self.now > Millis::from(seconds) * 1000)
    }

    fn resolve(&mut self, records: &[u64]) {
        for number in records {
            assert!(self.unresolved.remove(number), "{number} has two fates");
        }
    }

    fn check_checkpoint(&mut self) {
        let checkpoint = self.shard.checkpoint().map_or(0, |c| c.as_str().parse().unwrap());
        assert!(checkpoint >= self.passed, "from {} back to {checkpoint}", self.passed);
        if let Some(first) = self.unresolved.first() {
            assert!(checkpoint < *first, "{checkpoint} passes {first}, which is unresolved");
        }
        self.passed = checkpoint;
    }
}
