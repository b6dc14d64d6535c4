//! Which splits and merges bring a stream to another number of shards.
//!
//! AWS does the same: "Kinesis Data Streams performs splits or merges on individual shards. This
//! can cause short-lived shards to be created"
//! (<https://docs.aws.amazon.com/kinesis/latest/APIReference/API_UpdateShardCount.html>). So
//! each shard has its one or two parents, and a reader that follows them meets every record of
//! a key in order.

use super::hash::{self, Range};

/// One change of the open shards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// The shard that has this key, but not as its first, is cut before it.
    Split(u128),
    /// The two shards that meet before this key become one.
    Merge(u128),
}

/// The steps from open shards, in the order of their keys, to as many even ones.
pub(super) fn steps(open: &[Range], count: u32) -> Vec<Step> {
    let wanted = hash::boundaries(count);
    let present: Vec<u128> = open.iter().skip(1).map(|range| range.low).collect();
    let missing = wanted.iter().filter(|it| !present.contains(it)).map(|it| Step::Split(*it));
    let surplus = present.iter().filter(|it| !wanted.contains(it)).map(|it| Step::Merge(*it));
    missing.chain(surplus).collect()
}

#[cfg(test)]
mod tests {
    use super::{Step, steps};
    use crate::local::kinesis::hash::{boundaries, ranges};

    #[test]
    fn doubling_only_splits_and_halving_only_merges() {
        let of = |from, to| steps(&ranges(&boundaries(from)), to);
        let split = |it: &Step| matches!(it, Step::Split(_));
        assert!(of(4, 8).iter().all(split) && of(4, 8).len() == 4);
        assert!(!of(8, 4).iter().any(split) && of(8, 4).len() == 4);
        assert!(of(5, 5).is_empty());
        // Two cuts at the thirds, and the halves of the middle become one.
        let kinds: Vec<bool> = of(2, 3).iter().map(split).collect();
        assert_eq!(kinds, [true, true, false]);
    }
}
