//! Items that are joined again, and until when a record is not finished (see the parent).
//!
//! Nothing is kept between two calls: which items are not as they have to be follows from their
//! ledger rows and the marks, so whoever comes next goes on from there.

use super::{Evaluated, ITEM, Joined, Mirror, Shown, is_of_join, sort_key};
use crate::{
    record::Timestamp,
    store::{
        StoreError, Tries, Trouble,
        rows::{RowKey, text_of},
    },
    view::{
        ledger::{
            CALLS_AT_ONCE, Candidate, Change, Entry, Fate, Guard, LARGE_AT_ONCE, Ledger,
            difference::{Effects, differing},
        },
        quarantine::Quarantine,
        rows::{Effect, RowId, Stored},
        source_item::ITEM_PREFIX,
        values,
    },
};
use futures_util::stream::{self, StreamExt};
use std::collections::{BTreeMap, BTreeSet};

/// Rows of a page of items that name one.
const PAGE_MAX: i32 = 500;

impl Ledger<'_> {
    /// Finishes the candidates that are in: joins again what has changed on the other side. Those
    /// that cannot be finished in time are not.
    ///
    /// # Errors
    /// The store rejects a request.
    pub(crate) async fn settle_joins(
        &self,
        candidates: &[Candidate],
        fates: &mut [Option<Fate>],
        deadline: Timestamp,
    ) -> Result<(), StoreError> {
        let (mut lefts, mut rights) = (Vec::new(), Vec::new());
        for (index, candidate) in candidates.iter().enumerate() {
            let is_answered = match fates[index] {
                Some(Fate::Applied) => true,
                Some(Fate::AlreadyApplied) => false,
                _ => continue,
            };
            if self.joining(candidate.group).next().is_some() {
                lefts.push(index);
            }
            if !self.groups[candidate.group].joined.is_empty() {
                rights.push((index, is_answered));
            }
        }
        if !lefts.is_empty() {
            let error = self.settle_lefts(candidates, &lefts, deadline).await?;
            for index in lefts.iter().filter(|_| error.is_some()) {
                fates[*index] = error.clone().map(Fate::Unfinished);
            }
        }
        let mut spreads = stream::iter(rights)
            .map(|(index, is_answered)| async move {
                let mut ended = if is_answered {
                    Ok(None)
                } else {
                    self.waits_for_marks(&candidates[index], deadline).await
                };
                for joined in self.joined_as(&candidates[index]) {
                    if !matches!(ended, Ok(None)) {
                        break;
                    }
                    ended = self.spread(&joined, deadline).await;
                }
                (index, ended)
            })
            .buffer_unordered(CALLS_AT_ONCE);
        while let Some((index, ended)) = spreads.next().await {
            if let Some(error) = ended? {
                fates[index] = Some(Fate::Unfinished(error));
            }
        }
        Ok(())
    }

    /// Joins items again whose joined item is another one than they were written with.
    async fn settle_lefts(
        &self,
        candidates: &[Candidate],
        lefts: &[usize],
        deadline: Timestamp,
    ) -> Result<Option<StoreError>, StoreError> {
        let used = std::mem::take(&mut self.join_log().used);
        let named = used.values().flatten().map(|(joined, _)| joined.clone()).collect();
        let mirrors = match self.mirrors(named, deadline).await {
            Ok(mirrors) => mirrors,
            Err(error) if error.trouble == Trouble::Rejected => return Err(error),
            Err(error) => return Ok(Some(error)),
        };
        let is_current = |(joined, mark): &(Joined, Option<String>)| {
            mirrors.get(joined).map(|mirror| &mirror.mark) == mark.as_ref()
        };
        let mut stale: BTreeMap<usize, BTreeSet<String>> = BTreeMap::new();
        for candidate in lefts.iter().map(|&index| &candidates[index]) {
            // What somebody else has written may be waiting for the end of this.
            let is_settled =
                used.get(&candidate.pk).is_some_and(|used| used.iter().all(is_current));
            if !is_settled {
                stale.entry(candidate.group).or_default().insert(candidate.pk.clone());
            }
        }
        for (group, items) in stale {
            let views: Vec<usize> = self.joining(group).collect();
            if let Some(error) = self.rejoin(items, (&views, true), deadline).await? {
                return Ok(Some(error));
            }
        }
        Ok(None)
    }

    /// Waits until a joined item is shown as its ledger row says it is; or why it is not.
    async fn waits_for_marks(
        &self,
        candidate: &Candidate,
        deadline: Timestamp,
    ) -> Result<Option<StoreError>, StoreError> {
        let mut tries = Tries::new(deadline);
        loop {
            let error = match self.is_shown(candidate, deadline).await {
                Ok(true) => return Ok(None),
                Ok(false) => self.not_shown(),
                Err(error) if error.trouble == Trouble::Rejected => return Err(error),
                Err(error) => error,
            };
            if !self.store.back_off(&mut tries).await {
                return Ok(Some(error));
            }
        }
    }

    async fn is_shown(
        &self,
        candidate: &Candidate,
        deadline: Timestamp,
    ) -> Result<bool, StoreError> {
        let known = self.read_current([candidate.pk.clone()].into(), deadline).await?;
        let entry = known.entry(&candidate.pk);
        let named: BTreeSet<Joined> = self.joined_as(candidate).collect();
        let mirrors = self.mirrors(named.clone(), deadline).await?;
        Ok(named.iter().all(|joined| {
            let said = match entry.contributions.get(&self.views[joined.0].name) {
                Some(Stored::Joined(mark)) => Some(mark),
                _ => None,
            };
            mirrors.get(joined).map(|mirror| &mirror.mark) == said
        }))
    }

    /// A row of a join is not as the ledger says.
    fn not_shown(&self) -> StoreError {
        StoreError {
            operation: "BatchGetItem",
            endpoint: values::table_name(self.table),
            trouble: Trouble::Unknown,
            code: "JoinedItemNotShown".to_owned(),
            message: "a joined item is not as its ledger row says; if it stays so, the table was \
                      written by something else: reconcile the item"
                .to_owned(),
        }
    }

    /// Joins all items again that name one.
    async fn spread(
        &self,
        joined: &Joined,
        deadline: Timestamp,
    ) -> Result<Option<StoreError>, StoreError> {
        let (table, partition) = (values::table_name(self.table), self.partition(joined));
        let mut from = None;
        loop {
            let place = (&*table, &*partition, ITEM_PREFIX);
            let page = self.store.query(place, from, (None, Some(PAGE_MAX)), deadline).await;
            let page = match page {
                Ok(page) => page,
                Err(error) if error.trouble == Trouble::Rejected => return Err(error),
                Err(error) => return Ok(Some(error)),
            };
            let items = page.items.iter().filter_map(|row| {
                let (_, sort_key) = values::keys_of(row)?;
                Some(text_of(row, ITEM).unwrap_or(sort_key).to_owned())
            });
            let items = items.collect();
            if let Some(error) = self.rejoin(items, (&[joined.0], false), deadline).await? {
                return Ok(Some(error));
            }
            from = page.next;
            if from.is_none() {
                return Ok(None);
            }
            if let Some(error) = self.late(deadline) {
                return Ok(Some(error));
            }
        }
    }

    /// Computes items again for views whose joined item is another one by now, until all of them
    /// are as they have to be; or why not. Asks as well for the rows that say which items they
    /// name, unless the items were found by those.
    async fn rejoin(
        &self,
        mut items: BTreeSet<String>,
        views: (&[usize], bool),
        deadline: Timestamp,
    ) -> Result<Option<StoreError>, StoreError> {
        let mut tries = Tries::new(deadline);
        while !items.is_empty() {
            let mut last_error = None;
            let all: Vec<String> = items.iter().cloned().collect();
            for some in all.chunks(LARGE_AT_ONCE) {
                match self.rejoin_some(some, views, deadline).await {
                    Ok((done, error)) => {
                        items.retain(|item| !done.contains(item));
                        last_error = error.or(last_error);
                    }
                    Err(error) if error.trouble == Trouble::Rejected => return Err(error),
                    Err(error) => last_error = Some(error),
                }
            }
            if items.is_empty() {
                break;
            }
            let Some(error) = last_error.or_else(|| self.late(deadline)) else { continue };
            if !self.store.back_off(&mut tries).await {
                return Ok(Some(error));
            }
        }
        Ok(None)
    }

    /// As [`rejoin`](Self::rejoin), once: those that are as they have to be then.
    async fn rejoin_some(
        &self,
        items: &[String],
        (views, asks): (&[usize], bool),
        deadline: Timestamp,
    ) -> Result<(BTreeSet<String>, Option<StoreError>), StoreError> {
        let known = self.read_current(items.iter().cloned().collect(), deadline).await?;
        let entries: Vec<(&String, Entry)> =
            items.iter().map(|item| (item, known.entry(item))).collect();
        let named = entries.iter().flat_map(|(_, entry)| {
            let left = |&view: &usize| entry.lefts.get(&self.views[view].name)?.names(view);
            views.iter().filter_map(left)
        });
        let named: BTreeSet<Joined> = named.collect();
        let shown = if asks { Some(self.shown(&entries, views, deadline).await?) } else { None };
        // Behind those rows: whoever writes another mark later finds them as they are.
        let mirrors = self.mirrors(named, deadline).await?;
        let now = self.store.clock().now();
        let mut done = BTreeSet::new();
        let mut changes = Vec::new();
        let mut told: BTreeMap<usize, Vec<(usize, Quarantine)>> = BTreeMap::new();
        for (index, (item, entry)) in entries.into_iter().enumerate() {
            let (of_item, rows) = ((entry, views, now), (&mirrors, shown.as_ref()));
            let quarantined = told.entry(index).or_default();
            match self.rejoined(index, item, of_item, rows, quarantined)? {
                Some(change) => changes.push(change),
                None => {
                    done.insert(item.clone());
                }
            }
        }
        let written = |change: &Change| {
            let quarantined = told.remove(&change.index).unwrap_or_default();
            self.join_log().quarantined.extend(quarantined);
            // One whose row was not there is looked at again: the mark is to be read behind it.
            let is_shown = !change.effects.keys().any(is_of_join);
            done.extend(items.get(change.index).filter(|_| is_shown).cloned());
        };
        let error = self.run(changes, written, deadline).await?;
        Ok((done, error))
    }

    /// The rows that say which items these name, by their keys, as far as they are there.
    async fn shown(
        &self,
        entries: &[(&String, Entry)],
        views: &[usize],
        deadline: Timestamp,
    ) -> Result<Shown, StoreError> {
        let table = values::table_name(self.table);
        let keys = entries.iter().flat_map(|(item, entry)| {
            let key = |&view: &usize| {
                let named = entry.lefts.get(&self.views[view].name)?.names(view)?;
                let partition = self.partition(&named);
                let key = values::key_item(&partition, &sort_key(item));
                Some(RowKey { table: &table, key })
            };
            views.iter().filter_map(key).collect::<Vec<_>>()
        });
        let keys: Vec<RowKey<'_>> = keys.collect();
        if keys.is_empty() {
            return Ok(BTreeSet::new());
        }
        let rows = self.store.read(&keys, deadline).await?;
        let keys = rows.iter().filter_map(|(_, row)| values::keys_of(row));
        Ok(keys.map(|(pk, sk)| (pk.to_owned(), sk.to_owned())).collect())
    }

    /// The change of an item by which it is joined with what is there now; none if it is.
    pub(in crate::view::ledger) fn rejoined(
        &self,
        index: usize,
        item: &str,
        (mut entry, views, now): (Entry, &[usize], Timestamp),
        (mirrors, shown): (&BTreeMap<Joined, Mirror>, Option<&Shown>),
        quarantined: &mut Vec<(usize, Quarantine)>,
    ) -> Result<Option<Change>, StoreError> {
        let mut effects = Effects::default();
        let mut is_changed = false;
        for &view in views {
            let name = &self.views[view].name;
            let Some(left) = entry.lefts.get_mut(name) else { continue };
            let mirror = left.names(view).and_then(|named| mirrors.get(&named));
            let mark = mirror.map(|mirror| mirror.mark.clone());
            if let (Some(shown), Some(reference)) = (shown, &left.reference) {
                let (row, named) = self.reference_row(view, reference, item);
                let keys = values::keys_of(&named).map(|(pk, sk)| (pk.to_owned(), sk.to_owned()));
                if keys.is_some_and(|keys| !shown.contains(&keys)) {
                    effects.write(row, Effect::Put(named));
                    is_changed = true;
                }
            }
            if left.taken == mark {
                continue;
            }
            left.taken = mark;
            is_changed = true;
            let row_key = left.row_key.clone().unwrap_or_default();
            let Evaluated { stored, shown, poison } =
                self.evaluated(view, left, &row_key, mirror)?;
            let former = entry.contributions.remove(name);
            let row = || RowId::new(view, row_key.clone());
            match shown {
                Some(shown) => effects.write(row(), Effect::Put(shown)),
                None if former == Some(Stored::Row) => effects.write(row(), Effect::Delete),
                None => {}
            }
            let mut steps = Vec::new();
            differing(view, [former.as_ref(), stored.as_ref()], &mut steps);
            self.date(&mut steps, now);
            for step in &steps {
                effects.take(step, self.views[view].extremes());
            }
            entry.contributions.extend(stored.map(|stored| (name.clone(), stored)));
            let quarantine = poison.map(Quarantine::without_record);
            quarantined.extend(quarantine.clone().map(|quarantine| (view, quarantine)));
            entry.set_quarantine(name, quarantine.map(|it| it.to_attribute()));
        }
        if !is_changed {
            return Ok(None);
        }
        let guard = Guard::of_rejoined(item, &entry);
        Ok(Some(Change { index, guard, effects: effects.finish(), is_part: false }))
    }
}
