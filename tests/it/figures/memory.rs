//! The memory that a backfill needs: the same for five times the items.

use changefold::store::embedded::Embedded;
use serde_json::{Value, json};
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

const ITEMS: [u32; 2] = [200_000, 1_000_000];
const GROUPS: u32 = 1_000;
const GROWTH_MAX: f64 = 1.1;
/// What one `BatchWriteItem` takes.
const BATCH: u32 = 25;
const VIEW: &str = "CREATE MATERIALIZED VIEW totals AS \
    SELECT g, count(*) AS n, sum(amount) AS total FROM orders GROUP BY g;";

fn asked(store: &Embedded, operation: &str, request: &Value) -> Value {
    let body = serde_json::to_vec(request).unwrap();
    let (status, answer) = store.answer(&format!("DynamoDB_20120810.{operation}"), &body);
    assert_eq!(status, 200, "{operation}: {answer}", answer = &*answer);
    serde_json::from_str(&answer).unwrap()
}

/// A table of so many items, as a desk keeps it.
fn write_table(file: &Path, items: u32) {
    let store = Embedded::open(Some(file)).unwrap();
    asked(
        &store,
        "CreateTable",
        &json!({
            "TableName": "orders", "BillingMode": "PAY_PER_REQUEST",
            "KeySchema": [{"AttributeName": "pk", "KeyType": "HASH"}],
            "AttributeDefinitions": [{"AttributeName": "pk", "AttributeType": "S"}],
        }),
    );
    let put = |key: u32| {
        json!({"PutRequest": {"Item": {
            "pk": {"S": format!("order-{key:07}")}, "g": {"S": format!("group-{}", key % GROUPS)},
            "amount": {"N": key.to_string()}, "rest": {"S": "x".repeat(200)},
        }}})
    };
    for first in (0..items).step_by(BATCH as usize) {
        let puts: Vec<_> = (first..first + BATCH).map(put).collect();
        asked(&store, "BatchWriteItem", &json!({"RequestItems": {"orders": puts}}));
    }
}

/// The most memory the process has had, in KiB, read until its end.
#[expect(clippy::disallowed_methods, reason = "a process is watched, and nobody tells of its end")]
fn peak_of(process: &mut Child) -> u32 {
    let status = PathBuf::from(format!("/proc/{}/status", process.id()));
    let mut peak = 0;
    while process.try_wait().unwrap().is_none() {
        let text = fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kibibytes = line.and_then(|it| it.trim().trim_end_matches(" kB").parse().ok());
        peak = kibibytes.unwrap_or(peak);
        thread::sleep(Duration::from_millis(100));
    }
    peak
}

#[test]
#[ignore = "a backfill of a million items: tests/figures.sh memory; minutes"]
#[expect(clippy::print_stdout, reason = "tests/figures.sh reads it")]
#[expect(clippy::disallowed_methods, reason = "how long it took is told, and nothing asserted")]
fn a_backfill_of_a_million_items_needs_the_memory_of_one_of_200_000() {
    println!("| items | peak memory, MB | seconds |");
    println!("|--:|--:|--:|");
    let peaks = ITEMS.map(|items| {
        let name = format!("changefold-memory-{}-{items}", std::process::id());
        let state = std::env::temp_dir().join(name);
        fs::create_dir_all(&state).unwrap();
        write_table(&state.join("tables.sqlite"), items);
        fs::write(state.join("view.sql"), VIEW).unwrap();
        let limit = u32::MAX.to_string();
        let began = Instant::now();
        let mut process = Command::new(env!("CARGO_BIN_EXE_changefold"))
            .args(["view", "backfill", "--yes", "--without-stream", "--format", "json"])
            .args(["--table", "orders", "--state"])
            .arg(&state)
            .arg("--views")
            .arg(state.join("view.sql"))
            .args(["--read-units-per-s", &limit, "--write-units-per-s", &limit])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let peak = peak_of(&mut process);
        let took = began.elapsed().as_secs_f64();
        let output = process.wait_with_output().unwrap();
        let told: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert!(output.status.success(), "{told}");
        assert_eq!(told["runs"][0]["counts"]["added"], items, "{told}");
        fs::remove_dir_all(&state).unwrap();
        println!("| {items} | {:.1} | {took:.0} |", f64::from(peak) * 1_024.0 / 1e6);
        f64::from(peak)
    });
    assert!(peaks[1] <= GROWTH_MAX * peaks[0], "{peaks:?}");
}
