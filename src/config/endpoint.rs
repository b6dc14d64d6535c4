//! Settings of what is reached over the network: endpoints, credentials, certificates.

use super::{ConfigError, Fault, Reader, SOURCE_ENDPOINT_URL, SOURCE_REGION, SOURCE_ROLE};
#[cfg(feature = "backfill")]
use crate::store::role::Role;
use crate::{
    invoke::FunctionEndpoint,
    store::{Bundle, Endpoint, Roots},
};
use aws_sdk_dynamodb::config::{Credentials, SharedCredentialsProvider};
use std::{collections::BTreeMap, path::Path};

/// A file of certificates, in PEM, to believe instead of the usual ones.
pub const CA_BUNDLE: &str = "AWS_CA_BUNDLE";

/// Reads how to reach Lambda's API. A function's ARN may say the `region`; without
/// `credentials` the environment says them.
///
/// # Errors
/// Region or credentials are missing.
pub fn function_endpoint(
    pairs: impl IntoIterator<Item = (String, String)>,
    region: Option<&str>,
    credentials: Option<SharedCredentialsProvider>,
) -> Result<FunctionEndpoint, ConfigError> {
    let mut pairs: BTreeMap<String, String> = pairs.into_iter().collect();
    if let Some(region) = region {
        pairs.insert("AWS_REGION".to_owned(), region.to_owned());
    }
    let mut reader = Reader::new(pairs);
    reader.credentials = credentials;
    let endpoint = of_lambda(reader.endpoint_of("LAMBDA"));
    reader.finish(endpoint)
}

fn of_lambda(Endpoint { region, url, credentials }: Endpoint) -> FunctionEndpoint {
    let url = url.unwrap_or_else(|| {
        let suffix = if region.starts_with("cn-") { ".cn" } else { "" };
        format!("https://lambda.{region}.amazonaws.com{suffix}")
    });
    FunctionEndpoint { url: url.trim_end_matches('/').to_owned(), region, credentials }
}

/// Whose word is taken for what answers at an `https` endpoint.
///
/// # Errors
/// `AWS_CA_BUNDLE` names a file that is of no use.
pub fn roots(pairs: impl IntoIterator<Item = (String, String)>) -> Result<Roots, ConfigError> {
    let mut reader = Reader::new(pairs);
    let roots = reader.roots();
    reader.finish(roots)
}

/// Where S3 is, for a command that reads a bucket. A profile's credentials take the place of the
/// environment's.
///
/// # Errors
/// Region or credentials are missing.
pub fn bucket_endpoint(
    pairs: impl IntoIterator<Item = (String, String)>,
    credentials: Option<SharedCredentialsProvider>,
) -> Result<Endpoint, ConfigError> {
    let mut reader = Reader::new(pairs);
    reader.credentials = credentials;
    let endpoint = reader.endpoint_of("S3");
    reader.finish(endpoint)
}

/// Another endpoint than the Region's for S3, if the environment says one.
pub fn bucket_url(pairs: impl IntoIterator<Item = (String, String)>) -> Option<String> {
    Reader::new(pairs).url_of("S3").map(|(_, url)| url)
}

/// Another endpoint than the Region's for Lambda's API, if the environment says one.
pub fn function_url(pairs: impl IntoIterator<Item = (String, String)>) -> Option<String> {
    Reader::new(pairs).url_of("LAMBDA").map(|(_, url)| url)
}

impl Reader {
    /// `AWS_CA_BUNDLE` stands for all other roots, as in every SDK of AWS; the other two name
    /// the system's.
    pub(super) fn roots(&mut self) -> Roots {
        let Some(path) = self.get(CA_BUNDLE) else {
            let names_system = ["SSL_CERT_FILE", "SSL_CERT_DIR"].map(|name| self.get(name));
            let is_named = names_system.iter().any(Option::is_some);
            return if is_named { Roots::System } else { Roots::Usual };
        };
        match Bundle::read(Path::new(path)) {
            Ok(bundle) => Roots::Bundle(bundle),
            Err(error) => {
                self.fault(Fault::Unusable { name: CA_BUNDLE, reason: error.to_string() });
                Roots::default()
            }
        }
    }

    pub(super) fn endpoint(&mut self) -> Endpoint {
        self.endpoint_of("DYNAMODB")
    }

    /// Where the sources of views are, if a setting says so. Who signs is the same, unless
    /// [`source_role`](Self::source_role) names another.
    pub(super) fn source_endpoint(&mut self) -> Option<Endpoint> {
        let url = self.get(SOURCE_ENDPOINT_URL).map(str::to_owned);
        let region = self.get(SOURCE_REGION).map(str::to_owned);
        if url.is_none() && region.is_none() && self.get(SOURCE_ROLE).is_none() {
            return None;
        }
        if let Some(url) = &url
            && !is_url(url)
        {
            self.invalid(SOURCE_ENDPOINT_URL, URL_EXPECTED);
        }
        let own = self.endpoint();
        // A Region of its own has an endpoint of its own.
        let url = if region.is_some() { url } else { url.or(own.url) };
        Some(Endpoint { region: region.unwrap_or(own.region), url, credentials: own.credentials })
    }

    /// The role that reads the sources of views. The function's own credentials sign at STS, in
    /// its own Region.
    #[cfg(feature = "backfill")]
    pub(super) fn source_role(&mut self, function: &str) -> Option<Role> {
        let arn = self.get(SOURCE_ROLE)?.to_owned();
        let mut parts = arn.splitn(6, ':');
        let is_role = parts.next() == Some("arn")
            && parts.nth(1) == Some("iam")
            && parts.nth(2).is_some_and(|resource| resource.starts_with("role/"));
        if !is_role {
            self.invalid(SOURCE_ROLE, "arn:aws:iam::ACCOUNT:role/NAME");
        }
        let session = format!("changefold-{function}");
        Some(Role { arn, endpoint: self.endpoint_of("STS"), session })
    }

    #[cfg(not(feature = "backfill"))]
    pub(super) fn refuse_source_role(&mut self) {
        if self.get(SOURCE_ROLE).is_some() {
            self.invalid(SOURCE_ROLE, "a build with the feature `backfill`");
        }
    }

    /// How a function reaches Lambda to invoke itself: as everything else, in its own Region.
    /// Lambda tells it Region and credentials; where nobody does, there is no Lambda to ask.
    pub(super) fn own_functions(&mut self) -> Option<FunctionEndpoint> {
        let told = ["AWS_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"];
        let is_told = told.iter().all(|name| self.get(name).is_some());
        let is_reached = is_told || self.url_of("LAMBDA").is_some();
        is_reached.then(|| of_lambda(self.endpoint_of("LAMBDA")))
    }

    /// Another endpoint than the Region's, and the setting that says it.
    pub(super) fn url_of(&self, service: &'static str) -> Option<(&'static str, String)> {
        let own = match service {
            "LAMBDA" => "AWS_ENDPOINT_URL_LAMBDA",
            "S3" => "AWS_ENDPOINT_URL_S3",
            "STS" => "AWS_ENDPOINT_URL_STS",
            _ => "AWS_ENDPOINT_URL_DYNAMODB",
        };
        [own, "AWS_ENDPOINT_URL"]
            .into_iter()
            .find_map(|name| Some((name, self.get(name)?.to_owned())))
    }

    /// Where a service is, by the part of its variable's name that tells it apart.
    pub(super) fn endpoint_of(&mut self, service: &'static str) -> Endpoint {
        if let Some((name, url)) = self.url_of(service) {
            if !is_url(&url) {
                self.invalid(name, URL_EXPECTED);
            }
            // A local server checks no signature and knows no Region.
            let or_local = |name| self.get(name).unwrap_or("local").to_owned();
            let access_key_id = or_local("AWS_ACCESS_KEY_ID");
            let secret_access_key = or_local("AWS_SECRET_ACCESS_KEY");
            let mut endpoint = Endpoint {
                region: self.get("AWS_REGION").unwrap_or("us-east-1").to_owned(),
                credentials: self.of_environment(access_key_id, secret_access_key),
                url: Some(url),
            };
            if let Some(credentials) = &self.credentials {
                endpoint.sign_with(credentials);
            }
            return endpoint;
        }
        let remedy = match service {
            "LAMBDA" => "set it, or AWS_ENDPOINT_URL_LAMBDA",
            _ => "Lambda sets it; elsewhere set it, or AWS_ENDPOINT_URL_DYNAMODB",
        };
        let region = self.required("AWS_REGION", remedy).unwrap_or_default();
        let credentials = self.credentials.clone().unwrap_or_else(|| {
            let mut required = |name| self.required(name, remedy).unwrap_or_default();
            let access_key_id = required("AWS_ACCESS_KEY_ID");
            let secret_access_key = required("AWS_SECRET_ACCESS_KEY");
            self.of_environment(access_key_id, secret_access_key)
        });
        Endpoint { region, url: None, credentials }
    }

    pub(super) fn of_environment(
        &self,
        access_key_id: String,
        secret_access_key: String,
    ) -> SharedCredentialsProvider {
        let session_token = self.get("AWS_SESSION_TOKEN").map(str::to_owned);
        let (id, secret) = (access_key_id, secret_access_key);
        let of_environment = Credentials::new(id, secret, session_token, None, "environment");
        SharedCredentialsProvider::new(of_environment)
    }
}

const URL_EXPECTED: &str = "a URL with `http://` or `https://`";

fn is_url(text: &str) -> bool {
    text.starts_with("http://") || text.starts_with("https://")
}
