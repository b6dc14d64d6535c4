//! Random cases with all that a case can say, each held against what must always be so.

use super::run;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

const SEEDS: u64 = 400;

/// A family of shards: each may end and continue as one or two others.
fn shards(rng: &mut fastrand::Rng) -> Vec<Value> {
    let mut all = Vec::new();
    let mut open: Vec<String> = Vec::new();
    let mut split: Option<String> = None;
    for name in ["a", "b", "c", "d", "e", "f"].iter().take(rng.usize(1..=6)) {
        let mut shard = json!({ "shardId": name });
        if let Some(parent) = split.take() {
            shard["parentShardId"] = json!(parent);
        } else if !open.is_empty() && rng.bool() {
            let parent = open.swap_remove(rng.usize(..open.len()));
            shard["parentShardId"] = json!(parent);
            if !open.is_empty() && rng.bool() {
                let other = open.swap_remove(rng.usize(..open.len()));
                shard["adjacentParentShardId"] = json!(other);
            } else if rng.bool() {
                split = shard["parentShardId"].as_str().map(str::to_owned);
            }
        }
        open.push((*name).to_owned());
        all.push(shard);
    }
    all
}

fn case(seed: u64) -> Value {
    let mut rng = fastrand::Rng::with_seed(seed);
    let shards = shards(&mut rng);
    let mut records = Vec::new();
    // The shards' records one shard after another, so that none is behind its shard's end.
    for (at, shard) in shards.iter().enumerate() {
        for _ in 0..rng.usize(..8) {
            let arrives = at * 20 + records.len() / 4;
            records.push(json!({ "shardId": shard["shardId"], "key": rng.u8(..3), "at": arrives }));
        }
    }
    let among = |rng: &mut fastrand::Rng| -> Vec<usize> {
        (1..=records.len()).filter(|_| rng.u8(..6) == 0).collect()
    };
    let (throws_on, reports) = (among(&mut rng), among(&mut rng));
    let mut mapping = json!({
        "BatchSize": rng.u8(1..=4),
        "BisectBatchOnFunctionError": rng.bool(),
        "ParallelizationFactor": rng.u8(1..=3),
        "MaximumBatchingWindowInSeconds": rng.u8(..3) * 5,
        "FunctionResponseTypes": ["ReportBatchItemFailures"],
    });
    let mut case = json!({ "id": seed, "shards": shards });
    // Something ends every retry: their number, the records' age, or the stream.
    match rng.u8(..3) {
        0 => mapping["MaximumRetryAttempts"] = json!(rng.u8(..3)),
        1 => mapping["MaximumRecordAgeInSeconds"] = json!(60),
        _ => case["retention"] = json!(90),
    }
    if rng.bool() {
        let pattern = json!({ "eventName": [{ "anything-but": "REMOVE" }] }).to_string();
        mapping["FilterCriteria"] = json!({ "Filters": [{ "Pattern": pattern }] });
        for record in &mut records {
            record["eventName"] = json!(if rng.u8(..4) == 0 { "REMOVE" } else { "MODIFY" });
        }
    }
    case["records"] = json!(records);
    case["mapping"] = mapping;
    case["function"] = json!({ "takes": rng.u8(..3), "throws_on": throws_on, "reports": reports });
    let pick = |rng: &mut fastrand::Rng, two: [&str; 2]| two[usize::from(rng.bool())].to_owned();
    case["readings"] = json!({
        "on_failure": pick(&mut rng, ["single", "joined"]),
        "siblings": pick(&mut rng, ["first", "last"]),
        "replies": pick(&mut rng, ["first", "last"]),
        "batching_window": pick(&mut rng, ["last_call", "first_record"]),
        "shard_end": pick(&mut rng, ["waits", "at_once"]),
    });
    case["print"] = json!(["timeline", "checkpoints"]);
    case
}

/// What must be so whatever the case.
fn check(case: &Value, trace: &Value) -> BTreeMap<&'static str, usize> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let number = |value: &Value| usize::try_from(value.as_u64().unwrap()).unwrap();
    let records = list(&case["records"]);
    let shard_of = |record: usize| text(&records[record - 1]["shardId"]);
    assert_eq!(trace["unfinished"], Value::Null);

    // Each record has one fate.
    let mut fates = BTreeMap::<usize, &'static str>::new();
    let mut meets = |record: usize, fate: &'static str| {
        let before = fates.insert(record, fate);
        assert_eq!(before, None, "{record} has met its fate already, and then {fate}");
    };
    let mut newest = BTreeMap::<(String, String), usize>::new();
    let mut ends = BTreeMap::<String, f64>::new();
    let calls = list(&trace["timeline"]);
    for call in &calls {
        let of_call: Vec<usize> = list(&call["records"]).iter().map(number).collect();
        let finished = match call["outcome"].as_str().unwrap() {
            "succeeded" => of_call.len(),
            "partial" => number(&call["finished"]),
            _ => 0,
        };
        for record in &of_call[..finished] {
            meets(*record, "applied");
            // Of a key the records are applied in their order.
            let key = (shard_of(*record), records[record - 1]["key"].to_string());
            let before = newest.insert(key, *record).unwrap_or_default();
            assert!(before < *record, "{record} came after {before}");
        }
        let end = ends.entry(text(&call["shardId"])).or_default();
        *end = end.max(call["ended"].as_f64().unwrap());
        assert!(of_call.iter().all(|record| shard_of(*record) == text(&call["shardId"])));
    }
    for lost in list(&trace["lost"]) {
        for record in &list(&lost) {
            meets(number(record), "lost");
        }
    }
    for (at, record) in records.iter().enumerate() {
        let has_filters = case["mapping"]["FilterCriteria"].is_object();
        if has_filters && record["eventName"] == "REMOVE" {
            meets(at + 1, "filtered");
        }
    }
    let sizes: usize = list(&trace["on_failure"]).iter().map(|one| number(&one["batchSize"])).sum();
    let left = (1..=records.len()).filter(|record| !fates.contains_key(record)).count();
    assert_eq!(left, sizes, "what is left was given up");

    // A child's first call is not before its parents' last ones have ended.
    for shard in list(&case["shards"]) {
        let name = text(&shard["shardId"]);
        let first = calls.iter().find(|call| text(&call["shardId"]) == name);
        let Some(first) = first.map(|call| call["at"].as_f64().unwrap()) else { continue };
        for parent in ["parentShardId", "adjacentParentShardId"] {
            let end = shard[parent].as_str().and_then(|parent| ends.get(parent));
            assert!(end.is_none_or(|end| first >= *end), "{name} began at {first}, {end:?}");
        }
    }

    // Checkpoints never retreat, and in the end stand at the last record of each shard.
    let mut stand = BTreeMap::<String, usize>::new();
    for step in list(&trace["checkpoints"]) {
        let at = step["checkpoint"].as_u64().map_or(0, |it| usize::try_from(it).unwrap());
        let before = stand.insert(text(&step["shardId"]), at).unwrap_or_default();
        assert!(before <= at, "from {before} back to {at}");
    }
    for shard in (1..=records.len()).map(shard_of).collect::<BTreeSet<_>>() {
        let of_shard = (1..=records.len()).filter(|record| shard_of(*record) == shard);
        assert_eq!(stand.get(&shard).copied(), of_shard.max(), "{shard}");
    }
    let mut met = BTreeMap::new();
    for fate in fates.values() {
        *met.entry(*fate).or_default() += 1;
    }
    met.insert("given up", left);
    met
}

// R26, R28, R30
#[test]
#[expect(clippy::print_stdout, reason = "how much was met")]
fn whatever_a_case_says_each_record_has_one_fate_and_children_wait() {
    let mut met = BTreeMap::<&str, usize>::new();
    for seed in 0..SEEDS {
        let case = case(seed);
        let (output, ..) = run(&case.to_string(), false).unwrap();
        let trace = serde_json::from_str(&output).unwrap();
        let found = std::panic::catch_unwind(|| check(&case, &trace));
        let found = found.unwrap_or_else(|_| panic!("seed {seed}: {case}\n{output}"));
        for (fate, times) in found {
            *met.entry(fate).or_default() += times;
        }
    }
    println!("{SEEDS} cases: {met:?}");
    for fate in ["applied", "filtered", "given up", "lost"] {
        assert!(met.get(fate) > Some(&50), "{fate}: {met:?}");
    }
}

/// The check finds what is not so.
#[test]
fn a_trace_that_is_wrong_is_found() {
    let played = |seed| {
        let case = case(seed);
        let (output, ..) = run(&case.to_string(), false).unwrap();
        (case, serde_json::from_str::<Value>(&output).unwrap())
    };
    let begins_well = |trace: &Value| {
        let first = &trace["timeline"][0];
        (&first["shardId"], &first["outcome"]) == (&json!("a"), &json!("succeeded"))
            && first["records"][0] == 1
    };
    let (case, trace) = (0..SEEDS).map(played).find(|(_, trace)| begins_well(trace)).unwrap();
    check(&case, &trace);
    let wrong = |change: &dyn Fn(&mut Value)| {
        let mut trace = trace.clone();
        change(&mut trace);
        std::panic::catch_unwind(|| check(&case, &trace)).is_err()
    };
    assert!(wrong(&|trace| trace["lost"] = json!([[1]])), "a second fate");
    assert!(wrong(&|trace| trace["timeline"] = json!([])), "no fate");
    let retreats = json!({ "shardId": "a", "checkpoint": null });
    assert!(wrong(&|trace| trace["checkpoints"].as_array_mut().unwrap().push(retreats.clone())));
}
