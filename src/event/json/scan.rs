//! Looking at many bytes of JSON at a time: where a string ends, where a bracket closes.
//!
//! Separate because it is the one place that knows the processor. The same scans run on three
//! kinds of it: AVX2, found at run time; SSE2, which every 64-bit Intel processor has; and plain
//! words, everywhere else (Arm, Miri). Only how 64 bytes become bit masks differs.
//!
//! A scan trusts nothing: its answer is a place inside the text, or none. What it passes only
//! has to balance: brackets of both kinds are counted together, so that `{]` passes, and is
//! found by whoever reads the value.
//!
//! `unsafe` stands here alone, for three things: to call functions compiled for instructions
//! that the processor has, because all have them or because it was asked; to load the bytes of
//! an array into a register; and to cut a text beside an ASCII byte, or to call bytes a text,
//! without looking at them a second time. `cargo bench --bench ratios -- decode` shows what that
//! buys, in the row of keys and sequence numbers.
//!
//! What it gives up: Arm's own instructions, which nobody here could compile or measure.

#![expect(unsafe_code, reason = "functions compiled for certain processors are called on them")]

/// What the bytes of a block are, a bit for each.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Masks {
    quotes: u64,
    backslashes: u64,
    opens: u64,
    closes: u64,
}

type Block = [u8; 64];

/// The text that these bytes are, if they are UTF-8 throughout.
///
/// # Errors
/// The place of the first byte that belongs to no character.
pub(in crate::event) fn text(bytes: &[u8]) -> Result<&str, usize> {
    let (blocks, _) = bytes.as_chunks();
    let mut at = 0;
    while at < blocks.len() {
        at += ascii_blocks(&blocks[at..]);
        // What is not ASCII stands between blocks that are, where no character can be cut.
        let is_other = |block: &&Block| !block.is_ascii();
        let end = at + blocks[at..].iter().take_while(is_other).count();
        if end == blocks.len() {
            break;
        }
        check(bytes, at * 64..end * 64)?;
        at = end;
    }
    check(bytes, at * 64..bytes.len())?;
    // SAFETY: every block is ASCII or was checked, with what stands beside it.
    Ok(unsafe { str::from_utf8_unchecked(bytes) })
}

fn check(bytes: &[u8], part: std::ops::Range<usize>) -> Result<(), usize> {
    let start = part.start;
    match str::from_utf8(&bytes[part]) {
        Ok(_) => Ok(()),
        Err(error) => Err(start + error.valid_up_to()),
    }
}

/// How many blocks there are before the first that is not ASCII throughout.
fn ascii_blocks(blocks: &[Block]) -> usize {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    if avx2::is_there() {
        // SAFETY: the processor has what the function is compiled for.
        return unsafe { avx2::ascii_blocks(blocks) };
    }
    blocks.iter().take_while(|block| block.is_ascii()).count()
}

/// How long the array or object is that the text begins with, if it ends.
pub(super) fn container_len(text: &[u8]) -> Option<usize> {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    if avx2::is_there() {
        // SAFETY: the processor has what the function is compiled for.
        return unsafe { avx2::container_len(text) };
    }
    Brackets::default().len(text, baseline::masks, prefix_xor)
}

/// How many bytes there are before the quote that closes a string, if there is one.
pub(super) fn string_len(text: &[u8]) -> Option<usize> {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    if avx2::is_there() {
        // SAFETY: the processor has what the function is compiled for.
        return unsafe { avx2::string_len(text) };
    }
    len_of_string(text, baseline::masks)
}

/// The same for a string of less than sixteen bytes without escapes.
#[inline(always)]
pub(super) fn short_string_len(text: &[u8]) -> Option<usize> {
    let len = text.first_chunk().and_then(baseline::first_special)?;
    (text.get(len) == Some(&b'"')).then_some(len)
}

/// The text before its first quote, backslash or control character, and the rest from there.
#[inline(always)]
pub(super) fn split_plain(text: &str) -> (&str, &str) {
    let found = text.as_bytes().first_chunk().and_then(baseline::first_special);
    let len = match found {
        Some(found) => found,
        None => plain_len(text.as_bytes()),
    };
    // SAFETY: an ASCII byte stands at `len`, or the text ends there.
    unsafe { (text.get_unchecked(..len), text.get_unchecked(len..)) }
}

/// How many bytes there are before the first quote, backslash or control character.
#[inline(never)]
fn plain_len(bytes: &[u8]) -> usize {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    if avx2::is_there() {
        // SAFETY: the processor has what the function is compiled for.
        return unsafe { avx2::plain_len(bytes) };
    }
    short_plain_len(bytes)
}

/// The same, sixteen bytes at a time.
#[inline(always)]
fn short_plain_len(bytes: &[u8]) -> usize {
    let (chunks, rest) = bytes.as_chunks();
    let mut len = 0;
    for chunk in chunks {
        match baseline::first_special(chunk) {
            Some(found) => return len + found,
            None => len += 16,
        }
    }
    let is_special = |&byte: &u8| byte < 0x20 || byte == b'"' || byte == b'\\';
    len + rest.iter().position(is_special).unwrap_or(rest.len())
}

/// The state of a scan for a closing bracket, between blocks.
#[derive(Debug, Default)]
struct Brackets {
    depth: u32,
    /// All ones inside a string.
    in_string: u64,
    /// One if the next byte is escaped.
    escaped: u64,
}

impl Brackets {
    #[inline(always)]
    fn len(
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
fn len_of_string(text: &[u8], masks: impl Fn(&Block) -> Masks) -> Option<usize> {
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
fn prefix_xor(mut bits: u64) -> u64 {
    for shift in [1, 2, 4, 8, 16, 32] {
        bits ^= bits << shift;
    }
    bits
}

/// Eight bytes at a time, on any processor.
#[cfg(any(not(target_arch = "x86_64"), miri, test))]
mod words {
    use super::{Block, Masks};

    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;

    pub(super) fn masks(block: &Block) -> Masks {
        let mut masks = Masks::default();
        for (at, bytes) in block.as_chunks().0.iter().enumerate() {
            let word = u64::from_le_bytes(*bytes);
            let folded = word | (ONES * 0x20);
            let shift = at * 8;
            masks.quotes |= bits(equal(word, b'"')) << shift;
            masks.backslashes |= bits(equal(word, b'\\')) << shift;
            masks.opens |= bits(equal(folded, b'{')) << shift;
            masks.closes |= bits(equal(folded, b'}')) << shift;
        }
        masks
    }

    pub(super) fn first_special(bytes: &[u8; 16]) -> Option<usize> {
        bytes.as_chunks().0.iter().enumerate().find_map(|(at, bytes)| {
            let found = special(u64::from_le_bytes(*bytes));
            (found != 0).then(|| at * 8 + found.trailing_zeros() as usize / 8)
        })
    }

    /// Marks the bytes of a little-endian word that end a plain run of a string, by their high
    /// bit. The lowest mark is exact; marks above it may be false, and are not looked at.
    fn special(word: u64) -> u64 {
        let equal_to = |byte: u8| {
            let difference = word ^ (ONES * u64::from(byte));
            difference.wrapping_sub(ONES) & !difference
        };
        let control = word.wrapping_sub(ONES * 0x20) & !word;
        (equal_to(b'"') | equal_to(b'\\') | control) & HIGH
    }

    /// The high bit of each byte that is `byte`, and no other.
    fn equal(word: u64, byte: u8) -> u64 {
        let difference = word ^ (ONES * u64::from(byte));
        !(((difference & !HIGH) + !HIGH) | difference) & HIGH
    }

    /// The high bits of eight bytes, side by side.
    fn bits(high: u64) -> u64 {
        (high >> 7).wrapping_mul(0x0102_0408_1020_4080) >> 56
    }
}

#[cfg(any(not(target_arch = "x86_64"), miri))]
use words as baseline;

/// SSE2, which every 64-bit Intel processor has.
#[cfg(all(target_arch = "x86_64", not(miri)))]
mod baseline {
    use super::{Block, Masks};
    use std::arch::x86_64::{
        __m128i, _mm_cmpeq_epi8, _mm_loadu_si128, _mm_max_epu8, _mm_movemask_epi8, _mm_or_si128,
        _mm_set1_epi8,
    };

    #[inline(always)]
    pub(super) fn masks(block: &Block) -> Masks {
        // SAFETY: SSE2 is part of the architecture.
        unsafe { masks_by_sse2(block) }
    }

    #[inline(always)]
    pub(super) fn first_special(bytes: &[u8; 16]) -> Option<usize> {
        // SAFETY: SSE2 is part of the architecture.
        let found = unsafe { special_by_sse2(bytes) };
        (found != 0).then(|| found.trailing_zeros() as usize)
    }

    #[inline]
    #[target_feature(enable = "sse2")]
    fn masks_by_sse2(block: &Block) -> Masks {
        let mut masks = Masks::default();
        for (at, chunk) in block.as_chunks().0.iter().enumerate() {
            let bytes = load(chunk);
            let folded = _mm_or_si128(bytes, _mm_set1_epi8(0x20));
            let shift = at * 16;
            masks.quotes |= bits(equal(bytes, b'"')) << shift;
            masks.backslashes |= bits(equal(bytes, b'\\')) << shift;
            masks.opens |= bits(equal(folded, b'{')) << shift;
            masks.closes |= bits(equal(folded, b'}')) << shift;
        }
        masks
    }

    #[inline]
    #[target_feature(enable = "sse2")]
    fn special_by_sse2(bytes: &[u8; 16]) -> u64 {
        let bytes = load(bytes);
        // A control character is what 0x1F is not raised by.
        let control = _mm_cmpeq_epi8(_mm_max_epu8(bytes, _mm_set1_epi8(0x1F)), _mm_set1_epi8(0x1F));
        bits(_mm_or_si128(_mm_or_si128(equal(bytes, b'"'), equal(bytes, b'\\')), control))
    }

    #[inline]
    #[target_feature(enable = "sse2")]
    fn load(bytes: &[u8; 16]) -> __m128i {
        // SAFETY: sixteen bytes are read, wherever they stand.
        unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) }
    }

    #[inline]
    #[target_feature(enable = "sse2")]
    fn equal(bytes: __m128i, byte: u8) -> __m128i {
        _mm_cmpeq_epi8(bytes, _mm_set1_epi8(byte.cast_signed()))
    }

    #[inline]
    #[target_feature(enable = "sse2")]
    fn bits(found: __m128i) -> u64 {
        u64::from(_mm_movemask_epi8(found).cast_unsigned())
    }
}

/// AVX2 and its time's instructions for bits, where the processor has them.
#[cfg(all(target_arch = "x86_64", not(miri)))]
mod avx2 {
    use super::{Block, Brackets, Masks, len_of_string, short_plain_len};
    use std::arch::x86_64::{
        __m256i, _mm_clmulepi64_si128, _mm_cvtsi64_si128, _mm_cvtsi128_si64, _mm_set1_epi8,
        _mm256_cmpeq_epi8, _mm256_loadu_si256, _mm256_max_epu8, _mm256_movemask_epi8,
        _mm256_or_si256, _mm256_set1_epi8,
    };

    #[inline]
    pub(super) fn is_there() -> bool {
        is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("pclmulqdq")
            && is_x86_feature_detected!("popcnt")
            && is_x86_feature_detected!("bmi1")
    }

    #[target_feature(enable = "avx2,pclmulqdq,popcnt,bmi1")]
    pub(super) fn container_len(text: &[u8]) -> Option<usize> {
        Brackets::default().len(text, |block| masks(block), |bits| prefix_xor(bits))
    }

    #[target_feature(enable = "avx2,pclmulqdq,popcnt,bmi1")]
    pub(super) fn string_len(text: &[u8]) -> Option<usize> {
        len_of_string(text, |block| masks(block))
    }

    #[target_feature(enable = "avx2")]
    pub(super) fn ascii_blocks(blocks: &[Block]) -> usize {
        let is_ascii = |block: &&Block| {
            let [a, b] = block.as_chunks().0 else { return false };
            _mm256_movemask_epi8(_mm256_or_si256(load(a), load(b))) == 0
        };
        blocks.iter().take_while(is_ascii).count()
    }

    #[target_feature(enable = "avx2,bmi1")]
    pub(super) fn plain_len(bytes: &[u8]) -> usize {
        let (chunks, rest) = bytes.as_chunks();
        let mut len = 0;
        for chunk in chunks {
            match first_special(chunk) {
                Some(found) => return len + found,
                None => len += 32,
            }
        }
        len + short_plain_len(rest)
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn first_special(bytes: &[u8; 32]) -> Option<usize> {
        let bytes = load(bytes);
        let highest = _mm256_set1_epi8(0x1F);
        let control = _mm256_cmpeq_epi8(_mm256_max_epu8(bytes, highest), highest);
        let control = u64::from(_mm256_movemask_epi8(control).cast_unsigned());
        let found = equal(bytes, b'"') | equal(bytes, b'\\') | control;
        (found != 0).then(|| found.trailing_zeros() as usize)
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn load(bytes: &[u8; 32]) -> __m256i {
        // SAFETY: 32 bytes are read, wherever they stand.
        unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn equal(bytes: __m256i, byte: u8) -> u64 {
        let found = _mm256_cmpeq_epi8(bytes, _mm256_set1_epi8(byte.cast_signed()));
        u64::from(_mm256_movemask_epi8(found).cast_unsigned())
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn masks(block: &Block) -> Masks {
        let mut masks = Masks::default();
        for (at, chunk) in block.as_chunks().0.iter().enumerate() {
            let bytes = load(chunk);
            let folded = _mm256_or_si256(bytes, _mm256_set1_epi8(0x20));
            let shift = at * 32;
            masks.quotes |= equal(bytes, b'"') << shift;
            masks.backslashes |= equal(bytes, b'\\') << shift;
            masks.opens |= equal(folded, b'{') << shift;
            masks.closes |= equal(folded, b'}') << shift;
        }
        masks
    }

    /// Multiplying without carries by all ones is the parity of all bits below.
    #[inline]
    #[target_feature(enable = "pclmulqdq")]
    fn prefix_xor(bits: u64) -> u64 {
        let product =
            _mm_clmulepi64_si128::<0>(_mm_cvtsi64_si128(bits.cast_signed()), _mm_set1_epi8(-1));
        _mm_cvtsi128_si64(product).cast_unsigned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Text in which all that matters is frequent.
    fn bytes(size: impl Into<prop::collection::SizeRange>) -> impl Strategy<Value = Vec<u8>> {
        let byte = prop_oneof![
            6 => prop::sample::select(b"{}[]\"\\".to_vec()),
            2 => any::<u8>(),
            4 => Just(b'a'),
        ];
        prop::collection::vec(byte, size)
    }

    /// A string's end, byte by byte.
    fn slow_string_end(text: &[u8], mut at: usize) -> Option<usize> {
        loop {
            match text.get(at)? {
                b'"' => return Some(at),
                b'\\' => at += 2,
                _ => at += 1,
            }
        }
    }

    /// A container's end, byte by byte.
    fn slow_container_end(text: &[u8], mut at: usize) -> Option<usize> {
        let mut depth = 0;
        loop {
            match text.get(at)? {
                b'"' => at = slow_string_end(text, at + 1)?,
                b'{' | b'[' => depth += 1,
                b'}' | b']' if depth == 1 => return Some(at + 1),
                b'}' | b']' => depth -= 1,
                _ => {}
            }
            at += 1;
        }
    }

    proptest! {
        #[test]
        fn the_scans_find_what_one_byte_at_a_time_finds(text in bytes(0..300)) {
            let text = [b"{", &*text].concat();
            let expected = slow_container_end(&text, 0);
            prop_assert_eq!(container_len(&text), expected);
            let baseline = Brackets::default().len(&text, baseline::masks, prefix_xor);
            prop_assert_eq!(baseline, expected);
            let portable = Brackets::default().len(&text, words::masks, prefix_xor);
            prop_assert_eq!(portable, expected);
        }

        #[test]
        fn utf8_is_what_the_standard_library_takes(
            parts in prop::collection::vec(
                prop_oneof![
                    3 => "[a-z]{0,80}".prop_map(String::into_bytes),
                    2 => "[äß€😀]{1,9}".prop_map(String::into_bytes),
                    1 => prop::collection::vec(any::<u8>(), 0..3),
                ],
                0..9,
            ),
        ) {
            let bytes = parts.concat();
            let expected = str::from_utf8(&bytes).map_err(|error| error.valid_up_to());
            prop_assert_eq!(text(&bytes), expected);
        }

        #[test]
        fn a_string_ends_at_its_first_free_quote(text in bytes(0..200)) {
            let expected = slow_string_end(&text, 0);
            prop_assert_eq!(string_len(&text), expected);
            prop_assert_eq!(len_of_string(&text, baseline::masks), expected);
            prop_assert_eq!(len_of_string(&text, words::masks), expected);
        }

        #[test]
        fn all_processors_see_the_same(block in bytes(64)) {
            let block: Block = block.try_into().unwrap();
            prop_assert_eq!(baseline::masks(&block), words::masks(&block));
        }

        #[test]
        fn the_first_special_byte_is_found(bytes in bytes(16)) {
            let bytes: [u8; 16] = bytes.try_into().unwrap();
            let scan = bytes.iter().position(|&b| b < 0x20 || b == b'"' || b == b'\\');
            prop_assert_eq!(baseline::first_special(&bytes), scan);
            prop_assert_eq!(words::first_special(&bytes), scan);
        }
    }

    proptest! {
        #[test]
        fn a_text_is_cut_before_what_ends_a_plain_run(
            text in "([ -~äß€😀]|\\PC|[\\x00-\\x1f]){0,60}",
        ) {
            let is_special = |c: char| c < ' ' || c == '"' || c == '\\';
            let at = text.find(is_special).unwrap_or(text.len());
            prop_assert_eq!(split_plain(&text), text.split_at(at));
        }
    }

    #[test]
    fn what_is_not_there_has_no_end() {
        for text in ["", "{", "[[]", "{\"}", "{\"\\\"}"] {
            assert_eq!(container_len(text.as_bytes()), None, "{text}");
        }
        assert_eq!(string_len(b"ab"), None);
        assert_eq!(container_len(b"{]"), Some(2));
    }
}
