//! Which definitions the state was made by.
//!
//! A ledger row says what an item contributed under the definition of that time. Started
//! with another definition, or with a view the rows know nothing of, every later difference
//! would be wrong; so the ledger table holds one row with the fingerprint of each view, and
//! the function refuses to start when it does not match. What it gives up: until backfill
//! exists, a changed view needs new tables.

use crate::{
    record::Timestamp,
    store::{Filter, Item, Store, StoreError, Trouble},
    view::{
        definition::View,
        ledger::{ITEM_PREFIX, LEDGER_KEY},
    },
};
use aws_sdk_dynamodb::types::{AttributeValue, Put, TransactWriteItem};
use std::collections::{BTreeMap, BTreeSet};

const REGISTRY_KEY: &str = "V#";

/// The state does not fit the views.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// The rows were computed by another definition of this view.
    #[error(
        "view {view}: the ledger table {table} was made by another definition of it; until \
         backfill exists, start the changed view on new tables (set CHANGEFOLD_LEDGER_TABLE and \
         CHANGEFOLD_VIEW_TABLE_PREFIX, or give replay another --state) or restore the old text"
    )]
    OtherDefinition {
        /// The view's name.
        view: String,
        /// The ledger table.
        table: String,
    },
    /// Items are in the ledger that this view has never seen.
    #[error(
        "view {view}: the ledger table {table} already holds items of {from} that this view has \
         not counted; until backfill exists, start it on new tables (set CHANGEFOLD_LEDGER_TABLE \
         and CHANGEFOLD_VIEW_TABLE_PREFIX, or give replay another --state)"
    )]
    AddedLater {
        /// The view's name.
        view: String,
        /// The view's source.
        from: String,
        /// The ledger table.
        table: String,
    },
    /// The registry row is not as changefold writes it.
    #[error(
        "the row {REGISTRY_KEY} of the ledger table {table} is unreadable; it must not \
         be written by anything else"
    )]
    Unreadable {
        /// The ledger table.
        table: String,
    },
    /// The store did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// One registered view: what it was computed from and by which definition.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Registered {
    from: String,
    fingerprint: String,
}

/// Checks the views against the state and registers those that are new to it. Gives back the
/// names of registered views of the same sources that are no longer served: they are struck
/// off, because their rows stop following the source.
///
/// # Errors
/// A view's definition differs, a view was added where items are in the ledger, or the store
/// does not answer.
pub(crate) async fn check(
    store: &Store,
    table: &str,
    views: &[(&View, String)],
    deadline: Timestamp,
) -> Result<Vec<String>, RegistryError> {
    loop {
        let (revision, registered) = read(store, table, deadline).await?;
        let mut wanted = registered.clone();
        // Of all the views of a source the first to be new to the state asks.
        let mut is_empty: BTreeSet<&str> = BTreeSet::new();
        for (view, group) in views {
            let fingerprint = view.fingerprint();
            match registered.get(&view.name) {
                Some(known) if known.fingerprint == fingerprint => {}
                Some(_) => {
                    return Err(RegistryError::OtherDefinition {
                        view: view.name.clone(),
                        table: table.to_owned(),
                    });
                }
                None => {
                    if !is_empty.contains(group.as_str())
                        && has_items(store, table, group, deadline).await?
                    {
                        return Err(RegistryError::AddedLater {
                            view: view.name.clone(),
                            from: view.from.clone(),
                            table: table.to_owned(),
                        });
                    }
                    is_empty.insert(group);
                    let from = view.from.clone();
                    wanted.insert(view.name.clone(), Registered { from, fingerprint });
                }
            }
        }
        let dropped: Vec<String> = registered
            .iter()
            .filter(|(name, known)| {
                views.iter().any(|(view, _)| view.from == known.from)
                    && !views.iter().any(|(view, _)| view.name == **name)
            })
            .map(|(name, _)| name.clone())
            .collect();
        for name in &dropped {
            wanted.remove(name);
        }
        if wanted == registered {
            return Ok(dropped);
        }
        match write(store, table, revision, &wanted, deadline).await {
            Ok(()) => return Ok(dropped),
            Err(error) if matches!(error.trouble, Trouble::Guard | Trouble::Unknown) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

async fn read(
    store: &Store,
    table: &str,
    deadline: Timestamp,
) -> Result<(u64, BTreeMap<String, Registered>), RegistryError> {
    let Some(row) = store.get(table, LEDGER_KEY, REGISTRY_KEY, deadline).await? else {
        return Ok((0, BTreeMap::new()));
    };
    parse(&row).ok_or_else(|| RegistryError::Unreadable { table: table.to_owned() })
}

fn parse(row: &Item) -> Option<(u64, BTreeMap<String, Registered>)> {
    let revision = row.get("rev")?.as_n().ok()?.parse().ok()?;
    let mut registered = BTreeMap::new();
    for (name, value) in row.get("views")?.as_m().ok()? {
        let fields = value.as_m().ok()?;
        let text = |name: &str| fields.get(name)?.as_s().ok().cloned();
        let known = Registered { from: text("from")?, fingerprint: text("fingerprint")? };
        registered.insert(name.clone(), known);
    }
    Some((revision, registered))
}

async fn write(
    store: &Store,
    table: &str,
    revision_read: u64,
    registered: &BTreeMap<String, Registered>,
    deadline: Timestamp,
) -> Result<(), StoreError> {
    let text = |value: &str| AttributeValue::S(value.to_owned());
    let views = registered
        .iter()
        .map(|(name, known)| {
            let fields = Item::from([
                ("from".to_owned(), text(&known.from)),
                ("fingerprint".to_owned(), text(&known.fingerprint)),
            ]);
            (name.clone(), AttributeValue::M(fields))
        })
        .collect();
    let put = Put::builder()
        .table_name(table)
        .item(LEDGER_KEY, text(REGISTRY_KEY))
        .item("rev", AttributeValue::N((revision_read + 1).to_string()))
        .item("views", AttributeValue::M(views))
        .condition_expression("attribute_not_exists(#k) OR #r = :r")
        .expression_attribute_names("#k", LEDGER_KEY)
        .expression_attribute_names("#r", "rev")
        .expression_attribute_values(":r", AttributeValue::N(revision_read.to_string()))
        .build()
        .expect("table and item are set");
    store.transact(vec![TransactWriteItem::builder().put(put).build()], deadline).await
}

/// Whether the ledger holds any item of a view group. Reads until it finds one, which is soon
/// where there are any; it is asked only when a view is new to the state.
async fn has_items(
    store: &Store,
    table: &str,
    group: &str,
    deadline: Timestamp,
) -> Result<bool, StoreError> {
    let filter = Filter {
        expression: "begins_with(#a, :v)",
        attribute: LEDGER_KEY,
        value: Some(format!("{ITEM_PREFIX}{group}#")),
    };
    let mut from = None;
    loop {
        let page = store.scan(table, Some(&filter), from, deadline).await?;
        if !page.items.is_empty() {
            return Ok(true);
        }
        from = page.next;
        if from.is_none() {
            return Ok(false);
        }
    }
}
