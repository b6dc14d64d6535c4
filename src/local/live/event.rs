//! What a service gives for a record, as the entry that a fixture would give for it.
//!
//! The record is written as Lambda writes it and then read like a line of a fixture, so a live
//! record and a recorded one cannot differ in what the mapping makes of them.

use super::{LiveError, Reading};
use crate::{
    local::{mapping::Entry, source::delivered},
    record::{SequenceNumber, Source, Timestamp},
    recovery::stream::{Page, Shard},
};

/// What a page brings.
#[derive(Debug, Default)]
pub(super) struct Read {
    pub(super) entries: Vec<Entry>,
    /// The last record that could be read, also one from before the moment.
    pub(super) last: Option<SequenceNumber<'static>>,
    /// Why what is behind it cannot be.
    pub(super) blocked: Option<LiveError>,
}

/// The entries of a page up to one that cannot be read, without those from before a moment where
/// DynamoDB has no iterator for one.
pub(super) fn entries(
    page: Page,
    shard: &Shard<'_>,
    reading: &Reading,
    since: Option<Timestamp>,
) -> Read {
    let mut read = Read::default();
    for (number, record) in page.records {
        match entry(&number, &record.text(shard, Some(&reading.invoked_as)), reading) {
            Ok(entry) if begins(&entry, since, reading.source) => read.entries.push(entry),
            Ok(_) => {}
            Err(what) => {
                let sequence_number = number.to_string();
                let place = shard.place();
                read.blocked = Some(LiveError::Unreadable { place, sequence_number, what });
                break;
            }
        }
        read.last = Some(number);
    }
    read
}

fn entry(
    number: &SequenceNumber<'static>,
    text: &Result<String, &'static str>,
    reading: &Reading,
) -> Result<Entry, String> {
    let text = text.as_ref().map_err(|what| (*what).to_owned())?;
    let mut entry = delivered(text.as_bytes()).map_err(|error| error.to_string())?;
    debug_assert_eq!(entry.sequence_number, *number, "the text names its record");
    entry.present_since =
        entry.arrival.map_or(0, |arrival| arrival.0.saturating_sub(reading.time_zero.0));
    Ok(entry)
}

/// DynamoDB knows arrivals in whole seconds only: one that may be too early is taken.
fn begins(entry: &Entry, since: Option<Timestamp>, source: Source) -> bool {
    match (since, source, entry.arrival) {
        (Some(since), Source::DynamoDb, Some(arrival)) => {
            arrival.0 >= since.0 - since.0.rem_euclid(1_000)
        }
        _ => true,
    }
}
