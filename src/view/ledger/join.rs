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

mod again;

use super::{Basis, Candidate, Entry, Known, Ledger};
use crate::{
    event,
    hex::hex,
    record::Timestamp,
    store::{
        Item, StoreError,
        rows::{RowKey, text, text_of},
    },
    view::{
        evaluate::{Contribution, Poison, evaluate_joined},
        quarantine::Quarantine,
        rows::{self, Effect, RowId, Stored, ValueKey},
        source_item::{ITEM_PREFIX, hashed},
        values,
    },
};
use aws_sdk_dynamodb::types::{Delete, Put, TransactWriteItem};
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
/// `DynamoDB` takes so many bytes of a sort key.
const SORT_BYTES_MAX: usize = 1_024;
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

impl Left {
    /// The item that it names for a view, if it names one.
    pub(super) fn names(&self, view: usize) -> Option<Joined> {
        Some((view, self.reference.clone()?))
    }
}

impl Candidate {
    /// The items that it names.
    pub(super) fn named(&self) -> impl Iterator<Item = Joined> {
        self.lefts.iter().filter_map(|(&view, left)| left.names(view))
    }
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
    /// Items that are left out for what they are joined with, or for what the ledger had, and the
    /// view.
    pub(crate) quarantined: Vec<(usize, Quarantine)>,
    /// The ledger rows of items of which it is not known what they are.
    pub(crate) undecided: BTreeSet<String>,
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

    /// What a candidate is to the views that join others with it.
    pub(super) fn joined_as(&self, candidate: &Candidate) -> impl Iterator<Item = Joined> {
        let views = self.groups[candidate.group].joined.iter();
        views.map(|&view| (view, candidate.row_key.clone()))
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
        let named = candidates.flat_map(Candidate::named).collect();
        known.mirrors.extend(self.mirrors(named, deadline).await?);
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
        let own = candidates.flat_map(|candidate| self.joined_as(candidate)).collect();
        known.mirrors.extend(self.mirrors(own, deadline).await?);
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
            let mirror = left.names(view).and_then(|named| known.mirrors.get(&named));
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
                let stored = Stored::of(additions, (definition, row_key));
                Evaluated { stored: Some(stored), ..Evaluated::default() }
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
        if key.len() <= values::PARTITION_BYTES_MAX {
            return key;
        }
        format!("{place}j#{}", hashed(reference))
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
        let lefts = candidate.lefts.iter();
        let marks = lefts.filter_map(|(&view, left)| Some((left.names(view)?, left.taken.clone())));
        let mut log = self.join_log();
        log.used.insert(candidate.pk.clone(), marks.collect());
        for (&view, quarantine) in &candidate.quarantine {
            if candidate.lefts.contains_key(&view) {
                log.quarantined.push((view, quarantine.clone()));
            }
        }
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
    format!("{ITEM_PREFIX}{}", hashed(ledger_key))
}
