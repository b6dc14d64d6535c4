//! What comes to the port that no client of AWS sends, and who may have the port.

use super::{Clients, desk};
use crate::support::block_on;
use changefold::{
    clock::SystemClock,
    local::endpoint::{Endpoint, Serving},
};
use std::{error::Error as _, fs, path::PathBuf, sync::Arc};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

async fn connect(endpoint: &Endpoint) -> TcpStream {
    TcpStream::connect(endpoint.url().trim_start_matches("http://")).await.unwrap()
}

/// Sends a request as it is written here; the whole answer.
async fn send(endpoint: &Endpoint, head: &str, body: &str) -> String {
    let mut stream = connect(endpoint).await;
    let request = format!("POST / HTTP/1.1\r\nConnection: close\r\n{head}\r\n\r\n{body}");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[test]
fn a_malformed_request_is_answered_with_what_is_wrong() {
    block_on(async {
        let (endpoint, clients, _) = desk().await;
        let kinesis = "Host: localhost\r\nX-Amz-Target: Kinesis_20131202.PutRecord";
        let tables = "Host: localhost\r\nX-Amz-Target: DynamoDB_20120810.PutItem";
        for (head, body, status, part) in [
            (
                "Host: evil.example\r\nX-Amz-Target: Kinesis_20131202.ListStreams",
                "{}",
                403,
                "localhost",
            ),
            ("Host: localhost", "{}", 400, "X-Amz-Target"),
            (kinesis, "{", 400, "SerializationException"),
            (kinesis, r#"{"Data":"c2VjcmV0"}"#, 400, "ValidationException"),
            (tables, "{\"TableName\":", 400, "SerializationException"),
        ] {
            let head = format!("{head}\r\nContent-Length: {}", body.len());
            let answer = send(&endpoint, &head, body).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{head}: {answer}");
            assert!(answer.contains(part) && answer.contains("__type"), "{head}: {answer}");
            assert!(!answer.contains("c2VjcmV0"), "a payload is said again: {answer}");
            assert!(!answer.to_lowercase().contains("access-control"), "{answer}");
        }
        // What is too large is refused before it is sent.
        let head = format!("{kinesis}\r\nContent-Length: {}", (16 << 20) + 1);
        assert!(send(&endpoint, &head, "").await.starts_with("HTTP/1.1 413"));
        clients.kinesis.list_streams().send().await.unwrap();
    });
}

#[test]
fn a_slow_client_keeps_nobody_waiting() {
    block_on(async {
        let (endpoint, clients, _) = desk().await;
        let mut slow = vec![];
        for _ in 0..200 {
            let mut stream = connect(&endpoint).await;
            let head = "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{";
            stream.write_all(head.as_bytes()).await.unwrap();
            slow.push(stream);
        }
        clients.kinesis.list_streams().send().await.unwrap();
        clients.tables.list_tables().send().await.unwrap();
    });
}

/// A frame of HTTP/2.
const SETTINGS: u8 = 4;

/// The Kinesis client of JavaScript begins so.
#[test]
fn http_2_is_spoken_without_tls() {
    block_on(async {
        let (endpoint, ..) = desk().await;
        let mut stream = connect(&endpoint).await;
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
        stream.write_all(&[0, 0, 0, SETTINGS, 0, 0, 0, 0, 0]).await.unwrap();
        let mut frame = [0; 9];
        stream.read_exact(&mut frame).await.unwrap();
        assert_eq!(frame[3], SETTINGS, "{frame:?}");
    });
}

fn directory(name: &str) -> PathBuf {
    let directory = std::env::temp_dir().join(format!("changefold-{name}-{}", std::process::id()));
    drop(fs::remove_dir_all(&directory));
    directory
}

#[test]
fn a_port_and_a_directory_have_one_owner_who_is_named() {
    let kept = directory("owner");
    block_on(async {
        let clock = Arc::new(SystemClock);
        let serving = Serving { state: Some(kept.clone()), ..Serving::in_memory(clock) };
        let first = Endpoint::start(serving.clone()).await.unwrap();
        let refused = Endpoint::start(serving.clone()).await.unwrap_err().to_string();
        let pid = std::process::id().to_string();
        assert!(refused.contains(&pid) && refused.contains("another directory"), "{refused}");
        let address = first.url().trim_start_matches("http://").parse().unwrap();
        let taken = Serving { address, state: None, ..serving.clone() };
        let refused = Endpoint::start(taken).await.unwrap_err().to_string();
        assert!(refused.contains(&address.to_string()) && refused.contains("port"), "{refused}");

        let clients = Clients::at(&first.url());
        clients.kinesis.create_stream().stream_name("clicks").send().await.unwrap();
        first.stop().await;
        let second = Endpoint::start(serving.clone()).await.unwrap();
        let clients = Clients::at(&second.url());
        let listed = clients.kinesis.list_streams().send().await.unwrap();
        assert_eq!(listed.stream_names, ["clicks"]);
        second.stop().await;

        // A database of somebody else is not written to.
        let strange = kept.join("kinesis.sqlite");
        fs::remove_file(&strange).unwrap();
        let other = rusqlite::Connection::open(&strange).unwrap();
        other.execute_batch("PRAGMA journal_mode = DELETE; CREATE TABLE t (a)").unwrap();
        drop(other);
        let refused = Endpoint::start(serving).await.unwrap_err();
        let why = refused.source().unwrap().to_string();
        assert!(why.contains("kinesis.sqlite") && why.contains("another"), "{why}");
    });
    fs::remove_dir_all(kept).unwrap();
}
