//! A redrive under what protects the live way.

use super::{Bench, asked, event};
use crate::support::block_on;
use changefold::{call::Call, clock::Clock as _};
use serde_json::{Value, json};
use std::{cell::Cell, pin::pin, task::Poll};

/// Keys `a`, `b`, … with a record each, by its number.
const KEYS: [(u32, &str); 8] =
    [(1, "a"), (2, "b"), (3, "c"), (4, "d"), (5, "e"), (6, "f"), (7, "g"), (8, "h")];

/// As they are listed: code and attempts of all.
fn of_all(code: &str, attempts: u64) -> Vec<(String, String, u64, u64)> {
    KEYS.map(|(_, key)| (format!("pk={key}"), code.to_owned(), attempts, 0)).into()
}

#[test]
fn a_hanging_record_is_cancelled_before_the_timeout_and_counts_as_failed() {
    let bench = Bench::new(16);
    bench.park(&KEYS);
    bench.shop().tell(3, "hang");
    let call = bench.call();
    let told = block_on(bench.invoke_to(&asked("redrive", json!({})), &call)).unwrap();
    assert!(bench.clock.now() < call.deadline, "the function's timeout would have struck");
    assert_eq!((&told["done"], &told["left"]), (&json!(7), &json!(1)), "{told}");
    let failed = &told["failed"][0];
    assert_eq!(
        (&failed["sequence_number"], &failed["error_code"]),
        (&json!("3"), &json!("TimedOut"))
    );
    assert_eq!(bench.listed(), [("pk=c".to_owned(), "TimedOut".to_owned(), 2, 0)]);
}

#[test]
fn a_record_that_was_cut_off_for_want_of_time_is_not_blamed_and_runs_first() {
    let bench = Bench::new(1);
    bench.park(&KEYS);
    // All of them take long: the second is in the middle when the time is over.
    bench.shop().others.set("long");
    for (number, _) in KEYS {
        bench.shop().tell(number, "hang");
    }
    let told = bench.ask("redrive", json!({}));
    assert_eq!(
        (told["failed"].as_array().unwrap().len(), &told["stopped"]),
        (1, &json!("Deadline")),
        "{told}"
    );
    let codes: Vec<String> = bench.listed().into_iter().map(|(_, code, ..)| code).collect();
    assert_eq!(codes.iter().filter(|code| *code == "TimedOut").count(), 1, "{codes:?}");
    assert_eq!(told["left"], 8);
}

#[test]
fn a_record_that_kills_the_process_does_not_kill_every_redrive() {
    let bench = Bench::new(16);
    bench.park(&[&KEYS[..], &[(9, "c")]].concat());
    bench.shop().tell(3, "kill");
    let redrive = asked("redrive", json!({}));
    // First it takes those with it that ran beside it, then it is alone.
    bench.dies(&redrive);
    assert!(bench.shop().effects.take().is_empty());
    bench.outlive_leases();
    bench.dies(&redrive);
    bench.outlive_leases();
    bench.dies(&redrive);
    bench.outlive_leases();
    let mut effects = bench.shop().effects.take();
    effects.sort();
    assert_eq!(effects, ["1", "2", "4", "5", "6", "7", "8"]);
    bench.shop().called();
    let told = bench.invoke(&redrive).unwrap();
    assert!(bench.shop().called().is_empty());
    let failed = &told["failed"][0];
    assert_eq!(
        (&failed["sequence_number"], &failed["error_code"]),
        (&json!("3"), &json!("Crashed")),
        "{told}"
    );
    // Its key stays, and new keys go on.
    assert_eq!((&told["done"], &told["left"]), (&json!(0), &json!(2)), "{told}");
    bench.park(&[(10, "i")]);
    let told = bench.invoke(&redrive).unwrap();
    assert_eq!((&told["done"], &told["left"]), (&json!(1), &json!(2)), "{told}");
    // After the fix it is asked for by name.
    bench.shop().tell(3, "ok");
    let told = bench.ask("redrive", json!({"crashed": true}));
    assert_eq!((&told["done"], &told["left"]), (&json!(2), &json!(0)), "{told}");
}

#[test]
fn a_retried_request_does_not_share_the_lease_of_the_one_before() {
    let bench = Bench::new(1);
    bench.park(&KEYS[..1]);
    bench.shop().tell(1, "kill");
    let (redrive, call) = (asked("redrive", json!({})), bench.call());
    block_on(async {
        let mut first = pin!(bench.invoke_to(&redrive, &call));
        while !bench.shop().is_killed.get() {
            assert!(futures_util::poll!(first.as_mut()).is_pending());
        }
        // It is still at work when Lambda sends the same request again.
        bench.clock.0.pass(1_000);
        bench.shop().tell(1, "ok");
        let told = bench.invoke_to(&redrive, &bench.call()).await.unwrap();
        assert_eq!(told["failed"][0]["error_code"], "KeyLeased", "{told}");
        assert_eq!(told["left"], 1, "{told}");
    });
    assert_eq!(bench.shop().called(), ["1"]);
    bench.outlive_leases();
    assert_eq!(bench.invoke(&redrive).unwrap()["done"], 1);
}

#[test]
fn a_halt_fails_the_redrive_and_touches_nothing_else() {
    let bench = Bench::new(1);
    bench.park(&KEYS);
    bench.shop().others.set("halt");
    let halt = bench.try_to_ask("redrive", json!({})).unwrap_err();
    assert_eq!(halt.code, "ShopGone");
    assert_eq!(bench.shop().called().len(), 1);
    assert_eq!(bench.listed(), of_all("Refused", 1));
    // It is no start without outcome either, and leases are given back.
    bench.shop().others.set("ok");
    let told = bench.ask("redrive", json!({}));
    assert_eq!((&told["done"], &told["left"]), (&json!(8), &json!(0)), "{told}");
}

#[test]
fn an_outage_opens_the_circuit_and_overwrites_no_error() {
    let bench = Bench::new(1);
    bench.park(&KEYS);
    bench.shop().others.set("down");
    let told = bench.ask("redrive", json!({}));
    assert_eq!((&told["stopped"], &told["left"]), (&json!("CircuitOpen"), &json!(8)), "{told}");
    assert_eq!(told["failed"].as_array().unwrap().len(), 5, "{told}");
    assert_eq!(told["failed"][0]["error_code"], "ShopDown");
    let listed = bench.listed();
    assert!(listed.iter().all(|(_, code, ..)| code == "Refused"), "{listed:?}");
    assert_eq!(listed.iter().filter(|(_, _, attempts, _)| *attempts == 2).count(), 5);
    // Who goes on meets the others only.
    bench.shop().others.set("ok");
    let told = bench.ask("redrive", json!({"cursor": told["cursor"]}));
    assert_eq!(
        (&told["done"], &told["left"], &told["cursor"]),
        (&json!(3), &json!(0), &Value::Null)
    );
    assert_eq!(bench.listed().len(), 5);
}

#[test]
fn a_hot_keys_hold_closes_while_live_records_flow_in() {
    let bench = Bench::new(2);
    bench.park(&[(1, "hot"), (2, "hot"), (3, "b"), (4, "c"), (5, "d")]);
    // After each of its records another comes in, a hundred times; page after page.
    let (next, call) = (Cell::new(100), bench.call());
    let asked = asked("redrive", json!({}));
    let told = block_on(async {
        let mut redriven = pin!(bench.invoke_to(&asked, &call));
        loop {
            let polled = futures_util::poll!(redriven.as_mut());
            if let Poll::Ready(told) = polled {
                break told.unwrap();
            }
            let is_hot = |it: &&String| ["1", "2"].contains(&it.as_str()) || it.len() == 3;
            let hot = bench.shop().effects.borrow().iter().filter(is_hot).count();
            while next.get() < (100 + hot).min(200) {
                let number = u32::try_from(next.replace(next.get() + 1)).unwrap();
                let live = Call::new("live", call.deadline);
                bench.invoke_to(&event(&[(number, "hot")]), &live).await.unwrap();
            }
            tokio::task::yield_now().await;
        }
    });
    assert_eq!((&told["done"], &told["left"]), (&json!(105), &json!(0)), "{told}");
    assert!(bench.listed().is_empty());
    // The hold is gone: the next one runs live.
    bench.shop().called();
    bench.deliver(&[(300, "hot")]);
    assert_eq!(bench.shop().called(), ["300"]);
}

#[test]
fn what_is_left_counts_failed_keys_and_those_that_were_not_reached() {
    let bench = Bench::new(1);
    bench.park(&[&KEYS[..], &[(9, "a"), (10, "b"), (11, "c")]].concat());
    bench.shop().tell(1, "park");
    let (mut cursor, mut done, mut behind, mut calls) = (Value::Null, 0, 0, 0);
    let left = loop {
        let told = bench.ask("redrive", json!({"limit": 2, "cursor": cursor}));
        let count = |name: &str| told[name].as_u64().unwrap();
        (done, calls) = (done + count("done"), calls + 1);
        let left = behind + count("left");
        assert_eq!(done + left, 11, "{told}");
        behind += count("left_behind");
        cursor = told["cursor"].clone();
        if cursor.is_null() {
            break left;
        }
    };
    assert_eq!((done, left, calls), (9, 2, 5));
    // The failed key was met once.
    assert_eq!(bench.listed(), [("pk=a".to_owned(), "Refused".to_owned(), 2, 1)]);
}

#[test]
fn a_redrive_takes_the_keys_that_are_meant() {
    let bench = Bench::new(16);
    bench.park(&KEYS[..2]);
    let began = bench.clock.now().0;
    bench.clock.0.pass(1_000);
    bench.park(&KEYS[2..]);
    let redrive = |of: Value| {
        let told = bench.ask("redrive", of);
        (told["done"].as_u64().unwrap(), told["left"].as_u64().unwrap())
    };
    assert_eq!(redrive(json!({"until_ms": began})), (0, 0));
    assert_eq!(redrive(json!({"until_ms": began + 1, "exclude": ["pk=b"]})), (1, 0));
    assert_eq!(redrive(json!({"source": "returns"})), (0, 0));
    assert_eq!(redrive(json!({"error_code": "Another"})), (0, 0));
    assert_eq!(redrive(json!({"since_ms": began + 1, "source": "orders", "limit": 2})), (2, 5));
    assert_eq!(redrive(json!({"since_ms": began + 1})), (4, 0));
    assert_eq!(bench.listed(), [("pk=b".to_owned(), "Refused".to_owned(), 1, 0)]);
}

#[test]
fn a_dry_run_says_what_it_did_not_try_and_does_not_try_it() {
    let bench = Bench::new(16);
    bench.park(&[(1, "a"), (2, "a"), (3, "b")]);
    let told = bench.ask("redrive", json!({"dry_run": true, "limit": 2}));
    assert_eq!(told["dry_run"]["tried"], json!(["payload", "decode"]), "{told}");
    assert_eq!(told["dry_run"]["not_tried"], json!(["lease", "processor"]));
    assert_eq!((&told["done"], &told["left"]), (&json!(2), &json!(3)));
    let told = bench.ask("redrive", json!({"dry_run": true, "cursor": told["cursor"]}));
    assert_eq!((&told["done"], &told["cursor"]), (&json!(1), &Value::Null), "{told}");
    assert!(bench.shop().called().is_empty());
    let listed: Vec<u64> = bench.listed().into_iter().map(|(_, _, attempts, _)| attempts).collect();
    assert_eq!(listed, [1, 1]);
}
