//! Passing values without reading them.
//!
//! Separate because it will change: what is passed is checked byte by byte for now. It is
//! checked as `serde_json` checks what it ignores: everything but surrogates and depth.

use super::{Cursor, Fault, Problem};

impl<'a> Cursor<'a> {
    /// Passes one value and returns its text.
    pub(in crate::event) fn raw(&mut self) -> Result<&'a str, Fault> {
        self.peek();
        let start = self.at;
        self.skip()?;
        Ok(self.since(start))
    }

    /// Passes one value of any depth, without recursion.
    pub(in crate::event) fn skip(&mut self) -> Result<(), Fault> {
        self.open.clear();
        loop {
            let opened = if let Some(open @ (b'{' | b'[')) = self.peek() {
                self.at += 1;
                self.open.push(open);
                true
            } else {
                self.skip_scalar()?;
                false
            };
            if self.skip_to_next_value(opened)? {
                return Ok(());
            }
        }
    }

    /// Closes what ends here and passes the comma and name before the next value; says
    /// whether the outermost value is finished.
    fn skip_to_next_value(&mut self, opened: bool) -> Result<bool, Fault> {
        let mut first = opened;
        while let Some(&open) = self.open.last() {
            let object = open == b'{';
            if self.next_part(&mut first, if object { b'}' } else { b']' })? {
                if object {
                    if self.peek() != Some(b'"') {
                        return self.fault(Problem::ExpectedName);
                    }
                    self.skip_string()?;
                    if !self.eat(b':') {
                        return self.fault(Problem::ExpectedColon);
                    }
                }
                return Ok(false);
            }
            self.open.pop();
            first = false;
        }
        Ok(true)
    }

    fn skip_scalar(&mut self) -> Result<(), Fault> {
        match self.peek() {
            Some(b'"') => self.skip_string(),
            Some(b't') => self.literal("true"),
            Some(b'f') => self.literal("false"),
            Some(b'n') => self.literal("null"),
            Some(b'-' | b'0'..=b'9') => self.number().map(drop),
            _ => self.fault(Problem::ExpectedValue),
        }
    }

    /// Passes a string; the opening quote comes next.
    fn skip_string(&mut self) -> Result<(), Fault> {
        self.at += 1;
        loop {
            self.pass_plain();
            match self.byte() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(());
                }
                Some(b'\\') => {
                    self.at += 1;
                    match self.byte() {
                        Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => {
                            self.at += 1;
                        }
                        Some(b'u') => {
                            self.at += 1;
                            self.four_hex_digits()?;
                        }
                        _ => return self.fault(Problem::Escape),
                    }
                }
                _ => return self.fault(Problem::ControlCharacter),
            }
        }
    }
}
