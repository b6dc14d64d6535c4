//! UUIDs that follow from what they name, so that a run can be repeated.

use crate::hex::hex;

/// The UUID of version 8 (made by a rule of one's own), variant of RFC 9562, of a digest.
pub(super) fn uuid(digest: &[u8; 32]) -> String {
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    bytes[6] = (bytes[6] & 0x0f) | 0x80;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    let parts = [&bytes[..4], &bytes[4..6], &bytes[6..8], &bytes[8..10], &bytes[10..]];
    parts.map(hex).join("-")
}
