//! Which table holds a view: what a reader asks.
//!
//! A view's row in the ledger's table names it. One read unit; whoever reads often keeps the answer
//! for some seconds, since the former table goes on being fed until it is dropped.

use crate::{
    record::Timestamp,
    store::{
        Store, StoreError,
        rows::{number_of, text_of},
    },
    view::{
        building::{self, STATE, ViewState},
        registry::table_name,
        source_item::LEDGER_KEY,
    },
};

/// The table that holds a view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Current {
    /// Its name.
    pub table: String,
    /// Which generation of the view it holds.
    pub generation: u32,
    /// How far it is built; none if it was never backfilled.
    pub state: Option<ViewState>,
}

/// It is not known which table holds a view.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LookupError {
    /// The view was dropped.
    #[error("view {0} was dropped")]
    Dropped(String),
    /// The view was added to a source that has items, and never made current.
    #[error("view {0} was added and is being built: `view switch` will make it current")]
    NotBuilt(String),
    /// The store refuses or cannot be reached.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Says which table holds the view's current generation. A view that was never switched is in the
/// table of its plain name.
///
/// # Errors
/// The view was dropped, or was added and never made current; or the store does not answer.
pub async fn current_table(
    store: &Store,
    (ledger_table, view_table_prefix): (&str, &str),
    view: &str,
    deadline: Timestamp,
) -> Result<Current, LookupError> {
    let key = building::state_key(view);
    let row = store.get(ledger_table, LEDGER_KEY, &key, deadline).await?.unwrap_or_default();
    let state = text_of(&row, STATE);
    if state == Some(building::DROPPED) {
        return Err(LookupError::Dropped(view.to_owned()));
    }
    if state == Some(building::ADDED) {
        return Err(LookupError::NotBuilt(view.to_owned()));
    }
    let plain = || table_name(view_table_prefix, view, 1);
    Ok(Current {
        table: text_of(&row, "table").map_or_else(plain, str::to_owned),
        generation: number_of(&row, "generation").unwrap_or(1),
        state: state.and_then(ViewState::read),
    })
}
