//! Nothing is lost and no key is out of order, whatever fails: records, functions, operators.
//!
//! One simulation with the desk's own run loop, mapping and faults. The processor's effects are
//! written down, and records fail in every way there is, until the operator deploys a fix in
//! the middle of the run; redrives race with the live function all the time. The rules stand in
//! `failures/witness.rs`. Every run is repeated from its seed.

mod play;
mod player;
mod script;
mod small;
mod stage;
mod wire;
mod witness;

use crate::support;
use play::play;
use script::Settings;
use std::fmt::Write as _;
use wire::Broken;
use witness::Counts;

const SEEDS: u64 = 500;

/// What must have happened in sum: only then the rules were tried.
const HAPPENED: [&str; 21] = [
    "crash_after_store_call",
    "crash_before_store_call",
    "duplicate_delivery",
    "function_error",
    "lost_answer",
    "lost_reply",
    "throttling",
    "timeout",
    "transaction_conflict",
    "unprocessed_keys",
    "died",
    "killed by its record",
    "parked",
    "parked as crashed",
    "parked as timed out",
    "held",
    "redriven",
    "redriven beside live records of the key",
    "closed",
    "lifted",
    "retried in place",
];

/// What seeds came to in sum.
#[derive(Default)]
struct Sums {
    forgetful: Counts,
    remembering: Counts,
    broken: Vec<String>,
}

impl Sums {
    fn play(&mut self, settings: &Settings) {
        let played = play(settings, None);
        let sum = if settings.remembers { &mut self.remembering } else { &mut self.forgetful };
        add(sum, &played.counts);
        if let Some(first) = played.violations.first() {
            let mut told = format!("SIM_SEED={} {settings:?}: {first}", settings.seed);
            for more in played.violations.iter().skip(1).take(4) {
                write!(told, "\n    {more}").unwrap();
            }
            self.broken.push(told);
        }
    }

    fn join(mut self, other: Self) -> Self {
        add(&mut self.forgetful, &other.forgetful);
        add(&mut self.remembering, &other.remembering);
        self.broken.extend(other.broken);
        self
    }
}

/// Plays seeds on both cores, or the one that `SIM_SEED` names.
fn check_seeds(seeds: u64, settings: impl Fn(u64) -> Settings + Sync) -> Sums {
    if let Some(seed) = support::environment("SIM_SEED") {
        let mut sums = Sums::default();
        sums.play(&settings(seed.parse().unwrap()));
        assert!(sums.broken.is_empty(), "{}", sums.broken.join("\n"));
        return sums;
    }
    let sums = std::thread::scope(|scope| {
        let settings = &settings;
        let of_half = |half: u64| {
            move || {
                let mut sums = Sums::default();
                for seed in (0..seeds).filter(|seed| seed % 2 == half) {
                    sums.play(&settings(seed));
                }
                sums
            }
        };
        let halves: Vec<_> = (0..2).map(|half| scope.spawn(of_half(half))).collect();
        halves.into_iter().map(|half| half.join().unwrap()).fold(Sums::default(), Sums::join)
    });
    assert!(sums.broken.is_empty(), "{} seeds:\n{}", sums.broken.len(), sums.broken.join("\n"));
    sums
}

fn add(sum: &mut Counts, counts: &Counts) {
    for (name, count) in counts {
        *sum.entry(name).or_default() += count;
    }
}

#[test]
#[expect(clippy::print_stdout, reason = "the numbers are worth reading")]
fn five_hundred_seeds_keep_every_key_in_order_and_lose_nothing() {
    let Sums { forgetful, remembering, .. } = check_seeds(SEEDS, Settings::of);
    let mut all = forgetful.clone();
    add(&mut all, &remembering);
    println!("without progress: {forgetful:#?}\nwith progress: {remembering:#?}");
    let is_one = support::environment("SIM_SEED").is_some();
    for name in HAPPENED.iter().filter(|_| !is_one) {
        assert!(all.get(name).is_some_and(|count| *count > 0), "no `{name}` in {all:?}");
    }
}

/// Without faults an effect comes again only where a reply left finished records to the mapping
/// and nobody remembered them.
#[test]
#[expect(clippy::print_stdout, reason = "the numbers are worth reading")]
fn without_faults_nothing_is_repeated_where_progress_is_kept() {
    let settings = |seed| {
        let remembers = seed / 2 % 2 == 0;
        Settings { faults: false, kills: false, remembers, ..Settings::of(seed) }
    };
    let Sums { forgetful, remembering, .. } = check_seeds(48, settings);
    let repeated = |counts: &Counts| counts.get("repeated").copied().unwrap_or_default();
    println!("repeated without progress: {}", repeated(&forgetful));
    assert_eq!(repeated(&remembering), 0);
    assert!(repeated(&forgetful) > 0 || support::environment("SIM_SEED").is_some());
}

#[test]
fn a_run_repeats_from_its_seed() {
    for seed in [3, 4, 11, 12] {
        let settings = Settings::of(seed);
        assert_eq!(play(&settings, None), play(&settings, None), "SIM_SEED={seed}");
    }
}

/// Breaks the protocol under the same faults: the rule must see it.
#[track_caller]
#[expect(clippy::print_stdout, reason = "how soon is worth reading")]
fn is_caught(broken: Broken, by: &str) {
    for seed in 0..SEEDS {
        let played = play(&Settings::of(seed), Some(broken));
        if let Some(violation) = played.violations.iter().find(|it| it.rule == by) {
            println!("{broken:?} is caught by seed {seed}: {violation}");
            return;
        }
    }
    panic!("{broken:?} went unnoticed in {SEEDS} seeds");
}

// The controls, each with the seed that saw it first when this was written: 11, 2, 78, 91, 1, 0.

/// Trap (a): receipts of redriven records are gone, and a late duplicate runs again. (The other
/// half of the trap, a high-water mark in place of the receipts, is none here: a record below
/// one that was redriven has its effect or its row, by the rule `order`.)
#[test]
fn control_receipts_forgotten() {
    is_caught(Broken::ReceiptsForgotten, "receipt");
}

/// Trap (b): `>` instead of `>=`. The parked record itself is delivered again after the fix, and
/// runs while its copy waits.
#[test]
fn control_from_exclusive() {
    is_caught(Broken::FromExclusive, "receipt");
}

/// Trap (c): a record is parked behind a head that was closed a moment ago. Nobody finds it.
#[test]
fn control_open_unchecked() {
    is_caught(Broken::OpenUnchecked, "lost");
}

/// The other side of it: a key is closed while a record that was parked meanwhile waits there.
#[test]
fn control_close_unchecked() {
    is_caught(Broken::CloseUnchecked, "lost");
}

/// A record counts as parked although its transaction met a conflict.
#[test]
fn control_refusal_taken_for_parked() {
    is_caught(Broken::RefusalTakenForParked, "finished");
}

/// Progress says that records are finished which failed.
#[test]
fn control_tried_marked_finished() {
    is_caught(Broken::TriedMarkedFinished, "finished");
}
