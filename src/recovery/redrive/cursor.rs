//! Where an operation goes on: in the middle of keys that were begun, and from a key on.
//!
//! Keys run side by side, so those in hand when a call ends are no simple range. The cursor
//! names each of them, with the place after which to go on where nothing was taken out, and the
//! first key that was not begun. So a key that is through, well or not, is not met again. For
//! a caller it is a text to pass back.

use crate::call::Halt;
use std::{collections::BTreeMap, fmt};

/// Between the parts of the text; in no hash and no sort key.
const SEPARATOR: char = ',';

/// Between a key's hash and a place in it.
const PLACE: char = '/';

/// Instead of the first key that was not begun, where all were.
const NO_KEY: &str = "-";

/// Where an operation goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cursor {
    /// By hash, the keys that were begun, and the sort key of the last record looked at.
    begun: BTreeMap<String, Option<String>>,
    /// The first of the others.
    next: Option<String>,
}

impl Cursor {
    /// The cursor of an operation: with none it begins at the first key.
    ///
    /// # Errors
    /// The text is no cursor.
    pub(super) fn read(text: Option<&str>) -> Result<Self, Halt> {
        let Some(text) = text else { return Ok(Self::from_key(Some(String::new()))) };
        let is_hash =
            |text: &str| !text.is_empty() && text.bytes().all(|it| it.is_ascii_hexdigit());
        let unreadable =
            || Halt::new("CursorUnreadable", "the cursor is not one of an earlier answer");
        let mut parts = text.split(SEPARATOR);
        let next = match parts.next() {
            Some(NO_KEY) => None,
            Some(hash) if is_hash(hash) => Some(hash.to_owned()),
            _ => return Err(unreadable()),
        };
        let mut cursor = Self::from_key(next);
        for part in parts {
            let (hash, after) = match part.split_once(PLACE) {
                Some((hash, after)) => (hash, Some(after)),
                None => (part, None),
            };
            if !is_hash(hash) {
                return Err(unreadable());
            }
            cursor.go_on_in(hash, after);
        }
        Ok(cursor)
    }

    /// Goes on with this key and those after it, or with none but those begun.
    pub(super) fn from_key(next: Option<String>) -> Self {
        Self { begun: BTreeMap::new(), next }
    }

    /// Goes on in the middle of a key as well, after a record or from its beginning.
    pub(super) fn go_on_in(&mut self, hash: &str, after: Option<&str>) {
        self.begun.insert(hash.to_owned(), after.map(str::to_owned));
    }

    /// Whether a key is still to be worked on.
    pub(super) fn has(&self, hash: &str) -> bool {
        self.has_begun(hash) || self.next.as_deref().is_some_and(|next| hash >= next)
    }

    /// Whether a key was begun.
    pub(super) fn has_begun(&self, hash: &str) -> bool {
        self.begun.contains_key(hash)
    }

    /// The last record of a key that was looked at.
    pub(super) fn after(&self, hash: &str) -> Option<&str> {
        self.begun.get(hash)?.as_deref()
    }

    /// The text to pass back; none if there is nothing to go on with.
    pub(super) fn text(&self) -> Option<String> {
        (!self.begun.is_empty() || self.next.is_some()).then(|| self.to_string())
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.next.as_deref().unwrap_or(NO_KEY))?;
        for (hash, after) in &self.begun {
            write!(f, "{SEPARATOR}{hash}")?;
            if let Some(after) = after {
                write!(f, "{PLACE}{after}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_survives_its_text() {
        let mut cursor = Cursor::from_key(Some("0b".to_owned()));
        cursor.go_on_in("0a", Some("R#2026-03-02T08:00:00.000#0017/x#000001"));
        cursor.go_on_in("01", None);
        let text = cursor.text().unwrap();
        assert_eq!(text, "0b,01,0a/R#2026-03-02T08:00:00.000#0017/x#000001");
        assert_eq!(Cursor::read(Some(&text)).unwrap(), cursor);
        for (hash, is_there) in [("00", false), ("01", true), ("0a", true), ("0b", true)] {
            assert_eq!(cursor.has(hash), is_there, "{hash}");
        }
        let through = Cursor::from_key(None);
        assert_eq!((through.text(), through.has("00")), (None, false));
        let first = Cursor::read(None).unwrap();
        assert!(first.has("00") && !first.has_begun("00"));
    }

    #[test]
    fn what_is_no_cursor_is_refused() {
        for text in ["", "x", ",", "-,", "0a,,0b", "0a/R#1"] {
            let halt = Cursor::read(Some(text)).unwrap_err();
            assert_eq!(halt.code, "CursorUnreadable", "{text}");
        }
    }
}
