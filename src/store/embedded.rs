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
use dynoxide::{
    Database, DynoxideError,
    actions::{
        execute_transaction::ExecuteTransactionRequest,
        transact_write_items::TransactWriteItemsRequest,
    },
};
use serde::{Serialize, de::DeserializeOwned};
use std::path::Path;

/// The embedded store cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("the embedded store {place}: {message}")]
pub struct EmbeddedError {
    place: String,
    message: String,
}

impl EmbeddedError {
    /// What went wrong with the store in some place.
    #[must_use]
    pub fn new(place: impl Into<String>, error: &impl std::error::Error) -> Self {
        Self { place: place.into(), message: error.to_string() }
    }
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
pub struct Embedded {
    database: Database,
    keeps_tokens: bool,
}

/// Why a request has no other answer.
enum Refusal {
    /// The store's own error.
    Refused(DynoxideError),
    /// There is no such operation here.
    Unserved,
}

impl From<DynoxideError> for Refusal {
    fn from(error: DynoxideError) -> Self {
        Self::Refused(error)
    }
}

/// The longest `ClientRequestToken`, in characters; AWS's rule.
pub(crate) const TOKEN_LENGTH_MAX: usize = 36;

/// The operations that are served.
const SERVED: [&str; 23] = [
    "BatchExecuteStatement",
    "BatchGetItem",
    "BatchWriteItem",
    "CreateTable",
    "DeleteItem",
    "DeleteTable",
    "DescribeTable",
    "DescribeTimeToLive",
    "ExecuteStatement",
    "ExecuteTransaction",
    "GetItem",
    "ListTables",
    "ListTagsOfResource",
    "PutItem",
    "Query",
    "Scan",
    "TagResource",
    "TransactGetItems",
    "TransactWriteItems",
    "UntagResource",
    "UpdateItem",
    "UpdateTable",
    "UpdateTimeToLive",
];

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
        let opened = opened.map(|database| Self { database, keeps_tokens: false });
        opened.map_err(|error| {
            let place = path.map(|path| path.display().to_string());
            EmbeddedError::new(place.unwrap_or_else(|| "in memory".to_owned()), &error)
        })
    }

    /// The same store, which answers a write that comes again with the same
    /// `ClientRequestToken` from what it said before, for ten minutes; it holds them in memory.
    /// Without, as for our own function, tokens are passed over: the SDK makes up a new one for
    /// every call, and we never repeat a call.
    #[must_use]
    pub fn keeping_tokens(mut self) -> Self {
        self.keeps_tokens = true;
        self
    }

    /// The same store, on whose file no write waits for the disk: what was answered survives
    /// the process, but the last writes not a loss of power. The file stays whole.
    ///
    /// # Errors
    /// The store cannot be told so.
    pub fn without_sync(self) -> Result<Self, EmbeddedError> {
        // What dynoxide sets after loading in bulk: `synchronous = NORMAL`, and else SQLite's own.
        let set = self.database.disable_bulk_loading();
        set.map_err(|error| EmbeddedError::new("synchronous = NORMAL", &error))?;
        Ok(self)
    }

    /// Deletes the items whose time to live is over, in every table that has one; says how
    /// many. It reads those tables whole.
    ///
    /// # Errors
    /// The store cannot be read or written.
    pub fn delete_expired(&self) -> Result<usize, EmbeddedError> {
        self.database.sweep_ttl().map_err(|error| EmbeddedError::new("time to live", &error))
    }

    /// Answers one request, known by its header `X-Amz-Target` and its body: the HTTP status
    /// and the body of the answer.
    #[must_use]
    pub fn answer(&self, target: &str, body: &[u8]) -> (u16, String) {
        let operation = target.rsplit('.').next().unwrap_or_default();
        match self.dispatch(operation, body) {
            Ok(answer) => (200, answer),
            Err(Refusal::Refused(error)) => (error.status_code(), error.to_json()),
            Err(Refusal::Unserved) => (400, unserved(operation)),
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

    fn dispatch(&self, operation: &str, body: &[u8]) -> Result<String, Refusal> {
        let database = &self.database;
        // One that is too long is refused, whether they are kept or not.
        let is_looked_at = |token: &String| self.keeps_tokens || token.len() > TOKEN_LENGTH_MAX;
        let token = |token: Option<String>| token.filter(is_looked_at);
        Ok(match operation {
            "BatchExecuteStatement" => through(body, |it| database.batch_execute_statement(it)),
            "BatchGetItem" => through(body, |it| database.batch_get_item(it)),
            "BatchWriteItem" => through(body, |it| database.batch_write_item(it)),
            "CreateTable" => through(body, |it| database.create_table(it)),
            "DeleteItem" => through(body, |it| database.delete_item(it)),
            "DeleteTable" => through(body, |it| database.delete_table(it)),
            "DescribeTable" => through(body, |it| database.describe_table(it)),
            "DescribeTimeToLive" => through(body, |it| database.describe_time_to_live(it)),
            "ExecuteStatement" => through(body, |it| database.execute_statement(it)),
            "ExecuteTransaction" => through(body, |mut it: ExecuteTransactionRequest| {
                it.client_request_token = token(it.client_request_token);
                database.execute_transaction(it)
            }),
            "GetItem" => through(body, |it| database.get_item(it)),
            "ListTables" => through(body, |it| database.list_tables(it)),
            "ListTagsOfResource" => through(body, |it| database.list_tags_of_resource(it)),
            "PutItem" => through(body, |it| database.put_item(it)),
            "Query" => through(body, |it| database.query(it)),
            "Scan" => through(body, |it| database.scan(it)),
            "TagResource" => through(body, |it| database.tag_resource(it)),
            "TransactGetItems" => through(body, |it| database.transact_get_items(it)),
            "TransactWriteItems" => through(body, |mut it: TransactWriteItemsRequest| {
                it.client_request_token = token(it.client_request_token);
                database.transact_write_items(it)
            }),
            "UntagResource" => through(body, |it| database.untag_resource(it)),
            "UpdateItem" => through(body, |it| database.update_item(it)),
            "UpdateTable" => through(body, |it| database.update_table(it)),
            "UpdateTimeToLive" => through(body, |it| database.update_time_to_live(it)),
            _ => return Err(Refusal::Unserved),
        }?)
    }
}

fn unserved(operation: &str) -> String {
    let message = format!(
        "the embedded DynamoDB does not serve {operation:?}; it serves {}",
        SERVED.join(", ")
    );
    let kind = "com.amazon.coral.service#UnknownOperationException";
    serde_json::json!({ "__type": kind, "message": message }).to_string()
}

fn through<Request, Response>(
    body: &[u8],
    call: impl FnOnce(Request) -> Result<Response, DynoxideError>,
) -> Result<String, DynoxideError>
where
    Request: DeserializeOwned,
    Response: Serialize,
{
    let request = serde_json::from_slice(body).map_err(|error| unreadable(&error))?;
    let response = call(request)?;
    serde_json::to_string(&response)
        .map_err(|error| DynoxideError::InternalServerError(error.to_string()))
}

/// What a request that cannot be read is answered with. dynoxide marks what DynamoDB calls a
/// faulty value by a prefix of the message, and its reader appends the place in the text.
fn unreadable(error: &serde_json::Error) -> DynoxideError {
    let message = error.to_string();
    for mark in ["VALIDATION:", "VALIDATION_REQUEST:", "VALIDATION_AS_READ:"] {
        if let Some(message) = message.strip_prefix(mark) {
            return DynoxideError::ValidationException(without_place(message).to_owned());
        }
    }
    for mark in ["SERIALIZATION:", "SERIALIZATION_AS_READ:"] {
        if let Some(message) = message.strip_prefix(mark) {
            return DynoxideError::SerializationException(without_place(message).to_owned());
        }
    }
    // DynamoDB calls a member that is not there a faulty value too, but not one of another type.
    let is_faulty_value =
        ["missing field", "unknown variant", "invalid type: null", "AttributeValue"]
            .iter()
            .any(|mark| message.contains(mark));
    let message = without_place(&message).to_owned();
    if is_faulty_value {
        DynoxideError::ValidationException(message)
    } else {
        DynoxideError::SerializationException(message)
    }
}

fn without_place(message: &str) -> &str {
    message.rfind(" at line ").map_or(message, |at| &message[..at])
}

#[cfg(test)]
mod tests {
    use super::{Embedded, SERVED};

    #[test]
    fn every_operation_that_is_named_is_served() {
        let store = Embedded::open(None).unwrap();
        for operation in SERVED {
            let (status, answer) = store.answer(operation, b"{}");
            assert!(!answer.contains("UnknownOperation"), "{operation}: {status} {answer}");
        }
        let (status, answer) = store.answer("DynamoDB_20120810.RestoreTable", b"{}");
        assert_eq!(status, 400);
        assert!(answer.contains("UnknownOperationException"), "{answer}");
        assert!(answer.contains("RestoreTable") && answer.contains("PutItem"), "{answer}");
    }

    /// dynoxide's own server tells them apart by marks that are no part of the message.
    #[test]
    fn a_faulty_value_is_a_validation_exception_without_a_mark() {
        let store = Embedded::open(None).unwrap();
        for (operation, body) in [
            ("DeleteTable", r#"{"TableName":"a"}"#),
            ("DescribeTable", r"{}"),
            ("PutItem", r#"{"TableName":"orders"}"#),
            ("PutItem", r#"{"TableName":"orders","Item":{"a":{}}}"#),
        ] {
            let (status, answer) = store.answer(operation, body.as_bytes());
            assert_eq!(status, 400, "{answer}");
            assert!(answer.contains("#ValidationException"), "{operation} {body}: {answer}");
            assert!(!answer.contains("VALIDATION"), "{operation} {body}: {answer}");
        }
        let (_, answer) = store.answer("PutItem", br#"{"TableName":7}"#);
        assert!(answer.contains("#SerializationException"), "{answer}");
        assert!(!answer.contains(" at line "), "{answer}");
    }
}
