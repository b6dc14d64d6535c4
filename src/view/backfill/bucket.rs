//! How fast a run may go: a token bucket of read units and one of write units, and what the
//! run has used in all.
//!
//! Pure, so that what a limit means can be enumerated. A bucket holds a tenth of a second's
//! units and is filled at eight tenths of the rate. So what is taken in any second at all, not
//! only in those of the clock, is nine tenths of the rate at most; the last tenth is for what is
//! taken in one second and used in the next. What costs more than a bucket holds is let through
//! when it is full, and waited for after that: a limit below what one item costs is kept on the
//! average alone.
//!
//! Amounts are thousandths of a unit: a rate of units a second is as many of them a millisecond.

use crate::{
    record::Timestamp,
    store::Item,
    store::rows::{number, number_of},
};

/// Thousandths of a read unit and of a write unit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Cost {
    pub(super) read: i64,
    pub(super) write: i64,
}

impl Cost {
    /// A cost in units.
    pub(super) fn of_units(read: f64, write: f64) -> Self {
        #[expect(clippy::cast_possible_truncation, reason = "units of a run are far below 2^53")]
        let thousandths = |units: f64| (units * 1_000.0).ceil() as i64;
        Self { read: thousandths(read), write: thousandths(write) }
    }

    pub(super) fn plus(self, other: Self) -> Self {
        Self { read: self.read + other.read, write: self.write + other.write }
    }

    pub(super) fn minus(self, other: Self) -> Self {
        Self { read: self.read - other.read, write: self.write - other.write }
    }
}

/// What a run may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Limits {
    pub(super) read_per_s: u32,
    pub(super) write_per_s: u32,
    /// Units in all, read and written.
    pub(super) units_max: Option<u64>,
}

impl Limits {
    /// What the buckets hold: the most that is used at one moment, and at least a unit.
    pub(super) fn burst(&self) -> Cost {
        let burst = |per_s: u32| (i64::from(per_s) * 100).max(1_000);
        Cost { read: burst(self.read_per_s), write: burst(self.write_per_s) }
    }
}

/// Whether something may be done now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leave {
    /// It may.
    Granted,
    /// Not for so many milliseconds.
    Wait(u64),
    /// Not any more: the units of the run are used up.
    UsedUp,
}

/// The state that all segments of a run share.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Bucket {
    /// When it was last filled.
    at_ms: i64,
    /// What it holds.
    tokens: Cost,
    /// What the run has used.
    pub(super) used: Cost,
    /// Until when the run gives way to others.
    pause_until_ms: i64,
    /// How often in a row it was throttled.
    throttled: u32,
}

/// The first pause after a store has throttled the run, and the longest.
const PAUSE_MS: i64 = 1_000;
const PAUSE_MAX_MS: i64 = 60_000;

/// A clock that is further ahead of ours is not waited for.
const SKEW_MS: i64 = 2_000;

impl Bucket {
    /// A full one.
    pub(super) fn full(limits: &Limits, Timestamp(now): Timestamp) -> Self {
        Self { at_ms: now, tokens: limits.burst(), ..Self::default() }
    }

    /// Takes what something costs, if it may be done now.
    pub(super) fn take(&mut self, limits: &Limits, now: Timestamp, cost: Cost) -> Leave {
        self.fill(limits, now);
        if let Some(units_max) = limits.units_max {
            let used = self.used.plus(cost);
            let max = i64::try_from(units_max).unwrap_or(i64::MAX).saturating_mul(1_000);
            if used.read.saturating_add(used.write) > max {
                return Leave::UsedUp;
            }
        }
        let pause = self.pause_until_ms.saturating_sub(now.0);
        if pause > 0 && pause <= PAUSE_MAX_MS + SKEW_MS {
            return Leave::Wait(pause.unsigned_abs());
        }
        let burst = limits.burst();
        let wait = |tokens: i64, cost: i64, burst: i64, per_s: u32| {
            let missing = cost.min(burst).saturating_sub(tokens).max(0);
            missing.saturating_mul(10).div_euclid(i64::from(per_s.max(1)) * 8)
                + i64::from(missing > 0)
        };
        let read = wait(self.tokens.read, cost.read, burst.read, limits.read_per_s);
        let write = wait(self.tokens.write, cost.write, burst.write, limits.write_per_s);
        let wait = read.max(write);
        if wait > 0 {
            return Leave::Wait(wait.unsigned_abs());
        }
        self.tokens = self.tokens.minus(cost);
        self.used = self.used.plus(cost);
        Leave::Granted
    }

    /// Puts right what was taken by what it did cost.
    pub(super) fn settle(&mut self, more: Cost) {
        self.tokens = self.tokens.minus(more);
        self.used = self.used.plus(more);
    }

    /// Gives way: nothing for a while, and longer each time.
    pub(super) fn throttled(&mut self, Timestamp(now): Timestamp) {
        let pause = PAUSE_MS.saturating_mul(1 << self.throttled.min(10)).min(PAUSE_MAX_MS);
        self.pause_until_ms = now.saturating_add(pause);
        self.throttled = self.throttled.saturating_add(1);
        self.tokens = Cost { read: self.tokens.read.min(0), write: self.tokens.write.min(0) };
    }

    /// Nothing is throttled any more.
    pub(super) fn went_through(&mut self) {
        self.throttled = 0;
    }

    fn fill(&mut self, limits: &Limits, Timestamp(now): Timestamp) {
        if now < self.at_ms && self.at_ms - now <= SKEW_MS {
            return;
        }
        let elapsed = now.saturating_sub(self.at_ms).clamp(0, 60_000);
        self.at_ms = now;
        let burst = limits.burst();
        let filled = |tokens: i64, per_s: u32, burst: i64| {
            tokens.saturating_add(elapsed * i64::from(per_s) * 8 / 10).min(burst)
        };
        self.tokens = Cost {
            read: filled(self.tokens.read, limits.read_per_s, burst.read),
            write: filled(self.tokens.write, limits.write_per_s, burst.write),
        };
    }

    /// As attributes of a row.
    pub(super) fn write(&self, row: &mut Item) {
        let attributes = [
            ("at_ms", number(self.at_ms)),
            ("tokens_read", number(self.tokens.read)),
            ("tokens_write", number(self.tokens.write)),
            ("used_read", number(self.used.read)),
            ("used_write", number(self.used.write)),
            ("pause_until_ms", number(self.pause_until_ms)),
            ("throttled", number(self.throttled)),
        ];
        row.extend(attributes.map(|(name, value)| (name.to_owned(), value)));
    }

    /// Reads what [`write`](Self::write) wrote.
    pub(super) fn read(row: &Item) -> Option<Self> {
        let of = |name: &str| number_of::<i64>(row, name);
        Some(Self {
            at_ms: of("at_ms")?,
            tokens: Cost { read: of("tokens_read")?, write: of("tokens_write")? },
            used: Cost { read: of("used_read")?, write: of("used_write")? },
            pause_until_ms: of("pause_until_ms")?,
            throttled: number_of(row, "throttled")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { read_per_s: 500, write_per_s: 100, units_max: None };

    fn writes(units: i64) -> Cost {
        Cost { read: 0, write: units * 1_000 }
    }

    /// Takes as much as there is leave for; when and how much, in thousandths.
    fn taken(limits: &Limits, costs: &[Cost], until_ms: i64) -> Vec<(i64, Cost)> {
        let mut bucket = Bucket::full(limits, Timestamp(0));
        let (mut now, mut taken) = (0, Vec::new());
        for &cost in costs.iter().cycle() {
            loop {
                match bucket.take(limits, Timestamp(now), cost) {
                    Leave::Granted => break taken.push((now, cost)),
                    Leave::Wait(ms) => now += i64::try_from(ms).unwrap(),
                    Leave::UsedUp => return taken,
                }
                if now > until_ms {
                    return taken;
                }
            }
        }
        taken
    }

    #[test]
    fn in_any_second_no_more_than_the_limit_is_taken() {
        for costs in [&[writes(1)][..], &[writes(10)], &[writes(7), writes(2), writes(10)]] {
            let taken = taken(&LIMITS, costs, 10_000);
            for (began, _) in &taken {
                let second = taken.iter().filter(|(at, _)| (*began..began + 1_000).contains(at));
                let sum: i64 = second.map(|(_, cost)| cost.write).sum();
                assert!(sum <= 90_000, "{costs:?}: {sum} from {began}");
            }
            let all: i64 = taken.iter().map(|(_, cost)| cost.write).sum();
            assert!(all > 750_000, "{costs:?}: eight tenths of the rate are used: {all}");
        }
    }

    #[test]
    fn what_costs_more_than_a_bucket_is_done_and_waited_for() {
        let taken = taken(&LIMITS, &[writes(250)], 10_000);
        let moments: Vec<i64> = taken.iter().map(|(at, _)| *at).collect();
        assert!(moments.len() >= 4 && moments[1] >= 2_600, "{moments:?}");
    }

    #[test]
    fn the_ceiling_is_never_passed() {
        let limits = Limits { units_max: Some(33), ..LIMITS };
        let cost = Cost { read: 1_000, write: 9_000 };
        assert_eq!(taken(&limits, &[cost], 60_000).len(), 3);
    }

    #[test]
    fn a_throttled_run_gives_way_longer_each_time_until_something_goes_through() {
        let mut bucket = Bucket::full(&LIMITS, Timestamp(0));
        let mut pauses = Vec::new();
        for round in 0..8 {
            if round == 7 {
                bucket.went_through();
            }
            bucket.throttled(Timestamp(0));
            let Leave::Wait(ms) = bucket.take(&LIMITS, Timestamp(0), writes(1)) else { panic!() };
            pauses.push(ms);
        }
        assert_eq!(pauses, [1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 1_000]);
    }

    #[test]
    fn a_clock_that_is_ahead_stops_nobody() {
        let mut bucket = Bucket::full(&LIMITS, Timestamp(300_000));
        bucket.throttled(Timestamp(300_000));
        bucket.tokens = Cost::default();
        assert!(
            matches!(bucket.take(&LIMITS, Timestamp(0), writes(1)), Leave::Wait(ms) if ms < 20)
        );
    }

    #[test]
    fn a_bucket_comes_back_from_its_row() {
        let mut bucket = Bucket::full(&LIMITS, Timestamp(7));
        bucket.throttled(Timestamp(9));
        bucket.settle(Cost { read: 3, write: -4 });
        let mut row = Item::new();
        bucket.write(&mut row);
        assert_eq!(Bucket::read(&row), Some(bucket));
    }
}
