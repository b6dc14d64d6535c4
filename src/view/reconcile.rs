//! One item brought from its source into the views, whatever the ledger says of it.
//!
//! This is what a repair, a new view in a running source and the release of an item from
//! quarantine are made of. The order is the whole of it: the ledger's row is read first, then
//! the source, both consistently, and then the row is replaced at the revision that was read.
//!
//! - What the source gives cannot be older than what the row says, so an item moves forward.
//! - Whoever wrote the row meanwhile makes the transaction fail, and both are read again.
//! - The version stays. So a record that is under way still counts as newer, and goes in.
//! - Except for those that were created before the source was read (and its slack): what was
//!   read contains them. Without that fence, a late copy of a record from before a lost one would
//!   take the item back for good.
//!
//! What it gives up: an item that is equal already is written all the same, for the fence: two
//! write units, and two for each row of a projection. Whoever has many compares first.

use super::{
    building, generation,
    ledger::{Basis, Candidate, Fate, Known, Ledger, ledger_unread},
    served::Served,
    source_table::{Found, SourceTable},
};
use crate::{
    call::{Call, Halt},
    concurrent,
    operation::backfill::{NotDone, ReconcileRequest, Reconciled},
    record::Timestamp,
    store::{Item, StoreError, Tries, Trouble, json::item_from_json},
    telemetry,
};

/// What became of an item that was to be reconciled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The views have the item as its source has it.
    Done,
    /// It cannot be brought in, and why not.
    NotDone(NotDone),
    /// There was no time for it.
    Unfinished(StoreError),
}

/// Where an item's ledger row is, and its key for people.
#[derive(Debug, Clone, Default)]
struct Row {
    pk: String,
    key: String,
}

/// What became of a candidate, or why the store refuses it.
type Written = (Option<Fate>, Option<NotDone>);

impl Served {
    /// Brings the items with these keys from their source into the views; an item that is no
    /// longer there goes out of them. Every item has an outcome of its own, in the order of
    /// the keys.
    ///
    /// # Errors
    /// The source or the ledger refuses to be read: it is not there, or may not be read.
    pub(crate) async fn reconcile(
        &self,
        source: &SourceTable<'_>,
        keys: &[Item],
        deadline: Timestamp,
    ) -> Result<Vec<Outcome>, Halt> {
        let mut outcomes: Vec<Option<Outcome>> = vec![None; keys.len()];
        // The row's key follows from the item's key alone.
        let absent = |key: &Item| Found { key: key.clone(), item: None, basis: Basis::Scan };
        let absent: Vec<Found> = keys.iter().map(absent).collect();
        let mut rows = vec![Row::default(); keys.len()];
        let now = self.store.clock().now();
        for (at, candidate) in self.candidates(source, &absent, now)?.into_iter().enumerate() {
            match candidate {
                Ok(candidate) => rows[at] = Row { pk: candidate.pk, key: candidate.key },
                Err(not_done) => outcomes[at] = Some(Outcome::NotDone(not_done)),
            }
        }
        let mut tries = Tries::new(deadline);
        loop {
            let pending: Vec<usize> =
                (0..keys.len()).filter(|&at| outcomes[at].is_none()).collect();
            if pending.is_empty() {
                break;
            }
            let asked = (keys, &*rows);
            let error =
                self.reconcile_once(source, asked, &pending, &mut outcomes, deadline).await?;
            let is_left = outcomes.iter().any(Option::is_none);
            let error = error.or_else(|| self.ledger().late(deadline));
            if let Some(error) = error.filter(|_| is_left)
                && !self.store.back_off(&mut tries).await
            {
                let left = outcomes.iter_mut().filter(|outcome| outcome.is_none());
                left.for_each(|outcome| *outcome = Some(Outcome::Unfinished(error.clone())));
            }
        }
        Ok(outcomes.into_iter().flatten().collect())
    }

    /// Ledger, source, transaction: once. What stays without an outcome was overtaken.
    async fn reconcile_once(
        &self,
        source: &SourceTable<'_>,
        (keys, rows): (&[Item], &[Row]),
        pending: &[usize],
        outcomes: &mut [Option<Outcome>],
        deadline: Timestamp,
    ) -> Result<Option<StoreError>, Halt> {
        let ledger = self.ledger();
        let mut wanted: std::collections::BTreeSet<String> =
            pending.iter().map(|&at| rows[at].pk.clone()).collect();
        wanted.insert(building::run_key(&source.arn));
        let mut known = match ledger.read(wanted, deadline).await {
            Ok(known) => known,
            Err(error) if error.trouble == Trouble::Rejected => return Err(ledger_unread(error)),
            Err(error) => return Ok(Some(error)),
        };
        let reads = pending
            .iter()
            .map(|&at| source.store.get_dated(&source.table, keys[at].clone(), deadline));
        let reads = match concurrent::all_or_error(reads).await {
            Ok(reads) => reads,
            Err(error) if error.trouble == Trouble::Rejected => {
                return Err(source.unreadable(error));
            }
            Err(error) => return Ok(Some(error)),
        };
        // Records from before a generation's first are not for it, and what is read before its
        // first read may lack some of them.
        let from = self.groups[source.group].from;
        let is_early = |read: Timestamp| from.is_some_and(|from| !generation::may_read(from, read));
        for ((_, read), &at) in reads.iter().zip(pending) {
            outcomes[at] = is_early(*read).then(|| Outcome::NotDone(too_early(&rows[at].key)));
        }
        let found: Vec<Found> = reads
            .into_iter()
            .zip(pending)
            .filter(|((_, read), _)| !is_early(*read))
            .map(|((item, read), &at)| Found {
                key: keys[at].clone(),
                item,
                basis: Basis::Source { read },
            })
            .collect();
        let mut candidates = Vec::new();
        let mut places = Vec::new();
        let made = self.candidates(source, &found, self.store.clock().now())?;
        let pending: Vec<usize> =
            pending.iter().copied().filter(|&at| outcomes[at].is_none()).collect();
        for (candidate, &at) in made.into_iter().zip(&pending) {
            match candidate {
                Ok(candidate) => {
                    candidates.push(candidate);
                    places.push(at);
                }
                Err(not_done) => outcomes[at] = Some(Outcome::NotDone(not_done)),
            }
        }
        match ledger.read_mirrors(candidates.iter(), &mut known, deadline).await {
            Ok(()) => {}
            Err(error) if error.trouble == Trouble::Rejected => return Err(ledger_unread(error)),
            Err(error) => return Ok(Some(error)),
        }
        let (fates, last_error) = self.write_each(&ledger, &candidates, &known, deadline).await?;
        for ((fate, refused), &at) in fates.into_iter().zip(&places) {
            outcomes[at] = match (fate, refused) {
                (_, Some(not_done)) => Some(Outcome::NotDone(not_done)),
                (Some(Fate::Applied | Fate::AlreadyApplied), None) => Some(Outcome::Done),
                (Some(Fate::Unfinished(_) | Fate::InPart) | None, None) => None,
            };
        }
        Ok(last_error)
    }

    /// Writes all candidates once, at the revisions that are known. One that the store refuses
    /// is told of, and the others do not suffer for it.
    async fn write_each(
        &self,
        ledger: &Ledger<'_>,
        candidates: &[Candidate],
        known: &Known,
        deadline: Timestamp,
    ) -> Result<(Vec<Written>, Option<StoreError>), Halt> {
        let mut fates: Vec<Option<Fate>> = vec![None; candidates.len()];
        let mut refusals: Vec<Option<NotDone>> = vec![None; candidates.len()];
        let all: Vec<usize> = (0..candidates.len()).collect();
        let written = ledger.write(candidates, &all, (known, &mut fates), deadline).await;
        let mut last_error = match written {
            Ok(error) => error,
            Err(error) if !is_of_one_item(&error) => return Err(ledger_unread(error)),
            Err(error) => Some(error),
        };
        if last_error.as_ref().is_some_and(|error| error.trouble == Trouble::Rejected) {
            for at in all {
                if fates[at].is_some() {
                    continue;
                }
                match ledger.write(candidates, &[at], (known, &mut fates), deadline).await {
                    Ok(error) => last_error = error.or(last_error),
                    Err(error) => refusals[at] = Some(refused(&candidates[at].key, &error)),
                }
            }
        }
        let settled = ledger.settle_joins(candidates, &mut fates, deadline).await;
        settled.map_err(ledger_unread)?;
        Ok((fates.into_iter().zip(refusals).collect(), last_error))
    }

    /// Reconciles what an operator names.
    pub(super) async fn reconcile_asked(
        &self,
        request: &ReconcileRequest,
        call: &Call,
    ) -> Result<Reconciled, Halt> {
        let source = self.source_table(&request.table, call.deadline).await?;
        let keys: Result<Vec<Item>, Halt> = request
            .keys
            .iter()
            .map(|key| {
                let key = item_from_json(key).unwrap_or_default();
                let whole = source.key_of(&key)?;
                if whole.len() == key.len() { Ok(whole) } else { source.key_of(&Item::new()) }
            })
            .collect();
        let keys = keys?;
        let mut outcomes = vec![Outcome::Done; keys.len()];
        for source in self.in_each_group(&source) {
            let of_group = self.reconcile(&source, &keys, call.deadline).await?;
            for (outcome, of_group) in outcomes.iter_mut().zip(of_group) {
                if *outcome == Outcome::Done {
                    *outcome = of_group;
                }
            }
        }
        let mut told = Reconciled::default();
        for outcome in outcomes {
            match outcome {
                Outcome::Done => told.done += 1,
                Outcome::NotDone(not_done) => told.not_done.push(not_done),
                Outcome::Unfinished(error) => {
                    telemetry::store_unfinished(&error);
                    told.unfinished += 1;
                }
            }
        }
        Ok(told)
    }
}

/// Whether a store refuses one item of a request, as opposed to everything: it is too large, or
/// a value of it is.
pub(super) fn is_of_one_item(error: &StoreError) -> bool {
    matches!(&*error.code, "ValidationException" | "TransactionCanceledException")
}

fn too_early(key: &str) -> NotDone {
    NotDone {
        key: key.to_owned(),
        code: "TooEarly".to_owned(),
        reason: "the generation was registered less than a minute ago: ask again then".to_owned(),
    }
}

/// What is told of an item that the store refuses.
pub(super) fn refused(key: &str, error: &StoreError) -> NotDone {
    NotDone { key: key.to_owned(), code: error.code.clone(), reason: error.message.clone() }
}
