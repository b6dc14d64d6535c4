//! The verb `conformance`: the suite as files, and an emulator held against it.

use super::{Complaint, Exit, Format, print, talk};
use crate::local::conformance::{self, Asked, Row, Verdict};
use clap::{Args, Subcommand};
use comfy_table::{Table, presets::UTF8_FULL_CONDENSED};
use std::{net::SocketAddr, path::PathBuf, time::Duration};

/// Cases of an event source mapping, and what an emulator makes of them.
#[derive(Debug, Args)]
pub(super) struct ConformanceArgs {
    #[command(subcommand)]
    verb: ConformanceVerb,
}

#[derive(Debug, Subcommand)]
enum ConformanceVerb {
    /// Writes the cases, with what they mean, into a directory.
    Write {
        /// Made if it is not there.
        #[arg(value_name = "DIR")]
        directory: PathBuf,
    },
    /// Has an emulator run the cases through its Lambda, `DynamoDB`, Kinesis and SQS APIs.
    ///
    /// Tables, streams, queues and functions are made for each case and deleted afterwards.
    Run(RunArgs),
}

#[derive(Debug, Args)]
struct RunArgs {
    /// Where the emulator serves all of these APIs.
    #[arg(long, value_name = "URL")]
    endpoint_url: String,
    /// Only this case; may be repeated.
    #[arg(long = "case", value_name = "NAME")]
    cases: Vec<String>,
    /// The runtime that the functions are said to need.
    #[arg(long, value_name = "RUNTIME", default_value = "python3.12")]
    runtime: String,
    /// Where this process listens for the functions.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// How functions reach it, where they run in containers.
    #[arg(long, value_name = "URL")]
    callback_url: Option<String>,
    /// How long a call that is expected is waited for.
    #[arg(long, value_name = "SECONDS", default_value = "15")]
    patience: u64,
    /// How the result is written to stdout.
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
}

pub(super) fn conformance(arguments: ConformanceArgs) -> Result<Exit, Complaint> {
    match arguments.verb {
        ConformanceVerb::Write { directory } => {
            conformance::write(&directory).map_err(|error| {
                Complaint::new(format!("{}: {error}", directory.display()))
                    .with_hint("name a directory that may be written to")
            })?;
            talk(format_args!("the suite is in {}", directory.display()));
            Ok(Exit::Done)
        }
        ConformanceVerb::Run(arguments) => run(arguments),
    }
}

fn run(arguments: RunArgs) -> Result<Exit, Complaint> {
    let asked = Asked {
        endpoint_url: arguments.endpoint_url.trim_end_matches('/').to_owned(),
        listen: arguments.listen,
        callback_url: arguments.callback_url,
        runtime: arguments.runtime,
        patience: Duration::from_secs(arguments.patience),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let told = |row: &Row| talk(format_args!("{}: {}", row.case, row.verdict.name()));
    let rows = runtime.block_on(conformance::run(&asked, &arguments.cases, told))?;
    match arguments.format {
        Format::Json => print(&(serde_json::to_string(&rows)? + "\n")),
        Format::Table => print(&table(&rows)),
    }
    let agrees = rows.iter().filter(|row| row.verdict == Verdict::Agrees).count();
    talk(format_args!("{} cases, {agrees} as the rules say", rows.len()));
    Ok(if agrees == rows.len() { Exit::Done } else { Exit::CheckFailed })
}

fn table(rows: &[Row]) -> String {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED);
    table.set_header(["rule", "case", "evidence", "by the rule", "found", "verdict"]);
    for row in rows {
        let verdict = row.verdict.name();
        table.add_row([&row.rule, &row.case, &row.evidence, &row.expected, &row.found, verdict]);
    }
    format!("{table}\n")
}
