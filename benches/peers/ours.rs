//! Our function, as a user writes it: an item type that borrows, a processor, `run`.
//!
//! It reads all attributes of both images, more than the peers in Python and Node touch. It is
//! an example so that it is built as a program of its own, with the features Lambda needs.

#[expect(dead_code, reason = "shared with the benches, which need more of it")]
#[path = "../ratios/model.rs"]
mod model;

use changefold::{
    processor::{Context, Failure, Processor},
    record::Change,
};
use model::Order;
use std::{hint::black_box, process::ExitCode};

struct Look;

impl Processor for Look {
    type Item<'a> = Order<'a>;

    async fn process(&self, change: Change<Order<'_>>, _: &Context<'_>) -> Result<(), Failure> {
        drop(black_box(change));
        Ok(())
    }
}

fn main() -> ExitCode {
    changefold::run(Look)
}
