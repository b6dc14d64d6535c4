//! `docs/fidelity.md` is whole: every rule is proved by a test that carries its number.
//!
//! A test carries a rule by a line `// R1, R2` right above its attribute.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The rules of the page, in its order.
fn rules() -> Vec<String> {
    let page = fs::read_to_string(root().join("docs/fidelity.md")).unwrap();
    let row = |line: &str| {
        let name = line.strip_prefix("| R")?.split(' ').next()?.to_owned();
        Some(format!("R{name}"))
    };
    // The table of other emulators names them too.
    page.lines().take_while(|line| *line != "## Cases").filter_map(row).collect()
}

fn rust_files(folder: PathBuf, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(path, found);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            found.push(path);
        }
    }
}

/// The rules that tests carry, with where they do.
fn carried() -> BTreeMap<String, Vec<String>> {
    let mut files = Vec::new();
    rust_files(root().join("src/local"), &mut files);
    rust_files(root().join("tests/it"), &mut files);
    let mut found = BTreeMap::<String, Vec<String>>::new();
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        for (line, text) in carriers(&text) {
            let place = format!("{}:{line}", file.display());
            for rule in text.split(", ") {
                found.entry(rule.to_owned()).or_default().push(place.clone());
            }
        }
    }
    found
}

/// The lists of rules that stand right above a test, with their lines.
fn carriers(text: &str) -> Vec<(usize, &str)> {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let is_rule = |rule: &str| {
        let number = rule.strip_prefix('R');
        number.is_some_and(|it| !it.is_empty() && it.bytes().all(|byte| byte.is_ascii_digit()))
    };
    let carrier = |(at, line): (usize, &&str)| {
        let list = line.strip_prefix("// ")?;
        let is_above = lines.get(at + 1).is_some_and(|next| next.ends_with("test]"));
        (is_above && list.split(", ").all(is_rule)).then_some(at)
    };
    let found: Vec<usize> = lines.iter().enumerate().filter_map(carrier).collect();
    let line = |at: usize| text.lines().nth(at).unwrap().trim().trim_start_matches("// ");
    found.into_iter().map(|at| (at + 1, line(at))).collect()
}

#[test]
fn every_rule_of_the_page_is_carried_by_a_test_and_every_test_carries_rules_of_the_page() {
    let rules = rules();
    let expected: Vec<String> = (1..=rules.len()).map(|number| format!("R{number}")).collect();
    assert_eq!(rules, expected, "the rules are numbered one after another");
    assert!(rules.len() > 30, "{rules:?}");
    let carried = carried();
    let bare: Vec<&String> = rules.iter().filter(|rule| !carried.contains_key(*rule)).collect();
    assert!(bare.is_empty(), "no test carries {bare:?}: write `// R…` above one that proves it");
    let known: BTreeSet<&String> = rules.iter().collect();
    let unknown: Vec<_> = carried.iter().filter(|(rule, _)| !known.contains(rule)).collect();
    assert!(unknown.is_empty(), "docs/fidelity.md has no such rule: {unknown:?}");
}

#[test]
fn a_rule_is_carried_right_above_a_test_only() {
    let text = "// R1, R2\n#[test]\nfn a() {}\n// R3\nfn b() {}\n// see R4\n#[test]\nfn c() {}\n\
                // R5\n#[tokio::test]\nasync fn d() {}\n";
    assert_eq!(carriers(text), [(1, "R1, R2"), (9, "R5")]);
}

/// What emulators are told is one of these rules, in our own words.
#[test]
fn every_case_of_the_suite_is_an_example_of_a_rule_of_the_page() {
    let text = fs::read_to_string(root().join("src/local/conformance/cases.jsonl")).unwrap();
    let rules = rules();
    for line in text.lines() {
        let case: serde_json::Value = serde_json::from_str(line).unwrap();
        let rule = case["rule"].as_str().unwrap();
        assert!(rules.iter().any(|known| known == rule), "{line}");
        for member in ["evidence", "what"] {
            assert!(case[member].as_str().is_some_and(|text| !text.is_empty()), "{line}");
        }
    }
}
