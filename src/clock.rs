//! Time enters the function here and nowhere else.

use crate::record::Timestamp;
use futures_util::future::{BoxFuture, FutureExt};
use std::{fmt, time::Duration};

/// Tells and passes time; the desk's is virtual.
pub trait Clock: fmt::Debug + Send + Sync {
    /// The present moment.
    fn now(&self) -> Timestamp;
    /// Waits; in virtual time it takes none.
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()>;
    /// Waits for a moment to come by itself. Unlike [`sleep`](Self::sleep) it does not make
    /// virtual time pass: it watches over what does, and over work that takes real time.
    fn watch(&self, moment: Timestamp) -> BoxFuture<'static, ()>;
}

/// The machine's own clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the rim: the one place that reads the clock")]
    fn now(&self) -> Timestamp {
        let since_epoch =
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Timestamp(i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX))
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        tokio::time::sleep(duration).boxed()
    }

    fn watch(&self, Timestamp(moment): Timestamp) -> BoxFuture<'static, ()> {
        let Timestamp(now) = self.now();
        let left = u64::try_from(moment.saturating_sub(now)).unwrap_or(0);
        self.sleep(Duration::from_millis(left))
    }
}
