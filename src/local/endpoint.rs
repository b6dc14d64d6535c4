//! The desk's DynamoDB, DynamoDB Streams and Kinesis behind one port.
//!
//! Producers write to it with any SDK of AWS or its command line, told by `AWS_ENDPOINT_URL`;
//! the live sources read from it as they read from AWS. A request says in `X-Amz-Target` whose
//! it is. DynamoDB is the embedded store, Kinesis is the desk's own.
//!
//! With a state directory everything is on disk: what was acknowledged is there after the
//! process is killed. After a loss of power the last writes may be gone, as nothing waits for
//! the disk itself. Without a directory everything is in memory, and ends with the process.
//!
//! What it gives up: signatures are not checked, so it listens on loopback unless told
//! otherwise, and there refuses names that are not this machine's (`endpoint/wire.rs`); a request
//! is answered on the thread that serves, one at a time.

mod dynamodb;
mod state;
pub(super) mod wire;

pub(super) use state::{State, TABLES_FILE};

use super::{
    http::Server,
    kinesis::{Kinesis, KinesisOpenError},
};
use crate::{clock::Clock, record::Timestamp, store::embedded::EmbeddedError};
use dynamodb::Tables;
use state::{STREAMS_FILE, StateError};
use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::Arc,
};
use tokio::{sync::watch, task::JoinSet};
use wire::{Call, Hosts, Reply, Service};

/// Pause between two looks for items whose time to live is over, in milliseconds. AWS says
/// "within a few days"; who tries it on the desk does not wait so long.
const SWEEP_PAUSE_MS: i64 = 2_000;
/// A pause is at least so many times as long as the look before it.
const SWEEP_SHARE: i64 = 50;

/// Where and with what the services are served.
#[derive(Debug, Clone)]
pub struct Serving {
    /// Where to listen. Port 0 is a free one. An address that is not loopback lets other
    /// machines, and web pages, write to the desk.
    pub address: SocketAddr,
    /// The directory that keeps tables and streams; it is made if it is not there. Without,
    /// they are in memory.
    pub state: Option<PathBuf>,
    /// Tells when records arrive and expire.
    pub clock: Arc<dyn Clock>,
}

impl Serving {
    /// A free port of the loopback interface, and nothing kept.
    #[must_use]
    pub fn in_memory(clock: Arc<dyn Clock>) -> Self {
        Self { address: (Ipv4Addr::LOCALHOST, 0).into(), state: None, clock }
    }
}

/// Why the services cannot be served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EndpointError {
    /// Another program listens there.
    #[error("{0} is taken by another program; name another port, or 0 for a free one")]
    PortTaken(SocketAddr),
    /// The system gives no such address.
    #[error("cannot listen on {address}")]
    Address {
        /// The address that was asked for.
        address: SocketAddr,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// The directory cannot be made or locked.
    #[error("state directory {}", .directory.display())]
    Directory {
        /// The directory that was asked for.
        directory: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// Another process keeps its state there.
    #[error(
        "state directory {} is in use by {holder}; end that process or name another directory",
        .directory.display()
    )]
    InUse {
        /// The directory that was asked for.
        directory: PathBuf,
        /// Which process, if it said so.
        holder: String,
    },
    /// A file of the directory is not what the desk keeps there.
    #[error("the desk's tables")]
    Tables(#[from] EmbeddedError),
    /// A file of the directory is not what the desk keeps there.
    #[error("the desk's streams")]
    Streams(#[from] KinesisOpenError),
}

/// The services behind their port. Dropping it closes the port.
#[derive(Debug)]
pub struct Endpoint {
    server: Server,
    written: watch::Sender<()>,
    sweeping: JoinSet<()>,
    /// Held as long as anything may be written.
    _state: Option<State>,
}

/// What answers requests.
#[derive(Debug)]
struct Services {
    tables: Tables,
    kinesis: Kinesis,
    clock: Arc<dyn Clock>,
    written: watch::Sender<()>,
}

impl Endpoint {
    /// Opens what is kept, and serves it.
    ///
    /// # Errors
    /// The port is taken, the directory is another process's or holds something else, or the
    /// system refuses.
    pub async fn start(serving: Serving) -> Result<Self, EndpointError> {
        let state = serving.state.map(take).transpose()?;
        let file = state.as_ref().map(|state| state.file(TABLES_FILE));
        let tables = Tables::open(file.as_deref(), serving.clock.now())?;
        let (written, _) = watch::channel(());
        let file = state.as_ref().map(|state| state.file(STREAMS_FILE));
        let kinesis = Kinesis::open(file.as_deref())?;
        let (clock, news) = (serving.clock, written.clone());
        let services = Services { tables, kinesis, clock, written: news };
        let services = Arc::new(services);
        let sweeping = Arc::clone(&services);
        let hosts = Hosts::at(serving.address.ip());
        let server = Server::start_at(serving.address, move |request| {
            let answer = wire::answer(&request, hosts, |call| services.answer(&call));
            async { answer }
        });
        let server = server.await.map_err(|source| match source.kind() {
            io::ErrorKind::AddrInUse => EndpointError::PortTaken(serving.address),
            _ => EndpointError::Address { address: serving.address, source },
        })?;
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { sweeping.sweep().await });
        Ok(Self { server, written, sweeping: tasks, _state: state })
    }

    /// What to reach it by: the value of `AWS_ENDPOINT_URL`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.server.address())
    }

    /// Resolves after the next accepted write of any service. It counts from this call, not
    /// from when it is first polled: who calls it, reads, and then waits misses no write.
    pub fn written(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut news = self.written.subscribe();
        async move {
            if news.changed().await.is_err() {
                // The endpoint has ended, and nothing will be written.
                std::future::pending::<()>().await;
            }
        }
    }

    /// Closes the port and every connection; when it returns they are closed.
    pub async fn stop(mut self) {
        self.sweeping.shutdown().await;
        self.server.stop().await;
    }
}

/// Takes a state directory for this process alone, and makes it if it is not there.
pub(super) fn take(directory: PathBuf) -> Result<State, EndpointError> {
    State::take(&directory).map_err(|error| match error {
        StateError::Io(source) => EndpointError::Directory { directory, source },
        StateError::InUse(holder) => {
            let holder = holder.unwrap_or_else(|| "another process".to_owned());
            EndpointError::InUse { directory, holder }
        }
    })
}

impl Services {
    fn answer(&self, call: &Call<'_>) -> Reply {
        let now = self.clock.now();
        let reply = match call.service {
            Service::Kinesis => {
                let Call { region, operation, body, .. } = *call;
                self.kinesis.answer(now, region, operation, body)
            }
            Service::DynamoDb | Service::DynamoDbStreams => self.tables.answer(now, call),
        };
        if reply.0 == 200 && writes(call.operation) {
            self.written.send_replace(());
        }
        reply
    }
}

impl Services {
    /// Deletes items whose time to live is over, for ever. Each time reads the tables that have
    /// one, so the more they hold, the longer the pause.
    async fn sweep(&self) {
        let mut pause = SWEEP_PAUSE_MS;
        loop {
            let Timestamp(now) = self.clock.now();
            self.clock.watch(Timestamp(now.saturating_add(pause))).await;
            let Timestamp(begun) = self.clock.now();
            // What fails now is tried again, and the next write says so itself.
            if self.tables.delete_expired().is_ok_and(|deleted| deleted > 0) {
                self.written.send_replace(());
            }
            let Timestamp(done) = self.clock.now();
            let took = done.saturating_sub(begun).max(0);
            pause = SWEEP_PAUSE_MS.max(took.saturating_mul(SWEEP_SHARE));
        }
    }
}

/// Whether an operation may change something. Reads are told by their names.
fn writes(operation: &str) -> bool {
    let reads = ["BatchGet", "Describe", "Get", "List", "Query", "Scan", "TransactGet"];
    !reads.iter().any(|read| operation.starts_with(read))
}
