//! On-failure records as files: what a destination would have got, byte for byte.
//!
//! A queue's messages and a topic's are numbered in the order in which they were sent; a bucket's
//! objects have their keys as paths. A name that a file system could take for something else, as
//! a shard may have in a fixture, is written with `%` and hexadecimal digits.

use super::mapping::{Destination, OnFailure};
use std::{
    fmt::Write as _,
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

/// A directory that on-failure records are written to.
#[derive(Debug)]
pub struct OnFailureFiles {
    directory: PathBuf,
    written: u64,
}

impl OnFailureFiles {
    /// Makes the directory, or takes an empty one.
    ///
    /// # Errors
    /// It cannot be made, or has something in it.
    pub fn open(directory: &Path) -> io::Result<Self> {
        fs::create_dir_all(directory)?;
        if fs::read_dir(directory)?.next().is_some() {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "it is not empty"));
        }
        Ok(Self { directory: directory.to_owned(), written: 0 })
    }

    /// Writes one record; without a destination nobody would have got it, and nothing is written.
    ///
    /// # Errors
    /// The file cannot be written; the error names it.
    pub fn write(&mut self, on_failure: &OnFailure) -> io::Result<()> {
        let Some((destination, body)) = on_failure.destination.as_ref().zip(on_failure.delivered())
        else {
            return Ok(());
        };
        self.written += 1;
        let number = || format!("{:06}.json", self.written);
        let (kind, name) = match destination {
            Destination::Sqs(_) => ("sqs", number()),
            Destination::Sns(_) => ("sns", number()),
            Destination::S3(_) => ("s3", on_failure.object_key()),
        };
        let called = destination.arn().rsplit(':').next().unwrap_or_default();
        let mut path = self.directory.join(kind).join(part(called));
        path.extend(name.split('/').map(part));
        store(&path, body.as_bytes())
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
    }

    /// How many records were written.
    #[must_use]
    pub fn written(&self) -> u64 {
        self.written
    }
}

fn store(path: &Path, body: &[u8]) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    File::create_new(path)?.write_all(body)
}

/// A part of a path that stays within its directory.
fn part(text: &str) -> String {
    let is_only_dots = text.bytes().all(|byte| byte == b'.');
    let mut part = String::with_capacity(text.len());
    for byte in text.bytes() {
        let is_plain = byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        if is_plain && !is_only_dots {
            part.push(char::from(byte));
        } else {
            write!(part, "%{byte:02X}").expect("a String takes all text");
        }
    }
    if part.is_empty() { "%".to_owned() } else { part }
}

#[cfg(test)]
mod tests {
    use super::part;

    #[test]
    fn no_name_leaves_its_directory() {
        for (name, expected) in [
            ("shardId-000000000001", "shardId-000000000001"),
            ("2026-09-17T13.03.40-a_b", "2026-09-17T13.03.40-a_b"),
            ("..", "%2E%2E"),
            (".", "%2E"),
            ("a\\b\0", "a%5Cb%00"),
            ("é%", "%C3%A9%25"),
            ("", "%"),
        ] {
            assert_eq!(part(name), expected, "{name:?}");
        }
    }
}
