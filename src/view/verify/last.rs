//! What the last verifications have found: a row for each kind, in the ledger's table.

use super::Walk;
use crate::{
    call::Halt,
    operation::{
        backfill::NotDone,
        verified::{Found, LastVerified, ViewDrift},
        verify::{Drift, Verified},
    },
    record::Timestamp,
    store::{
        BATCH_GET_KEYS_MAX, Item,
        rows::{Change, text, text_of},
    },
    view::{building, served::Served, source_item::LEDGER_KEY},
};
use std::collections::BTreeSet;

/// Attribute of the row: the result as JSON.
const RESULT: &str = "result";

/// Adds what a call has told to what the calls before have found.
pub(super) fn add(found: &mut Found, told: &Verified) {
    let count = |listed: &[NotDone]| listed.len() as u64;
    found.checked += told.checked;
    found.undecided += count(&told.undecided);
    found.not_done += count(&told.not_done);
    for Drift { view, generation, .. } in &told.drift {
        let of_view = |it: &&mut ViewDrift| it.view == *view && it.generation == *generation;
        if let Some(of_view) = found.drift.iter_mut().find(of_view) {
            of_view.drift += 1;
        } else {
            let (view, generation) = (view.clone(), *generation);
            found.drift.push(ViewDrift { view, generation, drift: 1 });
        }
    }
}

impl Walk<'_> {
    /// Writes down what the walk has found, in place of what the one before it had.
    ///
    /// # Errors
    /// The store does not answer.
    pub(super) async fn remember(&self, is_whole: bool) -> Result<(), Halt> {
        let last = LastVerified {
            source: self.source_arn.clone(),
            ended_ms: self.now(),
            is_whole,
            sample: self.request.sample,
            found: self.found.clone(),
        };
        let result = serde_json::to_string(&last).expect("texts and numbers are JSON");
        let row = Item::from([
            (LEDGER_KEY.to_owned(), text(building::verified_key(last.source.as_deref()))),
            (RESULT.to_owned(), text(result)),
        ]);
        let change = Change::put(&self.views.ledger_table, row);
        let written = self.store().change(&change, self.call.deadline).await;
        written.map_err(|error| self.views.unanswered(error))
    }
}

impl Served {
    /// What the last verifications have found: of rows and ledger, of every source that has come,
    /// and of these.
    ///
    /// # Errors
    /// The store does not answer, or what was written cannot be read.
    pub(in crate::view) async fn last_verified(
        &self,
        sources: &BTreeSet<String>,
        deadline: Timestamp,
    ) -> Result<Vec<LastVerified>, Halt> {
        let known = self.sources_now(deadline).await?;
        let sources: BTreeSet<_> =
            sources.iter().chain(known.first.values()).chain(&known.also).collect();
        let of_sources = sources.into_iter().map(|source| Some(source.as_str()));
        let keys = std::iter::once(None).chain(of_sources).map(building::verified_key);
        let keys: Vec<String> = keys.collect();
        let mut found = Vec::new();
        for keys in keys.chunks(BATCH_GET_KEYS_MAX) {
            let rows = self.store.batch_get(&self.ledger_table, LEDGER_KEY, keys, deadline).await;
            for row in rows.map_err(|error| self.unanswered(error))? {
                let read = serde_json::from_str(text_of(&row, RESULT).unwrap_or_default());
                found.push(read.map_err(|error| {
                    let key = text_of(&row, LEDGER_KEY).unwrap_or_default();
                    let message = format!(
                        "the row {key} of the ledger table {} cannot be read: delete it",
                        self.ledger_table
                    );
                    Halt::new("VerificationUnreadable", message).caused_by(error)
                })?);
            }
        }
        found.sort_by(|a: &LastVerified, b| a.source.cmp(&b.source));
        Ok(found)
    }
}
