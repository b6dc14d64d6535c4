//! `simulate` as the CLI calls it: cases in, one line out for each, differences in words.
//!
//! The call sequences are those recorded from AWS (`esm-semantics.md` §5), in cases of our
//! own and with other sizes where the rule, not the example, is meant.

mod random;
mod streams;

use changefold::local::simulate::{Asked, SimulateError, SimulateSummary, simulate};

fn run(cases: &str, check: bool) -> Result<(String, Vec<String>, SimulateSummary), SimulateError> {
    asked(cases, &Asked { check, ..Asked::default() })
}

fn asked(
    cases: &str,
    asked: &Asked,
) -> Result<(String, Vec<String>, SimulateSummary), SimulateError> {
    let (mut output, mut differences) = (Vec::new(), Vec::new());
    let summary =
        simulate(cases.as_bytes(), &mut output, asked, |text| differences.push(text.to_owned()))?;
    Ok((String::from_utf8(output).unwrap(), differences, summary))
}

/// `mapping` and `function` are the members of these objects; `expected` is the rest of the
/// line after the id.
#[track_caller]
fn check(records: u64, mapping: &str, function: &str, expected: &str) {
    let case = format!(
        r#"{{"id":"x","records":{records},"mapping":{{{mapping}}},"function":{{{function}}}}}"#
    );
    let (output, _, _) = run(&case, false).unwrap();
    assert_eq!(output, format!("{{\"id\":\"x\",{expected}}}\n"), "{case}");
}

fn invocations(calls: &str, on_failure: &[&str]) -> String {
    format!(r#""invocations":{calls},"on_failure":[{}]"#, on_failure.join(","))
}

/// `first-last xcount error`, where the error is `null` or a word.
fn discarded(text: &str) -> String {
    let mut parts = text.split([' ', '-']);
    let mut next = || parts.next().unwrap();
    let (first, last): (u64, u64) = (next().parse().unwrap(), next().parse().unwrap());
    let (count, condition, error) = (next(), next(), next());
    let error = if error == "null" { error.to_owned() } else { format!("\"{error}\"") };
    format!(
        r#"{{"first":{first},"last":{last},"batchSize":{},"approximateInvokeCount":{count},"#,
        last - first + 1
    ) + &format!(r#""condition":"{condition}","functionError":{error}}}"#)
}

const REPORTS: &str = r#""FunctionResponseTypes":["ReportBatchItemFailures"]"#;

// R13
#[test]
fn retries_of_a_thrown_batch_then_one_record_for_all() {
    let exhausted = discarded("1-3 3 RetryAttemptsExhausted Unhandled");
    check(
        3,
        r#""BatchSize":3,"MaximumRetryAttempts":2"#,
        r#""throws_on":[3]"#,
        &invocations("[[1,2,3],[1,2,3],[1,2,3]]", &[&exhausted]),
    );
}

// R10
#[test]
fn progress_begins_a_new_count() {
    let exhausted = discarded("5-5 4 RetryAttemptsExhausted null");
    check(
        5,
        &format!(r#""BatchSize":3,"MaximumRetryAttempts":3,{REPORTS}"#),
        r#""reports":[5]"#,
        &invocations("[[1,2,3],[4,5],[5],[5],[5],[5]]", &[&exhausted]),
    );
}

// R11
#[test]
fn without_bisect_a_poison_record_drags_its_followers_down() {
    let exhausted = discarded("3-5 2 RetryAttemptsExhausted null");
    check(
        6,
        &format!(r#""BatchSize":5,"MaximumRetryAttempts":1,{REPORTS}"#),
        r#""reports":[3]"#,
        &invocations("[[1,2,3,4,5],[3,4,5],[3,4,5],[6]]", &[&exhausted]),
    );
}

// R14
#[test]
fn bisect_works_the_left_half_to_its_end_first() {
    let exhausted = discarded("4-4 2 RetryAttemptsExhausted Unhandled");
    check(
        7,
        r#""BatchSize":7,"MaximumRetryAttempts":1,"BisectBatchOnFunctionError":true"#,
        r#""throws_on":[4]"#,
        &invocations("[[1,2,3,4,5,6,7],[1,2,3],[4,5,6,7],[4,5],[4],[4],[5],[6,7]]", &[&exhausted]),
    );
}

// R15
#[test]
fn a_report_cuts_first_and_bisect_halves_what_is_stuck() {
    let exhausted = discarded("2-2 2 RetryAttemptsExhausted null");
    check(
        5,
        &format!(
            r#""BatchSize":5,"MaximumRetryAttempts":1,"BisectBatchOnFunctionError":true,{REPORTS}"#
        ),
        r#""reports":[2]"#,
        &invocations("[[1,2,3,4,5],[2,3,4,5],[2,3],[2],[2],[3],[4,5]]", &[&exhausted]),
    );
}

#[test]
fn discarded_pieces_of_one_batch_come_in_order() {
    let pieces = ["1-1 1 RetryAttemptsExhausted null", "2-2 1 RetryAttemptsExhausted Unhandled"];
    let pieces = pieces.map(discarded);
    check(
        3,
        &format!(
            r#""BatchSize":2,"MaximumRetryAttempts":0,"BisectBatchOnFunctionError":true,{REPORTS}"#
        ),
        r#""throws_on":[2],"reports":[1]"#,
        &invocations("[[1,2],[1],[2],[3]]", &[&pieces[0], &pieces[1]]),
    );
}

#[test]
fn a_throw_beats_a_report_and_a_report_beats_a_literal_reply() {
    let function = r#""throws_on":[1],"reports":[3],"replies":{"batchItemFailures":[{}]}"#;
    let pieces = [
        "1-1 1 RetryAttemptsExhausted Unhandled",
        "2-2 1 RetryAttemptsExhausted null",
        "3-3 1 RetryAttemptsExhausted null",
    ];
    let pieces = pieces.map(discarded);
    check(
        3,
        &format!(r#""BatchSize":1,"MaximumRetryAttempts":0,{REPORTS}"#),
        function,
        &invocations("[[1],[2],[3]]", &[&pieces[0], &pieces[1], &pieces[2]]),
    );
}

#[test]
fn a_literal_reply_is_read_anew_for_every_call() {
    // 3 is progress for 1..4, no progress for 3..4, and foreign to the half 4.
    let pieces =
        ["3-3 1 RetryAttemptsExhausted null", "4-4 1 RetryAttemptsExhausted null"].map(discarded);
    check(
        4,
        &format!(
            r#""BatchSize":4,"MaximumRetryAttempts":0,"BisectBatchOnFunctionError":true,{REPORTS}"#
        ),
        r#""replies":{"batchItemFailures":[{"itemIdentifier":"3"}]}"#,
        &invocations("[[1,2,3,4],[3,4],[3],[4]]", &[&pieces[0], &pieces[1]]),
    );
    check(1, REPORTS, r#""replies":null"#, &invocations("[[1]]", &[]));
}

// R17, R19
#[test]
fn age_ends_retries_and_what_was_never_called_counts_as_one() {
    // Calls at 0, 0.2, 0.6, 1.4, 3, 6.2, 12.6, 25.4 and 51 seconds; the next one would be
    // at 102.2. By then the second batch is as old as the first.
    let calls = ["[1,2]"; 9].join(",");
    let pieces = ["1-2 9 RecordAgeExceeded null", "3-3 1 RecordAgeExceeded null"].map(discarded);
    check(
        3,
        r#""BatchSize":2,"MaximumRecordAgeInSeconds":60"#,
        r#""throws_on":[1]"#,
        &invocations(&format!("[{calls}]"), &[&pieces[0], &pieces[1]]),
    );
}

#[test]
fn the_last_part_of_a_batch_waits_for_the_window_and_may_expire_in_it() {
    let expired = discarded("5-5 1 RecordAgeExceeded null");
    let mapping = |window: u32| {
        format!(r#""BatchSize":2,"MaximumBatchingWindowInSeconds":{window},"#)
            + r#""MaximumRecordAgeInSeconds":60"#
    };
    check(5, &mapping(60), "", &invocations("[[1,2],[3,4],[5]]", &[]));
    check(5, &mapping(61), "", &invocations("[[1,2],[3,4]]", &[&expired]));
}

#[test]
fn records_of_one_item_stay_in_one_sub_lane() {
    check(3, r#""BatchSize":1,"ParallelizationFactor":10"#, "", &invocations("[[1],[2],[3]]", &[]));
}

#[test]
fn no_records_no_calls() {
    check(0, "", "", &invocations("[]", &[]));
}

#[test]
fn a_case_without_end_is_unfinished_after_ten_thousand_calls() {
    let case = r#"{"id":7,"records":1,"mapping":{},"function":{"throws_on":[1]}}"#;
    let (output, _, _) = run(case, false).unwrap();
    let calls = vec!["[1]"; 10_000].join(",");
    let expected =
        format!("{{\"id\":7,\"invocations\":[{calls}],\"on_failure\":[],\"unfinished\":true}}\n");
    assert!(output == expected, "{}", &output[output.len() - 80..]);
    // Ten thousand calls and an end is finished.
    let mapping = r#""MaximumRetryAttempts":9999"#;
    let last = discarded("1-1 10000 RetryAttemptsExhausted Unhandled");
    check(1, mapping, r#""throws_on":[1]"#, &invocations(&format!("[{calls}]"), &[&last]));
}

/// What is too large for an event is tried without a call, so no number of calls ends it.
#[test]
fn a_case_without_end_and_without_calls_is_unfinished_too() {
    let told = |case: &str| run(case, false).unwrap().0;
    let large = r#"{"id":1,"records":[{"bytes":6291456}]"#;
    let expected = "{\"id\":1,\"invocations\":[],\"on_failure\":[],\"unfinished\":true}\n";
    assert_eq!(told(&format!("{large}}}")), expected);
    let window = r#"{"id":1,"records":1,"mapping":{"TumblingWindowInSeconds":10},"#;
    let state = format!(r#"{window}"function":{{"state_bytes":7000000}}}}"#);
    assert_eq!(told(&state), expected.replace("[],\"on", "[[1]],\"on"));
    // The stream ends it, after more than a thousand attempts.
    let lost = "{\"id\":1,\"invocations\":[],\"on_failure\":[],\"lost\":[[1]]}\n";
    assert_eq!(told(&format!(r#"{large},"retention":86400}}"#)), lost);
}

#[test]
fn a_check_names_each_difference() {
    let case = |id: &str, expect: &str| {
        format!(r#"{{"id":"{id}","evidence":"own","records":2,"mapping":{{"BatchSize":1}},"#)
            + &format!(r#""function":{{}},"expect":{{{expect}}}}}"#)
    };
    let right = case("right", r#""invocations":[[1],[2]],"on_failure":[]"#);
    let discarded = discarded("1-1 1 RetryAttemptsExhausted null");
    let wrong = case(
        "wrong",
        &format!(r#""invocations":[[1,2]],"on_failure":[{discarded}],"unfinished":true"#),
    );
    let silent = r#"{"id":"silent","records":0,"mapping":{},"function":{}}"#;
    let (output, differences, summary) =
        run(&format!("{right}\n\n{wrong}\n{silent}\n"), true).unwrap();
    assert_eq!(output.lines().count(), 3, "the lines come with a check too");
    assert_eq!(
        differences,
        [
            "wrong: invocation 1: expected [1,2], got [1]",
            "wrong: invocation 2: expected none, got [2]",
            &format!("wrong: on_failure 1: expected {discarded}, got none"),
            "wrong: unfinished: expected true, got false",
            "silent: no `expect` to check against",
        ]
    );
    assert_eq!(summary, SimulateSummary { cases: 3, different: 2 });
    let (_, differences, summary) = run(&wrong, false).unwrap();
    assert_eq!((differences.len(), summary.different), (0, 0), "unless asked");
}

#[track_caller]
fn check_error(line: &str, message: &str) {
    let good = r#"{"id":"good","records":0}"#;
    let error = run(&format!("{good}\n{line}\n"), false).unwrap_err();
    assert!(error.to_string().starts_with(message), "{error}");
}

#[test]
fn a_key_or_value_we_do_not_know_names_line_and_key() {
    check_error(r#"{"id":"x","records":1,"speed":2}"#, "line 2, column 29: unknown field `speed`");
    check_error(
        r#"{"id":"x","records":1,"function":{"sleeps":2}}"#,
        "line 2, column 42: unknown field `sleeps`",
    );
    check_error(
        r#"{"id":"x","records":1,"expect":{"invocations":[],"on_failure":[],"calls":1}}"#,
        "line 2, column 72: unknown field `calls`",
    );
    check_error(
        r#"{"id":"x","records":1,"mapping":{"BatchSise":2}}"#,
        "line 2: unknown mapping parameter `BatchSise`; did you mean `BatchSize`?",
    );
    check_error(
        r#"{"id":"x","records":1,"mapping":{"KmsKeyArn":"a"}}"#,
        "line 2: mapping parameter `KmsKeyArn` is not honoured",
    );
    check_error(
        r#"{"id":"x","records":1,"mapping":{"TumblingWindowInSeconds":2,"ParallelizationFactor":2}}"#,
        "line 2: mapping parameter `ParallelizationFactor` is 2, expected 1, because",
    );
    check_error(r#"{"id":"x"}"#, "line 2, column 10: missing field `records`");
    check_error(r#"{"id":"x","records":-1}"#, "line 2, column 22: invalid value");
    check_error("{", "line 2, column 1: EOF");
}
