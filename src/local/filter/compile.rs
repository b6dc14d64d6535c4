//! A pattern as it is written, made into one that can be matched.
//!
//! Everything that EventBridge refuses is refused here, with the place in the pattern. Where
//! the documentation says nothing, the reading is that of `event-ruler`, the matcher that AWS
//! has published, and a comment says so.

use super::{
    PatternError,
    leaf::Leaf,
    operator,
    reading::Reading,
    written::{At, Document, Json, ROOT},
};
use std::collections::BTreeMap;

/// Deeper patterns are refused: matching follows the pattern with the thread's stack. A path of
/// an item that DynamoDB takes, 32 levels of it, has less than 80 parts.
const DEPTH_MAX: usize = 256;

/// More combinations of the alternatives of `$or` than this are refused, as EventBridge
/// documents it. They cost us nothing: alternatives are tried where they stand.
const COMBINATIONS_MAX: u64 = 1_000;

/// Fields of this name are operators, so an object that has one is no alternative of `$or`.
const OPERATORS: [&str; 8] = [
    "anything-but",
    "cidr",
    "equals-ignore-case",
    "exists",
    "numeric",
    "prefix",
    "suffix",
    "wildcard",
];

/// What a pattern asks of one path of the event: all of this.
#[derive(Debug, Default)]
pub(super) struct Node {
    /// Of the members of the object there, by their keys.
    pub(super) members: BTreeMap<Box<str>, Node>,
    /// Of the values there. Several lists, where a key stands twice.
    pub(super) leaves: Vec<Leaf>,
    /// Of the object there, for each `$or`: one of these.
    pub(super) alternatives: Vec<Vec<Node>>,
}

impl Node {
    /// Whether it asks anything of this member, in an alternative or always.
    pub(super) fn asks_for(&self, key: &str) -> bool {
        let in_alternative = |it: &Node| it.asks_for(key);
        self.members.contains_key(key) || self.alternatives.iter().flatten().any(in_alternative)
    }

    /// Whether it asks anything of another member than this, in an alternative or always.
    pub(super) fn asks_beside(&self, key: &str) -> bool {
        let in_alternative = |it: &Node| it.asks_beside(key);
        self.members.keys().any(|it| it.as_ref() != key)
            || self.alternatives.iter().flatten().any(in_alternative)
    }
}

/// Compiles a document.
pub(super) fn compile(document: &Document<'_>) -> Result<Node, PatternError> {
    let mut reading = Reading { document, path: String::new() };
    let mut node = Node::default();
    let combinations = match document.value(ROOT) {
        Json::Object(_) => reading.object(ROOT, &mut node, 0)?,
        _ => return Err(reading.refused(ROOT, "an object of keys and lists of values")),
    };
    if combinations > COMBINATIONS_MAX {
        let found = "more than 1000 combinations of the alternatives of `$or`".to_owned();
        return Err(reading.error(found, "1000 at most"));
    }
    Ok(node)
}

impl Reading<'_, '_> {
    /// The members of an object into a node; how many combinations of alternatives they have.
    fn object(&mut self, at: At, node: &mut Node, depth: usize) -> Result<u64, PatternError> {
        let document = self.document;
        let Json::Object(members) = document.value(at) else {
            return Err(self.refused(at, "an object"));
        };
        if members.is_empty() {
            return Err(self.refused(at, "an object with a key"));
        }
        let mut combinations = 1_u64;
        for (key, value) in members {
            let own = self.within(key, |it| {
                if key == "$or" && it.is_or(*value) {
                    it.alternatives(*value, node, depth)
                } else {
                    it.member(key, *value, node, depth)
                }
            })?;
            combinations = combinations.saturating_mul(own);
        }
        Ok(combinations)
    }

    fn member(
        &mut self,
        key: &str,
        value: At,
        node: &mut Node,
        depth: usize,
    ) -> Result<u64, PatternError> {
        let depth = depth + key.split('.').count();
        if depth > DEPTH_MAX {
            return Err(self.too_deep());
        }
        // A key with dots is the path it spells. A repeated key adds to what is there already:
        // AWS's page on filters for DynamoDB relies on it.
        let mut inner = node;
        for part in key.split('.') {
            inner = inner.members.entry(part.into()).or_default();
        }
        match self.document.value(value) {
            Json::Object(_) => self.object(value, inner, depth),
            Json::Array(elements) if !elements.is_empty() => {
                inner.leaves.push(operator::leaf(self, elements)?);
                Ok(1)
            }
            Json::Array(_) => Err(self.refused(value, "a list with a value")),
            _ => Err(self.refused(value, "a list of values, or an object")),
        }
    }

    /// Whether the value makes `$or` an operator. As `event-ruler` has it, that takes a list of
    /// two objects at least, none of which has the name of an operator for a key; anywhere else
    /// `$or` is a key like others, and its list is one of values.
    fn is_or(&self, at: At) -> bool {
        let Json::Array(elements) = self.document.value(at) else { return false };
        elements.len() > 1
            && elements.iter().all(|element| match self.document.value(*element) {
                Json::Object(members) => {
                    members.iter().all(|(key, _)| !OPERATORS.contains(&key.as_ref()))
                }
                _ => false,
            })
    }

    fn alternatives(&mut self, at: At, node: &mut Node, depth: usize) -> Result<u64, PatternError> {
        if depth >= DEPTH_MAX {
            return Err(self.too_deep());
        }
        let document = self.document;
        let Json::Array(elements) = document.value(at) else { return Ok(1) };
        let mut nodes = Vec::with_capacity(elements.len());
        let mut combinations = 0_u64;
        for (index, element) in elements.iter().enumerate() {
            let mut alternative = Node::default();
            let own = self.within(&format!("[{index}]"), |it| {
                it.object(*element, &mut alternative, depth + 1)
            })?;
            combinations = combinations.saturating_add(own);
            nodes.push(alternative);
        }
        node.alternatives.push(nodes);
        Ok(combinations)
    }

    fn too_deep(&self) -> PatternError {
        // The whole path would be longer than any screen.
        let place = self.path.chars().take(60).collect::<String>() + "…";
        let found = format!("nested more than {DEPTH_MAX} levels deep");
        PatternError::Refused { place, found, allowed: "256 levels" }
    }
}
