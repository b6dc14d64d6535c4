//! JSON, told piece by piece to whoever listens.
//!
//! Separate from `serde_json` because filters need what its values drop: a key that stands
//! twice, the digits of a number, and any depth of nesting. The reader keeps its own stack, so
//! a document of a million brackets costs memory and no more, and it looks at each byte a
//! bounded number of times. What it gives up: half of a surrogate pair becomes U+FFFD.

use std::borrow::Cow;

/// What listens to a document. Calls are as well nested as the document is.
pub(super) trait Sink<'t> {
    fn null(&mut self);
    fn boolean(&mut self, value: bool);
    /// A number as it is written.
    fn number(&mut self, text: &'t str);
    fn string(&mut self, text: Cow<'t, str>);
    fn begin_array(&mut self);
    fn begin_object(&mut self);
    /// The key of the member that comes next.
    fn key(&mut self, key: Cow<'t, str>);
    /// The innermost array or object is over.
    fn end(&mut self);
}

/// Why a text is no JSON document.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("broken JSON at byte {at}: {found}, expected {expected}")]
pub struct SyntaxError {
    /// Counted from 1.
    pub at: usize,
    /// What stands there.
    pub found: String,
    /// What could.
    pub expected: &'static str,
}

/// Reads one document. On an error the sink has heard its beginning.
pub(super) fn read<'t>(text: &'t str, sink: &mut impl Sink<'t>) -> Result<(), SyntaxError> {
    let mut reader = Reader { text, at: 0 };
    // What is open, from the outside in: whether it is an object.
    let mut open: Vec<bool> = Vec::new();
    loop {
        let has_begun = reader.value(sink, &mut open)?;
        if !has_begun {
            loop {
                let Some(&is_object) = open.last() else {
                    return match reader.peek() {
                        None => Ok(()),
                        Some(_) => Err(reader.error("the end of the text")),
                    };
                };
                match reader.peek() {
                    Some(b',') => {
                        reader.at += 1;
                        if is_object {
                            reader.key(sink)?;
                        }
                        break;
                    }
                    Some(b'}') if is_object => reader.close(sink, &mut open),
                    Some(b']') if !is_object => reader.close(sink, &mut open),
                    _ if is_object => return Err(reader.error("`,` or `}`")),
                    _ => return Err(reader.error("`,` or `]`")),
                }
            }
        }
    }
}

struct Reader<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Reader<'t> {
    /// The next byte that is no white space.
    fn peek(&mut self) -> Option<u8> {
        let rest = &self.text.as_bytes()[self.at..];
        let blank = rest.iter().take_while(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r'));
        self.at += blank.count();
        self.text.as_bytes().get(self.at).copied()
    }

    fn error(&self, expected: &'static str) -> SyntaxError {
        let found = match self.text[self.at..].chars().next() {
            Some(found) => format!("`{}`", found.escape_debug()),
            None => "the end".to_owned(),
        };
        SyntaxError { at: self.at + 1, found, expected }
    }

    /// One scalar, or the beginning of something that has a value next; tells whether it has.
    fn value(
        &mut self,
        sink: &mut impl Sink<'t>,
        open: &mut Vec<bool>,
    ) -> Result<bool, SyntaxError> {
        match self.peek() {
            Some(b'{') => {
                self.at += 1;
                open.push(true);
                sink.begin_object();
                if self.peek() == Some(b'}') {
                    self.close(sink, open);
                    return Ok(false);
                }
                self.key(sink)?;
                return Ok(true);
            }
            Some(b'[') => {
                self.at += 1;
                open.push(false);
                sink.begin_array();
                if self.peek() == Some(b']') {
                    self.close(sink, open);
                    return Ok(false);
                }
                return Ok(true);
            }
            Some(b'"') => sink.string(self.string()?),
            Some(b'-' | b'0'..=b'9') => sink.number(self.number()?),
            _ if self.takes("null") => sink.null(),
            _ if self.takes("true") => sink.boolean(true),
            _ if self.takes("false") => sink.boolean(false),
            _ => return Err(self.error("a value")),
        }
        Ok(false)
    }

    fn close(&mut self, sink: &mut impl Sink<'t>, open: &mut Vec<bool>) {
        self.at += 1;
        open.pop();
        sink.end();
    }

    fn key(&mut self, sink: &mut impl Sink<'t>) -> Result<(), SyntaxError> {
        if self.peek() != Some(b'"') {
            return Err(self.error("a key in quotes"));
        }
        sink.key(self.string()?);
        if self.peek() != Some(b':') {
            return Err(self.error("`:`"));
        }
        self.at += 1;
        Ok(())
    }

    fn takes(&mut self, word: &str) -> bool {
        let is_next = self.text[self.at..].starts_with(word);
        self.at += if is_next { word.len() } else { 0 };
        is_next
    }

    fn digits(&mut self) -> Result<(), SyntaxError> {
        let rest = &self.text.as_bytes()[self.at..];
        let count = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        self.at += count;
        if count == 0 { Err(self.error("a digit")) } else { Ok(()) }
    }

    fn number(&mut self) -> Result<&'t str, SyntaxError> {
        let start = self.at;
        self.takes("-");
        // No number has a zero before its other digits.
        if !self.takes("0") {
            self.digits()?;
        }
        if self.takes(".") {
            self.digits()?;
        }
        if self.takes("e") || self.takes("E") {
            if !self.takes("+") {
                self.takes("-");
            }
            self.digits()?;
        }
        Ok(&self.text[start..self.at])
    }

    /// The text in quotes that begins here; borrowed unless something in it is escaped.
    fn string(&mut self) -> Result<Cow<'t, str>, SyntaxError> {
        self.at += 1;
        let mut decoded: Option<String> = None;
        loop {
            let start = self.at;
            let rest = &self.text.as_bytes()[start..];
            let plain = rest.iter().take_while(|byte| !matches!(byte, b'"' | b'\\' | 0..=0x1f));
            self.at += plain.count();
            let plain = &self.text[start..self.at];
            match self.text.as_bytes().get(self.at) {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(match decoded {
                        None => Cow::Borrowed(plain),
                        Some(text) => Cow::Owned(text + plain),
                    });
                }
                Some(b'\\') => {
                    let text = decoded.get_or_insert_default();
                    text.push_str(plain);
                    self.at += 1;
                    text.push(self.escaped()?);
                }
                _ => return Err(self.error("`\"` at the end of a text")),
            }
        }
    }

    /// What stands after a backslash.
    fn escaped(&mut self) -> Result<char, SyntaxError> {
        let found = match self.text.as_bytes().get(self.at) {
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'/') => '/',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => {
                self.at += 1;
                return self.unicode();
            }
            _ => return Err(self.error("an escape that JSON knows")),
        };
        self.at += 1;
        Ok(found)
    }

    fn unicode(&mut self) -> Result<char, SyntaxError> {
        let first = self.unit()?;
        if let Some(found) = char::from_u32(first) {
            return Ok(found);
        }
        let is_high = (0xd800..0xdc00).contains(&first);
        let after = self.at;
        if is_high && self.takes("\\u") {
            let second = self.unit()?;
            if (0xdc00..0xe000).contains(&second) {
                let joined = 0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00);
                return Ok(char::from_u32(joined).unwrap_or(char::REPLACEMENT_CHARACTER));
            }
            self.at = after;
        }
        Ok(char::REPLACEMENT_CHARACTER)
    }

    /// Four hexadecimal digits.
    fn unit(&mut self) -> Result<u32, SyntaxError> {
        let digits = self.text.as_bytes().get(self.at..self.at + 4);
        let digits = digits.filter(|digits| digits.iter().all(u8::is_ascii_hexdigit));
        let unit = digits
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u32::from_str_radix(digits, 16).ok());
        let unit = unit.ok_or_else(|| self.error("four hexadecimal digits"))?;
        self.at += 4;
        Ok(unit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Write as _;

    /// Writes what it hears, one word for each call.
    #[derive(Default)]
    struct Heard(String);

    impl<'t> Sink<'t> for Heard {
        fn null(&mut self) {
            self.0.push_str("null ");
        }
        fn boolean(&mut self, value: bool) {
            write!(self.0, "{value} ").unwrap();
        }
        fn number(&mut self, text: &'t str) {
            write!(self.0, "{text} ").unwrap();
        }
        fn string(&mut self, text: Cow<'t, str>) {
            write!(self.0, "{text:?} ").unwrap();
        }
        fn begin_array(&mut self) {
            self.0.push_str("[ ");
        }
        fn begin_object(&mut self) {
            self.0.push_str("{ ");
        }
        fn key(&mut self, key: Cow<'t, str>) {
            write!(self.0, "{key}: ").unwrap();
        }
        fn end(&mut self) {
            self.0.push_str("end ");
        }
    }

    #[track_caller]
    fn check(text: &str, expected: &str) {
        let mut heard = Heard::default();
        let heard = match read(text, &mut heard) {
            Ok(()) => heard.0.trim_end().to_owned(),
            Err(error) => error.to_string(),
        };
        assert_eq!(heard, expected, "{text}");
    }

    #[test]
    fn a_document_is_told_in_its_order_with_what_stands_twice() {
        check(
            r#" {"a":[1,-0.50e+3,[]] , "a":{"b":null},"c":[true,false,{}]} "#,
            "{ a: [ 1 -0.50e+3 [ end end a: { b: null end c: [ true false { end end end",
        );
        check(r#""\u00e9\ud83d\ude80\n\"\/""#, "\"é🚀\\n\\\"/\"");
        check(r#""\ud83dx\udc00""#, "\"\u{fffd}x\u{fffd}\"");
        check(r#""\ud83d\u0041""#, "\"\u{fffd}A\"");
    }

    #[test]
    fn a_broken_document_names_the_byte_and_what_could_stand_there() {
        for (text, expected) in [
            ("", "byte 1: the end, expected a value"),
            ("[1,]", "byte 4: `]`, expected a value"),
            ("[1 2]", "byte 4: `2`, expected `,` or `]`"),
            ("{\"a\" 1}", "byte 6: `1`, expected `:`"),
            ("{a:1}", "byte 2: `a`, expected a key in quotes"),
            ("{\"a\":1,}", "byte 8: `}`, expected a key in quotes"),
            ("{\"a\":1]", "byte 7: `]`, expected `,` or `}`"),
            ("01", "byte 2: `1`, expected the end of the text"),
            ("1.", "byte 3: the end, expected a digit"),
            ("-", "byte 2: the end, expected a digit"),
            ("\"a", "byte 3: the end, expected `\"` at the end of a text"),
            ("\"a\nb\"", "byte 3: `\\n`, expected `\"` at the end of a text"),
            (r#""\x""#, "byte 3: `x`, expected an escape that JSON knows"),
            (r#""\u12g4""#, "byte 4: `1`, expected four hexadecimal digits"),
            (r#""\u12"#, "byte 4: `1`, expected four hexadecimal digits"),
            ("nul", "byte 1: `n`, expected a value"),
            ("[", "byte 2: the end, expected a value"),
        ] {
            check(text, &format!("broken JSON at {expected}"));
        }
    }

    #[test]
    fn any_depth_is_read_without_the_threads_stack() {
        let depth = 1_000_000;
        let text = "[".repeat(depth) + &"]".repeat(depth);
        let mut heard = Heard::default();
        read(&text, &mut heard).unwrap();
        assert_eq!(heard.0.len(), depth * "[ end ".len());
    }
}
