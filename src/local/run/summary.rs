//! What a run needs, and what it came to.

use crate::local::{
    checkpoint::{CheckpointError, Checkpoints},
    faults::Faults,
    mapping::{Millis, Parameters},
    source::FixtureError,
};
use std::collections::BTreeMap;

/// What a run needs beside its target.
#[derive(Debug)]
pub struct Setting {
    /// The mapping's parameters.
    pub parameters: Parameters,
    /// The function's `Timeout`, in milliseconds.
    pub timeout: Millis,
    /// The function, as on-failure records name it.
    pub function_arn: String,
    /// Where the shards stand, and where to keep it.
    pub checkpoints: Checkpoints,
    /// Whether to begin at the start of the stream all the same.
    pub from_start: bool,
    /// Faults to inject, if any.
    pub faults: Option<Faults>,
}

/// What a run came to.
#[derive(Debug, Default)]
pub struct Summary {
    /// Records that the mapping read.
    pub records: u64,
    /// Those of them that no filter took; none where the mapping has no filters.
    pub filtered: Option<u64>,
    /// Those of them that came before the starting position; none where it is no moment.
    pub passed: Option<u64>,
    /// Calls of the function, duplicates included.
    pub invocations: u64,
    /// Calls that ended without a reply.
    pub failed_invocations: u64,
    /// Failing batches that were halved.
    pub bisects: u64,
    /// Injected faults by kind.
    pub faults: BTreeMap<&'static str, u64>,
    /// How often the mapping discarded records.
    pub discards: u64,
    /// Records that the stream had let expire: neither applied nor set aside.
    pub lost: u64,
    /// The greatest age of a call's last record when the call began, in milliseconds: what AWS
    /// calls the iterator's age. None without calls.
    pub iterator_age_max: Option<Millis>,
    /// The on-failure records, [`LISTED_MAX`](super::LISTED_MAX) at most, as their destination
    /// gets them.
    pub on_failure: Vec<String>,
    /// Errors of the function that were not injected, ten at most, with counts.
    pub errors: BTreeMap<String, u64>,
    /// Milliseconds from time zero to the end.
    pub elapsed: Millis,
    /// Whether those are real; else they are virtual.
    pub is_in_real_time: bool,
}

/// A run cannot go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The backlog cannot be read.
    #[error(transparent)]
    Fixture(#[from] FixtureError),
    /// The mapping's place cannot be kept.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// A failing batch is retried for ever.
    #[error(
        "shard `{shard}` makes no progress: its batch has failed for a week of virtual time or \
         more, \
         and neither MaximumRetryAttempts nor MaximumRecordAgeInSeconds ends it{}",
        error.as_ref().map(|error| format!(" (last error: {error})")).unwrap_or_default()
    )]
    Stuck {
        /// The shard.
        shard: String,
        /// What the function said.
        error: Option<String>,
    },
    /// A live stream cannot be read any more.
    #[error(transparent)]
    Stream(Box<dyn std::error::Error + Send + Sync>),
}
