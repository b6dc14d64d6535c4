//! Faults on the level of the SDK's HTTP client: below everything that interprets answers.
//!
//! Wraps the embedded store or a real endpoint. Every call of an invocation is a scheduling
//! point, so that an invocation and its retry meet between reading and writing. Answers made
//! up here have the bytes of DynamoDB's own (AWS JSON 1.0, API version 2012-08-10), so that
//! the SDK's parser and our classification are part of what is tested. Calls outside of an
//! invocation (making tables, reading results) pass untouched.

use super::{
    clock::{Turn, VirtualClock, yield_once},
    faults::{Fault, Operation},
};
use aws_smithy_runtime_api::{
    client::{
        http::{
            HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings,
            SharedHttpClient, SharedHttpConnector,
        },
        orchestrator::{HttpRequest, HttpResponse},
        result::ConnectorError,
        runtime_components::RuntimeComponents,
    },
    http::StatusCode,
};
use aws_smithy_types::body::SdkBody;
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// An HTTP client whose calls meet the faults of the invocation they belong to.
#[derive(Debug)]
pub struct FaultyClient {
    inner: SharedHttpClient,
    clock: Arc<VirtualClock>,
}

impl FaultyClient {
    /// Puts the faults of the run that `clock` belongs to in front of `inner`.
    #[must_use]
    pub fn wrap(inner: SharedHttpClient, clock: Arc<VirtualClock>) -> SharedHttpClient {
        SharedHttpClient::new(Self { inner, clock })
    }
}

impl HttpClient for FaultyClient {
    fn http_connector(
        &self,
        settings: &HttpConnectorSettings,
        components: &RuntimeComponents,
    ) -> SharedHttpConnector {
        let inner = self.inner.http_connector(settings, components);
        SharedHttpConnector::new(FaultyConnector { inner, clock: Arc::clone(&self.clock) })
    }
}

#[derive(Debug)]
struct FaultyConnector {
    inner: SharedHttpConnector,
    clock: Arc<VirtualClock>,
}

impl HttpConnector for FaultyConnector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let Some(turn) = self.clock.current() else { return self.inner.call(request) };
        let inner = self.inner.clone();
        HttpConnectorFuture::new(async move {
            yield_once().await;
            call(&inner, request, &turn).await
        })
    }
}

async fn call(
    inner: &SharedHttpConnector,
    request: HttpRequest,
    turn: &Turn,
) -> Result<HttpResponse, ConnectorError> {
    let target = request.headers().get("x-amz-target").unwrap_or_default();
    let operation = Operation::of_target(target);
    let met = turn.faults().meet(operation);
    let Some((fault, mut rng)) = met else { return inner.call(request).await };
    match fault {
        Fault::CrashBeforeStoreCall => crash(turn).await,
        Fault::CrashAfterStoreCall => {
            // Nobody learns the answer, good or bad.
            drop(inner.call(request).await);
            crash(turn).await
        }
        Fault::LostAnswer => {
            drop(inner.call(request).await);
            Err(ConnectorError::timeout("the answer was lost (injected)".into()))
        }
        Fault::Throttling => Ok(throttled(&mut rng)),
        Fault::TransactionConflict => Ok(conflict(operation, &request, &mut rng)),
        Fault::UnprocessedKeys => {
            let asked = request.body().bytes().map(<[u8]>::to_vec).unwrap_or_default();
            let response = inner.call(request).await?;
            let answer = response.body().bytes().and_then(|body| {
                response.status().is_success().then(|| with_unprocessed(&asked, body, &mut rng))?
            });
            if let Some(answer) = answer {
                Ok(ok(&answer))
            } else {
                turn.faults().take_back(fault, rng);
                Ok(response)
            }
        }
        Fault::FunctionError | Fault::Timeout | Fault::LostReply | Fault::DuplicateDelivery => {
            unreachable!("a fault of the whole invocation is never armed on its store calls")
        }
    }
}

/// The process is gone: the run loop drops the invocation, which never goes on.
async fn crash(turn: &Turn) -> Result<HttpResponse, ConnectorError> {
    turn.faults().crash();
    std::future::pending().await
}

fn throttled(rng: &mut fastrand::Rng) -> HttpResponse {
    let (name, message) = if rng.bool() {
        ("ThrottlingException", "Rate of requests exceeds the allowed throughput.")
    } else {
        (
            "ProvisionedThroughputExceededException",
            "The level of configured provisioned throughput for the table was exceeded. \
             Consider increasing your provisioning level with the UpdateTable API.",
        )
    };
    let namespace = match name {
        "ThrottlingException" => "com.amazon.coral.availability",
        _ => "com.amazonaws.dynamodb.v20120810",
    };
    refusal(&json!({ "__type": format!("{namespace}#{name}"), "message": message }))
}

/// A transaction is cancelled with one conflict among its actions; a plain write meets the
/// exception of its own.
fn conflict(operation: Operation, request: &HttpRequest, rng: &mut fastrand::Rng) -> HttpResponse {
    const ONGOING: &str = "Transaction is ongoing for the item";
    if !matches!(operation, Operation::Transaction { .. }) {
        return refusal(&json!({
            "__type": "com.amazonaws.dynamodb.v20120810#TransactionConflictException",
            "message": ONGOING,
        }));
    }
    let actions = request
        .body()
        .bytes()
        .and_then(|body| serde_json::from_slice::<Value>(body).ok())
        .and_then(|body| body.get("TransactItems")?.as_array().map(Vec::len))
        .unwrap_or(1)
        .max(1);
    let hit = rng.usize(..actions);
    let code = |at: usize| if at == hit { "TransactionConflict" } else { "None" };
    let reasons: Vec<_> = (0..actions)
        .map(|at| {
            if at == hit {
                json!({ "Code": code(at), "Message": ONGOING })
            } else {
                json!({ "Code": code(at) })
            }
        })
        .collect();
    let codes: Vec<_> = (0..actions).map(code).collect();
    refusal(&json!({
        "__type": "com.amazonaws.dynamodb.v20120810#TransactionCanceledException",
        "CancellationReasons": reasons,
        "Message": format!(
            "Transaction cancelled, please refer cancellation reasons for specific reasons [{}]",
            codes.join(", ")
        ),
    }))
}

/// Takes about half of the keys out of an answered batch read and lists them as unprocessed.
///
/// The request itself goes out whole: it is signed. None when it is not a batch read.
fn with_unprocessed(asked: &[u8], answer: &[u8], rng: &mut fastrand::Rng) -> Option<Value> {
    let asked: Value = serde_json::from_slice(asked).ok()?;
    let mut answer: Value = serde_json::from_slice(answer).ok()?;
    let mut unprocessed = Map::new();
    for (table, request) in asked.get("RequestItems")?.as_object()? {
        let keys = request.get("Keys")?.as_array()?;
        let (kept, held): (Vec<_>, Vec<_>) = keys.iter().cloned().partition(|_| rng.bool());
        // At least one key has to be held back, or there is no fault.
        let held = if held.is_empty() { kept.into_iter().take(1).collect() } else { held };
        if let Some(items) = answer["Responses"][table].as_array_mut() {
            items.retain(|item| !held.iter().any(|key| is_item(item, key)));
        }
        let mut rest = request.clone();
        rest["Keys"] = Value::Array(held);
        unprocessed.insert(table.clone(), rest);
    }
    answer["UnprocessedKeys"] = Value::Object(unprocessed);
    Some(answer)
}

fn is_item(item: &Value, key: &Value) -> bool {
    key.as_object().is_some_and(|key| key.iter().all(|(name, part)| item.get(name) == Some(part)))
}

fn ok(body: &Value) -> HttpResponse {
    response(200, body)
}

fn refusal(body: &Value) -> HttpResponse {
    response(400, body)
}

fn response(status: u16, body: &Value) -> HttpResponse {
    let status = StatusCode::try_from(status).expect("200 and 400 are statuses");
    let mut response = HttpResponse::new(status, SdkBody::from(body.to_string()));
    response.headers_mut().insert("content-type", "application/x-amz-json-1.0");
    response.headers_mut().insert("x-amzn-requestid", "INJECTED");
    response
}
