//! The developer's files, looked at now and then: which of them have changed.
//!
//! By their moment of change and their length, twice a second, as an editor that writes a file
//! anew, or another one in its place, is seen alike so. What it gives up: a change that has both as
//! before.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

const PAUSE: Duration = Duration::from_millis(500);
/// Files of a directory that are looked at.
const FILES_MAX: usize = 5_000;
/// Directories that no developer writes by hand.
const PASSED: [&str; 3] = ["node_modules", "target", "__pycache__"];

type Stamps = BTreeMap<PathBuf, (Option<SystemTime>, u64)>;

/// Files and directories.
#[derive(Debug)]
pub(super) struct Watched {
    paths: Vec<PathBuf>,
    seen: Stamps,
}

impl Watched {
    pub(super) fn new(paths: Vec<PathBuf>) -> Self {
        let seen = stamps(&paths);
        Self { paths, seen }
    }

    /// Waits until some have changed and none changes any more; their names.
    pub(super) async fn change(&mut self) -> String {
        loop {
            tokio::time::sleep(PAUSE).await;
            let mut now = stamps(&self.paths);
            if now == self.seen {
                continue;
            }
            loop {
                // Who is still writing is waited for.
                tokio::time::sleep(PAUSE / 2).await;
                let later = stamps(&self.paths);
                if later == now {
                    break;
                }
                now = later;
            }
            let names = differing(&self.seen, &now);
            self.seen = now;
            if !names.is_empty() {
                return names;
            }
        }
    }
}

/// The names of the files that differ, the first few.
fn differing(before: &Stamps, now: &Stamps) -> String {
    let all = now.iter().filter(|(path, stamp)| before.get(*path) != Some(stamp));
    let gone = before.keys().filter(|path| !now.contains_key(*path));
    let names: Vec<String> =
        all.map(|(path, _)| path).chain(gone).map(|path| path.display().to_string()).collect();
    match names.len() {
        0..=3 => names.join(", "),
        more => format!("{} and {} more", names[..2].join(", "), more - 2),
    }
}

fn stamps(paths: &[PathBuf]) -> Stamps {
    let mut stamps = Stamps::new();
    for path in paths {
        add(path, &mut stamps);
    }
    stamps
}

/// What cannot be read is as if it were not there; whoever needs it says so.
fn add(path: &Path, stamps: &mut Stamps) {
    let Ok(about) = fs::metadata(path) else { return };
    if !about.is_dir() {
        stamps.insert(path.to_owned(), (about.modified().ok(), about.len()));
        return;
    }
    let Ok(entries) = fs::read_dir(path) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if stamps.len() < FILES_MAX && !name.starts_with('.') && !PASSED.contains(&&*name) {
            add(&entry.path(), stamps);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Watched;
    use std::{fs, time::Duration};

    #[tokio::test]
    async fn a_file_that_is_written_made_or_removed_is_a_change() {
        let folder = std::env::temp_dir().join(format!("changefold-watch-{}", std::process::id()));
        fs::create_dir_all(folder.join("target")).unwrap();
        let (one, other) = (folder.join("one.sql"), folder.join("other.sql"));
        fs::write(&one, "a").unwrap();
        let mut watched = Watched::new(vec![folder.clone()]);
        for change in [
            (|one, _| fs::write(one, "ab").unwrap()) as fn(&_, &_),
            |_, other| fs::write(other, "a").unwrap(),
            |_, other| fs::remove_file(other).unwrap(),
        ] {
            let quiet = tokio::time::timeout(Duration::from_millis(1_100), watched.change());
            assert!(quiet.await.is_err(), "nothing has changed");
            fs::write(folder.join("target").join("built"), "x").unwrap();
            change(&one, &other);
            let names = tokio::time::timeout(Duration::from_secs(10), watched.change());
            assert!(names.await.unwrap().contains(".sql"));
        }
        fs::remove_dir_all(folder).unwrap();
    }
}
