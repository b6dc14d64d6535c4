//! Patterns, events and what AWS makes of them, one case a line, held against this matcher.
//!
//! A line is `{"name":…,"expect":"match"|"no-match"|"rejected","pattern":…,"event":…}`, and may
//! say where it comes from (`evidence`).

use super::{Event, Pattern, SyntaxError};
use crate::local::lines::{self, LineError, lines};
use serde::Deserialize;
use serde_json::{Value, value::RawValue};
use std::{fmt, io::BufRead};

/// What a pattern says of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// The event is what the pattern asks for.
    Match,
    /// It is not.
    NoMatch,
    /// AWS would not take the pattern.
    Rejected,
}

impl Verdict {
    /// Every verdict, in the order of a table.
    pub const ALL: [Self; 3] = [Self::Match, Self::NoMatch, Self::Rejected];
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Match => "match",
            Self::NoMatch => "no-match",
            Self::Rejected => "rejected",
        })
    }
}

/// What a run over all cases came to: how many expect a verdict (the row, in the order of
/// [`Verdict::ALL`]) and get one (the column).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CasesSummary {
    /// Counts by what is expected, then by what was found.
    pub counts: [[usize; 3]; 3],
}

impl CasesSummary {
    /// Cases read.
    #[must_use]
    pub fn cases(&self) -> usize {
        self.counts.iter().flatten().sum()
    }

    /// Cases with another verdict than expected.
    #[must_use]
    pub fn different(&self) -> usize {
        self.cases() - (0..3).map(|at| self.counts[at][at]).sum::<usize>()
    }
}

/// Why the cases could not be run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CasesError {
    /// A line cannot be read, or is no case.
    #[error(transparent)]
    Line(#[from] LineError),
    /// A line's event is no JSON document.
    #[error("line {line}: the event is {source}")]
    Event {
        /// Counted from 1.
        line: usize,
        /// Where in the event.
        #[source]
        source: SyntaxError,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written<'t> {
    name: Value,
    /// Where the expectation comes from; changes nothing.
    #[serde(default, rename = "evidence")]
    _evidence: Value,
    expect: Verdict,
    /// As it is written: a repeated key is two.
    #[serde(borrow)]
    pattern: &'t RawValue,
    #[serde(borrow)]
    event: &'t RawValue,
}

/// Runs every case. `difference` gets one line of text for each that differs.
///
/// # Errors
/// The input cannot be read, or a line is no case: the error names the line.
pub fn cases(
    input: impl BufRead,
    mut difference: impl FnMut(&str),
) -> Result<CasesSummary, CasesError> {
    let mut summary = CasesSummary::default();
    for line in lines(input) {
        let (line, text) = line?;
        let case: Written<'_> = lines::parse(&text, line)?;
        let (verdict, reason) = match Pattern::parse(case.pattern.get()) {
            Err(error) => (Verdict::Rejected, format!(": {error}")),
            Ok(pattern) => {
                let event = Event::parse(case.event.get())
                    .map_err(|source| CasesError::Event { line, source })?;
                let verdict =
                    if pattern.matches(&event) { Verdict::Match } else { Verdict::NoMatch };
                (verdict, String::new())
            }
        };
        summary.counts[case.expect as usize][verdict as usize] += 1;
        if verdict != case.expect {
            let name = lines::name(&case.name);
            let expected = case.expect;
            difference(&format!("line {line}: {name}: expected {expected}, got {verdict}{reason}"));
        }
    }
    Ok(summary)
}
