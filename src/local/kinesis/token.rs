//! Opaque tokens: what one call gives out and a later one gets back.
//!
//! They need no memory and outlive the process. A checksum tells a token that was cut short or
//! made up; it is no secret, as nothing on the desk is.

use super::error::{KinesisError, Result};
use base64_simd::STANDARD;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sha2::{Digest as _, Sha256};

/// How long an iterator or a listing's token is good, in milliseconds; AWS's rule.
const GOOD_MS: i64 = 300_000;
const CHECKSUM_BYTES: usize = 8;

/// Where a reader stands in a shard.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Iterator {
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
    pub(super) filter: super::shards::Filter,
    pub(super) issued: i64,
}

impl Iterator {
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

fn seal(content: &impl Serialize) -> String {
    // A plain structure of numbers and text has a form in JSON.
    let mut bytes = serde_json::to_vec(content).unwrap_or_default();
    let checksum = Sha256::digest(&bytes);
    bytes.extend_from_slice(&checksum[..CHECKSUM_BYTES]);
    STANDARD.encode_to_string(bytes)
}

fn open<T: DeserializeOwned>(text: &str) -> Option<T> {
    let bytes = STANDARD.decode_to_vec(text).ok()?;
    let (content, checksum) = bytes.split_at_checked(bytes.len().checked_sub(CHECKSUM_BYTES)?)?;
    if Sha256::digest(content)[..CHECKSUM_BYTES] != *checksum {
        return None;
    }
    serde_json::from_slice(content).ok()
}
