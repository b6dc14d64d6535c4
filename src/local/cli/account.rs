//! Whose requests the command line sends: credentials and Region, found where every tool of AWS
//! finds them.
//!
//! A function in Lambda has both in its environment. A person has them in profiles (keys, IAM
//! Identity Center, assumed roles, a program that prints them), or the machine has them.
//! `aws-config` looks in all these places, the environment first, and is part of the desk
//! alone. What it finds is used until shortly before it expires and then asked for again, so a
//! long redrive outlasts a session. What it gives up: endpoints that a profile names, and the
//! sessions of `aws login`.

use super::Complaint;
use crate::{
    clock::{Clock, SystemClock},
    config,
    local::target::with_sources,
    record::Timestamp,
    store::checks_signatures,
};
use aws_config::{BehaviorVersion, Region};
use aws_credential_types::{
    Credentials,
    provider::{
        ProvideCredentials, SharedCredentialsProvider, error::CredentialsError,
        future::ProvideCredentials as Provided,
    },
};
use std::time::{Duration, UNIX_EPOCH};
use tokio::sync::Mutex;

/// Credentials that have less time left are asked for again: longer than a request takes.
const LEFT_MIN: Duration = Duration::from_mins(1);

/// How the hosts of AWS's own endpoints end, by partition.
const AWS_HOSTS: [&str; 5] =
    [".amazonaws.com", ".amazonaws.com.cn", ".api.aws", ".amazonaws.eu", ".ic.gov"];

const HOW_TO_SIGN_IN: &str = "sign in as for the AWS CLI: `aws configure`, or `aws configure sso` \
     and `aws sso login`; AWS_PROFILE chooses a profile, AWS_ACCESS_KEY_ID and \
     AWS_SECRET_ACCESS_KEY go before all profiles";

/// Credentials and Region of whoever runs the command.
#[derive(Debug, Clone, Default)]
pub(super) struct Account {
    region: Option<String>,
    credentials: Option<SharedCredentialsProvider>,
}

impl Account {
    async fn find(region: Option<&str>) -> Result<Self, Complaint> {
        let network = config::roots(config::process_environment())?.network();
        let mut sources = aws_config::defaults(BehaviorVersion::latest()).http_client(network);
        if let Some(region) = region {
            sources = sources.region(Region::new(region.to_owned()));
        }
        let found = sources.load().await;
        let region = found.region().map(ToString::to_string);
        let Some(source) = found.credentials_provider() else {
            return Ok(Self { region, credentials: None });
        };
        let credentials = SharedCredentialsProvider::new(Kept { source, last: Mutex::default() });
        match credentials.provide_credentials().await {
            Ok(_) => Ok(Self { region, credentials: Some(credentials) }),
            Err(error) => Err(complaint(&error)),
        }
    }

    /// Finds what requests to these endpoints need. The command itself may say the `region`.
    ///
    /// A server of one's own looks at no signature: plain `http` needs nothing, and another
    /// host than AWS's can do without.
    ///
    /// # Errors
    /// AWS is to be asked, and there are no credentials, or those that a profile promises
    /// cannot be had.
    pub(super) async fn for_endpoints(
        urls: impl IntoIterator<Item = Option<&str>>,
        region: Option<&str>,
    ) -> Result<Self, Complaint> {
        let mut looked_at = urls.into_iter().filter(|url| checks_signatures(*url)).peekable();
        if looked_at.peek().is_none() {
            return Ok(Self::default());
        }
        match Self::find(region).await {
            Err(_) if !looked_at.any(|url| url.is_none_or(is_of_aws)) => Ok(Self::default()),
            found => found,
        }
    }

    /// The environment of this process, and the Region if only a profile or the machine says it.
    pub(super) fn environment(&self) -> impl Iterator<Item = (String, String)> {
        let region = self.region.clone().map(|region| ("AWS_REGION".to_owned(), region));
        config::process_environment().chain(region)
    }

    /// Where its requests go, if anything says so.
    pub(super) fn region(&self) -> Option<&str> {
        self.region.as_deref()
    }

    /// Who signs, unless it is whom the environment says.
    pub(super) fn credentials(&self) -> Option<&SharedCredentialsProvider> {
        self.credentials.as_ref()
    }
}

fn is_of_aws(url: &str) -> bool {
    let host = url.split("://").nth(1).unwrap_or_default();
    let host = host.split(['/', ':']).next().unwrap_or_default().to_ascii_lowercase();
    AWS_HOSTS.iter().any(|end| host.ends_with(end))
}

fn complaint(error: &CredentialsError) -> Complaint {
    match error {
        CredentialsError::CredentialsNotLoaded(_) => {
            Complaint::new("no AWS credentials found").with_hint(HOW_TO_SIGN_IN)
        }
        _ => Complaint::new(format!("no AWS credentials: {}", with_sources(error))).with_hint(
            "a session that has expired needs `aws sso login`, AWS_PROFILE chooses another \
             profile, and what only the AWS CLI can read it hands over by \
             `eval \"$(aws configure export-credentials --format env)\"`",
        ),
    }
}

/// Credentials that are used until they have almost expired: signing in may take a program, a
/// network, or a person.
#[derive(Debug)]
struct Kept {
    source: SharedCredentialsProvider,
    last: Mutex<Option<Credentials>>,
}

impl ProvideCredentials for Kept {
    fn provide_credentials<'a>(&'a self) -> Provided<'a>
    where
        Self: 'a,
    {
        Provided::new(async {
            let mut last = self.last.lock().await;
            if let Some(credentials) = last.as_ref().filter(|last| is_fresh(last)) {
                return Ok(credentials.clone());
            }
            let found = self.source.provide_credentials().await?;
            Ok(last.insert(found).clone())
        })
    }
}

fn is_fresh(credentials: &Credentials) -> bool {
    let Timestamp(now) = SystemClock.now();
    let until = UNIX_EPOCH + Duration::from_millis(now.unsigned_abs()) + LEFT_MIN;
    credentials.expiry().is_none_or(|expiry| expiry > until)
}

#[cfg(test)]
mod tests {
    use super::is_of_aws;

    #[test]
    fn aws_is_told_by_the_host_alone() {
        for url in [
            "https://dynamodb.eu-west-1.amazonaws.com",
            "https://dynamodb.cn-north-1.amazonaws.com.cn:443/",
            "https://vpce-1.dynamodb.us-east-1.vpce.amazonaws.com/x",
        ] {
            assert!(is_of_aws(url), "{url}");
        }
        for url in ["https://localhost:8000", "https://x.example/.amazonaws.com", "https://"] {
            assert!(!is_of_aws(url), "{url}");
        }
    }
}
