//! How far the views of a source are built: the rows that say it, for any client to read.
//!
//! They stand in the ledger's table. A view's row (`S#` and its name) says whether the view can
//! be trusted; a run's row (`B#` and the ARN of the source) says how a backfill stands. Both
//! change in one transaction, so that no reader finds a view ready that is being built. A view
//! that was never backfilled has no row: it knows the items that changed since its mapping began.
//! The row of a view is about the generation that readers are given, and names its table. Another
//! generation has a row of its own (`S#`, the name, `~` and its number).
//!
//! Separate from the run itself because the ledger looks here too: while views are built, the
//! row of a removed item has no time to live.

use crate::{
    store::{
        Item,
        rows::{number, text, text_of},
    },
    view::source_item::LEDGER_KEY,
};
use serde::{Deserialize, Serialize};
use std::fmt;

/// What the key of a view's row begins with; the view's name follows.
pub const STATE_PREFIX: &str = "S#";
/// What the keys of a run's rows begin with; the ARN of the source follows.
const RUN_PREFIX: &str = "B#";

/// What the keys of the rows begin with that say what the last verifications have found; what
/// was compared follows, of a source its ARN.
const VERIFIED_PREFIX: &str = "C#";

/// Attribute of both rows.
pub(crate) const STATE: &str = "state";
/// What the row of a view says that was dropped.
pub(crate) const DROPPED: &str = "dropped";
/// What the row of a view says that was added and never made current.
pub(crate) const ADDED: &str = "added";

/// How far a view is built.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ViewState {
    /// Items of the source are missing in it.
    Building,
    /// Every item is in it, some as they were a moment ago: the stream has yet to pass the
    /// end of the scan.
    CatchingUp,
    /// It is the SQL over the source, as far as the stream has come.
    Ready,
}

impl ViewState {
    /// How a view's row says it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Building => "building",
            Self::CatchingUp => "catching up",
            Self::Ready => "ready",
        }
    }
}

impl ViewState {
    /// Reads what a view's row says.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        let all = [Self::Building, Self::CatchingUp, Self::Ready];
        all.into_iter().find(|state| state.as_str() == text)
    }
}

impl fmt::Display for ViewState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// How a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    /// Its segments are being read.
    Scanning,
    /// It has used up its units.
    Paused,
    /// Somebody has stopped it.
    Stopped,
    /// Its segments are read to the end.
    CatchingUp,
    /// The stream has passed the end of the scan.
    Ready,
}

impl RunState {
    /// How a run's row says it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Scanning => "scanning",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
            Self::CatchingUp => "catching up",
            Self::Ready => "ready",
        }
    }

    /// What it means for the views.
    #[must_use]
    pub fn of_views(self) -> ViewState {
        match self {
            Self::Scanning | Self::Paused | Self::Stopped => ViewState::Building,
            Self::CatchingUp => ViewState::CatchingUp,
            Self::Ready => ViewState::Ready,
        }
    }

    pub(crate) fn read(text: &str) -> Option<Self> {
        [Self::Scanning, Self::Paused, Self::Stopped, Self::CatchingUp, Self::Ready]
            .into_iter()
            .find(|state| state.as_str() == text)
    }
}

impl fmt::Display for RunState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Key of the row that says how far a view is built: the generation that readers are given.
#[must_use]
pub fn state_key(view: &str) -> String {
    format!("{STATE_PREFIX}{view}")
}

/// Key of the row that says how far one generation of a view is built, be it current or not. A
/// first generation that is current has none.
#[must_use]
pub fn generation_key(view: &str, generation: u32) -> String {
    format!("{STATE_PREFIX}{view}~{generation}")
}

/// The row of a view that readers are given no generation of. It has the number of none, so that a
/// run that knows the view as current does not replace it.
pub(crate) fn row_without_generation(view: &str, state: &str) -> Item {
    Item::from([
        (LEDGER_KEY.to_owned(), text(state_key(view))),
        ("view".to_owned(), text(view)),
        ("generation".to_owned(), number(0)),
        (STATE.to_owned(), text(state)),
    ])
}

/// Key of the row of a source's run.
pub(crate) fn run_key(source_arn: &str) -> String {
    format!("{RUN_PREFIX}{source_arn}")
}

/// Key of the row that shares a run's rates among its segments.
pub(crate) fn pace_key(source_arn: &str) -> String {
    format!("{RUN_PREFIX}{source_arn}#pace")
}

/// Key of the row of one segment.
pub(crate) fn segment_key(source_arn: &str, run: &str, segment: u32) -> String {
    format!("{RUN_PREFIX}{source_arn}#{run}#{segment}")
}

/// Whether a row of the ledger's table is a run's, and then its key and whether it still builds
/// views. A state that cannot be read is one.
pub(crate) fn run_of(row: &Item) -> Option<(&str, bool)> {
    let key = text_of(row, LEDGER_KEY).filter(|key| key.starts_with(RUN_PREFIX))?;
    let state = text_of(row, STATE).and_then(RunState::read);
    Some((key, state != Some(RunState::Ready)))
}

/// The key of the row that says what the last verification has found: of rows and ledger, or of
/// this source.
pub(crate) fn verified_key(source_arn: Option<&str>) -> String {
    format!("{VERIFIED_PREFIX}{}", source_arn.unwrap_or("rows"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::rows::text;

    #[test]
    fn only_a_run_that_is_ready_builds_nothing() {
        let row = |key: &str, state: &str| {
            Item::from([(LEDGER_KEY.to_owned(), text(key)), (STATE.to_owned(), text(state))])
        };
        let key = run_key("arn:aws:dynamodb:us-east-1:1:table/orders");
        for (state, builds) in [("scanning", true), ("catching up", true), ("ready", false)] {
            assert_eq!(run_of(&row(&key, state)), Some((&*key, builds)), "{state}");
        }
        assert_eq!(run_of(&row(&key, "from another version")), Some((&*key, true)));
        assert_eq!(run_of(&row("K#orders#S1:a", "ready")), None);
    }
}
