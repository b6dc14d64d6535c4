//! What is known and kept of records beyond the checkpoint, so that one bad record stops nobody.
//!
//! | module | what it is about |
//! |---|---|
//! | [`durable`] | where a function keeps what it has to keep, and whose it is ([`consumer`]) |
//! | `session` | one invocation: what is known of its records before they run, what is kept after |
//! | [`progress`] | remembering: what is finished beyond the reply's record |
//! | [`park`] | parking and holding: records set aside, and those that queue behind them |
//! | `redrive` | redriving: an operator's requests on parked records |
//! | `destination` | where a record that is set aside is sent as well |
//! | [`notice`], `fetch` | what the mapping says of records it gave up, and reading them again |
//!
//! A session is asked by the works of [`batch`](crate::batch), which stand above this module.

mod attempts;
pub mod consumer;
#[cfg(feature = "destinations")]
pub mod destination;
pub mod durable;
#[cfg(feature = "destinations")]
pub mod fetch;
pub mod notice;
#[cfg(feature = "destinations")]
pub mod objects;
pub mod park;
pub mod progress;
pub(crate) mod redrive;
#[cfg(feature = "destinations")]
pub mod services;
pub(crate) mod session;
mod watch;
