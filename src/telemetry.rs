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
mod text;

pub(crate) use text::Chain;
#[cfg(feature = "lambda")]
pub(crate) use text::{Bounded, is_codes_alone};
pub use text::{ERROR_BYTES_MAX, LogErrors};

use crate::{
    call::{Call, Halt, Measures},
    event::Record,
    outcome::Outcome,
    record::Timestamp,
    recovery::park::{ParkError, envelope::Envelope},
    store::StoreError,
    view::quarantine::Quarantine,
};
#[cfg(feature = "destinations")]
use crate::{
    record::SequenceNumber,
    recovery::{fetch::Lost, notice::Notice},
};
use filter::Filter;
use metrics_cloudwatch_embedded::Collector;
use serde_json::Value;
use std::{error::Error, fmt, io::Write};
use text::told;
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

/// A record is not finished and will be delivered again.
pub fn record_failed(record: &Record<'_>, call: &Call, code: &str, error: &(dyn Error + 'static)) {
    tracing::warn!(
        request_id = call.request_id,
        sequence_number = record.sequence_number().as_str(),
        ordinal = record.ordinal(),
        message_id = record.message_id(),
        code,
        error = told(error),
        "RecordProcessError"
    );
}

/// A call with several records failed as a whole; `first` is the first of them that is not
/// finished.
pub(crate) fn bulk_call_failed(
    (first, unfinished): (&Record<'_>, usize),
    call: &Call,
    code: &str,
    error: &(dyn Error + 'static),
) {
    tracing::warn!(
        request_id = call.request_id,
        sequence_number = first.sequence_number().as_str(),
        ordinal = first.ordinal(),
        message_id = first.message_id(),
        unfinished,
        code,
        error = told(error),
        "BulkProcessError"
    );
}

/// A record will not work and is about to be set aside.
pub fn record_parking(record: &Record<'_>, call: &Call, code: &str, error: &(dyn Error + 'static)) {
    tracing::warn!(
        request_id = call.request_id,
        sequence_number = record.sequence_number().as_str(),
        ordinal = record.ordinal(),
        message_id = record.message_id(),
        code,
        error = told(error),
        "RecordParked"
    );
}

/// An operator gave a parked record up.
pub(crate) fn parked_record_dropped(call: &Call, envelope: &Envelope) {
    tracing::warn!(
        request_id = call.request_id,
        sequence_number = envelope.sequence_number,
        ordinal = envelope.ordinal,
        code = envelope.error_code,
        "ParkedRecordDropped"
    );
}

/// Records could not be set aside; they stay unfinished.
pub(crate) fn park_failed(call: &Call, code: &str, error: &(dyn Error + 'static)) {
    metrics::counter!(metric::PARK_FULL).increment(u64::from(code == ParkError::Full.code()));
    tracing::error!(request_id = call.request_id, code, error = told(error), "RecordParkError");
}

/// A view leaves an item out from now on: what it needs and what is there, by type.
pub(crate) fn item_quarantined(call: &Call, view: &str, quarantine: &Quarantine) {
    let Quarantine { poison, sequence_number } = quarantine;
    tracing::warn!(
        request_id = call.request_id,
        code = "ItemUnfit",
        view,
        attribute = poison.attribute,
        expected = poison.expected,
        found = poison.found,
        sequence_number,
        "ItemQuarantined"
    );
}

/// So many items are quarantined from now on, with so many reasons that were not told.
pub(crate) fn items_quarantined(call: &Call, items: u64, untold: usize) {
    metrics::counter!(metric::RECORDS_QUARANTINED).increment(items);
    if untold > 0 {
        tracing::warn!(request_id = call.request_id, code = "ItemUnfit", untold, "ItemQuarantined");
    }
}

/// A ledger has another owner from now on, because a setting says so.
pub(crate) fn ledger_taken(former: &str, owner: &str) {
    tracing::warn!(former, owner, "LedgerTaken");
}

/// A view is served although the files do not have it.
pub(crate) fn view_absent(view: &str) {
    tracing::warn!(
        view,
        "ViewAbsent: it is in the ledger and not in the files, and is served until `view drop`"
    );
}

/// What a backfill would take is not known.
pub(crate) fn source_not_estimated(source: &str, halt: &Halt) {
    tracing::warn!(source, code = halt.code, "SourceNotEstimated: {}", halt.message);
}

/// A changed or added view is built beside what is served.
pub(crate) fn generation_registered(view: &str, generation: u32) {
    tracing::warn!(
        view,
        generation,
        "GenerationRegistered: it is built beside what is served; backfill and switch it"
    );
}

/// The park has no room for the record's key: the record is at the destination alone, and later
/// ones of its key run.
pub(crate) fn sent_past_park(record: &Record<'_>, call: &Call) {
    tracing::error!(
        request_id = call.request_id,
        sequence_number = record.sequence_number().as_str(),
        ordinal = record.ordinal(),
        message_id = record.message_id(),
        code = "ParkFull",
        "RecordSentPastPark"
    );
}

/// Rows of the progress took no more: so many records are processed again if they come again.
pub(crate) fn progress_full(call: &Call, records: u64) {
    tracing::warn!(request_id = call.request_id, records, "ProgressFull");
}

/// Something that would save work at the next delivery was not confirmed.
pub(crate) fn progress_lost(call: &Call, code: &str, error: &(dyn Error + 'static)) {
    tracing::warn!(request_id = call.request_id, code, error = told(error), "ProgressWriteError");
}

/// The store did not do what a record asked for; the record will be delivered again.
pub(crate) fn store_unfinished(error: &StoreError) {
    tracing::warn!(code = error.code, error = told(error), "StoreCallError");
}

/// An invocation ended: its counts go to the metrics, its end to the log.
pub fn invocation_finished(call: &Call, counts: &Counts, halt: Option<&Halt>) {
    metrics::counter!(metric::RECORDS_RECEIVED).increment(counts.received);
    metrics::counter!(metric::RECORDS_APPLIED).increment(counts.applied);
    metrics::counter!(metric::RECORDS_ALREADY_APPLIED).increment(counts.already_applied);
    let measures = &counts.measures;
    metrics::counter!(metric::RECORDS_PARKED).increment(counts.parked);
    metrics::counter!(metric::RECORDS_HELD).increment(measures.held);
    metrics::counter!(metric::RECORDS_SENT_PAST_PARK).increment(measures.sent_past_park);
    metrics::counter!(metric::KEYS_PARKED).increment(measures.keys_parked);
    metrics::counter!(metric::OLDEST_PARKED_AGE).increment(measures.oldest_parked_s);
    metrics::counter!(metric::RETRIES_IN_PLACE).increment(measures.retried_in_place);
    metrics::counter!(metric::DEADLINE_STOPS).increment(measures.deadline_stops);
    for (code, count) in &measures.failures {
        metrics::counter!(metric::FAILURES, "Code" => *code).increment(*count);
    }
    metrics::counter!(metric::RECORDS_FAILED).increment(counts.failed);
    metrics::counter!(metric::RECORDS_NOT_ATTEMPTED).increment(counts.not_attempted);
    metrics::counter!(metric::STORE_CALLS).increment(measures.store_calls);
    metrics::counter!(metric::INVOCATION_ERRORS).increment(u64::from(halt.is_some()));
    if let Some(age) = counts.iterator_age_ms {
        // Beyond 2^53 milliseconds the last digits of an age do not matter.
        #[expect(clippy::cast_precision_loss, reason = "285,000 years fit exactly")]
        metrics::histogram!(metric::ITERATOR_AGE).record(age as f64);
    }
    let Some(halt) = halt else {
        tracing::debug!(
            request_id = call.request_id,
            records = counts.received,
            applied = counts.applied,
            already_applied = counts.already_applied,
            parked = counts.parked,
            held = measures.held,
            failed = counts.failed,
            not_attempted = counts.not_attempted,
            "InvocationFinished"
        );
        return;
    };
    tracing::error!(
        request_id = call.request_id,
        code = halt.code,
        error = told(halt),
        "InvocationFinishError"
    );
}

/// Records the mapping gave up were taken in.
#[cfg(feature = "destinations")]
pub(crate) fn rescue_finished(
    call: &Call,
    (rescued, known, lost): (u64, u64, u64),
    time_left_s: Option<u64>,
) {
    metrics::counter!(metric::RECORDS_RESCUED).increment(rescued);
    metrics::counter!(metric::RECORDS_LOST).increment(lost);
    let request_id = &call.request_id;
    tracing::warn!(request_id, rescued, known, lost, time_left_s, "RescueFinished");
}

/// Records the mapping gave up could not be taken in; their message is kept.
#[cfg(feature = "destinations")]
pub(crate) fn rescue_failed(
    call: &Call,
    message_id: Option<&str>,
    (code, is_refusal): (&'static str, bool),
    error: &(dyn Error + 'static),
) {
    metrics::counter!(metric::NOTICES_REFUSED).increment(u64::from(is_refusal));
    tracing::error!(
        request_id = call.request_id,
        message_id,
        code,
        error = told(error),
        "RecordRescueError"
    );
}

/// Records the mapping gave up are no longer in the stream.
#[cfg(feature = "destinations")]
pub(crate) fn records_lost(call: &Call, notice: &Notice, lost: &Lost) {
    tracing::error!(
        request_id = call.request_id,
        stream_arn = notice.stream_arn,
        shard_id = notice.shard_id,
        records = lost.records,
        from = lost.from.as_str(),
        until = lost.until.as_ref().map(SequenceNumber::as_str),
        "RecordsLost"
    );
}

/// An operator's request ended: what it was, who asked as far as Lambda tells, and what it came
/// to. Keys and payloads are in the answer, not in the log.
pub(crate) fn operation_finished(call: &Call, operation: &str, answer: Result<&Value, &Halt>) {
    let caller = call.caller.as_deref();
    match answer {
        Ok(answer) => {
            let length = |name: &str| answer[name].as_array().map(Vec::len);
            tracing::info!(
                request_id = call.request_id,
                operation,
                caller,
                listed = length("parked"),
                done = answer["done"].as_u64(),
                left = answer["left"].as_u64(),
                failed = length("failed"),
                stopped = answer["stopped"].as_str(),
                is_dry_run = answer["dry_run"].is_object(),
                goes_on = answer["cursor"].is_string(),
                "OperationFinished"
            );
        }
        Err(halt) => tracing::error!(
            request_id = call.request_id,
            operation,
            caller,
            code = halt.code,
            error = told(halt),
            "OperationFinishError"
        ),
    }
}

/// A link of a backfill does nothing: it is a copy, or late.
pub fn link_refused(call: &Call, code: &str) {
    tracing::warn!(request_id = call.request_id, code, "LinkRefused");
}

/// Lambda's deadline had passed before the invocation began, so it cannot be one.
pub fn deadline_unusable(call: &Call, received: u64, assumed: Timestamp) {
    tracing::warn!(
        request_id = call.request_id,
        received_ms = received,
        assumed_ms = assumed.0,
        "DeadlineReadError"
    );
}

/// The function cannot start.
pub fn start_failed(code: &str, error: &(dyn Error + 'static)) {
    tracing::error!(code, error = told(error), "FunctionStartError");
}

/// Lambda's Runtime API does not answer, so the process has to end.
pub fn serving_ended(error: &(dyn Error + 'static)) {
    tracing::error!(code = "RuntimeApiUnreachable", error = told(error), "FunctionServeError");
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Trouble;
    use ::metrics::{
        Counter, CounterFn, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit,
    };
    use std::{
        collections::BTreeMap,
        sync::{Arc, Mutex},
    };

    /// Keeps the sum of each counter.
    #[derive(Default)]
    struct Sums(Arc<Mutex<BTreeMap<String, u64>>>);

    struct Sum(Arc<Mutex<BTreeMap<String, u64>>>, String);

    impl CounterFn for Sum {
        fn increment(&self, value: u64) {
            *self.0.lock().unwrap().entry(self.1.clone()).or_default() += value;
        }

        fn absolute(&self, value: u64) {
            self.0.lock().unwrap().insert(self.1.clone(), value);
        }
    }

    impl Recorder for Sums {
        fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

        fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

        fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

        fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
            Counter::from_arc(Arc::new(Sum(Arc::clone(&self.0), key.name().to_owned())))
        }

        fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
            Gauge::noop()
        }

        fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
            Histogram::noop()
        }
    }

    #[test]
    fn a_full_park_is_told_from_one_that_does_not_answer() {
        let sums = Sums::default();
        let call = Call::new("r", Timestamp(0));
        let throttled = StoreError {
            operation: "TransactWriteItems",
            endpoint: "here".to_owned(),
            trouble: Trouble::Throttled,
            code: "ThrottlingException".to_owned(),
            message: String::new(),
        };
        ::metrics::with_local_recorder(&sums, || {
            for error in [ParkError::Full, ParkError::Store(throttled), ParkError::Full] {
                park_failed(&call, error.code(), &error);
            }
        });
        assert_eq!(sums.0.lock().unwrap()[metric::PARK_FULL], 2);
    }
}
