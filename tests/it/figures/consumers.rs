//! Two functions in processes of their own, on one stream and on the same tables: each has what
//! it keeps to itself.

use super::{RETENTION_HOURS, backlog};
use crate::support::{self, FOREVER};
use changefold::{
    call::Call,
    clock::{Clock, SystemClock},
    local::{
        runtime_api::{Program, RuntimeApi},
        store_server::StoreServer,
        target::Target,
    },
    operation::{self, Listing, Operation, Selection},
    record::Timestamp,
    recovery::{
        durable::DurableState,
        park::{OnPark, Park},
        progress::Progress,
    },
    store::embedded::Embedded,
};
use std::{
    fs::File,
    path::{Path, PathBuf},
    sync::Arc,
};

const INVOCATION_MS: i64 = 60_000;

/// A function of this name, which writes its effects into a file of its own.
fn function(name: &str, directory: &Path, url: &str, is_cured: bool) -> RuntimeApi {
    let log = File::options().create(true).append(true).open(directory.join("log")).unwrap();
    let arn = format!("arn:aws:lambda:us-east-1:123456789012:function:{name}");
    let mut program = Program::new(support::crashing::path(), arn)
        .with_output(log)
        .with_variable("CRASHING_EFFECTS", directory.join(name));
    for (name, value) in [
        ("AWS_ACCESS_KEY_ID", "local"),
        ("AWS_SECRET_ACCESS_KEY", "local"),
        ("AWS_ENDPOINT_URL_DYNAMODB", url),
        ("CHANGEFOLD_PARK_TABLE", "park"),
        ("CHANGEFOLD_PROGRESS_TABLE", "progress"),
        ("RUST_LOG", "warn"),
        ("CRASHING_CURED", if is_cured { "yes" } else { "" }),
    ] {
        program = program.with_variable(name, value);
    }
    RuntimeApi::new(program, Arc::new(SystemClock))
}

async fn ask(function: &RuntimeApi, event: Vec<u8>) -> serde_json::Value {
    let deadline = Timestamp(SystemClock.now().0 + INVOCATION_MS);
    let answer = function.invoke(event.into(), Call::new("call", deadline)).await.unwrap();
    serde_json::from_slice(&answer).unwrap()
}

async fn parked(function: &RuntimeApi) -> usize {
    let answer = ask(function, operation::event(Operation::List(Selection::default()))).await;
    let listing: Listing = serde_json::from_value(answer).unwrap();
    listing.parked.len()
}

fn event() -> Vec<u8> {
    let records = [("a", "busy"), ("b", "ok"), ("c", "park"), ("d", "ok")];
    let records = (1..).zip(records).map(|(number, (key, fate))| {
        let data = format!(r#"{{"fate":"{fate}","key":"{key}","number":{number}}}"#);
        let data = base64_simd::STANDARD.encode_to_string(data);
        format!(
            r#"{{"kinesis":{{"partitionKey":"{key}","sequenceNumber":"{number}","data":"{data}","approximateArrivalTimestamp":1789649451.0}},"eventSource":"aws:kinesis","eventID":"shardId-000000000001:{number}","eventSourceARN":"arn:aws:kinesis:us-east-1:123456789012:stream/made"}}"#
        )
    });
    format!(r#"{{"Records":[{}]}}"#, records.collect::<Vec<_>>().join(",")).into_bytes()
}

/// The first cannot do `a` yet, parks `c`, and has done `b` and `d`. The second, to which
/// nothing is difficult, has to do all four.
#[test]
fn two_functions_on_one_park_table_and_one_progress_table_are_kept_apart() {
    let name = format!("changefold-consumers-{}", std::process::id());
    let directory: PathBuf = std::env::temp_dir().join(name);
    std::fs::create_dir_all(&directory).unwrap();
    support::block_on(async {
        let server = StoreServer::start(Embedded::open(None).unwrap()).await.unwrap();
        let store = support::endpoint(&server.url());
        DurableState::none()
            .with_park(Park::new(store.clone(), "park".to_owned(), OnPark::Hold, RETENTION_HOURS))
            .with_progress(Progress::new(store, "progress".to_owned(), RETENTION_HOURS))
            .ensure_tables(FOREVER)
            .await
            .unwrap();
        let made = |name| {
            let effects = backlog::effects(&directory.join(name));
            let mut keys: Vec<String> = effects.into_iter().map(|(key, _)| key).collect();
            keys.sort_unstable();
            keys.concat()
        };
        let first = function("first", &directory, &server.url(), false);
        let second = function("second", &directory, &server.url(), true);

        let reply = ask(&first, event()).await;
        assert_eq!(reply["batchItemFailures"][0]["itemIdentifier"], "1", "{reply}");
        let reply = ask(&second, event()).await;
        assert_eq!(reply["batchItemFailures"].as_array().map(Vec::len), Some(0), "{reply}");
        assert_eq!((made("first"), made("second")), ("bd".to_owned(), "abcd".to_owned()));
        assert_eq!((parked(&first).await, parked(&second).await), (1, 0));

        // A new process of the first finds what the first has kept.
        let cured = function("first", &directory, &server.url(), true);
        let reply = ask(&cured, event()).await;
        assert_eq!(reply["batchItemFailures"].as_array().map(Vec::len), Some(0), "{reply}");
        assert_eq!(made("first"), "abd", "and its parked record waits");
    });
    std::fs::remove_dir_all(&directory).ok();
}
