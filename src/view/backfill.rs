//! Views over a table that has items already.
//!
//! A run reads the table in segments while the stream goes on, and puts each item into the
//! ledger where the ledger knows nothing of it, as the oldest version there can be. What the
//! stream has brought before stays; what it brings later is newer. So no moment has to be
//! found at which scan and stream meet, and a segment can be read twice.
//!
//! The function does it itself, a bounded portion a call. The run is a few rows in the ledger's
//! table: the run and its state, one row a segment with its cursor and lease, and one that
//! shares the rates. What it needs: the stream was mapped before the run began, from
//! `TRIM_HORIZON`. What it gives up: while a run builds views they lack items, and an item may
//! go back to an older state of its own for a moment, when the scan has read it before a record
//! that is under way. The views' rows say so until the stream has passed the scan's end.

mod bucket;
mod chain;
mod export;
mod pace;
mod portion;
mod run;
mod segment;
mod status;
mod tidy;
mod wanted;

use super::{
    VIEWS_CHANGED,
    building::{RunState, ViewState},
    definition::{RETENTION_HOURS_DEFAULT, Shape, View},
    ledger::ledger_unread,
    registry,
    served::Served,
    source_table::{SourceTable, check_stream},
};
use crate::{
    call::{Call, Halt},
    operation::backfill::{
        Backfill, Begin, Begun, Estimate, Finish, PerItem, Portion, SEGMENTS_DEFAULT, Status,
        Stopped, UNITS_PER_S_DEFAULT, Which, Worked,
    },
    record::Timestamp,
    store::{Store, StoreError, Trouble, Usage, tables::TableStream},
};
use bucket::{Cost, Limits};
use pace::Pace;
use portion::{Work, read_units_per_item, reserve_ms, stopped_by};
use run::{Built, Expected, OtherRun, Run};
use segment::Segment;
use serde_json::Value;
use std::collections::VecDeque;

/// Segments of a run at most: their rows are read at every call.
const SEGMENTS_MAX: u32 = 1_000;
/// Rows of a group that one transaction shares among its items, about.
const SHARED_BY: f64 = 98.0;
/// A record may reach the function so much later than its stream says, in milliseconds.
const AGE_SLACK_MS: i64 = 5_000;

/// What a look at a run comes to, and what is told of it.
enum Look<T> {
    /// The run is to be written as it is now.
    Write(T),
    /// It stays as it is stored.
    Keep(T),
}

/// Of which views is said how far they are when a run is written.
#[derive(Debug, Clone, Copy)]
enum OfViews {
    /// Of those that the run builds.
    Built,
    /// Of none: nothing has changed for them.
    None,
}

impl Served {
    /// Carries out one step of a backfill.
    ///
    /// # Errors
    /// The step names what is not there, the ledger is another function's by now, or a store
    /// refuses.
    pub(super) async fn backfill(&self, step: &Backfill, call: &Call) -> Result<Value, Halt> {
        fn told(answer: impl serde::Serialize) -> Value {
            serde_json::to_value(answer).expect("texts and numbers are JSON")
        }
        if !step.only_reads() {
            let (store, table) = self.ledger_place();
            registry::still_owned(store, table, &self.owner, call.deadline).await?;
        }
        match step {
            Backfill::Estimate(of) => self.estimate(&of.table, call).await.map(told),
            Backfill::Begin(begin) => self.begin(begin, call).await.map(told),
            Backfill::Work(portion) => {
                let worked = Box::pin(self.work_on(portion, call)).await?;
                Ok(told(Worked { wait_s: worked.wait_ms.div_ceil(1_000), ..worked }))
            }
            Backfill::Chain(chain) => Box::pin(self.chain(chain, call)).await.map(told),
            Backfill::Finish(finish) => self.finish(finish, call).await.map(told),
            Backfill::Tidy(tidy) => self.tidy(tidy, call).await.map(told),
            Backfill::Stop(of) => self.stop(&of.table, call).await.map(told),
            Backfill::Status(which) => self.status(which, call).await.map(told),
        }
    }

    /// How much there is, and what bringing it in takes.
    async fn estimate(&self, table: &str, call: &Call) -> Result<Estimate, Halt> {
        let source = self.source_table(table, call.deadline).await?;
        let (_, wanted) = self.wanted(&source, call.deadline).await?;
        let views = self.views_of(&source, &wanted);
        let definitions: Vec<&View> = views.iter().map(|&view| &self.definitions[view]).collect();
        Ok(estimate_of(&source, &definitions, wanted.len()))
    }

    /// Begins a run, or goes on with the one that is there.
    async fn begin(&self, begin: &Begin, call: &Call) -> Result<Begun, Halt> {
        let segments = begin.segments.unwrap_or(SEGMENTS_DEFAULT);
        let per_s = |units: Option<u32>| units.unwrap_or(UNITS_PER_S_DEFAULT);
        let limits = Limits {
            read_per_s: per_s(begin.read_units_per_s),
            write_per_s: per_s(begin.write_units_per_s),
            units_max: begin.units_max,
        };
        if segments == 0
            || segments > SEGMENTS_MAX
            || limits.read_per_s.min(limits.write_per_s) == 0
        {
            let message = "a run has 1 to 1000 segments, and at least one unit a second";
            return Err(Halt::new("BackfillInvalid", message));
        }
        let deadline = call.deadline;
        let source = self.source_table(&begin.table, deadline).await?;
        if !begin.without_stream {
            check_stream(&source)?;
        }
        export::check_export(begin, &source)?;
        let (store, table) = self.ledger_place();
        let described = &source.described;
        loop {
            let former = self.run_of(&source.arn, deadline).await?;
            let (building, wanted) = self.wanted(&source, deadline).await?;
            if !source.is_first() && wanted.iter().any(|number| *number > 1) {
                return Err(of_another_source(&source));
            }
            let is_over = |run: &Run| stopped_by(run.state) == Some(Stopped::AllDone);
            let goes_on = |run: &Run| {
                run.generations == wanted && (run.state == RunState::Scanning || !begin.again)
            };
            let mut run = match former {
                Some(run)
                    if is_over(&run) && !begin.again && building.is_subset(&run.generations) =>
                {
                    return Ok(begun(&run, 0));
                }
                Some(mut run) if !is_over(&run) && goes_on(&run) => {
                    check_table(&run, &source)?;
                    (run.state, run.limits) = (RunState::Scanning, limits);
                    export::check_kind(&run, begin)?;
                    run
                }
                former => {
                    let expected = Expected {
                        table_id: described.id.as_deref(),
                        items: described.items,
                        bytes: described.bytes,
                    };
                    let run = (&*source.arn, store.unique());
                    let pace = Pace::new((store, table), &source.arn, limits, "");
                    pace.reset(deadline).await.map_err(|error| self.unanswered(error))?;
                    let how = (segments, limits, wanted);
                    let now = store.clock().now();
                    let run = Run::begun(run, former.as_ref(), how, expected, now);
                    export::begun(run, former.as_ref(), begin)
                }
            };
            run.from_ms = self.first_read_of(&source, &run.generations).max(export::from(&run));
            export::bind(&mut run, begin, segments);
            if self.wrote(&run, (&source, OfViews::Built), deadline).await? {
                if run.export.is_some() && run.dated_ms.is_none() {
                    // What it may read is known now: looked at again, it takes its export.
                    self.date(&source, &run.id, deadline).await?;
                    continue;
                }
                let wait_ms = self.wait_ms(&run, deadline).await?;
                return Ok(begun(&run, wait_ms));
            }
        }
    }

    /// Works on a portion of one segment.
    async fn work_on(&self, portion: &Portion, call: &Call) -> Result<Worked, Halt> {
        let began = self.usage();
        let (store, table) = self.ledger_place();
        let deadline = call.deadline;
        let source = self.source_table(&portion.table, deadline).await?;
        let run = self.run_of(&source.arn, deadline).await?;
        let run = run.filter(|run| run.id == portion.run).ok_or_else(|| {
            let message = format!(
                "the run that was asked for is not the current one of {}: ask for its status",
                source.name()
            );
            Halt::new("RunNotCurrent", message)
        })?;
        check_table(&run, &source)?;
        let ended = |stopped| Worked { state: Some(run.state), stopped, ..Worked::default() };
        if let Some(stopped) = stopped_by(run.state) {
            return Ok(ended(Some(stopped)));
        }
        export::check_portion(&run, portion)?;
        let wait_ms = self.wait_ms(&run, deadline).await?;
        if wait_ms > 0 {
            return Ok(Worked { wait_ms, ..ended(Some(Stopped::TooEarly)) });
        }
        let is_covered =
            |it: &SourceTable<'_>| run.generations.contains(&self.groups[it.group].generation);
        let groups: Vec<_> = self.in_each_group(&source).filter(is_covered).collect();
        if groups.is_empty() {
            let message = "what the run builds was dropped: begin another";
            return Err(Halt::new("RunNotCurrent", message));
        }
        let owner = self.call_id(call);
        let id = (&*source.arn, &*run.id);
        let segments = Segment::all((store, table), id, run.segments, deadline).await;
        let segments = segments.map_err(|error| self.unanswered(error))?;
        if segments.iter().all(|segment| segment.is_done) {
            let state = self.scanned(&source, &run.id, deadline).await?;
            let stopped = Some(Stopped::AllDone);
            return Ok(Worked { state: Some(state), stopped, ..Worked::default() });
        }
        let asked = portion.segment.and_then(|number| segments.get(usize::try_from(number).ok()?));
        if asked.is_some_and(|segment| segment.is_done) {
            return Ok(Worked { segment: portion.segment, ..ended(Some(Stopped::SegmentDone)) });
        }
        let now = store.clock().now();
        let is_meant = |number: u32| portion.segment.is_none_or(|segment| segment == number);
        let free = segments.into_iter().filter(|it| is_meant(it.number) && it.is_free(now));
        let mut free: VecDeque<Segment> = free.collect();
        let Some(segment) = free.pop_front() else { return Ok(ended(Some(Stopped::Leased))) };
        let mut work = Work {
            views: self,
            call,
            source: &source,
            groups,
            pace: Pace::new((store, table), &source.arn, run.limits, &owner),
            told: ended(None),
            segment,
            free,
            began,
            accounted: began,
            reserve_ms: reserve_ms(now, deadline),
            read_units_per_item: read_units_per_item(run.items_expected, run.bytes_expected),
            quarantine_told: 0,
            run,
        };
        let stopped = match &portion.given {
            None => work.pages(&owner).await,
            Some(given) => work.given(&owner, given).await,
        };
        self.end(work, stopped).await
    }

    /// Gives the lease back and tells what was done; the last segment's end is the scan's.
    async fn end(
        &self,
        mut work: Work<'_>,
        stopped: Result<Stopped, Halt>,
    ) -> Result<Worked, Halt> {
        let (deadline, place) = (work.call.deadline, self.ledger_place());
        work.segment.release(place, deadline).await;
        drop(work.pace.settle(deadline).await);
        let stopped = stopped?;
        let mut told = std::mem::take(&mut work.told);
        match stopped {
            Stopped::Units => {
                let pauses = |run: &mut Run| {
                    let is_running = run.state == RunState::Scanning;
                    run.state = if is_running { RunState::Paused } else { run.state };
                    is_running
                };
                told.state = Some(self.change(work.source, &work.run.id, pauses, deadline).await?);
            }
            Stopped::SegmentDone => {
                let id = (&*work.source.arn, &*work.run.id);
                let segments = Segment::all(place, id, work.run.segments, deadline).await;
                let segments = segments.map_err(|error| self.unanswered(error))?;
                #[expect(clippy::cast_precision_loss, reason = "at most 49 of a group")]
                let views = self.views_of(work.source, &work.run.generations).len() as f64;
                let cost = Cost::of_units(1.0, 2.0 * (1.0 + views));
                let is_end = segments.iter().all(|segment| segment.is_done);
                // Without leave, the next call sees that nothing is left.
                if is_end && work.leave(cost).await?.is_none() {
                    told.state = Some(self.scanned(work.source, &work.run.id, deadline).await?);
                }
            }
            _ => {}
        }
        told.stopped = Some(stopped);
        let used = self.usage().since(work.began);
        (told.read_units, told.write_units) = (used.read_units, used.write_units);
        Ok(told)
    }

    /// Every segment is read to its end.
    async fn scanned(
        &self,
        source: &SourceTable<'_>,
        run: &str,
        deadline: Timestamp,
    ) -> Result<RunState, Halt> {
        let Timestamp(now) = self.store.clock().now();
        let ends = |run: &mut Run| {
            let is_running = stopped_by(run.state) != Some(Stopped::AllDone);
            if is_running {
                (run.state, run.scan_end_ms) = (RunState::CatchingUp, Some(now));
            }
            is_running
        };
        self.change(source, run, ends, deadline).await
    }

    /// Says the views ready, if the stream has passed the end of the scan and every item is in.
    async fn finish(&self, finish: &Finish, call: &Call) -> Result<Status, Halt> {
        let source = self.source_table(&finish.table, call.deadline).await?;
        let Timestamp(now) = self.store.clock().now();
        let which = Which { table: Some(source.arn.clone()) };
        let status = self.status(&which, call).await?;
        let run = status.runs.first().filter(|run| run.counts.not_done == 0);
        if let Some(run) = run {
            let age = finish.iterator_age_ms.map_or(self.retention_ms(), |age| {
                i64::try_from(age).unwrap_or(i64::MAX).saturating_add(AGE_SLACK_MS)
            });
            let has_passed = |run: &mut Run| {
                let end = run.scan_end_ms.unwrap_or(i64::MAX);
                let is_ready = run.state == RunState::CatchingUp && now.saturating_sub(age) > end;
                run.state = if is_ready { RunState::Ready } else { run.state };
                is_ready
            };
            self.change(&source, &run.run, has_passed, call.deadline).await?;
        }
        self.status(&which, call).await
    }

    /// Stops a run between two portions.
    async fn stop(&self, table: &str, call: &Call) -> Result<Status, Halt> {
        let source = self.source_table(table, call.deadline).await?;
        if let Some(run) = self.run_of(&source.arn, call.deadline).await? {
            let stops = |run: &mut Run| {
                let is_running = matches!(run.state, RunState::Scanning | RunState::Paused);
                run.state = if is_running { RunState::Stopped } else { run.state };
                chain::end_stopped(run);
                is_running
            };
            self.change(&source, &run.id, stops, call.deadline).await?;
        }
        self.status(&Which { table: Some(source.arn.clone()) }, call).await
    }

    /// Changes the current run, if the change says that it is one; how it stands then.
    async fn change(
        &self,
        source: &SourceTable<'_>,
        id: &str,
        change: impl Fn(&mut Run) -> bool,
        deadline: Timestamp,
    ) -> Result<RunState, Halt> {
        let changed = |run: &mut Run| {
            let is_one = change(run);
            if is_one { Look::Write(run.state) } else { Look::Keep(run.state) }
        };
        let state = self.update((source, id), OfViews::Built, changed, deadline).await?;
        Ok(state.unwrap_or(RunState::Stopped))
    }

    /// Looks at a run and writes what comes of it under its revision, again where somebody else
    /// has written meanwhile; none if it is not the current one of its source.
    async fn update<T>(
        &self,
        (source, id): (&SourceTable<'_>, &str),
        views: OfViews,
        look: impl Fn(&mut Run) -> Look<T>,
        deadline: Timestamp,
    ) -> Result<Option<T>, Halt> {
        loop {
            let run = self.run_of(&source.arn, deadline).await?.filter(|run| run.id == id);
            let Some(mut run) = run else { return Ok(None) };
            match look(&mut run) {
                Look::Keep(told) => return Ok(Some(told)),
                Look::Write(told) if self.wrote(&run, (source, views), deadline).await? => {
                    return Ok(Some(told));
                }
                Look::Write(_) => {}
            }
        }
    }

    /// Of a view that joins: the name of the other one of its two tables.
    fn other_source(&self, view: usize, name: &str) -> Option<&str> {
        let View { from, join, .. } = &self.definitions[view];
        let table = &join.as_ref()?.table;
        Some(if name == table { from } else { table })
    }

    /// Writes a run and how far it is with its views; false if it has to be looked at again.
    async fn wrote(
        &self,
        run: &Run,
        (source, views): (&SourceTable<'_>, OfViews),
        deadline: Timestamp,
    ) -> Result<bool, Halt> {
        let built = match views {
            OfViews::Built => self.views_of(source, &run.generations),
            OfViews::None => Vec::new(),
        };
        let (mut states, mut others) = (Vec::new(), Vec::new());
        for view in built {
            let mut state = run.state.of_views();
            if let Some(other) = self.other_source(view, source.name()) {
                // One of which no record has come has no ARN, and no run.
                let other = self.source_arn(other);
                let other_run = match &other {
                    Some(arn) => self.run_of(arn, deadline).await?,
                    None => None,
                };
                let number = self.generations[view].number;
                let covers = other_run.as_ref().filter(|run| run.generations.contains(&number));
                state = state.min(match covers {
                    Some(run) => run.state.of_views(),
                    // A first generation knows what came since its mapping began.
                    None if number == 1 => ViewState::Ready,
                    None => ViewState::Building,
                });
                let revision = other_run.map(|run| run.revision);
                let other = other.map(|source| OtherRun { source, revision });
                others.extend(other.filter(|other| !others.contains(other)));
            }
            states.push((view, state));
        }
        let built = states.into_iter().map(|(view, state)| Built {
            view: &self.definitions[view].name,
            generation: self.generations[view],
            table: &self.view_tables[view],
            state,
        });
        let built: Vec<Built<'_>> = built.collect();
        match run.write(self.ledger_place(), (&built, &others), deadline).await {
            Ok(()) => Ok(true),
            Err(error) if matches!(error.trouble, Trouble::Guard | Trouble::Unknown) => {
                let is_outdated = self.is_outdated(deadline).await;
                if is_outdated.map_err(|error| self.unanswered(error))? {
                    return Err(Halt::new(VIEWS_CHANGED, "other views are served by now"));
                }
                Ok(false)
            }
            Err(error) => Err(self.unanswered(error)),
        }
    }

    /// Tells a call from all others: copies of one event have one request id.
    fn call_id(&self, call: &Call) -> String {
        format!("{}/{}", call.request_id, self.store.unique())
    }

    async fn run_of(&self, source: &str, deadline: Timestamp) -> Result<Option<Run>, Halt> {
        let (store, table) = self.ledger_place();
        let found = Run::find(store, table, source, deadline).await;
        found.map_err(|error| self.unanswered(error))
    }

    /// How long the streams of these views keep records at the longest.
    fn retention_ms(&self) -> i64 {
        let hours = self
            .definitions
            .iter()
            .map(|view| view.retention_hours)
            .max()
            .unwrap_or(RETENTION_HOURS_DEFAULT);
        i64::from(hours) * 3_600_000
    }

    /// The store and the name of the ledger's table.
    pub(super) fn ledger_place(&self) -> (&Store, &str) {
        (&self.store, &self.ledger_table)
    }

    /// What was used of both stores.
    pub(super) fn usage(&self) -> Usage {
        let own = self.store.usage();
        let source = self.source_store.as_ref().map(Store::usage).unwrap_or_default();
        Usage {
            calls: own.calls + source.calls,
            write_units: own.write_units + source.write_units,
            read_units: own.read_units + source.read_units,
        }
    }

    pub(super) fn unanswered(&self, error: StoreError) -> Halt {
        if error.trouble == Trouble::Rejected {
            return ledger_unread(error);
        }
        let table = &self.ledger_table;
        let message = format!("the ledger table {table} does not answer; what is done stays done");
        Halt::new("StoreUnavailable", message).caused_by(error)
    }
}

/// What bringing a table into views of so many generations takes.
pub(super) fn estimate_of(
    source: &SourceTable<'_>,
    views: &[&View],
    generations: usize,
) -> Estimate {
    let described = &source.described;
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    let (items, bytes) = (described.items as f64, described.bytes as f64);
    let is_rows = |view: &&&View| matches!(view.shape, Shape::Rows(_));
    // Half of what an item that changes its group touches.
    let touched: usize = views.iter().map(|view| view.rows_of_change() / 2).sum();
    #[expect(clippy::cast_precision_loss, reason = "at most 98 of a group")]
    let [rows, all, ledgers] =
        [views.iter().filter(is_rows).count(), touched, generations].map(|it| it as f64);
    let per_item = PerItem {
        read_units: ledgers,
        write_units_min: 2.0 * (ledgers + rows + (all - rows) / SHARED_BY),
        write_units_max: 2.0 * (ledgers + all),
    };
    Estimate {
        source: source.arn.clone(),
        views: views.iter().map(|view| view.name.clone()).collect(),
        items: described.items,
        bytes: described.bytes,
        has_stream: described.stream == TableStream::WithNewImage,
        read_units: bytes / 8_192.0 + items * per_item.read_units,
        write_units_min: items * per_item.write_units_min,
        write_units_max: items * per_item.write_units_max,
        per_item,
    }
}

fn begun(run: &Run, wait_ms: u64) -> Begun {
    let is_of_export = run.export.is_some();
    Begun {
        source: run.source.clone(),
        run: run.id.clone(),
        segments: run.segments,
        state: run.state,
        wait_ms,
        export: run.export.clone(),
        export_from_ms: run.from_ms.filter(|_| is_of_export),
    }
}

/// Refuses to go on with a run over a table that is not the same any more.
fn of_another_source(source: &SourceTable<'_>) -> Halt {
    let message = format!(
        "{} is not the first source named {} of this ledger, and a view of them was changed or \
         added later: such views cannot be built of several sources. Start the function on new \
         tables, or drop what was added",
        source.arn,
        source.name()
    );
    Halt::new("SourcesOfOneName", message)
}

fn check_table(run: &Run, source: &SourceTable<'_>) -> Result<(), Halt> {
    if run.table_id.is_none() || run.table_id == source.described.id {
        return Ok(());
    }
    let message = format!(
        "the table {} was deleted and made again since the run began: stop the run, and begin \
         another with `again`",
        source.name()
    );
    Err(Halt::new("SourceTableReplaced", message))
}
