//! Faults on the level of the SDK's HTTP client: below everything that interprets answers.
//!
//! Wraps the embedded store or a real endpoint. Every call of an invocation is a scheduling
//! point, so that an invocation and its retry meet between reading and writing. What a fault
//! does is in [`faults`](super::faults). Calls outside of an invocation (making tables, reading
//! results) pass untouched.

use super::{
    clock::{Turn, VirtualClock, yield_once},
    faults::{Fault, Operation, Strike, with_unprocessed},
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
use serde_json::Value;
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
    let asked = request.body().bytes().unwrap_or_default();
    let strike = turn.faults().strike(operation, asked);
    match strike {
        None => inner.call(request).await,
        Some(Strike::DiesBefore) => crash(turn).await,
        Some(Strike::DiesAfter) => {
            // Nobody learns the answer, good or bad.
            drop(inner.call(request).await);
            crash(turn).await
        }
        Some(Strike::AnswerLost) => {
            drop(inner.call(request).await);
            Err(ConnectorError::timeout("the answer was lost (injected)".into()))
        }
        Some(Strike::Refused(body)) => Ok(response(400, &body)),
        Some(Strike::KeysHeldBack(mut rng)) => {
            let asked = asked.to_vec();
            let answered = inner.call(request).await?;
            let answer = answered.body().bytes().and_then(|body| {
                answered.status().is_success().then(|| with_unprocessed(&asked, body, &mut rng))?
            });
            if let Some(answer) = answer {
                Ok(response(200, &answer))
            } else {
                turn.faults().take_back(Fault::UnprocessedKeys, rng);
                Ok(answered)
            }
        }
    }
}

/// The process is gone: the run loop drops the invocation, which never goes on.
async fn crash(turn: &Turn) -> Result<HttpResponse, ConnectorError> {
    turn.faults().crash();
    std::future::pending().await
}

fn response(status: u16, body: &Value) -> HttpResponse {
    let status = StatusCode::try_from(status).expect("200 and 400 are statuses");
    let mut response = HttpResponse::new(status, SdkBody::from(body.to_string()));
    response.headers_mut().insert("content-type", "application/x-amz-json-1.0");
    response.headers_mut().insert("x-amzn-requestid", "INJECTED");
    response
}
