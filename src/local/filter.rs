//! Filter patterns: EventBridge's language, as an event source mapping applies it.
//!
//! A [`Pattern`] is compiled once and held against an [`Event`], which is read once for all
//! patterns; [`Criteria`] are the patterns of one mapping. The language is that of
//! EventBridge's rules, with what AWS was seen to do where it differs from what it documents.
//! It is ours because no published crate has the whole of it (`$or`, and operators nested in
//! `anything-but`).
//!
//! What it keeps: neither reading nor matching tries anything twice, whatever the pattern and
//! the event (`walk` has the bound), and no depth of nesting overflows a stack. What it
//! gives up: operators that EventBridge's matcher has and its documentation does not
//! (`exactly`, `regexp`) are unknown ones here.

mod cases;
mod cidr;
mod compile;
mod criteria;
mod event;
mod json;
mod leaf;
mod number;
mod operator;
mod reading;
mod text;
mod walk;
mod written;

pub use self::{
    cases::{CasesError, CasesSummary, Verdict, cases},
    criteria::{Criteria, CriteriaError},
    event::Event,
    json::SyntaxError,
};

use compile::Node;
use written::Document;

/// What filters do to views, in words for whoever has both.
pub(super) const HIDES_FROM_VIEWS: &str = "FilterCriteria hides records from the views: an item \
    whose later changes match no filter stays in them as it was, and is never removed";

/// A pattern that AWS would take, ready to match.
#[derive(Debug)]
pub struct Pattern {
    root: Node,
}

/// Why AWS would not take a pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PatternError {
    /// No JSON.
    #[error(transparent)]
    Syntax(#[from] SyntaxError),
    /// JSON, and no pattern.
    #[error("{} is {found}; allowed: {allowed}", named(place))]
    Refused {
        /// Keys and indices from the outside in; empty for the pattern itself.
        place: String,
        /// What stands there.
        found: String,
        /// What could.
        allowed: &'static str,
    },
}

fn named(place: &str) -> String {
    if place.is_empty() { "the pattern".to_owned() } else { format!("`{place}`") }
}

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// It is no JSON, or EventBridge would refuse it: the error names the place.
    ///
    /// # Examples
    /// ```
    /// use changefold::local::filter::{Event, Pattern};
    ///
    /// let pattern = Pattern::parse(r#"{"amount":[{"numeric":[">=",100]}]}"#)?;
    /// assert!(pattern.matches(&Event::parse(r#"{"amount":100.0}"#)?));
    /// assert!(!pattern.matches(&Event::parse(r#"{"amount":"100"}"#)?));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        Ok(Self { root: compile::compile(&Document::parse(text)?)? })
    }

    /// Whether the event is one that the pattern asks for.
    #[must_use]
    pub fn matches(&self, event: &Event<'_>) -> bool {
        walk::matches(&self.root, event).0
    }

    /// Whether it asks anything of this outermost key.
    fn asks_for(&self, key: &str) -> bool {
        self.root.asks_for(key)
    }

    /// Whether it asks anything of another outermost key than this.
    fn asks_beside(&self, key: &str) -> bool {
        self.root.asks_beside(key)
    }
}
