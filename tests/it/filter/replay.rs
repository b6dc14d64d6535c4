//! The verb `filter`, and replays through a mapping with filters.

use super::root;
use serde_json::{Value, json};
use std::{
    path::PathBuf,
    process::{Command, Output},
};

fn changefold(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_changefold"));
    command.args(arguments).current_dir(root()).output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// A directory of its own for each test.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let name = format!("changefold-filter-{}-{name}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str, text: &str) -> String {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

#[track_caller]
fn check(arguments: &[&str], status: i32, stdout: &str, stderr: &str) {
    let output = changefold(arguments);
    assert_eq!(text(&output.stdout), stdout, "{arguments:?}");
    assert!(text(&output.stderr).contains(stderr), "{}", text(&output.stderr));
    assert_eq!(output.status.code(), Some(status), "{arguments:?}");
}

#[test]
fn one_verdict_is_printed_and_is_the_exit_status() {
    let directory = Directory::new("verdict");
    let pattern = directory.file("pattern.json", "\u{feff}{\"a\":[\"x\"],\"a\":[\"x\",\"y\"]}\n");
    let pattern = format!("@{pattern}");
    let event = format!("@{}", directory.file("event.json", "{\"a\":\"x\"}"));
    check(&["filter", "--pattern", &pattern, "--event", &event], 0, "match\n", "");
    let other = r#"{"a":"y"}"#;
    check(&["filter", "--pattern", &pattern, "--event", other], 1, "no-match\n", "");
    let rejected = "rejected: `a` is \"x\"; allowed: a list of values, or an object\n";
    check(&["filter", "--pattern", r#"{"a":"x"}"#, "--event", other], 2, rejected, "");
    let broken = "error: the event is broken JSON at byte 1: the end, expected a value";
    check(&["filter", "--pattern", &pattern, "--event", ""], 2, "", broken);
    let missing = "@/nowhere/pattern.json";
    check(
        &["filter", "--pattern", missing, "--event", "{}"],
        2,
        "",
        "pattern.json: cannot be read",
    );
    check(&["filter", "--pattern", &pattern], 2, "", "--event");
    check(&["filter"], 2, "", "--pattern");
}

#[test]
fn a_file_of_cases_makes_a_table_and_names_differences_by_line() {
    let directory = Directory::new("cases");
    let good = r#"{"name":"good","expect":"match","pattern":{"a":["x"]},"event":{"a":"x"}}"#;
    let bad = good.replace("good", "bad").replace("\"match", "\"rejected");
    let file = directory.file("cases.jsonl", &format!("{good}\n{bad}\n"));
    let output = changefold(&["filter", "--cases", &file]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(text(&output.stderr), "line 2: bad: expected rejected, got match\n");
    assert!(text(&output.stdout).ends_with("\n2 cases, 1 different\n"));
    let file = directory.file("broken.jsonl", &format!("{good}\n{{\"name\":1}}\n"));
    check(&["filter", "--cases", &file], 2, "", "error: line 2, column 10: missing field `expect`");
    let vectors = changefold(&["filter", "--cases", "fixtures/filter-patterns.jsonl"]);
    assert_eq!(vectors.status.code(), Some(0));
}

const VIEW: &str = "CREATE MATERIALIZED VIEW totals AS
SELECT count(*) AS items, sum(amount) AS total FROM orders;";

/// Change `number` of an item, with the amount it has from then on.
fn change(number: u32, key: &str, amount: u32) -> String {
    let amount = amount.to_string();
    let record = json!({
        "eventName": if number < 3 { "INSERT" } else { "MODIFY" },
        "eventSource": "aws:dynamodb",
        "eventSourceARN": "arn:aws:dynamodb:eu-west-1:1:table/orders/stream/2026-01-01",
        "dynamodb": {
            "SequenceNumber": number.to_string(),
            "Keys": {"id": {"S": key}},
            "NewImage": {"id": {"S": key}, "amount": {"N": amount}},
            "StreamViewType": "NEW_AND_OLD_IMAGES",
        },
    });
    record.to_string()
}

fn criteria(patterns: &[Value]) -> String {
    let filters: Vec<Value> =
        patterns.iter().map(|it| json!({ "Pattern": it.to_string() })).collect();
    format!("FilterCriteria={}", json!({ "Filters": filters }))
}

#[test]
fn filtered_records_are_counted_passed_and_not_delivered_and_views_are_warned_of() {
    let directory = Directory::new("replay");
    // The last change of `a` is one that the filter hides.
    let changes = [("a", 10), ("b", 20), ("b", 30), ("a", 5), ("b", 40)];
    let lines: Vec<String> =
        (1..).zip(changes).map(|(number, (key, amount))| change(number, key, amount)).collect();
    let fixture = directory.file("orders.jsonl", &lines.join("\n"));
    let view = directory.file("totals.sql", VIEW);
    let state = directory.0.join("state").to_str().unwrap().to_owned();
    let image =
        |amounts: Value| json!({ "dynamodb": { "NewImage": { "amount": { "N": amounts } } } });
    let filters = criteria(&[image(json!(["10", "30"])), image(json!([{ "prefix": "4" }]))]);
    let mut arguments = vec!["replay", fixture.as_str(), "--views", view.as_str()];
    arguments.extend(["--state", &state, "--set", "BatchSize=2", "--set", &filters]);
    arguments.extend(["--format", "json"]);
    let output = changefold(&arguments);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    // Two batches of what passes, not three of what there is.
    let counts = ["records", "filtered", "invocations"].map(|it| report[it].as_u64());
    assert_eq!(counts, [Some(5), Some(2), Some(2)]);
    assert_eq!(report["views"]["totals"], json!([{ "items": 2, "total": 50 }]));
    let warning = "warning: FilterCriteria hides records from the views: an item whose later \
                   changes match no filter stays in them as it was, and is never removed";
    assert!(text(&output.stderr).contains(warning), "{}", text(&output.stderr));

    // The checkpoint has passed what was filtered, also where nothing passes at all.
    let again: Value = serde_json::from_slice(&changefold(&arguments).stdout).unwrap();
    let counts = ["records", "filtered", "invocations"].map(|it| again[it].as_u64());
    assert_eq!(counts, [Some(0), Some(0), Some(0)]);
    let nothing = criteria(&[json!({ "eventName": ["REMOVE"] })]);
    arguments.extend(["--from-start", "--set", &nothing]);
    let none: Value = serde_json::from_slice(&changefold(&arguments).stdout).unwrap();
    let counts = ["records", "filtered", "invocations"].map(|it| none[it].as_u64());
    assert_eq!(counts, [Some(5), Some(5), Some(0)]);
    let table = changefold(&arguments[..arguments.len() - 5]);
    let printed = text(&table.stdout);
    assert!(printed.contains("0 records, 0 filtered out, in 0 invocations"), "{printed}");
}

#[test]
fn without_filters_a_report_is_as_it_was() {
    let arguments = ["replay", "fixtures/orders.jsonl", "--views", "views/orders.sql"];
    let output = changefold(&[&arguments[..], &["--format", "json"]].concat());
    assert!(output.status.success(), "{}", text(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(report["records"].as_u64() > Some(0) && report.get("filtered").is_none(), "{report}");
    assert!(!text(&output.stderr).contains("FilterCriteria"));
}
