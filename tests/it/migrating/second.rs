//! The second step: the change is read straight into the type.

use super::{Order, ship};

use changefold::{
    processor::{self, Context, Failure, Processor},
    record::Change,
};

pub(super) fn shop() -> impl Processor {
    processor::from_fn(async |change: Change<Order>, _: &Context<'_>| {
        let Some(order) = change.new_image() else { return Ok(()) }; // a removal
        ship(order).await.map_err(Failure::retry)
    })
}

fn main() -> std::process::ExitCode {
    changefold::run(shop())
}
