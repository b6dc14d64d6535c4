//! What the ledger would ask of a store, without one.
//!
//! The protocol's own parts decide: which rows are read, what a change differs by, how changes
//! are packed into transactions. Only the store's answers are assumed: every transaction is
//! committed, and nobody else writes. Separate because nothing that is deployed asks for it.

use super::{Basis, Candidate, Entry, Known, Ledger, pack::pack};
use crate::view::rows::RowId;
use aws_sdk_dynamodb::types::TransactWriteItem;
use std::collections::BTreeSet;

/// A transaction as it would be sent, and the rows of views in it.
#[derive(Debug)]
pub(crate) struct Transaction {
    pub(crate) actions: Vec<TransactWriteItem>,
    pub(crate) rows: Vec<RowId>,
}

impl Ledger<'_> {
    /// The keys of the ledger's rows that are read for a batch.
    pub(crate) fn keys_read(candidates: &[Candidate]) -> BTreeSet<String> {
        let rows = candidates.iter().flat_map(Candidate::rows_read);
        rows.cloned().chain([crate::view::registry::served_key()]).collect()
    }

    /// The transactions that a batch makes; what is known of its items is as it is after them.
    pub(crate) fn transactions(
        &self,
        candidates: &[Candidate],
        known: &mut Known,
    ) -> Vec<Transaction> {
        let mut changes = Vec::new();
        for (index, candidate) in candidates.iter().enumerate() {
            let entry = known.entry(&candidate.pk);
            let is_old = matches!(&candidate.basis, Basis::Record { version, .. }
                if entry.version >= *version);
            if !is_old {
                changes.push(self.change(index, candidate, (&entry, known)));
            }
        }
        for change in &changes {
            if let Ok((pk, entry)) = Entry::read(&change.guard.item) {
                known.entries.insert(pk, entry);
            }
        }
        let transaction = |chunk: &super::Chunk| Transaction {
            actions: self.transaction(chunk),
            rows: chunk.effects.keys().cloned().collect(),
        };
        pack(changes).iter().map(transaction).collect()
    }
}
