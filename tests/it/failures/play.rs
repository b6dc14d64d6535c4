//! One run from its seed: the deliveries of its scene, then the operator until all is done.

use super::{
    consumers::{self, Baton},
    flights::{Alone, Hands, Polite},
    player::Player,
    queue, rescue,
    script::{File, Scene, Script, Settings, UNKEYED},
    stage::Stage,
    wire::{Broken, Wire},
    witness::{Counts, Violation, Witness},
};
use crate::support;
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use changefold::{
    batch::{
        keeping::{Keeping, OnUnkeyed},
        lanes::Lanes,
        progress::Progress,
    },
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
    park::{OnPark, Park},
    record::Timestamp,
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
pub(crate) struct Played {
    /// The effects in their order.
    pub(crate) log: Vec<usize>,
    pub(crate) counts: Counts,
    pub(crate) violations: Vec<Violation>,
}

pub(crate) fn play(settings: &Settings, broken: Option<Broken>) -> Played {
    let play = Play {
        settings,
        broken,
        script: Arc::new(Script::new(settings)),
        store: Embedded::open(None).unwrap(),
    };
    support::block_on(tokio::task::unconstrained(async {
        match settings.scene {
            Scene::Stream | Scene::TwoConsumers => play.with_the_desk().await,
            Scene::Queue | Scene::Rescue => play.without_the_desk().await,
        }
    }))
}

struct Play<'p> {
    settings: &'p Settings,
    broken: Option<Broken>,
    script: Arc<Script>,
    store: Embedded,
}

impl Play<'_> {
    fn witness(&self) -> Arc<Witness> {
        Witness::new(Arc::clone(&self.script), self.store.clone(), self.settings)
    }

    /// The desk's own run, of one consumer or two.
    async fn with_the_desk(&self) -> Played {
        let name =
            format!("{}-{:?}-{:?}", self.settings.seed, self.broken, std::thread::current().id());
        let file = File::write(&self.script, &name);
        let fixtures = Fixtures::open(&[file.path().to_owned()]).unwrap();
        if self.settings.scene == Scene::Stream {
            return self.consume(&fixtures, 0, None).await;
        }
        let [one, other] = Baton::both();
        let (mut played, other) = futures_util::future::join(
            Box::pin(self.consume(&fixtures, 0, Some(one))),
            Box::pin(self.consume(&fixtures, 1, Some(other))),
        )
        .await;
        for (name, count) in other.counts {
            *played.counts.entry(name).or_default() += count;
        }
        *played.counts.entry("two consumers").or_default() += 1;
        played.log.extend(other.log);
        played.violations.extend(other.violations);
        played
    }

    async fn consume(&self, fixtures: &Fixtures, side: usize, baton: Option<Baton>) -> Played {
        let witness = self.witness();
        let clock = VirtualClock::new(fixtures.time_zero(), Pace::Virtual);
        let client = SharedHttpClient::new(self.store.clone());
        let client = FaultyClient::wrap(client, Arc::clone(&clock));
        let client = Wire::wrap(client, &witness, self.broken);
        let stage = self.stage(client, clock.clone(), &witness, (side, baton.clone())).await;
        let elapsed = run_the_mapping(self.settings, fixtures, &clock, &stage).await;
        if let Some(baton) = baton {
            baton.end();
        }
        let elapsed = i64::try_from(elapsed).unwrap();
        self.tomorrow(&witness, side, Timestamp(fixtures.time_zero().0 + elapsed)).await
    }

    /// A queue, or a mapping that gives up.
    async fn without_the_desk(&self) -> Played {
        let witness = self.witness();
        let hands = Hands::new(TIME_ZERO);
        let client = SharedHttpClient::new(Polite(self.store.clone()));
        let client = Wire::wrap(client, &witness, self.broken);
        let stage = self.stage(client, Arc::new(hands.clone()), &witness, (0, None)).await;
        match self.settings.scene {
            Scene::Queue => queue::run(&stage, &hands, self.broken),
            _ => rescue::run(&stage, &hands),
        }
        self.tomorrow(&witness, 0, hands.now()).await
    }

    /// Tomorrow the leases of dead redrives are over. Nothing is broken any more.
    async fn tomorrow(&self, witness: &Arc<Witness>, side: usize, now: Timestamp) -> Played {
        let clock = Alone::new(Timestamp(now.0 + DAY_MS));
        let client = SharedHttpClient::new(self.store.clone());
        let broken = self.broken.filter(|it| it.lasts());
        let client = Wire::wrap(client, witness, broken);
        let mut stage = self.stage(client, clock.clone(), witness, (side, None)).await;
        stage.settings.faults = false;
        witness.end_the_run();
        finish(&stage, &clock).await;
        witness.look_at_the_end();
        tell_the_story(witness);
        let (log, counts, violations) = witness.told();
        Played { log, counts, violations }
    }

    /// The function in both builds, over its tables.
    async fn stage(
        &self,
        client: SharedHttpClient,
        clock: Arc<dyn Clock>,
        witness: &Arc<Witness>,
        (side, baton): (usize, Option<Baton>),
    ) -> Stage {
        let settings = self.settings;
        let seed = settings.seed + side as u64;
        let store = Store::new(client, &support::local_endpoint(None), clock.clone(), seed);
        let deadline = Timestamp(clock.now().0 + TIMEOUT_MS);
        self.keeping(&store, side, true).ensure_tables(deadline).await.unwrap();
        let (witness, function_clock) = (Arc::clone(witness), Arc::clone(&clock));
        let before = Player::<true> { witness: Arc::clone(&witness), clock: clock.clone() };
        let after = Player::<false> { witness: Arc::clone(&witness), clock: clock.clone() };
        let before = Lanes::new(before, clock.clone()).with_seed(seed);
        let before = before.with_keeping(self.keeping(&store, side, true));
        let after = Lanes::new(after, clock).with_seed(seed);
        let after = after.with_keeping(self.keeping(&store, side, false));
        let mut rng = fastrand::Rng::with_seed(seed ^ 0x57a6);
        let records = witness.script.records.len();
        let batches = u32::try_from(records / settings.batch_size + 2 * settings.factor).unwrap();
        let effects = records * if settings.batch_size == 1 { 2 } else { 1 } / 3;
        Stage {
            before: Function::new(before, Arc::clone(&function_clock)),
            after: Function::new(after, function_clock),
            witness,
            settings: settings.clone(),
            fixed_at: (rng.usize(..effects), 10 + 2 * batches),
            rng: RefCell::new(rng),
            delivered: Cell::new(0),
            baton,
            broken: self.broken,
        }
    }

    /// What a consumer keeps, before the fix and after it.
    fn keeping(&self, store: &Store, side: usize, is_before: bool) -> Keeping {
        let settings = self.settings;
        let on_park = if settings.holds { OnPark::Hold } else { OnPark::Skip };
        let park = Park::new(store.clone(), "park".to_owned(), on_park, 24);
        let is_halting = is_before && self.broken != Some(Broken::UnkeyedParked);
        let on_unkeyed = settings.unkeyed.filter(|_| is_halting).unwrap_or(OnUnkeyed::Park);
        let name = consumers::NAMES[if self.broken == Some(Broken::OneName) { 0 } else { side }];
        let mut keeping =
            Keeping::nothing().with_park(park).with_on_unkeyed(on_unkeyed).of_function(name, "1");
        if self.broken == Some(Broken::AnyAttemptCounts) {
            keeping = keeping.with_max_attempts(NonZeroU32::MIN);
        }
        if !settings.remembers {
            return keeping;
        }
        let progress = Progress::new(store.clone(), "progress".to_owned(), 24);
        keeping.with_progress(if settings.marks_starts {
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
fn tell_the_story(witness: &Witness) {
    for line in (0..=UNKEYED).flat_map(|key| witness.story(key)) {
        println!("{line}");
    }
}

/// The run itself; gives back how long it took.
async fn run_the_mapping(
    settings: &Settings,
    fixtures: &Fixtures,
    clock: &Arc<VirtualClock>,
    stage: &Stage,
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
    match run::run(fixtures, stage, clock, setting, &mut |_| {}).await {
        Err(error) => stage.witness.violated("stuck", error.to_string()),
        Ok(summary) => {
            if summary.discards > 0 {
                stage.witness.violated("discarded", format!("{}", summary.discards));
            }
            stage.witness.add(&summary.faults);
        }
    }
    clock.elapsed()
}

/// Redrives until nothing is left.
async fn finish(stage: &Stage, clock: &Alone) {
    let call = |name: &str| called(name, Timestamp(clock.now().0 + TIMEOUT_MS));
    let shown = stage.operate(Operation::Show(Selection::default()), &call("show")).await;
    stage.witness.look_at_shown(&shown.unwrap_or_default());
    if stage.settings.curses {
        for round in 0..ROUNDS {
            stage.redrive(Redrive::default(), &call(&format!("cursed-{round}"))).await;
            clock.pass(LEASE_MS);
        }
        stage.witness.look_at_cursed();
    }
    stage.witness.lift_the_curse();
    // What others have overtaken is left alone, until it is asked for.
    for superseded in [false, true] {
        for round in 0..ROUNDS {
            let redrive = Redrive { superseded, ..Redrive::default() };
            let call = call(&format!("{superseded}-{round}"));
            let answer = stage.redrive(redrive, &call).await.unwrap_or_default();
            clock.pass(LEASE_MS);
            if answer["left"] == 0 {
                break;
            }
            let is_overtaken = |failed: &Value| {
                failed["error_code"].as_str().is_some_and(|code| code.starts_with("Superseded"))
            };
            if answer["failed"].as_array().is_none_or(|failed| !failed.iter().all(is_overtaken)) {
                stage.witness.violated("lost", format!("the last redrive: {answer}"));
                break;
            }
        }
    }
    let listed = stage.operate(Operation::List(Selection::default()), &call("list")).await;
    let listed = listed.unwrap_or_default();
    if listed["parked"].as_array().is_none_or(|parked| !parked.is_empty()) {
        stage.witness.violated("lost", format!("still parked: {listed}"));
    }
}
