//! The house rules a compiler does not check: layering, imports, heads of files.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

const LINE_MAX: usize = 100;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn rust_files(folder: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// `src/view/sql/refuse.rs` is `view::sql::refuse`.
fn module(file: &Path) -> Vec<String> {
    let relative = file.strip_prefix(root().join("src")).unwrap().with_extension("");
    relative.iter().map(|part| part.to_str().unwrap().to_owned()).collect()
}

/// The paths a file imports or names, as module paths from the crate's root. Test modules at
/// the end of a file are left out: they may look at anything.
fn imports(text: &str, own: &[String]) -> BTreeSet<Vec<String>> {
    let code = text.split("#[cfg(test)]").next().unwrap();
    let code: String = code
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .map(|line| line.split(" //").next().unwrap())
        .collect::<Vec<_>>()
        .join(" ");
    let code = without_exports(&code);
    let mut found = BTreeSet::new();
    // `use child::Name` in a parent, and `child::name()` in its code.
    for (at, _) in code.match_indices("::") {
        let before = code[..at].trim_end_matches(|c: char| c.is_alphanumeric() || c == '_');
        let name = &code[before.len()..at];
        if !name.is_empty() && !before.ends_with(':') {
            expand(&code[before.len()..], own, &mut found);
        }
    }
    for (marker, base) in [("crate::", Vec::new()), ("super::", own[..own.len() - 1].to_vec())] {
        for (at, _) in code.match_indices(marker) {
            expand(&code[at + marker.len()..], &base, &mut found);
        }
    }
    found
}

/// Leaves out what a file only hands on.
fn without_exports(code: &str) -> String {
    let mut kept = String::new();
    let mut rest = code;
    let exports = ["pub use ", "pub(super) use ", "pub(crate) use ", "pub(in crate::event) use "];
    while let Some(at) = exports.iter().filter_map(|it| rest.find(it)).min() {
        kept.push_str(&rest[..at]);
        rest = rest[at..].split_once(';').map_or("", |(_, after)| after);
    }
    kept + rest
}

/// Follows `a::{b, c::{d}}` into its leaves.
fn expand<'t>(text: &'t str, base: &[String], found: &mut BTreeSet<Vec<String>>) -> &'t str {
    let text = text.trim_start();
    if let Some(mut rest) = text.strip_prefix('{') {
        loop {
            rest = expand(rest, base, found).trim_start();
            match rest.chars().next() {
                Some(',') => rest = rest[1..].trim_start(),
                Some('}') => return &rest[1..],
                _ => return rest,
            }
            if let Some(after) = rest.strip_prefix('}') {
                return after;
            }
        }
    }
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    let mut path = base.to_vec();
    if !name.is_empty() {
        path.push(name.to_owned());
    }
    if let Some(inner) = rest.strip_prefix("::") {
        return expand(inner, &path, found);
    }
    found.insert(path);
    match rest.trim_start().strip_prefix("as ") {
        Some(renamed) => expand(renamed, &[], &mut BTreeSet::new()),
        None => rest,
    }
}

/// Which files each file depends on.
fn graph() -> BTreeMap<Vec<String>, BTreeSet<Vec<String>>> {
    let files: BTreeMap<Vec<String>, String> = rust_files("src")
        .into_iter()
        .map(|file| (module(&file), fs::read_to_string(&file).unwrap()))
        .collect();
    files
        .iter()
        .map(|(own, text)| {
            let needed = imports(text, own)
                .into_iter()
                .filter_map(|path| {
                    (1..=path.len())
                        .rev()
                        .map(|length| path[..length].to_vec())
                        .find(|part| files.contains_key(part))
                })
                .filter(|needed| needed != own)
                .collect();
            (own.clone(), needed)
        })
        .collect()
}

#[test]
fn the_function_never_sees_the_desk() {
    let above = ["local", "run", "bin", "lib"];
    let mut looked_at = 0;
    for (file, needed) in graph() {
        if above.contains(&file[0].as_str()) {
            continue;
        }
        looked_at += 1;
        for path in needed {
            assert!(
                !above.contains(&path[0].as_str()),
                "{} imports {}: the function must not know the desk",
                file.join("::"),
                path.join("::"),
            );
        }
    }
    assert!(looked_at > 20, "only {looked_at} files looked at");
}

/// Imports between files run one way. A file may use what its parents declare, and a parent may
/// say what its folder has to offer (`mod`, `pub use`); no other way leads back.
#[test]
fn imports_have_no_circles() {
    let graph = graph();
    for start in graph.keys() {
        let mut seen = BTreeSet::new();
        let mut paths = vec![vec![start]];
        while let Some(path) = paths.pop() {
            let last = path[path.len() - 1];
            for next in graph[last].iter().filter(|next| !last.starts_with(next)) {
                assert!(
                    next != start,
                    "imports in a circle: {}",
                    path.iter().map(|module| module.join("::")).collect::<Vec<_>>().join(" -> "),
                );
                if let Some((next, _)) = graph.get_key_value(next)
                    && seen.insert(next)
                {
                    paths.push(path.iter().copied().chain([next]).collect());
                }
            }
        }
    }
}

#[test]
fn the_layering_check_sees_imports() {
    let own = vec!["view".to_owned(), "rows".to_owned()];
    let text = "use crate::{local::run, view::{scalar::Scalar, sql as parser}, store::Store};\n\
                fn f() { super::ledger::g(); } // crate::hidden\n#[cfg(test)] use crate::test;";
    let found = imports(text, &own);
    let has = |path: &str| found.contains(&path.split("::").map(str::to_owned).collect::<Vec<_>>());
    for path in
        ["local::run", "view::scalar::Scalar", "view::sql", "store::Store", "view::ledger::g"]
    {
        assert!(has(path), "{path} not in {found:?}");
    }
    assert!(!has("hidden") && !has("test"), "{found:?}");
    let own = vec!["view".to_owned()];
    let text = "pub use rows::Rows; use sql::Statement; fn f() { ledger::g(); }";
    let found = imports(text, &own);
    let has = |path: &str| found.contains(&path.split("::").map(str::to_owned).collect::<Vec<_>>());
    assert!(has("view::sql::Statement") && has("view::ledger::g"), "{found:?}");
    assert!(!has("view::rows::Rows"), "what is handed on: {found:?}");
}

#[test]
fn every_file_says_what_it_is_and_keeps_its_lines_short() {
    let mut faults = Vec::new();
    for file in ["src", "tests", "examples"].iter().flat_map(|folder| rust_files(folder)) {
        let text = fs::read_to_string(&file).unwrap();
        let name = file.strip_prefix(root()).unwrap().display().to_string();
        if !text.starts_with("//!") {
            faults.push(format!("{name}: no //! at its head"));
        }
        for (number, line) in text.lines().enumerate() {
            let place = format!("{name}:{}", number + 1);
            let data = line.contains("r#\"") || line.contains("http") || line.contains("\\\"");
            if line.chars().count() > LINE_MAX && !data {
                faults.push(format!("{place}: longer than {LINE_MAX} columns"));
            }
            let marks = ["FIX".to_owned() + "ME", "TO".to_owned() + "DO", "dbg".to_owned() + "!("];
            if marks.iter().any(|mark| line.contains(mark.as_str())) {
                faults.push(format!("{place}: unfinished"));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn every_fixture_is_described() {
    let fixtures = root().join("fixtures");
    let described = fs::read_to_string(fixtures.join("README.md")).unwrap();
    for entry in fs::read_dir(&fixtures).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let known = ["README.md", "__pycache__"].contains(&&*name) || described.contains(&name);
        assert!(known, "fixtures/README.md does not mention {name}");
    }
}
