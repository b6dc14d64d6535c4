//! Calls of an emulator's services: DynamoDB, Kinesis, SQS and Lambda.
//!
//! A dozen operations in all, so requests are written and signed here instead of drawing in a
//! client of each service.

use crate::{
    clock::{Clock as _, SystemClock},
    config,
    invoke::{Signer, signed},
    local::target::with_sources,
};
use aws_credential_types::Credentials;
use aws_smithy_http_client::Connector;
use aws_smithy_runtime_api::client::http::HttpConnector as _;
use aws_smithy_types::byte_stream::ByteStream;
use serde_json::Value;

/// Emulators look at neither, but want them to be there.
const REGION: &str = "us-east-1";
const KEY: &str = "test";

/// A call that did not bring what was asked for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServiceError {
    /// There was no answer.
    #[error("{operation}: no answer: {reason}")]
    Unreached {
        /// What was asked.
        operation: String,
        /// Why not.
        reason: String,
    },
    /// It was refused.
    #[error("{operation} is refused: {status}, {message}")]
    Refused {
        /// What was asked.
        operation: String,
        /// The HTTP status.
        status: u16,
        /// The emulator's words.
        message: String,
    },
    /// It was answered with something else.
    #[error("{operation}: the answer has no `{member}`")]
    Answer {
        /// What was asked.
        operation: String,
        /// What it should have had.
        member: &'static str,
    },
    /// What was made did not become ready.
    #[error("{what} is not ready after {seconds} s")]
    NotReady {
        /// What was made.
        what: String,
        /// How long it was waited for.
        seconds: u64,
    },
}

impl ServiceError {
    /// Whether nobody answers, so that no other call will be answered either.
    pub(super) fn is_unreached(&self) -> bool {
        matches!(self, Self::Unreached { .. })
    }
}

/// The services behind one endpoint.
#[derive(Debug)]
pub(super) struct Services {
    url: String,
    connector: Connector,
}

impl Services {
    pub(super) fn new(url: &str) -> Result<Self, ServiceError> {
        let roots = config::roots(config::process_environment());
        let roots = roots.map_err(|error| unreached(url, &error))?;
        Ok(Self { url: url.to_owned(), connector: roots.connector() })
    }

    /// An operation of DynamoDB, Kinesis or SQS, by its name in `x-amz-target`.
    pub(super) async fn ask(&self, target: &str, body: &Value) -> Result<Value, ServiceError> {
        let prefix = target.split('.').next().unwrap_or_default();
        let (service, version) = match prefix {
            "DynamoDB_20120810" => ("dynamodb", "application/x-amz-json-1.0"),
            "AmazonSQS" => ("sqs", "application/x-amz-json-1.0"),
            _ => ("kinesis", "application/x-amz-json-1.1"),
        };
        let headers = [("content-type", version), ("x-amz-target", target)];
        let url = format!("{}/", self.url);
        self.send(("POST", &url), target, service, &headers, body.to_string()).await
    }

    /// An operation of Lambda, by its path behind the version.
    pub(super) async fn ask_lambda(
        &self,
        (method, path): (&str, &str),
        body: &Value,
    ) -> Result<Value, ServiceError> {
        let url = format!("{}/2015-03-31/{path}", self.url);
        let headers = [("content-type", "application/json")];
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let operation = format!("{method} {path}");
        self.send((method, &url), &operation, "lambda", &headers, body).await
    }

    async fn send(
        &self,
        (method, url): (&str, &str),
        operation: &str,
        service: &str,
        headers: &[(&'static str, &str)],
        body: String,
    ) -> Result<Value, ServiceError> {
        let identity = Credentials::new(KEY, KEY, None, None, "conformance");
        let signer = Signer { identity, region: REGION, service, now: SystemClock.now() };
        let request = signed((method, url), headers, body.into_bytes(), signer);
        let request = request.map_err(|error| unreached(operation, &*error))?;
        let answer = self.connector.call(request).await;
        let answer = answer.map_err(|error| unreached(operation, &error))?;
        let status = answer.status().as_u16();
        let body = ByteStream::new(answer.into_body()).collect().await;
        let body = body.map_err(|error| unreached(operation, &error))?.into_bytes();
        let value: Value = serde_json::from_slice(&body).unwrap_or_default();
        if (200..300).contains(&status) {
            return Ok(value);
        }
        let message = ["message", "Message"].iter().find_map(|name| value[name].as_str());
        let message = message.unwrap_or("no reason").to_owned();
        Err(ServiceError::Refused { operation: operation.to_owned(), status, message })
    }
}

fn unreached(operation: &str, error: &(dyn std::error::Error + 'static)) -> ServiceError {
    ServiceError::Unreached { operation: operation.to_owned(), reason: with_sources(error) }
}

/// A text of an answer, by its place.
pub(super) fn text(
    answer: &Value,
    operation: &str,
    member: &'static str,
) -> Result<String, ServiceError> {
    let found = answer.pointer(member).and_then(Value::as_str).map(str::to_owned);
    found.ok_or_else(|| ServiceError::Answer { operation: operation.to_owned(), member })
}
