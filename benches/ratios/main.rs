//! What changefold's speed is against what people run today, as ratios of one run.
//!
//! ```text
//! cargo bench --bench ratios              # every row
//! cargo bench --bench ratios -- decode    # only the rows of one part
//! ```
//!
//! Prints the table and writes `target/ratios.json`. A row whose peer is not installed says
//! which script installs it, and holds neither way. Nothing here asserts a time: a row that
//! falls short is a row that says so.
#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::unwrap_used,
    clippy::cast_precision_loss,
    reason = "a program of its own, which ends where its figures cannot be had"
)]

mod allocations;
mod decode;
mod instructions;
mod measure;
mod model;
mod payloads;
mod processing;
mod start;
mod store;
mod whole;

use measure::Row;

/// A part of the table: its name on the command line, and how its rows are had.
type Part = (&'static str, fn() -> Vec<Row>);

const PARTS: &[Part] = &[
    ("decode", decode::rows),
    ("processing", processing::rows),
    ("store", store::rows),
    ("whole", whole::rows),
    ("start", start::rows),
];

fn main() {
    if instructions::asked() {
        return;
    }
    // `cargo bench` adds `--bench`.
    let wanted: Vec<String> = std::env::args().skip(1).filter(|it| !it.starts_with('-')).collect();
    for name in &wanted {
        if !PARTS.iter().any(|(part, _)| part == name) {
            let parts: Vec<&str> = PARTS.iter().map(|(part, _)| *part).collect();
            eprintln!("error: no part is called {name}; there are: {}", parts.join(", "));
            std::process::exit(2);
        }
    }
    let mut rows = Vec::new();
    for (part, measure) in PARTS {
        if wanted.is_empty() || wanted.iter().any(|name| name == part) {
            eprintln!("measuring {part} …");
            rows.extend(measure());
        }
    }
    print!("{}", measure::table(&rows));
    let path = measure::write_json(&rows);
    eprintln!("written to {}", path.display());
}
