//! A record that comes alone is marked before it runs, and is taken for one that kills the
//! process when nothing takes the mark away. Neighbours with one sequence number come alone
//! together: what becomes of one of them must not count against another.

use crate::support::{FOREVER, block_on, call, embedded};
use changefold::{
    batch::lanes::Lanes,
    clock::SystemClock,
    handler::Function,
    operation::{self, Operation, Selection},
    outcome::Answer,
    processor::{self, Failure},
    record::Change,
    recovery::{
        durable::DurableState,
        park::{OnPark, Park},
        progress::Progress,
    },
};
use std::{cell::RefCell, sync::Arc};

/// More than the starts without outcome that a record gets.
const DELIVERIES: usize = 5;

#[derive(serde::Deserialize)]
struct Told {
    fate: String,
}

/// Two Kinesis records of one aggregate.
fn aggregate(fates: [&str; 2]) -> String {
    let element = |fate: &str| {
        let data = base64_simd::STANDARD
            .encode_to_string(format!(r#"{{"fate":"{fate}","note":"planted-7f3a"}}"#));
        format!(
            r#"{{"kinesis":{{"partitionKey":"a","sequenceNumber":"1","data":"{data}","approximateArrivalTimestamp":1545084650.987}},"eventSource":"aws:kinesis","eventID":"shardId-000000000006:1","eventSourceARN":"arn:aws:kinesis:us-east-2:123456789012:stream/clicks"}}"#
        )
    };
    format!(r#"{{"Records":[{}]}}"#, fates.map(element).join(","))
}

/// Delivers an aggregate again and again. What is parked in the end is nothing; the fates that
/// were tried, tries in place left out.
fn delivered(fates: [&str; 2]) -> Vec<String> {
    let calls: RefCell<Vec<String>> = RefCell::default();
    let plays = processor::from_fn(async |change: Change<Told>, _| {
        let told = change.new_image().unwrap();
        calls.borrow_mut().push(told.fate.clone());
        match told.fate.as_str() {
            "halt" => Err(Failure::halt("told to")),
            "retry" => Err(Failure::retry("told to")),
            _ => Ok(()),
        }
    });
    block_on(async {
        let store = embedded(1);
        let durable = DurableState::none()
            .with_progress(Progress::new(store.clone(), "progress".to_owned(), 24))
            .with_park(Park::new(store, "park".to_owned(), OnPark::Hold, 24));
        durable.ensure_tables(FOREVER).await.unwrap();
        let lanes = Lanes::new(plays, Arc::new(SystemClock)).with_durable_state(durable);
        let function = Function::new(lanes, Arc::new(SystemClock));
        let payload = aggregate(fates);
        for _ in 0..DELIVERIES {
            drop(function.invoke(payload.as_bytes(), &call()).await);
        }
        let list = operation::event(Operation::List(Selection::default()));
        let listed = function.invoke(&list, &call()).await.unwrap();
        let Answer::Operation(listed) = listed else { panic!("a reply to an operation") };
        assert_eq!(listed["parked"].as_array().unwrap().len(), 0, "{fates:?}: {listed}");
    });
    let mut calls = calls.take();
    calls.dedup();
    calls
}

#[test]
fn neighbours_that_halt_or_fail_are_not_taken_for_crashing_ones() {
    assert_eq!(delivered(["halt", "ok"]), ["halt"]);
    // A halt forgets the whole batch, so the first is processed each time.
    assert_eq!(delivered(["ok", "halt"]).len(), 2 * DELIVERIES);
    // Else the first is remembered, although it stands before the record that comes again.
    assert_eq!(delivered(["ok", "retry"]), ["ok", "retry"]);
}
