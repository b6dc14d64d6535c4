//! The views are exact whatever happens: the flights under injected faults, against `SQLite`.
//!
//! Every run here is the desk's own: the real function, its real store client, the embedded
//! DynamoDB and the mapping of `infra/template.yaml`. A run is repeated from its seed.

use crate::{
    oracle,
    support::{self, replayed},
    tamper::{Tamper, Tampered},
};
use changefold::{
    local::{
        clock::{Pace, VirtualClock},
        faulty_client::FaultyClient,
        run::Summary,
        source::Fixtures,
        template::Template,
    },
    record::Source,
    store::{Store, embedded},
    view::{read::Reader, rows::Listing},
};
use std::{collections::BTreeMap, path::Path, sync::Arc};

const SEEDS_ON_THE_CUT: u64 = 200;
const SEEDS_ON_ALL: u64 = 6;
/// Everything `--faults` injects, as `faults` in the JSON names it.
const KINDS: [&str; 10] = [
    "crash_after_store_call",
    "crash_before_store_call",
    "duplicate_delivery",
    "function_error",
    "lost_answer",
    "lost_reply",
    "throttling",
    "timeout",
    "transaction_conflict",
    "unprocessed_keys",
];

struct Flights {
    /// The table that the views read.
    table: &'static str,
    fixtures: Fixtures,
    items: oracle::Items,
    /// Tables that flights name items of, with their fixtures.
    named: Vec<(&'static str, Fixtures, oracle::Items)>,
    statements: Vec<String>,
}

impl Flights {
    fn read(fixture: &str) -> Self {
        Self::with_views(fixture, "views/flights.sql")
    }

    fn with_views(fixture: &str, views: &str) -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let path = root.join("fixtures").join(fixture);
        let items = oracle::items(&path);
        let fixtures = Fixtures::open(&[path]).unwrap();
        let text = std::fs::read_to_string(root.join(views)).unwrap();
        let (table, named) = ("flights", Vec::new());
        Self { table, fixtures, items, named, statements: oracle::statements(&text) }
    }

    /// The flights with the tables whose items they name.
    fn with_named(fixture: &str, views: &str, tables: &[&'static str]) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
        let named = tables.iter().map(|&table| {
            let path = folder.join(format!("{table}.jsonl"));
            (table, Fixtures::open(std::slice::from_ref(&path)).unwrap(), oracle::items(&path))
        });
        Self { named: named.collect(), ..Self::with_views(fixture, views) }
    }

    /// One replay of it all; the rows of every view, and how it went.
    fn replay(
        &self,
        seed: Option<u64>,
        settings: &[(&str, &str)],
        tamper: Option<Tamper>,
    ) -> (Vec<Listing>, Summary) {
        support::block_on(async {
            let template = Path::new(env!("CARGO_MANIFEST_DIR")).join("infra/template.yaml");
            let template = Template::read(&template).unwrap();
            let mut parameters =
                template.event_source(Source::DynamoDb, None).unwrap().parameters.clone();
            for (name, value) in settings {
                parameters.set(name, &serde_json::Value::from(*value)).unwrap();
            }
            let clock = VirtualClock::new(self.fixtures.time_zero(), Pace::Virtual);
            let mut client = embedded::open(None).unwrap();
            if seed.is_some() {
                client = FaultyClient::wrap(client, Arc::clone(&clock));
            }
            if let Some(tamper) = tamper {
                client = Tampered::wrap(client, tamper);
            }
            let endpoint = support::local_endpoint(None);
            let store = Store::new(client, &endpoint, clock.clone(), seed.unwrap_or_default());
            let function = replayed::function(&self.statements, store, &clock).await;
            let mut sources: Vec<&Fixtures> = self.named.iter().map(|(_, it, _)| it).collect();
            // The named items come first, or last.
            let place = if seed.is_some_and(|seed| seed % 2 == 1) { 0 } else { sources.len() };
            sources.insert(place, &self.fixtures);
            let mut told = None;
            for (at, source) in sources.into_iter().enumerate() {
                let how = (parameters.clone(), seed);
                let summary = replayed::replay(source, &function, &clock, how).await;
                if at == place {
                    told = Some(summary);
                }
            }
            let summary = told.unwrap();
            let mut listings = Vec::new();
            for (at, view) in function.work().definitions().iter().enumerate() {
                let listing = function.work().rows(at, usize::MAX).await.unwrap();
                if view.to_string().contains(" LIMIT ") {
                    // What the index says of the first groups, faults or not.
                    let store = function.work().store();
                    let reader = Reader::open(store, ("ledger", ""), &view.name, support::FOREVER);
                    let reader = reader.await.unwrap();
                    let read = reader.rows(&[], None, support::FOREVER, &mut |_| {}).await.unwrap();
                    assert_eq!(read.rows, listing.rows, "SIM_SEED={seed:?}: {}", view.name);
                }
                listings.push(listing);
            }
            (listings, summary)
        })
    }

    fn differences(&self, listings: &[Listing]) -> Vec<String> {
        self.statements
            .iter()
            .zip(listings)
            .filter_map(|(statement, listing)| {
                let named = self
                    .named
                    .iter()
                    .filter(|(table, ..)| statement.contains(&format!("JOIN {table} ")));
                let named = named.map(|(table, _, items)| (*table, items));
                let tables: Vec<_> = [(self.table, &self.items)].into_iter().chain(named).collect();
                oracle::compare_joined(statement, &tables, listing).err()
            })
            .collect()
    }

    /// Runs seeds on both cores; the sum of the faults they met.
    fn check_seeds(&self, seeds: u64, batch_sizes: &[&str]) -> Faulted {
        let threads: Vec<Faulted> = std::thread::scope(|scope| {
            let halves: Vec<_> = (0..2)
                .map(|half| {
                    scope.spawn(move || {
                        let mut faulted = Faulted::new();
                        for seed in (0..seeds).filter(|seed| seed % 2 == half) {
                            self.check_seed(seed, batch_sizes, &mut faulted);
                        }
                        faulted
                    })
                })
                .collect();
            halves.into_iter().map(|half| half.join().unwrap()).collect()
        });
        let mut all = Faulted::new();
        for (kind, count) in threads.into_iter().flatten() {
            *all.entry(kind).or_default() += count;
        }
        all
    }

    fn check_seed(&self, seed: u64, batch_sizes: &[&str], faulted: &mut Faulted) {
        let (listings, summary) = self.replay(Some(seed), &spread(seed, batch_sizes), None);
        let differences = self.differences(&listings);
        assert!(differences.is_empty(), "SIM_SEED={seed}: {}", differences.join("\n"));
        assert_eq!(summary.discards, 0, "SIM_SEED={seed}: a healthy record was discarded");
        for (kind, count) in &summary.faults {
            *faulted.entry(kind).or_default() += count;
        }
    }
}

type Faulted = BTreeMap<&'static str, u64>;

/// A seed's place in `ParallelizationFactor` {1, 4} × the batch sizes.
fn spread<'a>(seed: u64, batch_sizes: &[&'a str]) -> [(&'static str, &'a str); 2] {
    let place = usize::try_from(seed / 2).unwrap();
    let factor = if (seed / 2 / batch_sizes.len() as u64).is_multiple_of(2) { "1" } else { "4" };
    [("BatchSize", batch_sizes[place % batch_sizes.len()]), ("ParallelizationFactor", factor)]
}

#[test]
fn without_faults_every_view_equals_sqlite() {
    for fixture in ["flights-600.jsonl.gz", "flights.jsonl.gz"] {
        let flights = Flights::read(fixture);
        let (listings, summary) = flights.replay(None, &[], None);
        let differences = flights.differences(&listings);
        assert!(differences.is_empty(), "{fixture}: {}", differences.join("\n"));
        assert!(listings.iter().all(|listing| listing.total > 0), "{fixture}: an empty view");
        assert_eq!(summary.failed_invocations, 0);
    }
}

/// So many seeds, or as many as `FAULT_SEEDS` says.
fn seeds(usual: u64) -> u64 {
    support::environment("FAULT_SEEDS").map_or(usual, |seeds| seeds.parse().unwrap())
}

/// What keeps values, under the same faults.
const VALUES: &str = "fixtures/flights-values.sql";
const SEEDS_OF_VALUES: u64 = 60;

#[test]
fn ten_views_with_values_hours_and_first_groups_equal_sqlite_without_faults_and_with() {
    let flights = Flights::with_views("flights.jsonl.gz", VALUES);
    let (listings, _) = flights.replay(None, &[], None);
    assert_eq!(flights.differences(&listings), Vec::<String>::new());
    assert!(listings.iter().all(|listing| listing.total > 0));
    let flights = Flights::with_views("flights-600.jsonl.gz", VALUES);
    flights.check_seeds(seeds(SEEDS_OF_VALUES), &["10", "100", "1000"]);
}

#[test]
fn flights_joined_with_planes_and_airlines_equal_sqlite_without_faults_and_with() {
    let views = "fixtures/flights-joins.sql";
    let tables = ["planes", "airlines"];
    let flights = Flights::with_named("flights-600.jsonl.gz", views, &tables);
    let (listings, _) = flights.replay(None, &[], None);
    assert_eq!(flights.differences(&listings), Vec::<String>::new());
    assert!(listings.iter().all(|listing| listing.total > 0));
    flights.check_seeds(seeds(24), &["10", "100", "1000"]);
}

#[test]
fn groups_in_several_rows_equal_sqlite_without_faults_and_with() {
    let mut flights = Flights::read("flights-600.jsonl.gz");
    let is_grouped = |text: &&String| text.contains("GROUP BY") || text.contains("count(*)");
    let striped = flights.statements.iter().filter(is_grouped);
    let striped = striped.map(|text| text.replacen(" AS", " WITH (stripes = 3) AS", 1));
    flights.statements = striped.collect();
    assert!(flights.statements.len() >= 4, "{:?}", flights.statements);
    let (listings, _) = flights.replay(None, &[], None);
    assert_eq!(flights.differences(&listings), Vec::<String>::new());
    flights.check_seeds(seeds(24), &["10", "100", "1000"]);
}

#[test]
fn the_legs_of_schedules_equal_sqlite_without_faults_and_with() {
    let views = "fixtures/flights-legs.sql";
    let schedules = Flights::with_views("schedules.jsonl.gz", views);
    let schedules = Flights { table: "schedules", ..schedules };
    let (listings, _) = schedules.replay(None, &[], None);
    assert_eq!(schedules.differences(&listings), Vec::<String>::new());
    assert!(listings.iter().all(|listing| listing.total > 0));
    schedules.check_seeds(seeds(24), &["10", "100", "1000"]);
}

#[test]
fn two_hundred_fault_seeds_on_the_cut_leave_every_view_exact() {
    let flights = Flights::read("flights-600.jsonl.gz");
    let faulted = flights.check_seeds(SEEDS_ON_THE_CUT, &["1", "10", "1000"]);
    for kind in KINDS {
        assert!(faulted.get(kind).is_some_and(|count| *count > 0), "no {kind} in {faulted:?}");
    }
}

#[test]
fn fault_seeds_on_all_flights_leave_every_view_exact() {
    let flights = Flights::read("flights.jsonl.gz");
    flights.check_seeds(SEEDS_ON_ALL, &["100", "1000", "10"]);
}

/// Breaks the protocol under the same faults: the same check must see it.
#[track_caller]
fn is_caught(tamper: Tamper) {
    let flights = Flights::read("flights-600.jsonl.gz");
    let caught = (0..SEEDS_ON_THE_CUT).any(|seed| {
        let settings = spread(seed, &["1", "10", "1000"]);
        let (listings, _) = flights.replay(Some(seed), &settings, Some(tamper));
        !flights.differences(&listings).is_empty()
    });
    assert!(caught, "{tamper:?} went unnoticed in {SEEDS_ON_THE_CUT} seeds");
}

#[test]
fn control_without_the_guard_rows_are_wrong() {
    is_caught(Tamper::GuardRemoved);
}

#[test]
fn control_guarded_by_the_version_only_rows_are_wrong() {
    is_caught(Tamper::GuardByVersionOnly);
}

#[test]
fn control_a_conflict_taken_for_applied_makes_rows_wrong() {
    is_caught(Tamper::ConflictTakenForApplied);
}
