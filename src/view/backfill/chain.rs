//! A run that continues itself: links, each an asynchronous invocation that works until shortly
//! before its deadline and then invokes the next.
//!
//! Lambda delivers an asynchronous event at least once, so a link may come twice, late, or not at
//! all. Before it works a link takes its number by a conditional write on the run's row: the
//! number has to be the next one. So of all copies one works, there is one chain at a time
//! whoever starts it how often, and each link is paid for out of a stated maximum. A link that
//! dies ends its chain, since nobody invokes the next; whoever starts it again takes a number
//! too, and what the dead one may still have sent is refused.
//!
//! Nothing that is exact rests on it: two links at work at the same time bring the same items
//! in, and each comes in once. What it gives up: a chain works on one segment at a time, and a
//! link that waits for the rates is paid for while it waits.

use super::{Look, OfViews, portion::stopped_by, run::Run};
use crate::{
    call::{Call, Halt},
    operation::{
        self, Operation,
        backfill::{
            Backfill, OfTable, Portion, Stopped,
            chain::{
                Chain, ChainStatus, Chained, LINKS_MAX_DEFAULT, Link, LinkFailure, Reason,
                StartChain,
            },
        },
    },
    record::Timestamp,
    telemetry::{self, Chain as Causes},
    view::{served::Served, source_table::SourceTable},
};
use std::time::Duration;

/// Time kept at a link's end for its row and the next invocation, in milliseconds, if it has
/// that much: an eighth of its time at most.
const END_MS: i64 = 3_000;
/// How long Lambda may take to begin the next link before it counts as lost, in milliseconds.
const NEXT_MS: i64 = 60_000;
/// By so much clocks may differ before a link that is alive counts as dead. To be wrong costs a
/// link's price, and no more.
const SKEW_MS: i64 = 5_000;
/// So many links in a row may bring nothing forward: a pause for a throttled table lasts a minute
/// at most, which is twelve links of five seconds.
const IDLE_MAX: u32 = 50;
/// How long a link waits for a segment that others work on, in milliseconds.
const LEASED_MS: u64 = 2_000;
/// How long it waits at least after a store did not do what it was asked.
const TROUBLE_MS: u64 = 1_000;
/// Of what links could not do so many codes are kept; all are counted.
const CODES_MAX: usize = 10;
/// More characters of a reason are not kept.
const CHARS_MAX: usize = 300;

/// What a request may do with the chain: go on with it, or nothing.
type Allowed = Result<(), Reason>;

impl Served {
    /// Carries out one request of a chain.
    ///
    /// # Errors
    /// There is no run to go on with, the next link cannot be invoked, or a store refuses.
    pub(super) async fn chain(&self, chain: &Chain, call: &Call) -> Result<Chained, Halt> {
        let told = match chain {
            Chain::Start(start) => self.start_chain(start, call).await,
            Chain::Continue(of) => self.continue_chain(of, call).await,
            Chain::Link(link) => Box::pin(self.link(link, call)).await,
        }?;
        // That a schedule finds nothing to do is no news.
        if let (Some(reason), Chain::Link(_)) = (&told.refused, chain) {
            telemetry::link_refused(call, &reason.code);
        }
        Ok(told)
    }

    async fn start_chain(&self, start: &StartChain, call: &Call) -> Result<Chained, Halt> {
        let links_max = start.links_max.unwrap_or(LINKS_MAX_DEFAULT);
        if links_max == 0 {
            return Err(Halt::new("BackfillInvalid", "a chain has at least one link"));
        }
        let source = self.source_table(&start.table, call.deadline).await?;
        let Some(run) = self.run_of(&source.arn, call.deadline).await? else {
            let message = format!("no run over {} was begun: begin one first", source.name());
            return Err(Halt::new("RunMissing", message));
        };
        let me = self.call_id(call);
        let look = |run: &mut Run, now: i64| {
            let former = run.chain.take().unwrap_or_default();
            if let Some(reason) = refused_by(run).or_else(|| former.is_alive(now)) {
                run.chain = Some(former);
                return Err(reason);
            }
            // What links of a former chain have sent is not the next number any more.
            let link = if former.link_max == 0 { 0 } else { former.link + 1 };
            run.chain = Some(ChainStatus {
                link,
                link_max: link.saturating_add(links_max),
                taken_by: me.clone(),
                due_ms: now,
                ..ChainStatus::default()
            });
            Ok(())
        };
        self.send_after(&source, &run.id, (&me, look), call).await
    }

    /// Goes on with a chain whose last link has died.
    async fn continue_chain(&self, of: &OfTable, call: &Call) -> Result<Chained, Halt> {
        let source = self.source_table(&of.table, call.deadline).await?;
        let Some(run) = self.run_of(&source.arn, call.deadline).await? else {
            return Ok(refused(no_chain()));
        };
        let me = self.call_id(call);
        let look = |run: &mut Run, now: i64| {
            if let Some(reason) = refused_by(run) {
                return Err(reason);
            }
            let Some(chain) = &mut run.chain else { return Err(no_chain()) };
            let over = chain.ended.clone().or_else(|| chain.is_alive(now));
            if let Some(reason) = over {
                return Err(reason);
            }
            let dead = chain.link;
            chain.note("LinkDied", &format!("link {dead} ended without invoking the next one"));
            chain.idle += 1;
            (chain.link, chain.taken_by, chain.due_ms) = (dead + 1, me.clone(), now);
            chain.end_if_spent();
            Ok(())
        };
        self.send_after(&source, &run.id, (&me, look), call).await
    }

    /// Takes a number for the chain, without work, and invokes the next link.
    async fn send_after(
        &self,
        source: &SourceTable<'_>,
        run: &str,
        (me, look): (&str, impl Fn(&mut Run, i64) -> Allowed),
        call: &Call,
    ) -> Result<Chained, Halt> {
        let chain = match self.take(source, run, (me, look), call).await? {
            Ok(chain) => chain,
            Err(told) => return Ok(told),
        };
        let told = Chained { link: Some(chain.link), ..Chained::default() };
        self.send(source, (run, me), (chain, told), call).await
    }

    /// Works as one link of a chain, if the link is the next.
    async fn link(&self, link: &Link, call: &Call) -> Result<Chained, Halt> {
        let source = self.source_table(&link.table, call.deadline).await?;
        let me = self.call_id(call);
        let look = |run: &mut Run, _: i64| {
            let state = refused_by(run);
            let Some(chain) = &mut run.chain else { return Err(no_chain()) };
            let reason = chain.ended.clone().or(state).or_else(|| chain.is_not_next(link.number));
            if let Some(reason) = reason {
                return Err(reason);
            }
            chain.link = link.number;
            (chain.taken_by, chain.due_ms) = (me.clone(), call.deadline.0);
            Ok(())
        };
        let began = self.usage();
        let taken = self.take(&source, &link.run, (&me, look), call).await?;
        let mut chain = match taken {
            Ok(chain) => chain,
            Err(told) => return Ok(told),
        };
        let mut told = Chained { link: Some(chain.link), ..Chained::default() };
        let worked = self.portions(link, call, (&mut chain, &mut told)).await;
        let used = self.usage().since(began);
        (told.read_units, told.write_units) = (used.read_units, used.write_units);
        if let Err(halt) = &worked {
            chain.note_halt(halt);
            chain.idle += 1;
        }
        let is_whole = worked.is_ok();
        let ended = self.end_link(&source, (&link.run, &me), (&chain, is_whole), call).await;
        worked?;
        let Some(chain) = ended? else { return Ok(told) };
        self.send(&source, (&link.run, &me), (chain, told), call).await
    }

    /// Works on portions of free segments until shortly before the deadline.
    async fn portions(
        &self,
        link: &Link,
        call: &Call,
        (chain, told): (&mut ChainStatus, &mut Chained),
    ) -> Result<(), Halt> {
        let clock = self.store.clock();
        let Timestamp(began) = clock.now();
        let kept = (call.deadline.0.saturating_sub(began) / 8).clamp(0, END_MS);
        let portion_call =
            Call { deadline: Timestamp(call.deadline.0.saturating_sub(kept)), ..call.clone() };
        // What is begun has an eighth of the time too; less is not worth its lookups.
        let last = portion_call.deadline.0.saturating_sub(kept);
        let mut has_gone_on = false;
        loop {
            let portion =
                Portion { table: link.table.clone(), run: link.run.clone(), ..Portion::default() };
            let worked = Box::pin(self.work_on(&portion, &portion_call)).await?;
            has_gone_on |=
                worked.counts.scanned > 0 || worked.stopped == Some(Stopped::SegmentDone);
            chain.idle = if has_gone_on { 0 } else { chain.idle };
            told.counts.add(worked.counts);
            told.stopped = worked.stopped;
            let pause_ms = match worked.stopped {
                Some(Stopped::AllDone | Stopped::Units | Stopped::Stopped) => return Ok(()),
                Some(Stopped::Rate) => worked.wait_ms.max(1),
                Some(Stopped::Leased) => LEASED_MS,
                Some(stopped @ (Stopped::Throttled | Stopped::Unanswered)) => {
                    chain.note_trouble(stopped);
                    worked.wait_ms.max(TROUBLE_MS)
                }
                _ => worked.wait_ms,
            };
            let Timestamp(now) = clock.now();
            let left_ms = u64::try_from(last.saturating_sub(now)).unwrap_or_default();
            if pause_ms > 0 {
                clock.sleep(Duration::from_millis(pause_ms.min(left_ms))).await;
            }
            if pause_ms >= left_ms {
                chain.idle += u32::from(!has_gone_on);
                return Ok(());
            }
        }
    }

    /// Writes what became of a link; the chain, if another link is to follow.
    async fn end_link(
        &self,
        source: &SourceTable<'_>,
        (run, me): (&str, &str),
        (chain, is_whole): (&ChainStatus, bool),
        call: &Call,
    ) -> Result<Option<ChainStatus>, Halt> {
        let look = |found: &mut Run| {
            let is_mine = |found: &ChainStatus| found.link == chain.link && found.taken_by == me;
            if !found.chain.as_ref().is_some_and(is_mine) {
                // Somebody has taken the chain over, and invokes its links.
                return Look::Keep(None);
            }
            let Timestamp(now) = self.store.clock().now();
            let over = refused_by(found);
            let mut chain = chain.clone();
            chain.ended = over.or(found.chain.as_ref().and_then(|chain| chain.ended.clone()));
            chain.due_ms = if is_whole { now.saturating_add(NEXT_MS) } else { now };
            chain.end_if_spent();
            found.chain = Some(chain.clone());
            Look::Write(Some(chain))
        };
        Ok(self.update((source, run), OfViews::None, look, call.deadline).await?.flatten())
    }

    /// Invokes the next link, unless the chain has ended.
    async fn send(
        &self,
        source: &SourceTable<'_>,
        (run, me): (&str, &str),
        (chain, mut told): (ChainStatus, Chained),
        call: &Call,
    ) -> Result<Chained, Halt> {
        if chain.ended.is_some() {
            told.chain = Some(chain);
            return Ok(told);
        }
        let number = chain.link + 1;
        let link = Link { table: source.arn.clone(), run: run.to_owned(), number };
        let event = operation::event(Operation::Backfill(Backfill::Chain(Chain::Link(link))));
        let Err(halt) = self.invoke_later(event, call).await else {
            told.next = Some(number);
            told.chain = Some(chain);
            return Ok(told);
        };
        let mut failed = chain;
        failed.note_halt(&halt);
        drop(self.end_link(source, (run, me), (&failed, false), call).await);
        Err(halt)
    }

    async fn invoke_later(&self, event: Vec<u8>, call: &Call) -> Result<(), Halt> {
        let Some(invoker) = &self.invoker else {
            let message = "this function cannot invoke itself: it knows no Lambda. A deployed \
                 function built with the feature `backfill` does";
            return Err(Halt::new("InvokerMissing", message));
        };
        let Some(function) = &call.function_arn else {
            return Err(Halt::new("InvokerMissing", "nobody has told this function its ARN"));
        };
        invoker.invoke_later(function, event, call.deadline).await.map_err(|error| {
            let message = "the next link of the backfill cannot be invoked: may the function \
                 invoke itself (lambda:InvokeFunction, in the template the parameter \
                 BackfillChain)? Start the chain again then";
            Halt::new("LinkUnsent", message).caused_by(error)
        })
    }

    /// Changes the chain as the look says, under the run's revision. If the look refuses, what is
    /// to be answered.
    async fn take(
        &self,
        source: &SourceTable<'_>,
        run: &str,
        (me, look): (&str, impl Fn(&mut Run, i64) -> Allowed),
        call: &Call,
    ) -> Result<Result<ChainStatus, Chained>, Halt> {
        let take = |found: &mut Run| {
            // Written before, and only the answer was lost.
            if let Some(mine) = found.chain.take_if(|chain| chain.taken_by == me) {
                return Look::Keep(Ok(mine));
            }
            let Timestamp(now) = self.store.clock().now();
            let allowed = look(found, now);
            match (allowed, found.chain.clone()) {
                (Ok(()), Some(chain)) => Look::Write(Ok(chain)),
                (Ok(()), None) => Look::Keep(Err(refused(no_chain()))),
                (Err(reason), chain) => Look::Keep(Err(Chained { chain, ..refused(reason) })),
            }
        };
        let Some(taken) = self.update((source, run), OfViews::None, take, call.deadline).await?
        else {
            let message = "the run is not the current one of its table any more";
            return Ok(Err(refused(reason("RunNotCurrent", message))));
        };
        Ok(taken)
    }
}

impl ChainStatus {
    /// Takes note of what a link could not do.
    fn note(&mut self, code: &str, reason: &str) {
        self.failed += 1;
        let reason = reason.chars().take(CHARS_MAX).collect();
        let (link, code) = (self.link, code.to_owned());
        match self.failures.iter().position(|it| it.code == code) {
            Some(at) => {
                let it = &mut self.failures[at];
                (it.reason, it.link, it.count) = (reason, link, it.count + 1);
            }
            None if self.failures.len() < CODES_MAX => {
                self.failures.push(LinkFailure { code, reason, count: 1, link });
            }
            None => {}
        }
    }

    fn note_halt(&mut self, halt: &Halt) {
        let cause = halt.source.as_deref().map(|cause| format!(": {}", Causes(cause)));
        self.note(halt.code, &format!("{}{}", halt.message, cause.unwrap_or_default()));
    }

    fn note_trouble(&mut self, stopped: Stopped) {
        match stopped {
            Stopped::Throttled => self.note("StoreThrottled", "a table throttles: the run waits"),
            _ => self.note("StoreUnavailable", "a table does not answer"),
        }
    }

    /// Ends the chain if there may not be another link.
    fn end_if_spent(&mut self) {
        let ended = if self.ended.is_some() {
            return;
        } else if self.link >= self.link_max {
            reason("LinksUsedUp", "all links are used up: start the chain again to go on")
        } else if self.idle >= IDLE_MAX {
            let message = "no link has brought anything forward for long: `failures` says why";
            reason("NoProgress", message)
        } else {
            return;
        };
        self.ended = Some(ended);
    }

    /// Says why nobody else may go on with it: its last link is at work, or the next is due.
    fn is_alive(&self, now: i64) -> Option<Reason> {
        let is_alive =
            self.ended.is_none() && self.link_max > 0 && now <= self.due_ms.saturating_add(SKEW_MS);
        let message = || format!("link {} is at work, or the next one is under way", self.link);
        is_alive.then(|| reason("ChainRunning", message()))
    }

    /// Says why a link of this number does not work.
    fn is_not_next(&self, number: u64) -> Option<Reason> {
        let (next, max) = (self.link + 1, self.link_max);
        if number != next {
            let message = format!("link {number} is not the next one, which is {next}");
            return Some(reason("LinkNotNext", message));
        }
        let message = || format!("link {number} is beyond the maximum, which is {max}");
        (number > max).then(|| reason("LinksUsedUp", message()))
    }
}

/// Says why no link works on a run in this state.
fn refused_by(run: &Run) -> Option<Reason> {
    if run.export.is_some() {
        let message = "the run reads an export, whose items a command gives it";
        return Some(reason("RunReadsExport", message));
    }
    Some(match stopped_by(run.state)? {
        Stopped::AllDone => reason("AllDone", "every segment is read to its end"),
        Stopped::Units => reason("UnitsUsedUp", "the run has used up its units"),
        _ => reason("RunStopped", "the run was stopped"),
    })
}

/// Ends the chain of a run that was stopped: what its links have sent works on nothing, even if
/// the run goes on by then.
pub(super) fn end_stopped(run: &mut Run) {
    let state = refused_by(run);
    if let Some(chain) = run.chain.as_mut().filter(|chain| chain.ended.is_none()) {
        chain.ended = state;
    }
}

fn reason(code: &str, message: impl Into<String>) -> Reason {
    Reason { code: code.to_owned(), message: message.into() }
}

fn no_chain() -> Reason {
    reason("NoChain", "no chain was started for this run")
}

fn refused(reason: Reason) -> Chained {
    Chained { refused: Some(reason), ..Chained::default() }
}
