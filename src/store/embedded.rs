//! DynamoDB inside this process: dynoxide behind the SDK's own client, without a socket.
//!
//! The SDK builds, signs and reads its requests as it does for AWS; only the transport is
//! replaced. So there is one code path for the desk, for tests and for production, and no
//! fake store beside it. What it gives up: dynoxide never reports a transaction conflict or
//! throttling by itself (the desk's faults inject them), and it is not a production store.

use aws_smithy_runtime_api::{
    client::{
        http::{
            HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings,
            SharedHttpClient, SharedHttpConnector,
        },
        orchestrator::{HttpRequest, HttpResponse},
        result::ConnectorError,
        runtime_components::RuntimeComponents,
    },
    http::StatusCode,
};
use aws_smithy_types::body::SdkBody;
use dynoxide::{Database, DynoxideError, actions::transact_write_items::TransactWriteItemsRequest};
use serde::{Serialize, de::DeserializeOwned};
use std::path::Path;

/// The embedded store cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("the embedded store {place}: {message}")]
pub struct EmbeddedError {
    place: String,
    message: String,
}

/// Opens the store as the SDK's transport: in memory, or on a file that is made if it is not
/// there.
///
/// # Errors
/// The file cannot be opened or is not such a store.
pub fn open(path: Option<&Path>) -> Result<SharedHttpClient, EmbeddedError> {
    Embedded::open(path).map(SharedHttpClient::new)
}

/// The store itself, for who also serves it to others; its clones are the same store.
#[derive(Clone)]
pub struct Embedded(Database);

impl std::fmt::Debug for Embedded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Embedded")
    }
}

impl HttpClient for Embedded {
    fn http_connector(
        &self,
        _: &HttpConnectorSettings,
        _: &RuntimeComponents,
    ) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

impl HttpConnector for Embedded {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        HttpConnectorFuture::ready(self.respond(&request))
    }
}

impl Embedded {
    /// Opens the store in memory, or on a file that is made if it is not there.
    ///
    /// # Errors
    /// The file cannot be opened or is not such a store.
    pub fn open(path: Option<&Path>) -> Result<Self, EmbeddedError> {
        let opened = match path {
            None => Database::memory(),
            Some(path) => Database::new(&path.to_string_lossy()),
        };
        opened.map(Self).map_err(|error| EmbeddedError {
            place: path.map_or_else(|| "in memory".to_owned(), |path| path.display().to_string()),
            message: error.to_string(),
        })
    }

    /// Answers one request, known by its header `X-Amz-Target` and its body: the HTTP status
    /// and the body of the answer.
    #[must_use]
    pub fn answer(&self, target: &str, body: &[u8]) -> (u16, String) {
        let operation = target.rsplit('.').next().unwrap_or_default();
        match self.dispatch(operation, body) {
            Ok(answer) => (200, answer),
            Err(error) => (error.status_code(), error.to_json()),
        }
    }

    fn respond(&self, request: &HttpRequest) -> Result<HttpResponse, ConnectorError> {
        let target = request.headers().get("x-amz-target").unwrap_or_default();
        let body = request.body().bytes().unwrap_or_default();
        let (status, answer) = self.answer(target, body);
        let status = StatusCode::try_from(status)
            .map_err(|error| ConnectorError::other(error.into(), None))?;
        let mut response = HttpResponse::new(status, SdkBody::from(answer));
        response.headers_mut().insert("content-type", "application/x-amz-json-1.0");
        Ok(response)
    }

    fn dispatch(&self, operation: &str, body: &[u8]) -> Result<String, DynoxideError> {
        let database = &self.0;
        match operation {
            "BatchGetItem" => through(body, |request| database.batch_get_item(request)),
            "BatchWriteItem" => through(body, |request| database.batch_write_item(request)),
            "CreateTable" => through(body, |request| database.create_table(request)),
            "DeleteTable" => through(body, |request| database.delete_table(request)),
            "DeleteItem" => through(body, |request| database.delete_item(request)),
            "DescribeTable" => through(body, |request| database.describe_table(request)),
            "GetItem" => through(body, |request| database.get_item(request)),
            "PutItem" => through(body, |request| database.put_item(request)),
            "Query" => through(body, |request| database.query(request)),
            "Scan" => through(body, |request| database.scan(request)),
            "TransactWriteItems" => through(body, |mut request: TransactWriteItemsRequest| {
                // The SDK makes up a new token for every call and we never repeat one; the
                // store would keep each of them, and its answer, for ten minutes.
                request.client_request_token = None;
                database.transact_write_items(request)
            }),
            "UpdateItem" => through(body, |request| database.update_item(request)),
            "UpdateTimeToLive" => through(body, |request| database.update_time_to_live(request)),
            _ => Err(DynoxideError::ValidationException(format!(
                "the embedded store does not serve {operation}"
            ))),
        }
    }
}

fn through<Request, Response>(
    body: &[u8],
    call: impl FnOnce(Request) -> Result<Response, DynoxideError>,
) -> Result<String, DynoxideError>
where
    Request: DeserializeOwned,
    Response: Serialize,
{
    let request = serde_json::from_slice(body)
        .map_err(|error| DynoxideError::SerializationException(error.to_string()))?;
    let response = call(request)?;
    serde_json::to_string(&response)
        .map_err(|error| DynoxideError::InternalServerError(error.to_string()))
}
