//! Reading a view: what its rows say, by whoever may read its tables.
//!
//! A view's rows are not its table's: an average is kept as a sum and a count, a sum over no
//! value as a number, a group without items may have a row, and the table is another one after a
//! change of the view. A [`Reader`] knows this from the ledger's table alone, without the files of
//! the function. Separate from what writes, which never reads a row. What it gives up: it does
//! not follow a switch while it is kept, so it is opened again every few seconds; a scan is no
//! snapshot.

mod top;

use super::{
    definition::{Output, Shape, View},
    generation::{Current, LookupError, current_table},
    registry::{self, RegistryError},
    rows::{
        self, ROW_KEY,
        listing::{self, Shown},
        ranked::Ranking,
        striped,
    },
    scalar::{SHARED_KEY, Scalar, encode_key},
    sql,
};
use crate::{
    record::Timestamp,
    store::{BATCH_GET_KEYS_MAX, Item, Store, StoreError},
};

/// Reads one view.
#[derive(Debug, Clone)]
pub struct Reader {
    store: Store,
    view: View,
    current: Current,
}

/// What a column has to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// The column, or `_pk`, the key of the row; of a view with stripes a column.
    pub column: String,
    /// One of these; NULL is a value like the others.
    pub any_of: Vec<Scalar>,
}

impl Condition {
    /// A column has this value.
    #[must_use]
    pub fn equals(column: impl Into<String>, value: Scalar) -> Self {
        Self { column: column.into(), any_of: vec![value] }
    }
}

/// Rows that were read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rows {
    /// The names of the columns: those of the view, or of `SELECT *` all that the rows have.
    pub columns: Vec<String>,
    /// The rows in the order of their keys, or of ORDER BY, each in SELECT order.
    pub rows: Vec<Vec<Scalar>>,
    /// Whether reading ended at the limit, so that there may be more.
    pub is_cut: bool,
}

/// A view cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// There is no such view.
    #[error("the ledger table {ledger_table} knows no view {view}; it has {known}")]
    Unknown {
        /// The view that was asked for.
        view: String,
        /// The ledger table.
        ledger_table: String,
        /// The views that there are, with commas between.
        known: String,
    },
    /// There is no such column.
    #[error("view {view} has no column {column}; it has {known}")]
    NoColumn {
        /// The view.
        view: String,
        /// The column that was asked for.
        column: String,
        /// The columns that there are, with commas between.
        known: String,
    },
    /// It was dropped, or is not built.
    #[error(transparent)]
    Lookup(#[from] LookupError),
    /// The ledger's table cannot be understood.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The store refuses or cannot be reached.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Reader {
    /// Finds the current generation of a view and its definition: two reads of one row.
    ///
    /// # Errors
    /// There is no such view, it was dropped or never made current, the ledger's table was
    /// written by a version that kept no texts or by a newer one, or the store does not answer.
    ///
    /// # Examples
    /// ```
    /// use changefold::{record::Timestamp, store::Store};
    /// use changefold::view::{read::{Condition, ReadError, Reader}, scalar::Scalar};
    ///
    /// async fn total(store: Store, customer: &str) -> Result<Option<Scalar>, ReadError> {
    ///     let deadline = Timestamp(store.clock().now().0 + 5_000);
    ///     let tables = ("changefold_ledger", "changefold_");
    ///     let reader = Reader::open(store, tables, "customer_totals", deadline).await?;
    ///     let of = Condition::equals("customer_id", Scalar::Text(customer.to_owned()));
    ///     let found = reader.rows(&[of], None, deadline, &mut |_| {}).await?;
    ///     let total = reader.columns().iter().position(|name| *name == "total");
    ///     Ok(total.and_then(|at| found.rows.first()?.get(at).cloned()))
    /// }
    /// ```
    pub async fn open(
        store: Store,
        (ledger_table, view_table_prefix): (&str, &str),
        view: &str,
        deadline: Timestamp,
    ) -> Result<Self, ReadError> {
        let tables = (ledger_table, view_table_prefix);
        let current = current_table(&store, tables, view, deadline).await?;
        let registry = registry::known(&store, ledger_table, deadline).await?;
        let found = registry.of(view).find(|(number, _)| *number == current.generation);
        let Some((_, registered)) = found else {
            let mut known: Vec<&str> =
                registry.generations.keys().map(|(name, _)| name.as_str()).collect();
            known.dedup();
            return Err(ReadError::Unknown {
                view: view.to_owned(),
                ledger_table: ledger_table.to_owned(),
                known: if known.is_empty() { "none".to_owned() } else { known.join(", ") },
            });
        };
        let (name, table) = (view.to_owned(), ledger_table.to_owned());
        let Some(text) = &registered.sql else {
            return Err(RegistryError::NoText { view: name, table }.into());
        };
        let parsed = sql::parse(text).ok().and_then(|mut views| views.pop());
        let view = parsed.ok_or(RegistryError::NewerText { view: name, table })?;
        Ok(Self { store, view, current })
    }

    /// Its definition.
    #[must_use]
    pub fn definition(&self) -> &View {
        &self.view
    }

    /// The names of its columns, in SELECT order; none of `SELECT *`, whose rows say them.
    #[must_use]
    pub fn columns(&self) -> Vec<&str> {
        self.view.columns()
    }

    /// Which table is read, which generation of the view that is, and how far it is built: while
    /// a backfill builds it, items are missing.
    #[must_use]
    pub fn current(&self) -> &Current {
        &self.current
    }

    /// The rows that have what is asked for: by their keys where the conditions name the whole
    /// key (every column of GROUP BY, or `_pk`), else by a scan, which ends at the limit. Of a view
    /// with LIMIT its first groups are read from its index, and are then asked. After
    /// each page it is told how many rows were looked at.
    ///
    /// # Errors
    /// There is no such column, a row is not as changefold writes it, or the store does not
    /// answer until the deadline.
    pub async fn rows(
        &self,
        conditions: &[Condition],
        limit: Option<usize>,
        deadline: Timestamp,
        looked_at: &mut impl FnMut(u64),
    ) -> Result<Rows, ReadError> {
        let columns = self.columns();
        let is_known = |it: &&Condition| {
            let is_row_key = it.column == ROW_KEY && striped::all(&self.view).is_none();
            is_row_key || self.view.shows_all() || columns.contains(&&*it.column)
        };
        if let Some(other) = conditions.iter().find(|condition| !is_known(condition)) {
            return Err(ReadError::NoColumn {
                view: self.view.name.clone(),
                column: other.column.clone(),
                known: columns.join(", "),
            });
        }
        let limit = limit.unwrap_or(usize::MAX);
        if let Some(ranking) = Ranking::of(&self.view) {
            let first = self.first(ranking.top, deadline, looked_at).await?;
            let holds = |(row, item): &(listing::Read, Item)| {
                conditions.iter().all(|it| self.holds(it, row, item))
            };
            let mut rows: Vec<_> = first.into_iter().filter(holds).collect();
            let is_cut = rows.len() > limit;
            rows.truncate(limit);
            let rows = rows.into_iter().map(|((_, row), _)| row).collect();
            let (columns, rows) = listing::in_columns(&self.view, rows);
            return Ok(Rows { columns, rows, is_cut });
        }
        let mut found = Vec::new();
        let (mut from, mut looked, mut is_cut) = (None, 0, false);
        let mut keys = self.keys(conditions);
        let table = &self.current.table;
        let mut shown = self.shown();
        loop {
            let (items, next) = if let Some(keys) = keys.take() {
                (self.store.batch_get(table, ROW_KEY, &keys, deadline).await?, None)
            } else {
                let page = self.store.scan(table, None, from, deadline).await?;
                (page.items, page.next)
            };
            looked += items.len() as u64;
            looked_at(looked);
            for item in &items {
                let Some(row) = shown.row(item)? else { continue };
                if !conditions.iter().all(|it| self.holds(it, &row, item)) {
                    continue;
                }
                if found.len() == limit {
                    is_cut = true;
                    break;
                }
                found.push(row);
            }
            is_cut |= found.len() == limit && next.is_some();
            from = next;
            if from.is_none() || is_cut {
                break;
            }
        }
        let none = Item::new();
        for group in shown.rest()? {
            if conditions.iter().all(|it| self.holds(it, &group, &none)) {
                is_cut = found.len() == limit;
                if is_cut {
                    break;
                }
                found.push(group);
            }
        }
        found.sort_unstable_by(|one, other| one.0.cmp(&other.0));
        let found = found.into_iter().map(|(_, row)| row).collect();
        let (columns, rows) = listing::in_columns(&self.view, found);
        Ok(Rows { columns, rows, is_cut })
    }

    /// Nothing yet of what is shown of its rows.
    fn shown(&self) -> Shown<'_> {
        Shown::of(&self.view, &self.current.table, self.store.clock().now())
    }

    /// Whether the conditions name the whole key, so that nothing is scanned.
    #[must_use]
    pub fn is_by_key(&self, conditions: &[Condition]) -> bool {
        self.keys(conditions).is_some()
    }

    fn holds(&self, condition: &Condition, row: &listing::Read, item: &Item) -> bool {
        if condition.column == ROW_KEY {
            let key = item.get(ROW_KEY).and_then(|key| key.as_s().ok());
            let is_key = |value: &Scalar| matches!(value, Scalar::Text(text) if key == Some(text));
            return condition.any_of.iter().any(is_key);
        }
        if self.view.shows_all() {
            let value = rows::whole::member(&row.1, &condition.column).unwrap_or(&Scalar::Null);
            return condition.any_of.contains(value);
        }
        let at = self.columns().iter().position(|name| *name == condition.column);
        at.and_then(|at| row.1.get(at)).is_some_and(|value| condition.any_of.contains(value))
    }

    /// The keys of all rows that can have what is asked for; none if that is not known, or they
    /// are more than one call reads.
    fn keys(&self, conditions: &[Condition]) -> Option<Vec<String>> {
        let of = |column: &str| conditions.iter().find(|it| it.column == column);
        if let Some(condition) = of(ROW_KEY) {
            let texts = condition.any_of.iter().filter_map(|value| match value {
                Scalar::Text(text) if !text.is_empty() => Some(text.clone()),
                _ => None,
            });
            let mut keys: Vec<String> = texts.collect();
            keys.sort_unstable();
            keys.dedup();
            return (1..=BATCH_GET_KEYS_MAX).contains(&keys.len()).then_some(keys);
        }
        let Shape::Groups(groups) = &self.view.shape else { return None };
        if groups.top.is_some() {
            return None;
        }
        let stripes = striped::all(&self.view);
        if groups.keys.is_empty() && stripes.is_none() {
            return Some(vec![SHARED_KEY.to_owned()]);
        }
        let mut keys: Vec<Vec<Scalar>> = vec![Vec::new()];
        for index in 0..groups.keys.len() {
            let mut shown = groups.columns.iter().filter(|it| it.output == Output::Key(index));
            let condition = shown.find_map(|column| of(&column.name))?;
            keys = longer(&keys, &condition.any_of)?;
        }
        if let Some(stripes) = stripes {
            keys = longer(&keys, &stripes)?;
        }
        let mut keys: Vec<String> = keys.iter().map(|key| encode_key(key)).collect();
        keys.sort_unstable();
        keys.dedup();
        (!keys.is_empty()).then_some(keys)
    }
}

/// The keys, each with every one of these values behind it; none if they are more than one call
/// reads.
fn longer(keys: &[Vec<Scalar>], values: &[Scalar]) -> Option<Vec<Vec<Scalar>>> {
    let is_little = keys.len() * values.len() <= BATCH_GET_KEYS_MAX;
    let behind =
        |key: &Vec<Scalar>, value: &Scalar| key.iter().chain([value]).cloned().collect::<Vec<_>>();
    let of_key = |key| values.iter().map(move |value| behind(key, value));
    is_little.then(|| keys.iter().flat_map(of_key).collect())
}
