//! Records that a stream lets expire while a shard is held up: a replay ends with another code.

use changefold::{
    batch::lanes::Lanes,
    local::cli::{self, Exit},
    processor::{self, Context, Failure},
    record::Change,
};
use serde::de::IgnoredAny;
use std::{cell::Cell, ffi::OsString, path::PathBuf, process::Command};

const FIXTURE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/orders.jsonl");

/// Replays with endless retries over a processor that fails for ever, or does not; tells how often
/// it was called, too.
fn replayed(fails: bool) -> (Exit, u64) {
    let calls = Cell::new(0);
    let processor = processor::from_fn(async |_: Change<IgnoredAny>, _: &Context<'_>| {
        calls.update(|calls| calls + 1);
        if fails { Err(Failure::halt("for ever")) } else { Ok(()) }
    });
    let arguments = ["desk", "replay", FIXTURE, "--template", "infra/template.yaml"];
    let endless = ["MaximumRetryAttempts=-1", "MaximumRecordAgeInSeconds=-1"];
    let endless = endless.into_iter().flat_map(|it| ["--set", it]);
    let arguments = arguments.into_iter().chain(endless).map(OsString::from);
    (cli::run_processor(|setup| Lanes::set_up(processor, setup), None, arguments), calls.get())
}

// R42
#[test]
fn a_replay_that_loses_records_says_so_in_its_exit_code() {
    let (exit, calls) = replayed(true);
    assert_eq!(exit, Exit::Discarded, "nothing is given up, so this is of what has expired");
    assert!(calls > 1_000, "a day of retries, a minute apart: {calls}");
    assert_eq!(replayed(false), (Exit::Done, 84));
}

#[test]
fn dynamodb_streams_keep_records_for_a_day_and_kinesis_as_long_as_one_says() {
    let replay = |fixture: &str, hours: &str| {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(fixture);
        let views =
            if fixture.contains("orders") { "views/orders.sql" } else { "views/clicks.sql" };
        let output = Command::new(env!("CARGO_BIN_EXE_changefold"))
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .arg("replay")
            .arg(path)
            .args(["--views", views, "--retention", hours])
            .output()
            .unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, said) = replay("fixtures/orders.jsonl", "48");
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("--retention 48: DynamoDB Streams keep a record for 24 hours"), "{said}");
    for (fixture, hours, code) in [
        ("fixtures/orders.jsonl", "24", 0),
        ("fixtures/clicks.jsonl", "8760", 0),
        ("fixtures/clicks.jsonl", "8761", 2),
        ("fixtures/clicks.jsonl", "23", 2),
    ] {
        let (found, said) = replay(fixture, hours);
        assert_eq!(found, Some(code), "{fixture} {hours}: {said}");
    }
}
