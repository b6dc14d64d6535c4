//! Views that a fixture is replayed into: the function, and a run of the desk's mapping.

use changefold::{
    handler::Function,
    local::{
        checkpoint::Checkpoints,
        clock::VirtualClock,
        faults::Faults,
        mapping::Parameters,
        run::{self, Setting, Summary},
        source::Fixtures,
        target::Target,
    },
    store::Store,
    view::{Views, registry::Owner, sql},
};
use std::sync::Arc;

/// How long an invocation may take, in milliseconds.
const TIMEOUT_MS: u64 = 60_000;

/// The function of these statements, with its tables in the store.
pub(crate) async fn function(
    statements: &[String],
    store: Store,
    clock: &Arc<VirtualClock>,
) -> Function<Views> {
    let views = sql::parse(&statements.join(";")).unwrap();
    let deadline = clock.timestamp(TIMEOUT_MS);
    Views::ensure_tables(&views, &store, "ledger", "", deadline).await.unwrap();
    let owner = Owner::new("test");
    let views = Views::open(views, store, ("ledger", ""), &owner, deadline).await.unwrap();
    Function::new(views, clock.clone())
}

/// Replays a fixture, under the faults of a seed.
pub(crate) async fn replay(
    fixtures: &Fixtures,
    target: &impl Target,
    clock: &Arc<VirtualClock>,
    (parameters, seed): (Parameters, Option<u64>),
) -> Summary {
    let setting = Setting {
        faults: seed.map(|seed| Faults::new(seed, &parameters, TIMEOUT_MS)),
        parameters,
        timeout: TIMEOUT_MS,
        function_arn: "arn:aws:lambda:us-east-1:123456789012:function:views".to_owned(),
        checkpoints: Checkpoints::forgotten(),
        from_start: false,
    };
    let mut progress = |_| {};
    let run = run::run(fixtures, target, clock, setting, &mut progress);
    tokio::task::unconstrained(run).await.unwrap()
}
