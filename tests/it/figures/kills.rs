//! Kills at random: the function's processes get SIGKILL again and again while the mapping
//! drives them, and the store stands in a process of its own.

use super::{Backlog, Column, drive, print, program::Kept};
use crate::support::{self, crashing::Served};
use changefold::local::{
    clock::{Pace, VirtualClock},
    runtime_api::RuntimeApi,
};
use std::{cell::Cell, time::Duration};

/// Set to a number, so many kills instead of [`KILLS`].
const KILLS_VARIABLE: &str = "DESK_TEST_KILLS";
const KILLS: u64 = 200;

/// Records for each kill: enough for the run to outlast them.
const RECORDS_FOR_EACH: usize = 70;

const KEYS: usize = 40;
const SHARDS: usize = 2;
const BATCH_SIZE: &str = "20";
const TIMEOUT_MS: u64 = 30_000;

/// Milliseconds between two kills: a process just gets to work, or works for a while.
const PAUSES_MS: std::ops::RangeInclusive<u64> = 5..=120;

/// The seed of the moments.
const SEED: u64 = 7;

/// Kills at seed-chosen moments until so many processes were killed.
async fn kill(function: &RuntimeApi, kills: u64, killed: &Cell<u64>) {
    let mut rng = fastrand::Rng::with_seed(SEED);
    while killed.get() < kills {
        tokio::time::sleep(Duration::from_millis(rng.u64(PAUSES_MS))).await;
        killed.set(killed.get() + function.process_ids().len() as u64);
        function.kill_all();
    }
}

fn killed(name: &str, kills: u64, progress: bool) -> Column {
    let of_each = RECORDS_FOR_EACH * usize::try_from(kills).unwrap() / KEYS;
    let poison = |key, place| if key % 4 == 3 && place == of_each / 2 { "park" } else { "ok" };
    let name_of_directory = if progress { "kills-on" } else { "kills-off" };
    let backlog = Backlog::new(name_of_directory, (KEYS, of_each, SHARDS), poison);
    let store = Served::start(["store"]);
    let kept = Kept { backlog: &backlog, store_url: store.url.clone(), progress };
    support::block_on(async {
        let clock = VirtualClock::new(backlog.fixtures.time_zero(), Pace::Real);
        let function = kept.function(clock.clone()).await;
        let done = Cell::new(0);
        let run = drive(&backlog, &function, &clock, (BATCH_SIZE, TIMEOUT_MS));
        let killer = async {
            kill(&function, kills, &done).await;
            std::future::pending::<()>().await;
        };
        let summary = tokio::select! {
            summary = run => summary,
            () = killer => unreachable!("it never ends"),
        };
        drop(function);

        let done = done.get();
        assert!(done >= kills, "the run was over after {done} kills");
        assert_eq!(summary.records, backlog.records.len() as u64);
        assert_eq!(summary.discards, 0);
        let settled = kept.settled().await;
        settled.check_order();
        let lost = settled.lost(&backlog);
        assert_eq!(lost, [0; 0], "lost");
        let cured = kept.cured().await;
        assert_eq!((cured.parked.len(), cured.lost(&backlog).len()), (0, 0));
        cured.check_order();

        let count = |code: &str| {
            settled.parked.iter().filter(|envelope| envelope.error_code == code).count()
        };
        let cells = vec![
            done.to_string(),
            summary.failed_invocations.to_string(),
            summary.records.to_string(),
            summary.invocations.to_string(),
            lost.len().to_string(),
            settled.repeated().to_string(),
            format!("{} + {}", count("ProcessorPark"), count("Crashed")),
            format!("{}.{} s", summary.elapsed / 1_000, summary.elapsed % 1_000 / 100),
        ];
        (name.to_owned(), cells)
    })
}

#[test]
fn kills_lose_nothing() {
    let kills = support::environment(KILLS_VARIABLE).map_or(KILLS, |text| text.parse().unwrap());
    let columns = std::thread::scope(|scope| {
        let off = scope.spawn(|| killed("progress off", kills, false));
        [killed("progress on", kills, true), off.join().unwrap()]
    });
    print(
        "SIGKILL at random, the store in another process",
        &[
            "processes killed",
            "of them at work",
            "records",
            "invocations",
            "records lost",
            "effects repeated",
            "keys parked: poison + taken for poison",
            "real time",
        ],
        &columns,
    );
}
