//! Members of the envelope's objects: finding the known ones, reading the simple ones.

use super::{
    document::read_document,
    error::{DecodeError, DecodeReason},
    json::{Cursor, Fault},
    value::Text,
};
use crate::record::Timestamp;
use std::borrow::Cow;

/// Seconds since the epoch in any spelling (`1480641523.477`, `1.789651658E9`), to the
/// millisecond. A double is exact to far below that for any year with four digits.
#[expect(clippy::cast_possible_truncation, reason = "the conversion saturates")]
pub(super) fn arrival(text: &str) -> Option<Timestamp> {
    let seconds: f64 = serde_json::from_str(text).ok()?;
    Some(Timestamp((seconds * 1000.0).round() as i64))
}

/// Reads the JSON string of a member.
pub(super) fn read_text<'a>(
    text: Option<&'a str>,
    member: &'static str,
) -> Result<Cow<'a, str>, DecodeError> {
    let text = text.ok_or_else(|| DecodeError::new(member, DecodeReason::Missing))?;
    read_document::<Text<'a>>(text, member).map(|Text(text)| text)
}

/// The members of an object whose names are known; others are passed.
pub(super) struct Members {
    known: &'static [&'static str],
    /// A bit for each known name already met.
    met: u16,
    first: bool,
}

impl Members {
    /// Passes the opening brace, or a value that is no object. At most sixteen names.
    pub(super) fn open(
        cursor: &mut Cursor<'_>,
        known: &'static [&'static str],
    ) -> Result<Option<Self>, Fault> {
        if cursor.eat(b'{') {
            return Ok(Some(Self { known, met: 0, first: true }));
        }
        cursor.skip()?;
        Ok(None)
    }

    /// Moves to the value of the next known member. One met before is noted in `repeated`,
    /// and comes again.
    pub(super) fn next(
        &mut self,
        cursor: &mut Cursor<'_>,
        repeated: &mut Option<&'static str>,
    ) -> Result<Option<&'static str>, Fault> {
        while let Some(name) = cursor.next_name(&mut self.first)? {
            let Some(at) = self.known.iter().position(|known| *known == name) else {
                cursor.skip()?;
                continue;
            };
            if self.met & (1 << at) != 0 {
                repeated.get_or_insert(self.known[at]);
            }
            self.met |= 1 << at;
            return Ok(Some(self.known[at]));
        }
        Ok(None)
    }
}
