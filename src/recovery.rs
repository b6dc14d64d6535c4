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
//! | `stream` | one call of a stream after another, for whoever reads one |
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
#[cfg(any(feature = "destinations", feature = "dev"))]
pub mod services;
pub(crate) mod session;
#[cfg(any(feature = "destinations", feature = "dev"))]
#[cfg_attr(
    not(all(feature = "destinations", feature = "dev")),
    expect(dead_code, reason = "what only the other of the two asks a stream")
)]
pub(crate) mod stream;
mod watch;
