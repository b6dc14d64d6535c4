//! What is parked, by key and position: looking, and taking records out again.
//!
//! Keys are found through the striped holds, so that looking at what is parked does not read
//! the table. Whoever takes records out of a key holds its lease, a moment in its head row, and
//! every change is made under it. The last record and the hold go in one transaction, so a
//! record that queues meanwhile keeps the key open.

use super::{
    HEAD, Key, PARK_TTL, Park, ParkError,
    holds::{Entry, Holds, State},
    rows::{self, Fate, PayloadError, RECORD, Row},
    space::SpaceError,
};
use crate::{
    record::Timestamp,
    store::{
        Item, StoreError, Tries, Trouble,
        rows::{Change, number, number_of, text, text_of},
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

/// A page of a key's parked records.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) rows: Vec<Row>,
    pub(crate) next: Option<Item>,
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

    /// One page of the records of a key that are still parked.
    pub(crate) async fn page(
        &self,
        key: &Key,
        from: Option<Item>,
        deadline: Timestamp,
    ) -> Result<Page, StoreError> {
        let pk = format!("K#{}", key.hash);
        let under = (self.table.as_str(), pk.as_str(), RECORD);
        let page = self.store.query(under, from, Some(PAGE_ROWS), deadline).await?;
        let rows = page.items.into_iter().filter_map(Row::read);
        let rows = rows.filter(|row| row.fate == Fate::Parked).collect();
        Ok(Page { rows, next: page.next })
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

    /// Takes a record out, and with the last one the hold; true while the lease is held.
    pub(crate) async fn settle(
        &self,
        key: &Key,
        row: &Row,
        (fate, owner): (Fate, &str),
        (now, deadline): (Timestamp, Timestamp),
    ) -> Result<bool, ParkError> {
        let mut tries = Tries::new(deadline);
        loop {
            let Some(head) = self.heads(&[&key.hash], deadline).await?.pop() else {
                return Ok(false);
            };
            if text_of(&head, "lease_owner") != Some(owner) {
                return Ok(false);
            }
            let is_last = number_of::<u64>(&head, "parked") == Some(1);
            let mut changes = vec![self.settled(key, row, fate, now)];
            if is_last {
                changes.extend(self.closing(key, owner, (now, deadline)).await?);
            } else {
                changes.push(self.one_less(key, owner));
            }
            match self.store.change_all(changes, deadline).await {
                Ok(()) => {
                    drop(row.forget_parts(&self.store, &self.table, key, deadline).await);
                    return Ok(true);
                }
                Err(error) => match error.trouble {
                    Trouble::Guard | Trouble::Unknown => {}
                    Trouble::Conflict | Trouble::Throttled | Trouble::Rejected => {
                        return Err(error.into());
                    }
                },
            }
            if self.is_settled(key, row, deadline).await? {
                return Ok(true);
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
        let place =
            crate::store::rows::RowKey { table: &self.table, key: rows::key(&key.hash, &row.sort) };
        let found = self.store.read(&[place], deadline).await?.pop();
        Ok(found.and_then(|(_, item)| Row::read(item)).is_some_and(|row| row.fate != Fate::Parked))
    }

    /// The record's row becomes a receipt, without the payload.
    fn settled(&self, key: &Key, row: &Row, fate: Fate, now: Timestamp) -> Change {
        let update = "SET #state = :fate, settled_ms = :now, #ttl = :ttl REMOVE #record, parts";
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

    fn one_less(&self, key: &Key, owner: &str) -> Change {
        Change::update(&self.table, rows::key(&key.hash, HEAD), "ADD parked :less")
            .only_if("lease_owner = :me AND parked > :one")
            .value(":less", number(-1))
            .value(":one", number(1))
            .value(":me", text(owner))
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

    /// Notes that a redrive of a record failed.
    pub(crate) async fn note_failed(
        &self,
        key: &Key,
        row: &Row,
        deadline: Timestamp,
    ) -> Result<(), StoreError> {
        let envelope = serde_json::to_string(&row.envelope).expect("texts and numbers are JSON");
        let update = "SET envelope = :envelope, error_code = :code";
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
