//! The tables for parks and progress: whose they are, what is remembered of records unpacked
//! from one, and what happens when there is no room.

use crate::support::{FOREVER, block_on, call, local_endpoint, order};
use changefold::{
    batch::lanes::Lanes,
    call::Call,
    clock::SystemClock,
    handler::Function,
    operation::{self, Operation, Redrive, Selection},
    processor::{Context, Failure, Processor},
    record::{Change, Timestamp},
    recovery::{
        destination::{Destination, DestinationError},
        durable::{DurableState, OnFull},
        park::{OnPark, Park, envelope::Envelope},
        progress::Progress,
    },
    store::{Store, embedded},
};
use futures_util::future::{BoxFuture, FutureExt};
use serde_json::Value;
use std::{
    cell::{Cell, RefCell},
    sync::{Arc, Mutex},
};

/// Fails as the test says, and notes what works.
#[derive(Default)]
struct Noting {
    fails: RefCell<Vec<(String, bool)>>,
    done: RefCell<Vec<String>>,
    seen: Cell<usize>,
}

impl Noting {
    /// Records that fail from now on: by their data or number, and whether for good.
    fn fail(&self, which: &[(&str, bool)]) {
        *self.fails.borrow_mut() =
            which.iter().map(|(it, park)| ((*it).to_owned(), *park)).collect();
    }
}

impl Processor for Noting {
    type Item<'a> = Value;

    async fn process(&self, change: Change<Value>, at: &Context<'_>) -> Result<(), Failure> {
        self.seen.update(|seen| seen + 1);
        let number = || at.sequence_number().as_str().to_owned();
        let name = change.new_image().map_or_else(number, Value::to_string);
        match self.fails.borrow().iter().find(|(it, _)| *it == name) {
            Some((_, true)) => return Err(Failure::park("told to")),
            Some((_, false)) => return Err(Failure::retry("told to")),
            None => {}
        }
        self.done.borrow_mut().push(name);
        Ok(())
    }
}

type Noted = Function<Lanes<Noting>>;

struct Tables(Store);

impl Tables {
    fn new() -> Self {
        let client = embedded::open(None).unwrap();
        Self(Store::new(client, &local_endpoint(None), Arc::new(SystemClock), 1))
    }

    fn park(&self) -> Park {
        Park::new(self.0.clone(), "park".to_owned(), OnPark::Hold, 24)
    }

    fn durable_state(&self, park: Park) -> DurableState {
        let progress = Progress::new(self.0.clone(), "progress".to_owned(), 24);
        DurableState::none().with_park(park).with_progress(progress)
    }

    async fn function(&self, name: &str) -> Noted {
        made(self.durable_state(self.park()).of_function(name, "1")).await
    }
}

async fn made(durable: DurableState) -> Noted {
    durable.ensure_tables(FOREVER).await.unwrap();
    let lanes = Lanes::new(Noting::default(), Arc::new(SystemClock)).with_durable_state(durable);
    Function::new(lanes, Arc::new(SystemClock))
}

fn noting(function: &Noted) -> &Noting {
    function.work().processor()
}

async fn ask(function: &Noted, event: &[u8], call: &Call) -> Value {
    serde_json::to_value(function.invoke(event, call).await.unwrap()).unwrap()
}

async fn deliver(function: &Noted, records: &[String], call: &Call) -> Option<String> {
    let event = format!(r#"{{"Records":[{}]}}"#, records.join(","));
    let reply = ask(function, event.as_bytes(), call).await;
    reply["batchItemFailures"][0]["itemIdentifier"].as_str().map(str::to_owned)
}

/// The envelopes that are parked, as `number code`.
async fn parked(function: &Noted, call: &Call) -> Vec<String> {
    let shown = ask(function, &operation::event(Operation::Show(Selection::default())), call).await;
    let envelopes: Vec<Envelope> = serde_json::from_value(shown["parked"].clone()).unwrap();
    envelopes.iter().map(|it| format!("{} {}", it.sequence_number, it.error_code)).collect()
}

fn orders(numbers: std::ops::RangeInclusive<u32>) -> Vec<String> {
    numbers.map(|at| order(at, "INSERT", &format!("k{at}"), None)).collect()
}

/// A has finished 2 and 3 beyond the record it stands at. B has processed nothing.
#[test]
fn what_one_function_has_finished_another_still_runs() {
    block_on(async {
        let tables = Tables::new();
        let (a, b) = (tables.function("a").await, tables.function("b").await);
        noting(&a).fail(&[("1", false)]);
        assert_eq!(deliver(&a, &orders(1..=3), &call()).await.as_deref(), Some("1"));
        assert_eq!(deliver(&b, &orders(1..=3), &call()).await, None);
        assert_eq!(*noting(&b).done.borrow(), ["1", "2", "3"]);
        // A's own marks are found again.
        noting(&a).fail(&[]);
        deliver(&a, &orders(1..=3), &call()).await;
        assert_eq!(*noting(&a).done.borrow(), ["2", "3", "1"]);
    });
}

/// A has parked 1 and holds its key. For B the record has not failed yet.
#[test]
fn what_one_function_has_parked_another_still_runs() {
    block_on(async {
        let tables = Tables::new();
        let (a, b) = (tables.function("a").await, tables.function("b").await);
        let same_key: Vec<String> = (1..=2).map(|at| order(at, "INSERT", "k", None)).collect();
        noting(&a).fail(&[("1", true)]);
        deliver(&a, &same_key, &call()).await;
        deliver(&b, &same_key, &call()).await;
        assert_eq!(*noting(&b).done.borrow(), ["1", "2"]);
        assert_eq!(parked(&a, &call()).await, ["1 ProcessorPark", "2 HeldBehindParked"]);
        assert_eq!(parked(&b, &call()).await, [""; 0]);
        // B redrives nothing of A's.
        let redrive = operation::event(Operation::Redrive(Redrive::default()));
        assert_eq!(ask(&b, &redrive, &call()).await["done"], 0);
    });
}

/// Two aliases with a mapping each are two consumers; a deployment is none.
#[test]
fn an_alias_keeps_its_own_and_a_version_goes_on() {
    block_on(async {
        let tables = Tables::new();
        let function = tables.function("orders").await;
        let by = |qualifier: &str| {
            let arn = "arn:aws:lambda:us-east-1:123456789012:function:orders";
            call().with_function_arn(format!("{arn}{qualifier}"))
        };
        noting(&function).fail(&[("1", true)]);
        for qualifier in ["", ":live", ":next"] {
            deliver(&function, &orders(1..=1), &by(qualifier)).await;
        }
        assert_eq!(noting(&function).seen.get(), 3);
        for qualifier in ["", ":$LATEST", ":8", ":live", ":next"] {
            assert_eq!(parked(&function, &by(qualifier)).await.len(), 1, "{qualifier}");
            deliver(&function, &orders(1..=1), &by(qualifier)).await;
        }
        assert_eq!(noting(&function).seen.get(), 3, "it was known each time");
        assert_eq!(parked(&function, &by(":another")).await.len(), 0);
    });
}

/// A record that enhanced fan-out unpacked.
fn unpacked(number: u32, data: &str) -> String {
    let data = base64_simd::STANDARD.encode_to_string(data);
    format!(
        r#"{{"kinesis":{{"partitionKey":"k","sequenceNumber":"{number}","data":"{data}","approximateArrivalTimestamp":1789649451.0}},"eventSource":"aws:kinesis","eventID":"shardId-000000000001:{number}","eventName":"aws:kinesis:record","eventSourceARN":"arn:aws:kinesis:us-east-1:123456789012:stream/clicks/consumer/fast:1"}}"#
    )
}

fn other_key(number: u32, data: &str) -> String {
    unpacked(number, data).replace(r#""partitionKey":"k""#, r#""partitionKey":"x""#)
}

fn named(request_id: &str) -> Call {
    Call::new(request_id, FOREVER)
}

/// Lambda delivers an aggregate whole, and later a part of it: the marks of the first records
/// must not acknowledge others that stand where these stood.
#[test]
fn a_cut_inside_an_aggregate_acknowledges_no_record_that_has_not_run() {
    block_on(async {
        let function = Tables::new().function("f").await;
        noting(&function).fail(&[("1", false), ("[2]", false)]);
        let whole = [other_key(1, "1"), unpacked(2, "[1]"), unpacked(2, "[2]"), other_key(3, "3")];
        assert_eq!(deliver(&function, &whole, &named("1")).await.as_deref(), Some("1"));
        assert_eq!(*noting(&function).done.borrow(), ["[1]"]);
        noting(&function).fail(&[]);
        deliver(&function, &[unpacked(2, "[2]"), other_key(3, "3")], &named("2")).await;
        assert!(noting(&function).done.borrow().contains(&"[2]".to_owned()));
    });
}

/// The same where nothing tells the records apart.
#[test]
fn of_two_records_of_one_content_none_is_acknowledged_for_the_other() {
    block_on(async {
        for cut in [1, 2] {
            let function = Tables::new().function("f").await;
            noting(&function).fail(&[("1", false)]);
            let records = [other_key(1, "1"), unpacked(2, "[]"), unpacked(2, "[]")];
            deliver(&function, &records[..=cut], &named("1")).await;
            noting(&function).done.borrow_mut().clear();
            deliver(&function, &records[2..], &named("2")).await;
            assert_eq!(*noting(&function).done.borrow(), ["[]"], "{cut} were delivered before");
        }
    });
}

/// The first of an aggregate is parked when the rest comes, cut off from it.
#[test]
fn a_cut_inside_an_aggregate_takes_no_record_for_parked() {
    for second in ["[2]", "[1]"] {
        block_on(async {
            let function = Tables::new().function("f").await;
            noting(&function).fail(&[("[1]", true)]);
            deliver(&function, &[unpacked(2, "[1]")], &named("1")).await;
            deliver(&function, &[unpacked(2, second)], &named("2")).await;
            assert_eq!(*noting(&function).done.borrow(), [""; 0]);
            assert_eq!(parked(&function, &call()).await.len(), 2, "{second}");
            // The same batch again parks nothing twice.
            deliver(&function, &[unpacked(2, second)], &named("2")).await;
            assert_eq!(parked(&function, &call()).await.len(), 2, "{second}");
        });
    }
}

/// Takes everything.
#[derive(Debug, Clone, Default)]
struct Sink(Arc<Mutex<Vec<String>>>);

impl Destination for Sink {
    fn send<'a>(
        &'a self,
        envelope: &'a Envelope,
        _: Timestamp,
    ) -> BoxFuture<'a, Result<(), DestinationError>> {
        self.0.lock().unwrap().push(envelope.sequence_number.clone());
        async { Ok(()) }.boxed()
    }
}

#[test]
fn beyond_its_keys_a_park_blocks_or_sends_as_the_operator_chose() {
    block_on(async {
        for on_full in [OnFull::Block, OnFull::Destination] {
            let (tables, sink) = (Tables::new(), Sink::default());
            let durable =
                tables.durable_state(tables.park().with_keys_max(2)).with_on_full(on_full);
            let function = made(durable.with_destination(Box::new(sink.clone()))).await;
            noting(&function).fail(&[("1", true), ("2", true), ("3", true)]);
            let mut records = orders(1..=3);
            records.push(order(4, "INSERT", "k3", None));
            let unfinished = deliver(&function, &records, &call()).await;
            assert_eq!(
                parked(&function, &call()).await,
                ["1 ProcessorPark", "2 ProcessorPark"],
                "{on_full:?}"
            );
            let done = noting(&function).done.borrow().clone();
            let sent = sink.0.lock().unwrap().clone();
            if on_full == OnFull::Block {
                assert_eq!((unfinished.as_deref(), done.len()), (Some("3"), 0), "{on_full:?}");
            } else {
                // The third is at the destination alone, and its key is not held.
                assert_eq!((unfinished, done), (None, vec!["4".to_owned()]), "{on_full:?}");
                assert_eq!(sent, ["1", "2", "3"]);
            }
        }
    });
}
