//! `view plan` against what a replay of the same fixture consumes on the embedded store, for every
//! view by itself and for all of a file together.

use crate::support;
use changefold::view::sql;
use serde_json::Value;
use std::{path::PathBuf, process::Command};

#[track_caller]
fn json(arguments: &[&str]) -> Value {
    let output = Command::new(env!("CARGO_BIN_EXE_changefold"))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(arguments)
        .args(["--format", "json"])
        .output()
        .unwrap();
    let talk = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {talk}");
    serde_json::from_slice(&output.stdout).unwrap()
}

struct Folder(PathBuf);

impl Folder {
    fn write(&self, name: &str, text: &str) -> String {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

/// What differs between the plan and what was used. That the source has come is written down once
/// in the life of a ledger and is no part of a load: a read, and a write of the registry's row,
/// which with the texts of ten views has more than the 4 KB of one read unit.
fn differing(views: &str, fixture: &str, set: &[&str]) -> String {
    let through = [&["--views", views][..], set].concat();
    let plan = json(&[&["view", "plan", "--fixture", fixture][..], &through].concat());
    let replay = json(&[&["replay", fixture][..], &through].concat());
    let of = |name: &str| {
        let (planned, used) = (plan[name].as_f64().unwrap(), &replay["store"][name]);
        (planned, used.as_f64().unwrap())
    };
    let (write, used_write) = of("write_units");
    let (read, used_read) = of("read_units");
    let (calls, used_calls) = of("calls");
    let is_right = (0.95 * used_write..=used_write).contains(&write)
        && (1.0..=2.0).contains(&(used_read - read))
        && (calls + 1.5..calls + 2.5).contains(&used_calls);
    if is_right {
        return String::new();
    }
    format!(
        "{fixture} {views} {set:?}: write {write} of {used_write}, read {read} of {used_read}, \
         calls {calls} of {used_calls}\n"
    )
}

#[test]
fn a_plan_is_within_five_percent_of_what_a_replay_consumes() {
    let folder =
        Folder(std::env::temp_dir().join(format!("changefold-plan-{}", std::process::id())));
    std::fs::create_dir_all(&folder.0).unwrap();
    let mut told = String::new();
    for (fixture, file) in [
        ("fixtures/orders.jsonl", "views/orders.sql"),
        ("fixtures/orders.jsonl", "fixtures/articles.sql"),
        ("fixtures/orders.jsonl", "fixtures/changed.sql"),
        ("fixtures/clicks.jsonl", "views/clicks.sql"),
        ("fixtures/flights-600.jsonl.gz", "views/flights.sql"),
        ("fixtures/flights-600.jsonl.gz", "fixtures/flights-values.sql"),
    ] {
        told += &differing(file, fixture, &[]);
        told += &differing(file, fixture, &["--set", "BatchSize=7"]);
        let text = std::fs::read_to_string(file).unwrap();
        for view in sql::parse(&text).unwrap() {
            let path = folder.write(&format!("{}.sql", view.name), &view.to_string());
            told += &differing(&path, fixture, &[]);
        }
    }
    assert!(told.is_empty(), "{told}");
}

/// One whose list has more elements than a transaction holds, as it comes, changes and goes.
#[test]
fn a_plan_knows_what_is_written_in_parts() {
    let folder =
        Folder(std::env::temp_dir().join(format!("changefold-parts-{}", std::process::id())));
    std::fs::create_dir_all(&folder.0).unwrap();
    let lines = |from: usize| {
        let line = |at: usize| format!(r#"{{"M":{{"s":{{"S":"s{at}"}},"q":{{"N":"{at}"}}}}}}"#);
        (from..from + 300).map(line).collect::<Vec<_>>().join(",")
    };
    let image = |from| format!(r#""amount":{{"L":[{}]}}"#, lines(from));
    let whole = |record: String, from| record.replace(r#""amount":{"N":"0"}"#, &image(from));
    let of = |number, key, from| {
        whole(support::order(number, "MODIFY", key, Some(("EU", "0", "OPEN"))), from)
    };
    let records = [
        of(100, "a", 0),
        of(101, "b", 200),
        of(102, "a", 150),
        support::order(103, "REMOVE", "b", None),
    ];
    let fixture = folder.write("parts.jsonl", &records.join("\n"));
    let views = folder.write(
        "parts.sql",
        "CREATE MATERIALIZED VIEW lines AS SELECT line.s, sum(line.q) AS q
         FROM orders o, unnest(o.amount) AS line GROUP BY line.s;
         CREATE MATERIALIZED VIEW least AS SELECT region, min(line.q) AS lo
         FROM orders o, unnest(o.amount) AS line GROUP BY region;",
    );
    let told =
        differing(&views, &fixture, &[]) + &differing(&views, &fixture, &["--set", "BatchSize=1"]);
    assert!(told.is_empty(), "{told}");
}
