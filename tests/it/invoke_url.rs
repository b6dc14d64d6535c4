//! `replay --invoke-url` against a server that answers as Lambda's Invoke API does.

use crate::support::http::{self, Answer, Request};
use serde_json::{Value, json};
use std::{
    process::Command,
    sync::{Arc, Mutex},
};

const RECORDS: usize = 100;

/// What was asked for: the path, and the numbers of the clicks' `ms` in order.
type Asked = Arc<Mutex<Vec<(String, usize)>>>;

/// A function that cannot take text for `ms`, and what goes wrong before it is reached.
fn serve(before: Vec<Option<Answer>>) -> (String, Asked) {
    let (asked, before) = (Asked::default(), Mutex::new(before));
    let told = Arc::clone(&asked);
    let url = http::serve(move |Request { path, body, .. }| {
        let event: Value = serde_json::from_str(&body).unwrap();
        let records = event["Records"].as_array().unwrap();
        told.lock().unwrap().push((path, records.len()));
        if let Some(trouble) = before.lock().unwrap().pop() {
            return trouble;
        }
        let is_poison = |record: &&Value| {
            let data = record["kinesis"]["data"].as_str().unwrap();
            let data = base64_simd::STANDARD.decode_to_vec(data).unwrap();
            serde_json::from_slice::<Value>(&data).unwrap()["ms"].is_string()
        };
        let reply = match records.iter().find(is_poison) {
            Some(record) => json!({"batchItemFailures": [
                {"itemIdentifier": record["kinesis"]["sequenceNumber"]}
            ]}),
            None => json!({"batchItemFailures": []}),
        };
        Some(Answer { status: 200, headers: "", body: reply.to_string() })
    });
    (url, asked)
}

/// The report, what was said, and the exit code.
fn replay(url: &str, settings: &[&str]) -> (Value, String, Option<i32>) {
    let output = Command::new(env!("CARGO_BIN_EXE_changefold"))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(["replay", "fixtures/clicks.jsonl", "--format", "json", "--invoke-url", url])
        .args(["--set", "MaximumRetryAttempts=1"])
        .args(settings)
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    (serde_json::from_slice(&output.stdout).unwrap_or_default(), said, output.status.code())
}

#[test]
fn one_poison_record_in_a_hundred_is_found_by_its_number() {
    let (url, asked) = serve(Vec::new());
    let url = format!("{url}/2015-03-31/functions/clicks/invocations");
    let (report, said, code) = replay(&url, &[]);
    assert_eq!(report["records"], RECORDS, "{said}");
    let on_failure = report["on_failure"].as_array().unwrap();
    assert_eq!((on_failure.len(), code), (1, Some(3)), "{report}");
    let batch = &on_failure[0]["KinesisBatchInfo"];
    assert_eq!(batch["batchSize"], 1);
    let poison = "49672254917919365999807882258057165082883515844415979538";
    assert_eq!(batch["startSequenceNumber"], poison);
    let asked = asked.lock().unwrap();
    assert!(asked.iter().all(|(path, _)| path == "/2015-03-31/functions/clicks/invocations"));
    assert_eq!(asked.len() as u64, report["invocations"].as_u64().unwrap());
}

/// A throttle, a server's error and a lost connection cost no retry: with one retry there would
/// be none left.
#[test]
fn what_did_not_reach_the_function_is_no_attempt() {
    let answer = |status, headers, body: &str| Some(Answer { status, headers, body: body.into() });
    let trouble = vec![
        None,
        answer(502, "", ""),
        answer(429, "", r#"{"Type":"User","message":"Rate Exceeded."}"#),
    ];
    let (url, asked) = serve(trouble);
    let settings = ["--set", "BatchSize=1000", "--set", "BisectBatchOnFunctionError=false"];
    let (report, said, _) = replay(&url, &settings);
    assert_eq!(report["on_failure"].as_array().unwrap().len(), 1, "{said}");
    assert_eq!(report["failed_invocations"], 0);
    assert!(said.contains("Rate Exceeded."), "{said}");
    // The template's function, since the URL names none.
    assert!(asked.lock().unwrap()[0].0.ends_with("/invocations"));
}

#[test]
fn an_error_of_the_function_is_an_attempt_however_it_is_told() {
    let failed = r#"{"errorType":"Broken","errorMessage":"as told"}"#;
    let header = "X-Amz-Function-Error: Unhandled\r\n";
    let answer = |headers| Some(Answer { status: 200, headers, body: failed.to_owned() });
    let (url, _) = serve(vec![answer(header), answer("")]);
    let (report, said, _) = replay(&url, &["--set", "BisectBatchOnFunctionError=true"]);
    assert_eq!(report["failed_invocations"], 2, "{said}");
    assert!(said.contains("function error (2 times): Broken: as told"), "{said}");
    assert!(report["bisects"].as_u64().unwrap() >= 1);
}

#[test]
fn where_nobody_listens_nothing_is_begun() {
    let (_, said, code) = replay("http://127.0.0.1:1", &[]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("http://127.0.0.1:1: ") && said.contains("cargo lambda watch"), "{said}");
    let (_, said, code) = replay("127.0.0.1:9000", &[]);
    assert!(code == Some(2) && said.contains("begins with http://"), "{said}");
    let (_, said, code) = replay("http://127.0.0.1:1", &["--views", "views/clicks.sql"]);
    assert!(code == Some(2) && said.contains("--endpoint-url"), "{said}");
}
