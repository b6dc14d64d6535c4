//! The first step: the types stay, the loop goes.

use super::{Order, ship};

use aws_lambda_events::event::dynamodb::EventRecord;
use changefold::{
    processor::{self, Context, Failure, Processor},
    record::Change,
};
use serde::de::IgnoredAny;

pub(super) fn shop() -> impl Processor {
    processor::from_fn(async |_: Change<IgnoredAny>, at: &Context<'_>| {
        let record = EventRecord::try_from(at.record()).map_err(Failure::park)?;
        if record.change.new_image.is_empty() {
            return Ok(()); // a removal
        }
        let order: Order =
            serde_dynamo::from_item(record.change.new_image).map_err(Failure::park)?;
        ship(&order).await.map_err(Failure::retry)
    })
}

fn main() -> std::process::ExitCode {
    changefold::run(shop())
}
