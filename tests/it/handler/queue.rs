//! Replies to a queue: every unfinished message by its id, and nothing else.

use super::{Event, Player, Scripted, any_record, play_event, scripted};
use crate::support::{block_on, call, embedded, order};
use changefold::{
    batch::{Order, lanes::Lanes},
    call::Call,
    clock::{Clock, SystemClock},
    event::ParkedQueues,
    handler::Function,
    operation::{self, Operation, Redrive},
    processor,
    record::{Change, Timestamp},
    recovery::{
        durable::DurableState,
        park::{OnPark, Park},
    },
};
use proptest::prelude::*;
use std::{cell::RefCell, collections::BTreeSet, sync::Arc};

/// An event of messages `m0`, `m1`, …; a FIFO queue's groups are the records' keys.
fn event(records: &[Scripted], is_fifo: bool) -> String {
    let element = |(at, record): (usize, &Scripted)| {
        let Scripted { key, fate, yields, .. } = record;
        let body = match *fate {
            "unreadable" => "not JSON".to_owned(),
            fate => format!(r#"{{\"fate\":\"{fate}\",\"yields\":{yields}}}"#),
        };
        let (suffix, attributes) = if is_fifo {
            (".fifo", format!(r#""SequenceNumber":"{at}","MessageGroupId":"{key}","#))
        } else {
            ("", String::new())
        };
        format!(
            r#"{{"messageId":"m{at}","receiptHandle":"r","body":"{body}","attributes":{{{attributes}"ApproximateReceiveCount":"1","SentTimestamp":"1545082649183"}},"messageAttributes":{{}},"eventSource":"aws:sqs","eventSourceARN":"arn:aws:sqs:us-east-2:123456789012:jobs{suffix}","awsRegion":"us-east-2"}}"#
        )
    };
    let elements: Vec<String> = records.iter().enumerate().map(element).collect();
    format!(r#"{{"Records":[{}]}}"#, elements.join(","))
}

fn reply_of(unfinished: impl IntoIterator<Item = usize>) -> String {
    let items: Vec<String> =
        unfinished.into_iter().map(|at| format!(r#"{{"itemIdentifier":"m{at}"}}"#)).collect();
    format!(r#"{{"batchItemFailures":[{}]}}"#, items.join(","))
}

fn started(trace: &[Event]) -> Vec<u64> {
    let started = trace.iter().filter_map(|event| match event {
        Event::Started { position, .. } => Some(*position),
        Event::Ended { .. } => None,
    });
    started.collect()
}

/// The messages reported, and those that were started, in order.
#[track_caller]
fn check(batch: &str, is_fifo: bool, order: Order, unfinished: &[usize], expected: &[u64]) {
    let (reply, trace) = play_event(&event(&scripted(batch), is_fifo), order, 2);
    let unfinished = reply_of(unfinished.iter().copied());
    assert_eq!((reply.unwrap(), &*started(&trace)), (unfinished, expected), "{batch}");
}

#[test]
fn a_standard_queue_keeps_the_failed_messages_only() {
    check("", false, Order::Key, &[], &[]);
    check("a a a", false, Order::Key, &[], &[0, 1, 2]);
    check("a:retry a a:park a", false, Order::Key, &[0, 2], &[0, 1, 2, 3]);
    check("a:panic a", false, Order::Key, &[0], &[0, 1]);
    check("a a:unreadable a", false, Order::Key, &[1], &[0, 2]);
    let by_partition = Order::PartitionKey { attribute: None };
    check("a:retry a", false, by_partition, &[0], &[0, 1]);
}

#[test]
fn a_fifo_group_stops_at_its_first_failure() {
    check("a b a", true, Order::Key, &[], &[0, 1, 2]);
    // The rest of the group is not started and reported; the other group goes on.
    check("a:retry b a b a", true, Order::Key, &[0, 2, 4], &[0, 1, 3]);
    check("a:unreadable b a b", true, Order::Key, &[0, 2], &[1, 3]);
    check("a b:park c b:halt c", true, Order::Key, &[1, 3], &[0, 1, 2, 4]);
    let by_partition = Order::PartitionKey { attribute: Some("id".to_owned()) };
    check("a:retry b a", true, by_partition, &[0, 2], &[0, 1]);
}

#[test]
fn an_order_of_the_shard_is_one_lane() {
    check("a b:retry c", false, Order::Shard, &[1, 2], &[0, 1]);
    check("a b:retry a", true, Order::Shard, &[1, 2], &[0, 1]);
}

#[test]
fn an_order_by_a_function_costs_only_the_message_it_fails_for() {
    let fails_at_1 = Order::By(|record| match record.message_id() {
        Some("m1") => Err(processor::Failure::retry("no lane")),
        id => Ok(id.unwrap_or_default().to_owned()),
    });
    check("a b c", false, fails_at_1.clone(), &[1], &[0, 2]);
    // It parts the group: what was processed behind the failed message stays in the queue
    // with it, because Lambda would deliver that one after it.
    check("a a a", true, fails_at_1, &[1, 2], &[0, 2]);
}

#[test]
fn a_late_function_starts_one_message_and_keeps_the_others() {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let lanes = Lanes::new(Player::default(), Arc::clone(&clock));
    let Timestamp(now) = clock.now();
    let call = Call { deadline: Timestamp(now), ..call() };
    let payload = event(&scripted("a b"), false);
    let reply = block_on(Function::new(lanes, clock).invoke(payload.as_bytes(), &call)).unwrap();
    assert_eq!(serde_json::to_string(&reply).unwrap(), reply_of([1]));
}

#[test]
fn a_halt_names_the_message() {
    let (reply, _) = play_event(&event(&scripted("a b:halt"), false), Order::Key, 1);
    assert_eq!(reply.unwrap_err().message, "the processor halted at record m1");
}

#[test]
fn a_processor_sees_the_message_and_the_record_parked_in_it() {
    let seen = RefCell::new(Vec::new());
    let looks = processor::from_fn(async |_: Change<serde::de::IgnoredAny>, context| {
        let inner = context.inner();
        let inner = inner.as_ref().and_then(|inner| inner.stream_name()).unwrap_or("none");
        let key = format!("{:?}", context.key().unwrap());
        seen.borrow_mut().push(format!("{} {inner} {key}", context.identity()));
        assert_eq!((context.message_group(), context.receive_count()), (None, Some(1)));
        Ok(())
    });
    let parked = serde_json::json!({"changefold": 1, "record": order(7, "REMOVE", "o", None)});
    let body = serde_json::to_string(&parked.to_string()).unwrap();
    let payload = event(&scripted("a b"), false);
    let payload = payload.replacen(r#""{\"fate\":\"ok\",\"yields\":1}""#, &body, 1);
    let function = Function::new(Lanes::new(looks, Arc::new(SystemClock)), Arc::new(SystemClock))
        .with_parked_queues(ParkedQueues::new([
            "arn:aws:sqs:us-east-2:123456789012:jobs".to_owned()
        ]));
    let reply = block_on(function.invoke(payload.as_bytes(), &call())).unwrap();
    drop(function);
    assert_eq!(serde_json::to_string(&reply).unwrap(), reply_of([]));
    assert_eq!(
        seen.into_inner(),
        [
            // The name it had in its stream: effects made before it was parked are known.
            "arn:aws:dynamodb:us-east-1:123456789012:table/orders/stream/\
             2026-09-17T12:50:51.000//7/0 orders Item([(\"pk\", Text(\"o\"))])",
            "arn:aws:sqs:us-east-2:123456789012:jobs/m1 none Partition(\"m1\")",
        ]
    );
}

#[test]
fn a_message_that_was_parked_is_believed_as_before_when_it_is_redriven() {
    let queue = "arn:aws:sqs:us-east-2:123456789012:jobs";
    let parked = serde_json::json!({"changefold": 1, "record": order(7, "REMOVE", "o", None)});
    let body = serde_json::to_string(&parked.to_string()).unwrap();
    let payload = event(&scripted("a"), false);
    let payload = payload.replacen(r#""{\"fate\":\"ok\",\"yields\":1}""#, &body, 1);
    for (believed, name) in [(vec![queue.to_owned()], "orders"), (vec![], "none")] {
        let queues = ParkedQueues::new(believed);
        let seen = RefCell::new(Vec::new());
        let refuses = processor::from_fn(async |_: Change<serde::de::IgnoredAny>, context| {
            let inner = context.inner();
            let inner = inner.as_ref().and_then(|inner| inner.stream_name()).unwrap_or("none");
            seen.borrow_mut().push(inner.to_owned());
            Err(processor::Failure::park("it refuses everything"))
        });
        let store = embedded(1);
        let durable = DurableState::none().with_parked_queues(queues.clone()).with_park(Park::new(
            store,
            "park".to_owned(),
            OnPark::Hold,
            24,
        ));
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        block_on(durable.ensure_tables(Timestamp(i64::MAX))).unwrap();
        let lanes = Lanes::new(refuses, Arc::clone(&clock)).with_durable_state(durable);
        let function = Function::new(lanes, clock).with_parked_queues(queues);
        let redrive = operation::event(Operation::Redrive(Redrive::default()));
        for event in [payload.as_bytes(), &redrive] {
            block_on(function.invoke(event, &call())).unwrap();
        }
        drop(function);
        assert_eq!(seen.into_inner(), [name, name], "live, and redriven");
    }
}

proptest! {
    #[test]
    fn the_reply_is_exactly_the_unfinished_messages(
        records in prop::collection::vec(any_record(), 0..40),
        concurrency in 1_usize..6,
        is_fifo in any::<bool>(),
    ) {
        let (reply, trace) = play_event(&event(&records, is_fifo), Order::Key, concurrency);
        let mut stopped = BTreeSet::new();
        let (mut unfinished, mut expected) = (Vec::new(), BTreeSet::new());
        for (at, record) in records.iter().enumerate() {
            let is_behind = is_fifo && stopped.contains(&record.key);
            if is_behind || record.fate != "ok" {
                stopped.insert(record.key);
                unfinished.push(at);
            }
            if !is_behind && record.fate != "unreadable" {
                expected.insert(u64::try_from(at).unwrap());
            }
        }
        prop_assert_eq!(reply.unwrap(), reply_of(unfinished));
        let started = started(&trace);
        // Nothing runs twice, and nothing is left out.
        prop_assert_eq!(started.len(), expected.len());
        prop_assert_eq!(started.into_iter().collect::<BTreeSet<_>>(), expected);
    }
}
