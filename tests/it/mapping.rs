//! The event source mapping through its public face: recorded behaviour with its times,
//! every small case against an independent reference, and invariants under random faults.

mod reference;
mod run;
mod windows;

use self::{
    reference::reference,
    run::{Answer, Call, Discarded, History, entry, identity, run},
};
use bytes::Bytes;
use changefold::{
    local::filter::Criteria,
    local::mapping::{Condition, EVENT_BYTES_MAX, Entry, Millis, Parameters, Reply, Shard, Step},
    record::SequenceNumber,
};
use proptest::prelude::*;

fn backlog(count: u64) -> Vec<Entry> {
    (1..=count).map(|number| entry(number, 0)).collect()
}

fn calls(history: &History) -> Vec<(Millis, &[u64])> {
    history.calls.iter().map(|call| (call.at, call.records.as_slice())).collect()
}

/// A function that needs no time and answers by what it is given.
fn at_once(rule: impl Fn(&[u64]) -> Answer) -> impl FnMut(&[u64]) -> (Answer, Millis) {
    move |records| (rule(records), 0)
}

// R41
#[test]
fn the_window_counts_from_the_end_of_the_call_before() {
    let parameters =
        Parameters { batch_size: 2, maximum_batching_window_s: 5, ..Parameters::default() };
    let history = run(&parameters, backlog(5), |_| (Answer::Succeed, 23));
    assert_eq!(calls(&history), [(0, &[1, 2][..]), (23, &[3, 4]), (5046, &[5])]);
    let history = run(&parameters, backlog(1), |_| (Answer::Succeed, 23));
    assert_eq!(calls(&history), [(5000, &[1][..])], "without a call before, from time zero");
}

// R29
#[test]
fn the_end_of_a_shard_does_not_wait_for_the_window_and_that_of_a_recording_does() {
    let due = |ends: fn(&mut Shard)| {
        let parameters = Parameters { maximum_batching_window_s: 5, ..Parameters::default() };
        let mut shard = Shard::new(identity(), parameters);
        shard.offer(backlog(1).remove(0));
        ends(&mut shard);
        shard.poll(0)
    };
    assert!(matches!(due(Shard::close), Step::Invoke(_)));
    assert!(matches!(due(Shard::end_of_input), Step::Wait(5_000)));
}

// R23
#[test]
fn a_window_of_zero_sends_what_is_there() {
    let parameters = Parameters { batch_size: 10, ..Parameters::default() };
    let history = run(&parameters, backlog(25), at_once(|_| Answer::Succeed));
    let sizes: Vec<usize> = history.calls.iter().map(|call| call.records.len()).collect();
    assert_eq!(sizes, [10, 10, 5]);
}

// R10, R12, R16
#[test]
fn the_same_item_backs_off_and_a_new_one_does_not() {
    let parameters = Parameters {
        batch_size: 4,
        maximum_retry_attempts: Some(2),
        bisect_batch_on_function_error: true,
        ..Parameters::default()
    };
    let fails_on_2 = |records: &[u64]| {
        if records.contains(&2) { Answer::Throw } else { Answer::Succeed }
    };
    let history = run(&parameters, backlog(4), at_once(fails_on_2));
    let expected: [(Millis, &[u64]); 7] = [
        (0, &[1, 2, 3, 4]),
        (0, &[1, 2]),
        (0, &[1]),
        (0, &[2]),
        (200, &[2]),
        (600, &[2]),
        (600, &[3, 4]),
    ];
    assert_eq!(calls(&history), expected);
    let ids = &history.request_ids;
    assert!(ids[3] == ids[4] && ids[4] == ids[5], "retries of one item share its request id");
    let mut distinct = ids.clone();
    distinct.sort();
    distinct.dedup();
    assert_eq!(distinct.len(), 5, "every new item has its own");
    assert_eq!(history.bisects, 2);
}

// R20
#[test]
fn under_bisect_the_on_failure_record_waits_for_the_rest_of_the_batch() {
    let poll_after_discard = |bisect| {
        let parameters = Parameters {
            batch_size: 2,
            maximum_retry_attempts: Some(0),
            bisect_batch_on_function_error: bisect,
            ..Parameters::default()
        };
        let mut shard = Shard::new(identity(), parameters);
        for entry in backlog(2) {
            shard.offer(entry);
        }
        shard.end_of_input();
        let mut steps = Vec::new();
        loop {
            match shard.poll(0) {
                Step::Invoke(call) => {
                    steps.push(format!("call of {}", call.records.len()));
                    shard.reply(call.id, 0, Reply::FunctionError);
                }
                Step::Deliver(on_failure) => steps.push(format!("{}", on_failure.records.len())),
                Step::Done => return steps,
                step => panic!("{step:?}"),
            }
        }
    };
    assert_eq!(poll_after_discard(false), ["call of 2", "2"]);
    assert_eq!(poll_after_discard(true), ["call of 2", "call of 1", "call of 1", "1", "1"]);
}

// R1
#[test]
fn a_throttled_call_costs_no_retry_and_is_not_bisected() {
    let parameters = Parameters {
        batch_size: 2,
        maximum_retry_attempts: Some(0),
        maximum_record_age_s: Some(60),
        bisect_batch_on_function_error: true,
        ..Parameters::default()
    };
    let mut throttles = 3;
    let history = run(&parameters, backlog(2), |_| {
        throttles -= 1;
        (if throttles >= 0 { Answer::Throttle } else { Answer::Succeed }, 0)
    });
    let times: Vec<Millis> = history.calls.iter().map(|call| call.at).collect();
    assert_eq!(times, [0, 200, 600, 1400]);
    assert_eq!(history.discarded, []);

    let history = run(&parameters, backlog(2), at_once(|_| Answer::Throttle));
    let expected = Discarded {
        at: 102_200,
        records: vec![1, 2],
        count: 1,
        condition: Condition::RecordAgeExceeded,
        function_error: None,
    };
    assert_eq!(history.discarded, [expected], "age ends it");
}

// R17
#[test]
fn only_the_expired_beginning_of_a_batch_is_cut_out() {
    // One old and five fresh records in one read of ten, as recorded from AWS: the window
    // lets the old one expire.
    let parameters = Parameters {
        batch_size: 10,
        maximum_batching_window_s: 61,
        maximum_record_age_s: Some(60),
        ..Parameters::default()
    };
    let fresh = |entry| Entry { present_since: 30_000, ..entry };
    let mut entries = backlog(6);
    entries[1..].iter_mut().for_each(|entry| *entry = fresh(entry.clone()));
    let history = run(&parameters, entries, at_once(|_| Answer::Succeed));
    assert_eq!(calls(&history), [(61_000, &[2, 3, 4, 5, 6][..])]);
    let expected = Discarded {
        at: 61_000,
        records: vec![1],
        count: 1,
        condition: Condition::RecordAgeExceeded,
        function_error: None,
    };
    assert_eq!(history.discarded, [expected]);
}

/// Runs records with bodies of these lengths, all successful, and tells what was called
/// and what was discarded.
fn run_sized(parameters: Parameters, lengths: &[usize]) -> (Vec<usize>, Vec<String>) {
    let mut shard = Shard::new(identity(), parameters);
    for (number, length) in (1..).zip(lengths) {
        shard.offer(Entry { body: Bytes::from(vec![b' '; *length]), ..entry(number, 0) });
    }
    shard.end_of_input();
    let (mut now, mut sizes, mut discarded) = (0, Vec::new(), Vec::new());
    loop {
        match shard.poll(now) {
            Step::Invoke(call) => {
                let bytes = call.payload().len();
                assert!(bytes <= EVENT_BYTES_MAX, "{bytes}");
                sizes.push(call.records.len());
                shard.reply(call.id, now, Reply::Returned(Bytes::new()));
            }
            Step::Deliver(on_failure) => discarded.push(on_failure.to_json(None)),
            Step::Wait(until) => now = until,
            Step::Done => return (sizes, discarded),
            step => panic!("{step:?}"),
        }
    }
}

// R24
#[test]
fn an_event_of_exactly_six_megabytes_goes_and_a_byte_more_is_cut() {
    let envelope = r#"{"Records":[,]}"#.len();
    let parameters = || Parameters { maximum_batching_window_s: 300, ..Parameters::default() };
    let rest = EVENT_BYTES_MAX - envelope - 1000;
    assert_eq!(run_sized(parameters(), &[1000, rest]).0, [2]);
    assert_eq!(run_sized(parameters(), &[1000, rest + 1]).0, [1, 1]);
    assert_eq!(run_sized(parameters(), &[rest, 1001, 1, 1]).0, [1, 3]);
}

// R21
#[test]
fn a_record_that_cannot_be_sent_is_never_delivered_and_the_next_ones_are() {
    let parameters = Parameters { maximum_retry_attempts: Some(2), ..Parameters::default() };
    let (sizes, discarded) = run_sized(parameters, &[10, EVENT_BYTES_MAX, 10, 10]);
    assert_eq!(sizes, [1, 2]);
    let [record] = discarded.as_slice() else { panic!("{discarded:?}") };
    assert!(record.contains(r#""condition":"RetryAttemptsExhausted","approximateInvokeCount":3"#));
    assert!(record.contains(r#""startSequenceNumber":"2","endSequenceNumber":"2","batchSize":1"#));
    assert!(!record.contains("responseContext"), "{record}");
}

// R27
#[test]
fn a_failing_sub_lane_does_not_hold_up_the_others() {
    let parameters = Parameters {
        batch_size: 1,
        parallelization_factor: 2,
        maximum_retry_attempts: Some(1),
        ..Parameters::default()
    };
    let entries = (1..=6).map(|number| entry(number, number % 2)).collect();
    let poison = |records: &[u64]| if records == [1] { Answer::Throw } else { Answer::Succeed };
    let history = run(&parameters, entries, at_once(poison));
    let at_zero: Vec<u64> =
        history.calls.iter().filter(|call| call.at == 0).flat_map(|c| c.records.clone()).collect();
    let later: Vec<u64> =
        history.calls.iter().filter(|call| call.at > 0).flat_map(|c| c.records.clone()).collect();
    assert_eq!((at_zero, later), (vec![1, 2, 4, 6], vec![1, 3, 5]));
}

#[test]
fn sub_lanes_run_side_by_side() {
    let parameters =
        Parameters { batch_size: 2, parallelization_factor: 3, ..Parameters::default() };
    let entries = (1..=6).map(|number| entry(number, number % 3)).collect();
    let history = run(&parameters, entries, |_| (Answer::Succeed, 50));
    assert!(history.calls.iter().all(|call| call.at == 0), "{history:?}");
    assert_eq!(history.calls.len(), 3);
}

#[test]
fn reading_stops_when_a_busy_sub_lane_has_its_next_batch() {
    let parameters =
        Parameters { batch_size: 2, parallelization_factor: 2, ..Parameters::default() };
    let mut shard = Shard::new(identity(), parameters);
    let mut number = 0;
    let mut read = |shard: &mut Shard| {
        number += 1;
        // The other sub-lane never gets a record.
        shard.offer(entry(number, 0));
        number
    };
    let mut call = None;
    let read_in_all = loop {
        match shard.poll(0) {
            Step::Read => assert!(read(&mut shard) < 10, "the whole input would be read"),
            Step::Invoke(invocation) => call = Some(invocation),
            Step::Busy => break read(&mut shard) - 1,
            step => panic!("{step:?}"),
        }
    };
    assert_eq!(read_in_all, 4, "one batch under way, one ready");
    shard.reply(call.unwrap().id, 0, Reply::Returned(Bytes::new()));
    assert!(matches!(shard.poll(0), Step::Invoke(_)));
}

// R30
#[test]
fn the_checkpoint_passes_a_discarded_record_when_it_is_delivered() {
    let parameters = Parameters { maximum_retry_attempts: Some(0), ..Parameters::default() };
    let mut shard = Shard::new(identity(), parameters);
    for entry in backlog(1) {
        shard.offer(entry);
    }
    shard.end_of_input();
    let Step::Invoke(call) = shard.poll(0) else { panic!("a call is due") };
    shard.reply(call.id, 0, Reply::FunctionError);
    assert_eq!(shard.checkpoint(), None);
    assert!(matches!(shard.poll(0), Step::Deliver(_)));
    assert_eq!(shard.checkpoint().map(SequenceNumber::as_str), Some("1"));
}

/// All combinations of the options that shape a call sequence.
fn every_option(batch_size_max: usize) -> Vec<Parameters> {
    let mut all = Vec::new();
    for batch_size in 1..=batch_size_max {
        for retries in 0..=2 {
            for flags in 0..4 {
                all.push(Parameters {
                    batch_size,
                    maximum_retry_attempts: Some(retries),
                    bisect_batch_on_function_error: flags & 1 > 0,
                    report_batch_item_failures: flags & 2 > 0,
                    ..Parameters::default()
                });
            }
        }
    }
    all
}

/// Each record is good (0), throws (1) or is reported (2); the number's digits to base 3.
fn by_record(kinds: u64) -> impl Fn(&[u64]) -> Answer {
    move |records| {
        let kind = |number: &u64| kinds / 3_u64.pow(u32::try_from(*number).unwrap() - 1) % 3;
        let reported = records.iter().position(|number| kind(number) == 2);
        if records.iter().any(|number| kind(number) == 1) {
            return Answer::Throw;
        }
        reported.map_or(Answer::Succeed, Answer::Report)
    }
}

// R2, R9, R13, R14, R15
#[test]
#[expect(clippy::print_stdout, reason = "how many cases there are is for people to read")]
fn every_small_case_goes_as_the_reference_says() {
    let mut cases = 0;
    for count in 0..=5_u32 {
        for parameters in every_option(count.max(1) as usize) {
            for kinds in 0..3_u64.pow(count) {
                let numbers: Vec<u64> = (1..=u64::from(count)).collect();
                let rule = by_record(kinds);
                let mut found = run(&parameters, backlog(count.into()), at_once(&rule));
                let expected = reference(&parameters, &numbers, at_once(&rule));
                found.request_ids.clear();
                assert_eq!(found, expected, "kinds {kinds} of {count} under {parameters:?}");
                cases += 1;
            }
        }
    }
    println!("{cases} cases");
    assert_eq!(cases, 12 * (1 + 3 + 2 * 9 + 3 * 27 + 4 * 81 + 5 * 243));
}

/// A filter that takes the records whose bit is set in `kept`.
fn keeps(count: u32, kept: u32) -> Criteria {
    let numbers: Vec<u32> =
        (1..=count).filter(|number| kept >> (number - 1) & 1 == 1).chain([1_000]).collect();
    Criteria::new([format!(r#"{{"n":{numbers:?}}}"#)]).unwrap()
}

/// Filters on: what no filter takes has met its fate, and the others go as if it were not there.
// R25
#[test]
#[expect(clippy::print_stdout, reason = "how many cases there are is for people to read")]
fn every_small_case_with_filters_goes_as_if_only_what_passes_were_there() {
    let mut cases = 0;
    for count in 1..=5_u32 {
        for parameters in every_option(count as usize) {
            for kept in 0..1_u32 << count {
                let parameters = Parameters { filters: keeps(count, kept), ..parameters.clone() };
                let is_kept = |number: &u64| kept >> (number - 1) & 1 == 1;
                let all = 1..=u64::from(count);
                let numbers: Vec<u64> = all.clone().filter(is_kept).collect();
                let others: Vec<u64> = all.filter(|number| !is_kept(number)).collect();
                // A filtered record is never asked for, so of its kinds one is enough.
                let is_asked = |kinds: &u64| {
                    others.iter().all(|n| {
                        (kinds / 3_u64.pow(u32::try_from(*n).unwrap() - 1)).is_multiple_of(3)
                    })
                };
                for kinds in (0..3_u64.pow(count)).filter(is_asked) {
                    let rule = by_record(kinds);
                    let mut found = run(&parameters, backlog(count.into()), at_once(&rule));
                    let mut expected = reference(&parameters, &numbers, at_once(&rule));
                    found.request_ids.clear();
                    expected.filtered.clone_from(&others);
                    let case = format!("kinds {kinds} of {count}, {kept:b} kept, {parameters:?}");
                    assert_eq!(found, expected, "{case}");
                    cases += 1;
                }
            }
        }
    }
    println!("{cases} cases");
    assert_eq!(cases, 12 * (4 + 2 * 16 + 3 * 64 + 4 * 256 + 5 * 1_024));
}

prop_compose! {
    fn parameters()(
        batch_size in 1_usize..8,
        maximum_batching_window_s in prop_oneof![Just(0_u32), 1_u32..=300],
        parallelization_factor in 1_usize..=4,
        maximum_retry_attempts in proptest::option::of(0_u32..4),
        maximum_record_age_s in proptest::option::of(60_u32..200),
        bisect_batch_on_function_error: bool,
        report_batch_item_failures: bool,
    ) -> Parameters {
        Parameters {
            batch_size,
            maximum_batching_window_s,
            parallelization_factor,
            maximum_retry_attempts,
            maximum_record_age_s,
            bisect_batch_on_function_error,
            report_batch_item_failures,
            ..Parameters::default()
        }
    }
}

fn answers() -> impl Strategy<Value = Vec<(Answer, Millis)>> {
    let answer = prop_oneof![
        2 => Just(Answer::Succeed),
        3 => (0_usize..8).prop_map(Answer::Report),
        3 => Just(Answer::Throw),
        1 => Just(Answer::Throttle),
    ];
    let duration = prop_oneof![Just(0), 1_u64..1000, 10_000_u64..40_000];
    proptest::collection::vec((answer, duration), 0..40)
}

/// Answers call by call; when they have run out, every call succeeds.
fn scripted(answers: &[(Answer, Millis)]) -> impl FnMut(&[u64]) -> (Answer, Millis) {
    let mut answers = answers.iter().copied();
    move |_| answers.next().unwrap_or((Answer::Succeed, 0))
}

proptest! {
    /// The driver checks: one fate each, order, attempts, checkpoint, no loops.
    #[test]
    fn the_invariants_hold_under_any_answers(
        parameters in parameters(),
        keys in proptest::collection::vec(0_u64..6, 0..30),
        answers in answers(),
    ) {
        let entries = |()| (1..).zip(&keys).map(|(number, key)| entry(number, *key)).collect();
        let first = run(&parameters, entries(()), scripted(&answers));
        let second = run(&parameters, entries(()), scripted(&answers));
        prop_assert_eq!(first, second, "a run can be repeated");
    }

    #[test]
    fn one_lane_goes_as_the_reference_says_in_time_too(
        parameters in parameters(),
        count in 0_u64..30,
        answers in answers(),
    ) {
        let parameters = Parameters { parallelization_factor: 1, ..parameters };
        let numbers: Vec<u64> = (1..=count).collect();
        let mut found = run(&parameters, backlog(count), scripted(&answers));
        let expected = reference(&parameters, &numbers, scripted(&answers));
        found.request_ids.clear();
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn each_sub_lane_goes_as_if_it_were_alone(
        parameters in parameters(),
        keys in proptest::collection::vec(0_u64..6, 0..12),
        kinds in 0_u64..3_u64.pow(12),
    ) {
        // Without an end a poison record would be tried for ever.
        let retries = parameters.maximum_retry_attempts.or(Some(2));
        let parameters = Parameters { maximum_retry_attempts: retries, ..parameters };
        let entries = (1..).zip(&keys).map(|(number, key)| entry(number, *key)).collect();
        let found = run(&parameters, entries, at_once(by_record(kinds)));
        let lanes = parameters.parallelization_factor as u64;
        for lane in 0..lanes {
            let key = |number: u64| keys[usize::try_from(number).unwrap() - 1];
            let is_of_lane = |number: u64| key(number) % lanes == lane;
            let numbers: Vec<u64> = (1..).take(keys.len()).filter(|n| is_of_lane(*n)).collect();
            let expected = reference(&parameters, &numbers, at_once(by_record(kinds)));
            let calls: Vec<&Call> =
                found.calls.iter().filter(|call| is_of_lane(call.records[0])).collect();
            prop_assert_eq!(calls, expected.calls.iter().collect::<Vec<_>>());
            let discarded: Vec<&Discarded> =
                found.discarded.iter().filter(|d| is_of_lane(d.records[0])).collect();
            prop_assert_eq!(discarded, expected.discarded.iter().collect::<Vec<_>>());
        }
    }
}

/// A poison record of each size of batch, with endless retries: what the stream lets expire has no
/// other fate, and the checkpoint passes it.
// R42
#[test]
fn every_record_that_expires_in_the_stream_has_that_one_fate() {
    for bisect in [false, true] {
        for poison in 1..=5 {
            for late in [0, 3_600_000] {
                let parameters = Parameters {
                    batch_size: 3,
                    bisect_batch_on_function_error: bisect,
                    retention_s: Some(86_400),
                    ..Parameters::default()
                };
                // Those behind the second batch may have come an hour later.
                let arrived = |entry: Entry| {
                    let number: u64 = entry.sequence_number.as_str().parse().unwrap();
                    let present_since = if number > 3 { late } else { 0 };
                    Entry { present_since, ..entry }
                };
                let records: Vec<Entry> = backlog(5).into_iter().map(arrived).collect();
                let fails = |records: &[u64]| {
                    if records.contains(&poison) { Answer::Throw } else { Answer::Succeed }
                };
                let history = run(&parameters, records, at_once(fails));
                let first = if bisect { poison } else { [1, 4][usize::from(poison > 3)] };
                let last = if poison <= 3 && late > 0 { 3 } else { 5 };
                let expected: Vec<u64> = (first..=last).collect();
                assert_eq!(history.lost, expected, "bisect {bisect}, poison {poison}, {late} ms");
                assert_eq!(history.discarded, []);
                let delivered = &history.calls.last().unwrap().records;
                assert!(last > 3 || delivered == &[4, 5], "what is still there is delivered");
            }
        }
    }
}
