//! What a replay drives: the views, or a processor of the user's.
//!
//! The one file of the desk that knows the function's settings, its store and its views.

use super::{Complaint, talk};
use crate::{
    batch::lanes::Lanes,
    config::{self, Config, ViewConfig},
    handler::Function,
    local::{
        clock::VirtualClock,
        faulty_client::FaultyClient,
        report::{Results, ViewRows},
        run::LISTED_MAX,
        target::Target,
    },
    processor::Processor,
    store::{self, Store, Usage, embedded},
    view::{Views, definition::View, load::load},
};
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

/// Where view definitions are looked for unless told otherwise.
const VIEWS_DEFAULT: &str = "views";

/// Table names, unless the environment says others.
const LEDGER_TABLE: &str = "changefold_ledger";
const VIEW_TABLE_PREFIX: &str = "changefold_";

/// What the embedded store is addressed as; nothing is sent there.
const EMBEDDED_URL: &str = "http://embedded";

/// The embedded store's file in a state directory.
const TABLES_FILE: &str = "tables.sqlite";

/// How long making tables may take, in milliseconds.
const SETUP_MS: u64 = 60_000;

/// What is known when a bench is set up.
pub(super) struct Stage<'a> {
    /// The table or stream that the records come from.
    pub(super) stream_name: &'a str,
    /// The run's clock.
    pub(super) clock: &'a Arc<VirtualClock>,
    /// Where to keep the tables.
    pub(super) state: Option<&'a Path>,
    /// The seed of the faults, if there are to be any.
    pub(super) seed: Option<u64>,
}

/// Something a replay can drive.
pub(super) trait Bench {
    /// What setting up makes.
    type Piece: Piece;

    /// Whether calls leave this process, so that pauses have to be real.
    fn is_remote(&self) -> bool;

    /// Makes the function for one stream.
    async fn set_up(self, stage: &Stage<'_>) -> Result<Self::Piece, Complaint>;
}

/// The function, made for one stream.
pub(super) trait Piece {
    /// What the mapping invokes.
    type Target: Target;

    /// The function itself.
    fn target(&self) -> &Self::Target;

    /// Reads what the function has made.
    async fn results(&self) -> Result<Results, Complaint>;
}

/// The views of `.sql` files, in the embedded store or at an endpoint.
pub(super) struct ViewBench {
    paths: Vec<PathBuf>,
    endpoint_url: Option<String>,
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

    /// The views that read from this stream; says which ones do not.
    fn views_of(&self, stream_name: &str) -> Result<Vec<View>, Complaint> {
        let views = if self.paths.is_empty() {
            load(Path::new(VIEWS_DEFAULT)).map_err(|error| {
                Complaint::from(error).with_hint("name view definitions with --views FILE|DIR")
            })?
        } else {
            let mut views = Vec::new();
            for path in &self.paths {
                views.extend(load(path)?);
            }
            views
        };
        let (of_stream, others): (Vec<View>, Vec<View>) =
            views.into_iter().partition(|view| view.from == stream_name);
        for view in &others {
            talk(format_args!(
                "view `{}` is skipped: it reads FROM {}, the fixture is of {stream_name}",
                view.name, view.from
            ));
        }
        if of_stream.is_empty() {
            let message = format!("no view reads FROM {stream_name}, the fixture's stream");
            return Err(Complaint::new(message)
                .with_hint("FROM is the table or stream name in the event source ARN, exactly"));
        }
        Ok(of_stream)
    }

    /// The transport to the store, and the settings of the function that uses it.
    fn open(&self, stage: &Stage<'_>) -> Result<(SharedHttpClient, ViewConfig), Complaint> {
        let url = self.endpoint_url.as_deref().unwrap_or(EMBEDDED_URL);
        let mut pairs = vec![
            (config::LEDGER_TABLE.to_owned(), LEDGER_TABLE.to_owned()),
            (config::VIEW_TABLE_PREFIX.to_owned(), VIEW_TABLE_PREFIX.to_owned()),
        ];
        pairs.extend(config::process_environment());
        pairs.push(("AWS_ENDPOINT_URL_DYNAMODB".to_owned(), url.to_owned()));
        let settings = ViewConfig::from_env(pairs, Path::new(""))?;
        let client = if self.is_remote() {
            store::network()
        } else {
            let file = stage.state.map(|directory| directory.join(TABLES_FILE));
            embedded::open(file.as_deref())?
        };
        Ok((client, settings))
    }
}

impl Bench for ViewBench {
    type Piece = ViewPiece;

    fn is_remote(&self) -> bool {
        self.endpoint_url.is_some()
    }

    async fn set_up(self, stage: &Stage<'_>) -> Result<ViewPiece, Complaint> {
        let views = self.views_of(stage.stream_name)?;
        let (mut client, settings) = self.open(stage)?;
        if stage.seed.is_some() {
            client = FaultyClient::wrap(client, Arc::clone(stage.clock));
        }
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
        let views = Views::open(views, store, ledger, prefix, deadline).await?;
        let before = views.store().usage();
        Ok(ViewPiece { function: Function::new(views, clock), before })
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
        let after = views.store().usage();
        let store = Usage {
            calls: after.calls - self.before.calls,
            write_units: after.write_units - self.before.write_units,
            read_units: after.read_units - self.before.read_units,
        };
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
        Ok(Results { views: listed, quarantined, store })
    }
}

/// A processor of the user's, in its lanes.
pub(super) struct ProcessorBench<P> {
    processor: P,
}

/// The function over a processor.
pub(super) struct ProcessorPiece<P> {
    function: Function<Lanes<P>>,
}

impl<P> ProcessorBench<P> {
    pub(super) fn new(processor: P) -> Self {
        Self { processor }
    }
}

impl<P: Processor> Bench for ProcessorBench<P> {
    type Piece = ProcessorPiece<P>;

    fn is_remote(&self) -> bool {
        false
    }

    async fn set_up(self, stage: &Stage<'_>) -> Result<ProcessorPiece<P>, Complaint> {
        let config = Config::from_process()?;
        let clock: Arc<VirtualClock> = Arc::clone(stage.clock);
        let lanes = Lanes::new(self.processor, clock.clone())
            .with_order(config.order)
            .with_concurrency(config.concurrency);
        Ok(ProcessorPiece { function: Function::new(lanes, clock) })
    }
}

impl<P: Processor> Piece for ProcessorPiece<P> {
    type Target = Function<Lanes<P>>;

    fn target(&self) -> &Self::Target {
        &self.function
    }

    async fn results(&self) -> Result<Results, Complaint> {
        Ok(Results::default())
    }
}
