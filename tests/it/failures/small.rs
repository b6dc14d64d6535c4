//! Small cases, in every interleaving of their store calls, up to some switches.
//!
//! Two of invocations and redrives over one or two keys, each call of the store a point where
//! the other may go on. The rules are those of the large simulation. Two things are here that
//! the desk's mapping does not do: a batch that was cut otherwise is delivered again, as by a
//! poller that starts anew, and a read of several rows is never one moment.

use super::{
    checker::{Checker, Kind, Violation},
    script::{Script, Settings},
    scripted::{Scripted, pause},
    wire::Wire,
};
use crate::support;
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
    operation::{self, Operation, Redrive},
    outcome::Answer,
    record::Timestamp,
    recovery::{
        durable::DurableState,
        park::{OnPark, Park},
        progress::Progress,
    },
    store::{Store, embedded::Embedded},
};
use futures_util::future::{BoxFuture, FutureExt};
use serde_json::{Value, json};
use std::{pin::pin, sync::Arc, task::Poll, time::Duration};

const NOW: Timestamp = Timestamp(1_772_442_999_000);
const DEADLINE: Timestamp = Timestamp(NOW.0 + 60_000);

/// What somebody does.
#[derive(Debug, Clone, Copy)]
enum Act<'a> {
    /// Delivers these records.
    Deliver(&'a [usize]),
    Redrive,
    /// Deploys the fix, or takes it back.
    Fix(bool),
}

/// Time stands still.
#[derive(Debug)]
struct Still;

impl Clock for Still {
    fn now(&self) -> Timestamp {
        NOW
    }

    fn sleep(&self, _: Duration) -> BoxFuture<'static, ()> {
        std::future::ready(()).boxed()
    }

    fn watch(&self, _: Timestamp) -> BoxFuture<'static, ()> {
        std::future::pending().boxed()
    }
}

/// A store that lets the other go first at each call, and answers for the progress later than
/// for the park.
#[derive(Debug, Clone)]
struct Polite(Embedded);

impl HttpConnector for Polite {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let store = self.0.clone();
        HttpConnectorFuture::new(async move {
            pause(1).await;
            let asked = request.body().bytes().unwrap();
            let mut asked: Value = serde_json::from_slice(asked).unwrap();
            let tables = asked["RequestItems"].as_object_mut();
            let is_of_both = tables.as_ref().is_some_and(|tables| tables.len() == 2);
            let Some(tables) = tables.filter(|_| is_of_both) else {
                return store.call(request).await;
            };
            let later = tables.remove("progress").unwrap();
            let (status, answer) =
                store.answer("DynamoDB_20120810.BatchGetItem", asked.to_string().as_bytes());
            let mut answer: Value = serde_json::from_str(&answer).unwrap();
            answer["UnprocessedKeys"] = json!({ "progress": later });
            Ok(HttpResponse::new(status.try_into().unwrap(), SdkBody::from(answer.to_string())))
        })
    }
}

/// A case: records by key and fate, what comes first, and the two that meet.
struct Case<'a> {
    records: &'a [(usize, &'a str)],
    holds: bool,
    remembers: bool,
    before: &'a [Act<'a>],
    meet: [Act<'a>; 2],
}

impl Case<'_> {
    /// Plays one interleaving; tells what was broken. `path` says at each point whether it is
    /// the other's turn now, and takes what it did not say.
    async fn simulate(&self, path: &mut Vec<bool>) -> Vec<Violation> {
        let script = Arc::new(Script::of(self.records));
        let embedded = Embedded::open(None).unwrap();
        let settings = Settings { holds: self.holds, remembers: self.remembers, ..Settings::of(0) };
        let checker = Checker::new(script, embedded.clone(), &settings);
        let client = Wire::wrap(support::client_of(Polite(embedded)), &checker, None);
        let store = Store::new(client, &support::local_endpoint(None), Arc::new(Still), 0);
        let on_park = if self.holds { OnPark::Hold } else { OnPark::Skip };
        let park = Park::new(store.clone(), "park".to_owned(), on_park, 24);
        let mut durable = DurableState::none().with_park(park);
        if self.remembers {
            durable = durable.with_progress(Progress::new(store, "progress".to_owned(), 24));
        }
        durable.ensure_tables(DEADLINE).await.unwrap();
        let scripted = Scripted::<false> { checker: Arc::clone(&checker), clock: Arc::new(Still) };
        let lanes = Lanes::new(scripted, Arc::new(Still)).with_durable_state(durable);
        let function = Function::new(lanes, Arc::new(Still));
        let all: Vec<usize> = (0..self.records.len()).collect();
        let act = |act| Box::pin(act_out(&function, &checker, act));
        for first in self.before {
            act(*first).await;
        }
        let [one, other] = self.meet.map(act);
        let (mut one, mut other) = (pin!(one), pin!(other));
        let (mut done, mut step, mut is_others) = ([false, false], 0, false);
        std::future::poll_fn(|context| {
            while done != [true, true] {
                if done == [false, false] {
                    if step == path.len() {
                        path.push(false);
                    }
                    is_others ^= path[step];
                    step += 1;
                } else {
                    is_others = done[0];
                }
                let turn = if is_others { &mut other } else { &mut one };
                done[usize::from(is_others)] = turn.as_mut().poll(context).is_ready();
            }
            Poll::Ready(())
        })
        .await;
        checker.end_the_run();
        for last in [Act::Deliver(&all), Act::Redrive, Act::Redrive] {
            act(last).await;
        }
        checker.look_at_the_end();
        checker.told().2
    }

    /// Plays all interleavings with up to so many switches.
    #[track_caller]
    fn check(&self, switches: usize) {
        let mut path = Vec::new();
        loop {
            let violations = support::block_on(self.simulate(&mut path));
            let told: Vec<_> = violations.iter().map(ToString::to_string).collect();
            assert!(told.is_empty(), "{:?} as {path:?}:\n{}", self.meet, told.join("\n"));
            let may_switch = |path: &[bool]| path.iter().filter(|it| **it).count() < switches;
            while path.last().is_some_and(|last| *last || !may_switch(&path)) {
                path.pop();
            }
            match path.last_mut() {
                Some(last) => *last = true,
                None => return,
            }
        }
    }
}

async fn act_out(function: &Function<Lanes<Scripted<false>>>, checker: &Checker, act: Act<'_>) {
    let (kind, records, payload) = match act {
        Act::Deliver(records) => {
            let bodies = records.iter().map(|at| checker.script.records[*at].body.as_str());
            let bodies: Vec<&str> = bodies.collect();
            let event = format!(r#"{{"Records":[{}]}}"#, bodies.join(","));
            (Kind::Live, records.to_vec(), event.into_bytes())
        }
        Act::Redrive => {
            let redrive = Redrive { superseded: true, ..Redrive::default() };
            (Kind::Redrive, Vec::new(), operation::event(Operation::Redrive(redrive)))
        }
        Act::Fix(is_fixed) => return checker.fix(is_fixed),
    };
    let number = checker.begin(kind, records);
    let call = Call::new(number.to_string(), DEADLINE);
    let mut invoked = pin!(function.invoke(&payload, &call));
    let answer = std::future::poll_fn(|context| {
        checker.turn_of(Some(number));
        let polled = invoked.as_mut().poll(context);
        checker.turn_of(None);
        polled
    })
    .await;
    match answer {
        Ok(Answer::Reply(reply)) => {
            checker.replied(number, &serde_json::to_value(reply).unwrap());
        }
        Ok(Answer::Operation(answer)) => checker.redriven(number, &answer),
        Err(halt) => checker.violated("operator", halt.to_string()),
    }
}

/// A record parked by one invocation comes to another together with its successor, which is not
/// to run. The two keys share a row of holds, so that one park refuses the other.
#[test]
fn two_invocations_with_other_cuts() {
    Case {
        records: &[(1, "park"), (0, "park"), (0, "ok")],
        holds: true,
        remembers: false,
        before: &[],
        meet: [Act::Deliver(&[0, 1]), Act::Deliver(&[1, 2])],
    }
    .check(4);
}

/// The same where an earlier record of the key was parked and redriven.
#[test]
fn two_invocations_with_other_cuts_of_a_closed_key() {
    let before = [Act::Deliver(&[0]), Act::Fix(true), Act::Redrive, Act::Fix(false)];
    Case {
        records: &[(0, "park"), (0, "park"), (0, "ok")],
        holds: true,
        remembers: false,
        before: &before,
        meet: [Act::Deliver(&[1]), Act::Deliver(&[1, 2])],
    }
    .check(3);
}

/// The same where the first remembers the parked record as finished.
#[test]
fn two_invocations_with_other_cuts_and_progress() {
    Case {
        records: &[(1, "flaky:99"), (0, "park"), (0, "ok")],
        holds: true,
        remembers: true,
        before: &[],
        meet: [Act::Deliver(&[0, 1]), Act::Deliver(&[1, 2])],
    }
    .check(3);
}

#[test]
fn an_invocation_and_a_redrive() {
    for holds in [true, false] {
        Case {
            records: &[(0, "park"), (0, "ok"), (0, "ok")],
            holds,
            remembers: false,
            before: &[Act::Deliver(&[0]), Act::Fix(true)],
            meet: [Act::Deliver(&[1, 2]), Act::Redrive],
        }
        .check(3);
    }
}

#[test]
fn a_late_duplicate_and_a_redrive() {
    for holds in [true, false] {
        Case {
            records: &[(0, "park"), (0, "park"), (0, "ok")],
            holds,
            remembers: false,
            before: &[Act::Deliver(&[0, 1]), Act::Fix(true)],
            meet: [Act::Deliver(&[0, 1, 2]), Act::Redrive],
        }
        .check(3);
    }
}

#[test]
fn two_redrives() {
    Case {
        records: &[(0, "park"), (0, "ok"), (1, "park")],
        holds: true,
        remembers: false,
        before: &[Act::Deliver(&[0, 1, 2]), Act::Fix(true)],
        meet: [Act::Redrive, Act::Redrive],
    }
    .check(3);
}
