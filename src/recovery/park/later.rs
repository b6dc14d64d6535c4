//! What is known of the later records of a key: which are begun, and which are finished.
//!
//! A record that the mapping gives up may be overtaken by later ones of its key, and whether it
//! was decides if it may still be run. So a key with an unfinished record is *watched*: an entry
//! among the holds says from which place on, and then the key's head row takes note of the
//! newest later record before it runs, and again when it is finished. Under
//! [`OnPark::Skip`](super::OnPark::Skip) the same note is taken for keys that have parked ones.
//!
//! What it gives up: a batch notes so many keys and a row of holds takes so many; what was not
//! watched, or no longer, is unknown. An invocation that read the holds before a zombie of an
//! earlier one wrote its watch takes no note.

use super::{
    HEAD, PARK_TTL, Park, Pending,
    holds::{Entry, Holds, State},
    rows,
};
use crate::{
    concurrent,
    record::Timestamp,
    store::{
        StoreError, Trouble,
        rows::{Change, text},
    },
};
use std::collections::BTreeMap;

/// A place behind all records: nothing is known of what happened before.
const NOWHERE: &str = "~";

/// From where on everything is known that happened to a key, once this record opens it. Whoever
/// fails in its turn has nothing later before it; one that was given up may have, unless the key
/// was watched.
pub(super) fn known_from(entry: Option<&Entry>, next: &Pending) -> String {
    let sort = &next.sort;
    match entry {
        Some(entry) if entry.state == State::Watched => (&entry.from).min(sort).clone(),
        Some(Entry { state: State::Open | State::Skipped, .. }) => NOWHERE.to_owned(),
        _ if next.is_rescued => NOWHERE.to_owned(),
        _ => sort.clone(),
    }
}

/// What is noted of a later record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Noted {
    /// It is about to run.
    Begun,
    /// It is finished.
    Finished,
}

/// Three writes, since a head may be made or opened in between.
const WRITES: [Write; 3] = [Write::There, Write::New, Write::There];

#[derive(Clone, Copy)]
enum Write {
    There,
    New,
}

impl Park {
    /// Takes note of the newest later records of keys, by the keys' hashes.
    ///
    /// # Errors
    /// The store did not confirm all of it.
    pub(crate) async fn note_later(
        &self,
        newest: &BTreeMap<String, String>,
        noted: Noted,
        times: (Timestamp, Timestamp),
    ) -> Result<(), StoreError> {
        let writes = newest.iter().map(|(hash, sort)| self.note(hash, sort, noted, times));
        concurrent::all_or_error(writes).await?;
        Ok(())
    }

    async fn note(
        &self,
        hash: &str,
        sort: &str,
        noted: Noted,
        (now, deadline): (Timestamp, Timestamp),
    ) -> Result<(), StoreError> {
        for write in WRITES {
            let update = match write {
                Write::There => "SET #noted = :sort",
                // The head of a key without parked records goes by itself.
                Write::New => "SET #noted = :sort, #ttl = :ttl",
            };
            let mut change = Change::update(&self.table, rows::key(hash, HEAD), update)
                .name("#noted", if noted == Noted::Begun { "begun" } else { "later" })
                .value(":sort", text(sort));
            change = match write {
                Write::There => change.only_if(
                    "attribute_exists(is_open) AND (attribute_not_exists(#noted) OR \
                     #noted < :sort)",
                ),
                Write::New => change
                    .only_if(
                        "attribute_not_exists(is_open) AND (attribute_not_exists(#noted) OR \
                         #noted < :sort)",
                    )
                    .name("#ttl", PARK_TTL)
                    .value(":ttl", self.receipt_expiry(now)),
            };
            match self.store.change(&change, deadline).await {
                Err(error) if error.trouble == Trouble::Guard => {}
                answer => return answer,
            }
        }
        // Something newer is noted already.
        Ok(())
    }

    /// Watches keys from a place on, or no more. That others changed the rows meanwhile is no
    /// failure: the key comes again, or is unknown.
    pub(crate) async fn watch(
        &self,
        holds: &Holds,
        keys: &BTreeMap<String, Option<String>>,
        (Timestamp(now), deadline): (Timestamp, Timestamp),
    ) -> Result<(), StoreError> {
        let now_s = now / 1_000;
        let changes = holds.watch(self.of(), keys, (now_s, now_s - self.retention_s));
        if changes.is_empty() {
            return Ok(());
        }
        match self.store.change_all(changes, deadline).await {
            Err(error) if !matches!(error.trouble, Trouble::Guard | Trouble::Conflict) => {
                Err(error)
            }
            _ => Ok(()),
        }
    }
}
