//! Giving parked records up, for good.
//!
//! Which records of a key go is the operator's choice: those that stay keep the key open, and
//! run in their order at the next redrive. A key is named by its text, which several sources
//! may share, so where more than one has it the source has to be said.

use super::{Operator, Runner, Wanted, cursor::Cursor};
use crate::{
    call::Halt,
    deadline::Deadline,
    operation::{Drop, LIMIT_DEFAULT, Redriven, Stopped},
    recovery::park::{inventory::ParkedKey, rows::Fate},
    telemetry,
};
use std::collections::{BTreeMap, BTreeSet};

impl<R: Runner> Operator<'_, R> {
    /// Drops records up to the limit and the deadline, key by key.
    pub(super) async fn discard(&self, drop: &Drop) -> Result<Redriven, Halt> {
        let selection = &drop.selection;
        if !drop.yes || selection.keys.is_empty() {
            return Err(Halt::new(
                "DropNotConfirmed",
                "records are dropped by their keys, and with `yes` only",
            ));
        }
        let deadline = Deadline::new(self.clock, self.call);
        let (wanted, cursor) =
            (Wanted::of_selection(selection), Cursor::read(selection.cursor.as_deref())?);
        let keys = self.keys(&wanted, &cursor).await?;
        refuse_ambiguous(&keys)?;
        let mut room = selection.limit.unwrap_or(LIMIT_DEFAULT);
        let mut dropped = Redriven::default();
        let mut keys = keys.into_iter();
        for parked in keys.by_ref() {
            let mut left = parked.parked;
            let mut read = cursor.after(&parked.key.hash).map(str::to_owned);
            let leased = if room > 0 && !deadline.is_late() {
                self.lease(&parked).await?
            } else {
                dropped.stopped = Some(if room == 0 { Stopped::Limit } else { Stopped::Deadline });
                Ok(())
            };
            if let Err(refused) = leased {
                dropped.failed.push(refused);
                dropped.left += left;
                dropped.left_behind += left;
                continue;
            }
            if dropped.stopped.is_none() {
                let (stopped, taken) =
                    self.discard_key(&parked, (&wanted, &deadline), (&mut room, &mut read)).await?;
                dropped.stopped = stopped;
                dropped.done += taken;
                left = left.saturating_sub(taken);
                self.park.release(&parked.key, &self.owner, self.call.deadline).await;
            }
            dropped.left += left;
            if dropped.stopped.is_some() {
                dropped.cursor = Self::cut(&parked, read.as_deref());
                break;
            }
            dropped.left_behind += left;
        }
        dropped.left += keys.map(|parked| parked.parked).sum::<u64>();
        if dropped.cursor.is_none() {
            dropped.left_behind = 0;
        }
        Ok(dropped)
    }

    /// Drops records of one key; tells why it stopped before the end, and how many went.
    async fn discard_key(
        &self,
        parked: &ParkedKey,
        (wanted, deadline): (&Wanted<'_>, &Deadline<'_>),
        (room, read): (&mut usize, &mut Option<String>),
    ) -> Result<(Option<Stopped>, u64), Halt> {
        let mut taken = 0;
        loop {
            let page = self.page(parked, read.as_deref()).await?;
            for row in page.rows.into_iter().flatten() {
                if wanted.has_row(&row) {
                    if *room == 0 {
                        return Ok((Some(Stopped::Limit), taken));
                    }
                    if deadline.is_late() {
                        return Ok((Some(Stopped::Deadline), taken));
                    }
                    let began = deadline.now();
                    let is_out = self.take_out(parked, &row, Fate::Dropped).await?.is_some();
                    deadline.learn_call(began);
                    if !is_out {
                        // The lease is somebody else's now: it is theirs to say what is left.
                        return Ok((None, taken));
                    }
                    (*room, taken) = (*room - 1, taken + 1);
                    telemetry::parked_record_dropped(self.call, &row.envelope);
                }
                *read = Some(row.sort);
            }
            let Some(more_after) = page.more_after else { return Ok((None, taken)) };
            *read = Some(more_after);
        }
    }
}

/// One text in several sources is several keys, and only one may be meant.
fn refuse_ambiguous(keys: &[ParkedKey]) -> Result<(), Halt> {
    let mut sources: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for ParkedKey { key, .. } in keys {
        sources.entry(&key.readable).or_default().insert(&key.source_arn);
    }
    let Some(several) = sources.into_values().find(|sources| sources.len() > 1) else {
        return Ok(());
    };
    let several: Vec<&str> = several.into_iter().collect();
    let several = several.join(" and ");
    let message = format!("a key is parked from {several}: name the `source` of what to drop");
    Err(Halt::new("KeyAmbiguous", message))
}
