//! Files of cases: one JSON object a line.

use serde::Deserialize;
use serde_json::Value;
use std::io::{self, BufRead};

/// Why a line cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LineError {
    /// The input cannot be read.
    #[error("line {line}: the cases cannot be read")]
    Read {
        /// Counted from 1.
        line: usize,
        /// What the reader said.
        #[source]
        source: io::Error,
    },
    /// A line is no case: broken JSON, or a key or value we do not know.
    #[error("line {line}, column {column}: {found}")]
    Case {
        /// Counted from 1.
        line: usize,
        /// Where in the line, counted from 1.
        column: usize,
        /// What was found, naming the key.
        found: String,
    },
}

/// The lines that say something, with their numbers from 1. A byte order mark is no part of the
/// first.
pub(super) fn lines(
    input: impl BufRead,
) -> impl Iterator<Item = Result<(usize, String), LineError>> {
    let lines = input.lines().enumerate().map(|(index, text)| {
        let line = index + 1;
        let text = text.map_err(|source| LineError::Read { line, source })?;
        Ok((
            line,
            match text.strip_prefix('\u{feff}') {
                Some(unmarked) if index == 0 => unmarked.to_owned(),
                _ => text,
            },
        ))
    });
    lines.filter(|line| line.as_ref().map_or(true, |(_, text)| !text.trim().is_empty()))
}

/// Reads the case that a line is.
pub(super) fn parse<'t, T: Deserialize<'t>>(text: &'t str, line: usize) -> Result<T, LineError> {
    serde_json::from_str(text).map_err(|error| {
        // `serde_json` counts lines within the text it got, which is always one line.
        let found = error.to_string();
        let found = found.rsplit_once(" at line ").map_or(found.as_str(), |(what, _)| what);
        LineError::Case { line, column: error.column(), found: found.to_owned() }
    })
}

/// How a case calls itself: any JSON.
pub(super) fn name(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
