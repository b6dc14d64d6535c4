//! An item, read as far as the views look at it.
//!
//! Most attributes of a wide item are in no view; passing them costs a fraction of keeping
//! them. Separate because serde gives a type no place to be told what is wanted: the names
//! stand beside the call that reads, which never waits. What it gives up: whatever is wrong
//! inside an attribute that no view names is not noticed.

use crate::{
    event::{DecodeError, Record, Value},
    record::Change,
};
use serde::{
    Deserialize, Deserializer,
    de::{self, IgnoredAny, MapAccess, Visitor},
};
use std::{borrow::Cow, cell::RefCell, fmt, sync::Arc};

thread_local! {
    /// The attributes wanted, while a record is being read.
    static WANTED: RefCell<Option<Arc<[String]>>> = const { RefCell::new(None) };
}

/// Reads a change, its images with the attributes of these names.
///
/// # Errors
/// As [`Record::values`].
pub(super) fn read<'s>(
    record: &'s Record<'_>,
    names: &Arc<[String]>,
) -> Result<Change<Value<'s>>, DecodeError> {
    WANTED.set(Some(Arc::clone(names)));
    let change = record.change::<Image<'s>>();
    WANTED.set(None);
    match change {
        Ok(Change::Insert { new }) => Ok(Change::Insert { new: new.map(Image::value) }),
        Ok(Change::Modify { old, new }) => {
            Ok(Change::Modify { old: old.map(Image::value), new: new.map(Image::value) })
        }
        Ok(Change::Remove { old, cause }) => {
            Ok(Change::Remove { old: old.map(Image::value), cause })
        }
        // No item, as a document that is a list; or an error, which is said as ever.
        Err(_) => record.values(),
    }
}

/// A map without the attributes that nobody wants.
struct Image<'a>(Value<'a>);

impl<'a> Image<'a> {
    fn value(self) -> Value<'a> {
        self.0
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Image<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let wanted = WANTED.with_borrow(Clone::clone);
        let wanted = wanted.ok_or_else(|| de::Error::custom("no names to read an item by"))?;
        deserializer.deserialize_map(ImageVisitor(wanted))
    }
}

struct ImageVisitor(Arc<[String]>);

impl<'de> Visitor<'de> for ImageVisitor {
    type Value = Image<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an item")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Image<'de>, A::Error> {
        let mut members: Vec<(Cow<'de, str>, Value<'de>)> = Vec::with_capacity(self.0.len());
        while let Some(Name(name)) = entries.next_key()? {
            if !self.0.iter().any(|wanted| *wanted == name) {
                entries.next_value::<IgnoredAny>()?;
                continue;
            }
            let value = entries.next_value()?;
            // The last of equal names wins.
            match members.iter_mut().find(|(found, _)| *found == name) {
                Some(member) => member.1 = value,
                None => members.push((name, value)),
            }
        }
        Ok(Image(Value::Map(members)))
    }
}

/// An attribute's name, borrowed where it can be.
struct Name<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Name<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(NameVisitor)
    }
}

struct NameVisitor;

impl<'de> Visitor<'de> for NameVisitor {
    type Value = Name<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_borrowed_str<E>(self, name: &'de str) -> Result<Name<'de>, E> {
        Ok(Name(Cow::Borrowed(name)))
    }

    fn visit_str<E>(self, name: &str) -> Result<Name<'de>, E> {
        Ok(Name(Cow::Owned(name.to_owned())))
    }
}

#[cfg(test)]
mod tests {
    use super::read;
    use crate::{
        event::{self, Value},
        record::Change,
    };

    #[track_caller]
    fn check(record: &str, names: &[&str], expected: Option<Value<'_>>) {
        let payload = format!(r#"{{"Records":[{record}]}}"#);
        let batch = event::parse(payload.as_bytes());
        let record = &batch.records().unwrap()[0];
        let names = names.iter().map(|&name| name.to_owned()).collect();
        match read(record, &names) {
            Ok(Change::Insert { new }) => assert_eq!(new, expected),
            other => assert_eq!((other.is_err(), expected), (true, None), "{other:?}"),
        }
    }

    fn insert(image: &str) -> String {
        format!(
            r#"{{"eventSource":"aws:dynamodb","eventName":"INSERT","dynamodb":
            {{"SequenceNumber":"1","Keys":{{"a":{{"S":"k"}}}},"NewImage":{image}}}}}"#
        )
    }

    fn document(text: &str) -> String {
        let data = base64_simd::STANDARD.encode_to_string(text);
        format!(
            r#"{{"eventSource":"aws:kinesis","kinesis":{{"sequenceNumber":"1",
            "partitionKey":"p","data":"{data}"}}}}"#
        )
    }

    fn map<'a>(name: &'static str, digits: &'static str) -> Value<'a> {
        Value::Map(vec![(name.into(), Value::Number(digits.into()))])
    }

    #[test]
    fn named_attributes_are_read_exactly_and_others_are_passed() {
        let image = r#"{"a":{"S":"x"},"n":{"N":"12.50"},"m":{"M":{"n":{"N":"1"}}}}"#;
        check(&insert(image), &["n"], Some(map("n", "12.50")));
        check(&insert(image), &[], Some(Value::Map(Vec::new())));
        check(&insert(r#"{"n":{"N":"1"},"n":{"N":"2"}}"#), &["n"], Some(map("n", "2")));
        check(&document(r#"{"x":[1,{"n":2}],"n":0.10}"#), &["n"], Some(map("n", "0.10")));
    }

    #[test]
    fn what_is_no_item_is_what_it_was() {
        check(&document("7.50"), &["n"], Some(Value::Number("7.50".into())));
        check(&document("[]"), &["n"], Some(Value::List(Vec::new())));
        check(&document("{"), &["n"], None);
        check(&insert(r#"{"n":{"N":7}}"#), &["n"], None);
    }
}
