//! The row of one segment: where its scan stands, what became of its items, who works on it.
//!
//! One call at a time has it, by a lease that ends a while after the call's deadline. Nothing
//! that is exact rests on the lease: two calls on one segment bring the same items in, and each
//! comes in once. It saves their price, and keeps the cursor from going back: a call whose
//! lease was taken over cannot write it.

use crate::{
    operation::backfill::{Counts, NotDone},
    record::Timestamp,
    store::{
        Item, Store, StoreError, Trouble,
        json::{item_from_json, item_to_json},
        rows::{Change, RowKey, number, number_of, text, text_of},
    },
    view::{building, ledger::LEDGER_TTL, source_item::LEDGER_KEY},
};
use aws_sdk_dynamodb::types::AttributeValue;
use serde::de::DeserializeOwned;

/// A lease outlasts its call's deadline by so much: an answer may be under way.
const LEASE_SLACK_MS: i64 = 30_000;
/// How long the row is kept after the last call, in seconds. Without it a segment is read again,
/// which costs its price and changes nothing.
const KEPT_S: i64 = 90 * 86_400;
/// Of the items that cannot be brought in so many are kept; all are counted.
const NOT_DONE_MAX: usize = 20;
/// More characters of a text are not kept.
const CHARS_MAX: usize = 300;

/// Attribute of the cursor of a segment of an export.
const POSITION: &str = "position";

/// The cursor behind so many items of a segment of an export.
pub(super) fn cursor_at(position: u64) -> Item {
    Item::from([(POSITION.to_owned(), number(position))])
}

/// A segment of a run.
#[derive(Debug, Clone, Default)]
pub(super) struct Segment {
    key: String,
    pub(super) number: u32,
    revision: u64,
    /// Behind which key its scan goes on, or behind how many items of an export; `None` at the
    /// beginning.
    pub(super) cursor: Option<Item>,
    pub(super) is_done: bool,
    pub(super) counts: Counts,
    pub(super) not_done: Vec<NotDone>,
    /// Who had the lease when the row was read, and until when.
    owner: Option<String>,
    lease_until_ms: i64,
    /// Who has it now, if it is this call.
    mine: Option<String>,
}

impl Segment {
    /// Reads all segments of a run; one without a row was not begun.
    ///
    /// # Errors
    /// The store does not answer.
    pub(super) async fn all(
        (store, table): (&Store, &str),
        (source, run): (&str, &str),
        segments: u32,
        deadline: Timestamp,
    ) -> Result<Vec<Self>, StoreError> {
        let mut all: Vec<Self> = (0..segments)
            .map(|number| {
                let key = building::segment_key(source, run, number);
                Self { key, number, ..Self::default() }
            })
            .collect();
        let rows: Vec<_> = all
            .iter()
            .map(|segment| RowKey {
                table,
                key: Item::from([(LEDGER_KEY.to_owned(), text(&segment.key))]),
            })
            .collect();
        for (_, row) in store.read(&rows, deadline).await? {
            let number = number_of::<u32>(&row, "segment");
            let place = number.and_then(|number| all.get_mut(usize::try_from(number).ok()?));
            if let Some(segment) = place {
                segment.take_from(&row);
            }
        }
        Ok(all)
    }

    /// What cannot be read counts as not there: the segment is read again from there.
    fn take_from(&mut self, row: &Item) {
        self.revision = number_of(row, "rev").unwrap_or_default();
        self.cursor = json(row, "cursor").as_ref().and_then(item_from_json);
        self.is_done = row.get("done").and_then(|it| it.as_bool().ok()).copied().unwrap_or(false);
        self.owner = text_of(row, "lease_owner").map(str::to_owned);
        self.lease_until_ms = number_of(row, "lease_until").unwrap_or_default();
        self.counts = json(row, "counts").unwrap_or_default();
        self.not_done = json(row, "not_done").unwrap_or_default();
    }

    /// How many items of an export are in.
    pub(super) fn position(&self) -> u64 {
        let cursor = self.cursor.as_ref();
        cursor.and_then(|cursor| number_of(cursor, POSITION)).unwrap_or(0)
    }

    /// Whether it could be worked on.
    pub(super) fn is_free(&self, Timestamp(now): Timestamp) -> bool {
        !self.is_done && (self.owner.is_none() || self.lease_until_ms < now)
    }

    /// Takes the lease; false if somebody else was first.
    ///
    /// # Errors
    /// The store does not answer.
    pub(super) async fn lease(
        &mut self,
        (store, table): (&Store, &str),
        owner: &str,
        deadline: Timestamp,
    ) -> Result<bool, StoreError> {
        self.mine = Some(owner.to_owned());
        self.lease_until_ms = deadline.0.saturating_add(LEASE_SLACK_MS);
        let change = Change::put(table, self.row(store.clock().now()))
            .only_if("attribute_not_exists(pk) OR rev = :rev OR lease_owner = :me")
            .value(":rev", number(self.revision))
            .value(":me", text(owner));
        let leased = lost_if_guarded(store.change(&change, deadline).await)?;
        self.revision += u64::from(leased);
        self.mine = self.mine.take().filter(|_| leased);
        Ok(leased)
    }

    /// Writes where it stands; false if the lease is lost.
    ///
    /// # Errors
    /// The store does not answer.
    pub(super) async fn save(
        &mut self,
        (store, table): (&Store, &str),
        deadline: Timestamp,
    ) -> Result<bool, StoreError> {
        let Some(owner) = self.mine.clone() else { return Ok(false) };
        let change = Change::put(table, self.row(store.clock().now()))
            .only_if("lease_owner = :me")
            .value(":me", text(owner));
        let saved = lost_if_guarded(store.change(&change, deadline).await)?;
        self.revision += u64::from(saved);
        Ok(saved)
    }

    /// Writes where it stands, and gives the lease back. If that fails it ends by itself.
    pub(super) async fn release(&mut self, (store, table): (&Store, &str), deadline: Timestamp) {
        let Some(owner) = self.mine.take() else { return };
        let change = Change::put(table, self.row(store.clock().now()))
            .only_if("lease_owner = :me")
            .value(":me", text(owner));
        drop(store.change(&change, deadline).await);
    }

    /// Takes note of items that cannot be brought in.
    pub(super) fn note(&mut self, not_done: &[NotDone]) {
        let cut = |text: &str| text.chars().take(CHARS_MAX).collect::<String>();
        let room = NOT_DONE_MAX.saturating_sub(self.not_done.len());
        self.not_done.extend(not_done.iter().take(room).map(|it| NotDone {
            key: cut(&it.key),
            code: cut(&it.code),
            reason: cut(&it.reason),
        }));
    }

    fn row(&self, Timestamp(now): Timestamp) -> Item {
        let json =
            |value: serde_json::Result<String>| text(value.expect("texts and numbers are JSON"));
        let mut row = Item::from([
            (LEDGER_KEY.to_owned(), text(&self.key)),
            ("segment".to_owned(), number(self.number)),
            ("rev".to_owned(), number(self.revision + 1)),
            ("done".to_owned(), AttributeValue::Bool(self.is_done)),
            ("counts".to_owned(), json(serde_json::to_string(&self.counts))),
            ("not_done".to_owned(), json(serde_json::to_string(&self.not_done))),
            (LEDGER_TTL.to_owned(), number(now / 1_000 + KEPT_S)),
        ]);
        let cursor = self.cursor.as_ref().and_then(item_to_json);
        row.extend(cursor.map(|cursor| ("cursor".to_owned(), text(cursor.to_string()))));
        if let Some(owner) = &self.mine {
            row.insert("lease_owner".to_owned(), text(owner));
            row.insert("lease_until".to_owned(), number(self.lease_until_ms));
        }
        row
    }
}

/// An attribute that is written as JSON.
fn json<T: DeserializeOwned>(row: &Item, name: &str) -> Option<T> {
    serde_json::from_str(text_of(row, name)?).ok()
}

fn lost_if_guarded(written: Result<(), StoreError>) -> Result<bool, StoreError> {
    match written {
        Ok(()) => Ok(true),
        Err(error) if error.trouble == Trouble::Guard => Ok(false),
        Err(error) => Err(error),
    }
}
