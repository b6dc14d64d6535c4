//! Hash keys: 128 bits that say which shard a record goes to.
//!
//! <https://docs.aws.amazon.com/streams/latest/dev/key-concepts.html>: MD5 maps partition keys
//! to 128-bit integers, and the shards' ranges share these out.

use md5::{Digest as _, Md5};

/// A shard's part of the hash keys, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) low: u128,
    pub(super) high: u128,
}

impl Range {
    pub(super) fn contains(self, key: u128) -> bool {
        (self.low..=self.high).contains(&key)
    }

    /// The parts below a key and from it on.
    pub(super) fn split(self, at: u128) -> [Self; 2] {
        [Self { low: self.low, high: at - 1 }, Self { low: at, high: self.high }]
    }
}

/// The hash key of a partition key.
pub(super) fn of(partition_key: &str) -> u128 {
    u128::from_be_bytes(Md5::digest(partition_key).into())
}

/// A hash key as requests write it: decimal, without leading zeros.
pub(super) fn parse(text: &str) -> Option<u128> {
    let is_number = text.bytes().all(|it| it.is_ascii_digit());
    if !is_number || (text.len() > 1 && text.starts_with('0')) {
        return None;
    }
    text.parse().ok()
}

/// Where ranges begin when the keys are shared out evenly, but for the first, which is 0. What
/// is over goes to the last.
pub(super) fn boundaries(count: u32) -> Vec<u128> {
    let count = u128::from(count);
    // 2^128 is one more than there are numbers for.
    let rest_is_whole = u128::MAX % count == count - 1;
    let size = (u128::MAX / count).wrapping_add(u128::from(rest_is_whole));
    (1..count).map(|number| number * size).collect()
}

/// All keys, cut at boundaries in ascending order.
pub(super) fn ranges(boundaries: &[u128]) -> Vec<Range> {
    let lows = std::iter::once(0).chain(boundaries.iter().copied());
    let highs = boundaries.iter().map(|next| next - 1).chain([u128::MAX]);
    lows.zip(highs).map(|(low, high)| Range { low, high }).collect()
}

#[cfg(test)]
mod tests {
    use super::{boundaries, of, parse, ranges};

    #[test]
    fn ranges_are_aws_s_and_leave_no_key_out() {
        let four = ranges(&boundaries(4));
        // As `aws kinesis describe-stream` shows a stream of four shards.
        assert_eq!(four[1].low.to_string(), "85070591730234615865843651857942052864");
        assert_eq!(four[3].high.to_string(), "340282366920938463463374607431768211455");
        // The documentation's stream of three.
        let three = ranges(&boundaries(3));
        assert_eq!(three[0].high.to_string(), "113427455640312821154458202477256070484");
        for count in 1..200 {
            let ranges = ranges(&boundaries(count));
            assert_eq!(ranges.len(), count as usize);
            assert_eq!((ranges[0].low, ranges[ranges.len() - 1].high), (0, u128::MAX));
            assert!(ranges.windows(2).all(|pair| pair[0].high + 1 == pair[1].low));
        }
    }

    #[test]
    fn a_partition_key_hashes_as_md5_does() {
        assert_eq!(
            of("").to_string(),
            u128::from_str_radix("d41d8cd98f00b204e9800998ecf8427e", 16).unwrap().to_string()
        );
    }

    #[test]
    fn hash_keys_are_plain_decimals() {
        assert_eq!(parse("0"), Some(0));
        assert_eq!(parse("340282366920938463463374607431768211455"), Some(u128::MAX));
        for text in ["", "01", "-1", "+1", "1.0", "340282366920938463463374607431768211456"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
