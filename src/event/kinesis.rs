//! The body of a Kinesis record: the member `kinesis`.
//!
//! The data is base64 in the payload. It is decoded at the first question for it and kept
//! by the record, so that what is read from it may borrow from it. What a producer's library
//! packed into one record is taken apart beside this ([`super::aggregate`]).
//! Member names: AWS Lambda developer guide, "Using AWS Lambda with Amazon Kinesis".

use super::{
    RecordKey,
    document::read_bytes,
    error::{DecodeError, DecodeReason},
    json::{Cursor, Fault},
    members::{Members, arrival, known_members, read_text},
};
use crate::record::{Change, Timestamp};
use base64_simd::STANDARD;
use serde::Deserialize;
use std::{borrow::Cow, sync::OnceLock};

known_members!(Member {
    PartitionKey = "partitionKey",
    SequenceNumber = "sequenceNumber",
    Data = "data",
    Arrival = "approximateArrivalTimestamp",
    SubSequence = "subSequenceNumber",
    HashKey = "explicitHashKey",
} passes "kinesisSchemaVersion");

/// Members that only the text of a record has which was taken out of an aggregate, in the words
/// of the Kinesis client library: its place in there, and its own hash key.
pub(super) const SUB_SEQUENCE: &str = "subSequenceNumber";
pub(super) const HASH_KEY: &str = "explicitHashKey";

/// What `kinesis` holds, values still as text.
#[derive(Debug, Default)]
pub(super) struct KinesisBody<'a> {
    pub(super) sequence_number: Option<Cow<'a, str>>,
    arrival: Option<&'a str>,
    partition_key: Option<&'a str>,
    data: Option<&'a str>,
    packed: Option<Box<Packed<'a>>>,
    decoded: OnceLock<Result<Vec<u8>, Box<DecodeError>>>,
}

/// What a record's text tells of the aggregate that it was in.
#[derive(Debug, Default)]
struct Packed<'a> {
    sub_sequence: Option<&'a str>,
    hash_key: Option<&'a str>,
}

impl<'a> KinesisBody<'a> {
    pub(super) fn read(
        &mut self,
        cursor: &mut Cursor<'a>,
        repeated: &mut Option<&'static str>,
    ) -> Result<(), Fault> {
        let Some(mut members) = Members::<Member>::open(cursor)? else {
            return Ok(());
        };
        while let Some(member) = members.next(cursor, repeated)? {
            match member {
                Member::PartitionKey => self.partition_key = Some(cursor.raw()?),
                Member::SequenceNumber => self.sequence_number = cursor.text()?,
                Member::Data => self.data = Some(cursor.raw()?),
                Member::Arrival => self.arrival = Some(cursor.raw()?),
                Member::SubSequence => self.packed().sub_sequence = Some(cursor.raw()?),
                Member::HashKey => self.packed().hash_key = Some(cursor.raw()?),
            }
        }
        Ok(())
    }

    fn packed(&mut self) -> &mut Packed<'a> {
        self.packed.get_or_insert_default()
    }

    /// Its place in the aggregate that it was in.
    pub(super) fn sub_sequence(&self) -> Option<u32> {
        self.packed.as_ref()?.sub_sequence?.parse().ok()
    }

    pub(super) fn explicit_hash_key(&self) -> Option<Cow<'a, str>> {
        read_text(Some(self.packed.as_ref()?.hash_key?), HASH_KEY).ok()
    }

    /// Whether the text of the data begins so, its quote included.
    #[inline]
    pub(super) fn begins_with(&self, text: &str) -> bool {
        self.data.is_some_and(|data| data.starts_with(text))
    }

    /// The texts of the partition key and of the data.
    pub(super) fn texts(&self) -> Option<(&'a str, &'a str)> {
        self.partition_key.zip(self.data)
    }

    pub(super) fn arrival(&self) -> Option<Timestamp> {
        arrival(self.arrival?)
    }

    pub(super) fn key_text(&self) -> Option<&'a str> {
        self.partition_key
    }

    /// The data as it stands in the payload.
    pub(super) fn data_text(&self) -> Option<&'a str> {
        self.data
    }

    pub(super) fn key(&self) -> Result<RecordKey<'a>, DecodeError> {
        read_text(self.partition_key, "partitionKey").map(RecordKey::Partition)
    }

    pub(super) fn data(&self) -> Result<&[u8], DecodeError> {
        match self.decoded.get_or_init(|| self.decode().map_err(Box::new)) {
            Ok(data) => Ok(data),
            Err(error) => Err((**error).clone()),
        }
    }

    fn decode(&self) -> Result<Vec<u8>, DecodeError> {
        // No character of base64 needs an escape, and none that does is one of base64.
        let quoted = self.data.and_then(|text| text.strip_prefix('"')?.strip_suffix('"'));
        let decoded = quoted.and_then(|text| STANDARD.decode_to_vec(text).ok());
        match decoded {
            Some(data) => Ok(data),
            None => STANDARD
                .decode_to_vec(read_text(self.data, "data")?.as_bytes())
                .map_err(|_| DecodeError::new("data", DecodeReason::Base64)),
        }
    }

    #[inline]
    pub(super) fn change<'s, T: Deserialize<'s>>(&'s self) -> Result<Change<T>, DecodeError> {
        Ok(Change::Insert { new: Some(read_bytes(self.data()?, "data")?) })
    }
}
