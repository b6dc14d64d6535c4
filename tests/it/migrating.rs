//! The page for those who come from the usual crates, `docs/migrating.md`: its code is that of
//! three files here, which are compiled, and run on the same events.

use crate::support::{FOREVER, block_on, call, embedded};
use changefold::{
    batch::lanes::Lanes,
    clock::SystemClock,
    handler::Function,
    processor::Processor,
    recovery::{
        durable::DurableState,
        park::{OnPark, Park},
    },
};
use serde_json::{Value, json};
use std::{cell::RefCell, fs, io, path::Path, sync::Arc};

#[expect(dead_code, reason = "the page shows `main` too")]
mod before;
#[expect(dead_code, reason = "the page shows `main` too")]
mod first;
#[expect(dead_code, reason = "the page shows `main` too")]
mod second;

#[derive(serde::Deserialize)]
struct Order {
    #[serde(rename = "order_id")]
    id: String,
    status: String,
    amount: f64,
}

thread_local! {
    static SHIPPED: RefCell<Vec<String>> = RefCell::default();
}

async fn ship(order: &Order) -> io::Result<()> {
    let shipped = format!("{} {} {}", order.id, order.status, order.amount);
    SHIPPED.with_borrow_mut(|all| all.push(shipped));
    Ok(())
}

/// An event of the first records of the shop's fixture.
fn event(count: usize) -> String {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/orders.jsonl");
    let text = fs::read_to_string(fixture).unwrap();
    let records: Vec<&str> = text.lines().take(count).collect();
    format!(r#"{{"Records":[{}]}}"#, records.join(","))
}

/// What came of it: the reply, or the error of the whole invocation; and what was shipped.
type Outcome = (Result<Value, String>, Vec<String>);

fn before(event: &str) -> Outcome {
    let payload = serde_json::from_str(event).unwrap();
    let event = lambda_runtime::LambdaEvent::new(payload, lambda_runtime::Context::default());
    let reply = block_on(before::handler(event));
    let reply = reply.map(|reply| serde_json::to_value(reply).unwrap());
    (reply.map_err(|error| error.to_string()), SHIPPED.take())
}

fn after(processor: impl Processor, event: &str) -> Outcome {
    let reply = block_on(async {
        let park = Park::new(embedded(1), "park".to_owned(), OnPark::Hold, 24);
        let durable = DurableState::none().with_park(park);
        durable.ensure_tables(FOREVER).await.unwrap();
        let lanes = Lanes::new(processor, Arc::new(SystemClock)).with_durable_state(durable);
        let function = Function::new(lanes, Arc::new(SystemClock));
        let reply = function.invoke(event.as_bytes(), &call()).await;
        reply.map(|reply| serde_json::to_value(reply).unwrap())
    });
    (reply.map_err(|halt| halt.message), SHIPPED.take())
}

#[test]
fn the_same_orders_are_shipped_before_and_after() {
    let event = event(8);
    let all_is_done = Ok(json!({"batchItemFailures": []}));
    let (reply, shipped) = before(&event);
    assert_eq!((&reply, shipped.len()), (&all_is_done, 8));
    let mut shipped = shipped;
    shipped.sort();
    for (step, mut outcome) in
        [("first", after(first::shop(), &event)), ("second", after(second::shop(), &event))]
    {
        // Orders do not wait for each other, the changes of one do.
        outcome.1.sort();
        assert_eq!(outcome, (all_is_done.clone(), shipped.clone()), "{step}");
    }
}

#[test]
fn a_record_that_cannot_be_read_costs_the_batch_before_and_itself_after() {
    // The ninth change has an amount that is text.
    let event = event(19);
    let (reply, shipped) = before(&event);
    assert!(reply.is_err() && shipped.len() == 8, "{reply:?} {shipped:?}");
    let all_is_done = Ok(json!({"batchItemFailures": []}));
    let (reply, first) = after(first::shop(), &event);
    assert_eq!(reply, all_is_done);
    assert_eq!(first.len(), 18, "{first:?}");
    let (reply, mut second) = after(second::shop(), &event);
    assert_eq!(reply, all_is_done);
    let mut first = first;
    first.sort();
    second.sort();
    assert_eq!(first, second);
}

#[test]
fn the_pages_code_is_the_code_that_is_run() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("docs/migrating.md")).unwrap();
    let run = ["before", "first", "second"].map(|name| {
        let file = root.join("tests/it/migrating").join(name).with_extension("rs");
        // The part after what the page takes for known.
        let text = fs::read_to_string(file).unwrap();
        text.split_once("use super::{Order, ship};\n\n").unwrap().1.replace("pub(super) ", "")
    });
    let shown: Vec<&str> =
        page.split("```rust\n").skip(1).map(|block| block.split("```").next().unwrap()).collect();
    assert_eq!(shown, run);
    let readme = fs::read_to_string(root.join("README.md")).unwrap();
    assert!(readme.contains("(docs/migrating.md)"), "the README leads to the page");
}
