//! The body of a Kinesis record: the member `kinesis`.
//!
//! The data is base64 in the payload. It is decoded at the first question for it and kept
//! by the record, so that what is read from it may borrow from it. What a producer's library
//! packed into one record stays packed here: Lambda unpacks it only under enhanced fan-out.
//! Member names: AWS Lambda developer guide, "Using AWS Lambda with Amazon Kinesis".

use super::{
    RecordKey,
    document::read_bytes,
    error::{DecodeError, DecodeReason},
    json::{Cursor, Fault},
    members::{Members, arrival, read_text},
};
use crate::record::{Change, Timestamp};
use serde::Deserialize;
use std::{borrow::Cow, sync::OnceLock};

/// What `kinesis` holds, values still as text.
#[derive(Debug, Default)]
pub(super) struct KinesisBody<'a> {
    pub(super) sequence_number: Option<Cow<'a, str>>,
    pub(super) arrival: Option<Timestamp>,
    partition_key: Option<&'a str>,
    data: Option<&'a str>,
    decoded: OnceLock<Result<Vec<u8>, DecodeError>>,
}

impl<'a> KinesisBody<'a> {
    pub(super) fn read(
        cursor: &mut Cursor<'a>,
        repeated: &mut Option<&'static str>,
    ) -> Result<Self, Fault> {
        let mut body = Self::default();
        let known = &["sequenceNumber", "approximateArrivalTimestamp", "partitionKey", "data"];
        let Some(mut members) = Members::open(cursor, known)? else {
            return Ok(body);
        };
        while let Some(member) = members.next(cursor, repeated)? {
            match member {
                "sequenceNumber" => body.sequence_number = cursor.text()?,
                "approximateArrivalTimestamp" => body.arrival = arrival(cursor.raw()?),
                "partitionKey" => body.partition_key = Some(cursor.raw()?),
                _ => body.data = Some(cursor.raw()?),
            }
        }
        Ok(body)
    }

    pub(super) fn key(&self) -> Result<RecordKey<'a>, DecodeError> {
        read_text(self.partition_key, "partitionKey").map(RecordKey::Partition)
    }

    pub(super) fn data(&self) -> Result<&[u8], DecodeError> {
        let decoded = self.decoded.get_or_init(|| {
            base64_simd::STANDARD
                .decode_to_vec(read_text(self.data, "data")?.as_bytes())
                .map_err(|_| DecodeError::new("data", DecodeReason::Base64))
        });
        decoded.as_deref().map_err(Clone::clone)
    }

    pub(super) fn change<'s, T: Deserialize<'s>>(&'s self) -> Result<Change<T>, DecodeError> {
        Ok(Change::Insert { new: Some(read_bytes(self.data()?, "data")?) })
    }
}
