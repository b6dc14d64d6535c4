//! A pattern as it is written: every member in its order, those of a repeated key too.
//!
//! Separate from the compiled pattern because what it means depends on what stands beside it,
//! and an error has to name the place.

use super::json::{self, Sink, SyntaxError};
use std::borrow::Cow;

/// The place of a value in its document.
pub(super) type At = usize;

/// One value of a document.
#[derive(Debug)]
pub(super) enum Json<'t> {
    Null,
    Boolean(bool),
    Number(&'t str),
    String(Cow<'t, str>),
    Array(Vec<At>),
    Object(Vec<(Cow<'t, str>, At)>),
}

/// A document of any depth.
#[derive(Debug, Default)]
pub(super) struct Document<'t> {
    values: Vec<Json<'t>>,
    open: Vec<At>,
    key: Option<Cow<'t, str>>,
}

/// The outermost value.
pub(super) const ROOT: At = 0;

impl<'t> Document<'t> {
    pub(super) fn parse(text: &'t str) -> Result<Self, SyntaxError> {
        let mut document = Self::default();
        json::read(text, &mut document)?;
        Ok(document)
    }

    pub(super) fn value(&self, at: At) -> &Json<'t> {
        &self.values[at]
    }

    /// A value in words, for an error; long texts are cut.
    pub(super) fn found(&self, at: At) -> String {
        const SHOWN_MAX: usize = 60;
        match self.value(at) {
            Json::Null => "null".to_owned(),
            Json::Boolean(value) => value.to_string(),
            Json::Number(text) if text.len() <= SHOWN_MAX => (*text).to_owned(),
            Json::Number(_) => "a long number".to_owned(),
            Json::String(text) if text.len() <= SHOWN_MAX => format!("{text:?}"),
            Json::String(_) => "a long text".to_owned(),
            Json::Array(elements) if elements.is_empty() => "an empty list".to_owned(),
            Json::Array(_) => "a list".to_owned(),
            Json::Object(members) => match members.len() {
                0 => "an empty object".to_owned(),
                1 => "an object".to_owned(),
                count => format!("an object of {count} members"),
            },
        }
    }

    fn add(&mut self, value: Json<'t>) -> At {
        let at = self.values.len();
        self.values.push(value);
        if let Some(parent) = self.open.last() {
            match &mut self.values[*parent] {
                Json::Array(elements) => elements.push(at),
                Json::Object(members) => members.extend(self.key.take().map(|key| (key, at))),
                _ => {}
            }
        }
        at
    }
}

impl<'t> Sink<'t> for Document<'t> {
    fn null(&mut self) {
        self.add(Json::Null);
    }

    fn boolean(&mut self, value: bool) {
        self.add(Json::Boolean(value));
    }

    fn number(&mut self, text: &'t str) {
        self.add(Json::Number(text));
    }

    fn string(&mut self, text: Cow<'t, str>) {
        self.add(Json::String(text));
    }

    fn begin_array(&mut self) {
        let at = self.add(Json::Array(Vec::new()));
        self.open.push(at);
    }

    fn begin_object(&mut self) {
        let at = self.add(Json::Object(Vec::new()));
        self.open.push(at);
    }

    fn key(&mut self, key: Cow<'t, str>) {
        self.key = Some(key);
    }

    fn end(&mut self) {
        self.open.pop();
    }
}
