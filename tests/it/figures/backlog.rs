//! A backlog made for a figure: a Kinesis stream over some keys, in which every record says
//! what becomes of it.

use changefold::local::source::Fixtures;
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// The seed of every backlog's order.
const SEED: u64 = 7;

/// Milliseconds between two records' arrivals: a batch of 1,000 spans a minute or two.
const PACE_MS: u64 = 100;

/// When the first record arrived, in milliseconds since the epoch.
const BEGINS_MS: u64 = 1_789_649_451_000;

/// A record of the backlog.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Made {
    /// Its place in the backlog, which is its sequence number.
    pub(super) number: u64,
    pub(super) key: String,
    pub(super) fate: &'static str,
}

/// Records in a directory of their own, gone with it.
pub(super) struct Backlog {
    directory: PathBuf,
    pub(super) fixtures: Fixtures,
    pub(super) records: Vec<Made>,
}

impl Backlog {
    /// So many records of each key in a random order, each key in one of the shards. `fate`
    /// chooses by key and by place among the key's records, both from 0.
    pub(super) fn new(
        name: &str,
        (keys, of_each, shards): (usize, usize, usize),
        fate: impl Fn(usize, usize) -> &'static str,
    ) -> Self {
        let mut order: Vec<usize> = (0..keys * of_each).map(|at| at % keys).collect();
        fastrand::Rng::with_seed(SEED).shuffle(&mut order);
        let mut places = vec![0; keys];
        let (mut lines, mut records) = (Vec::new(), Vec::new());
        for (number, key) in (1..).zip(order) {
            let fate = fate(key, places[key]);
            places[key] += 1;
            let made = Made { number, key: format!("key-{key:03}"), fate };
            lines.push(line(&made, key % shards));
            records.push(made);
        }
        let name = format!("changefold-figures-{}-{name}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        fs::create_dir_all(&directory).unwrap();
        let path = directory.join("records.jsonl");
        fs::write(&path, lines.join("\n")).unwrap();
        Self { directory, fixtures: Fixtures::open(&[path]).unwrap(), records }
    }

    /// A place in the backlog's directory.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// The records that are to be parked when all is over: by key the one with this fate, and
    /// all behind it.
    pub(super) fn held_by(&self, is_poison: impl Fn(&Made) -> bool) -> BTreeMap<&str, Vec<u64>> {
        let mut held: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
        for record in &self.records {
            if is_poison(record) || held.contains_key(record.key.as_str()) {
                held.entry(&record.key).or_default().push(record.number);
            }
        }
        held
    }
}

impl Drop for Backlog {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.directory).ok();
    }
}

fn line(made: &Made, shard: usize) -> String {
    let Made { number, key, fate } = made;
    let data = match *fate {
        "unreadable" => "no JSON".to_owned(),
        fate => {
            format!(r#"{{"fate":"{fate}","key":"{key}","number":{number},"note":"planted-7f3a"}}"#)
        }
    };
    let data = base64_simd::STANDARD.encode_to_string(data);
    let arrived = BEGINS_MS + PACE_MS * number;
    let (seconds, rest) = (arrived / 1_000, arrived % 1_000);
    format!(
        r#"{{"kinesis":{{"kinesisSchemaVersion":"1.0","partitionKey":"{key}","sequenceNumber":"{number}","data":"{data}","approximateArrivalTimestamp":{seconds}.{rest:03}}},"eventSource":"aws:kinesis","eventVersion":"1.0","eventID":"shardId-{shard:012}:{number}","eventName":"aws:kinesis:record","awsRegion":"us-east-1","eventSourceARN":"arn:aws:kinesis:us-east-1:123456789012:stream/made"}}"#
    )
}

/// The effects that the program has made, as `(key, number)` in the order they were made.
pub(super) fn effects(path: &Path) -> Vec<(String, u64)> {
    let text = fs::read_to_string(path).unwrap();
    let effect = |line: &str| {
        let (key, number) = line.split_once(' ').unwrap();
        (key.to_owned(), number.parse().unwrap())
    };
    text.lines().map(effect).collect()
}
