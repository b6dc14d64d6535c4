//! Whose state it is, and which definitions it was made by.
//!
//! A ledger row says what an item contributed under the definition of that time. Started
//! with another definition, or with a view the rows know nothing of, every later difference
//! would be wrong; so the ledger table holds one row with the fingerprint of each view, and
//! the function refuses to start when it does not match. The same row names the ledger's
//! owner: a second function with other views would strike off those of the first, so it is
//! refused as well. And it says which sources have come (`Sources`).
//!
//! The row is replaced under its revision. What it gives up: a changed view needs new
//! tables, and a backfill of them.

mod row;

use crate::{
    record::Timestamp,
    store::{Filter, Store, StoreError, Trouble, rows::text_of},
    view::{
        definition::View,
        source_item::LEDGER_KEY,
        sources::{self, Sources},
    },
};
use row::{Registered, Registry, read, write};
use std::collections::BTreeSet;

const REGISTRY_KEY: &str = "V#";

/// What stands for the owner of a ledger that has none, where one is to be taken from it.
pub const NOBODY: &str = "nobody";

/// The state does not fit the views.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// The rows were computed by another definition of this view.
    #[error(
        "view {view}: the ledger table {table} was made by another definition of it; start \
         the changed view on new tables (set CHANGEFOLD_LEDGER_TABLE and \
         CHANGEFOLD_VIEW_TABLE_PREFIX, or give replay another --state) and backfill them, or \
         restore the old text"
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
         not counted; start it on new tables (set CHANGEFOLD_LEDGER_TABLE and \
         CHANGEFOLD_VIEW_TABLE_PREFIX, or give replay another --state) and backfill them"
    )]
    AddedLater {
        /// The view's name.
        view: String,
        /// The view's source.
        from: String,
        /// The ledger table.
        table: String,
    },
    /// The ledger belongs to another function.
    #[error(
        "the ledger table {table} belongs to {owner}, and this is {name}: views of two functions \
         on one ledger strike each other off. Give this one tables of its own (set \
         CHANGEFOLD_LEDGER_TABLE and CHANGEFOLD_VIEW_TABLE_PREFIX). If it takes the place of \
         {owner}, stop that one, then start this one once with CHANGEFOLD_LEDGER_TAKE_FROM={owner}"
    )]
    OfAnother {
        /// The ledger table.
        table: String,
        /// Whose it is.
        owner: String,
        /// Who asks for it.
        name: String,
    },
    /// The ledger has no owner yet, and views that this function does not have.
    #[error(
        "the ledger table {table} has no owner yet, and follows {views} as well, which {name} does \
         not have: whose are they? If another function's, give this one tables of its own (set \
         CHANGEFOLD_LEDGER_TABLE and CHANGEFOLD_VIEW_TABLE_PREFIX). If they were taken away on \
         purpose, start once with CHANGEFOLD_LEDGER_TAKE_FROM={NOBODY}"
    )]
    OfNobody {
        /// The ledger table.
        table: String,
        /// The views, with commas between.
        views: String,
        /// Who asks for it.
        name: String,
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

impl RegistryError {
    /// A stable code, reported to Lambda as the error type.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::OtherDefinition { .. } | Self::AddedLater { .. } | Self::Unreadable { .. } => {
                "StateOfOtherViews"
            }
            Self::OfAnother { .. } | Self::OfNobody { .. } => "LedgerOfAnother",
            Self::Store(_) => "StoreUnavailable",
        }
    }
}

/// Who keeps views in a ledger.
///
/// By default a function's name: its versions and aliases have the same views, and a ledger
/// does not count a record twice however many deliver it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    name: String,
    takes_from: Option<String>,
}

impl Owner {
    /// An owner by its name, the same at every start.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), takes_from: None }
    }

    /// Lets it take over what this former owner has, or [`NOBODY`].
    #[must_use]
    pub fn taking_from(self, former: Option<String>) -> Self {
        Self { takes_from: former, ..self }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// The state fits the views.
#[derive(Debug, Default)]
pub(crate) struct Checked {
    /// Views of the same sources that are no longer served: they are struck off, because their
    /// rows stop following the source.
    pub(crate) dropped: Vec<String>,
    /// The former owner, if the ledger was taken over.
    pub(crate) taken_from: Option<String>,
    /// The sources that have come.
    pub(crate) sources: Sources,
}

/// Checks the views and their owner against the state, and registers what is new to it. Each
/// view comes with what its ledger rows are told apart by, beside its source.
///
/// # Errors
/// The ledger belongs to another function, a view's definition differs, a view was added where
/// items are in the ledger, or the store does not answer.
pub(crate) async fn check(
    store: &Store,
    table: &str,
    owner: &Owner,
    views: &[(&View, String)],
    deadline: Timestamp,
) -> Result<Checked, RegistryError> {
    loop {
        let registry = read(store, table, deadline).await?;
        let dropped = no_longer_served(&registry, views);
        let taken_from = take(&registry, owner, table, &dropped)?;
        let mut wanted = registry.clone();
        wanted.owner = Some(owner.name.clone());
        register(store, table, &mut wanted, views, deadline).await?;
        for name in &dropped {
            wanted.views.remove(name);
        }
        let sources = registry.sources();
        if wanted != registry {
            match write(store, table, &wanted, deadline).await {
                Ok(()) => {}
                Err(error) if matches!(error.trouble, Trouble::Guard | Trouble::Unknown) => {
                    continue;
                }
                Err(error) => return Err(error.into()),
            }
        }
        return Ok(Checked { dropped, taken_from, sources });
    }
}

/// Writes down that a source has come, unless another one of its name was there before; gives
/// back what is known then.
///
/// # Errors
/// The ledger belongs to another function by now, or the store does not answer.
pub(crate) async fn bind(
    store: &Store,
    table: &str,
    owner: &str,
    (arn, resource): (&str, &str),
    deadline: Timestamp,
) -> Result<Sources, RegistryError> {
    loop {
        let mut registry = owned(store, table, owner, deadline).await?;
        if registry.first.contains_key(resource) {
            return Ok(registry.sources());
        }
        registry.first.insert(resource.to_owned(), arn.to_owned());
        match write(store, table, &registry, deadline).await {
            Ok(()) => return Ok(registry.sources()),
            Err(error) if matches!(error.trouble, Trouble::Guard | Trouble::Unknown) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// The sources that have come, as the ledger says now.
///
/// # Errors
/// The store does not answer.
pub(crate) async fn sources(
    store: &Store,
    table: &str,
    deadline: Timestamp,
) -> Result<Sources, RegistryError> {
    Ok(read(store, table, deadline).await?.sources())
}

/// Refuses where the ledger belongs to another function by now.
///
/// # Errors
/// It does, or the store does not answer.
pub(crate) async fn still_owned(
    store: &Store,
    table: &str,
    owner: &str,
    deadline: Timestamp,
) -> Result<(), RegistryError> {
    owned(store, table, owner, deadline).await.map(|_| ())
}

async fn owned(
    store: &Store,
    table: &str,
    owner: &str,
    deadline: Timestamp,
) -> Result<Registry, RegistryError> {
    let registry = read(store, table, deadline).await?;
    match &registry.owner {
        Some(name) if name == owner => Ok(registry),
        Some(other) => Err(of_another(table, other, owner)),
        None => Err(RegistryError::Unreadable { table: table.to_owned() }),
    }
}

/// Whether the ledger may be this owner's; the former owner, if it is taken over.
fn take(
    registry: &Registry,
    owner: &Owner,
    table: &str,
    dropped: &[String],
) -> Result<Option<String>, RegistryError> {
    let takes_from = owner.takes_from.as_deref();
    match &registry.owner {
        Some(name) if *name == owner.name => Ok(None),
        Some(former) if takes_from == Some(former) => Ok(Some(former.clone())),
        Some(other) => Err(of_another(table, other, &owner.name)),
        // A new ledger, or one written before there were owners.
        None if dropped.is_empty() => Ok(None),
        None if takes_from == Some(NOBODY) => Ok(Some(NOBODY.to_owned())),
        None => Err(RegistryError::OfNobody {
            table: table.to_owned(),
            views: dropped.join(", "),
            name: owner.name.clone(),
        }),
    }
}

fn of_another(table: &str, owner: &str, name: &str) -> RegistryError {
    let [table, owner, name] = [table, owner, name].map(str::to_owned);
    RegistryError::OfAnother { table, owner, name }
}

/// Enters the views that are new to the state.
async fn register(
    store: &Store,
    table: &str,
    wanted: &mut Registry,
    views: &[(&View, String)],
    deadline: Timestamp,
) -> Result<(), RegistryError> {
    let sources = wanted.sources();
    // Of all the views of a source the first to be new to the state asks.
    let mut is_empty: BTreeSet<(&str, &str)> = BTreeSet::new();
    for (view, kind) in views {
        let fingerprint = view.fingerprint();
        match wanted.views.get(&view.name) {
            Some(known) if known.fingerprint == fingerprint => continue,
            Some(_) => {
                return Err(RegistryError::OtherDefinition {
                    view: view.name.clone(),
                    table: table.to_owned(),
                });
            }
            None => {}
        }
        let source = (view.from.as_str(), kind.as_str());
        if !is_empty.contains(&source) && has_items(store, table, source, deadline).await? {
            return Err(RegistryError::AddedLater {
                view: view.name.clone(),
                from: view.from.clone(),
                table: table.to_owned(),
            });
        }
        is_empty.insert(source);
        let from = view.from.clone();
        let by_name = sources.by_name.contains(&from);
        wanted.views.insert(view.name.clone(), Registered { from, by_name, fingerprint });
    }
    Ok(())
}

fn no_longer_served(registry: &Registry, views: &[(&View, String)]) -> Vec<String> {
    registry
        .views
        .iter()
        .filter(|(name, known)| {
            views.iter().any(|(view, _)| view.from == known.from)
                && !views.iter().any(|(view, _)| view.name == **name)
        })
        .map(|(name, _)| name.clone())
        .collect()
}

/// Whether the ledger holds any item of this name and kind, filed in either way. Reads until
/// it finds one, which is soon where there are any; it is asked only when a view is new to the
/// state.
async fn has_items(
    store: &Store,
    table: &str,
    (name, kind): (&str, &str),
    deadline: Timestamp,
) -> Result<bool, StoreError> {
    let filter = Filter {
        expression: "contains(#a, :v)",
        attribute: LEDGER_KEY,
        value: Some(format!("{name}{kind}#")),
    };
    let mut from = None;
    loop {
        let page = store.scan(table, Some(&filter), from, deadline).await?;
        let mut keys = page.items.iter().filter_map(|item| text_of(item, LEDGER_KEY));
        if keys.any(|key| sources::is_of(key, name, kind)) {
            return Ok(true);
        }
        from = page.next;
        if from.is_none() {
            return Ok(false);
        }
    }
}
