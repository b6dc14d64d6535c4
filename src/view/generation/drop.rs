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
        Item, StoreError, Usage,
        rows::{Change, RowKey, text, text_of},
    },
    view::{
        building::{self, DROPPED},
        registry::{self, Id, Registered, Registry},
        rows::ROW_KEY,
        served::Served,
        source_item::LEDGER_KEY,
        sources::{self, kind_of},
        values::{self, VALUE_KEYS},
    },
};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Rows that are deleted at once.
const AT_ONCE: usize = 25;
/// No page is begun in the last milliseconds before the deadline.
const RESERVE_MS: i64 = 3_000;
/// No pause is longer, in seconds: a page of the least rate there is.
const PAUSE_S_MAX: f64 = 3_600.0;

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
        let (mut waits, mut after) = (None::<u64>, Place::read(drop)?);
        for (id, known) in registry.dropped.iter().filter(is_of) {
            let from = known.since_ms.unwrap_or(now).saturating_add(in_flight_ms);
            let mut wait_ms = u64::try_from(from.saturating_sub(now)).unwrap_or(0);
            if wait_ms == 0 {
                let at = after.take_if(|after| after.generation == id.1);
                let work = (drop, &registry, at);
                match self.delete_rows((id, known), work, (&mut told, call)).await? {
                    None => {
                        self.forgotten(id, call.deadline).await?;
                        continue;
                    }
                    Some(left) => {
                        wait_ms = left.wait_ms;
                        told.cursor.get_or_insert(left.at.written());
                    }
                }
            }
            told.left.push(id.1);
            waits = Some(waits.map_or(wait_ms, |least| least.min(wait_ms)));
        }
        told.wait_ms = waits.unwrap_or_default();
        let used = self.usage().since(before);
        (told.read_units, told.write_units) = (used.read_units, used.write_units);
        Ok(told)
    }

    /// Takes what is to be dropped out of what is served, unless that is done; the registry then.
    async fn unregistered(&self, drop: &DropView, deadline: Timestamp) -> Result<Registry, Halt> {
        let (store, table) = self.ledger_place();
        loop {
            let mut registry = registry::served(store, table, &self.owner, deadline).await?;
            let is_meant = |number: u32| drop.generation.is_none_or(|it| it == number);
            let meant: Vec<(u32, bool)> = registry
                .of(&drop.view)
                .filter(|(number, _)| is_meant(*number))
                .map(|(number, known)| (number, known.is_current))
                .collect();
            let mut dropped = registry.dropped.keys().filter(|(name, _)| *name == drop.view);
            if meant.is_empty() {
                if dropped.any(|(_, number)| is_meant(*number)) {
                    return Ok(registry);
                }
                let message = format!(
                    "no such generation of a view {} is registered: `view status` lists those \
                     that are",
                    drop.view
                );
                return Err(Halt::new("GenerationUnknown", message));
            }
            if let (None, Some((view, number))) = (drop.generation, dropped.next()) {
                let message = format!(
                    "generation {number} of view {view} is being dropped, and the view is \
                     registered again: say which generation is meant"
                );
                return Err(Halt::new("GenerationNeeded", message));
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
            let is_whole = registry.of(&drop.view).count() == meant.len();
            for (number, _) in meant {
                let id = (drop.view.clone(), number);
                if let Some(known) = registry.generations.remove(&id) {
                    registry.number_max = registry.number_max.max(number);
                    registry.dropped.insert(id, Registered { since_ms: None, ..known });
                }
            }
            if is_whole {
                changes.push(Change::put(
                    table,
                    building::row_without_generation(&drop.view, DROPPED),
                ));
            }
            let written = registry::wrote(store, table, (&registry, true), changes, deadline).await;
            written.map_err(|error| self.unanswered(error))?;
        }
    }

    /// Deletes rows of a dropped generation; where to go on, unless none is left.
    async fn delete_rows(
        &self,
        (id, known): (&Id, &Registered),
        (drop, registry, at): (&DropView, &Registry, Option<Place>),
        (told, call): (&mut DroppedView, &Call),
    ) -> Result<Option<Left>, Halt> {
        let (_, ledger) = self.ledger_place();
        let per_s = |units: Option<u32>| units.unwrap_or(UNITS_PER_S_DEFAULT).max(1);
        let rates = (per_s(drop.read_units_per_s), per_s(drop.write_units_per_s));
        let mut portion = Portion { served: self, told, call, rates };
        let mut at = at.unwrap_or(Place { generation: id.1, ..Place::default() });
        if let Some(table) = known.table.as_ref().filter(|_| !at.is_ledger && !at.is_values)
            && let Some(left) = portion.delete((table, &[ROW_KEY]), at.clone(), |_| true).await?
        {
            return Ok(Some(left));
        }
        if known.keeps_values() && !at.is_ledger {
            if !at.is_values {
                at = Place { is_values: true, ..Place::of(id.1) };
            }
            let (table, place) = (values::table_name(ledger), values::place(&id.0, id.1));
            let is_meant = |key: &str| key.starts_with(&place);
            if let Some(left) = portion.delete((&table, &VALUE_KEYS), at.clone(), is_meant).await? {
                return Ok(Some(left));
            }
        }
        // Ledger rows are shared by the views of a generation; the last one takes them. A view
        // whose text is not known may share them.
        let Some(kind) = known.kind(id.1) else { return Ok(None) };
        let of_joined = known.joined_table().map(|table| (table, kind_of(None, id.1)));
        let read = std::iter::once((known.from.clone(), kind)).chain(of_joined);
        let is_shared = |(source, kind): &(String, String)| {
            registry.generations.iter().any(|((_, number), other)| {
                let reads = &other.from == source
                    && other.kind(*number).is_none_or(|other| other == *kind)
                    || other.joined_table().as_ref() == Some(source)
                        && kind_of(None, *number) == *kind;
                *number == id.1 && reads
            })
        };
        let goes: Vec<(String, String)> = read.filter(|read| !is_shared(read)).collect();
        if goes.is_empty() {
            return Ok(None);
        }
        if !at.is_ledger {
            at = Place { is_ledger: true, ..Place::of(id.1) };
        }
        let is_meant =
            |key: &str| goes.iter().any(|(source, kind)| sources::is_of(key, source, kind));
        portion.delete((ledger, &[LEDGER_KEY]), at, is_meant).await
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
            let names = registry.generations.keys().chain(registry.dropped.keys());
            if names.map(|(name, _)| name).all(|name| *name != id.0) {
                registry.retired.insert(id.0.clone());
            }
            let written = registry::wrote(store, table, (&registry, false), Vec::new(), deadline);
            if written.await.map_err(|error| self.unanswered(error))? {
                return Ok(());
            }
        }
    }
}

/// How far the rows of a generation are deleted.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Place {
    generation: u32,
    /// Whether its own table is done, and its values.
    is_ledger: bool,
    /// Whether its own table is done.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    is_values: bool,
    /// The key of the last row that was looked at.
    after: Option<String>,
    /// And its second key, if it has two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    after_sort: Option<String>,
}

/// The key of a row: of one attribute, or of two.
type Key = (String, Option<String>);

impl Place {
    /// Where a table begins.
    fn of(generation: u32) -> Self {
        Self { generation, ..Self::default() }
    }

    fn read(drop: &DropView) -> Result<Option<Self>, Halt> {
        let place = drop.cursor.as_deref().map(serde_json::from_str).transpose();
        place.map_err(|_| Halt::new("CursorInvalid", "the cursor is not one of a drop"))
    }

    /// The row with this key was looked at last.
    fn stands(&mut self, key: Option<Key>) {
        let (after, sort) = key.unzip();
        (self.after, self.after_sort) = (after, sort.flatten());
    }

    fn written(&self) -> String {
        serde_json::to_string(self).expect("texts and numbers are JSON")
    }
}

fn key_of(names: &[&str], row: &Item) -> Option<Key> {
    let mut parts = names.iter().map(|name| text_of(row, name).map(str::to_owned));
    Some((parts.next()??, parts.next().flatten()))
}

fn item_of(names: &[&str], (first, second): &Key) -> Item {
    let parts = names.iter().zip([Some(first), second.as_ref()]);
    parts.filter_map(|(name, part)| Some(((*name).to_owned(), text(part?)))).collect()
}

/// Where to go on with deleting, and when.
struct Left {
    at: Place,
    wait_ms: u64,
}

/// A call at work on deleting.
struct Portion<'p> {
    served: &'p Served,
    told: &'p mut DroppedView,
    call: &'p Call,
    /// Read and write units a second.
    rates: (u32, u32),
}

impl Portion<'_> {
    /// Deletes the rows of a table that are meant, as long as there is time; where to go on,
    /// unless none is left.
    async fn delete(
        &mut self,
        (table, key_names): (&str, &[&str]),
        mut at: Place,
        is_meant: impl Fn(&str) -> bool,
    ) -> Result<Option<Left>, Halt> {
        let (store, deadline) = (&self.served.store, self.call.deadline);
        loop {
            if self.is_late(0) {
                return Ok(Some(Left { at, wait_ms: 0 }));
            }
            let key = |first: String| (first, at.after_sort.clone());
            let from = at.after.clone().map(|first| item_of(key_names, &key(first)));
            let mut before = self.served.usage();
            let page = match store.scan(table, None, from, deadline).await {
                Ok(page) => page,
                // The table itself is gone, and its rows with it.
                Err(error) if error.code == "ResourceNotFoundException" => return Ok(None),
                Err(error) => return Err(self.served.unanswered(error)),
            };
            let keys = page.items.iter().filter_map(|row| key_of(key_names, row));
            let keys: Vec<Key> = keys.filter(|(first, _)| is_meant(first)).collect();
            for keys in keys.chunks(AT_ONCE) {
                self.delete_some((table, key_names), keys)
                    .await
                    .map_err(|error| self.served.unanswered(error))?;
                at.stands(keys.last().cloned());
                if let Some(wait_ms) = self.paused_since(before).await {
                    return Ok(Some(Left { at, wait_ms }));
                }
                before = self.served.usage();
            }
            match page.next {
                None => return Ok(None),
                Some(next) => at.stands(key_of(key_names, &next)),
            }
            if let Some(wait_ms) = self.paused_since(before).await {
                return Ok(Some(Left { at, wait_ms }));
            }
        }
    }

    async fn delete_some(
        &mut self,
        (table, key_names): (&str, &[&str]),
        keys: &[Key],
    ) -> Result<(), StoreError> {
        let store = &self.served.store;
        let rows: Vec<RowKey<'_>> =
            keys.iter().map(|key| RowKey { table, key: item_of(key_names, key) }).collect();
        let deletes = rows.iter().map(|row| store.delete(row, self.call.deadline));
        concurrent::all_or_error(deletes).await?;
        self.told.rows += keys.len() as u64;
        Ok(())
    }

    /// Waits as long as the rates ask for what was used. How long is left to wait, if that is
    /// beyond the time of the call.
    async fn paused_since(&self, before: Usage) -> Option<u64> {
        let used = self.served.usage().since(before);
        let (read, write) = self.rates;
        let seconds = (used.read_units / f64::from(read)).max(used.write_units / f64::from(write));
        let pause = Duration::from_secs_f64(seconds.clamp(0.0, PAUSE_S_MAX));
        let clock = self.served.store.clock();
        let pause_ms = i64::try_from(pause.as_millis()).unwrap_or(i64::MAX);
        if self.is_late(pause_ms) {
            return Some(pause_ms.unsigned_abs());
        }
        clock.sleep(pause).await;
        None
    }

    /// Whether there is no time left for work after so many milliseconds.
    fn is_late(&self, pause_ms: i64) -> bool {
        let Timestamp(now) = self.served.store.clock().now();
        now.saturating_add(pause_ms).saturating_add(RESERVE_MS) >= self.call.deadline.0
    }
}
