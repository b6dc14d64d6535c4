//! Aggregates on their way through the mapping and the function: what is repeated, and what is
//! run beside what.

use super::packed::{UserRecord, aggregate};
use crate::support;
use changefold::{
    batch::lanes::Lanes,
    handler::Function,
    local::{
        checkpoint::Checkpoints,
        clock::{Pace, VirtualClock},
        mapping::Parameters,
        run::{self, Setting, Summary},
        source::Fixtures,
    },
    operation::{self, Operation, Selection},
    outcome::Answer,
    processor::{Context, Failure, Processor},
    record::Change,
    recovery::{
        durable::DurableState,
        park::{OnPark, Park, envelope::Envelope},
        progress::Progress,
    },
    store::{Store, embedded},
};
use serde_json::Value;
use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet},
    process::Command,
};

const AGGREGATES: u64 = 10_000;
const KEYS: u64 = 499;
/// A user record of one aggregate in so many is poison, one of another fails for a while.
const POISON_IN: u64 = 500;
/// More tries than one invocation makes.
const FAILS: usize = 8;
const RETENTION_HOURS: u32 = 24;
const TIMEOUT_MS: u64 = 60_000;
const BEGINS_MS: u64 = 1_789_649_451_000;

#[derive(serde::Deserialize)]
struct Told<'a> {
    fate: &'a str,
    number: u64,
}

/// Does as it is told, and notes what it was given.
#[derive(Default)]
struct Noting {
    runs: RefCell<Vec<(String, u64)>>,
    running: Cell<usize>,
    most: Cell<usize>,
}

impl Processor for Noting {
    type Item<'a> = Told<'a>;

    async fn process(&self, change: Change<Told<'_>>, at: &Context<'_>) -> Result<(), Failure> {
        let told = change.new_image().unwrap();
        self.runs.borrow_mut().push((at.key().unwrap().to_string(), told.number));
        let tries = match told.fate {
            "flaky" => self.runs.borrow().iter().filter(|(_, it)| *it == told.number).count(),
            _ => 1,
        };
        self.running.update(|running| running + 1);
        self.most.update(|most| most.max(self.running.get()));
        tokio::task::yield_now().await;
        self.running.update(|running| running - 1);
        match told.fate {
            "park" => Err(Failure::park("told to")),
            "flaky" if tries <= FAILS => Err(Failure::retry("not yet")),
            _ => Ok(()),
        }
    }
}

/// Which aggregate and place a user record has, from its number; six to an aggregate.
const IN_EACH: u64 = 6;

fn fate(number: u64) -> &'static str {
    let (aggregate, place) = (number / IN_EACH, number % IN_EACH);
    match (aggregate % POISON_IN, place) {
        (17, 2) => "park",
        (342, 3) => "flaky",
        _ => "ok",
    }
}

/// A stream of aggregates over two shards; each key in one of them.
fn fixtures(name: &str, aggregates: u64) -> (std::path::PathBuf, Fixtures) {
    let line = |at: u64| {
        let shard = at % 2;
        let user_record = |number: u64| -> UserRecord {
            let key = format!("k-{}-{shard}", number * 31 % KEYS);
            let data = format!(r#"{{"fate":"{}","number":{number}}}"#, fate(number));
            (key, None, data.into_bytes())
        };
        let records: Vec<UserRecord> =
            (at * IN_EACH..(at + 1) * IN_EACH).map(user_record).collect();
        let data = base64_simd::STANDARD.encode_to_string(aggregate(&records));
        let (number, arrived) = (at + 1, BEGINS_MS + at * 100);
        let (seconds, rest) = (arrived / 1_000, arrived % 1_000);
        format!(
            r#"{{"kinesis":{{"kinesisSchemaVersion":"1.0","partitionKey":"a","sequenceNumber":"{number}","data":"{data}","approximateArrivalTimestamp":{seconds}.{rest:03}}},"eventSource":"aws:kinesis","eventVersion":"1.0","eventID":"shardId-{shard:012}:{number}","eventName":"aws:kinesis:record","awsRegion":"us-east-1","eventSourceARN":"arn:aws:kinesis:us-east-1:123456789012:stream/made"}}"#
        )
    };
    let lines: Vec<String> = (0..aggregates).map(line).collect();
    let name = format!("changefold-aggregates-{}-{name}", std::process::id());
    let directory = std::env::temp_dir().join(name);
    std::fs::create_dir_all(&directory).unwrap();
    let path = directory.join("records.jsonl");
    std::fs::write(&path, lines.join("\n")).unwrap();
    let fixtures = Fixtures::open(&[path]).unwrap();
    (directory, fixtures)
}

struct Ran {
    summary: Summary,
    runs: Vec<(String, u64)>,
    most: usize,
    parked: Vec<Envelope>,
}

fn ran(name: &str, aggregates: u64, remembers: bool) -> Ran {
    let (directory, fixtures) = fixtures(name, aggregates);
    let ran = support::block_on(async {
        let clock = VirtualClock::new(fixtures.time_zero(), Pace::Virtual);
        let client = embedded::open(None).unwrap();
        let store = Store::new(client, &support::local_endpoint(None), clock.clone(), 1);
        let park = Park::new(store.clone(), "park".to_owned(), OnPark::Skip, RETENTION_HOURS);
        let mut durable = DurableState::none().with_park(park);
        if remembers {
            let progress = Progress::new(store.clone(), "progress".to_owned(), RETENTION_HOURS);
            durable = durable.with_progress(progress);
        }
        durable.ensure_tables(support::FOREVER).await.unwrap();
        let lanes = Lanes::new(Noting::default(), clock.clone()).with_durable_state(durable);
        let function = Function::new(lanes, clock.clone());
        let mut parameters = Parameters::default();
        for (name, value) in [
            ("BatchSize", "100"),
            ("MaximumRetryAttempts", "-1"),
            ("BisectBatchOnFunctionError", "true"),
            ("FunctionResponseTypes", "ReportBatchItemFailures"),
        ] {
            parameters.set(name, &Value::from(value)).unwrap();
        }
        let setting = Setting {
            parameters,
            timeout: TIMEOUT_MS,
            function_arn: "arn:aws:lambda:us-east-1:123456789012:function:made".to_owned(),
            checkpoints: Checkpoints::forgotten(),
            from_start: false,
            faults: None,
        };
        let mut progress = |_| {};
        let run = run::run(&fixtures, &function, &clock, setting, &mut progress);
        let summary = tokio::task::unconstrained(run).await.unwrap();
        let all = Selection { limit: Some(usize::MAX), ..Selection::default() };
        let show = operation::event(Operation::Show(all));
        let answer = function.invoke(&show, &support::call()).await.unwrap();
        let Answer::Operation(shown) = answer else { panic!("a reply to an operation") };
        let parked = serde_json::from_value(shown["parked"].clone()).unwrap();
        let processor = function.work().processor();
        Ran { summary, runs: processor.runs.take(), most: processor.most.get(), parked }
    });
    std::fs::remove_dir_all(directory).unwrap();
    ran
}

/// How often each user record ran.
fn counted(runs: &[(String, u64)]) -> BTreeMap<u64, usize> {
    let mut counted = BTreeMap::new();
    for (_, number) in runs {
        *counted.entry(*number).or_default() += 1;
    }
    counted
}

#[test]
fn poison_in_the_middle_of_an_aggregate_repeats_and_loses_nothing() {
    let Ran { summary, runs, parked, .. } = ran("poison", AGGREGATES, true);
    let all = 0..AGGREGATES * IN_EACH;
    let of = |wanted: &str| -> BTreeSet<u64> {
        all.clone().filter(|number| fate(*number) == wanted).collect()
    };
    assert_eq!((of("park").len(), of("flaky").len()), (20, 20));
    assert_eq!(summary.records, AGGREGATES);
    assert!(summary.invocations > AGGREGATES / 100, "a flaky record ends its batch early");
    let expected = |number: u64| if fate(number) == "flaky" { FAILS + 1 } else { 1 };
    for (number, times) in counted(&runs) {
        assert_eq!(times, expected(number), "user record {number}");
    }
    assert_eq!(counted(&runs).len() as u64, AGGREGATES * IN_EACH, "none is lost");
    let parked: BTreeSet<u64> = parked
        .iter()
        .map(|envelope| {
            let aggregate = envelope.sequence_number.parse::<u64>().unwrap() - 1;
            aggregate * IN_EACH + u64::from(envelope.ordinal)
        })
        .collect();
    assert_eq!(parked, of("park"));
    let mut last = BTreeMap::new();
    for (key, number) in runs {
        let before = last.insert(key, number).unwrap_or_default();
        assert!(before <= number, "{number} after {before}");
    }
}

/// What the test above sees is progress, not chance.
#[test]
fn control_without_progress_finished_neighbours_are_repeated() {
    let Ran { runs, .. } = ran("control", 400, false);
    let repeated = counted(&runs).into_iter();
    let repeated = repeated.filter(|(number, times)| fate(*number) == "ok" && *times > 1).count();
    assert!(repeated > 0);
}

#[test]
fn user_records_of_one_aggregate_run_beside_each_other() {
    // One aggregate: its keys differ, so all its records may run at once.
    let Ran { most, runs, .. } = ran("beside", 1, true);
    assert_eq!((most as u64, runs.len() as u64), (IN_EACH, IN_EACH));
}

/// The clicks, packed or not, give the same views, whatever happens on the way.
#[test]
fn views_over_aggregates_are_those_over_their_records() {
    let replayed = |fixture: &str, faults: Option<u64>| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_changefold"));
        command.current_dir(env!("CARGO_MANIFEST_DIR"));
        command.args(["replay", fixture, "--views", "views/clicks.sql"]);
        if let Some(seed) = faults {
            command.args(["--faults", &seed.to_string()]);
        }
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let printed = String::from_utf8(output.stdout).unwrap();
        // Behind the rows it is said how it went.
        let rows = printed.lines().take_while(|line| !line.contains(" records in "));
        rows.map(str::to_owned).collect::<Vec<_>>()
    };
    let plain = replayed("fixtures/clicks.jsonl", None);
    assert_eq!(replayed("fixtures/clicks-aggregated.jsonl", None), plain);
    for seed in 0..20 {
        assert_eq!(replayed("fixtures/clicks-aggregated.jsonl", Some(seed)), plain, "{seed}");
    }
}
