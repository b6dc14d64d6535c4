//! How far views and runs are, as their rows say.

use super::{pace::Pace, run::Run, segment::Segment};
use crate::{
    call::{Call, Halt},
    operation::backfill::{Counts, RunStatus, Status, ViewStatus, Which},
    record::Timestamp,
    store::rows::text_of,
    view::{
        building::{STATE, ViewState},
        served::{Generation, Served},
        sources,
    },
};
use std::collections::BTreeSet;

impl Served {
    /// How far the views are built.
    pub(super) async fn status(&self, which: &Which, call: &Call) -> Result<Status, Halt> {
        let rows = self.state_rows(call.deadline).await?;
        let asked = which.table.as_deref().and_then(|table| self.source_arn(table));
        if which.table.is_some() && asked.is_none() {
            let message = "no source of that name has come yet, and none was backfilled";
            return Err(Halt::new("NoViewForSource", message));
        }
        let mut sources: BTreeSet<String> = asked.clone().into_iter().collect();
        let mut status = Status::default();
        for (view, definition) in self.definitions.iter().enumerate() {
            let row = &rows[view];
            let source = text_of(row, "source").map(str::to_owned);
            let state = text_of(row, STATE).and_then(ViewState::read);
            if asked.is_none() {
                sources.extend(source.clone());
            }
            let Generation { number, is_current, .. } = self.generations[view];
            let reads = |table: &str, arn: &str| {
                sources::resource(arn).is_some_and(|it| it.strip_prefix("table/") == Some(table))
            };
            let joined = definition.join.as_ref().map(|join| &*join.table);
            let is_asked = match (&asked, &source) {
                (None, _) => true,
                // The row names the table that was read last.
                (Some(asked), Some(source)) => {
                    asked == source
                        || joined.is_some_and(|table| {
                            reads(table, asked) || reads(&definition.from, asked)
                        })
                }
                // One that waits for its backfill has no row.
                (Some(asked), None) => {
                    let is_read = reads(&definition.from, asked)
                        || joined.is_some_and(|table| reads(table, asked));
                    !is_current && is_read
                }
            };
            if is_asked {
                status.views.push(ViewStatus {
                    view: definition.name.clone(),
                    generation: number,
                    table: self.view_tables[view].clone(),
                    is_current,
                    state,
                    source,
                });
            }
        }
        status.verified = self.last_verified(&sources, call.deadline).await?;
        for source in sources {
            if let Some(run) = self.run_of(&source, call.deadline).await? {
                status.runs.push(self.run_status(&run, call.deadline).await?);
            }
        }
        Ok(status)
    }

    pub(super) async fn run_status(
        &self,
        run: &Run,
        deadline: Timestamp,
    ) -> Result<RunStatus, Halt> {
        let (store, table) = self.ledger_place();
        let id = (&*run.source, &*run.id);
        let segments = Segment::all((store, table), id, run.segments, deadline).await;
        let segments = segments.map_err(|error| self.unanswered(error))?;
        let used = Pace::new((store, table), &run.source, run.limits, "").used(deadline).await;
        let used = used.map_err(|error| self.unanswered(error))?;
        let mut counts = Counts::default();
        for segment in &segments {
            counts.add(segment.counts);
        }
        #[expect(clippy::cast_precision_loss, reason = "thousandths of units, below 2^53")]
        let units = |thousandths: i64| thousandths as f64 / 1_000.0;
        let done = segments.iter().filter(|segment| segment.is_done).count();
        Ok(RunStatus {
            source: run.source.clone(),
            run: run.id.clone(),
            generations: run.generations.iter().copied().collect(),
            state: run.state,
            segments: run.segments,
            segments_done: u32::try_from(done).unwrap_or(u32::MAX),
            items_expected: run.items_expected,
            counts,
            not_done: segments.into_iter().flat_map(|segment| segment.not_done).collect(),
            read_units: units(used.read),
            write_units: units(used.write),
            began_ms: run.began_ms,
            scan_end_ms: run.scan_end_ms,
            ready_by_ms: run.scan_end_ms.map(|end| end.saturating_add(self.retention_ms())),
            now_ms: store.clock().now().0,
            chain: run.chain.clone(),
            export: run.export.clone(),
        })
    }
}
