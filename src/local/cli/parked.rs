//! The verb `parked`: look at what a function has set aside, redrive it, or give it up.
//!
//! Every answer is the function's own ([`operation`](crate::operation)): a deployed one is asked
//! through Lambda's Invoke API, so an operator needs no build of it; with `--state` or
//! `--endpoint-url` the function is the one in this process. Redriving goes in portions, each a
//! call of its own, so that it can be broken off and begun again: what is done is done.

mod arguments;

pub(super) use arguments::ParkedArgs;

use super::{Complaint, Exit, Format, bench, invoke::Deployed, print, talk};
use crate::{
    batch::{Call, Setup, Work, lanes::Order},
    clock::{Clock, SystemClock},
    handler::Function,
    local::report,
    operation::{self, Drop, Listing, Operation, Redrive, Redriven, Selection},
    outcome::Answer,
    record::Timestamp,
};
use arguments::{DropArgs, ListArgs, ParkedVerb, RedriveArgs, SelectionArgs};
use aws_smithy_types::date_time::{DateTime, Format as TimeFormat};
use indicatif::{ProgressBar, ProgressStyle};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::io::IsTerminal;

/// Records of one call: a small part of a function's time, so that progress is seen.
const PORTION: usize = 50;

/// How long one operation may take in this process, in milliseconds: Lambda's longest timeout.
const TIMEOUT_MS: i64 = 900_000;

/// Who is asked.
enum Asked<W> {
    Deployed(Box<Deployed>),
    Here(Box<Function<W>>),
}

/// Carries out one verb. `redrives` is false where this program has no processor.
pub(super) fn parked<W: Work>(
    arguments: ParkedArgs,
    (make, order): (impl FnOnce(Setup) -> W, Option<Order>),
    redrives: bool,
) -> Result<Exit, Complaint> {
    let is_deployed = arguments.place().function.is_some();
    if matches!(arguments.verb, ParkedVerb::Redrive(_)) && !is_deployed && !redrives {
        return Err(Complaint::new("this program has no processor to redrive with").with_hint(
            "run `parked redrive` of the program that has it, or name the deployed --function",
        ));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let place = arguments.place();
        let asked = match &place.function {
            Some(function) => Asked::Deployed(Box::new(Deployed::new(function).await?)),
            None => Asked::Here(Box::new(bench::kept(make, order, place).await?)),
        };
        match arguments.verb {
            ParkedVerb::List(arguments) => list(&asked, &arguments).await,
            ParkedVerb::Show(selection) => show(&asked, &selection).await,
            ParkedVerb::Redrive(arguments) => redrive(&asked, &arguments).await,
            ParkedVerb::Drop(arguments) => drop_records(&asked, &arguments).await,
        }
    })
}

async fn list<W: Work>(asked: &Asked<W>, arguments: &ListArgs) -> Result<Exit, Complaint> {
    let mut selection = selection(&arguments.selection)?;
    let mut parked = Vec::new();
    loop {
        let listing: Listing = ask(asked, Operation::List(selection.clone())).await?;
        parked.extend(listing.parked);
        selection.cursor = listing.cursor;
        if selection.cursor.is_none() || arguments.selection.limit.is_some() {
            break;
        }
    }
    match arguments.format {
        Format::Json => print(&(serde_json::to_string(&parked)? + "\n")),
        Format::Table if parked.is_empty() => talk(format_args!("nothing is parked")),
        Format::Table => print(&format!("{}\n", report::parked_table(&parked))),
    }
    Ok(Exit::Done)
}

async fn show<W: Work>(asked: &Asked<W>, arguments: &SelectionArgs) -> Result<Exit, Complaint> {
    let answer: Value = ask(asked, Operation::Show(selection(arguments)?)).await?;
    let parked = answer["parked"].as_array().cloned().unwrap_or_default();
    if parked.is_empty() {
        talk(format_args!("no parked record is meant by this"));
        return Ok(Exit::CheckFailed);
    }
    for mut envelope in parked {
        // The record as JSON, which it is: for reading, not for hashing.
        let record = envelope["record"].as_str().and_then(|text| serde_json::from_str(text).ok());
        if let Some(record) = record {
            envelope["record"] = record;
        }
        print(&(serde_json::to_string_pretty(&envelope)? + "\n"));
    }
    Ok(Exit::Done)
}

async fn redrive<W: Work>(asked: &Asked<W>, arguments: &RedriveArgs) -> Result<Exit, Complaint> {
    let mut request = Redrive {
        keys: arguments.keys.clone(),
        error_code: arguments.error_code.clone(),
        dry_run: arguments.dry_run,
        superseded: arguments.superseded,
        ..Redrive::default()
    };
    let mut total = Redriven::default();
    let mut bar: Option<ProgressBar> = None;
    loop {
        let wanted = arguments.limit.map_or(u64::MAX, |limit| limit.saturating_sub(total.done));
        let wanted = usize::try_from(wanted).unwrap_or(usize::MAX);
        // A dry run changes nothing, so a second portion would be the first again.
        request.limit = Some(if arguments.dry_run { wanted } else { wanted.min(PORTION) });
        let part: Redriven = ask(asked, Operation::Redrive(request.clone())).await?;
        total.done += part.done;
        total.left = part.left;
        total.failed.extend(part.failed);
        let bar = bar.get_or_insert_with(|| progress(total.done + total.left));
        bar.set_position(total.done);
        request.cursor = part.cursor;
        let is_enough = arguments.limit.is_some_and(|limit| total.done >= limit);
        if request.cursor.is_none() || is_enough || arguments.dry_run {
            bar.finish_and_clear();
            break;
        }
    }
    total.cursor = request.cursor;
    told(&total, arguments.format, if arguments.dry_run { "would be redriven" } else { "redriven" })
}

async fn drop_records<W: Work>(asked: &Asked<W>, arguments: &DropArgs) -> Result<Exit, Complaint> {
    if !arguments.yes {
        return Err(Complaint::new("dropping gives records up for good")
            .with_hint("look with `parked show`, then add --yes"));
    }
    let mut selection = selection(&arguments.selection)?;
    selection.sequence_number.clone_from(&arguments.sequence_number);
    let drop = Operation::Drop(Drop { selection, yes: true });
    let total: Redriven = ask(asked, drop).await?;
    told(&total, arguments.format, "dropped")
}

/// Says what a redrive or a drop came to.
fn told(total: &Redriven, format: Format, done: &str) -> Result<Exit, Complaint> {
    for it in &total.failed {
        talk(format_args!("{} {}: {}: {}", it.key, it.sequence_number, it.error_code, it.error));
    }
    match format {
        Format::Json => print(&(serde_json::to_string(total)? + "\n")),
        Format::Table => print(&format!(
            "{} {done}, {} failed, {} left\n",
            total.done,
            total.failed.len(),
            total.left
        )),
    }
    Ok(if total.failed.is_empty() { Exit::Done } else { Exit::CheckFailed })
}

async fn ask<W: Work, T: DeserializeOwned>(
    asked: &Asked<W>,
    operation: Operation,
) -> Result<T, Complaint> {
    let event = operation::event(operation);
    let answer = match asked {
        Asked::Deployed(deployed) => deployed.invoke(event).await?,
        Asked::Here(function) => {
            let Timestamp(now) = SystemClock.now();
            let request_id = format!("desk-{}-{now}", std::process::id());
            let call = Call::new(request_id, Timestamp(now + TIMEOUT_MS));
            match function.invoke(&event, &call).await? {
                Answer::Operation(answer) => answer,
                Answer::Reply(_) => json!({}),
            }
        }
    };
    Ok(serde_json::from_value(answer)?)
}

fn selection(arguments: &SelectionArgs) -> Result<Selection, Complaint> {
    Ok(Selection {
        keys: arguments.keys.clone(),
        sequence_number: None,
        error_code: arguments.error_code.clone(),
        since_ms: arguments.since.as_deref().map(moment).transpose()?,
        until_ms: arguments.until.as_deref().map(moment).transpose()?,
        limit: arguments.limit,
        cursor: None,
    })
}

/// A moment as AWS writes it.
fn moment(text: &str) -> Result<i64, Complaint> {
    let moment = DateTime::from_str(text, TimeFormat::DateTimeWithOffset);
    moment.ok().and_then(|moment| moment.to_millis().ok()).ok_or_else(|| {
        Complaint::new(format!("`{text}` is not a moment"))
            .with_hint("write it like 2026-11-21T10:00:00Z")
    })
}

fn progress(records: u64) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} records, {per_sec}")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(records).with_style(style)
}
