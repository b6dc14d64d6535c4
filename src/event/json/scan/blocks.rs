//! What the bytes of a block are: bit masks, made by what the processor has.
//!
//! There are three ways to make them: AVX2, found at run time; SSE2, which every 64-bit Intel
//! processor has; and plain words, everywhere else (Arm, Miri). All of them give the same masks.
//!
//! What it gives up: Arm's own instructions, which nobody here could compile or measure.

/// What the bytes of a block are, a bit for each.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Masks {
    pub(super) quotes: u64,
    pub(super) backslashes: u64,
    pub(super) opens: u64,
    pub(super) closes: u64,
}

pub(super) type Block = [u8; 64];

/// Eight bytes at a time, on any processor.
#[cfg(any(not(target_arch = "x86_64"), miri, test))]
pub(super) mod words {
    use super::{Block, Masks};

    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;

    pub(in crate::event::json) fn masks(block: &Block) -> Masks {
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

    pub(in crate::event::json) fn first_special(bytes: &[u8; 16]) -> Option<usize> {
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
pub(super) use words as baseline;

/// SSE2, which every 64-bit Intel processor has.
#[cfg(all(target_arch = "x86_64", not(miri)))]
pub(super) mod baseline {
    use super::{Block, Masks};
    use std::arch::x86_64::{
        __m128i, _mm_cmpeq_epi8, _mm_loadu_si128, _mm_max_epu8, _mm_movemask_epi8, _mm_or_si128,
        _mm_set1_epi8,
    };

    #[inline(always)]
    pub(in crate::event::json) fn masks(block: &Block) -> Masks {
        // SAFETY: SSE2 is part of the architecture.
        unsafe { masks_by_sse2(block) }
    }

    #[inline(always)]
    pub(in crate::event::json) fn first_special(bytes: &[u8; 16]) -> Option<usize> {
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
pub(super) mod avx2 {
    use super::{Block, Masks};
    use std::{
        arch::x86_64::{
            __m256i, _mm_clmulepi64_si128, _mm_cvtsi64_si128, _mm_cvtsi128_si64, _mm_set1_epi8,
            _mm256_cmpeq_epi8, _mm256_loadu_si256, _mm256_max_epu8, _mm256_movemask_epi8,
            _mm256_or_si256, _mm256_set1_epi8,
        },
        sync::LazyLock,
    };

    /// Whether the processor has them. Short strings are looked at so often that asking for
    /// four things each time would cost as much as the look.
    #[inline]
    pub(in crate::event::json) fn is_there() -> bool {
        static IS_THERE: LazyLock<bool> = LazyLock::new(|| {
            is_x86_feature_detected!("avx2")
                && is_x86_feature_detected!("pclmulqdq")
                && is_x86_feature_detected!("popcnt")
                && is_x86_feature_detected!("bmi1")
        });
        *IS_THERE
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    pub(in crate::event::json) fn first_special(bytes: &[u8; 32]) -> Option<usize> {
        let bytes = load(bytes);
        let highest = _mm256_set1_epi8(0x1F);
        let control = _mm256_cmpeq_epi8(_mm256_max_epu8(bytes, highest), highest);
        let control = u64::from(_mm256_movemask_epi8(control).cast_unsigned());
        let found = equal(bytes, b'"') | equal(bytes, b'\\') | control;
        (found != 0).then(|| found.trailing_zeros() as usize)
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    pub(in crate::event::json) fn load(bytes: &[u8; 32]) -> __m256i {
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
    pub(in crate::event::json) fn masks(block: &Block) -> Masks {
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
    pub(in crate::event::json) fn prefix_xor(bits: u64) -> u64 {
        let product =
            _mm_clmulepi64_si128::<0>(_mm_cvtsi64_si128(bits.cast_signed()), _mm_set1_epi8(-1));
        _mm_cvtsi128_si64(product).cast_unsigned()
    }
}
