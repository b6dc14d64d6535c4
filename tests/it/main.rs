//! The integration tests, one binary.
#![allow(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    clippy::needless_pass_by_value,
    reason = "a test ends where something is not as it should be"
)]

#[cfg(feature = "local")]
mod account;
#[cfg(feature = "local")]
mod aggregates;
#[cfg(feature = "local")]
mod alarms;
mod archive;
#[cfg(feature = "local")]
mod backfill;
#[cfg(feature = "local")]
mod bisect;
#[cfg(feature = "local")]
mod cli;
#[cfg(feature = "local")]
mod conformance;
#[cfg(all(feature = "local", feature = "destinations"))]
mod destinations;
#[cfg(feature = "dev")]
mod dev;
#[cfg(feature = "local")]
mod durable;
#[cfg(all(feature = "local", feature = "destinations", feature = "lambda"))]
mod endpoint;
mod events;
#[cfg(feature = "local")]
mod exact;
#[cfg(feature = "local")]
mod failures;
mod fidelity;
#[cfg(all(feature = "local", feature = "lambda"))]
mod figures;
#[cfg(feature = "local")]
mod filter;
#[cfg(feature = "local")]
mod generations;
#[cfg(feature = "local")]
mod handler;
#[cfg(feature = "local")]
mod invoke_url;
#[cfg(all(feature = "local", feature = "lambda"))]
mod lambda;
#[cfg(all(feature = "local", feature = "lambda"))]
mod ledgers;
#[cfg(feature = "local")]
mod lineage;
#[cfg(feature = "local")]
mod mapping;
#[cfg(all(feature = "local", feature = "lambda", feature = "aws_lambda_events"))]
mod migrating;
#[cfg(feature = "local")]
mod on_failure_files;
#[cfg(feature = "local")]
mod operations;
#[cfg(feature = "local")]
mod oracle;
#[cfg(feature = "local")]
mod page;
#[cfg(feature = "local")]
mod parked;
#[cfg(feature = "local")]
mod planned;
#[cfg(feature = "local")]
mod reading;
#[cfg(feature = "local")]
mod readme;
#[cfg(feature = "local")]
mod reconcile;
#[cfg(feature = "local")]
mod retention;
#[cfg(all(feature = "local", feature = "lambda"))]
mod role;
mod runtime_api;
#[cfg(feature = "local")]
mod secrets;
mod shipped;
#[cfg(feature = "local")]
mod shown;
#[cfg(feature = "local")]
mod simulate;
mod sql;
#[cfg(feature = "local")]
mod starts;
#[cfg(feature = "local")]
mod support;
#[cfg(feature = "local")]
mod table_changes;
#[cfg(all(feature = "local", feature = "destinations"))]
mod tables;
#[cfg(feature = "local")]
mod tamper;
mod tidy;
#[cfg(feature = "local")]
mod values;
#[cfg(feature = "local")]
mod verify;
#[cfg(feature = "local")]
mod views;
