//! The desk: a local event source mapping that drives the function as Lambda would.
//!
//! Records come from fixtures ([`source`]), the [`mapping`] cuts them into batches, and a run
//! ([`run`]) invokes the [`target`] with them, in virtual time and, if wanted, through
//! [`faults`]. The function never imports the desk.

pub mod cli;

pub mod source;

pub mod template;

pub mod mapping;

pub mod checkpoint;

pub mod faults;

pub mod clock;

pub mod faulty_client;

pub mod target;

pub mod run;

pub mod simulate;

pub mod report;
