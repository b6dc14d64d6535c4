//! Views over a table that has items already: a backfill beside the stream, and repairs.
//!
//! Every interleaving at store calls may come: see `world.rs`. `SIM_SEED=n` plays one seed.

mod chain;
mod checks;
mod command;
pub(crate) mod exported;
mod generations;
#[cfg(feature = "lambda")]
mod links;
mod play;
mod states;
mod steps;
mod traffic;
mod wire;
pub(crate) mod world;

use crate::support;
use changefold::view::building::ViewState;
use play::{Played, Setup};
use std::collections::BTreeMap;
use wire::{Broken, Troubles};

const SEEDS: u64 = 100;

/// The seeds to be played: all, or the one that `SIM_SEED` names.
fn seeds() -> impl Iterator<Item = u64> {
    let one: Option<u64> = support::environment("SIM_SEED").map(|seed| seed.parse().unwrap());
    (0..SEEDS).filter(move |seed| one.is_none_or(|one| one == *seed))
}

#[track_caller]
fn is_exact(setup: Setup, play: impl Fn(Setup) -> Played) -> Played {
    let played = play(setup);
    let told = played.differences.join("\n");
    assert!(played.differences.is_empty(), "SIM_SEED={}: {setup:?}: {told}", setup.seed);
    played
}

#[test]
fn a_hundred_backfills_beside_the_stream_leave_every_view_exact() {
    let mut met: BTreeMap<&'static str, u64> = BTreeMap::new();
    for seed in seeds() {
        let played = is_exact(Setup::small(seed), play::backfill);
        assert_eq!(played.status.views.len(), 3);
        for view in &played.status.views {
            assert_eq!(view.state, Some(ViewState::Ready), "SIM_SEED={seed}: {:?}", played.status);
        }
        for (what, count) in &played.seen.lock().unwrap().met {
            *met.entry(what).or_default() += count;
        }
    }
    for what in ["throttled", "conflict", "lost_answer"] {
        assert!(met.get(what).is_some_and(|count| *count > 0), "no {what} in {met:?}");
    }
}

/// 200,000 items in 8 segments, 20,000 changes beside them: `tests/backfill.sh`.
#[test]
#[ignore = "it takes minutes; tests/backfill.sh"]
#[expect(clippy::print_stdout, reason = "who waits for minutes wants to read what happened")]
fn large_backfills_beside_the_stream_leave_every_view_exact() {
    for seed in seeds().take(3) {
        let played = is_exact(Setup::large(seed), play::backfill);
        let run = &played.status.runs[0];
        let seen = played.seen.lock().unwrap();
        assert!(seen.died >= 10, "SIM_SEED={seed}: only {} calls were killed", seen.died);
        println!("SIM_SEED={seed}: {} calls killed, {:?}, {run:?}", seen.died, seen.met);
    }
}

#[test]
fn a_hundred_backfills_from_an_export_leave_every_view_exact() {
    let mut known = 0;
    for seed in seeds() {
        let played = is_exact(Setup::exported(seed), play::backfill);
        for view in &played.status.views {
            assert_eq!(view.state, Some(ViewState::Ready), "SIM_SEED={seed}: {:?}", played.status);
        }
        let run = &played.status.runs[0];
        assert_eq!(run.counts.scanned, run.items_expected, "SIM_SEED={seed}: {run:?}");
        known += run.counts.known;
    }
    assert!(known > SEEDS, "only {known} items were known to the ledger before");
}

#[test]
fn control_an_export_from_before_its_run_brings_removed_items_back() {
    let caught = seeds().any(|seed| {
        let played = play::backfill(Setup::exported_too_early(seed));
        !played.differences.is_empty()
    });
    assert!(caught, "it went unnoticed in {SEEDS} seeds");
}

/// A call that comes back after three days, beside those that took its segment over.
#[test]
fn what_a_call_from_the_dead_has_read_does_not_bring_removed_items_back() {
    for seed in seeds().take(20) {
        is_exact(Setup::frozen(seed), play::backfill);
    }
}

#[test]
fn a_hundred_repairs_beside_the_stream_leave_every_view_exact() {
    for seed in seeds() {
        is_exact(Setup::small(seed), play::repair);
    }
}

/// Nothing fails, and the calls of a run take turns: what they use in any second of the world,
/// wherever it begins, is the limit at most. Calls tell what they used at their own moment.
#[test]
fn the_rates_of_a_run_are_kept_in_every_second() {
    for (seed, units_per_s) in [(1, 200), (2, 500), (3, 2_000)] {
        let calm = Setup {
            items: 600,
            changes: 20,
            segments: 4,
            hands: 3,
            units_per_s,
            troubles: Troubles::default(),
            dies: 0,
            worker_dies: (0, 60),
            ahead_ms: 0,
            ..Setup::small(seed)
        };
        let played = is_exact(calm, play::backfill);
        let used = std::mem::take(&mut played.seen.lock().unwrap().used);
        let limit = f64::from(units_per_s);
        for (began, ..) in &used {
            let second = used.iter().filter(|(at, ..)| (*began..began + 1_000).contains(at));
            let sum = second.fold((0.0, 0.0), |(r, w), (_, read, write)| (r + read, w + write));
            assert!(sum.0 <= limit && sum.1 <= limit, "{units_per_s} units/s: {sum:?}");
        }
        let writes: f64 = used.iter().map(|(.., write)| write).sum();
        assert!(writes > 1_200.0, "600 items cost two units each at least: {writes}");
    }
}

/// Breaks one rule under the same faults: the same check must see it.
#[track_caller]
fn is_caught(broken: Broken, setup: impl Fn(u64) -> Setup, play: impl Fn(Setup) -> Played) {
    let caught = seeds().any(|seed| {
        let played = play(setup(seed).broken(broken));
        !played.differences.is_empty()
    });
    assert!(caught, "{broken:?} went unnoticed in {SEEDS} seeds");
}

#[test]
fn control_without_its_condition_a_scan_counts_items_twice() {
    is_caught(Broken::PutWithoutCondition, Setup::small, play::backfill);
}

#[test]
fn control_rows_of_removed_items_that_expire_while_views_are_built_let_them_come_back() {
    is_caught(Broken::TombstonesExpire, Setup::frozen, play::backfill);
}

#[test]
fn control_without_a_fence_late_copies_take_items_back() {
    is_caught(Broken::FenceForgotten, Setup::small, play::repair);
}

#[test]
fn control_a_source_read_before_the_ledger_takes_items_back() {
    is_caught(Broken::SourceFirst, Setup::small, play::repair);
}
