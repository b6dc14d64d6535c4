//! What `replay --invoke-url` drives: a function that somebody else runs.
//!
//! Its tables are its own. With `--views` and `--endpoint-url` the desk reads the rows of views
//! there at the end, and makes the tables before.

use super::{
    Complaint,
    account::Account,
    bench::{Bench, Piece, Stage, ViewBench, ViewPiece},
};
use crate::{
    clock::{Clock as _, SystemClock},
    config,
    invoke::LambdaApi,
    local::{
        clock::{Pace, VirtualClock},
        invoke_url::{InvokeUrl, RemoteFunction},
        report::Results,
    },
    operation::Operation,
};
use serde_json::Value;
use std::{path::PathBuf, sync::Arc, time::Duration};
use tokio::net::TcpStream;

/// The setting that says where Lambda's API is.
const LAMBDA_URL: &str = "AWS_ENDPOINT_URL_LAMBDA";

const CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// A function by its URL, and the views it is said to keep.
#[derive(Debug, Clone)]
pub(super) struct InvokeUrlBench {
    url: InvokeUrl,
    views: ViewBench,
}

/// The function there.
pub(super) struct InvokeUrlPiece {
    function: RemoteFunction,
    views: Option<ViewPiece>,
}

impl InvokeUrlBench {
    pub(super) fn new(url: InvokeUrl, views: ViewBench) -> Self {
        Self { url, views }
    }

    fn check(&self, stage: &Stage<'_>) -> Result<(), Complaint> {
        if stage.seed.is_some() {
            return Err(Complaint::new("--faults does not reach a function behind a URL yet")
                .with_hint("leave out one of the two"));
        }
        if !self.views.paths.is_empty() && !self.views.is_remote() {
            return Err(Complaint::new("where the function keeps its views is not known")
                .with_hint("name its DynamoDB with --endpoint-url, or leave --views out"));
        }
        Ok(())
    }

    /// Whether anybody is there: a run without is only throttled.
    async fn reach(&self) -> Result<(), Complaint> {
        let (scheme, rest) = self.url.endpoint.split_once("://").unwrap_or_default();
        let authority = rest.split('/').next().unwrap_or_default();
        let has_port =
            authority.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let port = if scheme == "https" { 443 } else { 80 };
        let address = if has_port { authority.to_owned() } else { format!("{authority}:{port}") };
        let connecting = tokio::time::timeout(CONNECT_WITHIN, TcpStream::connect(&address));
        let why = match connecting.await {
            Ok(Ok(_)) => return Ok(()),
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {} s", CONNECT_WITHIN.as_secs()),
        };
        Err(Complaint::new(format!("{}: {why}", self.url.endpoint))
            .with_hint("start the function first, `cargo lambda watch` for instance"))
    }
}

impl Bench for InvokeUrlBench {
    type Piece = InvokeUrlPiece;

    fn keeps_views(&self) -> bool {
        !self.views.paths.is_empty()
    }

    fn again(&self) -> Option<Self> {
        Some(self.clone())
    }

    fn files(&self) -> Vec<PathBuf> {
        self.views.paths.clone()
    }

    fn pace(&self) -> Pace {
        Pace::Real
    }

    async fn set_up(self, stage: &Stage<'_>) -> Result<InvokeUrlPiece, Complaint> {
        self.check(stage)?;
        self.reach().await?;
        let url = self.url.endpoint.clone();
        let account = Account::for_endpoints([Some(&*url)], None).await?;
        let credentials = account.credentials().cloned();
        let pairs = account.environment().chain([(LAMBDA_URL.to_owned(), url)]);
        // The function stands beside its stream.
        let mut arn = stage.function_arn.split(':').skip(3);
        let (region, of_stage) = (arn.next(), arn.nth(2).unwrap_or_default());
        let endpoint = config::function_endpoint(pairs, region, credentials)?;
        let roots = config::roots(config::process_environment())?;
        let seed = SystemClock.now().0.cast_unsigned();
        let clock: Arc<VirtualClock> = Arc::clone(stage.clock);
        let api = LambdaApi::new(endpoint, roots, clock.clone(), seed);
        let name = self.url.function.clone().unwrap_or_else(|| of_stage.to_owned());
        let views = if self.views.paths.is_empty() {
            None
        } else {
            let settings = self.views.settings(&self.views.account().await?)?;
            let client = settings.function.roots.network_to(&settings.endpoint);
            Some(self.views.piece(client, stage, &settings).await?)
        };
        Ok(InvokeUrlPiece { function: RemoteFunction::new(api, name, clock), views })
    }
}

impl Piece for InvokeUrlPiece {
    type Target = RemoteFunction;

    fn target(&self) -> &RemoteFunction {
        &self.function
    }

    async fn results(&self) -> Result<Results, Complaint> {
        match &self.views {
            Some(views) => views.results().await,
            None => Ok(Results::default()),
        }
    }

    async fn operate(&self, operation: Operation) -> Result<Value, Complaint> {
        match &self.views {
            Some(views) => views.operate(operation).await,
            None => Err(Complaint::new("what the function keeps is not known here")),
        }
    }
}
