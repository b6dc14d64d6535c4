//! Poison records beside healthy keys: what the healthy ones notice, which is nothing, and what
//! it costs.

use super::{Backlog, Column, RETENTION_HOURS, drive, print};
use crate::support;
use changefold::{
    batch::lanes::Lanes,
    handler::Function,
    local::{
        clock::{Pace, VirtualClock},
        run::Summary,
    },
    operation::{self, Operation, Selection},
    outcome::Answer,
    processor::{Context, Failure, Processor},
    record::Change,
    recovery::{
        durable::DurableState,
        park::{
            OnPark, Park,
            envelope::{Envelope, HELD},
        },
        progress::Progress,
    },
    store::{Store, Usage, embedded},
};
use std::{cell::RefCell, collections::BTreeMap};

const KEYS: usize = 100;
const OF_EACH: usize = 100;
const SHARDS: usize = 4;
const TIMEOUT_MS: u64 = 60_000;

/// One key of ten has a poison record.
const ONE_KEY_OF: usize = 10;

/// Ways of being poison: said so, an error nobody classified, a panic, not even JSON.
const POISONS: [&str; 4] = ["park", "error", "panic", "unreadable"];

#[derive(serde::Deserialize)]
struct Told<'a> {
    fate: &'a str,
    number: u64,
}

/// Notes which invocation each record was processed in.
#[derive(Debug, Default)]
struct Noting {
    calls: RefCell<Vec<(u64, String)>>,
}

impl Processor for Noting {
    type Item<'a> = Told<'a>;

    async fn process(&self, change: Change<Told<'_>>, at: &Context<'_>) -> Result<(), Failure> {
        let told = change.new_image().unwrap();
        self.calls.borrow_mut().push((told.number, at.request_id().to_owned()));
        match told.fate {
            "park" => Err(Failure::park("told to")),
            "error" => Err(std::fmt::Error.into()),
            "panic" => std::panic::resume_unwind(Box::new("told to")),
            _ => Ok(()),
        }
    }
}

/// What a run has come to.
struct Ran {
    summary: Summary,
    calls: Vec<(u64, String)>,
    parked: Vec<Envelope>,
    usage: Usage,
}

fn ran(backlog: &Backlog, batch_size: &str) -> Ran {
    support::block_on(async {
        let clock = VirtualClock::new(backlog.fixtures.time_zero(), Pace::Virtual);
        let client = embedded::open(None).unwrap();
        let store = Store::new(client, &support::local_endpoint(None), clock.clone(), 1);
        let progress = Progress::new(store.clone(), "progress".to_owned(), RETENTION_HOURS);
        let park = Park::new(store.clone(), "park".to_owned(), OnPark::Hold, RETENTION_HOURS);
        let durable = DurableState::none().with_progress(progress).with_park(park);
        durable.ensure_tables(support::FOREVER).await.unwrap();
        let lanes = Lanes::new(Noting::default(), clock.clone()).with_durable_state(durable);
        let function = Function::new(lanes, clock.clone());

        let before = store.usage();
        let summary = drive(backlog, &function, &clock, (batch_size, TIMEOUT_MS)).await;
        let usage = store.usage().since(before);
        let all = Selection { limit: Some(usize::MAX), ..Selection::default() };
        let show = operation::event(Operation::Show(all));
        let answer = function.invoke(&show, &support::call()).await.unwrap();
        let Answer::Operation(shown) = answer else { panic!("a reply to an operation") };
        let parked = serde_json::from_value(shown["parked"].clone()).unwrap();
        let calls = function.work().processor().calls.take();
        Ran { summary, calls, parked, usage }
    })
}

fn poison(key: usize, place: usize) -> &'static str {
    // Anywhere among the key's records, its first and last included.
    let is_poison = key.is_multiple_of(ONE_KEY_OF) && place == (key * 11 / 10) % OF_EACH;
    if is_poison { POISONS[key / ONE_KEY_OF % POISONS.len()] } else { "ok" }
}

#[test]
fn a_poison_record_costs_its_key_alone() {
    let healthy = Backlog::new("healthy", (KEYS, OF_EACH, SHARDS), |_, _| "ok");
    let poisoned = Backlog::new("poisoned", (KEYS, OF_EACH, SHARDS), poison);
    let mut columns = Vec::new();
    for batch_size in ["100", "1000"] {
        let without = ran(&healthy, batch_size);
        let with = ran(&poisoned, batch_size);
        check(&poisoned, &without, &with);
        columns.push(column(&format!("BatchSize {batch_size}, without"), &without));
        columns.push(column("with", &with));
    }
    print(
        "10,000 records over 100 keys, a poison record in one key of ten",
        &[
            "invocations",
            "failed, bisects, discards",
            "processor calls",
            "records parked (failed + held behind)",
            "store calls",
            "write units",
            "read units",
        ],
        &columns,
    );
}

fn check(backlog: &Backlog, without: &Ran, with: &Ran) {
    for ran in [without, with] {
        let Summary { records, failed_invocations, bisects, discards, .. } = ran.summary;
        assert_eq!((records, failed_invocations, bisects, discards), (10_000, 0, 0, 0));
    }
    assert_eq!(with.summary.invocations, without.summary.invocations);
    assert_eq!((without.calls.len(), without.parked.len()), (10_000, 0));

    let held = backlog.held_by(|record| record.fate != "ok");
    assert_eq!(held.len(), KEYS / ONE_KEY_OF);
    let mut parked: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    for envelope in &with.parked {
        let of_key = parked.entry(&envelope.key).or_default();
        assert_eq!(envelope.error_code == HELD, !of_key.is_empty(), "{envelope:?}");
        of_key.push(envelope.sequence_number.parse().unwrap());
    }
    assert_eq!(parked, held, "each key holds its poison record and all behind it");

    // What is not held: processed once, and in the very invocation it would have been without.
    let is_held = |number: u64| held.values().any(|numbers| numbers.contains(&number));
    let free = |ran: &Ran| {
        let free = ran.calls.iter().filter(|(number, _)| !is_held(*number)).cloned();
        let mut free: Vec<(u64, String)> = free.collect();
        free.sort_unstable();
        free
    };
    let numbers = backlog.records.iter().map(|record| record.number);
    let wanted: Vec<u64> = numbers.filter(|number| !is_held(*number)).collect();
    let processed: Vec<u64> = free(with).into_iter().map(|(number, _)| number).collect();
    assert_eq!(processed, wanted, "each once");
    assert_eq!(free(with), free(without), "in the same invocations");
}

fn column(name: &str, ran: &Ran) -> Column {
    let Ran { summary, calls, parked, usage } = ran;
    let Summary { failed_invocations, bisects, discards, .. } = summary;
    let failed = parked.iter().filter(|envelope| envelope.error_code != HELD).count();
    let cells = vec![
        summary.invocations.to_string(),
        format!("{failed_invocations}, {bisects}, {discards}"),
        calls.len().to_string(),
        format!("{} ({failed} + {})", parked.len(), parked.len() - failed),
        usage.calls.to_string(),
        usage.write_units.to_string(),
        usage.read_units.to_string(),
    ];
    (name.to_owned(), cells)
}
