//! Where the tables and streams are: on this desk, at another endpoint, or on AWS.

use super::{Complaint, DevArgs};
use crate::{
    clock::{Clock as _, SystemClock},
    config,
    local::{
        cli::{account::Account, replay::take},
        endpoint::{Endpoint, Serving, State},
        live::Written,
        template::REGION,
    },
    recovery::services::{Endpoints, Services},
    store::{self, Roots},
};
use aws_credential_types::{Credentials, provider::SharedCredentialsProvider};
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use futures_util::FutureExt as _;
use std::{net::Ipv4Addr, path::Path, sync::Arc};

/// Nobody checks it; a client has to have one.
const KEY: &str = "local";

/// The services to read, and the endpoint of the function's own tables.
pub(super) struct Place {
    services: Services,
    dynamodb: store::Endpoint,
    served: Option<Arc<Endpoint>>,
    /// Held where nothing is served that would hold it.
    _alone: Option<State>,
    tables_url: String,
    is_aws: bool,
}

impl Place {
    pub(super) async fn open(arguments: &DevArgs, directory: &Path) -> Result<Self, Complaint> {
        let served = match &arguments.endpoint_url {
            Some(_) => None,
            None => Some(Arc::new(serve(arguments.port, directory).await?)),
        };
        let kept = arguments.state.clone().filter(|_| served.is_none());
        let alone = kept.map(take).transpose()?;
        let url = served.as_ref().map(|served| served.url());
        let tables_url = url.or(arguments.endpoint_url.clone()).unwrap_or_default();
        let roots = config::roots(config::process_environment())?;
        if arguments.aws {
            let account = Account::for_endpoints([None], None).await?;
            let Some(region) = account.region().map(str::to_owned) else {
                return Err(Complaint::new("no AWS Region is known")
                    .with_hint("set AWS_REGION, or `region` in the profile"));
            };
            let credentials = account.credentials().cloned().unwrap_or_else(local_credentials);
            let endpoints = Endpoints::new(&region, &credentials, |_| None);
            let dynamodb = store::Endpoint { region, url: None, credentials };
            let served = (served, alone);
            return Ok(Self::new(&roots, endpoints, dynamodb, served, tables_url, true));
        }
        let environment = config::process_environment().find(|(name, _)| name == "AWS_REGION");
        let region = environment.map_or_else(|| REGION.to_owned(), |(_, region)| region);
        let credentials = local_credentials();
        let kinesis = arguments.kinesis_endpoint_url.as_ref().unwrap_or(&tables_url);
        let endpoints = Endpoints::new(&region, &credentials, |name| {
            Some(if name.ends_with("_KINESIS") { kinesis } else { &tables_url }.clone())
        });
        let url = Some(tables_url.clone());
        let dynamodb = store::Endpoint { region, url, credentials };
        Ok(Self::new(&roots, endpoints, dynamodb, (served, alone), tables_url, false))
    }

    fn new(
        roots: &Roots,
        endpoints: Endpoints,
        dynamodb: store::Endpoint,
        (served, alone): (Option<Arc<Endpoint>>, Option<State>),
        tables_url: String,
        is_aws: bool,
    ) -> Self {
        let network: SharedHttpClient = roots.network_to(&dynamodb);
        let seed = SystemClock.now().0.cast_unsigned();
        let services = Services::new(network, endpoints, Arc::new(SystemClock), seed);
        Self { services, dynamodb, served, _alone: alone, tables_url, is_aws }
    }

    pub(super) fn services(&self) -> &Services {
        &self.services
    }

    /// Whether the tables and streams are AWS's, which are not written to.
    pub(super) fn is_aws(&self) -> bool {
        self.is_aws
    }

    /// Where the tables are that event sources read.
    pub(super) fn dynamodb(&self) -> &store::Endpoint {
        &self.dynamodb
    }

    /// Where the function keeps its tables.
    pub(super) fn tables_url(&self) -> String {
        self.tables_url.clone()
    }

    /// Where a program finds all services of the desk.
    pub(super) fn variables(&self) -> Vec<(String, String)> {
        let mut variables = vec![("AWS_ENDPOINT_URL".to_owned(), self.tables_url.clone())];
        let kinesis = self.services.endpoints.kinesis.url.clone().filter(|_| !self.is_aws);
        if let Some(kinesis) = kinesis.filter(|url| *url != self.tables_url) {
            variables.push(("AWS_ENDPOINT_URL_KINESIS".to_owned(), kinesis));
        }
        variables
    }

    /// The desk's own endpoint says when it was written to.
    pub(super) fn written(&self) -> Option<Written> {
        let served = self.served.as_ref().filter(|_| !self.is_aws).map(Arc::clone)?;
        Some(Arc::new(move || served.written().boxed()))
    }

    /// What a producer's shell has to know.
    pub(super) fn export_line(&self) -> String {
        let Self { tables_url, dynamodb, .. } = self;
        if self.is_aws {
            return format!("reading on AWS; the function's tables are at {tables_url}");
        }
        let region = &dynamodb.region;
        // Not every SDK asks for the Region by the same name.
        format!(
            "export AWS_ENDPOINT_URL={tables_url} AWS_ACCESS_KEY_ID={KEY} \
             AWS_SECRET_ACCESS_KEY={KEY} AWS_REGION={region} AWS_DEFAULT_REGION={region}"
        )
    }
}

async fn serve(port: u16, directory: &Path) -> Result<Endpoint, Complaint> {
    let address = (Ipv4Addr::LOCALHOST, port).into();
    let state = Some(directory.to_owned());
    let clock = Arc::new(SystemClock);
    Ok(Endpoint::start(Serving { address, state, clock }).await?)
}

fn local_credentials() -> SharedCredentialsProvider {
    SharedCredentialsProvider::new(Credentials::new(KEY, KEY, None, None, "desk"))
}
