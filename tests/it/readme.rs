//! The README's commands, run as they stand there, against what it says they print.
//!
//! A `console` block is commands after `$ ` and their output, stdout and stderr together; a
//! line `…` stands for any lines. `sh` blocks print too much to show: their `cargo run` lines
//! must succeed. `cargo run` is replaced by the program this test run has built.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

struct Block {
    language: String,
    lines: Vec<String>,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn blocks() -> Vec<Block> {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let mut blocks: Vec<Block> = Vec::new();
    let mut is_open = false;
    for line in readme.lines() {
        if let Some(language) = line.strip_prefix("```") {
            is_open = !is_open;
            if is_open {
                blocks.push(Block { language: language.to_owned(), lines: Vec::new() });
            }
        } else if is_open {
            blocks.last_mut().unwrap().lines.push(line.to_owned());
        }
    }
    assert!(!is_open, "a block of the README does not end");
    blocks
}

/// The command with the programs this test run has built, and how it ended.
fn run(command: &str) -> (String, Option<i32>) {
    let program = PathBuf::from(env!("CARGO_BIN_EXE_changefold"));
    let example = program.parent().unwrap().join("examples/orders");
    // What a reader keeps in the target directory must not be there from an earlier test.
    let state = std::env::temp_dir().join(format!("changefold-readme-{}", std::process::id()));
    let mut command_line = command.to_owned();
    for kept in ["shop", "clicks"] {
        let state = state.join(kept);
        command_line = command_line.replace(&format!("target/{kept}"), state.to_str().unwrap());
    }
    for (cargo, built) in [
        ("cargo run --example orders --", &example),
        ("cargo run --release --", &program),
        ("cargo run --", &program),
    ] {
        command_line = command_line.replace(cargo, built.to_str().unwrap());
    }
    assert!(!command_line.contains("cargo"), "the test does not know how to run: {command}");
    assert!(example.exists(), "run `cargo test`, or `cargo build --example orders` before");
    let output = Command::new("sh")
        .args(["-c", &format!("exec 2>&1; {command_line}")])
        .current_dir(root())
        .output()
        .unwrap();
    (String::from_utf8(output.stdout).unwrap(), output.status.code())
}

/// Whether the lines are those shown, where `…` stands for any number of them.
fn matches(shown: &[String], lines: &[&str]) -> bool {
    match shown.split_first() {
        None => lines.is_empty(),
        Some((first, rest)) if first == "…" => {
            (0..=lines.len()).any(|skipped| matches(rest, &lines[skipped..]))
        }
        Some((first, rest)) => {
            lines.split_first().is_some_and(|(line, lines)| first == line && matches(rest, lines))
        }
    }
}

#[test]
fn console_blocks_print_what_they_show() {
    let mut commands = 0;
    for block in blocks().iter().filter(|block| block.language == "console") {
        let mut lines = block.lines.iter().peekable();
        while let Some(line) = lines.next() {
            let command = line.strip_prefix("$ ").expect("a console block begins with a command");
            let mut shown = Vec::new();
            while let Some(line) = lines.next_if(|line| !line.starts_with("$ ")) {
                shown.push(line.clone());
            }
            let (output, _) = run(command);
            let printed: Vec<&str> = output.lines().collect();
            assert!(matches(&shown, &printed), "{command}\nprinted\n{output}");
            commands += 1;
        }
    }
    assert!(commands >= 5, "only {commands} commands found");
}

#[test]
fn the_first_command_succeeds_as_it_stands() {
    let blocks = blocks();
    let runs: Vec<&String> = blocks
        .iter()
        .filter(|block| block.language == "sh")
        .flat_map(|block| &block.lines)
        .filter(|line| line.starts_with("cargo run"))
        .collect();
    assert!(!runs.is_empty());
    for command in runs {
        let (output, status) = run(command);
        assert_eq!(status, Some(0), "{command}\n{output}");
    }
}

#[test]
fn the_example_stands_in_the_readme_as_it_is() {
    let example = fs::read_to_string(root().join("examples/orders.rs")).unwrap();
    let shown = blocks().into_iter().find(|block| block.language == "rust").unwrap();
    assert_eq!(shown.lines.join("\n") + "\n", example);
    assert!(example.lines().count() <= 40);
}
