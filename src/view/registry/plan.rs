//! What the files of a function propose, made into what is registered.
//!
//! - A definition that a generation of the view has, the current one or another, is served.
//! - A view that is new joins as its first generation, current, if no record of its source has
//!   come: then no invocation can be under way that will write the source's first ledger rows
//!   without it, for it writes down that the source has come before it looks at the ledger.
//! - Any other is a new generation, which is built beside what is served. Those that one start
//!   adds share a number, so that they share ledger rows too. No number is used twice.
//!
//! What is registered and not in the files stays. An older version of the function therefore takes
//! nothing away that a newer one has added, and what it lacks it learns from the registry.

use super::{Id, Place, Registered, Registry, RegistryError};
use crate::{
    record::Timestamp,
    store::{Filter, Store, StoreError, rows::text_of},
    view::{
        ROWS_OF_CHANGE_MAX,
        definition::View,
        source_item::LEDGER_KEY,
        sources::{self, kind_of},
        sql,
    },
};
use std::collections::BTreeMap;

/// What is to be registered.
#[derive(Debug)]
pub(crate) struct Planned {
    pub(crate) registry: Registry,
    /// Generations that are new and not current.
    pub(crate) building: Vec<Id>,
}

/// Enters what the files propose.
///
/// # Errors
/// A view cannot be built beside what is served, or the store does not answer.
pub(crate) async fn plan(
    place: Place<'_>,
    registry: Registry,
    files: &[View],
    deadline: Timestamp,
) -> Result<Planned, RegistryError> {
    let mut planned = with_texts(registry, place, files);
    let before = planned.registry.clone();
    let sources = before.sources();
    let number_next = before.next_number();
    // Of all the views of a source the first to be new asks; the others do as it does.
    let mut asked: BTreeMap<(&str, String), bool> = BTreeMap::new();
    for view in files {
        let fingerprint = view.fingerprint();
        if before.of(&view.name).any(|(_, known)| known.fingerprint == fingerprint) {
            continue;
        }
        let from = view.from.as_str();
        let joined = view.join.as_ref().map(|join| (join.table.as_str(), kind_of(None, 1)));
        let read = std::iter::once((from, kind_of(view.key.as_ref(), 1))).chain(joined);
        let mut is_first = !before.has_had(view);
        for (source, kind) in read {
            if !is_first {
                break;
            }
            let has_items = match asked.get(&(source, kind.clone())) {
                Some(has_items) => *has_items,
                None => {
                    has_items((place.store, place.ledger_table), (source, &kind), deadline).await?
                }
            };
            asked.insert((source, kind), has_items);
            is_first = !has_items;
        }
        let number = if is_first { 1 } else { number_next };
        let table = table_name(place.view_table_prefix, &view.name, number);
        if !is_first {
            let present = (place, &before);
            building(present, (view, number), &mut planned)?;
        }
        is_free(&planned.registry, (view, number), &table)?;
        let known = Registered {
            from: view.from.clone(),
            by_name: sources.by_name.contains(from),
            fingerprint,
            sql: Some(view.to_string()),
            table: Some(table),
            is_current: is_first,
            ..Registered::default()
        };
        planned.registry.generations.insert((view.name.clone(), number), known);
    }
    #[cfg(feature = "backfill")]
    if planned.registry.generations.len() > before.generations.len() {
        fit(&planned.registry)?;
    }
    let textless = absent_of_sources(&planned.registry, files)
        .into_iter()
        .find(|view| planned.registry.of(view).any(|(_, known)| known.sql.is_none()));
    match textless {
        Some(view) => Err(no_text(place, view)),
        None => Ok(planned),
    }
}

/// Writes down texts and tables that functions from before generations did not.
pub(super) fn with_texts(mut registry: Registry, place: Place<'_>, files: &[View]) -> Planned {
    for ((name, number), known) in &mut registry.generations {
        let is_it = |view: &&View| view.name == *name && view.fingerprint() == known.fingerprint;
        if known.sql.is_none()
            && let Some(view) = files.iter().find(is_it)
        {
            known.sql = Some(view.to_string());
        }
        let table = || table_name(place.view_table_prefix, name, *number);
        known.table.get_or_insert_with(table);
    }
    Planned { registry, building: Vec::new() }
}

/// Notes that a generation is to be built, unless it cannot be: by nobody, or not by this program.
#[cfg_attr(not(feature = "backfill"), expect(unused_variables, reason = "it notes nothing"))]
fn building(
    (place, before): (Place<'_>, &Registry),
    (view, number): (&View, u32),
    planned: &mut Planned,
) -> Result<(), RegistryError> {
    refuse(place, before, view)?;
    #[cfg(not(feature = "backfill"))]
    return Err(RegistryError::NeedsBackfill {
        view: view.name.clone(),
        table: place.ledger_table.to_owned(),
    });
    #[cfg(feature = "backfill")]
    {
        planned.registry.number_max = number;
        planned.building.push((view.name.clone(), number));
        Ok(())
    }
}

/// Refuses what cannot be built beside what is served.
fn refuse(place: Place<'_>, registry: &Registry, view: &View) -> Result<(), RegistryError> {
    let table = place.ledger_table.to_owned();
    if registry.of(&view.name).any(|(_, known)| known.sql.is_none()) {
        return Err(no_text(place, view.name.clone()));
    }
    let is_stream =
        view.key.is_some() || (registry.knows("stream", view) && !registry.knows("table", view));
    let joined = view.join.as_ref().map(|join| &join.table);
    for from in std::iter::once(&view.from).chain(joined) {
        if !registry.also.iter().any(|arn| arn.ends_with(&format!(":table/{from}"))) {
            continue;
        }
        let (view, from) = (view.name.clone(), from.clone());
        return Err(RegistryError::SeveralSources { view, from, table });
    }
    match (is_stream, registry.of(&view.name).next()) {
        (false, _) => Ok(()),
        (true, Some(_)) => Err(RegistryError::OtherDefinition { view: view.name.clone(), table }),
        (true, None) => {
            let (view, from) = (view.name.clone(), view.from.clone());
            Err(RegistryError::AddedLater { view, from, table })
        }
    }
}

fn no_text(place: Place<'_>, view: String) -> RegistryError {
    RegistryError::NoText { view, table: place.ledger_table.to_owned() }
}

/// Refuses a table that another generation has.
fn is_free(
    registry: &Registry,
    (view, generation): (&View, u32),
    table: &str,
) -> Result<(), RegistryError> {
    let mut all = registry.generations.iter().chain(&registry.dropped);
    match all.find(|(_, known)| known.table.as_deref() == Some(table)) {
        None => Ok(()),
        Some(((other, _), _)) => Err(RegistryError::TableTaken {
            view: view.name.clone(),
            generation,
            table: table.to_owned(),
            other: other.clone(),
        }),
    }
}

/// Refuses what could not be served: views in a group that touch more rows with one change than a
/// transaction holds.
fn fit(registry: &Registry) -> Result<(), RegistryError> {
    let mut groups: BTreeMap<(String, Option<String>, u32), usize> = BTreeMap::new();
    for ((_, number), known) in &registry.generations {
        let view = known.view();
        let rows = view.as_ref().map_or(2, View::rows_of_change);
        let own = (known.from.clone(), known.kind(*number), *number);
        *groups.entry(own).or_default() += rows;
        if let Some(join) = view.and_then(|view| view.join) {
            let other = (join.table, Some(kind_of(None, *number)), *number);
            *groups.entry(other).or_default() += 1;
        }
    }
    match groups.into_iter().find(|(_, rows)| *rows > ROWS_OF_CHANGE_MAX) {
        None => Ok(()),
        Some(((from, _, generation), rows)) => {
            Err(RegistryError::TooMany { from, generation, rows, max: ROWS_OF_CHANGE_MAX })
        }
    }
}

impl Registered {
    /// What tells its ledger rows from others of its source; none if its text is not known or
    /// cannot be read.
    pub(crate) fn kind(&self, number: u32) -> Option<String> {
        self.view().map(|view| kind_of(view.key.as_ref(), number))
    }

    /// Whether rows of values may be kept of it; no if its text is not known, for those that wrote
    /// none kept none. A text that cannot be read is of another version, which may have.
    pub(crate) fn keeps_values(&self) -> bool {
        self.sql.is_some() && self.view().is_none_or(|view| view.needs_values_table())
    }

    /// The table that the view joins its items with, if it does and its text can be read.
    pub(crate) fn joined_table(&self) -> Option<String> {
        self.view()?.join.map(|join| join.table)
    }

    fn view(&self) -> Option<View> {
        sql::parse(self.sql.as_deref()?).ok()?.into_iter().next()
    }
}

impl Registry {
    /// A number that no generation has had.
    fn next_number(&self) -> u32 {
        let used = self.generations.keys().chain(self.dropped.keys()).map(|(_, number)| *number);
        used.chain([self.number_max, 1]).max().unwrap_or(1) + 1
    }

    /// Whether a view of this name has been served, or a record of its source may have come.
    fn has_had(&self, view: &View) -> bool {
        let mut names = self.generations.keys().chain(self.dropped.keys()).map(|(name, _)| name);
        names.any(|name| *name == view.name)
            || self.retired.contains(&view.name)
            || self.knows("table", view)
            || self.knows("stream", view)
    }

    /// Whether records of a source of this kind have come that the view reads.
    fn knows(&self, kind: &str, view: &View) -> bool {
        let joined = view.join.as_ref().map(|join| &join.table);
        let mut sources = std::iter::once(&view.from).chain(joined);
        sources.any(|source| self.first.contains_key(&format!("{kind}/{source}")))
    }

    /// Whether other generations are served, or other ones are current.
    pub(crate) fn serves_other_than(&self, other: &Self) -> bool {
        let served = |registry: &Self| -> Vec<(Id, bool)> {
            let all = registry.generations.iter();
            all.map(|(id, known)| (id.clone(), known.is_current)).collect()
        };
        served(self) != served(other)
    }
}

/// The name of a generation's table.
pub(crate) fn table_name(prefix: &str, view: &str, number: u32) -> String {
    if number == 1 { format!("{prefix}{view}") } else { format!("{prefix}{view}_g{number}") }
}

/// Views that are registered and not in the files.
pub(crate) fn absent(registry: &Registry, files: &[View]) -> Vec<String> {
    let names = registry.generations.keys().map(|(name, _)| name);
    let mut absent: Vec<String> =
        names.filter(|name| !files.iter().any(|view| view.name == **name)).cloned().collect();
    absent.dedup();
    absent
}

/// Of these, the ones of sources that the files read.
pub(super) fn absent_of_sources(registry: &Registry, files: &[View]) -> Vec<String> {
    let is_read = |name: &String| {
        let mut known = registry.of(name).map(|(_, known)| &known.from);
        known.any(|from| files.iter().any(|view| view.from == *from))
    };
    absent(registry, files).into_iter().filter(is_read).collect()
}

/// Whether the ledger holds any item of this name and kind, filed in either way. Reads until
/// it finds one, which is soon where there are any; it is asked only when a view is new to the
/// state.
async fn has_items(
    (store, table): (&Store, &str),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_cannot_be_read_may_be_of_a_view_that_keeps_values() {
        for (columns, keeps) in
            [("min(x) AS lo", true), ("count(*) AS n", false), ("newest(x) AS it", true)]
        {
            let sql = format!("CREATE MATERIALIZED VIEW v AS SELECT {columns} FROM t");
            let known = Registered { sql: Some(sql), ..Registered::default() };
            assert_eq!(known.keeps_values(), keeps, "{columns}");
        }
        assert!(!Registered::default().keeps_values());
    }
}
