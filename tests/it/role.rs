//! A role of another account, assumed for the tables that views are computed from: what goes over
//! the wire.
//!
//! That a real STS is asked rightly is seen in `tests/wiring/backfill.py`, against ministack.

use crate::support::{
    self, FOREVER,
    http::{self, Answer, Request},
};
use changefold::{
    clock::SystemClock,
    store::{Endpoint, Roots, Store, role::Role},
};
use std::sync::{Arc, Mutex};

const ROLE: &str = "arn:aws:iam::210987654321:role/reads-orders";

/// What was asked: who signed, and the body.
type Asked = Arc<Mutex<Vec<(String, String)>>>;

/// STS and DynamoDB behind one port. STS lends credentials until then, or refuses.
fn serve(expiration: Option<&'static str>) -> (String, Asked) {
    let asked = Asked::default();
    let told = Arc::clone(&asked);
    let url = http::serve(move |Request { headers, body, .. }| {
        let signer = headers["authorization"].split_once("Credential=").unwrap().1;
        let signer = signer.split('/').next().unwrap().to_owned();
        let (status, reply) = match expiration {
            _ if !body.contains("Action=AssumeRole") => {
                (200, r#"{"Responses":{"orders":[]},"UnprocessedKeys":{}}"#.to_owned())
            }
            Some(expiration) => (200, lent(expiration)),
            None => (403, REFUSED.to_owned()),
        };
        told.lock().unwrap().push((signer, body));
        Some(Answer { status, headers: "", body: reply })
    });
    (url, asked)
}

/// The reply of the STS API reference's example.
fn lent(expiration: &str) -> String {
    format!(
        "<AssumeRoleResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\
         <AssumeRoleResult><AssumedRoleUser><AssumedRoleId>A:b</AssumedRoleId><Arn>a</Arn>\
         </AssumedRoleUser><Credentials><AccessKeyId>LENT</AccessKeyId>\
         <SecretAccessKey>planted-7f3a-secret</SecretAccessKey>\
         <SessionToken>planted-7f3a-token</SessionToken><Expiration>{expiration}</Expiration>\
         </Credentials></AssumeRoleResult></AssumeRoleResponse>"
    )
}

const REFUSED: &str = "<ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><Error>\
    <Type>Sender</Type><Code>AccessDenied</Code><Message>not authorized to perform \
    sts:AssumeRole</Message></Error></ErrorResponse>";

fn source(url: &str) -> Store {
    let endpoint = support::local_endpoint(Some(url));
    let role =
        Role { arn: ROLE.to_owned(), endpoint: endpoint.clone(), session: "t: x".to_owned() };
    let credentials = role.credentials(Roots::Usual.network_to(&endpoint));
    let endpoint = Endpoint { credentials, ..endpoint };
    Store::new(Roots::Usual.network_to(&endpoint), &endpoint, Arc::new(SystemClock), 1)
}

#[test]
fn a_role_is_assumed_once_and_signs_what_is_read() {
    support::block_on(async {
        let (url, asked) = serve(Some("2999-01-01T00:00:00Z"));
        let store = source(&url);
        for _ in 0..3 {
            assert_eq!(store.get("orders", "pk", "O#1", FOREVER).await.unwrap(), None);
        }
        let asked = asked.lock().unwrap();
        let signers: Vec<&str> = asked.iter().map(|(signer, _)| &**signer).collect();
        assert_eq!(signers, ["local", "LENT", "LENT", "LENT"]);
        let arn = "RoleArn=arn%3Aaws%3Aiam%3A%3A210987654321%3Arole%2Freads-orders";
        for part in [arn, "RoleSessionName=tx"] {
            assert!(asked[0].1.contains(part), "{}", asked[0].1);
        }
    });
}

#[test]
fn a_role_that_expires_is_assumed_again() {
    support::block_on(async {
        let (url, asked) = serve(Some("2020-01-01T00:00:00Z"));
        let store = source(&url);
        for _ in 0..2 {
            store.get("orders", "pk", "O#1", FOREVER).await.unwrap();
        }
        let signers: Vec<String> =
            asked.lock().unwrap().iter().map(|(signer, _)| signer.clone()).collect();
        assert_eq!(signers, ["local", "LENT", "local", "LENT"]);
    });
}

#[test]
fn a_role_that_may_not_be_assumed_is_named() {
    support::block_on(async {
        let (url, asked) = serve(None);
        let deadline = changefold::record::Timestamp(1);
        let error = source(&url).get("orders", "pk", "O#1", deadline).await.unwrap_err();
        let told = format!("{error}");
        for part in [ROLE, "AccessDenied", "does the role trust it"] {
            assert!(told.contains(part), "no {part} in: {told}");
        }
        assert!(asked.lock().unwrap().iter().all(|(signer, _)| signer == "local"));
    });
}
