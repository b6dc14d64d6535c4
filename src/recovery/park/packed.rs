//! Compressed texts of others, unpacked only as far as they may go.
//!
//! Separate because every reader of them needs the same bound: a kilobyte of gzip can say a
//! megabyte, so whoever sends it must not decide how much memory it takes.

use flate2::read::GzDecoder;
use std::io::Read;

/// Why a text is not unpacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum UnpackError {
    /// It is not gzip, or ends early.
    NotGzip,
    /// It goes on behind the bound.
    TooLong,
}

/// Unpacks gzip of at most `bytes_max` bytes, and reads no further than one byte behind them.
pub(crate) fn unpack(packed: impl Read, bytes_max: u64) -> Result<Vec<u8>, UnpackError> {
    let mut unpacked = Vec::new();
    GzDecoder::new(packed)
        .take(bytes_max.saturating_add(1))
        .read_to_end(&mut unpacked)
        .map_err(|_| UnpackError::NotGzip)?;
    if unpacked.len() as u64 > bytes_max { Err(UnpackError::TooLong) } else { Ok(unpacked) }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use flate2::{Compress, Compression, Crc, FlushCompress};

    /// Gzip of `MiB` megabytes of spaces, whole and correct. One megabyte is compressed, and its
    /// block repeated: so a gigabyte is written without ever being there.
    pub(crate) fn bomb(megabytes: u32) -> Vec<u8> {
        let spaces = vec![b' '; 1 << 20];
        let mut block = Vec::with_capacity(1 << 16);
        let mut deflate = Compress::new(Compression::best(), false);
        // A full flush ends at a byte, and what follows needs nothing before it.
        deflate.compress_vec(&spaces, &mut block, FlushCompress::Full).unwrap();
        assert_eq!(deflate.total_in(), 1 << 20);
        let mut one = Crc::new();
        one.update(&spaces);
        let mut all = Crc::new();
        let mut gzip = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
        for _ in 0..megabytes {
            gzip.extend_from_slice(&block);
            all.combine(&one);
        }
        // An empty last block, then the sum and the length.
        gzip.extend_from_slice(&[0x03, 0x00]);
        gzip.extend_from_slice(&all.sum().to_le_bytes());
        gzip.extend_from_slice(&(megabytes << 20).to_le_bytes());
        gzip
    }

    /// Counts what is read of it.
    struct Counted<'a>(&'a [u8], usize);

    impl Read for Counted<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            let read = self.0.read(buffer)?;
            self.1 += read;
            Ok(read)
        }
    }

    #[test]
    fn a_gigabyte_is_unpacked_no_further_than_allowed() {
        assert_eq!(unpack(&*bomb(2), 2 << 20).map(|text| text.len()), Ok(2 << 20), "it is gzip");
        let gigabyte = bomb(1024);
        let length = gigabyte.len();
        for allowed in [0, 100, 1 << 20, 32 << 20] {
            let mut packed = Counted(&gigabyte, 0);
            assert_eq!(unpack(&mut packed, allowed), Err(UnpackError::TooLong));
            // As much of the text as was unpacked, and the reader's buffer before it.
            let share = usize::try_from(allowed).unwrap() * length / (1 << 30);
            assert!(packed.1 <= share + (64 << 10), "{allowed}: {} of {length}", packed.1);
        }
    }

    #[test]
    fn what_is_no_gzip_or_ends_early_is_told() {
        assert_eq!(unpack(&b"no gzip"[..], 100), Err(UnpackError::NotGzip));
        let whole = bomb(1);
        assert_eq!(unpack(&whole[..whole.len() / 2], 2 << 20), Err(UnpackError::NotGzip));
    }
}
