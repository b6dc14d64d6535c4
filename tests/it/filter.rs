//! Filter patterns: vectors, a naive matcher beside ours, sizes, and a replay through filters.

mod reference;
mod replay;

use changefold::local::filter::{CasesSummary, Event, Pattern, cases};
use proptest::prelude::*;
use serde_json::Value;
use std::{fs, path::Path};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[track_caller]
fn check_cases(text: &str) -> CasesSummary {
    let mut differences = Vec::new();
    let summary = cases(text.as_bytes(), |it| differences.push(it.to_owned())).unwrap();
    assert!(differences.is_empty(), "{}", differences.join("\n"));
    summary
}

// R37, R38
#[test]
fn our_vectors_are_met() {
    let text = fs::read_to_string(root().join("fixtures/filter-patterns.jsonl")).unwrap();
    let summary = check_cases(&text);
    assert_eq!(summary.cases(), text.lines().count());
    assert!(summary.counts.iter().enumerate().all(|(at, row)| row[at] > 50), "{summary:?}");
}

/// Vectors recorded at AWS lie beside the checkout where the project's facts do; a checkout
/// alone does not have them.
#[test]
fn the_recorded_vectors_are_met() {
    let recorded = root().join("../shared/facts/event-patterns.jsonl");
    let Ok(text) = fs::read_to_string(recorded) else { return };
    let summary = check_cases(&text);
    assert!(summary.cases() >= 78, "{summary:?}");
}

#[test]
fn a_difference_names_its_line_and_its_reason() {
    let text = concat!(
        "\u{feff}\n",
        r#"{"name":"a","expect":"match","pattern":{"a":["x"]},"event":{"a":"y"}}"#,
        "\n\n",
        r#"{"name":7,"expect":"no-match","pattern":{"a":"x"},"event":{},"evidence":"own"}"#,
        "\n",
    );
    let mut differences = Vec::new();
    let summary = cases(text.as_bytes(), |it| differences.push(it.to_owned())).unwrap();
    assert_eq!((summary.cases(), summary.different()), (2, 2));
    assert_eq!(
        differences,
        [
            "line 2: a: expected match, got no-match",
            "line 4: 7: expected no-match, got rejected: `a` is \"x\"; \
             allowed: a list of values, or an object",
        ]
    );
}

#[track_caller]
fn check_broken(line: &str, message: &str) {
    let good = r#"{"name":"a","expect":"match","pattern":{"a":["x"]},"event":{"a":"x"}}"#;
    let error = cases(format!("{good}\n{line}\n").as_bytes(), |_| ()).unwrap_err();
    assert!(error.to_string().starts_with(message), "{error}");
}

#[test]
fn a_line_that_is_no_case_is_named() {
    check_broken("{", "line 2, column 1: EOF");
    check_broken(r#"{"name":"a","expect":"match","event":{}}"#, "line 2, column 40: missing field");
    check_broken(
        r#"{"name":"a","expect":"maybe","pattern":{},"event":{}}"#,
        "line 2, column 28: unknown variant `maybe`",
    );
    check_broken(
        r#"{"name":"a","expect":"match","pattern":{},"event":{},"rule":1}"#,
        "line 2, column 59: unknown field `rule`",
    );
}

#[track_caller]
fn check_refused(pattern: &str, message: &str) {
    assert_eq!(Pattern::parse(pattern).unwrap_err().to_string(), message, "{pattern}");
}

#[test]
fn a_refusal_names_the_place_what_is_there_and_what_could_be() {
    check_refused("[1]", "the pattern is a list; allowed: an object of keys and lists of values");
    check_refused("{\"a\":[1]", "broken JSON at byte 9: the end, expected `,` or `}`");
    check_refused(
        r#"{"detail":{"state":["x",{"prefix":["a"]}]}}"#,
        "`detail.state[1].prefix` is a list; allowed: a text, or {\"equals-ignore-case\": a text}",
    );
    check_refused(
        r#"{"a":[{"Numeric":["=",1]}]}"#,
        "`a[0].Numeric` is an unknown operator; allowed: prefix, suffix, anything-but, numeric, \
         exists, equals-ignore-case, wildcard or cidr, in lower case",
    );
    check_refused(
        r#"{"a":[{"prefix":"x","suffix":"y"}]}"#,
        "`a[0]` is an object of 2 members; allowed: one operator an object",
    );
    check_refused(
        r#"{"a":[{"numeric":[">",0,"<",6000000000]}]}"#,
        "`a[0].numeric[3]` is 6000000000; allowed: a number from -5000000000 to 5000000000",
    );
    check_refused(
        r#"{"$or":[{"a":[1]},{"b":{}}]}"#,
        "`$or[1].b` is an empty object; allowed: an object with a key",
    );
    check_refused(
        r#"{"a":[{"wildcard":"a**"}]}"#,
        "`a[0].wildcard` is two stars side by side at character 2; allowed: 5 stars, none \
         beside another, with \\* for a star and \\\\ for a backslash",
    );
}

/// Thousands of levels, in the pattern and in the event, as keys, as arrays and with dots.
#[test]
fn depth_is_refused_or_walked_and_never_overflows_the_stack() {
    let nested = |depth: usize, inner: &str| r#"{"a":"#.repeat(depth) + inner + &"}".repeat(depth);
    for depth in [300, 5_000, 1_000_000] {
        let error = Pattern::parse(&nested(depth, "[1]")).unwrap_err().to_string();
        assert!(error.ends_with("is nested more than 256 levels deep; allowed: 256 levels"));
        let dots = format!(r#"{{"{}a":[1]}}"#, "a.".repeat(depth));
        assert!(Pattern::parse(&dots).is_err());
        let lists = format!(r#"{{"a":{}{}}}"#, "[".repeat(depth), "]".repeat(depth));
        assert!(Pattern::parse(&lists).is_err());
        let or = r#"{"$or":[{"b":[1]},"#.repeat(depth) + r#"{"b":[1]}"# + &"]}".repeat(depth);
        assert!(Pattern::parse(&or).is_err());

        let pattern = Pattern::parse(r#"{"a":[1]}"#).unwrap();
        let lists = format!(r#"{{"a":{}1{}}}"#, "[".repeat(depth), "]".repeat(depth));
        assert!(pattern.matches(&Event::parse(&lists).unwrap()));
        assert!(!pattern.matches(&Event::parse(&nested(depth, "1")).unwrap()));
    }
    let pattern = Pattern::parse(&nested(256, "[1]")).unwrap();
    assert!(pattern.matches(&Event::parse(&nested(256, "1")).unwrap()));
    let dots = format!(r#"{{"{}a":1}}"#, "a.".repeat(255));
    assert!(pattern.matches(&Event::parse(&dots).unwrap()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn the_matcher_agrees_with_a_naive_one(
        pattern in reference::patterns(),
        event in reference::events(),
    ) {
        let text = pattern.to_string();
        let compiled = Pattern::parse(&text).unwrap();
        let found = compiled.matches(&Event::parse(&event.to_string()).unwrap());
        prop_assert_eq!(found, reference::matches(&pattern, &event), "{} {}", text, event);
    }

    /// A pattern made of an event's own values has to match it; both ways to write its keys do.
    /// An event without values outside of arrays asks for nothing.
    #[test]
    fn keys_with_dots_are_paths(event in reference::events()) {
        let (mut nested, mut dotted) = (Value::Null, serde_json::Map::new());
        reference::write_both(&event, &mut nested, &mut dotted);
        if dotted.is_empty() {
            return Ok(());
        }
        let events = [event.to_string(), reference::dotted(&event).to_string()];
        for pattern in [nested.to_string(), Value::Object(dotted).to_string()] {
            let compiled = Pattern::parse(&pattern).unwrap();
            for event in &events {
                prop_assert!(compiled.matches(&Event::parse(event).unwrap()), "{pattern} {event}");
            }
        }
    }
}
