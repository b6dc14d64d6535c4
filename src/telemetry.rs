//! Every log line and every metric of the function.
//!
//! It is separate so that names and labels stay few and known: a log event is called
//! `<Noun><Verb>[Error]`, at WARN when nothing is lost and at ERROR when somebody has to act;
//! metrics carry no label but the function's name. No payload value is ever written: a
//! record goes by its sequence number, a queue's message by its id.
//!
//! Counters are plain numbers of the batch, handed to the `metrics` facade once when the
//! invocation ends. Without [`init`] (on the desk) nobody listens and nothing is written.

pub mod filter;
mod lines;
mod text;

pub use lines::*;
pub(crate) use text::Chain;
#[cfg(feature = "lambda")]
pub(crate) use text::{Bounded, is_codes_alone};
pub use text::{ERROR_BYTES_MAX, LogErrors};

use crate::{call::Measures, event::Record, outcome::Outcome, record::Timestamp};
use filter::Filter;
use metrics_cloudwatch_embedded::Collector;
use std::{error::Error, fmt, io::Write};
use tracing_subscriber::{
    filter::LevelFilter, layer::SubscriberExt as _, util::SubscriberInitExt as _,
};

/// `CloudWatch` namespace of the function's metrics.
pub const NAMESPACE: &str = "changefold";

/// The metrics' names, each counted once per invocation.
pub mod metric {
    /// Records delivered.
    pub const RECORDS_RECEIVED: &str = "RecordsReceived";
    /// Records whose effect this invocation made.
    pub const RECORDS_APPLIED: &str = "RecordsApplied";
    /// Records whose effect an earlier delivery had made.
    pub const RECORDS_ALREADY_APPLIED: &str = "RecordsAlreadyApplied";
    /// Records set aside, confirmed.
    pub const RECORDS_PARKED: &str = "RecordsParked";
    /// Of the parked records, those that only queue behind another of their key.
    pub const RECORDS_HELD: &str = "RecordsHeld";
    /// Records that the park had no room for, and that only the destination has.
    pub const RECORDS_SENT_PAST_PARK: &str = "RecordsSentPastPark";
    /// Keys that have parked records when the invocation ends, as far as it knows: what it
    /// parked itself is among them.
    pub const KEYS_PARKED: &str = "KeysParked";
    /// Seconds since the first of those was parked.
    pub const OLDEST_PARKED_AGE: &str = "OldestParkedAge";
    /// Times that a record could not be parked, because no room is left for its key.
    pub const PARK_FULL: &str = "ParkFull";
    /// Items that a view leaves out from now on, because it cannot evaluate their change.
    pub const RECORDS_QUARANTINED: &str = "RecordsQuarantined";
    /// Tries beyond the first of a record in one invocation.
    pub const RETRIES_IN_PLACE: &str = "RetriesInPlace";
    /// Invocations that ended early for want of time.
    pub const DEADLINE_STOPS: &str = "DeadlineStops";
    /// Records that the mapping gave up and that were taken in.
    pub const RECORDS_RESCUED: &str = "RecordsRescued";
    /// Records that the mapping gave up and that the stream no longer has.
    pub const RECORDS_LOST: &str = "RecordsLost";
    /// On-failure messages that were not believed, or lead nowhere.
    pub const NOTICES_REFUSED: &str = "NoticesRefused";
    /// Failed attempts; its second dimension `Code` is the failure's code.
    pub const FAILURES: &str = "Failures";
    /// Records tried and not finished.
    pub const RECORDS_FAILED: &str = "RecordsFailed";
    /// Records not tried: they come again.
    pub const RECORDS_NOT_ATTEMPTED: &str = "RecordsNotAttempted";
    /// HTTP requests to the store.
    pub const STORE_CALLS: &str = "StoreCalls";
    /// Invocations that failed as a whole.
    pub const INVOCATION_ERRORS: &str = "InvocationErrors";
    /// Age of the batch's last record when it arrived here, in milliseconds; AWS defines its
    /// metric of this name the same way.
    pub const ITERATOR_AGE: &str = "IteratorAge";
}

/// What one invocation counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// Records delivered.
    pub received: u64,
    /// Records [`Outcome::Applied`].
    pub applied: u64,
    /// Records [`Outcome::AlreadyApplied`].
    pub already_applied: u64,
    /// Records [`Outcome::Parked`].
    pub parked: u64,
    /// Records [`Outcome::Failed`].
    pub failed: u64,
    /// Records [`Outcome::NotAttempted`].
    pub not_attempted: u64,
    /// Age of the last record in milliseconds, where it says when it arrived.
    pub iterator_age_ms: Option<u64>,
    /// What the work counted itself.
    pub measures: Measures,
}

impl Counts {
    /// Counts the records as they come in.
    pub fn receive(&mut self, records: &[Record<'_>], Timestamp(now): Timestamp) {
        self.received = records.len() as u64;
        self.iterator_age_ms = records
            .last()
            .and_then(Record::approximate_arrival)
            // A record from the future (two clocks) has no age.
            .map(|Timestamp(arrival)| u64::try_from(now.saturating_sub(arrival)).unwrap_or(0));
    }

    /// Counts what became of the records.
    pub fn finish(&mut self, outcomes: &[Outcome]) {
        for outcome in outcomes {
            *match outcome {
                Outcome::Applied => &mut self.applied,
                Outcome::AlreadyApplied => &mut self.already_applied,
                Outcome::Parked => &mut self.parked,
                Outcome::Failed => &mut self.failed,
                Outcome::NotAttempted => &mut self.not_attempted,
            } += 1;
        }
    }
}

/// The log and the metrics of a function that Lambda runs.
pub struct Telemetry {
    collector: &'static Collector,
}

impl fmt::Debug for Telemetry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Telemetry").finish_non_exhaustive()
    }
}

/// Telemetry could not be set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TelemetryError {
    /// Another log or recorder is installed in this process.
    #[error("telemetry is set up twice in this process")]
    Twice(#[source] Box<dyn Error + Send + Sync>),
    /// The log's directives are none.
    #[error("the log's directives are not valid")]
    Log(#[source] Box<dyn Error + Send + Sync>),
}

/// Sends the log, as JSON lines, and the metrics, as one embedded-metric line per
/// invocation, to standard output, where Lambda collects both. Panics are logged by their
/// place in the code; their message, which may quote a payload, is not. Dependencies that would
/// print what passes through them are held ([`filter`]); that is said once if `log` asks for
/// more.
///
/// # Errors
/// The process has telemetry already, or `log` is neither a level nor
/// `TARGET=LEVEL` with commas between.
pub fn init(log: &str, function_name: &str) -> Result<Telemetry, TelemetryError> {
    let filter = Filter::of(log).map_err(|error| TelemetryError::Log(error.into()))?;
    tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_current_span(false)
        .with_span_list(false)
        .with_max_level(LevelFilter::TRACE) // the targets decide
        .finish()
        .with(filter.targets)
        .try_init()
        .map_err(|error| TelemetryError::Twice(error.into()))?;
    if filter.is_held {
        let at_most = tracing::field::display(filter::HELD_LEVEL);
        tracing::warn!(at_most, "DependenciesHeld: what they log in detail are payloads");
    }
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(place, "CodePanicError");
    }));
    let collector = metrics_cloudwatch_embedded::Builder::new()
        .cloudwatch_namespace(NAMESPACE)
        .with_dimension("FunctionName", function_name.to_owned())
        .emit_zeros(true) // an alarm needs the zeros between the ones
        .init()
        .map_err(TelemetryError::Twice)?;
    metrics::describe_histogram!(metric::ITERATOR_AGE, metrics::Unit::Milliseconds, "");
    metrics::describe_counter!(metric::OLDEST_PARKED_AGE, metrics::Unit::Seconds, "");
    for counter in [
        metric::RECORDS_RECEIVED,
        metric::RECORDS_APPLIED,
        metric::RECORDS_ALREADY_APPLIED,
        metric::RECORDS_PARKED,
        metric::RECORDS_HELD,
        metric::KEYS_PARKED,
        metric::PARK_FULL,
        metric::RECORDS_QUARANTINED,
        metric::RETRIES_IN_PLACE,
        metric::DEADLINE_STOPS,
        metric::RECORDS_RESCUED,
        metric::RECORDS_LOST,
        metric::FAILURES,
        metric::RECORDS_FAILED,
        metric::RECORDS_NOT_ATTEMPTED,
        metric::STORE_CALLS,
        metric::INVOCATION_ERRORS,
    ] {
        metrics::describe_counter!(counter, metrics::Unit::Count, "");
    }
    Ok(Telemetry { collector })
}

impl Telemetry {
    /// How much of an error is logged, in this process.
    #[must_use]
    pub fn telling_of_errors(self, errors: LogErrors) -> Self {
        errors.install();
        self
    }

    /// Writes the invocation's metrics to standard output, as one line of the embedded metric
    /// format.
    pub fn flush(&self, request_id: &str) {
        self.flush_to(request_id, std::io::stdout().lock());
    }

    /// Writes the invocation's metrics elsewhere. A line that cannot be written is logged.
    pub fn flush_to(&self, request_id: &str, mut out: impl Write) {
        let mut line = Vec::with_capacity(1024);
        let written = self
            .collector
            .set_property("RequestId", request_id)
            .flush(&mut line)
            .and_then(|()| out.write_all(&line));
        if let Err(error) = written {
            tracing::warn!(error = %error, "MetricsWriteError");
        }
    }
}
