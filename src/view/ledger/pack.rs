//! Cutting the changes of a batch into transactions: few of them, and few that share a row.
//!
//! Separate because it is a pure function, and one that costs money where it is bad: every
//! transaction is a call, and those that share a row have to wait for each other. Changes of
//! the same rows go together as long as one transaction holds them; what is too large for one
//! is cut where few rows are written twice. Nothing of it matters for what is exact: any cut
//! is, since each change has its own guard. What it gives up: the fewest transactions there
//! could be, which is a hard problem; this is greedy.

use super::{Change, rows};
use crate::{
    store::ACTIONS_MAX,
    view::rows::{Effect, RowId},
};
use std::collections::{BTreeMap, BTreeSet};

/// Bytes of one transaction: AWS allows 4 MB, the rest is for names and conditions.
const BYTES_MAX: usize = 3_500_000;
/// A row of more changes than this is in most transactions of its cluster anyway, so that it
/// does not decide which change goes where.
const HOT_CHANGES: usize = 2 * ACTIONS_MAX;

/// The changes of one transaction and the net effects on the rows they touch.
#[derive(Debug, Default)]
pub(super) struct Chunk {
    pub(super) changes: Vec<Change>,
    pub(super) effects: BTreeMap<RowId, Effect>,
    bytes: usize,
    /// Rows that may have to be checked.
    checks: usize,
}

impl Chunk {
    fn of(changes: Vec<Change>) -> Self {
        let mut chunk = Self::default();
        chunk.add_all(changes);
        chunk
    }

    fn add_all(&mut self, changes: Vec<Change>) {
        for change in changes {
            self.add(change);
        }
    }

    fn actions(&self) -> usize {
        self.changes.len() + self.effects.len() + self.checks
    }

    fn has_room<'r>(
        &self,
        changes: usize,
        bytes: usize,
        rows: impl Iterator<Item = (&'r RowId, &'r Effect)>,
    ) -> bool {
        let more = |(row, effect): (&RowId, &Effect)| match self.effects.get(row) {
            Some(present) => effect.checks().saturating_sub(present.checks()),
            None => 1 + effect.checks(),
        };
        // Counting rows costs most, so it comes last.
        self.actions() + changes <= ACTIONS_MAX
            && self.bytes + bytes <= BYTES_MAX
            && self.actions() + changes + rows.map(more).sum::<usize>() <= ACTIONS_MAX
    }

    fn has_room_for(&self, change: &Change) -> bool {
        self.has_room(1, bytes(change), change.effects.iter())
    }

    fn has_room_for_all(&self, other: &Self) -> bool {
        self.has_room(other.changes.len(), other.bytes, other.effects.iter())
    }

    fn add(&mut self, change: Change) {
        self.bytes += bytes(&change);
        for (row, effect) in &change.effects {
            if let Some(present) = self.effects.get_mut(row) {
                self.checks -= present.checks();
                present.merge(effect);
                self.checks += present.checks();
            } else {
                self.checks += effect.checks();
                self.effects.insert(row.clone(), effect.clone());
            }
        }
        self.changes.push(change);
    }
}

fn bytes(change: &Change) -> usize {
    let effects: usize = change.effects.values().map(Effect::bytes).sum();
    rows::item_bytes(&change.guard.item) + effects
}

/// Cuts changes into transactions.
pub(super) fn pack(changes: Vec<Change>) -> Vec<Chunk> {
    // A part fills a transaction.
    let (parts, changes): (Vec<Change>, Vec<Change>) =
        changes.into_iter().partition(|change| change.is_part);
    let parts = parts.into_iter().map(|part| Chunk::of(vec![part]));
    let cut = clusters(changes).into_iter().flat_map(cut);
    let mut pieces: Vec<Chunk> = parts.chain(cut).collect();
    // The largest first: the small ones fill what those leave.
    pieces.sort_by_key(|piece| std::cmp::Reverse(piece.actions()));
    let mut chunks: Vec<Chunk> = Vec::new();
    for piece in pieces {
        match chunks.iter_mut().find(|chunk| chunk.has_room_for_all(&piece)) {
            Some(chunk) => chunk.add_all(piece.changes),
            None => chunks.push(piece),
        }
    }
    // Effects that cancel out are written as well: the row's revision tells of them.
    chunks
}

/// Orders transactions so that those which share a row run one after another and the rest
/// side by side. Which goes first does not matter: what they add commutes.
pub(super) fn waves(chunks: Vec<Chunk>) -> Vec<Vec<Chunk>> {
    let mut waves: Vec<(BTreeSet<RowId>, Vec<Chunk>)> = Vec::new();
    for chunk in chunks {
        let is_apart = |rows: &BTreeSet<RowId>| !chunk.effects.keys().any(|row| rows.contains(row));
        let wave = waves.iter().position(|(rows, _)| is_apart(rows)).unwrap_or(waves.len());
        if wave == waves.len() {
            waves.push((BTreeSet::new(), Vec::new()));
        }
        let (rows, members) = &mut waves[wave];
        rows.extend(chunk.effects.keys().cloned());
        members.push(chunk);
    }
    waves.into_iter().map(|(_, members)| members).collect()
}

/// The changes that touch a row in common, directly or through others.
fn clusters(changes: Vec<Change>) -> Vec<Vec<Change>> {
    let mut parents: Vec<usize> = (0..changes.len()).collect();
    let mut first: BTreeMap<&RowId, usize> = BTreeMap::new();
    for (at, change) in changes.iter().enumerate() {
        for row in change.effects.keys() {
            let other = *first.entry(row).or_insert(at);
            let (one, other) = (root(&mut parents, at), root(&mut parents, other));
            parents[one.max(other)] = one.min(other);
        }
    }
    let mut clusters: BTreeMap<usize, Vec<Change>> = BTreeMap::new();
    let roots: Vec<usize> = (0..changes.len()).map(|at| root(&mut parents, at)).collect();
    for (root, change) in roots.into_iter().zip(changes) {
        clusters.entry(root).or_default().push(change);
    }
    clusters.into_values().collect()
}

fn root(parents: &mut [usize], of: usize) -> usize {
    let mut at = of;
    while parents[at] != at {
        parents[at] = parents[parents[at]];
        at = parents[at];
    }
    at
}

/// Cuts one cluster into as many transactions as it needs.
fn cut(changes: Vec<Change>) -> Vec<Chunk> {
    let mut all_rows: BTreeMap<&RowId, usize> = BTreeMap::new();
    for (row, effect) in changes.iter().flat_map(|it| &it.effects) {
        let checks = all_rows.entry(row).or_default();
        *checks = effect.checks().max(*checks);
    }
    let all_rows = all_rows.values().map(|checks| 1 + checks).sum::<usize>();
    let all_bytes: usize = changes.iter().map(bytes).sum();
    if changes.len() + all_rows <= ACTIONS_MAX && all_bytes <= BYTES_MAX {
        return vec![Chunk::of(changes)];
    }
    let mut cutter = Cutter::new(changes);
    std::iter::from_fn(|| cutter.next_chunk()).collect()
}

/// Fills one transaction after another, each time with the change that brings the fewest rows.
struct Cutter {
    /// Those still to be placed, in the order of their rows.
    changes: Vec<Option<Change>>,
    /// The rows of each change, hot ones left out.
    rows: Vec<Vec<usize>>,
    /// The changes of each of these rows.
    touched_by: Vec<Vec<usize>>,
    /// How many of its rows the transaction being filled does not have.
    missing: Vec<usize>,
    /// Those still to be placed, by what is missing.
    queue: BTreeSet<(usize, usize)>,
}

impl Cutter {
    fn new(mut changes: Vec<Change>) -> Self {
        changes.sort_by(|a, b| a.effects.keys().cmp(b.effects.keys()).then(a.index.cmp(&b.index)));
        let mut touched: BTreeMap<&RowId, Vec<usize>> = BTreeMap::new();
        for (at, change) in changes.iter().enumerate() {
            for row in change.effects.keys() {
                touched.entry(row).or_default().push(at);
            }
        }
        let mut rows = vec![Vec::new(); changes.len()];
        let mut touched_by = Vec::new();
        for changes in touched.into_values().filter(|changes| changes.len() <= HOT_CHANGES) {
            for &at in &changes {
                rows[at].push(touched_by.len());
            }
            touched_by.push(changes);
        }
        let missing: Vec<usize> = rows.iter().map(Vec::len).collect();
        let queue = missing.iter().copied().zip(0..).collect();
        let changes = changes.into_iter().map(Some).collect();
        Self { changes, rows, touched_by, missing, queue }
    }

    /// The next transaction, until every change has one.
    fn next_chunk(&mut self) -> Option<Chunk> {
        let mut chunk = Chunk::default();
        let mut has_row = BTreeSet::new();
        while let Some(&(missing, at)) = self.queue.first() {
            let change = self.changes[at].take().expect("what is queued is still to be placed");
            if !chunk.changes.is_empty() && !chunk.has_room_for(&change) {
                self.changes[at] = Some(change);
                break;
            }
            self.queue.remove(&(missing, at));
            chunk.add(change);
            for row in self.rows[at].clone() {
                if has_row.insert(row) {
                    self.recount(row, |missing| missing - 1);
                }
            }
        }
        for row in has_row {
            self.recount(row, |missing| missing + 1);
        }
        (!chunk.changes.is_empty()).then_some(chunk)
    }

    /// Counts again what the changes of a row miss, when the row came or went.
    fn recount(&mut self, row: usize, count: impl Fn(usize) -> usize) {
        for &at in &self.touched_by[row] {
            let missing = count(self.missing[at]);
            if self.queue.remove(&(self.missing[at], at)) {
                self.queue.insert((missing, at));
            }
            self.missing[at] = missing;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        store::Item,
        view::{ledger::Guard, rows::Delta},
    };

    /// A change that adds one to each of these rows.
    fn change(index: usize, rows: impl IntoIterator<Item = usize>) -> Change {
        let mut one = Delta::zero(0, 0);
        one.add(&[], 1);
        let row = |row: usize| RowId::new(row % 2, format!("{row:05}"));
        let effects = rows.into_iter().map(|it| (row(it), Effect::Add(one.clone()))).collect();
        let guard = Guard { item: Item::new(), revision_read: 0, keeps: None };
        Change { index, guard, effects, is_part: false }
    }

    fn merged<'c>(effects: impl Iterator<Item = (&'c RowId, &'c Effect)>) -> String {
        let mut sum: BTreeMap<&RowId, Effect> = BTreeMap::new();
        for (row, effect) in effects {
            match sum.get_mut(row) {
                Some(present) => present.merge(effect),
                None => {
                    sum.insert(row, effect.clone());
                }
            }
        }
        format!("{sum:?}")
    }

    /// Packs, checks what must hold whatever the cut, and gives how many transactions there
    /// are, and in how many waves.
    #[track_caller]
    fn check(changes: impl Fn() -> Vec<Change>) -> (usize, usize) {
        let before = changes();
        let chunks = pack(changes());
        assert!(chunks.iter().all(|chunk| chunk.actions() <= ACTIONS_MAX));
        let placed = chunks.iter().flat_map(|chunk| chunk.changes.iter().map(|it| it.index));
        let mut placed: Vec<usize> = placed.collect();
        placed.sort_unstable();
        assert_eq!(placed, (0..before.len()).collect::<Vec<_>>(), "each change once");
        assert_eq!(
            merged(chunks.iter().flat_map(|chunk| &chunk.effects)),
            merged(before.iter().flat_map(|change| &change.effects)),
            "nothing is added or lost"
        );
        let count = chunks.len();
        let waves = waves(chunks);
        for wave in &waves {
            let mut seen = BTreeSet::new();
            let mut rows = wave.iter().flat_map(|chunk| chunk.effects.keys());
            assert!(rows.all(|row| seen.insert(row)), "a row twice in one wave");
        }
        (count, waves.len())
    }

    #[test]
    fn groups_that_fit_are_not_cut_and_go_side_by_side() {
        let (count, waves) = check(|| (0..1000).map(|at| change(at, [at % 100])).collect());
        assert_eq!((count, waves), (12, 1));
        let (count, waves) = check(|| (0..1000).map(|at| change(at, [at])).collect());
        assert_eq!((count, waves), (20, 1));
        assert_eq!(check(|| (0..250).map(|at| change(at, [])).collect()), (3, 1));
        assert_eq!(check(Vec::new), (0, 0));
    }

    #[test]
    fn a_hot_row_is_written_by_as_few_as_can_be() {
        assert_eq!(check(|| (0..1000).map(|at| change(at, [0])).collect()), (11, 11));
        // One row for all, and a small group for each.
        let (count, _) = check(|| (0..1000).map(|at| change(at, [0, 1 + at / 10])).collect());
        assert!(count <= 12, "{count}");
    }

    #[test]
    fn items_that_change_groups_are_cut_where_few_rows_are_written_twice() {
        let mut rng = fastrand::Rng::with_seed(1);
        let moves: Vec<[usize; 2]> =
            (0..1000).map(|_| [rng.usize(..100), rng.usize(..100)]).collect();
        let (count, _) =
            check(|| moves.iter().enumerate().map(|(at, &rows)| change(at, rows)).collect());
        // In the order of their rows it would be 20.
        assert!(count <= 17, "{count}");
    }

    #[test]
    fn any_changes_are_packed_whole() {
        for seed in 0..200 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let (items, groups, views) = (rng.usize(..400), rng.usize(1..300), rng.usize(..6));
            let rows: Vec<Vec<usize>> = (0..items)
                .map(|_| (0..views).map(|_| rng.usize(..groups)).chain([groups]).collect())
                .collect();
            check(|| rows.iter().enumerate().map(|(at, rows)| change(at, rows.clone())).collect());
        }
    }

    #[test]
    fn a_transaction_has_room_for_the_checks_of_extremes_that_go() {
        // A change of each of 30 groups, of which every third loses a value of four extremes.
        let changes = || {
            let change = |at: usize| {
                let mut delta = Delta::zero(0, 4);
                if at.is_multiple_of(3) {
                    delta.loses_value();
                }
                let row = RowId::new(0, format!("{:05}", at % 30));
                let guard = Guard { item: Item::new(), revision_read: 0, keeps: None };
                let effects = [(row, Effect::Add(delta))].into();
                Change { index: at, guard, effects, is_part: false }
            };
            (0..60).map(change).collect::<Vec<_>>()
        };
        // 60 guards, 30 rows and 40 checks.
        let (count, _) = check(changes);
        assert_eq!(count, 2);
    }

    #[test]
    fn texts_of_extremes_do_not_make_a_transaction_too_large() {
        // What 40 groups of 50 extremes are as requests: two texts each.
        let changes = || {
            let change = |at| {
                let effects =
                    [(RowId::new(0, format!("{at:05}")), Effect::Add(Delta::zero(0, 50)))];
                let guard = Guard { item: Item::new(), revision_read: 0, keeps: None };
                Change { index: at, guard, effects: effects.into(), is_part: false }
            };
            (0..40).map(change).collect::<Vec<_>>()
        };
        let (count, waves) = check(changes);
        assert!(40 * 50 * 2 * 1_023 > 4_000_000 && count == 2, "{count}");
        assert_eq!(waves, 1);
    }

    #[test]
    fn a_large_change_has_a_transaction_of_its_own() {
        let mut changes: Vec<Change> = (0..3).map(|at| change(at, [at])).collect();
        for change in &mut changes {
            let text = "x".repeat(BYTES_MAX / 2 + 1);
            let text = aws_sdk_dynamodb::types::AttributeValue::S(text);
            change.guard.item.insert("record".to_owned(), text);
        }
        assert_eq!(pack(changes).len(), 3);
    }
}
