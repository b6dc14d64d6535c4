//! What views would cost under the changes of a fixture, and under more of them.
//!
//! The mapping cuts the fixture into batches as ever; in the function's place the model
//! ([`view::plan`](crate::view::plan)) takes them, so nothing is stored. Separate from the command
//! because a test holds it against what a replay has consumed. What it gives up: a load is the
//! fixture's, many times over, with the groups that the fixture has.

use super::{
    check::explain::Explained,
    prices::PRICES_OF,
    target::{FunctionError, Target},
};
use crate::{
    call::Call,
    event,
    store::{ACTIONS_MAX, BATCH_GET_KEYS_MAX},
    view::{
        definition::{Groups, Shape, View},
        plan::{Cost, Model, ViewCost},
        scalar::SHARED_KEY,
    },
};
use bytes::Bytes;
use futures_util::future::{FutureExt as _, LocalBoxFuture, ready};
use serde::Serialize;
use std::{cell::RefCell, fmt};

/// Write units a second that a partition takes, and so the one of a row.
///
/// Source: DynamoDB developer guide, "Designing partition keys": 1,000 write units a second.
const PARTITION_UNITS_PER_S: f64 = 1_000.0;
/// The large load: so many shards, so many records a second each.
const SHARDS: f64 = 1_000.0;
const RECORDS_PER_SHARD_S: f64 = 1_000.0;
const SECONDS_PER_MONTH: f64 = 30.0 * 86_400.0;

/// The model as a function that is invoked.
#[derive(Debug)]
pub struct Planned(RefCell<Model>);

impl Planned {
    /// Nothing yet.
    #[must_use]
    pub fn new(model: Model) -> Self {
        Self(RefCell::new(model))
    }

    /// What the batches so far have cost.
    #[must_use]
    pub fn cost(&self) -> Cost {
        self.0.borrow().cost()
    }
}

impl Target for Planned {
    fn invoke(&self, payload: Bytes, _: Call) -> LocalBoxFuture<'_, Result<Bytes, FunctionError>> {
        let batch = event::parse(&payload);
        let taken = match batch.records() {
            Ok(records) => match self.0.borrow_mut().batch(records) {
                Ok(()) => Ok(Bytes::from_static(br#"{"batchItemFailures":[]}"#)),
                Err(error) => Err(FunctionError::unhandled(error.to_string())),
            },
            Err(error) => Err(FunctionError::unhandled(error.to_string())),
        };
        ready(taken).boxed_local()
    }
}

/// Dollars for a million units.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Prices {
    /// Read units.
    pub read: f64,
    /// Write units.
    pub write: f64,
}

/// What is told of a load.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Plan {
    /// Records of the fixture, and batches that the mapping made of them.
    pub records: u64,
    /// See [`records`](Self::records).
    pub batches: u64,
    /// What was counted: calls of the store, read units and write units.
    pub calls: u64,
    /// See [`calls`](Self::calls).
    pub read_units: u64,
    /// See [`calls`](Self::calls).
    pub write_units: u64,
    /// Write units of the ledger's table among them.
    pub ledger_write_units: u64,
    /// The views.
    pub views: Vec<ViewPlan>,
    /// Units and money of a million records.
    pub per_million: Load,
    /// The same each second and month, at rates.
    pub at: Vec<Load>,
    /// Dollars for a million units.
    pub prices: Prices,
}

/// What is told of one view.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ViewPlan {
    /// The view.
    pub view: String,
    /// Its rows after the fixture.
    pub rows: u64,
    /// Its write units for a million records.
    pub write_units_per_million: f64,
    /// The key of the row that is written most.
    pub hottest: String,
    /// How often a batch writes it, on the average.
    pub hottest_writes_per_batch: f64,
    /// Records a second, of the whole stream in batches like these, at which its partition is
    /// full; none if no row is known.
    pub sustains_records_per_s: Option<f64>,
}

/// Units and money of a load.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Load {
    /// Records, or records a second.
    pub records: f64,
    /// Read units.
    pub read_units: f64,
    /// Write units.
    pub write_units: f64,
    /// Dollars: of the load, or of 30 days of it.
    pub dollars: f64,
}

impl Plan {
    /// What a million records cost at most, in batches of so many: every record changes an item
    /// of its own and all rows that it can, and no two of a batch write one row.
    #[must_use]
    pub fn bound(views: &[View], batch: u64) -> Cost {
        const RECORDS: u64 = 1_000_000;
        let all: Vec<&View> = views.iter().collect();
        let batch = batch.max(1);
        let batches = RECORDS.div_ceil(batch);
        let mut cost = Cost {
            records: RECORDS,
            batches,
            // One key more says which views are served, one the fence of a table.
            read_units: RECORDS + 2 * batches,
            calls: batches * (batch + 2).div_ceil(BATCH_GET_KEYS_MAX as u64),
            ledger_write_units: 2 * RECORDS,
            ..Cost::default()
        };
        let mut actions = 1;
        for view in views {
            let explained = Explained::of(view, &all);
            let rows = explained.rows_per_change[2] as u64;
            let [read, next] = explained.reads_per_change.map(|it| it as u64);
            // Each next value is checked, at the price of a write.
            actions += rows + next;
            let write_units = 2 * RECORDS * (rows + next);
            let mut of = ViewCost { write_units, ..ViewCost::default() };
            let (mut reads, mut queries) = (RECORDS * read, RECORDS * next);
            let is_one_row = |groups: &Groups| groups.keys.is_empty() && groups.stripes.is_none();
            if matches!(&view.shape, Shape::Groups(groups) if is_one_row(groups)) {
                // The one row that there is, once in each transaction.
                of.rows = 1;
                SHARED_KEY.clone_into(&mut of.hottest);
                of.hottest_writes = batches
                    * batch.div_ceil(((ACTIONS_MAX as u64 - 1).saturating_sub(next) / rows).max(1));
                of.hottest_units = 2 * of.hottest_writes;
                of.write_units = of.hottest_units * (1 + next) + 2 * RECORDS * (rows - 1);
                let values = 2 * view.values_of_item() as u64;
                reads = RECORDS * values + of.hottest_writes * (read - values);
                queries = of.hottest_writes * next;
            }
            cost.read_units += reads + queries;
            cost.calls += reads.div_ceil(100) + queries;
            cost.views.insert(view.name.clone(), of);
        }
        cost.calls += (RECORDS * actions).div_ceil(ACTIONS_MAX as u64).max(batches);
        cost
    }

    /// Scales what a fixture has cost: to a million records, to these records a second if they
    /// are said, and to 1,000 shards of 1,000 records a second.
    #[must_use]
    pub fn of(cost: &Cost, prices: Prices, rate: Option<f64>) -> Self {
        let records = float(cost.records.max(1));
        let load = |of: f64, times: f64| {
            let share = of / records;
            let (read, write) = (float(cost.read_units) * share, float(cost.write_units()) * share);
            let dollars = (read * prices.read + write * prices.write) / 1e6 * times;
            Load { records: of, read_units: read, write_units: write, dollars }
        };
        let views = cost.views.iter().map(|(name, view)| ViewPlan {
            view: name.clone(),
            rows: view.rows,
            write_units_per_million: float(view.write_units) / records * 1e6,
            hottest: view.hottest.clone(),
            hottest_writes_per_batch: float(view.hottest_writes) / float(cost.batches.max(1)),
            sustains_records_per_s: (view.hottest_units > 0)
                .then(|| PARTITION_UNITS_PER_S / (float(view.hottest_units) / records)),
        });
        let rates = rate.into_iter().chain([SHARDS * RECORDS_PER_SHARD_S]);
        Self {
            records: cost.records,
            batches: cost.batches,
            calls: cost.calls,
            read_units: cost.read_units,
            write_units: cost.write_units(),
            ledger_write_units: cost.ledger_write_units,
            views: views.collect(),
            per_million: load(1e6, 1.0),
            at: rates.map(|rate| load(rate, SECONDS_PER_MONTH)).collect(),
            prices,
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "what is told has three digits")]
fn float(count: u64) -> f64 {
    count as f64
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} records in {} batches: {} calls, {} write units ({} of them the ledger's), {} read \
             units",
            self.records,
            self.batches,
            self.calls,
            self.write_units,
            self.ledger_write_units,
            self.read_units
        )?;
        let Load { read_units, write_units, dollars, .. } = self.per_million;
        writeln!(
            f,
            "a million records: {write_units:.0} write units, {read_units:.0} read units, \
             ${dollars:.2}"
        )?;
        for Load { records, read_units, write_units, dollars } in &self.at {
            writeln!(
                f,
                "{records:.0} records/s: {write_units:.0} write units/s, {read_units:.0} read \
                 units/s, ${dollars:.0} in 30 days"
            )?;
            let is_full = |view: &&ViewPlan| {
                view.sustains_records_per_s.is_some_and(|sustains| sustains < *records)
            };
            let full: Vec<&str> =
                self.views.iter().filter(is_full).map(|view| view.view.as_str()).collect();
            if !full.is_empty() {
                writeln!(f, "  too much for the hottest row of {}", full.join(", "))?;
            }
        }
        let Prices { read, write } = self.prices;
        writeln!(
            f,
            "prices: ${write} a million write units, ${read} a million read units \
             ({PRICES_OF}, unless said)"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::sql;

    const PRICES: Prices = Prices { read: 0.125, write: 0.625 };

    #[test]
    fn a_load_is_the_fixtures_many_times_over() {
        let view = ViewCost {
            rows: 3,
            write_units: 40,
            hottest: "S1:a".to_owned(),
            hottest_writes: 10,
            hottest_units: 20,
        };
        let cost = Cost {
            records: 100,
            batches: 10,
            calls: 20,
            read_units: 110,
            ledger_write_units: 200,
            views: [("v".to_owned(), view)].into(),
        };
        let plan = Plan::of(&cost, PRICES, Some(500.0));
        let million = Load {
            records: 1e6,
            read_units: 1.1e6,
            write_units: 2.4e6,
            dollars: 1.1 * 0.125 + 2.4 * 0.625,
        };
        assert_eq!(plan.per_million, million);
        let [said, large] = plan.at.as_slice() else { panic!("{:?}", plan.at) };
        assert_eq!((said.records, said.write_units), (500.0, 1_200.0));
        assert_eq!((large.records, large.read_units), (1e6, 1.1e6));
        // 2,400,000 units a second for 30 days at 0.625 $, and reads.
        assert!((large.dollars - (2.4 * 0.625 + 1.1 * 0.125) * 2_592_000.0).abs() < 1.0);
        assert_eq!(plan.views[0].sustains_records_per_s, Some(5_000.0));
        let text = plan.to_string();
        assert!(text.contains("1000000 records/s: 2400000 write units/s"), "{text}");
        assert_eq!(text.matches("too much for the hottest row of v").count(), 1, "{text}");
    }

    #[test]
    fn without_a_fixture_every_change_is_alone() {
        let text = "CREATE MATERIALIZED VIEW g AS SELECT a, count(*) AS n FROM t GROUP BY a;\
            CREATE MATERIALIZED VIEW p AS SELECT a FROM t;\
            CREATE MATERIALIZED VIEW o AS SELECT count(*) AS n FROM t";
        let cost = Plan::bound(&sql::parse(text).unwrap(), 100);
        assert_eq!((cost.records, cost.ledger_write_units), (1_000_000, 2_000_000));
        assert_eq!(cost.read_units, 1_020_000);
        let units: Vec<_> = cost.views.values().map(|view| view.write_units).collect();
        assert_eq!(units, [4_000_000, 40_000, 2_000_000], "two groups, one row, its own row");
        let text = "CREATE MATERIALIZED VIEW m AS SELECT a, min(b) AS lo, max(b) AS hi FROM t
            GROUP BY a";
        let cost = Plan::bound(&sql::parse(text).unwrap(), 100);
        // Two groups and two values are written, and read before; two values come next, and are
        // checked.
        assert_eq!(cost.views["m"].write_units, 12_000_000);
        assert_eq!(cost.read_units, 1_020_000 + 4_000_000 + 2_000_000);
        assert_eq!(cost.calls, 20_000 + 70_000 + 40_000 + 2_000_000);
    }
}
