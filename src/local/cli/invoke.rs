//! A deployed function, invoked through Lambda's API.
//!
//! One call of one API: the request is signed by AWS's own signer and sent by the transport
//! the store uses, instead of a client of the whole service.

use super::{Complaint, account::Account};
use crate::{
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
use serde_json::Value;
use std::time::{Duration, SystemTime};

/// A function and how to reach it.
pub(super) struct Deployed {
    endpoint: FunctionEndpoint,
    url: String,
}

impl Deployed {
    /// A function by its name or ARN.
    pub(super) async fn new(function: &str) -> Result<Self, Complaint> {
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
        let function = function.replace('$', "%24").replace(':', "%3A");
        let url = format!("{}/2015-03-31/functions/{function}/invocations", endpoint.url);
        Ok(Self { endpoint, url })
    }

    /// Sends an event and waits for the answer.
    pub(super) async fn invoke(&self, event: Vec<u8>) -> Result<Value, Complaint> {
        let connector =
            Connector::builder().tls_provider(Provider::Rustls(CryptoMode::Ring)).build();
        let request = self.signed(event).await?;
        let answer = connector.call(request).await.map_err(|error| {
            Complaint::new(format!("{}: {}", self.url, super::super::target::with_sources(&error)))
                .with_hint("is the function's endpoint up, and the Region right?")
        })?;
        let status = answer.status().as_u16();
        let failed = answer.headers().get("x-amz-function-error").map(str::to_owned);
        let body = aws_smithy_types::byte_stream::ByteStream::new(answer.into_body());
        let body = body.collect().await?.into_bytes();
        let value: Value = serde_json::from_slice(&body).unwrap_or_default();
        if status != 200 {
            let message = value["Message"].as_str().or_else(|| value["message"].as_str());
            return Err(Complaint::new(format!(
                "Lambda answered {status}: {}",
                message.unwrap_or("no reason")
            )));
        }
        if failed.is_some() {
            return Err(Complaint::new(format!(
                "the function failed: {}: {}",
                value["errorType"].as_str().unwrap_or_default(),
                value["errorMessage"].as_str().unwrap_or("no reason")
            )));
        }
        Ok(value)
    }

    async fn signed(&self, event: Vec<u8>) -> Result<HttpRequest, Complaint> {
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
        let signable = SignableRequest::new(
            "POST",
            &self.url,
            headers.into_iter(),
            SignableBody::Bytes(&event),
        )?;
        let (instructions, _) = sign(signable, &params)?.into_parts();
        let mut request = HttpRequest::new(SdkBody::from(event));
        request.set_method("POST")?;
        request.set_uri(self.url.clone())?;
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
