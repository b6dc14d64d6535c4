//! Batches of every mixture through the whole function: what is rescued, what the work sees,
//! and what the reply keeps.
//!
//! The streams and the bucket are answered from a closure, and the work writes down what it is
//! given, so that both stand in one trace.

use super::*;
use crate::{
    clock::SystemClock,
    handler::Function,
    record::Timestamp,
    recovery::services::{
        Endpoints, Services,
        scripted::{block_on, client_of},
    },
};
use aws_credential_types::{Credentials, provider::SharedCredentialsProvider};
use aws_smithy_runtime_api::client::{
    http::{HttpConnector, HttpConnectorFuture},
    orchestrator::{HttpRequest, HttpResponse},
};
use aws_smithy_types::body::SdkBody;
use proptest::prelude::*;
use serde_json::Value;
use std::{
    cell::RefCell,
    sync::{Arc, Mutex},
};

const TABLE: &str = "arn:aws:dynamodb:eu-west-1:123456789012:table/orders";
const STREAM: &str =
    "arn:aws:dynamodb:eu-west-1:123456789012:table/orders/stream/2026-09-17T12:50:51.000";
const OTHER: &str = "arn:aws:dynamodb:eu-west-1:123456789012:table/salaries/stream/l";
const SHOP: &str = "arn:aws:lambda:eu-west-1:123456789012:function:shop";
const KEY: &str = "aws/lambda/8a3e/shardId-1/2026/09/17/x";

/// What happened, in order: messages seen, records rescued, pages read.
type Trace = Arc<Mutex<Vec<String>>>;

/// Answers for DynamoDB Streams, which has every record, in pages of so many; and for S3.
#[derive(Debug, Clone)]
struct Answers {
    trace: Trace,
    page: u64,
    object: Arc<Mutex<String>>,
}

impl HttpConnector for Answers {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let target = request.headers().get("x-amz-target").unwrap_or_default().to_owned();
        let body: Value =
            serde_json::from_slice(request.body().bytes().unwrap_or_default()).unwrap_or_default();
        let text = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
        let answer = match target.rsplit('.').next().unwrap_or_default() {
            "GetShardIterator" => json!({"ShardIterator": text("SequenceNumber")}).to_string(),
            "GetRecords" => {
                let from: u64 = text("ShardIterator").parse().unwrap();
                self.trace.lock().unwrap().push(format!("page {from}"));
                let until = from + self.page;
                let records: Vec<_> = (from..until).map(record).collect();
                json!({"Records": records, "NextShardIterator": until.to_string()}).to_string()
            }
            _ => self.object.lock().unwrap().clone(),
        };
        let response = HttpResponse::new(200.try_into().unwrap(), SdkBody::from(answer));
        HttpConnectorFuture::ready(Ok(response))
    }
}

/// A record as DynamoDB Streams has it.
fn record(number: u64) -> Value {
    json!({"eventID": "e", "eventName": "REMOVE", "eventSource": "aws:dynamodb",
           "dynamodb": {"Keys": {"id": {"S": "o"}}, "SequenceNumber": number.to_string()}})
}

/// A work that writes down what it is given. A message fails if its body says so, a record to
/// be rescued if its number is one of these.
struct Witness {
    trace: Trace,
    failing: RefCell<Vec<u64>>,
    safe: RefCell<BTreeSet<u64>>,
}

impl Work for Witness {
    async fn work(
        &self,
        records: &[Record<'_>],
        outcomes: &mut [Outcome],
        _: &mut Measures,
        _: &Call,
    ) -> Result<(), Halt> {
        let mut stopped = BTreeSet::new();
        for (record, outcome) in records.iter().zip(outcomes) {
            let group = record.message_group().map(str::to_owned);
            if group.as_ref().is_some_and(|group| stopped.contains(group)) {
                continue;
            }
            let id = record.message_id().unwrap();
            self.trace.lock().unwrap().push(format!("seen {id}"));
            if record.data().is_ok_and(|data| data == Some(br#"{"halts":1}"#)) {
                return Err(Halt::new("QueueUnsupported", "the work refuses queues"));
            }
            let fails = record.data().is_ok_and(|data| data == Some(br#"{"fails":1}"#));
            *outcome = if fails { Outcome::Failed } else { Outcome::Applied };
            stopped.extend(group.filter(|_| fails));
        }
        Ok(())
    }

    async fn rescue(
        &self,
        records: &[Record<'_>],
        outcomes: &mut [Outcome],
        _: &mut Measures,
        _: (&str, &Call),
    ) -> Result<(), Halt> {
        for (record, outcome) in records.iter().zip(outcomes) {
            let number: u64 = record.sequence_number().as_str().parse().unwrap();
            if self.failing.borrow().contains(&number) {
                *outcome = Outcome::Failed;
                continue;
            }
            let is_new = self.safe.borrow_mut().insert(number);
            *outcome = if is_new { Outcome::Parked } else { Outcome::AlreadyApplied };
            self.trace.lock().unwrap().push(format!("rescued {number}"));
        }
        Ok(())
    }
}

/// The function `shop`, which takes back records of the table `orders`, and what it did.
struct Shop {
    function: Function<Witness>,
    trace: Trace,
    object: Arc<Mutex<String>>,
}

impl Shop {
    fn new(page: u64, rescues: bool) -> Self {
        let (trace, object) = (Trace::default(), Arc::default());
        let client = Answers { trace: Arc::clone(&trace), page, object: Arc::clone(&object) };
        let credentials =
            SharedCredentialsProvider::new(Credentials::new("id", "secret", None, None, "test"));
        let endpoints = Endpoints::new("us-east-1", &credentials, |_| None);
        let clock = Arc::new(SystemClock);
        let services = Services::new(client_of(client), endpoints, clock, 1);
        let bucket = Bucket { name: "given-up".to_owned(), owner: "123456789012".to_owned() };
        let trust = Trust::new("shop", vec![TABLE.to_owned()], vec![bucket]);
        let witness = Witness {
            trace: Arc::clone(&trace),
            failing: RefCell::default(),
            safe: RefCell::default(),
        };
        let function = Function::new(witness, Arc::new(SystemClock))
            .with_rescue(rescues.then(|| Rescue::new(services, trust)));
        Self { function, trace, object }
    }

    fn ask(&self, event: &str) -> Result<Value, Halt> {
        let call = Call::new("r", Timestamp(i64::MAX));
        let answer = block_on(self.function.invoke(event.as_bytes(), &call));
        answer.map(|answer| serde_json::to_value(answer).unwrap())
    }

    fn trace(&self) -> Vec<String> {
        std::mem::take(&mut self.trace.lock().unwrap())
    }
}

/// The messages that a reply names.
fn named(reply: &Value) -> Vec<String> {
    let failures = reply["batchItemFailures"].as_array().unwrap();
    failures.iter().map(|it| it["itemIdentifier"].as_str().unwrap().to_owned()).collect()
}

/// A document of the mapping: records `first` to `last` of a stream, given up by a function.
fn document((first, last): (u64, u64), stream: &str, function: &str) -> Value {
    json!({
        "requestContext": {"functionArn": function, "condition": "RetryAttemptsExhausted"},
        "DDBStreamBatchInfo": {
            "shardId": "shardId-1", "streamArn": stream, "batchSize": last - first + 1,
            "startSequenceNumber": first.to_string(), "endSequenceNumber": last.to_string(),
        },
    })
}

fn notification(event_name: &str, bucket: &str) -> Value {
    json!({"Records": [{
        "eventSource": "aws:s3", "eventName": event_name,
        "s3": {"bucket": {"name": bucket}, "object": {"key": KEY}},
    }]})
}

fn test_event(bucket: &str) -> Value {
    json!({"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": bucket})
}

/// Messages `m0`, `m1`, … with these bodies, of these groups in a FIFO queue.
fn queue(messages: &[(Value, Option<&str>)]) -> String {
    let message = |(at, (body, group)): (usize, &(Value, Option<&str>))| {
        let attributes = group.map_or(
            json!({}),
            |group| json!({"SequenceNumber": at.to_string(), "MessageGroupId": group}),
        );
        json!({"messageId": format!("m{at}"), "body": body.to_string(), "attributes": attributes,
               "eventSource": "aws:sqs",
               "eventSourceARN": "arn:aws:sqs:eu-west-1:123456789012:given-up"})
    };
    let records: Vec<_> = messages.iter().enumerate().map(message).collect();
    json!({ "Records": records }).to_string()
}

fn topic(message: &Value) -> String {
    json!({"Records": [{"EventSource": "aws:sns", "Sns": {"Message": message.to_string()}}]})
        .to_string()
}

#[test]
fn a_notification_of_no_new_object_reaches_the_processor() {
    let shop = Shop::new(10, true);
    for body in [
        notification("ObjectRemoved:Delete", "given-up"),
        notification("ObjectTagging:Put", "given-up"),
        test_event("another's"),
    ] {
        let reply = shop.ask(&queue(&[(body.clone(), None)])).unwrap();
        assert_eq!((named(&reply), shop.trace()), (vec![], vec!["seen m0".to_owned()]), "{body}");
        // Where no processor can see it, the invocation fails.
        for event in [body.to_string(), topic(&body)] {
            let halt = shop.ask(&event).unwrap_err();
            assert!(["EventSourceUnknown", "RescueFailed"].contains(&halt.code), "{halt}");
        }
    }
    let test = test_event("given-up");
    let reply = shop.ask(&queue(&[(test.clone(), None)])).unwrap();
    assert_eq!((named(&reply), shop.trace()), (vec![], vec![]), "there is nothing to do");
    for event in [test.to_string(), topic(&test)] {
        assert_eq!(shop.ask(&event).unwrap()["rescued"], json!(0));
    }
}

#[test]
fn a_mixed_batch_is_dealt_with_message_by_message() {
    let shop = Shop::new(10, true);
    let reply = shop.ask(&queue(&[
        (document((11, 12), STREAM, SHOP), None),
        (json!({"fails": 1}), None),
        (document((21, 21), OTHER, SHOP), None),
        (json!({"order": 1}), None),
        (notification("ObjectRemoved:Delete", "given-up"), None),
    ]));
    assert_eq!(named(&reply.unwrap()), ["m1", "m2"]);
    let expected = ["seen m1", "seen m3", "seen m4", "page 11", "rescued 11", "rescued 12"];
    assert_eq!(shop.trace(), expected);
}

#[test]
fn a_group_keeps_its_order_between_notices_and_others() {
    let shop = Shop::new(10, true);
    let (a, b) = (Some("a"), Some("b"));
    let reply = shop.ask(&queue(&[
        (json!({}), a),
        (document((11, 11), STREAM, SHOP), a),
        (document((21, 21), OTHER, SHOP), b),
        (json!({}), a),
        (json!({}), b),
        (document((31, 31), STREAM, SHOP), b),
    ]));
    assert_eq!(named(&reply.unwrap()), ["m2", "m4", "m5"]);
    assert_eq!(shop.trace(), ["seen m0", "page 11", "rescued 11", "seen m3"]);
}

#[test]
fn a_message_that_halts_the_work_keeps_no_notice_from_its_rescue() {
    let shop = Shop::new(10, true);
    let halts = (json!({"halts": 1}), None);
    let notice = (document((11, 11), STREAM, SHOP), None);
    let reply = shop.ask(&queue(&[halts.clone(), notice.clone(), (json!({}), None)]));
    assert_eq!(named(&reply.unwrap()), ["m0", "m2"]);
    assert!(shop.trace().contains(&"rescued 11".to_owned()));
    // Where nothing is finished the invocation fails, as without a notice.
    let forged = (document((11, 11), OTHER, SHOP), None);
    for batch in [vec![halts.clone()], vec![halts, forged]] {
        assert_eq!(shop.ask(&queue(&batch)).unwrap_err().code, "QueueUnsupported");
    }
}

/// Asks for one content by every way, and gets the refusal's code.
#[track_caller]
fn check_refused(shop: &Shop, content: &Value, code: &str) {
    let found = |text: &str| crate::recovery::notice::recognise(text.as_bytes()).unwrap().messages;
    let call = Call::new("r", Timestamp(i64::MAX));
    let rescuer = Rescuer::new(shop.function.work(), shop.function.rescue(), &call);
    let error = block_on(rescuer.try_message(&found(&content.to_string())[0])).unwrap_err();
    assert_eq!((error.code(), error.is_refusal()), (code, true), "{content}");
    let reply = shop.ask(&queue(&[(content.clone(), None)])).unwrap();
    assert_eq!(named(&reply), ["m0"], "it stays in the queue");
    for event in [content.to_string(), topic(content)] {
        assert_eq!(shop.ask(&event).unwrap_err().code, "RescueFailed");
    }
    let trace = shop.trace();
    assert!(trace.is_empty(), "nothing is read, nothing rescued: {trace:?}");
}

#[test]
fn a_forged_notice_is_refused_by_name() {
    let shop = Shop::new(10, true);
    let good = document((11, 12), STREAM, SHOP);
    let forged = |key: &str| {
        json!({"eventID": "e", "eventName": "REMOVE", "eventSource": "aws:dynamodb",
               "eventSourceARN": STREAM,
               "dynamodb": {"Keys": {"id": {"S": key}}, "SequenceNumber": "11"}})
    };
    let event = json!({"Records": [forged("victim"), forged("victim")]}).to_string();
    let mut with_payload = good.clone();
    with_payload["payload"] = json!(event);
    check_refused(&shop, &with_payload, "PayloadOutsideBucket");
    with_payload["payload"] = serde_json::from_str(&event).unwrap();
    check_refused(&shop, &with_payload, "PayloadOutsideBucket");
    check_refused(&shop, &document((11, 12), OTHER, SHOP), "NoticeOfOtherStream");
    let other = SHOP.replace("shop", "payroll");
    check_refused(&shop, &document((11, 12), STREAM, &other), "NoticeOfOtherFunction");
    let elsewhere = notification("ObjectCreated:Put", "another's");
    check_refused(&shop, &elsewhere, "ObjectOfOtherBucket");
    check_refused(&Shop::new(10, false), &good, "RescueOff");

    let object = notification("ObjectCreated:Put", "given-up");
    for (payload, code) in [
        (json!({"Records": [forged("a")]}), "PayloadNotWhole"),
        (
            serde_json::from_str(&event.replace("orders", "salaries")).unwrap(),
            "PayloadOfOtherStream",
        ),
    ] {
        with_payload["payload"] = json!(payload.to_string());
        *shop.object.lock().unwrap() = with_payload.to_string();
        check_refused(&shop, &object, code);
    }
    *shop.object.lock().unwrap() = document((11, 12), OTHER, SHOP).to_string();
    check_refused(&shop, &object, "NoticeOfOtherStream");
    // The very same out of the bucket is believed.
    with_payload["payload"] = json!(event);
    *shop.object.lock().unwrap() = with_payload.to_string();
    let reply = shop.ask(&queue(&[(object, None)])).unwrap();
    assert_eq!((named(&reply), shop.trace()), (vec![], vec!["rescued 11".to_owned(); 2]));
}

#[test]
fn a_range_is_rescued_page_by_page_and_goes_on_where_it_broke_off() {
    let shop = Shop::new(3, true);
    let event = queue(&[(document((11, 18), STREAM, SHOP), None)]);
    shop.function.work().failing.borrow_mut().push(15);
    let reply = shop.ask(&event).unwrap();
    assert_eq!(named(&reply), ["m0"], "it is not rescued to its end");
    let first = ["page 11", "rescued 11", "rescued 12", "rescued 13"];
    let second = ["page 14", "rescued 14", "rescued 16"];
    assert_eq!(shop.trace(), [&first[..], &second].concat(), "no page is read ahead");
    shop.function.work().failing.borrow_mut().clear();
    assert_eq!(named(&shop.ask(&event).unwrap()), [""; 0]);
    let trace = shop.trace();
    assert_eq!(trace.iter().filter(|it| it.starts_with("page")).count(), 3, "{trace:?}");
    let safe: Vec<u64> = shop.function.work().safe.borrow().iter().copied().collect();
    assert_eq!(safe, (11..=18).collect::<Vec<_>>());
}

/// A message of a random batch, by what is to become of it.
#[derive(Debug, Clone, Copy)]
enum Sort {
    Ordinary,
    Failing,
    Notice,
    NoticeOfFailing,
    Forged,
    Removed,
    Test,
    TestOfOther,
    NoJson,
}

impl Sort {
    const ALL: [Self; 9] = [
        Self::Ordinary,
        Self::Failing,
        Self::Notice,
        Self::NoticeOfFailing,
        Self::Forged,
        Self::Removed,
        Self::Test,
        Self::TestOfOther,
        Self::NoJson,
    ];

    /// The body of message number `at`; its records are `at * 10` and the next.
    fn body(self, at: usize) -> Value {
        let range = (at as u64 * 10 + 100, at as u64 * 10 + 101);
        match self {
            Self::Ordinary => json!({"order": at}),
            Self::Failing => json!({"fails": 1}),
            Self::Notice | Self::NoticeOfFailing => document(range, STREAM, SHOP),
            Self::Forged => document(range, OTHER, SHOP),
            Self::Removed => notification("ObjectRemoved:Delete", "given-up"),
            Self::Test => test_event("given-up"),
            Self::TestOfOther => test_event("another's"),
            Self::NoJson => json!("s3:TestEvent KinesisBatchInfo"),
        }
    }

    /// What stands in the trace once the message is done; none: nothing is to be done.
    fn done(self, at: usize) -> Option<String> {
        match self {
            Self::Test => None,
            Self::Notice | Self::NoticeOfFailing => Some(format!("rescued {}", at * 10 + 101)),
            _ => Some(format!("seen m{at}")),
        }
    }

    fn ends_well(self) -> bool {
        !matches!(self, Self::Failing | Self::NoticeOfFailing | Self::Forged)
    }
}

proptest! {
    #[test]
    fn every_message_is_rescued_or_seen_or_named(
        batch in prop::collection::vec(
            (prop::sample::select(&Sort::ALL[..]), prop::sample::select(vec!["a", "b", "c"])),
            1..12,
        ),
        is_fifo in any::<bool>(),
    ) {
        let shop = Shop::new(10, true);
        let at = |it: usize| it as u64 * 10 + 101;
        let failing = batch.iter().enumerate().filter(|(_, (kind, _))| {
            matches!(kind, Sort::NoticeOfFailing)
        });
        shop.function.work().failing.borrow_mut().extend(failing.map(|(it, _)| at(it)));
        let message = |(at, (kind, group)): (usize, &(Sort, &'static str))| {
            (kind.body(at), is_fifo.then_some(*group))
        };
        let messages: Vec<_> = batch.iter().enumerate().map(message).collect();
        let named = named(&shop.ask(&queue(&messages)).unwrap());
        let trace = shop.trace();
        let place = |text: &str| trace.iter().position(|it| it == text);

        let mut stopped = BTreeSet::new();
        let mut last_done = std::collections::BTreeMap::new();
        for (at, (kind, group)) in batch.iter().enumerate() {
            let is_behind = is_fifo && stopped.contains(group);
            let is_named = named.contains(&format!("m{at}"));
            prop_assert_eq!(is_named, is_behind || !kind.ends_well(), "m{}", at);
            let done = kind.done(at).and_then(|text| place(&text));
            if !is_named {
                prop_assert_eq!(done.is_some(), kind.done(at).is_some(), "m{}", at);
            }
            if is_behind {
                prop_assert!(done.is_none(), "m{} has overtaken its group", at);
            }
            if is_fifo && let Some(done) = done {
                let before = last_done.insert(*group, done);
                prop_assert!(before.is_none_or(|before| before < done), "m{}", at);
            }
            if is_named {
                stopped.insert(*group);
            }
        }
        prop_assert_eq!(named.iter().collect::<BTreeSet<_>>().len(), named.len());
    }
}
