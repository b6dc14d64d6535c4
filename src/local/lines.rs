//! Files of cases: one JSON object a line.

use std::io::{self, BufRead};

/// The lines that say something, with their numbers from 1. A byte order mark is no part of the
/// first.
pub(super) fn lines(input: impl BufRead) -> impl Iterator<Item = (usize, io::Result<String>)> {
    let lines = input.lines().enumerate().map(|(index, text)| {
        let text = text.map(|text| match text.strip_prefix('\u{feff}') {
            Some(unmarked) if index == 0 => unmarked.to_owned(),
            _ => text,
        });
        (index + 1, text)
    });
    lines.filter(|(_, text)| text.as_ref().map_or(true, |text| !text.trim().is_empty()))
}

/// What is wrong with a line. `serde_json` counts lines within the text it got, which is always
/// one line, so its own number is left out.
pub(super) fn found(error: &serde_json::Error) -> String {
    let found = error.to_string();
    found.rsplit_once(" at line ").map_or(found.as_str(), |(what, _)| what).to_owned()
}
