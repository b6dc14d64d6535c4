//! No payload, no key and no secret in a log line.
//!
//! Three things stand here. A **watch** over this whole test binary: whatever a test makes the
//! function log, at every level, is rendered as the function renders it and searched for what
//! the tests' payloads hold; one find ends the run. A **process** that is given secrets in every
//! place a record has, and told to log everything. And the **controls**: that the search finds
//! what is there, and that the SDK would print it.
//!
//! What it does not see: the unit tests in `src/`, and the processes of the figures, whose
//! output goes elsewhere.

use crate::support::{self, FOREVER, endpoint};
use aws_sdk_dynamodb::types::{AttributeValue, Put, TransactWriteItem};
use changefold::{
    batch::lanes::Lanes,
    call::Call,
    clock::{Clock, SystemClock},
    handler::Function,
    processor::{self, Failure},
    record::{Change, Timestamp},
    recovery::{
        durable::DurableState,
        park::{OnPark, Park},
    },
    telemetry::filter::Filter,
};
use std::{
    collections::BTreeMap,
    io::{self, Write},
    sync::{Arc, Mutex, Once, OnceLock},
};
use tracing_subscriber::{
    filter::{LevelFilter, Targets},
    fmt::MakeWriter,
    layer::SubscriberExt as _,
};

/// Part of every value, key and error text that tests plant.
pub(crate) const PLANTED: &str = "planted-7f3a";

/// What the payloads of fixtures and of records made by tests hold, by chance in no log line.
const OF_PAYLOADS: [&str; 9] = [
    PLANTED,
    "o-10",
    "Ada Byron",
    "tea-assam",
    "United Air",
    "N14228",
    "O#",
    "12,50",
    "wJalrXUtnFEMI",
];

/// What of the payloads a text holds, as it is or as base64.
pub(crate) fn found(text: &str) -> Option<&'static str> {
    static NEEDLES: OnceLock<Vec<(&str, String)>> = OnceLock::new();
    let needles = NEEDLES.get_or_init(|| OF_PAYLOADS.into_iter().flat_map(needles).collect());
    needles.iter().find(|(_, needle)| text.contains(needle)).map(|(what, _)| *what)
}

/// How a text may stand in another: as it is, and as base64 wherever it begins in a group of
/// three bytes, if enough of it is left that its neighbours do not decide.
fn needles(what: &'static str) -> Vec<(&'static str, String)> {
    let mut needles = vec![(what, what.to_owned())];
    if what.len() < 9 {
        return needles;
    }
    for before in 0..3 {
        let encoded = base64_simd::STANDARD.encode_to_string("x".repeat(before) + what);
        let (from, until) = ((before * 8).div_ceil(6), (before + what.len()) * 8 / 6);
        needles.push((what, encoded[from..until].to_owned()));
    }
    needles
}

/// A log's writer that searches every line.
#[derive(Clone)]
enum Searching {
    /// Ends the test run: a panic would be the record's, and caught.
    Strict,
    /// Collects, for the controls.
    Lenient(Arc<Mutex<Vec<&'static str>>>),
}

impl Write for Searching {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(line);
        match (found(&text), self) {
            (None, _) => {}
            (Some(what), Self::Lenient(finds)) => finds.lock().unwrap().push(what),
            (Some(what), Self::Strict) => {
                let name = std::thread::current().name().unwrap_or("a test").to_owned();
                let told = format!("\nerror: {name}: a log line holds `{what}`:\n{text}\n");
                // Not by `eprintln!`, which the test harness would keep to itself.
                io::stderr().write_all(told.as_bytes()).ok();
                std::process::exit(101);
            }
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'w> MakeWriter<'w> for Searching {
    type Writer = Self;

    fn make_writer(&'w self) -> Self {
        self.clone()
    }
}

/// A log as the function's, at these levels, into a search.
fn log(targets: Targets, into: Searching) -> impl tracing::Subscriber {
    tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_current_span(false)
        .with_span_list(false)
        .with_max_level(LevelFilter::TRACE)
        .with_writer(into)
        .finish()
        .with(targets)
}

/// Searches from now on what is logged in this process, as `RUST_LOG=trace` lets it. In a process
/// that is the function the log is set up already, and whoever started it reads that.
pub(crate) fn watch() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let targets = Filter::of("trace").unwrap().targets;
        tracing::subscriber::set_global_default(log(targets, Searching::Strict)).ok();
    });
}

/// Logs through a filter what happens meanwhile, and gives what was found.
fn finds(targets: Targets, happens: impl FnOnce()) -> Vec<&'static str> {
    let finds = Arc::default();
    let log = log(targets, Searching::Lenient(Arc::clone(&finds)));
    tracing::subscriber::with_default(log, happens);
    finds.lock().unwrap().to_vec()
}

fn everything() -> Targets {
    Targets::new().with_default(LevelFilter::TRACE)
}

#[test]
fn the_search_finds_what_is_planted() {
    for planted in [PLANTED, "key=o-1007", "\"O#1\""] {
        let log = || tracing::warn!(error = planted, "RecordProcessError");
        assert_eq!(finds(everything(), log).len(), 1, "{planted}");
    }
    for before in ["", "a", "ab", "abc"] {
        let text = format!("{before}{PLANTED} and more");
        let encoded = base64_simd::STANDARD.encode_to_string(text);
        assert_eq!(found(&encoded), Some(PLANTED), "{encoded}");
    }
    assert_eq!(found("sequence_number 42 of shardId-000000000001"), None);
}

/// Why dependencies are held: let loose, the SDK prints what it receives.
#[test]
fn the_sdk_would_print_payloads() {
    let read = || {
        support::block_on(async {
            let store = support::embedded(31);
            store.ensure_table("kept", &["pk"], None, FOREVER).await.unwrap();
            let key = AttributeValue::S(PLANTED.to_owned());
            let put = Put::builder().table_name("kept").item("pk", key).build().unwrap();
            let put = TransactWriteItem::builder().put(put).build();
            store.transact(vec![put], FOREVER).await.unwrap();
            store.get("kept", "pk", PLANTED, FOREVER).await.unwrap();
        });
    };
    assert!(!finds(everything(), read).is_empty(), "the control");
    let setting = "trace,aws_smithy_runtime=trace,aws_smithy_runtime::client=trace,hyper=trace";
    assert_eq!(finds(Filter::of(setting).unwrap().targets, read), [""; 0]);
}

/// A record: what the processor does with it, and secrets wherever a record has room.
fn record(number: u32, fate: &str, key: &str) -> String {
    let map = if fate == "undecodable" { r#"{"S":"planted-7f3a-text"}"# } else { r#"{"N":"1"}"# };
    format!(
        r#"{{"eventID":"{number}","eventName":"MODIFY","eventVersion":"1.1","eventSource":"aws:dynamodb","awsRegion":"us-east-1","dynamodb":{{"ApproximateCreationDateTime":1789649451.0,"Keys":{{"pk":{{"S":"planted-7f3a-{key}"}}}},"OldImage":{{"pk":{{"S":"planted-7f3a-{key}"}},"fate":{{"S":"planted-7f3a-old"}},"counts":{{"M":{{}}}}}},"NewImage":{{"pk":{{"S":"planted-7f3a-{key}"}},"fate":{{"S":"{fate}"}},"amount":{{"S":"planted-7f3a-amount"}},"counts":{{"M":{{"planted-7f3a-map-key":{map}}}}},"other":{{"B":"cGxhbnRlZC03ZjNhLWJ5dGVz"}}}},"SequenceNumber":"{number}","SizeBytes":1,"StreamViewType":"NEW_AND_OLD_IMAGES"}},"userIdentity":{{"type":"Service","principalId":"planted-7f3a-principal"}},"eventSourceARN":"arn:aws:dynamodb:us-east-1:123456789012:table/orders/stream/2026-09-17T12:50:51.000"}}"#
    )
}

#[derive(serde::Deserialize)]
struct Order {
    fate: String,
    #[expect(dead_code, reason = "only decoded")]
    counts: BTreeMap<String, u32>,
}

/// Each way a record can end, its error naming a secret where `quotes` says so.
fn process(change: Change<Order>, quotes: bool) -> Result<(), Failure> {
    let Some(order) = change.new_image() else { return Ok(()) };
    let why = if quotes { "planted-7f3a-error" } else { "it was told to" };
    match order.fate.as_str() {
        "park" => Err(Failure::park(why).with_code("ToldTo")),
        "retry" => Err(Failure::retry(why).with_code("ToldTo")),
        "unclassified" => Err(io::Error::other(why).into()),
        "panic" => panic!("planted-7f3a-panic"),
        "halt" => Err(Failure::halt(why)),
        _ => Ok(()),
    }
}

#[cfg(feature = "lambda")]
mod processes {
    //! The function in a process of its own, at TRACE.

    use super::*;
    use changefold::{
        config::{Config, process_environment},
        lambda,
        local::{
            runtime_api::{Program, RuntimeApi},
            store_server::StoreServer,
            target::Target,
        },
        operation::{self, Operation, Redrive, Selection},
        store::embedded::Embedded,
        telemetry,
        view::{Views, sql},
    };
    use std::{
        fs::{self, File},
        path::PathBuf,
    };

    const ROLE: &str = "DESK_TEST_KEEPS_SECRETS";
    const ARN: &str = "arn:aws:lambda:us-east-1:123456789012:function:Secrets";
    const LOUDEST: &str = "trace,aws_smithy_runtime=trace,aws_smithy_runtime::client=trace,\
                           aws_sigv4=trace,hyper=trace,hyper_util=trace,lambda_runtime=trace,\
                           lambda_runtime::layers::panic=trace,h2=trace";

    /// Not a test of its own: the function's process, started by the test below.
    #[test]
    fn the_function() {
        let Some(role) = support::environment(ROLE) else { return };
        let quotes = role == "quotes";
        // Tests' own switches are no settings.
        let is_setting = |(name, _): &(String, String)| !name.starts_with("CHANGEFOLD_TEST");
        let settings = process_environment().filter(is_setting);
        let config = Config::from_env(settings).unwrap();
        let telemetry = telemetry::init(&config.log, &config.function_name).unwrap();
        let telemetry = telemetry.telling_of_errors(config.log_errors);
        let clock = Arc::new(SystemClock);
        let url = support::environment("AWS_ENDPOINT_URL_DYNAMODB").unwrap();
        let park = Park::new(endpoint(&url), "park".to_owned(), OnPark::Hold, 24);
        let durable = DurableState::none().with_park(park);
        let processor =
            processor::from_fn(async move |change: Change<Order>, _| process(change, quotes));
        let lanes = Lanes::new(processor, clock.clone()).with_durable_state(durable);
        let function = Function::new(lanes, clock);
        drop(support::block_on(lambda::serve(&function, &telemetry, 60_000)));
    }

    /// A file for what a process writes, gone with the test.
    struct Output(PathBuf);

    impl Output {
        fn new(name: &str) -> Self {
            let name = format!("changefold-secrets-{}-{name}.log", std::process::id());
            Self(std::env::temp_dir().join(name))
        }

        fn file(&self) -> File {
            File::options().create(true).append(true).open(&self.0).unwrap()
        }

        /// What was written: nothing of a payload, and the lines that had to come.
        fn check(&self, lines: &[&str]) -> String {
            let text = fs::read_to_string(&self.0).unwrap();
            for line in text.lines() {
                assert_eq!(found(line), None, "{line}");
            }
            for expected in lines {
                assert!(text.contains(expected), "no {expected} in:\n{text}");
            }
            assert_eq!(text.matches("DependenciesHeld").count(), 1, "said once: {text}");
            text
        }
    }

    impl Drop for Output {
        fn drop(&mut self) {
            fs::remove_file(&self.0).ok();
        }
    }

    async fn invoke(function: &RuntimeApi, event: Vec<u8>) -> Result<String, String> {
        let deadline = Timestamp(SystemClock.now().0 + 60_000);
        let call = Call { deadline, ..support::call() };
        let answer = function.invoke(event.into(), call).await.map_err(|error| error.message)?;
        Ok(String::from_utf8(answer.to_vec()).unwrap())
    }

    fn event(fates: &[&str]) -> Vec<u8> {
        let record = |(at, fate): (u32, &&str)| record(at, fate, &format!("key-{at}"));
        let records: Vec<String> = (1..).zip(fates).map(record).collect();
        format!("{{\"Records\":[{}]}}", records.join(",")).into_bytes()
    }

    /// A processor's process meets every end of a record, and an operator's requests.
    async fn processed(role: &str, output: &Output) {
        let server = StoreServer::start(Embedded::open(None).unwrap()).await.unwrap();
        let park = Park::new(endpoint(&server.url()), "park".to_owned(), OnPark::Hold, 24);
        DurableState::none().with_park(park).ensure_tables(FOREVER).await.unwrap();
        let program = Program::new(std::env::current_exe().unwrap(), ARN)
            .with_output(output.file())
            .with_argument("secrets::processes::the_function")
            .with_argument("--exact")
            .with_argument("--nocapture")
            .with_variable(ROLE, role)
            .with_variable("AWS_ENDPOINT_URL_DYNAMODB", server.url())
            .with_variable("CHANGEFOLD_LOG_ERRORS", if role == "quotes" { "codes" } else { "" })
            .with_variable("RUST_LOG", LOUDEST);
        let function = RuntimeApi::new(program, Arc::new(SystemClock));
        let fates = ["ok", "park", "undecodable", "unclassified", "panic", "park", "retry"];
        // As often as it takes until all but the transient one are finished.
        for _ in 0..4 {
            invoke(&function, event(&fates)).await.unwrap();
        }
        let halted = invoke(&function, event(&["halt"])).await.unwrap_err();
        assert!(halted.contains("ProcessorHalt"), "{halted}");
        assert_eq!(found(&halted), None, "{halted}");
        invoke(&function, b"[\"planted-7f3a-event\"]".to_vec()).await.unwrap_err();
        for operation in [
            Operation::List(Selection::default()),
            Operation::Show(Selection::default()),
            Operation::Redrive(Redrive::default()),
        ] {
            let answer = invoke(&function, operation::event(operation)).await.unwrap();
            assert!(answer.contains(PLANTED), "an operator asked for it: {answer}");
        }
    }

    #[test]
    fn a_processor_at_trace_logs_no_payload() {
        let output = Output::new("processor");
        support::block_on(processed("yes", &output));
        let text = output.check(&[
            "RecordParked",
            // Those parked by the first invocation are there at its end.
            "\"KeysParked\":5",
            "RecordProcessError",
            "CodePanicError",
            "InvocationFinishError",
            "InvocationFinished",
            "OperationFinished",
            "`NewImage.counts.*` is a string, expected u32",
        ]);
        assert!(text.contains("it was told to"), "the control: errors are told");
    }

    #[test]
    fn with_codes_alone_what_an_error_quotes_is_not_logged() {
        let output = Output::new("quotes");
        support::block_on(processed("quotes", &output));
        output.check(&["RecordParked", "\"code\":\"ToldTo\"", "CodePanicError"]);
    }

    #[test]
    fn views_at_trace_log_no_payload_when_they_quarantine() {
        const VIEW: &str = "CREATE MATERIALIZED VIEW totals AS \
                            SELECT fate, sum(amount) AS total FROM orders GROUP BY fate;";
        let output = Output::new("views");
        let sql = Output::new("views.sql");
        fs::write(&sql.0, VIEW).unwrap();
        support::block_on(async {
            let server = StoreServer::start(Embedded::open(None).unwrap()).await.unwrap();
            let views = sql::parse(VIEW).unwrap();
            let store = endpoint(&server.url());
            Views::ensure_tables(&views, &store, "ledger", "view_", FOREVER).await.unwrap();
            let program = Program::new(env!("CARGO_BIN_EXE_bootstrap"), ARN)
                .with_output(output.file())
                .with_variable("AWS_ENDPOINT_URL_DYNAMODB", server.url())
                .with_variable("CHANGEFOLD_VIEWS", &sql.0)
                .with_variable("CHANGEFOLD_LEDGER_TABLE", "ledger")
                .with_variable("CHANGEFOLD_VIEW_TABLE_PREFIX", "view_")
                .with_variable("RUST_LOG", LOUDEST);
            let function = RuntimeApi::new(program, Arc::new(SystemClock));
            invoke(&function, event(&["ok", "park"])).await.unwrap();
            let list = operation::event(Operation::List(Selection::default()));
            let answer = invoke(&function, list).await.unwrap();
            assert!(answer.contains("pk=planted-7f3a-key-1"), "the operator is told: {answer}");
        });
        output.check(&[
            "\"ItemQuarantined\"",
            "\"attribute\":\"amount\"",
            "\"found\":\"S\"",
            "\"RecordsQuarantined\":2",
            "OperationFinished",
        ]);
    }
}
