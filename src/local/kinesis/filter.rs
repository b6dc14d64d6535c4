//! Which shards `ListShards` lists.

use super::{
    error::{KinesisError, Result},
    request::{ShardFilter, millis},
    rows::{self, Shard, Stream},
};
use serde::{Deserialize, Serialize};

/// Which shards are listed: those for which every given moment is right.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(super) struct Filter {
    /// Made then or before, in milliseconds since the Unix epoch.
    opened_by: Option<i64>,
    /// Not closed then, in milliseconds since the Unix epoch.
    open_at: Option<i64>,
    /// Not closed before, in milliseconds since the Unix epoch.
    open_since: Option<i64>,
    /// Not closed at all.
    is_open: bool,
}

impl Filter {
    /// Whether a shard is listed.
    pub(super) fn takes(self, shard: &Shard) -> bool {
        let closed = shard.closed.unwrap_or(i64::MAX);
        self.opened_by.is_none_or(|at| shard.opened <= at)
            && self.open_at.is_none_or(|at| closed > at)
            && self.open_since.is_none_or(|at| closed >= at)
            && !(self.is_open && shard.closed.is_some())
    }

    /// What AWS's filter means for a stream now; the number of the shard to begin after comes
    /// with it.
    pub(super) fn of(
        filter: &ShardFilter,
        stream: &Stream,
        now: i64,
    ) -> Result<(Self, Option<u32>)> {
        let horizon = stream.horizon(now).max(stream.created);
        let timestamp = || {
            filter.timestamp.map(millis).ok_or_else(|| {
                KinesisError::argument(format!("ShardFilter {} needs a Timestamp", filter.kind))
            })
        };
        let at = |at| Self { opened_by: Some(at), open_at: Some(at), ..Self::default() };
        let since = |at| Self { open_since: Some(at), ..Self::default() };
        Ok(match filter.kind.as_str() {
            "AFTER_SHARD_ID" => {
                let id =
                    filter.shard_id.as_deref().and_then(rows::shard_number).ok_or_else(|| {
                        KinesisError::argument("ShardFilter AFTER_SHARD_ID needs a ShardId")
                    })?;
                (Self::default(), Some(id))
            }
            "AT_TRIM_HORIZON" => (at(horizon), None),
            "FROM_TRIM_HORIZON" => (since(horizon), None),
            "AT_LATEST" => (Self { is_open: true, ..Self::default() }, None),
            "AT_TIMESTAMP" => (at(timestamp()?), None),
            "FROM_TIMESTAMP" => (since(timestamp()?), None),
            kind => {
                return Err(KinesisError::constraint(
                    kind,
                    "shardFilter.type",
                    "satisfy enum value set: [AFTER_SHARD_ID, AT_TRIM_HORIZON, FROM_TRIM_HORIZON, \
                     AT_LATEST, AT_TIMESTAMP, FROM_TIMESTAMP]",
                ));
            }
        })
    }
}
