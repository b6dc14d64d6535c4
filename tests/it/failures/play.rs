//! One run from its seed: the desk's loop over the stage, then the operator until all is done.

use super::{
    player::Player,
    script::{File, KEYS, Script, Settings},
    stage::Stage,
    wire::{Broken, Wire},
    witness::{Counts, Violation, Witness},
};
use crate::support;
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use changefold::{
    batch::{keeping::Keeping, lanes::Lanes, progress::Progress},
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
    path::Path,
    sync::Arc,
};

const TIMEOUT_MS: u64 = 60_000;
const DAY_MS: u64 = 86_400_000;
/// More rounds than a redrive that goes on can take.
const ROUNDS: usize = 20;

/// What a run came to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Played {
    /// The effects in their order.
    pub(crate) log: Vec<usize>,
    pub(crate) counts: Counts,
    pub(crate) violations: Vec<Violation>,
}

pub(crate) fn play(settings: &Settings, broken: Option<Broken>) -> Played {
    let script = Arc::new(Script::new(settings));
    let name = format!("{}-{broken:?}-{:?}", settings.seed, std::thread::current().id());
    let file = File::write(&script, &name);
    let fixtures = Fixtures::open(&[file.path().to_owned()]).unwrap();
    support::block_on(tokio::task::unconstrained(play_it(settings, &fixtures, script, broken)))
}

async fn play_it(
    settings: &Settings,
    fixtures: &Fixtures,
    script: Arc<Script>,
    broken: Option<Broken>,
) -> Played {
    let embedded = Embedded::open(None).unwrap();
    let witness = Witness::new(script, embedded.clone(), settings);
    let clock = VirtualClock::new(fixtures.time_zero(), Pace::Virtual);
    let client = SharedHttpClient::new(embedded.clone());
    let client = FaultyClient::wrap(client, Arc::clone(&clock));
    let client = Wire::wrap(client, &witness, broken);
    let stage = stage(settings, client, &clock, &witness).await;
    let elapsed = run_the_mapping(settings, fixtures, &clock, &stage).await;

    // Tomorrow the leases of dead redrives are over. Nothing is broken any more.
    let now = Timestamp(fixtures.time_zero().0.saturating_add_unsigned(elapsed + DAY_MS));
    let clock = VirtualClock::new(now, Pace::Virtual);
    let client = Wire::wrap(SharedHttpClient::new(embedded), &witness, None);
    let settings = Settings { faults: false, ..settings.clone() };
    let stage = self::stage(&settings, client, &clock, &witness).await;
    witness.end_the_run();
    finish(&stage, &clock).await;
    witness.look_at_the_end();
    tell_the_story(&witness);
    let (log, counts, violations) = witness.told();
    Played { log, counts, violations }
}

#[expect(clippy::print_stdout, reason = "who plays one seed wants to read what happened")]
fn tell_the_story(witness: &Witness) {
    for line in (0..KEYS).flat_map(|key| witness.story(key)) {
        println!("{line}");
    }
}

/// The function in both builds, over its tables.
async fn stage(
    settings: &Settings,
    client: SharedHttpClient,
    clock: &Arc<VirtualClock>,
    witness: &Arc<Witness>,
) -> Stage {
    let seed = settings.seed;
    let store = Store::new(client, &support::local_endpoint(None), clock.clone(), seed);
    let keeping = || {
        let on_park = if settings.holds { OnPark::Hold } else { OnPark::Skip };
        let park = Park::new(store.clone(), "park".to_owned(), on_park, 24);
        let keeping = Keeping::nothing().with_park(park).of_function("steps", "1");
        if !settings.remembers {
            return keeping;
        }
        let progress = Progress::new(store.clone(), "progress".to_owned(), 24);
        keeping.with_progress(if settings.marks_starts {
            progress
        } else {
            progress.without_crash_marks()
        })
    };
    keeping().ensure_tables(clock.timestamp(TIMEOUT_MS)).await.unwrap();
    let (witness, function_clock) = (Arc::clone(witness), Arc::clone(clock) as Arc<dyn Clock>);
    let before = Player::<true> { witness: Arc::clone(&witness), clock: clock.clone() };
    let after = Player::<false> { witness: Arc::clone(&witness), clock: clock.clone() };
    let before = Lanes::new(before, clock.clone()).with_keeping(keeping()).with_seed(seed);
    let after = Lanes::new(after, clock.clone()).with_keeping(keeping()).with_seed(seed);
    let mut rng = fastrand::Rng::with_seed(seed ^ 0x57a6);
    let records = witness.script.records.len();
    let batches = u32::try_from(records / settings.batch_size + 2 * settings.factor).unwrap();
    let fixed_at =
        (rng.usize(..records * if settings.batch_size == 1 { 2 } else { 1 } / 3), 10 + 2 * batches);
    Stage {
        before: Function::new(before, Arc::clone(&function_clock)),
        after: Function::new(after, function_clock),
        witness,
        settings: settings.clone(),
        rng: RefCell::new(rng),
        fixed_at,
        delivered: Cell::new(0),
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
    let faults = settings.faults.then(|| Faults::new(settings.seed, &parameters, TIMEOUT_MS));
    let setting = Setting {
        faults,
        parameters,
        timeout: TIMEOUT_MS,
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
async fn finish(stage: &Stage, clock: &Arc<VirtualClock>) {
    let call = |round: usize| Call::new(format!("operator-{round}"), clock.timestamp(TIMEOUT_MS));
    let shown = stage.operate(Operation::Show(Selection::default()), &call(ROUNDS)).await;
    stage.witness.look_at_shown(&shown.unwrap_or_default());
    for round in 0..ROUNDS {
        let answer = stage.redrive(Redrive::default(), &call(round)).await.unwrap_or_default();
        if answer["left"] == 0 {
            break;
        }
        if !answer["failed"].as_array().is_none_or(Vec::is_empty) {
            stage.witness.violated("lost", format!("the last redrive: {answer}"));
            break;
        }
    }
    let listed = stage.operate(Operation::List(Selection::default()), &call(ROUNDS)).await;
    let listed = listed.unwrap_or_default();
    if listed["parked"].as_array().is_none_or(|parked| !parked.is_empty()) {
        stage.witness.violated("lost", format!("still parked: {listed}"));
    }
}
