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
    (output.status.code(), document)
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
