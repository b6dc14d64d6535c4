//! The verbs for views whose definitions change: what a deploy would do, switch, drop.
//!
//! The function does the work and knows the registry (`view/generation.rs`). The command asks,
//! waits as long as the answer says, and asks again.

use super::{
    VIEWS_DEFAULT,
    backfill::{OwnerArgs, tell_cost},
};
use crate::{
    local::{
        cli::{Complaint, Exit, Format, PlaceArgs, asked::Asked, print, talk},
        report,
    },
    operation::{
        Operation,
        backfill::UNITS_PER_S_DEFAULT,
        generations::{Diff, Differences, DropView, DroppedView, Kind, Switch, Switched},
    },
    view::{Views, load::load},
};
use clap::Args;
use std::{path::PathBuf, time::Duration};

/// Calls of a drop in a row that come to nothing.
const IDLE_MAX: u32 = 20;
/// What is waited for longer is told of, in milliseconds.
const LONG_MS: u64 = 5_000;

#[derive(Debug, Args)]
pub(super) struct DiffArgs {
    #[command(flatten)]
    place: PlaceArgs,
    /// A view definition that would be deployed, or a directory of them [default: views/].
    #[arg(long, value_name = "FILE|DIR")]
    views: Vec<PathBuf>,
    /// How the result is written to stdout.
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
}

#[derive(Debug, Args)]
pub(super) struct SwitchArgs {
    #[command(flatten)]
    owner: OwnerArgs,
    /// The view.
    name: String,
    /// The generation; the newest unless said.
    #[arg(long, value_name = "N")]
    generation: Option<u32>,
}

#[derive(Debug, Args)]
pub(super) struct DropArgs {
    #[command(flatten)]
    owner: OwnerArgs,
    /// The view.
    name: String,
    /// A generation that is not current; the whole view unless said.
    #[arg(long, value_name = "N")]
    generation: Option<u32>,
    /// Nothing is dropped without it.
    #[arg(long)]
    yes: bool,
    /// Read units a second at most, about.
    #[arg(long, value_name = "UNITS", default_value_t = UNITS_PER_S_DEFAULT)]
    read_units_per_s: u32,
    /// Write units a second at most, about.
    #[arg(long, value_name = "UNITS", default_value_t = UNITS_PER_S_DEFAULT)]
    write_units_per_s: u32,
    /// The longest timeout that the function has had meanwhile, in seconds: rows are deleted so
    /// long after the drop.
    #[arg(long, value_name = "SECONDS", default_value_t = 900)]
    timeout_s: u32,
}

pub(super) async fn diff(arguments: &DiffArgs) -> Result<Exit, Complaint> {
    let mut paths = arguments.views.clone();
    if paths.is_empty() {
        paths.push(VIEWS_DEFAULT.into());
    }
    let mut views = Vec::new();
    for path in &paths {
        views.extend(load(path)?.iter().map(ToString::to_string));
    }
    let owner = OwnerArgs::new(arguments.place.clone(), paths);
    let asked = owner.asked(false).await?;
    let told: Differences = asked.ask(Operation::Diff(Diff { views })).await?;
    match arguments.format {
        Format::Json => print(&(serde_json::to_string(&told)? + "\n")),
        Format::Table => print(&format!("{}\n", report::differences_table(&told))),
    }
    for estimate in &told.backfills {
        tell_cost(estimate);
    }
    for source in &told.not_estimated {
        talk(format_args!("{source} cannot be described: what its backfill takes is not known"));
    }
    if told.views.iter().any(|view| view.change == Kind::Absent) {
        talk(format_args!("what is not in the files is served until `view drop`"));
    }
    Ok(Exit::Done)
}

pub(super) async fn switch(arguments: &SwitchArgs) -> Result<Exit, Complaint> {
    let asked = arguments.owner.asked(false).await?;
    let switch = Switch { view: arguments.name.clone(), generation: arguments.generation };
    let told: Switched = asked.ask(Operation::Switch(switch)).await?;
    let Switched { view, from, generation, table } = told;
    print(&format!("view {view}: generation {generation} is current, in table {table}\n"));
    if let Some(from) = from.filter(|from| *from != generation) {
        talk(format_args!(
            "generation {from} goes on being fed until `view drop {view} --generation {from} --yes`"
        ));
    }
    Ok(Exit::Done)
}

pub(super) async fn drop(arguments: &DropArgs) -> Result<Exit, Complaint> {
    if !arguments.yes {
        return Err(Complaint::new("a view is dropped with --yes only")
            .with_hint("its rows are deleted, and the view is built anew if it comes back"));
    }
    let asked: Asked<Views> = arguments.owner.asked(false).await?;
    let mut wanted = DropView {
        view: arguments.name.clone(),
        generation: arguments.generation,
        yes: true,
        read_units_per_s: Some(arguments.read_units_per_s),
        write_units_per_s: Some(arguments.write_units_per_s),
        timeout_s: Some(arguments.timeout_s),
        cursor: None,
    };
    let mut told: DroppedView = asked.ask(Operation::DropView(wanted.clone())).await?;
    let (mut rows, mut idle) = (told.rows, 0);
    // From now on by number: the view may come back meanwhile.
    for generation in std::mem::take(&mut told.left) {
        wanted.generation = Some(generation);
        wanted.cursor = told.cursor.take();
        let mut wait_ms = told.wait_ms;
        loop {
            if wait_ms > LONG_MS {
                talk(format_args!(
                    "dropped; rows are deleted in {} s, when no invocation writes",
                    wait_ms.div_ceil(1_000)
                ));
            }
            tokio::time::sleep(Duration::from_millis(wait_ms)).await;
            let part: DroppedView = asked.ask(Operation::DropView(wanted.clone())).await?;
            rows += part.rows;
            if part.left.is_empty() {
                break;
            }
            let is_idle = part.cursor == wanted.cursor && part.wait_ms == 0;
            idle = if is_idle { idle + 1 } else { 0 };
            if idle == IDLE_MAX {
                return Err(Complaint::new(format!("{idle} calls in a row deleted nothing"))
                    .with_hint(
                        "is the function's timeout long enough to read a page of a table?",
                    ));
            }
            (wanted.cursor, wait_ms) = (part.cursor, part.wait_ms);
        }
        (told.cursor, told.wait_ms) = (None, 0);
    }
    print(&format!("view {}: dropped, {rows} rows deleted\n", arguments.name));
    talk(format_args!("if a file still has it, the next start of the function builds it anew"));
    Ok(Exit::Done)
}
