//! Trust, against real handshakes with a server whose authority each run makes for itself.

use super::*;
use crate::{clock::SystemClock, record::Timestamp, store::Store};
use aws_sdk_dynamodb::config::{Credentials, SharedCredentialsProvider};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::{
    ServerConfig, ServerConnection, Stream,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};
use sha2::{Digest, Sha256};
use std::{
    io::{Read, Write},
    net::TcpListener,
};

/// An authority made for this test: its certificate in PEM, and what signs in its name.
fn authority(name: &str) -> (String, Issuer<'static, KeyPair>) {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, name);
    let key = KeyPair::generate().unwrap();
    let pem = params.self_signed(&key).unwrap().pem();
    (pem, Issuer::new(params, key))
}

/// Answers every request over TLS as a DynamoDB with no rows; its URL, and the authority of its
/// certificate.
fn server() -> (String, String) {
    let (authority, issuer) = authority("the server's authority");
    let key = KeyPair::generate().unwrap();
    let own = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let own = own.signed_by(&key, &issuer).unwrap().der().clone();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config =
        ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![own], key)
            .unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://localhost:{}", listener.local_addr().unwrap().port());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut connection = ServerConnection::new(Arc::clone(&config)).unwrap();
            // A client that does not believe us hangs up, which is what is tested.
            drop(converse(Stream::new(&mut connection, &mut stream.unwrap())));
        }
    });
    (url, authority)
}

fn converse(mut stream: Stream<'_, ServerConnection, std::net::TcpStream>) -> io::Result<()> {
    let mut request = Vec::new();
    let mut part = [0; 4096];
    while !request.ends_with(b"}") {
        let length = stream.read(&mut part)?;
        if length == 0 {
            return Ok(());
        }
        request.extend_from_slice(&part[..length]);
    }
    let body = r#"{"Responses":{},"UnprocessedKeys":{}}"#;
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nContent-Type: application/x-amz-json-1.0\r\n\
         Connection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )?;
    stream.flush()
}

fn endpoint(region: &str, url: Option<&str>) -> Endpoint {
    let local = Credentials::new("local", "local", None, None, "test");
    let credentials = SharedCredentialsProvider::new(local);
    Endpoint { region: region.to_owned(), url: url.map(str::to_owned), credentials }
}

/// Reads a row that is not there; what went wrong otherwise.
fn read(network: SharedHttpClient, url: &str) -> Result<(), String> {
    let store = Store::new(network, &endpoint("eu-central-1", Some(url)), Arc::new(SystemClock), 1);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let row = runtime.block_on(store.get("t", "pk", "k", Timestamp(0)));
    row.map(|row| assert!(row.is_none())).map_err(|error| error.to_string())
}

/// A file of this test's own.
fn file(name: &str, content: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("changefold-{}-{name}", std::process::id()));
    fs::write(&path, content).unwrap();
    path
}

#[test]
fn a_bundle_is_believed_and_nothing_else_is() {
    let (url, believed) = server();
    let bundle = Bundle::read(&file("bundle.pem", &believed)).unwrap();
    let endpoint = endpoint("eu-central-1", Some(&url));
    read(Roots::Bundle(bundle).network_to(&endpoint), &url).unwrap();

    let another =
        Roots::Bundle(Bundle::read(&file("another.pem", &authority("another").0)).unwrap());
    for roots in [another, Roots::Usual, Roots::System] {
        let error = read(roots.network_to(&endpoint), &url).unwrap_err();
        assert!(error.contains("UnknownIssuer"), "{roots:?}: {error}");
    }
}

#[test]
fn what_amazon_does_not_vouch_for_is_judged_by_the_systems_roots() {
    let (url, authority) = server();
    let first = |amazon: &[u8], system: &[u8]| {
        let client = OnceLock::from(tls(trusting(system)));
        let system = Arc::new(System { is_needed: AtomicBool::default(), client });
        (AmazonFirst { amazon: tls(trusting(amazon)), system: Arc::clone(&system) }, system)
    };
    let is_needed = |system: &System| system.is_needed.load(Ordering::Relaxed);

    let (client, system) = first(AMAZON_ROOTS, authority.as_bytes());
    let client = SharedHttpClient::new(client);
    read(client.clone(), &url).unwrap();
    assert!(is_needed(&system));
    read(client, &url).unwrap();

    let (client, system) = first(authority.as_bytes(), AMAZON_ROOTS);
    read(SharedHttpClient::new(client), &url).unwrap();
    assert!(!is_needed(&system));

    let (client, _) = first(AMAZON_ROOTS, AMAZON_ROOTS);
    let error = read(SharedHttpClient::new(client), &url).unwrap_err();
    assert!(error.contains("UnknownIssuer"), "{error}");
}

/// Only the certificate sends a request to the other client: whatever else fails may have
/// reached the store.
#[test]
fn a_connection_that_breaks_is_not_tried_again() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://localhost:{}", listener.local_addr().unwrap().port());
    std::thread::spawn(move || listener.incoming().for_each(drop));
    let system = Arc::<System>::default();
    let client = AmazonFirst { amazon: tls(trusting(AMAZON_ROOTS)), system: Arc::clone(&system) };
    read(SharedHttpClient::new(client), &url).unwrap_err();
    assert!(!system.is_needed.load(Ordering::Relaxed));
}

#[test]
fn aws_alone_is_reached_by_amazons_roots() {
    let kind = |roots: &Roots, region: &str, url: Option<&str>| {
        let debug = format!("{:?}", roots.network_to(&endpoint(region, url)));
        if debug.contains("AmazonFirst") { "amazon" } else { "other" }
    };
    let usual = Roots::Usual;
    assert_eq!(kind(&usual, "us-east-1", None), "amazon");
    assert_eq!(kind(&usual, "mx-central-1", None), "amazon");
    for region in ["cn-north-1", "us-gov-west-1", "us-isob-east-1", "eusc-de-east-1"] {
        assert_eq!(kind(&usual, region, None), "other", "{region}");
    }
    assert_eq!(kind(&usual, "us-east-1", Some("https://vpce.example")), "other");
    assert_eq!(kind(&Roots::System, "us-east-1", None), "other");
}

#[test]
fn a_bundle_that_is_none_is_refused_by_name() {
    let refused = |path: &Path| Bundle::read(path).unwrap_err().to_string();
    let missing = refused(Path::new("/nowhere/ca.pem"));
    assert!(missing.starts_with("/nowhere/ca.pem: cannot be read: "), "{missing}");
    let empty = refused(&file("empty.pem", "not a certificate\n"));
    assert!(empty.contains("empty.pem: no certificate in it"), "{empty}");
    let block = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let (pem, _) = authority("an authority");
    let malformed = refused(&file("malformed.pem", &format!("{pem}{block}")));
    assert!(malformed.contains("malformed.pem: certificate 2 is not one"), "{malformed}");
    let cut = refused(&file("cut.pem", &pem[..pem.len() / 2]));
    assert!(cut.contains("cut.pem: "), "{cut}");
}

/// "SHA-256 Hash of Subject Public Key Information" of the five roots.
/// Source: <https://www.amazontrust.com/repository/>, 2026-11-21.
const PUBLISHED: [&str; 5] = [
    "fbe3018031f9586bcbf41727e417b7d1c45c2f47f93be372a17b96b50757d5a2",
    "7f4296fc5b6a4e3b35d3c369623e364ab1af381d8fa7121533c9d6c633ea2461",
    "36abc32656acfc645c61b71613c4bf21c787f5cabbee48348d58597803d7abc9",
    "f7ecded5c66047d28ed6466b543c40e0743abe81d109254dcf845d4c2c7853c5",
    "2b071c59a0a0ae76b0eadb2bad23bad4580b69c3601b630c2eaf0613afa83f92",
];

#[test]
fn the_roots_are_those_amazon_publishes() {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(AMAZON_ROOTS) {
        roots.add(certificate.unwrap()).unwrap();
    }
    let hashes: Vec<String> = roots
        .roots
        .iter()
        .map(|root| {
            // The anchor has the content of the DER sequence that is hashed.
            let content = &root.subject_public_key_info;
            let length = u16::try_from(content.len()).unwrap().to_be_bytes();
            let mut der = match length {
                [0, short @ 0..128] => vec![0x30, short],
                [0, long] => vec![0x30, 0x81, long],
                [high, low] => vec![0x30, 0x82, high, low],
            };
            der.extend_from_slice(content);
            let digest = Sha256::digest(&der);
            digest.iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"))
        })
        .collect();
    assert_eq!(hashes, PUBLISHED);
}
