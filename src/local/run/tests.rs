//! Runs of small backlogs against a scripted target.

use super::{Backlog, Invoked, Next, Observer, RunError, Setting, Stream, Summary, follow, run};
use crate::{
    call::Call,
    clock::{Clock, SystemClock},
    local::{
        checkpoint::Checkpoints,
        clock::{Pace, VirtualClock},
        faults::Faults,
        mapping::{Entry, Lineage, Listed, OnFailure, Outcome, Parameters},
        source::Fixtures,
        target::{FunctionError, Target},
    },
    record::{SequenceNumber, Source, Timestamp},
};
use bytes::Bytes;
use futures_util::future::{FutureExt, LocalBoxFuture};
use std::{
    cell::RefCell,
    collections::{BTreeMap, VecDeque},
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

// R26
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

/// The function returns no state, so each call fails; the last one of the window never grows old.
#[test]
fn a_last_call_that_fails_for_ever_ends_the_run_though_records_grow_old() {
    let fixture = Fixture::new("last-call", &[("a", 1)]);
    let ran = ran(&fixture.0, NO_TIME, None, None, |parameters| {
        parameters.tumbling_window_s = Some(10);
        parameters.maximum_record_age_s = Some(60);
        parameters.retention_s = Some(DAY_S);
    });
    let error = ran.result.unwrap_err().to_string();
    assert!(error.contains("shard `a` makes no progress"), "{error}");
    assert!(ran.delivered.last().unwrap().is_empty(), "the last call has no records");
}

/// Waiting for a window at each of them would take longer than the stream keeps its records.
#[test]
fn batches_go_out_as_they_were_recorded_whatever_the_batching_window() {
    let records: Vec<_> = (1..=900).map(|number| ("a", number)).collect();
    let fixture = Fixture::new("recorded", &records);
    let text = std::fs::read_to_string(&fixture.0).unwrap();
    let marked = text.lines().zip(1..).map(|(line, number)| match number % 3 {
        0 => line.replacen('{', r#"{"endsBatch":true,"#, 1),
        _ => line.to_owned(),
    });
    std::fs::write(&fixture.0, marked.collect::<Vec<_>>().join("\n")).unwrap();
    let ran = ran(&fixture.0, NO_TIME, None, None, |parameters| {
        parameters.batch_size = 100;
        parameters.maximum_batching_window_s = 300;
        parameters.retention_s = Some(DAY_S);
    });
    assert!(ran.delivered.iter().all(|batch| batch.len() == 3), "{:?}", ran.delivered);
    let summary = ran.result.unwrap();
    assert_eq!((summary.invocations, summary.lost, summary.elapsed), (300, 0, 0));
}

const DAY_S: u32 = 86_400;

/// One shard is held up by a record that always fails; another one is healthy.
fn held_up(name: &str, set: impl FnOnce(&mut Parameters)) -> Ran {
    let fixture = Fixture::new(name, &[("a", 1), ("a", 2), ("a", 3), ("b", 11), ("b", 12)]);
    ran(&fixture.0, NO_TIME, Some("2"), None, |parameters| {
        parameters.bisect_batch_on_function_error = true;
        parameters.retention_s = Some(DAY_S);
        set(parameters);
    })
}

// R42, R43
#[test]
fn what_the_stream_lets_expire_behind_a_poison_record_is_lost_and_told() {
    let ran = held_up("expired", |_| {});
    let healthy: Vec<&str> = flat(&ran.delivered).into_iter().filter(|it| *it != "2").collect();
    assert_eq!(healthy, ["1", "1", "11", "12"], "what is held up is not delivered");
    let summary = ran.result.unwrap();
    // The poison record and the one behind it: all of a backlog expire at once.
    assert_eq!((summary.lost, summary.discards), (2, 0));
    let day = u64::from(DAY_S) * 1000;
    assert!((day + 1..=day + 60_000).contains(&summary.elapsed), "{}", summary.elapsed);
    let age = summary.iterator_age_max.unwrap();
    assert!((day - 60_000..=day).contains(&age), "the last call was just before: {age}");
}

/// The same where something else ends it before.
#[test]
fn what_is_given_up_in_time_is_not_lost() {
    let ran = held_up("given-up", |parameters| parameters.maximum_retry_attempts = Some(3));
    assert!(flat(&ran.delivered).contains(&"3"), "{:?}", ran.delivered);
    let summary = ran.result.unwrap();
    assert_eq!((summary.lost, summary.discards, summary.iterator_age_max), (0, 1, Some(1_400)));
    // A maximum age as long as the retention goes before it, a longer one does not.
    for (age, lost, discards) in [(DAY_S, 0, 2), (DAY_S + 1, 2, 0)] {
        let ran = held_up("aged", |parameters| parameters.maximum_record_age_s = Some(age));
        let summary = ran.result.unwrap();
        assert_eq!((summary.lost, summary.discards), (lost, discards), "{age}");
    }
}

/// A stream may keep records for longer than a run without end is let go on.
#[test]
fn a_long_retention_is_waited_for() {
    let ran = held_up("long", |parameters| parameters.retention_s = Some(10 * DAY_S));
    let summary = ran.result.unwrap();
    assert_eq!(summary.lost, 2);
    assert!(summary.elapsed > 10 * u64::from(DAY_S) * 1000, "{}", summary.elapsed);
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

/// A stream in memory: shards with their parents, and pages that come one after another.
struct Live {
    lineage: Lineage,
    begun: Vec<String>,
    /// By shard: pages still to come, then the end.
    pages: RefCell<BTreeMap<String, VecDeque<Vec<u32>>>>,
    read: RefCell<BTreeMap<String, VecDeque<u32>>>,
}

impl Live {
    /// `(shard, parents, pages)`.
    fn new(shards: &[(&str, &str, &[&[u32]])]) -> Self {
        let listing: Vec<Listed> = shards
            .iter()
            .map(|(shard_id, parents, _)| Listed {
                shard_id: (*shard_id).to_owned(),
                parents: parents.split_whitespace().map(str::to_owned).collect(),
            })
            .collect();
        let mut lineage = Lineage::default();
        lineage.learn(&listing);
        let pages = shards.iter().map(|(shard_id, _, pages)| {
            ((*shard_id).to_owned(), pages.iter().map(|page| page.to_vec()).collect())
        });
        Self {
            lineage,
            begun: Vec::new(),
            pages: RefCell::new(pages.collect()),
            read: RefCell::default(),
        }
    }
}

impl Backlog for Live {
    fn stream(&self) -> Stream {
        Stream {
            source: Source::DynamoDb,
            arn: "arn".to_owned(),
            time_zero: Timestamp(0),
            mapping_uuid: "uuid".to_owned(),
        }
    }

    fn begin(&mut self) -> Vec<String> {
        let begun = self.lineage.begin();
        self.begun.extend(begun.iter().cloned());
        begun
    }

    fn has_more(&self, shard: usize) -> bool {
        let shard = &self.begun[shard];
        self.read.borrow().get(shard).is_some_and(|read| !read.is_empty())
            || !self.pages.borrow().contains_key(shard)
    }

    fn next(&mut self, shard: usize, _: &dyn Fn(usize) -> bool) -> Result<Next, RunError> {
        let name = &self.begun[shard];
        let number = self.read.borrow_mut().get_mut(name).and_then(VecDeque::pop_front);
        let Some(number) = number else {
            let is_over = !self.pages.borrow().contains_key(name);
            return Ok(if is_over { Next::End } else { Next::Nothing });
        };
        let text = format!(r#"{{"dynamodb":{{"SequenceNumber":"{number}"}}}}"#);
        Ok(Next::Record(
            shard,
            Entry {
                sequence_number: SequenceNumber::new(number.to_string()).unwrap(),
                key: 0,
                arrival: None,
                present_since: 0,
                body: Bytes::from(text),
            },
        ))
    }

    fn finish(&mut self, shard: usize) {
        self.lineage.finish(&self.begun[shard]);
    }

    fn is_live(&self) -> bool {
        true
    }

    /// The next page of each shard that has begun; the end behind the last.
    async fn changes(&self) -> Result<(), RunError> {
        SystemClock.sleep(Duration::from_millis(2)).await;
        let mut pages = self.pages.borrow_mut();
        for shard in &self.begun {
            match pages.get_mut(shard).map(VecDeque::pop_front) {
                Some(Some(page)) => {
                    self.read.borrow_mut().entry(shard.clone()).or_default().extend(page);
                }
                Some(None) => drop(pages.remove(shard)),
                None => {}
            }
        }
        Ok(())
    }
}

/// Counts records with a good end, and can tell when there are enough.
struct Watch<'a> {
    wanted: usize,
    succeeded: usize,
    outcomes: Vec<(String, usize, Outcome)>,
    enough: &'a tokio::sync::Notify,
}

impl Observer for Watch<'_> {
    fn read(&mut self, _: u64) {}

    fn invoked(&mut self, invoked: &Invoked<'_>) {
        self.succeeded += match invoked.outcome {
            Outcome::Succeeded => invoked.records,
            Outcome::Partial(finished) => finished,
            Outcome::Failed | Outcome::NotInvoked => 0,
        };
        self.outcomes.push((invoked.shard.to_owned(), invoked.records, invoked.outcome));
        if self.succeeded >= self.wanted {
            self.enough.notify_one();
        }
    }

    fn discarded(&mut self, on_failure: &OnFailure) {
        self.succeeded += on_failure.records.len();
    }
}

/// Runs until so many records are done.
async fn followed(
    live: Live,
    poison: Option<&'static str>,
    wanted: usize,
    set: impl FnOnce(&mut Parameters),
) -> (Vec<Vec<String>>, Vec<(String, usize, Outcome)>, Summary) {
    let clock = VirtualClock::new(Timestamp(0), Pace::Real);
    let script =
        Script { clock: Arc::clone(&clock), sleep: NO_TIME, poison, delivered: RefCell::default() };
    let mut parameters = Parameters { batch_size: 2, ..Parameters::default() };
    set(&mut parameters);
    let setting = Setting {
        parameters,
        timeout: 60_000,
        function_arn: "arn".to_owned(),
        checkpoints: Checkpoints::forgotten(),
        from_start: false,
        faults: None,
    };
    let enough = tokio::sync::Notify::new();
    let mut watch = Watch { wanted, succeeded: 0, outcomes: Vec::new(), enough: &enough };
    let run = follow(live, &script, &clock, setting, enough.notified(), &mut watch);
    let summary = tokio::time::timeout(Duration::from_secs(10), run).await.unwrap().unwrap();
    (script.delivered.into_inner(), watch.outcomes, summary)
}

fn flat(delivered: &[Vec<String>]) -> Vec<&str> {
    delivered.iter().flatten().map(String::as_str).collect()
}

// R28
#[tokio::test]
async fn a_child_begins_when_its_parents_are_finished_and_what_was_read_is_sent_at_once() {
    let live = Live::new(&[
        ("a", "", &[&[1], &[], &[2, 3, 4]]),
        ("b", "", &[&[11]]),
        ("c", "a b", &[&[21, 22]]),
        ("d", "c", &[&[31]]),
    ]);
    let (delivered, _, summary) = followed(live, None, 8, |_| {}).await;
    let numbers = flat(&delivered);
    let at = |number: &str| numbers.iter().position(|it| *it == number).unwrap();
    assert!(at("21") > at("4") && at("21") > at("11") && at("31") > at("22"), "{numbers:?}");
    assert!(delivered.contains(&vec!["1".to_owned()]), "no batch waits to be full: {delivered:?}");
    assert!(delivered.contains(&vec!["2".to_owned(), "3".to_owned()]), "{delivered:?}");
    assert_eq!((numbers.len(), summary.records), (8, 8));
}

/// The parent's last record fails for a while after the shard was read to its end.
#[tokio::test]
async fn a_child_waits_for_what_its_parent_retries() {
    let live = Live::new(&[("a", "", &[&[1, 2]]), ("b", "a", &[&[11]]), ("c", "", &[&[21]])]);
    let (delivered, outcomes, summary) = followed(live, Some("2"), 4, |parameters| {
        parameters.maximum_retry_attempts = Some(1);
        parameters.bisect_batch_on_function_error = true;
    })
    .await;
    let numbers = flat(&delivered);
    let last_of_parent = numbers.iter().rposition(|it| *it == "2").unwrap();
    let child = numbers.iter().position(|it| *it == "11").unwrap();
    assert!(child > last_of_parent, "{numbers:?}");
    let other = numbers.iter().position(|it| *it == "21").unwrap();
    assert!(other < last_of_parent, "another shard does not wait: {numbers:?}");
    assert_eq!(summary.discards, 1);
    assert!(outcomes.iter().any(|(_, _, outcome)| *outcome == Outcome::Failed));
}

#[tokio::test]
async fn a_batching_window_gathers_what_comes_one_by_one() {
    let pages: Vec<&[u32]> = vec![&[1], &[2], &[3], &[4], &[5]];
    let live = Live::new(&[("a", "", &pages)]);
    let (delivered, ..) = followed(live, None, 5, |parameters| {
        parameters.batch_size = 100;
        parameters.maximum_batching_window_s = 1;
    })
    .await;
    assert_eq!(delivered.len(), 1, "{delivered:?}");
}

#[tokio::test]
async fn what_is_under_way_at_the_stop_ends_and_nothing_else_begins() {
    let live = Live::new(&[("a", "", &[&[1, 2, 3, 4, 5, 6]])]);
    let (delivered, _, summary) = followed(live, None, 2, |_| {}).await;
    assert_eq!(flat(&delivered), ["1", "2"]);
    assert_eq!(summary.invocations, 1);
}
