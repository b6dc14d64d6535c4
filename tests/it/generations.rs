//! What each step of a change of views says, and what it refuses.

use crate::support::{self, call, order};
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use changefold::{
    call::Halt,
    clock::SystemClock,
    handler::Function,
    operation::{
        self, Operation, Operations,
        backfill::{Backfill, Status, Which},
        generations::{Diff, Differences, DropView, DroppedView, Kind, Switch, Switched},
    },
    outcome::Answer,
    store::{Store, embedded::Embedded},
    view::{
        Views,
        generation::{Current, LookupError, current_table},
    },
};
use serde::de::DeserializeOwned;
use std::sync::Arc;

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

/// Numbers are the ledger's, not a source's: a generation of another source takes no former one's
/// place, nor its table.
#[test]
fn a_view_that_reads_another_source_does_not_take_the_place_of_its_generations() {
    support::block_on(async {
        let store = support::embedded(84);
        let function = changed(&store).await;
        let elsewhere = CHANGED.replace("FROM orders", "FROM returns");
        let again = support::function(&[&*elsewhere, ADDED].concat(), &store, "h_").await;
        let of = async |number: u32| again.work().rows_of(("totals", number), 9).await.unwrap();
        assert!(of(1).await.is_some() && of(2).await.is_some() && of(3).await.is_some());
        // A view that is gone, comes back, and reads a source of which nothing has come.
        let gone: DroppedView = ask(&function, drop_view("paid", None)).await.unwrap();
        assert_eq!(gone.left, [2]);
        let back = ADDED.replace("FROM orders", "FROM returns");
        let again = support::function(&[CHANGED, &*back].concat(), &store, "h_").await;
        assert!(again.work().rows_of(("paid", 2), 9).await.unwrap().is_none());
        assert!(again.work().rows_of(("paid", 4), 9).await.unwrap().is_some());
    });
}

/// What one source has to be read again for, the other one of its name would have to be as well.
#[test]
fn views_of_two_sources_of_one_name_are_not_changed_in_place() {
    let here = |number: u32| order(number, "INSERT", "O#1", Some(("EU", "1", "PAID")));
    let there = |number: u32| here(number).replace("us-east-1", "eu-west-1");
    let event = |record: String| format!("{{\"Records\":[{record}]}}");
    support::block_on(async {
        // The second has come before the change.
        let store = support::embedded(85);
        let function = support::function(TOTALS, &store, "h_").await;
        for record in [here(1), there(2)] {
            function.invoke(event(record).as_bytes(), &call()).await.unwrap();
        }
        let refused = support::try_function(CHANGED, &store, "h_").await.unwrap_err();
        assert!(refused.to_string().contains("two sources named orders feed"), "{refused}");
        // The second comes after the change.
        let store = support::embedded(86);
        let function = changed(&store).await;
        let halt = function.invoke(event(there(3)).as_bytes(), &call()).await.unwrap_err();
        assert_eq!(halt.code, "SourcesOfOneName", "{halt:?}");
        function.invoke(event(here(4)).as_bytes(), &call()).await.unwrap();
    });
}

/// A drop that is repeated does not take away what has come in the meantime.
#[test]
fn a_whole_view_is_not_dropped_twice_without_its_generation() {
    support::block_on(async {
        let store = support::embedded(87);
        let function = changed(&store).await;
        let _: DroppedView = ask(&function, drop_view("paid", None)).await.unwrap();
        let again = support::function(&[CHANGED, ADDED].concat(), &store, "h_").await;
        let whole = drop_view("paid", None);
        assert_eq!(code::<DroppedView>(&again, whole).await, "GenerationNeeded");
        let told: DroppedView = ask(&again, drop_view("paid", Some(2))).await.unwrap();
        assert_eq!(told.left, [2]);
        assert!(again.work().rows_of(("paid", 3), 9).await.unwrap().is_some());
    });
}

#[test]
fn readers_of_an_added_view_are_told_that_it_is_not_built() {
    support::block_on(async {
        let store = support::embedded(88);
        changed(&store).await;
        let found = current(&store, "paid").await;
        assert!(matches!(found, Err(LookupError::NotBuilt(_))), "{found:?}");
        assert_eq!(current(&store, "totals").await.unwrap().generation, 1);
    });
}

#[test]
fn a_generation_gets_no_table_that_another_view_has() {
    support::block_on(async {
        let store = support::embedded(89);
        let other = TOTALS.replace("totals", "totals_g2");
        let function = support::function(&[TOTALS, &*other].concat(), &store, "h_").await;
        let record = order(1, "INSERT", "O#1", Some(("EU", "1", "PAID")));
        let event = format!("{{\"Records\":[{record}]}}");
        function.invoke(event.as_bytes(), &call()).await.unwrap();
        let refused = support::try_function(&[CHANGED, &*other].concat(), &store, "h_").await;
        let refused = refused.unwrap_err().to_string();
        assert!(refused.contains("is the table of view totals_g2"), "{refused}");
    });
}

#[test]
fn more_views_than_can_be_kept_together_are_refused_before_they_are_registered() {
    support::block_on(async {
        let store = support::embedded(90);
        let view = |number: usize| TOTALS.replace("totals", &format!("v{number}"));
        let some: String = (0..30).map(view).collect();
        support::function(&some, &store, "h_").await;
        let others: String = (30..60).map(view).collect();
        let refused = support::try_function(&others, &store, "h_").await.unwrap_err().to_string();
        assert!(
            refused.contains("would touch up to 120 rows of the views of generation 1; 98"),
            "{refused}"
        );
        // The ledger is as it was.
        support::function(&some, &store, "h_").await;
    });
}

/// The row that every invocation looks at is wrong: that is said, and not tried for ever.
#[test]
fn a_damaged_row_of_what_is_served_fails_the_invocation() {
    support::block_on(async {
        let embedded = Embedded::open(None).unwrap();
        let client = SharedHttpClient::new(embedded.clone());
        let endpoint = support::local_endpoint(None);
        let store = Store::new(client, &endpoint, Arc::new(SystemClock), 91);
        let function = changed(&store).await;
        let damaged = r#"{"TableName":"h_ledger","Item":{"pk":{"S":"V#served"},"rev":{"S":"x"}}}"#;
        let (status, told) = embedded.answer("DynamoDB_20120810.PutItem", damaged.as_bytes());
        assert_eq!(status, 200, "{told}");
        let record = order(2, "INSERT", "O#2", Some(("EU", "1", "PAID")));
        let event = format!("{{\"Records\":[{record}]}}");
        let halt = function.invoke(event.as_bytes(), &call()).await.unwrap_err();
        assert_eq!(halt.code, "StateOfOtherViews", "{halt:?}");
    });
}
