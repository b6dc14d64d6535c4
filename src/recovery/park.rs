//! Records set aside: with their payload, in key order, until somebody looks.
//!
//! A parked record counts as finished, so nothing here is said before it is confirmed. Under
//! [`OnPark::Hold`] the later records of its key queue behind it; what says so is the key's
//! *head* row and its entry among the striped holds (`holds.rs`), which change in one
//! transaction with the record's own row. Four rules keep order and lose nothing:
//! - a record is parked under the condition that it is not there yet: a row that exists, also
//!   of a record redriven or dropped long ago, is the receipt against late duplicates;
//! - queueing behind is conditional on the key still being open: else look again from the top;
//! - a key is closed only together with its last parked record, counted in the head;
//! - the record that failed belongs behind the hold as well, not only those after it.
//!
//! What it gives up: effects of a redrive are the processor's, so a redrive that dies between
//! the effect and its note makes the effect twice, as any delivery does.

pub mod envelope;
pub mod holds;
pub(crate) mod inventory;
pub(crate) mod later;
pub(crate) mod packed;
pub(crate) mod rows;
pub mod space;

use crate::{
    event::Record,
    hex::hex,
    record::Timestamp,
    store::{
        Item, Store, StoreError, Tries, Trouble,
        rows::{Change, RowKey, number, text},
    },
};
use aws_sdk_dynamodb::types::AttributeValue;
use envelope::Envelope;
use holds::{Bounds, Entry, Full, Holds, KEYS_MAX_DEFAULT, State};
use rows::{OwnParts, Parts, Written};
use sha2::{Digest, Sha256};
use space::{Cache, OldParks};
use std::cell::RefCell;

/// Names of the table's partition and sort key attributes.
pub const PARK_KEYS: [&str; 2] = ["pk", "sk"];

/// Name of the table's time-to-live attribute.
pub const PARK_TTL: &str = "ttl";

/// Sort key of a key's head row.
pub(crate) const HEAD: &str = "H";

/// Rows and bytes of one transaction, below DynamoDB's 100 and 4 MB.
const ROWS_MAX: usize = 90;
const BYTES_MAX: usize = 3_000_000;

/// What happens to the later records of a key that has a parked one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnPark {
    /// They queue behind it, so that the key stays in order.
    #[default]
    Hold,
    /// They are processed; the parked one is redriven out of order, or not at all.
    Skip,
}

/// Where records are set aside, and by what rule.
#[derive(Debug, Clone)]
pub struct Park {
    pub(crate) store: Store,
    pub(crate) table: String,
    pub(crate) policy: OnPark,
    /// How long the stream keeps records: receipts outlive that.
    retention_s: i64,
    /// The most keys that can have parked records.
    pub(crate) keys_max: u32,
    old_parks: OldParks,
    /// Whose rows are meant, and the name of the function in its envelopes.
    consumer: String,
    function: String,
    /// Whether it has the rows from before consumers were told apart.
    has_old: bool,
    cache: Cache,
}

/// A receipt outlives the stream's retention by so many seconds: a record that was just read
/// may be delivered once more after the stream has forgotten it.
const SLACK_S: i64 = 86_400;

/// What keeps records in order, as the park knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Key {
    /// Identity: of the source and the key.
    pub(crate) hash: String,
    /// For people.
    pub(crate) readable: String,
    /// The table or stream.
    pub(crate) source_arn: String,
}

/// A record that is to be parked.
#[derive(Debug)]
pub(crate) struct Pending {
    /// Which record of the batch it is.
    pub(crate) record: usize,
    pub(crate) sort: String,
    pub(crate) envelope: Envelope,
    /// Whether it failed itself, as opposed to queueing behind one that did.
    pub(crate) failed: bool,
    /// Whether it was not tried here, but given up by the mapping.
    pub(crate) is_rescued: bool,
}

/// What became of records that were to be parked.
#[derive(Debug, Default)]
pub(crate) struct Confirmed {
    pub(crate) parked: Vec<usize>,
    /// They were there already, from an earlier delivery.
    pub(crate) known: Vec<usize>,
    /// The key was closed meanwhile: these are to be processed after all.
    pub(crate) lifted: Vec<usize>,
}

/// A record could not be set aside, so it stays unfinished.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ParkError {
    /// The store did not confirm it.
    #[error("the record could not be parked")]
    Store(#[from] StoreError),
    /// Too many keys have parked records.
    #[error(
        "no more keys can be parked: redrive or drop what is parked, or correct what makes so \
         many records fail"
    )]
    Full,
    /// Others changed the key again and again meanwhile.
    #[error("the key's rows changed at every try")]
    Contended,
    /// Another version of the function parks keys by another order at the same time.
    #[error("keys were parked in another order meanwhile: redrive or drop them, or set it back")]
    OrderChanged,
}

impl ParkError {
    /// Stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Store(_) => "ParkStoreFailed",
            Self::Full => "ParkFull",
            Self::Contended => "ParkContended",
            Self::OrderChanged => "OrderChanged",
        }
    }
}

impl From<Full> for ParkError {
    fn from(_: Full) -> Self {
        Self::Full
    }
}

impl Key {
    /// A key by a text that tells it from the others of its source.
    pub(crate) fn new(source_arn: &str, canonical: &str, readable: String) -> Self {
        let mut hash = Sha256::new();
        hash.update(source_arn);
        hash.update([0]);
        hash.update(canonical);
        let hash = hex(&hash.finalize()[..16]);
        let readable = envelope::readable_key(readable);
        Self { hash, readable, source_arn: source_arn.to_owned() }
    }
}

/// Where a record stands among those of its key: text in their order.
pub(crate) fn sort_key(record: &Record<'_>) -> String {
    if let Some(number) = record.fifo_number() {
        // Several messages of a group may be sent in one millisecond. The letter is for those
        // that an earlier version parked by that moment: they begin with a digit, so what comes
        // later is still behind them.
        return format!("{}N{}", rows::RECORD, number.sortable());
    }
    if let Some(id) = record.message_id() {
        // A standard queue's messages have no order; that they were sent in is the best there is.
        let Timestamp(sent) = record.approximate_arrival().unwrap_or_default();
        return format!("{}{sent:016}#{id}", rows::RECORD);
    }
    let label = record.stream_label().unwrap_or_default();
    let position = record.sequence_number().sortable();
    format!("{}{label}#{position}#{:06}", rows::RECORD, record.ordinal())
}

impl Park {
    /// A park in this table. `retention_hours` is how long the stream keeps records.
    #[must_use]
    pub fn new(store: Store, table: String, on_park: OnPark, retention_hours: u32) -> Self {
        Self {
            store,
            table,
            policy: on_park,
            retention_s: i64::from(retention_hours) * 3_600,
            keys_max: KEYS_MAX_DEFAULT,
            old_parks: OldParks::default(),
            consumer: String::new(),
            function: String::new(),
            has_old: false,
            cache: Cache::default(),
        }
    }

    /// Chooses how many keys can have parked records, at least one. Functions that open keys
    /// at the same moment may together go a little beyond it.
    #[must_use]
    pub fn with_keys_max(self, keys_max: u32) -> Self {
        Self { keys_max: keys_max.max(1), ..self }
    }

    /// Chooses what becomes of records that were parked before consumers were told apart.
    #[must_use]
    pub fn with_old_parks(self, old_parks: OldParks) -> Self {
        Self { old_parks, ..self }
    }

    /// Makes the table, unless it is there already.
    ///
    /// # Errors
    /// The store refuses, or cannot be reached.
    pub async fn ensure_table(&self, deadline: Timestamp) -> Result<(), StoreError> {
        self.store.ensure_table(&self.table, &PARK_KEYS, Some(PARK_TTL), deadline).await
    }

    /// What is parked of these keys already, of the given positions.
    pub(crate) async fn known(
        &self,
        positions: &[(&Key, &str)],
        deadline: Timestamp,
    ) -> Result<Vec<bool>, StoreError> {
        let receipts = self.receipts(positions, deadline).await?;
        Ok(receipts.iter().map(Option::is_some).collect())
    }

    /// The rows of records that are, or were, parked at these positions.
    async fn receipts(
        &self,
        positions: &[(&Key, &str)],
        deadline: Timestamp,
    ) -> Result<Vec<Option<Item>>, StoreError> {
        let row = |(key, sort): &(&Key, &str)| RowKey {
            table: &self.table,
            key: rows::key(&key.hash, sort),
        };
        let keys: Vec<RowKey<'_>> = positions.iter().map(row).collect();
        let found = self.store.read(&keys, deadline).await?;
        let of_key = |key: &RowKey<'_>| {
            let is_it = |item: &Item| PARK_KEYS.iter().all(|it| item.get(*it) == key.key.get(*it));
            found.iter().find(|(_, item)| is_it(item)).map(|(_, item)| item.clone())
        };
        Ok(keys.iter().map(of_key).collect())
    }

    /// Sets records of one key aside, in their order, and confirms it, as far as it comes. `by`
    /// is the id of the invocation.
    pub(crate) async fn confirm(
        &self,
        key: &Key,
        pending: Vec<Pending>,
        holds: &RefCell<Holds>,
        (by, now, deadline): (&str, Timestamp, Timestamp),
    ) -> (Confirmed, Result<(), ParkError>) {
        let mut confirmed = Confirmed::default();
        let mut parts = OwnParts::new(rows::writer(by, now));
        let work = (&mut confirmed, &mut parts);
        let ended = self.confirm_with(key, pending, holds, (work, (now, deadline))).await;
        let unused = parts.names.iter().filter(|(sort, _)| !parts.unsure.contains(*sort));
        for (sort, name) in unused {
            let own = (key, sort.as_str(), name.as_str());
            drop(rows::delete_parts((&self.store, &self.table), own, deadline).await);
        }
        (confirmed, ended)
    }

    async fn confirm_with(
        &self,
        key: &Key,
        mut pending: Vec<Pending>,
        holds: &RefCell<Holds>,
        ((confirmed, own_parts), (now, deadline)): (
            (&mut Confirmed, &mut OwnParts),
            (Timestamp, Timestamp),
        ),
    ) -> Result<(), ParkError> {
        let mut tries = Tries::new(deadline);
        loop {
            let entry = holds.borrow().entry(&key.hash).cloned();
            let state = entry.as_ref().map(|entry| entry.state);
            let Some(next) = pending.first() else { return Ok(()) };
            // What is held stays held, also where the setting has changed meanwhile.
            let holds_later = self.policy == OnPark::Hold || state == Some(State::Open);
            if holds_later && state != Some(State::Open) && !next.failed {
                // Closed meanwhile, and nothing before it failed: all of them may run.
                confirmed.lifted.extend(pending.iter().map(|it| it.record));
                return Ok(());
            }
            let wanted = if holds_later { State::Open } else { State::Skipped };
            let known_from = later::known_from(entry.as_ref(), next);
            let standing =
                entry.filter(|entry| matches!(entry.state, State::Open | State::Skipped));
            let from = match standing.as_ref().map(|entry| &entry.from) {
                Some(from) if *from < next.sort => from.clone(),
                _ => next.sort.clone(),
            };
            let opens = standing
                .as_ref()
                .is_none_or(|entry| entry.state != wanted || (next.failed && from < entry.from));
            let (mut changes, parts) = self.fitting(key, &pending, (&own_parts.writer, now));
            let taken = changes.len();
            let mut written = None;
            if opens {
                let entry = Entry { state: wanted, from, changed_s: now.0 / 1_000 };
                let bounds = self.bounds(now);
                let (opening, stripe) = holds.borrow().set(self.of(), &key.hash, entry, bounds)?;
                changes.extend(opening);
                written = Some(stripe);
            }
            let opens = opens.then_some(known_from.as_str());
            changes.push(self.head(key, (taken, holds_later, opens), now));
            self.put_parts(parts, own_parts, deadline).await?;
            match self.store.change_all(changes, deadline).await {
                Ok(()) => {
                    if let Some(stripe) = written {
                        holds.borrow_mut().wrote(&key.hash, stripe);
                        self.keep_copy(&key.hash, &holds.borrow());
                    }
                    for it in pending.drain(..taken) {
                        own_parts.names.remove(&it.sort);
                        confirmed.parked.push(it.record);
                    }
                    continue;
                }
                Err(error) => match error.trouble {
                    Trouble::Guard => {}
                    Trouble::Unknown => {
                        let sorts = pending.iter().take(taken).map(|it| it.sort.clone());
                        own_parts.unsure.extend(sorts);
                    }
                    Trouble::Conflict | Trouble::Throttled | Trouble::Rejected => {
                        return Err(error.into());
                    }
                },
            }
            if !self.store.back_off(&mut tries).await {
                return Err(ParkError::Contended);
            }
            let looked = (&mut pending, &mut *confirmed, &mut *own_parts);
            self.look_again(key, looked, holds, deadline).await?;
        }
    }

    /// Writes the parts that are not written yet.
    async fn put_parts(
        &self,
        parts: Vec<(String, Parts)>,
        own_parts: &mut OwnParts,
        deadline: Timestamp,
    ) -> Result<(), StoreError> {
        for (sort, Parts { puts, name }) in parts {
            if own_parts.names.contains_key(&sort) {
                continue;
            }
            own_parts.names.insert(sort, name);
            // One after another: other keys are parked beside this one.
            for part in puts {
                self.store.change(&part, deadline).await?;
            }
        }
        Ok(())
    }

    /// Reads anew what a failed condition may have been about. The holds come last: what is
    /// known to be parked by then stands in them, unless it was taken out.
    async fn look_again(
        &self,
        key: &Key,
        (pending, confirmed, own_parts): (&mut Vec<Pending>, &mut Confirmed, &mut OwnParts),
        holds: &RefCell<Holds>,
        deadline: Timestamp,
    ) -> Result<(), ParkError> {
        let positions: Vec<(&Key, &str)> =
            pending.iter().map(|it| (key, it.sort.as_str())).collect();
        let known = self.receipts(&positions, deadline).await?;
        let mut read = holds.borrow().clone();
        self.read_stripe(&key.hash, &mut read, deadline).await?;
        holds.borrow_mut().copy(holds::stripe_of(&key.hash), &read);
        if holds.borrow().foreign_order().is_some() {
            return Err(ParkError::OrderChanged);
        }
        let mut known = known.into_iter();
        pending.retain(|it| {
            let row = known.next().flatten();
            if let Some(row) = &row {
                confirmed.known.push(it.record);
                own_parts.unsure.remove(&it.sort);
                // It was written by this park after all, only the answer was lost.
                if rows::name_of_parts(row) == own_parts.names.get(&it.sort).map(String::as_str) {
                    own_parts.names.remove(&it.sort);
                }
            }
            row.is_none()
        });
        Ok(())
    }

    /// As many of the first records as one transaction takes: their rows, and their parts by
    /// their place.
    fn fitting(
        &self,
        key: &Key,
        pending: &[Pending],
        written_by: (&str, Timestamp),
    ) -> (Vec<Change>, Vec<(String, Parts)>) {
        let (mut changes, mut all_parts, mut bytes) = (Vec::new(), Vec::new(), 0);
        for it in pending.iter().take(ROWS_MAX) {
            let Written { row, parts } = rows::written(&self.table, key, it, written_by);
            bytes += row.size();
            if bytes > BYTES_MAX && !changes.is_empty() {
                break;
            }
            changes.push(row);
            all_parts.extend(parts.map(|parts| (it.sort.clone(), parts)));
        }
        (changes, all_parts)
    }

    /// The key's head counts its parked records.
    fn head(
        &self,
        key: &Key,
        (parked, is_held, opens): (usize, bool, Option<&str>),
        Timestamp(now): Timestamp,
    ) -> Change {
        let head = rows::key(&key.hash, HEAD);
        let Some(known_from) = opens else {
            // The entry stays as it is, so it must still be there: a key is closed together
            // with its head.
            let change = Change::update(&self.table, head, "ADD parked :n")
                .value(":open", AttributeValue::Bool(is_held))
                .value(":n", number(parked));
            return if is_held {
                change.only_if("is_open = :open")
            } else {
                change.only_if("is_open = :open AND parked > :none").value(":none", number(0))
            };
        };
        Change::update(
            &self.table,
            head,
            "SET is_open = :open, key_text = :key, source_arn = :source, since_ms = \
             if_not_exists(since_ms, :now), known_from = if_not_exists(known_from, :known) \
             REMOVE #ttl ADD parked :n",
        )
        .name("#ttl", PARK_TTL)
        .value(":open", AttributeValue::Bool(is_held))
        .value(":key", text(&key.readable))
        .value(":source", text(&key.source_arn))
        .value(":now", number(now))
        .value(":known", text(known_from))
        .value(":n", number(parked))
    }

    /// Until when a receipt is kept, in seconds since the epoch.
    pub(crate) fn receipt_expiry(&self, Timestamp(now): Timestamp) -> AttributeValue {
        number(now / 1_000 + self.retention_s + SLACK_S)
    }

    /// What bounds the entries that are written at this moment.
    pub(crate) fn bounds(&self, Timestamp(now): Timestamp) -> Bounds {
        let closed_since_s = now / 1_000 - self.retention_s - SLACK_S;
        Bounds { keys: self.keys_max, closed_since_s }
    }

    /// Reads heads by their hashes; those not there are left out.
    pub(crate) async fn heads(
        &self,
        hashes: &[&str],
        deadline: Timestamp,
    ) -> Result<Vec<Item>, StoreError> {
        let row = |hash: &&str| RowKey { table: &self.table, key: rows::key(hash, HEAD) };
        let keys: Vec<RowKey<'_>> = hashes.iter().map(row).collect();
        let found = self.store.read(&keys, deadline).await?;
        Ok(found.into_iter().map(|(_, item)| item).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event;

    fn sort_of(id: &str, attributes: &str) -> String {
        let event = format!(
            r#"{{"Records":[{{"messageId":"{id}","body":"","eventSource":"aws:sqs",
            "attributes":{{{attributes}"SentTimestamp":"1545082649183"}}}}]}}"#
        );
        let batch = event::parse(event.as_bytes());
        sort_key(&batch.records().unwrap()[0])
    }

    #[test]
    fn a_fifo_message_is_sorted_by_its_number_behind_those_of_the_old_form() {
        let old = "R#9999999999999999#id";
        assert_eq!(sort_of("b", ""), "R#0001545082649183#b", "a standard queue has no numbers");
        let nine = sort_of("b", r#""SequenceNumber":"9","#);
        let ten = sort_of("a", r#""SequenceNumber":"10","#);
        assert!(old < nine.as_str() && nine < ten, "{nine} {ten}");
    }
}
