//! What 1,000 changes cost with aggregates that keep values, in units, as the tables say it.

use crate::support::{self, call, order};
use changefold::{handler::Function, store::Usage, view::Views};

const CHANGES: u32 = 1_000;
const GROUPS: u32 = 10;

/// The aggregates of a view, and how they are called in the table.
const VIEWS: [(&str, &str); 4] = [
    ("`count`, `sum`", "count(*) AS n, sum(amount) AS total"),
    ("`min`", "min(amount) AS lo"),
    ("`count(DISTINCT)`", "count(DISTINCT amount) AS d"),
    (
        "`min`, `max`, `count(DISTINCT)`, `sum(DISTINCT)` of one argument",
        "min(amount) AS lo, max(amount) AS hi, count(DISTINCT amount) AS d, \
         sum(DISTINCT amount) AS s",
    ),
];

/// Delivers 1,000 changes of as many items in batches; what that has used.
async fn delivered(function: &Function<Views>, (round, batch, values): (u32, u32, u32)) -> Usage {
    let store = function.work().store();
    let before = store.usage();
    let records: Vec<String> = (0..CHANGES)
        .map(|at| {
            let (region, key) = (format!("R{}", at % GROUPS), format!("O#{at}"));
            // What goes and what comes are other values, so that they do not cancel out.
            let amount = ((at / GROUPS).pow(1 + round) % values).to_string();
            let number = 1_000 + round * CHANGES + at;
            order(number, "MODIFY", &key, Some((&region, &amount, "OPEN")))
        })
        .collect();
    for records in records.chunks(batch as usize) {
        let event = format!("{{\"Records\":[{}]}}", records.join(","));
        let reply = function.invoke(event.as_bytes(), &call()).await.unwrap();
        assert_eq!(serde_json::to_string(&reply).unwrap(), r#"{"batchItemFailures":[]}"#);
    }
    store.usage().since(before)
}

#[test]
#[expect(clippy::print_stdout, reason = "tests/figures.sh reads it")]
fn a_change_costs_a_row_for_each_value_that_comes_or_goes() {
    println!(
        "| aggregates | values of a group | batch | new: write | read | changed: write | read |"
    );
    println!("|---|--:|--:|--:|--:|--:|--:|");
    support::block_on(async {
        for (name, columns) in VIEWS {
            for (values, batch) in [(5, 100), (5, 1_000), (100, 100), (100, 1_000)] {
                let keeps = columns.contains("min") || columns.contains("DISTINCT");
                if !keeps && values > 5 {
                    continue;
                }
                let text = format!(
                    "CREATE MATERIALIZED VIEW v AS SELECT region, {columns} FROM orders \
                     GROUP BY region;"
                );
                let store = support::embedded(7);
                let function = support::function(&text, &store, "views_").await;
                let new = delivered(&function, (0, batch, values)).await;
                let changed = delivered(&function, (1, batch, values)).await;
                let shown = if keeps { values.to_string() } else { "any".to_owned() };
                println!(
                    "| {name} | {shown} | {batch} | {:.0} | {:.0} | {:.0} | {:.0} |",
                    new.write_units, new.read_units, changed.write_units, changed.read_units
                );
                // Two units for a ledger row and for each row it touches: at most a group, the
                // value that goes and the one that comes.
                let most = if keeps { 8_000.0 } else { 4_000.0 };
                assert!((2_000.0..most).contains(&changed.write_units), "{name}: {changed:?}");
            }
        }
    });
}
