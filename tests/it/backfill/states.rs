//! The state machine that is deployed, `infra/backfill.asl.json`, against the function itself.

mod machine;

use super::chain::shop::ChainShop;
use changefold::{
    operation::backfill::Begin,
    view::building::{RunState, ViewState},
};
use machine::{Failed, Seen, World, execute};
use serde_json::{Value, json};
use std::{cell::Cell, fs, path::Path};

fn definition() -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("infra/backfill.asl.json");
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// Lambda and the clock, as Step Functions meets them.
struct Step<'s> {
    shop: &'s ChainShop,
    invoked: Cell<u64>,
    /// Lambda refuses one invocation in so many; 0 is none.
    refused: u64,
    /// What is done after so many invocations.
    meanwhile: Option<u64>,
    waited_s: Cell<u64>,
}

impl<'s> Step<'s> {
    fn new(shop: &'s ChainShop) -> Self {
        let (invoked, waited_s) = (Cell::new(0), Cell::new(0));
        Self { shop, invoked, refused: 0, meanwhile: None, waited_s }
    }
}

impl World for Step<'_> {
    async fn invoke(&self, payload: &Value) -> Result<Value, String> {
        self.invoked.set(self.invoked.get() + 1);
        let invoked = self.invoked.get();
        if self.meanwhile == Some(invoked) {
            self.shop.stop().await;
        }
        if self.refused > 0 && invoked.is_multiple_of(self.refused) {
            // What Lambda says of throttling, and of a function that it has killed.
            let error = ["Lambda.TooManyRequestsException", "Sandbox.Timedout"];
            return Err(error[usize::from(invoked.is_multiple_of(2 * self.refused))].to_owned());
        }
        let answer = self.shop.answer(payload.to_string().as_bytes()).await;
        answer.map_err(|halt| halt.code.to_owned())
    }

    fn wait(&self, seconds: u64) {
        self.waited_s.set(self.waited_s.get() + seconds);
        self.shop.clock.pass(i64::try_from(seconds * 1_000).unwrap());
    }
}

async fn run(step: &Step<'_>, begin: Value, seen: &mut Seen) -> Result<Value, Failed> {
    execute(&definition(), json!({ "begin": begin }), step, seen).await
}

/// A request as an execution is given it.
fn request(units_per_s: u32) -> Value {
    json!({
        "table": "orders", "segments": 4,
        "read_units_per_s": units_per_s, "write_units_per_s": units_per_s,
    })
}

#[test]
fn the_machine_brings_a_table_in_and_waits_until_its_views_are_ready() {
    crate::support::block_on(async {
        let shop = ChainShop::open(3_000).await;
        // A call that has died has the lease of a segment.
        let units = Some(200);
        let begin = Begin { read_units_per_s: units, write_units_per_s: units, ..Begin::default() };
        shop.begin(Begin { segments: Some(4), ..begin }).await;
        assert!(shop.work_until(0, 14).await.is_none(), "it has to die at work");
        shop.throttle_scans(60);
        let step = Step { refused: 6, ..Step::new(&shop) };
        let mut seen = Seen::default();
        let told = run(&step, request(200), &mut seen).await.unwrap();

        let worked = told["worked"].as_array().unwrap();
        let told_of = |name: &str| worked.iter().map(|it| it[name].clone()).collect::<Vec<_>>();
        assert_eq!(told_of("segment"), [0, 1, 2, 3]);
        assert_eq!(told_of("stopped"), ["SegmentDone"; 4]);
        assert_eq!(told["run"]["state"], "ready");
        assert_eq!((&told["run"]["counts"]["scanned"], shop.known().await), (&json!(3_000), 3_000));
        let status = shop.status().await;
        assert_eq!(status.views[0].state, Some(ViewState::Ready));
        assert_eq!(shop.rows().await, "EU 1500 2248500; US 1500 2250000");

        let entered = |name: &str| seen.states.iter().filter(|state| *state == name).count();
        assert!(entered("WaitForOthers") > 2, "nobody waited for the lease: {:?}", seen.states);
        assert!(entered("WaitForRates") > 4, "nobody waited for the rates");
        assert!(seen.retries > 4, "nothing was retried");
        assert!((24..30).contains(&entered("WaitForTheStream")), "a day, and then ready");
        // The longest history of 1,800 calls, as the definition says, is below 25,000 events.
        let calls = told_of("calls").iter().map(|it| it.as_u64().unwrap()).max().unwrap();
        let longest = seen.events_max * 1_800 / calls;
        assert!(longest < 25_000, "{} events of {calls} calls", seen.events_max);
    });
}

#[test]
fn a_run_that_is_stopped_or_used_up_fails_with_what_to_do() {
    crate::support::block_on(async {
        for units_max in [None, Some(400)] {
            let shop = ChainShop::open(600).await;
            let meanwhile = units_max.is_none().then_some(3);
            let step = Step { meanwhile, ..Step::new(&shop) };
            let mut begin = request(100);
            begin["units_max"] = json!(units_max);
            let (error, cause) = run(&step, begin, &mut Seen::default()).await.unwrap_err();
            assert_eq!(error, "NotScanned");
            assert!(cause.contains("execute it again"), "{cause}");
            let state = shop.run().await.state;
            let expected = if units_max.is_none() { RunState::Stopped } else { RunState::Paused };
            assert_eq!(state, expected);
            // Executed again it goes on.
            let step = Step::new(&shop);
            let told = run(&step, request(1_000), &mut Seen::default()).await.unwrap();
            assert_eq!(told["run"]["state"], "ready");
            assert_eq!(shop.known().await, 600);
        }
    });
}

#[test]
fn a_segment_is_not_asked_for_without_end() {
    crate::support::block_on(async {
        let shop = ChainShop::open(20).await;
        let mut machine = definition();
        let judge = &mut machine["States"]["Segments"]["ItemProcessor"]["States"]["Judge"];
        assert_eq!(judge["Choices"][1]["NumericGreaterThanEquals"], 1_800);
        judge["Choices"][1]["NumericGreaterThanEquals"] = json!(5);
        let step = Step::new(&shop);
        // Not one item can be paid for.
        let input = json!({ "begin": request(1) });
        let ended = execute(&machine, input, &step, &mut Seen::default()).await;
        assert_eq!(ended.unwrap_err().0, "CallsUsedUp");
        assert!(step.waited_s.get() >= 5, "it waits between the calls");
    });
}

#[test]
fn control_what_nobody_interprets_is_refused() {
    for (state, field) in [("Begin", "Catch"), ("List", "InputPath"), ("Look", "OutputPath")] {
        let refused = std::panic::catch_unwind(|| {
            crate::support::block_on(async {
                let shop = ChainShop::open(2).await;
                let mut machine = definition();
                machine["States"][state][field] = json!("$");
                let input = json!({ "begin": request(1_000) });
                drop(execute(&machine, input, &Step::new(&shop), &mut Seen::default()).await);
            });
        });
        assert!(refused.is_err(), "{field} of {state} went unnoticed");
    }
}
