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

mod error;
mod plan;
mod row;

#[cfg(feature = "backfill")]
use crate::view::{building, rows::ROW_KEY};
use crate::{
    record::Timestamp,
    store::{
        Store, StoreError, Trouble,
        rows::{Change, number_of, text_of},
    },
    view::{definition::View, source_item::LEDGER_KEY, sources::Sources},
};
pub use error::RegistryError;
pub(crate) use plan::{absent, plan, table_name};
pub(crate) use row::{Id, Registered, Registry};

const REGISTRY_KEY: &str = "V#";
/// Key of the row with the revision at which the served views changed last.
const SERVED_KEY: &str = "V#served";
/// What stands for the owner of a ledger that has none, where one is to be taken from it.
pub const NOBODY: &str = "nobody";

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
        // Whoever was first has registered them meanwhile, and what was found is of its records.
        if !planned.building.is_empty()
            && row::read(place.store, table, deadline).await? != registry
        {
            continue;
        }
        #[cfg(feature = "backfill")]
        for id in &planned.building {
            has_table(place, (id, &planned.registry.generations[id]), deadline).await?;
        }
        if planned.registry != registry {
            let serves_others = planned.registry.serves_other_than(&registry);
            let written = (&planned.registry, serves_others);
            if !wrote(place.store, table, written, added(table, &planned), deadline).await? {
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
) -> Result<Vec<(String, Option<usize>)>, StoreError> {
    let registered = match row::read(place.store, place.ledger_table, deadline).await {
        Ok(registry) => plan(place, registry, files, deadline).await,
        Err(error) => Err(error),
    };
    let first = |view: &View| table_name(place.view_table_prefix, &view.name, 1);
    match registered {
        Ok(planned) => {
            let known = planned.registry.generations.into_iter();
            let tables = known.filter_map(|((name, _), known)| {
                let is_it =
                    |view: &View| view.name == name && view.fingerprint() == known.fingerprint;
                Some((known.table?, files.iter().position(is_it)))
            });
            Ok(tables.collect())
        }
        Err(RegistryError::Store(error)) => Err(error),
        Err(_) => Ok(files.iter().map(first).zip((0..files.len()).map(Some)).collect()),
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

/// Readers are given no table of a view that has none to be read yet: the rows that say so.
#[cfg(feature = "backfill")]
fn added(table: &str, planned: &plan::Planned) -> Vec<Change> {
    let is_added = |(view, _): &&Id| !planned.registry.of(view).any(|(_, it)| it.is_current);
    let added = planned.building.iter().filter(is_added);
    added
        .map(|(view, _)| {
            Change::put(table, building::row_without_generation(view, building::ADDED))
        })
        .collect()
}

#[cfg(not(feature = "backfill"))]
fn added(_: &str, _: &plan::Planned) -> Vec<Change> {
    Vec::new()
}

/// Dates what was registered or dropped and is not dated: by the store's clock, at a moment when
/// it was there. Nobody serves a generation before it is dated.
#[cfg(feature = "backfill")]
async fn stamped(
    store: &Store,
    table: &str,
    mut registry: Registry,
    deadline: Timestamp,
) -> Result<Registry, RegistryError> {
    while !registry.is_dated() {
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

/// Refuses what is not dated. A program that cannot build generations leaves their dates to those
/// that can: the calls for it would make it larger by an eighth of a megabyte.
#[cfg(not(feature = "backfill"))]
async fn stamped(
    _: &Store,
    table: &str,
    registry: Registry,
    _: Timestamp,
) -> Result<Registry, RegistryError> {
    if registry.is_dated() {
        return Ok(registry);
    }
    Err(RegistryError::Undated { table: table.to_owned() })
}

/// Refuses where a generation has no table.
#[cfg(feature = "backfill")]
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
            let reads = |known: &Registered| {
                known.from == name || known.joined_table().is_some_and(|table| table == name)
            };
            if let Some(((view, _), _)) = later.find(|(_, known)| reads(known)) {
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
    Ok(known(store, table, deadline).await?.sources())
}

/// The registry as the ledger's table has it, for who reads and owns nothing.
///
/// # Errors
/// It is unreadable, or the store does not answer.
pub(crate) async fn known(
    store: &Store,
    table: &str,
    deadline: Timestamp,
) -> Result<Registry, RegistryError> {
    row::read(store, table, deadline).await
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
