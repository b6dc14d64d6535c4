//! What tells records apart that were unpacked from one.
//!
//! Under enhanced fan-out Lambda unpacks what a producer aggregated, and its records come with
//! one sequence number. Nobody could observe whether AWS cuts a batch within an aggregate, so
//! nothing here depends on where it cuts: a record goes by its content, and at either end of a
//! batch it must be reckoned with others of the same content beyond the cut.
//!
//! What it gives up: such a record may be processed or parked again at the next delivery, and
//! parked records of one aggregate that came in several batches are redriven in any order.

use super::Session;
use crate::{event::Record, hex::hex, recovery::park::sort_key};
use sha2::{Digest as _, Sha256};

impl Session<'_> {
    /// Whether records that nothing tells apart from this one may have come, or be about to
    /// come, in another batch: what a producer packed into one record of the stream may be cut
    /// at either end of a batch.
    pub(super) fn may_have_twins_elsewhere(&self, at: usize) -> bool {
        let record = &self.records[at];
        let is_at_end = |end: Option<&Record<'_>>| end.is_some_and(|end| record.shares_unit(end));
        record.may_be_unpacked()
            && (is_at_end(self.records.first()) || is_at_end(self.records.last()))
    }

    /// Where a record stands among those of its key, and what it is known by once it is parked.
    /// The place among records unpacked from one depends on where AWS cut, so their content
    /// belongs to it; and where others with the same content may be beyond the cut, what tells
    /// a batch from the next, so that none of them is taken for parked because another is.
    pub(in crate::recovery) fn sort(&self, at: usize) -> String {
        let record = &self.records[at];
        let sort = sort_key(record);
        let Some(data) = record.data_text().filter(|_| record.may_be_unpacked()) else {
            return sort;
        };
        let mut hash = Sha256::new();
        hash.update(data);
        hash.update([0]);
        hash.update(record.keys().map_or_else(|_| String::new(), |key| key.canonical()));
        let mut sort = format!("{sort}#{}", hex(&hash.finalize()[..8]));
        if self.may_have_twins_elsewhere(at) {
            let batch = Sha256::digest(&self.call.request_id);
            sort = format!("{sort}#{}", hex(&batch[..4]));
        }
        sort
    }

    /// Whether a record comes after the first that is parked of its key. Records unpacked from
    /// one, of which a cut may have hidden some, all do.
    pub(super) fn is_behind(&self, at: usize, sort: &str, from: &str) -> bool {
        let neighbours = sort_key(&self.records[at]);
        let place = neighbours.rsplit_once('#').map_or("", |(place, _)| place);
        sort >= from || self.may_have_twins_elsewhere(at) && from.starts_with(place)
    }
}
