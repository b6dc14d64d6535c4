//! Verifications and repairs beside the stream.
//!
//! A writer changes items, some to and fro; lanes deliver; hands change rows. Meanwhile walks of
//! `verify` or `repair` go over rows, ledger and source, call by call, and calls die.

use super::{ORDERS, Play, Played, Setup, alone};
use changefold::{
    operation::{
        Operation,
        backfill::{NotDone, ReconcileRequest, Reconciled},
        verify::{Check, Drift, Repair, Stopped, Verified, Verify},
    },
    outcome::Answer,
    record::Timestamp,
};
use serde_json::json;
use std::{cell::RefCell, rc::Rc};

/// What walks have told.
#[derive(Debug, Default)]
pub(in crate::backfill) struct Told {
    pub(in crate::backfill) walks: u64,
    pub(in crate::backfill) checked: u64,
    pub(in crate::backfill) mended: u64,
    /// Calls that ended to look again later.
    pub(in crate::backfill) waits: u64,
    pub(in crate::backfill) drift: Vec<Drift>,
    pub(in crate::backfill) undecided: Vec<NotDone>,
}

/// Verifies beside the stream; nothing has drifted. At last, at rest, everything is decided.
pub(in crate::backfill) fn verify(setup: Setup, at_rest: bool) -> (Told, Played) {
    alone(async {
        let play = Play::set_the_stage(setup).await;
        play.brings_all_in().await;
        play.writes_to_and_fro(setup.changes);
        play.delivers();
        let told = Rc::<RefCell<Told>>::default();
        play.walks(&told, Mode::Verify { at_rest });
        play.tasks.run();
        let mut told = Rc::into_inner(told).unwrap().into_inner();
        let last = play.walks_once(Mode::Verify { at_rest: true }).await;
        if !at_rest {
            told.drift.extend(last.drift);
            assert!(last.undecided.is_empty(), "SIM_SEED={}: {:?}", setup.seed, last.undecided);
        }
        (told, play.finish(false).await)
    })
}

/// Repairs beside the stream what the mapping loses and what is changed by hand. Then a last
/// repair; then late copies come of some of what was lost, in any order.
pub(in crate::backfill) fn repair(setup: Setup) -> (Told, Played) {
    alone(async {
        let play = Play::set_the_stage(setup).await;
        play.brings_all_in().await;
        play.writes(setup.changes, 4);
        play.writes_to_and_fro(setup.changes / 2);
        play.delivers();
        play.changes_rows();
        let told = Rc::<RefCell<Told>>::default();
        play.walks(&told, Mode::Repair);
        play.tasks.run();
        let mut told = Rc::into_inner(told).unwrap().into_inner();
        let later = play.world.now() + 20_000;
        let waits = play.clone();
        play.tasks.spawn(false, async move { waits.world.until(later).await });
        play.tasks.run();
        told.mended += play.walks_once(Mode::Repair).await.mended;
        let last = play.walks_once(Mode::Verify { at_rest: true }).await;
        (told.drift, told.undecided) = (last.drift, last.undecided);
        let late = std::mem::take(&mut play.stream.borrow_mut().lost);
        for record in late.into_iter().filter(|_| play.world.is_one_in(2)) {
            play.delivers_again(vec![record], play.world.ms_below(5_000));
        }
        play.tasks.run();
        (told, play.finish(false).await)
    })
}

/// Repairs beside the stream although nothing is lost: that does no harm, and nothing comes after.
pub(in crate::backfill) fn repair_for_nothing(setup: Setup) -> Played {
    alone(async {
        let play = Play::set_the_stage(setup).await;
        play.brings_all_in().await;
        play.writes_to_and_fro(setup.changes);
        play.delivers();
        play.walks(&Rc::default(), Mode::Repair);
        play.tasks.run();
        play.finish(false).await
    })
}

#[derive(Debug, Clone, Copy)]
enum Mode {
    Verify { at_rest: bool },
    Repair,
}

impl Mode {
    fn operation(self, request: Verify) -> Operation {
        match self {
            Self::Verify { at_rest } => Operation::Verify(Verify { at_rest, ..request }),
            Self::Repair => Operation::Repair(Repair { of: request, dry_run: false }),
        }
    }
}

const CHECKS: [Check; 2] = [Check::Rows, Check::Source];

impl Play {
    /// The views know every item before anything else.
    pub(super) async fn brings_all_in(&self) {
        let keys = (0..self.setup.items).map(|key| json!({"pk": {"S": format!("O#{key}")}}));
        let request = ReconcileRequest { table: ORDERS.to_owned(), keys: keys.collect() };
        let told: Reconciled = self.calmly(Operation::Reconcile(request)).await;
        assert_eq!(told.done, self.setup.items as u64);
    }

    /// Has an operation carried out past the wire.
    async fn calmly<T: serde::de::DeserializeOwned>(&self, operation: Operation) -> T {
        let deadline = Timestamp(self.world.now() + 60_000);
        let function = self.function(self.calm_store(), deadline).await.unwrap();
        let call = changefold::call::Call::new("calm", deadline);
        let event = changefold::operation::event(operation);
        let Answer::Operation(told) = function.invoke(&event, &call).await.unwrap() else {
            panic!("a reply to an operation");
        };
        serde_json::from_value(told).unwrap()
    }

    /// Changes items and back again: rows say the same as before, and were changed twice.
    fn writes_to_and_fro(&self, changes: usize) {
        let play = self.clone();
        self.writers.set(self.writers.get() + 1);
        self.tasks.spawn(false, async move {
            for _ in 0..changes {
                // A few items, so that some are always being written.
                let key = play.world.below(4.min(play.setup.items));
                let key_of =
                    json!({"TableName": "orders", "Key": {"pk": {"S": format!("O#{key}")}}});
                let before = play.ask("GetItem", &key_of)["Item"].clone();
                let other = (!play.world.is_one_in(3)).then(|| play.image(key));
                for image in [other, (!before.is_null()).then_some(before)] {
                    play.set(key, image.clone());
                    play.write_down(key, image, 0);
                    play.world.pass(play.world.ms_below(150)).await;
                }
                play.world.pass(play.world.ms_below(500)).await;
            }
            play.writers.set(play.writers.get() - 1);
        });
    }

    /// Changes rows by hand.
    fn changes_rows(&self) {
        let play = self.clone();
        self.tasks.spawn(false, async move {
            for _ in 0..3 {
                play.world.pass(play.world.ms_below(8_000)).await;
                let region = ["S2:EU", "S2:US", "S4:APAC"][play.world.below(3)];
                let (table, key) =
                    if play.world.is_one_in(2) { ("totals", region) } else { ("everything", "-") };
                let key = json!({"_pk": {"S": key}});
                if play.world.is_one_in(4) {
                    play.ask("DeleteItem", &json!({"TableName": table, "Key": key}));
                    continue;
                }
                let values = play.all_of("ledger-values");
                if play.world.is_one_in(3) && !values.is_empty() {
                    let value = &values[play.world.below(values.len())];
                    let key = json!({"pk": value["pk"], "sk": value["sk"]});
                    let table = "ledger-values";
                    if play.world.is_one_in(2) {
                        play.ask("DeleteItem", &json!({"TableName": table, "Key": key}));
                    } else {
                        // 700, which no item has so often.
                        let sort_key = json!({"S": "N22037"});
                        let item = json!({"pk": key["pk"], "sk": sort_key, "n": {"N": "7"}});
                        play.ask("PutItem", &json!({"TableName": table, "Item": item}));
                    }
                    continue;
                }
                let update = json!({
                    "TableName": table, "Key": key, "UpdateExpression": "ADD #t :t",
                    "ExpressionAttributeNames": {"#t": "total"},
                    "ExpressionAttributeValues": {":t": {"N": "5"}},
                });
                play.ask("UpdateItem", &update);
            }
        });
    }

    /// How far behind the stream is: the age of the oldest record that is not delivered.
    pub(super) fn iterator_age_ms(&self) -> u64 {
        let stream = self.stream.borrow();
        let oldest = stream.lanes.iter().filter_map(|(records, delivered)| {
            let created = &records.get(*delivered)?["dynamodb"]["ApproximateCreationDateTime"];
            #[expect(clippy::cast_possible_truncation, reason = "whole seconds")]
            Some(created.as_f64().unwrap() as i64 * 1_000)
        });
        let now = self.world.now();
        oldest.min().map_or(0, |oldest| (now - oldest).cast_unsigned())
    }

    /// Walks over rows and source, again and again, until the writers are done.
    fn walks(&self, told: &Rc<RefCell<Told>>, mode: Mode) {
        for check in CHECKS {
            let (play, told) = (self.clone(), Rc::clone(told));
            self.busy.set(self.busy.get() + 1);
            self.tasks.spawn(true, async move {
                while play.writers.get() > 0 {
                    play.walk(check, mode, &told).await;
                    play.world.pass(play.world.ms_below(1_000)).await;
                }
                play.busy.set(play.busy.get() - 1);
            });
        }
    }

    async fn walk(&self, check: Check, mode: Mode, told: &RefCell<Told>) {
        let table = (check == Check::Source).then(|| ORDERS.to_owned());
        let groups_max = Some([2, 100][self.world.below(2)]);
        let mut request = Verify { check, table, groups_max, ..Verify::default() };
        loop {
            request.iterator_age_ms = Some(self.iterator_age_ms());
            let time_ms = 3_000 + self.world.ms_below(20_000);
            let answer = self.operate::<Verified>(mode.operation(request.clone()), time_ms).await;
            let Some(Ok(answer)) = answer else {
                self.world.pass(200).await;
                continue;
            };
            let wait_ms = answer.wait_ms.cast_signed();
            request.cursor.clone_from(&answer.cursor);
            let is_end = request.cursor.is_none();
            {
                let mut told = told.borrow_mut();
                told.take(answer);
                told.walks += u64::from(is_end);
            }
            if is_end {
                return;
            }
            self.world.pass(wait_ms).await;
        }
    }

    /// Walks over rows and source past the wire, while nothing else goes on.
    async fn walks_once(&self, mode: Mode) -> Told {
        let mut told = Told::default();
        for check in CHECKS {
            let table = (check == Check::Source).then(|| ORDERS.to_owned());
            let mut request = Verify { check, table, ..Verify::default() };
            loop {
                let answer: Verified = self.calmly(mode.operation(request.clone())).await;
                request.cursor.clone_from(&answer.cursor);
                told.take(answer);
                if request.cursor.is_none() {
                    break;
                }
            }
        }
        told
    }
}

impl Told {
    fn take(&mut self, answer: Verified) {
        self.checked += answer.checked;
        self.mended += answer.mended;
        self.waits += u64::from(answer.stopped == Some(Stopped::Waits));
        self.drift.extend(answer.drift);
        self.undecided.extend(answer.undecided);
        // A repair of rows alone does not know what a projection's row says.
        let mut not_done = answer.not_done.iter();
        assert!(not_done.all(|it| it.code == "SourceNeeded"), "{not_done:?}");
    }
}
