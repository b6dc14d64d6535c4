//! An export of a table, as DynamoDB writes it to S3 (`ExportTableToPointInTime`).
//!
//! A summary says of which table and moment it is, a second manifest names the data files with
//! the number of their items and their MD5, and a data file is gzipped text, an item a line. A
//! file is read to its end and compared with the manifest before the first of its items is given
//! to anybody: half an export would look like a table from which items were removed.
//!
//! Source: "DynamoDB table export output format" in the DynamoDB developer guide. That the MD5 is
//! the compressed file's follows from the guide's own example: its hash is the one in the `etag`.

mod manifest;

use super::place::{Kept, Place, PlaceError};
use crate::{operation::backfill::export::ExportMade, store::json::item_from_json};
use flate2::read::MultiGzDecoder;
use manifest::{DataFile, FILES, SUMMARY, Summary};
use md5::{Digest as _, Md5};
use serde::Deserialize;
use serde_json::Value;
use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read},
    path::Path,
};

/// The longest line, in bytes. An item has 400 KB at most; as JSON an empty list, two bytes,
/// becomes nine, and nothing grows more than that.
const LINE_BYTES_MAX: u64 = 4 << 20;
/// The folder of the data files.
const DATA: &str = "data";

/// An export whose manifests are read.
#[derive(Debug)]
pub struct Export {
    place: Place,
    made: ExportMade,
    files: Vec<DataFile>,
}

/// An export cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// A file of it cannot be had.
    #[error("the export cannot be read")]
    Place(#[from] PlaceError),
    /// It has no summary.
    #[error(
        "{place} has no {SUMMARY}: it is not the folder of an export (AWSDynamoDB/EXPORT_ID), or \
         the export is not COMPLETED; `aws dynamodb describe-export` says it"
    )]
    NotCompleted {
        /// Where it was looked for.
        place: String,
    },
    /// It is not of the kind that is read.
    #[error("{file}: {what}")]
    Unfit {
        /// The file that says it.
        file: String,
        /// What it is, and what helps.
        what: String,
    },
    /// A data file is not what the manifest says.
    #[error("{file}: {what}: copy it again, or export the table again")]
    Damaged {
        /// The file.
        file: String,
        /// What is wrong with it.
        what: String,
    },
}

impl Export {
    /// Reads the manifests, and looks whether every data file is there.
    ///
    /// # Errors
    /// It is not completed, is not a whole table's, has another format than DynamoDB's JSON, or
    /// its manifests do not agree with each other or with the files that are there.
    pub async fn open(place: Place) -> Result<Self, ExportError> {
        let summary = match place.file(SUMMARY).await {
            Err(error) if error.is_not_there() => {
                return Err(ExportError::NotCompleted { place: place.to_string() });
            }
            summary => text_of(&place, SUMMARY, &summary?)?,
        };
        let unfit = |file: &str| {
            let file = place.name_of(file);
            move |what| ExportError::Unfit { file, what }
        };
        let summary = Summary::read(&summary).map_err(unfit(SUMMARY))?;
        let files = place.file(FILES).await?;
        let files = text_of(&place, FILES, &files)?;
        let files = DataFile::read_all(&files, &summary).map_err(unfit(FILES))?;
        let there = place.list(DATA).await?;
        if let Some(missing) = files.iter().find(|file| there.binary_search(&file.name).is_err()) {
            let file = place.name_of(&format!("{DATA}/{}", missing.name));
            return Err(ExportError::Damaged { file, what: "is not there".to_owned() });
        }
        let count = u32::try_from(files.len()).unwrap_or(u32::MAX);
        Ok(Self { place, made: summary.made(count), files })
    }

    /// What the manifests say of it.
    #[must_use]
    pub fn made(&self) -> &ExportMade {
        &self.made
    }

    /// The files of each of so many segments. They are always the same.
    #[must_use]
    pub fn segments(&self, segments: u32) -> Vec<Vec<usize>> {
        let mut all = vec![Vec::new(); usize::try_from(segments.max(1)).unwrap_or(1)];
        let count = all.len();
        for file in 0..self.files.len() {
            all[file % count].push(file);
        }
        all
    }

    /// How many items a file has.
    #[must_use]
    pub fn items_of(&self, file: usize) -> u64 {
        self.files[file].items
    }

    /// A file as people know it.
    #[must_use]
    pub fn name_of(&self, file: usize) -> String {
        self.place.name_of(&format!("{DATA}/{}", self.files[file].name))
    }

    /// Compares a file with the manifest, and opens it.
    ///
    /// # Errors
    /// It cannot be had, or is damaged.
    pub async fn items(&self, file: usize) -> Result<Items, ExportError> {
        let DataFile { name, items, md5 } = self.files[file].clone();
        let kept = self.place.file(&format!("{DATA}/{name}")).await?;
        // A file may take minutes, and others wait for their answers meanwhile.
        let path = kept.path().to_owned();
        let checked =
            tokio::task::spawn_blocking(move || check(&path, items, md5.as_deref())).await;
        let damaged = |what| ExportError::Damaged { file: self.name_of(file), what };
        let checked = checked.map_err(|error| damaged(format!("was not checked: {error}")))?;
        checked.map_err(damaged)?;
        let opened = File::open(kept.path()).map_err(|source| {
            ExportError::from(PlaceError::Unread { name: self.name_of(file), source })
        })?;
        let lines = BufReader::new(MultiGzDecoder::new(BufReader::new(opened)));
        Ok(Items { name: self.name_of(file), lines, line: 0, text: Vec::new(), _kept: kept })
    }
}

/// The items of a data file, one after another.
#[derive(Debug)]
pub struct Items {
    name: String,
    lines: BufReader<MultiGzDecoder<BufReader<File>>>,
    line: u64,
    text: Vec<u8>,
    _kept: Kept,
}

/// A line of a data file.
#[derive(Deserialize)]
struct Line {
    #[serde(rename = "Item")]
    item: Value,
}

impl Items {
    /// The next item as DynamoDB's JSON, and the bytes that it takes; none at the end.
    ///
    /// # Errors
    /// The line has no item.
    pub fn next_item(&mut self) -> Result<Option<(Value, usize)>, ExportError> {
        if !self.next_line()? {
            return Ok(None);
        }
        let item = serde_json::from_slice::<Line>(&self.text).ok().map(|line| line.item);
        // Readable here is readable for the function, and named by its line.
        let item = item.filter(|item| item_from_json(item).is_some());
        let item = item.ok_or_else(|| self.damaged("is not an item in DynamoDB's JSON"))?;
        Ok(Some((item, self.text.len())))
    }

    /// Passes over an item; false at the end.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn skip_item(&mut self) -> Result<bool, ExportError> {
        self.next_line()
    }

    fn next_line(&mut self) -> Result<bool, ExportError> {
        let read = read_line(&mut self.lines, &mut self.text);
        self.line += u64::from(matches!(read, Ok(true)));
        read.map_err(|error| self.damaged(&error.to_string()))
    }

    fn damaged(&self, what: &str) -> ExportError {
        ExportError::Damaged { file: format!("{}:{}", self.name, self.line), what: what.to_owned() }
    }
}

/// Reads a line that is not empty; false at the end.
fn read_line(input: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<bool> {
    loop {
        line.clear();
        let read = input.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', line)?;
        if read == 0 {
            return Ok(false);
        }
        if line.last() != Some(&b'\n') && line.len() as u64 == LINE_BYTES_MAX {
            return Err(io::Error::other("a line has more than 4 MiB, which no item has"));
        }
        if !line.trim_ascii().is_empty() {
            return Ok(true);
        }
    }
}

/// Reads what it is asked for, and hashes it.
struct Hashed<'h, R>(R, &'h mut Md5);

impl<R: Read> Read for Hashed<'_, R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.0.read(into)?;
        self.1.update(&into[..read]);
        Ok(read)
    }
}

/// Compares a file with the manifest; what is wrong with it.
fn check(path: &Path, items: u64, md5: Option<&str>) -> Result<(), String> {
    let file = File::open(path).map_err(|error| error.to_string())?;
    let mut hash = Md5::new();
    let mut lines = BufReader::new(MultiGzDecoder::new(BufReader::new(Hashed(file, &mut hash))));
    let (mut found, mut line) = (0, Vec::new());
    while read_line(&mut lines, &mut line).map_err(|error| error.to_string())? {
        found += 1;
    }
    drop(lines);
    let hash = base64_simd::STANDARD.encode_to_string(hash.finalize());
    if let Some(md5) = md5.filter(|md5| *md5 != hash) {
        return Err(format!("its MD5 is {hash}, and the manifest says {md5}"));
    }
    if found != items {
        return Err(format!("it has {found} items, and the manifest says {items}"));
    }
    Ok(())
}

fn text_of(place: &Place, name: &str, kept: &Kept) -> Result<String, ExportError> {
    let read = std::fs::read_to_string(kept.path());
    read.map_err(|source| PlaceError::Unread { name: place.name_of(name), source }.into())
}
