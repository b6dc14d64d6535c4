//! A function behind Lambda's Invoke API: `cargo lambda watch`, the Runtime Interface Emulator,
//! SAM, another emulator, or Lambda itself.
//!
//! Each answer takes the way that it takes at AWS: a function error is a failed attempt; a
//! throttle, a server's error and a connection that is lost are none, and the same call is made
//! again. What it gives up: a call whose connection is lost may have run, and runs again.

use super::{
    clock::VirtualClock,
    target::{FunctionError, Target, with_sources},
};
use crate::{
    call::Call,
    clock::Clock as _,
    invoke::{Answered, LambdaApi},
};
use bytes::Bytes;
use futures_util::future::{FutureExt, LocalBoxFuture};
use serde_json::Value;
use std::{pin::pin, sync::Arc, time::Duration};

/// Between an endpoint and the name of a function, in the URL of an invocation.
///
/// Source: `Invoke` in the Lambda API reference.
const FUNCTIONS: &str = "/2015-03-31/functions/";
const INVOCATIONS: &str = "/invocations";

/// Where a function is invoked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvokeUrl {
    /// The endpoint of the API, without a slash at the end.
    pub endpoint: String,
    /// The function's name, as it stands in the URL; none if the URL has none.
    pub function: Option<String>,
}

impl InvokeUrl {
    /// Reads an endpoint, `http://127.0.0.1:9000`, or the URL of a function's invocations,
    /// `http://127.0.0.1:9000/2015-03-31/functions/NAME/invocations`.
    ///
    /// # Errors
    /// It is neither; told in words.
    pub fn read(text: &str) -> Result<Self, &'static str> {
        let is_url = text.starts_with("http://") || text.starts_with("https://");
        if !is_url || text.contains(char::is_whitespace) {
            return Err("a URL that begins with http:// or https://");
        }
        let Some((endpoint, rest)) = text.split_once(FUNCTIONS) else {
            let endpoint = text.trim_end_matches('/').to_owned();
            if endpoint.split('/').count() > 3 {
                return Err("an endpoint, or …/2015-03-31/functions/NAME/invocations");
            }
            return Ok(Self { endpoint, function: None });
        };
        let function = rest.strip_suffix(INVOCATIONS).filter(|name| !name.is_empty());
        let function = function.filter(|name| !name.contains('/'));
        let expected = "…/2015-03-31/functions/NAME/invocations";
        let function = function.ok_or(expected)?.to_owned();
        Ok(Self { endpoint: endpoint.to_owned(), function: Some(function) })
    }
}

/// The function there.
#[derive(Debug)]
pub struct RemoteFunction {
    api: LambdaApi,
    function: String,
    clock: Arc<VirtualClock>,
}

impl RemoteFunction {
    /// A function by its name in the URL.
    #[must_use]
    pub fn new(api: LambdaApi, function: String, clock: Arc<VirtualClock>) -> Self {
        Self { api, function, clock }
    }

    async fn serve(&self, payload: Bytes, call: Call) -> Result<Bytes, FunctionError> {
        let left_ms = call.deadline.0.saturating_sub(self.clock.now().0).max(0).cast_unsigned();
        let mut timeout = pin!(self.clock.sleep(Duration::from_millis(left_ms)));
        let path = format!("functions/{}/invocations", self.function);
        let headers = [("content-type", "application/json")];
        let answered = tokio::select! {
            biased;
            answered = self.api.ask_once(("POST", &path), &headers, payload.to_vec()) => answered,
            () = &mut timeout => {
                let message = format!("the function did not answer within {left_ms} ms");
                return Err(FunctionError::unhandled(message));
            }
        };
        match answered {
            Ok(answered) => reply(answered),
            Err(error) => Err(FunctionError::not_invoked(with_sources(&error))),
        }
    }
}

impl Target for RemoteFunction {
    fn invoke(
        &self,
        payload: Bytes,
        call: Call,
    ) -> LocalBoxFuture<'_, Result<Bytes, FunctionError>> {
        self.serve(payload, call).boxed_local()
    }
}

/// What an answer of the API means.
fn reply(answered: Answered) -> Result<Bytes, FunctionError> {
    if answered.status != 200 {
        let (status, reason) = (answered.status, answered.reason());
        let message = format!("the function was not invoked: status {status}, {reason}");
        return Err(FunctionError::not_invoked(message));
    }
    // The Runtime Interface Emulator tells a function's error in the body alone.
    let error = |name: &str| answered.value.get(name).and_then(Value::as_str);
    let told = error("errorType").zip(error("errorMessage"));
    if !answered.is_function_error && told.is_none() {
        return Ok(answered.body);
    }
    Err(FunctionError::unhandled(match told {
        Some((kind, message)) => format!("{kind}: {message}"),
        None => "the function failed and gave no reason".to_owned(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_url_is_an_endpoint_or_that_of_invocations() {
        let read = |text| InvokeUrl::read(text).map(|it| (it.endpoint, it.function));
        let of = |endpoint: &str, function: Option<&str>| {
            Ok((endpoint.to_owned(), function.map(str::to_owned)))
        };
        assert_eq!(read("http://127.0.0.1:9000"), of("http://127.0.0.1:9000", None));
        assert_eq!(read("http://127.0.0.1:9000/"), of("http://127.0.0.1:9000", None));
        assert_eq!(
            read("http://localhost:8080/2015-03-31/functions/function/invocations"),
            of("http://localhost:8080", Some("function"))
        );
        for text in [
            "127.0.0.1:9000",
            "http://a b",
            "http://localhost:9000/functions/f",
            "http://localhost:9000/2015-03-31/functions//invocations",
            "http://localhost:9000/2015-03-31/functions/f",
        ] {
            assert!(read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn each_answer_takes_the_way_it_takes_at_aws() {
        let answered = |status, is_function_error, value: &Value| {
            let body = Bytes::from(value.to_string());
            reply(Answered { status, is_function_error, value: value.clone(), body })
        };
        let good = json!({"batchItemFailures": []});
        assert_eq!(answered(200, false, &good).unwrap(), good.to_string());
        let failed = json!({"errorType": "Poison", "errorMessage": "no"});
        for is_told in [true, false] {
            let error = answered(200, is_told, &failed).unwrap_err();
            assert_eq!((&*error.message, error.was_invoked), ("Poison: no", true));
        }
        assert!(answered(200, true, &Value::Null).unwrap_err().was_invoked);
        for status in [404, 429, 500, 502] {
            let error = answered(status, false, &json!({"Message": "no"})).unwrap_err();
            assert!(!error.was_invoked && error.message.contains("no"), "{status}");
        }
    }
}
