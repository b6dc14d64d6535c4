//! What passes between the desk and one process: the Runtime API itself.
//!
//! The states are those of Lambda: a process gets ready, asks for an invocation, and answers
//! it before it asks again; what comes out of turn is refused as Lambda refuses it. Requests
//! and answers are those of the Lambda developer guide, "Using the Lambda runtime API".

use super::lock;
use crate::{
    call::Call,
    local::{
        clock::Turn,
        http::{Answer, json},
        target::FunctionError,
    },
};
use bytes::Bytes;
use hyper::{Method, Request, http::HeaderValue};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use tokio::sync::{Notify, mpsc};

const BASE: &str = "/2018-06-01/runtime/";
const CONTENT_TYPE: &str = "application/json";

/// An invocation as a process is given it.
#[derive(Debug, Clone)]
pub(super) struct Invocation {
    pub(super) call: Call,
    pub(super) payload: Bytes,
    pub(super) function_arn: String,
    pub(super) trace_id: String,
    /// What the desk keeps of it, whose faults its store calls meet.
    pub(super) turn: Option<Arc<Turn>>,
}

/// What a process has said.
#[derive(Debug)]
pub(super) enum News {
    /// It asks for an invocation.
    Asked,
    /// The reply, or the error, to the invocation it was given.
    Answered(Result<Bytes, FunctionError>),
    /// It cannot serve.
    NotReady(FunctionError),
}

/// The two ends of an environment.
#[derive(Debug)]
pub(super) struct Exchange {
    state: Mutex<State>,
    offered: Notify,
    teller: mpsc::UnboundedSender<News>,
}

#[derive(Debug, Default)]
struct State {
    /// It has asked for an invocation at least once.
    is_ready: bool,
    /// To be given when it asks.
    offered: Option<Invocation>,
    /// The id of the invocation it was given and has not answered.
    current: Option<String>,
    /// The one it was given last.
    turn: Option<Arc<Turn>>,
}

impl Exchange {
    pub(super) fn new(teller: mpsc::UnboundedSender<News>) -> Self {
        Self { state: Mutex::default(), offered: Notify::new(), teller }
    }

    /// Lays an invocation out for the process to take.
    pub(super) fn offer(&self, invocation: Invocation) {
        lock(&self.state).offered = Some(invocation);
        self.offered.notify_one();
    }

    /// Whether the process has asked for an invocation at least once.
    pub(super) fn is_ready(&self) -> bool {
        lock(&self.state).is_ready
    }

    /// Whether the process was given an invocation that it has not answered.
    pub(super) fn is_at_work(&self) -> bool {
        lock(&self.state).current.is_some()
    }

    /// The invocation that the process was given last, as the desk knows it.
    pub(super) fn turn(&self) -> Option<Arc<Turn>> {
        lock(&self.state).turn.clone()
    }

    /// Answers one request of the process.
    pub(super) async fn answer(&self, request: &Request<Bytes>) -> Answer {
        let path = request.uri().path().strip_prefix(BASE).unwrap_or_default();
        let parts: Vec<&str> = path.split('/').collect();
        match (request.method(), parts.as_slice()) {
            (&Method::GET, ["invocation", "next"]) => self.next().await,
            (&Method::POST, ["invocation", id, "response"]) => {
                self.end(id, Ok(request.body().clone()))
            }
            (&Method::POST, ["invocation", id, "error"]) => {
                self.end(id, Err(FunctionError::unhandled(told(request))))
            }
            (&Method::POST, ["init", "error"]) => self.not_ready(request),
            _ => refusal(404, "NotFound", "the Runtime API has no such request"),
        }
    }

    /// The long poll. Dropped with its connection, it leaves the invocation to the next one.
    async fn next(&self) -> Answer {
        if self.is_at_work() {
            let message = "the invocation before has not been answered";
            return refusal(403, "InvalidStateTransition", message);
        }
        lock(&self.state).is_ready = true;
        self.tell(News::Asked);
        loop {
            if let Some(answer) = self.take() {
                return answer;
            }
            self.offered.notified().await;
        }
    }

    fn take(&self) -> Option<Answer> {
        let mut state = lock(&self.state);
        let Invocation { call, payload, function_arn, trace_id, turn } = state.offered.take()?;
        state.turn = turn;
        let mut answer = json(200, CONTENT_TYPE, payload);
        for (name, value) in [
            ("lambda-runtime-aws-request-id", call.request_id.as_str()),
            ("lambda-runtime-deadline-ms", &call.deadline.0.to_string()),
            ("lambda-runtime-invoked-function-arn", &function_arn),
            ("lambda-runtime-trace-id", &trace_id),
        ] {
            if let Ok(value) = HeaderValue::from_str(value) {
                answer.headers_mut().insert(name, value);
            }
        }
        state.current = Some(call.request_id);
        Some(answer)
    }

    fn end(&self, id: &str, answer: Result<Bytes, FunctionError>) -> Answer {
        if lock(&self.state).current.take_if(|current| current == id).is_none() {
            return refusal(400, "InvalidRequestID", "no invocation of this id is under way");
        }
        self.tell(News::Answered(answer));
        accepted()
    }

    fn not_ready(&self, request: &Request<Bytes>) -> Answer {
        if self.is_ready() {
            let message = "the function has asked for an invocation before: it is ready";
            return refusal(403, "InvalidStateTransition", message);
        }
        let message = format!("the function did not start: {}", told(request));
        self.tell(News::NotReady(FunctionError::unhandled(message)));
        accepted()
    }

    /// Nobody listens to an environment that is being dropped.
    fn tell(&self, news: News) {
        drop(self.teller.send(news));
    }
}

/// An error as a runtime tells it, in one line: `TYPE: MESSAGE`.
fn told(request: &Request<Bytes>) -> String {
    let body: Value = serde_json::from_slice(request.body()).unwrap_or_default();
    let header = request.headers().get("lambda-runtime-function-error-type");
    let kind = body["errorType"].as_str().or(header.and_then(|header| header.to_str().ok()));
    match (kind, body["errorMessage"].as_str()) {
        (Some(kind), Some(message)) => format!("{kind}: {message}"),
        (Some(said), None) | (None, Some(said)) => said.to_owned(),
        (None, None) => String::from_utf8_lossy(request.body()).into_owned(),
    }
}

fn accepted() -> Answer {
    json(202, CONTENT_TYPE, r#"{"status":"OK"}"#)
}

fn refusal(status: u16, kind: &str, message: &str) -> Answer {
    let body = json!({ "errorType": kind, "errorMessage": message });
    json(status, CONTENT_TYPE, body.to_string())
}
