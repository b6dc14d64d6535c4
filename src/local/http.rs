//! A small HTTP server, for the programs that the desk starts and those that write to it.
//!
//! The Runtime API and the desk's services are served through it, so that everything about
//! connections is in one file. It speaks HTTP/1.1 and, without TLS, HTTP/2: the Kinesis client
//! of JavaScript speaks nothing else. A request is read whole before it is answered, up to a
//! size, so a slow client keeps nobody but itself waiting. A client that hangs up takes its
//! unanswered request with it: a long poll ends with the process that waits in it. What it
//! gives up: streamed bodies, TLS.

use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::{
    Request, Response,
    body::{Body as _, Incoming},
    header::CONTENT_TYPE,
    http::HeaderValue,
    service::service_fn,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
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

/// The most bytes of a request's body; DynamoDB's limit, and above Lambda's and Kinesis'.
pub(super) const BODY_MAX: usize = 16 << 20;

/// What a request is answered with.
pub(super) type Answer = Response<Full<Bytes>>;

/// Marks an answer that is not sent: the connection ends instead, of HTTP/2 the stream.
#[derive(Debug, Clone, Copy)]
struct HungUp;

/// The answer of who hangs up without one.
pub(super) fn hang_up() -> Answer {
    let mut answer = Response::new(Full::default());
    answer.extensions_mut().insert(HungUp);
    answer
}

/// A server on a port of its own. Dropping it closes the port and every connection.
#[derive(Debug)]
pub(super) struct Server {
    address: SocketAddr,
    serving: JoinHandle<()>,
}

impl Server {
    /// Serves what `answer` says, on a free port of the loopback interface.
    pub(super) async fn start<A, F>(answer: A) -> io::Result<Self>
    where
        A: Fn(Request<Bytes>) -> F + Clone + Send + 'static,
        F: Future<Output = Answer> + Send + 'static,
    {
        Self::start_at((Ipv4Addr::LOCALHOST, 0).into(), answer).await
    }

    /// Serves what `answer` says at an address; port 0 is a free one.
    pub(super) async fn start_at<A, F>(address: SocketAddr, answer: A) -> io::Result<Self>
    where
        A: Fn(Request<Bytes>) -> F + Clone + Send + 'static,
        F: Future<Output = Answer> + Send + 'static,
    {
        let listener = TcpListener::bind(address).await?;
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
    A: Fn(Request<Bytes>) -> F + Clone + Send + 'static,
    F: Future<Output = Answer> + Send + 'static,
{
    // Without it an answer would wait for the acknowledgement of its own head.
    drop(stream.set_nodelay(true));
    let service = service_fn(move |request: Request<Incoming>| {
        let answer = answer.clone();
        async move {
            let (head, body) = request.into_parts();
            let answer = match read(body).await? {
                Some(body) => answer(Request::from_parts(head, body)).await,
                None => too_large(),
            };
            if answer.extensions().get::<HungUp>().is_some() { Err(BrokenOff) } else { Ok(answer) }
        }
    });
    let server = auto::Builder::new(TokioExecutor::new());
    // A client that hangs up in the middle is its own affair.
    drop(server.serve_connection(TokioIo::new(stream), service).await);
}

/// The client hung up before its request was whole, or is hung up on.
#[derive(Debug, thiserror::Error)]
#[error("the connection broke off")]
struct BrokenOff;

/// Reads a body whole. One that is too large is read no further than it may be.
async fn read(body: Incoming) -> Result<Option<Bytes>, BrokenOff> {
    if body.size_hint().lower() > BODY_MAX as u64 {
        return Ok(None);
    }
    match Limited::new(body, BODY_MAX).collect().await {
        Ok(body) => Ok(Some(body.to_bytes())),
        Err(error) if error.is::<LengthLimitError>() => Ok(None),
        Err(_) => Err(BrokenOff),
    }
}

fn too_large() -> Answer {
    let body = format!(
        r#"{{"__type":"RequestEntityTooLargeException","message":"a request of more than {BODY_MAX} bytes; send it in several"}}"#
    );
    json(413, "application/x-amz-json-1.1", body)
}
