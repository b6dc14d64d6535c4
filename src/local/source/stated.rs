//! The rules of a lineage that is stated, in a fixture or in a case of `simulate`.
//!
//! A shard is stated once, behind its parents: none, one after a split, two after a merge. Its
//! children are two after a split, or one after a merge. What breaks a rule cannot have happened
//! in a stream. Where a shard is stated is the caller's to say: the line of a file, or the place
//! in a list.

use crate::local::mapping::Listed;
use serde::Deserialize;
use std::{collections::BTreeMap, fmt};

/// What states a shard: a line of a fixture, or an element of a case of `simulate`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::local) struct ShardLine {
    #[serde(rename = "shardId")]
    pub(super) shard_id: String,
    #[serde(rename = "parentShardId")]
    parent: Option<String>,
    #[serde(rename = "adjacentParentShardId")]
    adjacent_parent: Option<String>,
}

/// The shards so far, in the order in which they came, with their children.
#[derive(Debug)]
pub(in crate::local) struct Stated<P> {
    listed: Vec<Listed>,
    /// For each shard where its children were stated, and whether that was a merge.
    children: BTreeMap<String, Vec<(P, bool)>>,
}

/// A statement cannot be true. Messages name shards and places.
#[derive(Debug, thiserror::Error)]
pub(in crate::local) enum LineageError {
    #[error(
        "shard `{shard}` is stated behind its first record, or twice; it is stated once, before \
         its records"
    )]
    Late { shard: String },
    #[error(
        "the parents of shard `{shard}` are none, `parentShardId`, or that and another one in \
         `adjacentParentShardId`"
    )]
    Parents { shard: String },
    #[error(
        "shard `{shard}` continues `{parent}`, which does not stand before it; a shard is stated \
         behind its parents"
    )]
    UnknownParent { shard: String, parent: String },
    #[error(
        "shard `{shard}` continues `{parent}`, which has its children already ({place}): two \
         after a split, or one after a merge"
    )]
    TooManyChildren { shard: String, parent: String, place: String },
}

impl<P: Clone + fmt::Display> Stated<P> {
    pub(in crate::local) fn new() -> Self {
        Self { listed: Vec::new(), children: BTreeMap::new() }
    }

    /// Takes a statement; gives the shard that it states.
    pub(in crate::local) fn state(
        &mut self,
        line: ShardLine,
        place: &P,
    ) -> Result<&Listed, LineageError> {
        let ShardLine { shard_id: shard, parent, adjacent_parent } = line;
        if self.knows(&shard) {
            return Err(LineageError::Late { shard });
        }
        if adjacent_parent.is_some() && (parent.is_none() || parent == adjacent_parent) {
            return Err(LineageError::Parents { shard });
        }
        let is_merge = adjacent_parent.is_some();
        let parents: Vec<String> = parent.into_iter().chain(adjacent_parent).collect();
        for parent in &parents {
            let Some(children) = self.children.get(parent) else {
                return Err(LineageError::UnknownParent { shard, parent: parent.clone() });
            };
            if let Some((before, was_merge)) = children.last()
                && (is_merge || *was_merge || children.len() == 2)
            {
                let (parent, place) = (parent.clone(), before.to_string());
                return Err(LineageError::TooManyChildren { shard, parent, place });
            }
        }
        for parent in &parents {
            if let Some(children) = self.children.get_mut(parent) {
                children.push((place.clone(), is_merge));
            }
        }
        Ok(self.begin(shard, parents))
    }

    /// Takes a shard that nothing states: it continues none.
    pub(super) fn first_seen(&mut self, shard: &str) {
        if !self.knows(shard) {
            self.begin(shard.to_owned(), Vec::new());
        }
    }

    fn begin(&mut self, shard_id: String, parents: Vec<String>) -> &Listed {
        self.children.insert(shard_id.clone(), Vec::new());
        self.listed.push(Listed { shard_id, parents });
        &self.listed[self.listed.len() - 1]
    }

    fn knows(&self, shard: &str) -> bool {
        self.children.contains_key(shard)
    }

    /// Where the first child of a shard is stated, if it has one.
    pub(super) fn first_child(&self, shard: &str) -> Option<&P> {
        self.children.get(shard)?.first().map(|(place, _)| place)
    }

    pub(in crate::local) fn finish(self) -> Vec<Listed> {
        self.listed
    }
}
