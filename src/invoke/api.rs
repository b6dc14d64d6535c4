//! The requests themselves: signed, sent, and made again while Lambda throttles.

use super::{FunctionEndpoint, Invoke, InvokeError, encoded};
use crate::{
    backoff::{Backoff, Tries},
    clock::Clock,
    record::Timestamp,
    store::Roots,
};
use aws_credential_types::{Credentials, provider::ProvideCredentials as _};
use aws_sigv4::{
    http_request::{SignableBody, SignableRequest, SigningSettings, sign},
    sign::v4,
};
use aws_smithy_runtime_api::client::{
    http::HttpConnector as _, orchestrator::HttpRequest, result::ConnectorError,
};
use aws_smithy_types::{body::SdkBody, byte_stream::ByteStream};
use bytes::Bytes;
use futures_util::future::{BoxFuture, FutureExt};
use serde_json::Value;
use std::{
    error::Error,
    sync::Arc,
    time::{Duration, SystemTime},
};

/// Lambda's API at one endpoint.
#[derive(Debug, Clone)]
pub struct LambdaApi {
    endpoint: FunctionEndpoint,
    roots: Roots,
    backoff: Backoff,
}

/// What Lambda answered.
#[derive(Debug)]
pub struct Answered {
    /// The HTTP status.
    pub status: u16,
    /// Whether the function failed, as opposed to its invocation.
    pub is_function_error: bool,
    /// The body; null if it is no JSON.
    pub value: Value,
    /// The body's bytes.
    pub body: Bytes,
}

impl Answered {
    /// Lambda's reason for a refusal.
    #[must_use]
    pub fn reason(&self) -> &str {
        let reason = self.value["Message"].as_str().or_else(|| self.value["message"].as_str());
        reason.unwrap_or("no reason")
    }
}

impl LambdaApi {
    /// The API at this endpoint; a seed makes the pauses between tries repeatable.
    #[must_use]
    pub fn new(endpoint: FunctionEndpoint, roots: Roots, clock: Arc<dyn Clock>, seed: u64) -> Self {
        Self { endpoint, roots, backoff: Backoff::new(clock, seed) }
    }

    /// Makes one call, again while Lambda throttles it or has trouble of its own. So it has to be
    /// one that does no harm when it is carried out twice. The path begins behind the version of
    /// the API, without a slash.
    ///
    /// # Errors
    /// There are no credentials, or Lambda cannot be reached.
    pub async fn ask(
        &self,
        (method, path): (&str, &str),
        headers: &[(&'static str, &str)],
        body: Vec<u8>,
        deadline: Timestamp,
    ) -> Result<Answered, InvokeError> {
        let mut tries = Tries::new(deadline);
        loop {
            let answered = self.ask_once((method, path), headers, body.clone()).await?;
            let is_passing = answered.status == 429 || answered.status >= 500;
            if !is_passing || !self.backoff.wait(&mut tries).await {
                return Ok(answered);
            }
        }
    }

    /// Makes one call, once.
    ///
    /// # Errors
    /// There are no credentials, or Lambda cannot be reached.
    pub async fn ask_once(
        &self,
        (method, path): (&str, &str),
        headers: &[(&'static str, &str)],
        body: Vec<u8>,
    ) -> Result<Answered, InvokeError> {
        let url = &*format!("{}/2015-03-31/{path}", self.endpoint.url);
        let identity = self.endpoint.credentials.provide_credentials().await?;
        let now = self.backoff.clock().now();
        let signer = Signer { identity, region: &self.endpoint.region, service: "lambda", now };
        let request = signed((method, url), headers, body, signer).map_err(InvokeError::Unmade)?;
        let unreached = |source| InvokeError::Unreached { url: url.to_owned(), source };
        let answer = self.roots.connector().call(request).await.map_err(unreached)?;
        let status = answer.status().as_u16();
        let is_function_error = answer.headers().get("x-amz-function-error").is_some();
        let body = ByteStream::new(answer.into_body()).collect().await;
        let body = body.map_err(|error| unreached(ConnectorError::io(error.into())))?;
        let body = body.into_bytes();
        let value = serde_json::from_slice(&body).unwrap_or_default();
        Ok(Answered { status, is_function_error, value, body })
    }
}

impl Invoke for LambdaApi {
    fn invoke_later<'i>(
        &'i self,
        function: &'i str,
        event: Vec<u8>,
        deadline: Timestamp,
    ) -> BoxFuture<'i, Result<(), InvokeError>> {
        async move {
            let path = format!("functions/{}/invocations", encoded(function));
            let headers = [("content-type", JSON), ("x-amz-invocation-type", "Event")];
            let mut tries = Tries::new(deadline);
            loop {
                let answered = self.ask(("POST", &path), &headers, event.clone(), deadline).await;
                match answered {
                    Ok(answered) if answered.status == 202 => return Ok(()),
                    Ok(answered) => {
                        let (status, message) = (answered.status, answered.reason().to_owned());
                        return Err(InvokeError::Refused { status, message });
                    }
                    // It may have been taken although no answer came: then it comes twice.
                    Err(InvokeError::Unreached { .. }) if self.backoff.wait(&mut tries).await => {}
                    Err(error) => return Err(error),
                }
            }
        }
        .boxed()
    }
}

/// The type of every body.
const JSON: &str = "application/json";

/// Who signs a request, for which service, and when.
pub(crate) struct Signer<'a> {
    pub(crate) identity: Credentials,
    pub(crate) region: &'a str,
    pub(crate) service: &'a str,
    pub(crate) now: Timestamp,
}

/// A request with its signature.
pub(crate) fn signed(
    (method, url): (&str, &str),
    headers: &[(&'static str, &str)],
    body: Vec<u8>,
    by: Signer<'_>,
) -> Result<HttpRequest, Box<dyn Error + Send + Sync>> {
    let identity = by.identity.into();
    let Timestamp(now) = by.now;
    let params = v4::SigningParams::builder()
        .identity(&identity)
        .region(by.region)
        .name(by.service)
        .time(SystemTime::UNIX_EPOCH + Duration::from_millis(now.cast_unsigned()))
        .settings(SigningSettings::default())
        .build()?
        .into();
    let of_request = headers.iter().copied();
    let signable = SignableRequest::new(method, url, of_request, SignableBody::Bytes(&body))?;
    let (instructions, _) = sign(signable, &params)?.into_parts();
    let mut request = HttpRequest::new(SdkBody::from(body));
    request.set_method(method)?;
    request.set_uri(url)?;
    for &(name, value) in headers {
        request.headers_mut().insert(name, value.to_owned());
    }
    let (signed, _) = instructions.into_parts();
    for header in signed {
        request.headers_mut().insert(header.name(), header.value().to_owned());
    }
    Ok(request)
}
