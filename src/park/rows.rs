//! A parked record as rows: the payload compressed, split if need be, and proved on reading.
//!
//! A record is up to 10 MiB, an item at most 400 KB, so what does not fit stands in parts of
//! its own, written before the row that makes the park count. That row has the length and the
//! hash of the whole, so that a missing or foreign part is noticed when it is read.

use super::{Key, envelope::Envelope};
use crate::{
    record::Timestamp,
    store::{
        Item, Store, StoreError,
        rows::{Change, RowKey, number, number_of, text, text_of},
    },
};
use aws_sdk_dynamodb::{primitives::Blob, types::AttributeValue};
use flate2::{Compression, read::GzDecoder, write::GzEncoder};
use sha2::{Digest, Sha256};
use std::{
    fmt::Write as _,
    io::{Read as _, Write as _},
};

/// Bytes of payload that one row takes: an item may have 400 KB, names and the rest included.
const PAYLOAD_MAX: usize = 300_000;

/// What the sort keys of parked records begin with.
pub(crate) const RECORD: &str = "R#";

/// What became of a parked record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It waits.
    Parked,
    /// It was redriven.
    Done,
    /// An operator gave it up.
    Dropped,
}

impl Fate {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Parked => "parked",
            Self::Done => "done",
            Self::Dropped => "dropped",
        }
    }

    fn of(text: &str) -> Option<Self> {
        [Self::Parked, Self::Done, Self::Dropped].into_iter().find(|fate| fate.as_str() == text)
    }
}

/// A parked record as its row tells it; the payload is read on its own.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) sort: String,
    pub(crate) fate: Fate,
    /// Everything but the record.
    pub(crate) envelope: Envelope,
    item: Item,
}

/// A parked record cannot be read back.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PayloadError {
    /// The store does not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It is not what was written.
    #[error("the parked record {place} is damaged: {fault}")]
    Damaged {
        /// Its key and position.
        place: String,
        /// What is wrong with it.
        fault: &'static str,
    },
}

/// The row's key.
pub(crate) fn key(hash: &str, sort: &str) -> Item {
    Item::from([
        ("pk".to_owned(), text(format!("K#{hash}"))),
        ("sk".to_owned(), text(sort.to_owned())),
    ])
}

/// What is to be written for one record: the parts first, then the row.
pub(crate) fn changes(
    table: &str,
    key: &Key,
    sort: &str,
    envelope: &Envelope,
    Timestamp(now): Timestamp,
) -> (Vec<Change>, Change) {
    let record = envelope.record.as_bytes();
    let packed = pack(record);
    let meta = Envelope { record: String::new(), ..envelope.clone() };
    let mut item = self::key(&key.hash, sort);
    let meta = serde_json::to_string(&meta).expect("an envelope is texts and numbers");
    for (name, value) in [
        ("state", text(Fate::Parked.as_str())),
        ("envelope", text(meta)),
        ("error_code", text(&envelope.error_code)),
        ("parked_ms", number(now)),
        ("bytes", number(record.len())),
        ("sha256", text(hex(&Sha256::digest(record)))),
    ] {
        item.insert(name.to_owned(), value);
    }
    let mut parts = Vec::new();
    if packed.len() <= PAYLOAD_MAX {
        item.insert("record".to_owned(), AttributeValue::B(Blob::new(packed)));
    } else {
        for (at, part) in packed.chunks(PAYLOAD_MAX).enumerate() {
            let mut item = part_key(&key.hash, sort, at);
            item.insert("record".to_owned(), AttributeValue::B(Blob::new(part)));
            parts.push(Change::put(table, item));
        }
        item.insert("parts".to_owned(), number(parts.len()));
    }
    (parts, Change::put(table, item).only_if("attribute_not_exists(pk)"))
}

/// Parts stand apart from the key's rows, so that reading these does not read them.
fn part_key(hash: &str, sort: &str, at: usize) -> Item {
    Item::from([
        ("pk".to_owned(), text(format!("P#{hash}#{sort}"))),
        ("sk".to_owned(), text(format!("{at:04}"))),
    ])
}

impl Row {
    /// Reads a row; none if it is not one of a parked record.
    pub(crate) fn read(item: Item) -> Option<Self> {
        let sort = text_of(&item, "sk").filter(|sort| sort.starts_with(RECORD))?.to_owned();
        let fate = Fate::of(text_of(&item, "state")?)?;
        let envelope = serde_json::from_str(text_of(&item, "envelope")?).ok()?;
        Some(Self { sort, fate, envelope, item })
    }

    /// When it was parked, in milliseconds since the epoch.
    pub(crate) fn parked_ms(&self) -> i64 {
        number_of(&self.item, "parked_ms").unwrap_or(0)
    }

    /// The record's text as it was delivered.
    pub(crate) async fn payload(
        &self,
        store: &Store,
        table: &str,
        key: &Key,
        deadline: Timestamp,
    ) -> Result<String, PayloadError> {
        let damaged = |fault| PayloadError::Damaged {
            place: format!("{} of key {}", self.envelope.sequence_number, key.readable),
            fault,
        };
        let mut packed = Vec::new();
        let parts = self.parts();
        if parts == 0 {
            let inline = self.item.get("record").and_then(|record| record.as_b().ok());
            packed = inline.ok_or_else(|| damaged("it has no payload"))?.as_ref().to_vec();
        }
        for at in 0..parts {
            let row = RowKey { table, key: part_key(&key.hash, &self.sort, at) };
            let found = store.read(&[row], deadline).await?.pop();
            let (_, part) = found.ok_or_else(|| damaged("a part is missing"))?;
            let part = part.get("record").and_then(|record| record.as_b().ok());
            packed.extend_from_slice(part.ok_or_else(|| damaged("a part is empty"))?.as_ref());
        }
        let mut record = Vec::new();
        GzDecoder::new(&*packed)
            .read_to_end(&mut record)
            .map_err(|_| damaged("it does not decompress"))?;
        if number_of(&self.item, "bytes") != Some(record.len()) {
            return Err(damaged("its length is not the one written"));
        }
        if text_of(&self.item, "sha256") != Some(&hex(&Sha256::digest(&record))) {
            return Err(damaged("its hash is not the one written"));
        }
        String::from_utf8(record).map_err(|_| damaged("it is not text"))
    }

    /// Deletes the parts of a record that nobody needs any more.
    pub(crate) async fn forget_parts(
        &self,
        store: &Store,
        table: &str,
        key: &Key,
        deadline: Timestamp,
    ) -> Result<(), StoreError> {
        for at in 0..self.parts() {
            let row = RowKey { table, key: part_key(&key.hash, &self.sort, at) };
            store.delete(&row, deadline).await?;
        }
        Ok(())
    }

    fn parts(&self) -> usize {
        number_of(&self.item, "parts").unwrap_or(0)
    }
}

fn pack(record: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(record).expect("a vector takes all bytes");
    encoder.finish().expect("a vector takes all bytes")
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a String takes all text");
        text
    })
}
