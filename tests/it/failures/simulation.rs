//! One run from its seed: the deliveries of its scenario, then the operator until all is done.

use super::{
    checker::{Checker, Counts, Violation},
    consumers::{self, Turns},
    harness::Harness,
    in_flight::{Alone, ManualClock, Polite},
    queue, rescue,
    script::{File, Scenario, Script, Settings, UNKEYED},
    scripted::Scripted,
    wire::{Broken, Wire},
};
use crate::support;
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use changefold::{
    batch::lanes::Lanes,
    call::Call,
    clock::Clock,
    handler::Function,
    local::{
        checkpoint::Checkpoints,
        clock::{Pace, VirtualClock},
        faults::Faults,
        faulty_client::FaultyClient,
        run::{self, Setting},
        source::Fixtures,
        template::Template,
    },
    operation::{Operation, Redrive, Selection},
    record::Timestamp,
    recovery::{
        durable::{DurableState, OnUnkeyed},
        park::{OnPark, Park},
        progress::Progress,
    },
    store::{Store, embedded::Embedded},
};
use serde_json::Value;
use std::{
    cell::{Cell, RefCell},
    num::NonZeroU32,
    path::Path,
    sync::Arc,
};

pub(crate) const TIMEOUT_MS: i64 = 60_000;
const DAY_MS: i64 = 86_400_000;
/// When all is there that is delivered.
const TIME_ZERO: Timestamp = Timestamp(1_772_450_000_000);
/// More rounds than a redrive that goes on can take.
const ROUNDS: usize = 20;
/// More time than a lease outlives the call that took it.
const LEASE_MS: i64 = 120_000;

/// What a run came to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Simulated {
    /// The effects in their order.
    pub(crate) log: Vec<usize>,
    pub(crate) counts: Counts,
    pub(crate) violations: Vec<Violation>,
}

pub(crate) fn simulate(settings: &Settings, broken: Option<Broken>) -> Simulated {
    let simulate = Simulation {
        settings,
        broken,
        script: Arc::new(Script::new(settings)),
        store: Embedded::open(None).unwrap(),
    };
    support::block_on(tokio::task::unconstrained(async {
        match settings.scenario {
            Scenario::Stream | Scenario::TwoConsumers => simulate.with_the_desk().await,
            Scenario::Queue | Scenario::Rescue => simulate.without_the_desk().await,
        }
    }))
}

struct Simulation<'p> {
    settings: &'p Settings,
    broken: Option<Broken>,
    script: Arc<Script>,
    store: Embedded,
}

impl Simulation<'_> {
    fn checker(&self) -> Arc<Checker> {
        Checker::new(Arc::clone(&self.script), self.store.clone(), self.settings)
    }

    /// The desk's own run, of one consumer or two.
    async fn with_the_desk(&self) -> Simulated {
        let name =
            format!("{}-{:?}-{:?}", self.settings.seed, self.broken, std::thread::current().id());
        let file = File::write(&self.script, &name);
        let fixtures = Fixtures::open(&[file.path().to_owned()]).unwrap();
        if self.settings.scenario == Scenario::Stream {
            return self.consume(&fixtures, 0, None).await;
        }
        let [one, other] = Turns::both();
        let (mut simulated, other) = futures_util::future::join(
            Box::pin(self.consume(&fixtures, 0, Some(one))),
            Box::pin(self.consume(&fixtures, 1, Some(other))),
        )
        .await;
        for (name, count) in other.counts {
            *simulated.counts.entry(name).or_default() += count;
        }
        *simulated.counts.entry("two consumers").or_default() += 1;
        simulated.log.extend(other.log);
        simulated.violations.extend(other.violations);
        simulated
    }

    async fn consume(&self, fixtures: &Fixtures, side: usize, turns: Option<Turns>) -> Simulated {
        let checker = self.checker();
        let clock = VirtualClock::new(fixtures.time_zero(), Pace::Virtual);
        let client = SharedHttpClient::new(self.store.clone());
        let client = FaultyClient::wrap(client, Arc::clone(&clock));
        let client = Wire::wrap(client, &checker, self.broken);
        let harness = self.harness(client, clock.clone(), &checker, (side, turns.clone())).await;
        let elapsed = run_the_mapping(self.settings, fixtures, &clock, &harness).await;
        if let Some(turns) = turns {
            turns.end();
        }
        let elapsed = i64::try_from(elapsed).unwrap();
        self.tomorrow(&checker, side, Timestamp(fixtures.time_zero().0 + elapsed)).await
    }

    /// A queue, or a mapping that gives up.
    async fn without_the_desk(&self) -> Simulated {
        let checker = self.checker();
        let clock = ManualClock::new(TIME_ZERO);
        let client = support::client_of(Polite(self.store.clone()));
        let client = Wire::wrap(client, &checker, self.broken);
        let harness = self.harness(client, Arc::new(clock.clone()), &checker, (0, None)).await;
        match self.settings.scenario {
            Scenario::Queue => queue::run(&harness, &clock, self.broken),
            _ => rescue::run(&harness, &clock),
        }
        self.tomorrow(&checker, 0, clock.now()).await
    }

    /// Tomorrow the leases of dead redrives are over. Nothing is broken any more.
    async fn tomorrow(&self, checker: &Arc<Checker>, side: usize, now: Timestamp) -> Simulated {
        let clock = Alone::new(Timestamp(now.0 + DAY_MS));
        let client = SharedHttpClient::new(self.store.clone());
        let broken = self.broken.filter(|it| it.lasts());
        let client = Wire::wrap(client, checker, broken);
        let mut harness = self.harness(client, clock.clone(), checker, (side, None)).await;
        harness.settings.faults = false;
        checker.end_the_run();
        finish(&harness, &clock).await;
        checker.look_at_the_end();
        tell_the_story(checker);
        let (log, counts, violations) = checker.told();
        Simulated { log, counts, violations }
    }

    /// The function in both builds, over its tables.
    async fn harness(
        &self,
        client: SharedHttpClient,
        clock: Arc<dyn Clock>,
        checker: &Arc<Checker>,
        (side, turns): (usize, Option<Turns>),
    ) -> Harness {
        let settings = self.settings;
        let seed = settings.seed + side as u64;
        let store = Store::new(client, &support::local_endpoint(None), clock.clone(), seed);
        let deadline = Timestamp(clock.now().0 + TIMEOUT_MS);
        self.durable_state(&store, side, true).ensure_tables(deadline).await.unwrap();
        let (checker, function_clock) = (Arc::clone(checker), Arc::clone(&clock));
        let before = Scripted::<true> { checker: Arc::clone(&checker), clock: clock.clone() };
        let after = Scripted::<false> { checker: Arc::clone(&checker), clock: clock.clone() };
        let before = Lanes::new(before, clock.clone()).with_seed(seed);
        let before = before.with_durable_state(self.durable_state(&store, side, true));
        let after = Lanes::new(after, clock).with_seed(seed);
        let after = after.with_durable_state(self.durable_state(&store, side, false));
        let mut rng = fastrand::Rng::with_seed(seed ^ 0x57a6);
        let records = checker.script.records.len();
        let batches = u32::try_from(records / settings.batch_size + 2 * settings.factor).unwrap();
        let effects = records * if settings.batch_size == 1 { 2 } else { 1 } / 3;
        Harness {
            before: Function::new(before, Arc::clone(&function_clock)),
            after: Function::new(after, function_clock),
            checker,
            settings: settings.clone(),
            fixed_at: (rng.usize(..effects), 10 + 2 * batches),
            rng: RefCell::new(rng),
            delivered: Cell::new(0),
            turns,
            broken: self.broken,
        }
    }

    /// What a consumer keeps, before the fix and after it.
    fn durable_state(&self, store: &Store, side: usize, is_before: bool) -> DurableState {
        let settings = self.settings;
        let on_park = if settings.holds { OnPark::Hold } else { OnPark::Skip };
        let park = Park::new(store.clone(), "park".to_owned(), on_park, 24);
        let is_halting = is_before && self.broken != Some(Broken::UnkeyedParked);
        let on_unkeyed = settings.unkeyed.filter(|_| is_halting).unwrap_or(OnUnkeyed::Park);
        let name = consumers::NAMES[if self.broken == Some(Broken::OneName) { 0 } else { side }];
        let mut durable =
            DurableState::none().with_park(park).with_on_unkeyed(on_unkeyed).of_function(name, "1");
        if self.broken == Some(Broken::AnyAttemptCounts) {
            durable = durable.with_max_attempts(NonZeroU32::MIN);
        }
        if !settings.remembers {
            return durable;
        }
        let progress = Progress::new(store.clone(), "progress".to_owned(), 24);
        durable.with_progress(if settings.marks_starts {
            progress
        } else {
            progress.without_crash_marks()
        })
    }
}

/// One call of a function.
pub(crate) fn called(request_id: &str, deadline: Timestamp) -> Call {
    Call::new(request_id, deadline)
}

#[expect(clippy::print_stdout, reason = "who plays one seed wants to read what happened")]
fn tell_the_story(checker: &Checker) {
    for line in (0..=UNKEYED).flat_map(|key| checker.story(key)) {
        println!("{line}");
    }
}

/// The run itself; gives back how long it took.
async fn run_the_mapping(
    settings: &Settings,
    fixtures: &Fixtures,
    clock: &Arc<VirtualClock>,
    harness: &Harness,
) -> u64 {
    let template = Path::new(env!("CARGO_MANIFEST_DIR")).join("infra/template.yaml");
    let template = Template::read(&template).unwrap();
    let mut parameters = template.event_source(settings.source, None).unwrap().parameters.clone();
    for (name, value) in [
        ("BatchSize", settings.batch_size),
        ("ParallelizationFactor", settings.factor),
        ("MaximumBatchingWindowInSeconds", 0),
    ] {
        parameters.set(name, &Value::from(value)).unwrap();
    }
    let faults =
        settings.faults.then(|| Faults::new(settings.seed, &parameters, TIMEOUT_MS.unsigned_abs()));
    let setting = Setting {
        faults,
        parameters,
        timeout: TIMEOUT_MS.unsigned_abs(),
        function_arn: "arn:aws:lambda:us-east-1:123456789012:function:steps".to_owned(),
        checkpoints: Checkpoints::forgotten(),
        from_start: false,
    };
    match run::run(fixtures, harness, clock, setting, &mut |_| {}).await {
        Err(error) => harness.checker.violated("stuck", error.to_string()),
        Ok(summary) => {
            if summary.discards > 0 {
                harness.checker.violated("discarded", format!("{}", summary.discards));
            }
            harness.checker.add(&summary.faults);
        }
    }
    clock.elapsed()
}

/// Redrives until nothing is left.
async fn finish(harness: &Harness, clock: &Alone) {
    let call = |name: &str| called(name, Timestamp(clock.now().0 + TIMEOUT_MS));
    let shown = harness.operate(Operation::Show(Selection::default()), &call("show")).await;
    harness.checker.look_at_shown(&shown.unwrap_or_default());
    if harness.settings.curses {
        for round in 0..ROUNDS {
            harness.redrive(Redrive::default(), &call(&format!("cursed-{round}"))).await;
            clock.pass(LEASE_MS);
        }
        harness.checker.look_at_cursed();
    }
    harness.checker.lift_the_curse();
    // What others have overtaken is left alone, until it is asked for.
    for superseded in [false, true] {
        for round in 0..ROUNDS {
            let redrive = Redrive { superseded, ..Redrive::default() };
            let call = call(&format!("{superseded}-{round}"));
            let answer = harness.redrive(redrive, &call).await.unwrap_or_default();
            clock.pass(LEASE_MS);
            if answer["left"] == 0 {
                break;
            }
            let is_overtaken = |failed: &Value| {
                failed["error_code"].as_str().is_some_and(|code| code.starts_with("Superseded"))
            };
            if answer["failed"].as_array().is_none_or(|failed| !failed.iter().all(is_overtaken)) {
                harness.checker.violated("lost", format!("the last redrive: {answer}"));
                break;
            }
        }
    }
    let listed = harness.operate(Operation::List(Selection::default()), &call("list")).await;
    let listed = listed.unwrap_or_default();
    if listed["parked"].as_array().is_none_or(|parked| !parked.is_empty()) {
        harness.checker.violated("lost", format!("still parked: {listed}"));
    }
}
