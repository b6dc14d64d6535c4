//! A table that had items before its stream was mapped, and what goes on beside its backfill.
//!
//! A writer changes, inserts and deletes items. Lanes deliver the records, each key in order, and
//! again where an invocation did not come to its end. Calls of the backfill work on segments,
//! several at a time. All of them die, freeze, are throttled and lose answers. At the end the
//! views are what `SQLite` computes over the table.

pub(super) mod checks;
pub(super) mod export;
pub(super) mod generations;

use super::{
    traffic::Stream,
    wire::{Broken, Seen, Troubles, Wire},
    world::{Fate, SkewedClock, Tasks, World},
};
use crate::{oracle, support};
use changefold::{
    call::{Call, Halt},
    handler::Function,
    operation::{
        self, Operation,
        backfill::{
            Backfill, Begin, Begun, Finish, Portion, ReconcileRequest, Reconciled, Status, Stopped,
            Tidy, Which, Worked,
        },
    },
    outcome::Answer,
    record::Timestamp,
    store::{Store, embedded::Embedded},
    view::{Views, registry::Owner, sql},
};
use export::{Exported, Shared};
use generations::{FROZEN_MS, Versions};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::{Arc, Mutex},
};

pub(super) const ORDERS: &str = "arn:aws:dynamodb:us-east-1:123456789012:table/orders";

const VIEWS: &str = "
    CREATE MATERIALIZED VIEW totals AS
      SELECT region, count(*) AS orders, sum(amount) AS total, min(amount) AS least,
        max(amount) AS most, count(DISTINCT amount) AS amounts FROM orders
      WHERE status <> 'CANCELLED' GROUP BY region;
    CREATE MATERIALIZED VIEW everything AS SELECT count(*) AS n, sum(amount) AS total FROM orders;
    CREATE MATERIALIZED VIEW open_orders AS
      SELECT pk, amount FROM orders WHERE status = 'OPEN';";

pub(super) const DAY_MS: i64 = 86_400_000;

/// What is played.
#[derive(Debug, Clone, Copy)]
pub(super) struct Setup {
    pub(super) seed: u64,
    /// Items that are there before anything else.
    pub(super) items: usize,
    /// Changes of the writer.
    pub(super) changes: usize,
    pub(super) segments: u32,
    /// Calls of the backfill at a time.
    pub(super) hands: usize,
    pub(super) units_per_s: u32,
    pub(super) troubles: Troubles,
    /// One invocation in so many dies, and as many freeze; 0 is none.
    pub(super) dies: u32,
    /// As much for the calls of the backfill, and after how many polls at most.
    pub(super) worker_dies: (u32, usize),
    /// Whether every second call of the backfill freezes, for three days.
    pub(super) freezes_often: bool,
    /// Whether a clock of the backfill is five minutes ahead, or behind.
    pub(super) ahead_ms: i64,
    pub(super) broken: Option<Broken>,
    /// So many items has a page of a scan at most; 0 is no limit.
    pub(super) scan_limit: usize,
    /// One call in so many takes seconds; 0 is none.
    pub(super) stalls: u32,
    /// The writer waits so long at most between two changes.
    pub(super) pause_ms: i64,
    /// Whether an export of the table is read instead, and which.
    pub(super) export: Option<Exported>,
}

impl Setup {
    /// A small table, and everything that can go wrong.
    pub(super) fn small(seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed ^ 0x5EED);
        Self {
            seed,
            items: rng.usize(12..40),
            changes: rng.usize(25..70),
            segments: rng.u32(1..5),
            hands: rng.usize(1..4),
            units_per_s: [60, 400, 100_000][rng.usize(..3)],
            troubles: Troubles { throttled: 40, conflict: 25, lost_answer: 40 },
            dies: 6,
            worker_dies: (6, 60),
            freezes_often: false,
            ahead_ms: [0, 0, 300_000, -300_000][rng.usize(..4)],
            broken: None,
            scan_limit: 0,
            stalls: 0,
            pause_ms: 400,
            export: None,
        }
    }

    /// A large table under the same troubles, which are rarer there.
    pub(super) fn large(seed: u64) -> Self {
        Self {
            items: 200_000,
            changes: 20_000,
            segments: 8,
            hands: 8,
            units_per_s: 100_000,
            troubles: Troubles { throttled: 1_000, conflict: 500, lost_answer: 1_000 },
            dies: 40,
            worker_dies: (2, 400),
            ..Self::small(seed)
        }
    }

    /// Calls of the backfill come back after days, while items are removed.
    pub(super) fn frozen(seed: u64) -> Self {
        Self {
            changes: 150,
            dies: 0,
            worker_dies: (0, 90),
            freezes_often: true,
            troubles: Troubles::default(),
            ahead_ms: 0,
            ..Self::small(seed)
        }
    }

    pub(super) fn broken(self, broken: Broken) -> Self {
        Self { broken: Some(broken), ..self }
    }
}

/// What came of it.
#[derive(Debug)]
pub(super) struct Played {
    pub(super) differences: Vec<String>,
    pub(super) status: Status,
    pub(super) seen: Arc<Mutex<Seen>>,
}

/// Everything that goes on.
#[derive(Clone)]
pub(super) struct Play {
    pub(super) setup: Setup,
    pub(super) world: Arc<World>,
    pub(super) tasks: Tasks,
    wire: Wire,
    pub(super) stream: Rc<RefCell<Stream>>,
    /// The versions of the function, where there are several.
    versions: Rc<Versions>,
    /// Writers that go on, and then all who end by themselves.
    pub(super) writers: Rc<Cell<usize>>,
    pub(super) busy: Rc<Cell<usize>>,
}

/// The world goes on inside one poll of the runtime, which must not ration it.
fn alone<T>(play: impl Future<Output = T>) -> T {
    support::block_on(tokio::task::unconstrained(play))
}

/// Backfills a table beside its stream.
pub(super) fn backfill(setup: Setup) -> Played {
    alone(async {
        let play = Play::set_the_stage(setup).await;
        let begun = Rc::new(RefCell::new(None));
        play.writes(setup.changes, 0);
        play.delivers();
        play.sweeps();
        let shared = Rc::new(RefCell::new(Shared::default()));
        if let Some(which) = setup.export {
            play.exports(which, Rc::clone(&shared));
        }
        for hand in 0..setup.hands {
            match setup.export {
                None => play.works(hand, Rc::clone(&begun)),
                Some(_) => play.gives(Rc::clone(&shared)),
            }
        }
        play.tasks.run();
        play.finish(true).await
    })
}

/// Repairs the views of a table whose mapping has lost records, beside its stream. At last late
/// copies come of some of what was lost.
pub(super) fn repair(setup: Setup) -> Played {
    alone(async {
        let play = Play::set_the_stage(setup).await;
        play.writes(setup.changes, 3);
        play.delivers();
        play.tasks.run();
        let later = play.world.now() + 20_000;
        let lost = std::mem::take(&mut play.stream.borrow_mut().lost);
        let waits = play.clone();
        play.tasks.spawn(false, async move {
            waits.world.until(later).await;
            waits.writes(waits.setup.changes / 2, 0);
            waits.delivers();
            waits.reconciles();
        });
        play.tasks.run();
        for record in lost.into_iter().filter(|_| play.world.is_one_in(2)) {
            play.delivers_again(vec![record], 1_000);
        }
        play.tasks.run();
        play.finish(false).await
    })
}

impl Play {
    async fn set_the_stage(setup: Setup) -> Self {
        let world = World::new(setup.seed);
        let wire = Wire {
            world: Arc::clone(&world),
            store: Embedded::open(None).unwrap(),
            troubles: setup.troubles,
            broken: setup.broken,
            scan_limit: setup.scan_limit,
            stalls: setup.stalls,
            seen: Arc::default(),
        };
        let play = Self {
            setup,
            tasks: Tasks::new(&world),
            world,
            wire,
            stream: Rc::default(),
            versions: Rc::default(),
            writers: Rc::default(),
            busy: Rc::default(),
        };
        let store = play.calm_store();
        let views = sql::parse(VIEWS).unwrap();
        Views::ensure_tables(&views, &store, "ledger", "", support::FOREVER).await.unwrap();
        store.ensure_table("orders", &["pk"], None, support::FOREVER).await.unwrap();
        for key in 0..setup.items {
            play.set(key, Some(play.image(key)));
        }
        play
    }

    /// The store past the wire.
    fn calm_store(&self) -> Store {
        let client =
            aws_smithy_runtime_api::client::http::SharedHttpClient::new(self.wire.store.clone());
        let clock = SkewedClock { world: Arc::clone(&self.world), ahead_ms: 0 };
        let endpoint = support::local_endpoint(Some("http://embedded"));
        Store::new(client, &endpoint, Arc::new(clock), self.setup.seed)
    }

    /// A function in an environment of its own.
    async fn function(&self, store: Store, deadline: Timestamp) -> Result<Function<Views>, Halt> {
        self.function_of(VIEWS, store, deadline).await
    }

    async fn function_of(
        &self,
        text: &str,
        store: Store,
        deadline: Timestamp,
    ) -> Result<Function<Views>, Halt> {
        let clock = Arc::clone(store.clock());
        let views = sql::parse(text).unwrap();
        let owner = Owner::new("test");
        let opened = Views::open(views, store, ("ledger", ""), &owner, deadline).await;
        let views = opened.map_err(|error| Halt::new(error.code(), error.to_string()))?;
        Ok(Function::new(views, clock))
    }

    /// Invokes the function, in an environment of its own, which has so much time.
    pub(super) async fn invoke(
        self,
        payload: Vec<u8>,
        time_ms: i64,
        ahead_ms: i64,
    ) -> Result<Answer, Halt> {
        if self.versions.are_used() {
            return self.invoke_version(payload, time_ms).await;
        }
        let store = self.store_of_function(ahead_ms);
        // Lambda tells the moment by its own clock.
        let deadline = Timestamp(self.world.now() + ahead_ms + time_ms);
        let function = self.function(store, deadline).await?;
        function.invoke(&payload, &Call::new("retried", deadline)).await
    }

    /// The store as an environment of the function has it.
    fn store_of_function(&self, ahead_ms: i64) -> Store {
        let clock = SkewedClock { world: Arc::clone(&self.world), ahead_ms };
        let endpoint = support::local_endpoint(Some("http://embedded"));
        let seed = self.world.below(usize::MAX) as u64;
        Store::new(self.wire.client(), &endpoint, Arc::new(clock), seed)
    }

    pub(super) fn fate(&self) -> Fate {
        let is_worker = self.world.is_worker();
        let (dies, polls) = if is_worker { self.setup.worker_dies } else { (self.setup.dies, 60) };
        let after = 1 + self.world.below(polls);
        if self.setup.freezes_often && is_worker && self.world.is_one_in(2) {
            return Fate::Freezes(after, 3 * DAY_MS);
        }
        let (is_to_die, is_to_freeze) = (self.world.is_one_in(dies), self.world.is_one_in(dies));
        if is_to_die {
            self.wire.seen.lock().unwrap().died += u64::from(is_worker);
            Fate::Dies(after)
        } else if is_to_freeze && self.versions.are_used() {
            Fate::Freezes(after, self.world.ms_below(FROZEN_MS))
        } else if is_to_freeze {
            // Before a run the ledger forgets a removed item after two days, and Lambda ends an
            // invocation within minutes.
            let days = if self.setup.export.is_some() && !is_worker { 1 } else { 4 };
            Fate::Freezes(after, self.world.ms_below(days) * DAY_MS + 60_000)
        } else {
            Fate::Lives
        }
    }

    async fn operate<T: DeserializeOwned>(
        &self,
        operation: Operation,
        time_ms: i64,
    ) -> Option<Result<T, Halt>> {
        let payload = operation::event(operation);
        let ahead_ms = if self.world.is_one_in(2) { self.setup.ahead_ms } else { 0 };
        let invocation = self.clone().invoke(payload, time_ms, ahead_ms);
        let ended = self.tasks.attempt(self.fate(), invocation).await?;
        Some(ended.map(|answer| match answer {
            Answer::Operation(answer) => serde_json::from_value(answer).unwrap(),
            Answer::Reply(_) => panic!("a reply to an operation"),
        }))
    }

    pub(super) fn image(&self, key: usize) -> Value {
        let region = ["EU", "US", "APAC"][self.world.below(3)];
        let status = ["OPEN", "PAID", "CANCELLED"][self.world.below(3)];
        let amount = format!("{}.{}", self.world.below(1_000), self.world.below(10));
        json!({
            "pk": {"S": format!("O#{key}")}, "region": {"S": region},
            "amount": {"N": amount}, "status": {"S": status}, "note": {"L": [{"S": "x"}]}
        })
    }

    pub(super) fn ask(&self, operation: &str, body: &Value) -> Value {
        let target = format!("DynamoDB_20120810.{operation}");
        let (status, told) = self.wire.store.answer(&target, body.to_string().as_bytes());
        assert_eq!(status, 200, "{operation}: {told}");
        serde_json::from_str(&told).unwrap()
    }

    pub(super) fn all_of(&self, table: &str) -> Vec<Value> {
        let (mut all, mut scan) = (Vec::new(), json!({ "TableName": table }));
        loop {
            let mut page = self.ask("Scan", &scan);
            all.append(page["Items"].as_array_mut().unwrap());
            if page["LastEvaluatedKey"].is_null() {
                return all;
            }
            scan["ExclusiveStartKey"] = page["LastEvaluatedKey"].take();
        }
    }

    /// Writes an item, or takes it away.
    pub(super) fn set(&self, key: usize, image: Option<Value>) {
        let key = json!({"pk": {"S": format!("O#{key}")}});
        match image {
            Some(item) => self.ask("PutItem", &json!({"TableName": "orders", "Item": item})),
            None => self.ask("DeleteItem", &json!({"TableName": "orders", "Key": key})),
        };
    }

    /// Waits as long as a call of the backfill says, which has left nothing out.
    async fn rests_after(&self, told: &Worked) {
        assert!(told.not_done.is_empty(), "{told:?}");
        let leased = i64::from(told.stopped == Some(Stopped::Leased)) * 5_000;
        self.world.pass(leased + told.wait_ms.cast_signed()).await;
    }

    /// Works on segments until there are none.
    fn works(&self, hand: usize, begun: Rc<RefCell<Option<Begun>>>) {
        let play = self.clone();
        self.busy.set(self.busy.get() + 1);
        self.tasks.spawn(true, async move {
            while begun.borrow().is_none() {
                let table = ORDERS.to_owned();
                let step = Backfill::Begin(Begin {
                    table,
                    segments: Some(play.setup.segments),
                    read_units_per_s: Some(play.setup.units_per_s),
                    write_units_per_s: Some(play.setup.units_per_s),
                    without_stream: true,
                    ..Begin::default()
                });
                let told = play.operate::<Begun>(Operation::Backfill(step), 10_000).await;
                if let Some(Ok(told)) = told {
                    *begun.borrow_mut() = Some(told);
                }
                play.world.pass(100).await;
            }
            loop {
                let run = begun.borrow().as_ref().unwrap().run.clone();
                let segment = (hand > 0 && play.world.is_one_in(2)).then(|| {
                    u32::try_from(play.world.below(play.setup.segments as usize)).unwrap()
                });
                let portion = Portion { table: ORDERS.to_owned(), run, segment, given: None };
                let work = Operation::Backfill(Backfill::Work(portion));
                let time_ms = 2_000 + play.world.ms_below(18_000);
                match play.operate::<Worked>(work, time_ms).await {
                    Some(Ok(Worked { stopped: Some(Stopped::AllDone), .. })) => break,
                    Some(Ok(told)) => {
                        play.rests_after(&told).await;
                    }
                    Some(Err(_)) | None => play.world.pass(500).await,
                }
            }
            play.busy.set(play.busy.get() - 1);
        });
    }

    /// Reconciles every item there may be.
    fn reconciles(&self) {
        let play = self.clone();
        self.busy.set(self.busy.get() + 1);
        self.tasks.spawn(true, async move {
            let mut keys: Vec<usize> = (0..=play.setup.items + play.setup.items / 2).collect();
            while !keys.is_empty() {
                let some: Vec<usize> = keys.iter().copied().take(1 + play.world.below(4)).collect();
                let request = ReconcileRequest {
                    table: ORDERS.to_owned(),
                    keys: some.iter().map(|key| json!({"pk": {"S": format!("O#{key}")}})).collect(),
                };
                let told = play.operate::<Reconciled>(Operation::Reconcile(request), 30_000).await;
                if let Some(Ok(told)) = told
                    && told.unfinished == 0
                {
                    assert!(told.not_done.is_empty(), "{told:?}");
                    keys.drain(..some.len());
                }
                play.world.pass(100).await;
            }
            play.busy.set(play.busy.get() - 1);
        });
    }

    /// What came of it, beside what differs.
    fn played(&self, differences: Vec<String>) -> Played {
        assert_eq!((self.writers.get(), self.busy.get()), (0, 0));
        Played { differences, status: Status::default(), seen: Arc::clone(&self.wire.seen) }
    }

    /// Says the views ready, and compares them.
    async fn finish(&self, is_backfill: bool) -> Played {
        assert_eq!((self.writers.get(), self.busy.get()), (0, 0));
        let store = self.calm_store();
        let function = self.function(store, support::FOREVER).await.unwrap();
        let call = Call::new("end", support::FOREVER);
        let step = if is_backfill {
            let finish = Finish { table: ORDERS.to_owned(), iterator_age_ms: Some(0) };
            Backfill::Finish(finish)
        } else {
            Backfill::Status(Which::default())
        };
        let event = operation::event(Operation::Backfill(step));
        let Answer::Operation(status) = function.invoke(&event, &call).await.unwrap() else {
            panic!("a reply to an operation");
        };
        let kept = || self.all_of("ledger").iter().filter(|row| row["gone"].is_object()).count();
        let tombstones = kept();
        if is_backfill {
            let tidy = Backfill::Tidy(Tidy { table: ORDERS.to_owned(), cursor: None });
            let event = operation::event(Operation::Backfill(tidy));
            let Answer::Operation(tidied) = function.invoke(&event, &call).await.unwrap() else {
                panic!("a reply to an operation");
            };
            assert_eq!((&tidied["rows"], kept()), (&json!(tombstones), 0), "{tidied}");
        }
        let items = self.all_of("orders").into_iter();
        let items: oracle::Items = items.map(|item| (item["pk"].to_string(), item)).collect();
        let mut differences = Vec::new();
        for (view, statement) in oracle::statements(VIEWS).iter().enumerate() {
            let listing = function.work().rows(view, usize::MAX).await.unwrap();
            differences.extend(oracle::compare(statement, "orders", &items, &listing).err());
        }
        Played {
            differences,
            status: serde_json::from_value(status).unwrap(),
            seen: Arc::clone(&self.wire.seen),
        }
    }
}
