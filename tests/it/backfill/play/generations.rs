//! Views that change beside their stream, and functions of two versions that serve them.
//!
//! At first one version runs. Then another, with other definitions, takes batches in turn with it;
//! both hold invocations open for a while, die, freeze, and start anew. What has changed is built
//! beside what is served, made current, and the former generation is dropped. Meanwhile readers
//! look at what is current: at every moment it is the SQL over a prefix of each item's changes.

mod readers;

use super::{Broken, DAY_MS, ORDERS, Play, Played, Setup, alone};
use crate::support;
use changefold::{
    call::{Call, Halt},
    handler::Function,
    operation::{
        self, Operation,
        backfill::{Backfill, Finish, Status},
        generations::{DropView, DroppedView, Switch, Switched},
    },
    outcome::Answer,
    record::Timestamp,
    view::{Views, building::ViewState, sql},
};
use serde_json::{Value, json};
use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    rc::Rc,
};

/// The definitions of the later version: all of them are others.
const ALL_CHANGED: &str = "
    CREATE MATERIALIZED VIEW totals AS
      SELECT region, count(*) AS orders, sum(amount) AS total, max(amount) AS most,
        count(DISTINCT amount) AS amounts FROM orders
      WHERE status = 'PAID' GROUP BY region;
    CREATE MATERIALIZED VIEW everything AS SELECT count(*) AS n FROM orders;
    CREATE MATERIALIZED VIEW open_orders AS
      SELECT pk, region FROM orders WHERE status = 'OPEN';";
/// One of them is as it was.
const SOME_CHANGED: &str = "
    CREATE MATERIALIZED VIEW totals AS
      SELECT region, count(*) AS orders, sum(amount) AS total, max(amount) AS most,
        count(DISTINCT amount) AS amounts FROM orders
      WHERE status = 'PAID' GROUP BY region;
    CREATE MATERIALIZED VIEW everything AS SELECT count(*) AS n, sum(amount) AS total FROM orders;
    CREATE MATERIALIZED VIEW open_orders AS
      SELECT pk, region FROM orders WHERE status = 'OPEN';";

/// The versions of a function that run.
#[derive(Default)]
pub(in crate::backfill) struct Versions {
    /// Their definitions; none where every invocation has an environment of its own.
    texts: RefCell<Vec<&'static str>>,
    running: RefCell<Vec<Running>>,
}

/// An environment, and the definitions of its version.
#[derive(Clone)]
struct Running {
    text: &'static str,
    function: Rc<Function<Views>>,
    ahead_ms: i64,
}

/// The images that an item has had, the number of the change that made it, and when.
type History = BTreeMap<usize, Vec<(u64, i64, Option<Value>)>>;

/// A play with what is known of it.
#[derive(Clone)]
struct Change {
    play: Play,
    later: &'static str,
    history: Rc<RefCell<History>>,
    found: Rc<RefCell<Vec<String>>>,
    looks: Rc<Cell<u64>>,
    is_over: Rc<Cell<bool>>,
}

/// What came of a change of views.
#[derive(Debug)]
pub(in crate::backfill) struct Changed {
    pub(in crate::backfill) looks: u64,
    pub(in crate::backfill) differences: Vec<String>,
}

impl Versions {
    pub(super) fn are_used(&self) -> bool {
        !self.texts.borrow().is_empty()
    }
}

/// Changes views, switches to them, and drops what was before.
pub(in crate::backfill) fn change(setup: Setup) -> Changed {
    alone(async {
        let play = Play::set_the_stage(setup).await;
        play.brings_all_in().await;
        let later = if setup.seed.is_multiple_of(2) { SOME_CHANGED } else { ALL_CHANGED };
        play.versions.texts.borrow_mut().push(super::VIEWS);
        let mut change = Change {
            later,
            history: Rc::default(),
            found: Rc::default(),
            looks: Rc::default(),
            is_over: Rc::default(),
            play,
        };
        for key in 0..setup.items {
            let image = change.play.item(key);
            change.history.borrow_mut().insert(key, vec![(0, 0, image)]);
        }
        change.writes(setup.changes, true);
        change.play.delivers();
        change.reads();
        change.deploys();
        change.play.tasks.run();
        change.is_exact_at_rest("before the drop", true);
        if change.found.borrow().is_empty() {
            change.is_over.set(false);
            // Invocations that are frozen now come back when their rows would be gone.
            change.play.setup.dies = 3;
            change.writes(setup.changes / 3, false);
            change.play.delivers();
            change.reads();
            change.drops();
            change.play.tasks.run();
            change.is_exact_at_rest("after the drop", false);
            change.nothing_is_left();
        }
        let Played { .. } = change.play.played(Vec::new());
        Changed { looks: change.looks.get(), differences: change.found.take() }
    })
}

impl Play {
    /// Invokes a function of one of the versions, mostly in an environment that is warm.
    pub(super) async fn invoke_version(
        self,
        payload: Vec<u8>,
        time_ms: i64,
    ) -> Result<Answer, Halt> {
        let texts = self.versions.texts.borrow().clone();
        let mut text = texts[self.world.below(texts.len())];
        // A function that is left in ignorance could not carry out what it is asked.
        if self.setup.broken == Some(Broken::RegistryNotReread)
            && operation::read(&payload).is_some()
        {
            text = texts[texts.len() - 1];
        }
        let warm = {
            let running = self.versions.running.borrow();
            let warm: Vec<_> = running.iter().filter(|it| it.text == text).collect();
            let some = (!warm.is_empty()).then(|| self.world.below(warm.len()));
            some.map(|at| warm[at].clone())
        };
        let ends = self.world.now() + time_ms;
        let Running { function, ahead_ms, .. } = match warm.filter(|_| !self.world.is_one_in(12)) {
            Some(running) => running,
            None => self.starts(text, ends).await?,
        };
        // Lambda tells the moment by its own clock.
        let deadline = Timestamp(ends + ahead_ms);
        function.invoke(&payload, &Call::new("retried", deadline)).await
    }

    /// Starts an environment of a version, whose clock may be minutes off.
    async fn starts(&self, text: &'static str, ends: i64) -> Result<Running, Halt> {
        let ahead_ms = if self.world.is_one_in(2) { self.setup.ahead_ms } else { 0 };
        let store = self.store_of_function(ahead_ms);
        let function = self.function_of(text, store, Timestamp(ends + ahead_ms)).await?;
        let running = Running { text, function: Rc::new(function), ahead_ms };
        if self.versions.texts.borrow().contains(&text) {
            self.versions.running.borrow_mut().push(running.clone());
        }
        Ok(running)
    }

    fn item(&self, key: usize) -> Option<Value> {
        let key = json!({"TableName": "orders", "Key": {"pk": {"S": format!("O#{key}")}}});
        let item = self.ask("GetItem", &key)["Item"].take();
        (!item.is_null()).then_some(item)
    }
}

impl Change {
    fn play(&self) -> &Play {
        &self.play
    }

    /// Changes the table in bursts, and at first until the later version is current.
    fn writes(&self, changes: usize, is_first: bool) {
        let change = self.clone();
        let play = self.play().clone();
        play.writers.set(play.writers.get() + 1);
        self.play.tasks.spawn(false, async move {
            let mut made = 0;
            while made < changes || (is_first && !change.is_over.get()) {
                made += 1;
                let gap = if play.world.is_one_in(3) { 6_000 } else { 300 };
                play.world.pass(play.world.ms_below(gap)).await;
                // A few items change often, but not any more when the later version runs: so late
                // copies of their older changes matter.
                let is_before = play.versions.texts.borrow()[..] == [super::VIEWS];
                let key = match play.world.below(3) {
                    0 | 1 if is_before => play.world.below(4),
                    _ => 4 + play.world.below(play.setup.items + 4),
                };
                let image = (!play.world.is_one_in(3)).then(|| play.image(key));
                play.set(key, image.clone());
                play.write_down(key, image.clone(), 0);
                let sequence = play.stream.borrow().sequence();
                let now = play.world.now();
                let mut history = change.history.borrow_mut();
                let changes = history.entry(key).or_insert_with(|| vec![(0, 0, None)]);
                changes.push((sequence, now, image));
            }
            play.writers.set(play.writers.get() - 1);
        });
    }

    /// Deploys the later version beside the first, builds what it brings, and makes it current.
    fn deploys(&self) {
        let change = self.clone();
        let play = self.play().clone();
        play.busy.set(play.busy.get() + 1);
        self.play.tasks.spawn(false, async move {
            play.world.pass(5_000 + play.world.ms_below(15_000)).await;
            let store = play.calm_store();
            let later = sql::parse(change.later).unwrap();
            Views::ensure_tables(&later, &store, "ledger", "", support::FOREVER).await.unwrap();
            play.versions.texts.borrow_mut().push(change.later);
            // Its first environment starts, and may die on the way.
            loop {
                let starting = play.clone();
                let later = change.later;
                let started = async move {
                    let ends = starting.world.now() + 20_000;
                    starting.starts(later, ends).await.map(|_| ())
                };
                match play.tasks.attempt(play.fate(), started).await {
                    Some(Ok(())) => break,
                    Some(Err(_)) | None => play.world.pass(200).await,
                }
            }
            let begun = Rc::default();
            for hand in 0..play.setup.hands {
                play.works(hand, Rc::clone(&begun));
            }
            change.is_ready().await;
            for view in change.changed() {
                let switch = Switch { view: (*view).to_owned(), generation: None };
                loop {
                    let told = play.operate::<Switched>(Operation::Switch(switch.clone()), 10_000);
                    match told.await {
                        Some(Ok(told)) => break assert_eq!(told.generation, 2),
                        Some(Err(_)) | None => play.world.pass(300).await,
                    }
                }
                play.world.pass(play.world.ms_below(2_000)).await;
            }
            // The deployment is over.
            play.versions.texts.borrow_mut().retain(|text| *text == change.later);
            play.versions.running.borrow_mut().retain(|it| it.text == change.later);
            change.is_over.set(true);
            play.busy.set(play.busy.get() - 1);
        });
    }

    /// Waits until what is built is ready.
    async fn is_ready(&self) {
        let play = self.play();
        let until = play.world.now() + DAY_MS;
        loop {
            play.world.pass(6_000).await;
            assert!(play.world.now() < until, "SIM_SEED={}: never ready", play.setup.seed);
            let finish = Finish {
                table: ORDERS.to_owned(),
                // It is older when the function has it, as Lambda's metric is.
                iterator_age_ms: Some(play.iterator_age_ms() + 40_000),
            };
            let step = Operation::Backfill(Backfill::Finish(finish));
            if let Some(Ok(status)) = play.operate::<Status>(step, 10_000).await {
                let mut built = status.views.iter().filter(|view| view.generation == 2);
                if built.clone().count() == self.changed().len()
                    && built.all(|view| view.state == Some(ViewState::Ready))
                {
                    return;
                }
            }
        }
    }

    /// Drops what was current before.
    fn drops(&self) {
        let change = self.clone();
        let play = self.play().clone();
        play.busy.set(play.busy.get() + 1);
        self.play.tasks.spawn(false, async move {
            // When some invocations are under way.
            play.world.pass(play.world.ms_below(40_000)).await;
            for view in change.changed() {
                let drop = DropView {
                    view: (*view).to_owned(),
                    generation: Some(1),
                    yes: true,
                    ..DropView::default()
                };
                loop {
                    let step = Operation::DropView(drop.clone());
                    match play.operate::<DroppedView>(step, 20_000).await {
                        Some(Ok(told)) if told.left.is_empty() => break,
                        Some(Ok(told)) => {
                            let is_hasty = play.setup.broken == Some(Broken::DropNotAwaited);
                            let wait_ms = if is_hasty { 1_000 } else { told.wait_ms };
                            play.world.pass(wait_ms.cast_signed()).await;
                        }
                        Some(Err(halt)) if halt.code == "GenerationUnknown" => break,
                        Some(Err(_)) | None => play.world.pass(300).await,
                    }
                }
            }
            change.is_over.set(true);
            play.busy.set(play.busy.get() - 1);
        });
    }

    fn changed(&self) -> &'static [&'static str] {
        if self.later == SOME_CHANGED {
            &["totals", "open_orders"]
        } else {
            &["totals", "open_orders", "everything"]
        }
    }

    /// Reads what is current, again and again.
    fn reads(&self) {
        let change = self.clone();
        self.play.tasks.spawn(false, async move {
            while !change.is_over.get() || change.play().writers.get() > 0 {
                let play = change.play();
                let is_quiet = play.writers.get() == 0;
                let gap_ms = if is_quiet { 200_000 } else { 8_000 };
                play.world.pass(play.world.ms_below(gap_ms)).await;
                if change.found.borrow().is_empty() {
                    change.looks.set(change.looks.get() + 1);
                    change.look(["totals", "everything", "open_orders"][play.world.below(3)]);
                }
            }
        });
    }
}

/// How long an environment is frozen at the longest, in milliseconds: Lambda ends an invocation
/// before.
pub(super) const FROZEN_MS: i64 = 800_000;
const _: () = assert!(FROZEN_MS < DAY_MS);
