//! Where a bracket closes and where a string ends, from the masks of block after block.
//!
//! It does not know the processor: whoever calls it gives the function that makes the masks.

use super::blocks::{Block, Masks};

/// The state of a scan for a closing bracket, between blocks.
#[derive(Debug, Default)]
pub(super) struct Brackets {
    depth: u32,
    /// All ones inside a string.
    in_string: u64,
    /// One if the next byte is escaped.
    escaped: u64,
}

impl Brackets {
    #[inline(always)]
    pub(super) fn len(
        mut self,
        text: &[u8],
        masks: impl Fn(&Block) -> Masks,
        prefix_xor: impl Fn(u64) -> u64,
    ) -> Option<usize> {
        let (blocks, rest) = text.as_chunks();
        let mut at = 0;
        for block in blocks {
            if let Some(end) = self.block(block, masks(block), &prefix_xor) {
                return Some(at + end);
            }
            at += 64;
        }
        let last = padded(rest);
        let end = self.block(&last, masks(&last), &prefix_xor)?;
        Some(at + end)
    }

    /// Passes a block, or tells how far into it the last bracket closes.
    #[inline(always)]
    fn block(
        &mut self,
        block: &Block,
        masks: Masks,
        prefix_xor: impl Fn(u64) -> u64,
    ) -> Option<usize> {
        let mut escaped = self.escaped;
        let quotes = masks.quotes & !escaped_bytes(masks.backslashes, &mut escaped);
        // From each opening quote up to its closing one.
        let strings = prefix_xor(quotes) ^ self.in_string;
        if masks.backslashes & !strings != 0 {
            return self.block_by_bytes(block);
        }
        self.escaped = escaped;
        self.in_string = 0_u64.wrapping_sub(strings >> 63);
        let (opens, mut closes) = (masks.opens & !strings, masks.closes & !strings);
        let (more, fewer) = (opens.count_ones(), closes.count_ones());
        if fewer < self.depth {
            self.depth = self.depth + more - fewer;
            return None;
        }
        let mut closed_before = 0;
        while closes != 0 {
            let close = closes & closes.wrapping_neg();
            let opened_before = (opens & (close - 1)).count_ones();
            closed_before += 1;
            if self.depth + opened_before <= closed_before {
                return Some(close.trailing_zeros() as usize + 1);
            }
            closes ^= close;
        }
        self.depth = self.depth + more - fewer;
        None
    }
}

impl Brackets {
    /// The same where a backslash stands outside of strings, and means nothing: that is no
    /// JSON, but it may balance.
    #[cold]
    fn block_by_bytes(&mut self, block: &Block) -> Option<usize> {
        for (at, byte) in block.iter().enumerate() {
            let is_in_string = self.in_string != 0;
            match byte {
                _ if std::mem::take(&mut self.escaped) != 0 => {}
                b'"' => self.in_string = !self.in_string,
                b'\\' if is_in_string => self.escaped = 1,
                _ if is_in_string => {}
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' if self.depth <= 1 => return Some(at + 1),
                b'}' | b']' => self.depth -= 1,
                _ => {}
            }
        }
        None
    }
}

#[inline(always)]
pub(super) fn len_of_string(text: &[u8], masks: impl Fn(&Block) -> Masks) -> Option<usize> {
    let mut escaped = 0;
    let mut end_in = |masks: Masks| {
        let quotes = masks.quotes & !escaped_bytes(masks.backslashes, &mut escaped);
        (quotes != 0).then(|| quotes.trailing_zeros() as usize)
    };
    let (blocks, rest) = text.as_chunks();
    let mut at = 0;
    for block in blocks {
        if let Some(end) = end_in(masks(block)) {
            return Some(at + end);
        }
        at += 64;
    }
    let end = end_in(masks(&padded(rest)))?;
    Some(at + end)
}

/// The last bytes of a text, and blanks behind them.
#[inline]
fn padded(rest: &[u8]) -> Block {
    let mut block = [b' '; 64];
    for (byte, found) in block.iter_mut().zip(rest) {
        *byte = *found;
    }
    block
}

/// The bytes behind an odd number of backslashes. A byte escaped at the block's end is carried.
#[inline(always)]
fn escaped_bytes(backslashes: u64, carried: &mut u64) -> u64 {
    const EVEN: u64 = 0x5555_5555_5555_5555;
    if backslashes == 0 {
        return std::mem::take(carried);
    }
    let backslashes = backslashes & !*carried;
    let follows = backslashes << 1 | *carried;
    // A run that starts at an odd place: adding carries through it to the byte behind.
    let odd_starts = backslashes & !EVEN & !follows;
    let (from_even, overflow) = odd_starts.overflowing_add(backslashes);
    *carried = u64::from(overflow);
    (EVEN ^ (from_even << 1)) & follows
}

/// Each bit the parity of itself and those below it.
#[inline(always)]
pub(super) fn prefix_xor(mut bits: u64) -> u64 {
    for shift in [1, 2, 4, 8, 16, 32] {
        bits ^= bits << shift;
    }
    bits
}
