//! Views whose definition has changed, built anew from the tables that are there.
//!
//! As a deployed function does it: the changed definition is a generation of its own, beside the
//! one that readers are given; a backfill reads the table, a minute after it was registered, while
//! the stream goes on; then the generation is switched to. What it gives up: a view over a stream
//! of Kinesis, which has no table to be read.

use super::{Complaint, Piece, terminal::Followed};
use crate::{
    local::{clock::VirtualClock, page::Shared},
    operation::{
        Operation,
        backfill::{
            Backfill, Begin, Begun, Finish, Portion, Status, Stopped, ViewStatus, Which, Worked,
        },
        generations::Switch,
    },
    view::building::{RunState, ViewState},
};
use serde::de::DeserializeOwned;
use std::{sync::PoisonError, time::Duration};
use tokio::time::Instant;

/// Between two looks at what is under way.
const PAUSE: Duration = Duration::from_secs(1);
/// A record is read so soon after it came, in milliseconds: a shard is polled once a second.
const AGE_MIN_MS: u64 = 5_000;
/// So long nothing is said of a rebuild that is not ready.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);
/// So often in a row a run may come to nothing.
const IDLE_MAX: u32 = 60;

/// What is rebuilt, and who is told.
pub(super) struct Rebuild<'a, P> {
    pub(super) piece: &'a P,
    pub(super) clock: &'a VirtualClock,
    /// Of each mapping what it has not finished, and what it cannot read.
    pub(super) followed: &'a [Followed],
    pub(super) tell: &'a dyn Fn(&str),
    pub(super) page: Option<&'a Shared>,
    /// Who waits so long is told what for; then after twice as long, and so on.
    pub(super) patience: Duration,
}

impl<P: Piece> Rebuild<'_, P> {
    /// Builds what is not built, and makes it current; then there is nothing more to do.
    pub(super) async fn tables(&self, tables: &[&str]) {
        for table in tables {
            if let Err(complaint) = self.table(table).await {
                (self.tell)(&format!("the views of {table} are not rebuilt: {complaint}"));
            }
        }
    }

    /// How old the oldest record is that has not met its fate, in milliseconds; one that nobody has
    /// read yet is not older than the least.
    fn iterator_age_ms(&self) -> u64 {
        let now = self.clock.elapsed();
        let oldest = self.followed.iter().filter_map(|of_one| {
            let shards = of_one.behind.borrow();
            shards.values().filter_map(|shard| shard.front()).map(|(_, came)| *came).min()
        });
        let ages = oldest.map(|came| now.saturating_sub_signed(came));
        ages.max().unwrap_or_default().max(AGE_MIN_MS)
    }

    /// What of a table's stream cannot be read at the moment: what was written may not have come.
    fn trouble(&self, table: &str) -> Option<String> {
        let of_table = self.followed.iter().filter(|of_one| of_one.name == table);
        let places = of_table.flat_map(|of_one| {
            let trouble = of_one.trouble.lock().unwrap_or_else(PoisonError::into_inner);
            trouble.iter().cloned().collect::<Vec<_>>()
        });
        let places: Vec<String> = places.collect();
        (!places.is_empty()).then(|| format!("{} cannot be read", places.join(", ")))
    }

    async fn table(&self, table: &str) -> Result<(), Complaint> {
        let piece = self.piece;
        if unfinished(piece).await?.is_empty() {
            return Ok(());
        }
        let order = Begin { table: table.to_owned(), segments: Some(1), ..Begin::default() };
        let begun: Begun = ask(piece, Backfill::Begin(order)).await?;
        let mut wanted = unfinished(piece).await?;
        wanted.retain(|view| view.source.as_ref() == Some(&begun.source));
        if wanted.is_empty() {
            return Ok(());
        }
        let names: Vec<&str> = wanted.iter().map(|view| &*view.view).collect();
        (self.tell)(&format!(
            "{} changed: built anew from table {table} in {} s, and shown as before until then",
            names.join(", "),
            begun.wait_ms.div_ceil(1_000)
        ));
        let mut idle = 0;
        let mut is_read = begun.state == RunState::CatchingUp;
        while !is_read {
            let portion =
                Portion { table: table.to_owned(), run: begun.run.clone(), ..Portion::default() };
            let worked: Worked = ask(piece, Backfill::Work(portion)).await?;
            is_read = worked.stopped == Some(Stopped::AllDone);
            idle = if worked.counts.scanned > 0 || worked.wait_ms > 0 { 0 } else { idle + 1 };
            if idle == IDLE_MAX {
                return Err(Complaint::new("the table is not read, call after call"));
            }
            tokio::time::sleep(Duration::from_millis(worked.wait_ms)).await;
        }
        self.wait_until_ready(table, &wanted, &names).await?;
        for ViewStatus { view, generation, .. } in &wanted {
            let switch = Switch { view: view.clone(), generation: Some(*generation) };
            piece.operate(Operation::Switch(switch)).await?;
        }
        (self.tell)(&format!("{} as changed: shown from now on", names.join(", ")));
        self.page.into_iter().for_each(Shared::has_worked);
        Ok(())
    }
}

impl<P: Piece> Rebuild<'_, P> {
    /// Waits until the stream has come as far as the table was read, and says now and then what it
    /// waits for. While the stream cannot be read, nothing says how far it is.
    async fn wait_until_ready(
        &self,
        table: &str,
        wanted: &[ViewStatus],
        names: &[&str],
    ) -> Result<(), Complaint> {
        let (since, mut patience) = (Instant::now(), self.patience);
        loop {
            let age_ms = self.iterator_age_ms();
            let why = match self.trouble(table) {
                Some(trouble) => trouble,
                None if self.is_ready(table, wanted, age_ms).await? => return Ok(()),
                None if age_ms > AGE_MIN_MS => {
                    format!("a record of {} s ago is not finished", age_ms / 1_000)
                }
                None => "the stream is not as far as the table was read".to_owned(),
            };
            if since.elapsed() >= patience {
                let (names, after) = (names.join(", "), since.elapsed().as_secs());
                (self.tell)(&format!(
                    "{names} as changed: not ready after {after} s, and shown as before: {why}"
                ));
                patience *= 2;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn is_ready(
        &self,
        table: &str,
        wanted: &[ViewStatus],
        iterator_age_ms: u64,
    ) -> Result<bool, Complaint> {
        let finish = Finish { table: table.to_owned(), iterator_age_ms: Some(iterator_age_ms) };
        let status: Status = ask(self.piece, Backfill::Finish(finish)).await?;
        let is_ready = |it: &ViewStatus| {
            let same =
                |other: &&ViewStatus| (&other.view, other.generation) == (&it.view, it.generation);
            status.views.iter().find(same).is_some_and(|it| it.state == Some(ViewState::Ready))
        };
        Ok(wanted.iter().all(is_ready))
    }
}

async fn ask<P: Piece, T: DeserializeOwned>(piece: &P, step: Backfill) -> Result<T, Complaint> {
    Ok(serde_json::from_value(piece.operate(Operation::Backfill(step)).await?)?)
}

/// The generations of views that are newer than what readers are given.
async fn unfinished<P: Piece>(piece: &P) -> Result<Vec<ViewStatus>, Complaint> {
    let status: Status = ask(piece, Backfill::Status(Which::default())).await?;
    let newest = |it: &ViewStatus| {
        let mut others = status.views.iter().filter(|other| other.view == it.view);
        others.all(|other| other.generation <= it.generation)
    };
    let is_wanted = |it: &&ViewStatus| newest(it) && !it.is_current;
    Ok(status.views.iter().filter(is_wanted).cloned().collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        call::Call,
        local::{
            cli::dev::terminal::{Behind, Trouble},
            clock::Pace,
            report::Results,
            target::{FunctionError, Target},
        },
        record::Timestamp,
    };
    use bytes::Bytes;
    use futures_util::future::LocalBoxFuture;
    use serde_json::Value;
    use std::cell::{Cell, RefCell};

    /// Says that the view is ready whenever it is asked.
    struct Ready {
        view: ViewStatus,
        asked: Cell<u32>,
    }

    impl Target for Ready {
        fn invoke(&self, _: Bytes, _: Call) -> LocalBoxFuture<'_, Result<Bytes, FunctionError>> {
            Box::pin(async { Ok(Bytes::new()) })
        }
    }

    impl Piece for Ready {
        type Target = Self;

        fn target(&self) -> &Self {
            self
        }

        async fn results(&self) -> Result<Results, Complaint> {
            Ok(Results::default())
        }

        async fn operate(&self, operation: Operation) -> Result<Value, Complaint> {
            assert!(matches!(operation, Operation::Backfill(Backfill::Finish(_))));
            self.asked.set(self.asked.get() + 1);
            let (views, runs, verified) = (vec![self.view.clone()], Vec::new(), Vec::new());
            Ok(serde_json::to_value(Status { views, runs, verified })?)
        }
    }

    #[tokio::test]
    async fn while_a_reader_is_in_trouble_nothing_is_shown_and_it_says_so() {
        let view = ViewStatus {
            view: "totals".to_owned(),
            generation: 2,
            table: "totals_g2".to_owned(),
            is_current: false,
            state: Some(ViewState::Ready),
            source: None,
        };
        let piece = Ready { view: view.clone(), asked: Cell::new(0) };
        let followed = |name: &str| {
            let (behind, trouble) = (Behind::default(), Trouble::default());
            Followed { name: name.to_owned(), behind, trouble }
        };
        let all = [followed("orders"), followed("others")];
        let trouble = |at: usize| all[at].trouble.lock().unwrap();
        trouble(0).insert("stream orders, shard a".to_owned());
        trouble(1).insert("stream others, shard b".to_owned());
        let said = RefCell::new(Vec::new());
        let rebuild = Rebuild {
            piece: &piece,
            clock: &VirtualClock::new(Timestamp(0), Pace::Real),
            followed: &all,
            tell: &|notice| said.borrow_mut().push(notice.to_owned()),
            page: None,
            patience: Duration::from_millis(1),
        };
        let wanted = [view];
        let waiting = rebuild.wait_until_ready("orders", &wanted, &["totals"]);
        let goes_on = async {
            tokio::time::sleep(PAUSE + PAUSE / 2).await;
            assert_eq!(piece.asked.get(), 0, "it would be switched to");
            trouble(0).clear();
        };
        let (ended, ()) = tokio::join!(waiting, goes_on);
        ended.unwrap();
        assert_eq!(piece.asked.get(), 1);
        let said = said.into_inner().join("\n");
        assert!(said.contains("totals as changed: not ready after"), "{said}");
        assert!(said.contains("stream orders, shard a cannot be read"), "{said}");
        assert!(!said.contains("others"), "{said}");
    }
}
