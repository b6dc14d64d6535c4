//! One `main`, two lives: the function when Lambda started the process, the desk when a
//! person did.
//!
//! It stands above both, so that neither knows the other.

use crate::{config, processor::Processor};
use std::process::ExitCode;

/// Runs a processor of yours: call it from `main` and return what it returns.
///
/// Started by Lambda (`AWS_LAMBDA_RUNTIME_API` is set) it serves invocations, with settings
/// from the environment; this needs the feature `lambda`. Started by hand it is the command
/// line of the desk over this processor: `replay`, `simulate`; this needs the feature
/// `local`. Wrong settings or arguments are said on stderr and end in a failing exit code.
#[must_use]
pub fn run<P: Processor>(processor: P) -> ExitCode {
    if config::is_started_by_lambda() { function(processor) } else { desk(processor) }
}

#[cfg(feature = "lambda")]
fn function<P: Processor>(processor: P) -> ExitCode {
    use crate::{batch::lanes::Lanes, config::Config, lambda};
    lambda::start(
        Config::from_process(),
        |config| config,
        async |config, clock| {
            let lanes = Lanes::new(processor, clock);
            Ok(lanes.with_order(config.order).with_concurrency(config.concurrency))
        },
    )
}

#[cfg(not(feature = "lambda"))]
fn function<P: Processor>(_: P) -> ExitCode {
    unavailable("Lambda started this program, which was built without the feature `lambda`")
}

#[cfg(feature = "local")]
fn desk<P: Processor>(processor: P) -> ExitCode {
    use std::process::Termination as _;
    crate::local::cli::run_processor(processor, std::env::args_os()).report()
}

#[cfg(not(feature = "local"))]
fn desk<P: Processor>(_: P) -> ExitCode {
    unavailable("this program was built for Lambda only; build it with the feature `local`")
}

#[cfg(not(all(feature = "lambda", feature = "local")))]
#[expect(clippy::print_stderr, reason = "neither face of the program is there to say it")]
fn unavailable(reason: &str) -> ExitCode {
    eprintln!("error: {reason}");
    ExitCode::FAILURE
}
