//! The services besides DynamoDB that a record set aside may be sent to or read from.
//!
//! Separate so that all of them are reached alike: one HTTP client, one wait between tries,
//! one table of what is worth trying again. As in the store, the SDK's own retries are off,
//! so that the deadline counts. What it gives up: unlike a write to the store, every call
//! made here may be repeated, so it does not tell a lost answer from a refusal under load.

use crate::{
    backoff::{Backoff, Tries},
    clock::Clock,
    record::Timestamp,
    store::Endpoint,
};
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_smithy_runtime_api::client::{
    http::SharedHttpClient, orchestrator::HttpResponse, result::SdkError,
};
use aws_smithy_types::{
    error::metadata::ProvideErrorMetadata, retry::RetryConfig, timeout::TimeoutConfig,
};
use std::{sync::Arc, time::Duration};

/// Where each service is: the Region's own endpoint, or another one.
#[derive(Debug, Clone)]
pub struct Endpoints {
    /// Amazon SQS.
    pub sqs: Endpoint,
    /// Amazon SNS.
    pub sns: Endpoint,
    /// Amazon S3.
    pub s3: Endpoint,
    /// Kinesis Data Streams.
    pub kinesis: Endpoint,
    /// DynamoDB Streams.
    pub dynamodb_streams: Endpoint,
}

impl Endpoints {
    /// The endpoints of one Region, with the AWS SDKs' settings for others: `setting` is
    /// asked for `AWS_ENDPOINT_URL_SQS`, `_SNS`, `_S3`, `_KINESIS`, `_DYNAMODB_STREAMS`, and
    /// for `AWS_ENDPOINT_URL` where those are not set.
    #[must_use]
    pub fn new(
        region: &str,
        credentials: &SharedCredentialsProvider,
        setting: impl Fn(&str) -> Option<String>,
    ) -> Self {
        let set = |name: &str| setting(name).filter(|url| !url.is_empty());
        let endpoint = |service: &str| Endpoint {
            region: region.to_owned(),
            url: set(&format!("AWS_ENDPOINT_URL_{service}")).or_else(|| set("AWS_ENDPOINT_URL")),
            credentials: credentials.clone(),
        };
        Self {
            sqs: endpoint("SQS"),
            sns: endpoint("SNS"),
            s3: endpoint("S3"),
            kinesis: endpoint("KINESIS"),
            dynamodb_streams: endpoint("DYNAMODB_STREAMS"),
        }
    }

    /// Has somebody else sign, as [`Endpoint::sign_with`] does for each.
    pub fn sign_with(&mut self, credentials: &SharedCredentialsProvider) {
        let Self { sqs, sns, s3, kinesis, dynamodb_streams } = self;
        for endpoint in [sqs, sns, s3, kinesis, dynamodb_streams] {
            endpoint.sign_with(credentials);
        }
    }
}

/// How to reach the services: what every client of them is built from.
#[derive(Debug, Clone)]
pub struct Services {
    http_client: SharedHttpClient,
    pub(crate) endpoints: Endpoints,
    backoff: Backoff,
}

impl Services {
    /// Does no IO. The clock is waited by between tries; the seed makes the waits repeatable.
    #[must_use]
    pub fn new(
        http_client: SharedHttpClient,
        endpoints: Endpoints,
        clock: Arc<dyn Clock>,
        seed: u64,
    ) -> Self {
        Self { http_client, endpoints, backoff: Backoff::new(clock, seed) }
    }

    pub(crate) fn clock(&self) -> &Arc<dyn Clock> {
        self.backoff.clock()
    }

    pub(crate) fn http_client(&self) -> SharedHttpClient {
        self.http_client.clone()
    }

    /// Calls until it is answered, the failure is final, or there is no time for another try.
    pub(crate) async fn call<T, E, F>(
        &self,
        operation: &'static str,
        deadline: Timestamp,
        attempt: impl Fn() -> F,
    ) -> Result<T, CallError>
    where
        F: Future<Output = Result<T, SdkError<E, HttpResponse>>>,
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        let mut tries = Tries::new(deadline);
        loop {
            let error = match attempt().await {
                Ok(answer) => return Ok(answer),
                Err(error) => CallError::new(operation, &error),
            };
            if !error.is_transient || !self.backoff.wait(&mut tries).await {
                return Err(error);
            }
        }
    }
}

/// The settings every client has, as a builder of its own kind.
macro_rules! client_config {
    ($sdk:ident, $services:expr, $endpoint:expr) => {{
        let endpoint: &$crate::store::Endpoint = $endpoint;
        let mut config = $sdk::Config::builder()
            .behavior_version($sdk::config::BehaviorVersion::latest())
            .region($sdk::config::Region::new(endpoint.region.clone()))
            .credentials_provider(endpoint.credentials.clone())
            .retry_config($crate::recovery::services::no_retries())
            .timeout_config($crate::recovery::services::timeouts())
            .http_client($services.http_client());
        config.set_endpoint_url(endpoint.url.clone());
        config
    }};
}
pub(crate) use client_config;

pub(crate) fn no_retries() -> RetryConfig {
    RetryConfig::disabled()
}

pub(crate) fn timeouts() -> TimeoutConfig {
    TimeoutConfig::builder()
        .connect_timeout(Duration::from_secs(3))
        .read_timeout(Duration::from_secs(10))
        .build()
}

/// A call that was not answered as it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{operation}: {code}: {message}")]
pub struct CallError {
    /// The API operation.
    pub operation: &'static str,
    /// The service's own error code, or ours where no answer came.
    pub code: String,
    /// The service's message.
    pub message: String,
    /// Whether the same call may succeed later.
    pub is_transient: bool,
}

impl CallError {
    fn new<E>(operation: &'static str, error: &SdkError<E, HttpResponse>) -> Self
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        let is_transient = match error {
            SdkError::ServiceError(service) => {
                is_transient(service.err().code(), service.raw().status().as_u16())
            }
            SdkError::ConstructionFailure(_) => false,
            _ => true,
        };
        let (code, message) = match error {
            SdkError::ServiceError(service) => (service.err().code(), service.err().message()),
            _ => (None, None),
        };
        let code = code.unwrap_or(match error {
            SdkError::TimeoutError(_) => "NoAnswerInTime",
            SdkError::DispatchFailure(_) => "NotReachable",
            SdkError::ResponseError(_) => "AnswerUnreadable",
            SdkError::ServiceError(_) => "ErrorWithoutCode",
            _ => "RequestNotSent",
        });
        let message = message.map_or_else(|| chain(error), str::to_owned);
        Self { operation, code: code.to_owned(), message, is_transient }
    }

    /// An answer that broke off; asking again may bring all of it.
    #[cfg(feature = "destinations")]
    pub(super) fn broken_off(operation: &'static str, error: &dyn std::error::Error) -> Self {
        let code = "AnswerUnreadable".to_owned();
        Self { operation, code, message: chain(error), is_transient: true }
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}

/// Throttling under its several names, and whatever is the service's own fault. Sources: the
/// "Common errors" and the operations' pages of the five API references.
fn is_transient(code: Option<&str>, status: u16) -> bool {
    let throttled = matches!(
        code,
        Some(
            "KMSThrottlingException"
                | "KMSThrottled"
                | "LimitExceededException"
                | "ProvisionedThroughputExceededException"
                | "RequestLimitExceeded"
                | "RequestThrottled"
                | "RequestTimeout"
                | "SlowDown"
                | "Throttled"
                | "ThrottledException"
                | "Throttling"
                | "ThrottlingException"
                | "TooManyRequestsException"
        )
    );
    throttled || status == 429 || status >= 500
}

#[cfg(test)]
pub(crate) mod scripted;

#[cfg(test)]
mod tests {
    use super::*;
    use aws_credential_types::Credentials;

    #[test]
    fn a_services_own_setting_goes_before_the_common_one() {
        let credentials =
            SharedCredentialsProvider::new(Credentials::new("id", "secret", None, None, "test"));
        let endpoints = Endpoints::new("eu-west-1", &credentials, |name| match name {
            "AWS_ENDPOINT_URL" => Some("http://all".to_owned()),
            "AWS_ENDPOINT_URL_S3" => Some("http://s3".to_owned()),
            "AWS_ENDPOINT_URL_SNS" => Some(String::new()),
            _ => None,
        });
        let url = |endpoint: Endpoint| endpoint.url.unwrap();
        assert_eq!(url(endpoints.s3), "http://s3");
        assert_eq!(url(endpoints.sqs), "http://all");
        assert_eq!(url(endpoints.sns), "http://all", "an empty setting is none");
        assert_eq!(url(endpoints.dynamodb_streams), "http://all");
        let none = Endpoints::new("eu-west-1", &credentials, |_| None);
        assert_eq!((none.kinesis.url, &*none.kinesis.region), (None, "eu-west-1"));
    }

    #[test]
    fn load_and_the_services_own_faults_are_worth_another_try() {
        assert!(is_transient(Some("Throttling"), 400));
        assert!(is_transient(Some("InternalFailure"), 500));
        assert!(is_transient(None, 503));
        assert!(!is_transient(Some("AccessDenied"), 403));
        assert!(!is_transient(Some("AWS.SimpleQueueService.NonExistentQueue"), 400));
    }
}
