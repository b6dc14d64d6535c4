//! The verb `view`: look at what a view function keeps, bring in what its tables have, verify it.
//!
//! A deployed function is asked for it ([`operation`](crate::operation)); with `--state` or
//! `--endpoint-url` this process reads the ledger as the function would. Reading goes in parts,
//! each with a bound, until the ledger's end.

mod backfill;
mod check;
mod export;
mod generations;
mod plan;
mod read;
mod replay;
mod running;
mod verify;

use super::{Complaint, Exit, Format, PlaceArgs, bench, invoke::Deployed, print, talk};
use crate::{
    local::report,
    operation::{self, Operation, Selection},
    store::Store,
    view::{
        quarantine::{self, Page, Wanted},
        rows::NO_DEADLINE,
    },
};
use clap::{Args, Subcommand};

/// Where definitions are unless told otherwise.
const VIEWS_DEFAULT: &str = "views";

/// Looks at what a view function keeps, and brings in what its tables have already.
#[derive(Debug, Args)]
pub(super) struct ViewVerbArgs {
    #[command(subcommand)]
    verb: ViewVerb,
}

#[derive(Debug, Subcommand)]
enum ViewVerb {
    /// Says everything that is wrong with view definitions, and what will hurt; exit code 1 where
    /// a function would not start with them.
    Check(check::CheckArgs),
    /// Says what views would cost under the changes of a fixture, in units and money; stores
    /// nothing.
    Plan(plan::PlanArgs),
    /// Reads the rows of a view: by their key where `--where` names all of it, else all of them.
    Read(read::ReadArgs),
    /// Lists the items that a view leaves out, and why; reads the whole ledger, in parts.
    Quarantined(QuarantinedArgs),
    /// Brings every item that a table has into its views, beside its stream.
    ///
    /// The stream has to be mapped to the function first, from `TRIM_HORIZON`. Broken off, it goes
    /// on where it stood when it is run again.
    Backfill(backfill::BackfillArgs),
    /// Takes an archive of a stream into the views, for streams that no table is behind; says how
    /// many records were applied, and how many the ledger knew.
    Replay(replay::ReplayArgs),
    /// Says how far the views are built.
    Status(backfill::StatusArgs),
    /// Says views ready that catch up, if the stream has passed the end of the scan.
    Ready(backfill::ReadyArgs),
    /// Stops a backfill between two portions; `backfill` goes on.
    Stop(backfill::StopArgs),
    /// Compares the rows of views with their ledger, and the ledger with a table; exit code 1
    /// where something has drifted.
    Verify(verify::VerifyArgs),
    /// Mends what `verify` would find, beside live traffic.
    Repair(verify::RepairArgs),
    /// Says what a deploy of these definitions would do; changes nothing.
    Diff(generations::DiffArgs),
    /// Makes another generation of a view the one that readers are given.
    Switch(generations::SwitchArgs),
    /// Takes a view or a generation of it away, and deletes its rows.
    Drop(generations::DropArgs),
}

#[derive(Debug, Args)]
struct QuarantinedArgs {
    #[command(flatten)]
    place: PlaceArgs,
    /// Only the item with this key, as the list prints it; may be given several times.
    #[arg(long = "key", value_name = "KEY")]
    keys: Vec<String>,
    /// At most about so many; the ledger is read no further then.
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// How the list is written to stdout.
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
}

/// Who is asked.
enum Asked {
    Deployed(Box<Deployed>),
    Here { store: Box<Store>, ledger_table: String },
}

impl Asked {
    async fn of(place: &PlaceArgs) -> Result<Self, Complaint> {
        if let Some(function) = &place.function {
            return Ok(Self::Deployed(Box::new(Deployed::find(function).await?)));
        }
        let (store, ledger_table, _) = bench::kept_tables(place, None).await?;
        Ok(Self::Here { store: Box::new(store), ledger_table })
    }

    async fn page(&self, selection: &Selection) -> Result<Page, Complaint> {
        match self {
            Self::Deployed(deployed) => {
                let event = operation::event(Operation::List(selection.clone()));
                let answer = deployed.invoke(event).await?;
                if answer["quarantined"].is_null() {
                    return Err(Complaint::new("this function keeps no views")
                        .with_hint("what a processor has set aside is listed by `parked list`"));
                }
                Ok(serde_json::from_value(answer)?)
            }
            Self::Here { store, ledger_table } => {
                let wanted = Wanted::of(selection)?;
                Ok(quarantine::page(store, ledger_table, &[], &wanted, NO_DEADLINE).await?)
            }
        }
    }
}

/// Carries out one verb.
pub(super) fn view(arguments: ViewVerbArgs) -> Result<Exit, Complaint> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        match arguments.verb {
            ViewVerb::Check(arguments) => check::check(&arguments),
            ViewVerb::Plan(arguments) => plan::plan(&arguments).await,
            ViewVerb::Read(arguments) => read::read(&arguments).await,
            ViewVerb::Quarantined(arguments) => quarantined(&arguments).await,
            ViewVerb::Backfill(arguments) => match arguments.export() {
                None => backfill::backfill(&arguments).await,
                Some(named) => export::backfill(&arguments, named).await,
            },
            ViewVerb::Replay(arguments) => replay::replay(&arguments).await,
            ViewVerb::Status(arguments) => backfill::status(&arguments).await,
            ViewVerb::Ready(arguments) => backfill::ready(&arguments).await,
            ViewVerb::Stop(arguments) => backfill::stop(&arguments).await,
            ViewVerb::Verify(arguments) => verify::verify(&arguments).await,
            ViewVerb::Repair(arguments) => verify::repair(&arguments).await,
            ViewVerb::Diff(arguments) => generations::diff(&arguments).await,
            ViewVerb::Switch(arguments) => generations::switch(&arguments).await,
            ViewVerb::Drop(arguments) => generations::drop(&arguments).await,
        }
    })
}

async fn quarantined(arguments: &QuarantinedArgs) -> Result<Exit, Complaint> {
    let asked = Asked::of(&arguments.place).await?;
    let mut selection =
        Selection { keys: arguments.keys.clone(), limit: arguments.limit, ..Selection::default() };
    let mut all = Page::default();
    loop {
        let page = asked.page(&selection).await?;
        all.read_units += page.read_units;
        all.quarantined.extend(page.quarantined);
        all.cursor = page.cursor;
        let is_enough = arguments.limit.is_some_and(|limit| all.quarantined.len() >= limit);
        if all.cursor.is_none() || is_enough {
            break;
        }
        selection.cursor.clone_from(&all.cursor);
    }
    all.quarantined.sort_unstable();
    match arguments.format {
        Format::Json => print(&(serde_json::to_string(&all)? + "\n")),
        Format::Table if all.quarantined.is_empty() => talk(format_args!("nothing is quarantined")),
        Format::Table => print(&format!("{}\n", report::quarantined_table(&all.quarantined))),
    }
    talk(format_args!("the ledger was read for {} read units", all.read_units));
    Ok(Exit::Done)
}
