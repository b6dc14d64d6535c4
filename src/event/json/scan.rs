//! Looking at many bytes of JSON at a time: where a string ends, where a bracket closes.
//!
//! Separate because it is the one place that knows the processor. The same scans
//! ([`brackets`], [`utf8`]) run on three kinds of it; only how 64 bytes become bit masks differs
//! ([`blocks`]).
//!
//! A scan trusts nothing: its answer is a place inside the text, or none. What it passes only
//! has to balance: brackets of both kinds are counted together, so that `{]` passes, and is
//! found by whoever reads the value.
//!
//! `unsafe` stands here and in these files alone, for four things: to call functions compiled
//! for instructions that the processor has, because all have them or because it was asked; to
//! load the bytes of an array into a register; to cut a text beside an ASCII byte, or to call
//! bytes a text, without looking at them a second time; and to ask for memory ahead. The bench
//! `cargo bench --bench ratios -- decode` shows what that buys, in the row of keys and sequence
//! numbers.

#![expect(unsafe_code, reason = "functions compiled for certain processors are called on them")]

mod blocks;
mod brackets;
mod utf8;

pub(in crate::event) use utf8::text;

#[cfg(all(target_arch = "x86_64", not(miri)))]
use blocks::avx2;
use blocks::baseline;
use brackets::{Brackets, len_of_string, prefix_xor};

/// Asks for the beginning of a text that will be read shortly, and does not wait for it.
#[inline(always)]
pub(in crate::event) fn prefetch(text: &str) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: every such processor has the instruction, and it reads nothing.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(text.as_ptr().cast()) };
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = text;
}

/// How long the array or object is that the text begins with, if it ends.
pub(super) fn container_len(text: &[u8]) -> Option<usize> {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    if avx2::is_there() {
        // SAFETY: the processor has what the function is compiled for.
        return unsafe { by_avx2::container_len(text) };
    }
    Brackets::default().len(text, baseline::masks, prefix_xor)
}

/// How many bytes there are before the quote that closes a string, if there is one.
pub(super) fn string_len(text: &[u8]) -> Option<usize> {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    if avx2::is_there() {
        // SAFETY: the processor has what the function is compiled for.
        return unsafe { by_avx2::string_len(text) };
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
        return unsafe { by_avx2::plain_len(bytes) };
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

/// The same scans, compiled for AVX2.
#[cfg(all(target_arch = "x86_64", not(miri)))]
mod by_avx2 {
    use super::{
        Brackets,
        avx2::{first_special, masks, prefix_xor},
        len_of_string, short_plain_len,
    };

    #[target_feature(enable = "avx2,pclmulqdq,popcnt,bmi1")]
    pub(super) fn container_len(text: &[u8]) -> Option<usize> {
        Brackets::default().len(text, |block| masks(block), |bits| prefix_xor(bits))
    }

    #[target_feature(enable = "avx2,pclmulqdq,popcnt,bmi1")]
    pub(super) fn string_len(text: &[u8]) -> Option<usize> {
        len_of_string(text, |block| masks(block))
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
}

#[cfg(test)]
mod tests {
    use super::{
        blocks::{Block, words},
        *,
    };
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
