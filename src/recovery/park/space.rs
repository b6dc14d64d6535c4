//! Whose rows of a park table are meant: each consumer has a space of its own.
//!
//! The consumer's name is part of its holds rows and of the hash of each of its keys. Tables
//! from before had one space for everybody: eight rows of entries, and hashes of source and
//! key alone. What is parked there must not be forgotten, so it becomes one consumer's. The
//! first function that uses the table with this version settles that in one transaction: it
//! writes the *claim row*, copies the entries to its own rows, and takes the revision out of
//! the old ones. An older version that still runs goes on seeing the old entries, and its
//! records queue behind them in the same heads; it can open or close no key any more, so its
//! records stay unfinished until the new version has them. The claimer goes on with the old
//! hashes, everybody else has hashes of his own.
//!
//! A process settles it once, and then keeps the holds it has read (`holds.rs`).
//!
//! What it gives up: parks of two functions that shared an old table go to one of them.

use super::{
    Key, Park,
    holds::{self, Holds, REPLICAS, Revisions, Rows, SORT, STRIPES, State, Stripe},
    rows::{RECORD, Row, WITHOUT_PAYLOAD},
};
use crate::{
    hex::hex,
    record::Timestamp,
    store::{
        Item, StoreError, Tries, Trouble,
        rows::{Change, RowKey, number_of, text, text_of},
    },
};
use sha2::{Digest, Sha256};
use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::{Arc, Mutex, PoisonError},
};

/// Partition key of the claim row.
const CLAIM: &str = "CLAIM";

/// How many rows shared the keys before consumers were told apart.
const OLD_STRIPES: u8 = 8;

/// How many old keys are looked at to tell whose they are.
const SAMPLE: usize = 8;

/// What becomes of records that were parked before consumers were told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OldParks {
    /// They are this consumer's if this function parked them; otherwise nothing starts.
    #[default]
    Own,
    /// They are this consumer's, unless another has them already.
    Take,
    /// They are another's.
    Leave,
}

/// It cannot be told who is to have the records that were parked before.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SpaceError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(
        "the park table has records that the function `{function}` parked before consumers were \
         told apart: let that function run first, or say with CHANGEFOLD_OLD_PARKS=take or leave \
         whether they are this function's"
    )]
    Foreign { function: String },
    #[error("the park table was changed by others at every try to settle whose old records are")]
    Contended,
}

/// What a process knows of a table, by consumer.
pub(super) type Cache = Arc<Mutex<BTreeMap<String, Known>>>;

#[derive(Debug, Default)]
pub(super) struct Known {
    /// Whether the consumer has the old space; none if that is not settled yet.
    has_old: Option<bool>,
    holds: Holds,
}

/// The old rows of entries.
struct Old {
    entries: Holds,
    rows: BTreeMap<u8, Option<u64>>,
}

impl Park {
    /// The park as one consumer sees it. `function` is the name that its envelopes have.
    pub(crate) fn of_consumer(&self, consumer: String, function: &str) -> Self {
        let has_old = self.cached(&consumer, |known| known.has_old).unwrap_or_default();
        Self { consumer, function: function.to_owned(), has_old, ..self.clone() }
    }

    /// A key as it is named in this space.
    pub(crate) fn key(&self, key: Key) -> Key {
        if self.has_old {
            return key;
        }
        let mut hash = Sha256::new();
        hash.update(&self.consumer);
        hash.update([0]);
        hash.update(&key.hash);
        Key { hash: hex(&hash.finalize()[..16]), ..key }
    }

    /// The rows to read with a batch. Invocations that do not share a text, as those of
    /// several shards, read several copies.
    pub(crate) fn rows_to_read(&self, spread_by: &str) -> Vec<RowKey<'_>> {
        let mut hasher = DefaultHasher::new();
        spread_by.hash(&mut hasher);
        let replica = u8::try_from(hasher.finish() % u64::from(REPLICAS)).unwrap_or_default();
        let mut rows = vec![self.of().revisions(replica)];
        if self.cached(&self.consumer, |known| known.has_old).is_none() {
            rows.push(RowKey { table: &self.table, key: holds::key(CLAIM) });
        }
        rows
    }

    /// Settles whose rows are meant, and gives back what is held: at least what was when the
    /// rows were read that [`rows_to_read`](Self::rows_to_read) names.
    pub(crate) async fn holds(
        &mut self,
        rows: &[(String, Item)],
        (now, deadline): (Timestamp, Timestamp),
    ) -> Result<Holds, SpaceError> {
        let settled = self.cached(&self.consumer, |known| known.has_old);
        let settled = settled.or_else(|| Some(self.owner_in(rows)? == self.consumer));
        let (has_old, revisions) = if let Some(has_old) = settled {
            (has_old, self.of().revisions_in(rows))
        } else {
            let has_old = self.settle_owner(now, deadline).await?;
            // Written by the settling, or by somebody else meanwhile.
            let row = [self.of().revisions(0)];
            (has_old, self.of().revisions_in(&self.store.read(&row, deadline).await?))
        };
        self.has_old = has_old;
        self.cached(&self.consumer, |known| known.has_old = Some(has_old));
        Ok(self.current(&revisions, deadline).await?)
    }

    /// What is held, read at once.
    pub(crate) async fn holds_now(
        &mut self,
        spread_by: &str,
        times: (Timestamp, Timestamp),
    ) -> Result<Holds, SpaceError> {
        let rows = self.store.read(&self.rows_to_read(spread_by), times.1).await?;
        self.holds(&rows, times).await
    }

    /// Reads the stripes that have changed since this process read them.
    async fn current(
        &self,
        revisions: &Revisions,
        deadline: Timestamp,
    ) -> Result<Holds, StoreError> {
        let mut holds = self.cached(&self.consumer, |known| known.holds.clone());
        holds.keep_only(revisions);
        let stale = holds.stale(revisions);
        if !stale.is_empty() {
            let keys: Vec<RowKey<'_>> = stale.iter().map(|at| self.of().stripe(*at)).collect();
            holds.read(self.of(), &stale, &self.store.read(&keys, deadline).await?);
        }
        self.cached(&self.consumer, |known| known.holds.clone_from(&holds));
        Ok(holds)
    }

    /// Reads the stripe of one key.
    pub(super) async fn read_stripe(
        &self,
        hash: &str,
        holds: &mut Holds,
        deadline: Timestamp,
    ) -> Result<(), StoreError> {
        let at = holds::stripe_of(hash);
        let rows = self.store.read(&[self.of().stripe(at)], deadline).await?;
        holds.read(self.of(), &[at], &rows);
        self.keep_copy(hash, holds);
        Ok(())
    }

    /// Keeps the stripe of a key for the next invocations, which read it again if it is
    /// another by then.
    pub(super) fn keep_copy(&self, hash: &str, holds: &Holds) {
        let at = holds::stripe_of(hash);
        self.cached(&self.consumer, |known| known.holds.copy(at, holds));
    }

    pub(super) fn of(&self) -> Rows<'_> {
        Rows { table: &self.table, consumer: &self.consumer }
    }

    fn cached<T>(&self, consumer: &str, take: impl FnOnce(&mut Known) -> T) -> T {
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        take(cache.entry(consumer.to_owned()).or_default())
    }

    /// Who has the old space, if that is settled; an empty name where there was nothing.
    fn owner_in<'r>(&self, rows: &'r [(String, Item)]) -> Option<&'r str> {
        let claim = rows
            .iter()
            .find(|(table, item)| *table == self.table && text_of(item, "pk") == Some(CLAIM));
        claim.map(|(_, item)| text_of(item, "consumer").unwrap_or_default())
    }

    /// Settles who has the old space; whether it is this consumer.
    async fn settle_owner(&self, now: Timestamp, deadline: Timestamp) -> Result<bool, SpaceError> {
        let mut tries = Tries::new(deadline);
        loop {
            let mut keys = vec![RowKey { table: &self.table, key: holds::key(CLAIM) }];
            keys.extend((0..OLD_STRIPES).map(|at| self.old_row(at)));
            let rows = self.store.read(&keys, deadline).await?;
            if let Some(owner) = self.owner_in(&rows) {
                return Ok(owner == self.consumer);
            }
            let old = self.old_in(&rows);
            let is_ours = !old.entries.is_empty() && self.is_ours(&old, deadline).await?;
            if self.old_parks == OldParks::Leave {
                return Ok(false);
            }
            let changes = self.claim(&old, is_ours, now);
            match self.store.change_all(changes, deadline).await {
                Ok(()) => return Ok(is_ours),
                Err(error) if matches!(error.trouble, Trouble::Guard | Trouble::Unknown) => {}
                Err(error) => return Err(error.into()),
            }
            if !self.store.back_off(&mut tries).await {
                return Err(SpaceError::Contended);
            }
        }
    }

    fn old_row(&self, at: u8) -> RowKey<'_> {
        RowKey { table: &self.table, key: holds::key(format!("S#{at}")) }
    }

    fn old_in(&self, rows: &[(String, Item)]) -> Old {
        let mut old = Old { entries: Holds::default(), rows: BTreeMap::new() };
        for at in 0..OLD_STRIPES {
            let pk = format!("S#{at}");
            let row = rows.iter().find(|(table, item)| {
                *table == self.table
                    && text_of(item, "pk") == Some(&pk)
                    && text_of(item, "sk") == Some(SORT)
            });
            let Some((_, item)) = row else { continue };
            old.rows.insert(at, number_of(item, "rev"));
            for (hash, entry) in Stripe::entries_in(item) {
                old.entries.adopt(hash, entry);
            }
        }
        old
    }

    /// Whether the old space is this consumer's by the names in its envelopes, or because a
    /// setting says so. Open keys are asked first; keys without any record left tell nothing.
    async fn is_ours(&self, old: &Old, deadline: Timestamp) -> Result<bool, SpaceError> {
        match self.old_parks {
            OldParks::Take => return Ok(true),
            OldParks::Leave => return Ok(false),
            OldParks::Own => {}
        }
        let mut hashes: Vec<(bool, &str)> =
            old.entries.all().map(|(hash, entry)| (entry.state == State::Closed, hash)).collect();
        hashes.sort_unstable();
        for (_, hash) in hashes.into_iter().take(SAMPLE) {
            let pk = format!("K#{hash}");
            let under = (self.table.as_str(), pk.as_str(), RECORD);
            let asked = (Some(&WITHOUT_PAYLOAD), Some(1));
            let page = self.store.query(under, None, asked, deadline).await?;
            let row = page.items.into_iter().find_map(Row::read);
            if let Some(row) = row.filter(|row| row.envelope.function != self.function) {
                return Err(SpaceError::Foreign { function: row.envelope.function });
            }
        }
        Ok(true)
    }

    /// The transaction that settles it: 1 + 8 + 64 + 8 rows at most.
    fn claim(&self, old: &Old, is_ours: bool, Timestamp(now): Timestamp) -> Vec<Change> {
        const { assert!(1 + OLD_STRIPES as usize + STRIPES as usize + REPLICAS as usize <= 100) }
        let mut claim = holds::key(CLAIM);
        claim.insert("settled_ms".to_owned(), crate::store::rows::number(now));
        if is_ours {
            claim.insert("consumer".to_owned(), text(&self.consumer));
        }
        let mut changes = vec![Change::put(&self.table, claim).only_if("attribute_not_exists(pk)")];
        for at in 0..OLD_STRIPES {
            let RowKey { table, key } = self.old_row(at);
            changes.push(match old.rows.get(&at) {
                None => Change::put(table, key).only_if("attribute_not_exists(pk)"),
                Some(None) => {
                    Change::update(table, key, "REMOVE rev").only_if("attribute_not_exists(rev)")
                }
                Some(Some(revision)) => Change::update(table, key, "REMOVE rev")
                    .only_if("rev = :rev")
                    .value(":rev", crate::store::rows::number(*revision)),
            });
        }
        if is_ours {
            changes.extend(self.of().first(&old.entries));
        }
        changes
    }
}

#[cfg(test)]
mod tests;
