//! The faults that the store calls of one invocation are to meet, and have met.

use super::{Fault, Strike};

/// Armed faults of one invocation. Whoever passes its store calls on asks it at each.
#[derive(Debug, Default)]
pub struct StoreFaults {
    armed: Vec<Armed>,
    struck: Vec<Fault>,
    crashed: bool,
}

#[derive(Debug)]
struct Armed {
    fault: Fault,
    /// How many calls it could strike are let through before.
    skip: u32,
    rng: fastrand::Rng,
}

/// What a store call is, as far as faults can tell calls apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Up to a hundred items, some of which may come back unread.
    BatchRead,
    /// All or nothing.
    Transaction {
        /// Whether it writes.
        write: bool,
    },
    /// One item is written.
    Write,
    /// Anything else.
    Other,
}

impl Operation {
    /// Reads the operation off the header `x-amz-target`.
    #[must_use]
    pub fn of_target(target: &str) -> Self {
        match target.rsplit('.').next().unwrap_or_default() {
            "BatchGetItem" => Self::BatchRead,
            "TransactWriteItems" => Self::Transaction { write: true },
            "TransactGetItems" => Self::Transaction { write: false },
            "PutItem" | "UpdateItem" | "DeleteItem" => Self::Write,
            _ => Self::Other,
        }
    }

    fn can_meet(self, fault: Fault) -> bool {
        match fault {
            Fault::UnprocessedKeys => self == Self::BatchRead,
            Fault::TransactionConflict => matches!(self, Self::Transaction { .. } | Self::Write),
            Fault::LostAnswer => matches!(self, Self::Transaction { write: true } | Self::Write),
            Fault::Throttling | Fault::CrashBeforeStoreCall | Fault::CrashAfterStoreCall => true,
            Fault::FunctionError | Fault::Timeout | Fault::LostReply | Fault::DuplicateDelivery => {
                false
            }
        }
    }
}

impl StoreFaults {
    pub(super) fn arm(&mut self, fault: Fault, skip: u32, rng: fastrand::Rng) {
        self.armed.push(Armed { fault, skip, rng });
    }

    /// What becomes of this call, if a fault meets it.
    pub(in crate::local) fn strike(
        &mut self,
        operation: Operation,
        asked: &[u8],
    ) -> Option<Strike> {
        let (fault, rng) = self.meet(operation)?;
        Some(Strike::of(fault, operation, asked, rng))
    }

    /// The fault this call meets, if any, with its own source of choices.
    pub(super) fn meet(&mut self, operation: Operation) -> Option<(Fault, fastrand::Rng)> {
        if self.crashed {
            return None;
        }
        let at = self.armed.iter().position(|armed| operation.can_meet(armed.fault))?;
        let armed = &mut self.armed[at];
        if armed.skip > 0 {
            armed.skip -= 1;
            return None;
        }
        let Armed { fault, rng, .. } = self.armed.remove(at);
        self.struck.push(fault);
        Some((fault, rng))
    }

    /// A fault that was met could not strike after all.
    pub(in crate::local) fn take_back(&mut self, fault: Fault, rng: fastrand::Rng) {
        if let Some(at) = self.struck.iter().rposition(|struck| *struck == fault) {
            self.struck.remove(at);
            self.arm(fault, 0, rng);
        }
    }

    /// The process is dead: nobody will read another answer.
    pub(in crate::local) fn crash(&mut self) {
        self.crashed = true;
    }

    /// Whether a fault has killed the process.
    pub(in crate::local) fn is_crashed(&self) -> bool {
        self.crashed
    }

    /// Ends the invocation: what struck, and what did not.
    pub(in crate::local) fn finish(&mut self) -> (Vec<Fault>, Vec<Fault>) {
        let left = self.armed.drain(..).map(|armed| armed.fault).collect();
        (std::mem::take(&mut self.struck), left)
    }
}
