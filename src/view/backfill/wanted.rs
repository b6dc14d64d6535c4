//! Which generations of views are built, and what a run reads its source for.
//!
//! Separate from the run, because it follows from the rows that say how far views are, whatever
//! runs there are.

use super::run::Run;
use crate::{
    call::Halt,
    record::Timestamp,
    store::{Item, rows::text_of},
    view::{
        building::{self, STATE, ViewState},
        generation,
        served::{Generation, Group, Served},
        source_item::LEDGER_KEY,
        source_table::SourceTable,
    },
};
use std::collections::BTreeSet;

impl Served {
    /// The rows that say how far the views are, by the view's index; empty where there is none.
    pub(in crate::view) async fn state_rows(&self, deadline: Timestamp) -> Result<Vec<Item>, Halt> {
        let (store, table) = self.ledger_place();
        let keys = (0..self.definitions.len()).map(|view| {
            let (name, generation) = (&self.definitions[view].name, self.generations[view]);
            if generation.is_current {
                building::state_key(name)
            } else {
                building::generation_key(name, generation.number)
            }
        });
        let keys: Vec<String> = keys.collect();
        let mut rows = Vec::new();
        for keys in keys.chunks(crate::store::BATCH_GET_KEYS_MAX) {
            let read = store.batch_get(table, LEDGER_KEY, keys, deadline).await;
            rows.extend(read.map_err(|error| self.unanswered(error))?);
        }
        let row = |key: &String| {
            let mut rows = rows.iter();
            rows.find(|row| text_of(row, LEDGER_KEY) == Some(key)).cloned().unwrap_or_default()
        };
        Ok(keys.iter().map(row).collect())
    }

    /// The generations of a source that are not built yet, and those that a run reads it for:
    /// these, or if there are none the current ones.
    pub(super) async fn wanted(
        &self,
        source: &SourceTable<'_>,
        deadline: Timestamp,
    ) -> Result<(BTreeSet<u32>, BTreeSet<u32>), Halt> {
        let rows = self.state_rows(deadline).await?;
        let (mut building, mut current) = (BTreeSet::new(), BTreeSet::new());
        for source in self.in_each_group(source) {
            for view in self.groups[source.group].all_views() {
                let Generation { number, is_current, .. } = self.generations[view];
                let state = text_of(&rows[view], STATE).and_then(ViewState::read);
                // A first generation knows what came since its mapping began, and was read so.
                let is_first = is_current || number == 1;
                let is_built = state == Some(ViewState::Ready) || (is_first && state.is_none());
                building.extend((!is_built).then_some(number));
                current.extend(is_current.then_some(number));
            }
        }
        let wanted = if building.is_empty() { current } else { building.clone() };
        Ok((building, wanted))
    }

    /// A source for each group of views that is built, in the order of their generations.
    pub(in crate::view) async fn built_groups<'s>(
        &'s self,
        source: &SourceTable<'s>,
        deadline: Timestamp,
    ) -> Result<Vec<SourceTable<'s>>, Halt> {
        let (mut building, _) = self.wanted(source, deadline).await?;
        let generation = |it: &SourceTable<'_>| self.groups[it.group].generation;
        let run = building::run_key(&source.arn);
        let known = self.ledger().read([run.clone()].into(), deadline).await;
        if known.map_err(|error| self.unanswered(error))?.is_building(&run) {
            match self.run_of(&source.arn, deadline).await? {
                Some(run) => building.extend(run.generations),
                // Of another version's run it is not known what it builds.
                None => return Ok(Vec::new()),
            }
        }
        let groups = self.in_each_group(source).filter(|it| !building.contains(&generation(it)));
        let mut groups: Vec<_> = groups.collect();
        groups.sort_by_key(generation);
        Ok(groups)
    }

    /// When a run over these generations may read its first item.
    pub(super) fn first_read_of(
        &self,
        source: &SourceTable<'_>,
        generations: &BTreeSet<u32>,
    ) -> Option<i64> {
        let views = self.views_of(source, generations).into_iter();
        let since = views.filter_map(|view| self.generations[view].since);
        since.max().map(|since| generation::first_read(since).0)
    }

    /// How long a run has to wait until it may read its first item, by the store's clock.
    pub(super) async fn wait_ms(&self, run: &Run, deadline: Timestamp) -> Result<u64, Halt> {
        let Some(from) = run.from_ms else { return Ok(0) };
        let (store, table) = self.ledger_place();
        let key = building::run_key(&run.source);
        let dated = store.row_dated(table, (LEDGER_KEY, &key), deadline).await;
        let (_, Timestamp(now)) = dated.map_err(|error| self.unanswered(error))?;
        Ok(u64::try_from(from.saturating_sub(now)).unwrap_or(0))
    }

    /// The views of a source that are of these generations.
    pub(super) fn views_of(
        &self,
        source: &SourceTable<'_>,
        generations: &BTreeSet<u32>,
    ) -> Vec<usize> {
        let groups = self.in_each_group(source).map(|source| &self.groups[source.group]);
        let covered = groups.filter(|group| generations.contains(&group.generation));
        covered.flat_map(Group::all_views).collect()
    }
}
