//! The function on its harness: the mapping's target, which also serves the operator.
//!
//! There are two builds of the function over the same tables, before and after the fix; which
//! one an invocation meets depends on when it begins. Batches of the operator's shard are
//! requests to the same function. Beside the desk's faults an invocation may die here at any
//! turn: the desk's crashes strike the first store calls, and a redrive makes many.

use super::{
    checker::{Asked, Checker, Kind},
    consumers::Turns,
    script::{FIRST, IDLE, OPERATIONS, OPERATOR, Settings},
    scripted::{Scripted, pause},
    wire::Broken,
};
use bytes::Bytes;
use changefold::{
    batch::{Work, lanes::Lanes},
    call::{Call, Halt, Measures},
    event,
    handler::Function,
    local::target::{FunctionError, Target},
    operation::{self, Operation, Redrive, Selection},
    outcome::{Answer, Outcome},
    record::Source,
    recovery::durable::OnUnkeyed,
};
use futures_util::future::{FutureExt, LocalBoxFuture};
use serde_json::Value;
use std::{
    cell::{Cell, RefCell},
    pin::pin,
    sync::Arc,
    task::Poll,
};

/// Turns that an operator waits at most: the function may be stuck.
const PATIENCE: u32 = 300;

type Build<const STRICT: bool> = Function<Lanes<Scripted<STRICT>>>;

pub(crate) struct Harness {
    pub(crate) before: Build<true>,
    pub(crate) after: Build<false>,
    pub(crate) checker: Arc<Checker>,
    pub(crate) settings: Settings,
    pub(crate) rng: RefCell<fastrand::Rng>,
    /// The fix is deployed after so many effects, or, if records that kill hold them up, after
    /// so many batches.
    pub(crate) fixed_at: (usize, u32),
    pub(crate) delivered: Cell<u32>,
    /// Another consumer beside this one.
    pub(crate) turns: Option<Turns>,
    pub(crate) broken: Option<Broken>,
}

impl Target for Harness {
    fn invoke(
        &self,
        payload: Bytes,
        call: Call,
    ) -> LocalBoxFuture<'_, Result<Bytes, FunctionError>> {
        async move {
            let event: Value = serde_json::from_slice(&payload).unwrap();
            let records = event["Records"].as_array().unwrap();
            let answer = if key(&records[0]).starts_with(OPERATOR) {
                let asked = records.iter().filter(|it| !key(it).starts_with(IDLE)).count();
                self.serve_operator(asked, &call).await
            } else {
                self.deliver(&payload, records, call).await
            };
            answer.ok_or_else(|| FunctionError::unhandled("it died"))
        }
        .boxed_local()
    }
}

fn key(record: &Value) -> &str {
    let of_item = record["dynamodb"]["Keys"]["pk"]["S"].as_str();
    let of_item = of_item.or(record["kinesis"]["partitionKey"].as_str());
    of_item.unwrap_or_default() // a message, or a key that cannot be read
}

fn number(record: &Value) -> &str {
    let of_item = record["dynamodb"]["SequenceNumber"].as_str();
    let of_item = of_item.or(record["kinesis"]["sequenceNumber"].as_str());
    of_item.or(record["messageId"].as_str()).unwrap()
}

/// In which form a record comes: a message by the count of its receipts.
fn form(record: &Value) -> u32 {
    let count = record["attributes"]["ApproximateReceiveCount"].as_str();
    count.map_or(FIRST, |count| count.parse().unwrap())
}

impl Harness {
    async fn deliver(&self, payload: &[u8], records: &[Value], call: Call) -> Option<Bytes> {
        self.delivered.update(|delivered| delivered + 1);
        let (effects, batches) = self.fixed_at;
        if self.checker.effects() >= effects || self.delivered.get() >= batches {
            self.checker.fix(true);
        }
        let forms: Vec<u32> = records.iter().map(form).collect();
        let records = records.iter().map(|it| self.checker.script.find(number(it)).unwrap());
        let records: Vec<usize> = records.collect();
        let beside = self.beside(&records);
        let invocation = Under::begin(&self.checker, Kind::Live, records);
        let halts = !self.checker.is_fixed() && self.settings.unkeyed == Some(OnUnkeyed::Halt);
        self.checker.note_forms(invocation.number, forms, halts && self.settings.holds);
        let invoked = self.invoke_once(payload, call.clone(), &invocation, 25);
        let answer = match beside {
            None => invoked.await,
            Some(redrive) => self.race(invoked, self.redrive(redrive, &call)).await,
        };
        let answer = answer?.map_err(|halt| self.note_halt(&halt)).ok()?;
        let answer = serde_json::to_value(answer).unwrap();
        self.checker.replied(invocation.number, &answer);
        Some(answer.to_string().into())
    }

    fn note_halt(&self, halt: &Halt) {
        if halt.message.contains("CHANGEFOLD_ON_UNKEYED") {
            self.checker.count("halted by a key that cannot be read");
        }
    }

    /// A message of the mapping: these records of a shard, among them the ones it gave up, are
    /// read again. Tells whether all of them are safe.
    pub(crate) async fn rescue(&self, records: &[usize], condition: &str, call: &Call) -> bool {
        let invocation = Under::begin(&self.checker, Kind::Rescue, records.to_vec());
        let texts = records.iter().map(|at| self.checker.script.text(*at, FIRST + 1));
        let texts: Vec<_> = texts.collect();
        let event = format!(r#"{{"Records":[{}]}}"#, texts.join(","));
        self.checker.note_forms(invocation.number, vec![FIRST + 1; records.len()], false);
        let batch = event::parse(event.as_bytes());
        let batch = batch.records().unwrap();
        let mut outcomes = vec![Outcome::default(); batch.len()];
        let mut measures = Measures::default();
        let call = invocation.call_of(call);
        let by = (condition, &call);
        let rescued = if self.checker.is_fixed() {
            self.after.work().rescue(batch, &mut outcomes, &mut measures, by).left_future()
        } else {
            self.before.work().rescue(batch, &mut outcomes, &mut measures, by).right_future()
        };
        if self.polled(Box::pin(rescued), &invocation, 12).await.is_none_or(|it| it.is_err()) {
            return false;
        }
        let finished: Vec<bool> = outcomes.iter().map(|it| it.is_finished()).collect();
        self.checker.rescued(invocation.number, &finished);
        finished.iter().all(|is_finished| *is_finished)
    }

    /// Sometimes an operator redrives a key while its records are delivered.
    fn beside(&self, records: &[usize]) -> Option<Redrive> {
        let mut rng = self.rng.borrow_mut();
        if rng.u32(..if self.checker.is_fixed() { 5 } else { 30 }) > 0 {
            return None;
        }
        let key = self.checker.script.records[*rng.choice(records)?].key;
        let name = if self.settings.source == Source::DynamoDb { "pk=key" } else { "key" };
        Some(Redrive { keys: vec![format!("{name}-{key}")], ..Redrive::default() })
    }

    /// Runs an invocation beside a redrive, turn by turn as the seed has it.
    async fn race<T>(
        &self,
        live: impl Future<Output = Option<T>>,
        redrive: impl Future<Output = Option<Value>>,
    ) -> Option<T> {
        let (mut live, mut redrive) = (pin!(live), pin!(redrive));
        let (mut answer, mut is_redriven) = (None, false);
        let pace = self.rng.borrow_mut().u32(1..10);
        std::future::poll_fn(|context| {
            let is_lives_turn = self.rng.borrow_mut().u32(..10) < pace;
            let is_both = self.rng.borrow_mut().u32(..3) == 0;
            if answer.is_none() && (is_lives_turn || is_both || is_redriven) {
                match live.as_mut().poll(context) {
                    Poll::Ready(None) => return Poll::Ready(None),
                    Poll::Ready(Some(done)) => answer = Some(done),
                    Poll::Pending => {}
                }
            }
            if !is_redriven && (!is_lives_turn || is_both || answer.is_some()) {
                is_redriven = redrive.as_mut().poll(context).is_ready();
            }
            if answer.is_some() && is_redriven {
                return Poll::Ready(answer.take());
            }
            // Who was left out has its turn later; only when both wait, time may pass.
            if !is_both {
                context.waker().wake_by_ref();
            }
            Poll::Pending
        })
        .await
    }

    /// One invocation, which may die on its way: one in `of` does so by chance.
    async fn invoke_once(
        &self,
        payload: &[u8],
        call: Call,
        invocation: &Under<'_>,
        of: u32,
    ) -> Option<Result<Answer, Halt>> {
        let call = invocation.call_of(&call);
        let invoked = if self.checker.is_fixed() {
            self.after.invoke(payload, &call).left_future()
        } else {
            self.before.invoke(payload, &call).right_future()
        };
        self.polled(invoked, invocation, of).await
    }

    async fn polled<T>(
        &self,
        work: impl Future<Output = T>,
        invocation: &Under<'_>,
        of: u32,
    ) -> Option<T> {
        let mut dies_in = {
            let mut rng = self.rng.borrow_mut();
            let dies = self.settings.faults && rng.u32(..of) == 0;
            if dies { 1 + rng.u32(..60) } else { u32::MAX }
        };
        let mut work = pin!(work);
        std::future::poll_fn(|context| {
            if let Some(turns) = &self.turns {
                let mut rng = self.rng.borrow_mut();
                if turns.is_with_the_other(context, &mut rng) {
                    return Poll::Pending;
                }
            }
            dies_in -= 1;
            if dies_in == 0 {
                self.checker.count("died");
                return Poll::Ready(None);
            }
            self.checker.turn_of(Some(invocation.number));
            let polled = work.as_mut().poll(context);
            self.checker.turn_of(None);
            if self.checker.is_killed(invocation.number) {
                self.checker.count("killed by its record");
                return Poll::Ready(None);
            }
            polled.map(Some)
        })
        .await
    }

    /// The operator's requests, one after another.
    pub(crate) async fn serve_operator(&self, requests: usize, call: &Call) -> Option<Bytes> {
        for _ in 0..requests {
            self.wait().await;
            let choice = self.rng.borrow_mut().u32(..20);
            match choice {
                0 => {
                    let shown = self.operate(Operation::Show(Selection::default()), call).await?;
                    self.checker.look_at_copies(&shown);
                }
                1 => {
                    let listed = self.operate(Operation::List(Selection::default()), call).await?;
                    let keys = listed["parked"].as_array().into_iter().flatten().take(1);
                    let keys = keys.map(|it| it["key"].as_str().unwrap().to_owned()).collect();
                    self.redrive(Redrive { keys, ..Redrive::default() }, call).await?;
                }
                2 => {
                    let error_code = Some("ProcessorPark".to_owned());
                    self.redrive(Redrive { error_code, ..Redrive::default() }, call).await?;
                }
                3 => {
                    self.redrive(Redrive { dry_run: true, ..Redrive::default() }, call).await?;
                }
                4..8 => {
                    let limit = Some(choice as usize - 3);
                    self.redrive(Redrive { limit, ..Redrive::default() }, call).await?;
                }
                8..10 if self.settings.drops => {
                    self.drop_some(call).await?;
                }
                _ => {
                    self.redrive(Redrive::default(), call).await?;
                }
            }
        }
        Some(Bytes::from_static(br#"{"batchItemFailures":[]}"#))
    }

    /// Lets the function get on for a while: requests come all through the run.
    async fn wait(&self) {
        let records = self.checker.script.records.len();
        let gap = self.rng.borrow_mut().usize(..=2 * records / OPERATIONS);
        let until = self.checker.effects() + gap;
        for _ in 0..PATIENCE {
            if self.checker.effects() >= until {
                return;
            }
            pause(1).await;
        }
    }

    /// Drops a few records of some key: the first ones, a certain one, or all.
    async fn drop_some(&self, call: &Call) -> Option<Value> {
        let listed = self.operate(Operation::List(Selection::default()), call).await?;
        let chosen = {
            let mut rng = self.rng.borrow_mut();
            let chosen = rng.choice(listed["parked"].as_array()?)?;
            let number = chosen["sequence_number"].as_str()?.to_owned();
            let choice = rng.u8(..5);
            let limit = (choice < 3).then(|| rng.usize(1..3));
            (chosen["key"].as_str()?.to_owned(), (choice == 3).then_some(number), limit)
        };
        let (key, sequence_number, limit) = chosen;
        let keys = vec![key];
        let selection = Selection { keys, sequence_number, limit, ..Selection::default() };
        self.operate(Operation::Drop(operation::Drop { selection, yes: true }), call).await
    }

    pub(crate) async fn redrive(&self, redrive: Redrive, call: &Call) -> Option<Value> {
        self.checker.count("redrives");
        // Once nothing kills any more, what killed is asked for as well.
        let crashed = redrive.crashed || self.checker.is_curse_lifted();
        let superseded = redrive.superseded || !self.settings.holds;
        self.operate(Operation::Redrive(Redrive { superseded, crashed, ..redrive }), call).await
    }

    pub(crate) async fn operate(&self, mut operation: Operation, call: &Call) -> Option<Value> {
        let invocation = Under::begin(&self.checker, Kind::Redrive, Vec::new());
        self.checker.note_asked(invocation.number, Asked::of(&operation));
        match &mut operation {
            Operation::Drop(drop) if self.broken == Some(Broken::LimitIgnored) => {
                drop.selection.limit = None;
            }
            Operation::Redrive(redrive) if self.broken == Some(Broken::OvertakenUnchecked) => {
                redrive.superseded = true;
            }
            _ => {}
        }
        let event = operation::event(operation);
        let answer = Box::pin(self.invoke_once(&event, call.clone(), &invocation, 8)).await;
        if self.checker.is_killed(invocation.number) {
            self.checker.count("a redrive ended by its record");
        }
        match answer? {
            Ok(Answer::Operation(answer)) => {
                let shown = answer["parked"].as_array().into_iter().flatten();
                for it in shown.filter(|it| it["record_omitted"].is_object()) {
                    self.checker.violated("operator", it["record_omitted"].to_string());
                }
                self.checker.redriven(invocation.number, &answer);
                Some(answer)
            }
            Ok(Answer::Reply(reply)) => {
                self.checker.violated("operator", format!("answered by {reply:?}"));
                None
            }
            Err(_) => {
                self.checker.count("operations refused");
                None
            }
        }
    }
}

/// An invocation under way: if it is dropped, it has died.
struct Under<'w> {
    checker: &'w Checker,
    number: usize,
}

impl<'w> Under<'w> {
    fn begin(checker: &'w Checker, kind: Kind, records: Vec<usize>) -> Self {
        Self { checker, number: checker.begin(kind, records) }
    }

    fn call_of(&self, call: &Call) -> Call {
        Call { request_id: format!("{}-{}", call.request_id, self.number), ..call.clone() }
    }
}

impl Drop for Under<'_> {
    fn drop(&mut self) {
        self.checker.died(self.number);
    }
}
