//! A ZIP file of one text, as Lambda takes the code of a function.
//!
//! Source: PKWARE's APPNOTE, 4.3: a local header, the bytes as they are, the central directory,
//! its end. The external attributes make the file readable for everybody.

const LOCAL: u32 = 0x0403_4b50;
const CENTRAL: u32 = 0x0201_4b50;
const END: u32 = 0x0605_4b50;
/// 2.0, the first version with directories; made on Unix.
const VERSION: u16 = 20;
const MADE_BY: u16 = (3 << 8) | VERSION;
/// The first of January 1980.
const DATE: u16 = (1 << 5) | 1;
/// A regular file, `rw-r--r--`.
const MODE: u32 = 0o100_644 << 16;

/// The file; none if the text or its name is longer than a ZIP file without extensions takes.
pub(super) fn zipped(name: &str, text: &str) -> Option<Vec<u8>> {
    let (name_length, length) = (u16::try_from(name.len()).ok()?, u32::try_from(text.len()).ok()?);
    let mut crc = flate2::Crc::new();
    crc.update(text.as_bytes());
    let mut common = Vec::new();
    for half in [VERSION, 0, 0, 0, DATE] {
        common.extend(half.to_le_bytes());
    }
    for word in [crc.sum(), length, length] {
        common.extend(word.to_le_bytes());
    }
    for half in [name_length, 0] {
        common.extend(half.to_le_bytes());
    }
    let local = [&LOCAL.to_le_bytes()[..], &common, name.as_bytes(), text.as_bytes()].concat();
    let mut central = [&CENTRAL.to_le_bytes()[..], &MADE_BY.to_le_bytes(), &common].concat();
    central.extend([0; 6]); // no comment, the first disk, no internal attributes
    central.extend(MODE.to_le_bytes());
    central.extend(0_u32.to_le_bytes()); // the local header stands at the beginning
    central.extend(name.as_bytes());
    let mut end = END.to_le_bytes().to_vec();
    for half in [0_u16, 0, 1, 1] {
        end.extend(half.to_le_bytes());
    }
    for size in [central.len(), local.len()] {
        end.extend(u32::try_from(size).ok()?.to_le_bytes());
    }
    end.extend(0_u16.to_le_bytes());
    Some([local, central, end].concat())
}

#[cfg(test)]
mod tests {
    use super::zipped;
    use std::process::Command;

    /// Python's reader, which checks headers and checksum.
    #[test]
    fn another_program_unpacks_it() {
        let text = "def handler(event, context):\n    return \"grün\"\n";
        let path = std::env::temp_dir().join(format!("changefold-{}.zip", std::process::id()));
        std::fs::write(&path, zipped("function.py", text).unwrap()).unwrap();
        let program = "import sys, zipfile; z = zipfile.ZipFile(sys.argv[1]); assert z.testzip() \
                       is None; sys.stdout.buffer.write(z.read('function.py'))";
        let output = Command::new("python3").args(["-c", program]).arg(&path).output().unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), text, "{:?}", output.stderr);
    }
}
