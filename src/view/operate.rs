//! What an operator asks of the views.

use super::{
    generation::Asked,
    quarantine::{self, Wanted},
    served::Served,
};
use crate::{
    call::{Call, Halt},
    operation::{Operation, Selection},
};
use serde::Serialize;
use serde_json::Value;

impl Served {
    /// Carries an operation out.
    ///
    /// # Errors
    /// It is one of a processor's, it names what is not there, or a store does not answer.
    pub(super) async fn carry_out(
        &self,
        operation: &Operation,
        #[cfg_attr(not(feature = "backfill"), expect(unused, reason = "for a diff"))] asked: Asked<
            '_,
        >,
        call: &Call,
    ) -> Result<Value, Halt> {
        match operation {
            Operation::List(selection) => self.list(selection, call).await.map(told),
            #[cfg(feature = "backfill")]
            Operation::Reconcile(request) => self.reconcile_asked(request, call).await.map(told),
            #[cfg(feature = "backfill")]
            Operation::Backfill(step) => self.backfill(step, call).await,
            #[cfg(feature = "backfill")]
            Operation::Verify(request) => self.verify_asked(request, call).await.map(told),
            #[cfg(feature = "backfill")]
            Operation::Repair(request) => self.repair_asked(request, call).await.map(told),
            #[cfg(feature = "backfill")]
            Operation::Diff(diff) => self.diff(diff, asked, call).await.map(told),
            #[cfg(feature = "backfill")]
            Operation::Switch(switch) => self.switch(switch, call).await.map(told),
            #[cfg(feature = "backfill")]
            Operation::DropView(drop) => self.drop_view(drop, call).await.map(told),
            #[cfg(feature = "backfill")]
            Operation::Replay(replay) => self.replay(replay, call).await.map(told),
            #[cfg(not(feature = "backfill"))]
            Operation::Diff(_)
            | Operation::Switch(_)
            | Operation::DropView(_)
            | Operation::Reconcile(_)
            | Operation::Backfill(_)
            | Operation::Verify(_)
            | Operation::Repair(_)
            | Operation::Replay(_) => Err(Halt::new(
                "OperationUnsupported",
                "this function was built without the feature `backfill`: build it with \
                 `infra/package.sh lambda lambda,backfill`",
            )),
            Operation::Show(_) | Operation::Redrive(_) | Operation::Drop(_) => Err(only_listed()),
        }
    }

    /// Lists what is quarantined; a view has no parked records.
    async fn list(&self, selection: &Selection, call: &Call) -> Result<quarantine::Page, Halt> {
        let wanted = Wanted::of(selection)?;
        let names = self.names();
        let (store, table) = (&self.store, &self.ledger_table);
        quarantine::page(store, table, &names, &wanted, call.deadline).await.map_err(|error| {
            Halt::new("LedgerUnreadable", "the ledger does not answer").caused_by(error)
        })
    }
}

fn told(answer: impl Serialize) -> Value {
    serde_json::to_value(answer).expect("texts and numbers are JSON")
}

fn only_listed() -> Halt {
    Halt::new(
        "OperationUnsupported",
        "views park no records: what they cannot evaluate is quarantined in the ledger, can be \
         listed with `list`, and comes back by itself with the item's next good change",
    )
}
