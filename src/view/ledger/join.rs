//! Items that are joined with the one that they name: `JOIN customers c ON c.id = customer_id`.
//!
//! ```text
//! pk   <view>~<generation>#j#<key of the joined item>     the table beside the ledger (`values`)
//! sk   =                          m  mark of the item: a hash of r    r  its attributes
//! sk   <ledger key of an item>    an item that names it; i: that key, where sk has a hash
//! ```
//!
//! The ledger row of an item keeps, beside what it contributes, the attributes that the view looks
//! at and the mark of the joined item that it was computed with (`j`). So its contribution can be
//! computed again when the joined item changes, without the item, and the difference goes into the
//! groups by the same guarded transaction. Every row of a view is the sum of the ledger at all
//! times. What is said here makes the ledger right at rest.
//!
//! An item goes in with the row that says which item it names; then the joined item's mark is read
//! again, and where it is another by now the item is joined again. A joined item goes in with its
//! mark; then all items that name it are joined again. Each side writes before it reads the other:
//!
//! - If an item reads the new mark, it is joined with the new one.
//! - If it reads the old one, its own transaction was over before the joined item's was, so that
//!   who reads the rows behind the new mark finds it. The read after the write is needed for this:
//!   `DynamoDB` shows the writes of a transaction row by row, but all of them once it is answered.
//!
//! So who meets a joined item's record that is in already waits until the mark is the one that its
//! ledger row has.
//!
//! Neither record is finished before that is done, and whoever meets a record that is in already
//! does it again: an invocation that dies in between loses nothing. It asks for the row that says
//! which item is named before it reads the mark, for that may not be shown yet, and writes it where
//! it is not there. To join again is guarded by the revision of the item's ledger row, which is
//! read before the mark too.
//!
//! What it gives up: a joined item that a million others name is a million rows to write. They are
//! written a page at a time, over several deliveries if one is too short: those that have the new
//! mark are only read then.

use super::{
    Basis, CALLS_AT_ONCE, Candidate, Change, Entry, Fate, Guard, Known, LARGE_AT_ONCE, Ledger,
    difference::{Effects, differing},
};
use crate::{
    event,
    hex::hex,
    record::Timestamp,
    store::{
        Item, StoreError, Tries, Trouble,
        rows::{RowKey, text, text_of},
    },
    view::{
        evaluate::{Contribution, Poison, evaluate_joined},
        quarantine::Quarantine,
        registry,
        rows::{self, Added, Effect, RowId, Stored, ValueKey},
        scalar::encode_key,
        source_item::ITEM_PREFIX,
        values,
    },
};
use aws_sdk_dynamodb::types::{Delete, Put, TransactWriteItem};
use futures_util::stream::{self, StreamExt};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
};

/// What an item, and a joined one, may have of attributes that a view with a join looks at, in
/// bytes: they stand in a row of at most 400 KB beside all else.
pub(crate) const IMAGE_BYTES_MAX: usize = 50_000;
/// Behind all values of a group.
const JOIN_KEEPER: usize = usize::MAX;
/// The sort key of a joined item.
const MIRROR: &str = "=";
const MARK: &str = "m";
const IMAGE: &str = "r";
const ITEM: &str = "i";
/// `DynamoDB` takes so many bytes of a partition key, and of a sort key.
const PARTITION_BYTES_MAX: usize = 2_048;
const SORT_BYTES_MAX: usize = 1_024;
/// Rows of a page of items that name one.
const PAGE_MAX: i32 = 500;

/// An item before it is joined, as its ledger row keeps it for a view.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Left {
    /// The key of the item that it names; none where that is NULL.
    pub(crate) reference: Option<String>,
    /// The attributes that the view looks at, in DynamoDB's notation.
    pub(crate) image: String,
    /// The mark of the joined item that it was computed with; none if there was none.
    pub(crate) taken: Option<String>,
    /// The key of its row, in a projection.
    pub(crate) row_key: Option<String>,
}

/// A joined item as it was read.
#[derive(Debug, Clone)]
pub(crate) struct Mirror {
    mark: String,
    pub(crate) image: String,
}

impl Known {
    /// Takes in what these write of joined items.
    #[cfg(feature = "local")]
    pub(super) fn take_mirrors(&mut self, effects: &BTreeMap<RowId, Effect>) {
        for (row, effect) in effects {
            let value = row.value.as_ref();
            if value.is_none_or(|it| it.keeper != JOIN_KEEPER || it.sort_key != MIRROR) {
                continue;
            }
            let joined = (row.view, row.key.clone());
            match effect {
                Effect::Put(item) => {
                    let text = |name| text_of(item, name).unwrap_or_default().to_owned();
                    self.mirrors.insert(joined, Mirror { mark: text(MARK), image: text(IMAGE) });
                }
                _ => drop(self.mirrors.remove(&joined)),
            }
        }
    }
}

/// Rows that say which items are named and that are there, by their keys.
type Shown = BTreeSet<(String, String)>;

/// Which item of a view's joined table: by the view's index, and its key.
pub(crate) type Joined = (usize, String);

/// What is told of a ledger's joins beside the fates of candidates.
#[derive(Debug, Default)]
pub(crate) struct JoinLog {
    /// The marks that the items were written with, by their ledger rows.
    used: BTreeMap<String, Vec<(Joined, Option<String>)>>,
    /// Items that are left out for what they are joined with, and the view.
    pub(crate) quarantined: Vec<(usize, Quarantine)>,
}

#[derive(Serialize, Deserialize)]
struct Kept<'a> {
    #[serde(borrow)]
    i: Cow<'a, RawValue>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    f: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    m: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    k: Option<Cow<'a, str>>,
}

/// The items before they are joined, by view, as the ledger row holds them.
pub(super) fn lefts_text<'l>(lefts: impl Iterator<Item = (&'l str, &'l Left)>) -> Option<String> {
    let kept = lefts.map(|(view, left)| {
        let image: &RawValue = serde_json::from_str(&left.image).ok()?;
        let text = |text: &'l Option<String>| text.as_deref().map(Cow::Borrowed);
        let (f, m, k) = (text(&left.reference), text(&left.taken), text(&left.row_key));
        Some((view, Kept { i: Cow::Borrowed(image), f, m, k }))
    });
    let kept: BTreeMap<&str, Kept<'_>> = kept.collect::<Option<_>>()?;
    if kept.is_empty() { None } else { serde_json::to_string(&kept).ok() }
}

/// Reads what [`lefts_text`] wrote; none for any other text.
pub(super) fn lefts_from(text: &str) -> Option<BTreeMap<String, Left>> {
    let kept: BTreeMap<String, Kept<'_>> = serde_json::from_str(text).ok()?;
    let owned = |text: Option<Cow<'_, str>>| text.map(Cow::into_owned);
    let left = |Kept { i, f, m, k }: Kept<'_>| Left {
        reference: owned(f),
        image: i.get().to_owned(),
        taken: owned(m),
        row_key: owned(k),
    };
    Some(kept.into_iter().map(|(view, kept)| (view, left(kept))).collect())
}

/// What a view makes of an item.
#[derive(Debug, Default)]
struct Evaluated {
    stored: Option<Stored>,
    shown: Option<Item>,
    poison: Option<Poison>,
}

impl Ledger<'_> {
    /// The views of a candidate's group that join its items with others.
    fn joining(&self, group: usize) -> impl Iterator<Item = usize> {
        let views = self.groups[group].views.iter().copied();
        views.filter(|&view| self.views[view].join.is_some())
    }

    /// Reads the joined items that candidates name.
    ///
    /// # Errors
    /// The store does not answer, or a row is not as changefold writes it.
    pub(crate) async fn read_mirrors(
        &self,
        candidates: impl Iterator<Item = &Candidate>,
        known: &mut Known,
        deadline: Timestamp,
    ) -> Result<(), StoreError> {
        let named = candidates.flat_map(|candidate| {
            let lefts = candidate.lefts.iter();
            lefts.filter_map(|(&view, left)| Some((view, left.reference.clone()?)))
        });
        known.mirrors.extend(self.mirrors(named.collect(), deadline).await?);
        Ok(())
    }

    /// Reads what others are joined with of these candidates.
    ///
    /// # Errors
    /// As [`read_mirrors`](Self::read_mirrors).
    pub(crate) async fn read_own_mirrors(
        &self,
        candidates: impl Iterator<Item = &Candidate>,
        known: &mut Known,
        deadline: Timestamp,
    ) -> Result<(), StoreError> {
        let own = candidates.flat_map(|candidate| {
            let views = self.groups[candidate.group].joined.iter();
            views.map(|&view| (view, candidate.row_key.clone()))
        });
        known.mirrors.extend(self.mirrors(own.collect(), deadline).await?);
        Ok(())
    }

    /// Whether what is kept of an item for a view that joins is what the item has.
    pub(crate) fn keeps_same(
        &self,
        (view, candidate): (usize, &Candidate),
        entry: &Entry,
        known: &Known,
    ) -> bool {
        if self.groups[candidate.group].joined.contains(&view) {
            let mirror = known.mirrors.get(&(view, candidate.row_key.clone()));
            return mirror.map(|mirror| &mirror.image) == candidate.rights.get(&view);
        }
        match (candidate.lefts.get(&view), entry.lefts.get(&self.views[view].name)) {
            (None, None) => true,
            (Some(one), Some(other)) => {
                (&one.reference, &one.image) == (&other.reference, &other.image)
            }
            _ => false,
        }
    }

    async fn mirrors(
        &self,
        named: BTreeSet<Joined>,
        deadline: Timestamp,
    ) -> Result<BTreeMap<Joined, Mirror>, StoreError> {
        if named.is_empty() {
            return Ok(BTreeMap::new());
        }
        let table = values::table_name(self.table);
        let partitions: BTreeMap<String, Joined> =
            named.into_iter().map(|joined| (self.partition(&joined), joined)).collect();
        let keys = partitions.keys().map(|partition| {
            let key = values::key_item(partition, MIRROR);
            RowKey { table: &table, key }
        });
        let keys: Vec<RowKey<'_>> = keys.collect();
        let mut mirrors = BTreeMap::new();
        for (_, row) in self.store.read(&keys, deadline).await? {
            let mirror =
                || Some((text_of(&row, MARK)?.to_owned(), text_of(&row, IMAGE)?.to_owned()));
            let (mark, image) = mirror().ok_or_else(|| self.unreadable(IMAGE))?;
            let partition = values::keys_of(&row).map(|(partition, _)| partition);
            if let Some(joined) = partition.and_then(|partition| partitions.get(partition)) {
                mirrors.insert(joined.clone(), Mirror { mark, image });
            }
        }
        Ok(mirrors)
    }

    /// The candidate, computed with the items that it names.
    ///
    /// # Errors
    /// What is kept of an item is not as changefold writes it.
    pub(crate) fn joined<'c>(
        &self,
        candidate: &'c Candidate,
        known: &Known,
    ) -> Result<Cow<'c, Candidate>, StoreError> {
        if candidate.lefts.is_empty() {
            return Ok(Cow::Borrowed(candidate));
        }
        let mut candidate = candidate.clone();
        for (&view, left) in &mut candidate.lefts {
            let named = left.reference.clone().map(|reference| (view, reference));
            let mirror = named.and_then(|named| known.mirrors.get(&named));
            left.taken = mirror.map(|mirror| mirror.mark.clone());
            let Evaluated { stored, shown, poison } =
                self.evaluated(view, left, &candidate.row_key, mirror)?;
            candidate.contributions.extend(stored.map(|stored| (view, stored)));
            candidate.projected.extend(shown.map(|shown| (view, shown)));
            let quarantine = poison.map(Quarantine::without_record);
            candidate.quarantine.extend(quarantine.map(|quarantine| (view, quarantine)));
        }
        Ok(Cow::Owned(candidate))
    }

    fn evaluated(
        &self,
        view: usize,
        left: &Left,
        row_key: &str,
        mirror: Option<&Mirror>,
    ) -> Result<Evaluated, StoreError> {
        let definition = &self.views[view];
        let read = |image| event::image(image).map_err(|_| self.unreadable(LEFTS));
        let item = read(&left.image)?;
        let joined = mirror.map(|mirror| read(&mirror.image)).transpose()?;
        Ok(match evaluate_joined(definition, &item, joined.as_ref()) {
            Ok(Contribution::Nothing) => Evaluated::default(),
            Ok(Contribution::Row(values)) => Evaluated {
                stored: Some(Stored::Row),
                shown: Some(rows::projected(definition, row_key, &values)),
                poison: None,
            },
            Ok(Contribution::Groups(additions)) => {
                let added = additions.into_iter();
                let added =
                    added.map(|one| Added { key: encode_key(&one.key), addends: one.addends });
                Evaluated { stored: Some(Stored::Groups(added.collect())), ..Evaluated::default() }
            }
            Err(poison) => Evaluated { poison: Some(poison), ..Evaluated::default() },
        })
    }

    /// What a candidate changes of who names which item, and of the joined items themselves.
    pub(super) fn references(
        &self,
        candidate: &Candidate,
        entry: &Entry,
        effects: &mut BTreeMap<RowId, Effect>,
    ) {
        // What is brought from its source is written whatever the ledger says.
        let is_again = matches!(candidate.basis, Basis::Source { .. });
        for view in self.joining(candidate.group) {
            let reference = |left: Option<&Left>| left.and_then(|left| left.reference.clone());
            let old = reference(entry.lefts.get(&self.views[view].name));
            let new = reference(candidate.lefts.get(&view));
            if old == new && !is_again {
                continue;
            }
            if let Some(old) = old.filter(|old| Some(old) != new.as_ref()) {
                let (row, _) = self.reference_row(view, &old, &candidate.pk);
                effects.insert(row, Effect::Delete);
            }
            if let Some(new) = new {
                let (row, item) = self.reference_row(view, &new, &candidate.pk);
                effects.insert(row, Effect::Put(item));
            }
        }
        for &view in &self.groups[candidate.group].joined {
            let reference = &candidate.row_key;
            let was_there = entry.contributions.contains_key(&self.views[view].name);
            let effect = match candidate.rights.get(&view) {
                Some(image) => {
                    let partition = self.partition(&(view, reference.clone()));
                    let mut item = values::key_item(&partition, MIRROR);
                    item.extend([
                        (MARK.to_owned(), text(mark_of(image))),
                        (IMAGE.to_owned(), text(image.clone())),
                    ]);
                    Effect::Put(item)
                }
                None if was_there || is_again => Effect::Delete,
                None => continue,
            };
            effects.insert(row_id(view, reference, MIRROR.to_owned()), effect);
        }
    }

    /// The row that says that an item names another one.
    fn reference_row(&self, view: usize, reference: &str, ledger_key: &str) -> (RowId, Item) {
        let sort_key = sort_key(ledger_key);
        let partition = self.partition(&(view, reference.to_owned()));
        let mut item = values::key_item(&partition, &sort_key);
        if sort_key != ledger_key {
            item.insert(ITEM.to_owned(), text(ledger_key));
        }
        (row_id(view, reference, sort_key), item)
    }

    /// The part of a transaction that writes a row of a join; none for another row.
    pub(super) fn join_action(&self, row: &RowId, effect: &Effect) -> Option<TransactWriteItem> {
        let value = row.value.as_ref().filter(|_| is_of_join(row))?;
        let table = values::table_name(self.table);
        let built = "table and key are set";
        let action = TransactWriteItem::builder();
        if let Effect::Put(item) = effect {
            let put = Put::builder().table_name(table).set_item(Some(item.clone()));
            return Some(action.put(put.build().expect(built)).build());
        }
        let partition = self.partition(&(row.view, row.key.clone()));
        let key = values::key_item(&partition, &value.sort_key);
        let delete = Delete::builder().table_name(table).set_key(Some(key));
        Some(action.delete(delete.build().expect(built)).build())
    }

    fn partition(&self, (view, reference): &Joined) -> String {
        let place = values::place(&self.views[*view].name, self.generations[*view].number);
        let key = format!("{place}j#{reference}");
        if key.len() <= PARTITION_BYTES_MAX {
            return key;
        }
        format!("{place}j#h:{}", hex(&Sha256::digest(reference)))
    }

    /// The table and the key of a joined item.
    #[cfg(feature = "local")]
    pub(super) fn mirror_key(&self, joined: &Joined) -> (String, Item) {
        (values::table_name(self.table), values::key_item(&self.partition(joined), MIRROR))
    }

    /// The table and the key of the row that says that an item names a joined one.
    #[cfg(feature = "local")]
    pub(super) fn reference_key(&self, joined: &Joined, item: &str) -> (String, Item) {
        let key = values::key_item(&self.partition(joined), &sort_key(item));
        (values::table_name(self.table), key)
    }

    /// Remembers with which marks a candidate was written.
    pub(super) fn remember(&self, candidate: &Candidate) {
        if candidate.lefts.is_empty() {
            return;
        }
        let marks = candidate.lefts.iter().filter_map(|(&view, left)| {
            Some(((view, left.reference.clone()?), left.taken.clone()))
        });
        let mut log = self.join_log();
        log.used.insert(candidate.pk.clone(), marks.collect());
        for (&view, quarantine) in &candidate.quarantine {
            if candidate.lefts.contains_key(&view) {
                log.quarantined.push((view, quarantine.clone()));
            }
        }
    }

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
        let is_in =
            |index: &usize| matches!(fates[*index], Some(Fate::Applied | Fate::AlreadyApplied));
        let all: Vec<usize> = (0..candidates.len()).filter(is_in).collect();
        let is_answered: Vec<bool> =
            fates.iter().map(|fate| matches!(fate, Some(Fate::Applied))).collect();
        let is_answered = &is_answered;
        let group = |index: usize| candidates[index].group;
        let (mut lefts, mut rights) = (Vec::new(), Vec::new());
        for index in all {
            if self.joining(group(index)).next().is_some() {
                lefts.push(index);
            }
            if !self.groups[group(index)].joined.is_empty() {
                rights.push(index);
            }
        }
        if !lefts.is_empty() {
            let error = self.settle_lefts(candidates, &lefts, deadline).await?;
            for index in lefts.iter().filter(|_| error.is_some()) {
                fates[*index] = error.clone().map(Fate::Unfinished);
            }
        }
        let mut spreads = stream::iter(rights)
            .map(|index| async move {
                let mut ended = if is_answered[index] {
                    Ok(None)
                } else {
                    self.waits_for_marks(&candidates[index], deadline).await
                };
                for &view in &self.groups[group(index)].joined {
                    if !matches!(ended, Ok(None)) {
                        break;
                    }
                    let joined = (view, candidates[index].row_key.clone());
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
        let rows = [candidate.pk.clone(), registry::served_key()];
        let known = self.read(rows.into(), deadline).await?;
        if known.served > self.revision {
            return Err(self.outdated());
        }
        let entry = known.entry(&candidate.pk);
        let views = self.groups[candidate.group].joined.iter();
        let named: BTreeSet<Joined> =
            views.map(|&view| (view, candidate.row_key.clone())).collect();
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
        let rows = items.iter().cloned().chain([registry::served_key()]).collect();
        let known = self.read(rows, deadline).await?;
        if known.served > self.revision {
            return Err(self.outdated());
        }
        let entries: Vec<(&String, Entry)> =
            items.iter().map(|item| (item, known.entry(item))).collect();
        let named = entries.iter().flat_map(|(_, entry)| {
            let left = |&view: &usize| {
                let left = entry.lefts.get(&self.views[view].name)?;
                Some((view, left.reference.clone()?))
            };
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
                let reference = entry.lefts.get(&self.views[view].name)?.reference.as_ref()?;
                let partition = self.partition(&(view, reference.clone()));
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
    pub(super) fn rejoined(
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
            let named = left.reference.clone().map(|reference| (view, reference));
            let mirror = named.and_then(|named| mirrors.get(&named));
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

/// Name of the attribute of a ledger row with the items before they are joined.
pub(super) const LEFTS: &str = "j";

/// What tells what others are joined with from what they were: equal where that is.
pub(crate) fn mark_of(image: &str) -> String {
    hex(&Sha256::digest(image)[..12])
}

/// Whether it says who names which item, or what that is.
fn is_of_join(row: &RowId) -> bool {
    row.value.as_ref().is_some_and(|value| value.keeper == JOIN_KEEPER)
}

fn row_id(view: usize, reference: &str, sort_key: String) -> RowId {
    let value = Some(ValueKey { keeper: JOIN_KEEPER, sort_key });
    RowId { view, key: reference.to_owned(), value }
}

fn sort_key(ledger_key: &str) -> String {
    if ledger_key.len() <= SORT_BYTES_MAX {
        return ledger_key.to_owned();
    }
    format!("{ITEM_PREFIX}h:{}", hex(&Sha256::digest(ledger_key)))
}
