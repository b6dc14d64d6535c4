//! What the services of the desk have in common on the wire.
//!
//! A request names its operation in the header `X-Amz-Target`, which tells the service as
//! well; its body is JSON. Whatever is wrong with it is answered as AWS answers, with a JSON
//! body that names the error and says what to do. No `Access-Control-*` header is ever sent, so
//! no web page reads an answer; and where the desk listens on a loopback address only, a
//! request whose `Host` is another is refused, so no page gets there by a name of its own that
//! resolves to this machine (DNS rebinding). What it gives up: signatures are not checked.

use crate::local::{
    http::{Answer, json},
    template::REGION,
};
use bytes::Bytes;
use hyper::{
    Method, Request,
    header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderName, HeaderValue},
    http::uri::Authority,
};
use std::{
    net::IpAddr,
    sync::atomic::{AtomicU64, Ordering},
};

/// Whose operation is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::local) enum Service {
    DynamoDb,
    DynamoDbStreams,
    Kinesis,
}

const SERVICES: [(&str, Service); 3] = [
    ("DynamoDB_20120810.", Service::DynamoDb),
    ("DynamoDBStreams_20120810.", Service::DynamoDbStreams),
    ("Kinesis_20131202.", Service::Kinesis),
];

/// One operation that is asked for.
#[derive(Debug, Clone, Copy)]
pub(in crate::local) struct Call<'a> {
    pub(in crate::local) service: Service,
    /// Such as `PutItem`.
    pub(in crate::local) operation: &'a str,
    /// The Region that the request is signed for.
    pub(in crate::local) region: &'a str,
    /// The request in JSON.
    pub(in crate::local) body: &'a [u8],
}

/// The HTTP status and the JSON of an answer.
pub(in crate::local) type Reply = (u16, String);

/// Who may be asked by which name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::local) enum Hosts {
    /// Names of this machine's loopback interface only.
    Loopback,
    /// Any: the desk was told to listen on another address.
    Any,
}

impl Hosts {
    /// Who may be asked by which name at an address.
    pub(in crate::local) fn at(address: IpAddr) -> Self {
        if address.is_loopback() { Self::Loopback } else { Self::Any }
    }

    /// Whether a request asks by such a name.
    pub(in crate::local) fn allow(self, request: &Request<Bytes>) -> bool {
        let header = request.headers().get(HOST).and_then(|host| host.to_str().ok());
        // HTTP/2 has it in the request's line.
        let host = request.uri().authority().map(Authority::as_str).or(header);
        self == Self::Any || host.is_some_and(is_loopback)
    }
}

fn is_loopback(host: &str) -> bool {
    let has_port = |(_, port): &(&str, &str)| port.bytes().all(|it| it.is_ascii_digit());
    let name = host.rsplit_once(':').filter(has_port).map_or(host, |(name, _)| name);
    let bare = name.strip_prefix('[').and_then(|it| it.strip_suffix(']')).unwrap_or(name);
    let local = bare.trim_end_matches('.').to_ascii_lowercase();
    local == "localhost"
        || local.ends_with(".localhost")
        || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Answers a request by what `serve` says to its call.
pub(in crate::local) fn answer(
    request: &Request<Bytes>,
    hosts: Hosts,
    serve: impl FnOnce(Call<'_>) -> Reply,
) -> Answer {
    let (service, (status, body)) = match read(request, hosts) {
        Ok(call) => (Some(call.service), serve(call)),
        Err(refused) => (None, refused),
    };
    let is_dynamodb = matches!(service, Some(Service::DynamoDb | Service::DynamoDbStreams));
    let version =
        if is_dynamodb { "application/x-amz-json-1.0" } else { "application/x-amz-json-1.1" };
    let mut answer = json(status, version, body);
    if let Ok(id) = HeaderValue::from_str(&request_id()) {
        answer.headers_mut().insert(HeaderName::from_static("x-amzn-requestid"), id);
    }
    answer
}

/// What a call of a service that is not there is answered with.
pub(in crate::local) fn error(status: u16, code: &str, message: &str) -> Reply {
    (status, serde_json::json!({ "__type": code, "message": message }).to_string())
}

fn read(request: &Request<Bytes>, hosts: Hosts) -> Result<Call<'_>, Reply> {
    let header = |name| {
        let value: Option<&HeaderValue> = request.headers().get(name);
        value.and_then(|value| value.to_str().ok())
    };
    if !hosts.allow(request) {
        let message = "the desk answers to names of this machine only; ask 127.0.0.1 or localhost";
        return Err(error(403, "AccessDeniedException", message));
    }
    if request.method() != Method::POST {
        let message = "the desk serves DynamoDB, DynamoDB Streams and Kinesis to AWS's SDKs and \
             command line, which send POST; set AWS_ENDPOINT_URL to this address";
        return Err(error(405, "UnknownOperationException", message));
    }
    let content_type = header(CONTENT_TYPE).unwrap_or_default();
    if content_type.contains("cbor") {
        let message = "the desk speaks JSON, not CBOR; set CBOR_ENABLED=false (SDK 2 for Java) or \
             AWS_CBOR_DISABLE=true (SDK 1 for Java)";
        return Err(error(415, "SerializationException", message));
    }
    let target = header(HeaderName::from_static("x-amz-target")).unwrap_or_default();
    let found = SERVICES.iter().find_map(|(prefix, service)| {
        target.strip_prefix(prefix).map(|operation| (*service, operation))
    });
    let Some((service, operation)) = found else {
        let message = format!(
            "the header X-Amz-Target is {target:?}; the desk serves {} only",
            SERVICES.map(|(prefix, _)| format!("{prefix}*")).join(", ")
        );
        return Err(error(400, "UnknownOperationException", &message));
    };
    let region = header(AUTHORIZATION).and_then(region_of).unwrap_or(REGION);
    Ok(Call { service, operation, region, body: request.body() })
}

/// The Region of `AWS4-HMAC-SHA256 Credential=KEY/DATE/REGION/SERVICE/aws4_request, …`.
fn region_of(authorization: &str) -> Option<&str> {
    let (_, scope) = authorization.split_once("Credential=")?;
    let region = scope.split(',').next()?.split('/').nth(2)?;
    let is_plain = |it: u8| it.is_ascii_lowercase() || it.is_ascii_digit() || it == b'-';
    (!region.is_empty() && region.bytes().all(is_plain)).then_some(region)
}

/// Tells the requests of this process apart, in the form of AWS's.
fn request_id() -> String {
    static SO_FAR: AtomicU64 = AtomicU64::new(0);
    format!("00000000-0000-4000-8000-{:012x}", SO_FAR.fetch_add(1, Ordering::Relaxed))
}

#[cfg(test)]
mod tests {
    use super::{Hosts, Service, answer, is_loopback, region_of};
    use bytes::Bytes;
    use http_body_util::BodyExt as _;
    use hyper::Request;

    #[test]
    fn only_names_of_the_loopback_interface_are_this_machine() {
        for host in [
            "localhost",
            "localhost:8000",
            "LOCALHOST.",
            "desk.localhost:1",
            "127.0.0.1:80",
            "127.9.9.9",
            "[::1]:8000",
        ] {
            assert!(is_loopback(host), "{host}");
        }
        for host in
            ["", "example.com", "localhost.example.com:80", "10.0.0.1:8000", "[::2]", "127.0.0.1.a"]
        {
            assert!(!is_loopback(host), "{host}");
        }
    }

    #[test]
    fn the_region_is_what_a_request_is_signed_for() {
        let signed = "AWS4-HMAC-SHA256 Credential=AKID/20261130/eu-west-1/kinesis/aws4_request, \
                      SignedHeaders=host, Signature=00";
        assert_eq!(region_of(signed), Some("eu-west-1"));
        for unsigned in ["", "Basic x", "Credential=a/b", "Credential=a/b//c", "Credential=a/b/\"/"]
        {
            assert_eq!(region_of(unsigned), None, "{unsigned}");
        }
    }

    fn ask(method: &str, headers: &[(&str, &str)], hosts: Hosts) -> (u16, String) {
        let mut request = Request::builder().method(method).uri("/");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Bytes::new()).unwrap();
        let answer = answer(&request, hosts, |call| {
            let service = match call.service {
                Service::DynamoDb => "dynamodb",
                Service::DynamoDbStreams => "streams",
                Service::Kinesis => "kinesis",
            };
            (200, format!("{service} {}", call.operation))
        });
        let status = answer.status().as_u16();
        assert!(answer.headers().keys().all(|it| !it.as_str().starts_with("access-control")));
        let body = futures_util::FutureExt::now_or_never(answer.into_body().collect());
        let body = body.unwrap().unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[test]
    fn a_request_is_told_by_its_target_and_refused_with_a_remedy() {
        let host = ("host", "localhost:1");
        let ask_local = |method, headers: &[_]| ask(method, headers, Hosts::Loopback);
        for (target, answer) in [
            ("DynamoDB_20120810.PutItem", "dynamodb PutItem"),
            ("DynamoDBStreams_20120810.GetRecords", "streams GetRecords"),
            ("Kinesis_20131202.PutRecords", "kinesis PutRecords"),
        ] {
            let said = ask_local("POST", &[host, ("x-amz-target", target)]);
            assert_eq!(said, (200, answer.to_owned()));
        }
        for (method, headers, status, part) in [
            ("POST", vec![("host", "a.example")], 403, "127.0.0.1"),
            ("POST", vec![], 403, "127.0.0.1"),
            ("GET", vec![host], 405, "AWS_ENDPOINT_URL"),
            ("POST", vec![host], 400, "X-Amz-Target"),
            ("POST", vec![host, ("x-amz-target", "Logs_20140328.Put")], 400, "Kinesis_20131202.*"),
            ("POST", vec![host, ("content-type", "application/x-amz-cbor-1.1")], 415, "CBOR_"),
        ] {
            let said = ask_local(method, &headers);
            assert!(said.0 == status && said.1.contains(part), "{method} {headers:?}: {said:?}");
            serde_json::from_str::<serde_json::Value>(&said.1).unwrap();
        }
        assert_eq!(ask("POST", &[], Hosts::Any).0, 400);
    }
}
