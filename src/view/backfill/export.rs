//! A run that reads an export of its table in S3 instead of the table.
//!
//! Whoever asks has the export's files and gives their items, a portion a call. They go the way
//! of a scanned page (`portion`); only the cursor is another: how many items of the segment are
//! in. So a command that was killed goes on where it stood, and of two at once each passes over
//! what the other has given.
//!
//! **Which exports are exact.** A scan may bring in what it has read because of three things,
//! and an export of the moment E has all three if the run was there before E:
//!
//! 1. What changed after E comes by the stream, and is newer than what the export has: the mapping
//!    is older than the run.
//! 2. What changed before E and is not delivered yet replaces what the export has, for a moment,
//!    until the record follows that wrote what the export has. What was delivered the ledger
//!    knows, and then the put fails.
//! 3. An item of the export that was removed after E has a row in the ledger that says so. The
//!    record of that was created after E, so the invocation that applied it began after E, has
//!    found the run's row, and gave the row of the removed item no time to live. Before the run
//!    begins such rows expire. An export from then has items that were removed and forgotten:
//!    they would come back, and nothing would ever take them away again.
//!
//! The third is why the run begins first, and the export is made then. The run is dated: its row
//! is read once it is written, and the store's own clock tells when that was. A function's clock,
//! which may be minutes off, has no part in it. An export counts from the moment at which a scan
//! would read the first item of a generation of this date (`generation`): behind what clocks
//! differ by, and behind what an export may miss. For a generation that is built that holds of
//! its own date too.
//!
//! A run that takes the place of one that was not ready yet has its date, if it had one: the rows
//! of removed items were kept since. So an export that cannot be read costs no new one.
//!
//! What it gives up: the function believes whoever may begin a run what moment an export is of,
//! and that the items are the export's. An operator can break views by other operations as well.

use super::{Look, OfViews, portion::Work, run::Run, segment::cursor_at};
use crate::{
    call::Halt,
    operation::backfill::{
        Begin, Portion, Stopped,
        export::{Export, ExportMade, GIVEN_MAX, Given},
    },
    record::Timestamp,
    store::{Item, json::item_from_json, tables::SegmentPage},
    view::{
        building::{self, RunState},
        generation,
        served::Served,
        source_item::LEDGER_KEY,
        source_table::SourceTable,
    },
};

/// Refuses an export of another table.
///
/// # Errors
/// It is one.
pub(super) fn check_export(begin: &Begin, source: &SourceTable<'_>) -> Result<(), Halt> {
    let Some(Export::Made(ExportMade { arn, table_arn, table_id, .. })) = &begin.export else {
        return Ok(());
    };
    let fault = if *table_arn != source.arn {
        format!("of {table_arn}")
    } else if table_id.is_some()
        && source.described.id.is_some()
        && *table_id != source.described.id
    {
        "of a table of this name that was deleted".to_owned()
    } else {
        return Ok(());
    };
    let message = format!("the export {arn} is {fault}: export the table {}", source.arn);
    Err(Halt::new("ExportOfAnotherTable", message))
}

/// Refuses to go on with a run that reads something else than is asked for.
///
/// # Errors
/// It does.
pub(super) fn check_kind(run: &Run, begin: &Begin) -> Result<(), Halt> {
    let fault = match (&run.export, &begin.export) {
        (None, None) | (Some(_), Some(Export::Awaited)) | (Some(Export::Awaited), Some(_)) => None,
        (Some(Export::Made(bound)), Some(Export::Made(asked))) => {
            (bound.arn != asked.arn).then(|| format!("reads the export {}", bound.arn))
        }
        (None, Some(_)) => Some("scans the table".to_owned()),
        (Some(_), None) => Some("reads an export".to_owned()),
    };
    fault.map_or(Ok(()), |fault| {
        let message = format!(
            "the run that is there {fault}: go on with that, or stop the run and begin another \
             with `again`"
        );
        Err(Halt::new("RunReadsOther", message))
    })
}

/// A run that has just begun, as one that reads what is asked for.
pub(super) fn begun(mut run: Run, former: Option<&Run>, begin: &Begin) -> Run {
    if begin.export.is_some() {
        // Rows of removed items have been kept since: see above.
        let dated = former.filter(|former| former.state != RunState::Ready);
        (run.export, run.dated_ms) = (Some(Export::Awaited), dated.and_then(|it| it.dated_ms));
    }
    run
}

/// Of which moment an export has to be at least that the run reads, as far as its own date says.
pub(super) fn from(run: &Run) -> Option<i64> {
    run.dated_ms.map(|dated| generation::first_read(Timestamp(dated)).0)
}

/// Has a run that awaits an export read this one, if it is late enough.
pub(super) fn bind(run: &mut Run, begin: &Begin, segments: u32) {
    let (Some(Export::Made(made)), Some(Export::Awaited)) = (&begin.export, &run.export) else {
        return;
    };
    let is_late_enough = run.from_ms.is_some_and(|from| made.time_ms >= from);
    if run.dated_ms.is_some() && is_late_enough {
        run.segments = segments.min(made.files).max(1);
        (run.items_expected, run.bytes_expected) = (made.items, made.bytes);
        run.export = Some(Export::Made(made.clone()));
    }
}

/// Refuses items where the run reads the table, and work without items where it does not.
///
/// # Errors
/// It is so.
pub(super) fn check_portion(run: &Run, portion: &Portion) -> Result<(), Halt> {
    let (code, message) = match (&run.export, &portion.given) {
        (None, None) => return Ok(()),
        (Some(Export::Made(_)), Some(given)) => {
            if portion.segment.is_some() && given.items.len() <= GIVEN_MAX {
                return Ok(());
            }
            ("PortionInvalid", "a segment is to be named, and 1000 items to be given at most")
        }
        (None, Some(_)) => ("RunScans", "the run scans the table: it takes no items"),
        (Some(Export::Made(_)), None) => {
            ("RunReadsExport", "the run reads an export: `changefold view backfill --export`")
        }
        (Some(Export::Awaited), _) => {
            ("ExportAwaited", "the run awaits an export of the table: begin it again with one")
        }
    };
    Err(Halt::new(code, message))
}

impl Served {
    /// Dates a run by the store's clock: it was there at that moment.
    pub(super) async fn date(
        &self,
        source: &SourceTable<'_>,
        id: &str,
        deadline: Timestamp,
    ) -> Result<(), Halt> {
        let (store, table) = self.ledger_place();
        let key = building::run_key(&source.arn);
        let dated = store.row_dated(table, (LEDGER_KEY, &key), deadline).await;
        let (_, Timestamp(moment)) = dated.map_err(|error| self.unanswered(error))?;
        let set_date = |run: &mut Run| {
            if run.dated_ms.is_some() {
                return Look::Keep(());
            }
            run.dated_ms = Some(moment);
            Look::Write(())
        };
        // A run that is not the current one any more needs no date.
        self.update((source, id), OfViews::None, set_date, deadline).await.map(|_| ())
    }
}

impl Work<'_> {
    /// Brings in the items that are given, as far as they are the next of their segment.
    ///
    /// # Errors
    /// What is given is no item, or a store refuses.
    pub(super) async fn given(&mut self, owner: &str, given: &Given) -> Result<Stopped, Halt> {
        let stopped = self.next_given(owner, given).await;
        if self.told.segment.is_some() {
            self.told.position = Some(self.segment.position());
        }
        stopped
    }

    async fn next_given(&mut self, owner: &str, given: &Given) -> Result<Stopped, Halt> {
        if let Some(stopped) = self.lease(owner).await? {
            return Ok(stopped);
        }
        if let Some(stopped) = self.must_stop().await? {
            return Ok(stopped);
        }
        let position = self.segment.position();
        // What is in already is passed over; behind a gap nothing is taken.
        let known = position.checked_sub(given.from).and_then(|known| usize::try_from(known).ok());
        let Some(next) = known.and_then(|known| given.items.get(known..)) else {
            return Ok(Stopped::NextItems);
        };
        let items = next.iter().enumerate().map(|(index, item)| {
            item_from_json(item).ok_or_else(|| {
                let (segment, at) = (self.segment.number, position + index as u64);
                let message =
                    format!("item {at} of segment {segment} is not an item in DynamoDB's JSON");
                Halt::new("ItemInvalid", message)
            })
        });
        let items: Vec<Item> = items.collect::<Result<_, _>>()?;
        let end = position + items.len() as u64;
        let next = (!given.is_end).then(|| cursor_at(end));
        let page = SegmentPage { items, next, read_units: 0.0, read: self.now() };
        if let Some(stopped) = self.take_in(page, Some(position)).await? {
            return Ok(stopped);
        }
        Ok(if self.segment.is_done { Stopped::SegmentDone } else { Stopped::NextItems })
    }
}
