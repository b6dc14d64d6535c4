//! `view read`: the rows of a view as its SQL says them.
//!
//! The library's reader does the work ([`view::read`](crate::view::read)). Of a deployed function
//! its settings are asked, and its tables are then read by whoever runs the command.

use crate::{
    local::{
        cli::{
            Complaint, Exit, PlaceArgs, bench,
            invoke::{Deployed, region_of},
            print, talk,
        },
        report::{rows_csv, rows_json, rows_table},
    },
    view::{
        building::ViewState,
        number,
        read::{Condition, ReadError, Reader},
        rows::NO_DEADLINE,
        scalar::Scalar,
    },
};
use clap::{Args, ValueEnum};
use indicatif::ProgressBar;
use std::{io::IsTerminal as _, time::Duration};

#[derive(Debug, Args)]
pub(super) struct ReadArgs {
    #[command(flatten)]
    place: PlaceArgs,
    /// The view's name.
    name: String,
    /// Only rows with this value; may be given several times. `x` is a text, `5` a number or the
    /// text of it, `'5'` the text, and NULL, TRUE and FALSE are what they are in SQL.
    #[arg(long = "where", value_name = "COLUMN=VALUE", value_parser = condition)]
    conditions: Vec<Condition>,
    /// At most so many rows: reading ends there, so which ones is up to the table.
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// How the rows are written to stdout.
    #[arg(long, value_enum, default_value = "table")]
    format: RowFormat,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum RowFormat {
    /// A table.
    Table,
    /// A list of objects.
    Json,
    /// Fields with commas between, NULL as an empty one.
    Csv,
}

/// `column=value`, where the value may be of several types.
fn condition(text: &str) -> Result<Condition, String> {
    let Some((column, value)) = text.split_once('=').filter(|(column, _)| !column.is_empty())
    else {
        return Err("expected column=value, as in status=PAID".to_owned());
    };
    let inner = value.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\''));
    let any_of = if let Some(inner) = inner {
        vec![Scalar::Text(inner.replace("''", "'"))]
    } else {
        let typed = match value.to_ascii_uppercase().as_str() {
            "NULL" => Some(Scalar::Null),
            "TRUE" => Some(Scalar::Bool(true)),
            "FALSE" => Some(Scalar::Bool(false)),
            _ => number::read(value).ok().map(Scalar::Number),
        };
        typed.into_iter().chain([Scalar::Text(value.to_owned())]).collect()
    };
    Ok(Condition { column: column.to_owned(), any_of })
}

pub(super) async fn read(arguments: &ReadArgs) -> Result<Exit, Complaint> {
    let place = &arguments.place;
    let of_function = match &place.function {
        None => None,
        Some(function) => {
            Some((Deployed::find(function).await?.settings().await?, region_of(function)))
        }
    };
    let (store, ledger, prefix) = bench::kept_tables(place, of_function).await?;
    let tables = (ledger.as_str(), prefix.as_str());
    let reader = Reader::open(store.clone(), tables, &arguments.name, NO_DEADLINE).await;
    let reader = reader.map_err(complaint)?;
    match reader.current().state {
        Some(state @ (ViewState::Building | ViewState::CatchingUp)) => talk(format_args!(
            "warning: a backfill builds this view ({state}): {}",
            match state {
                ViewState::Building => "items are missing in it",
                _ => "some items are as they were a moment ago",
            }
        )),
        Some(ViewState::Ready) | None => {}
    }
    let is_by_key = reader.is_by_key(&arguments.conditions);
    let bar = if is_by_key || !std::io::stderr().is_terminal() {
        ProgressBar::hidden()
    } else {
        ProgressBar::new_spinner().with_message("rows read")
    };
    bar.enable_steady_tick(Duration::from_millis(200));
    let mut looked_at = |rows: u64| bar.set_message(format!("{rows} rows read"));
    let read = reader.rows(&arguments.conditions, arguments.limit, NO_DEADLINE, &mut looked_at);
    let found = read.await.map_err(complaint)?;
    bar.finish_and_clear();
    let columns = &found.columns;
    match arguments.format {
        RowFormat::Table => print(&format!("{}\n", rows_table(columns, &found.rows))),
        RowFormat::Json => print(&(rows_json(columns, &found.rows) + "\n")),
        RowFormat::Csv => print(&rows_csv(columns, &found.rows)),
    }
    let (count, units) = (found.rows.len(), store.usage().read_units);
    let is_first = reader.definition().has_limit();
    let how = match (is_by_key, is_first) {
        (true, _) => "by key",
        (_, true) => "from its index",
        _ => "by a scan",
    };
    let cut = if found.is_cut { ", and there may be more" } else { "" };
    let current = reader.current();
    talk(format_args!(
        "{count} rows of {} (generation {}), {how}, for {units} read units{cut}",
        current.table, current.generation
    ));
    Ok(Exit::Done)
}

fn complaint(error: ReadError) -> Complaint {
    let hint = match &error {
        ReadError::Store(error) if error.code == "ResourceNotFoundException" => {
            Some("is the ledger's table named right? CHANGEFOLD_LEDGER_TABLE says its name")
        }
        ReadError::Store(error)
            if error.operation == "Query" && error.code == "ValidationException" =>
        {
            Some("has the view's table its index `top`? docs/deploy.md, First groups, shows it")
        }
        _ => None,
    };
    let complaint = Complaint::from(error);
    match hint {
        Some(hint) => complaint.with_hint(hint),
        None => complaint,
    }
}
