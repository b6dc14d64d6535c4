//! A deployed function, invoked through Lambda's API ([`invoke`](crate::invoke)).

mod qualifier;

use super::{Complaint, account::Account};
use crate::{
    clock::{Clock, SystemClock},
    config,
    invoke::{Answered, InvokeError, LambdaApi, encoded},
    local::target::with_sources,
    record::Timestamp,
};
use qualifier::qualifier_of;
use serde_json::Value;
use std::{collections::BTreeMap, sync::Arc};

/// How long a call that is throttled, or meets a server's error, is repeated.
const REPEATED_MS: i64 = 30_000;

/// A function and how to reach it.
pub(super) struct Deployed {
    api: LambdaApi,
    /// By name or ARN, as it was given; with the qualifier that was found.
    function: String,
}

/// The Region that a function's ARN names; a name has none.
pub(super) fn region_of(function: &str) -> Option<&str> {
    function.strip_prefix("arn:")?.split(':').nth(2)
}

impl Deployed {
    /// A function by its name or ARN. Where that has no version or alias, it is the one that
    /// the function's event source mapping invokes; which one is said on stderr.
    ///
    /// # Errors
    /// It is no name, Region or credentials are missing, or several are invoked.
    pub(super) async fn find(function: &str) -> Result<Self, Complaint> {
        let region = region_of(function);
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
        let roots = config::roots(config::process_environment())?;
        let api = LambdaApi::new(endpoint, roots, Arc::new(SystemClock), seed);
        let found = Self { api, function: function.to_owned() };
        if qualifier_of(function).is_some() { Ok(found) } else { found.qualify().await }
    }

    /// The function's settings.
    ///
    /// # Errors
    /// Lambda refuses or cannot be reached.
    pub(super) async fn settings(&self) -> Result<BTreeMap<String, String>, Complaint> {
        let path = format!("functions/{}/configuration", encoded(&self.function));
        let answered = self.ask("GET", &path, Vec::new()).await?;
        if answered.status != 200 {
            let (status, message) = (answered.status, answered.reason().to_owned());
            return Err(Complaint::from(InvokeError::Refused { status, message })
                .with_hint("its tables are named there: allow lambda:GetFunctionConfiguration"));
        }
        let variables = answered.value["Environment"]["Variables"].as_object();
        let text = |(name, value): (&String, &Value)| Some((name.clone(), value.as_str()?.into()));
        Ok(variables.into_iter().flatten().filter_map(text).collect())
    }

    /// Sends an event and waits for the answer.
    pub(super) async fn invoke(&self, event: Vec<u8>) -> Result<Value, Complaint> {
        let path = format!("functions/{}/invocations", encoded(&self.function));
        let answered = self.ask("POST", &path, event).await?;
        if answered.status != 200 {
            let (status, message) = (answered.status, answered.reason().to_owned());
            return Err(InvokeError::Refused { status, message }.into());
        }
        let value = answered.value;
        if answered.is_function_error {
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
    async fn ask(&self, method: &str, path: &str, body: Vec<u8>) -> Result<Answered, Complaint> {
        let deadline = Timestamp(SystemClock.now().0 + REPEATED_MS);
        let headers = [("content-type", "application/json")];
        self.api.ask((method, path), &headers, body, deadline).await.map_err(|error| match error {
            InvokeError::Unreached { url, source } => {
                Complaint::new(format!("{url}: {}", with_sources(&source)))
                    .with_hint("is the function's endpoint up, and the Region right?")
            }
            error => Complaint::from(error),
        })
    }
}
