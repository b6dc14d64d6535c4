//! The views that are served, as the registry said when it was read.
//!
//! Immutable: when the registry changes, a new one takes its place (`Views`). Every generation of a
//! view is one of the views here. Those of one generation that read the same source by the same key
//! are a group and share ledger rows; rows of different groups never mix.

use super::{
    COLUMNS_MAX, OpenError, ROWS_OF_CHANGE_MAX,
    definition::{Path, View},
    registry::{self, Id, Registered, Registry, RegistryError},
    sources::{self, Filing, Sources, kind_of},
    sql,
};
use crate::{
    hex::hex,
    invoke::Invoke,
    record::Timestamp,
    store::{Store, StoreError, rows::number_of},
    view::source_item::LEDGER_KEY,
};
use sha2::{Digest, Sha256};
use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Views, on their tables.
#[derive(Debug)]
pub(crate) struct Served {
    pub(super) store: Store,
    /// Where the tables are that views are computed from, if not in the same store.
    pub(super) source_store: Option<Store>,
    /// Who invokes the function again, where a backfill is to continue itself.
    pub(super) invoker: Option<Arc<dyn Invoke>>,
    pub(super) ledger_table: String,
    pub(super) owner: String,
    /// The registry's revision when it was read.
    pub(super) revision: u64,
    pub(super) definitions: Vec<View>,
    pub(super) view_tables: Vec<String>,
    pub(super) generations: Vec<Generation>,
    pub(super) groups: Vec<Group>,
    /// The sources that have come. Never held over a call.
    pub(super) sources: Mutex<Sources>,
}

/// Which generation of its view a view is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Generation {
    pub(crate) number: u32,
    /// Whether readers of the view read it.
    pub(crate) is_current: bool,
    /// When it was seen registered, by the store's clock; the first generation has no date.
    pub(crate) since: Option<Timestamp>,
}

/// Views that share the ledger rows of one source: same stream, same item key, same generation.
#[derive(Debug)]
pub(crate) struct Group {
    pub(super) stream: String,
    pub(super) key: Option<Path>,
    pub(super) generation: u32,
    /// What tells its ledger rows from others of the source.
    pub(super) kind: String,
    pub(super) views: Vec<usize>,
    /// The views of other sources that join their items with those of this one.
    pub(super) joined: Vec<usize>,
    /// The attributes its views look at.
    pub(super) attributes: Arc<[String]>,
    /// Records that were created before are not for it: what it reads of the source later has
    /// them in it.
    pub(super) from: Option<Timestamp>,
}

impl Group {
    /// All views that its items are read for.
    pub(super) fn all_views(&self) -> impl Iterator<Item = usize> {
        self.views.iter().chain(&self.joined).copied()
    }
}

/// Definitions that are known already, and those whose order is kept.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known<'k> {
    pub(super) definitions: &'k [View],
    pub(super) order: &'k [View],
}

impl Served {
    /// Serves nothing yet.
    pub(super) fn nothing(store: Store, ledger_table: &str, owner: &str) -> Self {
        Self {
            store,
            source_store: None,
            invoker: None,
            ledger_table: ledger_table.to_owned(),
            owner: owner.to_owned(),
            revision: 0,
            definitions: Vec::new(),
            view_tables: Vec::new(),
            generations: Vec::new(),
            groups: Vec::new(),
            sources: Mutex::default(),
        }
    }

    /// The same stores, serving what is registered now.
    ///
    /// # Errors
    /// A text cannot be read by this version, or the views cannot be kept together.
    pub(super) fn with(&self, registry: &Registry, known: Known<'_>) -> Result<Self, OpenError> {
        let is_of = |view: &View, id: &Id| id.0 == view.name;
        let ordered = known
            .order
            .iter()
            .flat_map(|view| registry.generations.iter().filter(move |(id, _)| is_of(view, id)));
        let others = registry.generations.iter();
        let others = others.filter(|(id, _)| !known.order.iter().any(|view| is_of(view, id)));
        let all = ordered.chain(others);
        let (mut definitions, mut view_tables, mut generations) = (vec![], vec![], vec![]);
        for ((name, number), registered) in all {
            let table = &self.ledger_table;
            let Some(view) = definition(name, registered, known.definitions, table)? else {
                continue;
            };
            definitions.push(view);
            view_tables.push(registered.table.clone().unwrap_or_default());
            generations.push(Generation {
                number: *number,
                is_current: registered.is_current,
                since: registered.since_ms.filter(|_| *number > 1).map(Timestamp),
            });
        }
        let groups = groups_of(&definitions, &generations)?;
        Ok(Self {
            store: self.store.clone(),
            source_store: self.source_store.clone(),
            invoker: self.invoker.clone(),
            ledger_table: self.ledger_table.clone(),
            owner: self.owner.clone(),
            revision: registry.revision,
            definitions,
            view_tables,
            generations,
            groups,
            sources: Mutex::new(registry.sources()),
        })
    }

    /// Where the tables are that views are computed from.
    pub(super) fn source_store(&self) -> &Store {
        self.source_store.as_ref().unwrap_or(&self.store)
    }

    pub(super) fn names(&self) -> Vec<&str> {
        self.definitions.iter().map(|view| view.name.as_str()).collect()
    }

    /// The generation of a view, by its number.
    pub(super) fn view_of(&self, name: &str, number: u32) -> Option<usize> {
        let is_it = |&view: &usize| {
            self.definitions[view].name == name && self.generations[view].number == number
        };
        (0..self.definitions.len()).find(is_it)
    }

    /// The generation of each view that readers are given; of one that has none yet, the newest.
    pub(super) fn listed(&self, views: &[View]) -> Vec<usize> {
        let listed = views.iter().map(|view| {
            let is_of = |&at: &usize| self.definitions[at].name == view.name;
            let mut of = (0..self.definitions.len()).filter(is_of);
            let newest = of.clone().next_back();
            of.find(|&at| self.generations[at].is_current).or(newest)
        });
        listed.flatten().collect()
    }

    /// Tells these views, in their order, from others.
    pub(super) fn mark(&self) -> String {
        let views = self.definitions.iter().zip(&self.generations);
        let hash = views.fold(Sha256::new(), |hash, (view, generation)| {
            let name = view.name.as_bytes();
            hash.chain_update(generation.number.to_be_bytes()).chain_update(name).chain_update([0])
        });
        hex(&hash.finalize()[..4])
    }

    /// The group that a ledger row is one of.
    pub(super) fn group_of(&self, ledger_key: &str) -> Option<usize> {
        let is_of = |group: &Group| sources::is_of(ledger_key, &group.stream, &group.kind);
        self.groups.iter().position(is_of)
    }

    /// Whether what is served has changed since the registry was read.
    ///
    /// # Errors
    /// The store does not answer.
    pub(super) async fn is_outdated(&self, deadline: Timestamp) -> Result<bool, StoreError> {
        let key = registry::served_key();
        let row = self.store.get(&self.ledger_table, LEDGER_KEY, &key, deadline).await?;
        let revision: Option<u64> = row.and_then(|row| number_of(&row, "rev"));
        Ok(revision.is_some_and(|revision| revision > self.revision))
    }

    /// How the items of a source are filed that an operator names. If none of its name has come,
    /// it is written down as the first.
    pub(super) async fn filing(
        &self,
        arn: &str,
        deadline: Timestamp,
    ) -> Result<Filing, RegistryError> {
        let known = self.sources().filing(arn);
        self.or_bound(known, arn, deadline).await
    }

    /// How the items of a source are filed whose records have come. That they have is written
    /// down, once for the life of the ledger.
    pub(super) async fn filing_of_records(
        &self,
        arn: &str,
        deadline: Timestamp,
    ) -> Result<Filing, RegistryError> {
        let known = {
            let sources = self.sources();
            sources.filing(arn).filter(|_| sources.has_come(arn))
        };
        self.or_bound(known, arn, deadline).await
    }

    /// What is known, or else what the registry says once it has the source.
    async fn or_bound(
        &self,
        known: Option<Filing>,
        arn: &str,
        deadline: Timestamp,
    ) -> Result<Filing, RegistryError> {
        if let Some(filing) = known {
            return Ok(filing);
        }
        let unreadable = || RegistryError::Unreadable { table: self.ledger_table.clone() };
        let source = (arn, sources::resource(arn).ok_or_else(unreadable)?);
        let (table, owner) = (&self.ledger_table, &self.owner);
        let bound = registry::bind(&self.store, table, owner, source, deadline).await?;
        let filing = bound.filing(arn).ok_or_else(unreadable);
        *self.sources() = bound;
        filing
    }

    /// The sources that have come. Never held over a call.
    pub(super) fn sources(&self) -> MutexGuard<'_, Sources> {
        self.sources.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The definition of a generation. One without a text, of a source that this function does not
/// read, is not served.
fn definition(
    name: &str,
    registered: &Registered,
    known: &[View],
    ledger_table: &str,
) -> Result<Option<View>, RegistryError> {
    let is_it = |view: &&View| view.name == name && view.fingerprint() == registered.fingerprint;
    if let Some(view) = known.iter().find(is_it) {
        return Ok(Some(view.clone()));
    }
    let Some(text) = &registered.sql else { return Ok(None) };
    let parsed = sql::parse(text).ok().and_then(|views| views.into_iter().find(|it| is_it(&it)));
    let newer = || {
        let (view, table) = (name.to_owned(), ledger_table.to_owned());
        RegistryError::NewerText { view, table }
    };
    parsed.map(Some).ok_or_else(newer)
}

/// Refuses files that cannot be served.
pub(super) fn check(views: &[View]) -> Result<(), OpenError> {
    for (index, view) in views.iter().enumerate() {
        if views[..index].iter().any(|other| other.name == view.name) {
            return Err(OpenError::Twice(view.name.clone()));
        }
        if view.columns().len() > COLUMNS_MAX {
            return Err(OpenError::TooWide(view.name.clone()));
        }
    }
    let first = Generation { number: 1, is_current: true, since: None };
    groups_of(views, &vec![first; views.len()]).map(|_| ())
}

/// Groups the views by what they read; refuses what cannot be served.
fn groups_of(views: &[View], generations: &[Generation]) -> Result<Vec<Group>, OpenError> {
    let mut groups: Vec<Group> = Vec::new();
    let place = |groups: &mut Vec<Group>, (stream, key): (&str, Option<&Path>), number: u32| {
        let kind = kind_of(key, number);
        let is_same = |group: &Group| group.stream == stream && group.kind == kind;
        groups.iter().position(is_same).unwrap_or_else(|| {
            groups.push(Group {
                stream: stream.to_owned(),
                key: key.cloned(),
                generation: number,
                kind,
                views: Vec::new(),
                joined: Vec::new(),
                attributes: Arc::default(),
                from: None,
            });
            groups.len() - 1
        })
    };
    for (index, (view, generation)) in views.iter().zip(generations).enumerate() {
        let own = place(&mut groups, (&view.from, view.key.as_ref()), generation.number);
        groups[own].views.push(index);
        let mut places = vec![own];
        if let Some(join) = &view.join {
            let other = place(&mut groups, (&join.table, None), generation.number);
            groups[other].joined.push(index);
            places.push(other);
        }
        for place in places {
            groups[place].from = groups[place].from.max(since_of(*generation));
        }
    }
    for group in &mut groups {
        let own = group.views.iter().flat_map(|&view| views[view].attributes());
        let joined = group.joined.iter().flat_map(|&view| views[view].joined_attributes());
        let names: BTreeSet<&str> = own.chain(joined).collect();
        group.attributes = names.into_iter().map(str::to_owned).collect();
    }
    let rows = |group: &Group| -> usize {
        let own = group.views.iter().map(|&view| views[view].rows_of_change());
        own.sum::<usize>() + group.joined.len()
    };
    if let Some(group) = groups.iter().find(|group| rows(group) > ROWS_OF_CHANGE_MAX) {
        return Err(OpenError::TooMany(group.stream.clone()));
    }
    Ok(groups)
}

fn since_of(generation: Generation) -> Option<Timestamp> {
    generation.since.map(super::generation::first_record)
}
