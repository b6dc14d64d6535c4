//! A mapping with a filter and sub-lanes that soon gives up, and what brings its records back.
//!
//! The desk's own state machine of a shard, which says at once what it gives up. The message of
//! it tells a range of the shard, so what is read again for it has more in it: records of other
//! sub-lanes, finished or still to come, and those that the filter had left out. Such a message
//! comes when later records have passed long ago, and comes again until all is done.

use super::{
    harness::Harness,
    in_flight::{InFlight, ManualClock},
    script::{OPERATIONS, Script, Settings},
    simulation::{TIMEOUT_MS, called},
};
use changefold::{
    clock::Clock,
    local::{
        mapping::{Entry, InvocationId, OnFailure, Parameters, Reply, Shard, ShardIdentity, Step},
        target::Target,
    },
    record::{SequenceNumber, Timestamp},
};
use futures_util::future::FutureExt;

const SHARDS: usize = 2;
/// More turns than a run takes that comes to an end.
const TURNS_MAX: u32 = 2_000_000;

/// What ended.
pub(crate) enum Landed {
    Batch { shard: usize, id: InvocationId, reply: Reply },
    Rescue { message: Message, is_done: bool },
    Operator,
}

/// What an on-failure message says, and when it comes.
#[derive(Clone)]
pub(crate) struct Message {
    due: i64,
    records: Vec<usize>,
    condition: &'static str,
}

struct Mapping<'m> {
    script: &'m Script,
    shards: Vec<Shard>,
    /// By shard: which record is read next.
    next: [usize; SHARDS],
    messages: Vec<Message>,
    time_zero: i64,
    rng: fastrand::Rng,
}

impl<'m> Mapping<'m> {
    fn new(script: &'m Script, settings: &Settings, time_zero: Timestamp) -> Self {
        let mut rng = fastrand::Rng::with_seed(settings.seed ^ 0x3e5c);
        let parameters = Parameters {
            batch_size: settings.batch_size,
            parallelization_factor: settings.factor,
            maximum_retry_attempts: Some(rng.u32(..3)),
            bisect_batch_on_function_error: rng.bool(),
            report_batch_item_failures: true,
            ..Parameters::default()
        };
        let identity = |shard| ShardIdentity {
            source: settings.source,
            shard_id: format!("shardId-00000000000{shard}"),
            stream_arn: "arn:aws:kinesis:us-east-1:123456789012:stream/steps".to_owned(),
            function_arn: "arn:aws:lambda:us-east-1:123456789012:function:steps".to_owned(),
            mapping_uuid: "steps".to_owned(),
            time_zero,
        };
        let shards = (0..SHARDS).map(|it| Shard::new(identity(it), parameters.clone()));
        Self {
            script,
            shards: shards.collect(),
            next: [0; SHARDS],
            messages: Vec::new(),
            time_zero: time_zero.0,
            rng,
        }
    }

    /// Reads one record that the filter lets through; false at the end of the shard.
    fn read(&mut self, shard: usize) -> bool {
        let records = self.script.records.iter().enumerate().skip(self.next[shard]);
        let mut wanted = records.filter(|(_, it)| it.key % SHARDS == shard && !it.is_filtered);
        let Some((at, told)) = wanted.next() else { return false };
        self.shards[shard].offer(Entry {
            sequence_number: SequenceNumber::new(told.sequence_number.clone()).unwrap(),
            key: (told.key / SHARDS) as u64,
            arrival: None,
            present_since: 0,
            body: told.body.clone().into(),
        });
        self.next[shard] = at + 1;
        true
    }

    /// The range of the shard, whoever had the other records of it.
    fn give_up(&mut self, shard: usize, on_failure: &OnFailure, now: i64) -> Vec<usize> {
        let find = |entry: &Entry| self.script.find(entry.sequence_number.as_str()).unwrap();
        let given_up: Vec<usize> = on_failure.records.iter().map(find).collect();
        let range = given_up[0]..=*given_up.last().unwrap();
        let is_of_shard = |at: &usize| self.script.records[*at].key % SHARDS == shard;
        let records = range.filter(is_of_shard).collect();
        let condition = on_failure.condition.as_str();
        let longest = if self.rng.bool() { 100 } else { 600_000 };
        let due = now + self.rng.i64(..longest);
        self.messages.push(Message { due, records, condition });
        given_up
    }
}

/// Delivers all records and rescues all that are given up, with an operator beside.
pub(crate) fn run(harness: &Harness, clock: &ManualClock) {
    let (settings, checker) = (&harness.settings, &harness.checker);
    let mut mapping = Mapping::new(&checker.script, settings, clock.now());
    let mut in_flight = InFlight::new(clock, settings.seed);
    let mut requests = 0..OPERATIONS;
    for _ in 0..TURNS_MAX {
        let Timestamp(now) = clock.now();
        let deadline = Timestamp(now + TIMEOUT_MS);
        let mut wakes = attend(&mut mapping, &mut in_flight, harness, deadline);
        while let Some(at) = mapping.messages.iter().position(|it| it.due <= now) {
            let message = mapping.messages.remove(at);
            let (again, call) = (message.clone(), called("rescue", deadline));
            let rescued = async move {
                let is_done = harness.rescue(&message.records, message.condition, &call).await;
                Landed::Rescue { message, is_done }
            };
            let cut_off = Landed::Rescue { message: again, is_done: false };
            in_flight.launch(rescued.boxed_local(), deadline, cut_off);
        }
        if mapping.rng.u8(..150) == 0 && requests.next().is_some() {
            let call = called("operator", deadline);
            let served = async move {
                harness.serve_operator(1, &call).await;
                Landed::Operator
            };
            in_flight.launch(served.boxed_local(), deadline, Landed::Operator);
        }
        wakes.extend(mapping.messages.iter().map(|message| message.due));
        match in_flight.turn(wakes.into_iter().min()) {
            Err(()) => return,
            Ok(Some(Landed::Batch { shard, id, reply })) => {
                let since = u64::try_from(clock.now().0 - mapping.time_zero).unwrap();
                mapping.shards[shard].reply(id, since, reply);
            }
            Ok(Some(Landed::Rescue { message, is_done: false })) => {
                mapping.messages.push(Message { due: now + 60_000, ..message });
            }
            Ok(Some(Landed::Rescue { .. } | Landed::Operator) | None) => {}
        }
    }
    checker.violated("stuck", "the mapping does not come to its end");
}

/// Asks the shards what they want, until they can do no more; tells when they go on.
fn attend<'s>(
    mapping: &mut Mapping<'_>,
    in_flight: &mut InFlight<'s, Landed>,
    harness: &'s Harness,
    deadline: Timestamp,
) -> Vec<i64> {
    let mut wakes = Vec::new();
    let now = deadline.0 - TIMEOUT_MS;
    let since = u64::try_from(now - mapping.time_zero).unwrap();
    for shard in 0..SHARDS {
        loop {
            match mapping.shards[shard].poll(since) {
                Step::Invoke(invocation) => {
                    let call = called(&invocation.request_id, deadline);
                    let id = invocation.id;
                    let fails = harness.settings.faults && mapping.rng.u8(..4) == 0;
                    let invoked =
                        harness.invoke(invocation.payload().into(), call).map(move |it| {
                            let reply = it.ok().filter(|_| !fails);
                            let reply = reply.map_or(Reply::FunctionError, Reply::Returned);
                            Landed::Batch { shard, id, reply }
                        });
                    let cut_off = Landed::Batch { shard, id, reply: Reply::FunctionError };
                    in_flight.launch(invoked.boxed_local(), deadline, cut_off);
                }
                Step::Deliver(on_failure) => {
                    let given_up = mapping.give_up(shard, &on_failure, now);
                    harness.checker.given_up(&given_up);
                }
                Step::Lost(_) => panic!("nothing expires"),
                Step::Read if mapping.read(shard) => {}
                Step::Read => mapping.shards[shard].close(),
                Step::Wait(moment) => {
                    wakes.push(mapping.time_zero + i64::try_from(moment).unwrap());
                    break;
                }
                Step::Busy | Step::Done => break,
            }
        }
    }
    wakes
}
