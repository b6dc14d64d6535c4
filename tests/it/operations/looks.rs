//! Looking at what is parked: within Lambda's reply, without what is not needed, and whatever
//! is damaged.

use super::{Bench, asked};
use crate::support::{block_on, client_of, order};
use aws_smithy_runtime_api::client::{
    http::{HttpConnector, HttpConnectorFuture},
    orchestrator::HttpRequest,
};
use changefold::store::embedded::Embedded;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

/// Lambda's limit of a reply.
const REPLY_MAX: usize = 6 << 20;

/// Parks records of so many bytes that no compression makes small.
fn park_noise(bench: &Bench, records: &[(u32, &str)], length: usize) -> BTreeMap<String, String> {
    let mut rng = fastrand::Rng::with_seed(1);
    let mut noise =
        || std::iter::repeat_with(|| rng.alphanumeric()).take(length).collect::<String>();
    bench.shop().others.set("park");
    let record = |(number, key): &(u32, &str)| {
        let record = order(*number, "INSERT", key, Some((&noise(), "1", "PAID")));
        bench.invoke(&format!(r#"{{"Records":[{record}]}}"#)).unwrap();
        (number.to_string(), record)
    };
    records.iter().map(record).collect()
}

/// All that a show gives, answer by answer, each within Lambda's limit.
fn shown(bench: &Bench, of: &Value) -> (Vec<Value>, usize) {
    let (mut shown, mut answers, mut of) = (Vec::new(), 0, of.clone());
    loop {
        let mut told = bench.ask("show", of.clone());
        assert!(told.to_string().len() < REPLY_MAX, "{} bytes", told.to_string().len());
        answers += 1;
        shown.append(told["parked"].as_array_mut().unwrap());
        of["cursor"] = told["cursor"].take();
        if of["cursor"].is_null() {
            return (shown, answers);
        }
    }
}

#[test]
fn a_show_stays_within_lambdas_reply_and_goes_on_in_the_middle_of_a_key() {
    let bench = Bench::new(16);
    let records = park_noise(&bench, &[(1, "a"), (2, "a"), (3, "a"), (4, "b")], 2_000_000);
    let (all, answers) = shown(&bench, &json!({}));
    assert_eq!((all.len(), answers), (4, 2));
    for it in &all {
        assert!(it["record"] == records[it["sequence_number"].as_str().unwrap()].as_str());
    }
    let (two, answers) = shown(&bench, &json!({"limit": 1, "keys": ["pk=a"]}));
    assert_eq!((two.len(), answers), (3, 3));
}

#[test]
fn a_record_too_large_for_a_reply_is_told_without_its_payload() {
    let bench = Bench::new(16);
    park_noise(&bench, &[(1, "a"), (2, "b")], 20_000);
    // Compressed, noise of 62 signs is three quarters as long, and a third longer in base64.
    let (all, _) = shown(&bench, &json!({"bytes_max": 10_000}));
    let codes: Vec<&Value> = all.iter().map(|it| &it["record_omitted"]["code"]).collect();
    assert_eq!(codes, ["TooLargeForReply", "TooLargeForReply"]);
    assert!(all[0]["record"] == "" && all[0]["error_code"] == "Refused");
    assert!(all[0]["record_omitted"]["message"].as_str().unwrap().contains("--endpoint-url"));
    let bench = Bench::new(16);
    bench.shop().others.set("park");
    let record = order(1, "INSERT", "a", Some((&"x".repeat(50_000), "1", "PAID")));
    bench.invoke(&format!(r#"{{"Records":[{record}]}}"#)).unwrap();
    let (all, _) = shown(&bench, &json!({"bytes_max": 10_000}));
    assert_eq!(all[0]["record_encoding"], "gzip+base64");
}

/// Changes the row of a parked record behind everybody's back.
fn change_row(bench: &Bench, number: &str, change: impl FnOnce(&mut Value)) {
    let scan = json!({"TableName": "park"}).to_string();
    let (_, rows) = bench.store.answer("DynamoDB_20120810.Scan", scan.as_bytes());
    let rows: Value = serde_json::from_str(&rows).unwrap();
    let number = format!(r#""sequence_number":"{number}""#);
    let is_it = |row: &&Value| row["envelope"]["S"].as_str().is_some_and(|it| it.contains(&number));
    let mut row = rows["Items"].as_array().unwrap().iter().find(is_it).unwrap().clone();
    change(&mut row);
    let put = json!({"TableName": "park", "Item": row}).to_string();
    let (status, _) = bench.store.answer("DynamoDB_20120810.PutItem", put.as_bytes());
    assert_eq!(status, 200);
}

#[test]
fn a_row_that_cannot_be_read_is_not_passed_by_its_key() {
    let bench = Bench::new(16);
    bench.park(&[(1, "a"), (2, "a"), (3, "a"), (4, "b")]);
    // As a later release may write it.
    change_row(&bench, "2", |row| row["state"] = json!({"S": "waiting"}));
    let told = bench.ask("redrive", json!({}));
    assert_eq!((&told["done"], &told["left"]), (&json!(2), &json!(2)), "{told}");
    assert_eq!(told["failed"][0]["error_code"], "ParkedRowUnreadable", "{told}");
    let mut effects = bench.shop().effects.take();
    effects.sort();
    assert_eq!(effects, ["1", "4"]);
}

#[test]
fn a_damaged_payload_does_not_fail_the_show_of_others() {
    let bench = Bench::new(16);
    bench.park(&[(1, "a"), (2, "a"), (3, "b")]);
    change_row(&bench, "1", |row| row["record"] = json!({"B": "AAAA"}));
    let (all, _) = shown(&bench, &json!({}));
    assert_eq!(all.len(), 3);
    let damaged: Vec<&Value> = all.iter().filter(|it| it["record_omitted"].is_object()).collect();
    let [damaged] = damaged[..] else { panic!("{damaged:?}") };
    assert_eq!(
        (&damaged["sequence_number"], &damaged["record_omitted"]["code"]),
        (&json!("1"), &json!("PayloadDamaged"))
    );
    let message = damaged["record_omitted"]["message"].as_str().unwrap();
    assert!(!message.contains("pk=a"), "{message}");
    // Its key stops there, another does not.
    let told = bench.ask("redrive", json!({}));
    assert_eq!((&told["done"], &told["left"]), (&json!(1), &json!(2)), "{told}");
    assert_eq!(told["failed"][0]["error_code"], "PayloadDamaged");
}

/// Counts the bytes that the store sends.
#[derive(Debug, Clone)]
struct Metered {
    store: Embedded,
    bytes: Arc<AtomicUsize>,
}

impl HttpConnector for Metered {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let (answer, bytes) = (self.store.call(request), Arc::clone(&self.bytes));
        HttpConnectorFuture::new(async move {
            let answer = answer.await?;
            let length = answer.body().bytes().map_or(0, <[u8]>::len);
            bytes.fetch_add(length, Ordering::Relaxed);
            Ok(answer)
        })
    }
}

#[test]
fn list_drop_and_a_show_without_payloads_load_none() {
    let store = Embedded::open(None).unwrap();
    let bytes = Arc::new(AtomicUsize::new(0));
    let client = Metered { store: store.clone(), bytes: Arc::clone(&bytes) };
    let bench = Bench::over(store, client_of(client), 16);
    park_noise(&bench, &[(1, "a"), (2, "a"), (3, "b")], 200_000);
    let read = |operation: &str, of: Value| {
        bytes.store(0, Ordering::Relaxed);
        let told = block_on(bench.invoke_to(&asked(operation, of), &bench.call())).unwrap();
        (told, bytes.load(Ordering::Relaxed))
    };
    let (listed, length) = read("list", json!({}));
    assert_eq!(listed["parked"].as_array().unwrap().len(), 2);
    assert!(length < 20_000, "a list reads {length} bytes");
    let (shown, length) = read("show", json!({"without_payload": true}));
    assert_eq!(shown["parked"].as_array().unwrap().len(), 3);
    assert_eq!(shown["parked"][0]["record_omitted"]["code"], "NotAskedFor");
    assert!(length < 20_000, "a show without payloads reads {length} bytes");
    let (dropped, length) = read("drop", json!({"selection": {"keys": ["pk=a"]}, "yes": true}));
    assert_eq!(dropped["done"], 2);
    assert!(length < 20_000, "a drop reads {length} bytes");
    let (_, length) = read("show", json!({}));
    assert!(length > 150_000, "a show reads {length} bytes");
}

#[test]
fn a_list_goes_on_from_its_cursor_and_counts_what_is_held() {
    let bench = Bench::new(16);
    bench.park(&[(1, "a"), (2, "a"), (3, "a"), (4, "b"), (5, "c"), (6, "c")]);
    let (mut of, mut listed) = (json!({"limit": 1}), BTreeMap::new());
    loop {
        let told = bench.ask("list", of.clone());
        let parked = told["parked"].as_array().unwrap();
        assert!(parked.len() <= 1);
        for it in parked {
            listed.insert(it["key"].to_string(), it["held_behind"].as_u64().unwrap());
        }
        of["cursor"] = told["cursor"].clone();
        if of["cursor"].is_null() {
            break;
        }
    }
    assert_eq!(listed.into_values().collect::<Vec<_>>(), [2, 0, 1]);
    let halt = bench.try_to_ask("list", json!({"cursor": "so it is"})).unwrap_err();
    assert_eq!(halt.code, "CursorUnreadable");
}
