//! Breaks the view protocol on the wire, between the function and its store, for controls.
//!
//! The product has no switch for this: requests and answers are rewritten on their way.

use aws_smithy_runtime_api::client::{
    http::{
        HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient,
        SharedHttpConnector,
    },
    orchestrator::{HttpRequest, HttpResponse},
    runtime_components::RuntimeComponents,
};
use aws_smithy_types::body::SdkBody;
use serde_json::{Value, json};

/// What is broken.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Tamper {
    /// Ledger rows are written without a condition.
    GuardRemoved,
    /// The condition looks at the version instead of the revision.
    GuardByVersionOnly,
    /// A transaction that met a conflict is answered as if it had been applied.
    ConflictTakenForApplied,
}

/// A transport that tampers.
#[derive(Debug, Clone)]
pub(crate) struct Tampered {
    inner: SharedHttpClient,
    tamper: Tamper,
}

impl Tampered {
    pub(crate) fn wrap(inner: SharedHttpClient, tamper: Tamper) -> SharedHttpClient {
        SharedHttpClient::new(Self { inner, tamper })
    }
}

impl HttpClient for Tampered {
    fn http_connector(
        &self,
        settings: &HttpConnectorSettings,
        components: &RuntimeComponents,
    ) -> SharedHttpConnector {
        let inner = self.inner.http_connector(settings, components);
        SharedHttpConnector::new(TamperedConnector { inner, tamper: self.tamper })
    }
}

#[derive(Debug)]
struct TamperedConnector {
    inner: SharedHttpConnector,
    tamper: Tamper,
}

impl HttpConnector for TamperedConnector {
    fn call(&self, mut request: HttpRequest) -> HttpConnectorFuture {
        let target = request.headers().get("x-amz-target").unwrap_or_default();
        if !target.ends_with(".TransactWriteItems") {
            return self.inner.call(request);
        }
        let mut body: Value = serde_json::from_slice(request.body().bytes().unwrap()).unwrap();
        for action in body["TransactItems"].as_array_mut().unwrap() {
            if action["Put"]["Item"].get("v").is_some() {
                self.weaken(&mut action["Put"]);
            }
        }
        *request.body_mut() = SdkBody::from(body.to_string());
        let answer = self.inner.call(request);
        let tamper = self.tamper;
        HttpConnectorFuture::new(async move {
            let mut answer = answer.await?;
            let text = answer.body().bytes().map(String::from_utf8_lossy).unwrap_or_default();
            if matches!(tamper, Tamper::ConflictTakenForApplied)
                && text.contains("TransactionConflict")
            {
                answer = HttpResponse::new(200.try_into().unwrap(), SdkBody::from("{}"));
            }
            Ok(answer)
        })
    }
}

impl TamperedConnector {
    fn weaken(&self, put: &mut Value) {
        let fields = put.as_object_mut().unwrap();
        match self.tamper {
            Tamper::ConflictTakenForApplied => {}
            Tamper::GuardRemoved => {
                fields.retain(|name, _| name == "TableName" || name == "Item");
            }
            Tamper::GuardByVersionOnly => {
                let version = fields["Item"]["v"].clone();
                fields["ConditionExpression"] = json!("attribute_not_exists(#k) OR #v < :v");
                fields.insert("ExpressionAttributeNames".into(), json!({"#k": "pk", "#v": "v"}));
                fields.insert("ExpressionAttributeValues".into(), json!({":v": version}));
            }
        }
    }
}
