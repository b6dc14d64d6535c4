//! How much of an error is told.
//!
//! The texts of a processor's errors are its author's, and some quote what they refuse. So a
//! function logs them within a bound, or, where even that is too much, codes alone.

use std::{
    error::Error,
    fmt::{self, Write as _},
    sync::atomic::{AtomicBool, Ordering},
};

/// The most of an error and its causes that is told, in bytes.
pub const ERROR_BYTES_MAX: usize = 1_024;

/// Whether the process tells codes alone. It is the log's, of which a process has one.
static CODES_ALONE: AtomicBool = AtomicBool::new(false);

/// How much of an error is logged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LogErrors {
    /// Its text and its causes', [`ERROR_BYTES_MAX`] bytes at most.
    #[default]
    Bounded,
    /// Its code.
    Codes,
}

impl LogErrors {
    /// Makes it the way of this process.
    pub(super) fn install(self) {
        CODES_ALONE.store(self == Self::Codes, Ordering::Relaxed);
    }
}

/// Whether errors are told by their codes alone.
pub(crate) fn is_codes_alone() -> bool {
    CODES_ALONE.load(Ordering::Relaxed)
}

/// What a log line says of an error beside its code.
pub(super) fn told<'e>(
    error: &'e (dyn Error + 'static),
) -> Option<tracing::field::DisplayValue<Bounded<'e>>> {
    (!is_codes_alone()).then(|| tracing::field::display(Bounded(error)))
}

/// An error with everything it came from, outermost first.
pub(crate) struct Chain<'e>(pub(crate) &'e (dyn Error + 'static));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut next = Some(self.0);
        let mut separator = "";
        while let Some(error) = next {
            write!(f, "{separator}{error}")?;
            separator = ": ";
            next = error.source();
        }
        Ok(())
    }
}

/// A [`Chain`], cut where it is too long.
pub(crate) struct Bounded<'e>(pub(crate) &'e (dyn Error + 'static));

impl fmt::Display for Bounded<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut cutter = Cutter { f, left: ERROR_BYTES_MAX, is_cut: false };
        // What was cut ends the writing with an error, which is no failure.
        let written = write!(cutter, "{}", Chain(self.0));
        if cutter.is_cut { f.write_str("… (cut)") } else { written }
    }
}

struct Cutter<'f, 'b> {
    f: &'f mut fmt::Formatter<'b>,
    left: usize,
    is_cut: bool,
}

impl fmt::Write for Cutter<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if text.len() <= self.left {
            self.left -= text.len();
            return self.f.write_str(text);
        }
        let fits = text.floor_char_boundary(self.left);
        self.left = 0;
        self.is_cut = true;
        self.f.write_str(&text[..fits])?;
        Err(fmt::Error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Told {
        text: String,
        source: Option<Box<Told>>,
    }

    fn told(text: &str, source: Option<Told>) -> Told {
        Told { text: text.to_owned(), source: source.map(Box::new) }
    }

    #[test]
    fn an_error_is_told_whole_while_it_is_short() {
        let error = told("outer", Some(told("inner", None)));
        assert_eq!(Bounded(&error).to_string(), "outer: inner");
    }

    #[test]
    fn a_long_error_is_cut_between_two_characters() {
        let long = "é".repeat(ERROR_BYTES_MAX);
        let text = Bounded(&told("x", Some(told(&long, None)))).to_string();
        let kept = text.strip_suffix("… (cut)").unwrap();
        // `x: ` leaves an odd number of bytes, of which the last one stays free.
        assert_eq!(kept.len(), ERROR_BYTES_MAX - 1);
        let exact = "x".repeat(ERROR_BYTES_MAX);
        assert_eq!(Bounded(&told(&exact, None)).to_string(), exact);
    }
}
