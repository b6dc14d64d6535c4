//! Opaque tokens: what one call of a service gives out and a later one gets back.
//!
//! They need no memory and outlive the process. A checksum tells a token that was cut short or
//! made up; it is no secret, as nothing on the desk is.

use base64_simd::STANDARD;
use serde::{Serialize, de::DeserializeOwned};
use sha2::{Digest as _, Sha256};

const CHECKSUM_BYTES: usize = 8;

/// A token with this content.
pub(super) fn seal(content: &impl Serialize) -> String {
    // A plain structure of numbers and text has a form in JSON.
    let mut bytes = serde_json::to_vec(content).unwrap_or_default();
    let checksum = Sha256::digest(&bytes);
    bytes.extend_from_slice(&checksum[..CHECKSUM_BYTES]);
    STANDARD.encode_to_string(bytes)
}

/// A token's content; none if it is not one of these.
pub(super) fn open<T: DeserializeOwned>(text: &str) -> Option<T> {
    let bytes = STANDARD.decode_to_vec(text).ok()?;
    let (content, checksum) = bytes.split_at_checked(bytes.len().checked_sub(CHECKSUM_BYTES)?)?;
    if Sha256::digest(content)[..CHECKSUM_BYTES] != *checksum {
        return None;
    }
    serde_json::from_slice(content).ok()
}
