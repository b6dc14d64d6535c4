//! min, max and distinct aggregates through the ledger: exact at every step, whatever happens.
//!
//! Three functions share one store. Each is given batches of a history of items that come, change,
//! move between groups and go: late copies, overlapping batches, the same ones at once. Every call
//! of the store is a step, after which another may go on; invocations die and freeze at any step,
//! and calls meet conflicts, throttling and lost answers. After each transaction every row and
//! every value is compared with what the ledger says; at the end the ledger with the items.
//!
//! Controls break the protocol on the wire, and are found out at rest.

mod checker;
mod drift;
mod elements;
mod joined;
mod joins;
mod sent;
mod through;
mod wire;

use crate::{
    backfill::world::{Fate, SkewedClock, Tasks, World},
    support,
};
use changefold::{
    call::Call,
    event::Value,
    handler::Function,
    store::{Store, embedded::Embedded},
    view::{
        Views,
        definition::{Shape, View},
        evaluate::{Addition, Contribution, evaluate},
        read::Reader,
        registry::Owner,
        scalar::Scalar,
        sql,
        total::{finish, totals},
    },
};
use serde_json::{Value as Json, json};
use std::{cell::Cell, collections::BTreeMap, rc::Rc, sync::Arc};
use wire::{Broken, Wire};

const VIEWS: &str = "
    CREATE MATERIALIZED VIEW ends AS
      SELECT g, count(*) AS n, min(x) AS lo, max(x) AS hi, count(DISTINCT x) AS d FROM orders
      GROUP BY g;
    CREATE MATERIALIZED VIEW numbers AS
      SELECT min(y) AS lo, sum(DISTINCT y) AS s, max(y) FILTER (WHERE y < 3) AS small,
        bool_or(y > 3) AS any_large, sum(y) AS total FROM orders;
    CREATE MATERIALIZED VIEW names AS
      SELECT x, count(DISTINCT g) AS groups, max(g || '') AS last FROM orders
      WHERE y IS NOT NULL GROUP BY x;";

/// What is grouped are elements of lists, and one item can have more than a transaction holds.
const VIEWS_OF_LISTS: &str = "
    CREATE MATERIALIZED VIEW lines AS
      SELECT line.s, count(*) AS n, sum(line.q) AS total, min(line.q) AS lo
      FROM orders o, unnest(o.lines) AS line GROUP BY line.s;
    CREATE MATERIALIZED VIEW sizes AS
      SELECT g, count(line.q) AS n, sum(line.q) AS total
      FROM orders o, unnest(o.lines) AS line GROUP BY g;
    CREATE MATERIALIZED VIEW ends AS
      SELECT g, count(*) AS n, min(x) AS lo, max(x) AS hi, count(DISTINCT x) AS d FROM orders
      GROUP BY g;";

/// The first groups, by what is added to without looking.
const VIEWS_OF_COUNTS: &str = "
    CREATE MATERIALIZED VIEW most AS
      SELECT g, count(*) AS n, count(y) AS with_y FROM orders GROUP BY g ORDER BY n DESC LIMIT 2;
    CREATE MATERIALIZED VIEW least AS
      SELECT x, count(*) AS n, sum(y) AS total FROM orders GROUP BY x ORDER BY total, x LIMIT 2;";

/// The first groups, by all that there can be.
const VIEWS_OF_FIRST: &str = "
    CREATE MATERIALIZED VIEW most AS
      SELECT g, count(*) AS n, count(y) AS with_y FROM orders GROUP BY g ORDER BY n DESC LIMIT 2;
    CREATE MATERIALIZED VIEW least AS
      SELECT x, count(*) AS n, sum(y) AS total FROM orders GROUP BY x ORDER BY total, x LIMIT 2;
    CREATE MATERIALIZED VIEW largest AS
      SELECT g, min(y) AS lo, max(x) AS hi FROM orders GROUP BY g ORDER BY hi DESC LIMIT 2;
    CREATE MATERIALIZED VIEW varied AS
      SELECT g, count(DISTINCT x) AS d FROM orders GROUP BY g ORDER BY d DESC LIMIT 1;";

const SEEDS: u64 = 150;
const KEYS: usize = 8;
const BIG: &str = "12345678901234567890123456789012345678";

/// An item, or nothing where it was removed.
type Image = Option<BTreeMap<&'static str, Value<'static>>>;

/// A change of an item: its key, and what it is then.
struct Change {
    key: usize,
    image: Image,
}

fn any_image(rng: &mut fastrand::Rng) -> BTreeMap<&'static str, Value<'static>> {
    let text = |text: &'static str| Value::Text(text.into());
    let number = |digits: &'static str| Value::Number(digits.into());
    let mut image = BTreeMap::new();
    match rng.usize(..9) {
        0 => {}
        1 => drop(image.insert("g", Value::Null)),
        at => drop(image.insert("g", text(["A", "B", "é"][at % 3]))),
    }
    match rng.usize(..12) {
        0 => {}
        1 => drop(image.insert("x", Value::Null)),
        2 => drop(image.insert("x", Value::List(Vec::new()))),
        3 => drop(image.insert("x", Value::Bool(true))),
        at @ 4..7 => drop(image.insert("x", text(["", "a", "a\u{0301} 😀"][at % 3]))),
        at => drop(image.insert("x", number(["-2", "1.50", "15E-1", BIG, "-0.001"][at % 5]))),
    }
    match rng.usize(..8) {
        0 => {}
        1 => drop(image.insert("y", text("wrong"))),
        at => drop(image.insert("y", number(["1", "2", "5.5"][at % 3]))),
    }
    image
}

/// The same with a list, which may have more elements than one transaction can take.
fn any_image_with_lines(rng: &mut fastrand::Rng) -> BTreeMap<&'static str, Value<'static>> {
    let mut image = any_image(rng);
    let elements = [0, 1, 3, 30, 60][rng.usize(..5)];
    let line = |rng: &mut fastrand::Rng| {
        let name = Value::Text(format!("s{}", rng.usize(..70)).into());
        let size = Value::Number(rng.usize(..4).to_string().into());
        Value::Map(vec![("s".into(), name), ("q".into(), size)])
    };
    let lines = (0..elements).map(|_| line(rng)).collect();
    image.insert("lines", Value::List(lines));
    image
}

fn history(rng: &mut fastrand::Rng, has_lists: bool) -> Vec<Change> {
    let any_image = if has_lists { any_image_with_lines } else { any_image };
    let changes = if has_lists { 8..20 } else { 20..60 };
    (0..rng.usize(changes))
        .map(|_| {
            let image = (rng.usize(..4) > 0).then(|| any_image(rng));
            Change { key: rng.usize(..KEYS), image }
        })
        .collect()
}

/// A value as `DynamoDB` writes it.
pub(crate) fn attribute(value: &Value<'_>) -> Json {
    match value {
        Value::Null => json!({"NULL": true}),
        Value::Bool(value) => json!({"BOOL": value}),
        Value::Number(digits) => json!({"N": digits}),
        Value::Text(text) => json!({"S": text}),
        Value::List(values) => json!({"L": values.iter().map(attribute).collect::<Vec<_>>()}),
        Value::Map(members) => {
            let members = members.iter().map(|(name, value)| (name.to_string(), attribute(value)));
            json!({"M": members.collect::<serde_json::Map<_, _>>()})
        }
        other => panic!("{other:?}"),
    }
}

/// The record of a change, of the table `orders`.
pub(crate) fn record(number: usize, key: usize, image: Option<&Json>) -> Json {
    let mut record = json!({
        "eventID": number.to_string(),
        "eventName": if image.is_some() { "MODIFY" } else { "REMOVE" },
        "eventVersion": "1.1",
        "eventSource": "aws:dynamodb",
        "awsRegion": "us-east-1",
        "dynamodb": {
            "ApproximateCreationDateTime": 1_790_000_000,
            "Keys": {"pk": {"S": format!("k{key}")}},
            "SequenceNumber": (100_000 + number).to_string(),
            "SizeBytes": 1,
            "StreamViewType": "NEW_IMAGE",
        },
        "eventSourceARN":
            "arn:aws:dynamodb:us-east-1:123456789012:table/orders/stream/2026-09-17T12:50:51.000",
    });
    match image {
        Some(image) => record["dynamodb"]["NewImage"] = image.clone(),
        // As time to live removes it.
        None if number.is_multiple_of(2) => {
            record["userIdentity"] =
                json!({"type": "Service", "principalId": "dynamodb.amazonaws.com"});
        }
        None => {}
    }
    record
}

fn records(history: &[Change]) -> Vec<Json> {
    let image = |change: &Change| {
        let image = change.image.as_ref()?;
        let members = image.iter().map(|(name, value)| ((*name).to_owned(), attribute(value)));
        Some(Json::Object(members.collect()))
    };
    let numbered = history.iter().enumerate();
    numbered.map(|(at, change)| record(at, change.key, image(change).as_ref())).collect()
}

/// What the views are of the items that the history leaves.
fn expected(views: &[View], history: &[Change]) -> Vec<String> {
    let mut items: BTreeMap<usize, Value<'_>> = BTreeMap::new();
    for change in history {
        match &change.image {
            None => drop(items.remove(&change.key)),
            Some(image) => {
                let members = image.iter().map(|(name, value)| ((*name).into(), value.clone()));
                items.insert(change.key, Value::Map(members.collect()));
            }
        }
    }
    let rows = views.iter().map(|view| {
        let Shape::Groups(groups) = &view.shape else { panic!("no groups") };
        let mut contributions: BTreeMap<Vec<Scalar>, Vec<_>> = BTreeMap::new();
        if groups.keys.is_empty() {
            contributions.insert(Vec::new(), Vec::new());
        }
        for item in items.values() {
            let Ok(Contribution::Groups(added)) = evaluate(view, item) else { continue };
            for Addition { key, addends } in added {
                contributions.entry(key).or_default().push(addends);
            }
        }
        let rows = contributions.iter().map(|(key, items)| {
            finish(view, key, &totals(groups, items.iter().map(Vec::as_slice)))
        });
        let mut rows: Vec<Vec<Scalar>> = rows.collect();
        if let Some(top) = groups.top {
            rows.retain(|row| row[top.column] != Scalar::Null);
            // Equal ones stay in the order of their keys.
            rows.sort_by(|one, other| {
                let order = one[top.column].cmp(&other[top.column]);
                if top.is_descending { order.reverse() } else { order }
            });
            rows.truncate(top.limit);
        }
        shown(&rows)
    });
    rows.collect()
}

fn shown(rows: &[Vec<Scalar>]) -> String {
    let row = |row: &Vec<Scalar>| row.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    rows.iter().map(row).collect::<Vec<_>>().join("; ")
}

/// How a seed has ended: what is wrong, if anything, and what was met.
struct Played {
    wrong: Option<String>,
    met: BTreeMap<&'static str, u64>,
}

fn play(seed: u64, views: &str, broken: Option<Broken>) -> Played {
    let mut rng = fastrand::Rng::with_seed(seed);
    let history = history(&mut rng, views == VIEWS_OF_LISTS);
    let ran = run(seed, (views, vec![records(&history)]), broken);
    let at_rest = || {
        let expected = expected(&ran.views, &history);
        at_rest(&ran, &expected)
    };
    Played { wrong: ran.wrong.clone().or_else(at_rest), met: ran.met }
}

/// What is left when three functions have worked on the records of sources.
struct Ran {
    embedded: Embedded,
    views: Vec<View>,
    wrong: Option<String>,
    met: BTreeMap<&'static str, u64>,
}

/// Lets three functions work on the records of sources, each source's for itself.
fn run(seed: u64, (views, sources): (&str, Vec<Vec<Json>>), broken: Option<Broken>) -> Ran {
    let world = World::new(seed);
    let sources = Rc::new(sources);
    let views = sql::parse(views).unwrap();
    let embedded = Embedded::open(None).unwrap();
    let wire = Wire::new(&world, &embedded, broken);
    // What these break is mended where anything is delivered again.
    let is_once = matches!(broken, Some(Broken::MirrorsOnce | Broken::ReferencesApart));
    let tasks = Tasks::new(&world);
    let left = Rc::new(Cell::new(3));
    for hand in 0..3 {
        let clock = Arc::new(SkewedClock { world: Arc::clone(&world), ahead_ms: 0 });
        let endpoint = support::local_endpoint(None);
        let store = Store::new(wire.client(), &endpoint, clock.clone(), seed * 3 + hand);
        let (definitions, sources) = (views.clone(), Rc::clone(&sources));
        let world = Arc::clone(&world);
        let (mut rng, left) = (fastrand::Rng::with_seed(seed * 3 + hand), Rc::clone(&left));
        let spawner = tasks.clone();
        tasks.spawn(false, async move {
            let function = open(definitions, store, clock).await;
            for _ in 0..if is_once { 0 } else { rng.usize(3..8) } {
                let events = &sources[if sources.len() == 1 { 0 } else { rng.usize(..2) }];
                let from = rng.usize(..events.len());
                let to = (from + rng.usize(1..12)).min(events.len());
                let fate = match rng.usize(..4) {
                    0 => Fate::Dies(rng.usize(1..12)),
                    1 => Fate::Freezes(rng.usize(1..12), rng.i64(0..400)),
                    _ => Fate::Lives,
                };
                let (function, batch) = (Rc::clone(&function), batch(&events[from..to]));
                let call = Call::new("test", changefold::record::Timestamp(world.now() + 20_000));
                spawner.attempt(fate, async move { function.invoke(&batch, &call).await }).await;
            }
            // In the end everything is delivered by two at once, or each source by one alone.
            if hand < 2 {
                let first = usize::try_from(hand).unwrap() % sources.len();
                let is_alone = sources.len() > 1 && (is_once || seed % 2 == 1);
                let more = if is_alone { &[] } else { &sources[..first] };
                let own = if is_alone { &sources[first..=first] } else { &sources[first..] };
                for source in own.iter().chain(more) {
                    for few in source.chunks(rng.usize(4..20)) {
                        deliver(&function, few, &world).await;
                    }
                }
            }
            left.set(left.get() - 1);
        });
    }
    support::block_on(tokio::task::unconstrained(async { tasks.run() }));
    assert_eq!(left.get(), 0);
    Ran { embedded, views, wrong: wire.wrong(), met: wire.met() }
}

async fn open(views: Vec<View>, store: Store, clock: Arc<SkewedClock>) -> Rc<Function<Views>> {
    let deadline = support::FOREVER;
    Views::ensure_tables(&views, &store, "ledger", "", deadline).await.unwrap();
    let owner = Owner::new("test");
    loop {
        let (views, store) = (views.clone(), store.clone());
        match Views::open(views, store, ("ledger", ""), &owner, deadline).await {
            Ok(views) => return Rc::new(Function::new(views, clock)),
            // One that was throttled for too long starts again.
            Err(error) => assert_eq!(error.code(), "StoreUnavailable", "{error}"),
        }
    }
}

fn batch(records: &[Json]) -> Vec<u8> {
    json!({ "Records": records }).to_string().into_bytes()
}

/// Delivers until it is finished, as Lambda does.
async fn deliver(function: &Function<Views>, records: &[Json], world: &World) {
    let mut from = 0;
    loop {
        let call = Call::new("test", changefold::record::Timestamp(world.now() + 20_000));
        let reply = function.invoke(&batch(&records[from..]), &call).await.unwrap();
        let reply = serde_json::to_value(&reply).unwrap();
        let Some(failed) = reply["batchItemFailures"][0]["itemIdentifier"].as_str() else { return };
        let is_it = |it: &Json| it["dynamodb"]["SequenceNumber"] == failed;
        from = records.iter().position(is_it).unwrap();
    }
}

/// What is wrong when nobody works any more.
fn at_rest(ran: &Ran, expected: &[String]) -> Option<String> {
    let found = rows(ran);
    let differ = found.iter().zip(expected).find(|(found, expected)| found != expected);
    let differ = differ.map(|(found, expected)| format!("{found}\n  instead of {expected}"));
    differ.or_else(|| checker::check(&ran.embedded).err())
}

/// The rows of every view.
fn rows(ran: &Ran) -> Vec<String> {
    support::block_on(async {
        let client =
            aws_smithy_runtime_api::client::http::SharedHttpClient::new(ran.embedded.clone());
        let clock = Arc::new(changefold::clock::SystemClock);
        let store = Store::new(client, &support::local_endpoint(None), clock, 1);
        let (owner, views) = (Owner::new("test"), ran.views.clone());
        let tables = ("ledger", "");
        let open = Views::open(views, store.clone(), tables, &owner, support::FOREVER);
        let open = open.await.unwrap();
        let mut found = Vec::new();
        for (at, view) in ran.views.iter().enumerate() {
            let rows = match open.rows(at, usize::MAX).await {
                Ok(rows) => support::table(&rows),
                // A control can make a count negative.
                Err(error) => {
                    found.push(error.to_string());
                    continue;
                }
            };
            let reader = Reader::open(store.clone(), tables, &view.name, support::FOREVER).await;
            let read =
                reader.unwrap().rows(&[], None, support::FOREVER, &mut |_| {}).await.unwrap();
            // The first groups are read from their index, all others from the table.
            let read = shown(&read.rows);
            found.push(if read == rows { rows } else { format!("{rows}, but read {read}") });
        }
        found
    })
}

/// Plays seeds on both cores; the sum of what they met.
fn play_all(seeds: u64, views: &'static str) -> BTreeMap<&'static str, u64> {
    play_each(seeds, move |seed| play(seed, views, None))
}

fn play_each(
    seeds: u64,
    play: impl Fn(u64) -> Played + Clone + Send,
) -> BTreeMap<&'static str, u64> {
    let halves: Vec<_> = std::thread::scope(|scope| {
        let half = |half| {
            let play = play.clone();
            scope.spawn(move || {
                let mut met = BTreeMap::<&str, u64>::new();
                for seed in (0..seeds).filter(|seed| seed % 2 == half) {
                    let played = play(seed);
                    assert_eq!(played.wrong, None, "SIM_SEED={seed}");
                    for (what, times) in played.met {
                        *met.entry(what).or_default() += times;
                    }
                }
                met
            })
        };
        [half(0), half(1)].map(|half| half.join().unwrap()).into()
    });
    let mut all = BTreeMap::new();
    for (what, times) in halves.into_iter().flatten() {
        *all.entry(what).or_insert(0) += times;
    }
    all
}

#[test]
fn rows_and_values_are_what_the_ledger_says_at_every_step() {
    let met = play_all(SEEDS, VIEWS);
    for what in ["checked", "conflict", "lost", "next", "overtaken", "throttled"] {
        assert!(met.get(what).is_some_and(|times| *times > 20), "{what} in {met:?}");
    }
    assert!(met.contains_key("half visible"), "{met:?}");
}

#[test]
fn elements_beyond_one_transaction_are_what_the_ledger_says_at_every_step() {
    let met = play_all(200, VIEWS_OF_LISTS);
    for what in ["checked", "conflict", "lost", "next", "overtaken", "part", "throttled"] {
        assert!(met.get(what).is_some_and(|times| *times > 20), "{what} in {met:?}");
    }
}

#[test]
fn the_first_groups_are_in_their_index_at_every_step() {
    let met = play_all(SEEDS, VIEWS_OF_FIRST);
    for what in ["checked", "conflict", "lost", "next", "overtaken", "throttled", "leaves"] {
        assert!(met.get(what).is_some_and(|times| *times > 20), "{what} in {met:?}");
    }
}

#[test]
fn control_whoever_takes_the_last_items_unasked_leaves_the_index_wrong() {
    is_caught_with(VIEWS_OF_COUNTS, Broken::NoVersion);
}

#[test]
fn control_parts_without_a_guard_are_wrong() {
    is_caught_with(VIEWS_OF_LISTS, Broken::PartsUnguarded);
}

#[track_caller]
fn is_caught(broken: Broken) {
    is_caught_with(VIEWS, broken);
}

#[track_caller]
fn is_caught_with(views: &str, broken: Broken) {
    let caught = (0..SEEDS).any(|seed| play(seed, views, Some(broken)).wrong.is_some());
    assert!(caught, "{broken:?} went unnoticed in {SEEDS} seeds");
}

#[test]
fn control_values_outside_of_the_transaction_are_wrong() {
    is_caught(Broken::ValuesApart);
}

#[test]
fn control_without_the_version_of_the_group_extremes_are_wrong() {
    is_caught(Broken::NoVersion);
}

#[test]
fn control_with_values_that_are_not_conditional_counts_are_wrong() {
    is_caught(Broken::ValuesUnconditional);
}
