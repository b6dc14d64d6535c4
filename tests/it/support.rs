//! What the tests share: stores, functions and records.

#[cfg(all(feature = "local", feature = "lambda"))]
pub(crate) mod crashing;
pub(crate) mod http;
#[cfg(feature = "local")]
pub(crate) mod replayed;

use aws_sdk_dynamodb::config::{Credentials, SharedCredentialsProvider};
use aws_smithy_runtime_api::client::http::{
    HttpConnector, SharedHttpClient, SharedHttpConnector, http_client_fn,
};
use changefold::{
    call::Call,
    clock::SystemClock,
    handler::Function,
    record::Timestamp,
    store::{self, Endpoint, Store},
    view::{OpenError, Views, registry::Owner, rows::Listing, sql},
};
use std::{future::Future, sync::Arc};

pub(crate) const FOREVER: Timestamp = Timestamp(i64::MAX);

/// Runs a future; what is logged meanwhile is searched for what payloads hold.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    crate::secrets::watch();
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

pub(crate) fn call() -> Call {
    Call::new("test", FOREVER)
}

pub(crate) fn embedded(seed: u64) -> Store {
    Store::new(
        store::embedded::open(None).unwrap(),
        &local_endpoint(None),
        Arc::new(SystemClock),
        seed,
    )
}

/// The embedded store, addressed as a server of one's own.
pub(crate) fn embedded_at_url(seed: u64) -> Store {
    let endpoint = local_endpoint(Some("http://embedded"));
    Store::new(store::embedded::open(None).unwrap(), &endpoint, Arc::new(SystemClock), seed)
}

/// The client that sends every request through this connector.
pub(crate) fn client_of(connector: impl HttpConnector + 'static) -> SharedHttpClient {
    let connector = SharedHttpConnector::new(connector);
    http_client_fn(move |_, _| connector.clone())
}

pub(crate) fn endpoint(url: &str) -> Store {
    Store::new(store::network(), &local_endpoint(Some(url)), Arc::new(SystemClock), 1)
}

pub(crate) fn local_endpoint(url: Option<&str>) -> Endpoint {
    Endpoint {
        region: "us-east-1".to_owned(),
        url: url.map(str::to_owned),
        credentials: SharedCredentialsProvider::new(Credentials::new(
            "local", "local", None, None, "test",
        )),
    }
}

#[expect(clippy::disallowed_methods, reason = "a test's own switch, set by its script")]
pub(crate) fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

pub(crate) async fn function(views: &str, store: &Store, prefix: &str) -> Function<Views> {
    try_function(views, store, prefix).await.unwrap()
}

pub(crate) async fn try_function(
    views: &str,
    store: &Store,
    prefix: &str,
) -> Result<Function<Views>, OpenError> {
    let views = sql::parse(views).unwrap();
    let ledger = format!("{prefix}ledger");
    Views::ensure_tables(&views, store, &ledger, prefix, FOREVER).await.unwrap();
    let views =
        Views::open(views, store.clone(), (&ledger, prefix), &Owner::new("test"), FOREVER).await?;
    Ok(Function::new(views, Arc::new(SystemClock)))
}

/// A change of the table `orders`: region, amount and status of the new image.
pub(crate) fn order(
    sequence_number: u32,
    event_name: &str,
    key: &str,
    new: Option<(&str, &str, &str)>,
) -> String {
    let new_image = new.map_or_else(String::new, |(region, amount, status)| {
        format!(
            r#""NewImage":{{"pk":{{"S":"{key}"}},"region":{{"S":"{region}"}},"amount":{{"N":"{amount}"}},"status":{{"S":"{status}"}},"note":{{"M":{{"planted-7f3a-map-key":{{"S":"planted-7f3a-value"}}}}}}}},"#
        )
    });
    format!(
        r#"{{"eventID":"{sequence_number}","eventName":"{event_name}","eventVersion":"1.1","eventSource":"aws:dynamodb","awsRegion":"us-east-1","dynamodb":{{"ApproximateCreationDateTime":1789649451.0,"Keys":{{"pk":{{"S":"{key}"}}}},{new_image}"SequenceNumber":"{sequence_number}","SizeBytes":1,"StreamViewType":"NEW_AND_OLD_IMAGES"}},"eventSourceARN":"arn:aws:dynamodb:us-east-1:123456789012:table/orders/stream/2026-09-17T12:50:51.000"}}"#
    )
}

/// Rows as text, for comparing at a glance.
pub(crate) fn table(listing: &Listing) -> String {
    let rows: Vec<String> = listing
        .rows
        .iter()
        .map(|row| row.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "))
        .collect();
    rows.join("; ")
}

/// A client's settings for one of the servers.
#[cfg(feature = "destinations")]
macro_rules! config {
    ($sdk:ident, $url:expr) => {
        $sdk::Config::builder()
            .behavior_version(aws_sdk_dynamodb::config::BehaviorVersion::latest())
            .region(aws_sdk_dynamodb::config::Region::new("us-east-1"))
            .credentials_provider($crate::support::local_endpoint(None).credentials)
            .http_client(changefold::store::network())
            .endpoint_url($url)
    };
}
#[cfg(feature = "destinations")]
pub(crate) use config;
