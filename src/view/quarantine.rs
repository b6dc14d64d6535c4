//! Items that a view leaves out because it cannot evaluate them.
//!
//! The reason stands in the item's ledger row, so it goes as it came: with the item's newest
//! change, in the same transaction as everything else. Other views, and the other items of
//! this one, stay exact. What it gives up: finding them reads the whole ledger.

use crate::{
    store::{Filter, Item, Store, StoreError},
    view::{evaluate::Poison, rows::NO_DEADLINE},
};
use aws_sdk_dynamodb::types::AttributeValue;
use serde::Serialize;
use std::collections::BTreeSet;

/// Attribute of a ledger row that holds the reasons, by view.
pub(crate) const QUARANTINE: &str = "q";

/// Why a view leaves an item out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Quarantine {
    pub(crate) poison: Poison,
    pub(crate) sequence_number: String,
}

impl Quarantine {
    pub(crate) fn to_attribute(&self) -> AttributeValue {
        let text = |value: &str| AttributeValue::S(value.to_owned());
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
        let text = |name: &str| fields.get(name)?.as_s().ok().cloned();
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
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
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
}

pub(crate) async fn list(
    store: &Store,
    ledger_table: &str,
    views: &[&str],
    limit: usize,
) -> Result<Quarantined, StoreError> {
    let filter = Filter { expression: "attribute_exists(#a)", attribute: QUARANTINE, value: None };
    let mut first = BTreeSet::new();
    let mut count = 0;
    let mut from = None;
    loop {
        let page = store.scan(ledger_table, Some(&filter), from, NO_DEADLINE).await?;
        for item in &page.items {
            let key = item.get("key").and_then(|key| key.as_s().ok()).cloned().unwrap_or_default();
            let reasons =
                item.get(QUARANTINE).and_then(|reasons| reasons.as_m().ok()).into_iter().flatten();
            for (view, reason) in reasons.filter(|(view, _)| views.contains(&view.as_str())) {
                let Some(reason) = Quarantine::from_attribute(reason) else { continue };
                count += 1;
                first.insert(QuarantinedItem {
                    view: view.clone(),
                    key: key.clone(),
                    attribute: reason.poison.attribute,
                    expected: reason.poison.expected,
                    found: reason.poison.found,
                    sequence_number: reason.sequence_number,
                });
                if first.len() > limit {
                    first.pop_last();
                }
            }
        }
        from = page.next;
        if from.is_none() {
            return Ok(Quarantined { count, first: first.into_iter().collect() });
        }
    }
}
