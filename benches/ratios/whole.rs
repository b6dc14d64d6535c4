//! Whole functions behind Lambda's Runtime API, as processes: ours, and the same function as
//! people write it today, in turns on the same events.
//!
//! Separate from the decoding because here everything counts: reading from the socket, the
//! runtime client, order by key, the reply. Rust functions read all 13 attributes of both
//! images, the others three fields. What it gives up: Lambda's own network and its share of a
//! CPU; start-ups, which are measured elsewhere.

mod function;

use crate::{
    measure::{self, Goal, PAIRS, Row},
    payloads::{self, Size},
};
use function::{Function, Program};
use serde_json::json;
use std::{
    fs, iter,
    path::{Path, PathBuf},
    time::Duration,
};

/// How many invocations a function gets at a turn. Only the last counts: the first finds its
/// neighbours' data in the caches, which a function that has a sandbox of its own does not.
const IN_A_ROW: usize = 3;

/// Invocations before those that count: JIT compilers have to see the code some times.
const WARM_UP: usize = 10;

/// A peer, and how many times as fast we have to be and should be.
struct Peer {
    program: Program,
    must: f64,
    aim: f64,
}

pub(crate) fn rows() -> Vec<Row> {
    let home = measure::target().join("peers");
    let program = |name, path: &str, arguments, directory: &str| Program {
        name,
        path: find(&home, path),
        arguments,
        directory: home.join(directory),
    };
    let ours = program("changefold", "bin/ours", &[], "bin");
    let rust = program("bare Rust", "bin/bare", &[], "rust");
    let node = program("bare Node", "node", &["bare.mjs"], "node");
    let python = &["-m", "awslambdaric", "function.handler"];
    let python = program("Powertools Python", "python/venv/bin/python", python, "python");
    let powertools = program("Powertools TypeScript", "node", &["powertools.mjs"], "node");
    let peers = [
        Peer { program: rust, must: 7.0, aim: 12.0 },
        Peer { program: node, must: 5.0, aim: 10.0 },
        Peer { program: python, must: 20.0, aim: 35.0 },
        Peer { program: powertools, must: 10.0, aim: 18.0 },
    ];
    let memory_goal = Goal::at_most(MEMORY, 0.5, 0.3);
    if !is_installed(&ours) || !home.join("versions.json").exists() {
        let mut rows: Vec<Row> = Size::ALL
            .into_iter()
            .flat_map(|size| peers.iter().map(move |peer| missing(peer.goal(size))))
            .collect();
        rows.push(missing(memory_goal));
        return rows;
    }
    let mut bench = Bench::start(&ours, &peers);
    let mut rows = Vec::new();
    for size in Size::ALL {
        bench.run(size);
        rows.extend(peers.iter().enumerate().map(|(at, peer)| bench.row(at, peer.goal(size))));
    }
    rows.push(bench.memory_row(memory_goal));
    bench.write(&home);
    rows
}

const MEMORY: &str = "peak memory of the process at 6 MB against bare Rust";

impl Peer {
    fn goal(&self, size: Size) -> Goal {
        let name = self.program.name;
        let name = format!("whole invocation through the Runtime API, {name}, {}", size.name());
        Goal::at_least(name, self.must, self.aim)
    }
}

fn missing(goal: Goal) -> Row {
    Row::missing(goal, "run benches/peers/install.sh")
}

fn is_installed(program: &Program) -> bool {
    program.path.exists() && program.directory.exists()
}

/// A program of ours, or one that is installed on this machine.
fn find(home: &Path, program: &str) -> PathBuf {
    if program.contains('/') {
        return home.join(program);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|it| it.join(program))
        .find(|it| it.exists())
        .unwrap_or_default()
}

/// The functions, all of them waiting, and what has been measured.
struct Bench {
    /// Ours first; none is a peer that is not installed.
    functions: Vec<Option<Function>>,
    names: Vec<&'static str>,
    /// By function, the durations of the last size, and the CPU time of its invocations.
    durations: Vec<Vec<Duration>>,
    cpu_times: Vec<Duration>,
    records: usize,
    /// By size, the least by function in milliseconds.
    least: Vec<(Size, Vec<Option<f64>>)>,
}

impl Bench {
    fn start(ours: &Program, peers: &[Peer]) -> Self {
        let programs: Vec<&Program> =
            iter::once(ours).chain(peers.iter().map(|peer| &peer.program)).collect();
        let start = |program: &&Program| is_installed(program).then(|| Function::start(program));
        Self {
            functions: programs.iter().map(start).collect(),
            names: programs.iter().map(|program| program.name).collect(),
            durations: Vec::new(),
            cpu_times: Vec::new(),
            records: 0,
            least: Vec::new(),
        }
    }

    /// Invokes all functions in turns; each turn begins with another one.
    fn run(&mut self, size: Size) {
        let payload = payloads::dynamodb(size);
        self.records = payload.records;
        self.durations = vec![Vec::new(); self.functions.len()];
        let mut before = Vec::new();
        for turn in 0..WARM_UP + PAIRS {
            if turn == WARM_UP {
                before = self.cpu_times();
            }
            for place in 0..self.functions.len() {
                let at = (turn + place) % self.functions.len();
                let Some(function) = &mut self.functions[at] else { continue };
                for _ in 1..IN_A_ROW {
                    function.invoke(&payload.bytes);
                }
                let duration = function.invoke(&payload.bytes);
                if turn >= WARM_UP {
                    self.durations[at].push(duration);
                }
            }
        }
        let spent = self.cpu_times();
        let spent = spent.iter().zip(&before).map(|(after, before)| after.saturating_sub(*before));
        self.cpu_times =
            spent.map(|spent| spent / u32::try_from(PAIRS * IN_A_ROW).unwrap()).collect();
        let least = |durations: &Vec<Duration>| {
            durations.iter().min().map(|least| least.as_secs_f64() * 1e3)
        };
        self.least.push((size, self.durations.iter().map(least).collect()));
    }

    /// What every process has spent; less waiting for a neighbour than the clock tells.
    fn cpu_times(&self) -> Vec<Duration> {
        let cpu_time = |it: &Option<Function>| it.as_ref().map(Function::cpu_time);
        self.functions.iter().map(|it| cpu_time(it).unwrap_or_default()).collect()
    }

    /// The row of the peer at `at`.
    fn row(&self, at: usize, goal: Goal) -> Row {
        let (ours, theirs) = (&self.durations[0], &self.durations[at + 1]);
        if theirs.is_empty() {
            return missing(goal);
        }
        let pairs: Vec<_> = theirs.iter().copied().zip(ours.iter().copied()).collect();
        let least = &self.least.last().unwrap().1;
        let [theirs, ours] = [least[at + 1], least[0]].map(Option::unwrap_or_default);
        let cpu = [at + 1, 0].map(|at| self.cpu_times[at].as_secs_f64() * 1e3);
        let note = format!(
            "{theirs:.2} → {ours:.2} ms for {} records; of CPU {:.2} → {:.2} ms, {:.1}×",
            self.records,
            cpu[0],
            cpu[1],
            cpu[0] / cpu[1],
        );
        Row::timed(goal, &pairs, note)
    }

    fn memory(&self) -> Vec<Option<u64>> {
        let memory = |it: &Option<Function>| it.as_ref().map(Function::peak_memory);
        self.functions.iter().map(memory).collect()
    }

    fn memory_row(&self, goal: Goal) -> Row {
        let memory = self.memory();
        let (Some(ours), Some(theirs)) = (memory[0], memory[1]) else { return missing(goal) };
        let [ours, theirs] = [ours, theirs].map(|bytes| bytes as f64);
        let note = format!("{:.1} against {:.1} MB", ours / 1e6, theirs / 1e6);
        Row::counted(goal, ours / theirs, note)
    }

    /// What `benches/peers/table.sh` makes the table in docs/speed.md of.
    fn write(&self, home: &Path) {
        let functions: Vec<_> = self
            .names
            .iter()
            .zip(self.memory())
            .enumerate()
            .map(|(at, (name, memory))| {
                let ms = |size: usize| self.least[size].1[at];
                json!({ "name": name, "ms": [ms(0), ms(1)], "peak_memory": memory })
            })
            .collect();
        let sizes: Vec<_> = self.least.iter().map(|(size, _)| size.name()).collect();
        let whole = json!({ "sizes": sizes, "functions": functions });
        fs::write(home.join("whole.json"), format!("{whole:#}\n")).unwrap();
    }
}
