//! The flights as their table would stream them into a data stream: copies, any order, changes of
//! one moment. Held against `SQLite` over the items as they are at the end.

use crate::{
    oracle,
    support::{self, replayed},
};
use aws_sdk_dynamodb::types::{AttributeValue, Put, TransactWriteItem};
use changefold::{
    local::{
        clock::{Pace, VirtualClock},
        faulty_client::FaultyClient,
        run::Summary,
        source::Fixtures,
        template::Template,
    },
    record::Source,
    store::{Item, Store, embedded},
    view::rows::Listing,
};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
};

const SEEDS: u64 = 40;
/// A record comes so many places after the first that could be there, at most.
const DISORDER: usize = 80;
/// A copy comes as late as this behind it.
const COPY_AFTER: usize = 300;

/// Makes of a record of a table's stream the document that the table streams into a data stream.
pub(super) fn into_document(record: &mut Value, table: &str, (moment, unit): (u64, &str)) {
    let change = record["dynamodb"].take();
    let mut written = json!({ "ApproximateCreationDateTime": moment, "Keys": change["Keys"] });
    for image in ["NewImage", "OldImage"] {
        if !change[image].is_null() {
            written[image] = change[image].clone();
        }
    }
    written["SizeBytes"] = change["SizeBytes"].clone();
    if unit != "MILLISECOND" {
        written["ApproximateCreationDateTimePrecision"] = unit.into();
    }
    *record = json!({
        "awsRegion": "us-east-1",
        "eventID": record["eventID"],
        "eventName": record["eventName"],
        "userIdentity": record["userIdentity"],
        "recordFormat": "application/json",
        "tableName": table,
        "dynamodb": written,
        "eventSource": "aws:dynamodb",
    });
}

/// What the moments of the changes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Moments {
    /// Each its own, in microseconds.
    Micros,
    /// Each its own, in milliseconds.
    Millis,
    /// Those of the order in which the records come: as if that were the order of the changes.
    OfArrival,
    /// Some changes have that of the change of their item before.
    Tied,
    /// The same changes, one of each two a microsecond later: the one that comes later.
    TiedBrokenByArrival,
}

struct Flights {
    records: Vec<Value>,
    items: oracle::Items,
    statements: Vec<String>,
}

/// What came of a run.
struct Ran {
    listings: Vec<Listing>,
    summary: Summary,
    left_out: BTreeSet<String>,
}

impl Flights {
    fn read() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let path = root.join("fixtures/flights-600.jsonl.gz");
        let mut text = String::new();
        let file = std::fs::File::open(&path).unwrap();
        std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(file), &mut text).unwrap();
        let records = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let views = std::fs::read_to_string(root.join("views/flights.sql")).unwrap();
        let statements = oracle::statements(&views);
        Self { records, items: oracle::items(&path), statements }
    }

    /// The records of the data stream, in the order in which they come; and the keys of items whose
    /// newest change is tied.
    fn streamed(&self, seed: u64, moments: Moments) -> (Vec<String>, BTreeSet<String>) {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut places: Vec<(usize, usize)> = Vec::new();
        for at in 0..self.records.len() {
            let place = at + random.usize(..DISORDER);
            places.push((place, at));
            if random.u8(..4) == 0 {
                places.push((place + random.usize(..COPY_AFTER), at));
            }
        }
        places.sort_unstable();
        let is_tied: Vec<bool> = self.records.iter().map(|_| random.u8(..3) == 0).collect();
        let first_place = |at: usize| places.iter().position(|(_, other)| *other == at).unwrap();
        let (mut micros, mut tied) = (Vec::new(), BTreeSet::new());
        let mut before: BTreeMap<String, usize> = BTreeMap::new();
        for (at, record) in self.records.iter().enumerate() {
            let own = 1_357_000_000_000_000 + u64::try_from(at).unwrap() * 1_000;
            let key = record["dynamodb"]["Keys"].to_string();
            let former = before.insert(key.clone(), at).filter(|_| is_tied[at]);
            micros.push(match (moments, former) {
                (Moments::Tied, Some(former)) => {
                    tied.insert(key);
                    micros[former]
                }
                (Moments::Tied, None) => {
                    tied.remove(&key);
                    own
                }
                (Moments::TiedBrokenByArrival, Some(former)) => {
                    let is_later = first_place(at) > first_place(former);
                    if is_later { micros[former] + 1 } else { micros[former] - 1 }
                }
                _ => own,
            });
        }
        let lines = places.iter().enumerate().map(|(position, &(_, at))| {
            let mut record = self.records[at].clone();
            let shard = record["shardId"].as_str().unwrap();
            let shard = shard.bytes().map(usize::from).sum::<usize>() % 2;
            let arrived = 1_357_000_000_000_000 + u64::try_from(position).unwrap() * 1_000;
            let moment = match moments {
                Moments::Millis => (micros[at] / 1_000, "MILLISECOND"),
                Moments::OfArrival => (arrived, "MICROSECOND"),
                _ => (micros[at], "MICROSECOND"),
            };
            into_document(&mut record, "flights", moment);
            let data = base64_simd::STANDARD.encode_to_string(record.to_string());
            let number = position + 1;
            format!(
                r#"{{"kinesis":{{"kinesisSchemaVersion":"1.0","partitionKey":"p","sequenceNumber":"{number}","data":"{data}","approximateArrivalTimestamp":{}.{:03}}},"eventSource":"aws:kinesis","eventVersion":"1.0","eventID":"shardId-{shard:012}:{number}","eventName":"aws:kinesis:record","awsRegion":"us-east-1","eventSourceARN":"arn:aws:kinesis:us-east-1:123456789012:stream/flight-changes"}}"#,
                arrived / 1_000_000,
                arrived / 1_000 % 1_000,
            )
        });
        (lines.collect(), tied)
    }

    fn run(&self, lines: &[String], seed: Option<u64>, has_table: bool) -> Ran {
        let name = format!("changefold-table-changes-{}-{seed:?}-{has_table}", std::process::id());
        let thread = format!("{:?}", std::thread::current().id());
        let directory = std::env::temp_dir().join(name + &thread);
        std::fs::create_dir_all(&directory).unwrap();
        let path = directory.join("records.jsonl");
        std::fs::write(&path, lines.join("\n")).unwrap();
        let fixtures = Fixtures::open(&[path]).unwrap();
        let ran = support::block_on(self.replay(&fixtures, seed, has_table));
        std::fs::remove_dir_all(directory).unwrap();
        ran
    }

    async fn replay(&self, fixtures: &Fixtures, seed: Option<u64>, has_table: bool) -> Ran {
        let template = Path::new(env!("CARGO_MANIFEST_DIR")).join("infra/template.yaml");
        let template = Template::read(&template).unwrap();
        let mut parameters =
            template.event_source(Source::Kinesis, None).unwrap().parameters.clone();
        let factor = if seed.is_some_and(|seed| seed % 4 > 1) { "4" } else { "1" };
        let size = ["7", "100", "1000"][usize::try_from(seed.unwrap_or(1) % 3).unwrap()];
        for (name, value) in [("ParallelizationFactor", factor), ("BatchSize", size)] {
            parameters.set(name, &Value::from(value)).unwrap();
        }
        let clock = VirtualClock::new(fixtures.time_zero(), Pace::Virtual);
        let mut client = embedded::open(None).unwrap();
        if seed.is_some() {
            client = FaultyClient::wrap(client, Arc::clone(&clock));
        }
        let endpoint = support::local_endpoint(Some("http://embedded"));
        let store = Store::new(client, &endpoint, clock.clone(), seed.unwrap_or_default());
        if has_table {
            self.fill_table(&store).await;
        }
        let function = replayed::function(&self.statements, store, &clock).await;
        let summary = replayed::replay(fixtures, &function, &clock, (parameters, seed)).await;
        let mut listings = Vec::new();
        for at in 0..function.work().definitions().len() {
            listings.push(function.work().rows(at, usize::MAX).await.unwrap());
        }
        let quarantined = function.work().quarantined(usize::MAX).await.unwrap();
        let left_out = quarantined.first.into_iter().map(|item| item.key).collect();
        Ran { listings, summary, left_out }
    }

    /// The table as it is at the end.
    async fn fill_table(&self, store: &Store) {
        store.ensure_table("flights", &["flight"], None, support::FOREVER).await.unwrap();
        for item in self.items.values() {
            let put = Put::builder().table_name("flights").set_item(Some(attributes(item)));
            let put = TransactWriteItem::builder().put(put.build().unwrap()).build();
            store.transact(vec![put], support::FOREVER).await.unwrap();
        }
    }

    fn differences(&self, listings: &[Listing], items: &oracle::Items) -> Vec<String> {
        let views = self.statements.iter().zip(listings);
        views
            .filter_map(|(view, rows)| oracle::compare(view, "flights", items, rows).err())
            .collect()
    }

    /// The seeds in which some view differs from `SQLite`.
    fn wrong(&self, seeds: u64, moments: Moments) -> Vec<u64> {
        let is_wrong = |seed: &u64| {
            let (lines, _) = self.streamed(*seed, moments);
            let ran = self.run(&lines, Some(*seed), false);
            !self.differences(&ran.listings, &self.items).is_empty()
        };
        (0..seeds).filter(is_wrong).collect()
    }
}

fn attributes(item: &Value) -> Item {
    let members = item.as_object().unwrap().iter();
    members.map(|(name, value)| (name.clone(), attribute(value))).collect()
}

fn attribute(value: &Value) -> AttributeValue {
    let (kind, value) = value.as_object().unwrap().iter().next().unwrap();
    match (&**kind, value) {
        ("S", Value::String(text)) => AttributeValue::S(text.clone()),
        ("N", Value::String(digits)) => AttributeValue::N(digits.clone()),
        ("BOOL", Value::Bool(flag)) => AttributeValue::Bool(*flag),
        ("NULL", _) => AttributeValue::Null(true),
        ("L", Value::Array(list)) => AttributeValue::L(list.iter().map(attribute).collect()),
        ("M", map) => AttributeValue::M(attributes(map)),
        ("SS", Value::Array(texts)) => {
            AttributeValue::Ss(texts.iter().map(|it| it.as_str().unwrap().to_owned()).collect())
        }
        _ => panic!("an attribute of type {kind}"),
    }
}

#[test]
fn copies_in_any_order_end_as_sqlite_has_it() {
    let flights = Flights::read();
    for seed in 0..SEEDS {
        let moments = if seed % 2 == 0 { Moments::Micros } else { Moments::Millis };
        let (lines, _) = flights.streamed(seed, moments);
        assert!(lines.len() > flights.records.len());
        let faults = (seed % 3 != 0).then_some(seed);
        let ran = flights.run(&lines, faults, false);
        let differences = flights.differences(&ran.listings, &flights.items);
        assert!(differences.is_empty(), "SIM_SEED={seed}: {}", differences.join("\n"));
        assert!(ran.listings.iter().all(|listing| listing.total > 0));
        assert_eq!((ran.summary.discards, ran.left_out.len()), (0, 0), "SIM_SEED={seed}");
    }
}

#[test]
fn the_fixture_ends_as_sqlite_has_it() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/flights-600-streamed.jsonl.gz");
    let fixtures = Fixtures::open(&[path]).unwrap();
    let flights = Flights::read();
    for seed in [None, Some(7)] {
        let ran = support::block_on(flights.replay(&fixtures, seed, false));
        assert_eq!(flights.differences(&ran.listings, &flights.items), Vec::<String>::new());
        assert_eq!((ran.summary.discards, ran.left_out.len()), (0, 0));
    }
}

#[test]
fn control_the_order_of_arrival_taken_for_that_of_the_changes_is_wrong() {
    let flights = Flights::read();
    assert_eq!(flights.wrong(5, Moments::OfArrival), [0, 1, 2, 3, 4]);
}

#[test]
fn changes_of_one_moment_are_left_out_without_their_table_and_all_else_is_exact() {
    let flights = Flights::read();
    let mut sum = 0;
    for seed in 0..SEEDS / 3 {
        let (lines, tied) = flights.streamed(seed, Moments::Tied);
        let ran = flights.run(&lines, Some(seed), false);
        let key = |keys: &String| {
            let keys: Value = serde_json::from_str(keys).unwrap();
            format!("flight={}", keys["flight"]["S"].as_str().unwrap())
        };
        assert_eq!(ran.left_out, tied.iter().map(key).collect(), "SIM_SEED={seed}");
        let mut decided = flights.items.clone();
        decided.retain(|keys, _| !tied.contains(keys));
        let differences = flights.differences(&ran.listings, &decided);
        assert!(differences.is_empty(), "SIM_SEED={seed}: {}", differences.join("\n"));
        sum += tied.len();
    }
    assert!(sum > 100, "{sum}");
}

#[test]
fn changes_of_one_moment_are_exact_where_their_table_is_read() {
    let flights = Flights::read();
    for seed in 0..SEEDS / 3 {
        let (lines, tied) = flights.streamed(seed, Moments::Tied);
        assert!(!tied.is_empty());
        let ran = flights.run(&lines, None, true);
        let differences = flights.differences(&ran.listings, &flights.items);
        assert!(differences.is_empty(), "SIM_SEED={seed}: {}", differences.join("\n"));
        assert_eq!(ran.left_out.len(), 0, "SIM_SEED={seed}");
    }
}

#[test]
fn control_one_moment_decided_by_arrival_is_wrong() {
    let flights = Flights::read();
    assert!(!flights.wrong(10, Moments::TiedBrokenByArrival).is_empty());
}
