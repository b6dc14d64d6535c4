//! Why a state does not fit the views.

use super::{NOBODY, REGISTRY_KEY};
use crate::{call::Halt, store::StoreError, view::rows::ROW_KEY};

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
        "view {view} was changed, or added to a source whose items are in the ledger table \
         {table}: it has to be built beside what is served, and this program was built without \
         the feature `backfill` (`infra/package.sh lambda lambda,backfill`)"
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
        "view {view} was changed or added later, and two sources named {from} feed the ledger \
         table {table}: what the second one has cannot be told apart from what came before the \
         change. Views of several sources of one name cannot be changed in place: start the \
         function on new tables (CHANGEFOLD_LEDGER_TABLE and CHANGEFOLD_VIEW_TABLE_PREFIX), or \
         drop what was added (`view drop {view} --generation`)"
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
    /// More rows are touched by one change of a source than a transaction holds.
    #[error(
        "with what the files propose, one change of an item of {from} would touch up to {rows} \
         rows of the views of generation {generation}; {max} can be kept exact together (two for \
         each view, and two more for each argument of its min, max and DISTINCT): deploy fewer \
         changes at a time, or drop views"
    )]
    TooMany {
        /// The views' source.
        from: String,
        /// Their generation.
        generation: u32,
        /// How many rows it would be.
        rows: usize,
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
    /// A view keeps values, and there is no table for them.
    #[error(
        "view {view} has min, max or a DISTINCT aggregate, whose values are kept in a table \
         {table}, which is not there or has other keys. Make it with the string key `pk` and the \
         string sort key `sk`, and let the function read and write it (`Values` in \
         infra/template.yaml)"
    )]
    ValuesTableMissing {
        /// The first view that needs it.
        view: String,
        /// The table.
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
            Self::ValuesTableMissing { .. } => "ValuesTableMissing",
            Self::TableTaken { .. } => "ViewTableTaken",
            Self::OfAnother { .. } | Self::OfNobody { .. } => "LedgerOfAnother",
            Self::Store(_) => "StoreUnavailable",
        }
    }
}

impl From<RegistryError> for Halt {
    fn from(error: RegistryError) -> Self {
        Self::new(error.code(), error.to_string()).caused_by(error)
    }
}
