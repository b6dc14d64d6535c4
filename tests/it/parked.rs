//! Parked records of a deployed function, over Lambda's Invoke API: the real command line
//! against a real function, with a server of the test between them.

use crate::support::{FOREVER, block_on, call, local_endpoint, order};
use changefold::{
    batch::{Call, keeping::Keeping, lanes::Lanes},
    clock::{Clock, SystemClock},
    handler::Function,
    operation::{self, Operation, Redrive, Selection},
    park::{OnPark, Park},
    processor::{self, Context, Failure},
    record::{Change, Timestamp},
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

const FUNCTION: &str = "arn:aws:lambda:eu-west-1:123456789012:function:orders";

/// Serves one function; what it refuses at first works when `fixed` is set.
fn serve(listener: TcpListener, fixed: Arc<AtomicBool>) {
    block_on(async {
        let client = embedded::open(None).unwrap();
        let store = Store::new(client, &local_endpoint(None), Arc::new(SystemClock), 1);
        let park = Park::new(store, "park".to_owned(), OnPark::Hold, 24);
        let keeping = Keeping::nothing().with_park(park);
        keeping.ensure_tables(FOREVER).await.unwrap();
        let processor = processor::from_fn(async move |_: Change<IgnoredAny>, at: &Context<'_>| {
            match at.sequence_number().as_str() {
                "1" if !fixed.load(Ordering::Relaxed) => {
                    Err(Failure::park("it refuses the first").with_code("Refused"))
                }
                _ => Ok(()),
            }
        });
        let lanes = Lanes::new(processor, Arc::new(SystemClock)).with_keeping(keeping);
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
                orders/invocations";
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
        let keeping =
            Keeping::nothing().with_park(Park::new(store, "park".to_owned(), OnPark::Hold, 24));
        keeping.ensure_tables(FOREVER).await.unwrap();
        let fixed = AtomicBool::new(false);
        let processor = processor::from_fn(async |_: Change<IgnoredAny>, _: &Context<'_>| {
            if fixed.load(Ordering::Relaxed) { Ok(()) } else { Err(Failure::park("not yet")) }
        });
        let lanes = Lanes::new(processor, Arc::new(SystemClock)).with_keeping(keeping);
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
