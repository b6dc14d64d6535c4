//! How far the mapping has come, kept between runs (`--state`).
//!
//! One file per state directory: stream ARN → shard → sequence number. It is replaced as a
//! whole (written beside, then renamed), so it is never half written. A run that dies leaves
//! an older checkpoint and newer tables, which is what Lambda's at-least-once delivery looks
//! like anyway.

use crate::record::{SequenceNumber, Timestamp};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

/// Beside a stream's shards: when its mapping began, in milliseconds since 1970.
const BEGUN: &str = "began at LATEST";

/// The checkpoints of one stream's shards.
#[derive(Debug, Clone, Default)]
pub struct Checkpoints {
    file: Option<PathBuf>,
    stream_arn: String,
    all: BTreeMap<String, BTreeMap<String, String>>,
}

impl Checkpoints {
    /// The name of the file in a state directory.
    pub const FILE_NAME: &'static str = "checkpoint.json";

    /// Checkpoints that nobody keeps.
    #[must_use]
    pub fn forgotten() -> Self {
        Self::default()
    }

    /// Reads what an earlier run has left in `directory`.
    ///
    /// # Errors
    /// The file is there and cannot be read, or is not what we write.
    pub fn read(directory: &Path, stream_arn: &str) -> Result<Self, CheckpointError> {
        let file = directory.join(Self::FILE_NAME);
        let all = match std::fs::read(&file) {
            Ok(bytes) => parse(&bytes).ok_or_else(|| CheckpointError::Broken(file.clone()))?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => return Err(CheckpointError::Unreadable(file, error)),
        };
        Ok(Self { file: Some(file), stream_arn: stream_arn.to_owned(), all })
    }

    /// Where the shard stands, if it was ever read.
    #[must_use]
    pub fn of(&self, shard: &str) -> Option<SequenceNumber<'static>> {
        let number = self.all.get(&self.stream_arn)?.get(shard)?;
        SequenceNumber::new(number.clone()).ok()
    }

    /// When a mapping that begins at LATEST began, if it ever did.
    #[must_use]
    pub fn begun(&self) -> Option<Timestamp> {
        self.all.get(&self.stream_arn)?.get(BEGUN)?.parse().ok().map(Timestamp)
    }

    /// Keeps when a mapping that begins at LATEST began.
    pub fn begin(&mut self, Timestamp(at): Timestamp) {
        let of_stream = self.all.entry(self.stream_arn.clone()).or_default();
        of_stream.insert(BEGUN.to_owned(), at.to_string());
    }

    /// Moves the shard's checkpoint forward; never back.
    pub fn advance(&mut self, shard: &str, to: &SequenceNumber<'_>) {
        if self.of(shard).is_some_and(|from| from >= *to) {
            return;
        }
        let of_stream = self.all.entry(self.stream_arn.clone()).or_default();
        of_stream.insert(shard.to_owned(), to.to_string());
    }

    /// Writes the file, if there is one.
    ///
    /// # Errors
    /// The directory cannot be written to.
    ///
    /// # Panics
    /// Never: maps of texts are always JSON.
    pub fn save(&self) -> Result<(), CheckpointError> {
        let Some(file) = &self.file else { return Ok(()) };
        let beside = file.with_extension("json.new");
        let text = serde_json::to_string_pretty(&self.all).expect("maps of texts are JSON");
        std::fs::write(&beside, text + "\n")
            .and_then(|()| std::fs::rename(&beside, file))
            .map_err(|error| CheckpointError::Unwritable(file.clone(), error))
    }
}

fn parse(bytes: &[u8]) -> Option<BTreeMap<String, BTreeMap<String, String>>> {
    let all: BTreeMap<String, BTreeMap<String, String>> = serde_json::from_slice(bytes).ok()?;
    let mut numbers = all.values().flat_map(BTreeMap::values);
    numbers.all(|number| SequenceNumber::new(number.as_str()).is_ok()).then_some(all)
}

/// The mapping's place cannot be kept.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// No right to read it, or a directory in its place.
    #[error("{}: cannot be read: {_1}", .0.display())]
    Unreadable(PathBuf, std::io::Error),
    /// Not what we have written.
    #[error(
        "{}: is not a checkpoint file; delete it to deliver everything again, the tables do \
         not count a change twice", .0.display()
    )]
    Broken(PathBuf),
    /// No right to write it, or no room.
    #[error("{}: cannot be written: {_1}", .0.display())]
    Unwritable(PathBuf, std::io::Error),
}

#[cfg(test)]
mod tests {
    use super::{CheckpointError, Checkpoints};
    use crate::record::SequenceNumber;

    fn number(text: &str) -> SequenceNumber<'_> {
        SequenceNumber::new(text).unwrap()
    }

    #[test]
    fn a_checkpoint_survives_and_never_retreats() {
        let directory = std::env::temp_dir().join(format!("changefold-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let mut checkpoints = Checkpoints::read(&directory, "arn").unwrap();
        checkpoints.advance("s", &number("100"));
        checkpoints.advance("s", &number("99"));
        checkpoints.save().unwrap();
        let again = Checkpoints::read(&directory, "arn").unwrap();
        assert_eq!(again.of("s"), Some(number("100")));
        assert_eq!(Checkpoints::read(&directory, "other").unwrap().of("s"), None);
        for broken in ["", "{", "[]", r#"{"arn":{"s":"x"}}"#] {
            std::fs::write(directory.join(Checkpoints::FILE_NAME), broken).unwrap();
            let error = Checkpoints::read(&directory, "arn").unwrap_err();
            assert!(matches!(error, CheckpointError::Broken(_)), "{broken}");
        }
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
