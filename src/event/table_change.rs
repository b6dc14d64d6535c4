//! Changes of a table that come through a data stream ("Kinesis Data Streams for DynamoDB").
//!
//! DynamoDB writes each change into a record of the stream as a JSON document: what a record of
//! the table's own stream has, without a sequence number, and with the moment of the change in
//! milliseconds or microseconds. Records may come twice and in another order than the changes were
//! made, so the moment is what tells which one is the newer (DynamoDB developer guide, "Using
//! Kinesis Data Streams to capture changes to DynamoDB").
//!
//! The unit follows from the number itself: the two could only be taken for each other before 1973
//! and after 5000. Where the document names it, both have to agree.
//!
//! What it gives up: it is read anew each time it is asked for.

use super::{
    Body, DecodeError, DecodeReason, Record,
    dynamodb::{DynamoDbBody, present},
    json::{self, Cursor, Fault, Problem},
    members::{Members, known_members, read_text},
};
use crate::record::{Source, Timestamp};
use std::borrow::Cow;

known_members!(Member {
    EventName = "eventName",
    UserIdentity = "userIdentity",
    TableName = "tableName",
    Change = "dynamodb",
    EventSource = "eventSource",
} passes "awsRegion" "eventID" "recordFormat");

known_members!(ChangeMember {
    Created = "ApproximateCreationDateTime",
    Keys = "Keys",
    NewImage = "NewImage",
    OldImage = "OldImage",
    Precision = "ApproximateCreationDateTimePrecision",
} passes "SizeBytes");

const CREATED: &str = "data.dynamodb.ApproximateCreationDateTime";
const PRECISION: &str = "data.dynamodb.ApproximateCreationDateTimePrecision";

/// The least number that counts milliseconds, the least that counts microseconds, and the least
/// that counts neither.
const MILLISECONDS: u64 = 100_000_000_000;
const MICROSECONDS: u64 = 100_000_000_000_000;
const NEITHER: u64 = 100_000_000_000_000_000;

/// When a change was made, as the table says it to a data stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Made {
    pub(crate) micros: u64,
    /// Whether it is only known to the millisecond.
    pub(crate) is_coarse: bool,
}

impl Made {
    fn read(created: Option<&str>, precision: Option<&str>) -> Result<Self, DecodeError> {
        let refused = |found| {
            let expected = "milliseconds or microseconds since the epoch".to_owned();
            DecodeError::new(CREATED, DecodeReason::Value { found, expected })
        };
        let text = created.ok_or_else(|| DecodeError::new(CREATED, DecodeReason::Missing))?;
        let number = whole(text).ok_or_else(|| refused("a value"))?;
        let made = match number {
            MILLISECONDS..MICROSECONDS => Self { micros: number * 1_000, is_coarse: true },
            MICROSECONDS..NEITHER => Self { micros: number, is_coarse: false },
            _ => return Err(refused("a number")),
        };
        let named = precision.filter(|text| *text != "null");
        let Some(named) = named else { return Ok(made) };
        let unit = if made.is_coarse { "MILLISECOND" } else { "MICROSECOND" };
        if read_text(Some(named), PRECISION)? == unit {
            return Ok(made);
        }
        let expected = format!("{unit}, which the moment is in");
        Err(DecodeError::new(PRECISION, DecodeReason::UnknownName { expected }))
    }

    pub(super) fn timestamp(self) -> Timestamp {
        Timestamp(i64::try_from(self.micros / 1_000).unwrap_or(i64::MAX))
    }
}

/// A whole number in any spelling of JSON: `1602548498888`, `1.602548498888E12`.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "it is whole, and not large"
)]
fn whole(text: &str) -> Option<u64> {
    text.parse().ok().or_else(|| {
        let number: f64 = serde_json::from_str(text).ok()?;
        // Up to there, a double has every whole number.
        let is_whole = number.fract() == 0.0 && (0.0..9.0e15).contains(&number);
        is_whole.then_some(number as u64)
    })
}

/// The document, values still as text.
#[derive(Debug, Default)]
struct Document<'a> {
    event_name: Option<&'a str>,
    user_identity: Option<&'a str>,
    table_name: Option<&'a str>,
    event_source: Option<Cow<'a, str>>,
    /// Whether there is a change in it.
    has_change: bool,
    created: Option<&'a str>,
    precision: Option<&'a str>,
    keys: Option<&'a str>,
    new_image: Option<&'a str>,
    old_image: Option<&'a str>,
    repeated: Option<&'static str>,
}

impl<'a> Document<'a> {
    fn read(&mut self, cursor: &mut Cursor<'a>) -> Result<(), Fault> {
        let mut repeated = None;
        let Some(mut members) = Members::<Member>::open(cursor)? else { return Ok(()) };
        while let Some(member) = members.next(cursor, &mut repeated)? {
            match member {
                Member::EventName => self.event_name = Some(cursor.raw()?),
                Member::UserIdentity => self.user_identity = Some(cursor.raw()?),
                Member::TableName => self.table_name = Some(cursor.raw()?),
                Member::EventSource => self.event_source = cursor.text()?,
                Member::Change => self.read_change(cursor, &mut repeated)?,
            }
        }
        self.repeated = repeated;
        Ok(())
    }

    fn read_change(
        &mut self,
        cursor: &mut Cursor<'a>,
        repeated: &mut Option<&'static str>,
    ) -> Result<(), Fault> {
        let Some(mut members) = Members::<ChangeMember>::open(cursor)? else { return Ok(()) };
        self.has_change = true;
        while let Some(member) = members.next(cursor, repeated)? {
            match member {
                ChangeMember::Created => self.created = Some(cursor.raw()?),
                ChangeMember::Precision => self.precision = Some(cursor.raw()?),
                ChangeMember::Keys => self.keys = present(cursor.raw()?),
                ChangeMember::NewImage => self.new_image = present(cursor.raw()?),
                ChangeMember::OldImage => self.old_image = present(cursor.raw()?),
            }
        }
        Ok(())
    }

    /// Whether it means to be a change of a table, as far as it was read.
    fn is_change(&self) -> bool {
        let is_named = self.event_source.as_deref() == Some("aws:dynamodb");
        self.table_name.is_some() && (is_named || self.has_change)
    }

    /// What a record of the table's own stream would have.
    fn body(&self) -> Result<DynamoDbBody<'a>, DecodeError> {
        if let Some(member) = self.repeated {
            return Err(DecodeError::new(format!("data.{member}"), DecodeReason::Repeated));
        }
        let missing = |path: &str| DecodeError::new(path, DecodeReason::Missing);
        if !self.has_change {
            return Err(missing("data.dynamodb"));
        }
        let keys = self.keys.ok_or_else(|| missing("data.dynamodb.Keys"))?;
        let has_image = self.new_image.is_some();
        match &*read_text(self.event_name, "data.eventName")? {
            "INSERT" | "MODIFY" if !has_image => return Err(missing("data.dynamodb.NewImage")),
            "INSERT" | "MODIFY" | "REMOVE" => {}
            _ => {
                let expected = "INSERT, MODIFY or REMOVE".to_owned();
                let reason = DecodeReason::UnknownName { expected };
                return Err(DecodeError::new("data.eventName", reason));
            }
        }
        Ok(DynamoDbBody::of(keys, self.new_image, self.old_image))
    }

    /// The name of the table, which is part of what its items are filed under.
    fn table(&self) -> Result<Cow<'a, str>, DecodeError> {
        let name = read_text(self.table_name, "data.tableName")?;
        let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
        if !name.is_empty() && name.len() <= 255 && name.bytes().all(is_part) {
            return Ok(name);
        }
        let expected = "the name of a table".to_owned();
        let reason = DecodeReason::Value { found: "a string", expected };
        Err(DecodeError::new("data.tableName", reason))
    }
}

impl Record<'_> {
    /// The change of a table's item that a record of a data stream carries, where a table streams
    /// its changes into it (Kinesis Data Streams for DynamoDB); none for any other record.
    ///
    /// It is as the table's own stream would have it: its [`source`](Self::source) is
    /// [`DynamoDb`](Source::DynamoDb), its keys and images are the item's, and its
    /// [`stream_name`](Self::stream_name) is the table's. Its position is that of the record which
    /// carries it. Such records may come twice and in another order than the changes were made:
    /// [`created_micros`](Self::created_micros) tells which of two changes of an item is the newer.
    ///
    /// # Errors
    /// The data is not base64; or it means to be the change of a table, and something is missing,
    /// there twice, or not what it should be.
    ///
    /// # Examples
    /// ```
    /// use changefold::event;
    /// # let data = base64_simd::STANDARD.encode_to_string(concat!(
    /// #     r#"{"eventName":"INSERT","tableName":"orders","eventSource":"aws:dynamodb","#,
    /// #     r#""dynamodb":{"ApproximateCreationDateTime":1720740233012995,"#,
    /// #     r#""Keys":{"id":{"S":"o1"}},"NewImage":{"id":{"S":"o1"},"amount":{"N":"5"}}}}"#,
    /// # ));
    /// # let payload = format!(
    /// #     r#"{{"Records":[{{"eventSource":"aws:kinesis","kinesis":{{"sequenceNumber":"1",
    /// #     "partitionKey":"p","data":"{data}"}}}}]}}"#
    /// # );
    /// #[derive(serde::Deserialize)]
    /// struct Order { amount: u32 }
    ///
    /// let batch = event::parse(payload.as_bytes());
    /// for record in batch.records().map_err(Clone::clone)? {
    ///     let Some(change) = record.table_change()? else { continue };
    ///     assert_eq!(change.created_micros(), Some(1_720_740_233_012_995));
    ///     assert_eq!(change.change::<Order>()?.new_image().map(|order| order.amount), Some(5));
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn table_change(&self) -> Result<Option<Record<'_>>, DecodeError> {
        let data = if self.source == Source::Kinesis { self.data()? } else { None };
        let Some(text) = data.and_then(|data| json::text(data).ok()) else { return Ok(None) };
        let (mut document, mut cursor) = (Document::default(), Cursor::new(text));
        let read = document.read(&mut cursor).and_then(|()| cursor.end());
        if !document.is_change() {
            return Ok(None);
        }
        read.map_err(|Fault { at, problem }| {
            DecodeError::new("data", DecodeReason::Json { at, problem: Problem::text(problem) })
        })?;
        let (table, body) = (document.table()?, document.body()?);
        let made = Made::read(document.created, document.precision)?;
        let arn = self.stream_arn.as_deref().and_then(|arn| table_arn(arn, &table));
        Ok(Some(Record {
            source: Source::DynamoDb,
            sequence_number: self.sequence_number.clone(),
            ordinal: self.ordinal,
            text: self.raw(),
            event_id: self.event_id.as_deref().map(Cow::Borrowed),
            shard_id: self.shard_id().map(Cow::Borrowed),
            stream_arn: arn.map(Cow::Owned),
            event_name: document.event_name,
            user_identity: document.user_identity,
            body: Body::DynamoDb(body),
            repeated: None,
            made: Some(made),
        }))
    }

    /// When the change was made, in microseconds since the epoch, if it came through a data stream
    /// ([`table_change`](Self::table_change)). A table that states milliseconds has whole ones.
    #[must_use]
    pub fn created_micros(&self) -> Option<u64> {
        self.made.map(|made| made.micros)
    }

    pub(crate) fn made(&self) -> Option<Made> {
        self.made
    }
}

/// The ARN of a table beside a data stream: AWS has both in one account and Region.
fn table_arn(stream_arn: &str, table: &str) -> Option<String> {
    let parts: Vec<&str> = stream_arn.splitn(6, ':').collect();
    let [arn, partition, _, region, account, _] = parts[..] else { return None };
    Some(format!("{arn}:{partition}:dynamodb:{region}:{account}:table/{table}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        event::{self, RecordKey, Value},
        record::{Change, RemoveCause},
    };

    const CHANGE: &str = r#"{"awsRegion":"us-east-2","eventID":"f8","eventName":"MODIFY",
        "userIdentity":null,"recordFormat":"application/json","tableName":"flight","dynamodb":{
        "ApproximateCreationDateTime":1721011165891550,"Keys":{"n":{"S":"BA28"}},
        "NewImage":{"n":{"S":"BA28"},"status":{"S":"CANCELLED"}},"OldImage":{"n":{"S":"BA28"}},
        "SizeBytes":137,"ApproximateCreationDateTimePrecision":"MICROSECOND"},
        "eventSource":"aws:dynamodb"}"#;

    fn with_record<T>(data: &str, look: impl FnOnce(&Record<'_>) -> T) -> T {
        let data = base64_simd::STANDARD.encode_to_string(data);
        let payload = format!(
            r#"{{"Records":[{{"eventSource":"aws:kinesis","eventID":"shardId-000000000001:7",
            "eventSourceARN":"arn:aws-cn:kinesis:cn-north-1:123456789012:stream/changes",
            "kinesis":{{"sequenceNumber":"7","partitionKey":"p","data":"{data}",
            "approximateArrivalTimestamp":1721011166.1}}}}]}}"#
        );
        let batch = event::parse(payload.as_bytes());
        look(&batch.records().unwrap()[0])
    }

    #[test]
    fn a_change_is_what_the_tables_own_stream_would_have() {
        with_record(CHANGE, |record| {
            let change = record.table_change().unwrap().unwrap();
            assert_eq!(change.source(), Source::DynamoDb);
            assert_eq!(
                (change.stream_name(), change.shard_id()),
                (Some("flight"), record.shard_id())
            );
            let arn = "arn:aws-cn:dynamodb:cn-north-1:123456789012:table/flight";
            assert_eq!(change.source_arn(), Some(arn));
            assert_eq!(change.sequence_number().as_str(), "7");
            assert_eq!(change.created_micros(), Some(1_721_011_165_891_550));
            assert_eq!(change.approximate_arrival(), Some(Timestamp(1_721_011_165_891)));
            let key = RecordKey::Item(vec![("n".into(), Value::Text("BA28".into()))]);
            assert_eq!(change.keys(), Ok(key));
            let values = change.values().unwrap();
            assert!(matches!(values, Change::Modify { old: Some(_), new: Some(Value::Map(_)) }));
            assert_eq!(change.raw(), record.raw());
        });
    }

    #[test]
    fn a_removal_by_time_to_live_is_one() {
        let expired = r#"{"type":"Service","principalId":"dynamodb.amazonaws.com"}"#;
        let removed = CHANGE
            .replace("MODIFY", "REMOVE")
            .replace(r#""userIdentity":null"#, &format!(r#""userIdentity":{expired}"#));
        with_record(&removed, |record| {
            let change = record.table_change().unwrap().unwrap();
            let values = change.values().unwrap();
            assert!(matches!(values, Change::Remove { old: Some(_), cause: RemoveCause::Ttl }));
        });
    }

    #[track_caller]
    fn check(data: &str, expected: Result<bool, (&str, &str)>) {
        with_record(data, |record| {
            let found = record.table_change();
            let found = found.as_ref().map(Option::is_some).map_err(|it| (it.path(), it.code()));
            assert_eq!(found, expected, "{data}");
        });
    }

    #[test]
    fn what_is_no_change_stays_a_document() {
        for data in ["", "7", "[1]", "{", r#"{"page":"/","dynamodb":1}"#, r#"{"tableName":"t"}"#] {
            check(data, Ok(false));
        }
        check(r#"{"dynamodb":{"NewImage":{}},"eventName":"INSERT"}"#, Ok(false));
    }

    #[test]
    fn a_change_that_lacks_something_is_told_with_its_place() {
        check(CHANGE, Ok(true));
        let created = "1721011165891550";
        for (from, to, path, code) in [
            (created, "1721011165", CREATED, "ValueRefused"),
            (created, "1721011165891550000", CREATED, "ValueRefused"),
            (created, "-1", CREATED, "ValueRefused"),
            (created, "\"soon\"", CREATED, "ValueRefused"),
            (created, "1721011165891.5", CREATED, "ValueRefused"),
            (created, "1721011165891", PRECISION, "UnknownName"),
            ("\"ApproximateCreationDateTime\":", "\"Created\":", CREATED, "Missing"),
            ("MICROSECOND", "NANOSECOND", PRECISION, "UnknownName"),
            ("\"Keys\"", "\"keys\"", "data.dynamodb.Keys", "Missing"),
            ("\"NewImage\"", "\"Image\"", "data.dynamodb.NewImage", "Missing"),
            ("\"OldImage\"", "\"NewImage\"", "data.NewImage", "Repeated"),
            ("MODIFY", "UPSERT", "data.eventName", "UnknownName"),
            ("\"dynamodb\"", "\"change\"", "data.dynamodb", "Missing"),
            ("\"flight\"", "\"fl/ght\"", "data.tableName", "ValueRefused"),
            ("\"flight\"", "7", "data.tableName", "TypeMismatch"),
        ] {
            let data = CHANGE.replacen(from, to, 1);
            assert_ne!(data, CHANGE, "{from}");
            check(&data, Err((path, code)));
        }
        // Cut short behind what says that it is a change.
        check(&CHANGE[..CHANGE.len() - 40], Err(("data", "JsonInvalid")));
        check(&CHANGE[..60], Ok(false));
        // A record of the table's own stream, which somebody has put there, names no table.
        check(&CHANGE.replace("tableName", "eventVersion"), Ok(false));
    }

    #[test]
    fn a_moment_has_its_unit_from_its_size() {
        for (text, precision, micros, is_coarse) in [
            ("1602548498888", None, 1_602_548_498_888_000, true),
            ("1.602548498888E12", Some("\"MILLISECOND\""), 1_602_548_498_888_000, true),
            ("1720740233012995", Some("null"), 1_720_740_233_012_995, false),
            ("1.720740233012995E15", Some("\"MICROSECOND\""), 1_720_740_233_012_995, false),
        ] {
            assert_eq!(Made::read(Some(text), precision), Ok(Made { micros, is_coarse }), "{text}");
        }
    }
}
