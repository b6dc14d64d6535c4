//! What another emulator makes of an event source mapping, held against the rules that the desk
//! follows.
//!
//! The cases are changefold's own, in the format of `simulate`; each is an example of a rule of
//! `docs/fidelity.md` and says what that rests on. For each one a stream is written, a function
//! and a mapping are made through the emulator's own Lambda API, and what the function was
//! called with and what reached the destination is compared. The function asks this process what
//! to do, so it is the same for all cases. What it gives up: nothing is measured of time, and an
//! emulator in a container has to be told how it reaches this process.

mod called;
mod emulator;
mod observed;
mod services;
mod zip;

use super::{
    lines::lines,
    simulate::{self, Case, SimulateError},
};
use emulator::Emulator;
use observed::Observed;
pub use services::ServiceError;
use std::{fs, io, net::SocketAddr, path::Path, time::Duration};

/// The cases, one a line.
const CASES: &str = include_str!("conformance/cases.jsonl");
/// What is deployed for each of them.
const FUNCTION: &str = include_str!("conformance/function.py");
/// What the members of a case mean.
const FORMAT: &str = include_str!("conformance/SUITE.md");

/// How an emulator is reached, and how long it is waited for.
#[derive(Debug, Clone)]
pub struct Asked {
    /// The endpoint of all its services, without a slash at the end.
    pub endpoint_url: String,
    /// Where this process listens for the functions.
    pub listen: SocketAddr,
    /// How functions reach that address, if it is not by it.
    pub callback_url: Option<String>,
    /// The functions' `Runtime`.
    pub runtime: String,
    /// How long a call that is expected is waited for.
    pub patience: Duration,
}

/// What came of one case.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Row {
    /// The case.
    pub case: String,
    /// The rule of `docs/fidelity.md` that it is an example of.
    pub rule: String,
    /// What the rule rests on.
    pub evidence: String,
    /// What is asked.
    pub what: String,
    /// What the rule says: calls and what reaches the destination.
    pub expected: String,
    /// What the emulator did.
    pub found: String,
    /// Whether they are the same.
    pub verdict: Verdict,
}

/// Whether an emulator did what the rule says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It did.
    Agrees,
    /// It did something else.
    Differs,
    /// It took no such stream, function or mapping.
    Refused,
}

impl Verdict {
    /// The word in the table.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Agrees => "agrees",
            Self::Differs => "differs",
            Self::Refused => "refused",
        }
    }
}

/// Why no case could be run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConformanceError {
    /// The cases cannot be read.
    #[error(transparent)]
    Case(#[from] SimulateError),
    /// No case has this name.
    #[error("no case is called `{0}`; `changefold conformance write DIR` writes all of them")]
    Unknown(String),
    /// The endpoint is one of AWS's own.
    #[error("{0} is AWS itself; tables and functions are made and deleted in emulators only")]
    Aws(String),
    /// The address cannot be listened at.
    #[error("{address} cannot be listened at")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// The emulator does not answer at all.
    #[error("the emulator cannot be used")]
    Emulator(#[source] ServiceError),
}

/// Writes the suite: the cases, the function, and what they mean.
///
/// # Errors
/// A file cannot be written.
pub fn write(directory: &Path) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    for (name, text) in [("cases.jsonl", CASES), ("function.py", FUNCTION), ("README.md", FORMAT)] {
        fs::write(directory.join(name), text)?;
    }
    Ok(())
}

/// The cases of these names, or all; each line is told where it is broken.
fn cases(names: &[String]) -> Result<Vec<Case>, ConformanceError> {
    let mut cases = Vec::new();
    for line in lines(CASES.as_bytes()) {
        let (line, text) = line.map_err(SimulateError::from)?;
        cases.push(Case::parse(&text, line)?);
    }
    let is_named = |name: &String| cases.iter().any(|case| case.id == name.as_str());
    if let Some(unknown) = names.iter().find(|name| !is_named(name)) {
        return Err(ConformanceError::Unknown(unknown.clone()));
    }
    cases.retain(|case| names.is_empty() || names.iter().any(|name| case.id == name.as_str()));
    Ok(cases)
}

/// Has an emulator run the cases of these names, or all, one after another. `told` hears of each
/// one.
///
/// # Errors
/// There is no such case, or no emulator. What an emulator refuses is a row.
pub async fn run(
    asked: &Asked,
    names: &[String],
    mut told: impl FnMut(&Row),
) -> Result<Vec<Row>, ConformanceError> {
    let cases = cases(names)?;
    let host = asked.endpoint_url.split('/').nth(2).unwrap_or_default();
    let host = host.split(':').next().unwrap_or_default();
    if host.ends_with(".amazonaws.com") || host.ends_with(".amazonaws.com.cn") {
        return Err(ConformanceError::Aws(host.to_owned()));
    }
    let emulator = Emulator::new(asked).await?;
    let mut rows = Vec::new();
    for case in &cases {
        let expected = Observed::of(case, simulate::run(case));
        let (found, verdict) = match emulator.run(case, &expected).await {
            Ok(found) => {
                let verdict = if found == expected { Verdict::Agrees } else { Verdict::Differs };
                (found.in_words(&expected), verdict)
            }
            Err(error) if error.is_unreached() => return Err(ConformanceError::Emulator(error)),
            Err(error) => (error.to_string(), Verdict::Refused),
        };
        let row = Row {
            case: case.id.as_str().unwrap_or_default().to_owned(),
            rule: case.rule.clone(),
            evidence: case.evidence.clone(),
            what: case.what.clone(),
            expected: expected.in_words(&expected),
            found,
            verdict,
        };
        told(&row);
        rows.push(row);
    }
    Ok(rows)
}
