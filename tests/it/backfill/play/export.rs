//! Calls of a backfill that read an export of the table, beside its stream.
//!
//! The run begins, later the export is made, at one moment of the world, and its items are given
//! to calls by several hands. A hand knows of no other: what it gives may be in already, or be
//! too far ahead.

use super::{DAY_MS, ORDERS, Play, Setup, Stopped, Worked};
use crate::backfill::wire::Troubles;
use changefold::operation::{
    Operation,
    backfill::{
        Backfill, Begin, Begun, Portion,
        export::{Export, ExportMade, Given},
    },
};
use serde_json::Value;
use std::{cell::RefCell, rc::Rc};

/// Which export is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::backfill) enum Exported {
    /// One that was made after the run has begun.
    Fresh,
    /// One that was made days before, and says that it was made now.
    Stale,
}

/// An export and the run that reads it, once there is one.
#[derive(Debug, Default)]
pub(super) struct Shared {
    run: Option<String>,
    segments: Vec<Vec<Value>>,
}

impl Setup {
    /// A small table that changes for minutes, while an export of it is made and read.
    pub(in crate::backfill) fn exported(seed: u64) -> Self {
        let export = Some(Exported::Fresh);
        Self { export, changes: 40, pause_ms: 8_000, ..Self::small(seed) }
    }

    /// Nothing fails, and the run begins days after the items were removed.
    pub(in crate::backfill) fn exported_too_early(seed: u64) -> Self {
        let (troubles, dies, worker_dies) = (Troubles::default(), 0, (0, 60));
        let export = Some(Exported::Stale);
        Self { export, troubles, dies, worker_dies, ahead_ms: 0, ..Self::small(seed) }
    }
}

impl Play {
    /// Begins the run, makes the export, and begins again with it.
    pub(super) fn exports(&self, which: Exported, shared: Rc<RefCell<Shared>>) {
        let play = self.clone();
        self.busy.set(self.busy.get() + 1);
        self.tasks.spawn(true, async move {
            let mut items = play.all_of("orders");
            let days = if which == Exported::Stale { 4 * DAY_MS } else { 0 };
            play.world.pass(days + play.world.ms_below(30_000)).await;
            let from = loop {
                if let Some(begun) = play.begins(Export::Awaited).await {
                    assert_eq!(begun.export, Some(Export::Awaited));
                    break begun.export_from_ms.unwrap();
                }
            };
            // A moment is a whole second, as the store tells it.
            play.world.until(from + play.world.ms_below(40_000)).await;
            let time_ms = play.world.now();
            if which == Exported::Fresh {
                items = play.all_of("orders");
            }
            play.world.pass(play.world.ms_below(60_000)).await;
            let made = ExportMade {
                arn: format!("{ORDERS}/export/01"),
                time_ms,
                table_arn: ORDERS.to_owned(),
                table_id: None,
                files: play.setup.segments,
                items: items.len() as u64,
                bytes: 1,
            };
            let run = loop {
                if let Some(begun) = play.begins(Export::Made(made.clone())).await {
                    assert_eq!(begun.export, Some(Export::Made(made)));
                    assert_eq!(begun.segments, play.setup.segments);
                    break begun.run;
                }
            };
            let mut segments = vec![Vec::new(); play.setup.segments as usize];
            for item in items {
                let segment = play.world.below(segments.len());
                segments[segment].push(item);
            }
            *shared.borrow_mut() = Shared { run: Some(run), segments };
            play.busy.set(play.busy.get() - 1);
        });
    }

    async fn begins(&self, export: Export) -> Option<Begun> {
        let step = Backfill::Begin(Begin {
            table: ORDERS.to_owned(),
            segments: Some(self.setup.segments),
            read_units_per_s: Some(self.setup.units_per_s),
            write_units_per_s: Some(self.setup.units_per_s),
            without_stream: true,
            export: Some(export),
            ..Begin::default()
        });
        let told = self.operate::<Begun>(Operation::Backfill(step), 10_000).await;
        self.world.pass(100).await;
        told.and_then(Result::ok)
    }

    /// Gives items of the export until every segment is in.
    pub(super) fn gives(&self, shared: Rc<RefCell<Shared>>) {
        let play = self.clone();
        self.busy.set(self.busy.get() + 1);
        self.tasks.spawn(true, async move {
            while shared.borrow().run.is_none() {
                play.world.pass(500).await;
            }
            let mut positions = vec![0; play.setup.segments as usize];
            loop {
                let segment = play.world.below(positions.len());
                let portion = play.portion(&shared.borrow(), segment, positions[segment]);
                let work = Operation::Backfill(Backfill::Work(portion));
                let time_ms = 2_000 + play.world.ms_below(18_000);
                match play.operate::<Worked>(work, time_ms).await {
                    Some(Ok(Worked { stopped: Some(Stopped::AllDone), .. })) => break,
                    Some(Ok(told)) => {
                        positions[segment] = told.position.unwrap_or(positions[segment]);
                        play.rests_after(&told).await;
                    }
                    Some(Err(_)) | None => play.world.pass(500).await,
                }
            }
            play.busy.set(play.busy.get() - 1);
        });
    }

    /// Some items from a position on, and now and then from one that is too far ahead.
    fn portion(&self, shared: &Shared, segment: usize, position: u64) -> Portion {
        let all = &shared.segments[segment];
        let ahead = if self.world.is_one_in(8) { self.world.below(3) } else { 0 };
        let from = (usize::try_from(position).unwrap() + ahead).min(all.len());
        let items: Vec<Value> = all[from..].iter().take(self.world.below(20)).cloned().collect();
        let is_end = from + items.len() == all.len();
        Portion {
            table: ORDERS.to_owned(),
            run: shared.run.clone().unwrap(),
            segment: Some(u32::try_from(segment).unwrap()),
            given: Some(Given { from: from as u64, items, is_end }),
        }
    }
}
