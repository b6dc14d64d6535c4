//! Parked records of a deployed function, over Lambda's Invoke API: the real command line
//! against a real function, with a server of the test between them.

use crate::support::{FOREVER, block_on, call, local_endpoint, order};
use changefold::{
    batch::lanes::Lanes,
    call::Call,
    clock::{Clock, SystemClock},
    handler::Function,
    operation::{self, Operation, Redrive, Selection},
    processor::{self, Context, Failure},
    record::{Change, Timestamp},
    recovery::{
        durable::DurableState,
        park::{OnPark, Park},
    },
    store::{Store, embedded},
};
use serde::de::IgnoredAny;
use serde_json::{Value, json};
use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

const FUNCTION: &str = "arn:aws:lambda:eu-west-1:123456789012:function:orders:live";

/// Serves one function; what it refuses at first works when `fixed` is set.
fn serve(listener: TcpListener, fixed: Arc<AtomicBool>) {
    block_on(async {
        let client = embedded::open(None).unwrap();
        let store = Store::new(client, &local_endpoint(None), Arc::new(SystemClock), 1);
        let park = Park::new(store, "park".to_owned(), OnPark::Hold, 24);
        let durable = DurableState::none().with_park(park);
        durable.ensure_tables(FOREVER).await.unwrap();
        let processor = processor::from_fn(async move |_: Change<IgnoredAny>, at: &Context<'_>| {
            match at.sequence_number().as_str() {
                "1" if !fixed.load(Ordering::Relaxed) => {
                    Err(Failure::park("it refuses the first").with_code("Refused"))
                }
                _ => Ok(()),
            }
        });
        let lanes = Lanes::new(processor, Arc::new(SystemClock)).with_durable_state(durable);
        let function = Function::new(lanes, Arc::new(SystemClock));
        let records =
            [1, 2, 3].map(|at| order(at, "INSERT", if at == 3 { "b" } else { "a" }, None));
        let event = format!(r#"{{"Records":[{}]}}"#, records.join(","));
        function.invoke(event.as_bytes(), &call()).await.unwrap();
        for (number, stream) in listener.incoming().enumerate() {
            let mut stream = stream.unwrap();
            let Some(event) = read(&stream) else { return };
            let Timestamp(now) = SystemClock.now();
            let call = Call::new(format!("request-{number}"), Timestamp(now + 60_000));
            let (header, body) = match function.invoke(&event, &call).await {
                Ok(answer) => ("", serde_json::to_value(answer).unwrap()),
                Err(halt) => (
                    "x-amz-function-error: Unhandled\r\n",
                    json!({"errorType": halt.code, "errorMessage": halt.message}),
                ),
            };
            let body = body.to_string();
            let head = format!("HTTP/1.1 200 OK\r\n{header}content-length: {}\r\n", body.len());
            write!(stream, "{head}connection: close\r\n\r\n{body}").unwrap();
        }
    });
}

/// One request's body, its head checked; none where somebody only knocks.
fn read(stream: &TcpStream) -> Option<Vec<u8>> {
    let mut reader = BufReader::new(stream);
    let mut head = Vec::new();
    for line in reader.by_ref().lines() {
        match line.unwrap() {
            line if line.is_empty() => break,
            line => head.push(line.to_ascii_lowercase()),
        }
    }
    let path = "/2015-03-31/functions/arn%3aaws%3alambda%3aeu-west-1%3a123456789012%3afunction%3a\
                orders%3alive/invocations";
    let request = head.first()?;
    assert_eq!(*request, format!("post {path} http/1.1"));
    let header = |name: &str| head.iter().find_map(|line| line.strip_prefix(name)).unwrap();
    let signed = header("authorization: aws4-hmac-sha256 credential=akid/");
    assert!(signed.contains("/eu-west-1/lambda/aws4_request"), "{signed}");
    let mut body = vec![0; header("content-length: ").parse().unwrap()];
    reader.read_exact(&mut body).unwrap();
    Some(body)
}

fn parked(url: &str, arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_changefold"))
        .args(["parked", arguments[0], "--function", FUNCTION])
        .args(&arguments[1..])
        .env("AWS_ENDPOINT_URL_LAMBDA", url)
        .env("AWS_ACCESS_KEY_ID", "AKID")
        .env("AWS_SECRET_ACCESS_KEY", "secret")
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn a_deployed_function_lists_drops_and_redrives_itself() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let url = format!("http://{address}");
    let fixed = Arc::new(AtomicBool::new(false));
    let server = std::thread::spawn({
        let fixed = Arc::clone(&fixed);
        move || serve(listener, fixed)
    });

    let (code, listed, _) = parked(&url, &["list", "--format", "json"]);
    let listed: Value = serde_json::from_str(&listed).unwrap();
    let first = &listed[0];
    assert_eq!((code, listed.as_array().map(Vec::len)), (Some(0), Some(1)));
    assert_eq!(
        (&first["key"], &first["sequence_number"], &first["error_code"]),
        (&json!("pk=a"), &json!("1"), &json!("Refused"))
    );
    assert_eq!((&first["attempts"], &first["held_behind"]), (&json!(1), &json!(1)));

    let (code, shown, _) = parked(&url, &["show", "--key", "pk=a"]);
    assert_eq!((code, shown.matches("\"SequenceNumber\"").count()), (Some(0), 2), "{shown}");
    let (code, _, said) = parked(&url, &["show", "--key", "pk=none"]);
    assert_eq!((code, said.as_str()), (Some(1), "no parked record is meant by this\n"));

    // Not yet: it fails again, and that is counted.
    let (code, told, said) = parked(&url, &["redrive"]);
    assert_eq!((code, told.as_str()), (Some(1), "0 redriven, 1 failed, 2 left\n"), "{said}");
    let (_, listed, _) = parked(&url, &["list", "--format", "json", "--error-code", "Refused"]);
    assert_eq!(serde_json::from_str::<Value>(&listed).unwrap()[0]["attempts"], json!(2));
    let (code, told, _) = parked(&url, &["list", "--error-code", "Another", "--format", "json"]);
    assert_eq!((code, told.as_str()), (Some(0), "[]\n"));

    let (code, _, said) = parked(&url, &["drop", "--key", "pk=a"]);
    assert!(code == Some(2) && said.contains("hint:") && said.contains("--yes"), "{said}");
    let (code, _, said) = parked(&url, &["drop", "--yes"]);
    assert!(code == Some(2) && said.contains("DropNotConfirmed"), "{said}");

    fixed.store(true, Ordering::Relaxed);
    let (code, told, _) = parked(&url, &["redrive", "--format", "json", "--limit", "1"]);
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!((code, &told["done"], &told["left"]), (Some(0), &json!(1), &json!(1)), "{told}");
    let (code, told, _) = parked(&url, &["drop", "--key", "pk=a", "--yes"]);
    assert_eq!((code, told.as_str()), (Some(0), "1 dropped, 0 failed, 0 left\n"));
    let (code, told, said) = parked(&url, &["list"]);
    assert_eq!((code, told.as_str(), said.as_str()), (Some(0), "", "nothing is parked\n"));

    drop(TcpStream::connect(address).unwrap());
    server.join().unwrap();
}

#[test]
fn a_function_that_is_not_there_is_said_with_a_hint() {
    let (code, _, said) = parked("http://127.0.0.1:1", &["list"]);
    assert!(code == Some(2) && said.contains("hint: is the function's endpoint up"), "{said}");
}

#[test]
fn a_record_beyond_one_rows_size_is_kept_in_parts_and_comes_back_whole() {
    crate::support::block_on(async {
        let client = embedded::open(None).unwrap();
        let store = Store::new(client, &local_endpoint(None), Arc::new(SystemClock), 1);
        let durable =
            DurableState::none().with_park(Park::new(store, "park".to_owned(), OnPark::Hold, 24));
        durable.ensure_tables(FOREVER).await.unwrap();
        let fixed = AtomicBool::new(false);
        let processor = processor::from_fn(async |_: Change<IgnoredAny>, _: &Context<'_>| {
            if fixed.load(Ordering::Relaxed) { Ok(()) } else { Err(Failure::park("not yet")) }
        });
        let lanes = Lanes::new(processor, Arc::new(SystemClock)).with_durable_state(durable);
        let function = Function::new(lanes, Arc::new(SystemClock));
        // Noise, so that compressing does not make it small: four parts.
        let mut rng = fastrand::Rng::with_seed(1);
        let noise: String = std::iter::repeat_with(|| rng.alphanumeric()).take(1_500_000).collect();
        let record = order(1, "INSERT", "a", Some((&noise, "1", "PAID")));
        let event = format!(r#"{{"Records":[{record}]}}"#);
        let ask = async |event: Vec<u8>| {
            serde_json::to_value(function.invoke(&event, &call()).await.unwrap()).unwrap()
        };
        assert_eq!(ask(event.into_bytes()).await, json!({"batchItemFailures": []}));
        let shown = ask(operation::event(Operation::Show(Selection::default()))).await;
        assert!(shown["parked"][0]["record"] == json!(record), "the record is another");
        fixed.store(true, Ordering::Relaxed);
        let redriven = ask(operation::event(Operation::Redrive(Redrive::default()))).await;
        assert_eq!((&redriven["done"], &redriven["left"]), (&json!(1), &json!(0)), "{redriven}");
    });
}

/// What a scripted Lambda or DynamoDB was asked, line by line: the request, then its body.
pub(crate) type Asked = Vec<(String, Value)>;

/// Answers each request as told, until somebody only knocks; gives back what was asked.
pub(crate) fn scripted(
    answer: impl FnMut(&str, &Value) -> (u16, Value) + Send + 'static,
) -> (String, impl FnOnce() -> Asked) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = std::thread::spawn(move || answer_all(&listener, answer));
    let end = move || {
        drop(TcpStream::connect(address).unwrap());
        server.join().unwrap()
    };
    (format!("http://{address}"), end)
}

fn answer_all(
    listener: &TcpListener,
    mut answer: impl FnMut(&str, &Value) -> (u16, Value),
) -> Asked {
    let mut asked = Vec::new();
    for stream in listener.incoming() {
        let mut stream = stream.unwrap();
        let mut reader = BufReader::new(&stream);
        let head: Vec<String> = reader
            .by_ref()
            .lines()
            .map(Result::unwrap)
            .take_while(|line| !line.is_empty())
            .collect();
        let Some(request) = head.first() else { return asked };
        let header = |name: &str| {
            head.iter().find_map(|it| it.to_ascii_lowercase().strip_prefix(name).map(str::to_owned))
        };
        let length = header("content-length: ").map_or(0, |length| length.parse().unwrap());
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        let request = request.trim_end_matches(" HTTP/1.1").replace("/2015-03-31", "");
        let request = header("x-amz-target: ").unwrap_or(request);
        let body = serde_json::from_slice(&body).unwrap_or_default();
        let (status, told) = answer(&request, &body);
        asked.push((request, body));
        let told = told.to_string();
        let head = format!("HTTP/1.1 {status} Scripted\r\ncontent-length: {}\r\n", told.len());
        write!(stream, "{head}connection: close\r\n\r\n{told}").unwrap();
    }
    asked
}

pub(crate) fn changefold(
    arguments: &[&str],
    environment: &[(&str, &str)],
) -> (Option<i32>, String, String) {
    // What a test script tells the tests is no setting of the program's.
    let of_tests = ["CHANGEFOLD_TEST_MINISTACK", "CHANGEFOLD_TEST_DYNAMODB_STREAMS"];
    let of_tests = of_tests.into_iter().chain(["CHANGEFOLD_TEST_KINESIS"]);
    let mut command = Command::new(env!("CARGO_BIN_EXE_changefold"));
    for name in of_tests {
        command.env_remove(name);
    }
    let output = command
        .args(arguments)
        .env("AWS_ACCESS_KEY_ID", "AKID")
        .env("AWS_SECRET_ACCESS_KEY", "secret")
        .envs(environment.iter().copied())
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

fn list_of(function: &str, url: &str) -> (Option<i32>, String, String) {
    changefold(
        &["parked", "list", "--function", function, "--format", "json"],
        &[("AWS_ENDPOINT_URL_LAMBDA", url)],
    )
}

fn lines(asked: &Asked) -> Vec<&str> {
    asked.iter().map(|(request, _)| request.as_str()).collect()
}

/// Answers as a function with the aliases `live` and `next`, whose mappings these are.
fn with_mappings(
    mappings: &'static [(&str, &str)],
) -> impl FnMut(&str, &Value) -> (u16, Value) + Send {
    const ARN: &str = "arn:aws:lambda:us-east-1:123456789012:function:orders";
    move |request, _| {
        let told = match request {
            "GET /functions/orders/aliases?MaxItems=50" => {
                json!({"Aliases": [{"Name": "live"}], "NextMarker": "a+b="})
            }
            "GET /functions/orders/aliases?MaxItems=50&Marker=a%2Bb%3D" => {
                json!({"Aliases": [{"Name": "next"}]})
            }
            _ if request.starts_with("GET ") => {
                let of = |(name, state): &(&str, &str)| {
                    request.contains(&format!("=orders{}&", name.replace(':', "%3A"))).then(|| {
                        json!({"FunctionArn": format!("{ARN}{name}"), "State": state,
                               "EventSourceArn": format!("stream-of{name}")})
                    })
                };
                json!({"EventSourceMappings": mappings.iter().filter_map(of).collect::<Vec<_>>()})
            }
            _ => json!({"parked": [], "cursor": null}),
        };
        (200, told)
    }
}

#[test]
fn a_name_without_a_qualifier_asks_what_its_mapping_invokes_and_says_so() {
    let (url, end) = scripted(with_mappings(&[(":live", "Enabled"), ("", "Disabled")]));
    let (code, told, said) = list_of("orders", &url);
    assert_eq!((code, told.as_str()), (Some(0), "[]\n"), "{said}");
    let expected = "asking orders:live, which the event source mapping of stream-of:live invokes\n";
    assert_eq!(said, expected);
    assert_eq!(lines(&end()).last(), Some(&"POST /functions/orders%3Alive/invocations"));

    let (url, end) = scripted(with_mappings(&[(":live", "Enabled"), ("", "Enabled")]));
    let (code, _, said) = list_of("orders", &url);
    assert!(
        code == Some(2) && said.contains("$LATEST (stream-of), live (stream-of:live)"),
        "{said}"
    );
    assert!(said.contains("hint:"), "{said}");
    assert!(lines(&end()).iter().all(|line| line.starts_with("GET ")));

    let (url, end) = scripted(with_mappings(&[]));
    let (code, _, said) = list_of("orders", &url);
    assert!(code == Some(0) && said.contains("asking orders:$LATEST: no event source mapping"));
    assert_eq!(lines(&end()).last(), Some(&"POST /functions/orders/invocations"));

    let (url, end) = scripted(with_mappings(&[]));
    let (_, _, said) = list_of("orders:7", &url);
    assert_eq!(said, "", "what is named is asked");
    assert_eq!(lines(&end()), ["POST /functions/orders%3A7/invocations"]);
}

#[test]
fn a_refused_look_at_the_mappings_says_what_was_assumed() {
    let (url, end) = scripted(|request, _| {
        let is_refused = request.starts_with("GET ");
        (if is_refused { 403 } else { 200 }, json!({"parked": [], "cursor": null}))
    });
    let (code, told, said) = list_of("orders", &url);
    assert_eq!((code, told.as_str()), (Some(0), "[]\n"), "{said}");
    assert!(said.contains("asking orders:$LATEST") && said.contains("hint: name it"), "{said}");
    assert!(said.contains("lambda:ListEventSourceMappings"), "{said}");
    end();
}

#[test]
fn an_invocation_is_repeated_while_lambda_throttles_or_fails() {
    let mut statuses = vec![200, 503, 500, 429];
    let (url, end) =
        scripted(move |_, _| (statuses.pop().unwrap(), json!({"parked": [], "cursor": null})));
    let (code, told, said) = list_of("orders:live", &url);
    assert_eq!((code, told.as_str(), said.as_str()), (Some(0), "[]\n", ""));
    assert_eq!(end().len(), 4);
    let (url, end) = scripted(|_, _| (400, json!({"Message": "no"})));
    let (code, _, said) = list_of("orders:live", &url);
    assert!(code == Some(2) && said.contains("Lambda answered 400: no"), "{said}");
    assert_eq!(end().len(), 1);
}

#[test]
fn every_verb_goes_on_from_the_cursor_up_to_its_limit() {
    let listed = json!({"key": "k", "sequence_number": "1", "error_code": "HeldBehindParked",
        "attempts": 1, "held_behind": 1, "parked_ms": 0, "superseded": "no"});
    let shown = json!({"changefold": 1, "function": "", "function_version": "", "stream_arn": "",
        "key": "k", "sequence_number": "1", "ordinal": 0, "error_code": "", "error": [],
        "attempts": 1, "first_failed_ms": 0, "last_failed_ms": 0, "record": "{\"n\":1}"});
    let (url, end) = scripted(move |_, body| {
        let asked = body["changefold"].as_object().unwrap();
        let (verb, of) = asked.iter().find(|(name, _)| *name != "version").unwrap();
        let of = if verb == "drop" { &of["selection"] } else { of };
        let cursor = if of["cursor"].is_null() { json!("0a,0a") } else { Value::Null };
        assert!(cursor.is_string() || of["cursor"] == "0a,0a", "{of}");
        (
            200,
            match verb.as_str() {
                "list" => json!({"parked": [listed], "cursor": cursor}),
                "show" => json!({"parked": [shown], "cursor": cursor}),
                _ => {
                    json!({"done": 2, "left": 3, "left_behind": 1, "failed": [], "cursor": cursor})
                }
            },
        )
    });
    let ask = |arguments: &[&str]| {
        let arguments = [&["parked"], arguments, &["--function", "orders:live"]].concat();
        let (code, told, said) = changefold(&arguments, &[("AWS_ENDPOINT_URL_LAMBDA", &url)]);
        assert_eq!((code, said.as_str()), (Some(0), ""));
        told
    };
    // Those that queue on the second page queue behind the record of the first.
    let told: Value = serde_json::from_str(&ask(&["list", "--format", "json"])).unwrap();
    assert_eq!((told.as_array().unwrap().len(), &told[0]["held_behind"]), (1, &json!(3)));
    assert_eq!(ask(&["show"]).matches("\"n\": 1").count(), 2);
    assert_eq!(ask(&["show", "--limit", "1"]).matches("\"n\": 1").count(), 1);
    assert_eq!(ask(&["redrive"]), "4 redriven, 0 failed, 4 left\n");
    assert_eq!(ask(&["redrive", "--limit", "2"]), "2 redriven, 0 failed, 3 left\n");
    assert_eq!(ask(&["drop", "--key", "k", "--yes"]), "4 dropped, 0 failed, 4 left\n");
    assert_eq!(end().len(), 2 + 2 + 1 + 2 + 1 + 2);
}

#[test]
fn a_look_at_an_endpoint_makes_no_tables() {
    let (url, end) = scripted(|_, _| {
        let kind = "com.amazonaws.dynamodb.v20120810#ResourceNotFoundException";
        (400, json!({"__type": kind, "message": "Requested resource not found"}))
    });
    for verb in ["list", "show"] {
        let (code, told, said) = changefold(&["parked", verb, "--endpoint-url", &url], &[]);
        assert_eq!((code, told.as_str()), (Some(2), ""), "{said}");
        assert!(said.contains("there is no table `changefold_park`"), "{said}");
        assert!(said.contains("CHANGEFOLD_PARK_TABLE"), "{said}");
    }
    let asked = end();
    let is_read = |target: &&str| target.ends_with(".batchgetitem");
    assert!(lines(&asked).iter().all(is_read), "{:?}", lines(&asked));
}

#[test]
fn a_drop_at_the_desk_keeps_to_its_limit() {
    let program = std::path::PathBuf::from(env!("CARGO_BIN_EXE_changefold"));
    let example = program.parent().unwrap().join("examples/orders");
    let state = std::env::temp_dir().join(format!("changefold-drop-{}", std::process::id()));
    let replayed = Command::new(example)
        .args(["replay", "fixtures/orders.jsonl", "--state"])
        .arg(&state)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(replayed.status.success());
    let state_text = state.to_str().unwrap();
    let drop = |more: &[&str]| {
        let named = ["parked", "drop", "--state", state_text, "--yes", "--key", "order_id=o-1007"];
        changefold(&[&named, more].concat(), &[])
    };
    let (code, told, said) = drop(&["--limit", "1"]);
    assert_eq!((code, told.as_str()), (Some(0), "1 dropped, 0 failed, 3 left\n"), "{said}");
    let (code, told, _) = drop(&["--source", "orders"]);
    assert_eq!((code, told.as_str()), (Some(0), "3 dropped, 0 failed, 0 left\n"));
    std::fs::remove_dir_all(state).unwrap();
}
