//! How far the tables carry: 1,000 shards, ten invocations a second each, against DynamoDB's
//! limits of one item.
//!
//! The function's real requests go to the embedded store through a model of these limits: an
//! item serves 3,000 read units and 1,000 write units a second, with nothing saved up; beyond
//! that a request is throttled, and one of several keys leaves them unprocessed. Source:
//! DynamoDB Developer Guide, "Best practices for designing and using partition keys".
//!
//! Time is virtual. The invocations of a second come in an order of the seed's, one after
//! another, each in the process of its shard. The layout before this one is played by its
//! requests alone: eight rows of holds for everybody and four rows of progress.

#![expect(clippy::cast_precision_loss, reason = "units are few, and measured as the store does")]

use super::{Column, print};
use crate::support::{self, FOREVER};
use aws_smithy_runtime_api::client::{
    http::{HttpConnector, HttpConnectorFuture},
    orchestrator::{HttpRequest, HttpResponse},
};
use aws_smithy_types::body::SdkBody;
use changefold::{
    batch::lanes::Lanes,
    call::Call,
    clock::Clock,
    handler::Function,
    processor::{self, Context, Failure},
    record::{Change, Timestamp},
    recovery::{
        durable::DurableState,
        park::{OnPark, Park},
        progress::Progress,
    },
    store::{Store, embedded::Embedded},
};
use futures_util::future::{BoxFuture, FutureExt, ready};
use serde::de::IgnoredAny;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, Ordering::Relaxed},
    },
    time::Duration,
};

const READS_MAX: f64 = 3_000.0;
const WRITES_MAX: f64 = 1_000.0;
const BEGINS_MS: i64 = 1_789_649_451_000;

/// How many shards there are; a case with fewer has limits smaller by as much.
const FULL_SHARDS: usize = 1_000;

/// Invocations of a shard in a second.
const PER_SHARD: usize = 10;

/// Stands still; a pause moves it on.
#[derive(Debug)]
struct Stepped(AtomicI64);

impl Clock for Stepped {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Relaxed))
    }

    fn sleep(&self, _: Duration) -> BoxFuture<'static, ()> {
        // The same second goes on: whoever waits within it finds it as full as before.
        ready(()).boxed()
    }

    fn watch(&self, _: Timestamp) -> BoxFuture<'static, ()> {
        std::future::pending().boxed()
    }
}

/// What was asked within one second, and what came of it.
#[derive(Debug, Default, Clone)]
struct Meter {
    /// The limits are so many times smaller than DynamoDB's.
    smaller: f64,
    reads: BTreeMap<String, f64>,
    writes: BTreeMap<String, f64>,
    read_units: f64,
    write_units: f64,
    throttled: u64,
    hottest: f64,
}

impl Meter {
    fn new(case: &Case) -> Self {
        Self { smaller: FULL_SHARDS as f64 / case.shards as f64, ..Self::default() }
    }

    fn next_second(&mut self) {
        self.reads.clear();
        self.writes.clear();
    }

    /// Whether an item serves so many more units.
    fn take(&mut self, item: &str, units: f64, is_write: bool) -> bool {
        let (of, max, total) = if is_write {
            (&mut self.writes, WRITES_MAX, &mut self.write_units)
        } else {
            (&mut self.reads, READS_MAX, &mut self.read_units)
        };
        let used = of.entry(item.to_owned()).or_default();
        if *used + units > max / self.smaller {
            self.throttled += 1;
            return false;
        }
        *used += units;
        *total += units;
        if !is_write {
            let used = &(*used * self.smaller);
            self.hottest = self.hottest.max(*used);
        }
        true
    }
}

/// The embedded store behind the limits.
#[derive(Clone)]
struct Limited {
    store: Embedded,
    meter: Arc<Mutex<Meter>>,
}

impl fmt::Debug for Limited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Limited")
    }
}

impl HttpConnector for Limited {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let target = request.headers().get("x-amz-target").unwrap_or_default();
        let body: Value = serde_json::from_slice(request.body().bytes().unwrap()).unwrap();
        let (status, answer) = match target.rsplit('.').next().unwrap_or_default() {
            "BatchGetItem" => (200, self.read(target, &body).to_string()),
            "UpdateItem" | "PutItem" | "DeleteItem" => self.write(target, &body),
            "TransactWriteItems" => self.transact(target, &body),
            _ => self.store.answer(target, body.to_string().as_bytes()),
        };
        let answer = HttpResponse::new(status.try_into().unwrap(), SdkBody::from(answer));
        HttpConnectorFuture::ready(Ok(answer))
    }
}

/// Units of four kilobytes that are read consistently; an item that is not there costs one.
fn read_units(item: Option<&Value>) -> f64 {
    let bytes = item.map_or(1, |item| item.to_string().len());
    bytes.div_ceil(4_096) as f64
}

fn write_units(action: &Value) -> f64 {
    action.to_string().len().div_ceil(1_024) as f64
}

fn place(table: &str, key: &Value) -> String {
    format!("{table} {} {}", key["pk"]["S"], key["sk"]["S"])
}

impl Limited {
    fn new(case: &Case) -> Self {
        let meter = Arc::new(Mutex::new(Meter::new(case)));
        Self { store: Embedded::open(None).unwrap(), meter }
    }

    fn read(&self, target: &str, body: &Value) -> Value {
        let (status, answer) = self.store.answer(target, body.to_string().as_bytes());
        assert_eq!(status, 200, "{answer}");
        let mut answer: Value = serde_json::from_str(&answer).unwrap();
        let mut meter = self.meter.lock().unwrap();
        for (table, asked) in body["RequestItems"].as_object().unwrap() {
            let mut left = Vec::new();
            for key in asked["Keys"].as_array().unwrap() {
                let is_it = |item: &Value| ["pk", "sk"].iter().all(|it| item[*it] == key[*it]);
                let found = answer["Responses"][table].as_array_mut().unwrap();
                let at = found.iter().position(is_it);
                if !meter.take(&place(table, key), read_units(at.map(|at| &found[at])), false) {
                    left.push(key.clone());
                    at.map(|at| found.remove(at));
                }
            }
            if !left.is_empty() {
                answer["UnprocessedKeys"][table] = json!({ "Keys": left });
            }
        }
        answer
    }

    fn write(&self, target: &str, body: &Value) -> (u16, String) {
        let key = if body["Key"].is_null() { &body["Item"] } else { &body["Key"] };
        let item = place(body["TableName"].as_str().unwrap(), key);
        if !self.meter.lock().unwrap().take(&item, write_units(body), true) {
            return throttled();
        }
        self.store.answer(target, body.to_string().as_bytes())
    }

    fn transact(&self, target: &str, body: &Value) -> (u16, String) {
        for action in body["TransactItems"].as_array().unwrap() {
            let action = action.as_object().unwrap().values().next().unwrap();
            let key = if action["Key"].is_null() { &action["Item"] } else { &action["Key"] };
            let item = place(action["TableName"].as_str().unwrap(), key);
            // A transaction writes twice.
            if !self.meter.lock().unwrap().take(&item, 2.0 * write_units(action), true) {
                return throttled();
            }
        }
        self.store.answer(target, body.to_string().as_bytes())
    }
}

fn throttled() -> (u16, String) {
    let kind = "com.amazonaws.dynamodb.v20120810#ThrottlingException";
    (400, json!({ "__type": kind, "message": "the item's limit" }).to_string())
}

/// What is simulated.
#[derive(Debug, Clone, Copy)]
struct Case {
    shards: usize,
    seconds: usize,
    parked: usize,
    /// Kinesis tells the shard; a table's stream does not, and has so many stripes.
    stripes: Option<u16>,
    batch: usize,
    /// One invocation in so many ends early, its later records finished; none if zero.
    early: usize,
}

/// What came of it.
struct Ran {
    invocations: usize,
    failed: usize,
    meter: Meter,
}

impl Ran {
    fn cells(&self, seconds: usize) -> Vec<String> {
        let each = |units: f64| format!("{:.2}", units / self.invocations as f64);
        vec![
            (self.invocations / seconds).to_string(),
            (self.failed / seconds).to_string(),
            self.meter.throttled.to_string(),
            each(self.meter.read_units),
            each(self.meter.write_units),
            format!("{:.0}", self.meter.hottest),
        ]
    }
}

const ROWS: [&str; 6] = [
    "invocations/s",
    "of them failed",
    "keys or writes throttled",
    "read units an invocation",
    "write units an invocation",
    "read units of the hottest item in a second",
];

fn record(case: &Case, shard: usize, number: usize, second: usize) -> String {
    let arrived = BEGINS_MS / 1_000 + i64::try_from(second).unwrap();
    let key = format!("k{shard}-{number}");
    let number = format!("{:021}", shard * 1_000_000 + number + 1);
    if case.stripes.is_some() {
        return format!(
            r#"{{"eventSource":"aws:dynamodb","eventName":"INSERT","eventSourceARN":"arn:aws:dynamodb:us-east-1:123456789012:table/made/stream/x","dynamodb":{{"ApproximateCreationDateTime":{arrived},"Keys":{{"pk":{{"S":"{key}"}}}},"SequenceNumber":"{number}"}}}}"#
        );
    }
    format!(
        r#"{{"kinesis":{{"partitionKey":"{key}","sequenceNumber":"{number}","data":"e30=","approximateArrivalTimestamp":{arrived}}},"eventSource":"aws:kinesis","eventID":"shardId-{shard:012}:{number}","eventSourceARN":"arn:aws:kinesis:us-east-1:123456789012:stream/made"}}"#
    )
}

/// The function in the process of one shard.
fn function(
    limited: &Limited,
    case: &Case,
    clock: &Arc<Stepped>,
) -> Function<impl changefold::batch::Work + use<>> {
    let client = support::client_of(limited.clone());
    let store = Store::new(client, &support::local_endpoint(None), clock.clone(), 1);
    let mut progress = Progress::new(store.clone(), "progress".to_owned(), 24);
    if let Some(stripes) = case.stripes {
        progress = progress.with_stripes(stripes);
    }
    let park = Park::new(store, "park".to_owned(), OnPark::Hold, 24).with_keys_max(10_000);
    let durable = DurableState::none().with_progress(progress).with_park(park);
    let processor =
        processor::from_fn(async |_: Change<IgnoredAny>, at: &Context<'_>| match at.request_id() {
            "park" => Err(Failure::park("told to")),
            id if id.starts_with("early") && at.sequence_number().as_str().ends_with('1') => {
                Err(Failure::retry("told to"))
            }
            _ => Ok(()),
        });
    Function::new(Lanes::new(processor, clock.clone()).with_durable_state(durable), clock.clone())
}

async fn simulated(case: Case) -> Ran {
    let limited = Limited::new(&case);
    let clock = Arc::new(Stepped(AtomicI64::new(BEGINS_MS)));
    // The incident before: so many keys are parked, over more seconds than are counted.
    let first = function(&limited, &case, &clock);
    let client = support::client_of(limited.clone());
    let store = Store::new(client, &support::local_endpoint(None), clock.clone(), 1);
    let tables = DurableState::none()
        .with_progress(Progress::new(store.clone(), "progress".to_owned(), 24))
        .with_park(Park::new(store, "park".to_owned(), OnPark::Hold, 24));
    tables.ensure_tables(FOREVER).await.unwrap();
    for at in 0..case.parked {
        limited.meter.lock().unwrap().next_second();
        let event = format!(r#"{{"Records":[{}]}}"#, record(&case, case.shards, at, 0));
        first.invoke(event.as_bytes(), &Call::new("park", FOREVER)).await.unwrap();
    }
    let functions: Vec<_> = (0..case.shards).map(|_| function(&limited, &case, &clock)).collect();
    // Each process reads what is held once, before the seconds that are counted.
    for (shard, function) in functions.iter().enumerate() {
        limited.meter.lock().unwrap().next_second();
        let event = format!(r#"{{"Records":[{}]}}"#, record(&case, shard, 0, 0));
        function.invoke(event.as_bytes(), &Call::new("warm", FOREVER)).await.unwrap();
    }
    *limited.meter.lock().unwrap() = Meter::new(&case);
    let (mut invocations, mut failed) = (0, 0);
    let mut rng = fastrand::Rng::with_seed(7);
    for second in 0..case.seconds {
        clock.0.fetch_add(1_000, Relaxed);
        limited.meter.lock().unwrap().next_second();
        let mut turns: Vec<usize> =
            (0..case.shards * PER_SHARD).map(|at| at % case.shards).collect();
        rng.shuffle(&mut turns);
        for shard in turns {
            let from = invocations * case.batch;
            let records: Vec<String> =
                (from..from + case.batch).map(|at| record(&case, shard, at, second)).collect();
            let event = format!(r#"{{"Records":[{}]}}"#, records.join(","));
            let is_early = case.early > 0 && invocations.is_multiple_of(case.early);
            let id = format!("{}-{invocations}", if is_early { "early" } else { "call" });
            let answer = functions[shard].invoke(event.as_bytes(), &Call::new(id, FOREVER)).await;
            failed += usize::from(answer.is_err());
            invocations += 1;
        }
    }
    let meter = limited.meter.lock().unwrap().clone();
    Ran { invocations, failed, meter }
}

/// The requests of the layout before: each invocation reads eight rows of holds, and four of
/// progress, that everybody reads. An entry had 65 bytes, as JSON 80.
async fn before(case: Case) -> Ran {
    let limited = Limited::new(&case);
    let clock = Arc::new(Stepped(AtomicI64::new(BEGINS_MS)));
    let client = support::client_of(limited.clone());
    let store = Store::new(client, &support::local_endpoint(None), clock, 1);
    let park = Park::new(store, "park".to_owned(), OnPark::Hold, 24);
    park.ensure_table(FOREVER).await.unwrap();
    for stripe in 0..8 {
        let entries: Vec<String> = (stripe..case.parked.min(8 * 512))
            .step_by(8)
            .map(|at| format!(r#""{at:032x}":{{"S":"open 1789649451 R##{at:026}#000000"}}"#))
            .collect();
        let item = format!(
            r#"{{"TableName":"park","Item":{{"pk":{{"S":"S#{stripe}"}},"sk":{{"S":"S"}},"e":{{"M":{{{}}}}}}}}}"#,
            entries.join(",")
        );
        let (status, answer) = limited.store.answer("X.PutItem", item.as_bytes());
        assert_eq!(status, 200, "{answer}");
    }
    let keys: Vec<Value> = (0..8)
        .map(|stripe| json!({"pk": {"S": format!("S#{stripe}")}, "sk": {"S": "S"}}))
        .collect();
    let asked = json!({"RequestItems": {"park": {"Keys": keys, "ConsistentRead": true}}});
    let (mut invocations, mut failed) = (0, 0);
    for _ in 0..case.seconds {
        limited.meter.lock().unwrap().next_second();
        for _ in 0..case.shards * PER_SHARD {
            let answer = limited.read("X.BatchGetItem", &asked);
            let mut meter = limited.meter.lock().unwrap();
            let has_progress = (0..4).all(|row| meter.take(&format!("progress {row}"), 1.0, false));
            let is_whole =
                answer["UnprocessedKeys"].as_object().is_none_or(serde_json::Map::is_empty);
            failed += usize::from(!is_whole || !has_progress);
            invocations += 1;
        }
    }
    let meter = limited.meter.lock().unwrap().clone();
    Ran { invocations, failed, meter }
}

fn case(shards: usize, seconds: usize, parked: usize) -> Case {
    Case { shards, seconds, parked, stripes: None, batch: 10, early: 20 }
}

fn run(ran: impl Future<Output = Ran>) -> Ran {
    support::block_on(tokio::task::unconstrained(ran))
}

/// A fiftieth of the shards, and of the limits. What one transaction writes is not smaller, so
/// few keys are parked.
#[test]
fn a_thousand_shards_are_not_throttled() {
    let small = case(20, 1, 10);
    let ran = run(simulated(small));
    assert_eq!((ran.failed, ran.meter.throttled), (0, 0));
    let reads = ran.meter.read_units / ran.invocations as f64;
    assert!(reads < 2.5, "{reads} read units an invocation");
    let control = run(before(small));
    assert!(control.meter.throttled > 0, "the model throttles nobody");
}

/// As above for a table's stream, whose records do not tell their shard.
#[test]
fn without_shards_the_stripes_of_the_progress_are_a_setting() {
    let narrow = Case { stripes: Some(4), ..case(20, 1, 0) };
    assert!(run(simulated(narrow)).meter.throttled > 0, "the model throttles nobody");
    let ran = run(simulated(Case { stripes: Some(64), ..narrow }));
    assert_eq!((ran.failed, ran.meter.throttled), (0, 0));
}

#[test]
#[ignore = "it takes minutes; tests/figures.sh scale"]
fn scale() {
    let (shards, seconds) = (FULL_SHARDS, 1);
    let played = |case: Case| {
        let ran = run(simulated(case));
        assert_eq!((ran.failed, ran.meter.throttled), (0, 0), "{case:?}");
        (format!("{} keys parked", case.parked), ran.cells(seconds))
    };
    for (title, stripes) in [("Kinesis", None), ("a table's stream, 64 stripes", Some(64))] {
        let cases = [0, 100, 5_000].map(|parked| Case { stripes, ..case(shards, seconds, parked) });
        let mut columns: Vec<Column> = std::thread::scope(|scope| {
            let playing = cases.map(|case| scope.spawn(move || played(case)));
            playing.map(|it| it.join().unwrap()).into()
        });
        for case in cases.into_iter().filter(|_| stripes.is_none()) {
            let name = format!("the layout before, {} keys parked", case.parked);
            columns.push((name, run(before(case)).cells(seconds)));
        }
        print(&format!("1,000 shards × 10 invocations/s of 10 records, {title}"), &ROWS, &columns);
    }
}
