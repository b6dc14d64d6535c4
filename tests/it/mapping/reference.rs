//! The rules of AWS's mapping once more, as plainly as they can be said: recursion over
//! lists, one sub-lane, one call after the other. The oracle for call sequences.

use super::run::{Answer, Call, Discarded, History};
use changefold::local::mapping::{Condition, Millis, Parameters};

pub(super) fn reference(
    parameters: &Parameters,
    backlog: &[u64],
    answer: impl FnMut(&[u64]) -> (Answer, Millis),
) -> History {
    let mut lane = Lane {
        parameters,
        answer,
        now: 0,
        completed: 0,
        held: vec![],
        history: History::default(),
    };
    for batch in backlog.chunks(parameters.batch_size) {
        if batch.len() < parameters.batch_size {
            let window = Millis::from(parameters.maximum_batching_window_s) * 1000;
            lane.now = lane.now.max(lane.completed + window);
        }
        lane.work(batch);
        lane.release();
    }
    lane.history
}

struct Lane<'a, F> {
    parameters: &'a Parameters,
    answer: F,
    now: Millis,
    completed: Millis,
    held: Vec<Discarded>,
    history: History,
}

impl<F: FnMut(&[u64]) -> (Answer, Millis)> Lane<'_, F> {
    fn work(&mut self, item: &[u64]) {
        let (mut attempts, mut tries) = (0, 0);
        loop {
            let age_max = self.parameters.maximum_record_age_s;
            if age_max.is_some_and(|seconds| self.now > Millis::from(seconds) * 1000) {
                return self.discard(item, attempts, Condition::RecordAgeExceeded, None);
            }
            self.history.calls.push(Call { at: self.now, records: item.to_vec() });
            let (answer, duration) = (self.answer)(item);
            self.now += duration;
            self.completed = self.now;
            tries += 1;
            let error = match answer {
                Answer::Succeed => return,
                Answer::Report(_) if !self.parameters.report_batch_item_failures => return,
                Answer::Report(index) if index.min(item.len() - 1) > 0 => {
                    return self.work(&item[index.min(item.len() - 1)..]);
                }
                Answer::Report(_) => None,
                Answer::Throw => Some("Unhandled"),
                Answer::Throttle => {
                    self.back_off(tries);
                    continue;
                }
            };
            attempts += 1;
            if self.parameters.bisect_batch_on_function_error && item.len() > 1 {
                self.history.bisects += 1;
                let (left, right) = item.split_at(item.len() / 2);
                self.work(left);
                return self.work(right);
            }
            if self.parameters.maximum_retry_attempts.is_some_and(|retries| attempts > retries) {
                return self.discard(item, attempts, Condition::RetryAttemptsExhausted, error);
            }
            self.back_off(tries);
        }
    }

    fn back_off(&mut self, tries: u32) {
        let seconds_and_more = 200 * 2_u64.pow(tries.min(20) - 1);
        self.now += seconds_and_more.min(60_000);
    }

    fn discard(
        &mut self,
        item: &[u64],
        attempts: u32,
        condition: Condition,
        function_error: Option<&'static str>,
    ) {
        self.held.push(Discarded {
            at: 0,
            records: item.to_vec(),
            count: attempts.max(1),
            condition,
            function_error,
        });
    }

    /// What was given up in one batch is told when the batch is over.
    fn release(&mut self) {
        for discarded in self.held.drain(..) {
            self.history.discarded.push(Discarded { at: self.now, ..discarded });
        }
    }
}
