//! Gives the rows of removed items their time to live, once nothing is built any more.
//!
//! While a run builds views such a row has none, so that it outlives whatever was scanned
//! before. It says instead when it could have gone. Nothing else of the row is changed, and its
//! revision neither: whoever writes it at the same time is first or second, and both are right.

use crate::{
    call::{Call, Halt},
    operation::backfill::{Tidied, Tidy},
    store::{
        Filter, Item, StoreError, Trouble,
        rows::{Change, number, number_of, text, text_of},
    },
    view::{
        building::RunState,
        ledger::{GONE, LEDGER_TTL},
        served::Served,
        source_item::LEDGER_KEY,
    },
};

const FILTER: Filter = Filter { expression: "attribute_exists(#a)", attribute: GONE, value: None };
/// No page is begun in the last milliseconds before the deadline.
const RESERVE_MS: i64 = 2_000;

impl Served {
    /// Works through a part of the ledger.
    ///
    /// # Errors
    /// The views of the source are not ready, or a store does not answer.
    pub(super) async fn tidy(&self, tidy: &Tidy, call: &Call) -> Result<Tidied, Halt> {
        let source = self.source_table(&tidy.table, call.deadline).await?;
        let run = self.run_of(&source.arn, call.deadline).await?;
        if run.is_none_or(|run| run.state != RunState::Ready) {
            let message = "rows of removed items are needed until the views are ready";
            return Err(Halt::new("BackfillUnfinished", message));
        }
        let sources: Vec<_> = self.in_each_group(&source).collect();
        let before = self.usage();
        let mut told = Tidied { cursor: tidy.cursor.clone(), ..Tidied::default() };
        loop {
            let from = told.cursor.take();
            let from = from.map(|from| Item::from([(LEDGER_KEY.to_owned(), text(from))]));
            let (store, table) = self.ledger_place();
            let page = store.scan(table, Some(&FILTER), from, call.deadline).await;
            let page = page.map_err(|error| self.unanswered(error))?;
            for row in page.items {
                let key = text_of(&row, LEDGER_KEY).unwrap_or_default();
                if sources.iter().any(|source| source.files(key)) {
                    let ends = self.end_row(row, call).await;
                    told.rows += u64::from(ends.map_err(|error| self.unanswered(error))?);
                }
            }
            told.cursor =
                page.next.as_ref().and_then(|next| text_of(next, LEDGER_KEY)).map(str::to_owned);
            let now = store.clock().now().0;
            if told.cursor.is_none() || now.saturating_add(RESERVE_MS) >= call.deadline.0 {
                break;
            }
        }
        let used = self.usage().since(before);
        (told.read_units, told.write_units) = (used.read_units, used.write_units);
        Ok(told)
    }

    /// Gives one row its time to live, unless somebody has written it meanwhile.
    async fn end_row(&self, mut row: Item, call: &Call) -> Result<bool, StoreError> {
        let gone: Option<i64> = number_of(&row, GONE);
        let revision: Option<u64> = number_of(&row, "rev");
        let (Some(gone), Some(revision)) = (gone, revision) else { return Ok(false) };
        row.remove(GONE);
        row.insert(LEDGER_TTL.to_owned(), number(gone));
        let (store, table) = self.ledger_place();
        let change = Change::put(table, row).only_if("rev = :rev").value(":rev", number(revision));
        match store.change(&change, call.deadline).await {
            Ok(()) => Ok(true),
            Err(error) if error.trouble == Trouble::Guard => Ok(false),
            Err(error) => Err(error),
        }
    }
}
