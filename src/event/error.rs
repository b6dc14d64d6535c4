//! What can be wrong with an event and with one record of it.
//!
//! Two types, because two people act on them: an [`EventError`] fails the invocation, a
//! [`DecodeError`] is one record's. Neither ever holds a payload's values, nor the keys of its
//! maps: names that the reader's type knows, types, expectations and places only. A type's own
//! message (`serde`'s `custom`) often quotes the value it refuses, so it is dropped; the place
//! and the type's name remain.

use super::json::{BadEnd, Cursor, Fault, Problem};
use crate::{record::SequenceNumberError, recovery::park::envelope::RecordTextError};
use serde::de;
use std::fmt;

/// Stands in a path for a name that the reader's type does not know: the key of a map.
pub(super) const UNKNOWN_NAME: &str = "*";

/// No record of the payload can be trusted; the invocation has to fail.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EventError {
    /// The payload is not JSON.
    #[error("the payload is not JSON: line {line}, column {column}: {problem}")]
    NotJson {
        /// 1-based line.
        line: usize,
        /// 1-based column, in characters.
        column: usize,
        /// What is wrong there.
        problem: &'static str,
    },
    /// There is no `Records` array, so this is no event of a stream or a queue.
    #[error("the payload has no `Records` array: it is not an event of a stream or a queue")]
    NoRecords,
    /// A member is there twice, so it is unclear which one counts.
    #[error("record {index} has `{member}` twice")]
    RepeatedMember {
        /// Position of the record in `Records`.
        index: usize,
        /// Name of the member.
        member: &'static str,
    },
    /// The record comes from another service, or does not say from which.
    #[error(
        "record {index} is not from a stream or a queue: `eventSource` is {found}, \
         expected `aws:dynamodb`, `aws:kinesis` or `aws:sqs`"
    )]
    UnknownSource {
        /// Position of the record in `Records`.
        index: usize,
        /// What is there, if it looks like a service's name.
        found: String,
    },
    /// One event, two services: the mapping never sends that.
    #[error("record {index} is from another service than record 0")]
    MixedSources {
        /// Position of the record in `Records`.
        index: usize,
    },
    /// The record has no sequence number in a JSON string.
    #[error("record {index} has no sequence number, so it cannot be reported as unfinished")]
    NoSequenceNumber {
        /// Position of the record in `Records`.
        index: usize,
    },
    /// The queue's message has no id in a JSON string, or an empty one, which Lambda would take
    /// for a failure of the whole batch.
    #[error("record {index} has no message id, so it cannot be reported as unfinished")]
    NoMessageId {
        /// Position of the record in `Records`.
        index: usize,
    },
    /// The record's sequence number is not one.
    #[error("record {index} cannot be reported as unfinished")]
    SequenceNumber {
        /// Position of the record in `Records`.
        index: usize,
        /// What is wrong with it.
        #[source]
        source: SequenceNumberError,
    },
}

impl EventError {
    /// A stable code for logs, metrics and the error type reported to Lambda.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotJson { .. } => "EventNotJson",
            Self::NoRecords => "EventWithoutRecords",
            Self::RepeatedMember { .. } => "EventMemberRepeated",
            Self::UnknownSource { .. } => "EventSourceUnknown",
            Self::MixedSources { .. } => "EventSourcesMixed",
            Self::NoSequenceNumber { .. } => "SequenceNumberMissing",
            Self::NoMessageId { .. } => "MessageIdMissing",
            Self::SequenceNumber { .. } => "SequenceNumberInvalid",
        }
    }
}

/// One record, or a part of it, cannot be read.
///
/// The path starts at the part asked for (`Keys`, `NewImage`, `OldImage`, `data`, `body`, …), and
/// goes on in the names of fields and list positions: `NewImage.lines[2].price`. A name that only
/// the payload knows, as a map's key, is `*`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{path}` {reason}")]
pub struct DecodeError {
    path: String,
    reason: DecodeReason,
}

impl DecodeError {
    pub(crate) fn new(path: impl Into<String>, reason: DecodeReason) -> Self {
        Self { path: path.into(), reason }
    }

    /// Puts the error of a value under `root`, where `T` was to be read.
    #[cold]
    pub(super) fn at_root<T>(root: &str, error: Error) -> Self {
        let Inner { reason, path } = *error.0;
        let mut text = String::from(root);
        for segment in path.iter().rev() {
            match segment {
                Segment::Name(name) => text.extend([".", name]),
                Segment::Index(index) => text.extend(["[", &index.to_string(), "]"]),
            }
        }
        let reason = match reason {
            DecodeReason::Refused { .. } => {
                DecodeReason::Refused { target: std::any::type_name::<T>() }
            }
            reason => reason,
        };
        Self { path: text, reason }
    }

    /// Where in the record, for example `NewImage.lines[2].price`.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// What is wrong there.
    #[must_use]
    pub fn reason(&self) -> &DecodeReason {
        &self.reason
    }

    /// A stable code for logs, metrics and reports.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self.reason {
            DecodeReason::Missing => "Missing",
            DecodeReason::Type { .. } => "TypeMismatch",
            DecodeReason::Value { .. } => "ValueRefused",
            DecodeReason::UnknownName { .. } => "UnknownName",
            DecodeReason::Repeated => "Repeated",
            DecodeReason::Number => "NumberInvalid",
            DecodeReason::Base64 => "Base64Invalid",
            DecodeReason::Json { .. } => "JsonInvalid",
            DecodeReason::Utf8 { .. } => "Utf8Invalid",
            DecodeReason::Refused { .. } => "Refused",
            DecodeReason::Version { .. } => "EnvelopeVersionUnknown",
            DecodeReason::Parked(_) => "ParkedRecordInvalid",
            DecodeReason::Packed(_) => "ParkedRecordUnreadable",
            DecodeReason::Aggregate(_) => "AggregateBroken",
        }
    }
}

/// What is wrong with a part of a record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeReason {
    /// The part is not there.
    #[error("is missing")]
    Missing,
    /// The part is of another type.
    #[error("is {found}, expected {expected}")]
    Type {
        /// The type that is there.
        found: &'static str,
        /// What the reader asked for.
        expected: String,
    },
    /// The part is of the right type and its value does not fit.
    #[error("is {found} that does not fit, expected {expected}")]
    Value {
        /// The type that is there.
        found: &'static str,
        /// What the reader asked for.
        expected: String,
    },
    /// A name (a variant, a member, a type tag, an event's name) that is not known.
    #[error("is an unknown name, expected {expected}")]
    UnknownName {
        /// The names that are known.
        expected: String,
    },
    /// The part is there twice.
    #[error("is there twice")]
    Repeated,
    /// A number attribute whose text is no number.
    #[error("is not a decimal number")]
    Number,
    /// A binary value whose text is not base64.
    #[error("is not base64")]
    Base64,
    /// The part is not JSON.
    #[error("is not JSON: byte {at}: {problem}")]
    Json {
        /// Byte offset within the part: an image, the keys, the decoded data or body.
        at: usize,
        /// What is wrong there.
        problem: &'static str,
    },
    /// Data that is not text.
    #[error("is not JSON: byte {at} is not UTF-8")]
    Utf8 {
        /// Byte offset within the decoded data.
        at: usize,
    },
    /// The type it was read into has a rule of its own that refused it.
    #[error("is refused by `{target}`")]
    Refused {
        /// Name of the Rust type.
        target: &'static str,
    },
    /// The envelope of a parked record, in a version this program does not know.
    #[error(
        "is another version than {known}, the only one this function reads: update the \
         function to the version that parked the record, or a later one"
    )]
    Version {
        /// The version that is known.
        known: u32,
    },
    /// The envelope of a parked record holds something else than a record.
    #[error("holds no record: {0}")]
    Parked(EventError),
    /// The envelope of a parked record holds a text that cannot be decoded.
    #[error("cannot be decoded: {0}")]
    Packed(RecordTextError),
    /// The data begins as an aggregate of the Kinesis Producer Library and is none.
    #[error("begins as an aggregate of the Kinesis Producer Library and is none: {0}")]
    Aggregate(AggregateError),
}

/// The most user records in one aggregate. The producers' library packs at most 1 MiB, so more
/// are under eleven bytes each, six of which are the format's.
pub const AGGREGATED_MAX: usize = 100_000;

/// Why data that begins as an aggregate is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AggregateError {
    /// The checksum at its end is another than that of what is before it.
    #[error("its checksum does not match")]
    Checksum,
    /// It is cut short, or no message of the protocol.
    #[error("byte {at} is no part of its message")]
    Message {
        /// Byte offset within the decoded data.
        at: usize,
    },
    /// A user record has no data, or no partition key, or one that the tables do not have.
    #[error("user record {record} has no {part}")]
    Incomplete {
        /// Place of the user record, from 0.
        record: usize,
        /// What it does not have.
        part: &'static str,
    },
    /// There is no user record in it.
    #[error("it has no user records")]
    Empty,
    /// More than [`AGGREGATED_MAX`] user records.
    #[error("it has more than {AGGREGATED_MAX} user records")]
    TooMany,
}

/// The error of our serde deserializers: a reason, and the path grown on the way out.
#[derive(Debug)]
pub(super) struct Error(Box<Inner>);

#[derive(Debug)]
struct Inner {
    reason: DecodeReason,
    /// Innermost first.
    path: Vec<Segment>,
}

#[derive(Debug)]
enum Segment {
    Name(&'static str),
    Index(usize),
}

impl Error {
    pub(super) fn new(reason: DecodeReason) -> Self {
        Self(Box::new(Inner { reason, path: Vec::new() }))
    }

    /// `found` (a type, never a value) where `expected` was asked for.
    #[cold]
    pub(super) fn mismatch(found: &'static str, expected: &dyn de::Expected) -> Self {
        Self::new(DecodeReason::Type { found, expected: expected.to_string() })
    }

    /// The JSON type that comes next at the cursor is not what the notation has there.
    #[cold]
    pub(super) fn json_type(cursor: &mut Cursor<'_>, expected: &str) -> Self {
        let found = match cursor.peek() {
            Some(b'{') => "an object",
            Some(b'[') => "an array",
            Some(b'"') => "a string",
            Some(b't' | b'f') => "a boolean",
            Some(b'n') => "null",
            Some(b'-' | b'0'..=b'9') => "a number",
            Some(_) => "not JSON",
            None => "nothing",
        };
        Self::new(DecodeReason::Type { found, expected: expected.to_owned() })
    }

    #[cold]
    pub(super) fn in_member(mut self, name: &'static str) -> Self {
        self.0.path.push(Segment::Name(name));
        self
    }

    #[cold]
    pub(super) fn in_element(mut self, index: usize) -> Self {
        self.0.path.push(Segment::Index(index));
        self
    }
}

impl From<Fault> for Error {
    #[cold]
    fn from(fault: Fault) -> Self {
        Self::new(fault.into())
    }
}

impl From<BadEnd> for Error {
    #[cold]
    fn from(end: BadEnd) -> Self {
        Self::new(match end {
            BadEnd::Fault(fault) => fault.into(),
            BadEnd::TooLong(found) => {
                DecodeReason::Value { found, expected: "fewer entries".to_owned() }
            }
            BadEnd::SeveralTags => {
                let expected = "exactly one type tag".to_owned();
                DecodeReason::Type { found: "several type tags", expected }
            }
        })
    }
}

impl From<Fault> for DecodeReason {
    fn from(Fault { at, problem }: Fault) -> Self {
        Self::Json { at, problem: Problem::text(problem) }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0.reason, f)
    }
}

impl std::error::Error for Error {}

impl de::Error for Error {
    fn custom<T: fmt::Display>(_: T) -> Self {
        // The message may quote the payload; see the module's head.
        Self::new(DecodeReason::Refused { target: "" })
    }

    fn invalid_type(unexpected: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::mismatch(kind(unexpected), expected)
    }

    fn invalid_value(unexpected: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        let found = kind(unexpected);
        Self::new(DecodeReason::Value { found, expected: expected.to_string() })
    }

    fn invalid_length(_: usize, expected: &dyn de::Expected) -> Self {
        Self::new(DecodeReason::Value { found: "a list", expected: expected.to_string() })
    }

    fn unknown_variant(_: &str, expected: &'static [&'static str]) -> Self {
        Self::new(DecodeReason::UnknownName { expected: one_of(expected) })
    }

    fn unknown_field(_: &str, expected: &'static [&'static str]) -> Self {
        Self::new(DecodeReason::UnknownName { expected: one_of(expected) }).in_member(UNKNOWN_NAME)
    }

    fn missing_field(field: &'static str) -> Self {
        Self::new(DecodeReason::Missing).in_member(field)
    }

    fn duplicate_field(field: &'static str) -> Self {
        Self::new(DecodeReason::Repeated).in_member(field)
    }
}

fn one_of(names: &[&str]) -> String {
    if names.is_empty() {
        return "none".to_owned();
    }
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(" or ")
}

/// The kind of a value, without the value.
fn kind(unexpected: de::Unexpected<'_>) -> &'static str {
    use de::Unexpected as U;
    match unexpected {
        U::Bool(_) => "a boolean",
        U::Unsigned(_) | U::Signed(_) => "an integer",
        U::Float(_) => "a number with a fraction",
        U::Char(_) | U::Str(_) => "a string",
        U::Bytes(_) => "binary",
        U::Unit | U::Option => "null",
        U::Seq => "a list",
        U::Map => "a map",
        U::Other(_) => "another type",
        U::NewtypeStruct
        | U::Enum
        | U::UnitVariant
        | U::NewtypeVariant
        | U::TupleVariant
        | U::StructVariant => "an enum",
    }
}
