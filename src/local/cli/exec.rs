//! What `replay --exec` drives: a program, in processes of its own.
//!
//! The desk gives it what Lambda and DynamoDB give it in production: invocations through the
//! Runtime API, and the store behind an endpoint. It also makes the tables and reads them at
//! rest, as it does for the function in its own process: with `--views` those of the views,
//! without those of a processor (parks and progress) in the store that it serves. Any other
//! function does not look at them. What it gives up: faults of the store meet what is served
//! here, not another endpoint.

use super::{
    Complaint,
    account::Account,
    bench::{Bench, Piece, ProcessorBench, ProcessorPiece, SETUP_MS, Stage, ViewBench, ViewPiece},
    where_paths_begin,
};
use crate::{
    batch::lanes::Lanes,
    config::{self, durable},
    local::{
        clock::{Pace, VirtualClock},
        report::Results,
        runtime_api::{Program, RuntimeApi},
        store_server::{DYNAMODB_URL, ServedStore},
    },
    operation::Operation,
    processor::{Context, Failure, Processor},
    record::Change,
    store::Usage,
};
use aws_credential_types::provider::ProvideCredentials as _;
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use serde::de::IgnoredAny;
use serde_json::Value;
use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    sync::Arc,
};

/// What the file of a module ends in, where an argument names a function of it.
const MODULE_ENDS: [&str; 4] = ["py", "js", "mjs", "cjs"];

/// What the environment may say itself; an SDK needs all of them, whatever they are.
const CREDENTIALS: [&str; 2] = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"];

/// A program, the views it is said to keep, and where.
#[derive(Debug, Clone)]
pub(super) struct ExecBench {
    program: PathBuf,
    arguments: Vec<OsString>,
    views: ViewBench,
}

/// The program as the function.
pub(super) struct ExecPiece {
    function: RuntimeApi,
    tables: Tables,
    store: Option<ServedStore>,
    /// What starting the program has cost already.
    before: Usage,
}

/// Who reads the program's tables: the function in this process, which is never invoked.
enum Tables {
    OfViews(Box<ViewPiece>),
    OfProcessor(Box<ProcessorPiece<Lanes<Elsewhere>>>),
    /// At another endpoint a processor's tables are the user's own.
    Unknown,
}

/// Stands for the processor in the program.
struct Elsewhere;

impl Processor for Elsewhere {
    type Item<'a> = IgnoredAny;

    async fn process(&self, _: Change<IgnoredAny>, _: &Context<'_>) -> Result<(), Failure> {
        Err(Failure::halt("the processor is in another process"))
    }
}

impl ExecBench {
    pub(super) fn new(program: PathBuf, arguments: Vec<OsString>, views: ViewBench) -> Self {
        Self { program, arguments, views }
    }

    /// The program, with what the function's template and Lambda would tell it.
    async fn program(&self, stage: &Stage<'_>, account: &Account) -> Result<Program, Complaint> {
        let program = Program::new(&self.program, stage.function_arn);
        let variables = stage.variables.iter();
        let mut program =
            variables.fold(program, |program, (name, value)| program.with_variable(name, value));
        if let Some(url) = &self.views.endpoint_url {
            program = program.with_variable(DYNAMODB_URL, url);
        }
        for argument in &self.arguments {
            program = program.with_argument(argument);
        }
        for name in CREDENTIALS {
            program = program.with_variable(name, "local");
        }
        for (name, value) in account.environment() {
            if name == "AWS_REGION" || CREDENTIALS.contains(&name.as_str()) {
                program = program.with_variable(name, value);
            }
        }
        // As Lambda does: what is good now, for as long as the process lives.
        if let Some(credentials) = account.credentials() {
            let now = credentials.provide_credentials().await?;
            let [id, secret] = CREDENTIALS;
            program = program
                .with_variable(id, now.access_key_id())
                .with_variable(secret, now.secret_access_key());
            if let Some(token) = now.session_token() {
                program = program.with_variable("AWS_SESSION_TOKEN", token);
            }
        }
        let [views] = self.views.paths.as_slice() else {
            let settings = if self.views.is_remote() { vec![] } else { stage.processor_settings() };
            return Ok(settings
                .into_iter()
                .fold(program, |program, (name, value)| program.with_variable(name, value)));
        };
        let settings = self.views.settings(account)?;
        Ok(program
            .with_variable(config::VIEWS, std::path::absolute(views)?)
            // The ledger is the desk's, which reads it beside the program.
            .with_variable(durable::CONSUMER, settings.owner.name())
            .with_variable(config::LEDGER_TABLE, settings.ledger_table)
            .with_variable(config::VIEW_TABLE_PREFIX, settings.table_prefix))
    }

    fn check(&self) -> Result<(), Complaint> {
        if self.views.paths.len() > 1 {
            let message = "a program is told of one file or directory, not of several --views";
            return Err(
                Complaint::new(message).with_hint("put the files into one directory and name that")
            );
        }
        Ok(())
    }
}

impl Bench for ExecBench {
    type Piece = ExecPiece;

    fn keeps_views(&self) -> bool {
        !self.views.paths.is_empty()
    }

    fn again(&self) -> Option<Self> {
        Some(self.clone())
    }

    /// The program, the views, and what an argument names: a file, or a module of Python or
    /// JavaScript with a function of it (`app.handler`).
    fn files(&self) -> Vec<PathBuf> {
        let mut files = self.views.paths.clone();
        let of_path = self.program.components().count() > 1;
        files.extend(of_path.then(|| self.program.clone()));
        for argument in &self.arguments {
            let path = Path::new(argument);
            let modules = MODULE_ENDS.iter().map(|end| path.with_extension(end));
            let named = [path.to_owned()].into_iter().chain(modules);
            files.extend(named.filter(|path| path.is_file()));
        }
        files
    }

    fn pace(&self) -> Pace {
        Pace::Real
    }

    fn serves_store(&self) -> bool {
        !self.views.is_remote()
    }

    async fn set_up(self, stage: &Stage<'_>) -> Result<ExecPiece, Complaint> {
        self.check()?;
        let account = self.views.account().await?;
        let embedded = if self.serves_store() { Some(stage.embedded()?) } else { None };
        let store = embedded.clone().map(|embedded| {
            // With faults answers are lost, and SDKs repeat such a call.
            let has_faults = stage.seed.is_some();
            ServedStore::new(if has_faults { embedded.keeping_tokens() } else { embedded })
        });
        let client = embedded.map(SharedHttpClient::new);
        let tables = match client {
            client if !self.views.paths.is_empty() => {
                let settings = self.views.settings(&account)?;
                let network = || settings.function.roots.network_to(&settings.endpoint);
                let client = client.unwrap_or_else(network);
                Tables::OfViews(Box::new(self.views.piece(client, stage, &settings).await?))
            }
            Some(client) => {
                let bench = ProcessorBench::new(|setup| Lanes::set_up(Elsewhere, setup), None);
                Tables::OfProcessor(Box::new(bench.piece(client, stage).await?))
            }
            None => Tables::Unknown,
        };
        let clock: Arc<VirtualClock> = Arc::clone(stage.clock);
        let function =
            RuntimeApi::new(self.program(stage, &account).await?, Arc::clone(&clock) as _);
        let function = match &store {
            Some(store) => function.with_store(store.clone(), clock),
            None => function,
        };
        function.warm_up(stage.clock.timestamp(SETUP_MS)).await.map_err(|error| {
            let is_path = self.program.components().count() > 1;
            Complaint::from(error).with_hint(if is_path && !self.program.exists() {
                where_paths_begin()
            } else {
                "a function that keeps views needs --views; see also what it wrote above".to_owned()
            })
        })?;
        let before = store.as_ref().map(ServedStore::usage).unwrap_or_default();
        Ok(ExecPiece { function, tables, store, before })
    }
}

impl Piece for ExecPiece {
    type Target = RuntimeApi;

    fn target(&self) -> &RuntimeApi {
        &self.function
    }

    /// The tables, and what the program has asked the store that is served to it; what it asks
    /// another endpoint is not known.
    async fn results(&self) -> Result<Results, Complaint> {
        let usage = self.store.as_ref().map(ServedStore::usage).unwrap_or_default();
        let mut results = match &self.tables {
            Tables::OfViews(views) => views.results().await?,
            Tables::OfProcessor(processor) => processor.results().await?,
            Tables::Unknown => Results::default(),
        };
        results.store = usage.since(self.before);
        Ok(results)
    }

    async fn operate(&self, operation: Operation) -> Result<Value, Complaint> {
        match &self.tables {
            Tables::OfViews(views) => views.operate(operation).await,
            Tables::OfProcessor(processor) => processor.operate(operation).await,
            Tables::Unknown => Err(Complaint::new("what the program keeps is not known here")),
        }
    }
}
