//! What views would cost, as a table for people.

use super::table;
use crate::local::plan::Plan;
use comfy_table::{CellAlignment, Table};

/// The views of a plan as a table for people.
#[must_use]
pub fn plan_table(plan: &Plan) -> Table {
    let header = [
        "view",
        "rows",
        "write units a million",
        "hottest row",
        "writes of it a batch",
        "sustains records/s",
    ];
    let mut table = table(header);
    for view in &plan.views {
        table.add_row([
            view.view.clone(),
            view.rows.to_string(),
            format!("{:.0}", view.write_units_per_million),
            view.hottest.clone(),
            format!("{:.2}", view.hottest_writes_per_batch),
            view.sustains_records_per_s.map_or_else(String::new, |it| format!("{it:.0}")),
        ]);
    }
    for at in [1, 2, 4, 5] {
        if let Some(column) = table.column_mut(at) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}
