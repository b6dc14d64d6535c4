//! What one item's change differs by, as the effects on rows and the new ledger row.
//!
//! An item that is read as one row touches few rows, and they go into one transaction. The elements
//! of a list can touch more than a transaction holds. Then the change is written in parts: each
//! takes as many of the additions out and in as fit, and its ledger row says what the item
//! contributes after it, part old and part new, under the version from before. So each part is
//! guarded as a whole change is, every row is the sum of the ledger at all times, and whoever comes
//! next, with the same change or a newer one, starts from what is there. The last part is a change
//! like any other.
//!
//! Additions are taken in the order of their groups, so that what leaves a group and what joins it
//! is one effect. What it gives up: between two parts a group may have some elements of the item as
//! they were and others as they are.

use super::{Candidate, Change, Entry, Guard, Known, Ledger, mark_of};
use crate::{
    record::Timestamp,
    store::ACTIONS_MAX,
    view::rows::{self, Added, Delta, Effect, RowId, Stored, ValueKey},
    view::scalar::encode_value,
};
use std::collections::{BTreeMap, BTreeSet};

/// Something that an item adds no longer, or from now on.
pub(super) struct Step<'s> {
    view: usize,
    sign: i64,
    added: &'s Added,
    /// Whether nothing is written to the group any more.
    is_over: bool,
}

/// Rows that change, and how many actions of a transaction they take.
#[derive(Default)]
pub(super) struct Effects {
    rows: BTreeMap<RowId, Effect>,
    /// Groups that lose something: the values that come next may have to be checked.
    losing: BTreeSet<RowId>,
    checks: usize,
}

impl Ledger<'_> {
    /// The difference that one candidate makes, or as much of it as one transaction holds.
    pub(super) fn change(
        &self,
        index: usize,
        candidate: &Candidate,
        (entry, known): (&Entry, &Known),
        now: Timestamp,
    ) -> Change {
        let mut steps = self.steps(candidate, entry);
        self.date(&mut steps, now);
        let mut effects = self.projected(candidate, entry);
        let mut taken = 0;
        for step in &steps {
            effects.take(step, self.views[step.view].extremes());
            // The guard is one more. What views without lists differ by always fits.
            if effects.actions() + 1 > ACTIONS_MAX {
                break;
            }
            taken += 1;
        }
        if taken == steps.len() {
            let guard = self.guard(candidate, (entry, known));
            return Change { index, guard, effects: effects.finish(), is_part: false };
        }
        let mut effects = self.projected(candidate, entry);
        for step in &steps[..taken] {
            effects.take(step, self.views[step.view].extremes());
        }
        let contributions = self.after(candidate, entry, &steps[..taken]);
        let contributions = contributions.iter().map(|(view, stored)| (view.as_str(), stored));
        let contributions = rows::contributions_text(contributions);
        let mut guard = Guard::of_part((&candidate.pk, &candidate.key), contributions, entry);
        // What joins is among what always fits.
        self.set_lefts(candidate, &mut guard);
        Change { index, guard, effects: effects.finish(), is_part: true }
    }

    /// Says of each step whether its group is over by now.
    pub(super) fn date(&self, steps: &mut [Step<'_>], now: Timestamp) {
        for step in steps {
            step.is_over = rows::retained::is_over(&self.views[step.view], &step.added.key, now);
        }
    }

    /// What projections do, and who names which item.
    fn projected(&self, candidate: &Candidate, entry: &Entry) -> Effects {
        let mut effects = Effects::default();
        for &view in &self.groups[candidate.group].views {
            let row = || RowId::new(view, candidate.row_key.clone());
            if let Some(shown) = candidate.projected.get(&view) {
                effects.rows.insert(row(), Effect::Put(shown.clone()));
            } else if entry.contributions.get(&self.views[view].name) == Some(&Stored::Row) {
                effects.rows.insert(row(), Effect::Delete);
            }
        }
        self.references(candidate, entry, &mut effects.rows);
        effects
    }

    /// What is taken out and in, of views without lists first.
    fn steps<'s>(&self, candidate: &'s Candidate, entry: &'s Entry) -> Vec<Step<'s>> {
        let mut steps = Vec::new();
        for has_list in [false, true] {
            for &view in &self.groups[candidate.group].views {
                if self.views[view].unnest.is_some() == has_list {
                    let old = entry.contributions.get(&self.views[view].name);
                    let new = candidate.contributions.get(&view);
                    differing(view, [old, new], &mut steps);
                }
            }
        }
        steps
    }

    /// What the item contributes after these steps, by view.
    fn after(
        &self,
        candidate: &Candidate,
        entry: &Entry,
        steps: &[Step<'_>],
    ) -> BTreeMap<String, Stored> {
        let mut after = BTreeMap::new();
        for &view in &self.groups[candidate.group].views {
            let name = &self.views[view].name;
            let old = entry.contributions.get(name);
            let mut added = old.map(Stored::added).unwrap_or_default().to_vec();
            for step in steps.iter().filter(|step| step.view == view) {
                if step.sign > 0 {
                    step.added.clone().join(&mut added);
                } else if let Some(at) = added.iter().position(|one| one == step.added) {
                    added.remove(at);
                }
            }
            if candidate.projected.contains_key(&view) {
                after.insert(name.clone(), Stored::Row);
            } else if !added.is_empty() {
                after.insert(name.clone(), Stored::Groups(added));
            }
        }
        for (view, image) in &candidate.rights {
            after.insert(self.views[*view].name.clone(), Stored::Joined(mark_of(image)));
        }
        after
    }
}

/// What only one of two contributions to a view adds, in the order of groups: what the old one
/// does is taken out, what the new one does is taken in.
pub(super) fn differing<'s>(
    view: usize,
    contributions: [Option<&'s Stored>; 2],
    steps: &mut Vec<Step<'s>>,
) {
    let mut balance: BTreeMap<&Added, i64> = BTreeMap::new();
    for (stored, sign) in contributions.into_iter().zip([-1, 1]) {
        for added in stored.map(Stored::added).unwrap_or_default() {
            *balance.entry(added).or_default() += sign;
        }
    }
    for (added, more) in balance {
        for _ in 0..more.unsigned_abs() {
            steps.push(Step { view, sign: more.signum(), added, is_over: false });
        }
    }
}

impl Effects {
    pub(super) fn write(&mut self, row: RowId, effect: Effect) {
        self.rows.insert(row, effect);
    }

    pub(super) fn take(&mut self, Step { view, sign, added, is_over }: &Step<'_>, extremes: usize) {
        if *is_over {
            return;
        }
        let Added { key, addends } = added;
        let row = RowId::new(*view, key.clone());
        if *sign < 0 && self.losing.insert(row.clone()) {
            self.checks += extremes;
        }
        let nothing = || Effect::Add(Delta::zero(addends.len(), extremes));
        if let Effect::Add(delta) = self.rows.entry(row).or_insert_with(nothing) {
            delta.add(addends, *sign);
        }
        // The values that the item has, for the aggregates of the group that keep them.
        for (keeper, addend) in addends.iter().enumerate() {
            let Some(value) = &addend.value else { continue };
            let value = Some(ValueKey { keeper, sort_key: encode_value(value) });
            let row = RowId { view: *view, key: key.clone(), value };
            self.rows.entry(row).or_insert(Effect::Count(0)).merge(&Effect::Count(*sign));
        }
    }

    /// How many actions of a transaction they take at most.
    fn actions(&self) -> usize {
        self.rows.len() + self.checks
    }

    /// The effects that there are.
    pub(super) fn finish(self) -> BTreeMap<RowId, Effect> {
        let mut effects = self.rows;
        let goes = |(row, effect): (&RowId, &Effect)| {
            let goes = matches!(effect, Effect::Count(..0));
            goes.then(|| RowId::new(row.view, row.key.clone()))
        };
        for group in effects.iter().filter_map(goes).collect::<Vec<_>>() {
            if let Some(Effect::Add(delta)) = effects.get_mut(&group) {
                delta.loses_value();
            }
        }
        // A group whose values change is changed, also where its sums stay the same.
        let changed = effects
            .iter()
            .filter(|(_, effect)| matches!(effect, Effect::Count(_)) && !effect.is_nothing());
        let changed: BTreeSet<RowId> =
            changed.map(|(row, _)| RowId::new(row.view, row.key.clone())).collect();
        effects.retain(|row, effect| !effect.is_nothing() || changed.contains(row));
        effects
    }
}
