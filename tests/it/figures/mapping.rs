//! What the mapping costs by itself: records a second of the state machine, events a second of
//! filters, and that no pattern takes more than its share.
//!
//! Times are of this machine and this build, so none is asserted; what is asserted is that twice
//! as much takes no more than a few times as long.

use bytes::Bytes;
use changefold::{
    local::{
        filter::{Event, Pattern},
        mapping::{Entry, Parameters, Reply, Shard, ShardIdentity, Step},
    },
    record::{SequenceNumber, Source, Timestamp},
};
use serde_json::{Value, json};
use std::{
    fmt::Write as _,
    time::{Duration, Instant},
};

const RECORDS: u64 = 100_000;
const BATCH: u64 = 100;
/// One record in so many is poison.
const POISON: u64 = 1_000;
const EVENTS: u32 = 20_000;

fn entry(number: u64) -> Entry {
    let key = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let body = format!(
        r#"{{"eventName":"MODIFY","dynamodb":{{"SequenceNumber":"{number}","NewImage":{{"status":{{"S":"PAID"}},"amount":{{"N":"{number}"}}}}}},"eventSource":"aws:dynamodb"}}"#
    );
    Entry {
        sequence_number: SequenceNumber::new(number.to_string()).unwrap(),
        key: key >> 7,
        arrival: Some(Timestamp(i64::try_from(number).unwrap())),
        present_since: 0,
        body: Bytes::from(body),
    }
}

/// Everything through the machine, answered at once; how long that took, and how many calls.
#[expect(clippy::disallowed_methods, reason = "a figure of time")]
fn through(settings: &[(&str, Value)], poison: bool, entries: &[Entry]) -> (Duration, u64) {
    let mut parameters = Parameters::default();
    for (name, value) in settings {
        parameters.set(name, value).unwrap();
    }
    let identity = ShardIdentity {
        source: Source::DynamoDb,
        shard_id: "shard".to_owned(),
        stream_arn: "stream".to_owned(),
        function_arn: "function".to_owned(),
        mapping_uuid: "mapping".to_owned(),
        time_zero: Timestamp(0),
    };
    let mut shard = Shard::new(identity, parameters);
    let mut left = entries.iter().cloned();
    let (mut now, mut calls, mut finished) = (0, 0, 0);
    let began = Instant::now();
    loop {
        match shard.poll(now) {
            Step::Invoke(invocation) => {
                calls += 1;
                let is_poison = |entry: &&Entry| {
                    entry.sequence_number.as_str().parse::<u64>().unwrap().is_multiple_of(POISON)
                };
                let bad = invocation.records.iter().find(|entry| poison && is_poison(entry));
                let failures: Vec<Value> = bad
                    .map(|entry| json!({ "itemIdentifier": entry.sequence_number.as_str() }))
                    .into_iter()
                    .collect();
                finished += invocation.records.len();
                let reply = json!({ "batchItemFailures": failures, "state": {} }).to_string();
                shard.reply(invocation.id, now, Reply::Returned(Bytes::from(reply)));
            }
            Step::Deliver(_) | Step::Lost(_) => {}
            Step::Busy => unreachable!("every call is answered at once"),
            Step::Read => match left.next() {
                Some(entry) => shard.offer(entry),
                None => shard.close(),
            },
            Step::Wait(moment) => now = moment,
            Step::Done => break,
        }
    }
    let took = began.elapsed();
    assert!(finished as u64 + shard.filtered() >= entries.len() as u64, "records were lost");
    (took, calls)
}

#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
fn a_second(count: u64, took: Duration) -> f64 {
    count as f64 / took.as_secs_f64()
}

#[test]
#[ignore = "a figure: tests/figures.sh mapping"]
#[expect(clippy::print_stdout, reason = "tests/figures.sh reads it")]
fn the_state_machine_takes_so_many_records_a_second() {
    let batch = ("BatchSize", Value::from(BATCH));
    let reports = ("FunctionResponseTypes", json!(["ReportBatchItemFailures"]));
    let pattern = json!({ "dynamodb": { "NewImage": { "status": { "S": ["PAID"] } } } });
    let filter = json!({ "Filters": [{ "Pattern": pattern.to_string() }] });
    println!("| mapping | records | calls | records/s |");
    println!("|---|--:|--:|--:|");
    for (name, settings, poison) in [
        ("one lane", vec![batch.clone()], false),
        ("ten sub-lanes", vec![batch.clone(), ("ParallelizationFactor", 10.into())], false),
        ("windows of a second", vec![batch.clone(), ("TumblingWindowInSeconds", 1.into())], false),
        ("a filter that takes all", vec![batch.clone(), ("FilterCriteria", filter)], false),
        (
            "one poison in 1,000, two retries, bisect, partial replies",
            vec![
                batch.clone(),
                reports,
                ("MaximumRetryAttempts", 2.into()),
                ("BisectBatchOnFunctionError", true.into()),
            ],
            true,
        ),
    ] {
        let entries: Vec<Entry> = (1..=RECORDS).map(entry).collect();
        let (half, _) = through(&settings, poison, &entries[..entries.len() / 2]);
        let (took, calls) = through(&settings, poison, &entries);
        println!("| {name} | {RECORDS} | {calls} | {:.0} |", a_second(RECORDS, took));
        assert!(took < half * 5, "{name}: twice the records take {half:?}, then {took:?}");
    }
}

/// An event with a text of so many characters and as long a list.
fn event(length: usize) -> String {
    let mut list = String::new();
    for at in 0..length {
        write!(list, "{}\"{at}\"", if at == 0 { "" } else { "," }).unwrap();
    }
    format!(r#"{{"text":"{}","list":[{list}],"n":7,"ip":"10.0.0.1"}}"#, "a".repeat(length))
}

/// How long a pattern takes for so many events, reading them included.
#[expect(clippy::disallowed_methods, reason = "a figure of time")]
fn matched(pattern: &Pattern, event: &str, times: u32) -> Duration {
    let began = Instant::now();
    for _ in 0..times {
        std::hint::black_box(pattern.matches(&Event::parse(event).unwrap()));
    }
    began.elapsed()
}

#[test]
#[ignore = "a figure: tests/figures.sh mapping"]
#[expect(clippy::print_stdout, reason = "tests/figures.sh reads it")]
fn filters_take_so_many_events_a_second_and_none_is_slow() {
    let many: Vec<String> = (0..500).map(|at| format!("\"{}\"", at * 2 + 1_000)).collect();
    let or: Vec<String> = (0..20).map(|at| format!(r#"{{"list":["x{at}"]}}"#)).collect();
    let (short, long) = (event(64), event(1_000));
    let lengths = (short.len(), long.len());
    println!("| pattern | bytes | events/s | ns a byte of {} | of {} |", lengths.0, lengths.1);
    println!("|---|--:|--:|--:|--:|");
    for (name, pattern) in [
        ("equals", r#"{"n":[7]}"#.to_owned()),
        ("numeric", r#"{"n":[{"numeric":[">",5,"<=",7]}]}"#.to_owned()),
        ("500 texts over a list", format!(r#"{{"list":[{}]}}"#, many.join(","))),
        ("`$or` of 20 over a list", format!(r#"{{"$or":[{}]}}"#, or.join(","))),
        ("five stars that almost fit", r#"{"text":[{"wildcard":"*a*a*a*a*b"}]}"#.to_owned()),
        ("anything but five", r#"{"list":[{"anything-but":["1","2","3","4","5"]}]}"#.to_owned()),
        ("cidr", r#"{"ip":[{"cidr":"10.0.0.0/8"}]}"#.to_owned()),
    ] {
        let compiled = Pattern::parse(&pattern).unwrap();
        let took = matched(&compiled, &short, EVENTS);
        let times = EVENTS / 16;
        let took_long = matched(&compiled, &long, times);
        let a_byte = |took: Duration, event: &str, times: u32| {
            took.as_nanos() / u128::from(times) / event.len() as u128
        };
        let (of_short, of_long) = (a_byte(took, &short, EVENTS), a_byte(took_long, &long, times));
        let rate = a_second(EVENTS.into(), took);
        println!("| {name} | {} | {rate:.0} | {of_short} | {of_long} |", pattern.len());
        // A quadratic one would take sixteen times as long for a byte.
        assert!(of_long < of_short * 5 + 10, "{name}: {of_short} ns a byte, then {of_long}");
    }
}
