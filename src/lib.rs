//! changefold processes the changes of a DynamoDB table or a Kinesis stream: in order,
//! exactly once in their effect, and never lost.
//!
//! The modules stand in the order a record meets them.

pub mod record;

pub mod event;

pub mod call;

pub mod processor;

pub mod outcome;

pub mod operation;

mod deadline;
mod layout;
pub mod retry;

pub mod recovery;

pub mod batch;

#[cfg_attr(
    not(feature = "backfill"),
    expect(dead_code, reason = "an operation that is not built in needs it")
)]
pub mod view;

pub mod store;

pub mod invoke;

#[cfg(feature = "destinations")]
pub mod rescue;

pub mod handler;

pub mod telemetry;

pub mod config;

pub mod clock;

mod backoff;

mod civil;
mod concurrent;
mod encoding;
mod hex;

#[cfg(feature = "local")]
pub mod local;

#[cfg(feature = "lambda")]
pub mod lambda;

mod run;
pub use run::{run, run_batch, run_in_order};
