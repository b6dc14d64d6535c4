//! What goes on at the table beside a backfill: changes, their records, and the rows that expire.

use super::play::{DAY_MS, ORDERS, Play};
use changefold::outcome::Answer;
use serde_json::{Value, json};

/// What was written down of the changes.
#[derive(Default)]
pub(super) struct Stream {
    sequence: u64,
    /// The records of each lane, and how many are delivered.
    pub(super) lanes: [(Vec<Value>, usize); LANES],
    /// Records that the mapping lost.
    pub(super) lost: Vec<Value>,
}

const LANES: usize = 3;

impl Stream {
    /// The number of the newest change.
    pub(super) fn sequence(&self) -> u64 {
        self.sequence
    }
}

impl Play {
    /// Changes the table and writes it down; the mapping loses one record in so many.
    pub(super) fn writes(&self, changes: usize, loses: u32) {
        let play = self.clone();
        self.writers.set(self.writers.get() + 1);
        self.tasks.spawn(false, async move {
            for _ in 0..changes {
                play.world.pass(play.world.ms_below(play.setup.pause_ms)).await;
                let keys = play.setup.items + play.setup.items / 2 + 1;
                let key = play.world.below(keys);
                let image = (!play.world.is_one_in(3)).then(|| play.image(key));
                play.set(key, image.clone());
                play.write_down(key, image, loses);
            }
            play.writers.set(play.writers.get() - 1);
        });
    }

    pub(super) fn write_down(&self, key: usize, image: Option<Value>, loses: u32) {
        let mut stream = self.stream.borrow_mut();
        stream.sequence += 1;
        let created = (self.world.now() / 1_000).to_string();
        let mut change = json!({
            "ApproximateCreationDateTime": created.parse::<f64>().unwrap(),
            "Keys": {"pk": {"S": format!("O#{key}")}},
            "SequenceNumber": stream.sequence.to_string(), "StreamViewType": "NEW_IMAGE",
        });
        let event_name = if image.is_some() { "MODIFY" } else { "REMOVE" };
        if let Some(image) = image {
            change["NewImage"] = image;
        }
        let record = json!({
            "eventID": stream.sequence.to_string(), "eventName": event_name,
            "eventSource": "aws:dynamodb", "awsRegion": "us-east-1", "dynamodb": change,
            "eventSourceARN": format!("{ORDERS}/stream/2026-09-17T12:50:51.000"),
        });
        if self.world.is_one_in(loses) {
            stream.lost.push(record);
        } else {
            stream.lanes[key % LANES].0.push(record);
        }
    }

    /// Delivers what is written down, each lane in order, until the writers are done.
    pub(super) fn delivers(&self) {
        for lane in 0..LANES {
            let play = self.clone();
            self.busy.set(self.busy.get() + 1);
            self.tasks.spawn(false, async move {
                while let Some(batch) = play.next_batch(lane) {
                    if batch.is_empty() {
                        play.world.pass(50).await;
                        continue;
                    }
                    let event = json!({ "Records": batch }).to_string().into_bytes();
                    let invocation = play.clone().invoke(event, 30_000, 0);
                    match play.tasks.attempt(play.fate(), invocation).await {
                        Some(Ok(reply)) => play.advance(lane, &batch, &reply),
                        _ => play.world.pass(200).await,
                    }
                    if play.world.is_one_in(8) {
                        play.delivers_again(batch, play.world.ms_below(3_600_000));
                    }
                }
                play.busy.set(play.busy.get() - 1);
            });
        }
    }

    /// The next records of a lane; none at its end.
    fn next_batch(&self, lane: usize) -> Option<Vec<Value>> {
        let stream = self.stream.borrow();
        let (records, delivered) = &stream.lanes[lane];
        let left = &records[*delivered..];
        let is_end = left.is_empty() && self.writers.get() == 0;
        let size = 1 + self.world.below(8);
        (!is_end).then(|| left.iter().take(size).cloned().collect())
    }

    fn advance(&self, lane: usize, batch: &[Value], reply: &Answer) {
        let reply = serde_json::to_value(reply).unwrap();
        let failed = reply["batchItemFailures"][0]["itemIdentifier"].as_str().map(str::to_owned);
        let is_failed =
            |record: &Value| record["dynamodb"]["SequenceNumber"].as_str() == failed.as_deref();
        let done = batch.iter().position(is_failed).unwrap_or(batch.len());
        self.stream.borrow_mut().lanes[lane].1 += done;
    }

    /// A late copy of records comes.
    pub(super) fn delivers_again(&self, batch: Vec<Value>, after_ms: i64) {
        let play = self.clone();
        self.tasks.spawn(false, async move {
            play.world.pass(after_ms).await;
            let event = json!({ "Records": batch }).to_string().into_bytes();
            drop(play.clone().invoke(event, 30_000, 0).await);
        });
    }

    /// Deletes rows of the ledger whose time to live is over, every hour.
    pub(super) fn sweeps(&self) {
        let play = self.clone();
        self.tasks.spawn(false, async move {
            // A sweep reads the whole ledger.
            let is_seldom = play.setup.items > 1_000 || play.setup.export.is_some();
            let every_ms = if is_seldom { DAY_MS } else { 3_600_000 };
            for _ in 0..5 * DAY_MS / every_ms {
                play.world.pass(every_ms).await;
                for row in play.all_of("ledger") {
                    let ttl = row["ttl"]["N"].as_str().and_then(|it| it.parse::<i64>().ok());
                    if ttl.is_some_and(|ttl| ttl < play.world.now() / 1_000) {
                        let key = json!({"pk": row["pk"]});
                        play.ask("DeleteItem", &json!({"TableName": "ledger", "Key": key}));
                    }
                }
            }
        });
    }
}
