//! What the end of a shard does to its calls, and when its children's begin.

use super::files::{File, lines};
use bytes::Bytes;
use changefold::{
    call::Call,
    clock::Clock,
    local::{
        checkpoint::Checkpoints,
        clock::{Pace, VirtualClock},
        mapping::Parameters,
        run::{self, Setting},
        source::Fixtures,
        target::{FunctionError, Target},
    },
};
use futures_util::future::{FutureExt, LocalBoxFuture};
use serde_json::{Value, json};
use std::{cell::RefCell, sync::Arc, time::Duration};

/// A function that takes ten seconds, and notes when it was called with what.
struct Slow {
    clock: Arc<VirtualClock>,
    calls: RefCell<Vec<(i64, Value)>>,
}

impl Target for Slow {
    fn invoke(&self, payload: Bytes, _: Call) -> LocalBoxFuture<'_, Result<Bytes, FunctionError>> {
        async move {
            let event: Value = serde_json::from_slice(&payload).unwrap();
            let since = (self.clock.now().0 - self.clock.timestamp(0).0) / 1000;
            self.calls.borrow_mut().push((since, event));
            self.clock.sleep(Duration::from_secs(10)).await;
            Ok(Bytes::from_static(b"{\"state\":{\"kept\":1}}"))
        }
        .boxed_local()
    }
}

/// The calls of a run over such a fixture.
fn calls(name: &str, text: &str, settings: &[(&str, Value)]) -> Vec<(i64, Value)> {
    let file = File::new(name, &lines(text));
    let fixtures = Fixtures::open(&[file.path().to_owned()]).unwrap();
    let clock = VirtualClock::new(fixtures.time_zero(), Pace::Virtual);
    let mut parameters = Parameters::default();
    for (name, value) in settings {
        parameters.set(name, value).unwrap();
    }
    let setting = Setting {
        parameters,
        timeout: 60_000,
        function_arn: "arn".to_owned(),
        checkpoints: Checkpoints::forgotten(),
        from_start: false,
        faults: None,
    };
    let slow = Slow { clock: Arc::clone(&clock), calls: RefCell::default() };
    run::run(&fixtures, &slow, &clock, setting, &mut |_| {}).now_or_never().unwrap().unwrap();
    slow.calls.into_inner()
}

fn numbers(event: &Value) -> Vec<&str> {
    let records = event["Records"].as_array().unwrap();
    records.iter().map(|record| record["dynamodb"]["SequenceNumber"].as_str().unwrap()).collect()
}

/// Batches of two: the parents' last ones are not full.
// R28, R29
#[test]
fn the_end_of_a_shard_sends_what_there_is_and_siblings_begin_at_once() {
    let text = "a 1, b 2, a 3, a 4, c<a, d<a, c 5, d 6, d 7, e<bc, e 8, e 9";
    let calls = calls("siblings", text, &[("BatchSize", 2.into())]);
    let calls: Vec<(i64, Vec<&str>)> =
        calls.iter().map(|(since, event)| (*since, numbers(event))).collect();
    assert_eq!(
        calls,
        [
            (0, vec!["1", "3"]),
            (0, vec!["2"]),
            (10, vec!["4"]),
            (20, vec!["5"]),
            (20, vec!["6", "7"]),
            (30, vec!["8", "9"]),
        ]
    );
}

// R29
#[test]
fn the_end_of_a_shard_closes_its_window_and_the_child_begins_with_an_empty_state() {
    let settings = [("TumblingWindowInSeconds", 900.into()), ("BatchSize", 10.into())];
    let calls = calls("windows", "a 1, a 2, c<a, c 3", &settings);
    let told: Vec<Value> = calls
        .iter()
        .map(|(_, event)| {
            json!([
                event["shardId"],
                numbers(event),
                event["state"],
                event["isFinalInvokeForWindow"]
            ])
        })
        .collect();
    assert_eq!(
        told,
        [
            json!(["a", ["1", "2"], {}, false]),
            json!(["a", [], {"kept": 1}, true]),
            json!(["c", ["3"], {}, false]),
            json!(["c", [], {"kept": 1}, true]),
        ]
    );
}
