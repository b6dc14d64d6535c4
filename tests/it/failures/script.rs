//! What is delivered in one run: a backlog drawn from the seed, and the operator's requests.
//!
//! A record says itself what it does to its processor, so that any delivery of it by anybody
//! does the same. The operator's requests are records of a shard of their own: then the run
//! loop schedules, duplicates and kills a redrive as it does everything else.

use changefold::record::Source;
use std::{
    collections::BTreeMap,
    fmt::Write as _,
    path::{Path, PathBuf},
};

pub(crate) const KEYS: usize = 20;
/// Half of the records belong to these.
const BUSY_KEYS: usize = 4;
/// What the keys of the operator's requests begin with.
pub(crate) const OPERATOR: &str = "operator";

/// And of those that ask for nothing.
pub(crate) const IDLE: &str = "operator-idle";

/// How many requests ask for something.
pub(crate) const OPERATIONS: usize = 24;

/// One run's records and how they are delivered.
#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "each is a setting of its own")]
pub(crate) struct Settings {
    pub(crate) seed: u64,
    pub(crate) source: Source,
    pub(crate) batch_size: usize,
    pub(crate) keys: usize,
    pub(crate) factor: usize,
    pub(crate) holds: bool,
    pub(crate) remembers: bool,
    pub(crate) marks_starts: bool,
    pub(crate) kills: bool,
    pub(crate) faults: bool,
}

impl Settings {
    pub(crate) fn of(seed: u64) -> Self {
        let place = usize::try_from(seed).unwrap();
        let mut rng = fastrand::Rng::with_seed(seed ^ 0x5e77);
        let (holds, remembers, marks_starts) = (rng.u8(..5) > 0, rng.u8(..5) > 0, rng.bool());
        let batch_size = [1, 10, 100][place % 3];
        // With one key in a shard its parked records need two transactions, and many pages.
        let has_few_keys = batch_size == 100 && rng.u8(..4) == 0;
        Self {
            seed,
            batch_size,
            keys: if has_few_keys { 2 } else { KEYS },
            factor: [1, 4][place / 3 % 2],
            source: [Source::Kinesis, Source::DynamoDb][place / 6 % 2],
            holds,
            remembers,
            marks_starts,
            kills: remembers && marks_starts,
            faults: true,
        }
    }

    fn records(&self) -> usize {
        match self.batch_size {
            1 => 140,
            10 => 240,
            _ => 400,
        }
    }
}

/// One record of the backlog.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) key: usize,
    /// Its place among the records of its key.
    pub(crate) turn: usize,
    pub(crate) sequence_number: String,
    pub(crate) fate: String,
    /// As Lambda delivers it.
    pub(crate) body: String,
}

impl Told {
    /// Whether it may be set aside for what it does itself.
    pub(crate) fn is_healthy(&self) -> bool {
        ["ok", "slow", "flaky"].iter().any(|fate| self.fate.starts_with(fate))
    }
}

/// The whole backlog.
#[derive(Debug)]
pub(crate) struct Script {
    pub(crate) records: Vec<Told>,
    pub(crate) by_key: Vec<Vec<usize>>,
    by_number: BTreeMap<String, usize>,
    operations: Vec<String>,
    /// Requests that ask for nothing.
    idle: usize,
    source: Source,
}

impl Script {
    /// A backlog drawn from the seed.
    pub(crate) fn new(settings: &Settings) -> Self {
        let mut rng = fastrand::Rng::with_seed(settings.seed ^ 0x5c21);
        let idle = if settings.batch_size < 100 { settings.batch_size } else { 0 };
        let mut script = Self::empty(settings.source, idle);
        for _ in 0..settings.records() {
            let of = if rng.bool() { BUSY_KEYS.min(settings.keys) } else { settings.keys };
            let key = rng.usize(..of);
            script.add(key, &fate(&mut rng, settings.kills));
        }
        for n in 0..idle + OPERATIONS {
            let key = if n < idle { format!("{IDLE}-{n}") } else { format!("{OPERATOR}-{n}") };
            let line = script.body(n, &key, &(n + 1).to_string(), OPERATOR, 2);
            script.operations.push(line);
        }
        script
    }

    /// These records, by key and fate.
    pub(crate) fn of(records: &[(usize, &str)]) -> Self {
        let mut script = Self::empty(Source::Kinesis, 0);
        for (key, fate) in records {
            script.add(*key, fate);
        }
        script
    }

    fn empty(source: Source, idle: usize) -> Self {
        Self {
            records: Vec::new(),
            by_key: vec![Vec::new(); KEYS],
            by_number: BTreeMap::new(),
            operations: Vec::new(),
            idle,
            source,
        }
    }

    fn add(&mut self, key: usize, fate: &str) {
        let n = self.records.len();
        // Ten digits become eleven on the way: the order is one of numbers.
        let sequence_number = (9_999_999_000 + 17 * n).to_string();
        let body = self.body(n, &format!("key-{key}"), &sequence_number, fate, key % 2);
        self.by_number.insert(sequence_number.clone(), n);
        let turn = self.by_key[key].len();
        self.by_key[key].push(n);
        self.records.push(Told { key, turn, sequence_number, fate: fate.to_owned(), body });
    }

    /// Which record has this sequence number.
    pub(crate) fn find(&self, sequence_number: &str) -> Option<usize> {
        self.by_number.get(sequence_number).copied()
    }

    fn body(&self, n: usize, key: &str, number: &str, fate: &str, shard: usize) -> String {
        let at = 1_772_442_000 + 3 * n;
        if self.source == Source::Kinesis {
            let data = format!(r#"{{"n":{n},"fate":"{fate}","note":"planted-7f3a"}}"#);
            let data = base64_simd::STANDARD.encode_to_string(data);
            return format!(
                r#"{{"kinesis":{{"kinesisSchemaVersion":"1.0","partitionKey":"{key}","sequenceNumber":"{number}","data":"{data}","approximateArrivalTimestamp":{at}.5}},"eventSource":"aws:kinesis","eventVersion":"1.0","eventID":"shardId-00000000000{shard}:{number}","eventName":"aws:kinesis:record","awsRegion":"us-east-1","eventSourceARN":"arn:aws:kinesis:us-east-1:123456789012:stream/steps"}}"#
            );
        }
        format!(
            r#"{{"eventID":"{number}","eventName":"INSERT","eventVersion":"1.1","eventSource":"aws:dynamodb","awsRegion":"us-east-1","dynamodb":{{"ApproximateCreationDateTime":{at}.0,"Keys":{{"pk":{{"S":"{key}"}}}},"NewImage":{{"pk":{{"S":"{key}"}},"n":{{"N":"{n}"}},"fate":{{"S":"{fate}"}},"note":{{"S":"planted-7f3a"}}}},"SequenceNumber":"{number}","SizeBytes":1,"StreamViewType":"NEW_AND_OLD_IMAGES"}},"eventSourceARN":"arn:aws:dynamodb:us-east-1:123456789012:table/steps/stream/2026-03-02T08:00:00.000"}}"#
        )
    }

    /// Lines for the desk. The mapping asks for a batch of the first shard, then for another:
    /// with that it reads everything, so that all shards run beside each other from then on.
    fn lines(&self) -> String {
        let (idle, asked) = self.operations.split_at(self.idle);
        let records = self.records.iter().map(|record| (record.body.as_str(), record.key % 2));
        let operation = |body| (String::as_str(body), 2);
        let mut lines = String::new();
        let first = idle.iter().map(operation);
        for (body, shard) in first.chain(records).chain(asked.iter().map(operation)) {
            if self.source == Source::Kinesis {
                writeln!(lines, "{body}").unwrap(); // it names its shard by itself
            } else {
                let open = body.strip_suffix('}').unwrap();
                writeln!(lines, r#"{open},"shardId":"shardId-00000000000{shard}"}}"#).unwrap();
            }
        }
        lines
    }
}

/// What a record does: mostly nothing special.
fn fate(rng: &mut fastrand::Rng, kills: bool) -> String {
    match rng.u32(..1_000) {
        0..40 => "park".to_owned(),
        40..60 => "error".to_owned(),
        60..70 => "panic".to_owned(),
        70..85 => "unreadable".to_owned(),
        85..125 => format!("flaky:{}", rng.u32(1..8)),
        125..145 => format!("slow:{}", rng.u32(1..4_000)),
        145..150 => "hang".to_owned(),
        150..157 if kills => "killer".to_owned(),
        _ => format!("ok:{}", rng.u32(..3)),
    }
}

/// The backlog as a file, as long as it is needed.
#[derive(Debug)]
pub(crate) struct File(PathBuf);

impl File {
    pub(crate) fn write(script: &Script, name: &str) -> Self {
        let name = format!("changefold-failures-{}-{name}.jsonl", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, script.lines()).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for File {
    fn drop(&mut self) {
        std::fs::remove_file(&self.0).unwrap();
    }
}
