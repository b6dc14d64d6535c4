//! What is parked, by key and position: looking, and taking records out again.
//!
//! Keys are found through the striped holds, so that looking at what is parked does not read
//! the table. Whoever takes records out of a key holds its lease, a moment in its head row, and
//! every change is made under it. The last record and the hold go in one transaction, so a
//! record that queues meanwhile keeps the key open.

use super::{
    HEAD, Key, PARK_TTL, Park, ParkError,
    envelope::stream_name,
    holds::{Entry, Holds, State},
    rows::{self, Fate, PayloadError, RECORD, Row},
    space::SpaceError,
};
use crate::{
    record::Timestamp,
    store::{
        Item, StoreError, Tries, Trouble,
        rows::{Change, RowKey, number, number_of, text, text_of},
    },
};
use aws_sdk_dynamodb::types::AttributeValue;

/// A lease outlives its holder's deadline by so many milliseconds.
const LEASE_SLACK_MS: i64 = 10_000;

/// Rows of one page of a key.
const PAGE_ROWS: i32 = 50;

/// A key that has parked records.
#[derive(Debug, Clone)]
pub(crate) struct ParkedKey {
    pub(crate) key: Key,
    /// How many records are parked.
    pub(crate) parked: u64,
    /// The last finished record that is known, and the last that was begun.
    later: Option<String>,
    begun: Option<String>,
    /// From where on these two are known.
    known_from: Option<String>,
    is_open: bool,
}

/// A page of a key's parked records, without their payloads.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) rows: Vec<Result<Row, Unreadable>>,
    /// The place after which there are more.
    pub(crate) more_after: Option<String>,
}

/// A parked record's row is damaged, or of a later release. What comes after it must not run.
#[derive(Debug, thiserror::Error)]
#[error(
    "the row `{sort}` of the park cannot be read: update the function if a later release wrote it, \
     else repair the row or drop its key"
)]
pub(crate) struct Unreadable {
    sort: String,
}

impl ParkedKey {
    fn read(hash: String, item: &Item) -> Self {
        let of = |name| text_of(item, name).unwrap_or_default().to_owned();
        let key = Key { hash, readable: of("key_text"), source_arn: of("source_arn") };
        Self {
            key,
            parked: number_of(item, "parked").unwrap_or(0),
            later: text_of(item, "later").map(str::to_owned),
            begun: text_of(item, "begun").map(str::to_owned),
            known_from: text_of(item, "known_from").map(str::to_owned),
            is_open: item.get("is_open").and_then(|open| open.as_bool().ok()) == Some(&true),
        }
    }

    /// Whether it came from this table, stream or queue, by name or ARN. The ARN may be that of
    /// a table's stream.
    pub(crate) fn is_of(&self, source: &str) -> bool {
        let arn = self.key.source_arn.as_str();
        let of_stream = source.split_once("/stream/").map_or(source, |(table, _)| table);
        arn == of_stream || stream_name(arn) == Some(source)
    }

    /// Whether a later record of the key was processed: `yes`, `no`, or `unknown`.
    ///
    /// In a held key none is after one that failed in its turn. One that the mapping gave up may
    /// have been overtaken before it was parked, unless all that happened since is known.
    pub(crate) fn superseded(&self, row: &Row) -> &'static str {
        let is_after = |noted: &Option<String>| noted.as_ref().is_some_and(|it| *it > row.sort);
        let is_known = self.known_from.as_ref().is_some_and(|from| *from <= row.sort);
        match row.is_rescued() {
            false if self.is_open => "no",
            _ if is_after(&self.later) => "yes",
            true if self.is_open && is_known && !is_after(&self.begun) => "no",
            _ => "unknown",
        }
    }

    /// Whether a redrive runs a record unless it is told to run overtaken ones.
    pub(crate) fn runs_by_default(&self, row: &Row) -> bool {
        match self.superseded(row) {
            "no" => true,
            "yes" => false,
            _ => !row.is_rescued(),
        }
    }
}

impl Park {
    /// All keys that have parked records, in the order of their hashes.
    pub(crate) async fn parked_keys(
        &self,
        (now, deadline): (Timestamp, Timestamp),
    ) -> Result<Vec<ParkedKey>, SpaceError> {
        let holds = self.clone().holds_now("", (now, deadline)).await?;
        let mut hashes: Vec<&str> = holds.parked().map(|(hash, _)| hash).collect();
        hashes.sort_unstable();
        let mut keys: Vec<ParkedKey> = self
            .heads(&hashes, deadline)
            .await?
            .iter()
            .filter_map(|item| {
                let hash = text_of(item, "pk")?.strip_prefix("K#")?.to_owned();
                Some(ParkedKey::read(hash, item))
            })
            .collect();
        keys.sort_by(|a, b| a.key.hash.cmp(&b.key.hash));
        Ok(keys)
    }

    /// One page of the records of a key that are still parked, without their payloads, after a
    /// place or from the first on.
    pub(crate) async fn page(
        &self,
        key: &Key,
        after: Option<&str>,
        deadline: Timestamp,
    ) -> Result<Page, StoreError> {
        let pk = format!("K#{}", key.hash);
        let under = (self.table.as_str(), pk.as_str(), RECORD);
        let from = after.map(|sort| rows::key(&key.hash, sort));
        let read = (Some(&rows::WITHOUT_PAYLOAD), Some(PAGE_ROWS));
        let page = self.store.query(under, from, read, deadline).await?;
        let rows = page.items.into_iter().map(|item| {
            let sort = text_of(&item, "sk").unwrap_or_default().to_owned();
            Row::read(item).ok_or(Unreadable { sort })
        });
        let is_parked =
            |row: &Result<Row, _>| row.as_ref().map_or(true, |row| row.fate == Fate::Parked);
        let rows = rows.filter(is_parked).collect();
        let more_after = page.next.as_ref().and_then(|next| text_of(next, "sk"));
        Ok(Page { rows, more_after: more_after.map(str::to_owned) })
    }

    /// A parked record's whole row; none if it is not parked any more.
    pub(crate) async fn whole(
        &self,
        key: &Key,
        sort: &str,
        deadline: Timestamp,
    ) -> Result<Option<Row>, StoreError> {
        let place = RowKey { table: &self.table, key: rows::key(&key.hash, sort) };
        let found = self.store.read(&[place], deadline).await?.pop();
        Ok(found.and_then(|(_, item)| Row::read(item)).filter(|row| row.fate == Fate::Parked))
    }

    /// Marks a parked record as started once more by this version of the function, alone or
    /// beside others, and gives its whole row back; none if it is not parked any more.
    pub(crate) async fn start(
        &self,
        key: &Key,
        row: &Row,
        (version, is_alone): (&str, bool),
        deadline: Timestamp,
    ) -> Result<Option<Row>, StoreError> {
        let update = "SET starts = :starts, started_by = :version, started_alone = :alone";
        let change = Change::update(&self.table, rows::key(&key.hash, &row.sort), update)
            .only_if("#state = :parked")
            .name("#state", "state")
            .value(":parked", text(Fate::Parked.as_str()))
            .value(":starts", number(row.starts(version).count.saturating_add(1)))
            .value(":version", text(version))
            .value(":alone", AttributeValue::Bool(is_alone));
        match self.store.update(&change, deadline).await {
            Ok(item) => Ok(Row::read(item)),
            Err(error) if error.trouble == Trouble::Guard => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The text of a parked record, proved to be the one that was parked.
    pub(crate) async fn payload(
        &self,
        key: &Key,
        row: &Row,
        deadline: Timestamp,
    ) -> Result<String, PayloadError> {
        row.payload(&self.store, &self.table, key, deadline).await
    }

    /// Takes the lease of a key; false if somebody else has it.
    pub(crate) async fn lease(
        &self,
        key: &Key,
        owner: &str,
        (now, deadline): (Timestamp, Timestamp),
    ) -> Result<bool, StoreError> {
        let until = deadline.0.saturating_add(LEASE_SLACK_MS);
        let update = "SET lease_owner = :me, lease_until = :until";
        let change = Change::update(&self.table, rows::key(&key.hash, HEAD), update)
            .only_if(
                "attribute_exists(pk) AND (attribute_not_exists(lease_until) OR \
                 lease_until < :now OR lease_owner = :me)",
            )
            .value(":me", text(owner))
            .value(":until", number(until))
            .value(":now", number(now.0));
        match self.store.change(&change, deadline).await {
            Ok(()) => Ok(true),
            Err(error) if error.trouble == Trouble::Guard => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Gives the lease back. If that fails it runs out by itself.
    pub(crate) async fn release(&self, key: &Key, owner: &str, deadline: Timestamp) {
        let update = "REMOVE lease_owner, lease_until";
        let change = Change::update(&self.table, rows::key(&key.hash, HEAD), update)
            .only_if("lease_owner = :me")
            .value(":me", text(owner));
        drop(self.store.change(&change, deadline).await);
    }

    /// Takes a record out, and with the last one the hold; tells how many are left of the key,
    /// none if the lease is lost.
    pub(crate) async fn settle(
        &self,
        key: &Key,
        row: &Row,
        (fate, owner): (Fate, &str),
        (now, deadline): (Timestamp, Timestamp),
    ) -> Result<Option<u64>, ParkError> {
        let mut tries = Tries::new(deadline);
        loop {
            let Some(head) = self.heads(&[&key.hash], deadline).await?.pop() else {
                return Ok(None);
            };
            if text_of(&head, "lease_owner") != Some(owner) {
                return Ok(None);
            }
            let parked = number_of::<u64>(&head, "parked").unwrap_or(0);
            let is_last = parked == 1;
            let mut changes = vec![self.settled(key, row, fate, now)];
            if is_last {
                changes.extend(self.closing(key, owner, (now, deadline)).await?);
            } else {
                let is_newest =
                    text_of(&head, "later").is_none_or(|later| later < row.sort.as_str());
                let finished = (fate == Fate::Done && is_newest).then_some(row.sort.as_str());
                changes.push(self.one_less(key, owner, finished));
            }
            match self.store.change_all(changes, deadline).await {
                Ok(()) => {
                    drop(row.forget_parts(&self.store, &self.table, key, deadline).await);
                    return Ok(Some(parked.saturating_sub(1)));
                }
                Err(error) => match error.trouble {
                    Trouble::Guard | Trouble::Unknown => {}
                    Trouble::Conflict | Trouble::Throttled | Trouble::Rejected => {
                        return Err(error.into());
                    }
                },
            }
            if self.is_settled(key, row, deadline).await? {
                return Ok(Some(parked.saturating_sub(1)));
            }
            if !self.store.back_off(&mut tries).await {
                return Err(ParkError::Contended);
            }
        }
    }

    async fn is_settled(
        &self,
        key: &Key,
        row: &Row,
        deadline: Timestamp,
    ) -> Result<bool, StoreError> {
        let place = RowKey { table: &self.table, key: rows::key(&key.hash, &row.sort) };
        let found = self.store.read(&[place], deadline).await?.pop();
        Ok(found.and_then(|(_, item)| Row::read(item)).is_some_and(|row| row.fate != Fate::Parked))
    }

    /// The record's row becomes a receipt, without the payload.
    fn settled(&self, key: &Key, row: &Row, fate: Fate, now: Timestamp) -> Change {
        let update = "SET #state = :fate, settled_ms = :now, #ttl = :ttl REMOVE #record, \
                      parts, starts, started_by, started_alone";
        Change::update(&self.table, rows::key(&key.hash, &row.sort), update)
            .only_if("#state = :parked")
            .name("#state", "state")
            .name("#record", "record")
            .name("#ttl", PARK_TTL)
            .value(":fate", text(fate.as_str()))
            .value(":parked", text(Fate::Parked.as_str()))
            .value(":now", number(now.0))
            .value(":ttl", self.receipt_expiry(now))
    }

    /// The head counts one less, and takes note of the newest record that a redrive finished: an
    /// earlier one may still be rescued.
    fn one_less(&self, key: &Key, owner: &str, finished: Option<&str>) -> Change {
        let update = match finished {
            Some(_) => "SET later = :later ADD parked :less",
            None => "ADD parked :less",
        };
        let change = Change::update(&self.table, rows::key(&key.hash, HEAD), update)
            .only_if("lease_owner = :me AND parked > :one")
            .value(":less", number(-1))
            .value(":one", number(1))
            .value(":me", text(owner));
        match finished {
            Some(sort) => change.value(":later", text(sort)),
            None => change,
        }
    }

    /// The last record goes, and the hold with it.
    async fn closing(
        &self,
        key: &Key,
        owner: &str,
        (now, deadline): (Timestamp, Timestamp),
    ) -> Result<Vec<Change>, ParkError> {
        let update = "SET is_open = :shut, parked = :none, #ttl = :ttl REMOVE since_ms, later, \
                      begun, known_from";
        let head = Change::update(&self.table, rows::key(&key.hash, HEAD), update)
            .only_if("lease_owner = :me AND parked = :one")
            .name("#ttl", PARK_TTL)
            .value(":shut", AttributeValue::Bool(false))
            .value(":none", number(0))
            .value(":one", number(1))
            .value(":me", text(owner))
            .value(":ttl", self.receipt_expiry(now));
        let mut holds = Holds::default();
        self.read_stripe(&key.hash, &mut holds, deadline).await?;
        let from = holds.entry(&key.hash).map(|entry| entry.from.clone()).unwrap_or_default();
        let entry = Entry { state: State::Closed, from, changed_s: now.0 / 1_000 };
        let (mut changes, _) = holds.set(self.of(), &key.hash, entry, self.bounds(now))?;
        changes.push(head);
        Ok(changes)
    }

    /// Notes what came of a redrive of a record that stays: its envelope as it is now, and that
    /// its start did not end the process.
    pub(crate) async fn note_outcome(
        &self,
        key: &Key,
        row: &Row,
        deadline: Timestamp,
    ) -> Result<(), StoreError> {
        let envelope = serde_json::to_string(&row.envelope).expect("texts and numbers are JSON");
        let update = "SET envelope = :envelope, error_code = :code REMOVE starts, started_by, \
                      started_alone";
        let change = Change::update(&self.table, rows::key(&key.hash, &row.sort), update)
            .only_if("#state = :parked")
            .name("#state", "state")
            .value(":envelope", text(envelope))
            .value(":code", text(&row.envelope.error_code))
            .value(":parked", text(Fate::Parked.as_str()));
        match self.store.change(&change, deadline).await {
            Err(error) if error.trouble != Trouble::Guard => Err(error),
            _ => Ok(()),
        }
    }
}
