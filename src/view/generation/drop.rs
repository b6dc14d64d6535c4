//! Takes generations away: out of the registry at once, and their rows later.
//!
//! What is dropped stands in the registry until its rows are deleted, so that any call can go on
//! with them, a bounded portion each. A call that dies has deleted some; the next one finds the
//! others. What it gives up: rows are found by reading. The ledger is read as a whole, one unit
//! for 4 KB, and a table that is to go as well is dropped more cheaply as a table.

use super::{CLOCKS_MS, IN_FLIGHT_MS};
use crate::{
    call::{Call, Halt},
    concurrent,
    operation::{
        backfill::UNITS_PER_S_DEFAULT,
        generations::{DropView, DroppedView},
    },
    record::Timestamp,
    store::{
        Item, StoreError,
        rows::{Change, RowKey, text, text_of},
    },
    view::{
        building::{self, DROPPED, STATE},
        definition::View,
        registry::{self, Id, Registered, Registry},
        rows::ROW_KEY,
        served::Served,
        source_item::LEDGER_KEY,
        sources::{self, kind_of},
        sql,
    },
};
use std::time::Duration;

/// Rows that are deleted at once.
const AT_ONCE: usize = 25;
/// No page is begun in the last milliseconds before the deadline.
const RESERVE_MS: i64 = 3_000;

impl Served {
    /// Drops a generation or a whole view, and deletes rows of what was dropped before.
    ///
    /// # Errors
    /// There is no such generation, or it is the current one; the ledger is another function's
    /// by now; or the store does not answer.
    pub(in crate::view) async fn drop_view(
        &self,
        drop: &DropView,
        call: &Call,
    ) -> Result<DroppedView, Halt> {
        if !drop.yes {
            let message = "a view is dropped with `yes` only: its rows do not come back";
            return Err(Halt::new("DropUnconfirmed", message));
        }
        let (store, table) = self.ledger_place();
        let before = self.usage();
        let mut told = DroppedView { view: drop.view.clone(), ..DroppedView::default() };
        let registry = self.unregistered(drop, call.deadline).await?;
        let is_of = |(id, _): &(&Id, &Registered)| {
            id.0 == drop.view && drop.generation.is_none_or(|number| number == id.1)
        };
        let key = registry::served_key();
        let dated = store.row_dated(table, (LEDGER_KEY, &key), call.deadline).await;
        let (_, Timestamp(now)) = dated.map_err(|error| self.unanswered(error))?;
        let in_flight_ms = drop.timeout_s.map_or(IN_FLIGHT_MS, |timeout| {
            IN_FLIGHT_MS.min(i64::from(timeout) * 1_000 + CLOCKS_MS)
        });
        for (id, known) in registry.dropped.iter().filter(is_of) {
            let from = known.since_ms.unwrap_or(now).saturating_add(in_flight_ms);
            let wait_ms = u64::try_from(from.saturating_sub(now)).unwrap_or(0);
            let is_deleted = wait_ms == 0
                && self.delete_rows((id, known), (drop, &registry), (&mut told, call)).await?;
            if is_deleted {
                self.forgotten(id, call.deadline).await?;
            } else {
                told.left.push(id.1);
                told.wait_ms = told.wait_ms.max(wait_ms);
            }
        }
        let used = self.usage().since(before);
        (told.read_units, told.write_units) = (used.read_units, used.write_units);
        Ok(told)
    }

    /// Takes what is to be dropped out of what is served, unless that is done; the registry then.
    async fn unregistered(&self, drop: &DropView, deadline: Timestamp) -> Result<Registry, Halt> {
        let (store, table) = self.ledger_place();
        loop {
            let mut registry = registry::served(store, table, &self.owner, deadline)
                .await
                .map_err(|error| Halt::new(error.code(), error.to_string()).caused_by(error))?;
            let is_meant = |number: u32| drop.generation.is_none_or(|it| it == number);
            let meant: Vec<(u32, bool)> = registry
                .of(&drop.view)
                .filter(|(number, _)| is_meant(*number))
                .map(|(number, known)| (number, known.is_current))
                .collect();
            if meant.is_empty() {
                let is_dropped = |(name, number): &Id| *name == drop.view && is_meant(*number);
                if registry.dropped.keys().any(is_dropped) {
                    return Ok(registry);
                }
                let message = format!(
                    "no such generation of a view {} is registered: `view status` lists those \
                     that are",
                    drop.view
                );
                return Err(Halt::new("GenerationUnknown", message));
            }
            if let (Some(number), [(_, true)]) = (drop.generation, &*meant) {
                let message = format!(
                    "generation {number} of view {} is the one that readers are given: switch to \
                     another one first, or drop the whole view",
                    drop.view
                );
                return Err(Halt::new("GenerationCurrent", message));
            }
            let mut changes = Vec::new();
            for (number, is_current) in meant {
                let id = (drop.view.clone(), number);
                if let Some(known) = registry.generations.remove(&id) {
                    let used = registry.numbers.entry(known.from.clone()).or_insert(1);
                    *used = (*used).max(number);
                    registry.dropped.insert(id, Registered { since_ms: None, ..known });
                }
                if is_current {
                    let row = Item::from([
                        (LEDGER_KEY.to_owned(), text(building::state_key(&drop.view))),
                        ("view".to_owned(), text(&drop.view)),
                        (STATE.to_owned(), text(DROPPED)),
                    ]);
                    changes.push(Change::put(table, row));
                }
            }
            let written = registry::wrote(store, table, (&registry, true), changes, deadline).await;
            written.map_err(|error| self.unanswered(error))?;
        }
    }

    /// Deletes rows of a dropped generation; whether none is left.
    async fn delete_rows(
        &self,
        (id, known): (&Id, &Registered),
        (drop, registry): (&DropView, &Registry),
        (told, call): (&mut DroppedView, &Call),
    ) -> Result<bool, Halt> {
        let (_, ledger) = self.ledger_place();
        let per_s = drop.write_units_per_s.unwrap_or(UNITS_PER_S_DEFAULT).max(1);
        let mut portion = Portion { served: self, told, call, per_s };
        if let Some(table) = &known.table
            && !portion.delete(table, ROW_KEY, |_| true).await?
        {
            return Ok(false);
        }
        // Ledger rows are shared by the views of a generation; the last one takes them.
        let is_same = |other: &Registered, number: u32| {
            number == id.1
                && kind_with(other, number) == kind_with(known, number)
                && other.from == known.from
        };
        if registry.generations.iter().any(|((_, number), other)| is_same(other, *number)) {
            return Ok(true);
        }
        let Some(kind) = kind_with(known, id.1) else { return Ok(true) };
        portion.delete(ledger, LEDGER_KEY, |key| sources::is_of(key, &known.from, &kind)).await
    }

    /// Strikes a generation off whose rows are deleted, with what is said of it.
    async fn forgotten(&self, id: &Id, deadline: Timestamp) -> Result<(), Halt> {
        let (store, table) = self.ledger_place();
        let row =
            |key: String| RowKey { table, key: Item::from([(LEDGER_KEY.to_owned(), text(key))]) };
        let own = row(building::generation_key(&id.0, id.1));
        store.delete(&own, deadline).await.map_err(|error| self.unanswered(error))?;
        loop {
            let mut registry = self.owned_registry(deadline).await?;
            if registry.dropped.remove(id).is_none() {
                return Ok(());
            }
            let written = registry::wrote(store, table, (&registry, false), Vec::new(), deadline);
            if written.await.map_err(|error| self.unanswered(error))? {
                return Ok(());
            }
        }
    }
}

/// What tells the ledger rows of a generation apart; none if its text cannot be read.
fn kind_with(known: &Registered, number: u32) -> Option<String> {
    let views = sql::parse(known.sql.as_deref()?).ok()?;
    views.first().map(|view: &View| kind_of(view, number))
}

/// A call at work on deleting.
struct Portion<'p> {
    served: &'p Served,
    told: &'p mut DroppedView,
    call: &'p Call,
    per_s: u32,
}

impl Portion<'_> {
    /// Deletes the rows of a table that are meant, as long as there is time; whether none is left.
    async fn delete(
        &mut self,
        table: &str,
        key_name: &str,
        is_meant: impl Fn(&str) -> bool,
    ) -> Result<bool, Halt> {
        let store = &self.served.store;
        let deadline = self.call.deadline;
        let mut from = None;
        loop {
            if self.is_late() {
                return Ok(false);
            }
            let page = match store.scan(table, None, from, deadline).await {
                Ok(page) => page,
                // The table itself is gone, and its rows with it.
                Err(error) if error.code == "ResourceNotFoundException" => return Ok(true),
                Err(error) => return Err(self.served.unanswered(error)),
            };
            let keys = page.items.iter().filter_map(|row| text_of(row, key_name));
            let keys: Vec<&str> = keys.filter(|key| is_meant(key)).collect();
            for keys in keys.chunks(AT_ONCE) {
                if self.is_late() {
                    return Ok(false);
                }
                self.delete_some(table, key_name, keys)
                    .await
                    .map_err(|error| self.served.unanswered(error))?;
            }
            from = page.next;
            if from.is_none() {
                return Ok(true);
            }
        }
    }

    async fn delete_some(
        &mut self,
        table: &str,
        key_name: &str,
        keys: &[&str],
    ) -> Result<(), StoreError> {
        let store = &self.served.store;
        let before = self.served.usage();
        let rows: Vec<RowKey<'_>> = keys
            .iter()
            .map(|key| RowKey { table, key: Item::from([(key_name.to_owned(), text(*key))]) })
            .collect();
        let deletes = rows.iter().map(|row| store.delete(row, self.call.deadline));
        concurrent::all_or_error(deletes).await?;
        self.told.rows += keys.len() as u64;
        let used = self.served.usage().since(before).write_units;
        let pause = Duration::from_secs_f64((used / f64::from(self.per_s)).clamp(0.0, 60.0));
        store.clock().sleep(pause).await;
        Ok(())
    }

    fn is_late(&self) -> bool {
        let Timestamp(now) = self.served.store.clock().now();
        now.saturating_add(RESERVE_MS) >= self.call.deadline.0
    }
}
