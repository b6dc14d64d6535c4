//! Looks at items: what the ledger, the projections and the source say, at one revision.
//!
//! A glance compares what a scan has read; it may be wrong about an item that is being written,
//! and costs no more than it has to. A look is consistent: ledger row, source, ledger row again.
//! What the source said in between belongs to the revision only if both rows have the same.

use super::{End, Walk, unanswered};
use crate::{
    concurrent,
    hex::hex,
    operation::{backfill::NotDone, verify::Drift},
    record::Timestamp,
    store::{
        Item, Trouble,
        json::item_to_json,
        rows::{RowKey, text, text_of},
    },
    view::{
        definition::{Shape, View},
        ledger::{Basis, Candidate, Known},
        rows::{self, Added, ROW_KEY, Stored},
        scalar::decode_key,
        source_table::{Found, SourceTable},
    },
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};

/// So many groups are told of an item whose elements are in many.
const GROUPS_TOLD: usize = 10;

/// What a look has found of an item.
#[derive(Debug)]
pub(super) enum Looked {
    /// All say the same.
    Equal,
    /// They differ, at one revision.
    Differs(Seen),
    /// Somebody wrote the ledger row meanwhile.
    Overtaken,
    /// The item cannot be compared.
    NotDone(NotDone),
}

/// A difference, and when it was seen.
#[derive(Debug)]
pub(super) struct Seen {
    /// The ledger row's, before and after.
    pub(super) revision: u64,
    /// When the source was read.
    pub(super) read: Timestamp,
    /// By how much the source's time is ahead of ours.
    pub(super) ahead_ms: i64,
    /// A hash of the item.
    pub(super) image: String,
    /// What differs.
    pub(super) drift: Vec<Drift>,
}

/// Rows of projections by table and key.
type Projected = BTreeMap<(String, String), Item>;

impl Walk<'_> {
    /// Compares items that a scan has read; gives back the keys of those that differ.
    pub(super) async fn glance(
        &mut self,
        source: &SourceTable<'_>,
        items: Vec<Item>,
    ) -> Result<Vec<Item>, End> {
        let mut found = Vec::with_capacity(items.len());
        for item in items {
            let key = source.key_of(&item)?;
            found.push(Found { key, item: Some(item), basis: Basis::Scan });
        }
        let made = self.views.candidates(source, &found, Timestamp(self.now()))?;
        let candidates: Vec<&Candidate> = made.iter().flatten().collect();
        let known = self.known(&candidates).await?;
        let rows = self.projected(source, &candidates).await?;
        let mut differing = Vec::new();
        for (candidate, found) in made.into_iter().zip(found) {
            self.told.checked += 1;
            match candidate {
                Ok(candidate) => {
                    if !self.compare(source, &candidate, &known, &rows).is_empty() {
                        differing.push(found.key);
                    }
                }
                Err(not_done) => self.cannot(not_done),
            }
        }
        Ok(differing)
    }

    /// Looks at items by their keys, which are all different.
    pub(super) async fn look(
        &self,
        source: &SourceTable<'_>,
        keys: &[Item],
    ) -> Result<Vec<Looked>, End> {
        // The rows' keys follow from the item's key alone.
        let absent = |key: &Item| Found { key: key.clone(), item: None, basis: Basis::Scan };
        let absent: Vec<Found> = keys.iter().map(absent).collect();
        let now = Timestamp(self.now());
        let places = self.views.candidates(source, &absent, now)?;
        let places: Vec<&Candidate> = places.iter().flatten().collect();
        let before = self.known(&places).await?;
        let found = self.read_source(source, keys).await?;
        let read_ms = self.now();
        let made = self.views.candidates(source, &found, now)?;
        let rows = self.projected(source, &places).await?;
        let after = self.known(&places).await?;
        let looked = made.into_iter().zip(&found).map(|(candidate, found)| {
            let candidate = match candidate {
                Ok(candidate) => candidate,
                Err(not_done) => return Looked::NotDone(not_done),
            };
            let revision = before.entry(&candidate.pk).revision;
            if after.entry(&candidate.pk).revision != revision {
                return Looked::Overtaken;
            }
            let drift = self.compare(source, &candidate, &before, &rows);
            if drift.is_empty() {
                return Looked::Equal;
            }
            let Basis::Source { read } = found.basis else { return Looked::Overtaken };
            // The source's moment is before ours, and rounded down: never too far ahead.
            let ahead_ms = read.0 - read_ms;
            Looked::Differs(Seen { revision, read, ahead_ms, image: image_of(found), drift })
        });
        Ok(looked.collect())
    }

    /// Reads items from the source, consistently.
    pub(super) async fn read_source(
        &self,
        source: &SourceTable<'_>,
        keys: &[Item],
    ) -> Result<Vec<Found>, End> {
        let deadline = self.call.deadline;
        let reads =
            keys.iter().map(|key| source.store.get_dated(&source.table, key.clone(), deadline));
        let reads = concurrent::all_or_error(reads).await.map_err(|error| match error.trouble {
            Trouble::Rejected => End::Halted(source.unreadable(error)),
            _ => unanswered(error),
        })?;
        let found = reads.into_iter().zip(keys).map(|((item, read), key)| Found {
            key: key.clone(),
            item,
            basis: Basis::Source { read },
        });
        Ok(found.collect())
    }

    async fn known(&self, candidates: &[&Candidate]) -> Result<Known, End> {
        let (ledger, deadline) = (self.views.ledger(), self.call.deadline);
        let rows: BTreeSet<String> = candidates.iter().map(|it| it.pk.clone()).collect();
        let mut known = ledger.read(rows, deadline).await.map_err(unanswered)?;
        let both = candidates.iter().copied();
        ledger.read_mirrors(both.clone(), &mut known, deadline).await.map_err(unanswered)?;
        ledger.read_own_mirrors(both, &mut known, deadline).await.map_err(unanswered)?;
        Ok(known)
    }

    /// Reads the rows that projections have of these items.
    async fn projected(
        &self,
        source: &SourceTable<'_>,
        candidates: &[&Candidate],
    ) -> Result<Projected, End> {
        let mut keys = Vec::new();
        for &view in &self.views.groups[source.group].views {
            if !self.views.definitions[view].has_groups() {
                let table = &*self.views.view_tables[view];
                keys.extend(candidates.iter().map(|candidate| RowKey {
                    table,
                    key: Item::from([(ROW_KEY.to_owned(), text(&candidate.row_key))]),
                }));
            }
        }
        let read = self.store().read(&keys, self.call.deadline).await;
        let rows = read.map_err(unanswered)?.into_iter();
        let keyed = rows.filter_map(|(table, row)| {
            let key = text_of(&row, ROW_KEY)?.to_owned();
            Some(((table, key), row))
        });
        Ok(keyed.collect())
    }

    /// What the ledger and the projections have of an item that its source has otherwise.
    fn compare(
        &self,
        source: &SourceTable<'_>,
        candidate: &Candidate,
        known: &Known,
        rows: &Projected,
    ) -> Vec<Drift> {
        let entry = known.entry(&candidate.pk);
        let ledger = self.views.ledger();
        // What cannot be read differs.
        let joined = ledger.joined(candidate, known);
        let candidate = joined.as_deref().unwrap_or(candidate);
        let mut drift = Vec::new();
        for view in self.views.groups[source.group].all_views() {
            let definition = &self.views.definitions[view];
            let expected = candidate.contributions.get(&view);
            let found = entry.contributions.get(&definition.name);
            let (mut says, mut said) = (place(expected), place(found));
            if !ledger.keeps_same((view, candidate), &entry, known) {
                (says, said) = (json!("its attributes"), json!("other ones"));
            } else if expected == found {
                let Some(row) = candidate.projected.get(&view) else { continue };
                let place = (self.views.view_tables[view].clone(), candidate.row_key.clone());
                let columns = rows::other_columns(definition, row, rows.get(&place));
                if columns.is_empty() {
                    continue;
                }
                let there = if rows.contains_key(&place) { "a row" } else { "no row" };
                (says, said) = (json!("a row"), json!({"row": there, "other": columns}));
            } else if says == said {
                said =
                    json!({"place": said, "other": other_aggregates(definition, expected, found)});
            }
            drift.push(Drift {
                what: "item".to_owned(),
                view: definition.name.clone(),
                generation: self.views.generations[view].number,
                group: group_of(expected.or(found)),
                expected: says,
                found: said,
                items: vec![candidate.key.clone()],
            });
        }
        drift
    }
}

/// Where an item belongs, without its values.
fn place(stored: Option<&Stored>) -> Value {
    match stored {
        None => json!("nothing"),
        Some(Stored::Row) => json!("a row"),
        Some(Stored::Joined(_)) => json!("joined with others"),
        Some(Stored::Groups(added)) => match added.as_slice() {
            [one] => json!({ "group": readable(&one.key) }),
            several => json!({ "groups": groups_of(several) }),
        },
    }
}

fn group_of(stored: Option<&Stored>) -> String {
    match stored {
        Some(Stored::Groups(added)) => groups_of(added).join("; "),
        _ => String::new(),
    }
}

/// The groups to which the elements of an item's list add, each once.
fn groups_of(added: &[Added]) -> Vec<String> {
    let keys: BTreeSet<&str> = added.iter().map(|one| &*one.key).collect();
    let more = keys.len().checked_sub(GROUPS_TOLD).filter(|more| *more > 0);
    let told = keys.into_iter().take(GROUPS_TOLD).map(readable);
    told.chain(more.map(|more| format!("{more} more"))).collect()
}

/// The aggregates to which an item adds something else.
fn other_aggregates<'v>(
    view: &'v View,
    expected: Option<&Stored>,
    found: Option<&Stored>,
) -> Vec<&'v str> {
    let (Some(expected), Some(found)) = (expected, found) else { return Vec::new() };
    let is_of_same_groups = expected.added().len() == found.added().len();
    let pairs = || expected.added().iter().zip(found.added()).filter(|_| is_of_same_groups);
    let Shape::Groups(groups) = &view.shape else { return Vec::new() };
    let columns = rows::aggregate_columns(view).into_iter();
    let differs = columns.filter(|(_, _, at)| {
        // What an item has for several aggregates stands with one of them.
        let at = groups.values_of(*at).unwrap_or(*at);
        pairs().any(|(one, other)| one.addends.get(at) != other.addends.get(at))
    });
    differs.map(|(name, _, _)| name).collect()
}

/// A group's key as people read it.
pub(super) fn readable(key: &str) -> String {
    let Some(values) = decode_key(key) else { return key.to_owned() };
    values.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn image_of(found: &Found) -> String {
    let image = found.item.as_ref().and_then(item_to_json).map(|it| it.to_string());
    hex(&Sha256::digest(image.unwrap_or_default())[..12])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::{scalar::Scalar, sql, total::Addend};

    #[test]
    fn all_aggregates_of_a_value_are_told() {
        let text = "CREATE MATERIALIZED VIEW v AS
            SELECT a, count(*) AS n, min(x) AS lo, max(x) AS hi, count(DISTINCT x) AS d,
              max(y) AS last FROM t GROUP BY a";
        let view = sql::parse(text).unwrap().remove(0);
        let stored = |x: i64| {
            let value = |value: i64| Addend {
                value: Some(Scalar::Number(value.into())),
                ..Addend::default()
            };
            let none = Addend::default;
            let addends = vec![none(), value(x), none(), none(), value(7)];
            Stored::Groups(vec![Added { key: "S1:a".to_owned(), addends }])
        };
        let (one, other) = (stored(1), stored(2));
        assert_eq!(other_aggregates(&view, Some(&one), Some(&other)), ["lo", "hi", "d"]);
        assert!(other_aggregates(&view, Some(&one), Some(&one)).is_empty());
    }
}
