//! Changes that cannot be put in order: two of one item at one moment, and changes that come in two
//! ways.
//!
//! The first leave the item out of the views, under a version that says so (`view/version`), and
//! are noted: who applies them asks the item's table. The second are refused.

use super::{Basis, Candidate, Ledger};
use crate::{
    call::Halt,
    store::{StoreError, Trouble},
    view::{
        evaluate::Poison,
        quarantine::Quarantine,
        version::{self, Standing, standing},
    },
};
use std::collections::BTreeMap;

/// The code of an error of the store that is none of the store's.
pub(super) const FED_TWICE: &str = "SourceFedTwice";

impl Candidate {
    /// The same item, left out of these views under a version that says so: two of its changes are
    /// of one moment, and which one came later is not known.
    fn undecided(&self, views: impl Iterator<Item = usize>, version: String) -> Self {
        let quarantine = Quarantine::without_record(Poison {
            attribute: "ApproximateCreationDateTime".to_owned(),
            expected: "a moment of its own for each change of an item".to_owned(),
            found: "two changes of one moment".to_owned(),
        });
        let basis = match &self.basis {
            Basis::Record { created, fence, .. } => {
                Basis::Record { version, created: *created, fence: fence.clone() }
            }
            other => other.clone(),
        };
        Self {
            basis,
            contributions: BTreeMap::new(),
            projected: BTreeMap::new(),
            lefts: BTreeMap::new(),
            rights: BTreeMap::new(),
            quarantine: views.map(|view| (view, quarantine.clone())).collect(),
            record: None,
            expiry: None,
            ..self.clone()
        }
    }
}

impl Ledger<'_> {
    /// What the newest of a batch's changes of an item makes of it: if another one is of the same
    /// moment, nothing that is known.
    pub(crate) fn newest<'v>(
        &self,
        candidate: Candidate,
        version: &str,
        others: impl Iterator<Item = &'v String>,
    ) -> Candidate {
        let is_tied = |other: &&String| standing(other, version) == Standing::Undecided;
        let tied = others.filter(is_tied).map(|other| version::undecided(version, other)).min();
        match tied {
            Some(version) => self.undecided(&candidate, version),
            None => candidate,
        }
    }

    /// The same item, left out of all views that read it.
    pub(crate) fn undecided(&self, candidate: &Candidate, version: String) -> Candidate {
        candidate.undecided(self.groups[candidate.group].all_views(), version)
    }

    /// Notes an item that was left out because it is not known what it is; and tells of it, if
    /// that follows from what the ledger had.
    pub(super) fn note_undecided(&self, given: &Candidate, written: &Candidate) {
        let is_undecided = |candidate: &Candidate| match &candidate.basis {
            Basis::Record { version, .. } => version::is_undecided(version),
            Basis::Scan | Basis::Source { .. } => false,
        };
        if !is_undecided(written) {
            return;
        }
        let mut log = self.join_log();
        log.undecided.insert(written.pk.clone());
        if !is_undecided(given) {
            let reasons = written.quarantine.iter();
            log.quarantined.extend(reasons.map(|(&view, reason)| (view, reason.clone())));
        }
    }

    /// A table feeds the ledger by its own stream and through a data stream.
    pub(super) fn fed_twice(&self) -> StoreError {
        StoreError {
            operation: "BatchGetItem",
            endpoint: self.table.to_owned(),
            trouble: Trouble::Rejected,
            code: FED_TWICE.to_owned(),
            message: "the item's changes came in another way before".to_owned(),
        }
    }
}

/// What is told of a table that comes in both ways.
pub(super) fn fed_twice() -> Halt {
    Halt::new(
        "SourceUnfit",
        "the views have changes of this table from its own stream and others through a Kinesis \
         data stream, and which of two is the newer cannot be told: map one of them only. To \
         change over, use a new CHANGEFOLD_LEDGER_TABLE with new view tables and backfill them",
    )
}
