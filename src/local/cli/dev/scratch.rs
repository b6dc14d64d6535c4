//! The directory of what is kept: that of the state, or one for this process, which goes with it.
//!
//! On disk either way: what comes through in a day is no matter of memory. A process that is
//! killed cannot remove its own; the next one does. A lock says whose a directory is, as the system
//! frees it with the process, whatever ends that. What it gives up: a directory without a lock
//! stays.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

const PREFIX: &str = "changefold-dev-";
const LOCK: &str = "process.lock";

/// A directory, and whether it is this process's own.
#[derive(Debug)]
pub(super) struct Scratch {
    path: PathBuf,
    /// Held as long as the directory is needed.
    lock: Option<File>,
}

impl Scratch {
    /// The state's directory, or a new one; those of processes that are gone are removed. An error
    /// names the directory.
    pub(super) fn new(state: Option<&Path>, name: &str) -> io::Result<Self> {
        match state {
            Some(state) => Ok(Self { path: state.to_owned(), lock: None }),
            None => Self::within(&std::env::temp_dir(), name),
        }
    }

    fn within(parent: &Path, name: &str) -> io::Result<Self> {
        remove_left(parent);
        let path = parent.join(format!("{PREFIX}{name}"));
        let lock = Self::locked(&path).map_err(|error| {
            io::Error::new(error.kind(), format!("{}: {error}", path.display()))
        })?;
        Ok(Self { path, lock: Some(lock) })
    }

    fn locked(path: &Path) -> io::Result<File> {
        fs::create_dir(path)?;
        // It has its name only when it is locked: nobody takes it for one that was left.
        let unnamed = path.join(format!("{LOCK}.new"));
        let lock = File::create(&unnamed)?;
        lock.lock()?;
        fs::rename(unnamed, path.join(LOCK))?;
        Ok(lock)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if self.lock.is_some() {
            // What is left is small, and of no use to anybody.
            drop(fs::remove_dir_all(&self.path));
        }
    }
}

/// Removes the directories of processes that are gone, as far as that can be done.
fn remove_left(parent: &Path) {
    let Ok(entries) = fs::read_dir(parent) else { return };
    let is_ours = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        name.starts_with(PREFIX)
    };
    for path in entries.flatten().map(|entry| entry.path()).filter(is_ours) {
        let lock = File::options().read(true).write(true).open(path.join(LOCK));
        if let Ok(lock) = lock
            && lock.try_lock().is_ok()
        {
            drop(fs::remove_dir_all(&path));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_process_has_left_is_removed_and_nothing_else() {
        let name = format!("changefold-scratch-{}", std::process::id());
        let parent = std::env::temp_dir().join(name);
        fs::create_dir_all(&parent).unwrap();
        let missing = Scratch::within(&parent.join("missing"), "one").unwrap_err();
        let path = parent.join("missing").join("changefold-dev-one");
        assert!(missing.to_string().starts_with(path.to_str().unwrap()), "{missing}");
        let runs = Scratch::within(&parent, "runs").unwrap();
        let killed = Scratch::within(&parent, "killed").unwrap();
        let left = killed.path().to_owned();
        // Its lock goes with the process, and the directory does not.
        let Scratch { lock, .. } = &killed;
        lock.as_ref().unwrap().unlock().unwrap();
        std::mem::forget(killed);
        let without_lock = parent.join("changefold-dev-older");
        fs::create_dir(&without_lock).unwrap();
        let next = Scratch::within(&parent, "next").unwrap();
        let there = [runs.path(), &left, &without_lock, next.path()].map(Path::exists);
        assert_eq!(there, [true, false, true, true]);
        drop((runs, next));
        assert_eq!(fs::read_dir(&parent).unwrap().count(), 1);
        fs::remove_dir_all(&parent).unwrap();
    }
}
