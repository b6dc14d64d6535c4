//! A hundred verifications and repairs beside live writes, and what goes wrong without each rule.

use super::{
    SEEDS,
    play::{Setup, checks},
    seeds,
    wire::Broken,
};

/// Pages of a few rows: a walk takes long, and much is written meanwhile.
fn setup(seed: u64) -> Setup {
    let small = Setup::small(seed);
    let (items, changes) = (small.items / 2, small.changes / 3);
    Setup { items, changes, scan_limit: 4, ..small }
}

#[test]
fn a_hundred_verifications_beside_live_writes_raise_no_false_alarm() {
    let (mut walks, mut waits) = (0, 0);
    for seed in seeds() {
        let (told, played) = checks::verify(setup(seed), false);
        let expected: (&[_], &[_]) = (&[], &[]);
        let drift = (&*told.drift, &*played.differences);
        assert_eq!(drift, expected, "SIM_SEED={seed}");
        (walks, waits) = (walks + told.walks, waits + told.waits);
    }
    assert!(walks > SEEDS && waits > SEEDS / 4, "{walks} walks, {waits} waits: nothing was met");
}

#[test]
fn a_hundred_repairs_of_lost_records_and_changed_rows_leave_every_view_exact() {
    let mut mended = 0;
    for seed in seeds() {
        let (told, played) = checks::repair(setup(seed));
        let expected: (&[_], &[_]) = (&[], &[]);
        assert_eq!((&*told.drift, &*played.differences), expected, "SIM_SEED={seed}");
        assert!(told.undecided.is_empty(), "SIM_SEED={seed}: {:?}", told.undecided);
        mended += told.mended;
    }
    assert!(mended > SEEDS, "only {mended} were mended");
}

/// The repair has found an item equal of which several changes are lost; a copy of one comes.
#[test]
fn control_without_the_fence_of_a_repair_late_copies_take_equal_items_back() {
    let setup = |seed| setup(seed).broken(Broken::SourceFenceUnread);
    is_caught(|seed| !checks::repair(setup(seed)).1.differences.is_empty());
}

#[track_caller]
fn is_caught(is_wrong: impl Fn(u64) -> bool) {
    assert!((0..SEEDS).any(is_wrong), "it went unnoticed in {SEEDS} seeds");
}

#[test]
fn control_a_second_look_that_does_not_wait_for_the_stream_raises_a_false_alarm() {
    is_caught(|seed| !checks::verify(setup(seed), true).0.drift.is_empty());
}

#[test]
fn repairs_of_what_is_whole_do_no_harm() {
    for seed in seeds().take(30) {
        let played = checks::repair_for_nothing(setup(seed));
        assert_eq!(played.differences, Vec::<String>::new(), "SIM_SEED={seed}");
    }
}

#[test]
fn control_a_repair_that_reads_the_source_before_the_ledger_ends_wrong() {
    let setup = |seed| setup(seed).broken(Broken::SourceFirst);
    is_caught(|seed| !checks::repair_for_nothing(setup(seed)).differences.is_empty());
}
