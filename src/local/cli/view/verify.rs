//! The verbs that compare views with what they are made of, and mend them.
//!
//! The function does the work, a bounded portion a call (`view/verify.rs`); the command asks for
//! one after another, with the cursor of the last, and keeps to the rate. The rows of all views
//! are compared with the ledger first, then the ledger with a table, if one is named.

use super::backfill::OwnerArgs;
use crate::{
    clock::{Clock, SystemClock},
    local::{
        cli::{Complaint, Exit, Format, asked::Asked, print, talk},
        report,
    },
    operation::{
        Operation,
        verify::{Check, DRIFT_MAX_DEFAULT, Repair, Stopped, Verified, Verify},
    },
    view::Views,
};
use clap::Args;
use std::time::Duration;

/// A call uses the units of so many seconds, so that the rate is kept from call to call.
const CALL_S: u32 = 5;
/// So many calls in a row may come to nothing.
const IDLE_MAX: u32 = 20;

#[derive(Debug, Args)]
pub(super) struct VerifyArgs {
    #[command(flatten)]
    owner: OwnerArgs,
    /// Compares the ledger with this table as well, by name or ARN. Without it only the rows of
    /// the views are compared, with the ledger.
    #[arg(long, value_name = "NAME|ARN")]
    table: Option<String>,
    /// Only so many items of the table, and so many groups and rows, chosen by chance.
    #[arg(long, value_name = "N")]
    sample: Option<u64>,
    /// Lambda's metric `IteratorAge` of the function, in seconds, the largest of the last minutes.
    /// What has differed for longer has drifted.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    iterator_age_s: u64,
    /// Nobody writes and no record is under way: does not wait before the second look.
    #[arg(long)]
    at_rest: bool,
    /// Ends when it has found about so much.
    #[arg(long, value_name = "N", default_value_t = DRIFT_MAX_DEFAULT)]
    limit: usize,
    /// Read units a second, on the average of a few seconds.
    #[arg(long, value_name = "UNITS", default_value_t = 1_000)]
    read_units_per_s: u32,
    /// How the result is written to stdout.
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
}

#[derive(Debug, Args)]
pub(super) struct RepairArgs {
    #[command(flatten)]
    of: VerifyArgs,
    /// Says what would be mended, and changes nothing.
    #[arg(long)]
    dry_run: bool,
}

pub(super) async fn verify(arguments: &VerifyArgs) -> Result<Exit, Complaint> {
    let all = walk(arguments, Operation::Verify).await?;
    told(&all, arguments.format, "drifted")?;
    let is_clean = all.drift.is_empty() && all.undecided.is_empty() && all.not_done.is_empty();
    Ok(if is_clean { Exit::Done } else { Exit::CheckFailed })
}

pub(super) async fn repair(arguments: &RepairArgs) -> Result<Exit, Complaint> {
    let dry_run = arguments.dry_run;
    let make = |of| Operation::Repair(Repair { of, dry_run });
    let mut all = walk(&arguments.of, make).await?;
    if arguments.of.table.is_some() {
        // The second walk has mended them, with the values of the source.
        all.not_done.retain(|it| it.code != "SourceNeeded");
    }
    told(&all, arguments.of.format, if dry_run { "would be mended" } else { "differed" })?;
    if !dry_run {
        talk(format_args!("{} mended; `view verify` says whether all is well", all.mended));
    }
    let is_done = all.undecided.is_empty() && all.not_done.is_empty();
    Ok(if is_done { Exit::Done } else { Exit::CheckFailed })
}

/// Walks over everything that is asked for.
async fn walk(
    arguments: &VerifyArgs,
    make: impl Fn(Verify) -> Operation,
) -> Result<Verified, Complaint> {
    let asked = arguments.owner.asked(false).await?;
    let mut all = Verified::default();
    portions(&asked, arguments, (Check::Rows, &make), &mut all).await?;
    if arguments.table.is_some() {
        portions(&asked, arguments, (Check::Source, &make), &mut all).await?;
    } else {
        talk(format_args!("only rows and ledger are compared: --table names a source"));
    }
    Ok(all)
}

async fn portions(
    asked: &Asked<Views>,
    arguments: &VerifyArgs,
    (check, make): (Check, &impl Fn(Verify) -> Operation),
    all: &mut Verified,
) -> Result<(), Complaint> {
    let mut request = Verify {
        check,
        table: arguments.table.clone().filter(|_| check == Check::Source),
        sample: arguments.sample,
        iterator_age_ms: Some(arguments.iterator_age_s.saturating_mul(1_000)),
        at_rest: arguments.at_rest,
        limit: Some(arguments.limit),
        read_units_max: Some(arguments.read_units_per_s.max(1).saturating_mul(CALL_S)),
        ..Verify::default()
    };
    let mut idle = 0;
    loop {
        let began = SystemClock.now();
        let part: Verified = asked.ask(make(request.clone())).await?;
        let is_idle = part.cursor == request.cursor
            || matches!(part.stopped, Some(Stopped::Throttled | Stopped::Unanswered));
        idle = if is_idle && part.stopped != Some(Stopped::Waits) { idle + 1 } else { 0 };
        if idle == IDLE_MAX {
            return Err(Complaint::new(format!("{idle} calls in a row came to nothing"))
                .with_hint(
                    "are the tables throttled? is the function's timeout long enough for a page?",
                ));
        }
        request.cursor.clone_from(&part.cursor);
        let (units, wait_ms) = (part.read_units, part.wait_ms);
        add(all, part);
        if request.cursor.is_none() {
            return Ok(());
        }
        if all.drift.len() >= arguments.limit {
            talk(format_args!("ended at {}: there may be more", all.drift.len()));
            return Ok(());
        }
        // Throttling passes sooner if nobody asks.
        let idle_ms = u64::from(idle) * 500;
        let rate = f64::from(arguments.read_units_per_s.max(1));
        let pause = Duration::from_secs_f64(units / rate)
            .saturating_sub(Duration::from_millis((SystemClock.now().0 - began.0).unsigned_abs()))
            .max(Duration::from_millis(wait_ms.max(idle_ms)));
        tokio::time::sleep(pause).await;
    }
}

fn add(all: &mut Verified, part: Verified) {
    all.checked += part.checked;
    all.mended += part.mended;
    all.read_units += part.read_units;
    all.write_units += part.write_units;
    all.drift.extend(part.drift);
    all.undecided.extend(part.undecided);
    all.not_done.extend(part.not_done);
}

fn told(all: &Verified, format: Format, found: &str) -> Result<(), Complaint> {
    match format {
        Format::Json => print(&(serde_json::to_string(all)? + "\n")),
        Format::Table if all.drift.is_empty() => {}
        Format::Table => print(&format!("{}\n", report::drift_table(&all.drift))),
    }
    for (what, listed) in [("undecided", &all.undecided), ("not done", &all.not_done)] {
        for it in listed {
            talk(format_args!("{what}: {}: {}: {}", it.key, it.code, it.reason));
        }
    }
    talk(format_args!(
        "{} compared, {} {found}, {} undecided, {} not done; {:.0} read units",
        all.checked,
        all.drift.len(),
        all.undecided.len(),
        all.not_done.len(),
        all.read_units
    ));
    Ok(())
}
