//! The transport to a real endpoint, and whose word it takes for who answers there.
//!
//! Separate because trust is the deployment's choice and no matter of the store's operations.
//! Reading the system's 144 roots takes longer than the rest of a function's start together,
//! so nothing is read before the first connection needs it: none for `http`, the five roots of
//! Amazon Trust Services for AWS's own endpoints, the system's for any other. Amazon supports
//! no pinning, and a proxy may stand between: an answer that the five do not vouch for is
//! judged by the system's roots, as every other SDK does from the beginning. So nothing is
//! trusted less than there and nothing more. What it gives up: a certificate of such a proxy
//! costs one more handshake, at the first connection.

use super::Endpoint;
use aws_smithy_http_client::{
    Builder, Connector,
    tls::{Provider, TlsContext, TrustStore, rustls_provider::CryptoMode},
};
use aws_smithy_runtime_api::client::{
    connector_metadata::ConnectorMetadata,
    http::{
        HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient,
        SharedHttpConnector,
    },
    orchestrator::HttpRequest,
    runtime_components::RuntimeComponents,
};
use rustls::{
    RootCertStore,
    pki_types::{
        CertificateDer,
        pem::{self, PemObject},
    },
};
use std::{
    error::Error,
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

/// The roots that certificates of AWS's endpoints end in.
///
/// Source: <https://www.amazontrust.com/repository/>, which asks for all five; the files are
/// those of Mozilla's list, as Debian ships them.
const AMAZON_ROOTS: &[u8] = include_bytes!("amazon_roots.pem");

/// Begins the Regions of other partitions than `aws`: their roots need not be the five.
const OTHER_PARTITIONS: [&str; 5] = ["cn-", "us-gov-", "us-iso", "eu-iso", "eusc-"];

/// The transport to a real endpoint, `https` or `http`, that trusts what the system trusts.
#[must_use]
pub fn network() -> SharedHttpClient {
    Roots::default().network()
}

/// Which certificate authorities are believed.
#[derive(Debug, Clone, Default)]
pub enum Roots {
    /// For AWS's own endpoints Amazon's and then the system's; for others the system's.
    #[default]
    Usual,
    /// The system's, which `SSL_CERT_FILE` and `SSL_CERT_DIR` can name.
    System,
    /// Those of a file, and no others.
    Bundle(Bundle),
}

/// Certificates of a file, each of them looked at.
#[derive(Debug, Clone)]
pub struct Bundle(Arc<[u8]>);

/// A file of certificates cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BundleError {
    /// It cannot be read.
    #[error("{}: cannot be read: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A block of it is no certificate.
    #[error("{}: certificate {number} is not one: {reason}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Which one, from 1.
        number: usize,
        /// Why not.
        reason: String,
    },
    /// There is nothing in it to trust.
    #[error("{}: no certificate in it; expected PEM, `-----BEGIN CERTIFICATE-----`", .0.display())]
    Empty(PathBuf),
}

impl Bundle {
    /// Reads a file of certificates in PEM.
    ///
    /// # Errors
    /// The file cannot be read, has no certificate, or has something that is not one.
    pub fn read(path: &Path) -> Result<Self, BundleError> {
        let bytes =
            fs::read(path).map_err(|source| BundleError::Io { path: path.to_owned(), source })?;
        let mut roots = RootCertStore::empty();
        for (index, certificate) in CertificateDer::pem_slice_iter(&bytes).enumerate() {
            let malformed = |reason: String| BundleError::Malformed {
                path: path.to_owned(),
                number: index + 1,
                reason,
            };
            let certificate =
                certificate.map_err(|error: pem::Error| malformed(error.to_string()))?;
            roots.add(certificate).map_err(|error| malformed(error.to_string()))?;
        }
        if roots.is_empty() {
            return Err(BundleError::Empty(path.to_owned()));
        }
        Ok(Self(bytes.into()))
    }
}

impl Roots {
    /// The transport to any endpoint, of AWS or not.
    #[must_use]
    pub fn network(&self) -> SharedHttpClient {
        lazy(tls(self.trust_store()))
    }

    /// A connector for requests of one's own, to any endpoint.
    #[must_use]
    pub fn connector(&self) -> Connector {
        Connector::builder()
            .tls_provider(Provider::Rustls(CryptoMode::Ring))
            .tls_context(context(self.trust_store()))
            .build()
    }

    /// What any endpoint is judged by.
    fn trust_store(&self) -> TrustStore {
        match self {
            Self::Usual | Self::System => TrustStore::default(),
            Self::Bundle(Bundle(pem)) => trusting(pem),
        }
    }

    /// The transport to one endpoint, at the least cost.
    #[must_use]
    pub fn network_to(&self, endpoint: &Endpoint) -> SharedHttpClient {
        match (self, &endpoint.url) {
            (_, Some(url)) if url.starts_with("http://") => lazy(Builder::new().build_http()),
            (Self::Usual, None) if is_in_aws_partition(&endpoint.region) => {
                SharedHttpClient::new(AmazonFirst {
                    amazon: tls(trusting(AMAZON_ROOTS)),
                    system: Arc::default(),
                })
            }
            _ => self.network(),
        }
    }
}

fn is_in_aws_partition(region: &str) -> bool {
    !OTHER_PARTITIONS.iter().any(|prefix| region.starts_with(prefix))
}

fn trusting(pem: &[u8]) -> TrustStore {
    TrustStore::empty().with_pem_certificate(pem)
}

fn tls(roots: TrustStore) -> SharedHttpClient {
    Builder::new()
        .tls_provider(Provider::Rustls(CryptoMode::Ring))
        .tls_context(context(roots))
        .build_https()
}

fn context(roots: TrustStore) -> TlsContext {
    let context = TlsContext::builder().with_trust_store(roots).build();
    context.expect("every trust store makes a context")
}

fn lazy(client: SharedHttpClient) -> SharedHttpClient {
    SharedHttpClient::new(Lazy(client))
}

/// A client that reads its roots with the first request. Its own check of the configuration,
/// which this leaves out, would read them when it is built, and again then.
#[derive(Debug)]
struct Lazy(SharedHttpClient);

impl HttpClient for Lazy {
    fn http_connector(
        &self,
        settings: &HttpConnectorSettings,
        components: &RuntimeComponents,
    ) -> SharedHttpConnector {
        self.0.http_connector(settings, components)
    }

    fn connector_metadata(&self) -> Option<ConnectorMetadata> {
        self.0.connector_metadata()
    }
}

/// Believes Amazon's roots, and the system's where those do not do.
#[derive(Debug)]
struct AmazonFirst {
    amazon: SharedHttpClient,
    system: Arc<System>,
}

#[derive(Debug, Default)]
struct System {
    /// Amazon's roots did not do once: they are not tried again.
    is_needed: AtomicBool,
    client: OnceLock<SharedHttpClient>,
}

impl System {
    fn connector(
        &self,
        settings: &HttpConnectorSettings,
        components: &RuntimeComponents,
    ) -> SharedHttpConnector {
        let client = self.client.get_or_init(|| tls(TrustStore::default()));
        client.http_connector(settings, components)
    }
}

impl HttpClient for AmazonFirst {
    fn http_connector(
        &self,
        settings: &HttpConnectorSettings,
        components: &RuntimeComponents,
    ) -> SharedHttpConnector {
        if self.system.is_needed.load(Ordering::Relaxed) {
            return self.system.connector(settings, components);
        }
        SharedHttpConnector::new(Judging {
            amazon: self.amazon.http_connector(settings, components),
            system: Arc::clone(&self.system),
            settings: settings.clone(),
            components: components.clone(),
        })
    }

    fn connector_metadata(&self) -> Option<ConnectorMetadata> {
        self.amazon.connector_metadata()
    }
}

/// The connector of one request, which is sent once: a handshake comes before it.
#[derive(Debug)]
struct Judging {
    amazon: SharedHttpConnector,
    system: Arc<System>,
    settings: HttpConnectorSettings,
    components: RuntimeComponents,
}

impl HttpConnector for Judging {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let again = request.try_clone();
        let answer = self.amazon.call(request);
        let system = Arc::clone(&self.system);
        let (settings, components) = (self.settings.clone(), self.components.clone());
        HttpConnectorFuture::new_boxed(Box::pin(async move {
            match (answer.await, again) {
                (Err(error), Some(again)) if is_untrusted(&error) => {
                    system.is_needed.store(true, Ordering::Relaxed);
                    system.connector(&settings, &components).call(again).await
                }
                (answer, _) => answer,
            }
        }))
    }
}

/// Whether a handshake ended because nobody believed vouches for the certificate.
fn is_untrusted(error: &(dyn Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(rustls::Error::InvalidCertificate(_)) = error.downcast_ref() {
            return true;
        }
        // An IO error does not tell of the one it was made from as its source.
        next = match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    false
}

#[cfg(test)]
mod tests;
