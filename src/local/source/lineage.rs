//! What a fixture says of its shards: which of them continue which.
//!
//! A line that is no record but names a shard, `{"shardId":"c","parentShardId":"a"}`, says that
//! the shard begins here, and that its parents end here: after a split one parent, after a merge
//! a second one in `adjacentParentShardId`. The names are those of `ListShards`. What cannot have
//! happened in a stream is refused with its line, since a run over it would prove nothing.

use super::{Problem, fixture::Place};
use crate::{local::mapping::Listed, record::SequenceNumber};
use serde::Deserialize;
use std::collections::BTreeMap;

/// What states a shard: a line of a fixture, or an element of a case of `simulate`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::local) struct ShardLine {
    #[serde(rename = "shardId")]
    pub(in crate::local) shard_id: String,
    #[serde(rename = "parentShardId")]
    pub(in crate::local) parent: Option<String>,
    #[serde(rename = "adjacentParentShardId")]
    pub(in crate::local) adjacent_parent: Option<String>,
}

impl ShardLine {
    /// Reads a line that is no record; none if it states no shard either.
    pub(super) fn read(text: &[u8]) -> Option<Self> {
        serde_json::from_slice(text).ok().filter(|line: &Self| !line.shard_id.is_empty())
    }

    pub(in crate::local) fn parents(&self) -> Vec<String> {
        self.parent.iter().chain(&self.adjacent_parent).cloned().collect()
    }
}

/// The shards of a fixture so far, in order of first appearance.
#[derive(Debug, Default)]
pub(super) struct Shards {
    listed: Vec<Listed>,
    known: BTreeMap<String, Known>,
}

#[derive(Debug)]
struct Known {
    /// The last record of the shard, or of those it continues.
    last: Option<Last>,
    /// How many lines of the fixture stand before the first that cannot be of the shard.
    through: u64,
    /// Where its children were stated, and whether that was a merge.
    children: Vec<(Place, bool)>,
}

#[derive(Debug, Clone)]
struct Last {
    sequence_number: SequenceNumber<'static>,
    place: Place,
    /// The shard it is of.
    shard: String,
}

impl Shards {
    /// Takes a line that states a shard.
    pub(super) fn state(&mut self, line: &ShardLine, place: &Place) -> Result<(), Problem> {
        let shard = line.shard_id.clone();
        if self.known.contains_key(&shard) {
            return Err(Problem::StatedLate { shard });
        }
        let parents = line.parents();
        let is_merge = parents.len() == 2;
        if line.parent.is_none() && line.adjacent_parent.is_some()
            || is_merge && parents[0] == parents[1]
        {
            return Err(Problem::ParentsOfShard { shard });
        }
        if let Some(parent) = parents.iter().find(|parent| !self.known.contains_key(*parent)) {
            return Err(Problem::UnknownParent { shard, parent: parent.clone() });
        }
        let mut last: Option<Last> = None;
        for parent in &parents {
            let Some(known) = self.known.get_mut(parent) else { continue };
            if let Some((before, was_merge)) = known.children.last()
                && (is_merge || *was_merge || known.children.len() == 2)
            {
                let (parent, place) = (parent.clone(), before.to_string());
                return Err(Problem::TooManyChildren { shard, parent, place });
            }
            known.children.push((place.clone(), is_merge));
            let is_later = |one: &Last| {
                last.as_ref().is_none_or(|other| one.sequence_number > other.sequence_number)
            };
            if let Some(one) = known.last.clone().filter(is_later) {
                last = Some(one);
            }
        }
        self.begin(shard, parents, Known { last, through: 0, children: Vec::new() });
        Ok(())
    }

    /// Takes a record, which is the line at `position`. Records that Lambda de-aggregated share
    /// the number of the Kinesis record: `may_repeat`.
    pub(super) fn record(
        &mut self,
        shard: &str,
        sequence_number: &SequenceNumber<'_>,
        may_repeat: bool,
        (place, position): (&Place, u64),
    ) -> Result<(), Problem> {
        if !self.known.contains_key(shard) {
            let known = Known { last: None, through: 0, children: Vec::new() };
            self.begin(shard.to_owned(), Vec::new(), known);
        }
        let Some(known) = self.known.get_mut(shard) else { return Ok(()) };
        if let Some((place, _)) = known.children.first() {
            return Err(Problem::Ended { shard: shard.to_owned(), place: place.to_string() });
        }
        if let Some(last) = &known.last {
            let repeats = may_repeat && last.shard == shard;
            let grows = *sequence_number > last.sequence_number
                || repeats && *sequence_number == last.sequence_number;
            if !grows {
                return Err(Problem::NotGrowing {
                    shard: shard.to_owned(),
                    found: sequence_number.to_string(),
                    before: last.sequence_number.to_string(),
                    place: last.place.to_string(),
                });
            }
        }
        let sequence_number = sequence_number.clone().into_owned();
        known.last = Some(Last { sequence_number, place: place.clone(), shard: shard.to_owned() });
        known.through = position + 1;
        Ok(())
    }

    fn begin(&mut self, shard: String, parents: Vec<String>, known: Known) {
        self.listed.push(Listed { shard_id: shard.clone(), parents });
        self.known.insert(shard, known);
    }

    /// The shards, and for each how many lines stand before its last record and with it.
    pub(super) fn finish(self) -> (Vec<Listed>, Vec<u64>) {
        let through = |shard: &Listed| self.known.get(&shard.shard_id).map_or(0, |it| it.through);
        let ends = self.listed.iter().map(through).collect();
        (self.listed, ends)
    }
}
