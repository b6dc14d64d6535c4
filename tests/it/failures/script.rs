//! What is delivered in one run: a backlog drawn from the seed, and the operator's requests.
//!
//! A record says itself what it does to its processor, so that any delivery of it by anybody
//! does the same. The operator's requests are records of a shard of their own: then the run
//! loop schedules, duplicates and kills a redrive as it does everything else.

use changefold::{
    record::Source,
    recovery::durable::{self, OnUnkeyed},
};
use std::{
    borrow::Cow,
    collections::BTreeMap,
    fmt::Write as _,
    path::{Path, PathBuf},
};

pub(crate) const KEYS: usize = 20;
/// The key that cannot be read: its records are in no order.
pub(crate) const UNKEYED: usize = KEYS;
/// The form of a record that is delivered for the first time, and the count of its receipts.
pub(crate) const FIRST: u32 = 1;
/// Half of the records belong to these.
const BUSY_KEYS: usize = 4;
/// What the keys of the operator's requests begin with.
pub(crate) const OPERATOR: &str = "operator";

/// And of those that ask for nothing.
pub(crate) const IDLE: &str = "operator-idle";

/// How many requests ask for something.
pub(crate) const OPERATIONS: usize = 24;

/// How often the product tries a record that fails unclassified.
pub(crate) const MAX_ATTEMPTS: u32 = durable::MAX_ATTEMPTS_DEFAULT.get();

/// Characters of a payload that has to be parted: each of 64, so that six bits of each are left
/// of the best compression, and an item takes 400 KB.
const LARGE: usize = 430_000;

/// Who delivers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Scenario {
    /// The desk's mapping of a stream.
    Stream,
    /// Two mappings of one stream to two functions, which share their tables.
    TwoConsumers,
    /// A FIFO queue.
    Queue,
    /// A mapping with a filter and sub-lanes, which gives up soon; what it gave up is rescued.
    Rescue,
}

/// One run's records and how they are delivered.
#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "each is a setting of its own")]
pub(crate) struct Settings {
    pub(crate) seed: u64,
    pub(crate) scenario: Scenario,
    pub(crate) source: Source,
    pub(crate) batch_size: usize,
    pub(crate) keys: usize,
    pub(crate) factor: usize,
    pub(crate) holds: bool,
    pub(crate) remembers: bool,
    pub(crate) marks_starts: bool,
    pub(crate) kills: bool,
    pub(crate) faults: bool,
    /// Some records end the process after the fix as well.
    pub(crate) curses: bool,
    /// The operator drops records.
    pub(crate) drops: bool,
    /// Some records have keys that nobody can read: what becomes of them until the fix.
    pub(crate) unkeyed: Option<OnUnkeyed>,
    /// Some payloads do not fit into one row.
    pub(crate) parts: bool,
}

impl Settings {
    pub(crate) fn of(seed: u64) -> Self {
        Self::plain(seed).with_extras()
    }

    /// The settings of a seed, in this scenario.
    pub(crate) fn of_scene(seed: u64, scenario: Scenario) -> Self {
        Self { scenario, ..Self::plain(seed) }.with_extras()
    }

    /// What the scenario allows of what else may happen.
    fn with_extras(self) -> Self {
        let mut rng = fastrand::Rng::with_seed(self.seed ^ 0xe7a5);
        let (is_cursed, drops, is_unkeyed) = (rng.u8(..3) == 0, rng.u8(..3) == 0, rng.u8(..3));
        let unkeyed = if rng.bool() { OnUnkeyed::Halt } else { OnUnkeyed::Park };
        let has_parts = rng.u8(..40) == 0;
        let is_stream = self.scenario == Scenario::Stream;
        let has_unkeyed = is_stream && self.source == Source::DynamoDb && is_unkeyed == 0;
        let settings = Self {
            curses: is_stream && self.kills && self.holds && is_cursed,
            drops,
            unkeyed: has_unkeyed.then_some(unkeyed),
            ..self
        };
        match settings.scenario {
            Scenario::Stream | Scenario::TwoConsumers => settings,
            Scenario::Queue => Self {
                source: Source::Sqs,
                batch_size: settings.batch_size.min(10),
                remembers: false,
                kills: false,
                parts: has_parts,
                ..settings
            },
            Scenario::Rescue => Self {
                batch_size: 10,
                factor: 4,
                keys: KEYS,
                holds: true,
                kills: false,
                parts: has_parts,
                ..settings
            },
        }
    }

    fn plain(seed: u64) -> Self {
        let place = usize::try_from(seed).unwrap();
        let mut rng = fastrand::Rng::with_seed(seed ^ 0x5e77);
        let (holds, remembers, marks_starts) = (rng.u8(..5) > 0, rng.u8(..5) > 0, rng.bool());
        let batch_size = [1, 10, 100][place % 3];
        // With one key in a shard its parked records need two transactions, and many pages.
        let has_few_keys = batch_size == 100 && rng.u8(..4) == 0;
        let scenario = match rng.u8(..10) {
            0 => Scenario::TwoConsumers,
            1 | 2 => Scenario::Queue,
            3 | 4 => Scenario::Rescue,
            _ => Scenario::Stream,
        };
        Self {
            seed,
            scenario,
            batch_size,
            keys: if has_few_keys { 2 } else { KEYS },
            factor: [1, 4][place / 3 % 2],
            source: [Source::Kinesis, Source::DynamoDb][place / 6 % 2],
            holds,
            remembers,
            marks_starts,
            kills: remembers && marks_starts,
            faults: true,
            curses: false,
            drops: false,
            unkeyed: None,
            parts: false,
        }
    }

    fn records(&self) -> usize {
        match self.batch_size {
            _ if self.scenario != Scenario::Stream => 140,
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
    /// As Lambda delivers it. A queue's message as it is received for the first time.
    pub(crate) body: String,
    /// Whether the mapping's filter leaves it out.
    pub(crate) is_filtered: bool,
}

impl Told {
    /// Whether it may be set aside for what it does itself.
    pub(crate) fn is_healthy(&self) -> bool {
        // Also "mixed": whether it is parked is for chance to say.
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
        let records = settings.records();
        let cursed = if settings.curses { rng.usize(..records) } else { records };
        for n in 0..records {
            let of = if rng.bool() { BUSY_KEYS.min(settings.keys) } else { settings.keys };
            let key = match rng.u8(..50) {
                0 if settings.unkeyed.is_some() => UNKEYED,
                _ => rng.usize(..of),
            };
            let fate = if n == cursed { "cursed" } else { &fate(&mut rng, settings.kills) };
            if settings.parts && n % 30 == 20 {
                script.add_large(key, "park", &mut rng);
            } else {
                script.add(key, fate);
            }
            let is_filtered = settings.scenario == Scenario::Rescue && rng.u8(..8) == 0;
            script.records[n].is_filtered = is_filtered;
        }
        for n in 0..idle + OPERATIONS {
            let key = if n < idle { format!("{IDLE}-{n}") } else { format!("{OPERATOR}-{n}") };
            let line = script.body(n, (&key, &(n + 1).to_string()), (OPERATOR, ""), 2);
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
            by_key: vec![Vec::new(); KEYS + 1],
            by_number: BTreeMap::new(),
            operations: Vec::new(),
            idle,
            source,
        }
    }

    fn add(&mut self, key: usize, fate: &str) {
        self.add_with(key, fate, "");
    }

    /// A record with a payload that no compression makes fit into one row.
    fn add_large(&mut self, key: usize, fate: &str, rng: &mut fastrand::Rng) {
        const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let letter = |_| char::from(LETTERS[rng.usize(..LETTERS.len())]);
        let payload: String = (0..LARGE).map(letter).collect();
        self.add_with(key, fate, &payload);
    }

    fn add_with(&mut self, key: usize, fate: &str, payload: &str) {
        let n = self.records.len();
        // Ten digits become eleven on the way: the order is one of numbers.
        let sequence_number = (9_999_999_000 + 17 * n).to_string();
        let name = format!("key-{key}");
        let body = self.body(n, (&name, &sequence_number), (fate, payload), key % 2);
        let turn = self.by_key[key].len();
        self.by_key[key].push(n);
        for name in [sequence_number.clone(), message_id(n)] {
            self.by_number.insert(name, n);
        }
        let fate = fate.to_owned();
        self.records.push(Told { key, turn, sequence_number, fate, body, is_filtered: false });
    }

    /// Which record has this sequence number, or this message id.
    pub(crate) fn find(&self, sequence_number: &str) -> Option<usize> {
        self.by_number.get(sequence_number).copied()
    }

    pub(crate) fn is_of_queue(&self) -> bool {
        self.source == Source::Sqs
    }

    /// The record as it comes: a message says how often it was received, and what is read from
    /// the stream again is written otherwise than what the mapping had delivered.
    pub(crate) fn text(&self, at: usize, form: u32) -> Cow<'_, str> {
        let body = &self.records[at].body;
        if self.is_of_queue() {
            let count = |count| format!(r#""ApproximateReceiveCount":"{count}""#);
            return body.replacen(&count(FIRST), &count(form), 1).into();
        }
        if form == FIRST {
            return body.into();
        }
        body.replacen(r#""awsRegion":"#, r#""awsRegion": "#, 1).into()
    }

    fn body(
        &self,
        n: usize,
        (key, number): (&str, &str),
        (fate, payload): (&str, &str),
        shard: usize,
    ) -> String {
        let at = 1_772_442_000 + 3 * n;
        let content =
            format!(r#"{{"n":{n},"fate":"{fate}","payload":"{payload}","note":"planted-7f3a"}}"#);
        match self.source {
            Source::Kinesis => {
                let data = base64_simd::STANDARD.encode_to_string(content);
                format!(
                    r#"{{"kinesis":{{"kinesisSchemaVersion":"1.0","partitionKey":"{key}","sequenceNumber":"{number}","data":"{data}","approximateArrivalTimestamp":{at}.5}},"eventSource":"aws:kinesis","eventVersion":"1.0","eventID":"shardId-00000000000{shard}:{number}","eventName":"aws:kinesis:record","awsRegion":"us-east-1","eventSourceARN":"arn:aws:kinesis:us-east-1:123456789012:stream/steps"}}"#
                )
            }
            Source::Sqs => message(n, (key, number), &content),
            Source::DynamoDb => {
                // A type that DynamoDB does not have: nobody can read this key.
                let kind = if key == format!("key-{UNKEYED}") { "X" } else { "S" };
                format!(
                    r#"{{"eventID":"{number}","eventName":"INSERT","eventVersion":"1.1","eventSource":"aws:dynamodb","awsRegion":"us-east-1","dynamodb":{{"ApproximateCreationDateTime":{at}.0,"Keys":{{"pk":{{"{kind}":"{key}"}}}},"NewImage":{{"pk":{{"S":"{key}"}},"n":{{"N":"{n}"}},"fate":{{"S":"{fate}"}},"payload":{{"S":"{payload}"}},"note":{{"S":"planted-7f3a"}}}},"SequenceNumber":"{number}","SizeBytes":1,"StreamViewType":"NEW_AND_OLD_IMAGES"}},"eventSourceARN":"arn:aws:dynamodb:us-east-1:123456789012:table/steps/stream/2026-03-02T08:00:00.000"}}"#
                )
            }
        }
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

/// Ids say nothing of the order; these say the opposite.
fn message_id(n: usize) -> String {
    format!("{:08x}-0000-4000-8000-000000000000", 0xffff_ffff - n)
}

/// A message of a FIFO queue. Eight were sent within one millisecond.
fn message(n: usize, (group, number): (&str, &str), content: &str) -> String {
    let sent = 1_772_442_000_000 + n / 8;
    serde_json::json!({
        "messageId": message_id(n),
        "receiptHandle": "r",
        "body": content,
        "attributes": {
            "ApproximateReceiveCount": FIRST.to_string(),
            "SentTimestamp": sent.to_string(),
            "SequenceNumber": number,
            "MessageGroupId": group,
        },
        "messageAttributes": {},
        "eventSource": "aws:sqs",
        "eventSourceARN": "arn:aws:sqs:us-east-1:123456789012:steps.fifo",
        "awsRegion": "us-east-1",
    })
    .to_string()
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
        // So many transient failures, then so many unclassified ones.
        160..200 => format!("mixed:{}", 10 * rng.u32(1..6) + rng.u32(1..4)),
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
