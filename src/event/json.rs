//! A cursor over JSON text: the one place where bytes of a payload become tokens.
//!
//! It is separate from serde because the envelope is read without any type, values are cut out as
//! slices, and numbers keep their text. What is decoded is accepted exactly as `serde_json`
//! accepts it: the number grammar, control characters, escapes, lone surrogates, at most 127
//! nested containers. What is [skipped](skip) only has to balance. Strings are borrowed unless
//! they have escapes. Nothing here can panic: every access to the text is checked.
//!
//! What it gives up: the text must be UTF-8 throughout, where `serde_json` does not look
//! inside strings it skips.

mod plain;
mod scan;
mod skip;
mod string;

pub(super) use scan::{prefetch, text};

use super::number::ShortNumber;
use std::borrow::Cow;

/// How many containers may nest, plus one: the limit of `serde_json`.
const DEPTH_LIMIT: u8 = 128;

/// Where and why a text is not JSON, or not decodable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fault {
    /// Byte offset in the text.
    pub(super) at: usize,
    pub(super) problem: Problem,
}

/// What is wrong at a place of a JSON text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Problem {
    End,
    ExpectedValue,
    ExpectedName,
    ExpectedColon,
    ExpectedCommaOrEnd,
    TrailingComma,
    TrailingText,
    ControlCharacter,
    Escape,
    Surrogate,
    Number,
    TooDeep,
}

impl Problem {
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::End => "the text ends too early",
            Self::ExpectedValue => "a value is expected",
            Self::ExpectedName => "a member name in quotes is expected",
            Self::ExpectedColon => "a colon is expected",
            Self::ExpectedCommaOrEnd => "a comma or the closing bracket is expected",
            Self::TrailingComma => "a comma stands before the closing bracket",
            Self::TrailingText => "there is text after the value",
            Self::ControlCharacter => "a control character in a string is not escaped",
            Self::Escape => "the escape sequence is invalid",
            Self::Surrogate => "a surrogate in a string has no partner",
            Self::Number => "the number is malformed",
            Self::TooDeep => "the value is nested more than 127 deep",
        }
    }
}

/// What is wrong with the end of a value that was read already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BadEnd {
    Fault(Fault),
    /// A list, a map or a set has more entries than its reader takes.
    TooLong(&'static str),
    /// An attribute value has more than one type tag.
    SeveralTags,
}

/// A place in a JSON text.
#[derive(Debug)]
pub(super) struct Cursor<'a> {
    text: &'a str,
    /// What of the text is still to be read.
    rest: &'a str,
    depth_left: u8,
    bad_end: Option<BadEnd>,
}

impl<'a> Cursor<'a> {
    #[inline]
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, rest: text, depth_left: DEPTH_LIMIT, bad_end: None }
    }

    #[cold]
    pub(super) fn fault<T>(&self, problem: Problem) -> Result<T, Fault> {
        let problem = if self.rest.is_empty() { Problem::End } else { problem };
        Err(Fault { at: self.place(), problem })
    }

    #[inline]
    fn byte(&self) -> Option<u8> {
        self.rest.as_bytes().first().copied()
    }

    /// Passes so many bytes, which end beside an ASCII byte.
    #[inline]
    pub(super) fn advance(&mut self, bytes: usize) {
        self.rest = self.rest.get(bytes..).unwrap_or_default();
    }

    /// Byte offset in the text.
    #[inline]
    pub(super) fn place(&self) -> usize {
        self.text.len() - self.rest.len()
    }

    /// How many bytes are still to be read.
    pub(super) fn left(&self) -> usize {
        self.rest.len()
    }

    /// The text from `start` to here. Both stand beside ASCII bytes, so the slice exists.
    #[inline]
    pub(super) fn since(&self, start: usize) -> &'a str {
        self.text.get(start..self.place()).unwrap_or_default()
    }

    /// The next byte that is not white space, without passing it.
    #[inline]
    pub(super) fn peek(&mut self) -> Option<u8> {
        match self.byte() {
            Some(byte) if byte > b' ' => Some(byte),
            _ => self.peek_further(),
        }
    }

    #[cold]
    fn peek_further(&mut self) -> Option<u8> {
        self.rest = self.rest.trim_start_matches([' ', '\n', '\t', '\r']);
        self.byte()
    }

    /// Passes `byte`, an ASCII one, if it comes next.
    #[inline]
    pub(super) fn eat(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        if found {
            self.advance(1);
        }
        found
    }

    /// Fails unless only white space is left.
    #[inline]
    pub(super) fn end(&mut self) -> Result<(), Fault> {
        match self.peek() {
            None => Ok(()),
            Some(_) => self.fault(Problem::TrailingText),
        }
    }

    /// Passes the opening bracket that was peeked and counts it.
    #[inline]
    pub(super) fn enter(&mut self) -> Result<(), Fault> {
        if self.depth_left <= 1 {
            return self.fault(Problem::TooDeep);
        }
        self.depth_left -= 1;
        self.advance(1);
        Ok(())
    }

    /// Forgets the container left last.
    #[inline]
    pub(super) fn leave(&mut self) {
        self.depth_left += 1;
    }

    /// Fails if the value just read ended badly, or if more than white space is left.
    #[inline]
    pub(super) fn finish(&mut self) -> Result<(), BadEnd> {
        match self.bad_end {
            None => self.end().map_err(BadEnd::Fault),
            Some(end) => Err(end),
        }
    }

    /// Notes what is wrong with the end of the value just read. Who reads on has to ask for it.
    #[cold]
    pub(super) fn end_badly(&mut self, end: BadEnd) {
        self.bad_end.get_or_insert(end);
    }

    /// What was wrong with the end of the value just read.
    #[inline]
    pub(super) fn bad_end(&self) -> Option<BadEnd> {
        self.bad_end
    }

    /// In an array: moves to the next element and says so, or passes the closing bracket.
    #[inline]
    pub(super) fn next_element(&mut self, first: &mut bool) -> Result<bool, Fault> {
        match (*first, self.rest.as_bytes()) {
            (false, [b']', ..]) => {
                self.advance(1);
                Ok(false)
            }
            (false, [b',', b'{' | b'"' | b'[', ..]) => {
                self.advance(1);
                Ok(true)
            }
            (true, [b'{' | b'"' | b'[', ..]) => {
                *first = false;
                Ok(true)
            }
            _ => self.next_part(first, b']'),
        }
    }

    /// In an object: reads the next member's name and the colon, or passes the closing brace.
    #[inline]
    pub(super) fn next_member(&mut self, first: &mut bool) -> Result<Option<Cow<'a, str>>, Fault> {
        if let Some(name) = self.plain_member(first) {
            return Ok(Some(Cow::Borrowed(name)));
        }
        if self.plain("}") {
            return Ok(None);
        }
        self.next_member_slowly(first)
    }

    #[cold]
    fn next_member_slowly(&mut self, first: &mut bool) -> Result<Option<Cow<'a, str>>, Fault> {
        if !self.next_part(first, b'}')? {
            return Ok(None);
        }
        self.name().map(Some)
    }

    /// A member's name and the colon behind it.
    pub(super) fn name(&mut self) -> Result<Cow<'a, str>, Fault> {
        if self.peek() != Some(b'"') {
            return self.fault(Problem::ExpectedName);
        }
        let name = self.string()?;
        if self.eat(b':') { Ok(name) } else { self.fault(Problem::ExpectedColon) }
    }

    /// The name of the member that begins at `place`, or at the comma there.
    pub(super) fn name_at(&self, place: usize) -> String {
        let rest = self.text.get(place..).unwrap_or_default();
        let mut cursor = Self { rest, ..*self };
        cursor.eat(b',');
        cursor.name().map(Cow::into_owned).unwrap_or_default()
    }

    /// Like [`next_member`](Self::next_member), for names of which only some are known: one
    /// with a lone surrogate is none of them, and reads as empty.
    #[inline]
    pub(super) fn next_name(&mut self, first: &mut bool) -> Result<Option<Cow<'a, str>>, Fault> {
        if let Some(name) = self.plain_member(first) {
            return Ok(Some(Cow::Borrowed(name)));
        }
        if self.plain("}") {
            return Ok(None);
        }
        self.next_name_slowly(first)
    }

    #[cold]
    fn next_name_slowly(&mut self, first: &mut bool) -> Result<Option<Cow<'a, str>>, Fault> {
        if !self.next_part(first, b'}')? {
            return Ok(None);
        }
        if self.peek() != Some(b'"') {
            return self.fault(Problem::ExpectedName);
        }
        let name = self.text()?.unwrap_or_default();
        if self.eat(b':') { Ok(Some(name)) } else { self.fault(Problem::ExpectedColon) }
    }

    #[inline(never)]
    fn next_part(&mut self, first: &mut bool, close: u8) -> Result<bool, Fault> {
        let next = self.peek();
        if next == Some(close) {
            self.advance(1);
            return Ok(false);
        }
        if std::mem::take(first) {
            return if next.is_some() { Ok(true) } else { self.fault(Problem::End) };
        }
        if next != Some(b',') {
            return self.fault(Problem::ExpectedCommaOrEnd);
        }
        self.advance(1);
        if self.peek() == Some(close) { self.fault(Problem::TrailingComma) } else { Ok(true) }
    }

    /// Passes `word` (`true`, `false` or `null`).
    #[inline]
    pub(super) fn literal(&mut self, word: &str) -> Result<(), Fault> {
        if self.plain(word) { Ok(()) } else { self.fault(Problem::ExpectedValue) }
    }

    /// The number that comes next, if it is short; it is not passed.
    #[inline]
    pub(super) fn short_number(&self) -> Option<ShortNumber> {
        ShortNumber::at_start(self.rest.as_bytes())
    }

    /// The text of a number.
    #[inline]
    pub(super) fn number(&mut self) -> Result<&'a str, Fault> {
        self.peek();
        let bytes = self.rest.as_bytes();
        let digits = |from: usize| {
            let digits = bytes.get(from..).unwrap_or_default();
            from + digits.iter().take_while(|byte| byte.is_ascii_digit()).count()
        };
        let mut end = usize::from(bytes.first() == Some(&b'-'));
        end = match bytes.get(end) {
            Some(b'0') => end + 1,
            Some(b'1'..=b'9') => digits(end),
            _ => return self.malformed_number(end),
        };
        if bytes.get(end) == Some(&b'.') {
            let start = end + 1;
            end = digits(start);
            if end == start {
                return self.malformed_number(end);
            }
        }
        if let Some(b'e' | b'E') = bytes.get(end) {
            let start = end + 1 + usize::from(matches!(bytes.get(end + 1), Some(b'+' | b'-')));
            end = digits(start);
            if end == start {
                return self.malformed_number(end);
            }
        }
        let Some((number, rest)) = self.rest.split_at_checked(end) else {
            return self.malformed_number(end);
        };
        self.rest = rest;
        Ok(number)
    }

    #[cold]
    fn malformed_number<T>(&mut self, at: usize) -> Result<T, Fault> {
        self.advance(at);
        self.fault(Problem::Number)
    }
}

/// Whether `text` is one JSON number and nothing else.
pub(super) fn is_number(text: &str) -> bool {
    let mut cursor = Cursor::new(text);
    cursor.number().is_ok_and(|number| number.len() == text.len())
}

/// The 1-based line and column of a byte offset, counting characters.
pub(super) fn line_and_column(text: &[u8], at: usize) -> (usize, usize) {
    let before = text.get(..at).unwrap_or(text);
    let line = before.split(|&byte| byte == b'\n').count();
    let line_start = before.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
    let column = String::from_utf8_lossy(&before[line_start..]).chars().count() + 1;
    (line, column)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check_skip(text: &str, expected: Result<(), (usize, Problem)>) {
        let mut cursor = Cursor::new(text);
        let found = cursor.skip().and_then(|()| cursor.end());
        assert_eq!(found.map_err(|fault| (fault.at, fault.problem)), expected, "{text}");
    }

    #[test]
    fn what_is_skipped_has_to_balance() {
        check_skip(" {\"a\" : [1, -2.5e+3, true, null, {}]} ", Ok(()));
        check_skip("[1,]", Ok(()));
        check_skip("{\"a\" [}}", Ok(()));
        check_skip("\"a\nb\"", Ok(()));
        check_skip("\"\\x\"", Ok(()));
        check_skip("01", Ok(()));
        check_skip("truth", Ok(()));
        check_skip("", Err((0, Problem::End)));
        check_skip("[1, \"]\"", Err((7, Problem::End)));
        check_skip("\"abc", Err((4, Problem::End)));
        check_skip("\"abc\\\"", Err((6, Problem::End)));
        check_skip("1 1", Err((2, Problem::TrailingText)));
        check_skip("[]]", Err((2, Problem::TrailingText)));
        check_skip(",", Err((0, Problem::ExpectedValue)));
        check_skip("}", Err((0, Problem::ExpectedValue)));
    }

    #[test]
    fn a_skipped_value_may_be_deeper_than_a_decoded_one() {
        let deep = format!("{}{}", "[".repeat(5000), "]".repeat(5000));
        check_skip(&deep, Ok(()));
    }

    #[test]
    fn a_place_is_a_line_and_a_column_of_characters() {
        assert_eq!(line_and_column("ab\nüx".as_bytes(), 5), (2, 2));
        assert_eq!(line_and_column(b"", 0), (1, 1));
        assert_eq!(line_and_column(b"ab", 9), (1, 3));
    }

    proptest! {
        #[test]
        fn a_string_is_decoded_as_serde_json_decodes_it(
            parts in prop::collection::vec(
                prop_oneof![
                    "[ -~]{0,9}", "\\PC{0,5}", Just("\\u00e9".to_owned()),
                    Just("\\ud83d\\ude00".to_owned()), Just("\\ud83d".to_owned()),
                    Just("\\\"".to_owned()), Just("\\n".to_owned()), Just("\u{1}".to_owned()),
                ],
                0..6,
            ),
        ) {
            let text = format!("\"{}\"", parts.concat());
            let mut cursor = Cursor::new(&text);
            let ours = cursor.string().and_then(|found| cursor.end().map(|()| found.into_owned()));
            prop_assert_eq!(ours.ok(), serde_json::from_str::<String>(&text).ok());
            let mut cursor = Cursor::new(&text);
            let skipped = cursor.skip().and_then(|()| cursor.end()).is_ok();
            let ignored = serde_json::from_str::<serde::de::IgnoredAny>(&text).is_ok();
            prop_assert!(skipped || !ignored);
        }
    }
}
