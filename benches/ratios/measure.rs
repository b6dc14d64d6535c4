//! Measuring two things against each other, and the table of what came out.
//!
//! Both sides of a ratio run in turns, so that whatever else the machine does meets both. A ratio
//! is that of the least times: a neighbour on the machine only ever adds time, and to a short
//! side more of it, so the least is nearest to what the code costs. The median and the quartiles
//! of the ratios turn by turn stand beside it.

use rustix::time::{ClockId, Timespec, clock_gettime};
use serde_json::json;
use std::{fmt::Write as _, fs, hint::black_box, path::PathBuf, time::Duration};

/// How many turns a ratio is made of.
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
    /// The quartiles of the ratios turn by turn, the median in the middle; none of a count.
    turns: Option<[f64; 3]>,
    /// What is beside the ratio worth knowing: absolute figures of the run.
    note: String,
}

impl Row {
    /// A row of turns, each the durations of the baseline and of ours.
    pub(crate) fn timed(
        goal: Goal,
        turns: &[(Duration, Duration)],
        note: impl Into<String>,
    ) -> Self {
        let ratio = |baseline: Duration, ours: Duration| match goal.better {
            Better::More => baseline.as_secs_f64() / ours.as_secs_f64(),
            Better::Less => ours.as_secs_f64() / baseline.as_secs_f64(),
        };
        let mut ratios: Vec<f64> = turns.iter().map(|&(it, ours)| ratio(it, ours)).collect();
        ratios.sort_by(f64::total_cmp);
        let quartile = |part: usize| ratios[(ratios.len() - 1) * part / 4];
        let figure = Figure {
            ratio: ratio(
                least(turns.iter().map(|turn| turn.0)),
                least(turns.iter().map(|turn| turn.1)),
            ),
            turns: Some([1, 2, 3].map(quartile)),
            note: note.into(),
        };
        Self { goal, figure: Ok(figure) }
    }

    /// A row of a count, which is the same at every run.
    pub(crate) fn counted(goal: Goal, value: f64, note: impl Into<String>) -> Self {
        let figure = Figure { ratio: value, turns: None, note: note.into() };
        Self { goal, figure: Ok(figure) }
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

/// The least of these durations.
pub(crate) fn least(durations: impl Iterator<Item = Duration>) -> Duration {
    durations.min().unwrap_or_default()
}

/// The least of one side, as nanoseconds for each of `count` records.
pub(crate) fn per_record(durations: impl Iterator<Item = Duration>, count: usize) -> f64 {
    least(durations).as_secs_f64() * 1e9 / count as f64
}

/// The table for people.
pub(crate) fn table(rows: &[Row]) -> String {
    let mut lines = vec![["", "ratio", "turn by turn", "must", "aim", "holds"].map(str::to_owned)];
    let mut notes = vec![String::new()];
    for Row { goal, figure } in rows {
        let sign = if goal.better == Better::More { "≥" } else { "≤" };
        let (must, aim) = (format!("{sign} {}", goal.must), format!("{sign} {}", goal.aim));
        let (ratio, turns, holds, note) = match figure {
            Ok(Figure { ratio, turns, note }) => {
                let holds = match (goal.holds(*ratio, goal.must), goal.holds(*ratio, goal.aim)) {
                    (_, true) => "aim",
                    (true, false) => "must",
                    (false, false) => "NO",
                };
                let turns = turns.map_or_else(String::new, |[low, median, high]| {
                    format!("{low:.2}–{median:.2}–{high:.2}")
                });
                (format!("{ratio:.2}"), turns, holds, note)
            }
            Err(remedy) => ("–".to_owned(), String::new(), "?", remedy),
        };
        lines.push([goal.name.clone(), ratio, turns, must, aim, holds.to_owned()]);
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
            let (ratio, turns, note) = match figure {
                Ok(Figure { ratio, turns, note }) => (Some(*ratio), *turns, note),
                Err(remedy) => (None, None, remedy),
            };
            json!({
                "name": goal.name,
                "ratio": ratio,
                "must": goal.must,
                "aim": goal.aim,
                "holds": ratio.map(|ratio| goal.holds(ratio, goal.must)),
                "turns": turns,
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
