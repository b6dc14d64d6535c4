//! The registry's one row, as it is stored.
//!
//! Separate because its layout is read by older and newer functions, during a deployment beside
//! each other. A view's entry says `from` where items are filed under the name of its source,
//! as the first functions did; they know no other layout. Where items are filed under ARNs the
//! entry says `source` instead: such a function cannot read it and refuses to start, and does
//! not count everything again.

use super::{REGISTRY_KEY, RegistryError};
use crate::{
    record::Timestamp,
    store::{
        Item, Store, StoreError,
        rows::{number_of, text, text_of},
    },
    view::{source_item::LEDGER_KEY, sources::Sources},
};
use aws_sdk_dynamodb::types::{AttributeValue, Put, TransactWriteItem};
use std::collections::BTreeMap;

/// What the row says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Registry {
    revision: u64,
    pub(super) owner: Option<String>,
    pub(super) views: BTreeMap<String, Registered>,
    /// The first source that came, by the resource part of its ARN.
    pub(super) first: BTreeMap<String, String>,
}

/// One registered view: what it was computed from and by which definition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Registered {
    pub(super) from: String,
    /// Whether its source's items are filed under the name alone.
    pub(super) by_name: bool,
    pub(super) fingerprint: String,
}

impl Registry {
    /// How the items of the sources are filed.
    pub(super) fn sources(&self) -> Sources {
        let by_name = self.views.values().filter(|view| view.by_name);
        let by_name = by_name.map(|view| view.from.clone()).collect();
        Sources { by_name, first: self.first.clone() }
    }
}

/// Reads the row; one that is not there says nothing.
pub(super) async fn read(
    store: &Store,
    table: &str,
    deadline: Timestamp,
) -> Result<Registry, RegistryError> {
    let Some(row) = store.get(table, LEDGER_KEY, REGISTRY_KEY, deadline).await? else {
        return Ok(Registry::default());
    };
    parse(&row).ok_or_else(|| RegistryError::Unreadable { table: table.to_owned() })
}

fn parse(row: &Item) -> Option<Registry> {
    let mut views = BTreeMap::new();
    for (name, value) in row.get("views")?.as_m().ok()? {
        let fields = value.as_m().ok()?;
        let by_name = text_of(fields, "from");
        let known = Registered {
            from: by_name.or_else(|| text_of(fields, "source"))?.to_owned(),
            by_name: by_name.is_some(),
            fingerprint: text_of(fields, "fingerprint")?.to_owned(),
        };
        views.insert(name.clone(), known);
    }
    let mut first = BTreeMap::new();
    if let Some(sources) = row.get("sources") {
        for (resource, arn) in sources.as_m().ok()? {
            first.insert(resource.clone(), arn.as_s().ok()?.clone());
        }
    }
    let owner = text_of(row, "owner").map(str::to_owned);
    Some(Registry { revision: number_of(row, "rev")?, owner, views, first })
}

/// Replaces the row at the revision that was read.
pub(super) async fn write(
    store: &Store,
    table: &str,
    registry: &Registry,
    deadline: Timestamp,
) -> Result<(), StoreError> {
    let views = registry.views.iter().map(|(name, known)| {
        let source = if known.by_name { "from" } else { "source" };
        let fields = Item::from([
            (source.to_owned(), text(&known.from)),
            ("fingerprint".to_owned(), text(&known.fingerprint)),
        ]);
        (name.clone(), AttributeValue::M(fields))
    });
    let sources = registry.first.iter().map(|(resource, arn)| (resource.clone(), text(arn)));
    let put = Put::builder()
        .table_name(table)
        .item(LEDGER_KEY, text(REGISTRY_KEY))
        .item("rev", AttributeValue::N((registry.revision + 1).to_string()))
        .item("owner", text(registry.owner.as_deref().unwrap_or_default()))
        .item("views", AttributeValue::M(views.collect()))
        .item("sources", AttributeValue::M(sources.collect()))
        .condition_expression("attribute_not_exists(#k) OR #r = :r")
        .expression_attribute_names("#k", LEDGER_KEY)
        .expression_attribute_names("#r", "rev")
        .expression_attribute_values(":r", AttributeValue::N(registry.revision.to_string()))
        .build()
        .expect("table and item are set");
    store.transact(vec![TransactWriteItem::builder().put(put).build()], deadline).await
}
