//! Measuring two things against each other, and the table of what came out.
//!
//! Both sides of a ratio run in turns, so that whatever else the machine does meets both.
//! A ratio is the median over the turns, its spread the quartiles.

use rustix::time::{ClockId, Timespec, clock_gettime};
use serde_json::json;
use std::{fmt::Write as _, fs, hint::black_box, path::PathBuf, time::Duration};

/// How many turns a ratio is the median of.
pub(crate) const PAIRS: usize = 21;

/// What a figure has to be, and what it should be.
#[derive(Debug, Clone)]
pub(crate) struct Goal {
    pub(crate) name: String,
    pub(crate) must: f64,
    pub(crate) aim: f64,
    pub(crate) better: Better,
}

/// In which direction a figure gets better.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Better {
    /// So many times faster than the baseline.
    More,
    /// A share of the reference, or a plain number that should be small.
    Less,
}

impl Goal {
    pub(crate) fn at_least(name: impl Into<String>, must: f64, aim: f64) -> Self {
        Self { name: name.into(), must, aim, better: Better::More }
    }

    pub(crate) fn at_most(name: impl Into<String>, must: f64, aim: f64) -> Self {
        Self { name: name.into(), must, aim, better: Better::Less }
    }

    fn holds(&self, ratio: f64, limit: f64) -> bool {
        match self.better {
            Better::More => ratio >= limit,
            Better::Less => ratio <= limit,
        }
    }
}

/// A line of the table.
#[derive(Debug)]
pub(crate) struct Row {
    goal: Goal,
    figure: Result<Figure, String>,
}

#[derive(Debug)]
struct Figure {
    ratio: f64,
    spread: [f64; 2],
    /// What is beside the ratio worth knowing: absolute figures of the run.
    note: String,
}

impl Row {
    /// A row of many samples: their median and quartiles.
    pub(crate) fn measured(goal: Goal, mut samples: Vec<f64>, note: impl Into<String>) -> Self {
        samples.sort_by(f64::total_cmp);
        let quartile = |part: usize| samples[(samples.len() - 1) * part / 4];
        let figure =
            Figure { ratio: quartile(2), spread: [quartile(1), quartile(3)], note: note.into() };
        Self { goal, figure: Ok(figure) }
    }

    /// A row of a count, which is the same at every run.
    pub(crate) fn counted(goal: Goal, value: f64, note: impl Into<String>) -> Self {
        Self::measured(goal, vec![value], note)
    }

    /// A row that could not be measured, and what to run so that it can.
    pub(crate) fn missing(goal: Goal, remedy: impl Into<String>) -> Self {
        Self { goal, figure: Err(remedy.into()) }
    }
}

/// How much of the processor's time one side of a pair takes. What else runs on the machine
/// takes its own.
pub(crate) fn time<T>(work: impl FnOnce() -> T) -> Duration {
    let start = processor_time();
    black_box(work());
    processor_time().saturating_sub(start)
}

fn processor_time() -> Duration {
    let Timespec { tv_sec, tv_nsec } = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(tv_sec.try_into().unwrap(), tv_nsec.try_into().unwrap())
}

/// Runs both sides in turns, the order changing, and gives the pairs of durations
/// (baseline, ours). One turn before them is not counted.
pub(crate) fn in_turns(
    pairs: usize,
    mut baseline: impl FnMut() -> Duration,
    mut ours: impl FnMut() -> Duration,
) -> Vec<(Duration, Duration)> {
    baseline();
    ours();
    (0..pairs)
        .map(|turn| {
            if turn % 2 == 0 {
                let baseline = baseline();
                (baseline, ours())
            } else {
                let ours = ours();
                (baseline(), ours)
            }
        })
        .collect()
}

/// How many times longer the baseline took, pair by pair.
pub(crate) fn times_faster(pairs: &[(Duration, Duration)]) -> Vec<f64> {
    pairs.iter().map(|(baseline, ours)| baseline.as_secs_f64() / ours.as_secs_f64()).collect()
}

/// Our time as a share of the reference's, pair by pair.
pub(crate) fn share(pairs: &[(Duration, Duration)]) -> Vec<f64> {
    pairs.iter().map(|(reference, ours)| ours.as_secs_f64() / reference.as_secs_f64()).collect()
}

/// The median of one side, as nanoseconds for each of `count` records.
pub(crate) fn per_record(durations: impl Iterator<Item = Duration>, count: usize) -> f64 {
    let mut durations: Vec<Duration> = durations.collect();
    durations.sort();
    durations[durations.len() / 2].as_secs_f64() * 1e9 / count as f64
}

/// The table for people.
pub(crate) fn table(rows: &[Row]) -> String {
    let mut lines = vec![["", "ratio", "quartiles", "must", "aim", "holds"].map(str::to_owned)];
    let mut notes = vec![String::new()];
    for Row { goal, figure } in rows {
        let sign = if goal.better == Better::More { "≥" } else { "≤" };
        let (must, aim) = (format!("{sign} {}", goal.must), format!("{sign} {}", goal.aim));
        let (ratio, spread, holds, note) = match figure {
            Ok(Figure { ratio, spread: [low, high], note }) => {
                let holds = match (goal.holds(*ratio, goal.must), goal.holds(*ratio, goal.aim)) {
                    (_, true) => "aim",
                    (true, false) => "must",
                    (false, false) => "NO",
                };
                (format!("{ratio:.2}"), format!("{low:.2}–{high:.2}"), holds, note)
            }
            Err(remedy) => ("–".to_owned(), String::new(), "?", remedy),
        };
        lines.push([goal.name.clone(), ratio, spread, must, aim, holds.to_owned()]);
        notes.push(note.clone());
    }
    let mut widths = [0; 6];
    for line in &lines {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = cell.chars().count().max(*width);
        }
    }
    let mut text = String::new();
    for (line, note) in lines.iter().zip(&notes) {
        let [name, numbers @ ..] = line;
        write!(text, "{name:<width$}", width = widths[0]).unwrap();
        for (cell, width) in numbers.iter().zip(&widths[1..]) {
            write!(text, "  {cell:>width$}").unwrap();
        }
        writeln!(text, "{}{note}", if note.is_empty() { "" } else { "  " }).unwrap();
    }
    text
}

/// The table for programs.
pub(crate) fn write_json(rows: &[Row]) -> PathBuf {
    let rows: Vec<serde_json::Value> = rows
        .iter()
        .map(|Row { goal, figure }| {
            let (ratio, spread, note) = match figure {
                Ok(Figure { ratio, spread, note }) => (Some(*ratio), Some(*spread), note),
                Err(remedy) => (None, None, remedy),
            };
            json!({
                "name": goal.name,
                "ratio": ratio,
                "must": goal.must,
                "aim": goal.aim,
                "holds": ratio.map(|ratio| goal.holds(ratio, goal.must)),
                "spread": spread,
                "note": note,
            })
        })
        .collect();
    let path = target().join("ratios.json");
    fs::write(&path, format!("{:#}\n", json!(rows))).unwrap();
    path
}

/// The directory cargo builds into.
pub(crate) fn target() -> PathBuf {
    // This program is `target/release/deps/ratios-…`.
    let program = std::env::current_exe().unwrap();
    program.ancestors().nth(3).unwrap().to_owned()
}
