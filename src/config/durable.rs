//! Settings of what a processor's function keeps: parks, progress, attempts.

use super::{ConfigError, Fault, Reader};
use crate::{
    clock::Clock,
    event::ParkedQueues,
    layout::Order,
    recovery::{
        durable::{DurableState, MAX_ATTEMPTS_DEFAULT, OnFull, OnUnkeyed},
        park::{
            OnPark, Park,
            holds::{self, KEYS_MAX_DEFAULT},
            space::OldParks,
        },
        progress::{self, Progress},
    },
    store::{Endpoint, Roots, Store},
};
#[cfg(feature = "destinations")]
use crate::{
    recovery::{
        destination::Address,
        services::{Endpoints, Services},
    },
    rescue::{Rescue, Trust},
};
use aws_sdk_dynamodb::config::SharedCredentialsProvider;
use std::{num::NonZeroU32, sync::Arc};

/// Name of the table of parked records.
pub const PARK_TABLE: &str = "CHANGEFOLD_PARK_TABLE";
/// Name of the table that remembers finished records beyond the checkpoint.
pub const PROGRESS_TABLE: &str = "CHANGEFOLD_PROGRESS_TABLE";
/// What happens to later records of a parked key: `hold` or `skip`.
pub const ON_PARK: &str = "CHANGEFOLD_ON_PARK";
/// What happens to a record whose key cannot be read, where keys are held: `halt` or `park`.
pub const ON_UNKEYED: &str = "CHANGEFOLD_ON_UNKEYED";
/// How often an unclassified failure is tried before it is parked, 1 to 1000.
pub const MAX_ATTEMPTS: &str = "CHANGEFOLD_MAX_ATTEMPTS";
/// Whether a record that comes alone is marked before it runs: `on` or `off`.
pub const CRASH_MARKS: &str = "CHANGEFOLD_CRASH_MARKS";
/// How long the stream keeps records, in hours, 24 to 8760.
pub const RETENTION_HOURS: &str = "CHANGEFOLD_RETENTION_HOURS";
/// The mapping's `ParallelizationFactor`, for checking the order against it.
pub const PARALLELIZATION_FACTOR: &str = "CHANGEFOLD_PARALLELIZATION_FACTOR";

/// Who works on the stream: progress and parks are kept under this name.
pub const CONSUMER: &str = "CHANGEFOLD_CONSUMER";

/// Where parked records are sent as well: a queue, a topic or a bucket.
pub const DESTINATION: &str = "CHANGEFOLD_DESTINATION";

/// How many keys can have parked records, 1 to 100000.
pub const PARK_KEYS_MAX: &str = "CHANGEFOLD_PARK_KEYS_MAX";
/// What becomes of a record to be parked beyond that: `block` or `destination`.
pub const ON_FULL: &str = "CHANGEFOLD_ON_FULL";
/// Whose the records are that were parked before consumers were told apart: `own`, `take` or
/// `leave`.
pub const OLD_PARKS: &str = "CHANGEFOLD_OLD_PARKS";
/// How many rows share the progress of five minutes where no shard is known, 1 to 1024.
pub const PROGRESS_STRIPES: &str = "CHANGEFOLD_PROGRESS_STRIPES";

/// All of them.
pub(super) const KNOWN: [&str; 14] = [
    CONSUMER,
    PARK_KEYS_MAX,
    ON_FULL,
    OLD_PARKS,
    PROGRESS_STRIPES,
    DESTINATION,
    PARK_TABLE,
    PROGRESS_TABLE,
    ON_PARK,
    ON_UNKEYED,
    MAX_ATTEMPTS,
    CRASH_MARKS,
    RETENTION_HOURS,
    PARALLELIZATION_FACTOR,
];

/// Retention of a DynamoDB stream, and of a data stream unless told otherwise; and the most.
/// Source: Kinesis API reference, `IncreaseStreamRetentionPeriod`.
const RETENTION_DEFAULT: u32 = 24;
const RETENTION_MAX: u32 = 8_760;

/// Longer than any function's name with an alias: 64 and 128 characters.
const CONSUMER_MAX: usize = 200;

/// What a processor's function keeps, and where.
#[derive(Debug, Clone)]
pub struct DurableConfig {
    /// Table of parked records.
    pub park_table: Option<String>,
    /// Table of what is finished beyond the checkpoint.
    pub progress_table: Option<String>,
    /// What happens to later records of a parked key.
    pub on_park: OnPark,
    /// What happens to records whose key cannot be read.
    pub on_unkeyed: OnUnkeyed,
    /// How many keys can have parked records.
    pub park_keys_max: u32,
    /// What becomes of records to be parked beyond that.
    pub on_full: OnFull,
    /// Whose the records are that were parked before consumers were told apart.
    pub old_parks: OldParks,
    /// How many rows share the progress of five minutes where no shard is known.
    pub progress_stripes: u16,
    /// How often an unclassified failure is tried.
    pub max_attempts: NonZeroU32,
    /// Whether records that come alone are marked before they run.
    pub crash_marks: bool,
    /// How long the stream keeps records, in hours.
    pub retention_hours: u32,
    /// How to reach DynamoDB, if there is a table.
    pub endpoint: Option<Endpoint>,
    /// Where parked records are sent as well.
    #[cfg(feature = "destinations")]
    pub destination: Option<Address>,
    /// How to reach the services that destinations and rescues need, where a Region is known.
    #[cfg(feature = "destinations")]
    pub endpoints: Option<Endpoints>,
    /// Which on-failure messages are taken in; none, and all are refused.
    #[cfg(feature = "destinations")]
    pub trust: Option<Trust>,
    /// Queues whose messages may bring parked records back.
    pub parked_queues: ParkedQueues,
    #[cfg(feature = "destinations")]
    roots: Roots,
    /// Who works on the stream, in place of the function and its alias.
    pub consumer: Option<String>,
    function: String,
    function_version: String,
}

impl DurableConfig {
    /// Whom parks, progress and the destination send requests to.
    pub fn endpoints_in_use(&self) -> impl Iterator<Item = &Endpoint> {
        let tables = self.endpoint.iter();
        #[cfg(feature = "destinations")]
        let tables = tables.chain(self.destination.as_ref().zip(self.endpoints.as_ref()).map(
            |(address, endpoints)| match address {
                Address::Queue { .. } => &endpoints.sqs,
                Address::Topic { .. } => &endpoints.sns,
                Address::Bucket { .. } => &endpoints.s3,
            },
        ));
        tables
    }

    /// Has somebody else sign than the environment says, as [`Endpoint::sign_with`] does.
    pub fn sign_with(&mut self, credentials: &SharedCredentialsProvider) {
        if let Some(endpoint) = &mut self.endpoint {
            endpoint.sign_with(credentials);
        }
        #[cfg(feature = "destinations")]
        if let Some(endpoints) = &mut self.endpoints {
            endpoints.sign_with(credentials);
        }
    }

    /// What a rescue needs, if there is one.
    #[cfg(feature = "destinations")]
    #[must_use]
    pub fn rescue(&self, clock: &Arc<dyn Clock>, seed: u64) -> Option<Rescue> {
        Some(Rescue::new(self.services(clock, seed)?, self.trust.clone()?))
    }

    /// The services that destinations and rescues need.
    #[cfg(feature = "destinations")]
    fn services(&self, clock: &Arc<dyn Clock>, seed: u64) -> Option<Services> {
        let endpoints = self.endpoints.clone()?;
        Some(Services::new(self.roots.network(), endpoints, Arc::clone(clock), seed))
    }

    /// What these settings ask to be kept; `open` makes the store, if one is needed. Clock and
    /// seed are for the destination's pauses.
    pub fn durable_state(
        &self,
        open: impl FnOnce(&Endpoint) -> Store,
        #[cfg_attr(not(feature = "destinations"), expect(unused_variables, reason = "unsent"))]
        (clock, seed): (&Arc<dyn Clock>, u64),
    ) -> DurableState {
        let mut durable = DurableState::none()
            .with_max_attempts(self.max_attempts)
            .with_on_unkeyed(self.on_unkeyed)
            .with_on_full(self.on_full)
            .with_parked_queues(self.parked_queues.clone())
            .of_function(&self.function, &self.function_version);
        if let Some(consumer) = &self.consumer {
            durable = durable.of_consumer(consumer);
        }
        #[cfg(feature = "destinations")]
        if let Some((destination, services)) =
            self.destination.as_ref().zip(self.services(clock, seed))
        {
            durable = durable.with_destination(destination.open(&services));
        }
        let Some(store) = self.endpoint.as_ref().map(open) else { return durable };
        if let Some(table) = &self.progress_table {
            let progress = Progress::new(store.clone(), table.clone(), self.retention_hours)
                .with_stripes(self.progress_stripes);
            let marked = self.crash_marks;
            durable = durable.with_progress(if marked {
                progress
            } else {
                progress.without_crash_marks()
            });
        }
        if let Some(table) = &self.park_table {
            let park = Park::new(store, table.clone(), self.on_park, self.retention_hours)
                .with_keys_max(self.park_keys_max)
                .with_old_parks(self.old_parks);
            durable = durable.with_park(park);
        }
        durable
    }
}

/// An order that the mapping or the park does not keep is refused, not kept half.
///
/// # Errors
/// Records that have to stay in order could be delivered beside each other, or no later record
/// could ever go on.
pub fn check_order(
    order: &Order,
    parallelization_factor: u32,
    holds: bool,
) -> Result<(), ConfigError> {
    let mut faults = Vec::new();
    let is_coarse = match order {
        Order::Key | Order::PartitionKey { attribute: None } => false,
        Order::PartitionKey { attribute: Some(_) } | Order::Shard | Order::By(_) => true,
    };
    if is_coarse && parallelization_factor > 1 {
        faults.push(Fault::Conflict {
            name: super::ORDER,
            with: PARALLELIZATION_FACTOR,
            remedy: "AWS keeps the order of single keys only, when the mapping's \
                     ParallelizationFactor is above 1: set it to 1, or CHANGEFOLD_ORDER=key",
        });
    }
    if matches!(order, Order::Shard) && holds {
        faults.push(Fault::Conflict {
            name: super::ORDER,
            with: ON_PARK,
            remedy: "one parked record would hold its whole shard: set CHANGEFOLD_ON_PARK=skip, \
                     or CHANGEFOLD_ORDER=key",
        });
    }
    if faults.is_empty() { Ok(()) } else { Err(ConfigError { faults }) }
}

impl Reader {
    pub(super) fn durable(
        &mut self,
        order: &Order,
        #[cfg_attr(not(feature = "destinations"), expect(unused_variables, reason = "unsent"))]
        roots: Roots,
    ) -> DurableConfig {
        let park_table = self.table(PARK_TABLE);
        let progress_table = self.table(PROGRESS_TABLE);
        let has_table = park_table.is_some() || progress_table.is_some();
        let endpoint = has_table.then(|| self.endpoint());
        let on_park = self.choice(
            ON_PARK,
            "`hold` or `skip`",
            &[("hold", OnPark::Hold), ("skip", OnPark::Skip)],
        );
        let on_unkeyed = self.choice(
            ON_UNKEYED,
            "`halt` or `park`",
            &[("halt", OnUnkeyed::Halt), ("park", OnUnkeyed::Park)],
        );
        let on_full = self.choice(
            ON_FULL,
            "`block` or `destination`",
            &[("block", OnFull::Block), ("destination", OnFull::Destination)],
        );
        let old_parks = self.choice(
            OLD_PARKS,
            "`own`, `take` or `leave`",
            &[("own", OldParks::Own), ("take", OldParks::Take), ("leave", OldParks::Leave)],
        );
        if on_full == OnFull::Destination && self.get(DESTINATION).is_none() {
            self.fault(Fault::Conflict {
                name: ON_FULL,
                with: DESTINATION,
                remedy: "there is no destination: set CHANGEFOLD_DESTINATION, or \
                         CHANGEFOLD_ON_FULL=block",
            });
        }
        let park_keys_max = self
            .whole(PARK_KEYS_MAX, "a whole number from 1 to 100000", 1..=holds::KEYS_MAX_MAX)
            .unwrap_or(KEYS_MAX_DEFAULT);
        let progress_stripes = self
            .whole(PROGRESS_STRIPES, "a whole number from 1 to 1024", 1..=1_024)
            .and_then(|stripes| u16::try_from(stripes).ok())
            .unwrap_or(progress::STRIPES_DEFAULT);
        let crash_marks =
            self.choice(CRASH_MARKS, "`on` or `off`", &[("on", true), ("off", false)]);
        let max_attempts = self
            .whole(MAX_ATTEMPTS, "a whole number from 1 to 1000", 1..=1_000)
            .and_then(NonZeroU32::new)
            .unwrap_or(MAX_ATTEMPTS_DEFAULT);
        let retention_hours = self
            .whole(RETENTION_HOURS, "hours from 24 to 8760", RETENTION_DEFAULT..=RETENTION_MAX)
            .unwrap_or(RETENTION_DEFAULT);
        let factor = self.whole(PARALLELIZATION_FACTOR, "a whole number from 1 to 10", 1..=10);
        let holds = park_table.is_some() && on_park == OnPark::Hold;
        if let Err(error) = check_order(order, factor.unwrap_or(1), holds) {
            self.faults.extend(error.faults);
        }
        if park_table.is_none() && self.get(DESTINATION).is_some() && on_park == OnPark::Hold {
            self.faults.push(Fault::Conflict {
                name: DESTINATION,
                with: ON_PARK,
                remedy: "keys are held by a table: set CHANGEFOLD_PARK_TABLE as well, or \
                         CHANGEFOLD_ON_PARK=skip",
            });
        }
        #[cfg(feature = "destinations")]
        let (destination, endpoints) = self.destination();
        #[cfg(not(feature = "destinations"))]
        if self.get(DESTINATION).is_some() {
            self.invalid(DESTINATION, "a build with the feature `destinations`");
        }
        #[cfg(not(feature = "destinations"))]
        self.refuse_rescue();
        let consumer = self.consumer(has_table);
        let parked_queues = self.parked_queues();
        let of = |name, default: &str| self.get(name).unwrap_or(default).to_owned();
        let function = of("AWS_LAMBDA_FUNCTION_NAME", "local");
        let function_version = of("AWS_LAMBDA_FUNCTION_VERSION", "local");
        DurableConfig {
            consumer,
            #[cfg(feature = "destinations")]
            trust: self.trust(&function),
            parked_queues,
            function,
            function_version,
            park_table,
            progress_table,
            on_park,
            on_unkeyed,
            on_full,
            old_parks,
            park_keys_max,
            progress_stripes,
            max_attempts,
            crash_marks,
            retention_hours,
            endpoint,
            #[cfg(feature = "destinations")]
            destination,
            #[cfg(feature = "destinations")]
            endpoints,
            #[cfg(feature = "destinations")]
            roots,
        }
    }

    #[cfg(feature = "destinations")]
    fn destination(&mut self) -> (Option<Address>, Option<Endpoints>) {
        let text = self.get(DESTINATION).map(str::to_owned);
        let address = text.as_ref().and_then(|text| text.parse().ok());
        if text.is_some() && address.is_none() {
            self.invalid(DESTINATION, "a queue's URL, the ARN of a queue or topic, or s3://BUCKET");
        }
        // Without a Region there is nobody to ask; only these two need one for sure.
        if address.is_none() && !self.rescues() && self.get("AWS_REGION").is_none() {
            return (None, None);
        }
        let Endpoint { region, credentials, .. } = self.endpoint();
        let setting = |name: &str| self.get(name).map(str::to_owned);
        (address, Some(Endpoints::new(&region, &credentials, setting)))
    }

    /// What a table keeps is one consumer's. In Lambda it must be known whose.
    pub(super) fn consumer(&mut self, has_table: bool) -> Option<String> {
        let is_in_lambda = self.get("AWS_LAMBDA_RUNTIME_API").is_some();
        let name = self.get(CONSUMER).map(str::to_owned);
        let is_name = |name: &String| {
            name.len() <= CONSUMER_MAX
                && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.:".contains(&byte))
        };
        if name.as_ref().is_some_and(|name| !is_name(name)) {
            self.invalid(CONSUMER, "1 to 200 of the characters a-z A-Z 0-9 _ - . :");
        }
        let is_known = name.is_some() || self.get("AWS_LAMBDA_FUNCTION_NAME").is_some();
        if has_table && is_in_lambda && !is_known {
            self.fault(Fault::Missing {
                name: CONSUMER,
                remedy: "what the tables keep is one consumer's, and AWS_LAMBDA_FUNCTION_NAME \
                         does not tell who this is: name the function, the same in all versions",
            });
        }
        name
    }

    fn table(&mut self, name: &'static str) -> Option<String> {
        let table = self.get(name)?.to_owned();
        self.check_table_name(name, &table);
        Some(table)
    }

    /// One of a few words; the first is the default.
    pub(super) fn choice<T: Copy>(
        &mut self,
        name: &'static str,
        expected: &'static str,
        choices: &[(&str, T)],
    ) -> T {
        let chosen = match self.get(name) {
            None => Some(choices[0].1),
            Some(word) => choices.iter().find(|(it, _)| *it == word).map(|(_, it)| *it),
        };
        chosen.unwrap_or_else(|| {
            self.invalid(name, expected);
            choices[0].1
        })
    }

    pub(super) fn whole(
        &mut self,
        name: &'static str,
        expected: &'static str,
        range: std::ops::RangeInclusive<u32>,
    ) -> Option<u32> {
        let number = self.get(name)?.parse().ok().filter(|number| range.contains(number));
        if number.is_none() {
            self.invalid(name, expected);
        }
        number
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::config::Config;

    pub(in crate::config) fn read(pairs: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let url = [("AWS_ENDPOINT_URL", "http://localhost:8000")];
        let pairs = pairs.iter().chain(&url);
        Config::from_env(pairs.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())))
    }

    #[track_caller]
    pub(in crate::config) fn refused(pairs: &[(&str, &str)], expected: &str) {
        let error = read(pairs).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }

    #[test]
    fn nothing_is_kept_unless_a_table_says_where() {
        let durable = read(&[]).unwrap().durable;
        assert_eq!((durable.park_table, durable.endpoint.is_some()), (None, false));
        let durable = read(&[(PARK_TABLE, "parked"), (ON_PARK, "skip")]).unwrap().durable;
        assert_eq!((durable.on_park, durable.endpoint.is_some()), (OnPark::Skip, true));
        assert_eq!((durable.max_attempts.get(), durable.retention_hours), (3, 24));
    }

    #[test]
    fn each_fault_is_named() {
        refused(&[(PARK_TABLE, "a b")], "CHANGEFOLD_PARK_TABLE is not valid");
        refused(&[(ON_PARK, "block")], "`hold` or `skip`");
        refused(&[(ON_UNKEYED, "skip")], "`halt` or `park`");
        refused(&[(MAX_ATTEMPTS, "0")], "1 to 1000");
        refused(&[(RETENTION_HOURS, "1")], "24 to 8760");
        refused(&[(CRASH_MARKS, "no")], "`on` or `off`");
        refused(&[(PARK_KEYS_MAX, "0")], "1 to 100000");
        refused(&[(ON_FULL, "drop")], "`block` or `destination`");
        refused(&[(ON_FULL, "destination")], "there is no destination");
        refused(&[(OLD_PARKS, "all")], "`own`, `take` or `leave`");
        refused(&[(PROGRESS_STRIPES, "2000")], "1 to 1024");
        refused(&[(CONSUMER, "a#b")], "CHANGEFOLD_CONSUMER is not valid");
    }

    #[test]
    fn in_lambda_the_consumer_is_known_or_nothing_starts() {
        let in_lambda = ("AWS_LAMBDA_RUNTIME_API", "127.0.0.1:9001");
        for table in [PARK_TABLE, PROGRESS_TABLE] {
            refused(&[in_lambda, (table, "kept")], "CHANGEFOLD_CONSUMER is not set");
            for name in [CONSUMER, "AWS_LAMBDA_FUNCTION_NAME"] {
                assert!(read(&[in_lambda, (table, "kept"), (name, "orders")]).is_ok());
            }
            assert!(read(&[(table, "kept")]).is_ok(), "the desk is `local`");
        }
        assert!(read(&[in_lambda]).is_ok(), "nothing is kept");
    }

    #[test]
    fn an_order_that_is_not_kept_is_refused() {
        let order = super::super::ORDER;
        let factor = PARALLELIZATION_FACTOR;
        refused(&[(order, "shard"), (factor, "2")], "ParallelizationFactor");
        refused(&[(order, "partition_key:pk"), (factor, "10")], "ParallelizationFactor");
        refused(&[(order, "shard"), (PARK_TABLE, "parked")], "CHANGEFOLD_ON_PARK=skip");
        for fine in [
            vec![(order, "shard"), (factor, "1")],
            vec![(order, "key"), (factor, "10")],
            vec![(order, "partition_key"), (factor, "10")],
            vec![(order, "shard"), (PARK_TABLE, "parked"), (ON_PARK, "skip")],
        ] {
            assert!(read(&fine).is_ok(), "{fine:?}");
        }
    }
}
