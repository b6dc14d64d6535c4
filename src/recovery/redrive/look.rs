//! Looking at what is parked: the list, and whole records.
//!
//! Rows are read without their payloads, page by page; a show reads the payload of one record
//! at a time and ends its answer where Lambda would refuse it. What it gives up: how many
//! records queue behind a failed one is counted row by row, because DynamoDB bills a count the
//! same.

use super::{Operator, Runner, Wanted, cursor::Cursor};
use crate::{
    call::Halt,
    deadline::Deadline,
    operation::{
        ANSWER_BYTES_MAX, LIMIT_DEFAULT, Listed, Listing, Omitted, Selection, Shown, ShownRecord,
    },
    recovery::park::{
        envelope::{Envelope, HELD},
        inventory::ParkedKey,
        rows::{PayloadError, Row},
    },
};

/// Bytes of a listed record beside its texts: names of members, numbers, punctuation.
const LISTED_BYTES: usize = 256;

/// What an answer still has room for.
struct Room {
    records: usize,
    bytes: usize,
    bytes_max: usize,
}

impl Room {
    fn new(selection: &Selection) -> Self {
        let bytes_max = selection.bytes_max.unwrap_or(ANSWER_BYTES_MAX);
        let records = selection.limit.unwrap_or(LIMIT_DEFAULT);
        Self { records, bytes: bytes_max, bytes_max }
    }

    fn is_none(&self) -> bool {
        self.records == 0 || self.bytes == 0
    }

    fn take(&mut self, bytes: usize) {
        self.records = self.records.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}

impl<R: Runner> Operator<'_, R> {
    /// One line for each record that failed; those that only wait are counted.
    pub(super) async fn list(&self, selection: &Selection) -> Result<Listing, Halt> {
        let deadline = Deadline::new(self.clock, self.call);
        let (wanted, mut room) = (Wanted::of_selection(selection), Room::new(selection));
        let cursor = Cursor::read(selection.cursor.as_deref())?;
        let mut listing = Listing::default();
        for parked in self.keys(&wanted, &cursor).await? {
            let hash = &parked.key.hash;
            if room.is_none() || deadline.is_late() {
                listing.cursor = Some(hash.clone());
                break;
            }
            // The record that failed last, and the row that was read last.
            let mut last: Option<(Listed, bool)> = None;
            let mut read = cursor.after(hash).map(str::to_owned);
            let mut is_cut = false;
            let mut put = |last: &mut Option<(Listed, bool)>, room: &mut Room| {
                if let Some((listed, true)) = last.take() {
                    room.take(bytes_of(&listed));
                    listing.parked.push(listed);
                }
            };
            'key: loop {
                let page = self.page(&parked, read.as_deref()).await?;
                for row in page.rows.into_iter().flatten() {
                    match &mut last {
                        Some((last, _)) if row.envelope.error_code == HELD => last.held_behind += 1,
                        _ => {
                            put(&mut last, &mut room);
                            if room.is_none() {
                                is_cut = true;
                                break 'key;
                            }
                            last = Some((listed(&parked, &row), wanted.has_row(&row)));
                        }
                    }
                    read = Some(row.sort);
                }
                let is_last = page.more_after.is_none();
                read = page.more_after.or(read);
                if is_last {
                    break;
                }
                if deadline.is_late() {
                    is_cut = true;
                    break;
                }
            }
            put(&mut last, &mut room);
            if is_cut {
                listing.cursor = Self::cut(&parked, read.as_deref());
                break;
            }
        }
        Ok(listing)
    }

    /// The envelopes of parked records, as many as an answer takes.
    pub(super) async fn show(&self, selection: &Selection) -> Result<Shown, Halt> {
        let deadline = Deadline::new(self.clock, self.call);
        let (wanted, mut room) = (Wanted::of_selection(selection), Room::new(selection));
        let cursor = Cursor::read(selection.cursor.as_deref())?;
        let mut shown = Shown::default();
        for parked in self.keys(&wanted, &cursor).await? {
            let mut read = cursor.after(&parked.key.hash).map(str::to_owned);
            loop {
                if room.is_none() || deadline.is_late() {
                    shown.cursor = Self::cut(&parked, read.as_deref());
                    return Ok(shown);
                }
                let page = self.page(&parked, read.as_deref()).await?;
                for row in page.rows.into_iter().flatten() {
                    let sort = row.sort.clone();
                    if wanted.has_row(&row) {
                        let is_cut = room.is_none() || deadline.is_late();
                        let fits = if is_cut {
                            None
                        } else {
                            let record = self.shown(&parked, row, selection, &room).await?;
                            let Some(record) = record else {
                                read = Some(sort);
                                continue;
                            };
                            let bytes = bytes_of(&record);
                            let is_first = shown.parked.is_empty();
                            (bytes <= room.bytes || is_first).then_some((record, bytes))
                        };
                        let Some((record, bytes)) = fits else {
                            shown.cursor = Self::cut(&parked, read.as_deref());
                            return Ok(shown);
                        };
                        room.take(bytes);
                        shown.parked.push(record);
                    }
                    read = Some(sort);
                }
                let is_last = page.more_after.is_none();
                read = page.more_after.or(read);
                if is_last {
                    break;
                }
            }
        }
        Ok(shown)
    }

    /// One record as it is shown, smaller than a whole answer in any case; none if it was taken
    /// out since its row was read.
    async fn shown(
        &self,
        parked: &ParkedKey,
        row: Row,
        selection: &Selection,
        room: &Room,
    ) -> Result<Option<ShownRecord>, Halt> {
        let without = |envelope: Envelope, code: &str, message: String| ShownRecord {
            envelope: Envelope { record: String::new(), ..envelope },
            record_omitted: Some(Omitted { code: code.to_owned(), message }),
        };
        if selection.without_payload {
            let message = "the operation asked for no payloads".to_owned();
            return Ok(Some(without(row.envelope, "NotAskedFor", message)));
        }
        let whole = self.park.whole(&parked.key, &row.sort, self.call.deadline).await;
        let Some(whole) = whole.map_err(|error| self.unanswered(error))? else { return Ok(None) };
        let record = match self.park.payload(&parked.key, &whole, self.call.deadline).await {
            Ok(record) => record,
            Err(PayloadError::Store(error)) => return Err(self.unanswered(error)),
            Err(error @ PayloadError::Damaged { .. }) => {
                return Ok(Some(without(row.envelope, "PayloadDamaged", error.to_string())));
            }
        };
        let envelope = Envelope { record, ..row.envelope };
        let plain = ShownRecord { envelope, record_omitted: None };
        if bytes_of(&plain) <= room.bytes_max {
            return Ok(Some(plain));
        }
        let envelope = plain.envelope.compressed().into_owned();
        let compressed = ShownRecord { envelope, record_omitted: None };
        if bytes_of(&compressed) <= room.bytes_max {
            return Ok(Some(compressed));
        }
        let message = format!(
            "the record has {} bytes, more than an answer of {} takes even compressed: read it \
             from the park table with `parked show --endpoint-url`",
            plain.envelope.record.len(),
            room.bytes_max
        );
        Ok(Some(without(plain.envelope, "TooLargeForReply", message)))
    }

    /// The cursor of an answer that ends in a key, after this record of it.
    pub(super) fn cut(parked: &ParkedKey, after: Option<&str>) -> Option<String> {
        let hash = &parked.key.hash;
        let Some(after) = after else { return Some(hash.clone()) };
        // Hashes have one length, so what follows this one is the next.
        let mut cursor = Cursor::from_key(Some(format!("{hash}0")));
        cursor.go_on_in(hash, Some(after));
        cursor.text()
    }
}

fn listed(parked: &ParkedKey, row: &Row) -> Listed {
    Listed {
        key: parked.key.readable.clone(),
        source: parked.key.source_arn.clone(),
        sequence_number: row.envelope.sequence_number.clone(),
        error_code: row.envelope.error_code.clone(),
        attempts: row.envelope.attempts,
        held_behind: 0,
        parked_ms: row.parked_ms(),
        superseded: parked.superseded(row).to_owned(),
    }
}

/// Bytes of a record in an answer.
trait InAnswer {
    fn bytes(&self) -> usize;
}

impl InAnswer for Listed {
    fn bytes(&self) -> usize {
        // A control character is written as six.
        let texts = [&self.key, &self.source, &self.sequence_number, &self.error_code];
        texts.iter().map(|text| 6 * text.len()).sum::<usize>() + LISTED_BYTES
    }
}

impl InAnswer for ShownRecord {
    fn bytes(&self) -> usize {
        serde_json::to_vec(self).map_or(usize::MAX, |text| text.len() + 1)
    }
}

fn bytes_of(record: &impl InAnswer) -> usize {
    record.bytes()
}
