//! The directory that keeps what the desk's services hold.
//!
//! One directory for all of them, and one process at a time: what two processes write to one
//! store without knowing of each other is nobody's. The lock is the system's own, on a file in
//! the directory, so it ends with the process, however that ends.

use std::{
    fs::{self, File, TryLockError},
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
};

/// The file of the desk's tables, here and where a replay keeps them.
pub(in crate::local) const TABLES_FILE: &str = "tables.sqlite";
/// The file of the desk's Kinesis streams.
pub(super) const STREAMS_FILE: &str = "kinesis.sqlite";
const LOCK_FILE: &str = "dev.lock";

/// A directory that this process alone writes to, until it is dropped.
#[derive(Debug)]
pub(in crate::local) struct State {
    directory: PathBuf,
    _lock: File,
}

/// A directory cannot be had.
#[derive(Debug, thiserror::Error)]
pub(super) enum StateError {
    #[error(transparent)]
    Io(#[from] io::Error),
    /// Another process has it; which, if that said so.
    #[error("in use by {}", .0.as_deref().unwrap_or("another process"))]
    InUse(Option<String>),
}

impl State {
    /// Takes the directory, and makes it if it is not there.
    pub(super) fn take(directory: &Path) -> Result<Self, StateError> {
        fs::create_dir_all(directory)?;
        let path = directory.join(LOCK_FILE);
        let mut file =
            File::options().create(true).read(true).write(true).truncate(false).open(path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut said = String::new();
                // Who has it is worth saying, but not worth failing for.
                let holder = file.read_to_string(&mut said).ok().map(|_| said.trim().to_owned());
                return Err(StateError::InUse(holder.filter(|holder| !holder.is_empty())));
            }
            Err(TryLockError::Error(error)) => return Err(error.into()),
        }
        file.set_len(0)?;
        writeln!(file, "process {}", std::process::id())?;
        Ok(Self { directory: directory.to_owned(), _lock: file })
    }

    /// A file of the directory.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }
}
