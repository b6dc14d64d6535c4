//! Which source item a record is about.
//!
//! A pure function of the record, as its `version` is, never of the batch it came in, so that every
//! redelivery, however AWS cuts it, meets the same ledger row with the same version.

use crate::{
    event::{DecodeError, Record, RecordKey, Value},
    hex::hex,
    view::{
        definition::Path,
        number,
        scalar::{Scalar, encode_key},
    },
};
use sha2::{Digest, Sha256};
use std::fmt::Write as _;

/// Name of the ledger table's key attribute.
pub const LEDGER_KEY: &str = "pk";
/// Prefix of the rows that belong to source items.
pub(crate) const ITEM_PREFIX: &str = "K#";

/// DynamoDB allows a partition key of 2,048 bytes. A longer one, which two key attributes can
/// make together, is replaced by its hash.
const KEY_BYTES_MAX: usize = 1_900;
/// What an item's key and its source may have together, in the ledger.
const LEDGER_KEY_BYTES_MAX: usize = 2_048;

/// Identity of a source item within its view group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SourceItem {
    /// Key of the item's row in a projection.
    pub(crate) row_key: String,
    /// The item's key, for people: `pk=O#1, sk=A`.
    pub(crate) readable: String,
}

impl SourceItem {
    /// Key of the item's ledger row.
    pub(crate) fn ledger_key(&self, group: &str) -> String {
        let key = format!("{ITEM_PREFIX}{group}#{}", self.row_key);
        if key.len() <= LEDGER_KEY_BYTES_MAX {
            return key;
        }
        format!("{ITEM_PREFIX}{group}#{}", hashed(&self.row_key))
    }

    /// The item, with its source as a part of its row's key in a projection.
    pub(crate) fn of_source(self, arn: &str) -> Self {
        let source = encode_key(&[Scalar::Text(arn.to_owned())]);
        Self { row_key: bounded(format!("{source}{}", self.row_key)), ..self }
    }

    /// The item that a DynamoDB record changes.
    ///
    /// # Errors
    /// The record's keys cannot be read.
    pub(crate) fn of_change(record: &Record<'_>) -> Result<Self, DecodeError> {
        let (scalars, readable) = match record.keys()? {
            RecordKey::Item(attributes) => {
                let scalars: Vec<Scalar> =
                    attributes.iter().map(|(_, value)| key_scalar(value)).collect();
                let mut readable = String::new();
                for (index, (name, _)) in attributes.iter().enumerate() {
                    let separator = if index == 0 { "" } else { ", " };
                    write!(readable, "{separator}{name}={}", scalars[index])
                        .expect("writing to a string does not fail");
                }
                (scalars, readable)
            }
            RecordKey::Partition(key) => {
                (vec![Scalar::Text(key.clone().into_owned())], key.into_owned())
            }
        };
        Ok(Self { row_key: bounded(encode_key(&scalars)), readable })
    }

    /// A Kinesis record as an item of its own: it is appended once and never changed.
    pub(crate) fn of_append(record: &Record<'_>) -> Self {
        let shard = record.shard_id().unwrap_or_default();
        let position = record.sequence_number();
        let ordinal = record.ordinal();
        let scalars = [
            Scalar::Text(shard.to_owned()),
            Scalar::Text(position.sortable()),
            Scalar::Text(format!("{ordinal:06}")),
        ];
        let readable = match ordinal {
            0 => format!("{shard}:{position}"),
            _ => format!("{shard}:{position}:{ordinal}"),
        };
        Self { row_key: bounded(encode_key(&scalars)), readable }
    }

    /// The item of a changelog that a key attribute names.
    pub(crate) fn of_changelog(path: &Path, key: Scalar) -> Self {
        let readable = format!("{path}={key}");
        Self { row_key: bounded(encode_key(&[key])), readable }
    }
}

/// A key attribute of a table is text, a number or bytes; one table's never mix.
fn key_scalar(value: &Value<'_>) -> Scalar {
    match value {
        Value::Text(text) => Scalar::Text(text.clone().into_owned()),
        Value::Number(digits) => match number::read(digits) {
            Ok(number) => Scalar::Number(number),
            Err(_) => Scalar::Text(digits.clone().into_owned()),
        },
        Value::Binary(bytes) => Scalar::Text(base64_simd::STANDARD.encode_to_string(bytes)),
        other => Scalar::Text(format!("{other:?}")),
    }
}

pub(super) fn bounded(key: String) -> String {
    if key.len() <= KEY_BYTES_MAX { key } else { hashed(&key) }
}

pub(super) fn hashed(key: &str) -> String {
    format!("h:{}", hex(&Sha256::digest(key.as_bytes())))
}
