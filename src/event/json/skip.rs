//! Passing values without reading them.
//!
//! Separate because the rule is another: what is passed has to balance, and nothing else is
//! looked at. So a payload costs what is read of it, and what is wrong in the rest surfaces
//! when somebody asks for it. What `serde_json` accepts is passed as a whole; no value it
//! accepts is cut elsewhere.

use super::{Cursor, Fault, Problem, scan};

impl<'a> Cursor<'a> {
    /// Passes one value and returns its text.
    #[inline]
    pub(in crate::event) fn raw(&mut self) -> Result<&'a str, Fault> {
        self.peek();
        let start = self.place();
        self.skip()?;
        Ok(self.since(start))
    }

    /// Passes one value of any depth.
    #[inline]
    pub(in crate::event) fn skip(&mut self) -> Result<(), Fault> {
        match self.peek() {
            Some(b'"') => self.skip_string(),
            Some(b'{' | b'[') => {
                let len =
                    scan::container_len(self.rest.as_bytes()).ok_or_else(|| self.open_ended())?;
                self.advance(len);
                Ok(())
            }
            _ => self.skip_word(),
        }
    }

    #[inline]
    fn skip_string(&mut self) -> Result<(), Fault> {
        self.advance(1);
        // Most strings are short and have no escapes.
        let len = scan::short_string_len(self.rest.as_bytes())
            .or_else(|| scan::string_len(self.rest.as_bytes()))
            .ok_or_else(|| self.open_ended())?;
        self.advance(len + 1);
        Ok(())
    }

    #[cold]
    fn open_ended(&self) -> Fault {
        Fault { at: self.text.len(), problem: Problem::End }
    }

    /// Passes what is no string and has no brackets: up to the next byte that cannot be part
    /// of a number or a literal.
    fn skip_word(&mut self) -> Result<(), Fault> {
        let is_part =
            |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'+' | b'.');
        let bytes = self.rest.as_bytes();
        let len = bytes.iter().position(|byte| !is_part(byte)).unwrap_or(bytes.len());
        if len == 0 {
            return self.fault(Problem::ExpectedValue);
        }
        self.advance(len);
        Ok(())
    }
}
