//! A deployed function, invoked through Lambda's API.
//!
//! A few calls of one API: a request is signed by AWS's own signer and sent by the transport
//! the store uses, instead of a client of the whole service.

mod qualifier;

use super::{Complaint, account::Account};
use crate::{
    backoff::{Backoff, Tries},
    clock::{Clock, SystemClock},
    config::{self, FunctionEndpoint},
    record::Timestamp,
};
use aws_credential_types::provider::ProvideCredentials as _;
use aws_sigv4::{
    http_request::{SignableBody, SignableRequest, SigningSettings, sign},
    sign::v4,
};
use aws_smithy_http_client::{
    Connector,
    tls::{Provider, rustls_provider::CryptoMode},
};
use aws_smithy_runtime_api::client::{http::HttpConnector, orchestrator::HttpRequest};
use aws_smithy_types::body::SdkBody;
use qualifier::qualifier_of;
use serde_json::Value;
use std::{
    fmt::Write as _,
    sync::Arc,
    time::{Duration, SystemTime},
};

/// How long a call that is throttled, or meets a server's error, is repeated.
const REPEATED_MS: i64 = 30_000;

/// A function and how to reach it.
pub(super) struct Deployed {
    endpoint: FunctionEndpoint,
    /// By name or ARN, as it was given; with the qualifier that was found.
    function: String,
    backoff: Backoff,
}

/// What Lambda answered.
struct Answered {
    status: u16,
    /// Whether the function failed, as opposed to its invocation.
    is_function_error: bool,
    value: Value,
}

impl Deployed {
    /// A function by its name or ARN. Where that has no version or alias, it is the one that
    /// the function's event source mapping invokes; which one is said on stderr.
    ///
    /// # Errors
    /// It is no name, Region or credentials are missing, or several are invoked.
    pub(super) async fn find(function: &str) -> Result<Self, Complaint> {
        let region = function.strip_prefix("arn:").and_then(|arn| arn.split(':').nth(2));
        let url = config::function_url(config::process_environment());
        let account = Account::for_endpoints([url.as_deref()], region).await?;
        let credentials = account.credentials().cloned();
        if url.is_none() && account.region().is_none() {
            return Err(Complaint::new("no AWS Region is known").with_hint(
                "name the function by its ARN, set AWS_REGION, or `region` in the profile",
            ));
        }
        let endpoint = config::function_endpoint(account.environment(), region, credentials)?;
        // An ARN's colons, and a qualifier's, are told as they are: AWS takes both.
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_:$".contains(&byte);
        if function.is_empty() || !function.bytes().all(is_plain) {
            return Err(Complaint::new(format!("`{function}` is no function's name or ARN")));
        }
        let seed = SystemClock.now().0.cast_unsigned();
        let backoff = Backoff::new(Arc::new(SystemClock), seed);
        let found = Self { endpoint, function: function.to_owned(), backoff };
        if qualifier_of(function).is_some() { Ok(found) } else { found.qualify().await }
    }

    /// Sends an event and waits for the answer.
    pub(super) async fn invoke(&self, event: Vec<u8>) -> Result<Value, Complaint> {
        let function = encoded(&self.function);
        let url = format!("{}/2015-03-31/functions/{function}/invocations", self.endpoint.url);
        let Answered { status, is_function_error, value } = self.ask("POST", &url, event).await?;
        if status != 200 {
            let message = value["Message"].as_str().or_else(|| value["message"].as_str());
            return Err(Complaint::new(format!(
                "Lambda answered {status}: {}",
                message.unwrap_or("no reason")
            )));
        }
        if is_function_error {
            return Err(Complaint::new(format!(
                "the function failed: {}: {}",
                value["errorType"].as_str().unwrap_or_default(),
                value["errorMessage"].as_str().unwrap_or("no reason")
            )));
        }
        Ok(value)
    }

    /// Makes one call, again while Lambda throttles it or has trouble of its own. A call that
    /// was carried out although its answer is an error does no harm twice: an operation is made
    /// to be broken off and begun again.
    async fn ask(&self, method: &str, url: &str, body: Vec<u8>) -> Result<Answered, Complaint> {
        let mut tries = Tries::new(Timestamp(SystemClock.now().0 + REPEATED_MS));
        loop {
            let answered = self.ask_once(method, url, body.clone()).await?;
            let is_passing = answered.status == 429 || answered.status >= 500;
            if !is_passing || !self.backoff.wait(&mut tries).await {
                return Ok(answered);
            }
        }
    }

    async fn ask_once(
        &self,
        method: &str,
        url: &str,
        body: Vec<u8>,
    ) -> Result<Answered, Complaint> {
        let connector =
            Connector::builder().tls_provider(Provider::Rustls(CryptoMode::Ring)).build();
        let request = self.signed((method, url), body).await?;
        let answer = connector.call(request).await.map_err(|error| {
            Complaint::new(format!("{url}: {}", super::super::target::with_sources(&error)))
                .with_hint("is the function's endpoint up, and the Region right?")
        })?;
        let status = answer.status().as_u16();
        let is_function_error = answer.headers().get("x-amz-function-error").is_some();
        let body = aws_smithy_types::byte_stream::ByteStream::new(answer.into_body());
        let body = body.collect().await?.into_bytes();
        let value = serde_json::from_slice(&body).unwrap_or_default();
        Ok(Answered { status, is_function_error, value })
    }

    async fn signed(
        &self,
        (method, url): (&str, &str),
        body: Vec<u8>,
    ) -> Result<HttpRequest, Complaint> {
        let Timestamp(now) = SystemClock.now();
        let now = SystemTime::UNIX_EPOCH + Duration::from_millis(now.cast_unsigned());
        let identity = self.endpoint.credentials.provide_credentials().await?.into();
        let params = v4::SigningParams::builder()
            .identity(&identity)
            .region(&self.endpoint.region)
            .name("lambda")
            .time(now)
            .settings(SigningSettings::default())
            .build()?
            .into();
        let headers = [("content-type", "application/json")];
        let signable =
            SignableRequest::new(method, url, headers.into_iter(), SignableBody::Bytes(&body))?;
        let (instructions, _) = sign(signable, &params)?.into_parts();
        let mut request = HttpRequest::new(SdkBody::from(body));
        request.set_method(method)?;
        request.set_uri(url)?;
        for (name, value) in headers {
            request.headers_mut().insert(name, value);
        }
        let (signed, _) = instructions.into_parts();
        for header in signed {
            request.headers_mut().insert(header.name(), header.value().to_owned());
        }
        Ok(request)
    }
}

/// A text as part of a URL: everything but letters, digits and a few signs is escaped.
fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            write!(encoded, "%{byte:02X}").expect("a String takes all text");
        }
    }
    encoded
}
