//! Generated events against `aws_lambda_events`, `serde_dynamo` and `serde_json`.

use super::{
    Whole,
    agreement::{check_conversion, check_dynamodb, check_kinesis, item, sorted},
    image,
};
use aws_lambda_events::dynamodb;
use changefold::{event, event::Value};
use fastrand::Rng;
use proptest::prelude::*;
use serde::{Deserialize, de};
use std::{borrow::Cow, collections::BTreeMap, fmt};

fn digits() -> impl Strategy<Value = String> {
    prop_oneof![
        "-?(0|[1-9][0-9]{0,37})",
        "-?(0|[1-9][0-9]{0,18})\\.[0-9]{0,18}[1-9]",
        "-?[1-9](\\.[0-9]{1,37})?[eE][+-]?[0-9]{1,2}",
        any::<i64>().prop_map(|value| value.to_string()),
        any::<u64>().prop_map(|value| value.to_string()),
    ]
}

pub(super) fn text() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z]{0,6}", any::<String>(), "[\"\\\\/\u{0}-\u{1f}]{0,6}"]
}

fn attribute() -> impl Strategy<Value = Value<'static>> {
    let bytes = || prop::collection::vec(any::<u8>(), 0..9).prop_map(Cow::from);
    let texts = || prop::collection::vec(text().prop_map(Cow::from), 0..4);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        digits().prop_map(|digits| Value::Number(digits.into())),
        text().prop_map(|text| Value::Text(text.into())),
        bytes().prop_map(Value::Binary),
        texts().prop_map(Value::TextSet),
        prop::collection::vec(digits().prop_map(Cow::from), 0..4).prop_map(Value::NumberSet),
        prop::collection::vec(bytes(), 0..4).prop_map(Value::BinarySet),
    ];
    leaf.prop_recursive(5, 32, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::List),
            members(inner).prop_map(Value::Map),
        ]
    })
}

type Members = Vec<(Cow<'static, str>, Value<'static>)>;

fn members(inner: impl Strategy<Value = Value<'static>>) -> impl Strategy<Value = Members> {
    prop::collection::btree_map(text(), inner, 0..5)
        .prop_map(|map| map.into_iter().map(|(name, value)| (name.into(), value)).collect())
}

/// Writes JSON in the many ways it can be written: white space, escapes, unknown members.
pub(super) struct Writer {
    pub(super) out: String,
    pub(super) rng: Rng,
}

impl Writer {
    pub(super) fn new(seed: u64) -> Self {
        Self { out: String::new(), rng: Rng::with_seed(seed) }
    }

    pub(super) fn token(&mut self, token: &str) {
        self.space();
        self.out.push_str(token);
        self.space();
    }

    fn space(&mut self) {
        if self.rng.u8(..) < 20 {
            let count = self.rng.usize(1..4);
            (0..count)
                .for_each(|_| self.out.push(self.rng.choice([' ', '\n', '\t', '\r']).unwrap()));
        }
    }

    pub(super) fn string(&mut self, text: &str) {
        self.out.push('"');
        let escape_all = self.rng.u8(..) < 40;
        for c in text.chars() {
            if escape_all || c < ' ' || c == '"' || c == '\\' {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    let upper = self.rng.bool();
                    let code = if upper { format!("{unit:04X}") } else { format!("{unit:04x}") };
                    self.out.extend(["\\u", &code]);
                }
            } else if c == '/' && self.rng.bool() {
                self.out.push_str("\\/");
            } else {
                self.out.push(c);
            }
        }
        self.out.push('"');
    }

    pub(super) fn name(&mut self, name: &str) {
        self.space();
        self.string(name);
        self.token(":");
    }

    pub(super) fn list<T>(&mut self, items: &[T], mut each: impl FnMut(&mut Self, &T)) {
        self.token("[");
        for (at, item) in items.iter().enumerate() {
            if at > 0 {
                self.token(",");
            }
            each(self, item);
        }
        self.token("]");
    }

    fn item(&mut self, members: &Members) {
        self.token("{");
        for (at, (name, value)) in members.iter().enumerate() {
            if at > 0 {
                self.token(",");
            }
            self.name(name);
            self.attribute(value);
        }
        self.token("}");
    }

    fn attribute(&mut self, value: &Value<'static>) {
        let base64 = |bytes: &[u8]| base64_simd::STANDARD.encode_to_string(bytes);
        self.token("{");
        self.name(value.kind());
        match value {
            Value::Null => self.token("true"),
            Value::Bool(value) => self.token(&value.to_string()),
            Value::Number(text) | Value::Text(text) => self.string(text),
            Value::Binary(bytes) => self.string(&base64(bytes)),
            Value::List(list) => self.list(list, Self::attribute),
            Value::Map(members) => self.item(members),
            Value::TextSet(set) | Value::NumberSet(set) => {
                self.list(set, |writer, text| writer.string(text));
            }
            Value::BinarySet(set) => {
                self.list(set, |writer, bytes| writer.string(&base64(bytes)));
            }
        }
        self.token("}");
    }

    pub(super) fn unknown(&mut self) {
        if self.rng.bool() {
            self.name("unknown é");
            self.token("[{\"Records\":[\"]}\\\"\"]},null,-1.5e3,\"\\ud800\"]");
            self.token(",");
        }
    }

    fn dynamodb_record(&mut self, number: u64, keys: &Members, images: &[Option<Members>; 2]) {
        self.token("{");
        self.unknown();
        self.token(r#""eventID":"f07f","awsRegion":"eu-west-1","eventName":"#);
        let name = self.rng.choice(["INSERT", "MODIFY", "REMOVE"]).unwrap();
        self.string(name);
        self.token(r#","dynamodb":{"#);
        self.unknown();
        self.name("Keys");
        self.item(keys);
        for (name, image) in ["NewImage", "OldImage"].into_iter().zip(images) {
            if let Some(image) = image {
                self.token(",");
                self.name(name);
                self.item(image);
            }
        }
        self.token(&format!(r#","SizeBytes":1,"SequenceNumber":"{number}""#));
        self.token(r#","ApproximateCreationDateTime":1480642020.0"#);
        self.token(r#"},"eventSource":"aws:dynamodb","eventSourceARN":"arn"}"#);
    }

    fn kinesis_record(&mut self, number: u64, key: &str, data: &[u8]) {
        self.token("{");
        self.unknown();
        self.token(r#""eventID":"shardId-1:1","kinesis":{"partitionKey":"#);
        self.string(key);
        self.token(&format!(r#","sequenceNumber":"{number}","data":"#));
        self.string(&base64_simd::STANDARD.encode_to_string(data));
        self.token(",");
        self.unknown();
        self.token(r#""approximateArrivalTimestamp":1480641523.477"#);
        self.token(r#"},"eventSource":"aws:kinesis"}"#);
    }
}

fn written(item: &Members, seed: u64) -> String {
    let mut writer = Writer::new(seed);
    writer.item(item);
    writer.out
}

/// What any self-describing reader sees: no `Value`, only serde's own data model.
#[derive(Debug, PartialEq)]
enum Tree {
    Unit,
    Bool(bool),
    Integer(i128),
    Float(f64),
    Text(String),
    Bytes(Vec<u8>),
    List(Vec<Tree>),
    Map(BTreeMap<String, Tree>),
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TreeVisitor)
    }
}

struct TreeVisitor;

impl<'de> de::Visitor<'de> for TreeVisitor {
    type Value = Tree;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }
    fn visit_unit<E>(self) -> Result<Tree, E> {
        Ok(Tree::Unit)
    }
    fn visit_bool<E>(self, value: bool) -> Result<Tree, E> {
        Ok(Tree::Bool(value))
    }
    fn visit_i64<E>(self, value: i64) -> Result<Tree, E> {
        Ok(Tree::Integer(value.into()))
    }
    fn visit_u64<E>(self, value: u64) -> Result<Tree, E> {
        Ok(Tree::Integer(value.into()))
    }
    fn visit_f64<E>(self, value: f64) -> Result<Tree, E> {
        Ok(Tree::Float(value))
    }
    fn visit_str<E>(self, text: &str) -> Result<Tree, E> {
        Ok(Tree::Text(text.to_owned()))
    }
    fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Tree, E> {
        Ok(Tree::Bytes(bytes.to_owned()))
    }
    fn visit_seq<A: de::SeqAccess<'de>>(self, mut elements: A) -> Result<Tree, A::Error> {
        let mut list = Vec::new();
        while let Some(element) = elements.next_element()? {
            list.push(element);
        }
        Ok(Tree::List(list))
    }
    fn visit_map<A: de::MapAccess<'de>>(self, mut entries: A) -> Result<Tree, A::Error> {
        let mut map = BTreeMap::new();
        while let Some((name, value)) = entries.next_entry()? {
            map.insert(name, value);
        }
        Ok(Tree::Map(map))
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn dynamodb_events_read_as_aws_lambda_events_reads_them(
        records in prop::collection::vec(
            (
                members(attribute()),
                prop::option::of(members(attribute())),
                prop::option::of(members(attribute())),
            ),
            1..4,
        ),
        seed in any::<u64>(),
    ) {
        let mut writer = Writer::new(seed);
        writer.token("{");
        writer.unknown();
        writer.name("Records");
        writer.list(&records, |writer, (keys, new, old)| {
            let number = writer.rng.u64(..);
            writer.dynamodb_record(number, keys, &[new.clone(), old.clone()]);
        });
        writer.token("}");
        check_dynamodb(writer.out.as_bytes());
    }

    #[test]
    fn kinesis_events_read_as_aws_lambda_events_reads_them(
        records in prop::collection::vec((text(), prop::collection::vec(any::<u8>(), 0..40)), 1..4),
        seed in any::<u64>(),
    ) {
        let mut writer = Writer::new(seed);
        writer.token("{");
        writer.name("Records");
        writer.list(&records, |writer, (key, data)| {
            let number = writer.rng.u64(..);
            writer.kinesis_record(number, key, data);
        });
        writer.token("}");
        check_kinesis(writer.out.as_bytes());
    }

    #[test]
    fn a_value_comes_back_as_it_was_written(item in members(attribute()), seed in any::<u64>()) {
        let text = written(&item, seed);
        prop_assert_eq!(image::<Whole>(&text), Ok(Whole(Value::Map(item))));
    }

    #[test]
    fn an_untyped_reader_sees_what_serde_dynamo_shows(
        item in members(attribute()),
        seed in any::<u64>(),
    ) {
        let text = written(&item, seed);
        let theirs: serde_dynamo::Item = serde_json::from_str(&text).unwrap();
        let theirs: Tree = serde_dynamo::from_item(theirs).unwrap();
        prop_assert_eq!(image::<Tree>(&text), Ok(theirs));
    }

    #[test]
    fn a_damaged_image_is_accepted_when_the_attribute_tree_accepts_it(
        item in members(attribute()),
        seed in any::<u64>(),
        edits in prop::collection::vec(
            (any::<prop::sample::Index>(), "[\"{}\\[\\],:\\\\0-9A-Zntu ]", any::<bool>()),
            1..3,
        ),
    ) {
        let mut text: Vec<char> = written(&item, seed).chars().collect();
        for (at, new, replace) in edits {
            let at = at.index(text.len());
            let new = new.chars().next().unwrap();
            if replace { text[at] = new } else { text.insert(at, new) }
        }
        let text: String = text.into_iter().collect();
        check_damaged(&text);
    }

    #[test]
    fn a_damaged_event_never_panics(
        item in members(attribute()),
        seed in any::<u64>(),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let mut writer = Writer::new(seed);
        writer.token("{\"Records\":[");
        writer.dynamodb_record(7, &item, &[Some(item.clone()), None]);
        writer.token("]}");
        let mut payload = writer.out.into_bytes();
        let at = at.index(payload.len());
        payload[at] = byte;
        let is_text = std::str::from_utf8(&payload).is_ok();
        let json = is_text && serde_json::from_slice::<de::IgnoredAny>(&payload).is_ok();
        let batch = event::parse(&payload);
        match batch.records() {
            Ok(records) => {
                prop_assert!(is_text);
                for record in records {
                    // Only that they return counts here.
                    drop((record.keys(), record.values()));
                    check_conversion::<dynamodb::EventRecord>(record);
                }
            }
            Err(error) => prop_assert!(!json || error.code() != "EventNotJson", "{}", error),
        }
    }
}

/// DIFFERENCE: `serde_dynamo` does not look whether a number is one, and takes
/// `{"NULL": false}`.
#[track_caller]
fn check_damaged(text: &str) {
    let theirs = serde_json::from_str::<serde_dynamo::Item>(text);
    if serde_json::from_str::<de::IgnoredAny>(text).is_err() {
        assert!(theirs.is_err(), "{text}");
        return;
    }
    match (image::<Whole>(text), theirs) {
        (Ok(Whole(ours)), Ok(theirs)) => assert_eq!(sorted(ours), item(&theirs), "{text}"),
        (Err(_), Err(_)) => {}
        (Err(error), Ok(_)) => {
            let message = error.to_string();
            let known = error.code() == "NumberInvalid" || message.contains("the tag NULL");
            assert!(known, "{error}: {text}");
        }
        (Ok(_), Err(error)) => panic!("{error}: {text}"),
    }
}
