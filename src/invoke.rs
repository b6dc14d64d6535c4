//! Lambda's own API, as far as functions are invoked through it.
//!
//! A function invokes itself to go on after its timeout, and the command line invokes functions
//! for an operator. A few calls of one API: a request is signed by AWS's own signer and sent by
//! the transport the store uses, instead of a client of the whole service. Who only needs to
//! invoke sees [`Invoke`], so that tests and the desk can stand in for Lambda.

use crate::record::Timestamp;
use aws_credential_types::provider::{SharedCredentialsProvider, error::CredentialsError};
use aws_smithy_runtime_api::client::result::ConnectorError;
use futures_util::future::BoxFuture;
use std::{
    error::Error,
    fmt::{self, Write as _},
};

#[cfg(feature = "backfill")]
mod api;
#[cfg(feature = "backfill")]
pub use api::{Answered, LambdaApi};
#[cfg(feature = "local")]
pub(crate) use api::{Signer, signed};

/// How to reach Lambda's own API.
#[derive(Debug, Clone)]
pub struct FunctionEndpoint {
    /// AWS Region.
    pub region: String,
    /// Where requests are sent, without a slash at the end.
    pub url: String,
    /// Who signs the requests.
    pub credentials: SharedCredentialsProvider,
}

/// Invokes functions without waiting for them.
pub trait Invoke: fmt::Debug + Send + Sync {
    /// Has a function invoked with an event, by its ARN with the alias if there is one. Lambda
    /// keeps the event and invokes the function at least once (`InvocationType: Event`); how often
    /// it tries is the function's own setting.
    fn invoke_later<'i>(
        &'i self,
        function: &'i str,
        event: Vec<u8>,
        deadline: Timestamp,
    ) -> BoxFuture<'i, Result<(), InvokeError>>;
}

/// A function could not be invoked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InvokeError {
    /// There is nobody to sign as.
    #[error("there are no credentials to sign with")]
    Unsigned(#[from] CredentialsError),
    /// The request could not be made.
    #[error("the request to Lambda cannot be made")]
    Unmade(#[source] Box<dyn Error + Send + Sync>),
    /// Lambda cannot be reached, or its answer did not come.
    #[error("{url} does not answer")]
    Unreached {
        /// What was asked.
        url: String,
        /// Why not.
        source: ConnectorError,
    },
    /// Lambda refuses.
    #[error("Lambda answered {status}: {message}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// Its reason.
        message: String,
    },
}

/// A text as part of a URL: everything but letters, digits and a few signs is escaped.
#[must_use]
pub fn encoded(text: &str) -> String {
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
