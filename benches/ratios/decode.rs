//! Reading events: against what people write today, and against a walk that only validates.
//!
//! The baselines are lettered as in the issue they come from: (a) `serde_json` into
//! `aws_lambda_events`, its items by `serde_dynamo` into the type; (a′) the same through
//! `serde_path_to_error`, as `LambdaEvent<DynamoDbEvent>` of `lambda_runtime` does; (b)
//! `serde_json` into the Kinesis event, and the data by `serde_json` into the type.

use crate::{
    allocations,
    measure::{self, Goal, PAIRS, Row},
    model::{self, Digest as _, Order, OwnedOrder},
    payloads::{self, Payload, Size},
};
use aws_lambda_events::event::{dynamodb, kinesis::KinesisEvent};
use changefold::{event, record::Change};
use serde::de::IgnoredAny;
use std::{hint::black_box, time::Duration};

pub(crate) fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for size in Size::ALL {
        rows.extend(dynamodb_rows(size));
        rows.push(kinesis_row(size));
    }
    rows
}

fn dynamodb_rows(size: Size) -> Vec<Row> {
    let payload = &payloads::dynamodb(size);
    let event = serde_json::from_slice(&payload.bytes).unwrap();
    check(payload, each_official(event, |order| order.digest()));
    let of = |what: &str| format!("{what}, {}", size.name());
    let timed = |work: fn(&Payload) -> u64| move || measure::time(|| work(payload));
    let against = |goal: Goal, baseline: fn(&Payload) -> u64, ours: fn(&Payload) -> u64| {
        let pairs = measure::in_turns(PAIRS, timed(baseline), timed(ours));
        Row::timed(goal, &pairs, note(&pairs, payload.records))
    };
    let typed_goal = Goal::at_least(of("DynamoDB, both images typed, against (a)"), 8.0, 15.0);
    let users_goal = Goal::at_least(of("DynamoDB, both images typed, against (a′)"), 10.0, 20.0);
    let keys_goal = Goal::at_least(of("keys and sequence numbers only, against (a)"), 20.0, 35.0);
    let walk_goal = Goal::at_most(of("time against a validate-only walk"), 1.15, 0.7);
    let walked = measure::in_turns(PAIRS, timed(walk), timed(typed));
    let (ours, theirs) =
        (allocations::count(|| typed(payload)), allocations::count(|| official(payload)));
    let per_record = ours.count as f64 / payload.records as f64;
    let memory = |bytes: u64| (payload.bytes.len() as u64 + bytes) as f64;
    vec![
        against(typed_goal, official, typed),
        against(users_goal, with_paths, typed),
        Row::timed(walk_goal, &walked, note(&walked, payload.records)),
        against(keys_goal, official, keys),
        Row::counted(
            Goal::at_most(of("allocations per record, full model"), 6.0, 1.0),
            per_record,
            format!("(a) {:.0}", theirs.count as f64 / payload.records as f64),
        ),
        Row::counted(
            Goal::at_most(of("peak memory, payload included, against (a)"), 0.5, 0.3),
            memory(ours.peak) / memory(theirs.peak),
            format!("{:.1} against {:.1} MB", memory(ours.peak) / 1e6, memory(theirs.peak) / 1e6),
        ),
    ]
}

fn kinesis_row(size: Size) -> Row {
    let payload = payloads::kinesis(size);
    check(&payload, each_kinesis_official(&payload, |order| order.digest()));
    let pairs = measure::in_turns(
        PAIRS,
        || measure::time(|| kinesis_official(&payload)),
        || measure::time(|| typed(&payload)),
    );
    let goal =
        Goal::at_least(format!("Kinesis JSON typed, against (b), {}", size.name()), 3.5, 5.0);
    Row::timed(goal, &pairs, note(&pairs, payload.records))
}

fn note(pairs: &[(Duration, Duration)], records: usize) -> String {
    let baseline = measure::per_record(pairs.iter().map(|(it, _)| *it), records);
    let ours = measure::per_record(pairs.iter().map(|(_, it)| *it), records);
    format!("{baseline:.0} → {ours:.0} ns a record")
}

/// Ours: one pass, both images into the type.
pub(crate) fn typed(payload: &Payload) -> u64 {
    each_typed(payload, |change| {
        black_box(&change);
        0
    })
}

fn each_typed(payload: &Payload, digest: impl Fn(Change<Order<'_>>) -> u64) -> u64 {
    let batch = event::parse(&payload.bytes);
    let records = batch.records().unwrap();
    records.iter().fold(0, |sum: u64, record| sum.wrapping_add(digest(record.change().unwrap())))
}

/// Ours: what a filter or an order by key asks for.
pub(crate) fn keys(payload: &Payload) -> u64 {
    let batch = event::parse(&payload.bytes);
    for record in batch.records().unwrap() {
        black_box((record.sequence_number(), record.keys().unwrap()));
    }
    0
}

/// (a)
pub(crate) fn official(payload: &Payload) -> u64 {
    each_official(serde_json::from_slice(&payload.bytes).unwrap(), |order| {
        black_box(&order);
        0
    })
}

/// (a′)
pub(crate) fn with_paths(payload: &Payload) -> u64 {
    let mut json = serde_json::Deserializer::from_slice(&payload.bytes);
    each_official(serde_path_to_error::deserialize(&mut json).unwrap(), |order| {
        black_box(&order);
        0
    })
}

fn each_official(event: dynamodb::Event, digest: impl Fn(OwnedOrder) -> u64) -> u64 {
    let image = |item: serde_dynamo::Item| {
        if item.is_empty() { 7 } else { digest(serde_dynamo::from_item(item).unwrap()) }
    };
    event.records.into_iter().fold(0, |sum: u64, record| {
        let (new, old) = (image(record.change.new_image), image(record.change.old_image));
        sum.wrapping_add(new.wrapping_mul(3) ^ old)
    })
}

/// What it costs to see that the payload is JSON, and nothing more.
pub(crate) fn walk(payload: &Payload) -> u64 {
    serde_json::from_slice::<IgnoredAny>(&payload.bytes).unwrap();
    0
}

/// (b)
pub(crate) fn kinesis_official(payload: &Payload) -> u64 {
    each_kinesis_official(payload, |order| {
        black_box(&order);
        0
    })
}

fn each_kinesis_official(payload: &Payload, digest: impl Fn(OwnedOrder) -> u64) -> u64 {
    let event: KinesisEvent = serde_json::from_slice(&payload.bytes).unwrap();
    event.records.iter().fold(0, |sum: u64, record| {
        let order: OwnedOrder = serde_json::from_slice(&record.kinesis.data).unwrap();
        sum.wrapping_add(digest(order).wrapping_mul(3) ^ 7)
    })
}

/// Both sides have to read the same out of the same bytes.
fn check(payload: &Payload, theirs: u64) {
    assert_eq!(each_typed(payload, |change| model::of_change(&change)), theirs);
}
