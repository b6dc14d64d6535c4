//! `view replay`: an archive of a stream goes into the ledger of a function.
//!
//! A Kinesis stream has no table that could be scanned, so an archive takes the place of a
//! backfill, or fills a gap. The function skips what its ledger knows, and the command counts what
//! it says. Run again, it does nothing twice.

use super::backfill::OwnerArgs;
use crate::{
    local::{
        cli::{Complaint, Exit, Format, asked::Asked, moment, place, print, talk},
        place::{Kept, Place},
        source::{Archive, Archived},
    },
    operation::{
        Operation,
        replay::{RECORDS_MAX, Replay, Replayed},
    },
    view::Views,
};
use clap::Args;
use serde_json::json;
use std::{path::Path, time::Duration};

/// The records of one call take so many bytes at most, unless one alone takes more. Lambda
/// refuses an event beyond 6 MB.
/// Source: "Lambda quotas", invocation payload of a synchronous request.
const BYTES_MAX: usize = 3_000_000;
/// So many calls in a row may finish nothing.
const IDLE_MAX: u32 = 10;
/// The pause after a call that has finished nothing, in milliseconds.
const IDLE_MS: u64 = 1_000;

#[derive(Debug, Args)]
pub(super) struct ReplayArgs {
    #[command(flatten)]
    owner: OwnerArgs,
    /// Files of records (`.jsonl`, or Lambda events `.json`; `.gz` after either), directories of
    /// them, or `s3://BUCKET/PREFIX/`.
    #[arg(required = true, value_name = "FILE|DIR|s3://BUCKET/PREFIX/")]
    archives: Vec<String>,
    /// The oldest records that the function's mapping has delivered are of this moment. What is
    /// older than the stream's retention is taken only if it arrived before.
    #[arg(long, value_name = "YYYY-MM-DDTHH:MM:SSZ")]
    delivered_from: Option<String>,
    /// How the result is written to stdout.
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
}

pub(super) async fn replay(arguments: &ReplayArgs) -> Result<Exit, Complaint> {
    let mut folders = Vec::new();
    for archive in &arguments.archives {
        folders.push(files_of(archive).await?);
    }
    let asked = arguments.owner.asked(false).await?;
    let from = arguments.delivered_from.as_deref().map(moment).transpose()?;
    let mut running = Running { asked: &asked, delivered_from_ms: from, applied: 0, skipped: 0 };
    for (folder, files) in folders {
        for file in files {
            // An object is a file while it is read.
            let kept = folder.file(&file).await?;
            running.file(&kept, &folder.name_of(&file)).await.map_err(|complaint| {
                let Running { applied, skipped, .. } = running;
                talk(format_args!("{applied} records applied, {skipped} skipped until then"));
                complaint.with_hint("what is in is skipped when the command is run again")
            })?;
        }
    }
    let Running { applied, skipped, .. } = running;
    match arguments.format {
        Format::Json => print(&format!("{}\n", json!({"applied": applied, "skipped": skipped}))),
        Format::Table => print(&format!("applied  {applied}\nskipped  {skipped}\n")),
    }
    Ok(Exit::Done)
}

/// The files that an argument means.
async fn files_of(archive: &str) -> Result<(Place, Vec<String>), Complaint> {
    let is_folder = match place::in_bucket(archive) {
        Some((_, key)) => !Archive::is_read(key),
        None => Path::new(archive).is_dir(),
    };
    if !is_folder {
        let (folder, file) = match archive.rsplit_once('/') {
            None => (".", archive),
            Some(("", file)) => ("/", file),
            Some((folder, file)) => (folder, file),
        };
        return Ok((place::folder(folder).await?, vec![file.to_owned()]));
    }
    let folder = place::folder(archive).await?;
    let (read, others): (Vec<String>, Vec<String>) =
        folder.list_all().await?.into_iter().partition(|name| Archive::is_read(name));
    if let Some(other) = others.first() {
        let count = others.len();
        talk(format_args!(
            "{archive}: {count} files are left out that are no archive by their names: {other} …"
        ));
    }
    if read.is_empty() {
        return Err(Complaint::new(format!("{archive} has no archive"))
            .with_hint("the name of one ends in .jsonl, .json, .jsonl.gz or .json.gz"));
    }
    Ok((folder, read))
}

/// What a command has done so far.
#[derive(Clone, Copy)]
struct Running<'r> {
    asked: &'r Asked<Views>,
    delivered_from_ms: Option<i64>,
    applied: u64,
    skipped: u64,
}

impl Running<'_> {
    /// Gives a file's records to the function, some at a time.
    async fn file(&mut self, kept: &Kept, name: &str) -> Result<(), Complaint> {
        let mut archive = Archive::of(vec![kept.path().to_owned()]);
        let (mut some, mut bytes) = (Vec::new(), 0);
        while let Some(next) = archive.next_record()? {
            if some.len() == RECORDS_MAX || (bytes > 0 && bytes + next.bytes > BYTES_MAX) {
                self.give(std::mem::take(&mut some), name).await?;
                bytes = 0;
            }
            bytes += next.bytes;
            some.push(next);
        }
        self.give(some, name).await
    }

    /// Gives records until all are finished.
    async fn give(&mut self, mut some: Vec<Archived>, name: &str) -> Result<(), Complaint> {
        let mut idle = 0;
        while !some.is_empty() {
            let records = some.iter().map(|archived| archived.record.clone()).collect();
            let request = Replay { records, delivered_from_ms: self.delivered_from_ms };
            let told: Replayed = self.asked.ask(Operation::Replay(request)).await?;
            self.applied += told.applied;
            self.skipped += told.skipped;
            let count = some.len();
            let mut places = 0..;
            some.retain(|_| places.next().is_some_and(|at| told.unfinished.contains(&at)));
            idle = if some.len() < count { 0 } else { idle + 1 };
            if idle == IDLE_MAX {
                let (place, left) = (&some[0].place, some.len());
                return Err(Complaint::new(format!(
                    "{name}: {left} records are not finished, the first is {place}: the \
                     function's log says why"
                )));
            }
            if idle > 0 {
                tokio::time::sleep(Duration::from_millis(IDLE_MS)).await;
            }
        }
        Ok(())
    }
}
