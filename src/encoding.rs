//! How the text files that people write begin.
//!
//! Editors and shells of Windows put a byte order mark first: of UTF-8, which is passed, or of
//! UTF-16, which is refused with what helps. All files of text go through here, so that none
//! takes a mark for a part of its first word.

use std::{fs, io, path::Path};

const UTF_8: [u8; 3] = [0xef, 0xbb, 0xbf];
const UTF_16: [[u8; 2]; 2] = [[0xff, 0xfe], [0xfe, 0xff]];

/// Takes the mark off the beginning of a text.
///
/// # Errors
/// It is UTF-16.
pub(crate) fn skip_mark(text: &mut Vec<u8>) -> io::Result<()> {
    if UTF_16.iter().any(|mark| text.starts_with(mark)) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it is UTF-16; save it as UTF-8"));
    }
    if text.starts_with(&UTF_8) {
        text.drain(..UTF_8.len());
    }
    Ok(())
}

/// A file's text without its mark.
///
/// # Errors
/// It cannot be read, or is not UTF-8.
pub(crate) fn read_to_string(path: &Path) -> io::Result<String> {
    let mut text = fs::read(path)?;
    skip_mark(&mut text)?;
    String::from_utf8(text).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        io::Error::new(io::ErrorKind::InvalidData, format!("it is not UTF-8 at byte {at}"))
    })
}

#[cfg(test)]
mod tests {
    use super::skip_mark;

    fn skipped(text: &[u8]) -> Result<Vec<u8>, String> {
        let mut text = text.to_owned();
        skip_mark(&mut text).map(|()| text).map_err(|error| error.to_string())
    }

    #[test]
    fn a_mark_is_no_part_of_the_text() {
        assert_eq!(skipped(b"\xef\xbb\xbfSELECT").unwrap(), b"SELECT");
        for text in [&b""[..], b"\xef\xbb", b"{\"a\":\"\xef\xbb\xbf\"}"] {
            assert_eq!(skipped(text).unwrap(), text);
        }
        for text in [&b"\xff\xfeS\0"[..], b"\xfe\xff\0S", b"\xff\xfe"] {
            assert_eq!(skipped(text).unwrap_err(), "it is UTF-16; save it as UTF-8");
        }
    }
}
