//! A processor of your own. Started by hand: `cargo run --example orders -- replay
//! fixtures/orders.jsonl`; started by Lambda it is the function.
#![expect(clippy::print_stderr, reason = "an effect to look at")]

use changefold::{
    event::Number,
    processor::{Context, Failure, Processor},
    record::Change,
};
use std::process::ExitCode;

#[derive(serde::Deserialize)]
struct Order<'a> {
    #[serde(rename = "order_id")]
    id: &'a str,
    status: &'a str,
    #[serde(borrow)]
    amount: Number<'a>, // exact, as it was written
}

struct Ship;

impl Processor for Ship {
    type Item<'a> = Order<'a>;

    async fn process(&self, change: Change<Order<'_>>, at: &Context<'_>) -> Result<(), Failure> {
        let Some(order) = change.new_image().filter(|order| order.status == "PAID") else {
            return Ok(());
        };
        if order.amount.as_str().starts_with('-') {
            return Err(Failure::park("a negative amount"));
        }
        eprintln!("ship {} (once per {})", order.id, at.identity());
        Ok(())
    }
}

fn main() -> ExitCode {
    changefold::run(Ship)
}
