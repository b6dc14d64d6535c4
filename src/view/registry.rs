//! Whose state it is, and which views are served: the registry, one row of the ledger's table.
//!
//! A ledger row says what an item contributed under the definition of that time. Started
//! with another definition, or with a view the rows know nothing of, every later difference
//! would be wrong. So the row is the truth about what is served, with the text of every view, and
//! the files of a function are proposals: what is new in them joins as a generation of its own
//! (`plan`), beside what is served. Functions of several versions therefore serve the same views.
//! The same row names the ledger's owner: what a second function with other views would add is
//! not this one's, so it is refused. And it says which sources have come (`Sources`).
//!
//! The row is replaced under its revision.

mod plan;
mod row;

use crate::{
    record::Timestamp,
    store::{
        Store, StoreError, Trouble,
        rows::{Change, number_of, text_of},
    },
    view::{building, definition::View, rows::ROW_KEY, source_item::LEDGER_KEY, sources::Sources},
};
pub(crate) use plan::{absent, plan, table_name};
pub(crate) use row::{Id, Registered, Registry};

const REGISTRY_KEY: &str = "V#";
/// Key of the row with the revision at which the served views changed last.
const SERVED_KEY: &str = "V#served";
/// What stands for the owner of a ledger that has none, where one is to be taken from it.
pub const NOBODY: &str = "nobody";

/// The state does not fit the views.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// The rows were computed by another definition of this view, and its source is a stream.
    #[error(
        "view {view}: the ledger table {table} was made by another definition of it, and a stream \
         cannot be read again: start the changed view on new tables (set CHANGEFOLD_LEDGER_TABLE \
         and CHANGEFOLD_VIEW_TABLE_PREFIX, or give replay another --state), or restore the old text"
    )]
    OtherDefinition {
        /// The view's name.
        view: String,
        /// The ledger table.
        table: String,
    },
    /// Items of a stream are in the ledger that this view has never seen.
    #[error(
        "view {view}: the ledger table {table} already holds items of {from} that this view has \
         not counted, and a stream cannot be read again; start it on new tables (set \
         CHANGEFOLD_LEDGER_TABLE and CHANGEFOLD_VIEW_TABLE_PREFIX, or give replay another --state)"
    )]
    AddedLater {
        /// The view's name.
        view: String,
        /// The view's source.
        from: String,
        /// The ledger table.
        table: String,
    },
    /// A view is to be built, and the program cannot.
    #[error(
        "view {view} was changed, or added to a source whose items are in the ledger table {table}: \
         it has to be built beside what is served, and this program was built without the feature \
         `backfill` (`infra/package.sh lambda lambda,backfill`)"
    )]
    NeedsBackfill {
        /// The view's name.
        view: String,
        /// The ledger table.
        table: String,
    },
    /// A generation was registered or dropped a moment ago.
    #[error(
        "the ledger table {table} has a generation without a date. Another start of the function \
         gives it one in a moment; if none does, start a program with the feature `backfill` once"
    )]
    Undated {
        /// The ledger table.
        table: String,
    },
    /// Two sources of one name feed a view that was changed or added later.
    #[error(
        "view {view} was changed or added later, and two sources named {from} feed the ledger table \
         {table}: what the second one has cannot be told apart from what came before the change. \
         Views of several sources of one name cannot be changed in place: start the function on \
         new tables (CHANGEFOLD_LEDGER_TABLE and CHANGEFOLD_VIEW_TABLE_PREFIX), or drop what \
         was added (`view drop {view} --generation`)"
    )]
    SeveralSources {
        /// The view's name.
        view: String,
        /// The name of the sources.
        from: String,
        /// The ledger table.
        table: String,
    },
    /// A generation would be kept in the table of another one.
    #[error(
        "view {view}: its generation {generation} would be kept in {table}, which is the table of \
         view {other}: rename one of the two views"
    )]
    TableTaken {
        /// The view's name.
        view: String,
        /// The generation that was to be built.
        generation: u32,
        /// The table.
        table: String,
        /// The view that has it.
        other: String,
    },
    /// More views read one source than a transaction holds.
    #[error(
        "with what the files propose, generation {generation} would have {views} views FROM {from}; \
         {max} can be kept exact together: deploy fewer changes at a time, or drop views"
    )]
    TooMany {
        /// The views' source.
        from: String,
        /// Their generation.
        generation: u32,
        /// How many there would be.
        views: usize,
        /// How many there may be.
        max: usize,
    },
    /// The ledger does not have the text by which a view's rows were made.
    #[error(
        "view {view}: the ledger table {table} is from a version of changefold that did not write \
         down its text. Start this version once with the view as it was; then it can be changed, \
         or taken out of the files"
    )]
    NoText {
        /// The view's name.
        view: String,
        /// The ledger table.
        table: String,
    },
    /// A generation has no table.
    #[error(
        "view {view} has changed: its generation {generation} needs a table {table}, which is not \
         there. Make it with the string key `{ROW_KEY}`, as the one the view has (in the template \
         of the function, a copy of that table's resource under the new name)"
    )]
    TableMissing {
        /// The view's name.
        view: String,
        /// The generation that was to be built.
        generation: u32,
        /// The table it needs.
        table: String,
    },
    /// The text of a registered view cannot be read by this version.
    #[error(
        "view {view}: its text in the ledger table {table} cannot be read by this version of \
         changefold; it was registered by a newer one, so deploy that one"
    )]
    NewerText {
        /// The view's name.
        view: String,
        /// The ledger table.
        table: String,
    },
    /// The ledger belongs to another function.
    #[error(
        "the ledger table {table} belongs to {owner}, and this is {name}: the views \
         of two functions do not share one. Give this one tables of its own (set \
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
            Self::OtherDefinition { .. }
            | Self::AddedLater { .. }
            | Self::NoText { .. }
            | Self::NewerText { .. }
            | Self::Unreadable { .. } => "StateOfOtherViews",
            Self::NeedsBackfill { .. } => "FeatureMissing",
            Self::Undated { .. } => "GenerationUndated",
            Self::SeveralSources { .. } => "SourcesOfOneName",
            Self::TooMany { .. } => "TooManyViews",
            Self::TableMissing { .. } => "ViewTableMissing",
            Self::TableTaken { .. } => "ViewTableTaken",
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

/// What is served, and what a start has changed of it.
#[derive(Debug, Default)]
pub(crate) struct Checked {
    pub(crate) registry: Registry,
    /// Views that are served although the files do not have them.
    pub(crate) absent: Vec<String>,
    /// Generations that are built from now on.
    pub(crate) building: Vec<Id>,
    /// The former owner, if the ledger was taken over.
    pub(crate) taken_from: Option<String>,
}

/// Where views are kept.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place<'p> {
    pub(crate) store: &'p Store,
    pub(crate) ledger_table: &'p str,
    pub(crate) view_table_prefix: &'p str,
}

/// Checks the owner against the state, registers what the files propose, and says what is served.
/// Without `proposes` nothing is registered.
///
/// # Errors
/// The ledger belongs to another function, a view cannot be built beside what is served, or the
/// store does not answer.
pub(crate) async fn check(
    place: Place<'_>,
    owner: &Owner,
    (files, proposes): (&[View], bool),
    deadline: Timestamp,
) -> Result<Checked, RegistryError> {
    let table = place.ledger_table;
    let mut building = Vec::new();
    loop {
        let registry = row::read(place.store, table, deadline).await?;
        let foreign = plan::absent_of_sources(&registry, files);
        let taken_from = take(&registry, owner, table, &foreign)?;
        let mut wanted = registry.clone();
        wanted.owner = Some(owner.name.clone());
        if registry.owner.is_none() && taken_from.is_some() {
            // They were taken away on purpose, and who reads their rows was told so.
            wanted.generations.retain(|(name, _), it| it.sql.is_some() || !foreign.contains(name));
        }
        let planned = if proposes {
            plan(place, wanted, files, deadline).await?
        } else {
            plan::with_texts(wanted, place, files)
        };
        for id in planned.building.iter().filter(|_| cfg!(feature = "backfill")) {
            has_table(place, (id, &planned.registry.generations[id]), deadline).await?;
        }
        if planned.registry != registry {
            let serves_others = planned.registry.serves_other_than(&registry);
            let written = (&planned.registry, serves_others);
            // Readers are given no table of a view that has none to be read yet.
            let is_added =
                |(view, _): &&Id| !planned.registry.of(view).any(|(_, it)| it.is_current);
            let added = planned.building.iter().filter(|_| cfg!(feature = "backfill"));
            let added = added.filter(is_added);
            let added = added
                .map(|(view, _)| Change::put(table, building::untold_row(view, building::ADDED)));
            if !wrote(place.store, table, written, added.collect(), deadline).await? {
                continue;
            }
            building.extend(planned.building);
            continue;
        }
        let registry = stamped(place.store, table, registry, deadline).await?;
        let absent = plan::absent(&registry, files);
        return Ok(Checked { registry, absent, building, taken_from });
    }
}

/// The tables that these views need, and those of all that is registered.
///
/// # Errors
/// The store does not answer. What a start refuses needs no table.
pub(crate) async fn tables(
    place: Place<'_>,
    files: &[View],
    deadline: Timestamp,
) -> Result<Vec<String>, StoreError> {
    let registered = match row::read(place.store, place.ledger_table, deadline).await {
        Ok(registry) => plan(place, registry, files, deadline).await,
        Err(error) => Err(error),
    };
    let first = || files.iter().map(|view| table_name(place.view_table_prefix, &view.name, 1));
    match registered {
        Ok(planned) => {
            let known = planned.registry.generations.into_values();
            Ok(known.filter_map(|known| known.table).collect())
        }
        Err(RegistryError::Store(error)) => Err(error),
        Err(_) => Ok(first().collect()),
    }
}

/// What is served by now, as the registry says.
///
/// # Errors
/// The ledger belongs to another function by now, or the store does not answer.
pub(crate) async fn served(
    store: &Store,
    table: &str,
    owner: &str,
    deadline: Timestamp,
) -> Result<Registry, RegistryError> {
    let registry = owned(store, table, owner, deadline).await?;
    stamped(store, table, registry, deadline).await
}

/// Dates what was registered or dropped and is not dated: by the store's clock, at a moment when
/// it was there. Nobody serves a generation before it is dated.
async fn stamped(
    store: &Store,
    table: &str,
    mut registry: Registry,
    deadline: Timestamp,
) -> Result<Registry, RegistryError> {
    let is_whole = |registry: &Registry| {
        let built = registry.generations.iter().filter(|((_, number), _)| *number > 1);
        built
            .map(|(_, known)| known)
            .chain(registry.dropped.values())
            .all(|it| it.since_ms.is_some())
    };
    if !cfg!(feature = "backfill") {
        let is_dated = is_whole(&registry);
        return is_dated
            .then_some(registry)
            .ok_or_else(|| RegistryError::Undated { table: table.to_owned() });
    }
    while !is_whole(&registry) {
        let (mut dated, Timestamp(now)) = row::read_dated(store, table, deadline).await?;
        for known in dated.generations.values_mut().chain(dated.dropped.values_mut()) {
            known.since_ms.get_or_insert(now);
        }
        if wrote(store, table, (&dated, false), Vec::new(), deadline).await? {
            dated.revision += 1;
        } else {
            dated = row::read(store, table, deadline).await?;
        }
        registry = dated;
    }
    Ok(registry)
}

/// Refuses where a generation has no table.
async fn has_table(
    place: Place<'_>,
    (id, known): (&Id, &Registered),
    deadline: Timestamp,
) -> Result<(), RegistryError> {
    let table = known.table.clone().unwrap_or_default();
    match place.store.get(&table, ROW_KEY, "-", deadline).await {
        Err(error) if error.code == "ResourceNotFoundException" => {
            let (view, generation) = id.clone();
            Err(RegistryError::TableMissing { view, generation, table })
        }
        Err(error) => Err(error.into()),
        Ok(_) => Ok(()),
    }
}

/// Writes the registry, and other changes with it; false if it has to be read again.
pub(crate) async fn wrote(
    store: &Store,
    table: &str,
    (registry, serves_others): (&Registry, bool),
    others: Vec<Change>,
    deadline: Timestamp,
) -> Result<bool, StoreError> {
    match row::write(store, table, (registry, serves_others), others, deadline).await {
        Ok(()) => Ok(true),
        Err(error) if matches!(error.trouble, Trouble::Guard | Trouble::Unknown) => Ok(false),
        Err(error) => Err(error),
    }
}

/// The key of the row that [`served_at`] reads.
pub(crate) fn served_key() -> String {
    SERVED_KEY.to_owned()
}

/// Whether a row of the ledger's table is the one of [`served_key`], and then its revision.
pub(crate) fn served_at(row: &crate::store::Item) -> Option<u64> {
    text_of(row, LEDGER_KEY).filter(|key| *key == SERVED_KEY)?;
    Some(number_of(row, "rev").unwrap_or(u64::MAX))
}

/// Writes down that a source has come, unless that is known; gives back what is known then.
///
/// # Errors
/// Another one of its name has come before, and a view of them was changed or added later; the
/// ledger belongs to another function by now; or the store does not answer.
pub(crate) async fn bind(
    store: &Store,
    table: &str,
    owner: &str,
    (arn, resource): (&str, &str),
    deadline: Timestamp,
) -> Result<Sources, RegistryError> {
    loop {
        let mut registry = owned(store, table, owner, deadline).await?;
        if registry.sources().has_come(arn) {
            return Ok(registry.sources());
        }
        if registry.first.contains_key(resource) {
            let name = resource.rsplit('/').next().unwrap_or_default();
            let mut later = registry.generations.iter().filter(|((_, number), _)| *number > 1);
            if let Some(((view, _), _)) = later.find(|(_, known)| known.from == name) {
                let (view, from, table) = (view.clone(), name.to_owned(), table.to_owned());
                return Err(RegistryError::SeveralSources { view, from, table });
            }
            registry.also.insert(arn.to_owned());
        } else {
            registry.first.insert(resource.to_owned(), arn.to_owned());
        }
        if wrote(store, table, (&registry, false), Vec::new(), deadline).await? {
            return Ok(registry.sources());
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
    Ok(row::read(store, table, deadline).await?.sources())
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

/// The registry, if the ledger is still this owner's.
///
/// # Errors
/// It is not, or the store does not answer.
pub(crate) async fn owned(
    store: &Store,
    table: &str,
    owner: &str,
    deadline: Timestamp,
) -> Result<Registry, RegistryError> {
    let registry = row::read(store, table, deadline).await?;
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
    foreign: &[String],
) -> Result<Option<String>, RegistryError> {
    let takes_from = owner.takes_from.as_deref();
    match &registry.owner {
        Some(name) if *name == owner.name => Ok(None),
        Some(former) if takes_from == Some(former) => Ok(Some(former.clone())),
        Some(other) => Err(of_another(table, other, &owner.name)),
        // A new ledger, or one written before there were owners.
        None if foreign.is_empty() => Ok(None),
        None if takes_from == Some(NOBODY) => Ok(Some(NOBODY.to_owned())),
        None => Err(RegistryError::OfNobody {
            table: table.to_owned(),
            views: foreign.join(", "),
            name: owner.name.clone(),
        }),
    }
}

fn of_another(table: &str, owner: &str, name: &str) -> RegistryError {
    let [table, owner, name] = [table, owner, name].map(str::to_owned);
    RegistryError::OfAnother { table, owner, name }
}
