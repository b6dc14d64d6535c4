//! Settings, read once and validated at the rim.
//!
//! The environment is a list of pairs here, so that tests need no process of their own and
//! [`Config::from_process`] is the only place that reads the real one. Every fault is found
//! and named at once: whoever deploys corrects them in one go. An unknown `CHANGEFOLD_`
//! variable is a fault too, because a misspelt setting would silently be the default.

pub mod durable;
mod endpoint;
mod fault;
pub mod rescue;

#[cfg(feature = "backfill")]
use crate::store::role::Role;
use crate::{
    batch::lanes::CONCURRENCY_DEFAULT,
    invoke::FunctionEndpoint,
    layout::Order,
    operation::Operations,
    store::{Endpoint, Roots},
    telemetry::{LogErrors, filter::Filter},
    view::registry::Owner,
};
use aws_sdk_dynamodb::config::SharedCredentialsProvider;
use durable::DurableConfig;
use std::{
    collections::BTreeMap,
    num::NonZeroUsize,
    path::{Path, PathBuf},
};

pub use endpoint::{
    CA_BUNDLE, bucket_endpoint, bucket_url, function_endpoint, function_url, roots,
};
pub use fault::{ConfigError, Fault};

/// Where the view definitions are: a directory of `.sql` files, or one file.
pub const VIEWS: &str = "CHANGEFOLD_VIEWS";
/// Name of the ledger's table.
pub const LEDGER_TABLE: &str = "CHANGEFOLD_LEDGER_TABLE";
/// What the name of each view's table begins with; the view's name follows.
pub const VIEW_TABLE_PREFIX: &str = "CHANGEFOLD_VIEW_TABLE_PREFIX";
/// Which records stay in order: `key`, `partition_key`, `partition_key:ATTRIBUTE`, `shard`.
pub const ORDER: &str = "CHANGEFOLD_ORDER";
/// How many records of a batch run at a time, 1 to 1000.
pub const CONCURRENCY: &str = "CHANGEFOLD_CONCURRENCY";

/// The function's `Timeout` in seconds, 1 to 900: used when an invocation comes with a
/// deadline that cannot be one.
pub const TIMEOUT_S: &str = "CHANGEFOLD_TIMEOUT_S";

/// The former owner of the ledger, which this function takes over: a name, or `nobody`.
pub const LEDGER_TAKE_FROM: &str = "CHANGEFOLD_LEDGER_TAKE_FROM";

/// Where the tables are that views are computed from, if not where the ledger is: a URL.
pub const SOURCE_ENDPOINT_URL: &str = "CHANGEFOLD_SOURCE_ENDPOINT_URL";
/// The Region of the tables that views are computed from, if it is not the function's.
pub const SOURCE_REGION: &str = "CHANGEFOLD_SOURCE_REGION";

/// The role that the function assumes to read those tables: its ARN. It may be in another account.
pub const SOURCE_ROLE: &str = "CHANGEFOLD_SOURCE_ROLE_ARN";

/// How much of an error is logged: `bounded` or `codes`.
pub const LOG_ERRORS: &str = "CHANGEFOLD_LOG_ERRORS";

/// Which operations the function carries out: `off`, `read`, `all`.
pub const OPERATIONS: &str = "CHANGEFOLD_OPERATIONS";

const KNOWN: [&str; 12] = [
    VIEWS,
    LEDGER_TABLE,
    LEDGER_TAKE_FROM,
    VIEW_TABLE_PREFIX,
    ORDER,
    CONCURRENCY,
    TIMEOUT_S,
    LOG_ERRORS,
    OPERATIONS,
    SOURCE_ENDPOINT_URL,
    SOURCE_REGION,
    SOURCE_ROLE,
];

/// The template's timeout.
const TIMEOUT_S_DEFAULT: u32 = 60;

/// More records at a time than any store or stream gains from.
const CONCURRENCY_MAX: usize = 1000;

/// The longest DynamoDB table name, and the shortest.
/// Source: `TableName` of `CreateTable` in the DynamoDB API reference.
const TABLE_NAME_MAX: usize = 255;
const TABLE_NAME_MIN: usize = 3;

/// What is logged when no setting says otherwise.
pub const LOG_DEFAULT: &str = "info";

/// The settings of a function, valid.
#[derive(Debug, Clone)]
pub struct Config {
    /// Which records stay in order.
    pub order: Order,
    /// How many records of a batch run at a time.
    pub concurrency: NonZeroUsize,
    /// What is logged: a level, or `TARGET=LEVEL` with commas between.
    pub log: String,
    /// How much of an error is logged.
    pub log_errors: LogErrors,
    /// Name of the function, for its metrics.
    pub function_name: String,
    /// The function's timeout in milliseconds, for invocations that do not tell it.
    pub timeout_ms: u32,
    /// Which of an operator's requests it carries out.
    pub operations: Operations,
    /// What is kept of records, where a processor works on them.
    pub durable: DurableConfig,
    /// Whose word is taken for what answers at an `https` endpoint.
    pub roots: Roots,
}

/// The settings of a function that serves views, valid.
#[derive(Debug, Clone)]
pub struct ViewConfig {
    /// What every function has.
    pub function: Config,
    /// A directory of `.sql` files, or one file. Not looked at yet.
    pub views: PathBuf,
    /// Name of the ledger's table.
    pub ledger_table: String,
    /// What the name of each view's table begins with.
    pub table_prefix: String,
    /// Whose the ledger is.
    pub owner: Owner,
    /// How to reach DynamoDB.
    pub endpoint: Endpoint,
    /// How to reach the tables that views are computed from, if they are elsewhere.
    pub source_endpoint: Option<Endpoint>,
    /// The role that reads them, if it is not the function's own.
    #[cfg(feature = "backfill")]
    pub source_role: Option<Role>,
    /// How to reach Lambda, for a backfill that continues itself; none if nothing says it.
    pub function_endpoint: Option<FunctionEndpoint>,
}

impl Config {
    /// Reads the settings from the environment of this process.
    ///
    /// # Errors
    /// As [`from_env`](Self::from_env).
    pub fn from_process() -> Result<Self, ConfigError> {
        Self::from_env(process_environment())
    }

    /// As [`from_process`](Self::from_process), with an order that the program itself gives.
    ///
    /// # Errors
    /// As [`from_env`](Self::from_env).
    pub fn from_process_in_order(order: Option<Order>) -> Result<Self, ConfigError> {
        Self::from_env_in_order(process_environment(), order)
    }

    /// Reads the settings from name and value pairs. The views' settings are not needed.
    ///
    /// # Errors
    /// At least one setting is malformed or unknown; the error names all of them.
    pub fn from_env(
        pairs: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        Self::from_env_in_order(pairs, None)
    }

    /// As [`from_env`](Self::from_env), with an order that the program itself gives.
    ///
    /// # Errors
    /// As [`from_env`](Self::from_env).
    pub fn from_env_in_order(
        pairs: impl IntoIterator<Item = (String, String)>,
        order: Option<Order>,
    ) -> Result<Self, ConfigError> {
        let mut reader = Reader::new(pairs);
        let config = reader.config(order);
        reader.finish(config)
    }
}

impl ViewConfig {
    /// Reads the settings from the environment of this process.
    ///
    /// # Errors
    /// As [`from_env`](Self::from_env).
    pub fn from_process() -> Result<Self, ConfigError> {
        let executable = std::env::current_exe().unwrap_or_default();
        let home = executable.parent().unwrap_or(Path::new(""));
        Self::from_env(process_environment(), home)
    }

    /// Reads the settings from name and value pairs. The function's files are in `home`
    /// unless `LAMBDA_TASK_ROOT` says where.
    ///
    /// # Errors
    /// At least one setting is missing, malformed or unknown; the error names all of them.
    pub fn from_env(
        pairs: impl IntoIterator<Item = (String, String)>,
        home: &Path,
    ) -> Result<Self, ConfigError> {
        let mut reader = Reader::new(pairs);
        let function = reader.config(None);
        #[cfg(not(feature = "backfill"))]
        reader.refuse_source_role();
        let config = Self {
            #[cfg(feature = "backfill")]
            source_role: reader.source_role(&function.function_name),
            owner: reader.owner(&function.function_name),
            function,
            views: reader.views(home),
            ledger_table: reader.ledger_table(),
            table_prefix: reader.table_prefix(),
            source_endpoint: reader.source_endpoint(),
            function_endpoint: reader.own_functions(),
            endpoint: reader.endpoint(),
        };
        reader.finish(config)
    }
}

/// Whether this process was started by Lambda, or by something that plays its part.
#[must_use]
pub fn is_started_by_lambda() -> bool {
    std::env::var_os("AWS_LAMBDA_RUNTIME_API").is_some()
}

/// The environment of this process. A value that is not Unicode is no valid setting: it is
/// refused as such later.
pub fn process_environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().map(|(name, value)| {
        (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned())
    })
}

struct Reader {
    pairs: BTreeMap<String, String>,
    /// Who signs, where the environment does not have to say it.
    credentials: Option<SharedCredentialsProvider>,
    faults: Vec<Fault>,
}

impl Reader {
    fn new(pairs: impl IntoIterator<Item = (String, String)>) -> Self {
        Self { pairs: pairs.into_iter().collect(), credentials: None, faults: Vec::new() }
    }

    fn finish<T>(self, config: T) -> Result<T, ConfigError> {
        if self.faults.is_empty() { Ok(config) } else { Err(ConfigError { faults: self.faults }) }
    }

    fn config(&mut self, order: Option<Order>) -> Config {
        self.refuse_unknown();
        let order = order.unwrap_or_else(|| self.order());
        let roots = self.roots();
        Config {
            durable: self.durable(&order, roots.clone()),
            timeout_ms: 1_000
                * self
                    .whole(TIMEOUT_S, "seconds from 1 to 900", 1..=900)
                    .unwrap_or(TIMEOUT_S_DEFAULT),
            operations: self.operations(),
            order,
            concurrency: self.concurrency(),
            log: self.log(),
            log_errors: self.choice(
                LOG_ERRORS,
                "`bounded` or `codes`",
                &[("bounded", LogErrors::Bounded), ("codes", LogErrors::Codes)],
            ),
            function_name: self.get("AWS_LAMBDA_FUNCTION_NAME").unwrap_or("local").to_owned(),
            roots,
        }
    }

    /// A variable's value; an empty one counts as not set, as AWS's own tools have it.
    fn get(&self, name: &str) -> Option<&str> {
        self.pairs.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// Takes note of a fault, once: a setting may be read for several purposes.
    fn fault(&mut self, fault: Fault) {
        if !self.faults.contains(&fault) {
            self.faults.push(fault);
        }
    }

    fn invalid(&mut self, name: &'static str, expected: &'static str) {
        self.fault(Fault::Invalid { name, expected });
    }

    fn required(&mut self, name: &'static str, remedy: &'static str) -> Option<String> {
        let value = self.get(name).map(str::to_owned);
        if value.is_none() {
            self.fault(Fault::Missing { name, remedy });
        }
        value
    }

    fn refuse_unknown(&mut self) {
        let is_unknown =
            |name: &&String| name.starts_with("CHANGEFOLD_") && known().all(|known| known != *name);
        let unknown = self.pairs.keys().filter(is_unknown).map(|name| Fault::Unknown {
            name: name.clone(),
            nearest: known()
                .min_by_key(|known| (!known.starts_with(name.as_str()), distance(known, name)))
                .expect("the list of settings is not empty"),
        });
        self.faults.extend(unknown);
    }

    fn order(&mut self) -> Order {
        let order = match self.get(ORDER) {
            None | Some("key") => Some(Order::Key),
            Some("shard") => Some(Order::Shard),
            Some("partition_key") => Some(Order::PartitionKey { attribute: None }),
            Some(other) => other
                .strip_prefix("partition_key:")
                .filter(|attribute| !attribute.is_empty())
                .map(|attribute| Order::PartitionKey { attribute: Some(attribute.to_owned()) }),
        };
        order.unwrap_or_else(|| {
            self.invalid(
                ORDER,
                "`key`, `partition_key` (Kinesis), `partition_key:ATTRIBUTE` (DynamoDB) or `shard`",
            );
            Order::Key
        })
    }

    fn concurrency(&mut self) -> NonZeroUsize {
        let Some(text) = self.get(CONCURRENCY) else { return CONCURRENCY_DEFAULT };
        let number =
            text.parse().ok().filter(|number: &NonZeroUsize| number.get() <= CONCURRENCY_MAX);
        number.unwrap_or_else(|| {
            self.invalid(CONCURRENCY, "a whole number from 1 to 1000");
            CONCURRENCY_DEFAULT
        })
    }

    /// All by default: who may invoke a function is for IAM and its resource policy to say, and
    /// an event source mapping passes nobody's words on as an event's outermost member. Another
    /// default would take a redrive from those who have parked records when they update.
    fn operations(&mut self) -> Operations {
        self.choice(
            OPERATIONS,
            "`off`, `read` or `all`",
            &[("all", Operations::All), ("read", Operations::Read), ("off", Operations::Off)],
        )
    }

    fn views(&self, home: &Path) -> PathBuf {
        let home = self.get("LAMBDA_TASK_ROOT").map_or(home, Path::new);
        // An absolute path stays what it is: joining one replaces the home.
        home.join(self.get(VIEWS).unwrap_or("views"))
    }

    fn ledger_table(&mut self) -> String {
        let remedy = "the views need a table for what they have applied";
        let Some(table) = self.required(LEDGER_TABLE, remedy) else { return String::new() };
        self.check_table_name(LEDGER_TABLE, &table);
        table
    }

    /// Views in a ledger are one consumer's.
    fn owner(&mut self, function_name: &str) -> Owner {
        let name = self.consumer(true).unwrap_or_else(|| function_name.to_owned());
        Owner::new(name).taking_from(self.get(LEDGER_TAKE_FROM).map(str::to_owned))
    }

    fn check_table_name(&mut self, name: &'static str, table: &str) {
        if !is_table_name(table) || table.len() < TABLE_NAME_MIN {
            self.invalid(name, "3 to 255 of the characters a-z A-Z 0-9 _ - .");
        }
    }

    fn table_prefix(&mut self) -> String {
        let remedy = "each view's table is named by it and the view";
        let Some(prefix) = self.required(VIEW_TABLE_PREFIX, remedy) else { return String::new() };
        if !is_table_name(&prefix) {
            self.invalid(VIEW_TABLE_PREFIX, "at most 255 of the characters a-z A-Z 0-9 _ - .");
        }
        prefix
    }

    /// `RUST_LOG` in full, or else Lambda's own level for the whole process.
    fn log(&mut self) -> String {
        let (name, directives) = match (self.get("RUST_LOG"), self.get("AWS_LAMBDA_LOG_LEVEL")) {
            (Some(directives), _) => ("RUST_LOG", directives.to_owned()),
            // Lambda knows one level more than we do.
            (None, Some("FATAL")) => ("AWS_LAMBDA_LOG_LEVEL", "error".to_owned()),
            (None, Some(level)) => ("AWS_LAMBDA_LOG_LEVEL", level.to_ascii_lowercase()),
            (None, None) => return LOG_DEFAULT.to_owned(),
        };
        if Filter::of(&directives).is_err() {
            self.invalid(name, "a level, or `TARGET=LEVEL` with commas between");
        }
        directives
    }
}

fn known() -> impl Iterator<Item = &'static str> {
    KNOWN.into_iter().chain(durable::KNOWN).chain(rescue::KNOWN)
}

fn is_table_name(text: &str) -> bool {
    text.len() <= TABLE_NAME_MAX
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte))
}

/// How many letters to insert, drop or change to make one word of the other (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, left) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, right) in b.bytes().enumerate() {
            let change = diagonal + usize::from(left != right);
            diagonal = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests;
