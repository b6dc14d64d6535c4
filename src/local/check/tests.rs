//! What a newcomer reads: the mistakes of a file, and what will hurt.

use super::{Check, Level, excerpt::render, explain::Explained, observed::Observed};
use crate::{local::template::EventSource, record::Source, view::definition::View};
use std::path::{Path, PathBuf};

/// All that is told about a text.
fn rendered(check: &Check) -> String {
    let shown = check.diagnostics.iter().map(|it| render(it, check.text_of(&it.file)) + "\n");
    shown.collect()
}

#[test]
fn twenty_mistakes_are_told_in_words_that_a_newcomer_can_act_on() {
    let mut check = Check::default();
    let text = include_str!("../../../fixtures/mistakes.sql");
    check.add("fixtures/mistakes.sql".to_owned(), text.to_owned());
    let told = rendered(&check);
    assert_eq!(told, include_str!("../../../fixtures/mistakes.txt"));
    assert_eq!(check.count(Level::Error), 20);
    assert_eq!(check.views().count(), 0);
}

/// The warnings about a view with this text behind AS, given the shop's records or none.
#[track_caller]
fn warned(text: &str, fixture: Option<&str>, expect: &[&str]) {
    let mut check = Check::default();
    check.add("v.sql".to_owned(), format!("CREATE MATERIALIZED VIEW v AS\n{text}"));
    assert_eq!(check.count(Level::Error), 0, "{text}: {}", rendered(&check));
    let observed: Vec<_> = fixture
        .map(|name| {
            Observed::read(PathBuf::from(format!("fixtures/{name}")), check.views()).unwrap()
        })
        .into_iter()
        .collect();
    check.warn(&observed, None);
    let line = |it: &super::Diagnostic| {
        let (line, column) = it.place.unwrap().start;
        format!("{line}:{column} {}", it.message)
    };
    let told: Vec<_> = check.diagnostics.iter().map(line).collect();
    assert_eq!(told, expect, "{text}");
    assert!(check.diagnostics.iter().all(|it| !it.help.is_empty()));
}

#[test]
fn rows_that_every_batch_writes_are_warned_of() {
    let one = "every batch writes the one row of this view, so the batches of all shards wait for \
               each other";
    warned("SELECT count(*) AS n FROM t", None, &[&format!("1:26 {one}")]);
    let few = |rows| {
        format!(
            "2:41 this view has {rows} rows at most, and most batches write each \
                              of them"
        )
    };
    warned(
        "SELECT a = 1 AS b, count(*) AS n FROM t GROUP BY a = 1",
        None,
        &[&few(3).replace("2:41", "2:50")],
    );
    warned("SELECT count(*) AS n FROM t    GROUP BY a % 4", None, &[&few(8)]);
    warned("SELECT count(*) AS n FROM t    GROUP BY a % 64", None, &[]);
    warned(
        "SELECT EXTRACT(dow FROM a) AS d, count(*) AS n FROM t GROUP BY 1",
        None,
        &[&few(8).replace("2:41", "2:64")],
    );
    warned(
        "SELECT status, count(*) AS n FROM orders GROUP BY status",
        Some("orders.jsonl"),
        &["2:51 one group has 51 % of the changes, so most batches write it"],
    );
    warned("SELECT page, count(*) AS n FROM clicks GROUP BY page", Some("clicks.jsonl"), &[]);
}

#[test]
fn groups_without_bound_are_warned_of() {
    let moment = |at| format!("{at} placed_at is a moment: nearly every item is a group");
    let text = "SELECT placed_at, count(*) AS n FROM orders GROUP BY placed_at";
    warned(text, None, &[&moment("2:8")]);
    warned(text, Some("orders.jsonl"), &[&moment("2:8")]);
    let text = "SELECT order_id, count(*) AS n FROM orders GROUP BY order_id";
    warned(text, None, &[]);
    warned(text, Some("orders.jsonl"), &["2:8 order_id is the item's key: every item is a group"]);
    warned(
        "SELECT date_trunc('day', placed_at) AS d, count(*) AS n FROM orders GROUP BY 1",
        None,
        &[],
    );
}

#[test]
fn names_that_no_record_has_are_warned_of() {
    warned(
        "SELECT costumer.id AS c, customer.nmae AS n FROM orders WHERE status = \"PAID\"",
        Some("orders.jsonl"),
        &[
            "2:8 none of 84 records has an attribute costumer",
            "2:35 none of 84 records has an attribute customer.nmae",
            "2:72 \"PAID\" is the name of an attribute",
        ],
    );
    warned(
        "SELECT page FROM click WHERE page = NULL",
        Some("clicks.jsonl"),
        &["2:18 no fixture is of click", "2:37 a comparison with NULL is never TRUE"],
    );
}

#[test]
fn a_filter_under_a_view_is_warned_of_with_its_reason() {
    let mut check = Check::default();
    check.add("v.sql".to_owned(), "CREATE MATERIALIZED VIEW v AS SELECT a FROM t".to_owned());
    let mut source = EventSource::assumed(Source::DynamoDb);
    source.logical_id = "Orders".to_owned();
    check.warn(&[], Some((Path::new("t.yaml"), &[source.clone()])));
    assert_eq!(check.diagnostics, []);
    let filters = serde_json::json!({"Filters": [{"Pattern": "{\"eventName\":[\"INSERT\"]}"}]});
    source.parameters.set("FilterCriteria", &filters).unwrap();
    check.warn(&[], Some((Path::new("t.yaml"), &[source.clone()])));
    let told = rendered(&check);
    assert!(told.starts_with("warning: Orders: FilterCriteria hides records"), "{told}");
    source.stream = "arn:aws:dynamodb:eu-west-1:1:table/other/stream/x".to_owned();
    check.diagnostics.clear();
    check.warn(&[], Some((Path::new("t.yaml"), &[source])));
    assert_eq!(check.diagnostics, []);
}

#[test]
fn files_that_do_not_go_together_are_refused_as_the_function_would() {
    let dir = std::env::temp_dir().join(format!("changefold-check-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let view = |name: &str| format!("CREATE MATERIALIZED VIEW {name} AS SELECT a FROM t;\n");
    std::fs::write(dir.join("a.sql"), view("one")).unwrap();
    std::fs::write(dir.join("b.sql"), view("two") + &view("one")).unwrap();
    let check = Check::of(std::slice::from_ref(&dir)).unwrap();
    let told = rendered(&check);
    assert!(told.contains("view one is in ") && told.contains("b.sql:2:26"), "{told}");
    std::fs::write(
        dir.join("b.sql"),
        (0..60).map(|at| view(&format!("v{at}"))).collect::<String>(),
    )
    .unwrap();
    let check = Check::of(std::slice::from_ref(&dir)).unwrap();
    assert_eq!(check.count(Level::Error), 1, "{}", rendered(&check));
    std::fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn the_plan_of_a_view_counts_those_that_share_its_ledger() {
    let mut check = Check::default();
    let text = include_str!("../../../views/orders.sql");
    check.add("views/orders.sql".to_owned(), text.to_owned());
    let views: Vec<&View> = check.views().collect();
    let explained = Explained::of(views[0], &views);
    assert_eq!(explained.rows_per_change, [0, 1, 2]);
    // Two views with groups, one of one row, one projection; and the ledger row.
    assert_eq!(explained.actions_per_change, [1, 1 + 2 + 2 + 1 + 1]);
    assert_eq!(explained.shares_ledger_with.len(), 4);
    assert!(explained.to_string().contains("a row for    each value of customer.id"));
}

#[test]
fn the_plan_of_a_view_that_keeps_values_says_what_is_read_before() {
    let mut check = Check::default();
    let text = "CREATE MATERIALIZED VIEW v AS
        SELECT a, min(b) AS lo, max(b) AS hi, count(DISTINCT c) AS n FROM t GROUP BY a";
    check.add("v.sql".to_owned(), text.to_owned());
    let views: Vec<&View> = check.views().collect();
    let explained = Explained::of(views[0], &views);
    assert_eq!(explained.rows_per_change, [0, 1, 2 + 2 * 2]);
    assert_eq!(explained.reads_per_change, [2 + 2 * 2, 2]);
    // And two checks of the next values.
    assert_eq!(explained.actions_per_change, [1, 1 + 2 + 2 * 2 + 2]);
    let told = explained.to_string();
    assert!(told.contains("up to 6 where its group or its values are others"), "{told}");
    assert!(told.contains("a change reads up to 6 rows, and 2 next values"), "{told}");
}
