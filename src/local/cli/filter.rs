//! The verb `filter`: a pattern against an event, or a file of cases.

use super::{Complaint, Exit, FilterArgs, Unreadable, print, talk};
use crate::{
    encoding,
    local::filter::{self, CasesSummary, Event, Pattern, Verdict},
};
use comfy_table::{CellAlignment, Table, presets::UTF8_FULL_CONDENSED};
use std::{fs::File, io::BufReader, path::Path};

/// The event is no JSON document.
#[derive(Debug, thiserror::Error)]
#[error("the event is {0}")]
struct NoEvent(filter::SyntaxError);

pub(super) fn filter(arguments: &FilterArgs) -> Result<Exit, Complaint> {
    match (&arguments.cases, &arguments.pattern, &arguments.event) {
        (Some(cases), _, _) => of_cases(cases),
        (None, Some(pattern), Some(event)) => of_one(pattern, event),
        (None, _, _) => Err(Complaint::new("a pattern needs an event")
            .with_hint("give both --pattern and --event, or --cases FILE")),
    }
}

fn of_one(pattern: &str, event: &str) -> Result<Exit, Complaint> {
    let (pattern, event) = (text(pattern)?, text(event)?);
    let pattern = match Pattern::parse(&pattern) {
        Ok(pattern) => pattern,
        Err(error) => {
            print(&format!("rejected: {error}\n"));
            return Ok(Exit::BadInput);
        }
    };
    let event = Event::parse(&event).map_err(NoEvent)?;
    let is_match = pattern.matches(&event);
    let (verdict, exit) =
        if is_match { (Verdict::Match, Exit::Done) } else { (Verdict::NoMatch, Exit::CheckFailed) };
    print(&format!("{verdict}\n"));
    Ok(exit)
}

/// The text as it stands, or that of the file named behind `@`.
fn text(argument: &str) -> Result<String, Complaint> {
    let Some(path) = argument.strip_prefix('@').map(Path::new) else {
        return Ok(argument.to_owned());
    };
    encoding::read_to_string(path)
        .map_err(|source| Unreadable { path: path.to_owned(), source }.into())
}

fn of_cases(path: &Path) -> Result<Exit, Complaint> {
    let file = File::open(path).map_err(|source| Unreadable { path: path.to_owned(), source })?;
    let complain = |difference: &str| talk(format_args!("{difference}"));
    let summary = filter::cases(BufReader::new(file), complain).map_err(|error| {
        Complaint::from(error).with_hint(
            "a line is {\"name\":…,\"expect\":\"match\"|\"no-match\"|\"rejected\",\
             \"pattern\":…,\"event\":…}",
        )
    })?;
    print(&format!(
        "{}\n{} cases, {} different\n",
        table(&summary),
        summary.cases(),
        summary.different()
    ));
    Ok(if summary.different() == 0 { Exit::Done } else { Exit::CheckFailed })
}

fn table(summary: &CasesSummary) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED);
    let names = Verdict::ALL.map(|verdict| verdict.to_string());
    table.set_header(std::iter::once("expected".to_owned()).chain(names.clone()));
    for (name, counts) in names.into_iter().zip(summary.counts) {
        table.add_row(std::iter::once(name).chain(counts.map(|count| count.to_string())));
    }
    for column in 1..=Verdict::ALL.len() {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}
