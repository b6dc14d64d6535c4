//! What the alarms of the template need to be told.

use crate::support::{FOREVER, block_on, call, embedded, order};
use changefold::{
    batch::{Work as _, lanes::Lanes},
    call::Measures,
    clock::SystemClock,
    event,
    outcome::Outcome,
    processor::{self, Failure},
    record::Change,
    recovery::{
        durable::DurableState,
        park::{OnPark, Park},
    },
};
use serde::de::IgnoredAny;
use std::sync::Arc;

/// A batch that parks a key may be the last for hours: what it leaves has to be told by it.
#[test]
fn keys_parked_by_a_batch_are_counted_at_its_end() {
    block_on(async {
        let park = Park::new(embedded(1), "park".to_owned(), OnPark::Hold, 24);
        let durable = DurableState::none().with_park(park);
        durable.ensure_tables(FOREVER).await.unwrap();
        let processor =
            processor::from_fn(async |change: Change<IgnoredAny>, _| match change.new_image() {
                Some(_) => Err(Failure::park("told to")),
                None => Ok(()),
            });
        let lanes = Lanes::new(processor, Arc::new(SystemClock)).with_durable_state(durable);
        let refused = Some(("EU", "1", "OPEN"));
        for (records, parked, left) in [
            ([order(1, "INSERT", "a", refused), order(2, "INSERT", "b", refused)], 2, 2),
            ([order(3, "INSERT", "a", refused), order(4, "REMOVE", "c", None)], 1, 2),
        ] {
            let event = format!("{{\"Records\":[{}]}}", records.join(","));
            let batch = event::parse(event.as_bytes());
            let records = batch.records().unwrap();
            let mut outcomes = vec![Outcome::default(); records.len()];
            let mut measures = Measures::default();
            lanes.work(records, &mut outcomes, &mut measures, &call()).await.unwrap();
            let now = outcomes.iter().filter(|outcome| **outcome == Outcome::Parked).count();
            assert_eq!((now, measures.keys_parked), (parked, left));
        }
    });
}
