//! The page of a run: what its data say is what the run did. `tests/page.sh` draws it.

use serde_json::Value;
use std::{path::PathBuf, process::Command};

/// Replays with a page, and reads both documents back.
fn replayed(fixture: &str, more: &[&str]) -> (Value, Value, String) {
    let name = format!("changefold-page-{}-{}.html", std::process::id(), fastrand::u64(..));
    let path: PathBuf = std::env::temp_dir().join(name);
    let output = Command::new(env!("CARGO_BIN_EXE_changefold"))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(["replay", fixture, "--format", "json", "--report"])
        .arg(&path)
        .args(more)
        .output()
        .unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(matches!(output.status.code(), Some(0 | 3)), "{told}");
    let page = std::fs::read_to_string(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    assert!(told.contains(&format!("the page is {}", path.display())), "{told}");
    let data = page.split_once(r#"type="application/json">"#).unwrap().1;
    let data = serde_json::from_str(data.split_once("</script>").unwrap().0).unwrap();
    (serde_json::from_slice(&output.stdout).unwrap(), data, page)
}

fn sum(list: &Value, of: impl Fn(&Value) -> u64) -> u64 {
    list.as_array().unwrap().iter().map(of).sum()
}

#[test]
fn every_record_is_finished_by_one_call_of_the_page_or_given_up() {
    for (fixture, views, seed) in [
        ("fixtures/clicks.jsonl", "views/clicks.sql", "7"),
        ("fixtures/orders.jsonl", "views/orders.sql", "3"),
        ("fixtures/flights-600.jsonl.gz", "views/flights.sql", "5"),
    ] {
        // Some faults outlast one retry, so that records are given up.
        let more = ["--views", views, "--faults", seed, "--set", "MaximumRetryAttempts=1"];
        let (document, data, _) = replayed(fixture, &more);
        let number = |value: &Value, name: &str| value[name].as_u64().unwrap();
        let finished = sum(&data["calls"], |call| number(call, "finished"));
        let given_up = sum(&data["discarded"], |one| number(one, "records"));
        assert_eq!(finished + given_up, number(&document, "records"), "{fixture}");
        assert_eq!(data["figures"]["calls"], document["invocations"]);
        let failed = sum(&data["calls"], |call| u64::from(call["outcome"] == "failed"));
        assert!(failed > 0, "{fixture}: no call has failed");
        for view in data["views"].as_array().unwrap() {
            let rows = &document["views"][view["name"].as_str().unwrap()];
            assert_eq!(view["rows"].as_array().unwrap().len(), rows.as_array().unwrap().len());
        }
    }
}

#[test]
fn a_page_asks_nobody_and_a_place_that_cannot_be_written_is_named() {
    let (_, _, page) = replayed("fixtures/orders.jsonl", &["--views", "views/orders.sql"]);
    for asking in ["http:", "https:", "//cdn", "@import", "fetch(", "innerHTML"] {
        assert!(!page.contains(asking), "{asking}");
    }
    let output = Command::new(env!("CARGO_BIN_EXE_changefold"))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(["replay", "fixtures/orders.jsonl", "--views", "views/orders.sql"])
        .args(["--report", "/nonexistent/page.html"])
        .output()
        .unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains("the page /nonexistent/page.html cannot be written"), "{told}");
}
