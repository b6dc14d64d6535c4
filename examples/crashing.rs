//! A processor that fails as its records tell it to, killing its process if need be: what the
//! tests of crashes and kills drive, and something to try `replay --exec` with.
//!
//! A record's `fate` is `ok`, `park`, `busy` (it may work at another time), `abort` (the process
//! ends) or `hang` (the thread never comes back, so only a timeout ends it). An effect is a line
//! `KEY NUMBER` at the end of the file `CRASHING_EFFECTS`, and is there once it is written,
//! whoever is killed afterwards; before it the record takes `CRASHING_MS` milliseconds. With
//! `CRASHING_CURED` set, every record is `ok`.
//!
//! `crashing store` is the desk's store in a process of its own. It prints its URL, and ends
//! with its standard input. `crashing endpoint [DIRECTORY]` is the desk's DynamoDB, DynamoDB
//! Streams and Kinesis, kept in the directory.

use changefold::{
    clock::SystemClock,
    local::{
        endpoint::{Endpoint, Serving},
        store_server::StoreServer,
    },
    processor::{Context, Failure, Processor},
    record::Change,
    store::embedded::Embedded,
};
use std::{
    error::Error,
    ffi::OsString,
    fs::File,
    io::{Read as _, Write as _},
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

#[derive(serde::Deserialize)]
struct Told<'a> {
    fate: &'a str,
    key: &'a str,
    number: u64,
}

struct Crashing {
    effects: Option<File>,
    takes: Duration,
    is_cured: bool,
}

impl Crashing {
    fn new() -> Result<Self, Box<dyn Error>> {
        let open = |path: OsString| File::options().create(true).append(true).open(path);
        let takes = variable("CRASHING_MS").and_then(|text| text.to_str()?.parse().ok());
        Ok(Self {
            effects: variable("CRASHING_EFFECTS").map(open).transpose()?,
            takes: Duration::from_millis(takes.unwrap_or(0)),
            is_cured: variable("CRASHING_CURED").is_some(),
        })
    }
}

impl Processor for Crashing {
    type Item<'a> = Told<'a>;

    async fn process(&self, change: Change<Told<'_>>, _: &Context<'_>) -> Result<(), Failure> {
        let Some(told) = change.new_image() else { return Ok(()) };
        tokio::time::sleep(self.takes).await;
        match told.fate {
            _ if self.is_cured => {}
            "park" => return Err(Failure::park("told to")),
            "busy" => return Err(Failure::retry("told to")),
            "abort" => std::process::abort(),
            "hang" => loop {
                std::thread::park();
            },
            _ => {}
        }
        if let Some(mut effects) = self.effects.as_ref() {
            // One write to a file that is appended to: it is there whole, or not at all.
            effects.write_all(format!("{} {}\n", told.key, told.number).as_bytes())?;
        }
        Ok(())
    }
}

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    match arguments.next() {
        Some(verb) if verb == "store" => return ended(serve_store()),
        Some(verb) if verb == "endpoint" => return ended(serve_endpoint(arguments.next())),
        _ => {}
    }
    match Crashing::new() {
        Ok(crashing) => changefold::run(crashing),
        Err(error) => ended(Err(error)),
    }
}

fn serve_store() -> Result<(), Box<dyn Error>> {
    serve(async {
        let server = StoreServer::start(Embedded::open(None)?).await?;
        writeln!(std::io::stdout(), "{}", server.url())?;
        std::future::pending().await
    })
}

fn serve_endpoint(directory: Option<OsString>) -> Result<(), Box<dyn Error>> {
    let mut serving = Serving::in_memory(Arc::new(SystemClock));
    serving.state = directory.map(PathBuf::from);
    serve(async {
        let endpoint = Endpoint::start(serving).await?;
        writeln!(std::io::stdout(), "{}", endpoint.url())?;
        std::future::pending().await
    })
}

fn serve(server: impl Future<Output = Result<(), Box<dyn Error>>>) -> Result<(), Box<dyn Error>> {
    std::thread::spawn(|| {
        // However it ends: nobody needs the server any more.
        drop(std::io::stdin().read_to_end(&mut Vec::new()));
        std::process::exit(0);
    });
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(server)
}

fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

#[expect(clippy::print_stderr, reason = "a program says why it cannot go on")]
fn ended(result: Result<(), Box<dyn Error>>) -> ExitCode {
    let Err(error) = result else { return ExitCode::SUCCESS };
    eprintln!("error: {error}");
    ExitCode::FAILURE
}
