//! `view backfill --export`: the items come from an export of the table, which this command reads.
//!
//! It works in two steps. The run begins first, because only from then on the function remembers
//! what was removed; then the table is exported, and the command is run again with the export.
//! The function counts of each segment how many items are in. The command looks there, and never
//! at what an earlier command has done.

use super::{
    backfill::{BackfillArgs, tell_money, tell_time, told_end},
    running::{LEASED_MS, Running, ask},
};
use crate::{
    local::{
        cli::{Complaint, Exit, place, talk},
        export::{Export, Items},
        report::moment,
    },
    operation::backfill::{
        Backfill, Begun, Estimate, Portion, Stopped, Worked,
        export::{Export as Wanted, ExportMade, GIVEN_MAX, Given},
    },
    view::building::RunState,
};

use serde_json::Value;
use std::{cell::RefCell, collections::VecDeque, time::Duration};

/// The items of one call take so many bytes at most. Lambda refuses an event beyond 6 MB.
/// Source: "Lambda quotas", invocation payload of a synchronous request.
const GIVEN_BYTES_MAX: usize = 3_000_000;
/// After a call whose time did not suffice the next is given no fewer.
const GIVEN_MIN: usize = 10;
/// Between two calls that only ask whether the run has ended, in milliseconds.
const END_MS: u64 = 200;

/// Begins a run over an export that is yet to be made, or works on one.
pub(super) async fn backfill(arguments: &BackfillArgs, named: &str) -> Result<Exit, Complaint> {
    let asked = arguments.asked().await?;
    let export = match named {
        "" => None,
        named => Some(Export::open(place::folder(named).await?).await?),
    };
    let estimate = arguments.estimate(&asked).await?;
    tell(&estimate, export.as_ref(), arguments);
    if !arguments.is_agreed()? {
        return Ok(Exit::BadInput);
    }
    let made = export.as_ref().map(Export::made);
    let wanted = made.map_or(Wanted::Awaited, |made| Wanted::Made(made.clone()));
    let begun: Begun = ask(&asked, Backfill::Begin(arguments.begin(Some(wanted)))).await?;
    let is_over = begun.state != RunState::Scanning;
    let export = match &export {
        Some(export) if is_over || begun.export != Some(Wanted::Awaited) => export,
        export => {
            if !is_over {
                tell_how_to_export(&begun, export.as_ref().map(Export::made));
            }
            // Without an export the command was about the beginning alone.
            return told_end(&asked, &begun, (None, export.is_none()), arguments).await;
        }
    };
    let running = Running::new(&asked, arguments.table(), &begun, export.made().items);
    let segments = export.segments(begun.segments);
    let queue = (0..begun.segments).collect();
    let giving = Giving { running, export, segments, queue: RefCell::new(queue) };
    let hands = (0..giving.running.calls(arguments.calls())).map(|_| giving.work());
    let hands = futures_util::future::join_all(hands).await;
    giving.running.ends(hands)?;
    giving.end().await?;
    told_end(&asked, &begun, (giving.running.ended(), false), arguments).await
}

/// Says what there is and what it takes.
fn tell(estimate: &Estimate, export: Option<&Export>, arguments: &BackfillArgs) {
    let made = export.map(Export::made);
    let (items, bytes) = made.map_or((estimate.items, estimate.bytes), |it| (it.items, it.bytes));
    let views = estimate.views.join(", ");
    match made {
        Some(ExportMade { arn, time_ms, files, .. }) => talk(format_args!(
            "{arn} of {}: {items} items, {bytes} bytes, in {files} files, for {views}",
            moment(*time_ms)
        )),
        None => talk(format_args!(
            "{}: about {items} items, {bytes} bytes, for {views}",
            estimate.source
        )),
    }
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    let count = items as f64;
    let per_item = estimate.per_item;
    let estimate = Estimate {
        read_units: count * per_item.read_units,
        write_units_min: count * per_item.write_units_min,
        write_units_max: count * per_item.write_units_max,
        ..estimate.clone()
    };
    let Estimate { read_units, write_units_min, write_units_max, .. } = estimate;
    talk(format_args!(
        "{read_units:.0} read units of the ledger, none of the table, {write_units_min:.0} to \
         {write_units_max:.0} write units"
    ));
    tell_money(&estimate, arguments.prices());
    tell_time(&estimate, arguments);
}

/// The run is begun, and awaits an export.
fn tell_how_to_export(begun: &Begun, refused: Option<&ExportMade>) {
    if let Some(bound) = begun.export.as_ref().and_then(Wanted::made) {
        talk(format_args!("the run reads {}: name where its files are", bound.arn));
        return;
    }
    let from = begun.export_from_ms.map_or_else(String::new, moment);
    if let Some(made) = refused {
        talk(format_args!(
            "the export is of {}: items that were removed since then would come back, because \
             what is removed is remembered from {from} on",
            moment(made.time_ms)
        ));
    }
    talk(format_args!(
        "the run has begun. Export the table now, at {from} or later, and run the command again \
         with the export:"
    ));
    talk(format_args!(
        "  aws dynamodb export-table-to-point-in-time --table-arn {} --s3-bucket BUCKET \
         --s3-prefix PREFIX",
        begun.source
    ));
    talk(format_args!("  … --export s3://BUCKET/PREFIX/AWSDynamoDB/EXPORT_ID"));
}

/// A command that gives the items of an export.
struct Giving<'g> {
    running: Running<'g>,
    export: &'g Export,
    /// The files of each segment.
    segments: Vec<Vec<usize>>,
    /// Segments that no hand of this command works on.
    queue: RefCell<VecDeque<u32>>,
}

impl Giving<'_> {
    /// Works on one segment after another until none is left.
    async fn work(&self) -> Result<(), Complaint> {
        while self.running.ended().is_none() {
            let Some(number) = self.queue.borrow_mut().pop_front() else { return Ok(()) };
            let files = &self.segments[number as usize];
            let mut segment = Segment {
                giving: self,
                number,
                files,
                end: files.iter().map(|&file| self.export.items_of(file)).sum(),
                given: VecDeque::new(),
                from: 0,
                open: None,
                at_once: GIVEN_MAX,
            };
            if segment.give().await? == Some(Stopped::Leased) {
                self.queue.borrow_mut().push_back(number);
                tokio::time::sleep(Duration::from_millis(LEASED_MS)).await;
            }
        }
        Ok(())
    }

    /// Every segment is in: the run says so.
    async fn end(&self) -> Result<(), Complaint> {
        let mut unanswered = 0;
        while self.running.ended().is_none() {
            let worked = self.call(0, Given::default()).await?;
            let pause = self.running.after(&worked, &mut unanswered)?;
            tokio::time::sleep(Duration::from_millis(pause.max(END_MS))).await;
        }
        Ok(())
    }

    async fn call(&self, segment: u32, given: Given) -> Result<Worked, Complaint> {
        let Running { asked, table, begun, .. } = &self.running;
        let (table, run) = ((*table).to_owned(), begun.run.clone());
        let portion = Portion { table, run, segment: Some(segment), given: Some(given) };
        ask(asked, Backfill::Work(portion)).await
    }
}

/// A segment at work.
struct Segment<'s> {
    giving: &'s Giving<'s>,
    number: u32,
    files: &'s [usize],
    /// How many items it has.
    end: u64,
    /// Items that were read and are not known to be in, with their bytes, and the position of the
    /// first.
    given: VecDeque<(Value, usize)>,
    from: u64,
    /// The file that is being read, by its place in the segment.
    open: Option<(usize, Items)>,
    /// So many items are given at a time.
    at_once: usize,
}

impl Segment<'_> {
    /// Gives its items until it is done, or somebody else works on it, or the run is over.
    async fn give(&mut self) -> Result<Option<Stopped>, Complaint> {
        let (mut position, mut unanswered) = (None, 0);
        loop {
            // The first call is given nothing: its answer says where the segment stands.
            let items = match position {
                None => Vec::new(),
                Some(position) => self.items_from(position).await?,
            };
            let from = position.unwrap_or(0);
            let end = from + items.len() as u64;
            let count = items.len();
            let given = Given { from, items, is_end: end == self.end };
            let worked = self.giving.call(self.number, given).await?;
            let is_in = |at: u64| usize::try_from(at.saturating_sub(from)).unwrap_or(count);
            let done = worked.position.map_or(0, is_in);
            self.at_once = match worked.stopped {
                Some(Stopped::Deadline | Stopped::Rate) => done.clamp(GIVEN_MIN, GIVEN_MAX),
                _ => (self.at_once * 2).min(GIVEN_MAX),
            };
            position = worked.position.or(position);
            let pause = self.giving.running.after(&worked, &mut unanswered)?;
            match worked.stopped {
                Some(Stopped::SegmentDone | Stopped::Leased) => return Ok(worked.stopped),
                _ if self.giving.running.ended().is_some() => return Ok(worked.stopped),
                _ => tokio::time::sleep(Duration::from_millis(pause)).await,
            }
        }
    }

    /// The next items from a position on, as many as one call may be given.
    async fn items_from(&mut self, position: u64) -> Result<Vec<Value>, Complaint> {
        let known = position.checked_sub(self.from).and_then(|it| usize::try_from(it).ok());
        let is_next = |known: usize| {
            known < self.given.len() || (known == self.given.len() && self.open.is_some())
        };
        match known.filter(|known| is_next(*known)) {
            Some(known) => drop(self.given.drain(..known)),
            None => self.go_to(position).await?,
        }
        self.from = position;
        let mut bytes = 0;
        for at in 0.. {
            if at == self.given.len() && !self.read_more().await? {
                break;
            }
            bytes += self.given[at].1;
            if at == self.at_once || (at > 0 && bytes > GIVEN_BYTES_MAX) {
                return Ok(self.given.iter().take(at).map(|(item, _)| item.clone()).collect());
            }
        }
        Ok(self.given.iter().map(|(item, _)| item.clone()).collect())
    }

    /// Reads one item more; false at the end.
    async fn read_more(&mut self) -> Result<bool, Complaint> {
        loop {
            let Some((at, items)) = &mut self.open else { return Ok(false) };
            if let Some(item) = items.next_item()? {
                self.given.push_back(item);
                return Ok(true);
            }
            let next = *at + 1;
            self.open_file(next).await?;
        }
    }

    /// Begins to read at a position.
    async fn go_to(&mut self, position: u64) -> Result<(), Complaint> {
        self.given.clear();
        let (mut at, mut left) = (0, position);
        while let Some(&file) = self.files.get(at) {
            let items = self.giving.export.items_of(file);
            if left < items {
                break;
            }
            (at, left) = (at + 1, left - items);
        }
        self.open_file(at).await?;
        if let Some((_, items)) = &mut self.open {
            for _ in 0..left {
                items.skip_item()?;
            }
        }
        Ok(())
    }

    async fn open_file(&mut self, at: usize) -> Result<(), Complaint> {
        // The former one is given up first: it may be a copy, which takes room.
        self.open = None;
        if let Some(&file) = self.files.get(at) {
            self.open = Some((at, self.giving.export.items(file).await?));
        }
        Ok(())
    }
}
