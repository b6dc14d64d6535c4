//! A function in a process of its own, and the Runtime API it asks for its invocations.
//!
//! It is separate from the desk's Runtime API, which is asynchronous and knows timeouts and
//! restarts: here one thread a connection reads and nothing else runs, so that what is measured
//! is the function. Whatever fails ends the bench. What it gives up: everything of HTTP that the
//! runtime clients of Rust, Node and Python do not send.

use changefold::clock::{Clock as _, SystemClock};
use std::{
    fs::{self, File},
    io::{self, BufRead, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command},
    sync::mpsc::{self, Receiver, Sender},
    thread,
    time::{Duration, Instant},
};

/// How long a function may take to start, or to answer.
const PATIENCE: Duration = Duration::from_mins(1);

const BASE: &str = "/2018-06-01/runtime/";

/// What is started, in a directory, and how it is called in the table.
#[derive(Debug, Clone)]
pub(super) struct Program {
    pub(super) name: &'static str,
    pub(super) path: PathBuf,
    pub(super) arguments: &'static [&'static str],
    pub(super) directory: PathBuf,
}

/// A process that waits for its next invocation.
#[derive(Debug)]
pub(super) struct Function {
    name: &'static str,
    process: Child,
    requests: Receiver<Request>,
    invocations: u32,
    /// Where the next invocation is asked for.
    next: Option<TcpStream>,
}

#[derive(Debug)]
struct Request {
    /// What follows [`BASE`] in its path.
    path: String,
    body: Vec<u8>,
    /// When its last byte was there.
    read_at: Instant,
    connection: TcpStream,
}

impl Function {
    /// Starts the program and waits until it asks for its first invocation. What it prints goes
    /// to a file beside it.
    pub(super) fn start(program: &Program) -> Self {
        let Program { name, path, arguments, directory } = program;
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (teller, requests) = mpsc::channel();
        thread::spawn(move || accept(&listener, &teller));
        let log = File::create(directory.join(format!("{name}.log"))).unwrap();
        let process = Command::new(path)
            .args(*arguments)
            .current_dir(directory)
            .env_clear()
            .envs(environment(directory))
            .env("AWS_LAMBDA_RUNTIME_API", address.to_string())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("{name}: {} does not start: {error}", path.display()));
        let mut function = Self { name, process, requests, invocations: 0, next: None };
        function.next = Some(function.asks());
        function
    }

    fn request(&self) -> Request {
        let request = self.requests.recv_timeout(PATIENCE);
        request.unwrap_or_else(|_| panic!("{}: no request came; its log says why", self.name))
    }

    fn asks(&self) -> TcpStream {
        let Request { path, body, connection, .. } = self.request();
        let body = String::from_utf8_lossy(&body);
        assert_eq!(path, "invocation/next", "{}: {body}", self.name);
        connection
    }

    /// One invocation, from the first byte of the event's body sent to the last of the reply
    /// read. The reply has to say that every record is finished.
    pub(super) fn invoke(&mut self, payload: &[u8]) -> Duration {
        let mut connection = self.next.take().unwrap();
        self.invocations += 1;
        let id = format!("00000000-0000-4000-8000-{:012}", self.invocations);
        let deadline_ms = SystemClock.now().0 + 900_000;
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
             Lambda-Runtime-Aws-Request-Id: {id}\r\nLambda-Runtime-Deadline-Ms: {deadline_ms}\r\n\
             Lambda-Runtime-Invoked-Function-Arn: \
             arn:aws:lambda:eu-west-1:123456789012:function:orders\r\n\
             Lambda-Runtime-Trace-Id: Root=1-00000000-000000000000000000000000;Sampled=0\r\n\r\n",
            payload.len(),
        );
        connection.write_all(head.as_bytes()).unwrap();
        let start = Instant::now();
        connection.write_all(payload).unwrap();
        let Request { path, body, read_at, mut connection } = self.request();
        let elapsed = read_at.duration_since(start);
        let reply: Option<serde_json::Value> = serde_json::from_slice(&body).ok();
        let is_finished = reply.is_some_and(|it| it["batchItemFailures"] == serde_json::json!([]));
        let body = String::from_utf8_lossy(&body);
        assert_eq!(path, format!("invocation/{id}/response"), "{}: {body}", self.name);
        assert!(is_finished, "{}: not all records are finished: {body:.200}", self.name);
        let accepted = b"HTTP/1.1 202 Accepted\r\nContent-Type: application/json\r\n\
            Content-Length: 15\r\n\r\n{\"status\":\"OK\"}";
        connection.write_all(accepted).unwrap();
        self.next = Some(self.asks());
        elapsed
    }

    /// The time that CPUs have spent on the process's threads.
    pub(super) fn cpu_time(&self) -> Duration {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.process.id())).unwrap();
        let nanoseconds = tasks.map(|task| {
            // A thread that has just ended has no file any more.
            let path = task.unwrap().path().join("schedstat");
            let text = fs::read_to_string(path).unwrap_or_default();
            text.split(' ').next().and_then(|first| first.parse().ok()).unwrap_or(0)
        });
        Duration::from_nanos(nanoseconds.sum())
    }

    /// The most memory the process has had, in bytes.
    pub(super) fn peak_memory(&self) -> u64 {
        let status = format!("/proc/{}/status", self.process.id());
        let status = fs::read_to_string(status).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        1024 * line.trim().trim_end_matches(" kB").parse::<u64>().unwrap()
    }
}

impl Drop for Function {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// What Lambda tells every function, and nothing of this machine.
fn environment(directory: &Path) -> Vec<(&'static str, &str)> {
    vec![
        ("PATH", "/usr/local/bin:/usr/bin:/bin"),
        ("LANG", "en_US.UTF-8"),
        ("TZ", ":UTC"),
        ("LAMBDA_TASK_ROOT", directory.to_str().unwrap()),
        ("AWS_REGION", "eu-west-1"),
        ("AWS_ACCESS_KEY_ID", "none"),
        ("AWS_SECRET_ACCESS_KEY", "none"),
        ("AWS_LAMBDA_FUNCTION_NAME", "orders"),
        ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST"),
        ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "1769"),
        ("AWS_LAMBDA_INITIALIZATION_TYPE", "on-demand"),
        ("AWS_LAMBDA_LOG_GROUP_NAME", "/aws/lambda/orders"),
        ("AWS_LAMBDA_LOG_STREAM_NAME", "2026/01/01/[$LATEST]0"),
        // As infra/template.yaml has it; for everybody, so that nobody is measured worse.
        ("MALLOC_MMAP_THRESHOLD_", "33554432"),
        ("MALLOC_TRIM_THRESHOLD_", "134217728"),
    ]
}

/// Reads every connection in a thread of its own, until the bench ends.
fn accept(listener: &TcpListener, teller: &Sender<Request>) {
    for connection in listener.incoming() {
        let connection = connection.unwrap();
        connection.set_nodelay(true).unwrap();
        let teller = teller.clone();
        thread::spawn(move || {
            let mut reader = BufReader::new(connection.try_clone().unwrap());
            while let Ok(Some((path, body))) = read(&mut reader) {
                let read_at = Instant::now();
                let connection = connection.try_clone().unwrap();
                if teller.send(Request { path, body, read_at, connection }).is_err() {
                    return;
                }
            }
        });
    }
}

/// One request; none at the connection's end.
fn read(reader: &mut BufReader<TcpStream>) -> io::Result<Option<(String, Vec<u8>)>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let path = line.split(' ').nth(1).unwrap().trim_start_matches(BASE).to_owned();
    let (mut length, mut is_chunked) = (0, false);
    loop {
        line.clear();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.trim().parse().unwrap(),
            "transfer-encoding" => is_chunked = value.trim() == "chunked",
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    while is_chunked {
        line.clear();
        reader.read_line(&mut line)?;
        let size = usize::from_str_radix(line.trim(), 16).unwrap();
        let start = body.len();
        body.resize(start + size + 2, 0);
        reader.read_exact(&mut body[start..])?;
        body.truncate(start + size);
        is_chunked = size > 0;
    }
    Ok(Some((path, body)))
}
