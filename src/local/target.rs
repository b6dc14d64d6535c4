//! What the mapping invokes.

use crate::{batch::Work, call::Call, handler::Function};
use bytes::Bytes;
use futures_util::future::{FutureExt, LocalBoxFuture};

/// A function that can be invoked with an event.
///
/// Futures stay on their thread: the run loop polls all of them on one, so that a seed decides
/// every interleaving.
pub trait Target {
    /// One invocation: the event's bytes in, the reply's bytes out.
    ///
    /// The future may be dropped before it ends; that is how a crash looks from outside.
    fn invoke(
        &self,
        payload: Bytes,
        call: Call,
    ) -> LocalBoxFuture<'_, Result<Bytes, FunctionError>>;
}

/// There is no reply.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct FunctionError {
    /// What went wrong, for the person at the desk.
    pub message: String,
    /// Whether the call reached the function, which failed as a whole: Lambda's `Unhandled`.
    /// A call that did not is made again, and counts as no attempt.
    pub was_invoked: bool,
}

impl FunctionError {
    /// The function failed.
    pub fn unhandled(message: impl Into<String>) -> Self {
        Self { message: message.into(), was_invoked: true }
    }

    /// The function was throttled, or could not be reached.
    pub fn not_invoked(message: impl Into<String>) -> Self {
        Self { message: message.into(), was_invoked: false }
    }
}

impl<W: Work> Target for Function<W> {
    fn invoke(
        &self,
        payload: Bytes,
        call: Call,
    ) -> LocalBoxFuture<'_, Result<Bytes, FunctionError>> {
        async move {
            let reply = Function::invoke(self, &payload, &call)
                .await
                .map_err(|halt| FunctionError::unhandled(with_sources(&halt)))?;
            let reply = serde_json::to_vec(&reply).expect("a list of texts is always JSON");
            Ok(Bytes::from(reply))
        }
        .boxed_local()
    }
}

/// An error and what it came from, in one line.
pub(super) fn with_sources(error: &dyn std::error::Error) -> String {
    let mut message = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        message.push_str(": ");
        message.push_str(&error.to_string());
        source = error.source();
    }
    message
}
