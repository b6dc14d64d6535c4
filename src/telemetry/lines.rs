//! What the function tells: a log line for each event, and the counters that go with it.
//!
//! Separate from how it is told (`telemetry.rs`), which is set up once.

use super::{Counts, metric, text::told};
use crate::{
    call::{Call, Halt},
    event::Record,
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
use serde_json::Value;
use std::error::Error;

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

/// So many items are left out because two changes of each have one moment, and the table was not
/// read to see what they are.
pub(crate) fn items_undecided(call: &Call, items: usize, code: &str) {
    tracing::warn!(
        request_id = call.request_id,
        code,
        items,
        "ItemsUndecided: two changes of one moment, and the table was not read; they stay left out \
         until their next change or until they are reconciled"
    );
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
