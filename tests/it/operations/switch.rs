//! Which operations a function carries out, and what its log says of them.

use super::Bench;
use crate::support::environment;
use changefold::operation::Operations;
use serde_json::{Value, json};
use std::{
    io::Write,
    sync::{Arc, Mutex},
};

fn switched(operations: Operations) -> Bench {
    let bench = Bench::new(16);
    bench.park(&[(1, "a"), (2, "b")]);
    Bench { function: bench.function.with_operations(operations), ..bench }
}

/// Asks for each operation; gives back the code of the refusal, or `done`.
fn codes(bench: &Bench) -> [&'static str; 5] {
    [
        ("list", json!({})),
        ("show", json!({"without_payload": true})),
        ("show", json!({})),
        ("redrive", json!({"dry_run": true})),
        ("drop", json!({"selection": {"keys": ["pk=a"]}, "yes": true})),
    ]
    .map(|(operation, of)| {
        bench.try_to_ask(operation, of).map_or_else(|halt| halt.code, |_| "done")
    })
}

#[test]
fn off_carries_out_nothing_and_names_the_setting() {
    let bench = switched(Operations::Off);
    assert_eq!(codes(&bench), ["OperationsOff"; 5]);
    let halt = bench.try_to_ask("list", json!({})).unwrap_err();
    assert!(halt.message.contains("CHANGEFOLD_OPERATIONS=read"), "{halt}");
    // Its records flow all the same.
    bench.deliver(&[(3, "c")]);
}

#[test]
fn read_gives_no_payload_and_changes_nothing() {
    let read_only = "OperationsReadOnly";
    let bench = switched(Operations::Read);
    assert_eq!(codes(&bench), ["done", "done", read_only, read_only, read_only]);
    let halt = bench.try_to_ask("show", json!({})).unwrap_err();
    assert!(halt.message.contains("CHANGEFOLD_OPERATIONS=all"), "{halt}");
    assert_eq!(bench.listed().len(), 2);
}

#[test]
fn all_carries_out_all() {
    assert_eq!(codes(&switched(Operations::All)), ["done"; 5]);
    assert!(environment("CHANGEFOLD_OPERATIONS").is_none());
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn an_operation_is_logged_with_what_it_did_and_by_whom_but_without_keys() {
    let bench = Bench::new(16);
    bench.park(&[(1, "secret-key"), (2, "secret-key"), (3, "b")]);
    bench.shop().tell(1, "park");
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_writer(move || writer.clone())
        .finish();
    // With a second subscriber in the process, tracing asks both of them about a line that
    // another test's thread meets first, instead of that thread alone, which has none.
    let _second = tracing::Dispatch::new(tracing_subscriber::registry());
    tracing::subscriber::with_default(subscriber, || {
        let call = bench.call().with_caller(Some("cognito:eu-west-1:1234".to_owned()));
        let asked = super::asked("redrive", json!({}));
        crate::support::block_on(bench.invoke_to(&asked, &call)).unwrap();
        bench.ask(
            "drop",
            json!({"selection": {"keys": ["pk=secret-key"], "limit": 1}, "yes": true}),
        );
        bench.try_to_ask("drop", json!({})).unwrap_err();
        bench.try_to_ask("redrive", json!({"keys": "secret-key"})).unwrap_err();
    });
    let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(!text.contains("secret-key"), "{text}");
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |message: &str| -> Vec<&Value> {
        lines.iter().filter(|line| line["message"] == message).collect()
    };
    let [redrive, drop] = of("OperationFinished")[..] else { panic!("{text}") };
    let counts = |line: &Value| ["done", "left", "failed"].map(|name| line[name].as_u64().unwrap());
    assert_eq!((&redrive["operation"], counts(redrive)), (&json!("redrive"), [1, 2, 1]), "{text}");
    assert_eq!(
        (&redrive["caller"], &redrive["request_id"]),
        (&json!("cognito:eu-west-1:1234"), &json!("operator"))
    );
    assert_eq!((&drop["operation"], counts(drop)), (&json!("drop"), [1, 1, 0]), "{text}");
    let refused: Vec<_> =
        of("OperationFinishError").iter().map(|line| (&line["operation"], &line["code"])).collect();
    let expected = [("drop", "DropNotConfirmed"), ("unreadable", "OperationUnreadable")];
    assert_eq!(refused.len(), 2, "{text}");
    for ((operation, code), expected) in refused.into_iter().zip(expected) {
        assert_eq!((operation.as_str(), code.as_str()), (Some(expected.0), Some(expected.1)));
    }
}
