//! A cursor over JSON text: the one place where bytes of a payload become tokens.
//!
//! Separate from serde because the envelope is read without any type, values are cut out as
//! slices, and numbers keep their text. It accepts exactly what `serde_json` accepts: the
//! number grammar, control characters, escapes, lone surrogates (refused when a string is
//! decoded, passed over when it is skipped), at most 127 nested containers when decoding.
//! Strings are borrowed unless they have escapes. Nothing here can panic: every access to
//! the text is checked.
//!
//! What it gives up: the text must be UTF-8 throughout, where `serde_json` does not look
//! inside strings it skips.

mod skip;

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

/// A place in a JSON text.
#[derive(Debug)]
pub(super) struct Cursor<'a> {
    text: &'a str,
    at: usize,
    depth_left: u8,
    /// Open brackets while skipping; kept so that a payload allocates it once.
    open: Vec<u8>,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, at: 0, depth_left: DEPTH_LIMIT, open: Vec::new() }
    }

    pub(super) fn fault<T>(&self, problem: Problem) -> Result<T, Fault> {
        let problem = if self.at >= self.text.len() { Problem::End } else { problem };
        Err(Fault { at: self.at.min(self.text.len()), problem })
    }

    fn byte(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    /// The text from `start` to here. Both stand beside ASCII bytes, so the slice exists.
    pub(super) fn since(&self, start: usize) -> &'a str {
        self.text.get(start..self.at).unwrap_or_default()
    }

    pub(super) fn place(&self) -> usize {
        self.at
    }

    /// The next byte that is not white space, without passing it.
    pub(super) fn peek(&mut self) -> Option<u8> {
        loop {
            match self.byte() {
                Some(b' ' | b'\n' | b'\t' | b'\r') => self.at += 1,
                other => return other,
            }
        }
    }

    /// Passes `byte` if it comes next.
    pub(super) fn eat(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    /// Fails unless only white space is left.
    pub(super) fn end(&mut self) -> Result<(), Fault> {
        match self.peek() {
            None => Ok(()),
            Some(_) => self.fault(Problem::TrailingText),
        }
    }

    /// Passes the opening bracket that was peeked and counts it.
    pub(super) fn enter(&mut self) -> Result<(), Fault> {
        if self.depth_left <= 1 {
            return self.fault(Problem::TooDeep);
        }
        self.depth_left -= 1;
        self.at += 1;
        Ok(())
    }

    /// Forgets the container left last.
    pub(super) fn leave(&mut self) {
        self.depth_left += 1;
    }

    /// In an array: moves to the next element and says so, or passes the closing bracket.
    pub(super) fn next_element(&mut self, first: &mut bool) -> Result<bool, Fault> {
        self.next_part(first, b']')
    }

    /// In an object: reads the next member's name and the colon, or passes the closing brace.
    pub(super) fn next_member(&mut self, first: &mut bool) -> Result<Option<Cow<'a, str>>, Fault> {
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

    /// Like [`next_member`](Self::next_member), for names of which only some are known: one
    /// with a lone surrogate is none of them, and reads as empty.
    pub(super) fn next_name(&mut self, first: &mut bool) -> Result<Option<Cow<'a, str>>, Fault> {
        if !self.next_part(first, b'}')? {
            return Ok(None);
        }
        if self.peek() != Some(b'"') {
            return self.fault(Problem::ExpectedName);
        }
        let name = self.text()?.unwrap_or_default();
        if self.eat(b':') { Ok(Some(name)) } else { self.fault(Problem::ExpectedColon) }
    }

    fn next_part(&mut self, first: &mut bool, close: u8) -> Result<bool, Fault> {
        let next = self.peek();
        if next == Some(close) {
            self.at += 1;
            return Ok(false);
        }
        if std::mem::take(first) {
            return if next.is_some() { Ok(true) } else { self.fault(Problem::End) };
        }
        if next != Some(b',') {
            return self.fault(Problem::ExpectedCommaOrEnd);
        }
        self.at += 1;
        if self.peek() == Some(close) { self.fault(Problem::TrailingComma) } else { Ok(true) }
    }

    /// Passes `word` (`true`, `false` or `null`).
    pub(super) fn literal(&mut self, word: &str) -> Result<(), Fault> {
        let rest = self.text.as_bytes().get(self.at..).unwrap_or_default();
        if rest.starts_with(word.as_bytes()) {
            self.at += word.len();
            return Ok(());
        }
        self.fault(Problem::ExpectedValue)
    }

    /// The text of a number.
    pub(super) fn number(&mut self) -> Result<&'a str, Fault> {
        self.peek();
        let start = self.at;
        self.at += usize::from(self.byte() == Some(b'-'));
        match self.byte() {
            Some(b'0') => self.at += 1,
            Some(b'1'..=b'9') => self.digits()?,
            _ => return self.fault(Problem::Number),
        }
        if self.byte() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.byte() {
            self.at += 1;
            self.at += usize::from(matches!(self.byte(), Some(b'+' | b'-')));
            self.digits()?;
        }
        Ok(self.since(start))
    }

    fn digits(&mut self) -> Result<(), Fault> {
        let start = self.at;
        while self.byte().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        if self.at == start { self.fault(Problem::Number) } else { Ok(()) }
    }

    /// A string's characters, borrowed unless it has escapes.
    pub(super) fn string(&mut self) -> Result<Cow<'a, str>, Fault> {
        if self.peek() != Some(b'"') {
            return self.fault(Problem::ExpectedValue);
        }
        self.at += 1;
        let start = self.at;
        self.pass_plain();
        if self.byte() == Some(b'"') {
            let text = self.since(start);
            self.at += 1;
            return Ok(Cow::Borrowed(text));
        }
        self.escaped(start).map(Cow::Owned)
    }

    /// A string's characters, or none if the next value is of another type or holds a lone
    /// surrogate. Passes the value in any case.
    pub(super) fn text(&mut self) -> Result<Option<Cow<'a, str>>, Fault> {
        self.peek();
        let start = self.at;
        match self.string() {
            Ok(text) => Ok(Some(text)),
            Err(Fault { problem: Problem::Surrogate | Problem::ExpectedValue, .. }) => {
                self.at = start;
                self.skip()?;
                Ok(None)
            }
            Err(fault) => Err(fault),
        }
    }

    /// Moves to the next quote, backslash, control character or the end of the text.
    fn pass_plain(&mut self) {
        let bytes = self.text.as_bytes();
        while let Some(word) = bytes.get(self.at..).and_then(|rest| rest.first_chunk::<8>()) {
            let found = special_bytes(u64::from_le_bytes(*word));
            if found != 0 {
                self.at += found.trailing_zeros() as usize / 8;
                return;
            }
            self.at += 8;
        }
        while self.byte().is_some_and(|byte| byte >= 0x20 && byte != b'"' && byte != b'\\') {
            self.at += 1;
        }
    }

    /// The rest of a string that began at `start` and is plain up to here.
    #[cold]
    fn escaped(&mut self, start: usize) -> Result<String, Fault> {
        let mut text = String::from(self.since(start));
        loop {
            match self.byte() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(text);
                }
                Some(b'\\') => {
                    self.at += 1;
                    text.push(self.escape()?);
                }
                _ => return self.fault(Problem::ControlCharacter),
            }
            let start = self.at;
            self.pass_plain();
            text.push_str(self.since(start));
        }
    }

    /// The character an escape sequence stands for; the backslash is passed already.
    fn escape(&mut self) -> Result<char, Fault> {
        let Some(kind) = self.byte() else { return self.fault(Problem::End) };
        let plain = match kind {
            b'"' | b'\\' | b'/' => char::from(kind),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                self.at += 1;
                return self.unicode_escape();
            }
            _ => return self.fault(Problem::Escape),
        };
        self.at += 1;
        Ok(plain)
    }

    fn unicode_escape(&mut self) -> Result<char, Fault> {
        let mut code = self.four_hex_digits()?;
        if (0xD800..0xDC00).contains(&code) {
            let rest = self.text.as_bytes().get(self.at..).unwrap_or_default();
            if !rest.starts_with(b"\\u") {
                return self.fault(Problem::Surrogate);
            }
            self.at += 2;
            let low = self.four_hex_digits()?;
            if !(0xDC00..0xE000).contains(&low) {
                return self.fault(Problem::Surrogate);
            }
            code = 0x1_0000 + ((code - 0xD800) << 10) + (low - 0xDC00);
        }
        // Only a low surrogate without its high one is left to be refused here.
        char::from_u32(code).map_or_else(|| self.fault(Problem::Surrogate), Ok)
    }

    fn four_hex_digits(&mut self) -> Result<u32, Fault> {
        let mut code = 0;
        for _ in 0..4 {
            match self.byte().and_then(|byte| char::from(byte).to_digit(16)) {
                Some(digit) => code = code * 16 + digit,
                None => return self.fault(Problem::Escape),
            }
            self.at += 1;
        }
        Ok(code)
    }
}

/// Marks the bytes of a little-endian word that end a plain run of a string, by their high
/// bit. The lowest mark is exact; marks above it may be false, and are not looked at.
fn special_bytes(word: u64) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    let equal_to = |byte: u8| {
        let difference = word ^ (ONES * u64::from(byte));
        difference.wrapping_sub(ONES) & !difference
    };
    let control = word.wrapping_sub(ONES * 0x20) & !word;
    (equal_to(b'"') | equal_to(b'\\') | control) & HIGH
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
    fn a_fault_names_its_place() {
        check_skip(" {\"a\" : [1, -2.5e+3, true, null, {}]} ", Ok(()));
        check_skip("", Err((0, Problem::End)));
        check_skip("[1,]", Err((3, Problem::TrailingComma)));
        check_skip("{\"a\" 1}", Err((5, Problem::ExpectedColon)));
        check_skip("{1:1}", Err((1, Problem::ExpectedName)));
        check_skip("[1 2]", Err((3, Problem::ExpectedCommaOrEnd)));
        check_skip("[1}", Err((2, Problem::ExpectedCommaOrEnd)));
        check_skip("\"a\nb\"", Err((2, Problem::ControlCharacter)));
        check_skip("\"\\x\"", Err((2, Problem::Escape)));
        check_skip("\"\\u12g4\"", Err((5, Problem::Escape)));
        check_skip("01", Err((1, Problem::TrailingText)));
        check_skip("1.x", Err((2, Problem::Number)));
        check_skip("truth", Err((0, Problem::ExpectedValue)));
        check_skip("\"abc", Err((4, Problem::End)));
        check_skip("1 1", Err((2, Problem::TrailingText)));
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
        fn special_bytes_finds_what_a_scan_finds(bytes in prop::array::uniform8(any::<u8>())) {
            let scan = bytes.iter().position(|&b| b < 0x20 || b == b'"' || b == b'\\');
            let found = special_bytes(u64::from_le_bytes(bytes));
            let found = (found != 0).then(|| found.trailing_zeros() as usize / 8);
            prop_assert_eq!(found, scan);
        }

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
            prop_assert_eq!(skipped, ignored);
        }
    }
}
