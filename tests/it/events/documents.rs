//! Documents in Kinesis data against `serde_json`, on good text and on damaged text.

use super::kinesis_event;
use changefold::{
    event::{self, Value},
    record::Change,
};
use proptest::prelude::*;
use serde::{Deserialize, de::DeserializeOwned};
use std::{collections::BTreeMap, fmt::Debug};

fn ours<T: DeserializeOwned>(data: &[u8]) -> Option<T> {
    let event = kinesis_event(data);
    let batch = event::parse(event.as_bytes());
    match batch.records().unwrap()[0].change() {
        Ok(Change::Insert { new }) => new,
        Ok(_) => panic!("a Kinesis record is an insert"),
        Err(_) => None,
    }
}

#[track_caller]
fn check<T: DeserializeOwned + PartialEq + Debug>(data: &[u8]) {
    let theirs = serde_json::from_slice::<T>(data).ok();
    assert_eq!(ours::<T>(data), theirs, "{}", String::from_utf8_lossy(data));
}

/// One of everything a document is commonly read into.
#[derive(Debug, PartialEq, Deserialize)]
enum Shape {
    Unit,
    One(i64),
    Two(u8, Option<bool>),
    Named { a: f64, b: Vec<char> },
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(untagged)]
enum Untagged {
    Number(f64),
    Text(String),
    Map(BTreeMap<String, i32>),
}

#[derive(Debug, PartialEq, Deserialize)]
struct Wrapped(String);

#[derive(Debug, PartialEq, Deserialize)]
struct Flat {
    id: u16,
    #[serde(default)]
    wrapped: Option<Wrapped>,
    #[serde(flatten)]
    rest: BTreeMap<String, serde_json::Value>,
}

fn check_all(data: &[u8]) {
    check::<serde_json::Value>(data);
    check::<Shape>(data);
    check::<Untagged>(data);
    check::<Flat>(data);
    check::<Vec<Shape>>(data);
    check::<(i8, u64, f32)>(data);
    check::<[i128; 2]>(data);
    check::<Vec<u128>>(data);
    check::<BTreeMap<i64, Option<u8>>>(data);
    check::<BTreeMap<bool, String>>(data);
    check::<Option<Vec<Option<i64>>>>(data);
    // What is only skipped has to be UTF-8, which `serde_json` does not ask for, and to balance,
    // which is less than `serde_json` asks for.
    let skipped = serde_json::from_slice::<serde::de::IgnoredAny>(data).is_ok();
    let is_text = std::str::from_utf8(data).is_ok();
    let ours_skipped = ours::<serde::de::IgnoredAny>(data).is_some();
    assert!(ours_skipped || !(skipped && is_text), "{}", String::from_utf8_lossy(data));
    assert!(is_text || !ours_skipped);
}

#[test]
fn chosen_documents_read_as_serde_json_reads_them() {
    for text in [
        "",
        " ",
        "null",
        "true",
        "tru",
        "nulll",
        "[]",
        "[1,]",
        "[,1]",
        "{}",
        "{\"a\":1,}",
        "{,}",
        "-",
        "-0",
        "-0.0",
        "0",
        "00",
        "01",
        "1.",
        ".5",
        "1e",
        "1e+",
        "1e5",
        "1E-5",
        "1e999",
        "-1e-999",
        "18446744073709551615",
        "18446744073709551616",
        "-9223372036854775808",
        "-9223372036854775809",
        "123456789012345678901234567890",
        "0.1",
        "3.14159265358979323846",
        "\"\\u0000\"",
        "\"\\ud83d\\ude00\"",
        "\"\\ud83d\"",
        "\"\\ude00\"",
        "\"\\ud83d\\n\"",
        "\"\\ud83d\\ud83d\"",
        "\"\\u12\"",
        "\"\u{7f}\"",
        "\"\t\"",
        "\"",
        "\"\\",
        "\"\\\"",
        "\"Unit\"",
        "{\"Unit\":null}",
        "{\"Unit\":1}",
        "{\"One\":5}",
        "{\"One\":5,\"Two\":[1,null]}",
        "{\"Two\":[1,null]}",
        "{\"Two\":[1]}",
        "{\"Two\":[1,true,2]}",
        "{\"Two\":[256,true]}",
        "{\"Named\":{\"a\":1,\"b\":[\"x\"]}}",
        "{\"Named\":[1.5,[\"xy\"]]}",
        "{\"Other\":1}",
        "5",
        "{\"id\":1,\"x\":[1,{\"y\":null}],\"wrapped\":\"w\"}",
        "{\"id\":1,\"id\":2}",
        "[1,null,\"w\"]",
        "{\"a\":1,\"a\":2}",
        "{\"1\":null,\"-5\":null}",
        "{\"01\":null}",
        "{\"true\":\"x\"}",
        "[1,2,3]",
        "[-128,0,1e400]",
        "[1,-2]",
        "[1.0,2]",
        "[-0]",
        "[170141183460469231731687303715884105728,1]",
        "\u{feff}1",
        "1 2",
        "[1]]",
        "{\"a\":1]",
        "[{\"a\":[}]",
    ] {
        check_all(text.as_bytes());
    }
    for depth in [126, 127, 128, 129, 100_000] {
        for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
            let text = format!("{}1{}", open.repeat(depth), close.repeat(depth));
            check::<serde_json::Value>(text.as_bytes());
            let exact = ours::<super::Whole>(text.as_bytes()).is_some();
            assert_eq!(exact, depth < 128);
        }
    }
}

/// JSON texts that are nearly right: made of tokens, with a few bytes damaged.
fn damaged() -> impl Strategy<Value = Vec<u8>> {
    let token = prop_oneof![
        4 => prop::sample::select(vec![
            "{", "}", "[", "]", ",", ":", "null", "true", "false", " ", "\n", "\"id\":", "\"a\":",
            "\"One\":", "\"x\"", "\"\\u00e9\"", "\"\\ud83d\\ude00\"", "\"\\ud83d\"", "\"\\n\"", "\"é\"",
        ]).prop_map(str::to_owned),
        1 => "-?(0|[1-9][0-9]{0,40})(\\.[0-9]{1,20})?([eE][+-]?[0-9]{1,3})?",
    ];
    prop::collection::vec(token, 0..14).prop_map(|tokens| tokens.concat().into_bytes())
}

/// Right documents, as text.
fn document() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        any::<bool>().prop_map(|value| value.to_string()),
        "-?(0|[1-9][0-9]{0,40})(\\.[0-9]{1,40})?([eE][+-]?[0-9]{1,2})?",
        any::<f64>().prop_filter_map("JSON has no infinity", |value| {
            value.is_finite().then(|| format!("{value:e}"))
        }),
        any::<String>().prop_map(|text| serde_json::to_string(&text).unwrap()),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        let name = prop_oneof!["[ab]", "\\PC{0,3}"];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4)
                .prop_map(|parts| format!("[{}]", parts.join(" , "))),
            prop::collection::vec((name, inner), 0..4).prop_map(|members| {
                let members: Vec<String> = members
                    .iter()
                    .map(|(name, value)| format!("{}:{value}", serde_json::json!(name)))
                    .collect();
                format!("{{{}\n}}", members.join(","))
            }),
        ]
    })
}

/// The exact value, as `serde_json` would have it.
fn rounded(value: &Value<'_>) -> serde_json::Value {
    match value {
        Value::Null => serde_json::Value::Null,
        Value::Bool(value) => (*value).into(),
        Value::Number(digits) => serde_json::from_str(digits).unwrap(),
        Value::Text(text) => text.as_ref().into(),
        Value::List(list) => list.iter().map(rounded).collect(),
        Value::Map(members) => {
            members.iter().map(|(name, value)| (name.to_string(), rounded(value))).collect()
        }
        other => panic!("not of plain JSON: {}", other.kind()),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn damaged_documents_are_accepted_when_serde_json_accepts_them(data in damaged()) {
        check_all(&data);
    }

    #[test]
    fn mutated_documents_are_accepted_when_serde_json_accepts_them(
        document in document(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..3u8), 0..3),
    ) {
        let mut data = document.into_bytes();
        for (at, byte, kind) in edits {
            let at = at.index(data.len() + 1);
            match kind {
                0 => data.insert(at, byte),
                1 if at < data.len() => data[at] = byte,
                _ => data.truncate(at),
            }
        }
        check_all(&data);
    }

    #[test]
    fn random_bytes_never_panic(data in prop::collection::vec(any::<u8>(), 0..64)) {
        check_all(&data);
        let batch = event::parse(&data);
        prop_assert!(batch.records().is_err());
    }

    #[test]
    fn documents_read_without_a_type_lose_nothing(document in document()) {
        let theirs = serde_json::from_str::<serde_json::Value>(&document);
        prop_assume!(theirs.is_ok());
        let ours = ours::<super::Whole>(document.as_bytes()).unwrap().0;
        prop_assert_eq!(rounded(&ours), theirs.unwrap());
    }
}
