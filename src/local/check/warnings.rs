//! What will hurt in a view that a function takes.
//!
//! Each warning says what will happen and what helps. Separate because it is a list of rules.
//! What they give up: a rule sees the text, and a fixture if there is one, not the load.

use super::{Diagnostic, Level, observed::Observed};
use crate::{
    local::{filter::HIDES_FROM_VIEWS, template::EventSource},
    view::{
        definition::{Call, Expression, Field, Groups, Operation, Part, Shape, Type},
        scalar::Scalar,
        sql::{Found, Words, nearest},
    },
};
use bigdecimal::ToPrimitive as _;
use std::{collections::BTreeSet, path::Path};

/// A view of no more rows writes each of them with nearly every batch.
const HOT_GROUPS_MAX: u64 = 12;
/// So many changes a fixture must have before their distribution says something.
const CHANGES_MIN: u64 = 20;

/// All warnings about one view.
pub(super) fn of(file: &str, found: &Found, observed: &[Observed]) -> Vec<Diagnostic> {
    let view = &found.view;
    let seen = observed.iter().find(|it| it.stream == view.from);
    let mut rules = Rules { file, found, seen, told: Vec::new() };
    rules.source(observed);
    rules.attributes();
    if let Shape::Groups(groups) = &view.shape {
        rules.hot_rows(groups);
        rules.unbounded_keys(groups);
    }
    for (name, at) in found.quoted_names_compared() {
        if seen.is_none_or(|seen| !seen.attributes.contains(&name)) {
            let help = format!("write '{name}' if the text is meant");
            rules.warn(Some(at), format!("\"{name}\" is the name of an attribute"), help);
        }
    }
    for at in found.nulls_compared() {
        let help = "write IS NULL or IS NOT NULL".to_owned();
        rules.warn(Some(at), "a comparison with NULL is never TRUE".to_owned(), help);
    }
    rules.told
}

struct Rules<'r> {
    file: &'r str,
    found: &'r Found,
    seen: Option<&'r Observed>,
    told: Vec<Diagnostic>,
}

impl Rules<'_> {
    fn warn(&mut self, place: Option<Words>, message: String, help: String) {
        self.told.push(Diagnostic {
            level: Level::Warning,
            file: self.file.to_owned(),
            place: place.or(Some(self.found.name)),
            view: Some(self.found.view.name.clone()),
            message,
            help,
        });
    }

    /// A source that no fixture has, where one has nearly its name.
    fn source(&mut self, observed: &[Observed]) {
        let from = &self.found.view.from;
        let streams = observed.iter().map(|it| it.stream.as_str());
        let is_other_case = |it: &&str| it.eq_ignore_ascii_case(from) && it != from;
        let meant = streams.clone().find(is_other_case).or_else(|| nearest(from, streams));
        if let Some(meant) = meant.filter(|_| self.seen.is_none()) {
            let at = self.found.name_at(from);
            let message = format!("no fixture is of {from}");
            self.warn(at, message, format!("did you mean {meant}? its spelling counts"));
        }
    }

    fn attributes(&mut self) {
        let Some(seen) = self.seen.filter(|seen| seen.records > 0) else { return };
        let quoted = self.found.quoted_names_compared();
        let mut missing: BTreeSet<Vec<String>> = BTreeSet::new();
        for path in self.found.view.paths() {
            let parts = path.parts();
            let first = (1..=parts.len()).find(|depth| !seen.has(&parts[..*depth]));
            let is_told = quoted.iter().any(|(name, _)| parts == [name.as_str()]);
            missing.extend(first.filter(|_| !is_told).map(|depth| parts[..depth].to_vec()));
        }
        for parts in missing {
            let at = parts.last().and_then(|last| self.found.name_at(last));
            let name = parts.join(".");
            let known = seen.attributes.iter().map(String::as_str);
            let known = known.filter(|it| it.split('.').count() == parts.len());
            let help = match nearest(&name, known) {
                Some(meant) => format!("did you mean {meant}?"),
                None => {
                    "it will be NULL; the spelling of names counts, and that of capitals".to_owned()
                }
            };
            let records = seen.records;
            self.warn(at, format!("none of {records} records has an attribute {name}"), help);
        }
    }

    fn hot_rows(&mut self, groups: &Groups) {
        if groups.stripes.is_some() {
            return;
        }
        let at = self.found.group_by_at();
        let help = if groups.can_be_striped() {
            "fine for a few shards; for more, keep each group in several rows: WITH (stripes = 8)"
        } else {
            "fine for a few shards; for more, group by one more attribute and add up where you read"
        };
        let help = help.to_owned();
        let mut all = groups.keys.iter().map(values_max);
        let rows = all.try_fold(1_u64, |all, one| all.checked_mul(one?));
        match rows {
            Some(1) => {
                let message = "every batch writes the one row of this view, so the batches of all \
                               shards wait for each other"
                    .to_owned();
                self.warn(at, message, help);
            }
            Some(rows) if rows <= HOT_GROUPS_MAX => {
                let message = format!(
                    "this view has {rows} rows at most, and most batches write \
                                       each of them"
                );
                self.warn(at, message, help);
            }
            _ => {
                let seen = self.seen.and_then(|seen| seen.groups.get(&self.found.view.name));
                let Some(changes) = seen else { return };
                let (all, most) = (changes.values().sum::<u64>(), changes.values().max());
                let most = most.copied().unwrap_or_default();
                if all >= CHANGES_MIN && most * 2 > all {
                    let percent = most * 100 / all;
                    let message = format!(
                        "one group has {percent} % of the changes, so most batches write it"
                    );
                    self.warn(at, message, help);
                }
            }
        }
    }

    fn unbounded_keys(&mut self, groups: &Groups) {
        let view = &self.found.view;
        for key in &groups.keys {
            let Expression::Path(path) = key else { continue };
            let name = path.parts().join(".");
            let at = self.found.name_at(path.last());
            let is_moment = match self.seen {
                Some(seen) => seen.moments.contains(&name),
                None => is_called_as_moment(path.last()),
            };
            let is_source_key = view.key.as_ref() == Some(path)
                || self.seen.is_some_and(|seen| seen.keys.len() == 1 && seen.keys.contains(&name));
            if is_moment {
                let help = format!("write date_trunc('hour', {name}) AS …, or a day or a month");
                self.warn(at, format!("{name} is a moment: nearly every item is a group"), help);
                return;
            }
            if is_source_key {
                let help = "leave the aggregates out: a view without GROUP BY has a row per item, \
                            and costs less"
                    .to_owned();
                self.warn(at, format!("{name} is the item's key: every item is a group"), help);
                return;
            }
        }
        let Some(seen) = self.seen else { return };
        let Some(changes) = seen.groups.get(&view.name) else { return };
        let (rows, items) = (changes.len() as u64, seen.items);
        if items >= CHANGES_MIN && rows * 10 >= items * 9 && !groups.keys.is_empty() {
            let message =
                format!("{items} items make {rows} groups: the table grows with its source");
            let help = "group by something that repeats, or leave the aggregates out".to_owned();
            self.warn(self.found.group_by_at(), message, help);
        }
    }
}

/// How many values an expression can have, NULL included; none where that is not known.
fn values_max(expression: &Expression) -> Option<u64> {
    match expression {
        Expression::Literal(_) => Some(1),
        Expression::IsNull(_) | Expression::Is(..) | Expression::IsDistinct(..) => Some(2),
        Expression::Arithmetic(Operation::Remainder, _, by) => match by.as_ref() {
            Expression::Literal(Scalar::Number(by)) => {
                by.to_i64().map(|by| by.unsigned_abs().saturating_mul(2))
            }
            _ => None,
        },
        Expression::Time(time) => match time.part {
            Part::Field(field) => Some(
                1 + match field {
                    Field::Quarter => 4,
                    Field::Dow | Field::Isodow => 7,
                    Field::Month => 12,
                    Field::Hour => 24,
                    Field::Day => 31,
                    Field::Minute => 60,
                    _ => return None,
                },
            ),
            Part::Start { .. } => None,
        },
        Expression::Case(case) => {
            let literals = case.values().all(|it| matches!(it, Expression::Literal(_)));
            literals.then(|| case.values().count() as u64 + u64::from(case.otherwise.is_none()))
        }
        Expression::Call(Call::Contains, _) => Some(3),
        other => (other.known_type() == Some(Type::Bool)).then_some(3),
    }
}

fn is_called_as_moment(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["_at", "_ts", "_time", "timestamp"].iter().any(|end| name.ends_with(end)) || name == "ts"
}

/// Filters of a mapping under the views that read through it.
pub(super) fn of_filters(
    template: &Path,
    sources: &[EventSource],
    views: &[&Found],
) -> Vec<Diagnostic> {
    let mut told = Vec::new();
    for source in sources.iter().filter(|source| !source.parameters.filters.is_empty()) {
        // An ARN says the name; a logical id may stand for any.
        let arn = source.stream.strip_prefix("arn:").map(|_| source.stream.split('/').nth(1));
        let is_of = |view: &&Found| arn.is_none_or(|name| name == Some(view.view.from.as_str()));
        let names: Vec<&str> =
            views.iter().copied().filter(is_of).map(|found| found.view.name.as_str()).collect();
        if names.is_empty() {
            continue;
        }
        told.push(Diagnostic {
            level: Level::Warning,
            file: template.display().to_string(),
            place: None,
            view: None,
            message: format!("{}: {HIDES_FROM_VIEWS}", source.logical_id),
            help: format!("put the condition into the WHERE of {}", names.join(", ")),
        });
    }
    told
}
