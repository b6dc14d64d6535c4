//! The Lambda entry: keeps the views bundled beside it.

use changefold::{
    config::ViewConfig,
    lambda::{self, Refusal},
    record::Timestamp,
    store::Store,
    view::{Views, load::load},
};
#[cfg(feature = "backfill")]
use changefold::{
    invoke::{Invoke, LambdaApi},
    store::Endpoint,
};
use std::{process::ExitCode, sync::Arc};

/// How long opening the views may take, in milliseconds; Lambda's init phase has 10 s.
const OPEN_MS: i64 = 9_000;

fn main() -> ExitCode {
    lambda::start(
        ViewConfig::from_process(),
        |config| &config.function,
        async |config, clock| {
            let views = load(&config.views).map_err(|error| Refusal::new("ViewsInvalid", error))?;
            let deadline = Timestamp(clock.now().0 + OPEN_MS);
            let seed = clock.now().0.cast_unsigned();
            let network = config.function.roots.network_to(&config.endpoint);
            let sources = config.source_endpoint.map(|endpoint| {
                #[cfg(feature = "backfill")]
                let endpoint = match &config.source_role {
                    Some(role) => {
                        let network = config.function.roots.network_to(&role.endpoint);
                        Endpoint { credentials: role.credentials(network), ..endpoint }
                    }
                    None => endpoint,
                };
                let network = config.function.roots.network_to(&endpoint);
                Store::new(network, &endpoint, Arc::clone(&clock), seed)
            });
            #[cfg(feature = "backfill")]
            let invoker = config.function_endpoint.map(|endpoint| {
                let roots = config.function.roots.clone();
                let api = LambdaApi::new(endpoint, roots, Arc::clone(&clock), seed);
                Arc::new(api) as Arc<dyn Invoke>
            });
            #[cfg(not(feature = "backfill"))]
            let invoker = None;
            let store = Store::new(network, &config.endpoint, clock, seed);
            let tables = (&*config.ledger_table, &*config.table_prefix);
            let opened = Views::open(views, store, tables, &config.owner, deadline).await;
            opened
                .map(|views| views.with_source_store(sources).with_invoker(invoker))
                .map_err(|error| Refusal::new(error.code(), error))
        },
    )
}
