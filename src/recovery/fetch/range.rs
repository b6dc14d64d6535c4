//! The way through a range of a shard: from iterator to iterator, past what is trimmed.
//!
//! Separate because all judgement about what is lost is here, and none about how to ask. A
//! page counts only once it is given out: after an error the same page comes again. What it
//! gives up: in a gap it cannot see how many records there were, only how many of the
//! batch's it has not read.

use super::{DYNAMODB_RETENTION, FetchError, Lost, Streams, Why};
use crate::{
    record::{SequenceNumber, Timestamp},
    recovery::{
        notice::Notice,
        stream::{PAGE_RECORDS_MAX, Page, Position, Shard},
    },
};
use std::time::Duration;

/// Pages without a record are common in DynamoDB Streams; so many in a row, where the range
/// may be gone, are taken for its end.
const EMPTY_PAGES_MAX: u32 = 100;
/// Iterators that went stale one after another, without a page between them.
const RENEWALS_MAX: u32 = 10;
/// Between two pages without a record: a shard may be read five times a second.
const EMPTY_PAGE_PAUSE: Duration = Duration::from_millis(200);
/// Time kept back from the deadline, so that a reply still gets out.
pub(super) const RESERVE_MS: i64 = 2_000;
/// A range of a shard, read page by page; see [`Streams::range`].
#[derive(Debug)]
pub struct Range<'a> {
    shard: Shard<'a>,
    notice: &'a Notice,
    /// Where the next iterator begins.
    position: Position,
    iterator: Option<String>,
    read: u64,
    empty_pages: u32,
    renewals: u32,
    lost: Option<Lost>,
    is_done: bool,
}

impl<'a> Range<'a> {
    pub(super) fn new(streams: &'a Streams, notice: &'a Notice) -> Self {
        Self {
            shard: streams.shard(notice),
            notice,
            position: Position::At(notice.first.clone()),
            iterator: None,
            read: 0,
            empty_pages: 0,
            renewals: 0,
            lost: None,
            is_done: false,
        }
    }

    /// The next records, as Lambda delivers them; `None` at the end of the range. Expired
    /// iterators are renewed, throttling is waited for.
    ///
    /// # Errors
    /// The service refuses, or the deadline is near: nothing of this page is given out, and
    /// the next call goes on with it.
    pub async fn page(&mut self, deadline: Timestamp) -> Result<Option<Vec<String>>, FetchError> {
        while !self.is_done {
            let now = self.shard.services().clock().now();
            if now.0 > deadline.0.saturating_sub(RESERVE_MS) {
                return Err(FetchError::OutOfTime { place: self.shard.place() });
            }
            let Some(page) = self.raw_page(deadline).await? else { continue };
            let records = self.take(page)?;
            if !records.is_empty() {
                return Ok(Some(records));
            }
            if !self.is_done {
                self.shard.services().clock().sleep(EMPTY_PAGE_PAUSE).await;
            }
        }
        Ok(None)
    }

    /// How many records were read so far.
    #[must_use]
    pub fn read(&self) -> u64 {
        self.read
    }

    /// What the stream no longer has, as far as is known; all of it after the last page.
    #[must_use]
    pub fn lost(&self) -> Option<Lost> {
        let lost = self.lost.clone()?;
        Some(Lost { records: self.notice.batch_size.saturating_sub(self.read).max(1), ..lost })
    }

    /// One answer of the stream; `None` after a failure that only changes where to go on.
    async fn raw_page(&mut self, deadline: Timestamp) -> Result<Option<Page>, FetchError> {
        let answer = match self.iterator.take() {
            None => match self.shard.iterator(&self.position, deadline).await {
                Ok(iterator) => {
                    if iterator.is_none() {
                        self.finish();
                    }
                    self.iterator = iterator;
                    return Ok(None);
                }
                Err(error) => Err(error),
            },
            Some(iterator) => {
                // A range mostly is one batch; what a filter left out may make it longer.
                let limit = if self.read == 0 { self.notice.batch_size } else { PAGE_RECORDS_MAX };
                let page = self.shard.records(&iterator, limit, deadline).await;
                if page.is_err() {
                    self.iterator = Some(iterator);
                }
                page
            }
        };
        let error = match answer {
            Ok(page) => return Ok(Some(page)),
            Err(error) => error,
        };
        match (error.code.as_str(), &self.position) {
            ("TrimmedDataAccessException", Position::At(_) | Position::After(_)) => {
                self.skip_to_horizon(Why::Trimmed);
            }
            ("ExpiredIteratorException" | "TrimmedDataAccessException", _)
                if self.renewals < RENEWALS_MAX =>
            {
                self.renewals += 1;
                self.iterator = None;
            }
            ("InvalidArgumentException" | "ValidationException", Position::At(_))
                if self.iterator.is_none() =>
            {
                self.skip_to_horizon(Why::UnknownPosition);
            }
            ("ResourceNotFoundException", _) => {
                self.miss(Why::NoShard, None);
                self.finish();
            }
            _ => {
                return Err(FetchError::Call { place: self.shard.place(), source: error });
            }
        }
        Ok(None)
    }

    /// The position is not there: what comes after it may be.
    fn skip_to_horizon(&mut self, why: Why) {
        self.miss(why, None);
        self.iterator = None;
        self.position = Position::Horizon;
    }

    /// Notes that records are missing from the present position on; the first reason counts.
    fn miss(&mut self, why: Why, until: Option<SequenceNumber<'static>>) {
        let from = match &self.position {
            Position::At(number) | Position::After(number) => number.clone(),
            // A range begins at a number.
            Position::Horizon | Position::Latest | Position::Since(_) => self.notice.first.clone(),
        };
        self.lost.get_or_insert(Lost { records: 1, from, until, why });
    }

    /// Takes what belongs to the range out of a page, and sees where the range ends.
    fn take(&mut self, page: Page) -> Result<Vec<String>, FetchError> {
        let mut taken = Vec::with_capacity(page.records.len());
        let mut is_past = false;
        for (number, record) in &page.records {
            is_past |= *number > self.notice.last;
            if *number < self.notice.first {
                // Older records are there, so this position was never one of this shard.
                self.miss(Why::UnknownPosition, None);
                is_past = true;
            }
            if is_past {
                break;
            }
            let unreadable = |what| FetchError::Unreadable { place: self.shard.place(), what };
            taken.push((number, record.text(&self.shard, None).map_err(unreadable)?));
        }
        if let (Some((first, _)), Some((last, _))) = (taken.first(), taken.last()) {
            self.begin(first);
            self.position = Position::After((*last).clone());
        }
        self.read += taken.len() as u64;
        self.renewals = 0;
        self.empty_pages = if page.records.is_empty() { self.empty_pages + 1 } else { 0 };
        let is_dry = match self.empty_pages {
            0 => false,
            1..=EMPTY_PAGES_MAX => page.is_at_tip,
            _ => page.is_at_tip || !self.is_surely_kept(),
        };
        if is_past || is_dry || page.next.is_none() || self.is_at_last() {
            self.finish();
        }
        self.iterator = page.next;
        Ok(taken.into_iter().map(|(_, text)| text).collect())
    }

    /// There is nothing more to read; what has not been read by now is lost.
    fn finish(&mut self) {
        self.is_done = true;
        if !self.is_at_last() {
            self.miss(Why::Trimmed, None);
        }
    }

    fn is_at_last(&self) -> bool {
        matches!(&self.position, Position::After(number) if *number >= self.notice.last)
    }

    /// Whether the last record is too young to be trimmed, so that no number of empty pages
    /// proves it gone.
    fn is_surely_kept(&self) -> bool {
        let retention_ms = i64::try_from(DYNAMODB_RETENTION.as_millis()).unwrap_or(0);
        let now = self.shard.services().clock().now();
        let trimmed_at = |arrival: Timestamp| arrival.0.saturating_add(retention_ms);
        self.notice.last_arrival.is_some_and(|arrival| trimmed_at(arrival) > now.0)
    }

    /// The first record after a beginning or a gap: what lies before it is lost.
    fn begin(&mut self, number: &SequenceNumber<'static>) {
        match (&mut self.lost, &self.position) {
            (Some(lost), Position::Horizon) => {
                lost.until.get_or_insert_with(|| number.clone());
            }
            (None, Position::At(first)) if number > first => {
                self.miss(Why::Trimmed, Some(number.clone()));
            }
            _ => {}
        }
    }
}
