//! A function over a table, with virtual time, that invokes itself through a queue.

use super::lambda::{Deliveries, Lambda};
use crate::support::{self, FOREVER};
use aws_smithy_runtime_api::{
    client::{
        http::{HttpConnector, HttpConnectorFuture},
        orchestrator::{HttpRequest, HttpResponse},
    },
    http::StatusCode,
};
use aws_smithy_types::body::SdkBody;
use changefold::{
    call::{Call, Halt},
    clock::Clock,
    handler::Function,
    operation::{
        self, Operation,
        backfill::{
            Backfill, Begin, Begun, OfTable, Portion, RunStatus, Status, Which,
            chain::{Chain, Chained, Link, StartChain},
        },
    },
    outcome::Answer,
    record::Timestamp,
    store::{Store, embedded::Embedded},
    view::{Views, registry::Owner, sql},
};
use futures_util::future::{BoxFuture, FutureExt, pending, ready};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

pub(in crate::backfill) const ARN: &str =
    "arn:aws:lambda:us-east-1:123456789012:function:Views:live";
/// The timeout of a link.
pub(in crate::backfill) const LINK_MS: i64 = 5_000;
/// More deliveries than any run here needs: a chain that runs away has no end.
const DELIVERIES_MAX: usize = 600;

/// How long a call is waited for whose store has stopped answering, in real time.
const KILLED_AFTER: Duration = Duration::from_millis(100);

/// A clock that goes on a little whenever it is looked at.
#[derive(Debug)]
pub(in crate::backfill) struct Ticking(AtomicI64);

impl Ticking {
    pub(in crate::backfill) fn pass(&self, ms: i64) {
        self.0.fetch_add(ms, Relaxed);
    }
}

impl Clock for Ticking {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.fetch_add(2, Relaxed))
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        self.pass(i64::try_from(duration.as_millis()).unwrap());
        ready(()).boxed()
    }

    fn watch(&self, _: Timestamp) -> BoxFuture<'static, ()> {
        pending().boxed()
    }
}

/// What stands between the function and its store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::backfill) enum Meddling {
    None,
    /// The run's row always says that the link that looks is the next, and takes every change.
    NumberIgnored,
}

/// The transport.
#[derive(Debug, Clone)]
struct Wire {
    store: Embedded,
    meddling: Meddling,
    /// The number of the link that is delivered.
    number: Arc<AtomicU64>,
    /// So many scans are throttled from now on.
    throttled: Arc<AtomicI64>,
    /// After so many calls none is answered any more.
    left: Arc<AtomicI64>,
}

impl HttpConnector for Wire {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        if self.left.fetch_sub(1, Relaxed) <= 0 {
            return HttpConnectorFuture::new(pending());
        }
        let target = request.headers().get("x-amz-target").unwrap_or_default();
        if target.ends_with(".Scan") && self.throttled.fetch_sub(1, Relaxed) > 0 {
            let code = "com.amazonaws.dynamodb.v20120810#ProvisionedThroughputExceededException";
            let told = json!({ "__type": code, "message": "injected" });
            return HttpConnectorFuture::ready(Ok(response(400, told.to_string())));
        }
        let mut body: Value = serde_json::from_slice(request.body().bytes().unwrap()).unwrap();
        if self.meddling == Meddling::NumberIgnored {
            for action in body["TransactItems"].as_array_mut().into_iter().flatten() {
                forget_condition(&mut action["Put"]);
            }
            forget_condition(&mut body);
        }
        let (status, told) = self.store.answer(target, body.to_string().as_bytes());
        let told = match serde_json::from_str::<Value>(&told) {
            Ok(told) if self.meddling == Meddling::NumberIgnored => self.number_told(told),
            _ => told,
        };
        HttpConnectorFuture::ready(Ok(response(status, told)))
    }
}

fn response(status: u16, told: String) -> HttpResponse {
    let status = StatusCode::try_from(status).unwrap();
    let mut response = HttpResponse::new(status, SdkBody::from(told));
    response.headers_mut().insert("content-type", "application/x-amz-json-1.0");
    response
}

impl Wire {
    fn number_told(&self, mut told: Value) -> String {
        for row in told["Responses"]["ledger"].as_array_mut().into_iter().flatten() {
            let Some(chain) = row["chain"]["S"].as_str() else { continue };
            let mut chain: Value = serde_json::from_str(chain).unwrap();
            // The first look of a link alone: later ones find what it has written.
            let before = self.number.swap(u64::MAX, Relaxed).saturating_sub(1);
            if chain["link"].as_u64() > Some(before) && chain["ended"].is_null() {
                chain["link"] = json!(before);
                row["chain"]["S"] = json!(chain.to_string());
            }
        }
        told.to_string()
    }
}

/// A run's row goes in whatever is there.
fn forget_condition(put: &mut Value) {
    if put["Item"].get("chain").is_some() {
        put.as_object_mut().unwrap().retain(|name, _| {
            !["ConditionExpression", "ExpressionAttributeValues"].contains(&name.as_str())
        });
    }
}

/// A function over the table `orders`.
pub(in crate::backfill) struct ChainShop {
    function: Function<Views>,
    wire: Wire,
    pub(in crate::backfill) lambda: Arc<Lambda>,
    pub(in crate::backfill) clock: Arc<Ticking>,
}

impl ChainShop {
    pub(in crate::backfill) async fn open(items: usize) -> Self {
        Self::meddled(items, Meddling::None).await
    }

    pub(in crate::backfill) async fn meddled(items: usize, meddling: Meddling) -> Self {
        let embedded = Embedded::open(None).unwrap();
        fill(&embedded, items, true);
        let clock = Arc::new(Ticking(AtomicI64::new(1_790_000_000_000)));
        let wire = Wire {
            store: embedded,
            meddling,
            number: Arc::default(),
            throttled: Arc::default(),
            left: Arc::new(AtomicI64::new(i64::MAX)),
        };
        let endpoint = support::local_endpoint(Some("http://embedded"));
        let store = Store::new(support::client_of(wire.clone()), &endpoint, clock.clone(), 1);
        let views = sql::parse(super::super::steps::VIEWS).unwrap();
        Views::ensure_tables(&views, &store, "ledger", "shop_", FOREVER).await.unwrap();
        let owner = Owner::new("test");
        let views = Views::open(views, store, ("ledger", "shop_"), &owner, FOREVER).await.unwrap();
        let lambda = Arc::new(Lambda::default());
        let views = views.with_invoker(Some(lambda.clone()));
        let function = Function::new(views, clock.clone());
        Self { function, wire, lambda, clock }
    }

    async fn ask<T: DeserializeOwned>(&self, step: Backfill) -> Result<T, Halt> {
        self.invoke(&operation::event(Operation::Backfill(step))).await
    }

    async fn invoke<T: DeserializeOwned>(&self, event: &[u8]) -> Result<T, Halt> {
        Ok(serde_json::from_value(self.answer(event).await?).unwrap())
    }

    /// Has the function invoked with an operation.
    pub(in crate::backfill) async fn answer(&self, event: &[u8]) -> Result<Value, Halt> {
        let deadline = Timestamp(self.clock.now().0 + LINK_MS);
        // Copies of an event have one request id.
        let call = Call::new("request", deadline).with_function_arn(ARN);
        let Answer::Operation(answer) = self.function.invoke(event, &call).await? else {
            panic!("a reply to an operation");
        };
        Ok(answer)
    }

    pub(in crate::backfill) async fn begin(&self, begin: Begin) {
        let segments = begin.segments.or(Some(3));
        let begin = Begin { table: "orders".to_owned(), segments, ..begin };
        let _: Begun = self.ask(Backfill::Begin(begin)).await.unwrap();
    }

    pub(in crate::backfill) async fn start(&self, links_max: Option<u64>) -> Result<Chained, Halt> {
        let start = StartChain { table: "orders".to_owned(), links_max };
        self.ask(Backfill::Chain(Chain::Start(start))).await
    }

    /// What a schedule asks.
    pub(in crate::backfill) async fn keep_going(&self) -> Chained {
        let of = OfTable { table: "orders".to_owned() };
        self.ask(Backfill::Chain(Chain::Continue(of))).await.unwrap()
    }

    pub(in crate::backfill) async fn stop(&self) {
        let of = OfTable { table: "orders".to_owned() };
        let _: Status = self.ask(Backfill::Stop(of)).await.unwrap();
    }

    pub(in crate::backfill) async fn status(&self) -> Status {
        self.ask(Backfill::Status(Which::default())).await.unwrap()
    }

    pub(in crate::backfill) async fn run(&self) -> RunStatus {
        self.status().await.runs.into_iter().next().unwrap()
    }

    /// How many items came in, whichever call brought them.
    pub(in crate::backfill) async fn known(&self) -> u64 {
        let counts = self.run().await.counts;
        counts.added + counts.known
    }

    /// So many scans are throttled from now on.
    pub(in crate::backfill) fn throttle_scans(&self, scans: i64) {
        self.wire.throttled.store(scans, Relaxed);
    }

    /// A call at work on a segment that is killed after so many calls of the store; none if it
    /// was.
    pub(in crate::backfill) async fn work_until(&self, segment: u32, calls: i64) -> Option<Value> {
        let run = self.run().await.run;
        let portion =
            Portion { table: "orders".to_owned(), run, segment: Some(segment), given: None };
        let event = operation::event(Operation::Backfill(Backfill::Work(portion)));
        self.wire.left.store(calls, Relaxed);
        let told = tokio::time::timeout(KILLED_AFTER, self.answer(&event)).await;
        self.wire.left.store(i64::MAX, Relaxed);
        told.ok().map(Result::unwrap)
    }

    pub(in crate::backfill) async fn rows(&self) -> String {
        support::table(&self.function.work().rows(0, usize::MAX).await.unwrap())
    }

    pub(in crate::backfill) fn store_calls(&self) -> u64 {
        self.function.work().store().usage().calls
    }

    pub(in crate::backfill) fn forged(run: &str, number: u64) -> Vec<u8> {
        let link = Link { table: "orders".to_owned(), run: run.to_owned(), number };
        operation::event(Operation::Backfill(Backfill::Chain(Chain::Link(link))))
    }

    /// Has one link invoked.
    pub(in crate::backfill) async fn deliver(&self, event: &[u8]) -> Result<Chained, Halt> {
        self.wire.number.store(number_of(event), Relaxed);
        self.invoke(event).await
    }

    /// Has one link invoked that is killed after so many calls of the store; none if it was.
    pub(in crate::backfill) async fn deliver_until(
        &self,
        event: &[u8],
        calls: i64,
    ) -> Option<Chained> {
        self.wire.left.store(calls, Relaxed);
        let told = tokio::time::timeout(KILLED_AFTER, self.deliver(event)).await;
        self.wire.left.store(i64::MAX, Relaxed);
        told.ok().map(Result::unwrap)
    }

    /// Delivers what is queued, each so many times, until nothing is or far too much was.
    pub(in crate::backfill) async fn drain(&self, copies: usize) -> Deliveries {
        let mut deliveries = Deliveries::default();
        while let Some(event) = self.lambda.take() {
            for _ in 0..copies {
                let Timestamp(began) = self.clock.now();
                deliveries.answers.push(self.deliver(&event).await.unwrap());
                deliveries.took_ms.push(self.clock.now().0 - began);
            }
            if deliveries.answers.len() > DELIVERIES_MAX {
                break;
            }
        }
        let all = self.lambda.all();
        deliveries.sent = all.len() as u64;
        deliveries.numbers = all.iter().map(|event| number_of(event)).max().unwrap_or_default();
        deliveries
    }
}

fn number_of(event: &[u8]) -> u64 {
    let event: Value = serde_json::from_slice(event).unwrap();
    event["changefold"]["backfill"]["chain"]["link"]["number"].as_u64().unwrap_or_default()
}

/// The table `orders` with so many items. With a stream the embedded store takes longer for each
/// item the more there are.
pub(in crate::backfill) fn fill(store: &Embedded, items: usize, has_stream: bool) {
    let ask = |operation: &str, body: Value| {
        let target = format!("DynamoDB_20120810.{operation}");
        let (status, told) = store.answer(&target, body.to_string().as_bytes());
        assert_eq!(status, 200, "{told}");
    };
    let stream = if has_stream {
        json!({"StreamEnabled": true, "StreamViewType": "NEW_IMAGE"})
    } else {
        json!({"StreamEnabled": false})
    };
    ask(
        "CreateTable",
        json!({
            "TableName": "orders", "BillingMode": "PAY_PER_REQUEST",
            "KeySchema": [{"AttributeName": "pk", "KeyType": "HASH"}],
            "AttributeDefinitions": [{"AttributeName": "pk", "AttributeType": "S"}],
            "StreamSpecification": stream,
        }),
    );
    for key in 0..items {
        let (region, status) = [("EU", "OPEN"), ("US", "PAID")][key % 2];
        let item = json!({
            "pk": {"S": format!("O#{key:06}")}, "region": {"S": region},
            "amount": {"N": key.to_string()}, "status": {"S": status},
        });
        ask("PutItem", json!({ "TableName": "orders", "Item": item }));
    }
}
