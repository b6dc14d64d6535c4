//! The program that is deployed, in processes of its own: it invokes itself through Lambda's API,
//! and is invoked through the Runtime API.

use super::{
    chain::{lambda::times_worked, shop},
    steps::VIEWS,
};
use crate::support::{self, FOREVER};
use changefold::{
    call::Call,
    clock::{Clock, SystemClock},
    local::{
        runtime_api::{Program, RuntimeApi},
        store_server::StoreServer,
        target::Target,
    },
    operation::{
        self, Operation,
        backfill::{
            Backfill, Begin, Begun, Counts, OfTable, RunStatus, Status, Which,
            chain::{Chain, Chained, StartChain},
        },
    },
    record::Timestamp,
    store::embedded::Embedded,
    view::{Views, building::RunState, registry::Owner, sql},
};
use serde::de::DeserializeOwned;
use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
    sync::Arc,
    thread::JoinHandle,
    time::Duration,
};
use tokio::sync::mpsc;

/// How long an event that was sent may take to come.
const EVENT_WAIT: Duration = Duration::from_secs(5);

/// Lambda's `Invoke`, asynchronously: events come out as they are sent.
struct Lambda {
    address: SocketAddr,
    events: mpsc::UnboundedReceiver<Vec<u8>>,
    serving: Option<JoinHandle<()>>,
}

impl Lambda {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, events) = mpsc::unbounded_channel();
        let serving = std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Some(event) = invocation(&stream.unwrap()) else { return };
                sender.send(event).unwrap();
            }
        });
        Self { address, events, serving: Some(serving) }
    }

    /// The next event, if one was sent.
    async fn next(&mut self) -> Option<Vec<u8>> {
        tokio::time::timeout(EVENT_WAIT, self.events.recv()).await.ok().flatten()
    }
}

impl Drop for Lambda {
    fn drop(&mut self) {
        drop(TcpStream::connect(self.address));
        drop(self.serving.take().unwrap().join());
    }
}

/// Reads one request and accepts it; none if somebody only knocks.
fn invocation(mut stream: &TcpStream) -> Option<Vec<u8>> {
    let mut reader = BufReader::new(stream);
    let lines = reader.by_ref().lines().map(Result::unwrap);
    let head: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
    let alias = "%3AViews%3Alive/invocations HTTP/1.1";
    assert!(head.first()?.starts_with("POST /2015-03-31/functions/arn%3A"), "{head:?}");
    assert!(head[0].ends_with(alias), "{head:?}");
    let header = |name: &str| {
        let found = head.iter().filter_map(|line| line.split_once(": "));
        found.filter(|(it, _)| it.eq_ignore_ascii_case(name)).map(|(_, value)| value).next()
    };
    assert_eq!(header("x-amz-invocation-type"), Some("Event"));
    let signed = header("authorization").unwrap();
    assert!(signed.contains("/us-east-1/lambda/aws4_request"), "{signed}");
    assert!(signed.contains("x-amz-invocation-type"), "{signed}");
    let mut event = vec![0; header("content-length").unwrap().parse().unwrap()];
    reader.read_exact(&mut event).unwrap();
    let accepted = b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    stream.write_all(accepted).unwrap();
    Some(event)
}

/// A directory of its own, gone with it.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let name = format!("changefold-links-{}-{name}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

/// The deployed function, its store and its Lambda.
struct Deployed {
    function: RuntimeApi,
    lambda: Lambda,
    store: StoreServer,
    timeout_ms: i64,
    events: Vec<Vec<u8>>,
    answers: Vec<Chained>,
    _folder: Folder,
}

impl Deployed {
    async fn open(items: usize, timeout_ms: i64, name: &str) -> Self {
        let embedded = Embedded::open(None).unwrap();
        // No stream plays a part here.
        shop::fill(&embedded, items, false);
        let store = StoreServer::start(embedded).await.unwrap();
        let views = sql::parse(VIEWS).unwrap();
        let at = support::endpoint(&store.url());
        Views::ensure_tables(&views, &at, "ledger", "shop_", FOREVER).await.unwrap();
        let (lambda, folder) = (Lambda::start(), Folder::new(name));
        let file = folder.0.join("views.sql");
        fs::write(&file, VIEWS).unwrap();
        let url = format!("http://{}", lambda.address);
        let mut program = Program::new(env!("CARGO_BIN_EXE_bootstrap"), shop::ARN)
            .with_output(File::create(folder.0.join("log")).unwrap())
            .with_variable("CHANGEFOLD_VIEWS", &file);
        for (name, value) in [
            ("AWS_ACCESS_KEY_ID", "local"),
            ("AWS_SECRET_ACCESS_KEY", "local"),
            ("AWS_ENDPOINT_URL_DYNAMODB", &store.url()),
            ("AWS_ENDPOINT_URL_LAMBDA", &url),
            ("CHANGEFOLD_CONSUMER", "test"),
            ("CHANGEFOLD_LEDGER_TABLE", "ledger"),
            ("CHANGEFOLD_VIEW_TABLE_PREFIX", "shop_"),
        ] {
            program = program.with_variable(name, value);
        }
        let function = RuntimeApi::new(program, Arc::new(SystemClock));
        let (events, answers) = (Vec::new(), Vec::new());
        Self { function, lambda, store, timeout_ms, events, answers, _folder: folder }
    }

    async fn invoke<T: DeserializeOwned>(&self, event: &[u8]) -> T {
        let deadline = Timestamp(SystemClock.now().0 + self.timeout_ms);
        let answer = self.function.invoke(event.to_vec().into(), Call::new("request", deadline));
        serde_json::from_slice(&answer.await.unwrap()).unwrap()
    }

    async fn ask<T: DeserializeOwned>(&self, step: Backfill) -> T {
        self.invoke(&operation::event(Operation::Backfill(step))).await
    }

    async fn begin(&self, units_per_s: u32) {
        let units = Some(units_per_s);
        let _: Begun = self
            .ask(Backfill::Begin(Begin {
                table: "orders".to_owned(),
                read_units_per_s: units,
                write_units_per_s: units,
                without_stream: true,
                ..Begin::default()
            }))
            .await;
    }

    async fn start(&self) -> Chained {
        let start = StartChain { table: "orders".to_owned(), links_max: None };
        self.ask(Backfill::Chain(Chain::Start(start))).await
    }

    async fn run(&self) -> RunStatus {
        let status: Status = self.ask(Backfill::Status(Which::default())).await;
        status.runs.into_iter().next().unwrap()
    }

    /// The next event that the function has sent, if it has.
    async fn next(&mut self) -> Option<Vec<u8>> {
        let event = self.lambda.next().await?;
        self.events.push(event.clone());
        Some(event)
    }

    /// Delivers an event twice at the same time.
    async fn deliver(&mut self, event: &[u8]) {
        let (one, other) = tokio::join!(self.invoke(event), self.invoke(event));
        self.answers.extend([one, other]);
    }

    /// Every number has worked once, every item is in once, and nothing wakes it up again.
    async fn check(&mut self, items: u64) {
        let worked = times_worked(&self.answers);
        assert!(worked.len() > 3 && worked.values().all(|times| *times == 1), "{worked:?}");
        let run = self.run().await;
        assert_eq!((run.state, run.counts.not_done), (RunState::CatchingUp, 0));
        // A link that died has brought items in that the next one knows.
        let Counts { scanned, added, known, .. } = run.counts;
        assert_eq!((scanned, added + known), (items, items), "{:?}", run.counts);
        assert_eq!(run.chain.unwrap().ended.unwrap().code, "AllDone");
        for event in self.events.clone() {
            let told: Chained = self.invoke(&event).await;
            assert_eq!((told.link, told.next), (None, None), "{told:?}");
        }
        assert!(self.lambda.events.try_recv().is_err(), "nobody is invoked any more");
        let at = support::endpoint(&self.store.url());
        let views = sql::parse(VIEWS).unwrap();
        let (tables, owner) = (("ledger", "shop_"), Owner::new("test"));
        let views = Views::open(views, at, tables, &owner, FOREVER).await.unwrap();
        let rows = support::table(&views.rows(0, 10).await.unwrap());
        let of = |first: u64| (first..items).step_by(2);
        let row = |region: &str, first| {
            format!("{region} {} {}", of(first).count(), of(first).sum::<u64>())
        };
        assert_eq!(rows, format!("{}; {}", row("EU", 0), row("US", 1)));
    }
}

fn block_on(future: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(future);
}

#[test]
fn the_deployed_program_continues_itself() {
    block_on(async {
        let mut deployed = Deployed::open(400, 1_000, "small").await;
        deployed.begin(500).await;
        assert_eq!(deployed.start().await.next, Some(1));
        while let Some(event) = deployed.next().await {
            deployed.deliver(&event).await;
            if deployed.run().await.chain.unwrap().ended.is_some() {
                break;
            }
        }
        deployed.check(400).await;
    });
}

/// 50,000 items, five seconds a link: `tests/backfill.sh`.
#[test]
#[ignore = "it takes a minute; tests/backfill.sh"]
#[expect(clippy::print_stdout, reason = "who waits wants to read what happened")]
fn a_large_table_is_backfilled_by_links_of_five_seconds() {
    const ITEMS: usize = 50_000;
    const UNITS_PER_S: u32 = 10_000;
    block_on(async {
        let mut deployed = Deployed::open(ITEMS, 5_000, "large").await;
        // About 150,000 write units: four links at least, on whatever machine.
        deployed.begin(UNITS_PER_S).await;
        let began = SystemClock.now().0;
        assert_eq!(deployed.start().await.next, Some(1));
        let (mut links, mut late) = (0, None);
        while let Some(event) = deployed.next().await {
            links += 1;
            match links {
                // It dies at work: whoever asks again goes on, when its time is over.
                2 => {
                    let at_work = Duration::from_millis(2_500);
                    let told: Result<Chained, _> =
                        tokio::time::timeout(at_work, deployed.invoke(&event)).await;
                    assert!(told.is_err(), "it has ended before it could die: {told:?}");
                    let of = OfTable { table: "orders".to_owned() };
                    let ask = Backfill::Chain(Chain::Continue(of));
                    let mut asked = 1;
                    while deployed.ask::<Chained>(ask.clone()).await.next.is_none() {
                        asked += 1;
                        tokio::time::sleep(Duration::from_millis(500)).await;
                    }
                    assert!(asked > 4, "a link may be alive until its deadline");
                }
                // The run is stopped between two links, and goes on later.
                4 => {
                    let of = OfTable { table: "orders".to_owned() };
                    let _: Status = deployed.ask(Backfill::Stop(of)).await;
                    let told: Chained = deployed.invoke(&event).await;
                    assert_eq!(told.refused.unwrap().code, "RunStopped");
                    deployed.begin(UNITS_PER_S).await;
                    assert!(deployed.start().await.next.is_some());
                    late = Some(event);
                }
                _ => deployed.deliver(&event).await,
            }
            if let Some(late) = late.as_ref().filter(|_| links > 4) {
                let told: Chained = deployed.invoke(late).await;
                assert_eq!((told.link, told.next), (None, None), "{told:?}");
            }
            if deployed.run().await.chain.unwrap().ended.is_some_and(|it| it.code == "AllDone") {
                break;
            }
        }
        println!("{links} links, {} ms", SystemClock.now().0 - began);
        deployed.check(ITEMS as u64).await;
    });
}
