//! A backfill that continues itself, as it is asked for and as it answers.
//!
//! A link is one asynchronous invocation of the function. It carries the run's id and its own
//! number, works until shortly before its deadline, and invokes the next one.

use super::{Counts, OfTable, Stopped};
use serde::{Deserialize, Serialize};

/// One request of a backfill that continues itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Chain {
    /// Invokes the first link; the run was begun before.
    Start(StartChain),
    /// Invokes the next link if the last one has died, and does nothing otherwise: for a
    /// schedule. A chain that ended, or was never started, stays so.
    Continue(OfTable),
    /// Works, and invokes the next link.
    Link(Link),
}

/// A chain to be started.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StartChain {
    /// A table by its name or ARN.
    pub table: String,
    /// How many links there are at most; [`LINKS_MAX_DEFAULT`] unless said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub links_max: Option<u64>,
}

/// How many links a chain has at most unless told otherwise. With a timeout of a minute they are
/// a week's work, enough for a hundred million items at the default rates. A chain that nobody
/// looks at costs 5 dollars of Lambda by then, at 512 MB and the list price of 2026.
pub const LINKS_MAX_DEFAULT: u64 = 10_000;

/// A link: which run, and which place in its chain.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Link {
    /// A table by its name or ARN.
    pub table: String,
    /// The run, as it was begun.
    pub run: String,
    /// One more than the link before.
    pub number: u64,
}

/// What a request of a chain came to.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Chained {
    /// The number that was taken; none if the request did nothing.
    pub link: Option<u64>,
    /// The number of the link that was invoked; none if none was.
    pub next: Option<u64>,
    /// Why the request did nothing.
    pub refused: Option<Reason>,
    /// Why the work of the link ended.
    pub stopped: Option<Stopped>,
    /// What the link did.
    pub counts: Counts,
    /// Read units that were used.
    pub read_units: f64,
    /// Write units that were used.
    pub write_units: f64,
    /// How the chain stands; none if there is none.
    pub chain: Option<ChainStatus>,
}

/// How a chain stands.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChainStatus {
    /// The number of the link that was begun last.
    pub link: u64,
    /// No link has a greater number.
    pub link_max: u64,
    /// Who took that number: the id of its request, and what tells it from copies.
    pub taken_by: String,
    /// Until when a sign of life is due: the link's deadline, or the beginning of the next one.
    /// In milliseconds since the epoch.
    pub due_ms: i64,
    /// How many links in a row have brought nothing forward.
    pub idle: u32,
    /// How often a link could not do something.
    pub failed: u64,
    /// The same by code, the last reason of each.
    pub failures: Vec<LinkFailure>,
    /// Why there are no more links; none while there are.
    pub ended: Option<Reason>,
}

/// What links could not do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkFailure {
    /// A stable code.
    pub code: String,
    /// The reason, as it was the last time.
    pub reason: String,
    /// How often.
    pub count: u64,
    /// The last link that it happened to.
    pub link: u64,
}

/// Why something is not done, or not any more.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    /// A stable code.
    pub code: String,
    /// What it means, and what helps.
    pub message: String,
}
