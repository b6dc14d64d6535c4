//! Bulk calls: what is sent in which call, and what becomes of it.

mod generated;
mod player;

use crate::support::FOREVER;
use changefold::{
    batch::{Order, bisect::Bulk},
    local::cli::{self, Exit},
    operation::{Operation, Redrive, Redriven},
    outcome::Outcome,
    processor::{self, BatchItem, Failure},
    record::Timestamp,
};
use player::{
    Bench, Keep, NOTHING, PARK, PROGRESS, SKIP, Scripted, Style,
    Style::{Reporting, Transactional},
    event, scripted,
};
use serde::de::IgnoredAny;
use std::{
    cell::{Cell, RefCell},
    collections::BTreeSet,
    ffi::OsString,
    num::NonZeroUsize,
};

/// The calls, each as its records, and the reply.
#[track_caller]
fn check(batch: &str, keep: Keep, style: Style, calls: &str, reply: &str) {
    check_by(Bench::new(keep, style, usize::MAX), batch, calls, reply);
}

#[track_caller]
fn check_by(bench: Bench, batch: &str, calls: &str, reply: &str) {
    let played = bench.play(&event(&scripted(batch), 0), FOREVER);
    assert_eq!((&*bench.calls(), &*played.reply.unwrap()), (calls, reply), "{batch}");
}

#[test]
fn a_permanent_failure_halves_the_call_left_first() {
    check("", NOTHING, Transactional, "", "");
    check("a b c d", NOTHING, Transactional, "1234", "");
    check("a b c d:park", PARK, Transactional, "1234 12 34 3 4", "");
    check("a:park b c", PARK, Transactional, "123 12 1 2 3", "");
    // Without a park nothing later than the bad one is sent, as far as it is known.
    check("a b:park c d", NOTHING, Transactional, "1234 12 1 2", "2");
    // With progress, what is not of its key goes on.
    check("a b:park c b", PROGRESS, Transactional, "1234 12 1 2 3", "2");
}

#[test]
fn a_transient_failure_is_retried_whole_first() {
    check("a b:flaky2 c", NOTHING, Transactional, "123 123 123", "");
    check("a b:down c", NOTHING, Transactional, "123 123 123 123 123", "1");
    check("a b:down c", PARK, Transactional, "123 123 123 123 123", "1");
    // What is finished is not sent again.
    check("a b:down c", NOTHING, Reporting, "123 2 2 2 2", "2");
    check("a b:flaky1 c:park d", PARK, Transactional, "1234 1234 12 34 3 4", "");
    check("a:park b:flaky4 c", PARK, Transactional, "123 12 1 2 2 2 3", "");
}

#[test]
fn an_unclassified_failure_is_the_records_own_when_it_stands_alone() {
    check("a b:error", PARK, Transactional, "12 1 2 2 2", "");
    check("a b:panic c", PARK, Transactional, "123 12 1 2 2 2 3", "");
    check("a:error b c", NOTHING, Transactional, "123 12 1 1 1", "1");
    check("a:error b c", PROGRESS, Transactional, "123 12 1 1 1 2 3", "1");
    // A shared call does not blame the one that is left of it.
    check("a b:error", PARK, Reporting, "12 2 2 2", "");
    let bench = Bench::new(PARK, Transactional, usize::MAX);
    bench.play(&event(&scripted("a b:error"), 0), FOREVER);
    assert_eq!(*bench.bulk.processor().attempts.borrow(), [1, 1, 1, 1, 2, 3]);
}

#[test]
fn what_is_behind_a_parked_record_queues() {
    check("a:park b a b", PARK, Transactional, "1234 12 1 2 4", "");
    check("a:park b a b", SKIP, Transactional, "1234 12 1 2 34", "");
    check("a:park a a a", PARK, Transactional, "1234 12 1", "");
    let bench = Bench::new(PARK, Transactional, usize::MAX);
    let played = bench.play(&event(&scripted("a:park b a b a"), 0), FOREVER);
    assert_eq!(bench.parked(), [("1".to_owned(), "ProcessorPark".to_owned(), 2)]);
    assert_eq!((played.measures.held, played.measures.retried_in_place), (2, 8));
    assert_eq!(bench.effects(), [2, 4]);
    // The next batch finds the key held, and calls for the others only.
    bench.play(&event(&scripted("a:park b a b a a b"), 6), FOREVER);
    assert_eq!(bench.effects(), [2, 4, 7]);
    // Redriven in order, each in a call of its own.
    bench.bulk.processor().healed.set(true);
    let redrive = Redrive::default();
    let redriven: Redriven =
        serde_json::from_value(bench.operate(&Operation::Redrive(redrive))).unwrap();
    assert_eq!((redriven.done, redriven.left), (4, 0), "{redriven:?}");
    assert_eq!(bench.effects(), [2, 4, 7, 1, 3, 5, 6]);
}

#[test]
fn an_unreadable_record_is_taken_out_before_the_call() {
    check("a b:unreadable c", PARK, Transactional, "13", "");
    check("a b:unreadable c", PROGRESS, Transactional, "13", "2");
    check("a b:unreadable c", NOTHING, Transactional, "1", "2");
    check("a:unreadable b a", PARK, Transactional, "2", "");
    // It may be parked only after what is before it in its key.
    check("a b a:unreadable c a", PARK, Transactional, "12 4", "");
    check("a:down b a:unreadable c", PARK, Transactional, "12 12 12 12 12", "1");
    let bench = Bench::new(PARK, Transactional, usize::MAX);
    bench.play(&event(&scripted("a:down a:unreadable"), 0), FOREVER);
    assert_eq!(bench.parked(), []);
}

#[test]
fn calls_are_no_larger_than_the_limit() {
    check_by(Bench::new(PARK, Transactional, 2), "a b c:park d e", "12 34 3 4 5", "");
    check_by(Bench::new(NOTHING, Transactional, 2), "a b c:park d e", "12 34 3", "3");
    check_by(Bench::new(PROGRESS, Transactional, 1), "a a:park a b", "1 2 4", "2");
}

#[test]
fn an_order_of_the_shard_stops_at_the_first_failure() {
    let bench = |keep| Bench::new(keep, Transactional, usize::MAX).in_order(Order::Shard);
    check_by(bench(PROGRESS), "a b:park c d", "1234 12 1 2", "2");
    check_by(bench(PARK), "a b:park c d", "1234 12 1 2", "");
}

#[test]
fn a_record_without_a_lane_stops_what_is_later() {
    let order = Order::By(|record| match record.sequence_number().as_str() {
        "3" => Err(Failure::park("no lane")),
        _ => Ok(String::new()),
    });
    let bench = |keep| Bench::new(keep, Transactional, usize::MAX).in_order(order.clone());
    check_by(bench(NOTHING), "a b c d", "12", "3");
    check_by(bench(PROGRESS), "a b c d", "12", "3");
    check_by(bench(SKIP), "a b c d", "124", "");
    let halt = bench(PARK).play(&event(&scripted("a b c"), 0), FOREVER).reply.unwrap_err();
    assert_eq!(halt.code, "ProcessorPark", "{halt}");
}

#[test]
fn finished_neighbours_of_one_number_are_remembered() {
    let bench = Bench::new(PROGRESS, Transactional, usize::MAX);
    let records = scripted("a b+ c+:park c+ d e:park");
    let played = bench.play(&event(&records, 0), FOREVER);
    assert_eq!((&*played.reply.unwrap(), bench.effects()), ("1", vec![1, 2, 5]));
    bench.bulk.processor().healed.set(true);
    let played = bench.play(&event(&records, 1), FOREVER);
    assert_eq!((&*played.reply.unwrap(), bench.effects()), ("", vec![1, 2, 5, 3, 4, 6]));
}

#[test]
fn a_queue_keeps_what_is_unfinished() {
    let message = |(at, record): (usize, Scripted)| {
        let Scripted { key, fate, .. } = record;
        let body = format!(r#"{{\"id\":{},\"key\":\"{key}\",\"fate\":\"{fate}\"}}"#, at + 1);
        format!(
            r#"{{"messageId":"m{}","receiptHandle":"r","body":"{body}","attributes":{{"SequenceNumber":"{at}","MessageGroupId":"{key}","ApproximateReceiveCount":"1","SentTimestamp":"1545082649183"}},"messageAttributes":{{}},"eventSource":"aws:sqs","eventSourceARN":"arn:aws:sqs:us-east-2:123456789012:jobs.fifo","awsRegion":"us-east-2"}}"#,
            at + 1
        )
    };
    let messages = |batch| {
        let messages: Vec<String> = scripted(batch).into_iter().enumerate().map(message).collect();
        format!(r#"{{"Records":[{}]}}"#, messages.join(","))
    };
    let run = |batch| {
        let bench = Bench::new(NOTHING, Transactional, usize::MAX);
        let played = bench.play(&messages(batch), FOREVER);
        (bench.calls(), played.reply.unwrap())
    };
    // A group stops at its first failure, and others go on; what is down is so for all.
    assert_eq!(run("a:park b a c"), ("1234 12 1 2 4".to_owned(), "m1 m3".to_owned()));
    assert_eq!(run("a b:down"), ("12 12 12 12 12".to_owned(), "m1 m2".to_owned()));
}

#[test]
fn a_halt_fails_the_invocation() {
    let bench = Bench::new(PARK, Reporting, usize::MAX);
    let played = bench.play(&event(&scripted("a b:halt c"), 0), FOREVER);
    let halt = played.reply.unwrap_err();
    assert_eq!(halt.code, "ProcessorHalt");
    assert_eq!(halt.message, "the processor halted in a call of 3 records from 1 on");
    assert_eq!(halt.source.unwrap().to_string(), "told to");
    assert_eq!(played.outcomes, [Outcome::Applied, Outcome::NotAttempted, Outcome::Applied]);
    assert_eq!(bench.calls(), "123");
}

#[test]
fn no_call_is_made_within_the_reserve_of_the_deadline() {
    let run = |batch: &str, deadline| {
        let bench = Bench::taking(1_000, PARK, Transactional, 1);
        let payload = event(&scripted(batch), 0);
        let played = bench.play(&payload, Timestamp(deadline));
        (bench.calls(), played.reply.unwrap(), played.measures.deadline_stops)
    };
    let expected = |calls: &str, reply: &str, stops| (calls.to_owned(), reply.to_owned(), stops);
    // Each call has shown to take a second, so the last starts with that and the writes left.
    assert_eq!(run("a b c d", 3_000 + 1_000 + 501), expected("1 2 3 4", "", 0));
    assert_eq!(run("a b c d", 3_000 + 1_000 + 500), expected("1 2 3", "4", 1));
    assert_eq!(run("a b c d", 0), expected("1", "2", 1));
    // Nor again: what fails is not tried within it, and nobody is blamed for it.
    assert_eq!(run("a:error b", 1_500), expected("1", "1", 0));
}

#[test]
fn what_runs_at_the_hard_limit_is_cut_off() {
    let run = |batch: &str| {
        let bench = Bench::new(PARK, Transactional, usize::MAX);
        let played = bench.play(&event(&scripted(batch), 0), Timestamp(10_000));
        let failures = played.measures.failures.into_iter().collect::<Vec<_>>();
        (bench.calls(), played.reply.unwrap(), played.measures.deadline_stops, failures)
    };
    // Nobody knows whose fault it was, except of the first record if it was alone.
    let shared = ("12".to_owned(), "1".to_owned(), 1, vec![]);
    assert_eq!(run("a b:hang"), shared);
    assert_eq!(run("a:hang"), ("1".to_owned(), "1".to_owned(), 1, vec![("TimedOut", 1)]));
}

#[test]
fn the_desk_replays_it() {
    let (sent, calls) = (RefCell::new(BTreeSet::new()), Cell::new(0));
    let processor = processor::from_batch_fn(async |batch: &[BatchItem<'_, IgnoredAny>]| {
        calls.update(|calls| calls + 1);
        sent.borrow_mut().extend(batch.iter().map(|item| item.context().identity().to_string()));
        Ok(())
    });
    let fixture = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/orders.jsonl");
    let template = concat!(env!("CARGO_MANIFEST_DIR"), "/infra/template.yaml");
    let arguments = ["desk", "replay", fixture, "--template", template, "--format", "json"];
    let arguments = arguments.map(OsString::from);
    let make = |setup| Bulk::set_up(processor.with_limit(NonZeroUsize::new(25).unwrap()), setup);
    let exit = cli::run_processor(make, None, arguments);
    assert_eq!((exit, sent.borrow().len()), (Exit::Done, 84));
    assert!(calls.get() < 84, "{} calls", calls.get());
}
