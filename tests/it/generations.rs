//! What each step of a change of views says, and what it refuses.

use crate::support::{self, call, order};
use changefold::{
    call::Halt,
    handler::Function,
    operation::{
        self, Operation, Operations,
        backfill::{Backfill, Status, Which},
        generations::{Diff, Differences, DropView, DroppedView, Kind, Switch, Switched},
    },
    outcome::Answer,
    store::Store,
    view::{
        Views,
        generation::{Current, LookupError, current_table},
    },
};
use serde::de::DeserializeOwned;

const TOTALS: &str = "CREATE MATERIALIZED VIEW totals AS \
    SELECT region, count(*) AS orders FROM orders GROUP BY region;";
const CHANGED: &str = "CREATE MATERIALIZED VIEW totals AS \
    SELECT region, count(*) AS orders, sum(amount) AS total FROM orders \
    WHERE status = 'PAID' GROUP BY region;";
const ADDED: &str = "CREATE MATERIALIZED VIEW paid AS SELECT count(*) AS n FROM orders \
    WHERE status = 'PAID';";

async fn ask<T: DeserializeOwned>(
    function: &Function<Views>,
    operation: Operation,
) -> Result<T, Halt> {
    let event = operation::event(operation);
    let Answer::Operation(answer) = function.invoke(&event, &call()).await? else {
        panic!("a reply to an operation");
    };
    Ok(serde_json::from_value(answer).unwrap())
}

async fn code<T: DeserializeOwned + std::fmt::Debug>(
    function: &Function<Views>,
    operation: Operation,
) -> &'static str {
    ask::<T>(function, operation).await.unwrap_err().code
}

/// A function that has had an item, and then another version of its views.
async fn changed(store: &Store) -> Function<Views> {
    let function = support::function(TOTALS, store, "h_").await;
    let record = order(1, "INSERT", "O#1", Some(("EU", "1", "PAID")));
    let event = format!("{{\"Records\":[{record}]}}");
    function.invoke(event.as_bytes(), &call()).await.unwrap();
    support::function(&[CHANGED, ADDED].concat(), store, "h_").await
}

fn switch(view: &str, generation: Option<u32>) -> Operation {
    Operation::Switch(Switch { view: view.to_owned(), generation })
}

fn drop_view(view: &str, generation: Option<u32>) -> Operation {
    let view = view.to_owned();
    Operation::DropView(DropView { view, generation, yes: true, ..DropView::default() })
}

async fn current(store: &Store, view: &str) -> Result<Current, LookupError> {
    current_table(store, ("h_ledger", "h_"), view, support::FOREVER).await
}

#[test]
fn a_generation_that_is_not_ready_does_not_become_current() {
    support::block_on(async {
        let store = support::embedded(81);
        let function = changed(&store).await;
        for (operation, expected) in [
            (switch("totals", None), "GenerationNotReady"),
            (switch("totals", Some(3)), "GenerationUnknown"),
            (switch("nothing", None), "GenerationUnknown"),
        ] {
            assert_eq!(code::<Switched>(&function, operation).await, expected);
        }
        let told: Switched = ask(&function, switch("totals", Some(1))).await.unwrap();
        assert_eq!((told.from, told.generation), (Some(1), 1), "it is current already");
        let found = current(&store, "totals").await.unwrap();
        assert_eq!((&*found.table, found.generation, found.state), ("h_totals", 1, None));
        let status = Operation::Backfill(Backfill::Status(Which::default()));
        let status: Status = ask(&function, status).await.unwrap();
        let views: Vec<_> = status
            .views
            .iter()
            .map(|it| (&*it.view, it.generation, &*it.table, it.is_current))
            .collect();
        let expected = [
            ("totals", 1, "h_totals", true),
            ("totals", 2, "h_totals_g2", false),
            ("paid", 2, "h_paid_g2", false),
        ];
        assert_eq!(views, expected);
    });
}

#[test]
fn a_diff_says_what_a_deploy_would_do() {
    support::block_on(async {
        let store = support::embedded(82);
        let function = changed(&store).await;
        let again = CHANGED.replace("'PAID'", "'OPEN'");
        let views = vec![
            again,
            "CREATE MATERIALIZED VIEW hits AS SELECT count(*) AS n FROM clicks;".to_owned(),
        ];
        let told: Differences = ask(&function, Operation::Diff(Diff { views })).await.unwrap();
        let views: Vec<_> = told
            .views
            .iter()
            .map(|it| (&*it.view, it.change, it.generation, it.parts.join(" ")))
            .collect();
        let expected = [
            ("totals", Kind::Changed, Some(3), "columns filter".to_owned()),
            ("hits", Kind::Joins, Some(1), String::new()),
            ("paid", Kind::Absent, None, String::new()),
        ];
        assert_eq!(views, expected);
        let views = vec![CHANGED.to_owned(), ADDED.to_owned()];
        let told: Differences = ask(&function, Operation::Diff(Diff { views })).await.unwrap();
        assert!(told.views.iter().all(|it| it.change == Kind::Built), "{told:?}");
        let reads = Operations::Read;
        assert!(reads.allow(&Operation::Diff(Diff::default())));
        assert!(!reads.allow(&switch("totals", None)) && !reads.allow(&drop_view("totals", None)));
    });
}

#[test]
fn a_drop_takes_away_what_is_not_current_and_a_whole_view() {
    support::block_on(async {
        let store = support::embedded(83);
        let function = changed(&store).await;
        let without = Operation::DropView(DropView { yes: false, ..DropView::default() });
        assert_eq!(code::<DroppedView>(&function, without).await, "DropUnconfirmed");
        let current_one = drop_view("totals", Some(1));
        assert_eq!(code::<DroppedView>(&function, current_one).await, "GenerationCurrent");
        let unknown = drop_view("nothing", None);
        assert_eq!(code::<DroppedView>(&function, unknown).await, "GenerationUnknown");

        // Invocations that are under way may write its rows for a quarter of an hour.
        let told: DroppedView = ask(&function, drop_view("paid", None)).await.unwrap();
        assert_eq!((&*told.left, told.rows), (&[2][..], 0));
        assert!(told.wait_ms > 890_000 && told.wait_ms <= 905_000, "{told:?}");
        let rows = function.work().rows_of(("paid", 2), 9).await.unwrap();
        assert_eq!(rows, None, "it is served no longer");
        // A start of a version that still has it builds it anew, under a number of its own.
        let again = support::function(&[CHANGED, ADDED].concat(), &store, "h_").await;
        assert!(again.work().rows_of(("paid", 3), 9).await.unwrap().is_some());

        let told: DroppedView = ask(&again, drop_view("totals", None)).await.unwrap();
        assert_eq!(told.left, [1, 2]);
        let found = current(&store, "totals").await;
        assert!(matches!(found, Err(LookupError::Dropped(_))), "{found:?}");
    });
}
