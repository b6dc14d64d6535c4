//! A hundred views changed beside live traffic, and what goes wrong without each rule.

use super::{
    SEEDS,
    play::{
        Setup,
        generations::{Changed, change},
    },
    seeds,
    wire::{Broken, Troubles},
};

fn setup(seed: u64) -> Setup {
    let small = Setup::small(seed);
    let troubles = Troubles { throttled: 60, conflict: 40, lost_answer: 60 };
    let hands = small.hands.min(2);
    let items = small.items / 3;
    Setup { items, hands, changes: 30, stalls: 25, troubles, ..small }
}

#[test]
fn views_change_beside_live_traffic_and_two_versions_of_the_function() {
    let (mut looks, mut plays) = (0, 0);
    for seed in seeds() {
        let Changed { looks: some, differences } = change(setup(seed));
        assert_eq!(differences, Vec::<String>::new(), "SIM_SEED={seed}");
        (looks, plays) = (looks + some, plays + 1);
    }
    assert!(looks > plays * 5, "readers have looked only {looks} times");
}

#[track_caller]
fn is_caught(broken: Broken) {
    let is_wrong = |seed| !change(setup(seed).broken(broken)).differences.is_empty();
    assert!((0..SEEDS).any(is_wrong), "it went unnoticed in {SEEDS} seeds");
}

#[test]
fn control_a_function_that_does_not_ask_what_is_served_leaves_items_out() {
    is_caught(Broken::RegistryNotReread);
}

#[test]
fn control_a_backfill_that_does_not_wait_leaves_items_out() {
    is_caught(Broken::GenerationNotAwaited);
}

#[test]
fn control_a_generation_that_takes_late_copies_of_what_was_finished_before_goes_back() {
    is_caught(Broken::GenerationNotFenced);
}

#[test]
fn control_a_drop_that_does_not_wait_leaves_rows_behind() {
    // Few invocations freeze just between what they read and what they write: this asks for many.
    let setup = |seed| Setup { changes: 120, ..setup(seed) }.broken(Broken::DropNotAwaited);
    let is_left = |seed| {
        let Changed { differences, .. } = change(setup(seed));
        differences.iter().any(|told| told.contains("left"))
    };
    assert!((0..SEEDS).any(is_left), "it went unnoticed in {SEEDS} seeds");
}
