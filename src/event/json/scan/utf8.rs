//! Whether bytes are UTF-8: blocks of ASCII are passed at once, the rest is looked at.

use super::blocks::Block;
#[cfg(all(target_arch = "x86_64", not(miri)))]
use super::blocks::avx2;

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
        return unsafe { by_avx2::ascii_blocks(blocks) };
    }
    blocks.iter().take_while(|block| block.is_ascii()).count()
}

#[cfg(all(target_arch = "x86_64", not(miri)))]
mod by_avx2 {
    use super::{Block, avx2::load};
    use std::arch::x86_64::{_mm256_movemask_epi8, _mm256_or_si256};

    #[target_feature(enable = "avx2")]
    pub(super) fn ascii_blocks(blocks: &[Block]) -> usize {
        let is_ascii = |block: &&Block| {
            let [a, b] = block.as_chunks().0 else { return false };
            _mm256_movemask_epi8(_mm256_or_si256(load(a), load(b))) == 0
        };
        blocks.iter().take_while(is_ascii).count()
    }
}
