//! One `main`, two lives: the function when Lambda started the process, the desk when a
//! person did.
//!
//! It stands above both, so that neither knows the other.

use crate::{
    batch::{Order, Setup, Work, bisect::Bulk, lanes::Lanes},
    config,
    processor::{BatchProcessor, Processor},
};
use std::process::ExitCode;

/// Runs a processor of yours: call it from `main` and return what it returns.
///
/// Started by Lambda (`AWS_LAMBDA_RUNTIME_API` is set) it serves invocations, with settings
/// from the environment; this needs the feature `lambda`. Started by hand it is the command
/// line of the desk over this processor: `replay`, `simulate`; this needs the feature
/// `local`. Wrong settings or arguments are said on stderr and end in a failing exit code.
#[must_use]
pub fn run<P: Processor>(processor: P) -> ExitCode {
    run_in_order(processor, None)
}

/// As [`run`], with an order of your own instead of the setting `CHANGEFOLD_ORDER`: records for
/// which [`Order::By`](crate::batch::Order::By) gives the same text stay in order.
#[must_use]
pub fn run_in_order<P: Processor>(processor: P, order: impl Into<Option<Order>>) -> ExitCode {
    start(|setup| Lanes::set_up(processor, setup), order.into())
}

/// As [`run`], for a processor that gets many changes in one call.
///
/// The setting `CHANGEFOLD_CONCURRENCY` has no meaning here: calls are made one at a time.
#[must_use]
pub fn run_batch<P: BatchProcessor>(processor: P) -> ExitCode {
    start(|setup| Bulk::set_up(processor, setup), None)
}

fn start<W: Work>(make: impl FnOnce(Setup) -> W, order: Option<Order>) -> ExitCode {
    if config::is_started_by_lambda() { function(make, order) } else { desk(make, order) }
}

#[cfg(feature = "lambda")]
fn function<W: Work>(make: impl FnOnce(Setup) -> W, order: Option<Order>) -> ExitCode {
    use crate::{config::Config, lambda, store::Store};
    lambda::start(
        Config::from_process_in_order(order),
        |config| config,
        async |config, clock| {
            // What a deployment does not choose, chance may: the seed of the pauses.
            let seed = clock.now().0.cast_unsigned();
            let open = |endpoint: &_| {
                let network = config.roots.network_to(endpoint);
                Store::new(network, endpoint, clock.clone(), seed)
            };
            let durable = config.durable.durable_state(open, (&clock, seed));
            let Config { order, concurrency, .. } = config;
            Ok(make(Setup { order, concurrency, durable, clock, seed }))
        },
    )
}

#[cfg(not(feature = "lambda"))]
fn function<W: Work>(_: impl FnOnce(Setup) -> W, _: Option<Order>) -> ExitCode {
    unavailable("Lambda started this program, which was built without the feature `lambda`")
}

#[cfg(feature = "local")]
fn desk<W: Work>(make: impl FnOnce(Setup) -> W, order: Option<Order>) -> ExitCode {
    use std::process::Termination as _;
    crate::local::cli::run_processor(make, order, std::env::args_os()).report()
}

#[cfg(not(feature = "local"))]
fn desk<W: Work>(_: impl FnOnce(Setup) -> W, _: Option<Order>) -> ExitCode {
    unavailable("this program was built for Lambda only; build it with the feature `local`")
}

#[cfg(not(all(feature = "lambda", feature = "local")))]
#[expect(clippy::print_stderr, reason = "neither face of the program is there to say it")]
fn unavailable(reason: &str) -> ExitCode {
    eprintln!("error: {reason}");
    ExitCode::FAILURE
}
