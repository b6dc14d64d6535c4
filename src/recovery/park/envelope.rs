//! What is kept of a parked record: one versioned document, the same in the park table's
//! answers, in a queue, a topic and a bucket.
//!
//! It is a contract with whoever reads a destination: members are added, never renamed; a
//! reader passes members it does not know. The record is in it byte for byte as Lambda
//! delivered it, so that a redrive needs nothing else; where a service's limit is smaller
//! than that, it is compressed, and [`Envelope::record_text`] gives it back either way.

use super::packed;
use flate2::{Compression, write::GzEncoder};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::{
    borrow::Cow,
    error::Error,
    fmt::{self, Write},
    io::Write as _,
};

/// Version of the document, its member `changefold`.
pub const VERSION: u32 = 1;

/// Bytes of one text of an error, and of the readable key: what is beyond is cut off. In JSON a
/// byte may become six, and beside the texts there is a payload in the row, which takes 400 KB:
/// they may be 300 + 6 * ((8 + 1) * 1 + 4 + a few) KB.
const ERROR_TEXT_MAX: usize = 1_000;
const KEY_TEXT_MAX: usize = 4_000;
const CODE_TEXT_MAX: usize = 200;

/// Texts of one error: itself and what it came from.
const ERROR_TEXTS_MAX: usize = 8;

/// Causes beyond those that are counted: a chain may have no end.
const CAUSES_COUNTED_MAX: usize = 1_000;

/// One record set aside, with what is known of its failure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// [`VERSION`] of the document; says what it is, too.
    pub changefold: u32,
    /// Name of the function that parked it.
    pub function: String,
    /// Version of that function (`AWS_LAMBDA_FUNCTION_VERSION`).
    pub function_version: String,
    /// `eventSourceARN` of the record, empty if it had none.
    pub stream_arn: String,
    /// The shard, where the event told it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shard_id: Option<String>,
    /// What keeps the record in order, for people: `order_id=o-1001`, a partition key. One beyond
    /// 4,000 bytes is cut, and ends with a hash of the whole.
    pub key: String,
    /// Position in the shard, or the message id of a queue's message.
    pub sequence_number: String,
    /// Place among neighbours with the same sequence number, from 0.
    pub ordinal: u32,
    /// Stable code of the failure; [`HELD`] for a record that only waits behind another.
    pub error_code: String,
    /// The failure and what it came from, outermost first. A long text or chain is cut, and says
    /// how much is missing.
    pub error: Vec<String>,
    /// How often it was tried, over all invocations.
    pub attempts: u32,
    /// When it arrived in the stream, in milliseconds since the epoch, if that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arrived_ms: Option<i64>,
    /// When it first failed, in milliseconds since the epoch.
    pub first_failed_ms: i64,
    /// When it last failed, in milliseconds since the epoch.
    pub last_failed_ms: i64,
    /// How `record` is encoded: absent for the plain text, else [`GZIP_BASE64`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record_encoding: Option<String>,
    /// Length of the record as plain text, in bytes; only with an encoding. Nothing beyond it is
    /// decompressed. Envelopes of version 0.1.0 may lack it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record_bytes: Option<u64>,
    /// The record's JSON object, byte for byte as Lambda delivered it, as text.
    pub record: String,
}

/// Code of a record that did not fail itself: its key is held by an earlier one.
pub const HELD: &str = "HeldBehindParked";

/// The one encoding of `record` besides plain text: gzip, then base64.
pub const GZIP_BASE64: &str = "gzip+base64";

/// No record is longer than this once decompressed: twice the base64 of the largest Kinesis
/// record. What claims to be longer was not written by us.
const RECORD_BYTES_MAX: u64 = 32 << 20;

impl Envelope {
    /// The record's JSON object as Lambda delivered it, however it is encoded here.
    ///
    /// # Errors
    /// The encoding is not known, or the text is not what the encoding says.
    pub fn record_text(&self) -> Result<Cow<'_, str>, RecordTextError> {
        let Some(encoding) = &self.record_encoding else { return Ok(Cow::Borrowed(&self.record)) };
        decoded(&self.record, encoding, self.record_bytes).map(Cow::Owned)
    }

    /// The same document with its record compressed; the same bytes every time.
    ///
    /// # Panics
    /// Never: it writes to memory.
    #[must_use]
    pub fn compressed(&self) -> Cow<'_, Self> {
        if self.record_encoding.is_some() {
            return Cow::Borrowed(self);
        }
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        let packed = encoder.write_all(self.record.as_bytes()).and_then(|()| encoder.finish());
        let packed = packed.expect("writing to memory does not fail");
        Cow::Owned(Self {
            record: base64_simd::STANDARD.encode_to_string(packed),
            record_encoding: Some(GZIP_BASE64.to_owned()),
            record_bytes: Some(self.record.len() as u64),
            ..self.clone()
        })
    }

    /// Name of the table, data stream or queue in `stream_arn`, if it tells one.
    #[must_use]
    pub fn stream_name(&self) -> Option<&str> {
        stream_name(&self.stream_arn)
    }

    /// The shard where it is part of the record's name: a DynamoDB event tells it in some
    /// deliveries only, Kinesis always.
    #[must_use]
    pub fn stable_shard_id(&self) -> Option<&str> {
        let is_dynamodb = self.stream_arn.split(':').nth(2) == Some("dynamodb");
        self.shard_id.as_deref().filter(|shard_id| !is_dynamodb && !shard_id.is_empty())
    }

    /// A stable name of the record, the same at every delivery; as
    /// [`Context::identity`](crate::processor::Context::identity) prints.
    #[must_use]
    pub fn identity(&self) -> String {
        let shard_id = self.stable_shard_id().unwrap_or_default();
        format!("{}/{shard_id}/{}/{}", self.stream_arn, self.sequence_number, self.ordinal)
    }
}

/// Name of the table, data stream or queue of an ARN, if it tells one.
pub(crate) fn stream_name(arn: &str) -> Option<&str> {
    let resource = arn.splitn(6, ':').nth(5)?;
    let name = resource.strip_prefix("table/").or_else(|| resource.strip_prefix("stream/"));
    name.unwrap_or(resource).split('/').next().filter(|name| !name.is_empty())
}

/// An error and what it came from, outermost first; long texts and chains are cut, and say so.
pub(crate) fn chain(error: &(dyn Error + 'static)) -> Vec<String> {
    let (mut texts, mut next) = (Vec::new(), Some(error));
    while let Some(error) = next.filter(|_| texts.len() < ERROR_TEXTS_MAX) {
        let mut text = Cut::new(ERROR_TEXT_MAX);
        // Whoever wrote the error may refuse to tell it.
        if write!(text, "{error}").is_err() {
            text.take(" (the rest cannot be told)");
        }
        texts.push(text.told());
        next = error.source();
    }
    let mut causes = 0;
    while let Some(error) = next.filter(|_| causes < CAUSES_COUNTED_MAX) {
        causes += 1;
        next = error.source();
    }
    match (causes, next) {
        (0, _) => {}
        (causes, None) => texts.push(format!("… ({causes} more causes)")),
        (causes, Some(_)) => texts.push(format!("… (more than {causes} more causes)")),
    }
    texts
}

/// A key's text for people, cut where it is too long for a row.
pub(crate) fn readable_key(text: String) -> String {
    if text.len() <= KEY_TEXT_MAX {
        return text;
    }
    // What was cut off may be what tells it from others.
    let hash = Sha256::digest(&text);
    let mut cut = Cut::new(KEY_TEXT_MAX);
    cut.take(&text);
    format!("{} {:02x}{:02x}{:02x}{:02x}", cut.told(), hash[0], hash[1], hash[2], hash[3])
}

/// A code that a row takes.
pub(crate) fn code(text: &str) -> String {
    let mut cut = Cut::new(CODE_TEXT_MAX);
    cut.take(text);
    cut.told()
}

/// Takes text up to so many bytes, and counts the others.
struct Cut {
    text: String,
    room: usize,
    missing: usize,
}

impl Cut {
    fn new(room: usize) -> Self {
        Self { text: String::new(), room, missing: 0 }
    }

    fn take(&mut self, text: &str) {
        // After a cut nothing is taken any more.
        let room = if self.missing > 0 { 0 } else { self.room - self.text.len() };
        let at = text.floor_char_boundary(room);
        self.text.push_str(&text[..at]);
        self.missing += text.len() - at;
    }

    fn told(self) -> String {
        match self.missing {
            0 => self.text,
            bytes => format!("{}… ({bytes} more bytes)", self.text),
        }
    }
}

impl Write for Cut {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.take(text);
        Ok(())
    }
}

/// The record of an envelope with this encoding. It stops behind the length that was written,
/// and behind the longest record where none was.
pub(crate) fn decoded(
    record: &str,
    encoding: &str,
    bytes: Option<u64>,
) -> Result<String, RecordTextError> {
    if encoding != GZIP_BASE64 {
        return Err(RecordTextError::UnknownEncoding);
    }
    let bytes_max = bytes.unwrap_or(RECORD_BYTES_MAX).min(RECORD_BYTES_MAX);
    let packed = base64_simd::STANDARD
        .decode_to_vec(record.as_bytes())
        .map_err(|_| RecordTextError::NotBase64)?;
    let text = packed::unpack(&*packed, bytes_max).map_err(|error| match error {
        packed::UnpackError::NotGzip => RecordTextError::NotGzip,
        packed::UnpackError::TooLong => RecordTextError::TooLong,
    })?;
    if bytes.is_some_and(|bytes| bytes != text.len() as u64) {
        return Err(RecordTextError::OtherLength);
    }
    String::from_utf8(text).map_err(|_| RecordTextError::NotUtf8)
}

/// Why the record of an envelope cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecordTextError {
    /// A later version may write encodings this one does not know.
    #[error("`record_encoding` is not known here: only `gzip+base64` is; update changefold")]
    UnknownEncoding,
    /// The text is not base64.
    #[error("`record` is not base64, as `record_encoding` says")]
    NotBase64,
    /// The bytes are not gzip, or end early.
    #[error("`record` is not gzip, as `record_encoding` says, or ends early")]
    NotGzip,
    /// More than was written, or than any record has.
    #[error("`record` decompresses to more than `record_bytes` says, or any record has (32 MiB)")]
    TooLong,
    /// Less than was written.
    #[error("`record` decompresses to less than `record_bytes` says")]
    OtherLength,
    /// The decompressed bytes are no text.
    #[error("`record` decompresses to something that is not UTF-8")]
    NotUtf8,
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn envelope(record: &str) -> Envelope {
        Envelope {
            changefold: VERSION,
            function: "orders".to_owned(),
            function_version: "7".to_owned(),
            stream_arn: "arn:aws:kinesis:eu-west-1:123456789012:stream/clicks".to_owned(),
            shard_id: Some("shardId-000000000001".to_owned()),
            key: "k-1".to_owned(),
            sequence_number: "4967".to_owned(),
            ordinal: 2,
            error_code: "DataNotJson".to_owned(),
            error: vec!["data: expected a number".to_owned()],
            attempts: 3,
            arrived_ms: None,
            first_failed_ms: 1,
            last_failed_ms: 2,
            record_encoding: None,
            record_bytes: None,
            record: record.to_owned(),
        }
    }

    #[test]
    fn a_record_is_the_same_plain_and_compressed() {
        let plain = envelope("{\"a\": \"\u{e4}\u{ffff}\"}");
        let compressed = plain.compressed().into_owned();
        assert_eq!(compressed.record_encoding.as_deref(), Some(GZIP_BASE64));
        assert_eq!(compressed, *plain.compressed(), "the same bytes every time");
        assert_eq!(compressed, *compressed.compressed(), "not twice");
        assert_eq!(plain.record_text().unwrap(), plain.record);
        assert_eq!(compressed.record_text().unwrap(), plain.record);
        let json = serde_json::to_string(&compressed).unwrap();
        assert_eq!(serde_json::from_str::<Envelope>(&json).unwrap(), compressed);
        let json = serde_json::to_string(&plain).unwrap();
        assert!(!json.contains("record_encoding"), "{json}");
    }

    #[test]
    fn a_record_that_is_not_what_it_says_is_refused() {
        let gzip = |bytes: &[u8]| {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
            encoder.write_all(bytes).unwrap();
            base64_simd::STANDARD.encode_to_string(encoder.finish().unwrap())
        };
        let cut = gzip(b"0123456789")[..16].to_owned();
        let bomb = gzip(&vec![b' '; 33 << 20]);
        for (encoding, record, expected) in [
            ("zstd", "", RecordTextError::UnknownEncoding),
            (GZIP_BASE64, "?", RecordTextError::NotBase64),
            (GZIP_BASE64, "AAAA", RecordTextError::NotGzip),
            (GZIP_BASE64, &*cut, RecordTextError::NotGzip),
            (GZIP_BASE64, &*gzip(&[0xff]), RecordTextError::NotUtf8),
            (GZIP_BASE64, &*bomb, RecordTextError::TooLong),
        ] {
            let mut envelope = envelope(record);
            envelope.record_encoding = Some(encoding.to_owned());
            assert_eq!(envelope.record_text(), Err(expected));
        }
    }

    #[derive(Debug)]
    struct Endless(&'static str);

    impl fmt::Display for Endless {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)?;
            Err(fmt::Error)
        }
    }

    impl Error for Endless {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            Some(&Self("again"))
        }
    }

    #[test]
    fn an_error_without_end_is_cut_and_says_so() {
        let texts = chain(&Endless("first"));
        assert_eq!((texts.len(), texts[0].as_str()), (9, "first (the rest cannot be told)"));
        assert_eq!(texts[8], "… (more than 1000 more causes)");
        let long: Box<dyn Error> = "ä".repeat(501).into();
        assert_eq!(chain(&*long), [format!("{}… (2 more bytes)", "ä".repeat(500))]);
        // An odd number of bytes: the cut is before a character, never in it.
        let long: Box<dyn Error> = format!("a{}", "ä".repeat(500)).into();
        assert_eq!(chain(&*long), [format!("a{}… (2 more bytes)", "ä".repeat(499))]);
    }

    #[test]
    fn long_keys_stay_apart() {
        let (a, b) = (format!("{}a", "k".repeat(4_000)), format!("{}b", "k".repeat(4_000)));
        let (a, b) = (readable_key(a), readable_key(b));
        assert!(a != b && a.len() < 4_100 && a.contains("… (1 more bytes) "), "{a}");
        assert_eq!(readable_key("k".repeat(4_000)), "k".repeat(4_000));
        assert_eq!(code("Refused"), "Refused");
    }

    #[test]
    fn a_record_is_unpacked_as_far_as_was_written_and_never_further_than_a_record() {
        let plain = envelope(&"x".repeat(100));
        let sent = plain.compressed().into_owned();
        assert_eq!(sent.record_bytes, Some(100));
        for (bytes, expected) in [
            (None, Ok(&*plain.record)),
            (Some(100), Ok(&*plain.record)),
            (Some(99), Err(RecordTextError::TooLong)),
            (Some(101), Err(RecordTextError::OtherLength)),
        ] {
            let envelope = Envelope { record_bytes: bytes, ..sent.clone() };
            assert_eq!(envelope.record_text().as_deref().map_err(|error| *error), expected);
        }
        // How far it is unpacked is shown in `packed`: here, that the bound is handed on.
        let gigabyte = base64_simd::STANDARD.encode_to_string(packed::tests::bomb(1024));
        for bytes in [None, Some(10), Some(1 << 30), Some(u64::MAX)] {
            assert_eq!(decoded(&gigabyte, GZIP_BASE64, bytes), Err(RecordTextError::TooLong));
        }
    }

    #[test]
    fn a_name_leaves_out_the_shard_where_it_is_not_always_told() {
        let kinesis = envelope("{}");
        assert_eq!(kinesis.stream_name(), Some("clicks"));
        assert_eq!(
            kinesis.identity(),
            "arn:aws:kinesis:eu-west-1:123456789012:stream/clicks/shardId-000000000001/4967/2"
        );
        let table = "arn:aws:dynamodb:eu-west-1:123456789012:table/t/stream/2026-09-17T12:50:51.0";
        let dynamodb = Envelope { stream_arn: table.to_owned(), ..kinesis.clone() };
        assert_eq!(dynamodb.stream_name(), Some("t"));
        assert_eq!(dynamodb.identity(), format!("{table}//4967/2"));
        let queue = "arn:aws:sqs:eu-west-1:123456789012:q".to_owned();
        assert_eq!(Envelope { stream_arn: queue, ..kinesis.clone() }.stream_name(), Some("q"));
        assert_eq!(Envelope { stream_arn: String::new(), ..kinesis }.stream_name(), None);
    }
}
