//! Rows and ledger: whether each group's row is the sum of what the ledger says.
//!
//! A pass reads the rows of the views, then the whole ledger, and adds up. Groups are taken in
//! the order of a hash, as many as fit at once; where there are more, another pass takes the next.
//! What differs is looked at again: its rows, the whole ledger, its rows. A row whose revision is
//! the same before and after has been changed by no transaction in between, so the sum is that of
//! one moment (see the parent). The cost is a reading of the ledger for each pass and each look.

use super::{
    End, Ended, LOOKS_MAX, Mode, Walk, look::readable, projections::unregistered, unanswered,
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
        definition::{Shape, View},
        ledger::Entry,
        rows::{
            ROW_KEY, Stored,
            sums::{self, GroupRow, Sums},
        },
        source_item::{ITEM_PREFIX, LEDGER_KEY},
        sources::Sources,
    },
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// Bytes of the groups in a cursor, about.
const STATE_BYTES_MAX: usize = 2_000_000;
/// Keys of contributing items that are told.
const ITEMS_MAX: usize = 10;

/// Where a walk stands.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Place {
    phase: Phase,
    /// Which view's rows are read.
    view: usize,
    /// Behind which row to go on.
    after: Option<String>,
    /// Which hashes are in this pass; no end is all the rest.
    from: u64,
    to: Option<u64>,
    /// What the hashes are made with: a sample is by chance.
    salt: u64,
    /// Rows that are left of a sample of the view's.
    left: Option<u64>,
    /// How often the groups have been looked at in this pass; not yet is 0.
    looks: u32,
    groups: Vec<Group>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
enum Phase {
    /// Rows of projections are looked for in the ledger.
    #[default]
    Projections,
    /// Rows of groups are read.
    Rows,
    /// The ledger is read.
    Ledger,
    /// Rows that differ are read again.
    Close,
}

/// A group, its row and the sum of the ledger.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Group {
    view: usize,
    key: String,
    /// The row's revision; none if there is no row.
    revision: Option<u64>,
    /// What the row says; none if it cannot be read.
    found: Option<Sums>,
    expected: Sums,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    items: Vec<String>,
}

/// The groups of a pass in the order of their hashes.
#[derive(Debug, Default)]
struct Pass {
    groups: BTreeMap<(u64, usize, String), Group>,
    bytes: usize,
}

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
                    place.phase = Phase::Ledger;
                }
                Phase::Rows => self.read_rows(place, pass).await?,
                Phase::Ledger => self.read_ledger(place, pass, &sources).await?,
                Phase::Close => {
                    self.close(place, pass).await?;
                    if !pass.groups.is_empty() {
                        (place.phase, place.looks) = (Phase::Rows, place.looks + 1);
                        continue;
                    }
                    pass.bytes = 0;
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
            (place.phase, place.view) = (Phase::Ledger, 0);
            return Ok(());
        };
        place.after = match aggregates(definition) {
            None => None,
            Some(aggregates) => {
                let page = self.row_page(&self.views.view_tables[view], ROW_KEY, place).await?;
                for row in &page.0 {
                    let Some(row) = sums::read(definition, aggregates, row) else { continue };
                    let hash = hash(place.salt, definition, &row.key);
                    if place.is_in(hash) {
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

    /// Reads the rows of what differs.
    async fn read_again(&self, pass: &mut Pass) -> Ended {
        let mut rows = self.rows_of(pass).await?;
        for group in pass.groups.values_mut() {
            let aggregates = group.expected.aggregates();
            let row = rows.remove(&(group.view, group.key.clone()));
            *group = match row.map(|(row, _)| row) {
                Some(row) => Group::of(group.view, aggregates, row),
                None => Group::without_row(group.view, group.key.clone(), aggregates),
            };
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
                match entry.contributions.get(&definition.name) {
                    Some(Stored::Group { key, addends }) => {
                        let hash = hash(place.salt, definition, key);
                        let is_known = pass.groups.contains_key(&(hash, view, key.clone()));
                        if !is_known {
                            if place.looks > 0 || !place.is_in(hash) {
                                continue;
                            }
                            let aggregates = aggregates(definition).unwrap_or(0);
                            pass.put(hash, Group::without_row(view, key.clone(), aggregates));
                            self.bound(place, pass);
                        }
                        if let Some(group) = pass.groups.get_mut(&(hash, view, key.clone())) {
                            group.expected.add(addends);
                            if place.looks > 0 && group.items.len() < ITEMS_MAX {
                                group.items.extend(text_of(item, "key").map(str::to_owned));
                            }
                        }
                    }
                    Some(Stored::Row) if is_first => projected.push((view, pk.clone())),
                    Some(Stored::Row) | None => {}
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
        pass.groups.retain(|_, group| group.found.as_ref() != Some(&group.expected));
        if place.looks == 0 || pass.groups.is_empty() {
            return Ok(());
        }
        let rows = self.rows_of(pass).await?;
        for (at, group) in std::mem::take(&mut pass.groups) {
            let now = rows.get(&(group.view, group.key.clone()));
            let is_same = group.is_still(now.map(|(row, _)| row));
            if is_same && self.mode == Mode::Repair {
                let definition = &self.views.definitions[group.view];
                let revision = group.revision.unwrap_or(0) + 1;
                let row = sums::row(definition, &group.key, &group.expected, revision);
                let stored = now.map(|(_, item)| item);
                if self.replace_row(group.view, row, stored).await? {
                    self.told.mended += 1;
                    self.tell(self.drift(&group));
                    continue;
                }
            } else if is_same {
                self.tell(self.drift(&group));
                continue;
            }
            if place.looks >= LOOKS_MAX {
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
        let found = match (&group.found, group.revision) {
            (_, None) => json!("no row"),
            (None, _) => json!("not as changefold writes it"),
            (Some(found), _) => found.told(definition),
        };
        Drift {
            what: "group".to_owned(),
            view: definition.name.clone(),
            generation: self.views.generations[group.view].number,
            group: readable(&group.key),
            expected: group.expected.told(definition),
            found,
            items: group.items.clone(),
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
            let Some(((hash, _, _), group)) = pass.groups.pop_last() else { return };
            pass.bytes -= group.bytes();
            place.to = Some(hash);
        }
    }
}

impl Place {
    fn is_in(&self, hash: u64) -> bool {
        self.looks == 0 && self.from <= hash && self.to.is_none_or(|to| hash < to)
    }
}

impl Pass {
    fn put(&mut self, hash: u64, group: Group) {
        self.bytes += group.bytes();
        self.groups.insert((hash, group.view, group.key.clone()), group);
    }
}

impl Group {
    fn of(view: usize, aggregates: usize, row: GroupRow) -> Self {
        Self {
            revision: Some(row.revision),
            found: row.sums,
            ..Self::without_row(view, row.key, aggregates)
        }
    }

    fn without_row(view: usize, key: String, aggregates: usize) -> Self {
        let (found, expected) = (Some(Sums::zero(aggregates)), Sums::zero(aggregates));
        Self { view, key, revision: None, found, expected, items: Vec::new() }
    }

    /// Whether no transaction, and nobody else, has changed the row since it was read.
    fn is_still(&self, now: Option<&GroupRow>) -> bool {
        match now {
            None => self.revision.is_none(),
            Some(now) => self.revision == Some(now.revision) && self.found == now.sums,
        }
    }

    /// About what it takes in a cursor: a number has up to 38 digits, most have few.
    fn bytes(&self) -> usize {
        100 + 2 * self.key.len() + 80 * self.expected.aggregates()
    }
}

/// How many aggregates a view has; none if it has no groups.
fn aggregates(view: &View) -> Option<usize> {
    match &view.shape {
        Shape::Groups(groups) => Some(groups.aggregates.len()),
        Shape::Rows(_) => None,
    }
}

fn hash(salt: u64, view: &View, key: &str) -> u64 {
    let hash = Sha256::new()
        .chain_update(salt.to_be_bytes())
        .chain_update(view.name.as_bytes())
        .chain_update([0])
        .chain_update(key.as_bytes())
        .finalize();
    hash[..8].iter().fold(0, |hash, byte| hash << 8 | u64::from(*byte))
}
