//! Where files of an export or an archive are: a directory, or a prefix of a bucket in S3.
//!
//! What is read twice, or is larger than memory, is a file here either way: an object is copied
//! to the system's directory for temporary files first, and the copy is deleted when it was read.
//! What it gives up: a program that is killed leaves its copies there.

#[cfg(feature = "destinations")]
use crate::{
    record::Timestamp,
    recovery::objects::{ObjectError, Objects, Sink},
};
use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
};
#[cfg(feature = "destinations")]
use std::{
    fs::File,
    io::{Seek as _, Write},
    sync::atomic::{AtomicU64, Ordering},
};

/// A directory, or a prefix of a bucket.
#[derive(Debug, Clone)]
pub enum Place {
    /// A directory.
    Directory(PathBuf),
    /// What begins with a prefix in a bucket.
    #[cfg(feature = "destinations")]
    Bucket {
        /// How to reach it.
        objects: Box<Objects>,
        /// The bucket.
        bucket: String,
        /// The prefix, which ends in `/` unless it is empty.
        prefix: String,
    },
}

/// A file of a place cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// A file or directory cannot be read.
    #[error("{name} cannot be read")]
    Unread {
        /// The file.
        name: String,
        /// Why not.
        source: io::Error,
    },
    /// An object cannot be had.
    #[cfg(feature = "destinations")]
    #[error(transparent)]
    Object(#[from] ObjectError),
}

impl PlaceError {
    /// Whether there is no such file.
    #[must_use]
    pub fn is_not_there(&self) -> bool {
        match self {
            Self::Unread { source, .. } => source.kind() == io::ErrorKind::NotFound,
            #[cfg(feature = "destinations")]
            Self::Object(error) => error.is_not_there(),
        }
    }
}

/// A file that can be read, and again.
#[derive(Debug)]
pub struct Kept {
    path: PathBuf,
    is_copy: bool,
}

impl Kept {
    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        if self.is_copy {
            drop(fs::remove_file(&self.path));
        }
    }
}

/// How much time a bucket has to answer: none is said, since nobody waits but a person.
#[cfg(feature = "destinations")]
const NO_DEADLINE: Timestamp = Timestamp(i64::MAX);

impl Place {
    /// A file as people know it.
    #[must_use]
    pub fn name_of(&self, file: &str) -> String {
        match self {
            Self::Directory(path) => path.join(file).display().to_string(),
            #[cfg(feature = "destinations")]
            Self::Bucket { bucket, prefix, .. } => format!("s3://{bucket}/{prefix}{file}"),
        }
    }

    /// The names of the files in a folder, in their order; those in folders of it are not among
    /// them.
    ///
    /// # Errors
    /// The folder cannot be listed.
    pub async fn list(&self, folder: &str) -> Result<Vec<String>, PlaceError> {
        match self {
            Self::Directory(path) => {
                let path = if folder.is_empty() { path.clone() } else { path.join(folder) };
                let name = path.display().to_string();
                files_in(&path).map_err(|source| PlaceError::Unread { name, source })
            }
            #[cfg(feature = "destinations")]
            Self::Bucket { objects, bucket, prefix } => {
                let folder = if folder.is_empty() { String::new() } else { format!("{folder}/") };
                let under = format!("{prefix}{folder}");
                let found = objects.list(bucket, &under, NO_DEADLINE).await;
                let found = found.map_err(ObjectError::from)?;
                let names = found.into_iter().filter_map(|(key, _)| {
                    let name = key.strip_prefix(&under)?;
                    (!name.is_empty() && !name.contains('/')).then(|| name.to_owned())
                });
                Ok(names.collect())
            }
        }
    }

    /// The names of all files, those in folders among them, in their order.
    ///
    /// # Errors
    /// It cannot be listed.
    pub async fn list_all(&self) -> Result<Vec<String>, PlaceError> {
        match self {
            Self::Directory(path) => {
                let mut names = Vec::new();
                let found = files_under(path, "", &mut names);
                let name = path.display().to_string();
                found.map_err(|source| PlaceError::Unread { name, source })?;
                names.sort_unstable();
                Ok(names)
            }
            #[cfg(feature = "destinations")]
            Self::Bucket { objects, bucket, prefix } => {
                let found = objects.list(bucket, prefix, NO_DEADLINE).await;
                let found = found.map_err(ObjectError::from)?.into_iter();
                let names = found
                    .filter_map(|(key, _)| key.strip_prefix(prefix.as_str()).map(str::to_owned));
                // A folder that the console makes is an object whose name ends so.
                Ok(names.filter(|name| !name.is_empty() && !name.ends_with('/')).collect())
            }
        }
    }

    /// A file that can be read, and again.
    ///
    /// # Errors
    /// It is not there, or cannot be read.
    #[cfg_attr(not(feature = "destinations"), expect(clippy::unused_async, reason = "no bucket"))]
    pub async fn file(&self, file: &str) -> Result<Kept, PlaceError> {
        match self {
            Self::Directory(path) => {
                let path = path.join(file);
                let unread =
                    |source| PlaceError::Unread { name: path.display().to_string(), source };
                fs::metadata(&path).map_err(unread)?;
                Ok(Kept { path, is_copy: false })
            }
            #[cfg(feature = "destinations")]
            Self::Bucket { objects, bucket, prefix } => {
                let kept = copy_of(file).map_err(|source| {
                    let name = std::env::temp_dir().display().to_string();
                    PlaceError::Unread { name, source }
                });
                let (kept, mut copy) = kept?;
                let key = format!("{prefix}{file}");
                objects.save((bucket, &key), &mut copy, NO_DEADLINE).await?;
                Ok(kept)
            }
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name_of("").trim_end_matches('/'))
    }
}

fn files_in(path: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if fs::metadata(entry.path()).is_ok_and(|it| it.is_file())
            && let Ok(name) = entry.file_name().into_string()
        {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}

fn files_under(path: &Path, folder: &str, names: &mut Vec<String>) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        let name = format!("{folder}{name}");
        let path = entry.path();
        match fs::metadata(&path)? {
            it if it.is_dir() => files_under(&path, &format!("{name}/"), names)?,
            it if it.is_file() => names.push(name),
            _ => {}
        }
    }
    Ok(())
}

/// A new file for a copy; its name ends as the original's does.
#[cfg(feature = "destinations")]
fn copy_of(file: &str) -> io::Result<(Kept, Copy)> {
    static COPIES: AtomicU64 = AtomicU64::new(0);
    let number = COPIES.fetch_add(1, Ordering::Relaxed);
    let last = file.rsplit('/').next().unwrap_or(file);
    let name = format!("changefold-{}-{number}-{last}", std::process::id());
    let path = std::env::temp_dir().join(name);
    let copy = File::options().write(true).create_new(true).open(&path)?;
    Ok((Kept { path, is_copy: true }, Copy(copy)))
}

#[cfg(feature = "destinations")]
struct Copy(File);

#[cfg(feature = "destinations")]
impl Write for Copy {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(feature = "destinations")]
impl Sink for Copy {
    fn clear(&mut self) -> io::Result<()> {
        self.0.set_len(0)?;
        self.0.rewind()
    }
}
