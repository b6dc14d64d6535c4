//! `view plan`: what views would cost, before there is a table.

use super::super::{ReplayArgs, replay};
use crate::{
    local::{
        cli::{Complaint, Exit, Format, bench::ViewBench, print},
        plan::{Plan, Planned, Prices},
        prices::{READ_PRICE, WRITE_PRICE},
        report,
    },
    view::plan::{Cost, Model},
};
use clap::Args;
use std::path::PathBuf;

#[derive(Debug, Args)]
pub(super) struct PlanArgs {
    /// A view definition, or a directory of them [default: views/].
    #[arg(long, value_name = "FILE|DIR")]
    views: Vec<PathBuf>,
    /// Records like those to come: the load is theirs, many times over. Without one it is the most
    /// that changes can cost.
    #[arg(long = "fixture", value_name = "FIXTURE", required_unless_present = "rate")]
    fixtures: Vec<PathBuf>,
    /// Records a second, of all shards together.
    #[arg(long, value_name = "RECORDS")]
    rate: Option<f64>,
    /// Records of a batch, where there is no fixture that a mapping could cut.
    #[arg(long, value_name = "RECORDS", default_value_t = 100, conflicts_with = "fixtures")]
    batch: u64,
    /// The SAM template that holds the mapping's parameters [default: infra/template.yaml, and
    /// where that is not there, AWS's defaults].
    #[arg(long, value_name = "PATH")]
    template: Option<PathBuf>,
    /// Overrides a parameter of the mapping, by AWS's own name.
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = super::super::assignment)]
    assignments: Vec<(String, String)>,
    /// Dollars for a million read units.
    #[arg(long, value_name = "DOLLARS", default_value_t = READ_PRICE)]
    read_price: f64,
    /// Dollars for a million write units.
    #[arg(long, value_name = "DOLLARS", default_value_t = WRITE_PRICE)]
    write_price: f64,
    /// How the result is written to stdout.
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
}

pub(super) async fn plan(arguments: &PlanArgs) -> Result<Exit, Complaint> {
    let is_number = |value: f64| value.is_finite() && value >= 0.0;
    let numbers = [arguments.read_price, arguments.write_price, arguments.rate.unwrap_or(1.0)];
    if !numbers.into_iter().all(is_number) {
        return Err(Complaint::new("a rate and prices are numbers from 0"));
    }
    let prices = Prices { read: arguments.read_price, write: arguments.write_price };
    let bench = ViewBench::new(arguments.views.clone(), None);
    let cost = if arguments.fixtures.is_empty() {
        Plan::bound(&bench.views()?, arguments.batch)
    } else {
        of_fixtures(arguments, bench).await?
    };
    let plan = Plan::of(&cost, prices, arguments.rate);
    match arguments.format {
        Format::Json => print(&(serde_json::to_string(&plan)? + "\n")),
        Format::Table => print(&format!("{}\n{plan}", report::plan_table(&plan))),
    }
    Ok(Exit::Done)
}

/// What the fixtures cost in the batches that the mapping makes of them.
async fn of_fixtures(arguments: &PlanArgs, bench: ViewBench) -> Result<Cost, Complaint> {
    let through = ReplayArgs {
        fixtures: arguments.fixtures.clone(),
        template: arguments.template.clone(),
        function: None,
        event_source: None,
        assignments: arguments.assignments.clone(),
        faults: None,
        reshard: None,
        retention: None,
        on_failure: None,
        state: None,
        from_start: false,
        report: None,
        format: arguments.format,
    };
    let planned = replay::through(&through, |stream_names| {
        let (views, store) = bench.unasked(stream_names)?;
        Ok(Planned::new(Model::new(&views, store)?))
    });
    Ok(planned.await?.cost())
}
