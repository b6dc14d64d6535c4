//! Bulk calls over all small sets of bad records, and over batches by chance.

use super::player::{Bench, Keep, NOTHING, PARK, Scripted, Style, event, numbers, scripted};
use crate::support::FOREVER;
use changefold::{outcome::Outcome, recovery::park::OnPark};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

/// What is wrong with effects, each a record and its key, in the order they were made.
fn fault(effects: &[(usize, char)]) -> Option<String> {
    let mut last = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for (id, key) in effects {
        if !seen.insert(id) {
            return Some(format!("{id} is repeated"));
        }
        if let Some(last) = last.insert(key, id).filter(|last| *last > id) {
            return Some(format!("{id} comes after {last}"));
        }
    }
    None
}

#[test]
fn a_wrong_trace_is_seen() {
    assert_eq!(fault(&[(2, 'b'), (1, 'a'), (3, 'a')]), None);
    assert_eq!(fault(&[(1, 'a'), (3, 'a'), (2, 'a')]).unwrap(), "2 comes after 3");
    assert_eq!(fault(&[(1, 'a'), (2, 'b'), (1, 'a')]).unwrap(), "1 is repeated");
}

#[test]
fn a_processor_that_reports_nothing_repeats_effects() {
    let bench = Bench::new(PARK, Style::Silent, usize::MAX);
    bench.play(&event(&scripted("a b:park c"), 0), FOREVER);
    assert_eq!(fault(&bench.bulk.processor().effects.borrow()).unwrap(), "1 is repeated");
}

/// 1 + 2·b·⌈log2 n⌉
fn calls_max(records: usize, bad: usize) -> usize {
    let depth = records.next_power_of_two().trailing_zeros();
    1 + 2 * bad * usize::try_from(depth).unwrap()
}

/// What becomes of a batch of permanently bad records, by the definition.
fn expected(records: &[Scripted], keep: Keep) -> Vec<Outcome> {
    let mut held = BTreeSet::new();
    let outcome = |record: &Scripted| {
        if record.fate == "ok" && !held.contains(&record.key) {
            return Outcome::Applied;
        }
        held.insert(record.key);
        Outcome::Parked
    };
    if keep.park.is_some() {
        return records.iter().map(outcome).collect();
    }
    let lowest = records.iter().position(|record| record.fate != "ok").unwrap_or(records.len());
    let mut outcomes = vec![Outcome::NotAttempted; records.len()];
    outcomes[..lowest].fill(Outcome::Applied);
    if let Some(outcome) = outcomes.get_mut(lowest) {
        *outcome = Outcome::Failed;
    }
    outcomes
}

#[test]
fn every_set_of_bad_records_is_told_apart() {
    let mut cases = 0;
    // Each record of a key of its own; then three keys, whose later records queue.
    let lengths = (0..=9).map(|length| (length, 9)).chain((4..=7).map(|length| (length, 3)));
    for (length, keys) in lengths {
        for bad in 0_u32..1 << length {
            let record = |at: u8| Scripted {
                key: char::from(b'a' + at % keys),
                aggregated: false,
                fate: if bad & (1 << at) == 0 { "ok" } else { "park" }.to_owned(),
            };
            let records: Vec<Scripted> = (0..length).map(record).collect();
            for style in [Style::Transactional, Style::Reporting] {
                for keep in [NOTHING, PARK] {
                    check(&records, keep, style);
                    cases += 1;
                }
            }
        }
    }
    assert_eq!(cases, 4 * (1_023 + 240));
}

#[track_caller]
fn check(records: &[Scripted], keep: Keep, style: Style) {
    let bench = Bench::new(keep, style, usize::MAX);
    let played = bench.play(&event(records, 0), FOREVER);
    let expected = expected(records, keep);
    let what = format!("{records:?} {keep:?} {style:?}: {}", bench.calls());
    let bad = records.iter().filter(|record| record.fate != "ok").count();
    let calls = bench.bulk.processor().calls.borrow().len();
    assert!(calls <= calls_max(records.len(), bad), "{what}");
    assert_eq!(fault(&bench.bulk.processor().effects.borrow()), None, "{what}");
    let unfinished = expected.iter().position(|outcome| !outcome.is_finished());
    let reply = unfinished.map(|at| (at + 1).to_string()).unwrap_or_default();
    assert_eq!(played.reply.unwrap(), reply, "{what}");
    let finished = |outcome: &Outcome| *outcome == Outcome::Applied;
    let mut effects = bench.effects();
    effects.sort_unstable();
    let applied: Vec<usize> =
        (1..=records.len()).filter(|id| finished(&played.outcomes[id - 1])).collect();
    assert_eq!(effects, applied, "{what}");
    if keep.park.is_some() || style == Style::Transactional {
        assert_eq!(played.outcomes, expected, "{what}");
    } else {
        // A processor that reports has done more than was due.
        let due = expected.iter().zip(&played.outcomes);
        assert!(due.into_iter().all(|(due, said)| !finished(due) || finished(said)), "{what}");
    }
}

fn any_record() -> impl Strategy<Value = Scripted> {
    let fate = prop_oneof![
        10 => Just("ok"),
        2 => prop::sample::select(vec!["park", "error", "panic", "unreadable"]),
        1 => prop::sample::select(vec!["flaky1", "flaky3", "down"]),
    ];
    ("[a-d]", prop::bool::weighted(0.1), fate).prop_map(|(key, aggregated, fate)| Scripted {
        key: key.chars().next().unwrap(),
        aggregated,
        fate: fate.to_owned(),
    })
}

fn any_style() -> impl Strategy<Value = Style> {
    prop_oneof![
        Just(Style::Transactional),
        Just(Style::Reporting),
        (0_usize..4).prop_map(Style::Partial),
    ]
}

fn any_keep() -> impl Strategy<Value = Keep> {
    let policies = vec![None, Some(OnPark::Hold), Some(OnPark::Skip)];
    (prop::sample::select(policies), any::<bool>())
        .prop_map(|(park, progress)| Keep { park, progress })
}

proptest! {
    #[test]
    fn effects_stay_in_order_once_and_the_reply_is_true(
        records in prop::collection::vec(any_record(), 1..16),
        keep in any_keep(),
        style in any_style(),
        limit in prop_oneof![Just(usize::MAX), 1_usize..8],
    ) {
        let bench = Bench::new(keep, style, limit);
        let numbers = numbers(&records);
        let has = |fates: &[&str]| records.iter().any(|it| fates.contains(&&*it.fate));
        let is_bad = |fate: &str| ["park", "error", "panic", "unreadable"].contains(&fate);
        let (mut from, mut parked) = (0, BTreeSet::new());
        for invocation in 0..4 {
            let began = bench.effects().len();
            let played = bench.play(&event(&records, from), FOREVER);
            let reply = played.reply.unwrap();
            let all = bench.bulk.processor().effects.borrow().clone();
            let (before, now) = all.split_at(began);
            // Without progress Lambda's next delivery repeats what is beyond the reply.
            let remembered = if keep.progress { &*all } else { now };
            // A record that flows past a parked one is in order all the same.
            prop_assert_eq!(fault(remembered), None, "{:?}", all);

            let delivered = numbers.iter().enumerate().filter(|(_, number)| **number >= from);
            let mut lowest = None;
            for ((at, number), outcome) in delivered.zip(&played.outcomes) {
                let is_in = |effects: &[(usize, char)]| effects.iter().any(|it| it.0 == at + 1);
                prop_assert_eq!(*outcome == Outcome::Applied, is_in(now), "{}", at + 1);
                if *outcome == Outcome::Parked {
                    parked.insert(at);
                }
                if *outcome == Outcome::AlreadyApplied {
                    prop_assert!(is_in(before) || parked.contains(&at), "{}", at + 1);
                }
                if !is_in(remembered) && !parked.contains(&at) {
                    lowest = lowest.or(Some(*number));
                }
            }
            let lowest = lowest.map(|number| number.to_string()).unwrap_or_default();
            prop_assert_eq!(&reply, &lowest, "calls {}", bench.calls());

            if invocation == 0 {
                let calls = bench.bulk.processor().calls.borrow().len();
                let again = records.iter().filter(|it| ["error", "panic"].contains(&&*it.fate));
                let bad = records.iter().filter(|it| is_bad(&it.fate)).count();
                let most = calls_max(records.len(), bad) + 2 * again.count();
                if limit == usize::MAX && !has(&["flaky1", "flaky3", "down"]) {
                    prop_assert!(calls <= most, "{calls} calls, {most} at most");
                }
                if keep.park.is_some() && !has(&["down"]) {
                    prop_assert_eq!(&*reply, "");
                }
            }
            let Ok(next) = reply.parse() else { break };
            from = next;
        }
        if keep.park.is_some() {
            for (number, code, _) in bench.parked() {
                let own = records.iter().zip(&numbers).filter(|(_, it)| it.to_string() == number);
                let is_guilty = own.into_iter().any(|(it, _)| is_bad(&it.fate));
                prop_assert!(is_guilty, "{number} is parked for {code}");
            }
        }
    }
}
