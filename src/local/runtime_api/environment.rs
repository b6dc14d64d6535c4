//! An execution environment: one process, and the Runtime API that is its alone.
//!
//! Each has a port of its own, so that it is known who asks without trusting what it says.
//! Dropping an environment kills its process at once.

use super::{
    exchange::{Exchange, Invocation, News},
    process::Process,
    program::Program,
};
use crate::local::{
    http::Server,
    store_server::{DYNAMODB_URL, ServedStore},
    target::FunctionError,
};
use bytes::Bytes;
use std::{io, sync::Arc};
use tokio::sync::mpsc;

/// The header that a call of DynamoDB has, and no request of the Runtime API.
const TARGET: &str = "x-amz-target";

/// A process and its Runtime API.
#[derive(Debug)]
pub(super) struct Environment {
    process: Arc<Process>,
    exchange: Arc<Exchange>,
    news: mpsc::UnboundedReceiver<News>,
    /// Kept for its port.
    _server: Server,
}

/// The environment is of no use any more.
#[derive(Debug)]
pub(super) enum Loss {
    /// The process never was ready.
    NotReady(FunctionError),
    /// The process was ready once, but had not been given the invocation yet.
    BeforeItBegan(FunctionError),
    /// The process was at work.
    AtWork(FunctionError),
}

impl Loss {
    pub(super) fn into_error(self) -> FunctionError {
        match self {
            Self::NotReady(error) | Self::BeforeItBegan(error) | Self::AtWork(error) => error,
        }
    }
}

impl Environment {
    /// Starts the program, with a Runtime API to ask.
    /// A store is served at the same port, so that it is known which invocation asks it.
    pub(super) async fn start(
        program: &Program,
        number: u64,
        store: Option<ServedStore>,
    ) -> io::Result<Self> {
        let has_store = store.is_some();
        let (teller, news) = mpsc::unbounded_channel();
        let exchange = Arc::new(Exchange::new(teller));
        let asked = Arc::clone(&exchange);
        let server = Server::start(move |request| {
            let (exchange, store) = (Arc::clone(&asked), store.clone());
            async move {
                match store.filter(|_| request.headers().contains_key(TARGET)) {
                    Some(store) => store.answer(&request, exchange.turn().as_deref()),
                    None => exchange.answer(&request).await,
                }
            }
        })
        .await?;
        let mut command = program.command(server.address(), number)?;
        if has_store {
            command.env(DYNAMODB_URL, format!("http://{}", server.address()));
        }
        let process = Process::start(&mut command)?;
        Ok(Self { process, exchange, news, _server: server })
    }

    pub(super) fn process(&self) -> &Arc<Process> {
        &self.process
    }

    /// Waits until the process asks for its first invocation.
    pub(super) async fn ready(&mut self) -> Result<(), Loss> {
        while !self.exchange.is_ready() {
            if let News::NotReady(error) = self.hear().await? {
                return Err(Loss::NotReady(error));
            }
        }
        Ok(())
    }

    /// One invocation, to the reply or the error that the function itself gives.
    pub(super) async fn invoke(
        &mut self,
        invocation: Invocation,
    ) -> Result<Result<Bytes, FunctionError>, Loss> {
        self.exchange.offer(invocation);
        loop {
            match self.hear().await? {
                News::Asked => {}
                News::Answered(answer) => return Ok(answer),
                News::NotReady(error) => return Err(Loss::NotReady(error)),
            }
        }
    }

    /// The next thing that the process says, its end included. What it said before it ended
    /// comes first.
    async fn hear(&mut self) -> Result<News, Loss> {
        let end = tokio::select! {
            biased;
            Some(news) = self.news.recv() => return Ok(news),
            end = self.process.ended() => end,
        };
        let lost =
            |when| FunctionError::unhandled(format!("the function's process ended{when}: {end}"));
        Err(if self.exchange.is_at_work() {
            Loss::AtWork(lost(""))
        } else if self.exchange.is_ready() {
            Loss::BeforeItBegan(lost(" between two invocations"))
        } else {
            Loss::NotReady(lost(" before it asked for an invocation"))
        })
    }
}

impl Drop for Environment {
    fn drop(&mut self) {
        self.process.kill();
    }
}
