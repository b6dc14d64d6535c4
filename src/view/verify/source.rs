//! Ledger and source: every item is compared, and every ledger row whose item is gone.
//!
//! The source is scanned at half price, and what differs is looked at. Then the ledger is scanned
//! for rows that contribute, whose item is asked for. A difference that lasts is drift (see the
//! parent). A repair does not wait: to reconcile an item is safe at any time.

use super::{
    End, Ended, LOOKS_MAX, Mode, Walk, keys,
    look::{Looked, Seen},
    unanswered,
};
use crate::{
    call::Halt,
    operation::{backfill::NotDone, verify::Stopped},
    record::Timestamp,
    store::{
        Item, StoreError, Trouble,
        json::{item_from_json, item_to_json},
        rows::text_of,
        tables::{KeyType, PageOf, SegmentPage},
    },
    view::{
        ledger::{
            Basis, Entry,
            fence::{self, fence_key},
        },
        reconcile::Outcome,
        source_item::LEDGER_KEY,
        source_table::{Found, SourceTable},
    },
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// Items, and rows, of one page at most.
const PAGE_MAX: u32 = 500;
/// Differences that are kept until they have lasted; a walk goes no further before.
const SUSPECTS_MAX: usize = 2_000;
/// Items that are looked at together.
const LOOK_MAX: usize = 100;
/// Segments that a table can be read in at most: what a sample is chosen from.
const SEGMENTS_MAX: u64 = 1_000_000;
/// An item that was written while it was looked at is looked at again after so many milliseconds.
const OVERTAKEN_MS: i64 = 500;

/// Where a walk stands.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Place {
    /// Which generation of the source's views is compared.
    #[serde(default)]
    generation: u32,
    phase: Phase,
    /// In how many segments the tables are read, the first of them, and how many are done.
    segments: u32,
    first: u32,
    done: u32,
    /// Behind which key to go on.
    after: Option<Value>,
    /// How many make a sample, and how many are left of it.
    sample: Option<u64>,
    left: Option<u64>,
    suspects: Vec<Suspect>,
    /// When the first page was read, by the source's own time.
    began_ms: Option<i64>,
    /// Whether something could not be compared or mended.
    #[serde(default)]
    has_gaps: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
enum Phase {
    /// Items of the source are compared with the ledger.
    #[default]
    Items,
    /// Rows of the ledger are looked for in the source.
    Ledger,
    /// What differs is looked at again.
    Looks,
}

/// An item that differs, as long as it is not known why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Suspect {
    key: Value,
    /// Revision, moment and image of the first look since the item was written.
    seen: Option<(u64, i64, String)>,
    looks: u32,
    /// Whether this call has looked again.
    #[serde(skip)]
    is_looked: bool,
}

impl Walk<'_> {
    /// Compares a portion of ledger and source.
    pub(super) async fn source(&mut self) -> Ended {
        let table = self.request.table.as_deref().ok_or_else(|| {
            Halt::new("TableMissing", "the source to compare with is a table: name it as `table`")
        })?;
        let source = self.views.source_table(table, self.call.deadline).await?;
        self.source_arn = Some(source.arn.clone());
        let groups = self.views.built_groups(&source, self.call.deadline).await?;
        if groups.is_empty() {
            return Err(building(&source));
        }
        let mut place: Place = self.cursor()?.unwrap_or_else(|| self.beginning(&source));
        // Each generation has ledger rows of its own.
        for group in &groups {
            let generation = self.views.groups[group.group].generation;
            if generation < place.generation {
                continue;
            }
            if place.generation != generation && place.generation != 0 {
                place = self.beginning(&source);
            }
            place.generation = generation;
            let told = (self.told.not_done.len(), self.told.undecided.len());
            let mut ended = self.source_from(group, &mut place).await;
            place.has_gaps |= told != (self.told.not_done.len(), self.told.undecided.len());
            if ended.is_ok() && self.mode == Mode::Repair {
                ended = self.fence(group, &place).await;
            }
            if ended.is_err() {
                self.stands(&place);
                return ended;
            }
        }
        Ok(())
    }

    fn beginning(&self, source: &SourceTable<'_>) -> Place {
        let Some(sample) = self.request.sample else {
            return Place { segments: 1, ..Place::default() };
        };
        let segments = (source.described.items / sample.max(1)).clamp(1, SEGMENTS_MAX);
        let segments = u32::try_from(segments).unwrap_or(1);
        let chance = Sha256::digest(self.now().to_be_bytes());
        let chance = u32::from_be_bytes([chance[0], chance[1], chance[2], chance[3]]);
        let (first, sample) = (chance % segments, Some(sample));
        Place { segments, first, sample, left: sample, ..Place::default() }
    }

    async fn source_from(&mut self, source: &SourceTable<'_>, place: &mut Place) -> Ended {
        let mut ahead_ms = 0;
        loop {
            self.goes_on()?;
            if self.look_again(source, place, &mut ahead_ms).await? {
                continue;
            }
            let is_end = place.phase == Phase::Looks;
            if is_end && place.suspects.is_empty() {
                return Ok(());
            }
            if is_end || place.suspects.len() >= SUSPECTS_MAX {
                self.told.wait_ms = self.wait_ms(place, ahead_ms);
                return Err(End::Stopped(Stopped::Waits));
            }
            let mut page = self.segment_page(source, place).await?;
            place.began_ms.get_or_insert(page.read.0);
            if let Some(left) = &mut place.left {
                page.items.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
            }
            let count = page.items.len() as u64;
            let differing = match place.phase {
                Phase::Items => self.glance(source, page.items).await?,
                Phase::Ledger | Phase::Looks => self.gone(source, &page.items).await?,
            };
            self.differ(source, place, differing).await?;
            place.passed(count, page.next.as_ref());
        }
    }

    async fn segment_page(
        &self,
        source: &SourceTable<'_>,
        place: &Place,
    ) -> Result<SegmentPage, End> {
        let is_source = place.phase == Phase::Items;
        let (store, table) = if is_source {
            (source.store, &*source.table)
        } else {
            (self.store(), &*self.views.ledger_table)
        };
        let page = PageOf {
            table,
            segment: (place.first + place.done) % place.segments,
            segments: place.segments,
            after: place.after.as_ref().and_then(item_from_json),
            limit: PAGE_MAX,
            // What a repair finds equal is fenced: it must not be from before.
            is_consistent: is_source && self.mode == Mode::Repair,
        };
        store.scan_segment(&page, self.call.deadline).await.map_err(|error| {
            if is_source && error.trouble == Trouble::Rejected {
                return End::Halted(source.unreadable(error));
            }
            unanswered(error)
        })
    }

    /// Of the ledger's rows those that contribute and whose item is gone.
    async fn gone(&mut self, source: &SourceTable<'_>, rows: &[Item]) -> Result<Vec<Item>, End> {
        let named = source.described.keys.iter().cloned();
        let named: Vec<(String, KeyType)> =
            named.zip(source.described.key_types.iter().copied()).collect();
        let (mut readings, mut of) = (Vec::new(), Vec::new());
        let mut is_read: Vec<(&str, bool)> = Vec::new();
        for row in rows {
            if !text_of(row, LEDGER_KEY).is_some_and(|pk| source.files(pk)) {
                continue;
            }
            let unreadable = |name| unanswered(self.views.ledger().unreadable(name));
            let (_, entry) = Entry::read(row).map_err(unreadable)?;
            let mut views = self.views.groups[source.group].all_views();
            let contributes = |view: usize| {
                let name = &self.views.definitions[view].name;
                entry.contributions.contains_key(name) || entry.lefts.contains_key(name)
            };
            if !views.any(contributes) {
                continue;
            }
            for key in keys::readings(text_of(row, "key").unwrap_or_default(), &named) {
                readings.push(Found { key, item: None, basis: Basis::Scan });
                of.push(is_read.len());
            }
            is_read.push((text_of(row, LEDGER_KEY).unwrap_or_default(), false));
        }
        let made = self.views.candidates(source, &readings, Timestamp(self.now()))?;
        let mut keys = Vec::new();
        for ((candidate, reading), of) in made.into_iter().zip(readings).zip(of) {
            let (pk, is_read) = &mut is_read[of];
            if !*is_read && candidate.is_ok_and(|candidate| candidate.pk == *pk) {
                *is_read = true;
                keys.push(reading.key);
            }
        }
        let unread = is_read.iter().filter(|(_, is_read)| !is_read).count();
        for _ in 0..unread {
            self.cannot(NotDone {
                key: String::new(),
                code: "KeyUnreadable".to_owned(),
                reason: "a ledger row names its item in a way that leads to no key".to_owned(),
            });
        }
        let found = self.read_source(source, &keys).await?;
        Ok(found.into_iter().filter(|it| it.item.is_none()).map(|it| it.key).collect())
    }

    /// Every item was compared or reconciled: what was created before is contained.
    async fn fence(&self, source: &SourceTable<'_>, place: &Place) -> Ended {
        let Some(began) = place.began_ms.filter(|_| !place.has_gaps && place.sample.is_none())
        else {
            return Ok(());
        };
        let key = fence_key(&source.arn, &self.views.groups[source.group].kind);
        let fence = (&*key, Timestamp(began));
        let table = &self.views.ledger_table;
        fence::advance(self.store(), table, fence, self.call.deadline).await.map_err(unanswered)
    }

    /// Takes note of items that differ at a glance, or mends them.
    async fn differ(
        &mut self,
        source: &SourceTable<'_>,
        place: &mut Place,
        differing: Vec<Item>,
    ) -> Ended {
        for keys in differing.chunks(LOOK_MAX) {
            let looked = self.look(source, keys).await?;
            if self.mode == Mode::Verify {
                for (key, looked) in keys.iter().zip(looked) {
                    let key = item_to_json(key).unwrap_or_default();
                    if !place.suspects.iter().any(|suspect| suspect.key == key) {
                        let suspect = Suspect { key, seen: None, looks: 0, is_looked: false };
                        place.suspects.extend(self.note(suspect, looked));
                    }
                }
            } else {
                self.mend(source, keys, looked).await?;
            }
        }
        Ok(())
    }

    /// Reconciles what a look has found to differ.
    async fn mend(
        &mut self,
        source: &SourceTable<'_>,
        keys: &[Item],
        looked: Vec<Looked>,
    ) -> Ended {
        let (mut wanted, mut drift) = (Vec::new(), Vec::new());
        for (key, looked) in keys.iter().zip(looked) {
            match looked {
                Looked::Equal => continue,
                Looked::NotDone(not_done) => {
                    self.cannot(not_done);
                    continue;
                }
                Looked::Overtaken => drift.push(Vec::new()),
                Looked::Differs(seen) => drift.push(seen.drift),
            }
            wanted.push(key.clone());
        }
        let outcomes = match self.mode {
            Mode::Repair => self.views.reconcile(source, &wanted, self.call.deadline).await?,
            Mode::Verify | Mode::DryRun => vec![Outcome::Done; wanted.len()],
        };
        let mut unfinished: Option<StoreError> = None;
        for (outcome, drift) in outcomes.into_iter().zip(drift) {
            match outcome {
                Outcome::Done => {
                    let is_mended = self.mode == Mode::Repair && !drift.is_empty();
                    self.told.mended += u64::from(is_mended);
                    self.tell_all(drift);
                }
                Outcome::NotDone(not_done) => {
                    self.cannot(not_done);
                    self.tell_all(drift);
                }
                Outcome::Unfinished(error) => unfinished = Some(error),
            }
        }
        unfinished.map_or(Ok(()), |error| Err(unanswered(error)))
    }

    /// Looks again at what has differed for long enough; whether there was any.
    async fn look_again(
        &mut self,
        source: &SourceTable<'_>,
        place: &mut Place,
        ahead_ms: &mut i64,
    ) -> Result<bool, End> {
        let passed_ms = self.passed_ms(*ahead_ms);
        let is_due = |suspect: &Suspect| {
            !suspect.is_looked && suspect.seen.as_ref().is_none_or(|seen| seen.1 <= passed_ms)
        };
        let mut due: Vec<usize> =
            (0..place.suspects.len()).filter(|&at| is_due(&place.suspects[at])).collect();
        due.truncate(LOOK_MAX);
        if due.is_empty() {
            return Ok(false);
        }
        let keys: Vec<Item> = due
            .iter()
            .map(|&at| item_from_json(&place.suspects[at].key).unwrap_or_default())
            .collect();
        let looked = self.look(source, &keys).await?;
        for (at, looked) in due.into_iter().zip(looked).rev() {
            if let Looked::Differs(seen) = &looked {
                *ahead_ms = seen.ahead_ms;
            }
            let mut suspect = place.suspects.swap_remove(at);
            suspect.is_looked = true;
            place.suspects.extend(self.note(suspect, looked));
        }
        Ok(true)
    }

    /// What a look says of a suspect: drift if it has lasted; nothing if it is equal.
    fn note(&mut self, suspect: Suspect, looked: Looked) -> Option<Suspect> {
        let looks = suspect.looks + 1;
        let again = match looked {
            Looked::Equal => return None,
            Looked::NotDone(not_done) => {
                self.cannot(not_done);
                return None;
            }
            Looked::Overtaken => Suspect { seen: None, looks, ..suspect },
            Looked::Differs(Seen { revision, read, ahead_ms, image, drift }) => match &suspect.seen
            {
                Some((seen, since, before)) if (*seen, before) == (revision, &image) => {
                    if *since > self.passed_ms(ahead_ms) {
                        return Some(suspect);
                    }
                    self.tell_all(drift);
                    return None;
                }
                _ => Suspect { seen: Some((revision, read.0, image)), looks, ..suspect },
            },
        };
        if again.looks <= LOOKS_MAX {
            return Some(again);
        }
        let key = item_from_json(&again.key).unwrap_or_default();
        let key = Found { key, item: None, basis: Basis::Scan }.readable_key();
        self.told.undecided.push(NotDone {
            key,
            code: "WrittenMeanwhile".to_owned(),
            reason: format!("it differed at {LOOKS_MAX} looks and was written between any two"),
        });
        None
    }

    /// What was written until then is no longer under way, by the time of the source, which is
    /// so much ahead of ours.
    fn passed_ms(&self, ahead_ms: i64) -> i64 {
        if self.request.at_rest {
            return i64::MAX;
        }
        (self.began_ms + ahead_ms).saturating_sub(self.lasting_ms())
    }

    /// When the next suspect may be looked at.
    fn wait_ms(&self, place: &Place, ahead_ms: i64) -> u64 {
        let now = self.now() + ahead_ms;
        let due = place.suspects.iter().map(|suspect| match &suspect.seen {
            Some((_, since, _)) => since.saturating_add(self.lasting_ms()),
            None => now + OVERTAKEN_MS,
        });
        // The moments of answers are whole seconds.
        let wait_ms = due.min().unwrap_or(now).saturating_sub(now).max(OVERTAKEN_MS);
        wait_ms.cast_unsigned()
    }
}

/// Views that lack items cannot be compared with their source.
fn building(source: &SourceTable<'_>) -> End {
    let message = format!(
        "the views of {} are being built: compare them when `view status` says ready",
        source.name()
    );
    End::Halted(Halt::new("ViewsBuilding", message))
}

impl Place {
    /// A page is done.
    fn passed(&mut self, count: u64, next: Option<&Item>) {
        self.left = self.left.map(|left| left.saturating_sub(count));
        self.after = next.and_then(item_to_json);
        if self.after.is_none() {
            self.done += 1;
        }
        if self.done < self.segments && self.left != Some(0) {
            return;
        }
        self.phase = match self.phase {
            Phase::Items => Phase::Ledger,
            Phase::Ledger | Phase::Looks => Phase::Looks,
        };
        (self.done, self.after, self.left) = (0, None, self.sample);
    }
}
