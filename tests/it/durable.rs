//! What a function keeps of its records, in an embedded store: parks in their order, whole
//! payloads, attempts by class, errors of any length.

mod rescued;
mod time;

use crate::support::{FOREVER, block_on, call, client_of, local_endpoint, order};
use aws_smithy_runtime_api::client::{
    http::{HttpConnector, HttpConnectorFuture, SharedHttpClient},
    orchestrator::HttpRequest,
};
use changefold::{
    batch::{Order, Work as _, lanes::Lanes},
    call::Measures,
    clock::{Clock, SystemClock},
    event,
    handler::Function,
    operation::{self, Operation, Redrive, Selection},
    outcome::Outcome,
    processor::{self, Context, Failure, Processor},
    record::{Change, Timestamp},
    recovery::{
        durable::DurableState,
        park::{OnPark, Park},
        progress::Progress,
    },
    store::{Store, embedded::Embedded},
};
use proptest::prelude::*;
use serde::de::IgnoredAny;
use serde_json::{Value, json};
use std::{
    cell::{Cell, RefCell},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

fn store(embedded: &Embedded) -> Store {
    let client = SharedHttpClient::new(embedded.clone());
    Store::new(client, &local_endpoint(None), Arc::new(SystemClock), 1)
}

fn parking(store: &Store, on_park: OnPark) -> DurableState {
    let park = Park::new(store.clone(), "park".to_owned(), on_park, 24);
    DurableState::none().with_park(park)
}

async fn function<P: Processor>(durable: DurableState, processor: P) -> Function<Lanes<P>> {
    durable.ensure_tables(FOREVER).await.unwrap();
    let lanes = Lanes::new(processor, Arc::new(SystemClock)).with_durable_state(durable);
    Function::new(lanes, Arc::new(SystemClock))
}

fn batch(records: &[String]) -> Vec<u8> {
    format!(r#"{{"Records":[{}]}}"#, records.join(",")).into_bytes()
}

async fn ask<P: Processor>(function: &Function<Lanes<P>>, event: Vec<u8>) -> Value {
    serde_json::to_value(function.invoke(&event, &call()).await.unwrap()).unwrap()
}

async fn redrive<P: Processor>(function: &Function<Lanes<P>>) -> Value {
    ask(function, operation::event(Operation::Redrive(Redrive::default()))).await
}

async fn show<P: Processor>(function: &Function<Lanes<P>>) -> Vec<Value> {
    let shown = ask(function, operation::event(Operation::Show(Selection::default()))).await;
    shown["parked"].as_array().unwrap().clone()
}

/// The rows of the park table whose partition key begins so.
fn rows(embedded: &Embedded, prefix: &str) -> Vec<Value> {
    let asked = json!({ "TableName": "park", "ConsistentRead": true });
    let (_, answer) = embedded.answer("DynamoDB_20120810.Scan", asked.to_string().as_bytes());
    let answer: Value = serde_json::from_str(&answer).unwrap();
    let rows = answer["Items"].as_array().unwrap().iter();
    rows.filter(|row| row["pk"]["S"].as_str().unwrap().starts_with(prefix)).cloned().collect()
}

fn change_row(embedded: &Embedded, operation: &str, request: &Value) {
    let operation = format!("DynamoDB_20120810.{operation}");
    let (status, answer) = embedded.answer(&operation, request.to_string().as_bytes());
    assert_eq!(status, 200, "{answer}");
}

/// A message of the FIFO group `g`, sent in the same millisecond as all others.
fn message(id: &str, number: &str) -> String {
    format!(
        r#"{{"messageId":"{id}","receiptHandle":"r","body":"{{}}","attributes":{{"SequenceNumber":"{number}","MessageGroupId":"g","ApproximateReceiveCount":"1","SentTimestamp":"1545082649183"}},"messageAttributes":{{}},"eventSource":"aws:sqs","eventSourceARN":"arn:aws:sqs:us-east-2:123456789012:jobs.fifo","awsRegion":"us-east-2"}}"#
    )
}

#[test]
fn fifo_messages_of_one_millisecond_stay_in_the_order_of_their_numbers() {
    // By their ids they would sort the other way round, and by the digits as text as well.
    let (first, second) =
        (message("z", "9849496460467696128"), message("a", "18849496460467696128"));
    for deliveries in [vec![vec![&first, &second]], vec![vec![&first], vec![&second]]] {
        block_on(async {
            let embedded = Embedded::open(None).unwrap();
            let (is_fixed, effects) = (Cell::new(false), RefCell::new(Vec::new()));
            let processor = processor::from_fn(async |_: Change<IgnoredAny>, at: &Context<'_>| {
                let id = at.message_id().unwrap();
                if id == "z" && !is_fixed.get() {
                    return Err(Failure::park("not yet"));
                }
                effects.borrow_mut().push(id.to_owned());
                Ok(())
            });
            let function = function(parking(&store(&embedded), OnPark::Hold), processor).await;
            for records in &deliveries {
                let records: Vec<String> = records.iter().map(|it| (*it).clone()).collect();
                let reply = ask(&function, batch(&records)).await;
                assert_eq!(reply, json!({"batchItemFailures": []}));
            }
            assert!(effects.borrow().is_empty(), "{:?} ran before `z`", effects.borrow());
            is_fixed.set(true);
            assert_eq!(redrive(&function).await["done"], 2);
            assert_eq!(*effects.borrow(), ["z", "a"]);
        });
    }
}

/// A record whose payload takes several rows: noise, so that compressing does not help.
fn large(number: u32, key: &str) -> String {
    let mut rng = fastrand::Rng::with_seed(number.into());
    let noise: String = std::iter::repeat_with(|| rng.alphanumeric()).take(900_000).collect();
    order(number, "INSERT", key, Some((&noise, "1", "PAID")))
}

/// Gives records to the work as a rescue does.
async fn rescue<P: Processor>(function: &Function<Lanes<P>>, records: &[String]) -> Vec<Outcome> {
    let event = batch(records);
    let event = event::parse(&event);
    let records = event.records().unwrap();
    let mut outcomes = vec![Outcome::default(); records.len()];
    let given_up = ("RetryAttemptsExhausted", &call());
    function
        .work()
        .rescue(records, &mut outcomes, &mut Measures::default(), given_up)
        .await
        .unwrap();
    outcomes
}

#[test]
fn a_parked_payload_survives_a_rescue_of_its_record_with_other_bytes() {
    block_on(async {
        let embedded = Embedded::open(None).unwrap();
        let is_fixed = Cell::new(false);
        let processor =
            processor::from_fn(
                async |_: Change<IgnoredAny>, _: &Context<'_>| {
                    if is_fixed.get() { Ok(()) } else { Err(Failure::park("not yet")) }
                },
            );
        let function = function(parking(&store(&embedded), OnPark::Hold), processor).await;
        let record = large(1, "a");
        ask(&function, batch(std::slice::from_ref(&record))).await;
        let parts = rows(&embedded, "P#").len();
        assert!(parts > 1, "{parts} parts");
        // The stream's own text of it, say, and one cut short.
        let other = record.replace(r#""eventVersion":"1.1","#, r#""eventVersion" : "1.1","#);
        assert_eq!(rescue(&function, &[other]).await, [Outcome::AlreadyApplied]);
        assert!(show(&function).await[0]["record"] == json!(record), "the record is another");
        assert_eq!(rescue(&function, &[large(1, "a")]).await, [Outcome::AlreadyApplied]);
        assert!(show(&function).await[0]["record"] == json!(record), "the record is another");
        assert_eq!(rows(&embedded, "P#").len(), parts, "parts that no row refers to are left");
        is_fixed.set(true);
        assert_eq!(redrive(&function).await["done"], 1);
        assert_eq!(rows(&embedded, "P#").len(), 0, "parts of a settled record are left");
    });
}

#[test]
fn parts_of_a_record_that_runs_after_all_are_deleted() {
    block_on(async {
        let embedded = Embedded::open(None).unwrap();
        let operator = processor::from_fn(async |_: Change<IgnoredAny>, _: &Context<'_>| Ok(()));
        let operator = function(parking(&store(&embedded), OnPark::Hold), operator).await;
        let effects = RefCell::new(Vec::new());
        let processor = processor::from_fn(async |_: Change<IgnoredAny>, at: &Context<'_>| {
            match at.sequence_number().as_str() {
                "1" => return Err(Failure::park("never")),
                // The key of the others is opened while they wait to be parked behind it.
                "3" => assert_eq!(redrive(&operator).await["done"], 1),
                _ => {}
            }
            effects.borrow_mut().push(at.sequence_number().to_string());
            Ok(())
        });
        let function = function(parking(&store(&embedded), OnPark::Hold), processor).await;
        ask(&function, batch(&[order(1, "INSERT", "a", None)])).await;
        let reply = ask(&function, batch(&[large(2, "a"), order(3, "INSERT", "b", None)])).await;
        assert_eq!(reply, json!({"batchItemFailures": []}));
        assert_eq!(*effects.borrow(), ["3", "2"]);
        assert_eq!(rows(&embedded, "P#").len(), 0, "parts of a record that ran are left");
    });
}

#[test]
fn parts_as_they_were_written_before_are_read_and_deleted() {
    block_on(async {
        let embedded = Embedded::open(None).unwrap();
        let is_fixed = Cell::new(false);
        let processor =
            processor::from_fn(
                async |_: Change<IgnoredAny>, _: &Context<'_>| {
                    if is_fixed.get() { Ok(()) } else { Err(Failure::park("not yet")) }
                },
            );
        let function = function(parking(&store(&embedded), OnPark::Hold), processor).await;
        let record = large(1, "a");
        ask(&function, batch(std::slice::from_ref(&record))).await;
        // The layout of versions before 1: parts by number alone, and no name in the row.
        for mut part in rows(&embedded, "P#") {
            let key = json!({ "pk": part["pk"], "sk": part["sk"] });
            change_row(&embedded, "DeleteItem", &json!({ "TableName": "park", "Key": key }));
            let name = part["sk"]["S"].as_str().unwrap();
            part["sk"]["S"] = json!(name[name.len() - 4..]);
            change_row(&embedded, "PutItem", &json!({ "TableName": "park", "Item": part }));
        }
        let mut row = rows(&embedded, "K#").into_iter().find(|it| it["sk"]["S"] != "H").unwrap();
        row.as_object_mut().unwrap().remove("parts_name");
        change_row(&embedded, "PutItem", &json!({ "TableName": "park", "Item": row }));
        assert!(show(&function).await[0]["record"] == json!(record), "the record is another");
        is_fixed.set(true);
        assert_eq!(redrive(&function).await["done"], 1);
        assert_eq!(rows(&embedded, "P#").len(), 0, "parts of a settled record are left");
    });
}

/// Fails as it is told at each attempt; beyond, it works.
async fn play_attempts(told: &str, invocations: usize) -> (Vec<u32>, Vec<Value>) {
    let embedded = Embedded::open(None).unwrap();
    let store = store(&embedded);
    let attempts = RefCell::new(Vec::new());
    let processor = processor::from_fn(async |_: Change<IgnoredAny>, at: &Context<'_>| {
        attempts.borrow_mut().push(at.attempt());
        match told.chars().nth(attempts.borrow().len() - 1) {
            Some('r') => Err(Failure::retry("not yet")),
            Some('u') => Err(std::fmt::Error.into()),
            _ => Ok(()),
        }
    });
    let progress = Progress::new(store.clone(), "progress".to_owned(), 24);
    let durable = parking(&store, OnPark::Hold).with_progress(progress);
    let function = function(durable, processor).await;
    for _ in 0..invocations {
        ask(&function, batch(&[order(1, "INSERT", "a", None)])).await;
    }
    let shown = show(&function).await;
    (attempts.take(), shown)
}

#[test]
fn transient_tries_leave_the_attempts_of_an_unclassified_error_alone() {
    block_on(async {
        let (attempts, parked) = play_attempts("rrru", 1).await;
        assert_eq!((attempts, parked.len()), (vec![1, 2, 3, 4, 5], 0), "tries of one invocation");
        // Five transient tries use up an invocation.
        let (attempts, parked) = play_attempts("rrrrruu", 2).await;
        assert_eq!((attempts.len(), parked.len()), (8, 0), "tries of two invocations");
        let (attempts, parked) = play_attempts("uurrrrru", 2).await;
        assert_eq!((attempts.len(), &parked[0]["attempts"]), (8, &json!(8)), "all are counted");
    });
}

#[derive(Debug)]
struct Deep {
    texts: Vec<String>,
    at: usize,
    cause: Option<Box<Deep>>,
}

impl Deep {
    fn of(texts: &[String], at: usize) -> Self {
        let cause = (at + 1 < texts.len()).then(|| Box::new(Self::of(texts, at + 1)));
        Self { texts: texts.to_vec(), at, cause }
    }
}

impl std::fmt::Display for Deep {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.texts[self.at])
    }
}

impl std::error::Error for Deep {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.cause.as_ref().map(|cause| &**cause as _)
    }
}

fn text() -> impl Strategy<Value = String> {
    let unit = prop_oneof!["[a-z]{1,3}", "\\PC", Just("\u{1}\u{fffe}\"\\".to_owned())];
    let length = prop_oneof![4 => 0..50_usize, 1 => 100_000..400_000_usize];
    (unit, length).prop_map(|(unit, length)| unit.repeat(length))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn any_chain_of_errors_parks(
        texts in prop::collection::vec(text(), 1..30),
        key in text(),
    ) {
        let (reply, shown) = block_on(async {
            let embedded = Embedded::open(None).unwrap();
            let processor = processor::from_fn(async |_: Change<IgnoredAny>, _: &Context<'_>| {
                Err(Failure::park(Deep::of(&texts, 0)))
            });
            let durable = parking(&store(&embedded), OnPark::Hold);
            durable.ensure_tables(FOREVER).await.unwrap();
            let by = Order::By(|record| Ok(record.event_id().unwrap_or_default().to_owned()));
            let lanes = Lanes::new(processor, Arc::new(SystemClock));
            let lanes = lanes.with_durable_state(durable).with_order(by);
            let function = Function::new(lanes, Arc::new(SystemClock));
            // The largest payload that stands in its row.
            let mut rng = fastrand::Rng::with_seed(1);
            let noise: String =
                std::iter::repeat_with(|| rng.alphanumeric()).take(395_000).collect();
            let record = order(1, "INSERT", "a", Some((&noise, "1", "PAID")));
            let id = serde_json::to_string(&key).unwrap();
            let record = record.replacen(r#""eventID":"1""#, &format!(r#""eventID":{id}"#), 1);
            (ask(&function, batch(&[record])).await, show(&function).await)
        });
        prop_assert_eq!(reply, json!({"batchItemFailures": []}));
        let told = shown[0]["error"].as_array().unwrap();
        prop_assert!(texts[0].len() > 500 || told[0] == json!(texts[0]), "a short text is whole");
        let length: usize = told.iter().map(|text| text.as_str().unwrap().len()).sum();
        prop_assert!(length < 20_000, "{} bytes of errors", length);
    }
}

/// A transport that notes how many calls are under way together.
#[derive(Debug, Clone)]
struct Counting {
    embedded: Embedded,
    now: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
}

impl HttpConnector for Counting {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let Self { embedded, now, most } = self.clone();
        HttpConnectorFuture::new(async move {
            let others = now.fetch_add(1, Ordering::Relaxed);
            most.fetch_max(others + 1, Ordering::Relaxed);
            for _ in 0..3 {
                tokio::task::yield_now().await;
            }
            now.fetch_sub(1, Ordering::Relaxed);
            embedded.call(request).await
        })
    }
}

#[test]
fn hundreds_of_parks_make_a_few_store_calls_at_a_time() {
    block_on(async {
        let most = Arc::new(AtomicUsize::new(0));
        let embedded = Embedded::open(None).unwrap();
        let counting = Counting { embedded, now: Arc::default(), most: Arc::clone(&most) };
        let client = client_of(counting);
        let store = Store::new(client, &local_endpoint(None), Arc::new(SystemClock), 1);
        let processor = processor::from_fn(async |_: Change<IgnoredAny>, at: &Context<'_>| {
            Err(if at.sequence_number().as_str().ends_with('7') {
                Failure::retry("not yet").with_code("Seven")
            } else {
                Failure::park("never")
            })
        });
        let progress = Progress::new(store.clone(), "progress".to_owned(), 24);
        let durable = parking(&store, OnPark::Skip).with_progress(progress);
        let function = function(durable, processor).await;
        let record = |at: u32| {
            let minutes = format!("{}.0", 1_789_649_451 + at * 400);
            order(at, "INSERT", &format!("k{at}"), None).replace("1789649451.0", &minutes)
        };
        ask(&function, batch(&(0..200).map(record).collect::<Vec<_>>())).await;
        let most = most.load(Ordering::Relaxed);
        assert!((2..=32).contains(&most), "{most} calls at a time");
    });
}

#[test]
fn an_order_that_was_changed_does_not_pass_by_open_holds() {
    block_on(async {
        let embedded = Embedded::open(None).unwrap();
        let effects = RefCell::new(Vec::new());
        let processor = |is_fixed: bool| {
            let effects = &effects;
            processor::from_fn(async move |_: Change<IgnoredAny>, at: &Context<'_>| {
                match at.sequence_number().as_str() {
                    "1" if !is_fixed => Err(Failure::park("not yet")),
                    number => {
                        effects.borrow_mut().push(number.to_owned());
                        Ok(())
                    }
                }
            })
        };
        let before = function(parking(&store(&embedded), OnPark::Hold), processor(false)).await;
        ask(&before, batch(&[order(1, "INSERT", "a", None)])).await;
        let lanes = Lanes::new(processor(true), Arc::new(SystemClock))
            .with_durable_state(parking(&store(&embedded), OnPark::Hold))
            .with_order(Order::PartitionKey { attribute: Some("pk".to_owned()) });
        let after = Function::new(lanes, Arc::new(SystemClock));
        let next = batch(&[order(2, "MODIFY", "a", None)]);
        let halt = after.invoke(&next, &call()).await.unwrap_err();
        assert_eq!(halt.code, "OrderChanged", "{halt}");
        for named in ["`key`", "`partition_key:pk`", "redrive", "drop", "CHANGEFOLD_ORDER"] {
            assert!(halt.message.contains(named), "no {named} in: {halt}");
        }
        // What it says to do helps.
        assert_eq!(redrive(&after).await["done"], 1);
        assert_eq!(ask(&after, next).await, json!({"batchItemFailures": []}));
        assert_eq!(*effects.borrow(), ["1", "2"]);
    });
}
