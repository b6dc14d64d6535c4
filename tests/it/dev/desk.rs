//! `changefold dev` as a process, with a producer beside it.

use super::{VIEWS, differences, dynamodb, items, put};
use crate::support::{block_on, environment};
use std::{
    io::{BufRead as _, BufReader, Read as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

/// A directory of its own, gone at the end.
pub(crate) struct Scratch(pub(crate) PathBuf);

impl Scratch {
    pub(crate) fn new(name: &str) -> Self {
        let path =
            std::env::temp_dir().join(format!("changefold-dev-{}-{name}", std::process::id()));
        drop(std::fs::remove_dir_all(&path));
        std::fs::create_dir_all(&path).unwrap();
        std::fs::write(path.join("views.sql"), VIEWS).unwrap();
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

/// The process, and what it has said on stderr.
pub(crate) struct Desk {
    process: Child,
    pub(crate) url: String,
    pub(super) said: Arc<Mutex<String>>,
}

impl Desk {
    pub(crate) fn start(scratch: &Path, arguments: &[&str]) -> Self {
        let mut process = program()
            .current_dir(scratch)
            .args(["dev", "--port", "0", "--views", "views.sql"])
            .args(arguments)
            .env_remove("AWS_ENDPOINT_URL")
            // A test's own, which are no settings.
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let said = Arc::new(Mutex::new(String::new()));
        let (sender, receiver) = std::sync::mpsc::channel();
        let lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let noted = Arc::clone(&said);
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if let Some((_, rest)) = line.split_once("export AWS_ENDPOINT_URL=") {
                    drop(sender.send(rest.split(' ').next().unwrap().to_owned()));
                }
                let mut noted = noted.lock().unwrap();
                noted.push_str(&line);
                noted.push('\n');
            }
        });
        let url = receiver.recv_timeout(Duration::from_secs(30));
        let url = url.unwrap_or_else(|_| panic!("it did not start: {}", said.lock().unwrap()));
        Self { process, url, said }
    }

    /// The system's id of the process.
    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    pub(super) fn said(&self) -> String {
        self.said.lock().unwrap().clone()
    }

    /// Kills it as nothing can be prepared for.
    pub(super) fn kill(mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Ends it as Ctrl-C does; what it says at the end, and its exit status.
    pub(crate) fn stop(mut self) -> (String, Option<i32>) {
        let id = self.process.id().to_string();
        let told = Command::new("kill").args(["-INT", &id]).status().unwrap();
        assert!(told.success());
        let mut summary = String::new();
        self.process.stdout.take().unwrap().read_to_string(&mut summary).unwrap();
        (summary, self.process.wait().unwrap().code())
    }
}

/// Waits until the views at the endpoint are those of the items.
pub(super) async fn caught_up(desk: &Desk, items: &crate::oracle::Items) {
    let mut found = Vec::new();
    for _ in 0..150 {
        found = differences(&desk.url, items).await;
        if found.is_empty() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("{found:#?}\n{}", desk.said());
}

/// The program, without what only the tests are told: it knows no such settings.
pub(super) fn program() -> Command {
    let mut program = Command::new(env!("CARGO_BIN_EXE_changefold"));
    program.env_remove("CHANGEFOLD_TEST_DYNAMODB_STREAMS").env_remove("CHANGEFOLD_TEST_KINESIS");
    program
}

#[test]
fn two_thousand_puts_are_the_views_that_sqlite_computes() {
    const PUTS: u32 = 2_000;
    let scratch = Scratch::new("puts");
    let desk = Desk::start(&scratch.0, &["--table", "orders=order_id"]);
    block_on(async {
        let client = dynamodb(&desk.url);
        for number in 0..PUTS {
            put(&client, number).await.unwrap();
        }
        caught_up(&desk, &items(0..PUTS)).await;
    });
    let output = program()
        .args(["view", "read", "totals", "--format", "json", "--endpoint-url", &desk.url])
        .output()
        .unwrap();
    let rows: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(rows.as_array().unwrap().len(), 11, "the views are read as any others: {rows}");
    let said = desk.said();
    assert!(said.contains("table orders is made: key order_id"), "{said}");
    assert!(said.lines().count() < 400, "lines are bounded: {}", said.lines().count());
    assert!(!said.contains("planted-7f3a"), "no payload is told: {said}");
    let (summary, status) = desk.stop();
    assert!(summary.contains("orders: 2000 records in "), "{summary}");
    assert!(summary.contains("view totals: 11 rows"), "{summary}");
    assert_eq!(status, Some(0));
}

#[test]
fn a_table_that_is_there_with_another_key_is_refused_by_name() {
    let scratch = Scratch::new("key");
    let first = Desk::start(&scratch.0, &["--table", "orders=order_id"]);
    let other = program()
        .current_dir(&scratch.0)
        .args(["dev", "--views", "views.sql", "--endpoint-url", &first.url])
        .args(["--table", "orders=order_id,line:N"])
        .output()
        .unwrap();
    let said = String::from_utf8(other.stderr).unwrap();
    assert_eq!(other.status.code(), Some(2), "{said}");
    let refused = "table orders is there with the key order_id (S), and should have \
                   order_id (S), line (N)";
    assert!(said.contains(refused), "{said}");
    first.kill();
}

#[test]
fn without_a_template_and_without_tables_it_says_how_to_give_them() {
    let scratch = Scratch::new("nothing");
    let output = program().current_dir(&scratch.0).args(["dev", "--port", "0"]).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("there is no infra/template.yaml here"), "{said}");
    assert!(said.contains("--table orders=order_id --stream clicks=4"), "{said}");
}

#[test]
fn an_endpoint_that_is_not_up_is_named_with_a_remedy() {
    let scratch = Scratch::new("down");
    let output = program()
        .current_dir(&scratch.0)
        .args(["dev", "--views", "views.sql", "--endpoint-url", "http://127.0.0.1:9"])
        .args(["--table", "orders=order_id"])
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("table orders: DescribeTable: NotReachable"), "{said}");
    assert!(said.contains("is the endpoint up, and is its URL right?"), "{said}");
}

/// AWS's own DynamoDB Local instead of the desk's endpoint; `tests/dev.sh` sets where it is.
#[test]
fn puts_at_dynamodb_local_are_the_views_that_sqlite_computes() {
    const PUTS: u32 = 500;
    let Some(url) = environment("CHANGEFOLD_TEST_DYNAMODB_STREAMS") else { return };
    let scratch = Scratch::new("elsewhere");
    let desk = Desk::start(&scratch.0, &["--table", "orders=order_id", "--endpoint-url", &url]);
    assert_eq!(desk.url, url);
    block_on(async {
        let client = dynamodb(&desk.url);
        for number in 0..PUTS {
            put(&client, number).await.unwrap();
        }
        caught_up(&desk, &items(0..PUTS)).await;
    });
    assert_eq!(desk.stop().1, Some(0));
}

#[test]
fn without_its_terminal_it_still_ends_with_its_checkpoints_written() {
    let scratch = Scratch::new("terminal");
    let mut process = program()
        .current_dir(&scratch.0)
        .args(["dev", "--port", "0", "--views", "views.sql", "--table", "orders=order_id"])
        .args(["--state", "state"])
        .env_remove("AWS_ENDPOINT_URL")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(process.stderr.take().unwrap()).lines().map_while(Result::ok);
    let url = lines.find_map(|line| {
        let (_, rest) = line.split_once("export AWS_ENDPOINT_URL=")?;
        rest.split(' ').next().map(str::to_owned)
    });
    // Nobody hears what it says from here on, on either of the two.
    drop((lines, process.stdout.take()));
    block_on(async {
        let url = url.unwrap();
        let client = dynamodb(&url);
        for number in 0..40 {
            put(&client, number).await.unwrap();
        }
        for _ in 0..150 {
            if differences(&url, &items(0..40)).await.is_empty() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("it does not go on without its terminal");
    });
    let told = Command::new("kill").args(["-TERM", &process.id().to_string()]).status().unwrap();
    assert!(told.success());
    assert_eq!(process.wait().unwrap().code(), Some(0));
    let mappings = std::fs::read_dir(scratch.0.join("state/mappings")).unwrap();
    let mapping = mappings.map(|it| it.unwrap().path()).next().unwrap();
    let checkpoint = std::fs::read_to_string(mapping.join("checkpoint.json")).unwrap();
    assert!(checkpoint.contains("shardId-"), "{checkpoint}");
}
