//! Resharding that a seed decides: the shards of a fixture are split and merged as it is read.
//!
//! Each shard of the fixture begins with all its keys. At places that the seed draws, one of its
//! descendants is split in two by the hash of its keys, or two neighbours are merged into one; so
//! every shard of the fixture meets at least one split and one merge. The records, their order
//! and their sequence numbers stay as they are. What it gives up: shards of the fixture are never
//! merged with each other, because their sequence numbers may not be compared.

use crate::local::mapping::Listed;
use std::ops::Range;

/// The hash of a key falls into one of so many ranges, which are never cut further.
const RANGES: usize = 16;

/// The most splits and merges that one shard of the fixture meets.
const RESHARDS_MAX: usize = 5;

/// Which shard holds a record, after all the splits and merges before it.
#[derive(Debug)]
pub(super) struct Recut {
    /// For each shard of the fixture what holds its keys, from which line on.
    phases: Vec<Vec<Phase>>,
}

#[derive(Debug)]
struct Phase {
    from: u64,
    holders: [usize; RANGES],
}

/// A recut fixture.
#[derive(Debug)]
pub(super) struct Resharded {
    pub(super) recut: Recut,
    /// The shards of the fixture first, then what they became.
    pub(super) shards: Vec<Listed>,
    /// For each how many lines of the fixture stand before its end.
    pub(super) ends: Vec<u64>,
}

/// A shard that is open, with the ranges of hashes that it holds.
struct Open {
    shard: usize,
    ranges: Range<usize>,
}

impl Recut {
    /// Draws the splits and merges of a fixture of `lines` lines.
    pub(super) fn draw(seed: u64, original: &[Listed], lines: u64) -> Resharded {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut shards = original.to_vec();
        let mut ends = vec![lines; original.len()];
        let mut phases = Vec::new();
        for (shard, listed) in original.iter().enumerate() {
            let mut open = vec![Open { shard, ranges: 0..RANGES }];
            let mut phases_of_shard = vec![Phase { from: 0, holders: [shard; RANGES] }];
            let reshards = rng.usize(2..=RESHARDS_MAX);
            let mut places: Vec<u64> = (0..reshards).map(|_| rng.u64(..=lines)).collect();
            places.sort_unstable();
            for (at, from) in places.into_iter().enumerate() {
                // The first can only be a split, and the last one ends in a merge.
                let merges = at > 0 && open.len() > 1 && (at + 1 == reshards || rng.bool());
                let (parents, children) =
                    if merges { merge(&open, &mut rng) } else { split(&open, &mut rng) };
                let ended: Vec<Open> = open.drain(parents.clone()).collect();
                for ended in &ended {
                    ends[ended.shard] = from;
                }
                let opened: Vec<Open> = children
                    .into_iter()
                    .map(|ranges| {
                        let number = shards.len();
                        let parents = ended.iter().map(|it| shards[it.shard].shard_id.clone());
                        shards.push(Listed {
                            parents: parents.collect(),
                            shard_id: format!("{}-{seed}-{number}", listed.shard_id),
                        });
                        ends.push(lines);
                        Open { shard: number, ranges }
                    })
                    .collect();
                open.splice(parents.start..parents.start, opened);
                phases_of_shard.push(Phase { from, holders: holders(&open) });
            }
            phases.push(phases_of_shard);
        }
        Resharded { recut: Self { phases }, shards, ends }
    }

    /// The shard of a record of the fixture's shard `original`, by the hash of its key and its
    /// line.
    pub(super) fn shard_of(&self, original: usize, key: u64, line: u64) -> usize {
        // Sub-lanes go by the lower bits: so the keys of one shard fill all of its sub-lanes.
        let range = usize::try_from((key >> 32) % RANGES as u64).unwrap_or_default();
        let phase = self.phases[original].iter().rev().find(|phase| phase.from <= line);
        phase.map_or(original, |phase| phase.holders[range])
    }
}

/// Which of the open shards is split, and into what.
fn split(open: &[Open], rng: &mut fastrand::Rng) -> (Range<usize>, Vec<Range<usize>>) {
    let wide: Vec<usize> = (0..open.len()).filter(|at| open[*at].ranges.len() > 1).collect();
    let at = wide[rng.usize(..wide.len())];
    let Range { start, end } = open[at].ranges;
    let middle = rng.usize(start + 1..end);
    (at..at + 1, vec![start..middle, middle..end])
}

/// Which two neighbours are merged.
fn merge(open: &[Open], rng: &mut fastrand::Rng) -> (Range<usize>, Vec<Range<usize>>) {
    let at = rng.usize(..open.len() - 1);
    let merged = open[at].ranges.start..open[at + 1].ranges.end;
    (at..at + 2, vec![merged])
}

fn holders(open: &[Open]) -> [usize; RANGES] {
    let mut holders = [0; RANGES];
    for open in open {
        holders[open.ranges.clone()].fill(open.shard);
    }
    holders
}

#[cfg(test)]
mod tests {
    use super::*;

    fn descends(shards: &[Listed], shard: usize, from: usize) -> bool {
        let number = |name: &String| shards.iter().position(|it| it.shard_id == *name).unwrap();
        let parents = &shards[shard].parents;
        shard == from || parents.iter().any(|parent| descends(shards, number(parent), from))
    }

    /// A record's shard is open when the record comes, and what held its key before is an
    /// ancestor.
    #[test]
    fn every_record_is_in_a_shard_that_is_open_and_descends_from_its_predecessor() {
        let original: Vec<Listed> = ["a", "b"]
            .map(|name| Listed { shard_id: name.to_owned(), parents: Vec::new() })
            .to_vec();
        for seed in 0..500 {
            let Resharded { recut, shards, ends } = Recut::draw(seed, &original, 100);
            let parents: Vec<usize> = shards.iter().map(|shard| shard.parents.len()).collect();
            assert!(parents.contains(&2) && parents.contains(&1), "{seed}: {shards:?}");
            for shard in 0..2 {
                for range in 0..RANGES as u64 {
                    let mut before = shard;
                    for line in 0..100 {
                        let now = recut.shard_of(shard, range << 32, line);
                        assert!(line < ends[now], "{seed}: line {line} of an ended shard");
                        assert!(descends(&shards, now, before), "{seed}: {before} to {now}");
                        before = now;
                    }
                }
            }
        }
    }
}
