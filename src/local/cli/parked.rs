//! The verb `parked`: look at what a function has set aside, redrive it, or give it up.
//!
//! Every answer is the function's own (`asked.rs`). Redriving goes in portions, each a call of its
//! own, so that it can be broken off and begun again: what is done is done.

mod arguments;

pub(super) use arguments::ParkedArgs;

use super::{
    Complaint, Exit, Format, asked::Asked, bench, invoke::Deployed, moment, print, progress, talk,
};
use crate::{
    batch::{Order, Setup, Work},
    local::report,
    operation::{
        Drop, DryRun, Listed, Listing, Operation, Redrive, Redriven, Selection, Shown, ShownRecord,
        Stopped,
    },
    recovery::park::envelope::HELD,
};
use arguments::{DropArgs, ListArgs, ParkedVerb, RedriveArgs, SelectionArgs, ShowArgs};
use indicatif::ProgressBar;
use serde_json::Value;

/// Records of one call: a small part of a function's time, so that progress is seen.
const PORTION: usize = 200;

/// So many calls in a row may come to nothing: one that ran out of time in the middle of a
/// record lets the next begin with it.
const IDLE_PORTIONS_MAX: u32 = 3;

/// Bytes of one answer of a function in this process, which is not Lambda's: twice the longest
/// record.
const BYTES_MAX_HERE: usize = 64 << 20;

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
            Some(function) => Asked::Deployed(Box::new(Deployed::find(function).await?)),
            None => Asked::Here(Box::new(bench::kept(make, order, place).await?)),
        };
        match arguments.verb {
            ParkedVerb::List(arguments) => list(&asked, &arguments).await,
            ParkedVerb::Show(arguments) => show(&asked, &arguments).await,
            ParkedVerb::Redrive(arguments) => redrive(&asked, &arguments).await,
            ParkedVerb::Drop(arguments) => drop_records(&asked, &arguments).await,
        }
    })
}

async fn list<W: Work>(asked: &Asked<W>, arguments: &ListArgs) -> Result<Exit, Complaint> {
    let mut selection = selection(&arguments.selection)?;
    let mut parked: Vec<Listed> = Vec::new();
    while goes_on(&mut selection.limit, arguments.selection.limit, parked.len()) {
        let listing: Listing = asked.ask(Operation::List(selection.clone())).await?;
        for listed in listing.parked {
            match parked.last_mut() {
                // An answer may end among the records that queue behind a failed one.
                Some(last)
                    if listed.error_code == HELD
                        && (&last.key, &last.source) == (&listed.key, &listed.source) =>
                {
                    last.held_behind += 1 + listed.held_behind;
                }
                _ => parked.push(listed),
            }
        }
        selection.cursor = listing.cursor;
        if selection.cursor.is_none() {
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

/// Sets the limit of the next call; false if there is nothing left of the whole.
fn goes_on(next: &mut Option<usize>, limit: Option<usize>, done: usize) -> bool {
    *next = limit.map(|limit| limit.saturating_sub(done));
    *next != Some(0)
}

async fn show<W: Work>(asked: &Asked<W>, arguments: &ShowArgs) -> Result<Exit, Complaint> {
    let mut selection = selection(&arguments.selection)?;
    selection.without_payload = arguments.no_payload;
    if matches!(asked, Asked::Here(_)) {
        selection.bytes_max = Some(BYTES_MAX_HERE);
    }
    let (mut shown, mut damaged) = (0, 0);
    while goes_on(&mut selection.limit, arguments.selection.limit, shown) {
        let answer: Shown = asked.ask(Operation::Show(selection.clone())).await?;
        shown += answer.parked.len();
        for record in answer.parked {
            let omitted = record.record_omitted.as_ref();
            damaged += usize::from(omitted.is_some_and(|it| it.code == "PayloadDamaged"));
            print(&(serde_json::to_string_pretty(&readable(record)?)? + "\n"));
        }
        selection.cursor = answer.cursor;
        if selection.cursor.is_none() {
            break;
        }
    }
    if shown == 0 {
        talk(format_args!("no parked record is meant by this"));
    }
    if damaged > 0 {
        talk(format_args!("{damaged} payloads are damaged: `record_omitted` says how"));
    }
    Ok(if shown == 0 || damaged > 0 { Exit::CheckFailed } else { Exit::Done })
}

/// A record for reading, not for hashing: its payload as JSON, which it is.
pub(super) fn readable(mut record: ShownRecord) -> Result<Value, Complaint> {
    let text = record.envelope.record_text()?.into_owned();
    record.envelope.record_encoding = None;
    let payload = serde_json::from_str(&text).ok();
    let mut shown = serde_json::to_value(&record)?;
    shown["record"] = payload.unwrap_or(Value::String(text));
    Ok(shown)
}

async fn redrive<W: Work>(asked: &Asked<W>, arguments: &RedriveArgs) -> Result<Exit, Complaint> {
    let Selection { keys, exclude, source, error_code, since_ms, until_ms, .. } =
        selection(&arguments.selection)?;
    let mut request = Redrive {
        keys,
        exclude,
        source,
        error_code,
        since_ms,
        until_ms,
        dry_run: arguments.dry_run,
        superseded: arguments.superseded,
        crashed: arguments.crashed,
        ..Redrive::default()
    };
    let total = in_portions(asked, arguments.selection.limit, |limit, cursor| {
        (request.limit, request.cursor) = (limit, cursor);
        Operation::Redrive(request.clone())
    });
    let total = total.await?;
    if let Some(DryRun { tried, not_tried }) = &total.dry_run {
        let (tried, not_tried) = (tried.join(", "), not_tried.join(", "));
        talk(format_args!("a dry run: tried {tried}; not tried {not_tried}; nothing is changed"));
    }
    told(&total, arguments.format, if arguments.dry_run { "decoded" } else { "redriven" })
}

async fn drop_records<W: Work>(asked: &Asked<W>, arguments: &DropArgs) -> Result<Exit, Complaint> {
    if !arguments.yes {
        return Err(Complaint::new("dropping gives records up for good")
            .with_hint("look with `parked show`, then add --yes"));
    }
    let mut selection = selection(&arguments.selection)?;
    selection.sequence_number.clone_from(&arguments.sequence_number);
    let total = in_portions(asked, arguments.selection.limit, |limit, cursor| {
        (selection.limit, selection.cursor) = (limit, cursor);
        Operation::Drop(Drop { selection: selection.clone(), yes: true })
    });
    told(&total.await?, arguments.format, "dropped")
}

/// Asks for one portion after another, to the end or to the limit, and adds them up.
async fn in_portions<W: Work>(
    asked: &Asked<W>,
    limit: Option<usize>,
    mut portion: impl FnMut(Option<usize>, Option<String>) -> Operation,
) -> Result<Redriven, Complaint> {
    let mut total = Redriven::default();
    let (mut handled, mut idle) = (0, 0);
    let mut bar: Option<ProgressBar> = None;
    let mut next = None;
    while goes_on(&mut next, limit, handled) {
        let wanted = next.map_or(PORTION, |next| next.min(PORTION));
        let part: Redriven = asked.ask(portion(Some(wanted), total.cursor.take())).await?;
        let moved = usize::try_from(part.done).unwrap_or(usize::MAX) + part.failed.len();
        handled += moved;
        idle = if moved == 0 { idle + 1 } else { 0 };
        total.done += part.done;
        total.left = total.left_behind + part.left;
        total.left_behind += part.left_behind;
        total.failed.extend(part.failed);
        (total.dry_run, total.stopped, total.cursor) = (part.dry_run, part.stopped, part.cursor);
        let bar = bar.get_or_insert_with(|| progress(total.done + total.left, "records"));
        bar.set_position(total.done);
        if total.cursor.is_none() || total.stopped == Some(Stopped::CircuitOpen) {
            break;
        }
        if idle == IDLE_PORTIONS_MAX {
            return Err(Complaint::new(format!(
                "{idle} calls in a row had no time for a single record"
            ))
            .with_hint("give the function a longer timeout"));
        }
    }
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
    if total.stopped == Some(Stopped::CircuitOpen) {
        talk(format_args!(
            "stopped: one transient failure after another over several keys; what they need is \
             down"
        ));
    }
    Ok(total)
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

fn selection(arguments: &SelectionArgs) -> Result<Selection, Complaint> {
    Ok(Selection {
        keys: arguments.keys.clone(),
        exclude: arguments.exclude.clone(),
        source: arguments.source.clone(),
        error_code: arguments.error_code.clone(),
        since_ms: arguments.since.as_deref().map(moment).transpose()?,
        until_ms: arguments.until.as_deref().map(moment).transpose()?,
        limit: arguments.limit,
        ..Selection::default()
    })
}
