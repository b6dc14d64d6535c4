//! A parked record as rows: the payload compressed, split if need be, and proved on reading.
//!
//! A record is up to 10 MiB, an item at most 400 KB, so what does not fit stands in parts of
//! its own, written before the row that makes the park count. That row has the length and the
//! hash of the whole, so that a missing or foreign part is noticed when it is read.
//!
//! Several may be about to park one record, perhaps with other bytes, and only one of them gets
//! its row in. So each writes parts of its own: their name is made of their content and of who
//! writes them, and the row says the name. Nobody overwrites parts that a row refers to, and who
//! did not get its row in deletes its own. What it gives up: parts whose writer died before its
//! row was in stay until the record is settled, or, if it is never parked, for good.

use super::{
    Key, Pending,
    envelope::Envelope,
    packed::{self, UnpackError},
};
use crate::{
    hex::hex,
    record::Timestamp,
    store::{
        Item, Store, StoreError,
        rows::{Attributes, Change, RowKey, number, number_of, text, text_of},
    },
};
use aws_sdk_dynamodb::{primitives::Blob, types::AttributeValue};
use flate2::{Compression, write::GzEncoder};
use sha2::{Digest, Sha256};
use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write as _,
};

/// Bytes of payload that one row takes: an item may have 400 KB, names and the rest included.
const PAYLOAD_MAX: usize = 300_000;

/// All attributes of a record's row but its payload. `state` is a reserved word.
pub(crate) const WITHOUT_PAYLOAD: Attributes = Attributes {
    expression: "pk, sk, #state, envelope, error_code, parked_ms, bytes, sha256, parts, \
                 parts_name, rescued, starts, started_by, started_alone",
    name: ("#state", "state"),
};

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

/// Starts of a record in redrives that have not told an outcome.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Starts {
    pub(crate) count: u32,
    /// Whether nothing else ran beside the last one, so that it was this record.
    pub(crate) last_alone: bool,
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
        /// Its position, and the key's name in the table: keys themselves stay out of messages.
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

/// What is to be written for one record.
#[derive(Debug)]
pub(crate) struct Written {
    /// What makes the park count, to be written after the parts.
    pub(crate) row: Change,
    /// The parts, if the payload does not fit the row.
    pub(crate) parts: Option<Parts>,
}

/// The payload of a record in rows of its own.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) puts: Vec<Change>,
    /// What all their sort keys begin with.
    pub(crate) name: String,
}

/// Parts that one park has written and no row refers to yet.
#[derive(Debug)]
pub(crate) struct OwnParts {
    pub(crate) writer: String,
    /// By place of the record.
    pub(crate) names: BTreeMap<String, String>,
    /// Those whose row may be written all the same: the answer was lost.
    pub(crate) unsure: BTreeSet<String>,
}

impl OwnParts {
    pub(crate) fn new(writer: String) -> Self {
        Self { writer, names: BTreeMap::new(), unsure: BTreeSet::new() }
    }
}

/// Who writes parts: one park of one invocation, so that no two share theirs.
pub(crate) fn writer(request_id: &str, Timestamp(now): Timestamp) -> String {
    hex(&Sha256::digest(format!("{now} {request_id}"))[..8])
}

/// What is to be written for one record.
pub(crate) fn written(
    table: &str,
    key: &Key,
    pending: &Pending,
    (writer, Timestamp(now)): (&str, Timestamp),
) -> Written {
    let Pending { sort, envelope, .. } = pending;
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
    if pending.is_rescued {
        item.insert("rescued".to_owned(), AttributeValue::Bool(true));
    }
    let mut parts = None;
    if packed.len() <= PAYLOAD_MAX {
        item.insert("record".to_owned(), AttributeValue::B(Blob::new(packed)));
    } else {
        let name = format!("{}.{writer}.", hex(&Sha256::digest(&packed)[..16]));
        let put = |(at, part): (usize, &[u8])| {
            let mut item = part_key(&key.hash, sort, &name, at);
            item.insert("record".to_owned(), AttributeValue::B(Blob::new(part)));
            Change::put(table, item)
        };
        let puts: Vec<Change> = packed.chunks(PAYLOAD_MAX).enumerate().map(put).collect();
        item.insert("parts".to_owned(), number(puts.len()));
        item.insert("parts_name".to_owned(), text(&name));
        parts = Some(Parts { puts, name });
    }
    Written { row: Change::put(table, item).only_if("attribute_not_exists(pk)"), parts }
}

/// Parts stand apart from the key's rows, so that reading these does not read them. Those of an
/// earlier version have no name.
fn part_key(hash: &str, sort: &str, name: &str, at: usize) -> Item {
    Item::from([
        ("pk".to_owned(), text(parts_of(hash, sort))),
        ("sk".to_owned(), text(format!("{name}{at:04}"))),
    ])
}

fn parts_of(hash: &str, sort: &str) -> String {
    format!("P#{hash}#{sort}")
}

/// The name of the parts that a parked record's row refers to.
pub(crate) fn name_of_parts(row: &Item) -> Option<&str> {
    text_of(row, "parts_name")
}

/// Deletes a record's parts whose name begins so.
pub(crate) async fn delete_parts(
    (store, table): (&Store, &str),
    (key, sort, name): (&Key, &str, &str),
    deadline: Timestamp,
) -> Result<(), StoreError> {
    let pk = parts_of(&key.hash, sort);
    for key in store.keys((table, &pk, name), deadline).await? {
        store.delete(&RowKey { table, key }, deadline).await?;
    }
    Ok(())
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

    /// Whether the mapping gave it up, so that later ones may be finished.
    pub(crate) fn is_rescued(&self) -> bool {
        self.item.get("rescued").and_then(|it| it.as_bool().ok()) == Some(&true)
    }

    /// How often this version of the function has started the record in redrives that did not
    /// live to tell what came of it.
    pub(crate) fn starts(&self, version: &str) -> Starts {
        if text_of(&self.item, "started_by") != Some(version) {
            return Starts::default();
        }
        let alone = self.item.get("started_alone").and_then(|alone| alone.as_bool().ok());
        Starts {
            count: number_of(&self.item, "starts").unwrap_or(0),
            last_alone: alone == Some(&true),
        }
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
            place: format!(
                "{} of the key with the hash {}",
                self.envelope.sequence_number, key.hash
            ),
            fault,
        };
        let mut packed = Vec::new();
        let parts = self.parts();
        if parts == 0 {
            let inline = self.item.get("record").and_then(|record| record.as_b().ok());
            packed = inline.ok_or_else(|| damaged("it has no payload"))?.as_ref().to_vec();
        }
        for at in 0..parts {
            let name = name_of_parts(&self.item).unwrap_or_default();
            let row = RowKey { table, key: part_key(&key.hash, &self.sort, name, at) };
            let found = store.read(&[row], deadline).await?.pop();
            let (_, part) = found.ok_or_else(|| damaged("a part is missing"))?;
            let part = part.get("record").and_then(|record| record.as_b().ok());
            packed.extend_from_slice(part.ok_or_else(|| damaged("a part is empty"))?.as_ref());
        }
        let bytes: usize =
            number_of(&self.item, "bytes").ok_or_else(|| damaged("it has no length"))?;
        let record = packed::unpack(&*packed, bytes as u64).map_err(|error| match error {
            UnpackError::NotGzip => damaged("it does not decompress"),
            UnpackError::TooLong => damaged("its length is not the one written"),
        })?;
        if record.len() != bytes {
            return Err(damaged("its length is not the one written"));
        }
        if text_of(&self.item, "sha256") != Some(&hex(&Sha256::digest(&record))) {
            return Err(damaged("its hash is not the one written"));
        }
        String::from_utf8(record).map_err(|_| damaged("it is not text"))
    }

    /// Deletes the parts of a record that was settled, also those of writers that died. None
    /// can come to be referred to any more: the row stays as a receipt.
    pub(crate) async fn forget_parts(
        &self,
        store: &Store,
        table: &str,
        key: &Key,
        deadline: Timestamp,
    ) -> Result<(), StoreError> {
        if self.parts() == 0 {
            return Ok(());
        }
        delete_parts((store, table), (key, &self.sort, ""), deadline).await
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

#[cfg(all(test, feature = "local"))]
mod tests {
    use super::*;
    use crate::{
        clock::SystemClock,
        recovery::park::{envelope::tests::envelope, packed::tests::bomb},
        store::{Endpoint, embedded},
    };
    use aws_sdk_dynamodb::config::{Credentials, SharedCredentialsProvider};
    use std::sync::Arc;

    #[test]
    fn a_payload_is_unpacked_no_further_than_was_written() {
        let key = Key::new("arn", "k", "k".to_owned());
        let (sort, envelope) = ("R#1".to_owned(), envelope("{}"));
        let pending = Pending { record: 0, sort, envelope, failed: true, is_rescued: false };
        let written = written("park", &key, &pending, ("w", Timestamp(1)));
        let mut item = written.row.into_action().put.unwrap().item;
        // Broken behind what may be read: who goes on finds another fault.
        let gigabyte = bomb(1024);
        let half = &gigabyte[..gigabyte.len() / 2];
        item.insert("record".to_owned(), AttributeValue::B(Blob::new(half)));
        let row = Row::read(item).unwrap();
        let endpoint = Endpoint {
            region: "local".to_owned(),
            url: None,
            credentials: SharedCredentialsProvider::new(Credentials::new(
                "id", "secret", None, None, "test",
            )),
        };
        let client = embedded::open(None).unwrap();
        let store = Store::new(client, &endpoint, Arc::new(SystemClock), 1);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let read = runtime.block_on(row.payload(&store, "park", &key, Timestamp(i64::MAX)));
        let error = read.unwrap_err().to_string();
        assert!(error.ends_with("its length is not the one written"), "{error}");
    }
}
