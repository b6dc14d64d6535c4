//! Cases in, call sequences out: the mapping alone, against a function described in a line.
//!
//! Separate from the run over fixtures because a record has no content but what its case says:
//! record i has sequence number `i` and holds `n` = i. The function is a rule over these numbers,
//! and time is virtual. Unless a case gives its records several keys, all are changes of one item,
//! and stay in one sub-lane whatever `ParallelizationFactor` says.

mod case;
mod contents;
mod order;
mod play;
mod seconds;
mod trace;

pub use self::case::Print;
pub(super) use self::{
    case::{Case, Discarded, Function},
    trace::Trace,
};
use super::{
    lines::{self, LineError, lines},
    mapping::{ParameterError, ReadingError},
};
use std::io::{self, BufRead, Write};

/// After this many calls a case is given up as unfinished, and after as many attempts in a row that
/// make none.
pub const CALLS_MAX: usize = 10_000;

/// What is asked of all cases.
#[derive(Debug, Clone, Default)]
pub struct Asked {
    /// Whether each result is held against the case's `expect`.
    pub check: bool,
    /// What is printed of each case, beside what it asks for itself.
    pub print: Vec<Print>,
    /// Names and values of readings, for all that a case does not say itself.
    pub readings: Vec<(String, String)>,
}

/// What a run over all cases came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SimulateSummary {
    /// Cases read.
    pub cases: usize,
    /// Cases that differ from their `expect`; zero unless checked.
    pub different: usize,
}

/// Why the cases could not be run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SimulateError {
    /// A line cannot be read, or is no case.
    #[error(transparent)]
    Line(#[from] LineError),
    /// A case's `mapping` has something AWS or the desk does not take.
    #[error("line {line}: {error}")]
    Parameter {
        /// Counted from 1.
        line: usize,
        /// Which parameter and why.
        error: ParameterError,
    },
    /// A case's `readings` have something that is no reading.
    #[error("line {line}: {error}")]
    Reading {
        /// Counted from 1.
        line: usize,
        /// Which and why.
        error: ReadingError,
    },
    /// A reading chosen for all cases is no reading.
    #[error("--reading: {0}")]
    ReadingForAll(#[source] ReadingError),
    /// A case contradicts itself.
    #[error("line {line}: {found}")]
    Contradiction {
        /// Counted from 1.
        line: usize,
        /// What cannot be, naming the record, shard or member.
        found: String,
    },
    /// The result cannot be written.
    #[error("the result cannot be written")]
    Write(#[source] io::Error),
}

/// Runs every case and writes one line for each, in input order.
///
/// If it is asked to check, each result is held against the case's `expect`, and `difference`
/// gets one line of text for each difference.
///
/// # Errors
/// - A reading chosen for all cases is none.
/// - The input cannot be read, or the output not written.
/// - A line is no case: the error names the line and the key.
pub fn simulate(
    input: impl BufRead,
    mut output: impl Write,
    asked: &Asked,
    mut difference: impl FnMut(&str),
) -> Result<SimulateSummary, SimulateError> {
    case::check_readings(&asked.readings).map_err(SimulateError::ReadingForAll)?;
    let mut summary = SimulateSummary::default();
    for line in lines(input) {
        let (line, text) = line?;
        let case = Case::with(&text, line, &asked.readings)?;
        let prints = |print: Print| asked.print.contains(&print) || case.print.contains(&print);
        let checks = |print: Print| asked.check && case.expects(print);
        let trace = Trace::new(case.id.clone(), |print| prints(print) || checks(print));
        let trace = play::play(&case, trace);
        let differences = asked.check.then(|| trace.differences(case.expect.as_ref()));
        serde_json::to_writer(&mut output, &trace.printed(prints))
            .map_err(|error| SimulateError::Write(error.into()))?;
        output.write_all(b"\n").map_err(SimulateError::Write)?;
        summary.cases += 1;
        let differences = differences.unwrap_or_default();
        summary.different += usize::from(!differences.is_empty());
        let id = lines::name(&case.id);
        for text in differences {
            difference(&format!("{id}: {text}"));
        }
    }
    output.flush().map_err(SimulateError::Write)?;
    Ok(summary)
}

pub(super) fn run(case: &Case) -> Trace {
    play::play(case, Trace::new(case.id.clone(), |_| false))
}
