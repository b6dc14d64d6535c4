//! Materialized views, kept exactly once in DynamoDB.
//!
//! A view is state, not effects: what the newest change of an item contributes replaces what
//! the one before contributed. So a batch is coalesced to the newest change per item, each is
//! evaluated for every view of its source, and the differences go through the
//! ledger in guarded transactions. Order within a batch, duplicates and every way
//! AWS can cut a batch again make no difference. Items from before the mapping began come in by
//! a backfill. What it gives up: a view lags by the batch in progress.

mod backfill;
pub mod building;
mod canonical;
pub mod definition;
pub mod evaluate;
mod image;
mod ledger;
pub mod load;
pub mod number;
mod operate;
pub mod quarantine;
mod reconcile;
pub mod registry;
pub mod rows;
pub mod scalar;
mod source_item;
mod source_table;
mod sources;
pub mod sql;
pub mod total;
mod verify;
mod work;

pub use ledger::LEDGER_TTL;
pub use source_item::LEDGER_KEY;

use crate::{
    invoke::Invoke,
    record::Timestamp,
    store::{Store, StoreError},
    telemetry,
};
use definition::{Path, View};
use registry::{Owner, RegistryError};
use sources::{Filing, Sources};
use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
};

/// Views of one source: each item touches up to two rows of each, and one transaction holds
/// 99 rows beside the guard.
const VIEWS_PER_SOURCE_MAX: usize = 49;
/// An update expression may have 4 KB, a column takes up to 32 bytes of it.
const COLUMNS_MAX: usize = 100;
/// Room in a ledger row of at most 400 KB for the record of a quarantined item. A larger change
/// of a table is not kept, the table has the item; a larger stream record is not acknowledged.
const RECORD_BYTES_MAX: usize = 300_000;
/// How long a ledger row outlives the stream's retention: late duplicates end with it.
const LEDGER_SLACK_S: i64 = 86_400;

/// The views a function keeps, on their tables.
#[derive(Debug)]
pub struct Views {
    store: Store,
    /// Where the tables are that views are computed from, if not in the same store.
    source_store: Option<Store>,
    /// Who invokes the function again, where a backfill is to continue itself.
    invoker: Option<Arc<dyn Invoke>>,
    ledger_table: String,
    owner: String,
    definitions: Vec<View>,
    view_tables: Vec<String>,
    groups: Vec<Group>,
    /// The sources that have come. Never held over a call.
    sources: Mutex<Sources>,
}

/// Views that share the ledger rows of one source: same stream, same item key.
#[derive(Debug)]
struct Group {
    stream: String,
    key: Option<Path>,
    /// What tells its ledger rows from others of the source.
    kind: String,
    views: Vec<usize>,
    /// The attributes its views look at.
    attributes: Arc<[String]>,
}

/// The views cannot be served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Two views have one name.
    #[error("view {0} is defined twice; rename one of them")]
    Twice(String),
    /// A source feeds more views than one transaction can keep together.
    #[error("{0} feeds more than {VIEWS_PER_SOURCE_MAX} views; split them over two functions")]
    TooMany(String),
    /// One row's update would not fit the store's expression.
    #[error("view {0} has more than {COLUMNS_MAX} columns; split it into two views")]
    TooWide(String),
    /// The state was made by other views.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The store refuses or cannot be reached.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl OpenError {
    /// A stable code, reported to Lambda as the error type.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Twice(_) | Self::TooMany(_) | Self::TooWide(_) => "ViewsInvalid",
            Self::Registry(error) => error.code(),
            Self::Store(_) => "StoreUnavailable",
        }
    }
}

impl Views {
    /// Serves views on the tables that belong to them, after checking that the state there is
    /// this owner's and was made by the same definitions.
    ///
    /// # Errors
    /// Names clash, the state is another owner's or was made by other definitions, or the
    /// store does not answer.
    pub async fn open(
        views: Vec<View>,
        store: Store,
        (ledger_table, view_table_prefix): (&str, &str),
        owner: &Owner,
        deadline: Timestamp,
    ) -> Result<Self, OpenError> {
        let groups = groups_of(&views)?;
        let registered: Vec<_> = views.iter().map(|view| (view, kind_of(view))).collect();
        let checked = registry::check(&store, ledger_table, owner, &registered, deadline).await?;
        if let Some(former) = &checked.taken_from {
            telemetry::ledger_taken(former, owner.name());
        }
        for view in &checked.dropped {
            telemetry::view_dropped(view);
        }
        let view_tables = views.iter().map(|view| view_table(view_table_prefix, view)).collect();
        Ok(Self {
            store,
            source_store: None,
            invoker: None,
            ledger_table: ledger_table.to_owned(),
            owner: owner.name().to_owned(),
            definitions: views,
            view_tables,
            groups,
            sources: Mutex::new(checked.sources),
        })
    }

    /// Makes the tables of these views where they are missing. For the desk and for tests; a
    /// deployed function's tables come from its template.
    ///
    /// # Errors
    /// The store refuses or cannot be reached.
    pub async fn ensure_tables(
        views: &[View],
        store: &Store,
        ledger_table: &str,
        view_table_prefix: &str,
        deadline: Timestamp,
    ) -> Result<(), StoreError> {
        store.ensure_table(ledger_table, &[LEDGER_KEY], Some(LEDGER_TTL), deadline).await?;
        for view in views {
            let table = view_table(view_table_prefix, view);
            store.ensure_table(&table, &[rows::ROW_KEY], None, deadline).await?;
        }
        Ok(())
    }

    /// The views served.
    #[must_use]
    pub fn definitions(&self) -> &[View] {
        &self.definitions
    }

    /// The store they are kept in.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Reads the tables that views are computed from in another store.
    #[must_use]
    pub fn with_source_store(self, source_store: Option<Store>) -> Self {
        Self { source_store, ..self }
    }

    /// Lets a backfill continue itself: whoever invokes the function again.
    #[must_use]
    pub fn with_invoker(self, invoker: Option<Arc<dyn Invoke>>) -> Self {
        Self { invoker, ..self }
    }

    /// Where the tables are that views are computed from.
    fn source_store(&self) -> &Store {
        self.source_store.as_ref().unwrap_or(&self.store)
    }

    /// The first rows of a view in the order of its key columns, and how many there are.
    ///
    /// # Errors
    /// The store does not answer, or a row is not as changefold writes it.
    pub async fn rows(&self, view: usize, limit: usize) -> Result<rows::Listing, StoreError> {
        rows::list(&self.store, &self.definitions[view], &self.view_tables[view], limit).await
    }

    /// The first items that some view leaves out, and how many there are: reads the whole
    /// ledger.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn quarantined(&self, limit: usize) -> Result<quarantine::Quarantined, StoreError> {
        quarantine::all(&self.store, &self.ledger_table, &self.names(), limit).await
    }

    fn names(&self) -> Vec<&str> {
        self.definitions.iter().map(|view| view.name.as_str()).collect()
    }

    /// How the items of a source are filed. The first time that a source of its name comes it
    /// is written down, once for the life of the ledger.
    async fn filing(&self, arn: &str, deadline: Timestamp) -> Result<Filing, RegistryError> {
        let known = self.sources.lock().unwrap_or_else(PoisonError::into_inner).filing(arn);
        if let Some(filing) = known {
            return Ok(filing);
        }
        let unreadable = || RegistryError::Unreadable { table: self.ledger_table.clone() };
        let source = (arn, sources::resource(arn).ok_or_else(unreadable)?);
        let (table, owner) = (&self.ledger_table, &self.owner);
        let bound = registry::bind(&self.store, table, owner, source, deadline).await?;
        let filing = bound.filing(arn).ok_or_else(unreadable);
        *self.sources.lock().unwrap_or_else(PoisonError::into_inner) = bound;
        filing
    }
}

/// Groups the views by what they read; refuses what cannot be served.
fn groups_of(views: &[View]) -> Result<Vec<Group>, OpenError> {
    let mut groups: Vec<Group> = Vec::new();
    for (index, view) in views.iter().enumerate() {
        if views[..index].iter().any(|other| other.name == view.name) {
            return Err(OpenError::Twice(view.name.clone()));
        }
        if view.columns().len() > COLUMNS_MAX {
            return Err(OpenError::TooWide(view.name.clone()));
        }
        let kind = kind_of(view);
        let is_same = |group: &&mut Group| group.stream == view.from && group.kind == kind;
        match groups.iter_mut().find(is_same) {
            Some(group) => group.views.push(index),
            None => groups.push(Group {
                stream: view.from.clone(),
                key: view.key.clone(),
                kind,
                views: vec![index],
                attributes: Arc::default(),
            }),
        }
    }
    for group in &mut groups {
        let names: BTreeSet<&str> =
            group.views.iter().flat_map(|&view| views[view].attributes()).collect();
        group.attributes = names.into_iter().map(str::to_owned).collect();
    }
    if let Some(group) = groups.iter().find(|group| group.views.len() > VIEWS_PER_SOURCE_MAX) {
        return Err(OpenError::TooMany(group.stream.clone()));
    }
    Ok(groups)
}

/// What tells the views of a source apart that share no ledger rows: their item's key.
fn kind_of(view: &View) -> String {
    view.key.as_ref().map(|path| format!("@{path}")).unwrap_or_default()
}

fn view_table(prefix: &str, view: &View) -> String {
    format!("{prefix}{}", view.name)
}
