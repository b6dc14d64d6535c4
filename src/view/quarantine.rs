//! Items that a view leaves out because it cannot evaluate them.
//!
//! The reason stands in the item's ledger row, so it goes as it came: with the item's newest
//! change, in the same transaction as everything else. Other views, and the other items of
//! this one, stay exact. A metric and a log line tell of each when it comes.
//!
//! Finding them again means reading the ledger. An operator's request reads a part of it, and
//! its answer says where to go on; so one request has a bound and the whole has none: 1 read
//! unit for 4 KB of ledger, which is about 100 units for 1,000 items of 400 bytes. An index
//! would make that cheap, and every change of an item dearer that is not quarantined at all.

use super::{evaluate::Poison, rows::NO_DEADLINE, source_item::LEDGER_KEY, sources::source_of};
use crate::{
    call::Halt,
    operation::{LIMIT_DEFAULT, Selection},
    record::Timestamp,
    recovery::park::envelope::stream_name,
    store::{
        Filter, Item, Store, StoreError,
        rows::{text, text_of},
    },
};
use aws_sdk_dynamodb::types::AttributeValue;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Attribute of a ledger row that holds the reasons, by view.
pub(crate) const QUARANTINE: &str = "q";

const FILTER: Filter =
    Filter { expression: "attribute_exists(#a)", attribute: QUARANTINE, value: None };

/// Pages of 1 MB that one request reads at most, 16,384 read units. A page takes well below a
/// tenth of a second.
const PAGES_MAX: usize = 64;
/// A reply may have 6 MB; the rest is for what JSON adds, and one more row.
const REPLY_BYTES: usize = 4_000_000;
/// No page is begun in the last milliseconds before the deadline.
const RESERVE_MS: i64 = 2_000;

/// Why a view leaves an item out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Quarantine {
    pub(crate) poison: Poison,
    pub(crate) sequence_number: String,
}

impl Quarantine {
    /// One that came with no record.
    pub(crate) fn without_record(poison: Poison) -> Self {
        Self { poison, sequence_number: String::new() }
    }

    pub(crate) fn to_attribute(&self) -> AttributeValue {
        AttributeValue::M(Item::from([
            ("attribute".to_owned(), text(&self.poison.attribute)),
            ("expected".to_owned(), text(&self.poison.expected)),
            ("found".to_owned(), text(&self.poison.found)),
            ("sequence_number".to_owned(), text(&self.sequence_number)),
        ]))
    }

    /// Reads what `to_attribute` wrote.
    pub(crate) fn from_attribute(value: &AttributeValue) -> Option<Self> {
        let fields = value.as_m().ok()?;
        let text = |name: &str| text_of(fields, name).map(str::to_owned);
        let poison = Poison {
            attribute: text("attribute")?,
            expected: text("expected")?,
            found: text("found")?,
        };
        Some(Self { poison, sequence_number: text("sequence_number")? })
    }
}

/// Items that some view leaves out because it cannot evaluate them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Quarantined {
    /// How many pairs of view and item.
    pub count: u64,
    /// The first, ordered by view and key.
    pub first: Vec<QuarantinedItem>,
}

/// An item that a view leaves out.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct QuarantinedItem {
    /// The view.
    pub view: String,
    /// The item's key: `pk=O#1, sk=A`.
    pub key: String,
    /// The attribute that could not be evaluated.
    pub attribute: String,
    /// What the view needs there.
    pub expected: String,
    /// What is there.
    pub found: String,
    /// Position of the change that brought it.
    pub sequence_number: String,
    /// The table or stream it comes from: its ARN, or in an older ledger its name.
    pub source: String,
}

impl QuarantinedItem {
    /// About how long it is as JSON.
    fn bytes(&self) -> usize {
        let Self { view, key, attribute, expected, found, sequence_number, source } = self;
        let texts = [view, key, attribute, expected, found, sequence_number, source];
        // A key may need escapes: six bytes for one.
        texts.iter().map(|text| text.len()).sum::<usize>() + 5 * key.len() + 120
    }
}

/// Which quarantined items are meant, and how many at once.
#[derive(Debug, Default)]
pub struct Wanted {
    keys: Vec<String>,
    exclude: Vec<String>,
    source: Option<String>,
    sequence_number: Option<String>,
    limit: usize,
    cursor: Option<String>,
}

impl Wanted {
    /// Reads an operator's selection.
    ///
    /// # Errors
    /// It asks for what a quarantined item does not have.
    pub fn of(selection: &Selection) -> Result<Self, Halt> {
        let Selection {
            keys,
            exclude,
            source,
            sequence_number,
            error_code,
            since_ms,
            until_ms,
            limit,
            cursor,
            // Only a show has payloads.
            without_payload: _,
            bytes_max: _,
        } = selection.clone();
        if error_code.is_some() || since_ms.is_some() || until_ms.is_some() {
            return Err(Halt::new(
                "OperationUnsupported",
                "a quarantined item has no error code and no moment: select it by `keys` or \
                 `sequence_number`",
            ));
        }
        let limit = limit.unwrap_or(LIMIT_DEFAULT).max(1);
        Ok(Self { keys, exclude, source, sequence_number, limit, cursor })
    }

    fn takes(&self, item: &QuarantinedItem) -> bool {
        let is_of = |source: &String| {
            *source == item.source || stream_name(&item.source) == Some(source.as_str())
        };
        (self.keys.is_empty() || self.keys.contains(&item.key))
            && !self.exclude.contains(&item.key)
            && self.source.as_ref().is_none_or(is_of)
            && self.sequence_number.as_ref().is_none_or(|number| *number == item.sequence_number)
    }
}

/// A part of what is quarantined.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Page {
    /// In the order of the ledger's rows, which is none.
    pub quarantined: Vec<QuarantinedItem>,
    /// Where to go on; `None` at the end. A page may be empty and go on.
    pub cursor: Option<String>,
    /// What the page has cost.
    pub read_units: f64,
}

/// Reads a part of the ledger for what is quarantined in it: `PAGES_MAX` MB at most, and no
/// longer than there is time. No `views` means whatever view there is.
///
/// # Errors
/// The store does not answer.
pub async fn page(
    store: &Store,
    ledger_table: &str,
    views: &[&str],
    wanted: &Wanted,
    deadline: Timestamp,
) -> Result<Page, StoreError> {
    let units_before = store.usage().read_units;
    let mut page = Page { cursor: wanted.cursor.clone(), ..Page::default() };
    let mut bytes = 0;
    for _ in 0..PAGES_MAX {
        let from =
            page.cursor.take().map(|cursor| Item::from([(LEDGER_KEY.to_owned(), text(cursor))]));
        let scanned = store.scan(ledger_table, Some(&FILTER), from, deadline).await?;
        let next = scanned.next.as_ref().and_then(|next| text_of(next, LEDGER_KEY));
        page.cursor = next.map(str::to_owned);
        for row in &scanned.items {
            let found = items_of(row, views).filter(|item| wanted.takes(item));
            bytes += found.clone().map(|item| item.bytes()).sum::<usize>();
            page.quarantined.extend(found);
            if page.quarantined.len() >= wanted.limit || bytes >= REPLY_BYTES {
                // On from this very row.
                page.cursor = text_of(row, LEDGER_KEY).map(str::to_owned);
                page.read_units = store.usage().read_units - units_before;
                return Ok(page);
            }
        }
        let Timestamp(now) = store.clock().now();
        if page.cursor.is_none() || now.saturating_add(RESERVE_MS) >= deadline.0 {
            break;
        }
    }
    page.read_units = store.usage().read_units - units_before;
    Ok(page)
}

/// The first items by view and key, and how many there are: reads the whole ledger.
pub(crate) async fn all(
    store: &Store,
    ledger_table: &str,
    views: &[&str],
    limit: usize,
) -> Result<Quarantined, StoreError> {
    let mut first = BTreeSet::new();
    let mut count = 0;
    let mut from = None;
    loop {
        let page = store.scan(ledger_table, Some(&FILTER), from, NO_DEADLINE).await?;
        for item in page.items.iter().flat_map(|row| items_of(row, views)) {
            count += 1;
            first.insert(item);
            if first.len() > limit {
                first.pop_last();
            }
        }
        from = page.next;
        if from.is_none() {
            return Ok(Quarantined { count, first: first.into_iter().collect() });
        }
    }
}

/// What a ledger row says is left out, by view.
fn items_of<'r>(row: &'r Item, views: &'r [&str]) -> impl Iterator<Item = QuarantinedItem> + Clone {
    let of = |name| text_of(row, name).unwrap_or_default();
    let (key, source) = (of("key"), source_of(of(LEDGER_KEY)).unwrap_or_default());
    let reasons = row.get(QUARANTINE).and_then(|reasons| reasons.as_m().ok()).into_iter().flatten();
    let reasons = reasons.filter(|(view, _)| views.is_empty() || views.contains(&view.as_str()));
    reasons.filter_map(move |(view, reason)| {
        let Quarantine { poison, sequence_number } = Quarantine::from_attribute(reason)?;
        Some(QuarantinedItem {
            view: view.clone(),
            key: key.to_owned(),
            attribute: poison.attribute,
            expected: poison.expected,
            found: poison.found,
            sequence_number,
            source: source.to_owned(),
        })
    })
}
