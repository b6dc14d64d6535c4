//! The processor: does what each record tells it to, and makes its effect known at the end.
//!
//! The effect is made outside of the store, at the moment of success: whatever is lost after
//! it makes it again. `STRICT` is the build before the operator's fix, which cannot read some
//! records; the others fail until the fix is deployed.

use super::checker::Checker;
use changefold::{
    clock::Clock,
    processor::{Context, Failure, Processor},
    record::Change,
};
use serde::{Deserialize, Deserializer, de::Error as _};
use std::{sync::Arc, task::Poll, time::Duration};

/// Longer than any invocation.
const HANGS: Duration = Duration::from_mins(10);
/// A record that hangs does so this often.
const HANGS_TRIES: u32 = 4;

pub(crate) struct Scripted<const STRICT: bool> {
    pub(crate) checker: Arc<Checker>,
    pub(crate) clock: Arc<dyn Clock>,
}

/// What a record says.
pub(crate) struct Line<const STRICT: bool> {
    n: usize,
    fate: String,
}

impl<'de, const STRICT: bool> Deserialize<'de> for Line<STRICT> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Written {
            n: usize,
            fate: String,
        }
        let Written { n, fate } = Written::deserialize(deserializer)?;
        if STRICT && fate == "unreadable" {
            return Err(D::Error::custom("this build cannot read it"));
        }
        Ok(Self { n, fate })
    }
}

impl<const STRICT: bool> Processor for Scripted<STRICT> {
    type Item<'a> = Line<STRICT>;

    async fn process(
        &self,
        change: Change<Line<STRICT>>,
        context: &Context<'_>,
    ) -> Result<(), Failure> {
        let Line { n, fate } = change.new_image().unwrap();
        let is_the_one = self.checker.knows(*n, context);
        let tries = self.checker.attempt(*n, is_the_one);
        let transient = || {
            self.checker.failed_transiently(*n);
            Failure::retry("not yet").with_code(CODES[n % CODES.len()])
        };
        let (kind, amount) = fate.split_once(':').unwrap_or((fate, "0"));
        let amount: u32 = amount.parse().unwrap();
        let is_fixed = self.checker.is_fixed();
        match kind {
            "ok" => pause(amount).await,
            "slow" => self.sleep(Duration::from_millis(amount.into())).await,
            "flaky" if tries <= amount && !self.checker.is_after_the_run() => {
                pause(1).await;
                return Err(transient());
            }
            "mixed" if !self.checker.is_after_the_run() => {
                pause(1).await;
                if tries <= amount / 10 {
                    return Err(transient());
                }
                if tries <= amount / 10 + amount % 10 {
                    return Err(std::fmt::Error.into());
                }
            }
            "hang" if !is_fixed && tries <= HANGS_TRIES => self.sleep(HANGS).await,
            "park" if !is_fixed => {
                pause(1).await;
                return Err(Failure::park("told to"));
            }
            "error" if !is_fixed => return Err(std::fmt::Error.into()),
            "panic" if !is_fixed => std::panic::resume_unwind(Box::new("told to")),
            "killer" if !is_fixed => self.die(*n).await,
            "cursed" if !self.checker.is_curse_lifted() => self.die(*n).await,
            _ => {}
        }
        self.checker.effect(*n);
        Ok(())
    }
}

/// More than one, so that only sometimes everything seems to be down.
const CODES: [&str; 3] = ["DownA", "DownB", "DownC"];

impl<const STRICT: bool> Scripted<STRICT> {
    /// Ends the process, and with it the invocation.
    async fn die(&self, at: usize) {
        self.checker.kill(at);
        std::future::pending::<()>().await;
    }

    async fn sleep(&self, length: Duration) {
        if !self.checker.is_after_the_run() {
            self.clock.sleep(length).await;
        }
    }
}

/// Lets others go first so often.
pub(crate) async fn pause(mut times: u32) {
    std::future::poll_fn(|context| {
        if times == 0 {
            return Poll::Ready(());
        }
        times -= 1;
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
