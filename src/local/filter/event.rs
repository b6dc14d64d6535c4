//! An event as the matcher walks it.
//!
//! EventBridge compares paths, so `{"a.b":1}` and `{"a":{"b":1}}` are one event: a key with
//! dots becomes the objects that it stands for while the document is read, and objects of one
//! path become one object. A path that has several values, because a key stands twice, has them
//! all, as an array would. Values are in one list and refer to each other by place: no depth of
//! nesting needs the thread's stack, neither to read nor to drop.

use super::{
    json::{self, Sink, SyntaxError},
    number::millionths,
};
use std::{borrow::Cow, collections::BTreeMap};

/// The place of a value in its event.
pub(super) type Place = usize;

/// One value of an event.
#[derive(Debug)]
pub(super) enum Value<'t> {
    Null,
    Boolean(bool),
    Number { text: &'t str, millionths: Option<i64> },
    String(Cow<'t, str>),
    Array(Vec<Place>),
    Object(BTreeMap<Cow<'t, str>, Member>),
}

/// What stands at one path: one object at most, as objects of a path become one.
#[derive(Debug, Default)]
pub(super) struct Member {
    pub(super) object: Option<Place>,
    pub(super) others: Vec<Place>,
}

/// A JSON document that patterns can be held against, once read for all of them.
#[derive(Debug)]
pub struct Event<'t> {
    values: Vec<Value<'t>>,
}

/// Builds an event of what it is told.
#[derive(Debug)]
pub(super) struct Builder<'t> {
    values: Vec<Value<'t>>,
    /// The arrays and objects that are not over, from the outside in.
    open: Vec<Place>,
    /// The object and the last part of the key for the value that comes next.
    member: Option<(Place, Cow<'t, str>)>,
}

impl<'t> Event<'t> {
    /// Reads an event of any depth.
    ///
    /// # Errors
    /// The text is no JSON document.
    pub fn parse(text: &'t str) -> Result<Self, SyntaxError> {
        let mut builder = Builder::new();
        json::read(text, &mut builder)?;
        Ok(builder.finish())
    }

    /// The outermost value.
    pub(super) const ROOT: Place = 0;

    pub(super) fn value(&self, place: Place) -> &Value<'t> {
        &self.values[place]
    }
}

impl<'t> Builder<'t> {
    pub(super) fn new() -> Self {
        Self { values: Vec::new(), open: Vec::new(), member: None }
    }

    pub(super) fn finish(self) -> Event<'t> {
        Event { values: self.values }
    }

    /// Takes a value that is no object.
    fn add(&mut self, value: Value<'t>) -> Place {
        let place = self.values.len();
        match (self.member.take(), self.open.last()) {
            (Some((object, key)), _) => {
                if let Value::Object(members) = &mut self.values[object] {
                    members.entry(key).or_default().others.push(place);
                }
            }
            (None, Some(&array)) => self.add_element(array, place),
            (None, None) => {}
        }
        self.values.push(value);
        place
    }

    fn add_element(&mut self, array: Place, place: Place) {
        if let Value::Array(elements) = &mut self.values[array] {
            elements.push(place);
        }
    }

    /// The object that stands under this key, made if there is none.
    fn object(&mut self, parent: Place, key: Cow<'t, str>) -> Place {
        let new = self.values.len();
        let Value::Object(members) = &mut self.values[parent] else { return parent };
        let place = *members.entry(key).or_default().object.get_or_insert(new);
        if place == new {
            self.values.push(Value::Object(BTreeMap::new()));
        }
        place
    }

    /// Takes a key apart at its dots.
    fn path(&mut self, object: Place, parts: impl Iterator<Item = Cow<'t, str>>) {
        let mut object = object;
        let mut last: Option<Cow<'t, str>> = None;
        for part in parts {
            if let Some(before) = last.replace(part) {
                object = self.object(object, before);
            }
        }
        self.member = last.map(|last| (object, last));
    }
}

impl<'t> Sink<'t> for Builder<'t> {
    fn null(&mut self) {
        self.add(Value::Null);
    }

    fn boolean(&mut self, value: bool) {
        self.add(Value::Boolean(value));
    }

    fn number(&mut self, text: &'t str) {
        self.add(Value::Number { text, millionths: millionths(text) });
    }

    fn string(&mut self, text: Cow<'t, str>) {
        self.add(Value::String(text));
    }

    fn begin_array(&mut self) {
        let place = self.add(Value::Array(Vec::new()));
        self.open.push(place);
    }

    fn begin_object(&mut self) {
        let place = match self.member.take() {
            Some((parent, key)) => self.object(parent, key),
            None => self.add(Value::Object(BTreeMap::new())),
        };
        self.open.push(place);
    }

    fn key(&mut self, key: Cow<'t, str>) {
        let Some(&object) = self.open.last() else { return };
        match key {
            Cow::Borrowed(key) => self.path(object, key.split('.').map(Cow::Borrowed)),
            Cow::Owned(key) => {
                self.path(object, key.split('.').map(|part| Cow::Owned(part.to_owned())));
            }
        }
    }

    fn end(&mut self) {
        self.open.pop();
    }
}
