//! The settings: what is read, and how each fault is named.

use super::*;
use aws_credential_types::provider::ProvideCredentials;
use futures_util::FutureExt as _;

const COMPLETE: [(&str, &str); 5] = [
    (LEDGER_TABLE, "ledger"),
    (VIEW_TABLE_PREFIX, "view-"),
    ("AWS_REGION", "eu-central-1"),
    ("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE"),
    ("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI"),
];

/// The complete settings with some changed; an empty value takes one away.
fn read(changes: &[(&str, &str)]) -> Result<ViewConfig, ConfigError> {
    ViewConfig::from_env(pairs(COMPLETE.iter().chain(changes)), Path::new("/here"))
}

fn pairs<'t>(
    pairs: impl IntoIterator<Item = &'t (&'t str, &'t str)>,
) -> impl Iterator<Item = (String, String)> {
    pairs.into_iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
}

#[track_caller]
fn check(changes: &[(&str, &str)], faults: &[&str]) {
    let error = read(changes).expect_err("faults were expected");
    let actual: Vec<String> = error.faults().iter().map(ToString::to_string).collect();
    assert_eq!(actual.len(), faults.len(), "{actual:?}");
    for (actual, expected) in actual.iter().zip(faults) {
        assert!(actual.contains(expected), "{actual:?} does not contain {expected:?}");
    }
}

#[test]
fn defaults_need_only_the_tables_and_a_store() {
    let config = read(&[]).unwrap();
    assert!(matches!(config.function.order, Order::Key));
    assert_eq!(config.function.concurrency.get(), 16);
    assert_eq!(config.function.function_name, "local");
    assert_eq!(config.function.log, "info");
    assert_eq!(config.views, PathBuf::from("/here/views"));
    assert_eq!(config.endpoint.region, "eu-central-1");
    assert_eq!(config.endpoint.url, None);
}

#[test]
fn a_processor_needs_no_store() {
    assert!(Config::from_env([]).is_ok());
    let error = Config::from_env(pairs(&[(CONCURRENCY, "-1")])).unwrap_err();
    assert_eq!(error.faults().len(), 1);
}

#[test]
fn views_are_found_beside_the_function() {
    let path = |changes: &[(&str, &str)]| read(changes).unwrap().views;
    let root = ("LAMBDA_TASK_ROOT", "/var/task");
    assert_eq!(path(&[root]), PathBuf::from("/var/task/views"));
    assert_eq!(path(&[root, (VIEWS, "sql/a.sql")]), PathBuf::from("/var/task/sql/a.sql"));
    assert_eq!(path(&[root, (VIEWS, "/opt/views")]), PathBuf::from("/opt/views"));
}

#[test]
fn an_endpoint_needs_neither_region_nor_credentials() {
    let url = ("AWS_ENDPOINT_URL", "http://localhost:8000");
    let bare = [("AWS_REGION", ""), ("AWS_ACCESS_KEY_ID", ""), ("AWS_SECRET_ACCESS_KEY", ""), url];
    let endpoint = read(&bare).unwrap().endpoint;
    assert_eq!(endpoint.url.as_deref(), Some("http://localhost:8000"));
    let credentials = endpoint.credentials.provide_credentials().now_or_never();
    assert_eq!(credentials.unwrap().unwrap().access_key_id(), "local");
    // The service's own variable goes before the general one.
    let endpoint = read(&[url, ("AWS_ENDPOINT_URL_DYNAMODB", "http://127.0.0.1:1")]);
    assert_eq!(endpoint.unwrap().endpoint.url.as_deref(), Some("http://127.0.0.1:1"));
}

#[test]
fn a_source_may_be_elsewhere() {
    let source = |changes: &[(&str, &str)]| read(changes).unwrap().source_endpoint;
    assert!(source(&[]).is_none(), "the tables are where the ledger is");
    let url = ("AWS_ENDPOINT_URL_DYNAMODB", "http://127.0.0.1:1");
    let region = (SOURCE_REGION, "eu-west-1");
    let endpoint = source(&[url, region]).unwrap();
    assert_eq!((&*endpoint.region, endpoint.url), ("eu-west-1", None));
    let endpoint = source(&[(SOURCE_ENDPOINT_URL, "http://127.0.0.1:2")]).unwrap();
    assert_eq!(
        (&*endpoint.region, endpoint.url.as_deref()),
        ("eu-central-1", Some("http://127.0.0.1:2"))
    );
    check(&[(SOURCE_ENDPOINT_URL, "here")], &["CHANGEFOLD_SOURCE_ENDPOINT_URL is not valid"]);
}

#[cfg(feature = "backfill")]
#[test]
fn a_role_may_read_the_source() {
    let arn = "arn:aws:iam::210987654321:role/reads-orders";
    let config = read(&[(SOURCE_ROLE, arn)]).unwrap();
    let role = config.source_role.unwrap();
    assert_eq!((&*role.arn, &*role.session), (arn, "changefold-local"));
    assert_eq!((&*role.endpoint.region, role.endpoint.url), ("eu-central-1", None));
    assert_eq!(config.source_endpoint.unwrap().region, "eu-central-1");
    let url = ("AWS_ENDPOINT_URL_STS", "http://127.0.0.1:3");
    let role = read(&[(SOURCE_ROLE, arn), url]).unwrap().source_role.unwrap();
    assert_eq!(role.endpoint.url.as_deref(), Some("http://127.0.0.1:3"));
    for wrong in
        ["reads-orders", "arn:aws:iam::210987654321:user/somebody", "arn:aws:sts::1:role/x"]
    {
        check(&[(SOURCE_ROLE, wrong)], &["CHANGEFOLD_SOURCE_ROLE_ARN is not valid"]);
    }
}

#[test]
fn the_log_follows_lambda_unless_told_otherwise() {
    let log = |changes: &[(&str, &str)]| read(changes).unwrap().function.log;
    assert_eq!(log(&[("AWS_LAMBDA_LOG_LEVEL", "WARN")]), "warn");
    assert_eq!(log(&[("AWS_LAMBDA_LOG_LEVEL", "FATAL")]), "error");
    let both = [("AWS_LAMBDA_LOG_LEVEL", "WARN"), ("RUST_LOG", "changefold=debug")];
    assert_eq!(log(&both), "changefold=debug");
}

#[test]
fn a_ledger_is_the_functions_or_the_consumers() {
    let owner = |changes: &[(&str, &str)]| read(changes).unwrap().owner;
    assert_eq!(owner(&[]), Owner::new("local"));
    let name = ("AWS_LAMBDA_FUNCTION_NAME", "Views");
    assert_eq!(owner(&[name]), Owner::new("Views"));
    let consumer = (durable::CONSUMER, "shop");
    assert_eq!(owner(&[name, consumer]), Owner::new("shop"));
    let takes = (LEDGER_TAKE_FROM, "Old");
    assert_eq!(owner(&[name, takes]), Owner::new("Views").taking_from(Some("Old".to_owned())));
    let in_lambda = ("AWS_LAMBDA_RUNTIME_API", "127.0.0.1:9001");
    check(&[in_lambda], &["CHANGEFOLD_CONSUMER is not set"]);
    check(&[(durable::CONSUMER, "a#b")], &["CHANGEFOLD_CONSUMER is not valid"]);
}

#[test]
fn errors_are_logged_bounded_unless_told_otherwise() {
    let errors = |changes: &[(&str, &str)]| read(changes).unwrap().function.log_errors;
    assert_eq!(errors(&[]), LogErrors::Bounded);
    assert_eq!(errors(&[(LOG_ERRORS, "codes")]), LogErrors::Codes);
    check(&[(LOG_ERRORS, "none")], &["CHANGEFOLD_LOG_ERRORS is not valid"]);
}

#[test]
fn every_order_is_read() {
    let order = |text: &str| format!("{:?}", read(&[(ORDER, text)]).unwrap().function.order);
    assert_eq!(order("key"), "Key");
    assert_eq!(order("shard"), "Shard");
    assert_eq!(order("partition_key"), "PartitionKey { attribute: None }");
    let named = "PartitionKey { attribute: Some(\"customer\") }";
    assert_eq!(order("partition_key:customer"), named);
}

#[test]
fn each_fault_is_named() {
    check(&[(CONCURRENCY, "0")], &["CHANGEFOLD_CONCURRENCY is not valid"]);
    check(&[(CONCURRENCY, "1001")], &["1 to 1000"]);
    check(&[(CONCURRENCY, "many")], &["1 to 1000"]);
    check(&[(ORDER, "keys")], &["CHANGEFOLD_ORDER is not valid"]);
    check(&[(ORDER, "partition_key:")], &["CHANGEFOLD_ORDER is not valid"]);
    check(&[(LEDGER_TABLE, "")], &["CHANGEFOLD_LEDGER_TABLE is not set"]);
    check(&[(LEDGER_TABLE, "ab")], &["3 to 255"]);
    check(&[(VIEW_TABLE_PREFIX, "a b")], &["CHANGEFOLD_VIEW_TABLE_PREFIX is not valid"]);
    check(&[("AWS_REGION", "")], &["AWS_REGION is not set"]);
    check(&[("AWS_ENDPOINT_URL", "localhost")], &["AWS_ENDPOINT_URL is not valid"]);
    check(&[("RUST_LOG", "a=b=c")], &["RUST_LOG is not valid"]);
    check(&[("CHANGEFOLD_LEDGER", "x")], &["did you mean CHANGEFOLD_LEDGER_TABLE?"]);
    check(&[("CHANGEFOLD_CONCURENCY", "x")], &["did you mean CHANGEFOLD_CONCURRENCY?"]);
}

#[test]
fn the_roots_are_as_every_sdk_is_told_them() {
    let roots = |changes: &[(&str, &str)]| read(changes).unwrap().function.roots;
    assert!(matches!(roots(&[]), Roots::Usual));
    assert!(matches!(roots(&[("SSL_CERT_FILE", "/etc/ca.pem")]), Roots::System));
    assert!(matches!(roots(&[("SSL_CERT_DIR", "/etc/ca")]), Roots::System));
    let missing = [(CA_BUNDLE, "/nowhere/ca.pem"), ("SSL_CERT_FILE", "/etc/ca.pem")];
    check(&missing, &["AWS_CA_BUNDLE is not usable: /nowhere/ca.pem: cannot be read: No such"]);
}

#[test]
fn all_faults_are_named_at_once() {
    let changes = [(ORDER, "?"), (CONCURRENCY, "?"), (LEDGER_TABLE, ""), ("CHANGEFOLD_X", "1")];
    check(&changes, &["CHANGEFOLD_X", ORDER, CONCURRENCY, LEDGER_TABLE]);
}

#[test]
fn secrets_are_not_printed() {
    let config = read(&[("AWS_SESSION_TOKEN", "FwoGZXIvYXdz")]).unwrap();
    let printed = format!("{config:?}");
    assert!(printed.contains("eu-central-1"), "the control: {printed}");
    assert!(!printed.contains("wJalrXUtnFEMI") && !printed.contains("FwoGZXIvYXdz"));
}

#[test]
fn operations_are_all_unless_the_setting_says_otherwise() {
    let of = |changes: &[(&str, &str)]| read(changes).unwrap().function.operations;
    assert_eq!(of(&[]), Operations::All);
    assert_eq!(of(&[(OPERATIONS, "read")]), Operations::Read);
    assert_eq!(of(&[(OPERATIONS, "off")]), Operations::Off);
    check(
        &[(OPERATIONS, "none")],
        &["CHANGEFOLD_OPERATIONS is not valid: expected `off`, `read` or `all`"],
    );
}
