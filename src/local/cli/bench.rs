//! What a replay drives: the views, or a processor of the user's.
//!
//! The one file of the desk that knows the function's settings, its store and its views; the
//! bench of a program in a process of its own (`exec.rs`) is made of the same parts.

use super::{Complaint, PlaceArgs, account::Account, talk};
use crate::{
    batch::{Order, Setup, Work},
    call::Call,
    clock::{Clock, SystemClock},
    config::{self, Config, ViewConfig, durable},
    handler::Function,
    local::{
        clock::{Pace, VirtualClock},
        endpoint::TABLES_FILE,
        faulty_client::FaultyClient,
        report::{Results, ViewRows},
        run::LISTED_MAX,
        store_server::DYNAMODB_URL,
        target::Target,
    },
    operation::{Listing, Operation, Selection},
    record::Timestamp,
    recovery::consumer::LOCAL,
    store::{
        Endpoint, Roots, Store, Usage,
        embedded::{Embedded, EmbeddedError},
    },
    view::{Views, definition::View, load::load, rows::NO_DEADLINE},
};
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use serde_json::Value;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

/// Where view definitions are looked for unless told otherwise.
const VIEWS_DEFAULT: &str = "views";

/// Table names, unless the environment says others.
const LEDGER_TABLE: &str = "changefold_ledger";
const VIEW_TABLE_PREFIX: &str = "changefold_";
const PARK_TABLE: &str = "changefold_park";
const PROGRESS_TABLE: &str = "changefold_progress";

/// What the embedded store is addressed as; nothing is sent there.
const EMBEDDED_URL: &str = "http://embedded";

/// How long making tables may take, in milliseconds.
pub(super) const SETUP_MS: u64 = 60_000;

/// What is known when a bench is set up.
pub(super) struct Stage<'a> {
    /// The tables and streams that records come from.
    pub(super) stream_names: &'a [&'a str],
    /// Whom the function is invoked as.
    pub(super) function_arn: &'a str,
    /// The run's clock.
    pub(super) clock: &'a Arc<VirtualClock>,
    /// Where to keep the tables.
    pub(super) state: Option<&'a Path>,
    /// Where a processor's tables are, if not in this process.
    pub(super) endpoint_url: Option<String>,
    /// The mapping's `ParallelizationFactor`.
    pub(super) parallelization_factor: usize,
    /// The seed of the faults, if there are to be any.
    pub(super) seed: Option<u64>,
    /// What a program finds in its environment beside what Lambda and the desk tell it.
    pub(super) variables: &'a [(String, String)],
}

impl Stage<'_> {
    /// Opens the embedded store: in the state directory, if there is to be one.
    pub(super) fn embedded(&self) -> Result<Embedded, EmbeddedError> {
        let file = self.state.map(|directory| directory.join(TABLES_FILE));
        Embedded::open(file.as_deref())
    }

    /// What a processor's function is told, beside what the environment says already: parks
    /// and progress are on. So what a record goes through on the desk is what it goes through
    /// when the tables are deployed.
    pub(super) fn processor_settings(&self) -> Vec<(&'static str, String)> {
        processor_settings(Some(self.parallelization_factor))
    }
}

fn processor_settings(parallelization_factor: Option<usize>) -> Vec<(&'static str, String)> {
    let factor = parallelization_factor.map(|factor| factor.to_string());
    let tables = [(durable::PARK_TABLE, PARK_TABLE), (durable::PROGRESS_TABLE, PROGRESS_TABLE)];
    let mut settings: Vec<_> = tables.map(|(name, table)| (name, table.to_owned())).into();
    // The desk is one consumer, whether the function runs in this process or in its own.
    settings.push((durable::CONSUMER, LOCAL.to_owned()));
    settings.extend(factor.map(|factor| (durable::PARALLELIZATION_FACTOR, factor)));
    let said: Vec<String> = config::process_environment().map(|(name, _)| name).collect();
    settings.retain(|(name, _)| !said.iter().any(|said| said == name));
    settings
}

/// Something a replay can drive.
#[cfg_attr(not(feature = "dev"), expect(dead_code, reason = "a part of it is for `dev` alone"))]
pub(super) trait Bench {
    /// What setting up makes.
    type Piece: Piece;

    /// Whether it keeps views, which have to hear of every change of their items.
    fn keeps_views(&self) -> bool {
        false
    }

    /// Whether the function may answer the calls of tumbling windows: this library's does not,
    /// and what keeps views is this library's.
    fn takes_windows(&self) -> bool {
        self.pace() == Pace::Real && !self.keeps_views()
    }

    /// The same once more, for a function that is made anew; none where it cannot be.
    fn again(&self) -> Option<Self>
    where
        Self: Sized,
    {
        None
    }

    /// The files that the function is made of.
    fn files(&self) -> Vec<PathBuf> {
        Vec::new()
    }

    /// What takes real time. Where calls leave this process, pauses have to; a function that runs
    /// elsewhere has real time altogether.
    fn pace(&self) -> Pace {
        Pace::Virtual
    }

    /// Whether the desk's store is served to a function in another process.
    fn serves_store(&self) -> bool {
        false
    }

    /// Makes the function for one stream.
    async fn set_up(self, stage: &Stage<'_>) -> Result<Self::Piece, Complaint>;
}

/// The function, made for one stream.
#[cfg_attr(not(feature = "dev"), allow(dead_code, reason = "a part of it is for `dev` alone"))]
pub(super) trait Piece {
    /// What the mapping invokes.
    type Target: Target;

    /// The function itself.
    fn target(&self) -> &Self::Target;

    /// Reads what the function has made.
    async fn results(&self) -> Result<Results, Complaint>;

    /// Has an operation carried out on what the function keeps.
    async fn operate(&self, operation: Operation) -> Result<Value, Complaint>;
}

/// Has a function in this process carry out an operation.
async fn operate<W: Work>(
    function: &Function<W>,
    operation: &Operation,
) -> Result<Value, Complaint> {
    let Timestamp(now) = SystemClock.now();
    let deadline = Timestamp(now.saturating_add_unsigned(SETUP_MS));
    let call = Call::new(format!("desk-{}-{now}", std::process::id()), deadline);
    Ok(function.work().operate(operation, &call).await?)
}

/// The views of `.sql` files, in the embedded store or at an endpoint.
#[derive(Debug, Clone)]
pub(super) struct ViewBench {
    pub(super) paths: Vec<PathBuf>,
    pub(super) endpoint_url: Option<String>,
}

/// The function over the views of one stream.
pub(super) struct ViewPiece {
    function: Function<Views>,
    /// What setting up has cost already.
    before: Usage,
}

impl ViewBench {
    pub(super) fn new(paths: Vec<PathBuf>, endpoint_url: Option<String>) -> Self {
        Self { paths, endpoint_url }
    }

    /// Whether the tables are outside of this process.
    pub(super) fn is_remote(&self) -> bool {
        self.endpoint_url.is_some()
    }

    /// The views of all files.
    pub(super) fn views(&self) -> Result<Vec<View>, Complaint> {
        Ok(if self.paths.is_empty() {
            load(Path::new(VIEWS_DEFAULT)).map_err(|error| {
                Complaint::from(error).with_hint("name view definitions with --views FILE|DIR")
            })?
        } else {
            let mut views = Vec::new();
            for path in &self.paths {
                views.extend(load(path)?);
            }
            views
        })
    }

    /// The views that read from one of these streams; says which ones do not.
    fn views_of(&self, stream_names: &[&str]) -> Result<Vec<View>, Complaint> {
        let views = self.views()?;
        let (of_stream, others): (Vec<View>, Vec<View>) =
            views.into_iter().partition(|view| stream_names.contains(&&*view.from));
        let names = stream_names.join(" and ");
        let mut skipped: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for view in &others {
            skipped.entry(&view.from).or_default().push(format!("`{}`", view.name));
        }
        for (from, views) in skipped {
            talk(format_args!(
                "skipped, as the records are of {names} and not of {from}: {}",
                views.join(", ")
            ));
        }
        if of_stream.is_empty() {
            let message = format!("no view reads FROM {names}, which the records are of");
            return Err(Complaint::new(message)
                .with_hint("FROM is the table or stream name in the event source ARN, exactly"));
        }
        Ok(of_stream)
    }

    /// The views of a stream, and a store to name where nothing is stored.
    pub(super) fn unasked(&self, stream_names: &[&str]) -> Result<(Vec<View>, Store), Complaint> {
        let views = self.views_of(stream_names)?;
        let settings = self.settings(&Account::default())?;
        let network = settings.function.roots.network_to(&settings.endpoint);
        Ok((views, Store::new(network, &settings.endpoint, Arc::new(SystemClock), 0)))
    }

    /// Whose tables they are.
    pub(super) async fn account(&self) -> Result<Account, Complaint> {
        Account::for_endpoints([self.endpoint_url.as_deref().or(Some(EMBEDDED_URL))], None).await
    }

    /// The settings of the function that keeps them.
    pub(super) fn settings(&self, account: &Account) -> Result<ViewConfig, Complaint> {
        let url = self.endpoint_url.as_deref().unwrap_or(EMBEDDED_URL);
        let mut pairs = vec![
            (config::LEDGER_TABLE.to_owned(), LEDGER_TABLE.to_owned()),
            (config::VIEW_TABLE_PREFIX.to_owned(), VIEW_TABLE_PREFIX.to_owned()),
        ];
        pairs.extend(account.environment());
        pairs.push((DYNAMODB_URL.to_owned(), url.to_owned()));
        let mut settings = ViewConfig::from_env(pairs, Path::new(""))?;
        if let Some(credentials) = account.credentials() {
            settings.endpoint.sign_with(credentials);
        }
        Ok(settings)
    }

    /// The function over the views of this stream, on tables behind this transport, which are
    /// made where they are missing.
    pub(super) async fn piece(
        &self,
        client: SharedHttpClient,
        stage: &Stage<'_>,
        settings: &ViewConfig,
    ) -> Result<ViewPiece, Complaint> {
        let views = self.views_of(stage.stream_names)?;
        let clock: Arc<VirtualClock> = Arc::clone(stage.clock);
        let seed = stage.seed.unwrap_or_default();
        let store = Store::new(client, &settings.endpoint, clock.clone(), seed);
        let (ledger, prefix) = (&settings.ledger_table, &settings.table_prefix);
        let deadline = clock.timestamp(SETUP_MS);
        Views::ensure_tables(&views, &store, ledger, prefix, deadline).await.map_err(|error| {
            let complaint = Complaint::from(error);
            match &self.endpoint_url {
                Some(url) => complaint.with_hint(format!("is a DynamoDB endpoint up at {url}?")),
                None => complaint,
            }
        })?;
        let views = Views::open(views, store, (ledger, prefix), &settings.owner, deadline).await?;
        let before = views.store().usage();
        Ok(ViewPiece { function: Function::new(views, clock), before })
    }
}

impl Bench for ViewBench {
    type Piece = ViewPiece;

    fn keeps_views(&self) -> bool {
        true
    }

    fn again(&self) -> Option<Self> {
        Some(self.clone())
    }

    fn files(&self) -> Vec<PathBuf> {
        if self.paths.is_empty() { vec![VIEWS_DEFAULT.into()] } else { self.paths.clone() }
    }

    fn pace(&self) -> Pace {
        if self.is_remote() { Pace::RealSleep } else { Pace::Virtual }
    }

    async fn set_up(self, stage: &Stage<'_>) -> Result<ViewPiece, Complaint> {
        let settings = self.settings(&self.account().await?)?;
        let mut client = if self.is_remote() {
            settings.function.roots.network_to(&settings.endpoint)
        } else {
            SharedHttpClient::new(stage.embedded()?)
        };
        if stage.seed.is_some() {
            client = FaultyClient::wrap(client, Arc::clone(stage.clock));
        }
        self.piece(client, stage, &settings).await
    }
}

impl Piece for ViewPiece {
    type Target = Function<Views>;

    fn target(&self) -> &Function<Views> {
        &self.function
    }

    async fn results(&self) -> Result<Results, Complaint> {
        let views = self.function.work();
        // Reading the results is not part of the run.
        let store = views.store().usage().since(self.before);
        let mut listed = Vec::new();
        for (at, view) in views.definitions().iter().enumerate() {
            let listing = views.rows(at, LISTED_MAX).await?;
            listed.push(ViewRows {
                name: view.name.clone(),
                columns: listing.columns,
                rows: listing.rows,
                total: listing.total as u64,
            });
        }
        let quarantined = views.quarantined(LISTED_MAX).await?;
        Ok(Results { views: listed, quarantined, store, ..Results::default() })
    }

    async fn operate(&self, operation: Operation) -> Result<Value, Complaint> {
        operate(&self.function, &operation).await
    }
}

/// A processor of the user's, in the work that is made of it.
pub(super) struct ProcessorBench<M> {
    make: M,
    order: Option<Order>,
}

/// The function over a processor.
pub(super) struct ProcessorPiece<W> {
    function: Function<W>,
    /// None where the environment takes both tables away.
    store: Option<Store>,
    has_park: bool,
    /// What setting up has cost already.
    before: Usage,
}

impl<M> ProcessorBench<M> {
    pub(super) fn new(make: M, order: Option<Order>) -> Self {
        Self { make, order }
    }
}

impl<W: Work, M: FnOnce(Setup) -> W> ProcessorBench<M> {
    /// The function over this processor, on tables behind this transport, which are made where
    /// they are missing.
    pub(super) async fn piece(
        self,
        client: SharedHttpClient,
        stage: &Stage<'_>,
    ) -> Result<ProcessorPiece<W>, Complaint> {
        let url = stage.endpoint_url.as_deref().unwrap_or(EMBEDDED_URL);
        let config = kept_config(self.order, stage.processor_settings(), url).await?;
        let has_park = config.durable.park_table.is_some();
        let clock: Arc<VirtualClock> = Arc::clone(stage.clock);
        let transport = (client, Some(stage.clock.timestamp(SETUP_MS)));
        let times: (Arc<dyn Clock>, u64) = (clock, stage.seed.unwrap_or_default());
        let (function, store) = kept_function(self.make, config, transport, times).await?;
        let before = store.as_ref().map(Store::usage).unwrap_or_default();
        Ok(ProcessorPiece { function, store, has_park, before })
    }
}

impl<W: Work, M: FnOnce(Setup) -> W> Bench for ProcessorBench<M> {
    type Piece = ProcessorPiece<W>;

    async fn set_up(self, stage: &Stage<'_>) -> Result<ProcessorPiece<W>, Complaint> {
        let mut client = match &stage.endpoint_url {
            Some(_) => config::roots(config::process_environment())?.network(),
            None => SharedHttpClient::new(stage.embedded()?),
        };
        if stage.seed.is_some() {
            client = FaultyClient::wrap(client, Arc::clone(stage.clock));
        }
        self.piece(client, stage).await
    }
}

/// The function over a processor, where an earlier run or a deployment has kept its tables.
pub(super) async fn kept<W: Work>(
    make: impl FnOnce(Setup) -> W,
    order: Option<Order>,
    place: &PlaceArgs,
) -> Result<Function<W>, Complaint> {
    let url = place.endpoint_url.as_deref().unwrap_or(EMBEDDED_URL);
    let config = kept_config(order, processor_settings(None), url).await?;
    let client = transport(place, &config.roots, config.durable.endpoint.as_ref())?;
    let clock = Arc::new(SystemClock);
    let now = clock.now();
    let times: (Arc<dyn Clock>, u64) = (clock, now.0.cast_unsigned());
    // An operation makes no tables: where there are none, nothing is parked.
    let (function, _) = kept_function(make, config, (client, None), times).await?;
    Ok(function)
}

/// What an earlier run or a deployment has kept: the store, the name of the ledger's table, and
/// what the names of the views' tables begin with. A deployed function's settings say where.
pub(super) async fn kept_tables(
    place: &PlaceArgs,
    of_function: Option<(BTreeMap<String, String>, Option<&str>)>,
) -> Result<(Store, String, String), Complaint> {
    let (variables, region) = of_function.unwrap_or_default();
    let bench = ViewBench::new(Vec::new(), place.endpoint_url.clone());
    let settings = if place.function.is_some() {
        let url = config::process_environment().find(|(name, _)| name == DYNAMODB_URL);
        let url = url.map(|(_, url)| url);
        let account = Account::for_endpoints([url.as_deref()], region).await?;
        let pairs = variables.into_iter().chain(account.environment());
        let region = region.map(|region| ("AWS_REGION".to_owned(), region.to_owned()));
        let mut settings = ViewConfig::from_env(pairs.chain(region), Path::new(""))?;
        if let Some(credentials) = account.credentials() {
            settings.endpoint.sign_with(credentials);
        }
        settings
    } else {
        bench.settings(&bench.account().await?)?
    };
    let client = transport(place, &settings.function.roots, Some(&settings.endpoint))?;
    let clock = Arc::new(SystemClock);
    let seed = clock.now().0.cast_unsigned();
    let store = Store::new(client, &settings.endpoint, clock, seed);
    Ok((store, settings.ledger_table, settings.table_prefix))
}

/// The function over views whose tables an earlier run or a deployment has kept. Those that are
/// missing are made only if that is said.
pub(super) async fn kept_views(
    place: &PlaceArgs,
    paths: Vec<PathBuf>,
    makes_tables: bool,
) -> Result<Function<Views>, Complaint> {
    let url = place.endpoint_url.as_deref().unwrap_or(EMBEDDED_URL);
    let account = Account::for_endpoints([Some(url)], None).await?;
    let bench = ViewBench::new(paths, place.endpoint_url.clone());
    let views = bench.views()?;
    let mut settings = bench.settings(&account)?;
    let client = transport(place, &settings.function.roots, Some(&settings.endpoint))?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let Timestamp(now) = clock.now();
    let seed = now.cast_unsigned();
    let deadline = Timestamp(now.saturating_add_unsigned(SETUP_MS));
    if let Some(endpoint) = &mut settings.source_endpoint {
        let account = Account::for_endpoints([endpoint.url.as_deref()], None).await?;
        if let Some(credentials) = account.credentials() {
            endpoint.sign_with(credentials);
        }
    }
    let sources = settings.source_endpoint.as_ref().map(|endpoint| {
        let network = settings.function.roots.network_to(endpoint);
        Store::new(network, endpoint, Arc::clone(&clock), seed)
    });
    let store = Store::new(client, &settings.endpoint, Arc::clone(&clock), seed);
    let tables = (&*settings.ledger_table, &*settings.table_prefix);
    // An operator's command proposes nothing, except where it makes the tables for it.
    let views = if makes_tables {
        Views::ensure_tables(&views, &store, tables.0, tables.1, deadline).await?;
        Views::open(views, store, tables, &settings.owner, deadline).await?
    } else {
        Views::attach(views, store, tables, &settings.owner, deadline).await?
    };
    let function = Function::new(views.with_source_store(sources), clock);
    Ok(function.with_operations(settings.function.operations))
}

/// What is behind the kept tables.
fn transport(
    place: &PlaceArgs,
    roots: &Roots,
    endpoint: Option<&Endpoint>,
) -> Result<SharedHttpClient, Complaint> {
    let Some(directory) = &place.state else {
        return Ok(endpoint.map_or_else(|| roots.network(), |endpoint| roots.network_to(endpoint)));
    };
    let file = directory.join(TABLES_FILE);
    if !file.exists() {
        return Err(Complaint::new(format!("{}: no kept state", directory.display()))
            .with_hint("it is what `replay --state` has made"));
    }
    Ok(SharedHttpClient::new(Embedded::open(Some(&file))?))
}

/// The settings of the environment, and these, with the credentials that they turn out to need.
async fn kept_config(
    order: Option<Order>,
    settings: Vec<(&'static str, String)>,
    url: &str,
) -> Result<Config, Complaint> {
    let read = |account: &Account| {
        let settings = settings.iter().map(|(name, value)| ((*name).to_owned(), value.clone()));
        let url = (DYNAMODB_URL.to_owned(), url.to_owned());
        let pairs = account.environment().chain(settings).chain([url]);
        Config::from_env_in_order(pairs, order.clone())
    };
    let config = read(&Account::default())?;
    let in_use = config.durable.endpoints_in_use().map(|endpoint| endpoint.url.as_deref());
    let account = Account::for_endpoints(in_use, None).await?;
    let Some(credentials) = account.credentials() else { return Ok(config) };
    let mut config = read(&account)?;
    config.durable.sign_with(credentials);
    Ok(config)
}

/// The function over a processor and its store: none where there is no table. The tables are
/// made where they are missing, if there is a deadline for it.
async fn kept_function<W: Work>(
    make: impl FnOnce(Setup) -> W,
    config: Config,
    (client, made_by): (SharedHttpClient, Option<Timestamp>),
    (clock, seed): (Arc<dyn Clock>, u64),
) -> Result<(Function<W>, Option<Store>), Complaint> {
    let mut store = None;
    let open =
        |endpoint: &_| store.insert(Store::new(client, endpoint, Arc::clone(&clock), seed)).clone();
    let durable = config.durable.durable_state(open, (&clock, seed));
    if let Some(deadline) = made_by {
        durable.ensure_tables(deadline).await?;
    }
    let parked_queues = config.durable.parked_queues.clone();
    #[cfg(feature = "destinations")]
    let rescue = config.durable.rescue(&clock, seed);
    let Config { order, concurrency, operations, .. } = config;
    let setup = Setup { order, concurrency, durable, clock: Arc::clone(&clock), seed };
    let function = Function::new(make(setup), clock)
        .with_parked_queues(parked_queues)
        .with_operations(operations);
    #[cfg(feature = "destinations")]
    let function = function.with_rescue(rescue);
    Ok((function, store))
}

impl<W: Work> Piece for ProcessorPiece<W> {
    type Target = Function<W>;

    fn target(&self) -> &Self::Target {
        &self.function
    }

    async fn results(&self) -> Result<Results, Complaint> {
        // Reading the results is not part of the run.
        let store = self.store.as_ref().map(Store::usage).unwrap_or_default().since(self.before);
        if !self.has_park {
            return Ok(Results { store, ..Results::default() });
        }
        let call = Call::new("report", NO_DEADLINE);
        let list = Operation::List(Selection { limit: Some(LISTED_MAX), ..Selection::default() });
        let listing = self.function.work().operate(&list, &call).await?;
        let listing: Listing = serde_json::from_value(listing)?;
        Ok(Results { parked: Some(listing.parked), store, ..Results::default() })
    }

    async fn operate(&self, operation: Operation) -> Result<Value, Complaint> {
        operate(&self.function, &operation).await
    }
}
