//! The command line from outside: what it refuses, and the shape of what it prints.

use serde_json::Value;
use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
};

const TEMPLATE: &str = "
Resources:
  Views:
    Type: AWS::Serverless::Function
    Properties:
      Timeout: 60
      Events:
        Orders:
          Type: DynamoDB
          Properties:
            Stream: !GetAtt Table.StreamArn
            StartingPosition: TRIM_HORIZON
            BatchSize: 2
            MaximumRetryAttempts: 5
            BisectBatchOnFunctionError: true
            FunctionResponseTypes: [ReportBatchItemFailures]
";

const VIEW: &str = "CREATE MATERIALIZED VIEW totals AS
    SELECT status, count(*) AS n, sum(amount) AS total FROM orders GROUP BY status;";

/// A directory of its own for each test, gone with it.
struct Desk(PathBuf);

impl Desk {
    fn new(name: &str) -> Self {
        let path =
            std::env::temp_dir().join(format!("changefold-cli-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        let desk = Self(path);
        desk.write("template.yaml", TEMPLATE);
        desk.write("view.sql", VIEW);
        desk
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        std::fs::write(self.0.join(name), text).unwrap();
    }

    fn run(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_changefold"))
            .current_dir(&self.0)
            .args(arguments)
            .output()
            .unwrap()
    }

    /// `replay` with this desk's template and view.
    fn replay(&self, arguments: &[&str]) -> Output {
        let fixed = ["replay", "--template", "template.yaml", "--views", "view.sql"];
        self.run(&[&fixed, arguments].concat())
    }

    /// The JSON document of a replay that ends with `code`.
    #[track_caller]
    fn document(&self, arguments: &[&str], code: i32) -> Value {
        let output = self.replay(&[&["--format", "json"], arguments].concat());
        let talk = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{talk}");
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

fn record(number: &str, key: &str, amount: &str) -> String {
    format!(
        r#"{{"eventID":"e{number}","eventName":"INSERT","eventSource":"aws:dynamodb","dynamodb":{{"ApproximateCreationDateTime":1700000000,"Keys":{{"id":{{"S":"{key}"}}}},"NewImage":{{"id":{{"S":"{key}"}},"status":{{"S":"PAID"}},"amount":{amount}}},"SequenceNumber":"{number}","StreamViewType":"NEW_AND_OLD_IMAGES"}},"eventSourceARN":"arn:aws:dynamodb:eu-west-1:123456789012:table/orders/stream/2026-01-01T00:00:00.000"}}"#
    )
}

fn records(count: u32) -> String {
    let line = |at: u32| record(&(100 + at).to_string(), &format!("o{}", at % 7), r#"{"N":"1.5"}"#);
    (0..count).map(|at| line(at) + "\n").collect()
}

/// The command fails with exit code 2, says `expected`, and prints no data.
#[track_caller]
fn check_refused(output: &Output, expected: &str) {
    let talk = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{talk}");
    assert!(talk.contains(expected), "expected {expected:?} in:\n{talk}");
    assert!(output.stdout.is_empty(), "data of a failed command");
}

#[test]
fn bad_fixtures_are_refused_with_file_and_line() {
    let desk = Desk::new("fixtures");
    let good = record("5", "a", r#"{"N":"1"}"#);
    let kinesis = r#"{"eventID":"shardId-1:9","eventSource":"aws:kinesis","eventSourceARN":"arn:aws:kinesis:eu-west-1:1:stream/clicks","kinesis":{"partitionKey":"p","sequenceNumber":"9","data":"e30="}}"#;
    let other_stream = record("6", "a", r#"{"N":"1"}"#).replace("table/orders", "table/others");
    let no_number = good.replace(r#""SequenceNumber":"5","#, "");
    for (name, text, expected) in [
        ("broken.jsonl", format!("{good}\n{{\"a\":\n"), "broken.jsonl:2: broken JSON at column"),
        ("list.jsonl", format!("\n{good}\n[]\n"), "list.jsonl:3: not a record"),
        ("empty-number.jsonl", good.replace(r#":"5""#, r#":"""#), "sequence number is empty"),
        ("no-number.jsonl", no_number.clone(), "no-number.jsonl:1: the record has no sequence"),
        (
            "event.json",
            format!("{{\"Records\":[\n{good},\n{no_number}]}}"),
            "event.json:3: the rec",
        ),
        ("no-event.json", good.clone(), "no list `Records`"),
        ("broken.json", "{\"Records\":[".to_owned(), "broken.json: broken JSON"),
        ("same.jsonl", format!("{good}\n{good}\n"), "same.jsonl:2: sequence number 5 of shard"),
        ("back.jsonl", format!("{good}\n{}", record("4", "a", "1")), "does not come after 5"),
        ("mixed.jsonl", format!("{good}\n{kinesis}\n"), "a record of Kinesis after records of Dyn"),
        ("streams.jsonl", format!("{good}\n{other_stream}\n"), "table/others/stream"),
        ("none.jsonl", "\n\n".to_owned(), "there is no record in it"),
        ("orders.csv", good.clone(), "a fixture ends in `.json`"),
        ("not-gzip.jsonl.gz", good.clone(), "not-gzip.jsonl.gz"),
    ] {
        desk.write(name, text);
        check_refused(&desk.replay(&[name]), expected);
    }
    check_refused(&desk.replay(&["missing.jsonl"]), "missing.jsonl");
}

#[test]
fn bad_settings_are_refused_by_name() {
    let desk = Desk::new("settings");
    desk.write("orders.jsonl", records(3));
    desk.write("empty.yaml", "Resources: {}\n");
    desk.write("other.sql", VIEW.replace("FROM orders", "FROM others"));
    desk.write("broken.sql", "CREATE TABLE t (a int)");
    let fixture = "orders.jsonl";
    for (arguments, expected) in [
        (&["--set", "BatchSise=3"][..], "BatchSise"),
        (&["--set", "BatchSize=0"], "BatchSize"),
        (&["--set", "BatchSize"], "Name=Value"),
        (&["--set", "TumblingWindowInSeconds=30"], "TumblingWindowInSeconds"),
        (&["--event-source", "Nobody"], "Nobody"),
        (&["--format", "xml"], "xml"),
        (&["--faults", "many"], "many"),
        (&["--views", "missing.sql"], "missing.sql"),
        (&["--views", "broken.sql"], "broken.sql: line 1"),
        (&["--endpoint-url", "ftp://localhost"], "AWS_ENDPOINT_URL_DYNAMODB"),
    ] {
        check_refused(&desk.replay(&[arguments, &[fixture]].concat()), expected);
    }
    let replay =
        |template, views| desk.run(&["replay", fixture, "--template", template, "--views", views]);
    check_refused(&replay("missing.yaml", "view.sql"), "missing.yaml");
    check_refused(&replay("empty.yaml", "view.sql"), "no DynamoDB event source");
    check_refused(&replay("template.yaml", "other.sql"), "no view reads FROM orders");
    check_refused(&desk.run(&["replay", fixture, "--template", "template.yaml"]), "hint:");
    check_refused(&desk.run(&["replay"]), "FIXTURE");
    check_refused(&desk.run(&["simulate", "missing.jsonl"]), "missing.jsonl");
}

#[test]
fn a_replay_without_a_template_takes_awss_defaults_and_says_so() {
    let desk = Desk::new("no-template");
    desk.write("orders.jsonl", records(101));
    let replay = |arguments: &[&str]| {
        let fixed = ["replay", "orders.jsonl", "--views", "view.sql", "--format", "json"];
        desk.run(&[&fixed, arguments].concat())
    };
    let output = replay(&[]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.contains("no infra/template.yaml here: the mapping has AWS's defaults"), "{said}");
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    // 100 and 1: AWS's BatchSize.
    assert_eq!((&document["records"], &document["invocations"]), (&101.into(), &2.into()));
    let output = replay(&["--set", "BatchSize=101"]);
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(document["invocations"], 1);
    check_refused(&replay(&["--event-source", "Orders"]), "hint: name the one that has it with");

    // One that is named has to be there, and the usual one is taken where it is.
    check_refused(&replay(&["--template", "missing.yaml"]), "hint: name another, or leave");
    std::fs::create_dir(desk.0.join("infra")).unwrap();
    desk.write("infra/template.yaml", TEMPLATE);
    let output = replay(&[]);
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(document["invocations"], 51);
    desk.write("infra/template.yaml", "a: [");
    check_refused(&replay(&[]), "is not YAML");
}

#[test]
fn a_byte_order_mark_is_no_part_of_a_file() {
    const MARK: &str = "\u{feff}";
    let desk = Desk::new("mark");
    let lines = records(3);
    desk.write("plain.jsonl", &lines);
    let expected = desk.document(&["plain.jsonl"], 0)["views"].clone();
    desk.write("template.yaml", format!("{MARK}{}", TEMPLATE.trim_start()));
    desk.write("view.sql", format!("{MARK}{VIEW}"));
    desk.write("lines.jsonl", format!("{MARK}{lines}"));
    let joined = lines.trim_end().replace('\n', ",\n");
    desk.write("event.json", format!("{MARK}{{\"Records\": [\n{joined}\n]}}\n"));
    for fixture in ["lines.jsonl", "event.json"] {
        assert_eq!(desk.document(&[fixture], 0)["views"], expected, "{fixture}");
    }
    desk.write(
        "cases.jsonl",
        format!("{MARK}{{\"id\":1,\"records\":1,\"mapping\":{{}},\"function\":{{}}}}"),
    );
    let output = desk.run(&["simulate", "cases.jsonl"]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));

    // What PowerShell's `>` writes.
    let utf_16 = |text: &str| -> Vec<u8> {
        MARK.encode_utf16().chain(text.encode_utf16()).flat_map(u16::to_le_bytes).collect()
    };
    for (name, text) in [("wide.jsonl", &*lines), ("view.sql", VIEW), ("template.yaml", TEMPLATE)] {
        desk.write(name, utf_16(text));
        let expected = format!("{name}: cannot be read: it is UTF-16; save it as UTF-8");
        let fixture = if name == "wide.jsonl" { name } else { "plain.jsonl" };
        check_refused(&desk.replay(&[fixture]), &expected);
        desk.write("view.sql", VIEW);
    }
}

#[test]
fn a_file_that_is_not_there_is_named_with_a_remedy() {
    let desk = Desk::new("not-there");
    desk.write("orders.jsonl", records(1));
    let place = format!("is looked for in {}", desk.0.canonicalize().unwrap().display());
    let check = |arguments: &[&str], name: &str, remedy: &str| {
        let output = desk.run(arguments);
        check_refused(&output, name);
        check_refused(&output, "No such file or directory");
        check_refused(&output, &format!("\nhint: {remedy}"));
    };
    let here = &*format!("is it spelt so? a path that does not begin with `/` {place}");
    check(&["replay", "missing.jsonl"], "missing.jsonl: cannot be read: ", here);
    check(&["simulate", "missing.jsonl"], "missing.jsonl: cannot be read: ", here);
    let views = ["replay", "orders.jsonl", "--views", "missing.sql"];
    check(&views, "missing.sql: cannot be read: ", here);
    let template = ["replay", "orders.jsonl", "--views", "view.sql", "--template", "missing.yaml"];
    check(&template, "template missing.yaml: cannot be read: ", "name another, or leave");
    let exec = ["replay", "orders.jsonl", "--exec", "./missing"];
    check(&exec, "./missing cannot be started: ", here);
}

#[test]
fn the_document_has_exactly_the_members_of_the_contract() {
    let desk = Desk::new("document");
    let poison = record("200", "bad", r#"{"S":"much"}"#);
    desk.write("orders.jsonl", records(5) + &poison + "\n");
    let document = desk.document(&["orders.jsonl"], 0);
    let members: Vec<&String> = document.as_object().unwrap().keys().collect();
    let expected = [
        "bisects",
        "failed_invocations",
        "faults",
        "invocations",
        "iterator_age_max_ms",
        "lost",
        "on_failure",
        "quarantined",
        "records",
        "seed",
        "store",
        "views",
    ];
    assert_eq!(members, expected);
    assert_eq!(document["records"], 6);
    assert_eq!(document["invocations"], 3);
    assert_eq!(document["seed"], Value::Null);
    let rows = serde_json::json!([{ "status": "PAID", "n": 5, "total": 7.5 }]);
    assert_eq!(document["views"]["totals"], rows);
    assert_eq!(document["quarantined"]["count"], 1);
    assert_eq!(document["quarantined"]["first"][0]["sequence_number"], "200");
    assert_eq!(document["faults"].as_object().unwrap().len(), 10);
}

#[test]
fn faults_change_nothing_at_rest_and_a_seed_repeats_byte_for_byte() {
    let desk = Desk::new("faults");
    desk.write("orders.jsonl", records(60));
    let calm = desk.document(&["orders.jsonl"], 0);
    for seed in ["1", "2", "3"] {
        let arguments = ["--format", "json", "--faults", seed, "orders.jsonl"];
        let first = desk.replay(&arguments);
        assert_eq!(first.status.code(), Some(0), "{}", String::from_utf8_lossy(&first.stderr));
        assert_eq!(first.stdout, desk.replay(&arguments).stdout);
        let stormy: Value = serde_json::from_slice(&first.stdout).unwrap();
        assert_eq!(stormy["views"], calm["views"]);
        assert!(stormy["invocations"].as_u64() > calm["invocations"].as_u64());
    }
}

#[test]
fn kept_state_delivers_nothing_twice_unless_told_to() {
    let desk = Desk::new("state");
    desk.write("orders.jsonl", records(6));
    let first = desk.document(&["--state", "kept", "orders.jsonl"], 0);
    let again = desk.document(&["--state", "kept", "orders.jsonl"], 0);
    assert_eq!((&first["records"], &again["records"]), (&6.into(), &0.into()));
    assert_eq!(first["views"], again["views"]);
    let redelivered = desk.document(&["--state", "kept", "--from-start", "orders.jsonl"], 0);
    assert_eq!(redelivered["records"], 6);
    assert_eq!(first["views"], redelivered["views"]);
    desk.write("orders.jsonl", records(8));
    let more = desk.document(&["--state", "kept", "orders.jsonl"], 0);
    assert_eq!(more["records"], 2);
    assert!(Path::new(&desk.0).join("kept/tables.sqlite").exists());
    desk.write("kept/checkpoint.json", "{");
    check_refused(&desk.replay(&["--state", "kept", "orders.jsonl"]), "not a checkpoint file");
}

#[test]
fn a_lambda_event_and_its_lines_give_the_same_views() {
    let desk = Desk::new("shapes");
    let lines = records(9);
    let joined = lines.trim_end().replace('\n', ",\n");
    desk.write("event.json", format!("{{\"Records\": [\n{joined}\n]}}\n"));
    let sharded: Vec<String> = lines
        .lines()
        .enumerate()
        .map(|(at, line)| format!("{{\"shardId\":\"s{}\",{}\n", at % 3, &line[1..]))
        .collect();
    desk.write("sharded.jsonl", sharded.concat());
    desk.write("lines.jsonl", &lines);
    let expected = desk.document(&["lines.jsonl"], 0)["views"].clone();
    for fixture in ["event.json", "sharded.jsonl"] {
        assert_eq!(desk.document(&[fixture], 0)["views"], expected, "{fixture}");
    }
}

#[test]
fn a_mapping_begins_at_its_moment() {
    let clicks = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/clicks.jsonl");
    let lines = std::fs::read_to_string(&clicks).unwrap();
    let moment = 1_772_443_800.5;
    let arrivals = lines.lines().map(|line| {
        let line: Value = serde_json::from_str(line).unwrap();
        line["kinesis"]["approximateArrivalTimestamp"].as_f64().unwrap()
    });
    let before = arrivals.filter(|arrival| *arrival < moment).count();
    assert!((20..80).contains(&before), "{before}");
    let replay = |settings: &[&str]| {
        let root = env!("CARGO_MANIFEST_DIR");
        let fixed = ["replay", clicks.to_str().unwrap(), "--views", "views/clicks.sql"];
        let settings = settings.iter().flat_map(|setting| ["--set", setting]);
        let output = Command::new(env!("CARGO_BIN_EXE_changefold"))
            .current_dir(root)
            .args(fixed)
            .args(["--format", "json"])
            .args(settings)
            .output()
            .unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        (serde_json::from_slice::<Value>(&output.stdout).unwrap_or_default(), said)
    };
    let at = "StartingPosition=AT_TIMESTAMP";
    let (document, said) = replay(&[at, &format!("StartingPositionTimestamp={moment}")]);
    assert_eq!(document["passed"], before, "{said}");
    let counted: u64 = document["views"]["pages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["clicks"].as_u64().unwrap())
        .sum();
    let poison = document["quarantined"]["count"].as_u64().unwrap();
    assert_eq!(counted + poison, 100 - before as u64, "{document}");
    let (_, said) = replay(&[at]);
    assert!(said.contains("`StartingPositionTimestamp` is missing"), "{said}");
    let (_, said) = replay(&["TumblingWindowInSeconds=60"]);
    assert!(said.contains("neither views nor a processor take windows"), "{said}");
    let (document, said) = replay(&["StartingPosition=LATEST"]);
    assert!(document["passed"].is_null() && said.contains("played from its first"), "{said}");
}

#[test]
fn a_check_is_one_document_and_its_exit_status_says_whether_a_function_would_start() {
    let desk = Desk::new("check");
    let checked = |arguments: &[&str], code: i32| {
        let output = desk.run(&[&["view", "check", "--format", "json"], arguments].concat());
        let talk = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{talk}");
        serde_json::from_slice::<Value>(&output.stdout).unwrap()
    };
    let document = checked(&["view.sql", "--explain"], 0);
    assert_eq!((&document["views"], &document["errors"]), (&1.into(), &0.into()));
    assert_eq!(document["explained"][0]["actions_per_change"], serde_json::json!([1, 3]));
    desk.write("bad.sql", "CREATE MATERIALIZED VIEW v AS\nSELECT a / 2 AS h FRM t");
    let document = checked(&["view.sql", "bad.sql"], 1);
    assert_eq!((&document["views"], &document["errors"]), (&1.into(), &2.into()));
    let expected = serde_json::json!({
        "level": "error", "file": "bad.sql", "line": 2, "column": 10, "end_line": 2,
        "end_column": 11, "message": "`/` is not supported",
        "help": "engines disagree about it; keep sum and count (or avg) and divide where you read",
    });
    assert_eq!(document["diagnostics"][0], expected);
    assert_eq!(document["diagnostics"][1]["help"], "did you mean FROM?");
    // A warning without a place, and a path that is not there.
    let filtered = TEMPLATE.replace(
        "BatchSize: 2",
        "BatchSize: 2\n            FilterCriteria: {Filters: [{Pattern: '{\"eventName\":[\"INSERT\"]}'}]}",
    );
    desk.write("filtered.yaml", filtered);
    let document = checked(&["view.sql", "--template", "filtered.yaml"], 0);
    let warning = &document["diagnostics"][0];
    assert_eq!((&warning["level"], &warning["file"]), (&"warning".into(), &"filtered.yaml".into()));
    assert!(warning.get("line").is_none(), "{warning}");
    let output = desk.run(&["view", "check", "none.sql"]);
    assert_eq!(output.status.code(), Some(2));
}
