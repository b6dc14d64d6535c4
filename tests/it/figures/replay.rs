//! The same processor here and there: replayed by its own program, and by `changefold` as a
//! program in processes of its own.

use super::Backlog;
use serde_json::Value;
use std::{path::Path, process::Command};

/// One replay, with an environment variable: how it ended, and its document.
fn replayed(
    program: &Path,
    arguments: &[&str],
    backlog: &Backlog,
    variable: (&str, &str),
) -> (Option<i32>, Value) {
    let (code, document, _) = told(program, arguments, backlog, variable);
    (code, document)
}

/// The same, and what it said beside.
fn told(
    program: &Path,
    arguments: &[&str],
    backlog: &Backlog,
    variable: (&str, &str),
) -> (Option<i32>, Value, String) {
    let output = Command::new(program)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .arg("replay")
        .arg(backlog.path("records.jsonl"))
        .args(["--format", "json", "--set", "MaximumBatchingWindowInSeconds=0"])
        .args(["--set", "BatchSize=10", "--set", "MaximumRetryAttempts=0"])
        .args(arguments)
        .env("RUST_LOG", "off")
        .env(variable.0, variable.1)
        .output()
        .unwrap();
    let mut document: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
    for parked in document["parked"].as_array_mut().into_iter().flatten() {
        parked.as_object_mut().unwrap().remove("parked_ms").unwrap();
    }
    (output.status.code(), document, String::from_utf8(output.stderr).unwrap())
}

#[test]
fn a_processor_elsewhere_parks_as_it_does_here() {
    let poison = |key, place| if key == 1 && place == 2 { "park" } else { "ok" };
    let backlog = Backlog::new("replay", (4, 8, 1), poison);
    let crashing = crate::support::crashing::path();
    let desk = Path::new(env!("CARGO_BIN_EXE_changefold"));
    let exec = ["--exec", crashing.to_str().unwrap()];

    let nothing = ("CRASHING_MS", "");
    let (code, here) = replayed(&crashing, &[], &backlog, nothing);
    assert_eq!((code, here["parked"][0]["held_behind"].as_u64()), (Some(0), Some(5)));
    let (code, there) = replayed(desk, &exec, &backlog, nothing);
    assert_eq!(code, Some(0));
    for member in ["records", "invocations", "failed_invocations", "parked", "on_failure"] {
        assert_eq!(here[member], there[member], "{member}");
    }
    assert_eq!(here["store"]["write_units"], there["store"]["write_units"]);

    // What the environment says goes: here that there is no park, so the mapping gives up.
    let without_park = ("CHANGEFOLD_PARK_TABLE", "");
    let (here, there) = (
        replayed(&crashing, &[], &backlog, without_park),
        replayed(desk, &exec, &backlog, without_park),
    );
    for (code, document) in [here, there] {
        assert_eq!((code, &document["parked"]), (Some(3), &Value::Null));
        assert_eq!(document["on_failure"].as_array().unwrap().len(), 1);
    }
}

#[test]
fn an_on_failure_record_that_cannot_be_written_costs_no_report() {
    let poison = |key, place| if key == 1 && place == 2 { "park" } else { "ok" };
    let backlog = Backlog::new("unwritten", (4, 8, 1), poison);
    let directory = backlog.path("on-failure");
    let directory = directory.to_str().unwrap();
    // No file system takes such a name.
    let queue = format!("arn:aws:sqs:eu-west-1:123456789012:{}", "q".repeat(300));
    let destination = format!("DestinationConfig.OnFailure.Destination={queue}");
    let (code, document, said) = told(
        &crate::support::crashing::path(),
        &["--set", &destination, "--on-failure", directory],
        &backlog,
        ("CHANGEFOLD_PARK_TABLE", ""),
    );
    let on_failure = document["on_failure"].as_array().unwrap();
    assert_eq!((code, on_failure.len()), (Some(2), 1), "{said}");
    let path = format!("error: an on-failure record cannot be written: {directory}/sqs/qqq");
    assert!(said.contains(&path) && said.contains("/000001.json: "), "{said}");
    assert!(said.contains("hint: run it again with --from-start and an empty dir"), "{said}");
}
