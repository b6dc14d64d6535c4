//! Credentials of a role that is assumed, for tables that the function's own role may not read.
//!
//! Separate from the store because it is another service, AWS STS. The client of the tables keeps
//! what it was given until shortly before it expires, and asks again.

use super::Endpoint;
use aws_credential_types::{
    Credentials,
    provider::{
        ProvideCredentials, SharedCredentialsProvider, error::CredentialsError,
        future::ProvideCredentials as Provided,
    },
};
use aws_sdk_sts::{
    Client,
    config::{BehaviorVersion, Region, retry::RetryConfig},
    error::DisplayErrorContext,
};
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use std::time::SystemTime;

/// Tries of a request to STS.
const TRIES: u32 = 3;
/// The characters of a session's name that STS takes, and how many.
/// Source: `RoleSessionName` of `AssumeRole` in the STS API reference.
const SESSION_SIGNS: &[u8] = b"_=,.@-";
const SESSION_CHARS_MAX: usize = 64;

/// A role, and how to assume it.
#[derive(Debug, Clone)]
pub struct Role {
    /// `arn:aws:iam::ACCOUNT:role/NAME`.
    pub arn: String,
    /// STS, and who signs there.
    pub endpoint: Endpoint,
    /// Who assumes it, as the other account's log tells it.
    pub session: String,
}

impl Role {
    /// Credentials of this role, which are asked for when they are needed.
    #[must_use]
    pub fn credentials(&self, network: SharedHttpClient) -> SharedCredentialsProvider {
        let Endpoint { region, url, credentials } = &self.endpoint;
        let mut config = aws_sdk_sts::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(region.clone()))
            .credentials_provider(credentials.clone())
            .retry_config(RetryConfig::standard().with_max_attempts(TRIES))
            .http_client(network);
        if let Some(url) = url {
            config = config.endpoint_url(url);
        }
        let client = Client::from_conf(config.build());
        let is_taken = |byte: &u8| byte.is_ascii_alphanumeric() || SESSION_SIGNS.contains(byte);
        let signs = self.session.bytes().filter(is_taken).take(SESSION_CHARS_MAX);
        let session = signs.map(char::from).collect();
        SharedCredentialsProvider::new(Assumed { client, arn: self.arn.clone(), session })
    }
}

#[derive(Debug)]
struct Assumed {
    client: Client,
    arn: String,
    session: String,
}

impl Assumed {
    async fn assume(&self) -> Result<Credentials, CredentialsError> {
        let asked = self.client.assume_role().role_arn(&self.arn).role_session_name(&self.session);
        let answer = asked.send().await.map_err(|error| {
            let reason = DisplayErrorContext(&error);
            CredentialsError::provider_error(format!(
                "the role {} cannot be assumed (may the function's role do so, and does the role \
                 trust it?): {reason}",
                self.arn
            ))
        })?;
        let given = answer.credentials.ok_or_else(|| {
            let message = format!("STS gave no credentials of the role {}", self.arn);
            CredentialsError::invalid_configuration(message)
        })?;
        let expiry = SystemTime::try_from(given.expiration).map_err(|error| {
            CredentialsError::invalid_configuration(format!(
                "STS says no time until which credentials of the role {} are good: {error}",
                self.arn
            ))
        })?;
        let (id, secret) = (given.access_key_id, given.secret_access_key);
        Ok(Credentials::new(id, secret, Some(given.session_token), Some(expiry), "role"))
    }
}

impl ProvideCredentials for Assumed {
    fn provide_credentials<'p>(&'p self) -> Provided<'p>
    where
        Self: 'p,
    {
        Provided::new(self.assume())
    }
}
