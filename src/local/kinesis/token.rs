//! Iterators of shards, and tokens of listings.

use super::{
    error::{KinesisError, Result},
    filter::Filter,
};
use crate::local::token::{open, seal};
use serde::{Deserialize, Serialize};

/// How long an iterator or a listing's token is good, in milliseconds; AWS's rule.
const GOOD_MS: i64 = 300_000;

/// Where a reader stands in a shard.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Place {
    /// The shard's row; no other shard, of whatever stream, ever has it again.
    pub(super) shard: i64,
    /// The count of the next record.
    pub(super) next: i64,
    /// When it was given out, in milliseconds since the Unix epoch.
    pub(super) issued: i64,
}

/// Where a listing of shards goes on.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Listing {
    pub(super) stream: i64,
    pub(super) after: i64,
    pub(super) filter: Filter,
    pub(super) issued: i64,
}

impl Place {
    pub(super) fn to_text(self) -> String {
        seal(&self)
    }

    /// Reads an iterator that is still good.
    pub(super) fn read(text: &str, now: i64) -> Result<Self> {
        let iterator: Self =
            open(text).ok_or_else(|| KinesisError::argument("Invalid ShardIterator."))?;
        let age = now.saturating_sub(iterator.issued);
        if age > GOOD_MS {
            return Err(KinesisError::expired_iterator(age, GOOD_MS));
        }
        Ok(iterator)
    }
}

impl Listing {
    pub(super) fn to_text(&self) -> String {
        seal(self)
    }

    /// Reads a token that is still good.
    pub(super) fn read(text: &str, now: i64) -> Result<Self> {
        let listing: Self =
            open(text).ok_or_else(|| KinesisError::argument("Invalid NextToken."))?;
        if now.saturating_sub(listing.issued) > GOOD_MS {
            return Err(KinesisError::expired_token());
        }
        Ok(listing)
    }
}
