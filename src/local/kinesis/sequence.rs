//! Sequence numbers: decimals of 56 digits that grow within a shard and from parent to child.
//!
//! AWS promises no form. This is the one its numbers are observed to have: 186 bits, from the
//! highest a constant 2, the second in which the shard was made, the shard's lowest four bits,
//! a count within the shard, a byte of zero, the second of arrival, the shard, and a version.

/// One sequence number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sequence {
    /// Seconds since the Unix epoch when the shard was made; a child's are greater.
    pub(super) made_s: i64,
    /// Which record of the shard; 0 is where the shard begins.
    pub(super) count: u64,
    /// Seconds since the Unix epoch when the record arrived.
    pub(super) arrived_s: i64,
    /// The number of the shard in its stream.
    pub(super) shard: u32,
}

const VERSION: u128 = 2;
const SECONDS: u128 = (1 << 36) - 1;
/// The most decimal digits that fit into one limb.
const CHUNK: u64 = 10_000_000_000_000_000_000;
const CHUNK_DIGITS: usize = 19;

impl Sequence {
    /// The number as AWS writes it.
    pub(super) fn to_text(self) -> String {
        decimal(self.limbs())
    }

    /// Reads a number; none if it is not of this form.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let limbs = binary(text)?;
        let low = u128::from(limbs[0]) | u128::from(limbs[1]) << 64;
        let high = u128::from(limbs[1]) >> 16 | u128::from(limbs[2]) << 48;
        // From bit 80 on: the count, the shard's lowest bits, when it was made, the constant.
        let sequence = Self {
            made_s: i64::try_from(high >> 68 & SECONDS).ok()?,
            count: u64::try_from(high & u128::from(u64::MAX)).ok()?,
            arrived_s: i64::try_from(low >> 36 & SECONDS).ok()?,
            shard: u32::try_from(low >> 4 & u128::from(u32::MAX)).ok()?,
        };
        (sequence.limbs() == limbs).then_some(sequence)
    }

    /// The lowest limb first.
    fn limbs(self) -> [u64; 3] {
        let seconds = |it: i64| u128::from(it.unsigned_abs()) & SECONDS;
        let shard = u128::from(self.shard);
        let count = u128::from(self.count);
        let low =
            VERSION | shard << 4 | seconds(self.arrived_s) << 36 | (count & 0xffff_ffff_ffff) << 80;
        let high = count >> 48 | (shard & 0xf) << 16 | seconds(self.made_s) << 20 | 2 << 56;
        [limb(low), limb(low >> 64), limb(high)]
    }
}

/// The lowest 64 bits.
#[expect(clippy::cast_possible_truncation, reason = "what is above is for the next limb")]
fn limb(value: u128) -> u64 {
    value as u64
}

fn decimal(mut limbs: [u64; 3]) -> String {
    let mut chunks = Vec::new();
    while limbs != [0; 3] {
        let mut rest = 0_u128;
        for limb in limbs.iter_mut().rev() {
            let value = rest << 64 | u128::from(*limb);
            *limb = self::limb(value / u128::from(CHUNK));
            rest = value % u128::from(CHUNK);
        }
        chunks.push(rest);
    }
    let first = chunks.pop().map_or_else(|| "0".to_owned(), |first| first.to_string());
    let rest = chunks.iter().rev().map(|chunk| format!("{chunk:0CHUNK_DIGITS$}"));
    first + &rest.collect::<Vec<_>>().concat()
}

fn binary(text: &str) -> Option<[u64; 3]> {
    let is_plain = text.bytes().all(|it| it.is_ascii_digit()) && !text.starts_with('0');
    if text.is_empty() || !is_plain {
        return None;
    }
    let mut limbs = [0_u64; 3];
    for digit in text.bytes() {
        let mut carried = u128::from(digit - b'0');
        for limb in &mut limbs {
            let value = u128::from(*limb) * 10 + carried;
            *limb = self::limb(value);
            carried = value >> 64;
        }
        if carried > 0 {
            return None;
        }
    }
    Some(limbs)
}

#[cfg(test)]
mod tests {
    use super::Sequence;
    use proptest::prelude::*;

    #[test]
    fn a_number_of_aws_is_read_and_written() {
        // fixtures/clicks.jsonl
        let text = "49672254917919365999807882258057165082883515844415979538";
        let read = Sequence::parse(text).unwrap();
        assert_eq!(read.shard, 1);
        assert_eq!(read.to_text(), text);
        for none in ["", "0", "1", "x", "049", "-4", &"9".repeat(129)] {
            assert_eq!(Sequence::parse(none), None, "{none}");
        }
    }

    proptest! {
        #[test]
        fn numbers_grow_with_the_count_and_come_back(
            made_s in 1_000_000_000_i64..5_000_000_000, count in 0..u64::MAX, shard: u32,
            arrived_s in 0_i64..5_000_000_000, later_s in 0_i64..5_000_000_000,
        ) {
            let one = Sequence { made_s, count, arrived_s, shard };
            prop_assert_eq!(Sequence::parse(&one.to_text()), Some(one));
            prop_assert_eq!(one.to_text().len(), 56);
            let next = Sequence { count: count + 1, arrived_s: later_s, ..one };
            prop_assert!(next.to_text() > one.to_text());
            let child = Sequence { made_s: made_s + 1, count: 0, arrived_s: 0, shard: 0 };
            prop_assert!(child.to_text() > next.to_text());
        }
    }
}
