//! Records that end the function's process, or never let go of it: the mapping isolates each,
//! and the function sets it aside.

use super::{
    Backlog, Column, drive, print,
    program::{Kept, Settled},
};
use crate::support;
use changefold::{
    local::{
        clock::{Pace, VirtualClock},
        run::Summary,
        store_server::StoreServer,
    },
    store::embedded::Embedded,
};

/// Halving a batch of 100 down to one record, and the three starts that it gets alone.
const CRASHES_OF_ONE_MAX: usize = 7 + 3;

/// What a run has come to.
struct Driven {
    crashing: usize,
    summary: Summary,
    settled: Settled,
}

/// Drives a backlog with some crashing records to its end.
fn driven(backlog: &Backlog, (batch_size, timeout): (&str, u64)) -> Driven {
    support::block_on(async {
        let server = StoreServer::start(Embedded::open(None).unwrap()).await.unwrap();
        let kept = Kept { backlog, store_url: server.url(), progress: true };
        let clock = VirtualClock::new(backlog.fixtures.time_zero(), Pace::Real);
        let function = kept.function(clock.clone()).await;
        let summary = drive(backlog, &function, &clock, (batch_size, timeout)).await;
        drop(function);

        assert_eq!((summary.records, summary.discards), (backlog.records.len() as u64, 0));
        let settled = kept.settled().await;
        assert_eq!(settled.lost(backlog), [0; 0]);
        settled.check_order();
        let held = backlog.held_by(|record| record.fate != "ok");
        assert_eq!(settled.parked_numbers(), held, "each crashing record and all behind it");
        let crashed = settled.parked.iter().filter(|envelope| envelope.error_code == "Crashed");
        let crashed: Vec<&str> = crashed.map(|it| it.sequence_number.as_str()).collect();
        let poison = backlog.records.iter().filter(|record| record.fate != "ok");
        let mut poison: Vec<String> = poison.map(|record| record.number.to_string()).collect();
        poison.retain(|number| !crashed.contains(&number.as_str()));
        assert_eq!((crashed.len(), poison.len()), (held.len(), 0), "and it is known for it");

        let cured = kept.cured().await;
        assert_eq!((cured.parked.len(), cured.lost(backlog).len()), (0, 0));
        cured.check_order();
        Driven { crashing: held.len(), summary, settled }
    })
}

fn column(name: &str, Driven { crashing, summary, settled }: &Driven) -> Column {
    let Summary { records, invocations, failed_invocations, bisects, elapsed, .. } = summary;
    let parked = settled.parked.len();
    let cells = vec![
        format!("{crashing} of {records}"),
        invocations.to_string(),
        failed_invocations.to_string(),
        bisects.to_string(),
        format!("{parked} ({crashing} + {})", parked - crashing),
        settled.repeated().to_string(),
        format!("{}.{} s", elapsed / 1_000, elapsed % 1_000 / 100),
    ];
    (name.to_owned(), cells)
}

#[test]
fn a_record_that_ends_its_process_is_set_aside() {
    let aborts = |key, place| if key % 10 == 4 && place == 5 { "abort" } else { "ok" };
    let aborting = Backlog::new("abort", (30, 10, 2), aborts);
    let hangs = |key, place| if key == 2 && place == 3 { "hang" } else { "ok" };
    let hanging = Backlog::new("hang", (5, 8, 1), hangs);
    let (aborted, hung) = std::thread::scope(|scope| {
        let hung = scope.spawn(|| driven(&hanging, ("20", 1_000)));
        (driven(&aborting, ("100", 30_000)), hung.join().unwrap())
    });
    let crashes = usize::try_from(aborted.summary.failed_invocations).unwrap();
    assert!(crashes <= aborted.crashing * CRASHES_OF_ONE_MAX, "{crashes} crashes");
    print(
        "records that kill the function, driven to the end with retries -1",
        &[
            "records that do",
            "invocations",
            "of them crashed or timed out",
            "bisects",
            "records parked (crashing + held behind)",
            "effects repeated",
            "real time",
        ],
        &[column("abort()", &aborted), column("a thread that hangs, timeout 1 s", &hung)],
    );
}
