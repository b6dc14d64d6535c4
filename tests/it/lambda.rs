//! Lambda's loop against a Runtime API of our own: what goes over the wire, what is logged,
//! what is measured.
//!
//! The function runs in a process of its own, because the loop reads the environment and
//! never ends: this test binary once more, told by a variable to be the function.

use crate::support::{block_on, environment, order};
use changefold::{
    batch::lanes::Lanes,
    clock::SystemClock,
    config::Config,
    handler::Function,
    lambda,
    processor::{self, Failure},
    record::Change,
    telemetry,
};
use serde_json::{Value, json};
use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    process::Command,
    sync::Arc,
};

const ROLE: &str = "CHANGEFOLD_TEST_IS_THE_FUNCTION";

/// What the Runtime API was told: path, error type header, body.
type Told = (String, Option<String>, Value);

/// Answers `/next` with each event once, then hangs up. Gives back what was posted.
fn runtime_api(listener: &TcpListener, events: &[(u64, String)]) -> Vec<Told> {
    let mut events = events.iter().enumerate();
    let mut told = Vec::new();
    loop {
        let (stream, _) = listener.accept().unwrap();
        let (path, error_type, body) = request(&stream);
        let answer = if path.ends_with("/invocation/next") {
            let Some((number, (deadline, event))) = events.next() else { return told };
            format!(
                "HTTP/1.1 200 OK\r\nLambda-Runtime-Aws-Request-Id: request-{number}\r\n\
                 Lambda-Runtime-Deadline-Ms: {deadline}\r\n\
                 Lambda-Runtime-Invoked-Function-Arn: arn:aws:lambda:eu-west-1:1:function:f\r\n\
                 Connection: close\r\nContent-Length: {}\r\n\r\n{event}",
                event.len()
            )
        } else {
            let path = path.trim_start_matches("/2018-06-01/runtime/").to_owned();
            let is_last = path == "init/error";
            told.push((path, error_type, serde_json::from_str(&body).unwrap()));
            let accepted =
                "HTTP/1.1 202 Accepted\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
            if is_last {
                (&stream).write_all(accepted.as_bytes()).unwrap();
                return told;
            }
            accepted.to_owned()
        };
        (&stream).write_all(answer.as_bytes()).unwrap();
    }
}

fn request(stream: &TcpStream) -> (String, Option<String>, String) {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    let path = line.split(' ').nth(1).unwrap().to_owned();
    let (mut length, mut error_type) = (0, None);
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).unwrap();
        let Some((name, value)) = header.trim_end().split_once(": ") else { break };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.parse().unwrap(),
            "lambda-runtime-function-error-type" => error_type = Some(value.to_owned()),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    (path, error_type, String::from_utf8(body).unwrap())
}

/// Runs a program as Lambda would over these events: what it told, and the JSON lines it
/// wrote.
fn run(program: &mut Command, events: &[(u64, String)]) -> (Vec<Told>, Vec<Value>, bool) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let child = program
        .env("AWS_LAMBDA_RUNTIME_API", listener.local_addr().unwrap().to_string())
        .env("AWS_LAMBDA_FUNCTION_NAME", "orders")
        .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128")
        .env("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST")
        .env("RUST_LOG", "info")
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let told = runtime_api(&listener, events);
    drop(listener);
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(crate::secrets::found(&text), None, "{text}");
    let lines = text.lines().filter(|line| line.starts_with('{'));
    let lines = lines.map(|line| serde_json::from_str(line).unwrap()).collect();
    (told, lines, output.status.success())
}

#[derive(serde::Deserialize)]
struct Order {
    status: String,
}

/// Not a test of its own: the function's process, started by the test below.
#[test]
fn the_function() {
    if environment(ROLE).is_none() {
        return;
    }
    let processor = processor::from_fn(async |change: Change<Order>, _| {
        match change.new_image().map(|order| order.status.as_str()) {
            Some("broken") => Err(Failure::park("a broken order")),
            Some("explosive") => panic!("a secret of the customer"),
            Some("fatal") => Err(Failure::halt("the warehouse is gone")),
            _ => Ok(()),
        }
    });
    // The switch of this test is no setting.
    let pairs = ["AWS_LAMBDA_FUNCTION_NAME", "RUST_LOG"]
        .map(|name| (name.to_owned(), environment(name).unwrap()));
    let config = Config::from_env(pairs).unwrap();
    let telemetry = telemetry::init(&config.log, &config.function_name).unwrap();
    let clock = Arc::new(SystemClock);
    let function = Function::new(Lanes::new(processor, clock.clone()), clock);
    assert!(block_on(lambda::serve(&function, &telemetry, 60_000)).is_err(), "the API hangs up");
}

fn batch(statuses: &[&str]) -> String {
    let records: Vec<String> = (1..)
        .zip(statuses)
        .map(|(number, status)| {
            order(number, "INSERT", &format!("order-{number}"), Some(("eu", "1", status)))
        })
        .collect();
    format!(r#"{{"Records":[{}]}}"#, records.join(","))
}

#[test]
fn a_function_answers_logs_and_measures() {
    let far = 4_000_000_000_000;
    let events = [
        (far, batch(&["new", "new"])),
        (far, batch(&["new", "broken", "explosive"])),
        (600_000, batch(&["explosive"])),
        (far, batch(&["fatal"])),
        (far, "[]".to_owned()),
    ];
    let mut program = Command::new(std::env::current_exe().unwrap());
    program.args(["lambda::the_function", "--exact"]).env(ROLE, "yes");
    let (told, lines, _) = run(&mut program, &events);

    let failed = |number: &str| json!({"batchItemFailures": [{"itemIdentifier": number}]});
    let error = |code: &str, message: &str| json!({"errorType": code, "errorMessage": message});
    let expected = [
        ("response", json!({"batchItemFailures": []})),
        ("response", failed("2")),
        ("response", failed("1")),
        (
            "error",
            error("ProcessorHalt", "the processor halted at record 1: the warehouse is gone"),
        ),
        (
            "error",
            error(
                "EventWithoutRecords",
                "the event cannot be read: the payload has no `Records` array: \
                 it is not an event of a stream or a queue",
            ),
        ),
    ];
    for (number, (told, (end, body))) in told.iter().zip(&expected).enumerate() {
        assert_eq!(told.0, format!("invocation/request-{number}/{end}"));
        assert_eq!(&told.2, body);
    }
    assert_eq!(told.len(), expected.len());

    check_metrics(&lines);
    check_log(&lines);
}

/// One line per invocation, all of one shape.
fn check_metrics(lines: &[Value]) {
    let names = [
        "RecordsReceived",
        "RecordsApplied",
        "RecordsAlreadyApplied",
        "RecordsFailed",
        "RecordsNotAttempted",
        "StoreCalls",
        "InvocationErrors",
    ];
    let (by_code, metrics): (Vec<&Value>, Vec<&Value>) = lines
        .iter()
        .filter(|line| !line["_aws"].is_null())
        .partition(|line| !line["Code"].is_null());
    let failures = |code: &str| -> u64 {
        let of_code = by_code.iter().filter(|line| line["Code"] == code);
        of_code.map(|line| line["Failures"].as_u64().unwrap()).sum()
    };
    // What panics is tried three times in place.
    assert_eq!((failures("ProcessorPark"), failures("Panicked")), (1, 3));
    let counts: Vec<Vec<u64>> = metrics
        .iter()
        .map(|line| names.map(|name| line[name].as_u64().unwrap()).to_vec())
        .collect();
    let expected: [[u64; 7]; 5] = [
        [2, 2, 0, 0, 0, 0, 0],
        [3, 1, 0, 1, 1, 0, 0],
        [1, 0, 0, 1, 0, 0, 0],
        [1, 0, 0, 0, 1, 0, 1],
        [0, 0, 0, 0, 0, 0, 1],
    ];
    assert_eq!(counts, expected);
    let first = metrics[0];
    assert_eq!(first["RequestId"], "request-0");
    assert_eq!(first["FunctionName"], "orders");
    assert_eq!(first["_aws"]["CloudWatchMetrics"][0]["Namespace"], "changefold");
    assert_eq!(first["_aws"]["CloudWatchMetrics"][0]["Dimensions"], json!([["FunctionName"]]));
    assert!(first["IteratorAge"][0].is_number(), "{first}");
    assert!(metrics[4]["IteratorAge"].is_null(), "no record, no age");
}

fn check_log(lines: &[Value]) {
    let events: Vec<(&str, &str)> = lines
        .iter()
        .filter(|line| line["_aws"].is_null())
        .map(|line| (line["message"].as_str().unwrap(), line["code"].as_str().unwrap_or_default()))
        .collect();
    assert_eq!(
        events,
        [
            ("RecordProcessError", "ProcessorPark"),
            ("DeadlineReadError", ""),
            ("CodePanicError", ""),
            ("CodePanicError", ""),
            ("CodePanicError", ""),
            ("RecordProcessError", "Panicked"),
            ("InvocationFinishError", "ProcessorHalt"),
            ("InvocationFinishError", "EventWithoutRecords"),
        ]
    );
    let all = format!("{lines:?}");
    assert!(all.contains("a broken order"), "the control");
    assert!(!all.contains("a secret"), "a panic's message was logged");
}

#[test]
fn a_function_with_wrong_settings_refuses_to_start() {
    let mut program = Command::new(env!("CARGO_BIN_EXE_bootstrap"));
    program
        .env_remove("CHANGEFOLD_VIEW_TABLE_PREFIX")
        .env("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
        .env("CHANGEFOLD_LEDGER_TABLE", "le dger")
        .env("CHANGEFOLD_VIEW", "views");
    let (told, lines, success) = run(&mut program, &[]);
    assert!(!success);
    let [(path, error_type, body)] = told.as_slice() else { panic!("{told:?}") };
    assert_eq!((&**path, error_type.as_deref()), ("init/error", Some("SettingsInvalid")));
    assert_eq!(body["errorType"], "SettingsInvalid");
    let message = body["errorMessage"].as_str().unwrap();
    for fault in [
        "CHANGEFOLD_VIEW is not a setting: did you mean CHANGEFOLD_VIEWS?",
        "CHANGEFOLD_LEDGER_TABLE is not valid",
        "CHANGEFOLD_VIEW_TABLE_PREFIX is not set",
    ] {
        assert!(message.contains(fault), "{message}");
    }
    assert_eq!(lines.last().unwrap()["message"], "FunctionStartError");
}
