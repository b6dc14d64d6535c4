//! Rows of projections and ledger: a row is there exactly if its ledger row says so.
//!
//! Both change in one transaction. So the row, read while the ledger row had one revision, is that
//! revision's, and no time has to pass. What the row says is compared with the source, which alone
//! knows it. What it gives up: rows whose key is a hash.

use super::{End, Ended, LOOKS_MAX, Mode, Walk, keys, look::readable, unanswered};
use crate::{
    call::Halt,
    operation::{backfill::NotDone, verify::Drift},
    record::Timestamp,
    store::{
        Item,
        rows::{RowKey, text, text_of},
    },
    view::{
        ledger::Known,
        registry::{self, RegistryError},
        rows::{ROW_KEY, Stored},
        served::Served,
        sources::Sources,
    },
};
use serde_json::json;
use std::collections::BTreeSet;

/// A row, and the ledger rows that it may belong to.
#[derive(Debug)]
struct Pair {
    view: usize,
    row_key: String,
    pks: Vec<String>,
}

impl Served {
    /// The sources that have come by now.
    pub(super) async fn sources_now(&self, deadline: Timestamp) -> Result<Sources, RegistryError> {
        registry::sources(&self.store, &self.ledger_table, deadline).await
    }
}

impl Walk<'_> {
    /// Compares rows of a projection with the ledger.
    pub(super) async fn projected_rows(
        &mut self,
        view: usize,
        row_keys: Vec<String>,
        sources: &Sources,
    ) -> Ended {
        let from = &self.views.groups;
        let Some(group) = from.iter().find(|group| group.views.contains(&view)) else {
            return Ok(());
        };
        let pairs = row_keys.into_iter().filter_map(|row_key| {
            let pks = keys::ledger_keys(&row_key, group, sources)?;
            Some(Pair { view, row_key, pks })
        });
        let mut pairs: Vec<Pair> = pairs.collect();
        let known = self.ledger_of(&pairs).await?;
        pairs.retain(|pair| !self.says(pair, &known));
        self.look_at_rows(pairs).await
    }

    /// Compares what the ledger says of projections with their rows.
    pub(super) async fn ledger_rows(
        &mut self,
        said: Vec<(usize, String)>,
        sources: &Sources,
    ) -> Ended {
        let pairs = said.into_iter().filter_map(|(view, pk)| {
            let row_key = keys::row_key(&pk, &self.views.groups, sources)?;
            Some(Pair { view, row_key, pks: vec![pk] })
        });
        let mut pairs: Vec<Pair> = pairs.collect();
        let there = self.rows_there(&pairs).await?;
        pairs.retain(|pair| !there.contains(&(pair.view, pair.row_key.clone())));
        self.look_at_rows(pairs).await
    }

    /// Looks until each is equal, or differs at one revision.
    async fn look_at_rows(&mut self, mut pairs: Vec<Pair>) -> Ended {
        for _ in 0..LOOKS_MAX {
            if pairs.is_empty() {
                return Ok(());
            }
            let before = self.ledger_of(&pairs).await?;
            let there = self.rows_there(&pairs).await?;
            let after = self.ledger_of(&pairs).await?;
            let mut again = Vec::new();
            for pair in pairs {
                let revision = |known: &Known| -> Vec<u64> {
                    pair.pks.iter().map(|pk| known.entry(pk).revision).collect()
                };
                let is_there = there.contains(&(pair.view, pair.row_key.clone()));
                let is_settled = revision(&before) == revision(&after)
                    && (self.says(&pair, &before) == is_there
                        || self.settle(&pair, is_there, revision(&before)).await?);
                if !is_settled {
                    again.push(pair);
                }
            }
            pairs = again;
        }
        for pair in pairs {
            self.told.undecided.push(NotDone {
                key: format!(
                    "{} {}",
                    self.views.definitions[pair.view].name,
                    readable(&pair.row_key)
                ),
                code: "WrittenMeanwhile".to_owned(),
                reason: format!("it was written during each of {LOOKS_MAX} looks"),
            });
        }
        Ok(())
    }

    /// Tells of a row that has drifted, or mends it; false if it has to be looked at again.
    async fn settle(
        &mut self,
        pair: &Pair,
        is_there: bool,
        revisions: Vec<u64>,
    ) -> Result<bool, End> {
        let view = &self.views.definitions[pair.view].name;
        let key = readable(&pair.row_key);
        if self.mode == Mode::Repair && is_there {
            let guards = pair.pks.iter().cloned().zip(revisions);
            if !self.delete_row(pair.view, &pair.row_key, guards.collect()).await? {
                return Ok(false);
            }
            self.told.mended += 1;
        } else if self.mode == Mode::Repair {
            self.cannot(NotDone {
                key: format!("{view} {key}"),
                code: "SourceNeeded".to_owned(),
                reason: "only the source knows the values: repair against the source".to_owned(),
            });
        }
        let what = |is_there: bool| if is_there { json!("a row") } else { json!("no row") };
        let drift = Drift {
            what: "row".to_owned(),
            view: view.clone(),
            generation: self.views.generations[pair.view].number,
            group: key,
            expected: what(!is_there),
            found: what(is_there),
            items: Vec::new(),
        };
        self.tell(drift);
        Ok(true)
    }

    fn says(&self, pair: &Pair, known: &Known) -> bool {
        let view = &self.views.definitions[pair.view].name;
        pair.pks.iter().any(|pk| known.entry(pk).contributions.get(view) == Some(&Stored::Row))
    }

    async fn ledger_of(&self, pairs: &[Pair]) -> Result<Known, End> {
        let rows: BTreeSet<String> = pairs.iter().flat_map(|it| it.pks.iter().cloned()).collect();
        let read = self.views.ledger().read(rows, self.call.deadline).await;
        read.map_err(unanswered)
    }

    async fn rows_there(&self, pairs: &[Pair]) -> Result<BTreeSet<(usize, String)>, End> {
        let wanted: BTreeSet<(usize, &str)> =
            pairs.iter().map(|pair| (pair.view, &*pair.row_key)).collect();
        let keys: Vec<RowKey<'_>> = wanted
            .into_iter()
            .map(|(view, key)| RowKey {
                table: &self.views.view_tables[view],
                key: Item::from([(ROW_KEY.to_owned(), text(key))]),
            })
            .collect();
        let read = self.store().read(&keys, self.call.deadline).await;
        let rows = read.map_err(unanswered)?.into_iter();
        let there = rows.filter_map(|(table, row)| {
            let view = self.views.view_tables.iter().position(|it| *it == table)?;
            Some((view, text_of(&row, ROW_KEY)?.to_owned()))
        });
        Ok(there.collect())
    }
}

/// The registry does not say which sources have come.
pub(super) fn unregistered(error: RegistryError) -> End {
    match error {
        RegistryError::Store(error) => unanswered(error),
        other => End::Halted(Halt::new(other.code(), other.to_string())),
    }
}
