//! The bounds of the fault plan, over whole runs of the mapping.

use super::{FAULTS_PER_RECORD_MAX, Faults, Operation};
use crate::{
    local::mapping::{Entry, Invocation, Parameters, Reply, Shard, ShardIdentity, Step},
    record::{SequenceNumber, Source, Timestamp},
};
use bytes::Bytes;
use std::collections::BTreeMap;

/// How a run over records of one shard met its faults.
#[derive(Debug, Default, PartialEq)]
struct Met {
    counts: BTreeMap<&'static str, u64>,
    by_record: BTreeMap<String, u8>,
    discards: usize,
    invocations: Vec<usize>,
}

fn shard(parameters: &Parameters, records: u32) -> Shard {
    let identity = ShardIdentity {
        source: Source::DynamoDb,
        shard_id: "s".to_owned(),
        stream_arn: "arn".to_owned(),
        function_arn: "arn".to_owned(),
        mapping_uuid: "0".to_owned(),
        time_zero: Timestamp(0),
    };
    let mut shard = Shard::new(identity, parameters.clone());
    for number in 1..=records {
        shard.offer(Entry {
            sequence_number: SequenceNumber::new(number.to_string()).unwrap(),
            key: u64::from(number),
            arrival: None,
            present_since: 0,
            body: Bytes::from_static(b"{}"),
        });
    }
    shard.close();
    shard
}

/// Lets every fault strike, with a function that makes a batch read and a transaction.
fn strike(faults: &mut Faults, invocation: &Invocation, met: &mut Met) -> Reply {
    let mut plan = faults.plan(0, &invocation.records, 0);
    let mut struck = Vec::new();
    struck.extend(plan.cut.map(|(fault, _)| fault));
    for operation in [Operation::BatchRead, Operation::Transaction { write: true }] {
        // A fault that is met fails the call, and the function tries again.
        while plan.store.meet(operation).is_some() {}
    }
    let (of_store, left) = plan.store.finish();
    struck.extend(of_store);
    faults.settle(0, &invocation.records, plan.armed, &struck, left);
    let mut note = |number: &SequenceNumber<'_>, times: usize| {
        *met.by_record.entry(number.to_string()).or_default() += u8::try_from(times).unwrap();
    };
    for record in invocation.records.iter() {
        note(&record.sequence_number, struck.len());
    }
    if let Some((_, records)) = plan.duplicate {
        records.iter().for_each(|record| note(&record.sequence_number, 1));
    }
    if struck.is_empty() {
        faults.delivered(0, invocation.records.clone());
        Reply::Returned(Bytes::from_static(b"{}"))
    } else {
        Reply::FunctionError
    }
}

fn run(seed: u64, parameters: &Parameters) -> Met {
    let mut faults = Faults::new(seed, parameters, 3_000);
    let mut shard = shard(parameters, 600);
    let (mut met, mut now) = (Met::default(), 0);
    loop {
        match shard.poll(now) {
            Step::Invoke(invocation) => {
                met.invocations.push(invocation.records.len());
                let reply = strike(&mut faults, &invocation, &mut met);
                shard.reply(invocation.id, now, reply);
                if let Some(checkpoint) = shard.checkpoint() {
                    faults.forget(0, checkpoint);
                }
            }
            Step::Deliver(_) => met.discards += 1,
            Step::Lost(_) => panic!("nothing expires"),
            Step::Wait(until) => now = until,
            Step::Done => break,
            Step::Read | Step::Busy => unreachable!("closed, and answered at once"),
        }
    }
    assert!(faults.met.is_empty(), "finished records are forgotten");
    met.counts = faults.counts().clone();
    met
}

fn parameters(batch_size: usize, factor: usize, retries: Option<u32>, bisect: bool) -> Parameters {
    Parameters {
        batch_size,
        parallelization_factor: factor,
        maximum_retry_attempts: retries,
        bisect_batch_on_function_error: bisect,
        ..Parameters::default()
    }
}

#[test]
fn no_record_meets_too_many_faults_and_none_is_discarded_by_them() {
    for seed in 0..30 {
        for batch_size in [1, 10, 1000] {
            for retries in [None, Some(0), Some(1), Some(2), Some(7)] {
                for bisect in [false, true] {
                    let parameters =
                        parameters(batch_size, 1 + 3 * (seed % 2) as usize, retries, bisect);
                    let met = run(seed, &parameters);
                    let most = met.by_record.values().max().copied().unwrap_or(0);
                    assert!(most <= FAULTS_PER_RECORD_MAX, "seed {seed}: {most}");
                    assert_eq!(met.discards, 0, "seed {seed}, {parameters:?}");
                }
            }
        }
    }
}

#[test]
fn every_kind_strikes_a_run_of_600_records() {
    for batch_size in [1, 10, 1000] {
        let missing = (0..50)
            .map(|seed| run(seed, &parameters(batch_size, 4, None, true)))
            .filter(|met| met.counts.len() != 10 || met.counts.values().any(|count| *count == 0))
            .count();
        assert!(missing < 20, "BatchSize {batch_size}: {missing} of 50 seeds lack a kind");
    }
}

#[test]
fn a_seed_repeats_and_another_differs() {
    let parameters = parameters(10, 4, None, true);
    assert_eq!(run(7, &parameters), run(7, &parameters));
    assert_ne!(run(7, &parameters), run(8, &parameters));
}

#[test]
fn without_retries_only_duplicates_come() {
    let met = run(3, &parameters(10, 1, Some(0), true));
    let others = met.counts.iter().filter(|(name, _)| **name != "duplicate_delivery");
    assert_eq!(others.map(|(_, count)| count).sum::<u64>(), 0);
    assert!(met.counts["duplicate_delivery"] > 0);
}
