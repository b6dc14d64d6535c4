//! Members of the envelope's objects: finding the known ones, reading the simple ones.

use super::{
    document::read_document,
    error::{DecodeError, DecodeReason},
    json::{Cursor, Fault},
    number::short_decimal,
    value::Text,
};
use crate::record::Timestamp;
use std::{borrow::Cow, marker::PhantomData};

/// Seconds since the epoch in any spelling (`1480641523.477`, `1.789651658E9`), to the
/// millisecond. A double is exact to far below that for any year with four digits.
#[expect(clippy::cast_possible_truncation, reason = "the conversion saturates")]
pub(super) fn arrival(text: &str) -> Option<Timestamp> {
    let seconds = short_decimal(text).or_else(|| serde_json::from_str(text).ok())?;
    Some(Timestamp((seconds * 1000.0).round() as i64))
}

/// Reads the JSON string of a member.
pub(super) fn read_text<'a>(
    text: Option<&'a str>,
    member: &'static str,
) -> Result<Cow<'a, str>, DecodeError> {
    let text = text.ok_or_else(|| DecodeError::new(member, DecodeReason::Missing))?;
    if let Some(text) = Cursor::new(text).plain_whole_string() {
        return Ok(Cow::Borrowed(text));
    }
    read_document::<Text<'a>>(text, member).map(|Text(text)| text)
}

/// Members by which a record is addressed: if one is there twice, the record is nobody.
const ADDRESS: &[&str] = &[
    "dynamodb",
    "kinesis",
    "eventSource",
    "SequenceNumber",
    "sequenceNumber",
    "messageId",
    "attributes",
    "MessageGroupId",
];

/// Whether a record is addressed by the member of this name.
pub(super) fn is_address(name: &str) -> bool {
    ADDRESS.contains(&name)
}

/// Notes that a member of a record is there twice. Of several, one that addresses it counts.
pub(super) fn note_repeated(repeated: &mut Option<&'static str>, name: &'static str) {
    if repeated.is_none_or(|noted| !is_address(noted) && is_address(name)) {
        *repeated = Some(name);
    }
}

/// The names that are known of an object's members.
pub(super) trait Known: Copy {
    /// The member of this name.
    fn named(name: &str) -> Option<Self>;

    /// The member whose name the text begins with, quotes and colon included, or none for one
    /// that is always passed; and how long that is.
    fn plain(text: &str) -> Option<(Option<Self>, usize)>;

    /// Its name.
    fn name(self) -> &'static str;

    /// A bit of its own.
    fn bit(self) -> u16;
}

/// Defines an enum of at most sixteen members and what they are called, best in the order in
/// which they are sent; and the names of some that are sent too and always passed.
macro_rules! known_members {
    ($kind:ident { $($member:ident = $name:literal,)* } $(passes $($passed:literal)*)?) => {
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        enum $kind { $($member),* }

        impl crate::event::members::Known for $kind {
            #[inline(always)]
            fn named(name: &str) -> Option<Self> {
                match name {
                    $($name => Some(Self::$member),)*
                    _ => None,
                }
            }

            #[inline(always)]
            fn plain(text: &str) -> Option<(Option<Self>, usize)> {
                $(
                    if text.starts_with(concat!("\"", $name, "\":")) {
                        return Some((Some(Self::$member), concat!("\"", $name, "\":").len()));
                    }
                )*
                $($(
                    if text.starts_with(concat!("\"", $passed, "\":")) {
                        return Some((None, concat!("\"", $passed, "\":").len()));
                    }
                )*)?
                None
            }

            fn name(self) -> &'static str {
                match self {
                    $(Self::$member => $name,)*
                }
            }

            #[inline(always)]
            fn bit(self) -> u16 {
                1 << self as u16
            }
        }
    };
}

pub(super) use known_members;

/// The members of an object whose names are known; others are passed.
pub(super) struct Members<K> {
    /// The bits of the names already met.
    met: u16,
    first: bool,
    known: PhantomData<K>,
}

impl<K: Known> Members<K> {
    /// Passes the opening brace, or a value that is no object.
    #[inline]
    pub(super) fn open(cursor: &mut Cursor<'_>) -> Result<Option<Self>, Fault> {
        if cursor.eat(b'{') {
            return Ok(Some(Self { met: 0, first: true, known: PhantomData }));
        }
        cursor.skip()?;
        Ok(None)
    }

    /// Moves to the value of the next known member. One met before is noted in `repeated`,
    /// and comes again.
    #[inline(always)]
    pub(super) fn next(
        &mut self,
        cursor: &mut Cursor<'_>,
        repeated: &mut Option<&'static str>,
    ) -> Result<Option<K>, Fault> {
        loop {
            let member = match cursor.known_member(&mut self.first, K::plain) {
                Some(member) => member,
                None => match cursor.next_name(&mut self.first)? {
                    Some(name) => K::named(&name),
                    None => return Ok(None),
                },
            };
            let Some(member) = member else {
                cursor.skip()?;
                continue;
            };
            if self.met & member.bit() != 0 {
                note_repeated(repeated, member.name());
            }
            self.met |= member.bit();
            return Ok(Some(member));
        }
    }
}
