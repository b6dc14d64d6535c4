//! Rows and ledger: whether each group's row is the sum of what the ledger says.
//!
//! A pass reads the rows of the views, then the whole ledger, and adds up. Groups are taken in
//! the order of a hash, as many as fit at once; where there are more, another pass takes the next.
//! What differs is looked at again: its rows, the whole ledger, its rows. A row whose revision is
//! the same before and after has been changed by no transaction in between, so the sum is that of
//! one moment (see the parent). The cost is a reading of the ledger for each pass and each look,
//! and of the values where views keep any (`values`).

mod pass;

use super::{
    End, Ended, LOOKS_MAX, Mode, Walk,
    look::readable,
    projections::unregistered,
    unanswered,
    values::{By, Cut, Room, VALUES_MAX, ValueRow},
};
use crate::{
    operation::{
        backfill::NotDone,
        verify::{Drift, GROUPS_MAX_DEFAULT},
    },
    store::{
        Item,
        rows::{RowKey, text, text_of},
    },
    view::{
        definition::{Groups, Shape},
        ledger::Entry,
        rows::{
            Added, ROW_KEY, Stored, ValueKey, retained,
            sums::{self, GroupRow},
        },
        scalar::encode_value,
        source_item::{ITEM_PREFIX, LEDGER_KEY},
        sources::Sources,
        total::Addend,
    },
};
use pass::{Group, Pass, Phase, Place, aggregates, hash};
use serde_json::json;
use std::collections::BTreeMap;

/// Bytes of the groups in a cursor, about.
const STATE_BYTES_MAX: usize = 2_000_000;
/// Where values are told of beside a row's own attributes.
const VALUES: &str = "_values";
/// Keys of contributing items that are told.
const ITEMS_MAX: usize = 10;

impl Walk<'_> {
    /// Compares a portion of rows and ledger.
    pub(super) async fn rows(&mut self) -> Ended {
        let mut place = match self.cursor()? {
            Some(place) => place,
            None => self.first_place(),
        };
        let mut pass = Pass::default();
        for group in std::mem::take(&mut place.groups) {
            pass.put(hash(place.salt, &self.views.definitions[group.view], &group.key), group);
        }
        let ended = self.rows_from(&mut place, &mut pass).await;
        place.groups = pass.groups.into_values().collect();
        self.stands(&place);
        ended
    }

    fn first_place(&self) -> Place {
        let left = self.request.sample;
        let salt = left.map_or(0, |_| self.now().cast_unsigned());
        Place { salt, left, ..Place::default() }
    }

    async fn rows_from(&mut self, place: &mut Place, pass: &mut Pass) -> Ended {
        let sources = self.views.sources_now(self.call.deadline).await;
        let sources = sources.map_err(unregistered)?;
        loop {
            self.goes_on()?;
            match place.phase {
                Phase::Projections => self.read_projection(place, &sources).await?,
                Phase::Rows if place.looks > 0 => {
                    self.read_again(pass).await?;
                    place.phase = Phase::Values;
                }
                Phase::Rows => self.read_rows(place, pass).await?,
                Phase::Values => self.read_values(place, pass).await?,
                Phase::Ledger => self.read_ledger(place, pass, &sources).await?,
                Phase::Close => {
                    self.close(place, pass).await?;
                    if !pass.groups.is_empty() {
                        (place.phase, place.looks) = (Phase::Rows, place.looks + 1);
                        continue;
                    }
                    (pass.bytes, pass.room) = (0, Room::default());
                    let Some(from) = place.to.filter(|_| self.request.sample.is_none()) else {
                        return Ok(());
                    };
                    (place.from, place.to, place.looks) = (from, None, 0);
                    (place.phase, place.view) = (Phase::Rows, 0);
                }
            }
        }
    }

    /// Reads a page of a projection.
    async fn read_projection(&mut self, place: &mut Place, sources: &Sources) -> Ended {
        let view = place.view;
        let Some(definition) = self.views.definitions.get(view) else {
            (place.phase, place.view) = (Phase::Rows, 0);
            return Ok(());
        };
        let mut next = None;
        if !definition.has_groups() && place.left != Some(0) {
            let page = self.row_page(&self.views.view_tables[view], ROW_KEY, place).await?;
            let keys = page.0.iter().filter_map(|row| text_of(row, ROW_KEY).map(str::to_owned));
            let take = place.left.map_or(usize::MAX, |left| usize::try_from(left).unwrap_or(0));
            let keys: Vec<String> = keys.take(take).collect();
            place.left = place.left.map(|left| left.saturating_sub(keys.len() as u64));
            self.told.checked += keys.len() as u64;
            self.projected_rows(view, keys, sources).await?;
            next = page.1.filter(|_| place.left != Some(0));
        }
        place.after = next;
        if place.after.is_none() {
            (place.view, place.left) = (view + 1, self.request.sample);
        }
        Ok(())
    }

    /// Reads a page of a view's groups.
    async fn read_rows(&mut self, place: &mut Place, pass: &mut Pass) -> Ended {
        let view = place.view;
        let Some(definition) = self.views.definitions.get(view) else {
            (place.phase, place.view) = (Phase::Values, 0);
            return Ok(());
        };
        place.after = match aggregates(definition) {
            None => None,
            Some(aggregates) => {
                let page = self.row_page(&self.views.view_tables[view], ROW_KEY, place).await?;
                for row in &page.0 {
                    let Some(row) = sums::read(definition, aggregates, row) else { continue };
                    let hash = hash(place.salt, definition, &row.key);
                    if place.is_in(hash) && self.is_checked(view, &row.key) {
                        pass.put(hash, Group::of(view, aggregates, row));
                        self.bound(place, pass);
                    }
                }
                page.1
            }
        };
        if place.after.is_none() {
            place.view += 1;
        }
        Ok(())
    }

    /// Reads a page of the values of groups.
    async fn read_values(&mut self, place: &mut Place, pass: &mut Pass) -> Ended {
        if self.views.keeps_values() {
            let after = place.after.as_deref().zip(place.after_sort.as_deref());
            let (rows, next) = self.value_page(after).await?;
            for row in rows {
                self.take_value(place, pass, row);
            }
            (place.after, place.after_sort) = next.unzip();
        }
        if place.after.is_none() {
            place.phase = Phase::Ledger;
        }
        Ok(())
    }

    fn take_value(&self, place: &mut Place, pass: &mut Pass, row: ValueRow) {
        let ValueRow { view, group, key, items } = row;
        let definition = &self.views.definitions[view];
        let Shape::Groups(groups) = &definition.shape else { return };
        let at = (hash(place.salt, definition, &group), view, group);
        if !self.is_known(place, pass, &at, groups) {
            return;
        }
        pass.add(place, &at, (&key, items, By::Row));
        if let (Some(value), Some(group)) = (key.value(), pass.groups.get_mut(&at)) {
            group.expected.count_different(groups, key.keeper, &value);
        }
    }

    /// Takes in what an item with this key adds to a group.
    fn adds(
        &self,
        place: &mut Place,
        pass: &mut Pass,
        (at, addends): ((u64, usize, String), &[Addend]),
        key: Option<&str>,
    ) {
        let definition = &self.views.definitions[at.1];
        let Shape::Groups(groups) = &definition.shape else { return };
        if !self.is_known(place, pass, &at, groups) {
            return;
        }
        for (keeper, addend) in addends.iter().enumerate() {
            let Some(value) = &addend.value else { continue };
            let value = ValueKey { keeper, sort_key: encode_value(value) };
            pass.add(place, &at, (&value, Some(1), By::Ledger));
        }
        if let Some(group) = pass.groups.get_mut(&at) {
            group.expected.add(groups, addends);
            let is_told = group.items.last().map(String::as_str) == key;
            if place.looks > 0 && group.items.len() < ITEMS_MAX && !is_told {
                group.items.extend(key.map(str::to_owned));
            }
        }
        if place.looks == 0 && definition.extremes() > 0 {
            pass.reckon(&at);
            self.bound(place, pass);
        }
    }

    /// Whether a group is not about to go.
    fn is_checked(&self, view: usize, key: &str) -> bool {
        let now = self.store().clock().now();
        !retained::is_unchecked(&self.views.definitions[view], key, now)
    }

    /// Whether a group is one of the pass, which at first it joins.
    fn is_known(
        &self,
        place: &mut Place,
        pass: &mut Pass,
        (hash, view, key): &(u64, usize, String),
        groups: &Groups,
    ) -> bool {
        let at = (*hash, *view, key.clone());
        let joins = !pass.groups.contains_key(&at) && place.is_in(*hash);
        if joins && self.is_checked(*view, key) {
            let group = Group::without_row(*view, key.clone(), groups.aggregates.len());
            pass.put(*hash, group);
            self.bound(place, pass);
        }
        pass.groups.contains_key(&at)
    }

    /// Reads the rows of what differs.
    async fn read_again(&self, pass: &mut Pass) -> Ended {
        pass.room = Room::default();
        let mut rows = self.rows_of(pass).await?;
        for group in pass.groups.values_mut() {
            let (aggregates, looks) = (group.expected.aggregates(), group.looks);
            let row = rows.remove(&(group.view, group.key.clone()));
            *group = match row.map(|(row, _)| row) {
                Some(row) => Group::of(group.view, aggregates, row),
                None => Group::without_row(group.view, group.key.clone(), aggregates),
            };
            group.looks = looks;
        }
        Ok(())
    }

    /// Reads the rows of these groups, as they are and as they were stored.
    async fn rows_of(
        &self,
        pass: &Pass,
    ) -> Result<BTreeMap<(usize, String), (GroupRow, Item)>, End> {
        let keys: Vec<RowKey<'_>> = pass
            .groups
            .values()
            .map(|group| RowKey {
                table: &self.views.view_tables[group.view],
                key: Item::from([(ROW_KEY.to_owned(), text(&group.key))]),
            })
            .collect();
        let read = self.store().read(&keys, self.call.deadline).await;
        let mut rows = BTreeMap::new();
        for (table, item) in read.map_err(unanswered)? {
            let view = self.views.view_tables.iter().position(|it| *it == table);
            let Some(view) = view else { continue };
            let definition = &self.views.definitions[view];
            let aggregates = aggregates(definition).unwrap_or(0);
            if let Some(row) = sums::read(definition, aggregates, &item) {
                rows.insert((view, row.key.clone()), (row, item));
            }
        }
        Ok(rows)
    }

    /// Reads a page of the ledger and adds it up.
    async fn read_ledger(
        &mut self,
        place: &mut Place,
        pass: &mut Pass,
        sources: &Sources,
    ) -> Ended {
        let (items, next) = self.row_page(&self.views.ledger_table, LEDGER_KEY, place).await?;
        let is_first = place.looks == 0 && place.from == 0 && self.request.sample.is_none();
        let mut projected = Vec::new();
        for item in &items {
            if !text_of(item, LEDGER_KEY).is_some_and(|pk| pk.starts_with(ITEM_PREFIX)) {
                continue;
            }
            let unreadable = |name| unanswered(self.views.ledger().unreadable(name));
            let (pk, entry) = Entry::read(item).map_err(unreadable)?;
            let Some(group) = self.views.group_of(&pk) else { continue };
            for &view in &self.views.groups[group].views {
                let definition = &self.views.definitions[view];
                let Some(stored) = entry.contributions.get(&definition.name) else { continue };
                if is_first && *stored == Stored::Row {
                    projected.push((view, pk.clone()));
                }
                for Added { key, addends } in stored.added() {
                    let at = (hash(place.salt, definition, key), view, key.clone());
                    self.adds(place, pass, (at, addends), text_of(item, "key"));
                }
            }
        }
        if !projected.is_empty() {
            self.ledger_rows(projected, sources).await?;
        }
        place.after = next;
        if place.after.is_none() {
            place.phase = Phase::Close;
        }
        Ok(())
    }

    /// Lets go of what is equal, and of what has drifted or is mended.
    async fn close(&mut self, place: &Place, pass: &mut Pass) -> Ended {
        if place.looks == 0 {
            self.told.checked += pass.groups.len() as u64;
        }
        for group in pass.groups.values_mut().filter(|_| place.looks > 0) {
            if let Shape::Groups(groups) = &self.views.definitions[group.view].shape {
                group.held.recount(groups, &mut group.expected);
            }
        }
        pass.groups.retain(|_, group| {
            group.found.as_ref() != Some(&group.expected) || !group.held.is_equal()
        });
        if place.looks == 0 || pass.groups.is_empty() {
            return Ok(());
        }
        let rows = self.rows_of(pass).await?;
        for (at, mut group) in std::mem::take(&mut pass.groups) {
            let now = rows.get(&(group.view, group.key.clone()));
            let cut = group.held.cut();
            if cut == Cut::ForOthers {
                pass.groups.insert(at, group);
                continue;
            }
            let is_still = group.is_still(now.map(|(row, _)| row));
            if cut == Cut::TooMany && is_still {
                self.cannot(self.too_many(&group));
                continue;
            }
            let is_same = cut == Cut::No && is_still;
            if is_same && self.mode == Mode::Repair {
                let definition = &self.views.definitions[group.view];
                let revision = group.revision.unwrap_or(0) + 1;
                let row = sums::row(definition, &group.key, &group.expected, revision);
                let place = (group.view, &*group.key);
                let with = (&group.held, now.map(|(_, item)| item));
                if self.mend_group(place, (row, revision), with).await? {
                    self.told.mended += 1;
                    self.tell(self.drift(&group));
                    continue;
                }
            } else if is_same {
                self.tell(self.drift(&group));
                continue;
            }
            group.looks += 1;
            if group.looks >= LOOKS_MAX {
                self.told.undecided.push(NotDone {
                    key: format!(
                        "{} {}",
                        self.views.definitions[group.view].name,
                        readable(&group.key)
                    ),
                    code: "WrittenMeanwhile".to_owned(),
                    reason: format!(
                        "its row differed at {LOOKS_MAX} looks and was written during each"
                    ),
                });
                continue;
            }
            pass.groups.insert(at, group);
        }
        Ok(())
    }

    fn drift(&self, group: &Group) -> Drift {
        let definition = &self.views.definitions[group.view];
        let mut found = match (&group.found, group.revision) {
            (_, None) => json!("no row"),
            (None, _) => json!("not as changefold writes it"),
            (Some(found), _) => found.told(definition),
        };
        let mut expected = group.expected.told(definition);
        if !group.held.is_equal() {
            let (should, there, otherwise) = group.held.told();
            expected[VALUES] = json!(format!("{should}"));
            if found.is_object() {
                found[VALUES] = json!(format!("{there}, {otherwise} otherwise"));
            }
        }
        Drift {
            what: "group".to_owned(),
            view: definition.name.clone(),
            generation: self.views.generations[group.view].number,
            group: readable(&group.key),
            expected,
            found,
            items: group.items.clone(),
        }
    }

    fn too_many(&self, group: &Group) -> NotDone {
        NotDone {
            key: format!("{} {}", self.views.definitions[group.view].name, readable(&group.key)),
            code: "TooManyValues".to_owned(),
            reason: format!(
                "its row or its values differ from the ledger, and with more than {VALUES_MAX} \
                 values, or fewer long ones, it cannot be mended in place: build another \
                 generation of the view"
            ),
        }
    }

    /// A page of a table with one text as its key, consistently.
    async fn row_page(
        &self,
        table: &str,
        key: &str,
        place: &Place,
    ) -> Result<(Vec<Item>, Option<String>), End> {
        let from = place.after.as_ref().map(|after| Item::from([(key.to_owned(), text(after))]));
        let page = self.store().scan(table, None, from, self.call.deadline).await;
        let page = page.map_err(unanswered)?;
        let next = page.next.as_ref().and_then(|next| text_of(next, key)).map(str::to_owned);
        Ok((page.items, next))
    }

    /// Leaves to the next pass what is too much for this one.
    fn bound(&self, place: &mut Place, pass: &mut Pass) {
        let max = self.request.groups_max.unwrap_or(GROUPS_MAX_DEFAULT).max(1);
        let max = self
            .request
            .sample
            .map_or(max, |sample| max.min(usize::try_from(sample).unwrap_or(usize::MAX)).max(1));
        while pass.groups.len() > max || (pass.bytes > STATE_BYTES_MAX && pass.groups.len() > 1) {
            let Some(hash) = pass.drop_last() else { return };
            place.to = Some(hash);
        }
    }
}
