//! View definitions from `.sql` files.
//!
//! The function reads those bundled beside it, the desk those it is told to; both through
//! here, so that they see the same views in the same order.

use crate::{
    encoding,
    view::{
        definition::View,
        sql::{self, SqlError},
    },
};
use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// View definitions cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The file or directory cannot be read.
    #[error("{}: cannot be read", path.display())]
    Io {
        /// What was to be read.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A file is not in the SQL subset.
    #[error("{}: {error}", path.display())]
    Sql {
        /// The file.
        path: PathBuf,
        /// Line, column, and what would work.
        error: SqlError,
    },
    /// The directory has no definitions.
    #[error("{}: no .sql file in it", .0.display())]
    Empty(PathBuf),
}

/// Reads the definitions in a file, or in the `.sql` files of a directory in the order of
/// their names.
///
/// # Errors
/// The path cannot be read, a directory has no `.sql` file, or a statement is refused.
pub fn load(path: &Path) -> Result<Vec<View>, LoadError> {
    let mut views = Vec::new();
    for file in files(path)? {
        let parsed = sql::parse(&text(&file)?);
        views.extend(parsed.map_err(|error| LoadError::Sql { path: file, error })?);
    }
    Ok(views)
}

/// The files that a path means: itself, or the `.sql` files of a directory in the order of their
/// names.
///
/// # Errors
/// The path cannot be read, or a directory has no `.sql` file.
pub fn files(path: &Path) -> Result<Vec<PathBuf>, LoadError> {
    let unread = |source| LoadError::Io { path: path.to_owned(), source };
    if !fs::metadata(path).map_err(unread)?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(path).map_err(unread)? {
        let file = entry.map_err(unread)?.path();
        if file.extension().is_some_and(|extension| extension == "sql") {
            files.push(file);
        }
    }
    if files.is_empty() {
        return Err(LoadError::Empty(path.to_owned()));
    }
    files.sort();
    Ok(files)
}

/// The text of a file.
///
/// # Errors
/// It cannot be read, or is not UTF-8.
pub fn text(path: &Path) -> Result<String, LoadError> {
    encoding::read_to_string(path).map_err(|source| LoadError::Io { path: path.to_owned(), source })
}
