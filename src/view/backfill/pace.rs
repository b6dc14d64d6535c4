//! The bucket that all segments of a run take from: one row, changed under its revision.
//!
//! What a step will cost is taken before it, as an estimate, and put right by what the stores
//! said it cost when the next step is taken for; so a call that dies has taken too much and
//! never too little.

use super::bucket::{Bucket, Cost, Leave, Limits};
use crate::{
    record::Timestamp,
    store::{
        Item, Store, StoreError, Tries, Trouble,
        rows::{Change, number, number_of, text, text_of},
    },
    view::{building, source_item::LEDGER_KEY},
};

/// One call's way to the bucket of its run.
#[derive(Debug)]
pub(super) struct Pace<'p> {
    store: &'p Store,
    table: &'p str,
    key: String,
    limits: Limits,
    /// What this call signs its changes with, and how many there were.
    owner: &'p str,
    changes: u64,
    /// What was taken and is not used yet.
    taken: Cost,
    /// What the bucket does not know of yet.
    unsettled: Cost,
    /// Whether something went through since it was throttled, as far as this call knows.
    went_through: bool,
}

/// Attribute that says who made the last change: after a lost answer, whether it was ours.
const BY: &str = "changed_by";

impl<'p> Pace<'p> {
    pub(super) fn new(
        (store, table): (&'p Store, &'p str),
        source: &str,
        limits: Limits,
        owner: &'p str,
    ) -> Self {
        let (taken, unsettled) = (Cost::default(), Cost::default());
        let (key, went_through) = (building::pace_key(source), false);
        Self { store, table, key, limits, owner, changes: 0, taken, unsettled, went_through }
    }

    /// Makes the bucket full, and counts from nothing.
    ///
    /// # Errors
    /// The store does not answer.
    pub(super) async fn reset(&self, deadline: Timestamp) -> Result<(), StoreError> {
        let bucket = Bucket::full(&self.limits, self.store.clock().now());
        self.store.change(&Change::put(self.table, self.row(&bucket, 0, "")), deadline).await
    }

    /// Takes what a step will cost.
    ///
    /// # Errors
    /// The store does not answer.
    pub(super) async fn take(
        &mut self,
        cost: Cost,
        deadline: Timestamp,
    ) -> Result<Leave, StoreError> {
        let take = |bucket: &mut Bucket, limits: &Limits, now| {
            let leave = bucket.take(limits, now, cost);
            (leave, leave == Leave::Granted)
        };
        let leave = self.change(deadline, take).await?;
        if leave == Leave::Granted {
            self.taken = self.taken.plus(cost);
        }
        Ok(leave)
    }

    /// Says what the steps that were taken for have cost.
    pub(super) fn spent(&mut self, cost: Cost) {
        self.unsettled = self.unsettled.plus(cost.minus(self.taken));
        self.taken = Cost::default();
        self.went_through = true;
    }

    /// A store has throttled the run: all of it gives way.
    ///
    /// # Errors
    /// The store does not answer.
    pub(super) async fn throttled(&mut self, deadline: Timestamp) -> Result<(), StoreError> {
        self.went_through = false;
        self.change(deadline, |bucket, _, now| (bucket.throttled(now), true)).await
    }

    /// Tells the bucket what it does not know yet, and what the run has used in all.
    ///
    /// # Errors
    /// The store does not answer.
    pub(super) async fn settle(&mut self, deadline: Timestamp) -> Result<Cost, StoreError> {
        self.change(deadline, |bucket, _, _| (bucket.used, true)).await
    }

    /// Reads what a run has used in all.
    ///
    /// # Errors
    /// The store does not answer.
    pub(super) async fn used(&self, deadline: Timestamp) -> Result<Cost, StoreError> {
        Ok(self.read(deadline).await?.bucket.used)
    }

    async fn read(&self, deadline: Timestamp) -> Result<Kept, StoreError> {
        let row = self.store.get(self.table, LEDGER_KEY, &self.key, deadline).await?;
        let row = row.unwrap_or_default();
        let full = || Bucket::full(&self.limits, self.store.clock().now());
        let revision = number_of(&row, "rev").unwrap_or_default();
        let by = text_of(&row, BY).unwrap_or_default().to_owned();
        Ok(Kept { bucket: Bucket::read(&row).unwrap_or_else(full), revision, by })
    }

    /// Changes the bucket under its revision, if the change says that it is one.
    async fn change<T>(
        &mut self,
        deadline: Timestamp,
        change: impl Fn(&mut Bucket, &Limits, Timestamp) -> (T, bool),
    ) -> Result<T, StoreError> {
        self.changes += 1;
        let signature = format!("{}/{}", self.owner, self.changes);
        let mut tries = Tries::new(deadline);
        let mut told_before = None;
        loop {
            let Kept { mut bucket, revision, by } = self.read(deadline).await?;
            if let Some(told) = told_before.filter(|_| by == signature) {
                self.unsettled = Cost::default();
                return Ok(told);
            }
            bucket.settle(self.unsettled);
            if self.went_through {
                bucket.went_through();
            }
            let (told, is_change) = change(&mut bucket, &self.limits, self.store.clock().now());
            if !is_change {
                return Ok(told);
            }
            let put = Change::put(self.table, self.row(&bucket, revision, &signature))
                .only_if("attribute_not_exists(pk) OR rev = :rev")
                .value(":rev", number(revision));
            match self.store.change(&put, deadline).await {
                Ok(()) => {
                    self.unsettled = Cost::default();
                    return Ok(told);
                }
                Err(error) if error.trouble == Trouble::Guard => {
                    told_before = Some(told);
                    if !self.store.back_off(&mut tries).await {
                        return Err(error);
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn row(&self, bucket: &Bucket, revision: u64, signature: &str) -> Item {
        let mut row = Item::from([
            (LEDGER_KEY.to_owned(), text(&self.key)),
            ("rev".to_owned(), number(revision + 1)),
            (BY.to_owned(), text(signature)),
        ]);
        bucket.write(&mut row);
        row
    }
}

/// The bucket as it is kept.
struct Kept {
    bucket: Bucket,
    revision: u64,
    by: String,
}
