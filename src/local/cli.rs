//! The command line: what is asked for, and how it is answered.
//!
//! stdout is data, stderr is talk. It lives in the library because a user's own binary offers
//! the same verbs over its processor ([`run_processor`]). What it keeps: the exit codes of
//! [`Exit`], one JSON document at most on stdout, and a remedy (`hint:`) wherever one is known.

mod account;
mod asked;
mod bench;
mod conformance;
#[cfg(feature = "dev")]
mod dev;
mod exec;
mod filter;
mod invoke;
mod invoke_url;
mod parked;
mod place;
mod replay;
mod simulate;
mod view;

use crate::{
    batch::{Order, Setup, Work, lanes::Lanes},
    local::invoke_url::InvokeUrl,
    processor::{self, Context, Failure},
    record::Change,
};
use aws_smithy_types::date_time::{DateTime, Format as TimeFormat};
use clap::{Args, Parser, Subcommand, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use serde::de::IgnoredAny;
use std::{
    ffi::OsString,
    fmt,
    io::{self, IsTerminal as _},
    path::PathBuf,
    process::{ExitCode, Termination},
};

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// All is done.
    Done = 0,
    /// A check failed.
    CheckFailed = 1,
    /// The input or the usage is wrong; nothing, or not all, was done.
    BadInput = 2,
    /// The mapping discarded records, or its stream let some expire.
    Discarded = 3,
}

impl Termination for Exit {
    fn report(self) -> ExitCode {
        ExitCode::from(self as u8)
    }
}

/// A file that is named cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("{}: cannot be read", path.display())]
struct Unreadable {
    path: PathBuf,
    source: io::Error,
}

/// Ordered, exactly-once-in-effect processing of DynamoDB Streams and Kinesis records.
#[derive(Debug, Parser)]
#[command(name = "changefold", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Delivers a recorded change stream to the views, as Lambda would.
    Replay {
        #[command(flatten)]
        replay: ReplayArgs,
        #[command(flatten)]
        views: Box<ViewArgs>,
    },
    /// Serves DynamoDB and Kinesis on this machine, and runs the function behind them as AWS
    /// does.
    #[cfg(feature = "dev")]
    Dev {
        #[command(flatten)]
        dev: Box<dev::DevArgs>,
        #[command(flatten)]
        target: Box<TargetArgs>,
    },
    Simulate(SimulateArgs),
    Filter(FilterArgs),
    Conformance(conformance::ConformanceArgs),
    Parked(parked::ParkedArgs),
    View(view::ViewVerbArgs),
}

/// The desk of a processor built with changefold.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100)]
struct ProcessorCli {
    #[command(subcommand)]
    verb: ProcessorVerb,
}

#[derive(Debug, Subcommand)]
enum ProcessorVerb {
    /// Delivers a recorded change stream to the processor, as Lambda would.
    Replay(ReplayArgs),
    /// Serves DynamoDB and Kinesis on this machine, and runs the processor behind them as AWS
    /// does.
    #[cfg(feature = "dev")]
    Dev(Box<dev::DevArgs>),
    Simulate(SimulateArgs),
    Filter(FilterArgs),
    Parked(parked::ParkedArgs),
}

#[derive(Debug, Args)]
struct ReplayArgs {
    /// A Lambda event (`.json`) or one record a line (`.jsonl`); either may end in `.gz`.
    #[arg(required = true, value_name = "FIXTURE")]
    fixtures: Vec<PathBuf>,
    /// The SAM template that holds the mapping's parameters [default: infra/template.yaml, and
    /// where that is not there, AWS's defaults].
    #[arg(long, value_name = "PATH")]
    template: Option<PathBuf>,
    /// The function to take event sources of, when the template has several.
    #[arg(long, value_name = "LOGICAL_ID")]
    function: Option<String>,
    /// The event source to use, when the template has several of the fixture's kind.
    #[arg(long, value_name = "LOGICAL_ID")]
    event_source: Option<String>,
    /// Overrides a parameter of the mapping, by AWS's own name.
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = assignment)]
    assignments: Vec<(String, String)>,
    /// Injects faults; the same seed gives the same run.
    #[arg(long, value_name = "SEED")]
    faults: Option<u64>,
    /// Splits and merges the fixture's shards while they are read, at places that the seed
    /// decides.
    #[arg(long, value_name = "SEED")]
    reshard: Option<u64>,
    /// Writes each on-failure record into this directory as the mapping's destination would get
    /// it: `sqs/QUEUE/000001.json`, `sns/TOPIC/000001.json`, or `s3/BUCKET/` and the object's key.
    #[arg(long, value_name = "DIR")]
    on_failure: Option<PathBuf>,
    /// How long the stream keeps a record, of Kinesis 24 to 8760 hours [default: as the template
    /// says of the stream, else 24].
    #[arg(long, value_name = "HOURS", value_parser = clap::value_parser!(u32).range(24..=8760))]
    retention: Option<u32>,
    /// Keeps tables and the mapping's checkpoint in this directory.
    #[arg(long, value_name = "PATH")]
    state: Option<PathBuf>,
    /// Begins at the start of the stream, whatever the kept checkpoint says.
    #[arg(long)]
    from_start: bool,
    /// Writes a page of the run into this file: every call, what failing batches were cut into,
    /// and the rows. It has what the views show.
    #[arg(long, value_name = "FILE.html")]
    report: Option<PathBuf>,
    /// How the result is written to stdout.
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
}

#[derive(Debug, Args)]
struct ViewArgs {
    #[command(flatten)]
    target: TargetArgs,
    /// Keeps the tables at this DynamoDB endpoint instead of in the process.
    #[arg(long, value_name = "URL")]
    endpoint_url: Option<String>,
}

/// What is driven, if it is no processor in this process.
#[derive(Debug, Args)]
struct TargetArgs {
    /// A view definition, or a directory of them [default: views/].
    #[arg(long, value_name = "FILE|DIR")]
    views: Vec<PathBuf>,
    /// Drives this program, a Lambda function in a process of its own, in real time.
    #[arg(long, value_name = "PROGRAM")]
    exec: Option<PathBuf>,
    /// Drives the function behind this URL of Lambda's Invoke API, in real time: that of
    /// `cargo lambda watch`, the Runtime Interface Emulator, SAM or Lambda.
    #[arg(long, value_name = "URL", conflicts_with = "exec", value_parser = InvokeUrl::read)]
    invoke_url: Option<InvokeUrl>,
    /// An argument of that program.
    #[arg(long = "exec-arg", value_name = "ARG", requires = "exec", allow_hyphen_values = true)]
    exec_arguments: Vec<OsString>,
}

/// Runs the mapping alone over described cases, and prints what it did.
#[derive(Debug, Args)]
struct SimulateArgs {
    /// One case a line; `-` is stdin.
    #[arg(value_name = "FILE", default_value = "-")]
    file: PathBuf,
    /// Compares with each case's `expect`.
    #[arg(long)]
    check: bool,
    /// Prints where each shard stands after each step.
    #[arg(long)]
    checkpoints: bool,
    /// Prints each call with its moments.
    #[arg(long)]
    timeline: bool,
    /// Chooses a reading where AWS does not say what it does, for all cases that choose none.
    #[arg(long = "reading", value_name = "NAME=VALUE", value_parser = assignment)]
    readings: Vec<(String, String)>,
}

/// Says whether an event passes a filter pattern of an event source mapping.
///
/// Prints `match` (exit status 0), `no-match` (1), or `rejected` with the reason where AWS would
/// not take the pattern (2).
#[derive(Debug, Args)]
struct FilterArgs {
    /// The pattern, or `@` and a file that holds it.
    #[arg(long, value_name = "JSON|@FILE", required_unless_present = "cases", requires = "event")]
    pattern: Option<String>,
    /// The event, or `@` and a file that holds it.
    #[arg(
        long,
        value_name = "JSON|@FILE",
        required_unless_present = "cases",
        requires = "pattern"
    )]
    event: Option<String>,
    /// Runs cases, one a line, and compares with each case's `expect`.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["pattern", "event"])]
    cases: Option<PathBuf>,
}

/// Whose parked records: one of the three.
#[derive(Debug, Clone, Args)]
#[group(required = true, multiple = false)]
struct PlaceArgs {
    /// A deployed function, by name or ARN; it does the work itself.
    #[arg(long, value_name = "NAME|ARN")]
    function: Option<String>,
    /// What `replay --state` kept.
    #[arg(long, value_name = "PATH")]
    state: Option<PathBuf>,
    /// The park table at this DynamoDB endpoint, and the function in this process.
    #[arg(long, value_name = "URL")]
    endpoint_url: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Tables and a summary.
    Table,
    /// One JSON document.
    Json,
}

fn assignment(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("expected Name=Value, as in BatchSize=10".to_owned()),
    }
}

/// How far a long work is, on the terminal of whoever waits: so many of these in all.
fn progress(total: u64, of: &str) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style =
        ProgressStyle::with_template(&format!("{{bar:40}} {{pos}}/{{len}} {of}, {{per_sec}}"))
            .unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(total).with_style(style)
}

/// A moment as AWS writes it.
fn moment(text: &str) -> Result<i64, Complaint> {
    let moment = DateTime::from_str(text, TimeFormat::DateTimeWithOffset);
    moment.ok().and_then(|moment| moment.to_millis().ok()).ok_or_else(|| {
        Complaint::new(format!("`{text}` is not a moment"))
            .with_hint("write it like 2026-11-21T10:00:00Z")
    })
}

/// Runs `changefold` with the arguments of its process, program name first.
#[must_use]
pub fn run_views(arguments: impl IntoIterator<Item = OsString>) -> Exit {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    finish(match cli.verb {
        Verb::Replay { replay, views } => {
            let ViewArgs { target, endpoint_url } = *views;
            let bench = bench::ViewBench::new(target.views, endpoint_url);
            match (target.exec, target.invoke_url) {
                (Some(program), _) => {
                    let bench = exec::ExecBench::new(program, target.exec_arguments, bench);
                    replay::replay(&replay, bench)
                }
                (None, Some(url)) => {
                    replay::replay(&replay, invoke_url::InvokeUrlBench::new(url, bench))
                }
                (None, None) => replay::replay(&replay, bench),
            }
        }
        #[cfg(feature = "dev")]
        Verb::Dev { dev, target } => {
            let TargetArgs { views, exec, invoke_url, exec_arguments } = *target;
            let views = |url| bench::ViewBench::new(views, Some(url));
            match (exec, invoke_url) {
                (Some(program), _) => {
                    dev::dev(&dev, |url| exec::ExecBench::new(program, exec_arguments, views(url)))
                }
                (None, Some(invoke_url)) => {
                    dev::dev(&dev, |url| invoke_url::InvokeUrlBench::new(invoke_url, views(url)))
                }
                (None, None) => dev::dev(&dev, views),
            }
        }
        Verb::Simulate(arguments) => simulate::simulate(&arguments),
        Verb::Filter(arguments) => filter::filter(&arguments),
        Verb::Conformance(arguments) => conformance::conformance(arguments),
        Verb::View(arguments) => view::view(arguments),
        Verb::Parked(arguments) => {
            let unknown = processor::from_fn(async |_: Change<IgnoredAny>, _: &Context<'_>| {
                Err(Failure::halt("this program has no processor"))
            });
            parked::parked(arguments, (|setup| Lanes::set_up(unknown, setup), None), false)
        }
    })
}

/// Runs the same verbs over a processor of your own, in the work that `make` makes of it, with
/// the arguments of its process.
#[must_use]
pub fn run_processor<W: Work>(
    make: impl FnOnce(Setup) -> W,
    order: Option<Order>,
    arguments: impl IntoIterator<Item = OsString>,
) -> Exit {
    let cli = match ProcessorCli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    finish(match cli.verb {
        ProcessorVerb::Replay(arguments) => {
            replay::replay(&arguments, bench::ProcessorBench::new(make, order))
        }
        #[cfg(feature = "dev")]
        ProcessorVerb::Dev(arguments) => {
            dev::dev(&arguments, |_| bench::ProcessorBench::new(make, order))
        }
        ProcessorVerb::Simulate(arguments) => simulate::simulate(&arguments),
        ProcessorVerb::Filter(arguments) => filter::filter(&arguments),
        ProcessorVerb::Parked(arguments) => parked::parked(arguments, (make, order), true),
    })
}

/// Prints clap's own message: help goes to stdout, complaints to stderr.
fn usage(error: &clap::Error) -> Exit {
    // A closed pipe is the reader's choice.
    drop(error.print());
    if error.use_stderr() { Exit::BadInput } else { Exit::Done }
}

fn finish(result: Result<Exit, Complaint>) -> Exit {
    result.unwrap_or_else(|complaint| {
        talk(format_args!("error: {complaint}"));
        if let Some(hint) = complaint.hint {
            talk(format_args!("hint: {hint}"));
        }
        Exit::BadInput
    })
}

/// A line for the person, beside the data.
fn talk(line: fmt::Arguments<'_>) {
    use std::io::Write as _;
    // A terminal that is gone hears nothing, and what runs goes on to its end.
    drop(writeln!(std::io::stderr().lock(), "{line}"));
}

/// Writes data. A closed pipe ends the output, not the program's meaning.
fn print(text: &str) {
    use std::io::Write as _;
    let mut stdout = std::io::stdout().lock();
    drop(stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()));
}

/// Why a command cannot be carried out, and what helps.
#[derive(Debug)]
struct Complaint {
    message: String,
    hint: Option<String>,
}

impl Complaint {
    fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None }
    }

    fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl<E: std::error::Error + 'static> From<E> for Complaint {
    fn from(error: E) -> Self {
        let complaint = Self::new(super::target::with_sources(&error));
        if is_not_there(&error) { complaint.with_hint(where_paths_begin()) } else { complaint }
    }
}

/// Whether the cause is a file that does not exist.
fn is_not_there(error: &(dyn std::error::Error + 'static)) -> bool {
    let io = error.downcast_ref::<std::io::Error>();
    io.is_some_and(|error| error.kind() == std::io::ErrorKind::NotFound)
        || error.source().is_some_and(is_not_there)
}

fn where_paths_begin() -> String {
    let here = std::env::current_dir().unwrap_or_default();
    format!(
        "is it spelt so? a path that does not begin with `/` is looked for in {}",
        here.display()
    )
}

#[cfg(test)]
mod tests {
    use super::{Cli, ProcessorCli};
    use clap::CommandFactory;

    #[test]
    fn both_command_lines_are_consistent() {
        Cli::command().debug_assert();
        ProcessorCli::command().debug_assert();
    }
}
