//! The function in a process of its own: that it serves as in the desk's process, and what
//! the desk makes of every way in which a process can fail.
//!
//! The function is this test binary once more, told by a variable what to be; programs that
//! only fail are lines of `sh`.

use crate::support::{block_on, endpoint, environment, order};
use changefold::{
    batch::lanes::Lanes,
    call::Call,
    clock::{Clock, SystemClock},
    config::Config,
    handler::Function,
    lambda,
    local::{
        runtime_api::{Program, RuntimeApi},
        store_server::StoreServer,
        target::{FunctionError, Target},
    },
    processor,
    record::{Change, Timestamp},
    store::{Trouble, embedded::Embedded},
    telemetry,
};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    fs::{self, File},
    path::PathBuf,
    process::Command,
    sync::Arc,
    time::Duration,
};

/// Set to a directory, this test binary is the function, and notes there what it does.
const NOTES: &str = "DESK_TEST_NOTES";

const ARN: &str = "arn:aws:lambda:us-east-1:123456789012:function:Orders";

/// More than any test takes.
const LONG_MS: i64 = 60_000;

#[derive(serde::Deserialize)]
struct Order {
    status: String,
}

/// Not a test of its own: the function's process, started by the tests below.
#[test]
fn the_function() {
    let Some(notes) = environment(NOTES).map(PathBuf::from) else { return };
    let note = |name: &str| File::create_new(notes.join(name)).is_ok();
    note(&format!("process-{}", std::process::id()));
    let processor = processor::from_fn(async |change: Change<Order>, _| {
        match change.new_image().map(|order| order.status.as_str()) {
            Some("exits once") if note("exit") => std::process::exit(3),
            Some("aborts once") if note("abort") => std::process::abort(),
            Some("hangs") => {
                note("hang");
                // So that it does not even notice its deadline.
                loop {
                    std::thread::park();
                }
            }
            Some("meets") => {
                // Only two at the same time come past this.
                if !note("met") {
                    note("meet");
                }
                while !notes.join("meet").exists() {
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
                Ok(())
            }
            Some("fails") => Err(processor::Failure::halt("the warehouse is gone")),
            _ => Ok(()),
        }
    });
    let pairs = [("AWS_LAMBDA_FUNCTION_NAME", "orders"), ("RUST_LOG", "off")];
    let pairs = pairs.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let config = Config::from_env(pairs).unwrap();
    let telemetry = telemetry::init(&config.log, &config.function_name).unwrap();
    let clock = Arc::new(SystemClock);
    let function = Function::new(Lanes::new(processor, clock.clone()), clock);
    drop(block_on(lambda::serve(&function, &telemetry, 60_000)));
}

/// A directory of its own for each test, gone with it.
struct Notes(PathBuf);

impl Notes {
    fn new(name: &str) -> Self {
        let name = format!("changefold-runtime-api-{}-{name}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    async fn wait_for(&self, name: &str) {
        while !self.0.join(name).exists() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// How many processes the function has had.
    fn processes(&self) -> usize {
        let entries = fs::read_dir(&self.0).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.starts_with("process-")).count()
    }

    fn function(&self) -> RuntimeApi {
        let program = Program::new(std::env::current_exe().unwrap(), ARN)
            .with_argument("runtime_api::the_function")
            .with_argument("--exact")
            .with_variable(NOTES, &self.0);
        api(program)
    }
}

impl Drop for Notes {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}

fn api(program: Program) -> RuntimeApi {
    let silence = File::options().write(true).open("/dev/null").unwrap();
    RuntimeApi::new(program.with_output(silence), Arc::new(SystemClock))
}

fn shell(script: &str) -> RuntimeApi {
    api(Program::new("sh", ARN).with_argument("-c").with_argument(script))
}

async fn invoke(
    function: &RuntimeApi,
    status: &str,
    timeout_ms: i64,
) -> Result<String, FunctionError> {
    let record = order(1, "INSERT", "order-1", Some(("eu", "1", status)));
    let payload = format!(r#"{{"Records":[{record}]}}"#);
    let deadline = Timestamp(SystemClock.now().0 + timeout_ms);
    let call = Call::new("batch-1", deadline);
    let reply = function.invoke(payload.into(), call).await?;
    Ok(String::from_utf8(reply.to_vec()).unwrap())
}

#[track_caller]
fn check_error(outcome: Result<String, FunctionError>, expected: &str) {
    let error = outcome.expect_err("a function error was expected");
    assert!(error.message.contains(expected), "{} is not {expected}", error.message);
}

async fn check_serves(function: &RuntimeApi) {
    let reply = invoke(function, "new", LONG_MS).await;
    assert_eq!(reply.unwrap(), r#"{"batchItemFailures":[]}"#);
}

#[test]
fn an_idle_environment_is_used_again() {
    let notes = Notes::new("again");
    block_on(async {
        let function = notes.function();
        assert!(function.process_ids().is_empty());
        function.warm_up(Timestamp(SystemClock.now().0 + LONG_MS)).await.unwrap();
        check_serves(&function).await;
        let error = "ProcessorHalt: the processor halted at record 1: the warehouse is gone";
        check_error(invoke(&function, "fails", LONG_MS).await, error);
        check_serves(&function).await;
        assert_eq!((function.process_ids().len(), notes.processes()), (1, 1));
    });
}

#[test]
fn invocations_at_the_same_time_have_environments_of_their_own() {
    let notes = Notes::new("concurrent");
    block_on(async {
        let function = notes.function();
        let meets = || invoke(&function, "meets", LONG_MS);
        let (first, second) = tokio::join!(meets(), meets());
        assert_eq!((first.is_ok(), second.is_ok()), (true, true));
        check_serves(&function).await;
        assert_eq!(notes.processes(), 2);
    });
}

#[test]
fn a_process_that_ends_at_work_fails_its_invocation_only() {
    let notes = Notes::new("ends");
    block_on(async {
        let function = notes.function();
        check_error(
            invoke(&function, "exits once", LONG_MS).await,
            "the function's process ended: exit status: 3",
        );
        assert!(invoke(&function, "exits once", LONG_MS).await.is_ok());
        check_error(
            invoke(&function, "aborts once", LONG_MS).await,
            "the function's process ended: signal: 6",
        );
        assert!(invoke(&function, "aborts once", LONG_MS).await.is_ok());
        assert_eq!(notes.processes(), 3);
    });
}

#[test]
fn a_kill_is_an_error_at_work_and_unnoticed_at_rest() {
    let notes = Notes::new("kill");
    block_on(async {
        let function = notes.function();
        let kill = async {
            notes.wait_for("hang").await;
            function.kill_all();
        };
        let (outcome, ()) = tokio::join!(invoke(&function, "hangs", LONG_MS), kill);
        check_error(outcome, "the function's process ended: signal: 9");
        check_serves(&function).await;
        function.kill_all();
        check_serves(&function).await;
        assert_eq!(notes.processes(), 3);
    });
}

#[test]
fn a_timeout_and_a_dropped_invocation_kill_the_process() {
    let notes = Notes::new("timeout");
    block_on(async {
        let function = notes.function();
        let until_idle = async || {
            while !function.process_ids().is_empty() {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        function.warm_up(Timestamp(SystemClock.now().0 + LONG_MS)).await.unwrap();
        check_error(invoke(&function, "hangs", 1_000).await, "timed out after 1000 ms");
        until_idle().await;
        fs::remove_file(notes.0.join("hang")).ok();
        let hang = notes.wait_for("hang");
        tokio::select! {
            _ = invoke(&function, "hangs", LONG_MS) => panic!("it was to hang"),
            () = hang => {}
        }
        until_idle().await;
        check_serves(&function).await;
    });
}

#[test]
fn a_program_that_never_is_ready_is_named() {
    block_on(async {
        for (script, expected) in [
            ("exit 3", "ended before it asked for an invocation: exit status: 3"),
            ("kill -KILL $$", "ended before it asked for an invocation: signal: 9"),
        ] {
            let function = shell(script);
            for _ in 0..2 {
                check_error(invoke(&function, "new", LONG_MS).await, expected);
            }
        }
        check_error(invoke(&shell("exec sleep 60"), "new", 200).await, "timed out after 200 ms");
        let missing = api(Program::new("/missing/program", ARN));
        check_error(invoke(&missing, "new", LONG_MS).await, "/missing/program cannot be started");
        let unset = api(Program::new(env!("CARGO_BIN_EXE_bootstrap"), ARN)
            .with_variable("CHANGEFOLD_LEDGER_TABLE", "")
            .with_variable("AWS_ENDPOINT_URL", "http://127.0.0.1:1"));
        let expected = "the function did not start: SettingsInvalid: CHANGEFOLD_LEDGER_TABLE";
        check_error(invoke(&unset, "new", LONG_MS).await, expected);
    });
}

#[test]
fn the_served_store_is_the_store_until_it_is_stopped() {
    block_on(async {
        let server = StoreServer::start(Embedded::open(None).unwrap()).await.unwrap();
        let store = endpoint(&server.url());
        let deadline = Timestamp(i64::MAX);
        store.ensure_table("table", &["pk"], None, deadline).await.unwrap();
        assert!(store.get("table", "pk", "a", deadline).await.unwrap().is_none());
        let usage = server.usage();
        assert!(usage.calls >= 4 && usage.read_units > 0.0, "{usage:?}");
        server.stop().await;
        let soon = SystemClock.now();
        let error = store.get("table", "pk", "a", soon).await.unwrap_err();
        assert_eq!(error.trouble, Trouble::Unknown);
    });
}

fn replay(arguments: &[&str], variable: (&str, &str)) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_changefold"))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(["replay", "--set", "MaximumBatchingWindowInSeconds=0"])
        .args(arguments)
        .env(variable.0, variable.1)
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

fn document(arguments: &[&str], variable: (&str, &str)) -> Value {
    let arguments = [&["--format", "json"], arguments].concat();
    let (code, stdout, stderr) = replay(&arguments, variable);
    assert_eq!(code, Some(0), "{stderr}");
    serde_json::from_str(&stdout).unwrap()
}

#[test]
fn the_real_function_keeps_the_same_views() {
    let quiet = ("RUST_LOG", "off");
    let here = ["fixtures/orders.jsonl", "--views", "views/orders.sql"];
    let there = [&here[..], &["--exec", env!("CARGO_BIN_EXE_bootstrap")]].concat();
    let (here, there) = (document(&here, quiet), document(&there, quiet));
    for member in ["records", "invocations", "views", "quarantined", "on_failure"] {
        assert_eq!(here[member], there[member], "{member}");
    }
    assert!(there["records"].as_u64() > Some(0));
    // Every environment reads the registry when it opens, so reads may be more.
    assert_eq!(here["store"]["write_units"], there["store"]["write_units"]);
}

/// Processes are killed at some moment, replies are lost while they go on, batches come again, and
/// the store refuses, answers in part, or its answer is lost: the views are those of a run in which
/// all went well.
#[test]
fn faults_reach_a_function_in_a_process_of_its_own() {
    let quiet = ("RUST_LOG", "off");
    let here = ["fixtures/orders.jsonl", "--views", "views/orders.sql", "--set", "BatchSize=6"];
    let expected = document(&here, quiet);
    let mut met = BTreeMap::new();
    for seed in ["1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12"] {
        let more = ["--exec", env!("CARGO_BIN_EXE_bootstrap"), "--faults", seed];
        let found = document(&[&here[..], &more].concat(), quiet);
        for member in ["records", "views", "quarantined", "on_failure"] {
            assert_eq!(found[member], expected[member], "seed {seed}: {member}");
        }
        for (kind, times) in found["faults"].as_object().unwrap() {
            *met.entry(kind.clone()).or_insert(0) += times.as_u64().unwrap();
        }
    }
    let struck: Vec<&str> =
        met.iter().filter(|(_, times)| **times > 0).map(|(kind, _)| &**kind).collect();
    let expected = [
        "duplicate_delivery",
        "function_error",
        "lost_answer",
        "lost_reply",
        "throttling",
        "transaction_conflict",
        "unprocessed_keys",
    ];
    assert_eq!(struck, expected, "the others are of the function in this process: {met:?}");
}

#[test]
fn the_mapping_retries_what_a_dead_process_left() {
    let notes = Notes::new("mapping");
    let fixture = notes.0.join("orders.jsonl");
    let lines: Vec<String> = (1..)
        .zip(["new", "aborts once", "new", "exits once"])
        .map(|(number, status)| order(number, "INSERT", "order", Some(("eu", "1", status))))
        .collect();
    fs::write(&fixture, lines.join("\n")).unwrap();
    let this = std::env::current_exe().unwrap();
    let document = document(
        &[
            fixture.to_str().unwrap(),
            "--set=BatchSize=2",
            "--exec",
            this.to_str().unwrap(),
            "--exec-arg=runtime_api::the_function",
            "--exec-arg=--exact",
        ],
        (NOTES, notes.0.to_str().unwrap()),
    );
    assert_eq!((&document["records"], &document["failed_invocations"]), (&4.into(), &2.into()));
    assert_eq!(notes.processes(), 3);
}

#[test]
fn what_cannot_be_driven_is_refused_with_a_remedy() {
    let bootstrap = env!("CARGO_BIN_EXE_bootstrap");
    for (arguments, expected, remedy) in [
        (
            &["--exec", bootstrap, "--views", "a", "--views", "b"][..],
            "several --views",
            "directory",
        ),
        (&["--exec", "/missing/program"], "/missing/program cannot be started", "spelt so"),
        (&["--exec-arg", "x"], "--exec <PROGRAM>", "--help"),
    ] {
        let arguments = [&["fixtures/orders.jsonl"], arguments].concat();
        let (code, stdout, stderr) = replay(&arguments, ("RUST_LOG", "off"));
        assert_eq!((code, stdout.as_str()), (Some(2), ""), "{stderr}");
        assert!(stderr.contains(expected) && stderr.contains(remedy), "{stderr}");
    }
}
