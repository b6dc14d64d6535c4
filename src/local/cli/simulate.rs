//! The verb `simulate`: cases in, one line out for each.

use super::{Complaint, Exit, SimulateArgs, Unreadable, talk};
use crate::local::simulate::{self, Asked, Print};
use std::{
    fs::File,
    io::{BufRead, BufReader, BufWriter},
    path::Path,
};

pub(super) fn simulate(arguments: &SimulateArgs) -> Result<Exit, Complaint> {
    let input: Box<dyn BufRead> = if arguments.file == Path::new("-") {
        Box::new(std::io::stdin().lock())
    } else {
        let path = &arguments.file;
        let file = File::open(path).map_err(|source| Unreadable { path: path.clone(), source })?;
        Box::new(BufReader::new(file))
    };
    let output = BufWriter::new(std::io::stdout().lock());
    let complain = |difference: &str| talk(format_args!("{difference}"));
    let mut print = Vec::new();
    print.extend(arguments.checkpoints.then_some(Print::Checkpoints));
    print.extend(arguments.timeline.then_some(Print::Timeline));
    let readings = arguments.readings.clone();
    let asked = Asked { check: arguments.check, print, readings };
    let summary = simulate::simulate(input, output, &asked, complain)?;
    if !arguments.check {
        return Ok(Exit::Done);
    }
    talk(format_args!("{} cases, {} different", summary.cases, summary.different));
    Ok(if summary.different == 0 { Exit::Done } else { Exit::CheckFailed })
}
