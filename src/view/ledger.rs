//! The key ledger: one row per source item, which makes a view's effects happen once.
//!
//! Every transaction replaces what one item contributes and adds the difference to the rows
//! of the views, guarded by the revision at which the old contribution was read. So each row
//! is at all times the sum of the ledger's contributions, whatever was repeated, cut again,
//! reordered or run twice at once; and once the newest record of every item is in, it is the
//! SQL over the source. The guard is the revision and not the version: two writers may hold
//! the same version and different old contributions.
//!
//! There are three reasons to write a row ([`Basis`]): a record of the stream that is newer; an
//! item that a scan has read, where the ledger knows nothing of it; and an item that was read
//! from the source after its row, to reconcile the two.
//!
//! It gives up write capacity: two units for the ledger row of every changed item.

mod difference;
mod entry;
pub(crate) mod fence;
pub(crate) mod join;
mod leaving;
#[cfg(feature = "local")]
pub(crate) mod model;
mod pack;
mod settle;
mod tie;

pub(crate) use entry::{Entry, GONE};
pub(crate) use join::{IMAGE_BYTES_MAX, Left, mark_of};

use crate::{
    backoff::REPLY_MS,
    call::Halt,
    record::Timestamp,
    store::{BATCH_GET_KEYS_MAX, Item, Store, StoreError, Tries, Trouble, rows::text},
    view::{
        VIEWS_CHANGED, building,
        definition::View,
        quarantine::{QUARANTINE, Quarantine},
        registry,
        rows::{self, Effect, RowId, Stored},
        served::{Generation, Group},
        source_item::LEDGER_KEY,
        version::{self, Standing, standing},
    },
};
use aws_sdk_dynamodb::types::AttributeValue;
use entry::Guard;
use fence::Fences;
use futures_util::stream::{self, StreamExt};
use join::{JoinLog, Joined, Mirror};
use pack::{Chunk, pack, waves};
use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard, PoisonError},
};

/// Name of the attribute that DynamoDB's time to live reads, in seconds since the epoch.
pub const LEDGER_TTL: &str = "ttl";

/// Store calls in flight at once: the reads of 1,000 items are one round trip, and what they
/// write to 100 groups another. Each call beyond the first costs a connection once.
const CALLS_AT_ONCE: usize = 16;

/// Items with lists that are looked at together: with what says whether they may go in, one read.
const LARGE_AT_ONCE: usize = 90;

/// A source item as it is known now, evaluated for every view.
#[derive(Debug, Clone)]
pub(crate) struct Candidate {
    /// The item's ledger row.
    pub(crate) pk: String,
    /// Whose ledger row it is: the group of views that share it.
    pub(crate) group: usize,
    /// The item's key, for people.
    pub(crate) key: String,
    /// Where it is known from, and when that goes into the ledger.
    pub(crate) basis: Basis,
    /// What the item contributes to each view, by the view's index, from now on.
    pub(crate) contributions: BTreeMap<usize, Stored>,
    /// Rows of projections to write, by the view's index.
    pub(crate) projected: BTreeMap<usize, Item>,
    /// What it is before it is joined, by the index of the view that joins it with another one.
    pub(crate) lefts: BTreeMap<usize, Left>,
    /// What others are joined with, by the index of the view: the attributes that it looks at.
    pub(crate) rights: BTreeMap<usize, String>,
    /// Row key of projections: the item's own key.
    pub(crate) row_key: String,
    /// The views that cannot evaluate the item.
    pub(crate) quarantine: BTreeMap<usize, Quarantine>,
    /// The record as it was delivered, kept with a quarantined item: its stream forgets it.
    pub(crate) record: Option<String>,
    /// When the ledger row may go.
    pub(crate) expiry: Option<Expiry>,
}

impl Candidate {
    /// The keys of the ledger's rows that are looked at before it goes in.
    fn rows_read(&self) -> impl Iterator<Item = &String> {
        let fence = match &self.basis {
            Basis::Record { fence, .. } => fence.as_ref(),
            Basis::Scan | Basis::Source { .. } => None,
        };
        let run = self.expiry.as_ref().and_then(|it| it.unless_building.as_ref());
        [Some(&self.pk), run, fence].into_iter().flatten()
    }

    /// Its row stays: nothing else remembers for as long that an archive was read.
    pub(crate) fn keep_for_good(&mut self) {
        self.expiry = None;
    }
}

/// Where an item is known from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Basis {
    /// From a record of the stream: it goes in if it is newer than what is there, and was not
    /// created before the source was read to reconcile the item, or before a repair of all items.
    Record {
        /// Which of two changes is the newer ([`version`]).
        version: String,
        /// When the record was created, by its stream.
        created: Option<Timestamp>,
        /// The row with the fence of its source, if that is a table.
        fence: Option<String>,
    },
    /// From a scan of the source, which may have read it long ago: it goes in if the ledger
    /// knows nothing of the item, as the oldest version there can be.
    Scan,
    /// From the source itself, read after the ledger row: it takes the place of what is there,
    /// under the version that is there. Records created before are in it.
    Source {
        /// When the source was read.
        read: Timestamp,
    },
}

impl Basis {
    /// The version that the ledger row has then.
    fn version<'v>(&'v self, entry: &'v Entry) -> &'v str {
        match self {
            Self::Record { version, .. } => version,
            Self::Scan => "",
            Self::Source { .. } => &entry.version,
        }
    }
}

/// When a ledger row may go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Expiry {
    /// In seconds since the epoch.
    pub(crate) at_s: i64,
    /// The row of the run that builds the views of the source: while it does, the ledger row of
    /// a removed item stays, or the item could come back from what was scanned before.
    pub(crate) unless_building: Option<String>,
}

/// What became of a candidate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Its transaction is committed.
    Applied,
    /// The ledger already held this change or a newer one.
    AlreadyApplied,
    /// A part of it is committed, and the rest is next.
    InPart,
    /// It could not be finished in time.
    Unfinished(StoreError),
}

/// What was read of the ledger.
#[derive(Debug, Default)]
pub(crate) struct Known {
    entries: BTreeMap<String, Entry>,
    /// The rows of runs that build views.
    building: BTreeSet<String>,
    fences: Fences,
    /// The joined items that were asked for.
    mirrors: BTreeMap<Joined, Mirror>,
    /// The revision at which the served views changed last; 0 if that is not known.
    served: u64,
}

impl Known {
    /// What the ledger says of an item.
    pub(crate) fn entry(&self, pk: &str) -> Entry {
        self.entries.get(pk).cloned().unwrap_or_default()
    }

    /// Whether the run with this row still builds views; its row has to have been asked for.
    pub(crate) fn is_building(&self, run: &str) -> bool {
        self.building.contains(run)
    }
}

/// The ledger of a set of views.
#[derive(Debug)]
pub(crate) struct Ledger<'a> {
    pub(crate) store: &'a Store,
    pub(crate) table: &'a str,
    pub(crate) views: &'a [View],
    pub(crate) view_tables: &'a [String],
    pub(crate) groups: &'a [Group],
    pub(crate) generations: &'a [Generation],
    /// The revision of the registry by which the views are known.
    pub(crate) revision: u64,
    /// What became of joins. Never held over a call.
    pub(crate) join_log: Mutex<JoinLog>,
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
        for slice in self.slices(candidates) {
            self.apply_slice(candidates, slice, &mut fates, deadline).await?;
        }
        self.settle_joins(candidates, &mut fates, deadline).await?;
        Ok(fates.into_iter().map(|fate| fate.expect("every slice has fates")).collect())
    }

    /// What is looked at together: everything, and of items with lists a few, because their rows
    /// of the ledger can be large whatever the size of their records.
    fn slices(&self, candidates: &[Candidate]) -> Vec<Vec<usize>> {
        let has_list = |index: &usize| {
            let mut views = self.groups[candidates[*index].group].views.iter();
            views.any(|&view| self.views[view].unnest.is_some())
        };
        let (of_lists, plain): (Vec<usize>, Vec<usize>) = (0..candidates.len()).partition(has_list);
        let few = of_lists.chunks(LARGE_AT_ONCE).map(<[usize]>::to_vec);
        std::iter::once(plain).chain(few).filter(|slice| !slice.is_empty()).collect()
    }

    /// Goes on until each of these has its fate.
    async fn apply_slice(
        &self,
        candidates: &[Candidate],
        mut pending: Vec<usize>,
        fates: &mut [Option<Fate>],
        deadline: Timestamp,
    ) -> Result<(), StoreError> {
        let mut tries = Tries::new(deadline);
        loop {
            let last_error = self.round(candidates, &pending, fates, deadline).await?;
            pending.retain(|&index| matches!(fates[index], None | Some(Fate::InPart)));
            if pending.is_empty() {
                return Ok(());
            }
            if pending.iter().any(|&index| fates[index].is_some()) {
                // It goes on, however often others were ahead.
                tries = Tries::new(deadline);
            }
            let Some(error) = last_error.or_else(|| self.late(deadline)) else { continue };
            if !self.store.back_off(&mut tries).await {
                for &index in &pending {
                    fates[index] = Some(Fate::Unfinished(error.clone()));
                }
                return Ok(());
            }
        }
    }

    /// Says so if there is no time left for another part.
    pub(crate) fn late(&self, deadline: Timestamp) -> Option<StoreError> {
        let is_late = self.store.clock().now().0 >= deadline.0.saturating_sub(REPLY_MS);
        is_late.then(|| StoreError {
            operation: "TransactWriteItems",
            endpoint: self.table.to_owned(),
            trouble: Trouble::Unknown,
            code: "WrittenInPart".to_owned(),
            message: "the time is over; what comes next goes on from what is written".to_owned(),
        })
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
        let rows = pending.iter().flat_map(|&index| candidates[index].rows_read());
        match self.read_current(rows.cloned().collect(), deadline).await {
            Ok(mut known) => {
                let named = pending.iter().map(|&index| &candidates[index]);
                match self.read_mirrors(named, &mut known, deadline).await {
                    Ok(()) => self.write(candidates, pending, (&known, fates), deadline).await,
                    Err(error) if error.trouble == Trouble::Rejected => Err(error),
                    Err(error) => Ok(Some(error)),
                }
            }
            Err(error) if error.trouble == Trouble::Rejected => Err(error),
            Err(error) => Ok(Some(error)),
        }
    }

    /// What became of joins. Never held over a call.
    pub(crate) fn join_log(&self) -> MutexGuard<'_, JoinLog> {
        self.join_log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs the guarded transactions once, at the revisions that are known. Those without a
    /// fate after it were overtaken, or their answer was lost: what is known of them is old, as it
    /// is of those that were written in part.
    ///
    /// # Errors
    /// The store rejects a request; nothing of that transaction was written.
    pub(crate) async fn write(
        &self,
        candidates: &[Candidate],
        pending: &[usize],
        (known, fates): (&Known, &mut [Option<Fate>]),
        deadline: Timestamp,
    ) -> Result<Option<StoreError>, StoreError> {
        let mut changes = Vec::new();
        let mut joined = BTreeMap::new();
        let now = self.store.clock().now();
        for &index in pending {
            let candidate = &candidates[index];
            let entry = known.entry(&candidate.pk);
            let mut tied = None;
            let is_old = match &candidate.basis {
                Basis::Record { version, created, fence } => {
                    // What is there in part is not what was read to reconcile the item.
                    let is_contained = || {
                        entry.contains(*created) || known.fences.contain(fence.as_deref(), *created)
                    };
                    let is_known = match standing(version, &entry.version) {
                        Standing::Newer => false,
                        Standing::Known => true,
                        Standing::Undecided => {
                            tied = Some(version::undecided(version, &entry.version));
                            false
                        }
                        Standing::Incomparable => return Err(self.fed_twice()),
                    };
                    is_known
                        || !entry.is_part && is_contained()
                        || self.is_before(candidate.group, *created) && entry.version.is_empty()
                }
                // What a scan has written in part, it writes to the end.
                Basis::Scan => entry.exists() && !(entry.is_part && entry.version.is_empty()),
                Basis::Source { .. } => false,
            };
            if is_old {
                fates[index] = Some(Fate::AlreadyApplied);
                if version::is_undecided(&entry.version) && entry.is_left_out() {
                    self.join_log().undecided.insert(candidate.pk.clone());
                }
                continue;
            }
            let candidate = match tied {
                Some(version) => Cow::Owned(self.undecided(candidate, version)),
                None => self.joined(candidate, known)?,
            };
            changes.push(self.change(index, &candidate, (&entry, known), now));
            if let Cow::Owned(candidate) = candidate {
                joined.insert(index, candidate);
            }
        }
        let written = |change: &Change| {
            fates[change.index] = Some(if change.is_part { Fate::InPart } else { Fate::Applied });
            if change.is_part {
                return;
            }
            let given = &candidates[change.index];
            let written = joined.get(&change.index);
            if let Some(candidate) = written {
                self.remember(candidate);
            }
            self.note_undecided(given, written.unwrap_or(given));
        };
        self.run(changes, written, deadline).await
    }

    /// Runs the transactions of these changes once, and says of each change that it is written;
    /// or the last reason why some are not.
    ///
    /// # Errors
    /// The store rejects a request.
    async fn run(
        &self,
        changes: Vec<Change>,
        mut is_written: impl FnMut(&Change),
        deadline: Timestamp,
    ) -> Result<Option<StoreError>, StoreError> {
        let mut last_error = None;
        for wave in waves(pack(changes)) {
            let mut running = stream::iter(wave)
                .map(|chunk| async move {
                    let written = match self.transaction(&chunk, deadline).await {
                        Ok(actions) => self.store.transact(actions, deadline).await,
                        Err(error) => Err(error),
                    };
                    (chunk, written)
                })
                .buffer_unordered(CALLS_AT_ONCE);
            while let Some((chunk, written)) = running.next().await {
                match written {
                    Ok(()) => chunk.changes.iter().for_each(&mut is_written),
                    Err(error) if error.trouble == Trouble::Rejected => return Err(error),
                    Err(error) => last_error = Some(error),
                }
            }
        }
        Ok(last_error)
    }

    /// As [`read`](Self::read), and refuses where other views are served by now. What is served is
    /// asked with every look at the ledger that something is written after: one read unit a call.
    async fn read_current(
        &self,
        mut rows: BTreeSet<String>,
        deadline: Timestamp,
    ) -> Result<Known, StoreError> {
        rows.insert(registry::served_key());
        let known = self.read(rows, deadline).await?;
        if known.served > self.revision { Err(self.outdated()) } else { Ok(known) }
    }

    /// Reads ledger rows, rows of runs and fences, consistently.
    ///
    /// # Errors
    /// The store does not answer, or a row is not as changefold writes it.
    pub(crate) async fn read(
        &self,
        rows: BTreeSet<String>,
        deadline: Timestamp,
    ) -> Result<Known, StoreError> {
        let rows: Vec<String> = rows.into_iter().collect();
        let mut pages = stream::iter(rows.chunks(BATCH_GET_KEYS_MAX))
            .map(|keys| self.store.batch_get(self.table, LEDGER_KEY, keys, deadline))
            .buffer_unordered(CALLS_AT_ONCE);
        let mut known = Known::default();
        while let Some(page) = pages.next().await {
            for item in page? {
                if let Some(revision) = registry::served_at(&item) {
                    known.served = revision;
                    continue;
                }
                if let Some((run, is_building)) = building::run_of(&item) {
                    known.building.extend(is_building.then(|| run.to_owned()));
                    continue;
                }
                if known.fences.take(&item).map_err(|it| self.unreadable(it))? {
                    continue;
                }
                let (pk, entry) = Entry::read(&item).map_err(|it| self.unreadable(it))?;
                known.entries.insert(pk, entry);
            }
        }
        Ok(known)
    }

    /// The new ledger row, written only at the revision its difference was computed from.
    fn guard(&self, candidate: &Candidate, (entry, known): (&Entry, &Known)) -> Guard {
        let contributions = candidate
            .contributions
            .iter()
            .map(|(&view, stored)| (self.views[view].name.as_str(), stored));
        let contributions = rows::contributions_text(contributions);
        let fence = match &candidate.basis {
            Basis::Record { .. } | Basis::Scan => entry.fence,
            Basis::Source { read } => Some(*read),
        };
        let mut guard = Guard::new(
            (&candidate.pk, &candidate.key),
            (candidate.basis.version(entry), contributions),
            (entry.revision, fence),
        );
        self.set_lefts(candidate, &mut guard);
        if !candidate.quarantine.is_empty() {
            let quarantine = candidate
                .quarantine
                .iter()
                .map(|(&view, quarantine)| {
                    (self.views[view].name.clone(), quarantine.to_attribute())
                })
                .collect();
            guard.set(QUARANTINE, AttributeValue::M(quarantine));
            if let Some(record) = &candidate.record {
                guard.set("record", text(record.clone()));
            }
        }
        if let Some(Expiry { at_s, unless_building }) = &candidate.expiry {
            let is_building = |run: &String| known.building.contains(run);
            guard.expires(*at_s, unless_building.as_ref().is_some_and(is_building));
        }
        guard
    }

    /// Keeps in a ledger row what the item is before it is joined.
    fn set_lefts(&self, candidate: &Candidate, guard: &mut Guard) {
        let lefts = candidate.lefts.iter();
        guard.set_lefts(lefts.map(|(&view, left)| (self.views[view].name.as_str(), left)));
    }

    /// Whether a record is from before the group was served: what is read of the source later has
    /// it in it, and functions that did not serve the group may have finished it.
    fn is_before(&self, group: usize, created: Option<Timestamp>) -> bool {
        match (self.groups[group].from, created) {
            (Some(from), Some(created)) => created < from,
            _ => false,
        }
    }

    /// Other views are served by now.
    fn outdated(&self) -> StoreError {
        StoreError {
            operation: "BatchGetItem",
            endpoint: self.table.to_owned(),
            trouble: Trouble::Rejected,
            code: VIEWS_CHANGED.to_owned(),
            message: "other views are served by now".to_owned(),
        }
    }

    /// A row is not as it should be.
    pub(crate) fn unreadable(&self, attribute: &str) -> StoreError {
        StoreError {
            operation: "BatchGetItem",
            endpoint: self.table.to_owned(),
            trouble: Trouble::Rejected,
            code: "LedgerRowUnreadable".to_owned(),
            message: format!(
                "attribute {attribute} of a ledger row is not as changefold writes it; \
                 the table must not be written by anything else"
            ),
        }
    }
}

/// The ledger refuses to be read or written, or other views are served by now.
pub(crate) fn ledger_unread(error: StoreError) -> Halt {
    if error.code == VIEWS_CHANGED {
        return Halt::new(VIEWS_CHANGED, error.message);
    }
    if error.code == tie::FED_TWICE {
        return tie::fed_twice();
    }
    Halt::new("StoreRejected", error.to_string()).caused_by(error)
}

/// One item's part of a transaction.
#[derive(Debug)]
struct Change {
    index: usize,
    guard: Guard,
    effects: BTreeMap<RowId, Effect>,
    /// Whether more of the same item has to follow.
    is_part: bool,
}
