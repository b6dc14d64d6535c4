//! The commands of the README and of every page in `docs/`, run as they stand there, against
//! what the page says they print; and the links between the pages.
//!
//! A `console` block is commands after `$ ` and their output, stdout and stderr together; a
//! line `…` stands for any lines. `sh` blocks print too much to show: the README's `cargo run`
//! lines must succeed; that of `dev` is written to with the line behind it, and stopped.
//! `cargo run` is replaced by the program this test run has built.

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

/// The README first, then what else people read, by name.
fn pages() -> Vec<PathBuf> {
    let docs = fs::read_dir(root().join("docs")).unwrap();
    let mut pages: Vec<PathBuf> = docs.map(|entry| entry.unwrap().path()).collect();
    pages.retain(|path| path.extension().is_some_and(|end| end == "md"));
    pages.extend(["CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"].map(|it| root().join(it)));
    pages.sort();
    pages.insert(0, root().join("README.md"));
    pages
}

fn blocks(page: &Path) -> Vec<Block> {
    let text = fs::read_to_string(page).unwrap();
    let mut blocks: Vec<Block> = Vec::new();
    let mut is_open = false;
    for line in text.lines() {
        if let Some(language) = line.strip_prefix("```") {
            is_open = !is_open;
            if is_open {
                blocks.push(Block { language: language.to_owned(), lines: Vec::new() });
            }
        } else if is_open {
            blocks.last_mut().unwrap().lines.push(line.to_owned());
        }
    }
    assert!(!is_open, "a block of {} does not end", page.display());
    blocks
}

/// The command with the programs this test run has built, and how it ended.
fn run(command: &str) -> (String, Option<i32>) {
    let program = PathBuf::from(env!("CARGO_BIN_EXE_changefold"));
    let example = program.parent().unwrap().join("examples/orders");
    // What a reader keeps in the target directory must not be there from an earlier test.
    let state = std::env::temp_dir().join(format!("changefold-readme-{}", std::process::id()));
    let mut command_line = command.to_owned();
    for kept in ["shop", "clicks", "changing"] {
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
    let all: Vec<Block> = pages().iter().flat_map(|page| blocks(page)).collect();
    for block in all.iter().filter(|block| block.language == "console") {
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
    assert!(commands >= 10, "only {commands} commands found");
}

#[test]
fn the_first_command_succeeds_as_it_stands() {
    let blocks = blocks(&root().join("README.md"));
    let runs: Vec<&String> = blocks
        .iter()
        .filter(|block| block.language == "sh")
        .flat_map(|block| &block.lines)
        .filter(|line| line.starts_with("cargo run") && !line.contains(DEV))
        .collect();
    assert!(!runs.is_empty());
    for command in runs {
        let (output, status) = run(command);
        assert_eq!(status, Some(0), "{command}\n{output}");
    }
}

const DEV: &str = "cargo run --release --features dev -- dev";

/// The command of the live desk, on a free port, and the item that is put behind it.
#[cfg(feature = "dev")]
#[test]
fn the_live_desk_takes_the_item_that_is_put() {
    use std::{
        io::{BufRead as _, BufReader, Read as _, Write as _},
        net::TcpStream,
        process::Stdio,
    };
    let blocks = blocks(&root().join("README.md"));
    let lines = || blocks.iter().flat_map(|block| &block.lines);
    let arguments = lines().find_map(|line| line.strip_prefix(DEV)).unwrap();
    let item = lines().find(|line| line.starts_with("aws dynamodb put-item")).unwrap();
    let item = item.split('\'').nth(1).unwrap();
    let mut dev = Command::new(env!("CARGO_BIN_EXE_changefold"))
        .arg("dev")
        .args(arguments.split_whitespace())
        .args(["--port", "0"])
        .current_dir(root())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut told = BufReader::new(dev.stderr.take().unwrap()).lines();
    let address = loop {
        let line = told.next().expect("it has ended").unwrap();
        if let Some((_, rest)) = line.split_once("AWS_ENDPOINT_URL=http://") {
            break rest.split(' ').next().unwrap().to_owned();
        }
    };
    let body = format!(r#"{{"TableName":"orders","Item":{item}}}"#);
    let mut connection = TcpStream::connect(&address).unwrap();
    write!(
        connection,
        "POST / HTTP/1.1\r\nhost: {address}\r\nx-amz-target: DynamoDB_20120810.PutItem\r\n\
         content-type: application/x-amz-json-1.0\r\ncontent-length: {}\r\n\
         connection: close\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    // The line of the invocation that took it.
    assert!(told.by_ref().map_while(Result::ok).any(|line| line.contains("1 record")));
    let stopped = Command::new("kill").args(["-INT", &dev.id().to_string()]).status().unwrap();
    assert!(stopped.success());
    let mut rows = String::new();
    dev.stdout.take().unwrap().read_to_string(&mut rows).unwrap();
    assert_eq!(dev.wait().unwrap().code(), Some(0));
    assert!(rows.contains("view orders_by_status: 1 rows"), "{rows}");
}

#[test]
fn the_example_stands_in_the_readme_as_it_is() {
    let example = fs::read_to_string(root().join("examples/orders.rs")).unwrap();
    let shown = blocks(&root().join("README.md"))
        .into_iter()
        .find(|block| block.language == "rust")
        .unwrap();
    assert_eq!(shown.lines.join("\n") + "\n", example);
    assert!(example.lines().count() <= 40);
}

/// What a heading is called in a link: as GitHub does it.
fn anchor(heading: &str) -> String {
    let heading = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

/// A link's page and anchor, from the page it stands on; none for one that leads elsewhere.
fn target(page: &Path, link: &str) -> Option<(PathBuf, Option<String>)> {
    if link.contains("://") {
        return None;
    }
    let (file, anchor) = link.split_once('#').map_or((link, None), |(file, it)| (file, Some(it)));
    let file = if file.is_empty() { page.to_owned() } else { page.parent().unwrap().join(file) };
    Some((file, anchor.map(str::to_owned)))
}

#[test]
fn links_lead_somewhere() {
    let mut links = 0;
    for page in pages() {
        let text = fs::read_to_string(&page).unwrap();
        for after in text.split("](").skip(1) {
            let link = after.split(')').next().unwrap();
            let Some((file, wanted)) = target(&page, link) else { continue };
            let place = format!("{}: {link}", page.display());
            assert!(file.exists(), "{place} leads nowhere");
            links += 1;
            let Some(wanted) = wanted else { continue };
            let text = fs::read_to_string(&file).unwrap();
            let found = text.lines().any(|it| it.starts_with('#') && anchor(it) == wanted);
            assert!(found, "{place} leads to no heading");
        }
    }
    assert!(links > 20, "only {links} links found");
}
