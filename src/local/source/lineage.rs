//! What a fixture says of its shards: which of them continue which.
//!
//! A line that is no record but names a shard, `{"shardId":"c","parentShardId":"a"}`, says that
//! the shard begins here, and that its parents end here: after a split one parent, after a merge
//! a second one in `adjacentParentShardId`. The names are those of `ListShards`. What cannot have
//! happened in a stream is refused with its line, since a run over it would prove nothing.

use super::{
    Problem,
    fixture::Place,
    stated::{ShardLine, Stated},
};
use crate::{local::mapping::Listed, record::SequenceNumber};
use std::collections::BTreeMap;

/// Reads a line that is no record; none if it states no shard either.
pub(super) fn read(text: &[u8]) -> Option<ShardLine> {
    serde_json::from_slice(text).ok().filter(|line: &ShardLine| !line.shard_id.is_empty())
}

/// The shards of a fixture so far, and their records.
#[derive(Debug)]
pub(super) struct Shards {
    stated: Stated<Place>,
    /// Of shards that have records, or continue such.
    known: BTreeMap<String, Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// The last record of the shard, or of those it continues.
    last: Option<Last>,
    /// How many lines of the fixture stand before the first that cannot be of the shard.
    through: u64,
}

#[derive(Debug, Clone)]
struct Last {
    sequence_number: SequenceNumber<'static>,
    place: Place,
    /// The shard it is of.
    shard: String,
}

impl Default for Shards {
    fn default() -> Self {
        Self { stated: Stated::new(), known: BTreeMap::new() }
    }
}

impl Shards {
    /// Takes a line that states a shard.
    pub(super) fn state(&mut self, line: ShardLine, place: &Place) -> Result<(), Problem> {
        let Listed { shard_id, parents } = self.stated.state(line, place)?;
        let of_parents = parents.iter().filter_map(|parent| self.known.get(parent)?.last.as_ref());
        let last = of_parents.max_by(|one, other| one.sequence_number.cmp(&other.sequence_number));
        let known = Known { last: last.cloned(), through: 0 };
        self.known.insert(shard_id.clone(), known);
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
        self.stated.first_seen(shard);
        if let Some(place) = self.stated.first_child(shard) {
            return Err(Problem::Ended { shard: shard.to_owned(), place: place.to_string() });
        }
        let known = self.known.entry(shard.to_owned()).or_default();
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

    /// The shards, and for each how many lines stand before its last record and with it.
    pub(super) fn finish(self) -> (Vec<Listed>, Vec<u64>) {
        let listed = self.stated.finish();
        let through = |shard: &Listed| self.known.get(&shard.shard_id).map_or(0, |it| it.through);
        let ends = listed.iter().map(through).collect();
        (listed, ends)
    }
}
