//! Which tables stream their changes into a data stream, as a fixture of it shows.
//!
//! Views of those tables read the fixture, beside views of the data stream itself. What it gives
//! up: a fixture whose first records carry no change is not looked at further.

use super::source::{Archive, FixtureError, Fixtures};
use crate::{event, record::Source};
use serde_json::json;
use std::{collections::BTreeSet, path::PathBuf};

/// So many records without a change say that there is none.
const LOOKS_MAX: u64 = 1_000;

/// The tables, by name.
///
/// # Errors
/// A file cannot be read, or is no fixture.
pub fn tables(fixtures: &Fixtures, paths: &[PathBuf]) -> Result<Vec<String>, FixtureError> {
    let mut tables = BTreeSet::new();
    let mut looks = 0;
    let mut archive = Archive::of(paths.to_vec());
    while fixtures.source() == Source::Kinesis && (looks < LOOKS_MAX || !tables.is_empty()) {
        let Some(archived) = archive.next_record()? else { break };
        let payload = json!({ "Records": [archived.record] }).to_string();
        let batch = event::parse(payload.as_bytes());
        looks += 1;
        for record in batch.records().unwrap_or_default() {
            let change = record.table_change().ok().flatten();
            tables.extend(change.and_then(|change| change.stream_name().map(str::to_owned)));
        }
    }
    Ok(tables.into_iter().collect())
}
