//! What the shipped function carries, and what it must not.

use std::{path::Path, process::Command};

/// The crates of a build, by name.
fn crates(features: &[&str]) -> Vec<String> {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--locked", "--edges", "normal", "--prefix", "none", "--format", "{p}"])
        .args(features)
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let tree = String::from_utf8(output.stdout).unwrap();
    tree.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
}

/// The CLI parser, `SQLite` in any form, and the SDK's own configuration chain.
const DESK_ONLY: [&str; 5] = ["clap", "rusqlite", "libsqlite3-sys", "dynoxide-rs", "indicatif"];

#[test]
fn the_shipped_function_carries_no_command_line_and_no_sqlite() {
    let shipped = crates(&["--no-default-features", "--features", "lambda"]);
    assert!(shipped.iter().any(|name| name == "lambda_runtime"), "the control: {shipped:?}");
    for name in DESK_ONLY.into_iter().chain(["aws-config"]) {
        assert!(!shipped.iter().any(|other| other == name), "the shipped build carries {name}");
    }
}

#[test]
fn the_desk_carries_what_the_shipped_function_must_not() {
    let desk = crates(&[]);
    for name in DESK_ONLY {
        assert!(desk.iter().any(|other| other == name), "{name} is not even in the desk's build");
    }
}
