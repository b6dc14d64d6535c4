//! What a session does with records that are set aside: it queues them, and confirms the parks.
//!
//! A record is queued while others run, and parked at the end of the pass. Nothing is said of it
//! before the table, and the destination where there is one, has confirmed it.

use super::{Admission, Session};
use crate::{
    concurrent,
    deadline::Expected,
    outcome::Outcome,
    processor::Failure,
    record::Timestamp,
    recovery::{
        attempts::Tried,
        durable::OutOfTime,
        park::{
            Key, OnPark, Park, ParkError, Pending,
            envelope::{self, Envelope, HELD, VERSION, chain},
            holds::State,
        },
    },
    telemetry,
};
use std::{cell::RefCell, collections::BTreeSet};

impl Session<'_> {
    /// Queues a record that failed for parking.
    pub(crate) fn set_aside(&self, at: usize, failure: &Failure) {
        self.queue(at, failure.code(), chain(failure.reason()), true);
        let holds = self.park.as_ref().is_some_and(|park| park.policy == OnPark::Hold);
        self.held_lanes[self.layout.lane(at)].set(holds);
    }

    /// Queues a record behind a parked one of its key.
    pub(crate) fn queue_behind(&self, at: usize) {
        self.queue(at, HELD, Vec::new(), false);
    }

    fn queue(&self, at: usize, code: &str, error: Vec<String>, failed: bool) {
        let record = &self.records[at];
        let key = self.key(at, record);
        let Timestamp(now) = self.deadline.now();
        let Tried { attempts, first_failed_ms, .. } = self.tried(at);
        let envelope = Envelope {
            changefold: VERSION,
            function: self.durable.function.clone(),
            function_version: self.durable.function_version.clone(),
            stream_arn: record.stream_arn().unwrap_or_default().to_owned(),
            shard_id: record.shard_id().map(str::to_owned),
            key: key.readable.clone(),
            sequence_number: record
                .message_id()
                .unwrap_or(record.sequence_number().as_str())
                .to_owned(),
            ordinal: record.ordinal(),
            error_code: envelope::code(code),
            error,
            attempts,
            arrived_ms: record.approximate_arrival().map(|Timestamp(at)| at),
            first_failed_ms,
            last_failed_ms: now,
            record: record.raw().to_owned(),
            record_encoding: None,
            record_bytes: None,
        };
        self.queued[at].set(true);
        let (sort, is_rescued) = (self.sort(at), self.rescues.get());
        let pending = Pending { record: at, sort, envelope, failed, is_rescued };
        let mut queues = self.pending.borrow_mut();
        let (_, queue) = queues.entry(key.hash.clone()).or_insert_with(|| (key, Vec::new()));
        queue.push(pending);
        self.deadline.expect_one_more(queue.len(), self.durable.sends());
    }

    /// Confirms all parks; gives back the records whose key was opened meanwhile, which have
    /// to run after all.
    pub(crate) async fn flush(&self) -> Vec<usize> {
        let queues = std::mem::take(&mut *self.pending.borrow_mut());
        if queues.is_empty() {
            return Vec::new();
        }
        // Those that open their key write the same rows, so they would only meet there. The
        // first of the batch goes first: if time or room ends, the reply is as far as it can be.
        let (behind, mut opening): (Vec<_>, Vec<_>) =
            queues.into_values().partition(|(key, _)| self.is_open(key));
        opening.sort_by_key(|(_, queue)| queue.iter().map(|it| it.record).min());
        let lifted = RefCell::new(Vec::new());
        let confirms = async {
            let behind = behind.into_iter().map(async |(key, queue)| {
                let confirmed = self.confirm(key, queue).await;
                lifted.borrow_mut().extend(confirmed);
            });
            concurrent::all(behind).await;
            for (key, queue) in opening {
                let confirmed = self.confirm(key, queue).await;
                lifted.borrow_mut().extend(confirmed);
            }
        };
        // Those of which it is not known by then come again.
        self.deadline.until(self.deadline.writes_end(), confirms).await;
        let mut lifted = lifted.into_inner();
        self.deadline.expect(Expected::default());
        lifted.sort_unstable();
        for queued in &self.queued {
            queued.set(false);
        }
        for at in &lifted {
            self.admissions[*at].set(Admission::Run);
            self.held_lanes[self.layout.lane(*at)].set(false);
        }
        // What was parked just now is there at the end, and no later batch may come to tell.
        self.measure_holds(&self.holds.borrow());
        lifted
    }

    fn is_open(&self, key: &Key) -> bool {
        let holds = self.holds.borrow();
        holds.entry(&key.hash).is_some_and(|entry| entry.state == State::Open)
    }

    /// Whether the park has no room for this key, and its records may do without.
    fn goes_past_park(&self, key: &Key) -> bool {
        let has_no_room = |park: &Park| self.holds.borrow().is_full(&key.hash, park.keys_max);
        self.durable.sends_when_full() && self.park.as_ref().is_some_and(has_no_room)
    }

    async fn confirm(&self, key: Key, mut queue: Vec<Pending>) -> Vec<usize> {
        queue.sort_by(|a, b| a.sort.cmp(&b.sort));
        let failed: BTreeSet<usize> =
            queue.iter().filter(|it| it.failed).map(|it| it.record).collect();
        for at in &failed {
            self.outcomes[*at].set(Outcome::Failed);
        }
        if self.goes_past_park(&key) {
            // Nothing is held, so what only queues behind runs.
            let (failed, behind): (Vec<Pending>, Vec<Pending>) =
                queue.into_iter().partition(|it| it.failed);
            self.send_alone(&failed).await;
            return behind.into_iter().map(|it| it.record).collect();
        }
        // Both have to confirm: the table last, since its row is what is found at a repeat.
        let sent = Box::pin(self.durable.send(&queue, (self.call, self.deadline))).await;
        queue.truncate(sent);
        let Some(park) = &self.park else {
            for it in &queue {
                self.outcomes[it.record].set(Outcome::Parked);
            }
            return Vec::new();
        };
        if !queue.is_empty() && !self.deadline.has_time_to_write() {
            telemetry::park_failed(self.call, "ParkOutOfTime", &OutOfTime);
            return Vec::new();
        }
        let sent: Vec<usize> = queue.iter().map(|it| it.record).collect();
        let began = self.deadline.now();
        let times = (self.call.request_id.as_str(), began, self.deadline.ends());
        let (confirmed, ended) = Box::pin(park.confirm(&key, queue, &self.holds, times)).await;
        self.deadline.learn_call(began);
        let mut measures = self.measures.borrow_mut();
        for at in confirmed.parked {
            self.outcomes[at].set(Outcome::Parked);
            measures.held += u64::from(!failed.contains(&at));
        }
        for at in confirmed.known {
            self.outcomes[at].set(Outcome::AlreadyApplied);
        }
        drop(measures);
        match ended {
            Ok(()) => {}
            // It was full after all. What is not parked is where the destination is by now.
            Err(ParkError::Full) if self.durable.sends_when_full() => {
                let is_unfinished = |at: &usize| !self.outcomes[*at].get().is_finished();
                self.sent_alone(&sent.into_iter().filter(is_unfinished).collect::<Vec<_>>());
            }
            Err(error) => telemetry::park_failed(self.call, error.code(), &error),
        }
        confirmed.lifted
    }

    /// Sends records for which the park has no room to the destination alone.
    async fn send_alone(&self, failed: &[Pending]) {
        let sent = Box::pin(self.durable.send(failed, (self.call, self.deadline))).await;
        let sent: Vec<usize> = failed[..sent].iter().map(|it| it.record).collect();
        self.sent_alone(&sent);
    }

    fn sent_alone(&self, records: &[usize]) {
        for at in records {
            self.outcomes[*at].set(Outcome::Parked);
            telemetry::sent_past_park(&self.records[*at], self.call);
        }
        self.measures.borrow_mut().sent_past_park += records.len() as u64;
    }
}
