//! Tumbling windows: every small case is the one without windows, window by window, with a last
//! call behind each; and what AWS was seen to send.

use super::{at_once, by_record, every_option, reference};
use crate::mapping::run::{Answer, entry, identity, numbers};
use bytes::Bytes;
use changefold::{
    local::mapping::{Entry, Invocation, Parameters, Reply, STATE_BYTES_MAX, Shard, Step},
    record::Timestamp,
};
use serde_json::{Value, json};

const LENGTH_S: u32 = 10;

/// Records 1 to `count` in windows of [`LENGTH_S`]: a bit of `cuts` says that the next window
/// begins behind the record.
fn backlog(count: u64, cuts: u64) -> Vec<Entry> {
    let mut window = 0;
    let records = (1..=count).map(|number| {
        let arrival = Timestamp(1_789_649_450_000 + window * i64::from(LENGTH_S) * 1_000);
        window += i64::from(cuts >> (number - 1) & 1 == 1);
        Entry { arrival: Some(arrival), ..entry(number, 0) }
    });
    records.collect()
}

/// The records of each window.
fn windows(entries: &[Entry]) -> Vec<Vec<u64>> {
    entries.chunk_by(|a, b| a.arrival == b.arrival).map(numbers).collect()
}

/// What was called, an empty list for a window's last call, and what was discarded, with the
/// number of calls.
#[derive(Debug, Default, PartialEq)]
struct Seen {
    calls: Vec<Vec<u64>>,
    discarded: Vec<(Vec<u64>, u32)>,
}

/// Runs a shard to its end. The state is the list of what the function did not refuse. Each
/// window's last call fails so often at first.
fn run(
    parameters: &Parameters,
    entries: Vec<Entry>,
    rule: impl Fn(&[u64]) -> Answer,
    last_fails: u32,
) -> Seen {
    let mut shard = Shard::new(identity(), parameters.clone());
    let (mut seen, mut now, mut failed) = (Seen::default(), 0, 0);
    let mut state = None;
    let mut input = entries.into_iter();
    for _ in 0..100_000 {
        match shard.poll(now) {
            Step::Invoke(invocation) => {
                let records = numbers(&invocation.records);
                let event: Value = serde_json::from_slice(&invocation.payload()).unwrap();
                let is_last = event["isFinalInvokeForWindow"].as_bool().unwrap();
                assert_eq!(records.is_empty(), is_last);
                let given = event["state"].clone();
                assert_eq!(given, state.clone().unwrap_or_else(|| json!({})), "{records:?}");
                let mut done = given["done"].as_array().cloned().unwrap_or_default();
                let answer = if records.is_empty() {
                    failed += 1;
                    if failed > last_fails { Answer::Succeed } else { Answer::Throw }
                } else {
                    rule(&records)
                };
                seen.calls.push(records.clone());
                let reply = match answer {
                    Answer::Throw | Answer::Throttle => Reply::FunctionError,
                    Answer::Succeed => {
                        done.extend(records.iter().map(|it| json!(it)));
                        returned(&json!({ "state": { "done": done } }))
                    }
                    Answer::Report(at) => {
                        done.extend(records[..at].iter().map(|it| json!(it)));
                        let failures = json!([{ "itemIdentifier": records[at].to_string() }]);
                        returned(&json!({"state": {"done": done}, "batchItemFailures": failures}))
                    }
                };
                // A state is kept unless the reply says that nothing was done.
                let keeps = match answer {
                    Answer::Throw | Answer::Throttle => false,
                    Answer::Succeed => true,
                    Answer::Report(at) => at > 0 || !parameters.report_batch_item_failures,
                };
                if keeps {
                    state = Some(json!({ "done": done }));
                }
                if is_last && (answer == Answer::Succeed || is_given_up(parameters, failed)) {
                    (state, failed) = (None, 0);
                }
                shard.reply(invocation.id, now, reply);
            }
            Step::Deliver(on_failure) => seen
                .discarded
                .push((numbers(&on_failure.records), on_failure.approximate_invoke_count)),
            Step::Read => match input.next() {
                Some(entry) => shard.offer(entry),
                None => shard.close(),
            },
            Step::Wait(until) => now = until,
            Step::Lost(_) => panic!("nothing expires"),
            Step::Busy => panic!("every call is answered before the next poll"),
            Step::Done => return seen,
        }
    }
    panic!("the shard did not come to an end");
}

fn is_given_up(parameters: &Parameters, calls: u32) -> bool {
    parameters.maximum_retry_attempts.is_some_and(|retries| calls > retries)
}

fn returned(body: &Value) -> Reply {
    Reply::Returned(Bytes::from(body.to_string()))
}

#[test]
#[expect(clippy::print_stdout, reason = "how many cases there are is for people to read")]
fn every_small_case_goes_window_by_window() {
    let mut cases = 0;
    for count in 1..=5_u32 {
        for cuts in 0..1_u64 << (count - 1) {
            for parameters in every_option(count as usize) {
                let parameters = Parameters { tumbling_window_s: Some(LENGTH_S), ..parameters };
                let entries = backlog(count.into(), cuts);
                for kinds in 0..3_u64.pow(count) {
                    let last_fails = (kinds % 4) as u32;
                    let rule = by_record(kinds);
                    let found = run(&parameters, entries.clone(), &rule, last_fails);
                    let expected = expected(&parameters, &windows(&entries), &rule, last_fails);
                    let case = format!("kinds {kinds} of {count}, {cuts:b} cuts, {parameters:?}");
                    assert_eq!(found, expected, "{case}");
                    cases += 1;
                }
            }
        }
    }
    println!("{cases} cases");
    assert_eq!(cases, 12 * (3 + 2 * 2 * 9 + 4 * 3 * 27 + 8 * 4 * 81 + 16 * 5 * 243));
}

fn expected(
    parameters: &Parameters,
    windows: &[Vec<u64>],
    rule: impl Fn(&[u64]) -> Answer,
    last_fails: u32,
) -> Seen {
    let plain = Parameters { tumbling_window_s: None, ..parameters.clone() };
    let retries = parameters.maximum_retry_attempts.unwrap();
    let mut seen = Seen::default();
    for window in windows {
        let history = reference(&plain, window, at_once(&rule));
        seen.calls.extend(history.calls.into_iter().map(|call| call.records));
        let discarded = history.discarded.into_iter();
        seen.discarded.extend(discarded.map(|discarded| (discarded.records, discarded.count)));
        let last = last_fails.min(retries) + 1;
        seen.calls.extend(vec![Vec::new(); last as usize]);
        if last_fails > retries {
            seen.discarded.push((Vec::new(), retries + 1));
        }
    }
    seen
}

/// The next call of a shard.
#[track_caller]
fn next(shard: &mut Shard) -> Invocation {
    match shard.poll(0) {
        Step::Invoke(invocation) => invocation,
        step => panic!("{step:?}"),
    }
}

fn offer(shard: &mut Shard, entries: Vec<Entry>) {
    for entry in entries {
        shard.offer(entry);
    }
}

fn windowed(more: Parameters) -> Shard {
    Shard::new(identity(), Parameters { tumbling_window_s: Some(LENGTH_S), ..more })
}

fn text(invocation: &Invocation) -> String {
    String::from_utf8(invocation.payload()).unwrap()
}

// R31
#[test]
fn a_call_is_told_of_its_window_as_aws_tells_it() {
    let mut shard = windowed(Parameters::default());
    for entry in backlog(2, 1) {
        shard.offer(entry);
    }
    let told = |start: &str, end: &str, state: &str, is_final| {
        format!(
            r#","shardId":"shardId-000000000000","eventSourceARN":"arn:aws:kinesis:eu-west-1:123456789012:stream/orders","window":{{"start":"2026-09-17T12:50:{start}Z","end":"2026-09-17T12:{end}Z"}},"state":{state},"isFinalInvokeForWindow":{is_final},"isWindowTerminatedEarly":false}}"#
        )
    };
    let first = next(&mut shard);
    let record = r#"{"Records":[{"n": 1, "kinesis": {}}]"#;
    assert_eq!(text(&first), record.to_owned() + &told("50", "51:00", "{}", false));
    // The text of the state is given back as it came.
    let reply = r#"{"batchItemFailures":[],"state":{"b": 1.50, "a":[]}}"#;
    shard.reply(first.id, 0, Reply::Returned(Bytes::from_static(reply.as_bytes())));
    let last = next(&mut shard);
    let state = r#"{"b": 1.50, "a":[]}"#;
    assert_eq!(text(&last), r#"{"Records":[]"#.to_owned() + &told("50", "51:00", state, true));
    shard.reply(last.id, 0, returned(&json!({"state": {}})));
    assert!(matches!(shard.poll(0), Step::Read), "the next window may have more");
}

// R29, R32
#[test]
fn the_last_call_waits_for_a_later_record_or_the_end_of_the_shard() {
    let mut shard = windowed(Parameters { batch_size: 1, ..Parameters::default() });
    let mut entries = backlog(2, 1).into_iter();
    shard.offer(entries.next().unwrap());
    let first = next(&mut shard);
    shard.reply(first.id, 0, returned(&json!({"state": {"n": 1}})));
    assert!(matches!(shard.poll(1_000_000), Step::Read), "time alone does not end it");
    shard.offer(entries.next().unwrap());
    let last = next(&mut shard);
    assert!(last.records.is_empty());
    shard.reply(last.id, 0, returned(&json!({"state": {}})));
    let second = next(&mut shard);
    assert_eq!(
        (numbers(&second.records), &*second.records.window().unwrap().state),
        (vec![2], "{}")
    );
    shard.reply(second.id, 0, returned(&json!({"state": {}})));
    shard.close();
    let last = next(&mut shard);
    assert!(last.records.is_empty());
    shard.reply(last.id, 0, returned(&json!({"state": {}})));
    assert!(matches!(shard.poll(0), Step::Done));
}

// R33
#[test]
fn a_reply_without_a_state_fails_the_call() {
    for reply in ["", "null", "{}", r#"{"state":null}"#, r#"{"batchItemFailures":[]}"#] {
        let mut shard = windowed(Parameters::default());
        offer(&mut shard, backlog(1, 0));
        shard.close();
        let call = next(&mut shard);
        shard.reply(call.id, 0, Reply::Returned(Bytes::copy_from_slice(reply.as_bytes())));
        assert!(matches!(shard.poll(0), Step::Wait(200)), "{reply}");
        assert_eq!(shard.checkpoint(), None, "{reply}");
    }
}

// R34
#[test]
fn a_state_that_is_too_large_ends_the_window_at_once() {
    let mut shard = windowed(Parameters { batch_size: 1, ..Parameters::default() });
    offer(&mut shard, backlog(2, 0));
    shard.close();
    let first = next(&mut shard);
    let state = "x".repeat(STATE_BYTES_MAX - 1);
    shard.reply(first.id, 0, returned(&json!({ "state": state })));
    let early = next(&mut shard);
    let event: Value = serde_json::from_slice(&early.payload()).unwrap();
    assert_eq!(event["state"], state, "all of it");
    assert_eq!((&event["Records"], &event["isFinalInvokeForWindow"]), (&json!([]), &json!(true)));
    assert_eq!(event["isWindowTerminatedEarly"], true);
    shard.reply(early.id, 0, returned(&json!({"state": {}})));
    let second = next(&mut shard);
    assert_eq!(
        (numbers(&second.records), &*second.records.window().unwrap().state),
        (vec![2], "{}")
    );
    // Two bytes of quotes less, and it goes on.
    let state = "x".repeat(STATE_BYTES_MAX - 2);
    shard.reply(second.id, 0, returned(&json!({ "state": state })));
    assert!(!next(&mut shard).records.window().unwrap().is_terminated_early);
}

// R35
#[test]
fn a_last_call_that_is_given_up_is_told_of_without_records() {
    let parameters = Parameters { maximum_retry_attempts: Some(0), ..Parameters::default() };
    let mut shard = windowed(parameters);
    offer(&mut shard, backlog(1, 0));
    shard.close();
    let first = next(&mut shard);
    shard.reply(first.id, 0, returned(&json!({"state": {"n": 1}})));
    let last = next(&mut shard);
    shard.reply(last.id, 0, Reply::FunctionError);
    let Step::Deliver(on_failure) = shard.poll(0) else { panic!("it is to be delivered") };
    let told = on_failure.to_json(None);
    let info = r#""KinesisBatchInfo":{"shardId":"shardId-000000000000","streamArn":"arn:aws:kinesis:eu-west-1:123456789012:stream/orders"},"timeWindowInfo":{"window":{"start":"2026-09-17T12:50:50Z","end":"2026-09-17T12:51:00Z"},"isFinalInvokeForWindow":true,"isWindowTerminatedEarly":false}}"#;
    assert!(told.ends_with(info), "{told}");
    assert!(matches!(shard.poll(0), Step::Done));
}

#[test]
fn a_late_record_counts_to_the_window_that_is_open() {
    let mut shard = windowed(Parameters { batch_size: 2, ..Parameters::default() });
    let mut entries = backlog(2, 1);
    (entries[0].arrival, entries[1].arrival) = (entries[1].arrival, entries[0].arrival);
    offer(&mut shard, entries);
    shard.close();
    let call = next(&mut shard);
    assert_eq!(numbers(&call.records), [1, 2]);
    assert!(text(&call).contains(r#""start":"2026-09-17T12:51:00Z""#));
}
