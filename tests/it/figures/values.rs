//! What 1,000 changes cost with aggregates that keep values, in units, as the tables say it.

use crate::support::{self, call, order};
use changefold::{handler::Function, store::Usage, view::Views};

const CHANGES: u32 = 1_000;
const GROUPS: u32 = 10;

/// How many elements the list of an item has.
const ELEMENTS: u32 = 5;

/// What is behind SELECT, and how it is called in the table.
const VIEWS: [(&str, &str); 11] = [
    ("`count`, `sum`", "region, count(*) AS n, sum(amount) AS total FROM orders"),
    (
        "`count`, `sum` with `ORDER BY sum(…) LIMIT 5`",
        "region, count(*) AS n, sum(amount) AS total FROM orders GROUP BY 1 ORDER BY 3 LIMIT 5",
    ),
    (
        "`count`, `sum` with `HAVING`",
        "region, count(*) AS n, sum(amount) AS total FROM orders GROUP BY 1 HAVING count(*) > 1",
    ),
    (
        "`count`, `sum` with `stripes = 4`",
        "region, count(*) AS n, sum(amount) AS total FROM orders",
    ),
    ("`SELECT *`", "* FROM orders"),
    ("`min`", "region, min(amount) AS lo FROM orders"),
    ("`count(DISTINCT)`", "region, count(DISTINCT amount) AS d FROM orders"),
    (
        "`min`, `max`, `count(DISTINCT)`, `sum(DISTINCT)` of one argument",
        "region, min(amount) AS lo, max(amount) AS hi, count(DISTINCT amount) AS d, \
         sum(DISTINCT amount) AS s FROM orders",
    ),
    (
        "`count`, `sum`, with `LEFT JOIN`",
        "r.name, count(*) AS n, sum(o.amount) AS total FROM orders o LEFT JOIN regions r \
         ON r.name = o.region GROUP BY r.name",
    ),
    (
        "`unnest`, five elements in one group",
        "region, count(*) AS n, sum(line) AS total FROM orders o, unnest(o.lines) AS line",
    ),
    (
        "`unnest`, five elements in five groups",
        "line, count(*) AS n FROM orders o, unnest(o.lines) AS line",
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
            let line = |element: u32| {
                // Not all of them are in each list.
                let line = ((at / GROUPS).pow(1 + round) + element) % (2 * values);
                format!(r#"{{"N":"{line}"}}"#)
            };
            let lines = (0..ELEMENTS).map(line).collect::<Vec<_>>().join(",");
            order(number, "MODIFY", &key, Some((&region, &amount, "OPEN")))
                .replace(r#""note":"#, &format!(r#""lines":{{"L":[{lines}]}},"note":"#))
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
    println!("| view | different values | batch | new: write | read | changed: write | read |");
    println!("|---|--:|--:|--:|--:|--:|--:|");
    support::block_on(async {
        for (name, columns) in VIEWS {
            for (values, batch) in [(5, 100), (5, 1_000), (100, 100), (100, 1_000)] {
                // Without them it does not matter how many values there are.
                let depends = columns.contains("min")
                    || columns.contains("DISTINCT")
                    || columns.starts_with("line");
                if !depends && values > 5 {
                    continue;
                }
                let is_whole = columns.contains("GROUP BY") || columns.starts_with('*');
                let groups = if is_whole { "" } else { "GROUP BY 1" };
                let with = if name.contains("stripes") { "WITH (stripes = 4)" } else { "" };
                let text =
                    format!("CREATE MATERIALIZED VIEW v {with} AS SELECT {columns} {groups};");
                let store = support::embedded(7);
                let function = support::function(&text, &store, "views_").await;
                if columns.contains("JOIN") {
                    deliver_regions(&function, 1).await;
                }
                let new = delivered(&function, (0, batch, values)).await;
                let changed = delivered(&function, (1, batch, values)).await;
                let different = if columns.starts_with("line") { 2 * values } else { values };
                let shown = if depends { different.to_string() } else { "any".to_owned() };
                println!(
                    "| {name} | {shown} | {batch} | {:.0} | {:.0} | {:.0} | {:.0} |",
                    new.write_units, new.read_units, changed.write_units, changed.read_units
                );
                // Two units for a ledger row and for each row it touches: at most a group, the
                // value that goes and the one that comes, or a group for each element, twice.
                let most = match (depends, columns.contains("unnest")) {
                    (true, true) => 2_000.0 * f64::from(1 + 2 * ELEMENTS),
                    (true, false) => 8_000.0,
                    (false, _) => 4_001.0,
                };
                assert!((2_000.0..most).contains(&changed.write_units), "{name}: {changed:?}");
            }
        }
    });
}

/// Delivers a change of every region, under this number and those behind it.
async fn deliver_regions(function: &Function<Views>, number: u32) {
    for region in 0..GROUPS {
        let name = format!("R{region}");
        let image = format!(r#"{{"name":{{"S":"{name}"}},"size":{{"N":"{number}"}}}}"#);
        let record = order(number + region, "MODIFY", &name, Some((&name, "1", "OPEN")));
        let (head, rest) = record.split_once(r#""Keys":"#).unwrap();
        let (_, tail) = rest.split_once(r#""SequenceNumber""#).unwrap();
        let record = format!(
            r#"{head}"Keys":{{"name":{{"S":"{name}"}}}},"NewImage":{image},"SequenceNumber"{tail}"#
        );
        let event =
            format!("{{\"Records\":[{}]}}", record.replace("table/orders", "table/regions"));
        let reply = function.invoke(event.as_bytes(), &call()).await.unwrap();
        assert_eq!(serde_json::to_string(&reply).unwrap(), r#"{"batchItemFailures":[]}"#);
    }
}

/// What a joined item costs, by whether the view sees what changes of it.
#[test]
#[expect(clippy::print_stdout, reason = "tests/figures.sh reads it")]
fn a_joined_item_costs_what_names_it_only_where_the_view_sees_the_change() {
    println!("| change of a joined item that 100 others name | write | read |");
    println!("|---|--:|--:|");
    support::block_on(async {
        let mut writes = Vec::new();
        for (what, column) in [("the view sees it", "size"), ("the view does not", "name")] {
            let text = format!(
                "CREATE MATERIALIZED VIEW v AS SELECT r.{column}, count(*) AS n FROM orders o \
                 LEFT JOIN regions r ON r.name = o.region GROUP BY 1;"
            );
            let store = support::embedded(7);
            let function = support::function(&text, &store, "views_").await;
            deliver_regions(&function, 1).await;
            delivered(&function, (0, 1_000, 5)).await;
            let before = function.work().store().usage();
            deliver_regions(&function, 100).await;
            let used = function.work().store().usage().since(before);
            let each = f64::from(GROUPS);
            println!("| {what} | {:.0} | {:.0} |", used.write_units / each, used.read_units / each);
            writes.push(used.write_units / each);
        }
        assert!(writes[0] > 200.0 && writes[1] < 10.0, "{writes:?}");
    });
}
