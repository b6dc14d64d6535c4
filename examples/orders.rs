//! A processor of your own. Started by hand: `cargo run --example orders -- replay
//! fixtures/orders.jsonl`; started by Lambda it is the function.
#![expect(clippy::print_stderr, reason = "an effect to look at")]

use changefold::{
    event::Value,
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
    amount: Value<'a>, // exact, as it was written
}

struct Ship(bool); // whether it reads commas: the fix, for later

impl Processor for Ship {
    type Item<'a> = Order<'a>;

    async fn process(&self, change: Change<Order<'_>>, at: &Context<'_>) -> Result<(), Failure> {
        let Some(order) = change.new_image() else { return Ok(()) };
        match &order.amount {
            Value::Number(_) => {}
            Value::Text(text) if self.0 && text.contains(',') => {}
            _ => return Err(Failure::park("an amount that is no number").with_code("BadAmount")),
        }
        eprintln!("{} {} (once per {})", order.id, order.status, at.identity());
        Ok(())
    }
}

fn main() -> ExitCode {
    changefold::run(Ship(std::env::var_os("SHOP_READS_COMMAS").is_some()))
}
