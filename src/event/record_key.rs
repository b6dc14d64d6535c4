//! A record's key in other shapes: a text that tells keys apart, one for people, and a hash
//! that is had without reading the key.
//!
//! The hash is for finding the records of one key in a batch. A key can be written in several
//! ways (escapes, white space, the order of its members), so [`KeyText::plain_hash`] answers
//! only for the way services write: compact, without escapes, one or two attributes of text
//! or whole numbers. Everything else is read, and hashed as it was read
//! ([`RecordKey::hash`]). The two agree, so equal keys have equal hashes, however they are
//! written. Different keys may have equal hashes, and whoever chooses keys can see to it that
//! they do: the hash has no secret, so that every run is the same. Its users compare the keys
//! and bound what they compare.

use super::{
    RecordKey, Value,
    json::{self, Cursor},
};
use std::{
    borrow::Cow,
    fmt::{self, Write as _},
};

/// A key as it stands in the payload: a JSON value, not read yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeyText<'a> {
    /// The object of an item's key attributes.
    Item(&'a str),
    /// The string of a partition key.
    Partition(&'a str),
}

impl KeyText<'_> {
    /// Says that the key will be read shortly.
    pub(crate) fn prefetch(self) {
        let (Self::Item(text) | Self::Partition(text)) = self;
        json::prefetch(text);
    }

    /// The hash of the key, if its text is plain enough to tell without reading it. Then it
    /// can be read.
    pub(crate) fn plain_hash(self) -> Option<u64> {
        match self {
            Self::Item(text) => {
                let mut attributes = PlainKeys::of(text)?;
                let (name, hash) = hash_next(&mut attributes)?;
                if attributes.is_at_end() {
                    return Some(hash);
                }
                let (other_name, other) = hash_next(&mut attributes)?;
                // Of equal names the last would win: let it be read.
                (attributes.is_at_end() && name != other_name).then(|| hash.wrapping_add(other))
            }
            Self::Partition(text) => {
                let key = Cursor::new(text).plain_whole_string()?;
                Some(hash_bytes(PARTITION, key.as_bytes()))
            }
        }
    }
}

fn hash_next<'a>(attributes: &mut PlainKeys<'a>) -> Option<(&'a str, u64)> {
    let (name, value) = attributes.next()?;
    let (kind, text) = match value {
        PlainKey::Text(text) => (b'S', text),
        PlainKey::Number(digits) => (b'N', digits),
    };
    Some((name, hash_attribute(name.as_bytes(), kind, text.as_bytes())))
}

/// The attributes of a key, as long as they are written plainly: compact, without escapes,
/// text or whole numbers.
pub(super) struct PlainKeys<'a> {
    cursor: Cursor<'a>,
    first: bool,
    /// Whether all values up to here were plain.
    is_plain: bool,
}

pub(super) enum PlainKey<'a> {
    Text(&'a str),
    Number(&'a str),
}

impl<'a> PlainKeys<'a> {
    pub(super) fn of(text: &'a str) -> Option<Self> {
        let mut cursor = Cursor::new(text);
        cursor.plain("{").then_some(Self { cursor, first: true, is_plain: true })
    }

    /// The next attribute's name and value, if it is a plain one.
    pub(super) fn next(&mut self) -> Option<(&'a str, PlainKey<'a>)> {
        let name = self.cursor.plain_member(&mut self.first)?;
        let value = self.value();
        self.is_plain &= value.is_some();
        Some((name, value?))
    }

    fn value(&mut self) -> Option<PlainKey<'a>> {
        if let Some(text) = self.cursor.plain_between("{\"S\":\"", "\"}") {
            return Some(PlainKey::Text(text));
        }
        let number = self.cursor.plain_between("{\"N\":\"", "\"}")?;
        let digits = number.strip_prefix('-').unwrap_or(number);
        let is_whole = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        is_whole.then_some(PlainKey::Number(number))
    }

    /// Whether there are no more attributes, and nothing behind them.
    pub(super) fn is_at_end(&self) -> bool {
        self.is_plain && self.cursor.is_before_last("}")
    }
}

/// Odd numbers without a pattern: digits of the square roots of 2, 3, 5 and 7.
const PARTITION: u64 = 0x6A09_E667_F3BC_C909;
const ATTRIBUTE: u64 = 0xBB67_AE85_84CA_A73B;
const LOW: u64 = 0x3C6E_F372_FE94_F82B;
const SPREAD: u64 = 0xA54F_F53A_5F1D_36F1;

fn hash_attribute(name: &[u8], kind: u8, value: &[u8]) -> u64 {
    hash_bytes(hash_bytes(ATTRIBUTE ^ u64::from(kind), name), value)
}

/// Mixes bytes into a state, sixteen at a time.
fn hash_bytes(state: u64, bytes: &[u8]) -> u64 {
    let word = |at: usize| {
        let word = bytes.get(at..).and_then(|rest| rest.first_chunk());
        u64::from_le_bytes(word.copied().unwrap_or_default())
    };
    let half = |at: usize| {
        let half = bytes.get(at..).and_then(|rest| rest.first_chunk());
        u64::from(u32::from_le_bytes(half.copied().unwrap_or_default()))
    };
    let length = bytes.len();
    let mut state = state ^ (length as u64).wrapping_mul(SPREAD);
    let mut at = 0;
    while length - at > 16 {
        state = fold(word(at) ^ state, word(at + 8) ^ LOW);
        at += 16;
    }
    // The last one to sixteen bytes; where they overlap, they count twice.
    let (low, high) = match length - at {
        8.. => (word(at), word(length - 8)),
        4.. => (half(at), half(length - 4)),
        0 => (0, 0),
        left => {
            let byte = |at: usize| u64::from(bytes[at]);
            (byte(at) | byte(at + left / 2) << 8, byte(length - 1))
        }
    };
    fold(fold(low ^ state, high ^ LOW), SPREAD)
}

/// Both halves of a product: every bit of the factors counts.
#[expect(clippy::cast_possible_truncation, reason = "both halves are taken")]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}

impl RecordKey<'_> {
    /// A number that is equal for equal keys, and nearly always another for different ones.
    pub(crate) fn hash(&self) -> u64 {
        match self {
            Self::Partition(key) => hash_bytes(PARTITION, key.as_bytes()),
            Self::Item(attributes) => attributes.iter().fold(0, |sum: u64, (name, value)| {
                let bytes: Cow<'_, [u8]> = match value {
                    Value::Text(text) | Value::Number(text) => text.as_bytes().into(),
                    Value::Binary(bytes) => (&**bytes).into(),
                    other => readable(other).into_bytes().into(),
                };
                // A sum: attributes are in no order where they were not read.
                sum.wrapping_add(hash_attribute(name.as_bytes(), kind(value), &bytes))
            }),
        }
    }

    /// A text that is the same for equal keys and different for different ones: every part is
    /// preceded by its type and length.
    #[must_use]
    pub fn canonical(&self) -> String {
        let mut text = String::new();
        match self {
            Self::Partition(key) => part(&mut text, 'P', key),
            Self::Item(attributes) => {
                for (name, value) in attributes {
                    part(&mut text, 'A', name);
                    text.push_str(&value_text(value));
                }
            }
        }
        text
    }
}

/// For people: `order_id=o-1001, line=2`, or the partition key.
impl fmt::Display for RecordKey<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Partition(key) => f.write_str(key),
            Self::Item(attributes) => {
                for (at, (name, value)) in attributes.iter().enumerate() {
                    let separator = if at == 0 { "" } else { ", " };
                    write!(f, "{separator}{name}={}", readable(value))?;
                }
                Ok(())
            }
        }
    }
}

/// A key attribute as [`RecordKey::canonical`] has it.
pub(crate) fn value_text(value: &Value<'_>) -> String {
    let mut text = String::new();
    part(&mut text, kind(value).into(), &readable(value));
    text
}

fn kind(value: &Value<'_>) -> u8 {
    match value {
        Value::Text(_) => b'S',
        Value::Number(_) => b'N',
        Value::Binary(_) => b'B',
        _ => b'V',
    }
}

/// A key attribute of a table is text, a number or bytes.
pub(crate) fn readable(value: &Value<'_>) -> String {
    match value {
        Value::Text(text) | Value::Number(text) => text.clone().into_owned(),
        Value::Binary(bytes) => base64_simd::STANDARD.encode_to_string(bytes),
        other => format!("{other:?}"),
    }
}

fn part(text: &mut String, kind: char, part: &str) {
    write!(text, "{kind}{}:{part}", part.len()).expect("a String takes all text");
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn different_keys_have_different_texts() {
        let text = |value: &'static str| Value::Text(Cow::Borrowed(value));
        let item = |pairs: Vec<(&'static str, Value<'static>)>| {
            RecordKey::Item(pairs.into_iter().map(|(name, it)| (name.into(), it)).collect())
        };
        let keys = [
            item(vec![("a", text("1"))]),
            item(vec![("a", Value::Number("1".into()))]),
            item(vec![("a", text("1")), ("b", text("2"))]),
            item(vec![("a", text("1, b=2"))]),
            RecordKey::Partition("1".into()),
        ];
        let mut texts: Vec<String> = keys.iter().map(RecordKey::canonical).collect();
        texts.sort();
        texts.dedup();
        assert_eq!(texts.len(), keys.len(), "{texts:?}");
        assert_eq!(keys[2].to_string(), "a=1, b=2");
    }

    /// A name or a value, of few characters, so that equal ones meet.
    fn word() -> impl Strategy<Value = String> {
        prop_oneof!["[ab]{0,2}", "[ab1\"\\\\é😀 ]{0,9}", "[a-c]{7,18}"]
    }

    fn digits() -> impl Strategy<Value = String> {
        prop_oneof!["-{0,1}[01]{1,2}", "1\\.0|1e0|\\+1|01|-|x|", "[0-9]{30,38}"]
    }

    /// The same text as a JSON string, this way or that.
    fn quoted(text: &str, way: u8) -> String {
        let mut json = String::from("\"");
        for char in text.chars() {
            match (way % 4, char) {
                (_, '"' | '\\') => json.extend(['\\', char]),
                (1, _) => {
                    for unit in char.encode_utf16(&mut [0; 2]) {
                        write!(json, "\\u{unit:04x}").unwrap();
                    }
                }
                _ => json.push(char),
            }
        }
        json + "\""
    }

    /// Two attributes of one shape or of two, as they are and as they may be written.
    fn attributes() -> impl Strategy<Value = Vec<(String, char, String)>> {
        let value = prop_oneof![
            4 => word().prop_map(|text| ('S', text)),
            2 => digits().prop_map(|text| ('N', text)),
            1 => prop_oneof!["[QR][w-z]==", "AAAA", "A"].prop_map(|text| ('B', text)),
        ];
        let attribute = (word(), value).prop_map(|(name, (kind, value))| (name, kind, value));
        prop::collection::vec(attribute, 0..4)
    }

    fn keys(attributes: &[(String, char, String)], way: u8) -> String {
        let space = if way % 5 == 3 { " " } else { "" };
        let one = |(name, kind, value): &(String, char, String)| {
            let (name, value) = (quoted(name, way), quoted(value, way / 4));
            format!("{name}:{space}{{\"{kind}\":{value}}}")
        };
        let mut written: Vec<String> = attributes.iter().map(one).collect();
        if way % 3 == 2 {
            written.reverse();
        }
        format!("{{{}}}", written.join(","))
    }

    /// An event of a DynamoDB stream with these keys.
    fn event(keys: &[String]) -> String {
        let record = |(at, keys): (usize, &String)| {
            format!(
                r#"{{"eventSource":"aws:dynamodb","dynamodb":{{"SequenceNumber":"{}","Keys":{keys}}}}}"#,
                at + 1
            )
        };
        let records: Vec<String> = keys.iter().enumerate().map(record).collect();
        format!(r#"{{"Records":[{}]}}"#, records.join(","))
    }

    proptest! {
        #[test]
        fn a_key_has_one_hash_however_it_is_written(
            attributes in attributes(),
            ways in prop::collection::vec(any::<u8>(), 2),
        ) {
            let keys: Vec<String> = ways.iter().map(|way| keys(&attributes, *way)).collect();
            let event = event(&keys);
            let batch = crate::event::parse(event.as_bytes());
            let records = batch.records().unwrap();
            let mut found: Vec<(RecordKey<'_>, u64)> = Vec::new();
            for record in records {
                let key = record.keys();
                let plain = record.key_text().and_then(KeyText::plain_hash);
                // What has a hash at once can be read, and has the same when it was.
                prop_assert!(plain.is_none() || key.is_ok(), "{}", event);
                let Ok(key) = key else { continue };
                let hash = key.hash();
                prop_assert_eq!(plain.unwrap_or(hash), hash, "{}", event);
                found.push((key, hash));
            }
            for (key, hash) in &found {
                prop_assert!(found.iter().all(|(other, h)| (key == other) <= (hash == h)));
                prop_assert!(found.iter().all(|(other, h)| (key == other) >= (hash == h)));
            }
        }

        #[test]
        fn different_keys_differ_in_hash(
            a in prop::collection::vec(attributes(), 2),
        ) {
            let keys: Vec<String> = a.iter().map(|attributes| keys(attributes, 0)).collect();
            let event = event(&keys);
            let batch = crate::event::parse(event.as_bytes());
            let [a, b] = batch.records().unwrap() else { panic!("two records") };
            if let (Ok(a), Ok(b)) = (a.keys(), b.keys()) {
                prop_assert_eq!(a == b, a.hash() == b.hash(), "{}", event);
            }
        }
    }

    #[track_caller]
    fn check_plain(keys: &str, is_plain: bool) {
        assert_eq!(KeyText::Item(keys).plain_hash().is_some(), is_plain, "{keys}");
    }

    #[test]
    fn what_services_write_is_plain() {
        check_plain(r#"{"pk":{"S":"CUST#000001"},"sk":{"N":"-12"}}"#, true);
        check_plain(r#"{"pk":{"S":"Zürich, \u0041"}}"#, false);
        check_plain(r#"{"pk":{"S":"Zürich, A"}}"#, true);
        check_plain(r#"{"pk":{"N":"1.0"}}"#, false);
        check_plain(r#"{"pk": {"S":"a"}}"#, false);
        check_plain(r#"{"pk":{"B":"AAAA"}}"#, false);
        check_plain(r#"{"pk":{"S":"a"},"pk":{"S":"b"}}"#, false);
        check_plain(r#"{"pk":{"S":"a"}"#, false);
        check_plain(r#"{"pk":{"S":"a"}} "#, false);
        check_plain("{}", false);
        let partition = |text| KeyText::Partition(text).plain_hash();
        assert_eq!(partition(r#""a""#), Some(RecordKey::Partition("a".into()).hash()));
        assert_eq!([partition(r#""a"#), partition("7"), partition(r#""\n""#)], [None; 3]);
    }
}
