//! The page of a run that goes on, behind a port of its own.
//!
//! Events come as server-sent events, an answer for what has happened since the last one: a
//! browser asks again by itself, with the number of what it has. What it gives up: a connection
//! that stays open. It serves this machine alone, and a page of another origin cannot read it.
//! Whoever may look may not act: actions need a token ([`Actions`]).

use super::{Actions, Journal};
use crate::local::{
    endpoint::wire::Hosts,
    http::{Answer, Server, json},
    report::Results,
};
use bytes::Bytes;
use hyper::{
    Request,
    header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, HeaderName, HeaderValue, ORIGIN},
};
use serde_json::Value;
use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::sync::watch;

/// So long a browser waits for news before it is told that there are none.
const PATIENCE: Duration = Duration::from_secs(15);

/// What the page may do: run its own script, and ask this server.
const POLICY: &str = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; \
                      img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'none'";

/// What the run and the server share.
#[derive(Debug, Clone)]
pub struct Shared {
    journal: Arc<Mutex<Journal>>,
    news: watch::Sender<()>,
    /// The function has worked, so that its rows may be others.
    worked: watch::Sender<()>,
    asked: watch::Sender<()>,
}

impl Default for Shared {
    fn default() -> Self {
        Self::new(Journal::default())
    }
}

impl Shared {
    /// What is shared of a journal.
    #[must_use]
    pub fn new(journal: Journal) -> Self {
        let [news, worked, asked] = std::array::from_fn(|_| watch::channel(()).0);
        Self { journal: Arc::new(Mutex::new(journal)), news, worked, asked }
    }

    /// Says that the rows of the views, or what is parked, may be others now.
    pub fn has_worked(&self) {
        self.worked.send_replace(());
    }

    /// Writes something down, and tells who waits.
    pub fn write(&self, change: impl FnOnce(&mut Journal)) {
        change(&mut self.journal.lock().unwrap_or_else(PoisonError::into_inner));
        self.news.send_replace(());
    }

    /// Says what is run from now on, and which tables and streams can be written to. A page that
    /// somebody looks at is drawn anew if that is something else.
    pub fn entitle(&self, title: &str, sources: Value) {
        self.write(|journal| journal.entitle(title, sources));
    }

    /// Shows the rows of the views and what is parked; tells who waits only if they are others.
    pub fn show(&self, results: &Results) {
        let is_other = {
            let mut journal = self.journal.lock().unwrap_or_else(PoisonError::into_inner);
            journal.rows(&results.views, results.parked.as_deref())
        };
        if is_other {
            self.news.send_replace(());
        }
    }

    /// Says when the rows are worth reading.
    #[must_use]
    pub fn demand(&self) -> Demand {
        let mut worked = self.worked.subscribe();
        // What an earlier run has left is worth a look.
        worked.mark_changed();
        Demand { worked, asked: self.asked.subscribe() }
    }

    fn read<T>(&self, read: impl FnOnce(&Journal) -> T) -> T {
        read(&self.journal.lock().unwrap_or_else(PoisonError::into_inner))
    }

    async fn events(&self, after: &str) -> String {
        self.asked.send_replace(());
        let mut news = self.news.subscribe();
        loop {
            if let Some(events) = self.read(|journal| journal.events(after)) {
                return events;
            }
            if tokio::time::timeout(PATIENCE, news.changed()).await.is_err() {
                // A comment: the browser asks again with the number that it has.
                return "retry: 250\n: nothing\n\n".to_owned();
            }
        }
    }
}

/// Whether what takes time to read is worth reading.
#[derive(Debug)]
pub struct Demand {
    worked: watch::Receiver<()>,
    asked: watch::Receiver<()>,
}

impl Demand {
    /// Resolves when the function has worked since the last time and somebody has asked.
    pub async fn comes(&mut self) {
        // A sender that is gone resolves at once; then the run is over.
        drop(self.worked.changed().await);
        drop(self.asked.changed().await);
    }
}

/// The page behind its port. Dropping it closes the port.
#[derive(Debug)]
pub struct PageServer {
    server: Server,
    token: String,
}

/// What a page is served of.
#[derive(Debug)]
struct Served {
    shared: Shared,
    actions: Actions,
}

impl PageServer {
    /// Serves the page at a port of this machine, or at a free one if that is taken.
    ///
    /// # Errors
    /// The system gives no port.
    pub async fn start(port: u16, shared: Shared, actions: Actions) -> io::Result<Self> {
        let token = actions.token.clone();
        let page = Arc::new(Served { shared, actions });
        let answer = move |request: Request<Bytes>| {
            let page = Arc::clone(&page);
            async move { page.answer(&request).await }
        };
        let at = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let server = match Server::start_at(at(port), answer.clone()).await {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                Server::start_at(at(0), answer).await
            }
            started => started,
        };
        server.map(|server| Self { server, token })
    }

    /// Where to look, with what actions need. That is behind a `#`, so no request and no log of
    /// one has it.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}/#{}", self.server.address(), self.token)
    }
}

impl Served {
    async fn answer(&self, request: &Request<Bytes>) -> Answer {
        if !Hosts::Loopback.allow(request) {
            return plain(403, "ask for this page as localhost or 127.0.0.1");
        }
        let Self { shared, actions } = self;
        match (request.method().as_str(), request.uri().path()) {
            ("GET", "/") => {
                shared.asked.send_replace(());
                let page = shared.read(Journal::live);
                let mut page = json(200, "text/html; charset=utf-8", page);
                let policy = HeaderValue::from_static(POLICY);
                page.headers_mut().insert(CONTENT_SECURITY_POLICY, policy);
                page
            }
            ("GET", "/events") => {
                let query = request.uri().query();
                let of_query = query.and_then(|query| query.strip_prefix("after="));
                let last = text(request, &LAST_EVENT_ID).or(of_query);
                let events = shared.events(last.unwrap_or_default()).await;
                json(200, "text/event-stream", events)
            }
            ("POST", "/actions") => {
                if let Some(refused) = self.refusal(request) {
                    return refused;
                }
                let (status, answer) = actions.ask(request.body()).await;
                json(status, "application/json", answer.to_string())
            }
            _ => plain(404, "there is / and /events, and /actions for the page"),
        }
    }

    /// Why a request may not act.
    fn refusal(&self, request: &Request<Bytes>) -> Option<Answer> {
        if text(request, &TOKEN) != Some(self.actions.token.as_str()) {
            return Some(plain(403, "open the page at the address that `dev` printed"));
        }
        let host = text(request, &HOST).unwrap_or_default();
        let is_own = |origin: &str| origin.strip_prefix("http://") == Some(host);
        if !text(request, &ORIGIN).is_none_or(is_own) {
            return Some(plain(403, "a page of another origin may not act"));
        }
        let is_json = text(request, &CONTENT_TYPE).is_some_and(|it| it == "application/json");
        (!is_json).then(|| plain(415, "an action is application/json"))
    }
}

const TOKEN: HeaderName = HeaderName::from_static("x-changefold-token");
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

fn text<'r>(request: &'r Request<Bytes>, name: &HeaderName) -> Option<&'r str> {
    request.headers().get(name).and_then(|value| value.to_str().ok())
}

fn plain(status: u16, message: &'static str) -> Answer {
    json(status, "text/plain; charset=utf-8", message)
}
