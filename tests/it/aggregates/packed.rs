//! The Kinesis Producer Library's format, written: as AWS's aggregator for Python writes it.
//!
//! Separate because it is held against what that aggregator wrote (`fixtures/`), so that more
//! can be made of the same format than a fixture holds.

use md5::{Digest as _, Md5};

const MAGIC: [u8; 4] = [0xf3, 0x89, 0x9a, 0xc2];

/// A user record: partition key, explicit hash key, data.
pub(crate) type UserRecord = (String, Option<String>, Vec<u8>);

/// An aggregate of these.
pub(crate) fn aggregate(records: &[UserRecord]) -> Vec<u8> {
    sealed(&message(records))
}

/// The message between its magic and its checksum.
pub(super) fn sealed(message: &[u8]) -> Vec<u8> {
    [&MAGIC, message, &Md5::digest(message)[..]].concat()
}

/// The protobuf message: tables first, then the records.
pub(super) fn message(records: &[UserRecord]) -> Vec<u8> {
    let (mut partition_keys, mut hash_keys) = (Vec::new(), Vec::new());
    let mut entries = Vec::new();
    for (partition_key, hash_key, data) in records {
        let mut entry = field(1, place(&mut partition_keys, partition_key));
        if let Some(hash_key) = hash_key {
            entry.extend(field(2, place(&mut hash_keys, hash_key)));
        }
        entry.extend(bytes(3, data));
        entries.extend(bytes(3, &entry));
    }
    let tables = [(1, partition_keys), (2, hash_keys)];
    let tables = tables.iter().flat_map(|(number, table)| {
        table.iter().flat_map(move |key: &&str| bytes(*number, key.as_bytes()))
    });
    tables.chain(entries).collect()
}

fn place<'k>(table: &mut Vec<&'k str>, key: &'k str) -> u64 {
    let known = table.iter().position(|it| *it == key);
    known.unwrap_or_else(|| {
        table.push(key);
        table.len() - 1
    }) as u64
}

fn field(number: u64, value: u64) -> Vec<u8> {
    [varint(number << 3), varint(value)].concat()
}

fn bytes(number: u64, value: &[u8]) -> Vec<u8> {
    [varint(number << 3 | 2), varint(value.len() as u64), value.to_vec()].concat()
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(low(value) | 0x80);
        value >>= 7;
    }
    bytes.push(low(value));
    bytes
}

/// The lowest seven bits.
fn low(value: u64) -> u8 {
    u8::try_from(value & 0x7f).unwrap()
}
