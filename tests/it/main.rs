//! The integration tests, one binary.
#![allow(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    clippy::needless_pass_by_value,
    reason = "a test ends where something is not as it should be"
)]

#[cfg(feature = "local")]
mod cli;
mod events;
#[cfg(feature = "local")]
mod exact;
#[cfg(feature = "local")]
mod handler;
#[cfg(all(feature = "local", feature = "lambda"))]
mod lambda;
#[cfg(feature = "local")]
mod mapping;
#[cfg(feature = "local")]
mod oracle;
#[cfg(feature = "local")]
mod readme;
mod shipped;
#[cfg(feature = "local")]
mod simulate;
mod sql;
#[cfg(feature = "local")]
mod support;
#[cfg(feature = "local")]
mod tamper;
mod tidy;
#[cfg(feature = "local")]
mod views;
