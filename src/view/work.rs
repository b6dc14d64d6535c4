//! One batch through the views.
//!
//! Each record names an item of its source; of the changes of an item only the newest is
//! evaluated, for every view that reads the source, and goes through the ledger. A record is
//! finished when its item's newest change is, in every group of views that reads it.

use super::{
    candidate::{Delivered, Unreadable},
    definition::RETENTION_HOURS_DEFAULT,
    ledger::{Candidate, Fate, Ledger, ledger_unread},
    reading::{Reading, source_unknown},
    registry::RegistryError,
    served::{Group, Served},
    sources::Filing,
    undecided::Undecided,
};
use crate::{
    call::{Call, Halt, Measures},
    event::Record,
    outcome::Outcome,
    record::Source,
    store::Trouble,
    telemetry,
};
use std::{cmp::Reverse, collections::BTreeMap, sync::Mutex};

/// Log lines of one invocation about quarantined items. A deployment that makes every item
/// unfit would else write as many lines as there are changes; the rest is counted.
const QUARANTINE_LINES_MAX: usize = 20;

/// Where records come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// Their stream.
    Stream,
    /// An archive of it ([`replay`](super::replay)).
    Archive,
}

impl Served {
    pub(super) fn ledger(&self) -> Ledger<'_> {
        Ledger {
            store: &self.store,
            table: &self.ledger_table,
            views: &self.definitions,
            view_tables: &self.view_tables,
            groups: &self.groups,
            generations: &self.generations,
            revision: self.revision,
            join_log: Mutex::default(),
        }
    }

    /// How the items of each source are filed that the records are of; none while the store does
    /// not tell.
    async fn filings(
        &self,
        records: &[&Record<'_>],
        call: &Call,
    ) -> Result<Option<BTreeMap<String, Filing>>, Halt> {
        let mut filings: BTreeMap<String, Filing> = BTreeMap::new();
        for record in records {
            let arn = record.source_arn().ok_or_else(|| source_unknown(record))?;
            // A batch has one source, or few.
            if filings.contains_key(arn) {
                continue;
            }
            let filing = match self.filing_of_records(arn, call.deadline).await {
                Ok(filing) => filing,
                Err(RegistryError::Store(error)) if error.trouble == Trouble::Rejected => {
                    return Err(ledger_unread(error));
                }
                Err(RegistryError::Store(error)) => {
                    telemetry::store_unfinished(&error);
                    return Ok(None);
                }
                Err(error) => return Err(Halt::new(error.code(), error.to_string())),
            };
            filings.insert(arn.to_owned(), filing);
        }
        Ok(Some(filings))
    }

    /// Counts and logs the items that are quarantined from now on, and says how many; the
    /// invocation has told of so many reasons already.
    pub(super) fn tell_quarantined(
        &self,
        told: &mut usize,
        (candidates, fates): (&[Candidate], &[Fate]),
        call: &Call,
    ) -> u64 {
        let (mut items, mut untold) = (0, 0);
        let applied = candidates.iter().zip(fates).filter(|(_, fate)| **fate == Fate::Applied);
        for (candidate, _) in applied.filter(|(candidate, _)| !candidate.quarantine.is_empty()) {
            items += 1;
            for (&view, quarantine) in &candidate.quarantine {
                if *told < QUARANTINE_LINES_MAX {
                    telemetry::item_quarantined(call, &self.definitions[view].name, quarantine);
                    *told += 1;
                } else {
                    untold += 1;
                }
            }
        }
        telemetry::items_quarantined(call, items, untold);
        items
    }

    /// Counts and logs the items that are left out for what they are joined with.
    pub(super) fn tell_joined(&self, ledger: &Ledger<'_>, call: &Call) {
        let quarantined = std::mem::take(&mut ledger.join_log().quarantined);
        for (view, quarantine) in quarantined.iter().take(QUARANTINE_LINES_MAX) {
            telemetry::item_quarantined(call, &self.definitions[*view].name, quarantine);
        }
        let untold = quarantined.len().saturating_sub(QUARANTINE_LINES_MAX);
        telemetry::items_quarantined(call, quarantined.len() as u64, untold);
    }

    /// How long the stream of a group keeps records, in hours.
    pub(super) fn retention_hours(&self, group: &Group) -> u32 {
        let views = group.views.iter().map(|&view| self.definitions[view].retention_hours);
        views.max().unwrap_or(RETENTION_HOURS_DEFAULT)
    }
}

impl Served {
    /// Works on a batch, as [`Work::work`](crate::batch::Work::work) says.
    ///
    /// # Errors
    /// As there. [`VIEWS_CHANGED`](super::VIEWS_CHANGED): what is served has changed since it was
    /// read, and of what remains nothing was written.
    pub(super) async fn work(
        &self,
        records: &[Record<'_>],
        outcomes: &mut [Outcome],
        measures: &mut Measures,
        (call, origin): (&Call, Origin),
    ) -> Result<(), Halt> {
        if records.iter().any(|record| record.source().is_queue()) {
            return Err(queue_refused());
        }
        let calls_before = self.store.usage().calls;
        let now = self.store.clock().now();
        let readings: Vec<Reading<'_>> = records.iter().map(Reading::of).collect();
        let parts = self.parts(&readings)?;
        let readable = parts.iter().filter_map(|parts| parts.as_ref().ok()).flatten();
        let readable: Vec<&Record<'_>> = readable.map(|(_, record)| *record).collect();
        let filings = self.filings(&readable, call).await;
        measures.store_calls = self.store.usage().calls - calls_before;
        let Some(filings) = filings? else {
            outcomes.fill(Outcome::Failed);
            return Ok(());
        };
        let mut items: BTreeMap<String, Vec<(Delivered, &Record<'_>)>> = BTreeMap::new();
        let mut asked: Vec<Vec<String>> = vec![Vec::new(); records.len()];
        let mut failed = |record: &Record<'_>, index: usize, error: Unreadable| match error {
            Unreadable::Record(_) | Unreadable::TooLargeToKeep => {
                telemetry::record_failed(record, call, error.code(), &error);
                outcomes[index] = Outcome::Failed;
                Ok(())
            }
            _ => Err(halt(record, &error)),
        };
        for (index, parts) in parts.into_iter().enumerate() {
            let parts = match parts {
                Ok(parts) => parts,
                Err(error) => {
                    failed(&records[index], index, error)?;
                    continue;
                }
            };
            for (group, record) in parts {
                let Some(filing) = record.source_arn().and_then(|arn| filings.get(arn)) else {
                    return Err(source_unknown(record));
                };
                match self.delivered(group, record, (index, filing)) {
                    Ok(delivered) => {
                        asked[index].push(delivered.pk.clone());
                        items.entry(delivered.pk.clone()).or_default().push((delivered, record));
                    }
                    Err(error) => failed(record, index, error)?,
                }
            }
        }
        let mut candidates = Vec::with_capacity(items.len());
        let mut ties = Undecided::default();
        for mut changes in items.into_values() {
            // What an item was before its newest change in the batch is never evaluated.
            changes.sort_by(|(a, _), (b, _)| Reverse(&a.version).cmp(&Reverse(&b.version)));
            for (delivered, record) in &changes {
                match self.candidate(delivered, record, now) {
                    Ok(mut candidate) => {
                        if origin == Origin::Archive && record.source() == Source::Kinesis {
                            candidate.keep_for_good();
                        }
                        ties.note(&candidate, record);
                        let versions = changes.iter().map(|(other, _)| &other.version);
                        candidates.push(self.ledger().newest(
                            candidate,
                            &delivered.version,
                            versions,
                        ));
                        break;
                    }
                    Err(error) => failed(record, delivered.index, error)?,
                }
            }
        }
        let ledger = self.ledger();
        let applied = ledger.apply(&candidates, call.deadline).await;
        measures.store_calls = self.store.usage().calls - calls_before;
        let fates = applied.map_err(ledger_unread)?;
        self.tell_quarantined(&mut 0, (&candidates, &fates), call);
        self.tell_joined(&ledger, call);
        let left = std::mem::take(&mut ledger.join_log().undecided);
        let unfinished = self.decide(&ties, &left, call).await;
        measures.store_calls = self.store.usage().calls - calls_before;
        let fates: BTreeMap<&str, &Fate> =
            candidates.iter().map(|candidate| candidate.pk.as_str()).zip(&fates).collect();
        for (outcome, asked) in outcomes.iter_mut().zip(&asked) {
            if asked.iter().any(|pk| unfinished.contains(pk.as_str())) {
                *outcome = Outcome::Failed;
            }
            if *outcome != Outcome::Failed {
                *outcome = joined(asked.iter().filter_map(|pk| fates.get(pk.as_str()).copied()));
            }
        }
        Ok(())
    }
}

/// A record is finished when its item's newest change is, in every group that reads it.
fn joined<'f>(fates: impl Iterator<Item = &'f Fate>) -> Outcome {
    let mut joined = None;
    for fate in fates {
        let outcome = match fate {
            Fate::Applied => Outcome::Applied,
            Fate::AlreadyApplied => Outcome::AlreadyApplied,
            Fate::InPart => return Outcome::Failed,
            Fate::Unfinished(error) => {
                telemetry::store_unfinished(error);
                return Outcome::Failed;
            }
        };
        if joined != Some(Outcome::Applied) {
            joined = Some(outcome);
        }
    }
    joined.unwrap_or_default()
}

fn halt(record: &Record<'_>, error: &Unreadable) -> Halt {
    Halt::new(error.code(), format!("record {}: {error}", record.sequence_number()))
}

fn queue_refused() -> Halt {
    Halt::new(
        "SourceUnfit",
        "views cannot be kept from a queue: its messages have no version, so a late duplicate \
         could not be told from news; remove this event source and give the views the stream \
         itself",
    )
}
