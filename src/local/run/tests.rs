//! Runs of small backlogs against a scripted target.

use super::{RunError, Setting, Summary, run};
use crate::{
    call::Call,
    clock::Clock,
    local::{
        checkpoint::Checkpoints,
        clock::{Pace, VirtualClock},
        faults::Faults,
        mapping::Parameters,
        source::Fixtures,
        target::{FunctionError, Target},
    },
};
use bytes::Bytes;
use futures_util::future::{FutureExt, LocalBoxFuture};
use std::{
    cell::RefCell,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

/// Notes what it is invoked with, sleeps a while, and fails while `poison` is among it.
struct Script {
    clock: Arc<VirtualClock>,
    sleep: Duration,
    poison: Option<&'static str>,
    delivered: RefCell<Vec<Vec<String>>>,
}

impl Target for Script {
    fn invoke(&self, payload: Bytes, _: Call) -> LocalBoxFuture<'_, Result<Bytes, FunctionError>> {
        async move {
            let event: serde_json::Value = serde_json::from_slice(&payload).unwrap();
            let number = |record: &serde_json::Value| {
                record["dynamodb"]["SequenceNumber"].as_str().unwrap().to_owned()
            };
            let numbers: Vec<_> = event["Records"].as_array().unwrap().iter().map(number).collect();
            self.clock.sleep(self.sleep).await;
            let fails = self.poison.is_some_and(|poison| numbers.iter().any(|n| n == poison));
            self.delivered.borrow_mut().push(numbers);
            if fails {
                return Err(FunctionError::unhandled("poisoned"));
            }
            Ok(Bytes::from_static(b"{\"batchItemFailures\":[]}"))
        }
        .boxed_local()
    }
}

/// A fixture file of its own for each test: `(shard, number)` a line.
struct Fixture(PathBuf);

impl Fixture {
    fn new(name: &str, records: &[(&str, u32)]) -> Self {
        let name = format!("changefold-run-{}-{name}.jsonl", std::process::id());
        let path = std::env::temp_dir().join(name);
        let line = |(shard, number): &(&str, u32)| {
            format!(
                r#"{{"shardId":"{shard}","eventSourceARN":"arn:aws:dynamodb:r:1:table/t/stream/l","dynamodb":{{"SequenceNumber":"{number}","Keys":{{"id":{{"N":"{number}"}}}}}}}}"#
            )
        };
        let lines: Vec<String> = records.iter().map(line).collect();
        std::fs::write(&path, lines.join("\n")).unwrap();
        Self(path)
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        std::fs::remove_file(&self.0).unwrap();
    }
}

struct Ran {
    delivered: Vec<Vec<String>>,
    result: Result<Summary, RunError>,
}

fn ran(
    path: &Path,
    sleep: Duration,
    poison: Option<&'static str>,
    seed: Option<u64>,
    set: impl FnOnce(&mut Parameters),
) -> Ran {
    let fixtures = Fixtures::open(&[path.to_owned()]).unwrap();
    let clock = VirtualClock::new(fixtures.time_zero(), Pace::Virtual);
    let delivered = RefCell::default();
    let script = Script { clock: Arc::clone(&clock), sleep, poison, delivered };
    let mut parameters = Parameters { batch_size: 2, ..Parameters::default() };
    set(&mut parameters);
    let setting = Setting {
        faults: seed.map(|seed| Faults::new(seed, &parameters, 60_000)),
        parameters,
        timeout: 60_000,
        function_arn: "arn".to_owned(),
        checkpoints: Checkpoints::forgotten(),
        from_start: false,
    };
    let result = run(&fixtures, &script, &clock, setting, &mut |_| {}).now_or_never().unwrap();
    Ran { delivered: script.delivered.into_inner(), result }
}

const NO_TIME: Duration = Duration::ZERO;

#[test]
fn every_shard_is_delivered_in_order_and_shards_share_the_time() {
    let records = [("a", 1), ("b", 1), ("a", 2), ("b", 2), ("a", 3), ("b", 3)];
    let fixture = Fixture::new("order", &records);
    let ran = ran(&fixture.0, Duration::from_secs(10), None, None, |_| {});
    assert_eq!(ran.delivered, [["1", "2"].as_slice(), &["1", "2"], &["3"], &["3"]]);
    let summary = ran.result.unwrap();
    assert_eq!((summary.records, summary.invocations, summary.elapsed), (6, 4, 20_000));
}

#[test]
fn a_stuck_shard_does_not_age_the_records_of_another() {
    let mut records: Vec<_> = (1..=20_000).map(|number| ("stuck", number)).collect();
    records.extend((30_001..=30_050).map(|number| ("healthy", number)));
    let fixture = Fixture::new("stuck", &records);
    let ran = ran(&fixture.0, NO_TIME, Some("1"), None, |parameters| {
        parameters.batch_size = 100;
        parameters.maximum_record_age_s = Some(60);
    });
    let healthy: Vec<String> = (30_001..=30_050).map(|number| number.to_string()).collect();
    assert!(ran.delivered.contains(&healthy));
    assert!(ran.result.unwrap().discards > 0, "the stuck shard's records have grown old");
}

#[test]
fn a_function_that_outlasts_its_timeout_has_failed() {
    let fixture = Fixture::new("timeout", &[("a", 1)]);
    let ran = ran(&fixture.0, Duration::from_secs(61), None, None, |parameters| {
        parameters.maximum_retry_attempts = Some(1);
    });
    let summary = ran.result.unwrap();
    assert_eq!((summary.failed_invocations, summary.discards), (2, 1));
    assert_eq!(summary.elapsed, 60_000 + 200 + 60_000);
}

#[test]
fn a_batch_that_fails_for_ever_ends_the_run_with_an_error() {
    let fixture = Fixture::new("forever", &[("a", 1)]);
    let ran = ran(&fixture.0, NO_TIME, Some("1"), None, |_| {});
    let error = ran.result.unwrap_err().to_string();
    assert!(error.contains("shard `a` makes no progress"), "{error}");
    assert!(error.contains("poisoned"), "{error}");
}

#[test]
fn faults_lose_nothing_and_repeat_with_their_seed() {
    let records: Vec<_> = (1..=300).map(|number| ("a", number)).collect();
    let fixture = Fixture::new("faults", &records);
    for seed in 0..20 {
        let again = || ran(&fixture.0, NO_TIME, None, Some(seed), |_| {});
        let (first, second) = (again(), again());
        assert_eq!(first.delivered, second.delivered, "seed {seed}");
        let mut numbers: Vec<u32> =
            first.delivered.iter().flatten().map(|number| number.parse().unwrap()).collect();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers, (1..=300).collect::<Vec<_>>(), "seed {seed}");
        let summary = first.result.unwrap();
        assert_eq!(summary.discards, 0, "seed {seed}");
        let struck = |name| summary.faults[name] > 0;
        assert!(["function_error", "lost_reply", "timeout"].into_iter().all(struck));
    }
}
