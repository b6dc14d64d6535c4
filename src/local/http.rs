//! A small HTTP server on the loopback interface, for the programs that the desk starts.
//!
//! The Runtime API and the store are served through it, so that everything about connections
//! is in one file. A request is read whole before it is answered, and a client that hangs up
//! takes its unanswered request with it: a long poll ends with the process that waits in it.
//! What it gives up: streamed bodies, HTTP/2, TLS.

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{
    Request, Response, body::Incoming, header::CONTENT_TYPE, http::HeaderValue,
    server::conn::http1, service::service_fn,
};
use hyper_util::rt::TokioIo;
use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};
use tokio::{
    net::{TcpListener, TcpStream},
    task::{JoinHandle, JoinSet},
};

/// Pause after the system could not take a connection: it is out of files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What a request is answered with.
pub(super) type Answer = Response<Full<Bytes>>;

/// A server on a port of its own. Dropping it closes the port and every connection.
#[derive(Debug)]
pub(super) struct Server {
    address: SocketAddr,
    serving: JoinHandle<()>,
}

impl Server {
    /// Serves what `answer` says, on a free port.
    pub(super) async fn start<A, F>(answer: A) -> io::Result<Self>
    where
        A: Fn(Request<Bytes>) -> F + Clone + Send + 'static,
        F: Future<Output = Answer> + Send + 'static,
    {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        Ok(Self { address, serving: tokio::spawn(serve(listener, answer)) })
    }

    /// Where it listens.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Closes the port and every connection; when it returns they are closed.
    pub(super) async fn stop(mut self) {
        self.serving.abort();
        // That it was cancelled is what was asked for.
        drop((&mut self.serving).await);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// An answer in JSON. A status that is none becomes 500.
pub(super) fn json(status: u16, content_type: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() =
        hyper::StatusCode::from_u16(status).unwrap_or(hyper::StatusCode::INTERNAL_SERVER_ERROR);
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer
}

async fn serve<A, F>(listener: TcpListener, answer: A)
where
    A: Fn(Request<Bytes>) -> F + Clone + Send + 'static,
    F: Future<Output = Answer> + Send + 'static,
{
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(converse(stream, answer.clone()));
                }
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn converse<A, F>(stream: TcpStream, answer: A)
where
    A: Fn(Request<Bytes>) -> F + Clone,
    F: Future<Output = Answer>,
{
    // Without it an answer would wait for the acknowledgement of its own head.
    drop(stream.set_nodelay(true));
    let service = service_fn(move |request: Request<Incoming>| {
        let answer = answer.clone();
        async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await?.to_bytes();
            Ok::<Answer, hyper::Error>(answer(Request::from_parts(head, body)).await)
        }
    });
    // A client that hangs up in the middle is its own affair.
    drop(http1::Builder::new().serve_connection(TokioIo::new(stream), service).await);
}
