//! What a deploy of other definitions would do.
//!
//! The plan is the one that a start makes of the same files (`registry::plan`), and nothing of it
//! is written.

use super::Asked;
use crate::{
    call::{Call, Halt},
    operation::generations::{Diff, Difference, Differences, Kind},
    telemetry,
    view::{
        backfill::estimate_of,
        definition::{Shape, View},
        registry::{self, Place, Registry},
        served::{self, Served},
        sql,
    },
};
use std::collections::BTreeMap;

impl Served {
    /// Compares definitions with what is registered.
    ///
    /// # Errors
    /// A text is no view, or the views could not be served; or a store does not answer.
    pub(in crate::view) async fn diff(
        &self,
        diff: &Diff,
        asked: Asked<'_>,
        call: &Call,
    ) -> Result<Differences, Halt> {
        let files = files_of(diff)?;
        served::check(&files).map_err(|error| Halt::new(error.code(), error.to_string()))?;
        let present = self.owned_registry(call.deadline).await?;
        let place = Place {
            store: &self.store,
            ledger_table: &self.ledger_table,
            view_table_prefix: asked.prefix,
        };
        let planned = registry::plan(place, present.clone(), &files, call.deadline).await;
        let planned = planned?.registry;
        let mut told = Differences::default();
        let mut to_build: BTreeMap<&str, Vec<&View>> = BTreeMap::new();
        for view in &files {
            let difference = self.difference(view, (&present, &planned));
            if matches!(difference.change, Kind::Added | Kind::Changed) {
                to_build.entry(&view.from).or_default().push(view);
            }
            told.views.push(difference);
        }
        for view in registry::absent(&present, &files) {
            told.views.push(Difference {
                view,
                change: Kind::Absent,
                parts: Vec::new(),
                generation: None,
                table: None,
            });
        }
        for (from, views) in to_build {
            match self.source_table(from, call.deadline).await {
                Ok(source) => told.backfills.push(estimate_of(&source, &views, 1)),
                // What is to be built does not depend on whether the source can be read.
                Err(halt) => {
                    telemetry::source_not_estimated(from, &halt);
                    told.not_estimated.push(from.to_owned());
                }
            }
        }
        Ok(told)
    }

    fn difference(&self, view: &View, (present, planned): (&Registry, &Registry)) -> Difference {
        let fingerprint = view.fingerprint();
        let is_it = |registry: &Registry| {
            let mut all = registry.of(&view.name).filter(|(_, it)| it.fingerprint == fingerprint);
            all.next().map(|(number, known)| (number, known.clone()))
        };
        let current = present.of(&view.name).find(|(_, known)| known.is_current);
        let change = match (is_it(present), is_it(planned)) {
            (Some((_, known)), _) if known.is_current => Kind::Unchanged,
            (Some(_), _) => Kind::Built,
            (None, Some((_, known))) if known.is_current => Kind::Joins,
            (None, _) if present.of(&view.name).next().is_none() => Kind::Added,
            (None, _) => Kind::Changed,
        };
        let former = current.and_then(|(number, _)| self.view_of(&view.name, number));
        let parts = match former.map(|at| &self.definitions[at]) {
            Some(former) if matches!(change, Kind::Changed | Kind::Built) => parts(former, view),
            _ => Vec::new(),
        };
        let (generation, table) = match is_it(planned) {
            Some((number, known)) => (Some(number), known.table),
            None => (None, None),
        };
        Difference { view: view.name.clone(), change, parts, generation, table }
    }
}

fn files_of(diff: &Diff) -> Result<Vec<View>, Halt> {
    let mut files = Vec::new();
    for text in &diff.views {
        let views = sql::parse(text).map_err(|error| {
            Halt::new("ViewsInvalid", "a definition is not in the subset of SQL").caused_by(error)
        })?;
        files.extend(views);
    }
    Ok(files)
}

/// In which parts two definitions differ.
fn parts(former: &View, view: &View) -> Vec<String> {
    let keys = |view: &View| match &view.shape {
        Shape::Rows(_) => None,
        Shape::Groups(groups) => Some(groups.keys.clone()),
    };
    let columns = |view: &View| match &view.shape {
        Shape::Rows(columns) => columns
            .iter()
            .map(|column| format!("{} AS {}", column.expression, column.name))
            .collect(),
        Shape::Groups(groups) => groups
            .columns
            .iter()
            .map(|column| format!("{} AS {}", shown(groups, column), column.name))
            .collect::<Vec<String>>(),
    };
    let options = |view: &View| {
        let of_groups = match &view.shape {
            Shape::Rows(_) => None,
            Shape::Groups(groups) => Some((groups.retain, groups.stripes)),
        };
        (view.retention_hours, view.decimal, of_groups)
    };
    let shown_groups = |view: &View| match &view.shape {
        Shape::Rows(_) => None,
        Shape::Groups(groups) => Some((groups.having.clone(), groups.top)),
    };
    let all = [
        ("columns", columns(former) != columns(view)),
        ("from", former.from != view.from || former.unnest != view.unnest),
        ("join", former.join != view.join),
        ("filter", former.filter != view.filter),
        ("group by", keys(former) != keys(view)),
        ("having and limit", shown_groups(former) != shown_groups(view)),
        ("key", former.key != view.key),
        ("options", options(former) != options(view)),
    ];
    all.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name.to_owned()).collect()
}

fn shown(
    groups: &crate::view::definition::Groups,
    column: &crate::view::definition::GroupColumn,
) -> String {
    use crate::view::definition::Output;
    match column.output {
        Output::Key(index) => groups.keys.get(index).map(ToString::to_string),
        Output::Aggregate(index) => groups.aggregates.get(index).map(ToString::to_string),
    }
    .unwrap_or_default()
}
