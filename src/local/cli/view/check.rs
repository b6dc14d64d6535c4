//! `view check`: what a compiler would say of view definitions.
//!
//! The diagnostics are the data, so they go to stdout; how many there are goes to stderr.

use crate::{
    local::{
        check::{Check, Level, excerpt::render, explain::Explained, observed::Observed},
        cli::{Complaint, Exit, print, talk},
        template::{TEMPLATE_DEFAULT, Template},
    },
    view::definition::View,
};
use clap::Args;
use serde_json::json;
use std::path::{Path, PathBuf};

/// So many diagnostics are shown as text; whoever has more mends these first.
const SHOWN_MAX: usize = 100;

#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    /// View definitions, or directories of them, that one function would have [default: views/].
    #[arg(value_name = "FILE|DIR")]
    files: Vec<PathBuf>,
    /// Records by which attributes and groups are judged.
    #[arg(long = "fixture", value_name = "FIXTURE")]
    fixtures: Vec<PathBuf>,
    /// The SAM template whose filters are looked at [default: infra/template.yaml, if it is there].
    #[arg(long, value_name = "PATH")]
    template: Option<PathBuf>,
    /// Says of each view how it is kept, and what a change of an item costs.
    #[arg(long)]
    explain: bool,
    /// How the result is written to stdout.
    #[arg(long, value_enum, default_value = "text")]
    format: CheckFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum CheckFormat {
    /// Each with its line and a mark under it.
    Text,
    /// One JSON document.
    Json,
}

pub(super) fn check(arguments: &CheckArgs) -> Result<Exit, Complaint> {
    let mut files = arguments.files.clone();
    if files.is_empty() {
        files.push(super::VIEWS_DEFAULT.into());
    }
    let mut check = Check::of(&files)?;
    let mut observed = Vec::new();
    for fixture in &arguments.fixtures {
        observed.push(Observed::read(fixture.clone(), check.views())?);
    }
    let path = arguments.template.as_deref().unwrap_or(Path::new(TEMPLATE_DEFAULT));
    let template = match Template::read(path) {
        Err(error) if arguments.template.is_none() && error.is_not_there() => None,
        read => Some(read?.event_sources()?),
    };
    check.warn(&observed, template.as_ref().map(|sources| (path, sources.as_slice())));
    let views: Vec<&View> = check.views().collect();
    let explained: Vec<Explained> = if arguments.explain {
        views.iter().map(|view| Explained::of(view, &views)).collect()
    } else {
        Vec::new()
    };
    let (errors, warnings) = (check.count(Level::Error), check.count(Level::Warning));
    match arguments.format {
        CheckFormat::Json => {
            let mut document = json!({
                "views": views.len(),
                "errors": errors,
                "warnings": warnings,
                "diagnostics": check.diagnostics,
            });
            if arguments.explain {
                document["explained"] = json!(explained);
            }
            print(&format!("{document}\n"));
        }
        CheckFormat::Text => {
            for diagnostic in check.diagnostics.iter().take(SHOWN_MAX) {
                print(&(render(diagnostic, check.text_of(&diagnostic.file)) + "\n"));
            }
            let left = check.diagnostics.len().saturating_sub(SHOWN_MAX);
            if left > 0 {
                talk(format_args!("{left} more are not shown: mend these first"));
            }
            for one in &explained {
                print(&format!("{one}\n"));
            }
        }
    }
    let (views, files) = (views.len(), check.files.len());
    talk(format_args!(
        "{}, {} without an error: {}, {}",
        counted(files, "file"),
        counted(views, "view"),
        counted(errors, "error"),
        counted(warnings, "warning")
    ));
    Ok(if errors == 0 { Exit::Done } else { Exit::CheckFailed })
}

fn counted(count: usize, of: &str) -> String {
    if count == 1 { format!("1 {of}") } else { format!("{count} {of}s") }
}
