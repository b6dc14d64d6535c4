//! Who carries out an operation: a deployed function, or one in this process.
//!
//! The answer is the function's own either way ([`operation`](crate::operation)): a deployed one
//! is asked through Lambda's Invoke API, so an operator needs no build of it; with `--state` or
//! `--endpoint-url` the function is the one in this process.

use super::{Complaint, invoke::Deployed};
use crate::{
    batch::Work,
    call::Call,
    clock::{Clock, SystemClock},
    handler::Function,
    operation::{self, Operation},
    outcome::Answer,
    record::Timestamp,
};
use serde::de::DeserializeOwned;
use serde_json::json;

/// How long one operation may take in this process, in milliseconds: Lambda's longest timeout.
const TIMEOUT_MS: i64 = 900_000;

/// Who is asked.
pub(super) enum Asked<W> {
    Deployed(Box<Deployed>),
    Here(Box<Function<W>>),
}

impl<W: Work> Asked<W> {
    /// Has an operation carried out, and reads the answer.
    pub(super) async fn ask<T: DeserializeOwned>(
        &self,
        operation: Operation,
    ) -> Result<T, Complaint> {
        let event = operation::event(operation);
        let answer = match self {
            Self::Deployed(deployed) => deployed.invoke(event).await?,
            Self::Here(function) => {
                let Timestamp(now) = SystemClock.now();
                let request_id = format!("desk-{}-{now}", std::process::id());
                let call = Call::new(request_id, Timestamp(now + TIMEOUT_MS));
                match function.invoke(&event, &call).await? {
                    Answer::Operation(answer) => answer,
                    Answer::Reply(_) => json!({}),
                }
            }
        };
        Ok(serde_json::from_value(answer)?)
    }
}
