//! Strings and their escapes.
//!
//! A string is borrowed unless it has escapes. It is separate from the cursor because escapes,
//! surrogates and control characters have rules of their own; they are `serde_json`'s.

use super::{Cursor, Fault, Problem, scan};
use std::borrow::Cow;

impl<'a> Cursor<'a> {
    /// A string's characters, borrowed unless it has escapes.
    #[inline]
    pub(in crate::event) fn string(&mut self) -> Result<Cow<'a, str>, Fault> {
        match self.plain_string() {
            Some(text) => Ok(Cow::Borrowed(text)),
            None => self.string_slowly(),
        }
    }

    #[cold]
    fn string_slowly(&mut self) -> Result<Cow<'a, str>, Fault> {
        if self.peek() != Some(b'"') {
            return self.fault(Problem::ExpectedValue);
        }
        if let Some(text) = self.plain_string() {
            return Ok(Cow::Borrowed(text));
        }
        self.advance(1);
        self.escaped().map(Cow::Owned)
    }

    /// A string's characters, or none if the next value is of another type or holds a lone
    /// surrogate. Passes the value in any case.
    #[inline]
    pub(in crate::event) fn text(&mut self) -> Result<Option<Cow<'a, str>>, Fault> {
        match self.plain_string() {
            Some(text) => Ok(Some(Cow::Borrowed(text))),
            None => self.text_slowly(),
        }
    }

    #[cold]
    fn text_slowly(&mut self) -> Result<Option<Cow<'a, str>>, Fault> {
        self.peek();
        let start = self.rest;
        match self.string() {
            Ok(text) => Ok(Some(text)),
            Err(Fault { problem: Problem::Surrogate | Problem::ExpectedValue, .. }) => {
                self.rest = start;
                self.skip()?;
                Ok(None)
            }
            Err(fault) => Err(fault),
        }
    }

    /// The rest of a string behind its opening quote.
    fn escaped(&mut self) -> Result<String, Fault> {
        // Escapes are longer than what they stand for.
        let len = scan::string_len(self.rest.as_bytes()).unwrap_or_default();
        let mut text = String::with_capacity(len);
        loop {
            let (plain, rest) = scan::split_plain(self.rest);
            text.push_str(plain);
            self.rest = rest;
            if self.plain("\"") {
                return Ok(text);
            }
            if !self.plain("\\") {
                return self.fault(Problem::ControlCharacter);
            }
            text.push(self.escape()?);
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
                self.advance(1);
                return self.unicode_escape();
            }
            _ => return self.fault(Problem::Escape),
        };
        self.advance(1);
        Ok(plain)
    }

    fn unicode_escape(&mut self) -> Result<char, Fault> {
        let mut code = self.four_hex_digits()?;
        if (0xD800..0xDC00).contains(&code) {
            if !self.plain("\\u") {
                return self.fault(Problem::Surrogate);
            }
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
            self.advance(1);
        }
        Ok(code)
    }
}
