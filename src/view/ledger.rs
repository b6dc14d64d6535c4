//! The key ledger: one row per source item, which makes a view's effects happen once.
//!
//! Every transaction replaces what one item contributes and adds the difference to the rows
//! of the views, guarded by the revision at which the old contribution was read. So each row
//! is at all times the sum of the ledger's contributions, whatever was repeated, cut again,
//! reordered or run twice at once; and once the newest record of every item is in, it is the
//! SQL over the source. The guard is the revision and not the version: two writers may hold
//! the same version and different old contributions.
//!
//! It gives up write capacity: two units for the ledger row of every changed item.

mod pack;

use crate::{
    record::Timestamp,
    store::{BATCH_GET_KEYS_MAX, Item, Store, StoreError, Tries, Trouble},
    view::{
        definition::View,
        quarantine::{QUARANTINE, Quarantine},
        rows::{self, Effect, RowId, Stored},
        source_item::LEDGER_KEY,
    },
};
use aws_sdk_dynamodb::types::{AttributeValue, Put, TransactWriteItem};
use futures_util::stream::{self, StreamExt};
use pack::{Chunk, pack, waves};
use std::collections::BTreeMap;

/// Name of the attribute that DynamoDB's time to live reads, in seconds since the epoch.
pub const LEDGER_TTL: &str = "ttl";

/// Store calls in flight at once: the reads of 1,000 items are one round trip, and what they
/// write to 100 groups another. Each call beyond the first costs a connection once.
const CALLS_AT_ONCE: usize = 16;

/// The newest change of one source item in a batch, evaluated for every view.
#[derive(Debug, Clone)]
pub(crate) struct Candidate {
    /// The item's ledger row.
    pub(crate) pk: String,
    /// The item's key, for people.
    pub(crate) key: String,
    /// Position of the change; text order is the order of the changes.
    pub(crate) version: String,
    /// What the item contributes to each view, by the view's index, from this change on.
    pub(crate) contributions: BTreeMap<usize, Stored>,
    /// Rows of projections to write, by the view's index.
    pub(crate) projected: BTreeMap<usize, Item>,
    /// Row key of projections: the item's own key.
    pub(crate) row_key: String,
    /// The views that cannot evaluate the item.
    pub(crate) quarantine: BTreeMap<usize, Quarantine>,
    /// The record as it was delivered, kept with a quarantined item: its stream forgets it.
    pub(crate) record: Option<String>,
    /// When the ledger row may go, in seconds since the epoch.
    pub(crate) expires_s: Option<i64>,
}

/// What became of a candidate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Its transaction is committed.
    Applied,
    /// The ledger already held this change or a newer one.
    AlreadyApplied,
    /// It could not be finished in time.
    Unfinished(StoreError),
}

/// What a ledger row says.
#[derive(Debug, Clone, Default)]
struct Entry {
    revision: u64,
    version: String,
    contributions: BTreeMap<String, Stored>,
}

/// The ledger of a set of views.
#[derive(Debug)]
pub(crate) struct Ledger<'a> {
    pub(crate) store: &'a Store,
    pub(crate) table: &'a str,
    pub(crate) views: &'a [View],
    pub(crate) view_tables: &'a [String],
}

impl Ledger<'_> {
    /// Brings every candidate into the ledger and its differences into the views.
    ///
    /// # Errors
    /// The store rejects a request; nothing of that transaction was written. Everything else
    /// is a candidate's own [`Fate`].
    pub(crate) async fn apply(
        &self,
        candidates: &[Candidate],
        deadline: Timestamp,
    ) -> Result<Vec<Fate>, StoreError> {
        let mut fates: Vec<Option<Fate>> = vec![None; candidates.len()];
        let mut pending: Vec<usize> = (0..candidates.len()).collect();
        let mut tries = Tries::new(deadline);
        loop {
            let last_error = self.round(candidates, &pending, &mut fates, deadline).await?;
            pending.retain(|&index| fates[index].is_none());
            let Some(error) = last_error.filter(|_| !pending.is_empty()) else { break };
            if !self.store.back_off(&mut tries).await {
                for &index in &pending {
                    fates[index] = Some(Fate::Unfinished(error.clone()));
                }
                break;
            }
        }
        Ok(fates
            .into_iter()
            .map(|fate| fate.expect("a round leaves a pending candidate only with an error"))
            .collect())
    }

    /// Reads the guards, plans, and runs the transactions once. What stays without a fate has
    /// to be looked at again, for the reason given back.
    async fn round(
        &self,
        candidates: &[Candidate],
        pending: &[usize],
        fates: &mut [Option<Fate>],
        deadline: Timestamp,
    ) -> Result<Option<StoreError>, StoreError> {
        let entries = match self.read(candidates, pending, deadline).await {
            Ok(entries) => entries,
            Err(error) if error.trouble == Trouble::Rejected => return Err(error),
            Err(error) => return Ok(Some(error)),
        };
        let mut changes = Vec::new();
        for &index in pending {
            let candidate = &candidates[index];
            let entry = entries.get(candidate.pk.as_str()).cloned().unwrap_or_default();
            if entry.version >= candidate.version {
                fates[index] = Some(Fate::AlreadyApplied);
            } else {
                changes.push(self.change(index, candidate, &entry));
            }
        }
        let mut last_error = None;
        for wave in waves(pack(changes)) {
            let mut running = stream::iter(wave)
                .map(|chunk| async move {
                    let written = self.store.transact(self.transaction(&chunk), deadline).await;
                    (chunk, written)
                })
                .buffer_unordered(CALLS_AT_ONCE);
            while let Some((chunk, written)) = running.next().await {
                match written {
                    Ok(()) => {
                        for change in &chunk.changes {
                            fates[change.index] = Some(Fate::Applied);
                        }
                    }
                    Err(error) if error.trouble == Trouble::Rejected => return Err(error),
                    Err(error) => last_error = Some(error),
                }
            }
        }
        Ok(last_error)
    }

    async fn read(
        &self,
        candidates: &[Candidate],
        pending: &[usize],
        deadline: Timestamp,
    ) -> Result<BTreeMap<String, Entry>, StoreError> {
        let keys: Vec<Vec<String>> = pending
            .chunks(BATCH_GET_KEYS_MAX)
            .map(|chunk| chunk.iter().map(|&index| candidates[index].pk.clone()).collect())
            .collect();
        let mut pages = stream::iter(keys)
            .map(|keys| async move {
                self.store.batch_get(self.table, LEDGER_KEY, &keys, deadline).await
            })
            .buffer_unordered(CALLS_AT_ONCE);
        let mut entries = BTreeMap::new();
        while let Some(page) = pages.next().await {
            for item in page? {
                let (pk, entry) = self.entry(&item)?;
                entries.insert(pk, entry);
            }
        }
        Ok(entries)
    }

    /// The difference that one candidate makes, as one guard and its row effects.
    fn change(&self, index: usize, candidate: &Candidate, entry: &Entry) -> Change {
        let mut effects = BTreeMap::new();
        for (view, definition) in self.views.iter().enumerate() {
            let old = entry.contributions.get(&definition.name);
            let new = candidate.contributions.get(&view);
            if let Some(row) = candidate.projected.get(&view) {
                let row_id = RowId { view, key: candidate.row_key.clone() };
                effects.insert(row_id, Effect::Put(row.clone()));
            } else if matches!(old, Some(Stored::Row)) {
                let row_id = RowId { view, key: candidate.row_key.clone() };
                effects.insert(row_id, Effect::Delete);
            }
            for (stored, sign) in [(old, -1), (new, 1)] {
                if let Some(Stored::Group { key, addends }) = stored {
                    let row_id = RowId { view, key: key.clone() };
                    let effect = effects
                        .entry(row_id)
                        .or_insert_with(|| Effect::Add(rows::Delta::zero(addends.len())));
                    if let Effect::Add(delta) = effect {
                        delta.add(addends, sign);
                    }
                }
            }
        }
        effects.retain(|_, effect| !effect.is_nothing());
        let guard = self.guard(candidate, entry);
        Change { index, guard, effects }
    }

    /// The new ledger row, written only at the revision its difference was computed from.
    fn guard(&self, candidate: &Candidate, entry: &Entry) -> Guard {
        let contributions = candidate
            .contributions
            .iter()
            .map(|(&view, stored)| (self.views[view].name.as_str(), stored));
        let contributions = rows::contributions_text(contributions);
        let mut item = Item::from([
            (LEDGER_KEY.to_owned(), AttributeValue::S(candidate.pk.clone())),
            ("key".to_owned(), AttributeValue::S(candidate.key.clone())),
            ("v".to_owned(), AttributeValue::S(candidate.version.clone())),
            ("rev".to_owned(), AttributeValue::N((entry.revision + 1).to_string())),
            ("c".to_owned(), AttributeValue::S(contributions)),
        ]);
        if !candidate.quarantine.is_empty() {
            let quarantine = candidate
                .quarantine
                .iter()
                .map(|(&view, quarantine)| {
                    (self.views[view].name.clone(), quarantine.to_attribute())
                })
                .collect();
            item.insert(QUARANTINE.to_owned(), AttributeValue::M(quarantine));
            if let Some(record) = &candidate.record {
                item.insert("record".to_owned(), AttributeValue::S(record.clone()));
            }
        }
        if let Some(expires_s) = candidate.expires_s {
            item.insert(LEDGER_TTL.to_owned(), AttributeValue::N(expires_s.to_string()));
        }
        Guard { item, revision_read: entry.revision }
    }

    fn transaction(&self, chunk: &Chunk) -> Vec<TransactWriteItem> {
        let guards = chunk.changes.iter().map(|change| change.guard.action(self.table));
        let effects = chunk.effects.iter().map(|(row_id, effect)| {
            rows::action(
                &self.views[row_id.view],
                &self.view_tables[row_id.view],
                &row_id.key,
                effect,
            )
        });
        guards.chain(effects).collect()
    }

    fn entry(&self, item: &Item) -> Result<(String, Entry), StoreError> {
        let unreadable = |attribute: &str| StoreError {
            operation: "BatchGetItem",
            endpoint: self.table.to_owned(),
            trouble: Trouble::Rejected,
            code: "LedgerRowUnreadable".to_owned(),
            message: format!(
                "attribute {attribute} of a ledger row is not as changefold writes it; \
                 the table must not be written by anything else"
            ),
        };
        let text = |name: &str| item.get(name).and_then(|value| value.as_s().ok()).cloned();
        let pk = text(LEDGER_KEY).ok_or_else(|| unreadable(LEDGER_KEY))?;
        let version = text("v").ok_or_else(|| unreadable("v"))?;
        let revision = item
            .get("rev")
            .and_then(|value| value.as_n().ok())
            .and_then(|digits| digits.parse().ok())
            .ok_or_else(|| unreadable("rev"))?;
        let contributions = text("c")
            .and_then(|text| rows::contributions_from(&text))
            .ok_or_else(|| unreadable("c"))?;
        Ok((pk, Entry { revision, version, contributions }))
    }
}

/// One item's part of a transaction.
#[derive(Debug)]
struct Change {
    index: usize,
    guard: Guard,
    effects: BTreeMap<RowId, Effect>,
}

#[derive(Debug)]
struct Guard {
    item: Item,
    revision_read: u64,
}

impl Guard {
    fn action(&self, table: &str) -> TransactWriteItem {
        let put = Put::builder().table_name(table).set_item(Some(self.item.clone()));
        let put = if self.revision_read == 0 {
            put.condition_expression("attribute_not_exists(#k)")
                .expression_attribute_names("#k", LEDGER_KEY)
        } else {
            put.condition_expression("#r = :r")
                .expression_attribute_names("#r", "rev")
                .expression_attribute_values(
                    ":r",
                    AttributeValue::N(self.revision_read.to_string()),
                )
        };
        let put = put.build().expect("table and item are set");
        TransactWriteItem::builder().put(put).build()
    }
}
