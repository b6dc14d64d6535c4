//! The way through the function over processors that do what each record tells them to.

mod queue;

use crate::support::{FOREVER, block_on, call, order};
use changefold::{
    batch::{Order, lanes::Lanes},
    call::{Call, Halt},
    clock::{Clock, SystemClock},
    handler::Function,
    processor::{self, Context, Failure, Processor},
    record::{Change, Timestamp},
    recovery::durable::MAX_ATTEMPTS_DEFAULT,
    retry::TRIES_IN_PLACE,
};
use futures_util::future::{BoxFuture, FutureExt};
use proptest::prelude::*;
use std::{
    cell::RefCell,
    num::NonZeroUsize,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

/// What one record does: `fate` is `ok`, `retry`, `park`, `halt`, `panic` or `unreadable`.
#[derive(Debug, Clone)]
struct Scripted {
    key: char,
    /// Shares its sequence number with the record before it.
    aggregated: bool,
    fate: &'static str,
    yields: u32,
}

#[derive(serde::Deserialize)]
struct Script<'a> {
    fate: &'a str,
    yields: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Event {
    Started { position: u64, key: String },
    Ended { position: u64, key: String, is_ok: bool },
}

/// Does as told and writes it down.
#[derive(Debug, Default)]
struct Player {
    trace: RefCell<Vec<Event>>,
}

impl Processor for Player {
    type Item<'a> = Script<'a>;

    async fn process(
        &self,
        change: Change<Script<'_>>,
        context: &Context<'_>,
    ) -> Result<(), Failure> {
        let position = context.sequence_number().as_str().parse().unwrap();
        let key = format!("{:?}", context.key().unwrap());
        let script = change.new_image().unwrap();
        // Tries in place are one run of the record: it starts once, and ends with the last.
        if context.attempt() == 1 {
            self.trace.borrow_mut().push(Event::Started { position, key: key.clone() });
        }
        for _ in 0..script.yields {
            tokio::task::yield_now().await;
        }
        let is_ok = script.fate == "ok";
        let tries = match script.fate {
            "retry" => TRIES_IN_PLACE,
            "panic" => MAX_ATTEMPTS_DEFAULT.get(),
            _ => 1,
        };
        if context.attempt() == tries {
            self.trace.borrow_mut().push(Event::Ended { position, key, is_ok });
        }
        // Codes of their own: the same one over five keys would end the invocation.
        let code = || &*format!("Told{position}").leak();
        match script.fate {
            "ok" => Ok(()),
            "retry" => Err(Failure::retry("told to").with_code(code())),
            "park" => Err(Failure::park("told to")),
            "halt" => Err(Failure::halt("told to")),
            _ => panic!("told to"),
        }
    }
}

/// The sequence number of each record; neighbours that are aggregated share one.
fn positions(records: &[Scripted]) -> Vec<u64> {
    let mut position = 0;
    let next = |record: &Scripted| {
        position += u64::from(!record.aggregated || position == 0);
        position
    };
    records.iter().map(next).collect()
}

/// A Kinesis event of the records.
fn event(records: &[Scripted]) -> String {
    let element = |(record, position): (&Scripted, u64)| {
        let Scripted { key, fate, yields, .. } = record;
        let data = match *fate {
            "unreadable" => "not JSON planted-7f3a".to_owned(),
            fate => format!(r#"{{"fate":"{fate}","yields":{yields},"note":"planted-7f3a"}}"#),
        };
        let data = base64_simd::STANDARD.encode_to_string(data);
        format!(
            r#"{{"kinesis":{{"kinesisSchemaVersion":"1.0","partitionKey":"{key}","sequenceNumber":"{position}","data":"{data}","approximateArrivalTimestamp":1545084650.987}},"eventSource":"aws:kinesis","eventVersion":"1.0","eventID":"shardId-000000000006:{position}","eventName":"aws:kinesis:record","awsRegion":"us-east-2","eventSourceARN":"arn:aws:kinesis:us-east-2:123456789012:stream/clicks"}}"#
        )
    };
    let elements: Vec<String> = records.iter().zip(positions(records)).map(element).collect();
    format!(r#"{{"Records":[{}]}}"#, elements.join(","))
}

/// Reads `a a+:park b:retry` (key, `+` if aggregated with the one before, fate), each record
/// yielding once.
fn scripted(batch: &str) -> Vec<Scripted> {
    let record = |word: &'static str| {
        let (name, fate) = word.split_once(':').unwrap_or((word, "ok"));
        let key = name.chars().next().unwrap();
        Scripted { key, aggregated: name.ends_with('+'), fate, yields: 1 }
    };
    batch.to_owned().leak().split_whitespace().map(record).collect()
}

fn play(
    records: &[Scripted],
    order: Order,
    concurrency: usize,
) -> (Result<String, Halt>, Vec<Event>) {
    play_event(&event(records), order, concurrency)
}

fn play_event(
    payload: &str,
    order: Order,
    concurrency: usize,
) -> (Result<String, Halt>, Vec<Event>) {
    let clock: Arc<dyn Clock> = Arc::new(Manual::default());
    let lanes = Lanes::new(Player::default(), Arc::clone(&clock))
        .with_order(order)
        .with_concurrency(NonZeroUsize::new(concurrency).unwrap());
    let function = Function::new(lanes, clock);
    let reply = block_on(function.invoke(payload.as_bytes(), &call()));
    let reply = reply.map(|reply| serde_json::to_string(&reply).unwrap());
    (reply, function.work().processor().trace.borrow().clone())
}

fn failure_of(position: Option<u64>) -> String {
    match position {
        None => r#"{"batchItemFailures":[]}"#.to_owned(),
        Some(position) => {
            format!(r#"{{"batchItemFailures":[{{"itemIdentifier":"{position}"}}]}}"#)
        }
    }
}

/// The reply to a batch, and the positions that were started, in order.
#[track_caller]
fn check(batch: &str, order: Order, expected: Option<u64>, expected_started: &[u64]) {
    let (reply, trace) = play(&scripted(batch), order, 2);
    let started: Vec<u64> = trace
        .iter()
        .filter_map(|event| match event {
            Event::Started { position, .. } => Some(*position),
            Event::Ended { .. } => None,
        })
        .collect();
    assert_eq!((reply.unwrap(), &*started), (failure_of(expected), expected_started), "{batch}");
}

#[test]
fn the_reply_is_the_lowest_unfinished_record() {
    check("", Order::Key, None, &[]);
    check("a b c", Order::Key, None, &[1, 2, 3]);
    check("a a b", Order::Key, None, &[1, 3, 2]);
    // While a record is tried again in place, it has not failed: later lanes go on.
    check("a b:retry c d", Order::Key, Some(2), &[1, 2, 3, 4]);
    check("a b:park c d", Order::Key, Some(2), &[1, 2]);
    check("a:park b c", Order::Key, Some(1), &[1, 2]);
    check("a:panic b c", Order::Key, Some(1), &[1, 2, 3]);
    check("a b:unreadable c", Order::Key, Some(2), &[1]);
}

#[test]
fn records_with_one_sequence_number_share_their_outcome() {
    check("a b+ c+", Order::Key, None, &[1, 1, 1]);
    // Beside each other, and what is behind them as well while one is tried again in place.
    check("a b+:retry c+ d", Order::Key, Some(1), &[1, 1, 1, 2]);
    check("a b b+:park c", Order::Key, Some(2), &[1, 2, 2, 3]);
}

#[test]
fn an_order_of_the_shard_runs_one_record_at_a_time() {
    check("a b c", Order::Shard, None, &[1, 2, 3]);
    check("a b:retry c", Order::Shard, Some(2), &[1, 2]);
}

#[test]
fn an_order_may_be_a_function() {
    check("a b a", Order::By(|_| Ok("all".to_owned())), None, &[1, 2, 3]);
    // Where the function fails, the lane is unknown: nothing from there on starts.
    let fails_at_2 = Order::By(|record| match record.sequence_number().as_str() {
        "2" => Err(Failure::retry("no lane")),
        _ => Ok(String::new()),
    });
    check("a b c", fails_at_2, Some(2), &[1]);
    let panics = Order::By(|_| panic!("no lane"));
    check("a b", panics, Some(1), &[]);
}

#[test]
fn a_halt_fails_the_invocation() {
    let (reply, trace) = play(&scripted("a b:halt c"), Order::Key, 1);
    let halt = reply.unwrap_err();
    assert_eq!(halt.code, "ProcessorHalt");
    assert_eq!(halt.message, "the processor halted at record 2");
    assert_eq!(halt.source.unwrap().to_string(), "told to");
    assert!(trace.iter().all(|event| !matches!(event, Event::Started { position: 3, .. })));
}

fn function(order: Order) -> Function<Lanes<impl Processor>> {
    let nothing = processor::from_fn(async |_: Change<serde::de::IgnoredAny>, _| Ok(()));
    Function::new(
        Lanes::new(nothing, Arc::new(SystemClock)).with_order(order),
        Arc::new(SystemClock),
    )
}

#[track_caller]
fn check_halt(order: Order, payload: &str, code: &str) {
    let halt = block_on(function(order).invoke(payload.as_bytes(), &call())).unwrap_err();
    assert_eq!(halt.code, code, "{halt}");
}

#[track_caller]
fn check_reply(order: Order, payload: &str, reply: &str) {
    let actual = block_on(function(order).invoke(payload.as_bytes(), &call())).unwrap();
    assert_eq!(serde_json::to_string(&actual).unwrap(), reply);
}

#[test]
fn an_event_that_cannot_be_read_fails_the_invocation() {
    check_halt(Order::Key, "{", "EventNotJson");
    check_halt(Order::Key, "{}", "EventWithoutRecords");
    let nameless = order(1, "INSERT", "a", None).replace(r#""SequenceNumber":"1","#, "");
    check_halt(Order::Key, &format!(r#"{{"Records":[{nameless}]}}"#), "SequenceNumberMissing");
    check_reply(Order::Key, r#"{"Records":[]}"#, &failure_of(None));
}

#[test]
fn a_window_is_refused_by_the_name_of_its_setting() {
    let windowed = |window: &str| format!(r#"{{"Records":[],"window":{window},"state":{{}}}}"#);
    let payload = windowed(r#"{"start":"2026-01-01T00:00:00Z"}"#);
    let halt = block_on(function(Order::Key).invoke(payload.as_bytes(), &call())).unwrap_err();
    assert_eq!(halt.code, "WindowUnsupported");
    assert!(halt.message.contains("TumblingWindowInSeconds"), "{halt}");
    check_reply(Order::Key, &windowed("null"), &failure_of(None));
}

#[test]
fn dynamodb_needs_the_name_of_its_partition_key() {
    let payload = format!(r#"{{"Records":[{}]}}"#, order(1, "INSERT", "a", None));
    let by = |attribute: Option<&str>| Order::PartitionKey { attribute: attribute.map(Into::into) };
    check_halt(by(None), &payload, "OrderUnknown");
    check_halt(by(Some("id")), &payload, "OrderUnknown");
    check_reply(by(Some("pk")), &payload, &failure_of(None));
    check_reply(by(None), &event(&scripted("a b")), &failure_of(None));
}

#[test]
fn a_record_without_a_key_fails_and_stops_what_is_later() {
    let records = [
        order(1, "INSERT", "a", None),
        order(2, "INSERT", "b", None).replace(r#""Keys":{"pk":{"S":"b"}},"#, ""),
        order(3, "INSERT", "c", None),
    ];
    let payload = format!(r#"{{"Records":[{}]}}"#, records.join(","));
    check_reply(Order::Key, &payload, &failure_of(Some(2)));
}

/// A clock that a processor moves.
#[derive(Debug, Default)]
struct Manual(AtomicI64);

impl Clock for Manual {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::Relaxed))
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        self.0.fetch_add(i64::try_from(duration.as_millis()).unwrap(), Ordering::Relaxed);
        std::future::ready(()).boxed()
    }

    fn watch(&self, _: Timestamp) -> BoxFuture<'static, ()> {
        std::future::pending().boxed()
    }
}

#[test]
fn nothing_starts_within_the_reserve_of_the_deadline() {
    let clock = Arc::new(Manual::default());
    let takes_a_second = {
        let clock = Arc::clone(&clock);
        processor::from_fn(async move |_: Change<serde::de::IgnoredAny>, _| {
            clock.0.fetch_add(1_000, Ordering::Relaxed);
            Ok(())
        })
    };
    let lanes =
        Lanes::new(takes_a_second, Arc::clone(&clock) as Arc<dyn Clock>).with_order(Order::Shard);
    let function = Function::new(lanes, Arc::clone(&clock) as Arc<dyn Clock>);
    let payload = event(&scripted("a b c d"));
    let invoke = |deadline| {
        clock.0.store(0, Ordering::Relaxed);
        let call = Call { deadline: Timestamp(deadline), ..call() };
        let reply = block_on(function.invoke(payload.as_bytes(), &call)).unwrap();
        serde_json::to_string(&reply).unwrap()
    };
    // Each record has shown to take a second, so the last starts with that, the writes and the
    // reply left.
    assert_eq!(invoke(3_000 + 1_000 + 501), failure_of(None));
    assert_eq!(invoke(3_000 + 1_000 + 500), failure_of(Some(4)));
    assert_eq!(invoke(2_600), failure_of(Some(3)));
    // The first always starts: a reply that names it is no progress.
    assert_eq!(invoke(0), failure_of(Some(2)));
}

#[test]
fn a_processor_sees_where_its_change_stands() {
    let seen = RefCell::new(Vec::new());
    let looks = processor::from_fn(async |_: Change<serde::de::IgnoredAny>, context| {
        let Context { .. } = context;
        assert_eq!((context.attempt(), context.request_id()), (1, "test"));
        assert_eq!(context.deadline(), FOREVER);
        seen.borrow_mut().push(context.identity().to_string());
        Ok(())
    });
    let function = Function::new(Lanes::new(looks, Arc::new(SystemClock)), Arc::new(SystemClock));
    block_on(function.invoke(event(&scripted("a b+")).as_bytes(), &call())).unwrap();
    let payload = format!(r#"{{"Records":[{}]}}"#, order(7, "INSERT", "a", None));
    block_on(function.invoke(payload.as_bytes(), &call())).unwrap();
    drop(function);
    assert_eq!(
        seen.into_inner(),
        [
            "arn:aws:kinesis:us-east-2:123456789012:stream/clicks/shardId-000000000006/1/0",
            "arn:aws:kinesis:us-east-2:123456789012:stream/clicks/shardId-000000000006/1/1",
            "arn:aws:dynamodb:us-east-1:123456789012:table/orders/stream/\
             2026-09-17T12:50:51.000//7/0",
        ]
    );
}

fn any_record() -> impl Strategy<Value = Scripted> {
    let fate = prop_oneof![
        12 => Just("ok"),
        1 => prop::sample::select(vec!["retry", "park", "panic", "unreadable"]),
    ];
    let parts = ("[a-e]", prop::bool::weighted(0.2), fate, 0_u32..5);
    parts.prop_map(|(key, aggregated, fate, yields)| Scripted {
        key: key.chars().next().unwrap(),
        aggregated,
        fate,
        yields,
    })
}

proptest! {
    #[test]
    fn lanes_keep_order_bounds_and_the_reply(
        records in prop::collection::vec(any_record(), 0..40),
        concurrency in 1_usize..6,
    ) {
        let (reply, trace) = play(&records, Order::Key, concurrency);
        let positions = positions(&records);
        let lowest = records.iter().zip(&positions).find(|(record, _)| record.fate != "ok");
        let lowest = lowest.map(|(_, position)| *position);
        // Whatever ran beside it, the reply names the first record that did not work.
        prop_assert_eq!(reply.unwrap(), failure_of(lowest));

        let mut running: Vec<(u64, String)> = Vec::new();
        let mut last_started = std::collections::BTreeMap::<String, u64>::new();
        let mut lowest_failed = u64::MAX;
        for event in trace {
            match event {
                Event::Started { position, key } => {
                    prop_assert!(position <= lowest_failed, "{position} after {lowest_failed}");
                    prop_assert!(running.iter().all(|(_, other)| *other != key), "{key} twice");
                    let before = last_started.insert(key.clone(), position);
                    prop_assert!(before.is_none_or(|before| before <= position), "{key} turned");
                    running.push((position, key));
                    prop_assert!(running.len() <= concurrency);
                }
                Event::Ended { position, key, is_ok } => {
                    running.retain(|(_, other)| *other != key);
                    if !is_ok {
                        lowest_failed = lowest_failed.min(position);
                    }
                }
            }
        }
        prop_assert!(running.is_empty(), "left running: {running:?}");
    }
}
