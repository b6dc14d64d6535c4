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
mod candidate;
mod canonical;
pub mod definition;
pub mod evaluate;
pub mod generation;
mod image;
mod ledger;
pub mod load;
pub mod number;
mod operate;
#[cfg(feature = "local")]
pub mod plan;
pub mod quarantine;
pub mod read;
mod reading;
mod reconcile;
pub mod registry;
mod replay;
pub mod rows;
pub mod scalar;
mod served;
mod source_item;
mod source_table;
mod sources;
pub mod sql;
pub mod total;
mod undecided;
pub mod values;
mod verify;
mod version;
mod work;

pub use ledger::LEDGER_TTL;
pub use source_item::LEDGER_KEY;

use crate::{
    batch::Work,
    call::{Call, Halt, Measures},
    event::Record,
    invoke::Invoke,
    operation::Operation,
    outcome::Outcome,
    record::Timestamp,
    store::{Store, StoreError},
    telemetry,
};
use definition::{Groups, Shape, View};
use registry::{Owner, Place, RegistryError};
use rows::ranked::Ranking;
use serde_json::Value;
use served::{Known, Served};
use std::sync::{Arc, Mutex, PoisonError};

/// Rows that one change of an item may touch in all views of its source: one transaction holds 99
/// beside the guard. A view has two of them, for an item that changes its group, two more for each
/// argument whose values it keeps, and one for each smallest or largest value that it shows.
const ROWS_OF_CHANGE_MAX: usize = 98;
/// An update expression may have 4 KB, a column takes up to 32 bytes of it.
const COLUMNS_MAX: usize = 100;
/// Room in a ledger row of at most 400 KB for the record of a quarantined item. A larger change
/// of a table is not kept, the table has the item; a larger stream record is not acknowledged.
const RECORD_BYTES_MAX: usize = 300_000;
/// Room in a ledger row for what the elements of an item's lists add to groups: it is there twice
/// while the item changes in several transactions.
const ELEMENTS_BYTES_MAX: usize = 75_000;
/// How long a ledger row outlives the stream's retention: late duplicates end with it.
const LEDGER_SLACK_S: i64 = 86_400;
/// What is served has changed since it was read: it has to be read again, and nothing was done.
const VIEWS_CHANGED: &str = "ViewsChanged";
/// No view that is served reads the source.
const NO_VIEW_FOR_SOURCE: &str = "NoViewForSource";

/// The views a function keeps, on their tables.
///
/// What is served stands in the ledger's table, not here: it may change while the function runs
/// (`generation`). So what was read of it is replaced as a whole, between two batches.
#[derive(Debug)]
pub struct Views {
    view_table_prefix: String,
    /// The definitions that this version of the function has.
    files: Vec<View>,
    /// What is served, as it was read last. Never held over a call.
    served: Mutex<Arc<Served>>,
}

/// The views cannot be served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Two views have one name.
    #[error("view {0} is defined twice; rename one of them")]
    Twice(String),
    /// A source feeds more views than one transaction can keep together.
    #[error(
        "one change of an item of {0} could touch more than {ROWS_OF_CHANGE_MAX} rows of its views \
         (two for each view, and two more for each argument of its min, max and DISTINCT); split \
         them over two functions"
    )]
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
    /// this owner's. What is new or changed in them is built beside what is served.
    ///
    /// # Errors
    /// Names clash, the state is another owner's, a changed view cannot be built beside the
    /// former one, or the store does not answer.
    pub async fn open(
        views: Vec<View>,
        store: Store,
        tables: (&str, &str),
        owner: &Owner,
        deadline: Timestamp,
    ) -> Result<Self, OpenError> {
        Self::open_as(true, views, (store, tables), owner, deadline).await
    }

    /// Serves what is registered already, for an operator: these definitions propose nothing.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub async fn attach(
        views: Vec<View>,
        store: Store,
        tables: (&str, &str),
        owner: &Owner,
        deadline: Timestamp,
    ) -> Result<Self, OpenError> {
        Self::open_as(false, views, (store, tables), owner, deadline).await
    }

    async fn open_as(
        proposes: bool,
        files: Vec<View>,
        (store, (ledger_table, view_table_prefix)): (Store, (&str, &str)),
        owner: &Owner,
        deadline: Timestamp,
    ) -> Result<Self, OpenError> {
        served::check(&files)?;
        let place = Place { store: &store, ledger_table, view_table_prefix };
        values::has_table((&store, ledger_table), &files, deadline).await?;
        let checked = registry::check(place, owner, (&files, proposes), deadline).await?;
        if let Some(former) = &checked.taken_from {
            telemetry::ledger_taken(former, owner.name());
        }
        for view in &checked.absent {
            telemetry::view_absent(view);
        }
        for (view, generation) in &checked.building {
            telemetry::generation_registered(view, *generation);
        }
        let known = Known { definitions: &files, order: &files };
        let served = Served::nothing(store, ledger_table, owner.name());
        let served = served.with(&checked.registry, known)?;
        let view_table_prefix = view_table_prefix.to_owned();
        Ok(Self { view_table_prefix, files, served: Mutex::new(Arc::new(served)) })
    }

    /// Says whether views can be served together, whatever the state is.
    ///
    /// # Errors
    /// Two have one name, one is too wide, or too many read one source.
    pub fn check(views: &[View]) -> Result<(), OpenError> {
        served::check(views)
    }

    /// Makes the tables of these views where they are missing, those of generations included
    /// that a start would register. For the desk and for tests; a deployed function's tables
    /// come from its template.
    ///
    /// # Errors
    /// The store refuses or cannot be reached. A state that a start would refuse is left to it.
    pub async fn ensure_tables(
        views: &[View],
        store: &Store,
        ledger_table: &str,
        view_table_prefix: &str,
        deadline: Timestamp,
    ) -> Result<(), StoreError> {
        store.ensure_table(ledger_table, &[LEDGER_KEY], Some(LEDGER_TTL), deadline).await?;
        let place = Place { store, ledger_table, view_table_prefix };
        for (table, view) in registry::tables(place, views, deadline).await? {
            let ranking = view.and_then(|view| Ranking::of(&views[view]));
            let index = ranking.map(|it| it.index());
            let retains = |groups: &Groups| groups.retain.is_some();
            let goes = view.is_some_and(
                |view| matches!(&views[view].shape, Shape::Groups(groups) if retains(groups)),
            );
            let ttl = goes.then_some(rows::retained::TTL);
            let made = store.ensure_table_with(&table, &[rows::ROW_KEY], (ttl, index), deadline);
            made.await?;
        }
        if views.iter().any(View::needs_values_table) {
            let table = values::table_name(ledger_table);
            store.ensure_table(&table, &values::VALUE_KEYS, None, deadline).await?;
        }
        Ok(())
    }

    /// The views of this function's files: the definitions whose rows readers are given.
    #[must_use]
    pub fn definitions(&self) -> Vec<View> {
        let served = self.served();
        let listed = served.listed(&self.files).into_iter();
        listed.map(|view| served.definitions[view].clone()).collect()
    }

    /// The store they are kept in.
    #[must_use]
    pub fn store(&self) -> Store {
        self.served().store.clone()
    }

    /// Reads the tables that views are computed from in another store.
    #[must_use]
    pub fn with_source_store(mut self, source_store: Option<Store>) -> Self {
        let served = self.served.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(served) = Arc::get_mut(served) {
            served.source_store = source_store;
        }
        self
    }

    /// Lets a backfill continue itself: whoever invokes the function again.
    #[must_use]
    pub fn with_invoker(mut self, invoker: Option<Arc<dyn Invoke>>) -> Self {
        let served = self.served.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(served) = Arc::get_mut(served) {
            served.invoker = invoker;
        }
        self
    }

    /// The first rows of a view in the order of its key columns, and how many there are. The
    /// view is meant by its place among the [`definitions`](Self::definitions).
    ///
    /// # Errors
    /// The store does not answer, or a row is not as changefold writes it.
    ///
    /// # Panics
    /// There is no such view.
    pub async fn rows(&self, view: usize, limit: usize) -> Result<rows::Listing, StoreError> {
        let served = self.served();
        let view = served.listed(&self.files)[view];
        rows::listing::list(
            &served.store,
            &served.definitions[view],
            &served.view_tables[view],
            limit,
        )
        .await
    }

    /// The rows of one generation of a view, as [`rows`](Self::rows); none if it is not served.
    ///
    /// # Errors
    /// As [`rows`](Self::rows).
    pub async fn rows_of(
        &self,
        (view, generation): (&str, u32),
        limit: usize,
    ) -> Result<Option<rows::Listing>, StoreError> {
        let served = self.served();
        let Some(view) = served.view_of(view, generation) else { return Ok(None) };
        let (definition, table) = (&served.definitions[view], &served.view_tables[view]);
        rows::listing::list(&served.store, definition, table, limit).await.map(Some)
    }

    /// The first items that some view leaves out, and how many there are: reads the whole
    /// ledger.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn quarantined(&self, limit: usize) -> Result<quarantine::Quarantined, StoreError> {
        let served = self.served();
        quarantine::all(&served.store, &served.ledger_table, &served.names(), limit).await
    }

    fn served(&self) -> Arc<Served> {
        Arc::clone(&self.served.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads what is served again; whether it has changed.
    async fn reread(&self, former: &Served, deadline: Timestamp) -> Result<bool, Halt> {
        let (store, table) = (&former.store, &former.ledger_table);
        let registry = registry::served(store, table, &former.owner, deadline).await;
        let registry = registry.map_err(|error| Halt::new(error.code(), error.to_string()))?;
        let known = Known { definitions: &former.definitions, order: &self.files };
        let served = former.with(&registry, known);
        let served = served.map_err(|error| Halt::new(error.code(), error.to_string()))?;
        let has_changed = served.revision > former.revision;
        *self.served.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(served);
        Ok(has_changed)
    }
}

impl Work for Views {
    async fn work(
        &self,
        records: &[Record<'_>],
        outcomes: &mut [Outcome],
        measures: &mut Measures,
        call: &Call,
    ) -> Result<(), Halt> {
        loop {
            let served = self.served();
            let halt = match served
                .work(records, outcomes, measures, (call, work::Origin::Stream))
                .await
            {
                Err(halt) if is_outdated(&halt) => halt,
                ended => return ended,
            };
            if !self.reread(&served, call.deadline).await? {
                return Err(unchanged(halt, &served.ledger_table));
            }
            outcomes.fill(Outcome::default());
        }
    }

    #[cfg(feature = "backfill")]
    async fn operate(&self, operation: &Operation, call: &Call) -> Result<Value, Halt> {
        let mut served = self.served();
        let asked = generation::Asked { prefix: &self.view_table_prefix };
        if served.is_outdated(call.deadline).await.map_err(ledger::ledger_unread)? {
            self.reread(&served, call.deadline).await?;
        }
        loop {
            served = self.served();
            let halt = match served.carry_out(operation, asked, call).await {
                Err(halt) if halt.code == VIEWS_CHANGED => halt,
                ended => {
                    let changes =
                        matches!(operation, Operation::Switch(_) | Operation::DropView(_));
                    if changes && ended.is_ok() {
                        self.reread(&served, call.deadline).await?;
                    }
                    return ended;
                }
            };
            if !self.reread(&served, call.deadline).await? {
                return Err(unchanged(halt, &served.ledger_table));
            }
        }
    }

    /// What is left of the operations asks for nothing that a change of views changes.
    #[cfg(not(feature = "backfill"))]
    async fn operate(&self, operation: &Operation, call: &Call) -> Result<Value, Halt> {
        let asked = generation::Asked { prefix: &self.view_table_prefix };
        self.served().carry_out(operation, asked, call).await
    }
}

/// What is told where the registry is as it was: of a row that says otherwise, that it is wrong.
fn unchanged(halt: Halt, ledger_table: &str) -> Halt {
    if halt.code != VIEWS_CHANGED {
        return halt;
    }
    let message = format!(
        "the row {} of the ledger table {ledger_table} does not fit the registry; it must not be \
         written by anything else. If it was, delete it: the next change of views writes it",
        registry::served_key()
    );
    Halt::new("StateOfOtherViews", message)
}

/// Whether what is served may have changed since it was read.
fn is_outdated(halt: &Halt) -> bool {
    halt.code == VIEWS_CHANGED || halt.code == NO_VIEW_FOR_SOURCE
}
