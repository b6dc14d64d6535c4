//! Cases that say more of their stream: lineage, keys, arrivals, sizes, windows; what is printed
//! of them; and the readings where AWS does not say.

use super::{asked, check_error, run};
use changefold::local::simulate::{Asked, Print};
use serde_json::{Value, json};

fn told(case: &Value) -> Value {
    let (output, _, _) = run(&case.to_string(), false).unwrap();
    serde_json::from_str(&output).unwrap()
}

/// The calls of a case as `at shard [records]`.
fn calls(case: &Value) -> Vec<String> {
    let mut case = case.clone();
    case["print"] = json!(["timeline"]);
    let trace = told(&case);
    let timeline = trace["timeline"].as_array().unwrap();
    let call = |call: &Value| {
        format!("{} {} {}", call["at"], call["shardId"].as_str().unwrap(), call["records"])
    };
    timeline.iter().map(call).collect()
}

fn with(mut case: Value, member: &str, value: Value) -> Value {
    case[member] = value;
    case
}

fn shard(name: &str, parents: &[&str]) -> Value {
    let mut shard = json!({ "shardId": name });
    for (member, parent) in ["parentShardId", "adjacentParentShardId"].iter().zip(parents) {
        shard[*member] = json!(parent);
    }
    shard
}

fn record(shard: &str, at: f64) -> Value {
    json!({ "shardId": shard, "at": at })
}

/// `a` splits into `b` and `c`, which merge into `d`.
fn family() -> Value {
    json!({
        "id": "family",
        "source": "kinesis",
        "shards": [shard("a", &[]), shard("b", &["a"]), shard("c", &["a"]),
                   shard("d", &["b", "c"])],
        "records": [record("a", 0.0), record("a", 0.0), record("b", 0.0), record("c", 0.0),
                    record("d", 0.0)],
        "mapping": { "BatchSize": 10, "MaximumRetryAttempts": 2 },
        "function": { "takes": 1, "throws_on": [3] },
    })
}

// R28
#[test]
fn a_child_waits_for_its_parents_and_siblings_run_side_by_side() {
    // The third record fails three times, with waits of 0.2 and 0.4 s.
    let expected = ["0 a [1,2]", "1 b [3]", "1 c [4]", "2.2 b [3]", "3.6 b [3]", "4.6 d [5]"];
    assert_eq!(calls(&family()), expected);
    // Without the fault the merged child begins when both parents are through.
    let healthy = with(family(), "function", json!({ "takes": 1 }));
    assert_eq!(calls(&healthy), ["0 a [1,2]", "1 b [3]", "1 c [4]", "2 d [5]"]);
    let reversed = with(healthy, "readings", json!({ "siblings": "last" }));
    assert_eq!(calls(&reversed), ["0 a [1,2]", "1 c [4]", "1 b [3]", "2 d [5]"]);
}

#[test]
fn records_come_when_they_arrive() {
    let case = json!({
        "id": "arrivals",
        "records": [{}, { "at": 0.5 }, { "at": 0.7 }, { "at": 30 }],
        "mapping": { "BatchSize": 2 },
    });
    let expected = ["0 simulated-0 [1]", "0.5 simulated-0 [2]", "0.7 simulated-0 [3]"];
    assert_eq!(calls(&case)[..3], expected, "what one read returned is sent");
    let busy = with(case.clone(), "function", json!({ "takes": 1 }));
    let expected = ["0 simulated-0 [1]", "1 simulated-0 [2,3]", "30 simulated-0 [4]"];
    assert_eq!(calls(&busy), expected, "what comes during a call is in the next one");
    let gathers = json!({ "BatchSize": 2, "MaximumBatchingWindowInSeconds": 10 });
    let gathering = with(case, "mapping", gathers);
    // The shard has ended with its last record, which waits for the window all the same.
    let expected = ["0.5 simulated-0 [1,2]", "10.5 simulated-0 [3]", "30 simulated-0 [4]"];
    assert_eq!(calls(&gathering), expected);
}

#[test]
fn records_of_a_mapping_that_begins_latest_are_those_after_its_beginning() {
    let case = json!({
        "id": "latest",
        "records": [{ "at": -5 }, { "at": -1 }, { "at": 1 }],
        "mapping": { "BatchSize": 10 },
    });
    assert_eq!(told(&case)["invocations"], json!([[1, 2], [3]]));
    let latest = with(case, "mapping", json!({ "StartingPosition": "LATEST" }));
    assert_eq!(told(&latest)["invocations"], json!([[3]]));
}

// R17
#[test]
fn age_counts_from_a_records_own_arrival() {
    let case = json!({
        "id": "age",
        "records": [{ "at": -100 }, { "at": -20 }, { "at": 0 }],
        "mapping": { "MaximumRecordAgeInSeconds": 60 },
        "function": { "throttled_until": 45 },
    });
    // Calls are tried again at 0.2, 0.6, … 25.4 and 51 s; by then the second has expired, too.
    let trace = told(&case);
    let gone: Vec<&Value> =
        trace["on_failure"].as_array().unwrap().iter().map(|one| &one["first"]).collect();
    assert_eq!(gone, [&json!(1), &json!(2)]);
    let calls = trace["invocations"].as_array().unwrap();
    assert_eq!(calls.first(), Some(&json!([2, 3])));
    assert_eq!(calls.last(), Some(&json!([3])));
}

// R27
#[test]
fn keys_of_a_shard_go_to_its_sub_lanes_in_turn() {
    let case = json!({
        "id": "keys",
        "records": [{ "key": "x" }, { "key": "y" }, { "key": "x" }, { "key": 7 }, { "key": "y" }],
        "mapping": { "BatchSize": 1, "ParallelizationFactor": 2 },
        "function": { "takes": 1 },
        "print": ["timeline"],
    });
    let lanes = |case: &Value| {
        let trace = told(case);
        let timeline = trace["timeline"].as_array().unwrap();
        let lane = |call: &Value| format!("{} {} {}", call["at"], call["subLane"], call["records"]);
        timeline.iter().map(lane).collect::<Vec<_>>()
    };
    // x and 7 share the first, as there are two for three keys. The last record is read when the
    // one before it, which waits in the first, is sent.
    let expected = ["0 0 [1]", "0 1 [2]", "1 0 [3]", "2 0 [4]", "2 1 [5]"];
    assert_eq!(lanes(&case), expected);
    let reversed = with(case, "readings", json!({ "replies": "last" }));
    let reversed = lanes(&reversed);
    assert_eq!(reversed.len(), 5, "the order of replies loses nothing: {reversed:?}");
}

// R24, R21
#[test]
fn sizes_cut_batches_and_what_is_too_large_is_never_sent() {
    let half = 3 * 1024 * 1024;
    let case = json!({
        "id": "sizes",
        "records": [{ "bytes": half }, { "bytes": half - 14 }, { "bytes": half - 1 },
                    { "bytes": 2 * half }, {}],
        "mapping": { "MaximumRetryAttempts": 2 },
    });
    let trace = told(&case);
    // Envelope and comma have 15 bytes: the first two are one byte too many, the next two fit.
    assert_eq!(trace["invocations"], json!([[1], [2, 3], [5]]));
    assert_eq!(trace["on_failure"][0]["first"], json!(4));
    assert_eq!(trace["on_failure"][0]["approximateInvokeCount"], json!(3));
}

// R25
#[test]
fn filters_see_what_the_case_gives_a_record() {
    let filter = |pattern: Value| {
        let filters = json!([{ "Pattern": pattern.to_string() }]);
        json!({ "FilterCriteria": { "Filters": filters } })
    };
    let paid = |status: &str| json!({ "image": { "status": { "S": status } } });
    let case = json!({
        "id": "filter",
        "records": [paid("NEW"), paid("PAID"), { "eventName": "REMOVE" }, paid("PAID")],
        "mapping": filter(json!({ "dynamodb": { "NewImage": { "status": { "S": ["PAID"] } } } })),
    });
    assert_eq!(told(&case)["invocations"], json!([[2, 4]]));
    let removed = with(case, "mapping", filter(json!({ "eventName": ["REMOVE"] })));
    assert_eq!(told(&removed)["invocations"], json!([[3]]));
    let kinesis = json!({
        "id": "data",
        "source": "kinesis",
        "records": [{ "data": { "a": 1 } }, {}, { "data": { "a": 2 } }],
        "mapping": filter(json!({ "data": { "a": [{ "numeric": [">", 1] }] } })),
    });
    assert_eq!(told(&kinesis)["invocations"], json!([[3]]));
}

// R32, R34, R35
#[test]
fn windows_show_in_the_timeline() {
    let case = json!({
        "id": "windows",
        "records": [{ "at": 1 }, { "at": 9 }, { "at": 25 }],
        "mapping": { "TumblingWindowInSeconds": 10, "MaximumRetryAttempts": 0 },
        "print": ["timeline"],
    });
    let windows = |case: &Value| {
        let trace = told(case);
        let timeline = trace["timeline"].as_array().unwrap();
        let window = |call: &Value| {
            let window = &call["window"];
            let (is_final, is_early) =
                (&window["isFinalInvokeForWindow"], &window["isWindowTerminatedEarly"]);
            let marks = [(is_final, " final"), (is_early, " early")];
            let marks = marks.iter().filter(|(flag, _)| **flag == json!(true));
            let marks: String = marks.map(|(_, mark)| *mark).collect();
            format!("{} {}-{}{marks}", call["at"], window["start"], window["end"])
        };
        timeline.iter().map(window).collect::<Vec<_>>()
    };
    let expected = ["1 0-10", "9 0-10", "25 0-10 final", "25 20-30", "25 20-30 final"];
    assert_eq!(windows(&case), expected);
    let large = with(case.clone(), "function", json!({ "state_bytes": 1024 * 1024 + 1 }));
    assert_eq!(windows(&large)[..2], ["1 0-10", "1 0-10 final early"]);
    let fits = with(case.clone(), "function", json!({ "state_bytes": 1024 * 1024 }));
    assert_eq!(windows(&fits), expected);
    let failing = told(&with(case, "function", json!({ "throws_at_window_end": true })));
    let given_up = json!({ "batchSize": 0, "approximateInvokeCount": 1,
        "condition": "RetryAttemptsExhausted", "functionError": "Unhandled" });
    assert_eq!(failing["on_failure"], json!([given_up, given_up]));
}

// R30
#[test]
fn checkpoints_are_told_after_each_step_and_never_pass_what_is_unfinished() {
    let case = json!({
        "id": "checkpoints",
        "records": [{ "key": 1 }, { "key": 2 }, { "key": 1 }, { "key": 2 }],
        "mapping": { "BatchSize": 1, "ParallelizationFactor": 2, "MaximumRetryAttempts": 0 },
        "function": { "takes": 1, "throws_on": [1] },
        "print": ["checkpoints"],
        "expect": {
            "invocations": [[1], [2], [3], [4]],
            "on_failure": [{ "first": 1, "last": 1, "batchSize": 1, "approximateInvokeCount": 1,
                "condition": "RetryAttemptsExhausted", "functionError": "Unhandled" }],
            "checkpoints": [
                { "at": 1, "after": "reply", "checkpoint": null },
                { "at": 1, "after": "reply", "checkpoint": null },
                { "at": 1, "after": "on_failure", "checkpoint": 1 },
                { "at": 1, "after": "read", "checkpoint": 2 },
                { "at": 2, "after": "reply", "checkpoint": 3 },
                { "at": 2, "after": "reply", "checkpoint": 3 },
                { "at": 2, "after": "read", "checkpoint": 4 },
            ],
            "timeline": [{ "records": [1] }, { "outcome": "succeeded" }, { "attempt": 1 }, {}],
        },
    });
    let (output, differences, summary) = run(&case.to_string(), true).unwrap();
    assert_eq!((differences, summary.different), (Vec::<String>::new(), 0), "{output}");
    assert!(!output.contains("timeline"), "what is only compared is not printed: {output}");
    // A wrong moment is a difference.
    let mut wrong = case;
    wrong["expect"]["timeline"][0] = json!({ "ended": 2 });
    let (_, differences, _) = run(&wrong.to_string(), true).unwrap();
    assert_eq!(differences, [r#"checkpoints: timeline 1: expected {"ended":2}, got {"ended":1}"#]);
}

#[test]
fn both_are_printed_for_all_cases_when_asked_for() {
    let print = vec![Print::Timeline, Print::Checkpoints];
    let all = Asked { print, ..Asked::default() };
    let (output, _, _) = asked(r#"{"id":1,"records":1}"#, &all).unwrap();
    let trace: Value = serde_json::from_str(&output).unwrap();
    let step = json!({ "at": 0, "shardId": "simulated-0", "after": "reply", "checkpoint": 1 });
    assert_eq!(trace["checkpoints"], json!([step]));
    let call = &trace["timeline"][0];
    assert_eq!(call["requestId"].as_str().map(str::len), Some(36));
    assert_eq!((&call["outcome"], &call["ended"]), (&json!("succeeded"), &json!(0)));
}

fn given_up(case: &Value) -> Vec<String> {
    let trace = told(case);
    let pieces = trace["on_failure"].as_array().unwrap();
    pieces.iter().map(|one| format!("{}-{}", one["first"], one["last"])).collect()
}

// R20
#[test]
fn a_reading_joins_neighbours_that_one_batch_has_given_up() {
    let case = json!({
        "id": "neighbours",
        "records": 6,
        "mapping": { "BatchSize": 6, "MaximumRetryAttempts": 0,
            "BisectBatchOnFunctionError": true },
        "function": { "throws_on": [2, 3, 5] },
    });
    assert_eq!(given_up(&case), ["2-2", "3-3", "5-5"]);
    let joined = with(case, "readings", json!({ "on_failure": "joined" }));
    assert_eq!(given_up(&joined), ["2-3", "5-5"]);
}

// R7, R8
#[test]
fn a_reading_ignores_claims_that_cannot_be_true() {
    let case = |failures: Value| {
        json!({
            "id": "claims",
            "records": 3,
            "mapping": { "MaximumRetryAttempts": 0,
                "FunctionResponseTypes": ["ReportBatchItemFailures"] },
            "function": { "replies": { "batchItemFailures": failures } },
        })
    };
    let foreign = case(json!([{ "itemIdentifier": "9" }, { "itemIdentifier": "3" }]));
    assert_eq!(given_up(&foreign), ["1-3"]);
    let ignored = json!({ "foreign_identifiers": "ignored" });
    assert_eq!(given_up(&with(foreign, "readings", ignored.clone())), ["3-3"]);
    let alone = case(json!([{ "itemIdentifier": "9" }]));
    assert_eq!(given_up(&with(alone, "readings", ignored)), ["1-3"], "beside none it is a failure");
    let empty = case(json!([{}]));
    assert_eq!(given_up(&empty), ["1-3"]);
    let ignored = json!({ "empty_elements": "ignored" });
    assert_eq!(given_up(&with(empty, "readings", ignored)), Vec::<String>::new());
}

// R16, R29, R41
#[test]
fn readings_move_the_batching_window_the_end_and_the_backoff() {
    let case = json!({
        "id": "window",
        "records": [{ "at": 4 }, { "at": 20 }],
        "mapping": { "MaximumBatchingWindowInSeconds": 10 },
    });
    assert_eq!(calls(&case), ["10 simulated-0 [1]", "20 simulated-0 [2]"]);
    let kafka = with(case.clone(), "readings", json!({ "batching_window": "first_record" }));
    assert_eq!(calls(&kafka), ["14 simulated-0 [1]", "30 simulated-0 [2]"]);
    // Nothing says that a shard has ended but one that continues it.
    let ends = json!({
        "id": "end",
        "shards": [{ "shardId": "a" }, { "shardId": "b", "parentShardId": "a" }],
        "records": [{ "shardId": "a", "at": 4 }, { "shardId": "b", "at": 5 }],
        "mapping": { "MaximumBatchingWindowInSeconds": 10 },
    });
    assert_eq!(calls(&ends), ["4 a [1]", "10 b [2]"]);
    let waits = with(ends, "readings", json!({ "shard_end": "waits" }));
    assert_eq!(calls(&waits), ["10 a [1]", "10 b [2]"]);
    let failing = json!({
        "id": "backoff",
        "records": 1,
        "mapping": { "MaximumRetryAttempts": 3 },
        "function": { "throws_on": [1] },
        "readings": { "backoff_first_ms": 1000, "backoff_max_ms": "1500" },
    });
    let expected = ["0", "1", "2.5", "4"].map(|at| format!("{at} simulated-0 [1]"));
    assert_eq!(calls(&failing), expected);
}

#[test]
fn a_reading_for_all_cases_yields_to_that_of_a_case() {
    let case = |readings: &str| {
        format!(
            r#"{{"id":1,"records":2,"mapping":{{"MaximumRetryAttempts":0,"BisectBatchOnFunctionError":true}},"function":{{"throws_on":[1,2]}}{readings}}}"#
        )
    };
    let cases = [case(""), case(r#","readings":{"on_failure":"single"}"#)].join("\n");
    let readings = vec![("on_failure".to_owned(), "joined".to_owned())];
    let (output, _, _) = asked(&cases, &Asked { readings, ..Asked::default() }).unwrap();
    let sizes: Vec<usize> = output
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .map(|trace| trace["on_failure"].as_array().unwrap().len())
        .collect();
    assert_eq!(sizes, [1, 2]);
}

#[test]
fn a_reading_for_all_cases_that_is_none_is_blamed_on_no_case() {
    let unlike = |name: &str, value: &str, cases: &str| {
        let readings = vec![(name.to_owned(), value.to_owned())];
        asked(cases, &Asked { readings, ..Asked::default() }).unwrap_err().to_string()
    };
    let case = r#"{"id":1,"records":0}"#;
    for cases in ["", case, "no case"] {
        let error = unlike("on_success", "joined", cases);
        assert!(error.starts_with("--reading: unknown reading `on_success`; there"), "{error}");
        let error = unlike("siblings", "both", cases);
        assert_eq!(error, "--reading: reading `siblings` is `both`, expected first or last");
    }
}

#[test]
fn numbers_are_compared_by_what_they_are() {
    let case = |at: &str| {
        format!(
            r#"{{"id":1,"records":[{{"at":1}}],"expect":{{"invocations":[[1]],"on_failure":[],"timeline":[{{"at":{at},"records":[1.0]}}]}}}}"#
        )
    };
    for at in ["1", "1.0", "1e0"] {
        let (_, differences, _) = run(&case(at), true).unwrap();
        assert_eq!(differences, Vec::<String>::new(), "{at}");
    }
    let (_, differences, _) = run(&case("1.5"), true).unwrap();
    assert_eq!(differences.len(), 1, "{differences:?}");
}

#[test]
fn a_case_that_contradicts_itself_names_the_line() {
    let case = |members: &str| format!(r#"{{"id":"x",{members}}}"#);
    let two = r#""shards":[{"shardId":"a"},{"shardId":"b","parentShardId":"a"}]"#;
    for (members, message) in [
        (
            r#""shards":[{"shardId":"b","parentShardId":"a"},{"shardId":"a"}],"records":[]"#,
            "line 2: shard `b` continues `a`, which does not stand before it",
        ),
        (r#""shards":[{"shardId":"a"},{"shardId":"a"}],"records":[]"#, "line 2: shard `a` is stat"),
        (
            r#""shards":[{"shardId":"a","adjacentParentShardId":"b"}],"records":[]"#,
            "line 2: the parents of shard `a` are none",
        ),
        (
            r#""shards":[{"shardId":"a"},{"shardId":"b","parentShardId":"a"},{"shardId":"c","parentShardId":"a"},{"shardId":"d","parentShardId":"a"}],"records":[]"#,
            "line 2: shard `d` continues `a`, which has its children already (shard 3 of `shards`)",
        ),
        (r#""shards":[],"records":[]"#, "line 2: `shards` is empty"),
        (r#""shards":0,"records":1"#, "line 2: `shards` is 0"),
        (r#""shards":99999999999,"records":1"#, "line 2: `shards` is 99999999999"),
        (
            &format!(r#"{two},"records":[{{"shardId":"b"}},{{"shardId":"a"}}]"#),
            "line 2: record 2 is of shard `a`, which ended before record 1 of its child",
        ),
        (
            &format!(r#"{two},"records":[{{"shardId":"a","at":2}},{{"shardId":"b","at":1}}]"#),
            "line 2: record 2 arrives at 1 s, before one that stands in front of it",
        ),
        (&format!(r#"{two},"records":[{{}}]"#), "line 2: record 1 has no `shardId`"),
        (&format!(r#"{two},"records":[{{"shardId":"c"}}]"#), "line 2: record 1 is of shard `c`"),
        (&format!(r#"{two},"records":3"#), "line 2: a list of shards needs a list of records"),
        (r#""records":[],"keys":2"#, "line 2: `keys` beside a list of records"),
        (r#""records":[{"bytes":5}]"#, "line 2: record 1 has 5 `bytes`; it can have 62 to"),
        (r#""records":[{"data":1}]"#, "line 2: record 1 has `data`; a change of DynamoDB"),
        (
            r#""source":"kinesis","records":[{"eventName":"INSERT"}]"#,
            "line 2: record 1 has `image` or `eventName`",
        ),
        (r#""records":[{"speed":1}]"#, "line 2, column 29: unknown field `speed`"),
        (r#""records":[{"at":1e300}]"#, "line 2, column"),
        (r#""records":1,"function":{"takes":-1}"#, "line 2, column"),
        (r#""records":1,"print":["calls"]"#, "line 2, column 38: unknown variant `calls`"),
        (r#""records":1,"readings":{"who":1}"#, "line 2: unknown reading `who`; there are on_f"),
        (r#""records":1,"readings":{"siblings":"b"}"#, "line 2: reading `siblings` is `b`, expect"),
        (r#""records":1,"function":{"state_bytes":99999999999}"#, "line 2: `state_bytes` is more"),
    ] {
        check_error(&case(members), message);
    }
}

/// A function that fails on its second record until a moment, and a stream that keeps records for
/// a day.
fn kept_for_a_day(heals_at: u32) -> Value {
    json!({
        "id": "retention",
        "shards": [shard("a", &[]), shard("b", &[]), shard("c", &["a"])],
        "records": [record("a", 0.0), record("a", 0.0), record("b", 0.0), record("a", 3600.0),
                    record("c", 3600.0)],
        "mapping": { "BatchSize": 2, "FunctionResponseTypes": ["ReportBatchItemFailures"] },
        "retention": 86400,
        "function": { "reports": [2], "heals_at": heals_at },
        "print": ["timeline", "checkpoints"],
    })
}

// R42
#[test]
fn a_record_is_lost_when_the_stream_keeps_it_for_less_time_than_it_is_tried() {
    let in_time = told(&kept_for_a_day(86_000));
    assert_eq!(in_time["lost"], Value::Null);
    let last = |trace: &Value| {
        let calls = trace["invocations"].as_array().unwrap();
        calls[calls.len() - 3..].to_vec()
    };
    assert_eq!(last(&in_time), [json!([2]), json!([4]), json!([5])]);

    let too_late = told(&kept_for_a_day(90_000));
    assert_eq!(too_late["lost"], json!([[2]]), "no on-failure record tells of it");
    assert_eq!(too_late["on_failure"], json!([]));
    // What arrived an hour later is still there, and reading goes on with it; then the child.
    assert_eq!(last(&too_late), [json!([2]), json!([4]), json!([5])]);
    let steps = too_late["checkpoints"].as_array().unwrap().iter();
    let losses: Vec<&Value> = steps.filter(|step| step["after"] == "lost").collect();
    assert_eq!(losses.len(), 1);
    assert_eq!((&losses[0]["shardId"], &losses[0]["checkpoint"]), (&json!("a"), &json!(2)));
    let at = losses[0]["at"].as_f64().unwrap();
    assert!(at > 86_400.0 && at <= 86_460.0, "{at}");

    // A stream that keeps it for longer.
    let kept = with(kept_for_a_day(90_000), "retention", json!(2 * 86_400));
    assert_eq!(told(&kept)["lost"], Value::Null);
    // What has expired before the mapping begins.
    let case = json!({
        "id": "old",
        "records": [{ "at": -90_000 }, { "at": -80_000 }],
        "retention": 86_400,
        "expect": { "invocations": [[2]], "on_failure": [], "lost": [[1]] },
    });
    let (_, differences, _) = run(&case.to_string(), true).unwrap();
    assert_eq!(differences, Vec::<String>::new());
    let expects = json!({ "invocations": [[2]], "on_failure": [] });
    let unlike = with(case.clone(), "expect", expects);
    let (_, differences, _) = run(&unlike.to_string(), true).unwrap();
    assert_eq!(differences, ["old: lost 1: expected none, got [1]"]);
    // What LATEST skips is not lost.
    let latest = with(case, "mapping", json!({ "StartingPosition": "LATEST" }));
    assert_eq!((&told(&latest)["lost"], &told(&latest)["invocations"]), (&Value::Null, &json!([])));
}

// R43
#[test]
fn the_iterator_is_as_old_as_the_last_record_of_a_call() {
    let case = json!({
        "id": "age",
        "records": [{ "at": -10 }, { "at": -2 }, { "at": 3.5 }],
        "function": { "takes": 5 },
        "print": ["timeline"],
    });
    let trace = told(&case);
    let ages: Vec<&Value> =
        trace["timeline"].as_array().unwrap().iter().map(|call| &call["iteratorAge"]).collect();
    assert_eq!(ages, [&json!(2), &json!(1.5)]);
}
