//! The verbs that bring into views what their tables have already.
//!
//! The function does the work, a bounded portion a call (`view/backfill.rs`); the command asks
//! for one portion after another, several at a time of a deployed function. Broken off, it goes
//! on where the run stands. What it costs is said before, in units and money.

use super::running::{Running, ask};
use crate::{
    local::{
        cli::{
            Complaint, Exit, Format, PlaceArgs, asked::Asked, bench, invoke::Deployed, print, talk,
        },
        prices::{READ_PRICE, WRITE_PRICE},
        report,
    },
    operation::{
        backfill::{
            Backfill, Begin, Begun, Estimate, Finish, OfTable, RunStatus, SEGMENTS_DEFAULT, Status,
            Stopped, Tidied, Tidy, UNITS_PER_S_DEFAULT, Which,
            chain::{
                Chain, ChainStatus, Chained, LINKS_MAX_DEFAULT, LinkFailure, Reason, StartChain,
            },
            export::Export,
        },
        verified::LastVerified,
    },
    view::{Views, building::RunState},
};
use clap::Args;
use std::{
    io::{BufRead as _, IsTerminal as _, Write as _},
    path::PathBuf,
};

/// Calls of a deployed function at a time, unless told otherwise.
const CALLS_DEFAULT: u32 = 4;

/// Whose views, and where their definitions are if this process keeps them.
#[derive(Debug, Args)]
pub(super) struct OwnerArgs {
    #[command(flatten)]
    place: PlaceArgs,
    /// A view definition, or a directory of them, where the function is in this process
    /// [default: views/].
    #[arg(long, value_name = "FILE|DIR", conflicts_with = "function")]
    views: Vec<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct BackfillArgs {
    #[command(flatten)]
    owner: OwnerArgs,
    /// The table, by name or ARN.
    #[arg(long, value_name = "NAME|ARN")]
    table: String,
    /// In how many segments it is read.
    #[arg(long, value_name = "N", default_value_t = SEGMENTS_DEFAULT)]
    segments: u32,
    /// How many calls of a deployed function work at a time.
    #[arg(long, value_name = "N", default_value_t = CALLS_DEFAULT)]
    calls: u32,
    /// Read units a second at most.
    #[arg(long, value_name = "UNITS", default_value_t = UNITS_PER_S_DEFAULT)]
    read_units_per_s: u32,
    /// Write units a second at most.
    #[arg(long, value_name = "UNITS", default_value_t = UNITS_PER_S_DEFAULT)]
    write_units_per_s: u32,
    /// Pauses when so many units are used, read and written.
    #[arg(long, value_name = "UNITS")]
    units_max: Option<u64>,
    /// Dollars for a million read units.
    #[arg(long, value_name = "DOLLARS", default_value_t = READ_PRICE)]
    read_price: f64,
    /// Dollars for a million write units.
    #[arg(long, value_name = "DOLLARS", default_value_t = WRITE_PRICE)]
    write_price: f64,
    /// Reads everything again although a run has done so.
    #[arg(long)]
    again: bool,
    /// Although the table has no stream that would keep the views up to date.
    #[arg(long)]
    without_stream: bool,
    /// Reads an export of the table to S3, or a copy of it, and no capacity of the table. Without
    /// a value the run begins, and the command says how to export the table.
    #[arg(
        long, value_name = "s3://BUCKET/PREFIX/AWSDynamoDB/EXPORT_ID|DIRECTORY",
        num_args = 0..=1, default_missing_value = "", conflicts_with = "chain"
    )]
    export: Option<String>,
    #[command(flatten)]
    chain: ChainArgs,
    /// Does not ask before it begins.
    #[arg(long)]
    yes: bool,
    /// How the result is written to stdout.
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
}

#[derive(Debug, Args)]
struct ChainArgs {
    /// The deployed function goes on by itself, link after link; the command returns at once.
    #[arg(long, conflicts_with_all = ["state", "endpoint_url"])]
    chain: bool,
    /// Links of the chain at most.
    #[arg(long, value_name = "N", requires = "chain", default_value_t = LINKS_MAX_DEFAULT)]
    links_max: u64,
}

#[derive(Debug, Args)]
pub(super) struct StatusArgs {
    #[command(flatten)]
    owner: OwnerArgs,
    /// Only views of this table, by name or ARN.
    #[arg(long, value_name = "NAME|ARN")]
    table: Option<String>,
    /// How the result is written to stdout.
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
}

#[derive(Debug, Args)]
pub(super) struct ReadyArgs {
    #[command(flatten)]
    owner: OwnerArgs,
    /// The table, by name or ARN.
    #[arg(long, value_name = "NAME|ARN")]
    table: String,
    /// Lambda's metric `IteratorAge` of the function, in seconds, the largest of the last minutes.
    /// Without it views are ready when the stream has forgotten everything from before the end
    /// of the scan.
    #[arg(long, value_name = "SECONDS")]
    iterator_age_s: Option<u64>,
    /// How the result is written to stdout.
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
}

#[derive(Debug, Args)]
pub(super) struct StopArgs {
    #[command(flatten)]
    owner: OwnerArgs,
    /// The table, by name or ARN.
    #[arg(long, value_name = "NAME|ARN")]
    table: String,
    /// How the result is written to stdout.
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
}

impl OwnerArgs {
    pub(super) fn new(place: PlaceArgs, views: Vec<PathBuf>) -> Self {
        Self { place, views }
    }

    pub(super) async fn asked(&self, makes_tables: bool) -> Result<Asked<Views>, Complaint> {
        if let Some(function) = &self.place.function {
            return Ok(Asked::Deployed(Box::new(Deployed::find(function).await?)));
        }
        let kept = bench::kept_views(&self.place, self.views.clone(), makes_tables).await?;
        Ok(Asked::Here(Box::new(kept)))
    }
}

pub(super) async fn status(arguments: &StatusArgs) -> Result<Exit, Complaint> {
    let asked = arguments.owner.asked(false).await?;
    let which = Which { table: arguments.table.clone() };
    let status: Status = ask(&asked, Backfill::Status(which)).await?;
    let exit = told(&status, arguments.format)?;
    let awaits =
        |run: &RunStatus| run.state == RunState::Scanning && run.export == Some(Export::Awaited);
    if status.runs.iter().any(awaits) {
        talk(format_args!(
            "a run awaits an export of its table: `view backfill --export` says how to make one"
        ));
    }
    Ok(exit)
}

pub(super) async fn ready(arguments: &ReadyArgs) -> Result<Exit, Complaint> {
    let asked = arguments.owner.asked(false).await?;
    let iterator_age_ms = arguments.iterator_age_s.map(|age| age.saturating_mul(1_000));
    let finish = Finish { table: arguments.table.clone(), iterator_age_ms };
    let status: Status = ask(&asked, Backfill::Finish(finish)).await?;
    told(&status, arguments.format)?;
    let is_ready = status.runs.iter().all(|run| run.state == RunState::Ready);
    if !is_ready && status.runs.iter().any(|run| run.counts.not_done > 0) {
        talk(format_args!("items that are not in keep the views from being ready"));
    }
    if is_ready {
        let (mut rows, mut cursor) = (0, None);
        loop {
            let tidy = Tidy { table: arguments.table.clone(), cursor };
            let tidied: Tidied = ask(&asked, Backfill::Tidy(tidy)).await?;
            rows += tidied.rows;
            cursor = tidied.cursor;
            if cursor.is_none() {
                break;
            }
        }
        talk(format_args!("{rows} ledger rows of removed items have a time to live again"));
    }
    Ok(if is_ready { Exit::Done } else { Exit::CheckFailed })
}

pub(super) async fn stop(arguments: &StopArgs) -> Result<Exit, Complaint> {
    let asked = arguments.owner.asked(false).await?;
    let of = OfTable { table: arguments.table.clone() };
    told(&ask(&asked, Backfill::Stop(of)).await?, arguments.format)
}

pub(super) async fn backfill(arguments: &BackfillArgs) -> Result<Exit, Complaint> {
    let asked = arguments.asked().await?;
    let estimate = arguments.estimate(&asked).await?;
    tell(&estimate, arguments);
    if !arguments.is_agreed()? {
        return Ok(Exit::BadInput);
    }
    let begun: Begun = ask(&asked, Backfill::Begin(arguments.begin(None))).await?;
    if begun.wait_ms > 0 {
        let seconds = begun.wait_ms.div_ceil(1_000);
        talk(format_args!(
            "the generation was registered a moment ago: the first item is read in {seconds} s"
        ));
    }
    if arguments.chain.chain {
        return chain(&asked, arguments).await;
    }
    let running = Running::new(&asked, &arguments.table, &begun, estimate.items);
    let hands = (0..running.calls(arguments.calls)).map(|_| running.work());
    running.ends(futures_util::future::join_all(hands).await)?;
    told_end(&asked, &begun, (running.ended(), false), arguments).await
}

/// Says how a command has ended that worked on a run, or only began one.
pub(super) async fn told_end(
    asked: &Asked<Views>,
    begun: &Begun,
    (ended, is_begun): (Option<Stopped>, bool),
    arguments: &BackfillArgs,
) -> Result<Exit, Complaint> {
    let which = Which { table: Some(begun.source.clone()) };
    let status: Status = ask(asked, Backfill::Status(which)).await?;
    match ended {
        Some(Stopped::Units) => talk(format_args!(
            "paused: its units are used up; run it again with more --units-max and it goes on"
        )),
        Some(Stopped::Stopped) => talk(format_args!("stopped: run it again and it goes on")),
        _ => tell_what_is_next(&status),
    }
    let exit = told(&status, arguments.format)?;
    let is_ended = is_begun || matches!(ended, Some(Stopped::AllDone));
    Ok(if is_ended { exit } else { Exit::CheckFailed })
}

/// Has the function go on by itself.
async fn chain(asked: &Asked<Views>, arguments: &BackfillArgs) -> Result<Exit, Complaint> {
    let (table, links_max) = (arguments.table.clone(), Some(arguments.chain.links_max));
    let start = Backfill::Chain(Chain::Start(StartChain { table, links_max }));
    let chained: Chained = ask(asked, start).await?;
    if arguments.format == Format::Json {
        print(&(serde_json::to_string(&chained)? + "\n"));
    }
    let table = &arguments.table;
    match chained.refused {
        Some(Reason { code, message }) if code == "ChainRunning" => {
            talk(format_args!("the function is at it already: {message}"));
        }
        Some(Reason { message, .. }) => {
            talk(format_args!("no chain was started: {message}"));
            return Ok(Exit::CheckFailed);
        }
        None => talk(format_args!("the function goes on by itself")),
    }
    talk(format_args!(
        "hint: `view status` says how far it is, `view stop --table {table}` ends it between two \
         portions; if a link has died, the same command starts it again"
    ));
    Ok(Exit::Done)
}

impl BackfillArgs {
    /// Which export is read, if one is; without a name it is yet to be made.
    pub(super) fn export(&self) -> Option<&str> {
        self.export.as_deref()
    }

    /// The table, by name or ARN.
    pub(super) fn table(&self) -> &str {
        &self.table
    }

    /// How many calls of a deployed function may work at a time.
    pub(super) fn calls(&self) -> u32 {
        self.calls
    }

    pub(super) async fn asked(&self) -> Result<Asked<Views>, Complaint> {
        self.owner.asked(true).await
    }

    pub(super) async fn estimate(&self, asked: &Asked<Views>) -> Result<Estimate, Complaint> {
        let of = OfTable { table: self.table.clone() };
        ask(asked, Backfill::Estimate(of)).await
    }

    /// Whether to begin, if need be by asking.
    pub(super) fn is_agreed(&self) -> Result<bool, Complaint> {
        if self.yes || agreed()? {
            return Ok(true);
        }
        talk(format_args!("nothing was begun"));
        Ok(false)
    }

    /// How the run is to go, and what it reads instead of the table.
    pub(super) fn begin(&self, export: Option<Export>) -> Begin {
        Begin {
            table: self.table.clone(),
            segments: Some(self.segments),
            read_units_per_s: Some(self.read_units_per_s),
            write_units_per_s: Some(self.write_units_per_s),
            units_max: self.units_max,
            again: self.again,
            without_stream: self.without_stream,
            export,
        }
    }

    /// Dollars for a million units, read and written.
    pub(super) fn prices(&self) -> (f64, f64) {
        (self.read_price, self.write_price)
    }
}

/// Says what a backfill would take.
pub(super) fn tell_cost(estimate: &Estimate) {
    tell_units(estimate);
    tell_money(estimate, (READ_PRICE, WRITE_PRICE));
}

fn tell_units(estimate: &Estimate) {
    let Estimate { source, views, items, bytes, read_units, .. } = estimate;
    let (least, most) = (estimate.write_units_min, estimate.write_units_max);
    talk(format_args!("{source}: about {items} items, {bytes} bytes, for {}", views.join(", ")));
    talk(format_args!("{read_units:.0} read units, {least:.0} to {most:.0} write units"));
}

pub(super) fn tell_money(estimate: &Estimate, (read_price, write_price): (f64, f64)) {
    let money = |write: f64| (estimate.read_units * read_price + write * write_price) / 1e6;
    talk(format_args!(
        "${:.2} to ${:.2}, at ${read_price} and ${write_price} for a million units",
        money(estimate.write_units_min),
        money(estimate.write_units_max)
    ));
}

/// Says what there is and what it takes.
fn tell(estimate: &Estimate, arguments: &BackfillArgs) {
    tell_units(estimate);
    tell_money(estimate, arguments.prices());
    tell_time(estimate, arguments);
    if !estimate.has_stream {
        talk(format_args!("the table has no stream with new images: later changes are not seen"));
    }
}

/// Says how long it takes at the limits.
pub(super) fn tell_time(estimate: &Estimate, arguments: &BackfillArgs) {
    let read_units = estimate.read_units;
    let (least, most) = (estimate.write_units_min, estimate.write_units_max);
    let (reads, writes) = (arguments.read_units_per_s, arguments.write_units_per_s);
    // A run uses eight tenths of its limit on the average.
    let time = |write: f64| {
        let seconds = (read_units / f64::from(reads)).max(write / f64::from(writes)) / 0.8;
        format!("{:.0} min", (seconds / 60.0).ceil())
    };
    talk(format_args!(
        "{} to {} at {reads} read and {writes} write units a second at most",
        time(least),
        time(most)
    ));
}

/// Asks whether to begin.
fn agreed() -> Result<bool, Complaint> {
    if !std::io::stdin().is_terminal() {
        return Err(Complaint::new("nobody is there to be asked whether to begin")
            .with_hint("add --yes in a script"));
    }
    let mut stderr = std::io::stderr().lock();
    drop(write!(stderr, "begin? [y/N] ").and_then(|()| stderr.flush()));
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

fn tell_what_is_next(status: &Status) {
    for run in &status.runs {
        for it in &run.not_done {
            talk(format_args!("{}: {}: {}", it.key, it.code, it.reason));
        }
        if run.counts.not_done > 0 {
            let not_done = run.counts.not_done;
            talk(format_args!("{not_done} items are not in; mend them, then --again"));
        } else if run.state == RunState::CatchingUp {
            talk(format_args!(
                "every item is in; the views are ready when the stream has passed the end of the \
                 scan: `view ready` says it"
            ));
        }
    }
}

/// Prints how far the views are.
fn told(status: &Status, format: Format) -> Result<Exit, Complaint> {
    match format {
        Format::Json => print(&(serde_json::to_string(status)? + "\n")),
        Format::Table => print(&format!("{}\n", report::building_table(status))),
    }
    for chain in status.runs.iter().filter_map(|run| run.chain.as_ref()) {
        tell_chain(chain);
    }
    for last in &status.verified {
        tell_verified(last);
    }
    let is_whole = status.runs.iter().all(|run| run.counts.not_done == 0);
    Ok(if is_whole { Exit::Done } else { Exit::CheckFailed })
}

fn tell_verified(last: &LastVerified) {
    let LastVerified { source, ended_ms, is_whole, sample, found } = last;
    let compared =
        source.as_ref().map_or("rows and ledger".to_owned(), |it| format!("ledger and {it}"));
    let sample = sample.map_or(String::new(), |it| format!(", a sample of {it}"));
    let end = if *is_whole { "" } else { ", not to the end" };
    let drift: u64 = found.drift.iter().map(|it| it.drift).sum();
    talk(format_args!(
        "verified {}, {compared}{sample}{end}: {} compared, {drift} drifted, {} undecided, \
         {} not done",
        report::moment(*ended_ms),
        found.checked,
        found.undecided,
        found.not_done
    ));
}

fn tell_chain(chain: &ChainStatus) {
    let ChainStatus { link, link_max, ended, failures, .. } = chain;
    let state = ended.as_ref().map_or("goes on", |ended| &ended.message);
    talk(format_args!("chain: link {link} of {link_max} at most: {state}"));
    for LinkFailure { code, reason, count, link } in failures {
        talk(format_args!("{count} times, last in link {link}: {code}: {reason}"));
    }
}
