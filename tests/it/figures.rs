//! What a poison record, a crash and a kill cost, in figures: asserted, and printed as tables
//! by `tests/figures.sh`.
//!
//! Every run is the desk's own mapping over a backlog made for it, whose records say what
//! becomes of them. The first figure is of the function in this process and in virtual time,
//! the others of a real one in processes of its own: `examples/crashing.rs`.

mod backfill;
mod backlog;
mod consumers;
mod crashes;
mod dev;
mod healthy;
mod kills;
mod mapping;
mod memory;
mod program;
mod replay;
mod scale;
mod values;

use backlog::Backlog;
use changefold::local::{
    checkpoint::Checkpoints,
    clock::VirtualClock,
    mapping::Parameters,
    run::{self, Setting, Summary},
    target::Target,
};
use serde_json::Value;
use std::sync::Arc;

const FUNCTION_ARN: &str = "arn:aws:lambda:us-east-1:123456789012:function:figures";

/// The retention that matters to nothing here, in hours.
const RETENTION_HOURS: u32 = 24;

/// Retries without end, bisecting, and partial replies: what `infra/template.yaml` ships, but
/// for its age limit.
const SHIPPED: [(&str, &str); 3] = [
    ("MaximumRetryAttempts", "-1"),
    ("BisectBatchOnFunctionError", "true"),
    ("FunctionResponseTypes", "ReportBatchItemFailures"),
];

/// Delivers a backlog to the function, to the end.
async fn drive<T: Target>(
    backlog: &Backlog,
    target: &T,
    clock: &Arc<VirtualClock>,
    (batch_size, timeout): (&str, u64),
) -> Summary {
    let mut parameters = Parameters::default();
    for (name, value) in SHIPPED.into_iter().chain([("BatchSize", batch_size)]) {
        parameters.set(name, &Value::from(value)).unwrap();
    }
    let setting = Setting {
        parameters,
        timeout,
        function_arn: FUNCTION_ARN.to_owned(),
        checkpoints: Checkpoints::forgotten(),
        from_start: false,
        faults: None,
    };
    let mut progress = |_| {};
    let run = run::run(&backlog.fixtures, target, clock, setting, &mut progress);
    tokio::task::unconstrained(run).await.unwrap()
}

/// One column of a table: its name, and what its rows show.
type Column = (String, Vec<String>);

/// Prints a table: the rows' names, then the columns.
#[expect(clippy::print_stdout, reason = "the figures are what these tests are for")]
fn print(title: &str, rows: &[&str], columns: &[Column]) {
    let mut lines = vec![vec![title.to_owned()], vec!["---".to_owned()]];
    lines.extend(rows.iter().map(|name| vec![(*name).to_owned()]));
    for (name, cells) in columns {
        let column = [name.clone(), "---:".to_owned()].into_iter().chain(cells.iter().cloned());
        for (line, cell) in lines.iter_mut().zip(column) {
            line.push(cell);
        }
    }
    // libtest has begun the line already.
    println!();
    for line in lines {
        println!("| {} |", line.join(" | "));
    }
}
