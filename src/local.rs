//! The desk: a local event source mapping that drives the function as Lambda would.
//!
//! Records come from fixtures ([`source`]), the [`mapping`] cuts them into batches, and a run
//! ([`run`]) invokes the [`target`] with them, in virtual time and, if wanted, through
//! [`faults`]. The target is the function in this process, or a program in processes of its
//! own ([`runtime_api`]). Producers write to its [`endpoint`]. The function never imports the desk.

pub mod carried;
pub mod cli;

#[cfg(feature = "dev")]
pub mod dev;

pub mod source;

pub mod place;

pub mod export;

pub mod template;

pub mod filter;

pub mod mapping;

pub mod on_failure_files;

pub mod checkpoint;

pub mod faults;

pub mod clock;

pub mod faulty_client;

pub mod target;

mod http;

#[cfg(feature = "dev")]
pub mod live;

pub mod lines;

pub mod runtime_api;

pub mod invoke_url;

pub mod store_server;

pub mod endpoint;

mod kinesis;

mod token;

pub mod run;

pub mod simulate;

pub mod conformance;

pub mod report;

/// A page of what a run has done.
pub mod page;

pub mod check;

pub mod prices;

pub mod plan;
