//! The page of a run that goes on, behind a port of its own.
//!
//! Events come as server-sent events, an answer for what has happened since the last one: a
//! browser asks again by itself, with the number of what it has. What it gives up: a connection
//! that stays open. It serves reading alone, to this machine: nothing can be changed through it,
//! and a page of another origin cannot read it.

use super::Journal;
use crate::local::{
    endpoint::wire::Hosts,
    http::{Answer, Server, json},
    report::ViewRows,
};
use bytes::Bytes;
use hyper::{
    Request,
    header::{CONTENT_SECURITY_POLICY, HeaderName, HeaderValue},
};
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
    asked: watch::Sender<()>,
}

impl Default for Shared {
    fn default() -> Self {
        let journal = Arc::default();
        Self { journal, news: watch::channel(()).0, asked: watch::channel(()).0 }
    }
}

impl Shared {
    /// Writes something down, and tells who waits.
    pub fn write(&self, change: impl FnOnce(&mut Journal)) {
        change(&mut self.journal.lock().unwrap_or_else(PoisonError::into_inner));
        self.news.send_replace(());
    }

    /// Shows the rows of the views; tells who waits only if they are others.
    pub fn show(&self, views: &[ViewRows]) {
        let is_other = {
            let mut journal = self.journal.lock().unwrap_or_else(PoisonError::into_inner);
            journal.rows(views)
        };
        if is_other {
            self.news.send_replace(());
        }
    }

    /// Says when the rows are worth reading.
    #[must_use]
    pub fn demand(&self) -> Demand {
        Demand { news: self.news.subscribe(), asked: self.asked.subscribe() }
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
    news: watch::Receiver<()>,
    asked: watch::Receiver<()>,
}

impl Demand {
    /// Resolves when something has been written down since the last time and somebody has asked.
    pub async fn comes(&mut self) {
        // A sender that is gone resolves at once; then the run is over.
        drop(self.news.changed().await);
        drop(self.asked.changed().await);
    }
}

/// The page behind its port. Dropping it closes the port.
#[derive(Debug)]
pub struct PageServer(Server);

impl PageServer {
    /// Serves the page at a port of this machine, or at a free one if that is taken.
    ///
    /// # Errors
    /// The system gives no port.
    pub async fn start(port: u16, title: &str, shared: Shared) -> io::Result<Self> {
        let title: Arc<str> = title.into();
        let answer = move |request: Request<Bytes>| {
            let (title, shared) = (Arc::clone(&title), shared.clone());
            async move { answer(&request, &title, &shared).await }
        };
        let at = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let server = match Server::start_at(at(port), answer.clone()).await {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                Server::start_at(at(0), answer).await
            }
            started => started,
        };
        server.map(Self)
    }

    /// Where to look.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}/", self.0.address())
    }
}

async fn answer(request: &Request<Bytes>, title: &str, shared: &Shared) -> Answer {
    let text = |name: HeaderName| request.headers().get(name).and_then(|it| it.to_str().ok());
    if !Hosts::Loopback.allow(request) {
        return plain(403, "ask for this page as localhost or 127.0.0.1");
    }
    match (request.method().as_str(), request.uri().path()) {
        ("GET", "/") => {
            shared.asked.send_replace(());
            let mut page = json(200, "text/html; charset=utf-8", shared.read(|it| it.live(title)));
            let policy = HeaderValue::from_static(POLICY);
            page.headers_mut().insert(CONTENT_SECURITY_POLICY, policy);
            page
        }
        ("GET", "/events") => {
            let of_query = request.uri().query().and_then(|query| query.strip_prefix("after="));
            let last = text(HeaderName::from_static("last-event-id")).or(of_query);
            let events = shared.events(last.unwrap_or_default()).await;
            json(200, "text/event-stream", events)
        }
        _ => plain(404, "there is / and /events"),
    }
}

fn plain(status: u16, message: &'static str) -> Answer {
    json(status, "text/plain; charset=utf-8", message)
}
