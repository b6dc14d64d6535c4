//! Services that answer from a script, for the tests of what is hard to bring about: trimmed
//! shards, stale iterators, throttling, lost answers. Time passes only by waiting.

use super::{Endpoints, Services};
use crate::{clock::Clock, record::Timestamp};
use aws_credential_types::{Credentials, provider::SharedCredentialsProvider};
use aws_smithy_runtime_api::{
    client::{
        http::{
            HttpConnector, HttpConnectorFuture, SharedHttpClient, SharedHttpConnector,
            http_client_fn,
        },
        orchestrator::{HttpRequest, HttpResponse},
        result::ConnectorError,
    },
    http::StatusCode,
};
use aws_smithy_types::body::SdkBody;
use futures_util::future::{BoxFuture, FutureExt as _};
use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

/// When the script begins: 2026-09-17T13:00:00Z.
pub(crate) const START: Timestamp = Timestamp(1_789_650_000_000);
pub(crate) const FOREVER: Timestamp = Timestamp(i64::MAX);

/// What comes back.
#[derive(Debug, Clone)]
pub(crate) enum Answer {
    /// A status and a body.
    Told(u16, String),
    /// Nothing, though the request may have been served.
    Lost,
}

/// A request: where it went, and its body.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) url: String,
    pub(crate) operation: String,
    pub(crate) body: String,
    /// S3's header of the account that a bucket has to belong to.
    pub(crate) expected_bucket_owner: Option<String>,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Script {
    answers: Arc<Mutex<VecDeque<Answer>>>,
    requests: Arc<Mutex<Vec<Request>>>,
    now: Arc<AtomicI64>,
}

impl Script {
    pub(crate) fn new(answers: impl IntoIterator<Item = Answer>) -> Self {
        let script = Self::default();
        script.answers.lock().unwrap().extend(answers);
        script.now.store(START.0, Ordering::Relaxed);
        script
    }

    pub(crate) fn services(&self, url: Option<&str>) -> Services {
        let credentials =
            SharedCredentialsProvider::new(Credentials::new("id", "secret", None, None, "test"));
        let endpoints = Endpoints::new("eu-west-1", &credentials, |_| url.map(str::to_owned));
        Services::new(client_of(self.clone()), endpoints, Arc::new(self.clone()), 1)
    }

    /// The requests made, and whether the script was used up.
    pub(crate) fn requests(&self) -> Vec<Request> {
        assert!(self.answers.lock().unwrap().is_empty(), "answers are left over");
        self.requests.lock().unwrap().clone()
    }
}

impl Clock for Script {
    fn now(&self) -> Timestamp {
        Timestamp(self.now.load(Ordering::Relaxed))
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        let milliseconds = i64::try_from(duration.as_millis()).unwrap();
        self.now.fetch_add(milliseconds, Ordering::Relaxed);
        std::future::ready(()).boxed()
    }

    fn watch(&self, _: Timestamp) -> BoxFuture<'static, ()> {
        std::future::pending().boxed()
    }
}

impl HttpConnector for Script {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let target = request.headers().get("x-amz-target").unwrap_or_default();
        let operation = target.rsplit('.').next().unwrap_or_default().to_owned();
        let body = request.body().bytes().unwrap_or_default();
        let body = String::from_utf8(body.to_vec()).unwrap();
        let url = request.uri().to_owned();
        let owner = request.headers().get("x-amz-expected-bucket-owner");
        let expected_bucket_owner = owner.map(str::to_owned);
        let request = Request { url, operation, body, expected_bucket_owner };
        self.requests.lock().unwrap().push(request);
        let answer = self.answers.lock().unwrap().pop_front().expect("the script has an answer");
        HttpConnectorFuture::ready(match answer {
            Answer::Told(status, body) => {
                let status = StatusCode::try_from(status).unwrap();
                Ok(HttpResponse::new(status, SdkBody::from(body)))
            }
            Answer::Lost => Err(ConnectorError::timeout("the answer was lost".into())),
        })
    }
}

/// The client that sends every request through this connector.
pub(crate) fn client_of(connector: impl HttpConnector + 'static) -> SharedHttpClient {
    let connector = SharedHttpConnector::new(connector);
    http_client_fn(move |_, _| connector.clone())
}

/// An answer of the services that speak JSON.
pub(crate) fn ok(body: &str) -> Answer {
    Answer::Told(200, body.to_owned())
}

/// An error of the services that speak JSON.
pub(crate) fn error(status: u16, code: &str) -> Answer {
    Answer::Told(status, format!(r#"{{"__type":"com.amazonaws#{code}","message":"told"}}"#))
}

pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}
