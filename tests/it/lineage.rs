//! Shards that are split and merged: children wait for their parents, keys keep their order, and
//! the views are exact.

mod files;
mod windows;

use crate::{
    oracle,
    support::{self, replayed},
};
use bytes::Bytes;
use changefold::{
    call::Call,
    local::{
        clock::{Pace, VirtualClock},
        faulty_client::FaultyClient,
        mapping::Parameters,
        run::Summary,
        source::Fixtures,
        target::{FunctionError, Target},
    },
    store::{Store, embedded},
    view::rows::Listing,
};
use files::{TwoShards, written};
use futures_util::future::{FutureExt, LocalBoxFuture};
use serde_json::Value;
use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
};

/// `LINEAGE_SEEDS=1000` plays more.
const SEEDS: u64 = 150;

/// Passes every call on to the function, and knows for each record the one of its key before it.
struct Watched<'t, T> {
    target: &'t T,
    order: RefCell<Order>,
}

#[derive(Default)]
struct Order {
    /// The record before each of a key, by their event ids.
    before: BTreeMap<String, String>,
    finished: BTreeSet<String>,
    begun: usize,
    broken: Vec<String>,
}

impl Order {
    fn of(fixture: &Path) -> Self {
        let text = std::fs::read_to_string(fixture).unwrap();
        let mut last = BTreeMap::new();
        let mut order = Self::default();
        for line in text.lines() {
            let record: Value = serde_json::from_str(line).unwrap();
            let id = id(&record);
            let before = last.insert(record["dynamodb"]["Keys"].to_string(), id.clone());
            order.before.extend(before.map(|before| (id, before)));
        }
        assert!(order.before.len() > 100, "the fixture's keys have changes one after another");
        order
    }

    /// A call begins: what came before a record is finished, or stands before it in the batch.
    fn begin(&mut self, ids: &[String]) {
        self.begun += 1;
        for (at, id) in ids.iter().enumerate() {
            let Some(before) = self.before.get(id) else { continue };
            if !self.finished.contains(before) && !ids[..at].contains(before) {
                self.broken.push(format!("{id} began before {before} was finished"));
            }
        }
    }

    /// The function has answered: what stands before the first failure is finished.
    fn finish(&mut self, ids: &[String], numbers: &[String], reply: &[u8]) {
        let reply: Value = serde_json::from_slice(reply).unwrap();
        let failures = reply["batchItemFailures"].as_array().unwrap();
        let failed: Vec<&str> =
            failures.iter().map(|it| it["itemIdentifier"].as_str().unwrap()).collect();
        let first = numbers.iter().position(|number| failed.contains(&number.as_str()));
        self.finished.extend(ids[..first.unwrap_or(ids.len())].iter().cloned());
    }
}

fn id(record: &Value) -> String {
    record["eventID"].as_str().unwrap().to_owned()
}

impl<T: Target> Target for Watched<'_, T> {
    fn invoke(
        &self,
        payload: Bytes,
        call: Call,
    ) -> LocalBoxFuture<'_, Result<Bytes, FunctionError>> {
        let event: Value = serde_json::from_slice(&payload).unwrap();
        let records = event["Records"].as_array().unwrap();
        let ids: Vec<String> = records.iter().map(id).collect();
        let number = |record: &Value| record["dynamodb"]["SequenceNumber"].as_str().unwrap().into();
        let numbers: Vec<String> = records.iter().map(number).collect();
        self.order.borrow_mut().begin(&ids);
        async move {
            let reply = self.target.invoke(payload, call).await?;
            self.order.borrow_mut().finish(&ids, &numbers, &reply);
            Ok(reply)
        }
        .boxed_local()
    }
}

struct Ran {
    listings: Vec<Listing>,
    summary: Summary,
    order: Order,
}

/// One run of the views over a fixture, under faults.
fn run_views(two: &TwoShards, fixtures: &Fixtures, seed: u64) -> Ran {
    support::block_on(async {
        let mut parameters = Parameters::default();
        let batch_size = [1, 7, 50][usize::try_from(seed % 3).unwrap()];
        for (name, value) in [
            ("BatchSize", Value::from(batch_size)),
            ("ParallelizationFactor", Value::from(4)),
            ("MaximumRetryAttempts", Value::from(20)),
            ("BisectBatchOnFunctionError", Value::from(true)),
            ("FunctionResponseTypes", serde_json::json!(["ReportBatchItemFailures"])),
        ] {
            parameters.set(name, &value).unwrap();
        }
        let clock = VirtualClock::new(fixtures.time_zero(), Pace::Virtual);
        let client = FaultyClient::wrap(embedded::open(None).unwrap(), Arc::clone(&clock));
        let store = Store::new(client, &support::local_endpoint(None), clock.clone(), seed);
        let function = replayed::function(&two.statements, store, &clock).await;
        let watched = Watched { target: &function, order: RefCell::new(Order::of(two.path())) };
        let how = (parameters, Some(seed));
        let summary = replayed::replay(fixtures, &watched, &clock, how).await;
        let mut listings = Vec::new();
        for view in 0..two.statements.len() {
            listings.push(function.work().rows(view, usize::MAX).await.unwrap());
        }
        Ran { listings, summary, order: watched.order.into_inner() }
    })
}

/// What is wrong with a run, in words.
fn faults_of(two: &TwoShards, ran: &Ran) -> Vec<String> {
    let statements = two.statements.iter().zip(&ran.listings);
    let differences = statements.filter_map(|(statement, listing)| {
        oracle::compare(statement, "flights", &two.items, listing).err()
    });
    let mut found: Vec<String> = differences.collect();
    found.extend(ran.order.broken.iter().cloned());
    let unfinished = two.records - ran.order.finished.len();
    if unfinished > 0 || ran.summary.discards > 0 {
        found.push(format!("{unfinished} unfinished, {} discards", ran.summary.discards));
    }
    found
}

/// Each seed cuts the two shards elsewhere into parents and children, and injects other faults.
// R27, R28
#[test]
#[expect(clippy::print_stdout, reason = "how much was looked at")]
fn splits_and_merges_under_faults_keep_the_order_of_keys_and_leave_views_exact() {
    let seeds = support::environment("LINEAGE_SEEDS");
    let seeds: u64 = seeds.map_or(SEEDS, |seeds| seeds.parse().unwrap());
    let two = TwoShards::new("seeds");
    let fixtures = two.open();
    assert_eq!(fixtures.shards().len(), 2);
    let count = |half: u64| {
        let mut totals = [0; 4];
        for seed in (0..seeds).filter(|seed| seed % 2 == half) {
            let resharded = fixtures.resharded(seed).unwrap();
            let ran = run_views(&two, &resharded, seed);
            let found = faults_of(&two, &ran);
            assert!(found.is_empty(), "SIM_SEED={seed}: {}", found.join("\n"));
            let of = |parents| {
                let has = resharded.shards().iter().filter(|it| it.parents.len() == parents);
                has.count()
            };
            totals[0] += of(1);
            totals[1] += of(2);
            totals[2] += ran.order.begun;
            totals[3] += usize::try_from(ran.summary.faults.values().sum::<u64>()).unwrap();
        }
        totals
    };
    let (even, odd) = std::thread::scope(|scope| {
        let odd = scope.spawn(|| count(1));
        (count(0), odd.join().unwrap())
    });
    let [split, merged, calls, faults] = [0, 1, 2, 3].map(|at| even[at] + odd[at]);
    println!("{seeds} seeds: {split} children of splits, {merged} of merges, {calls} calls");
    let [split, merged] = [split, merged].map(|count| u64::try_from(count).unwrap());
    assert!(split >= 4 * seeds && merged >= 2 * seeds, "{split} {merged}");
    assert!(faults as u64 > seeds, "{faults}");
}

/// The same records in the same shards, of which no line says that they continue others.
#[test]
fn control_without_the_wait_for_parents_the_order_of_keys_breaks() {
    let two = TwoShards::new("control");
    let fixtures = two.open();
    let mut broken = 0;
    for seed in 0..10 {
        let resharded = fixtures.resharded(seed).unwrap();
        let stated = written(&two, &resharded, true, &format!("stated-{seed}"));
        let found = faults_of(&two, &run_views(&two, &stated, seed));
        assert!(found.is_empty(), "SIM_SEED={seed}, stated: {}", found.join("\n"));
        let unstated = written(&two, &resharded, false, &format!("unstated-{seed}"));
        broken += usize::from(!run_views(&two, &unstated, seed).order.broken.is_empty());
    }
    assert!(broken >= 5, "only {broken} of 10 seeds break the order without lineage");
}
