//! The verb `dev`: tables and streams on the desk, and the function behind them as on AWS.
//!
//! One process serves DynamoDB and Kinesis on one port ([`Endpoint`]), makes what the template
//! asks for, and runs every event source mapping of it in real time. Elsewhere (`--endpoint-url`)
//! it makes the same; AWS itself (`--aws`) it only reads, and keeps the views on the desk.

mod arguments;
mod place;
mod plan;
mod terminal;

pub(super) use arguments::DevArgs;

use super::{
    Complaint, Exit,
    bench::{Bench, Piece, Stage},
    print,
    replay::{check_windows, complaint, function_arn, tell, warn_of_filters},
    talk,
};
use crate::{
    call::Call,
    clock::{Clock as _, SystemClock},
    hex::hex,
    local::{
        checkpoint::Checkpoints,
        clock::{Pace, VirtualClock},
        dev::Maker,
        live::{self, Found, Live, LiveError, Reading},
        mapping::Millis,
        page::{PageServer, Shared},
        report::{Results, ViewRows},
        run::{Setting, Summary, follow},
        target::{FunctionError, Target},
    },
    record::Source,
};
use bytes::Bytes;
use futures_util::future::{FutureExt as _, LocalBoxFuture, join_all};
use place::Place;
use plan::{Plan, Wanted};
use sha2::{Digest as _, Sha256};
use std::{
    cell::RefCell,
    convert::Infallible,
    path::{Path, PathBuf},
    rc::Rc,
    sync::Arc,
    time::Duration,
};
use terminal::{Mapping, Terminal};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
    time::Instant,
};

/// What the function may take beyond its `Timeout` before the desk lets go of it: programs are
/// ended by whoever started them, which is told earlier.
const TIMEOUT_GRACE: Duration = Duration::from_millis(500);

/// Signals that come so soon after the first are taken for the same.
const ONE_SIGNAL: Duration = Duration::from_millis(500);

/// Between two readings of the views' rows for the page.
const ROWS_PAUSE: Duration = Duration::from_millis(500);

/// More mappings than these on one shard of DynamoDB throttle each other.
/// Source: Lambda developer guide, "Using AWS Lambda with Amazon DynamoDB".
const READERS_MAX: usize = 2;

/// Runs until it is told to stop. `bench` makes what is driven, for the endpoint of its tables.
pub(super) fn dev<B: Bench>(
    arguments: &DevArgs,
    bench: impl FnOnce(String) -> B,
) -> Result<Exit, Complaint> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(tokio::task::unconstrained(develop(arguments, bench)))
}

async fn develop<B: Bench>(
    arguments: &DevArgs,
    bench: impl FnOnce(String) -> B,
) -> Result<Exit, Complaint> {
    let stop = stop_signals()?;
    let plan = Plan::read(arguments)?;
    let place = Place::open(arguments).await?;
    let bench = bench(place.tables_url());
    for wanted in &plan.wanted {
        check_windows(&wanted.event_source.parameters, bench.takes_windows())?;
    }
    let maker = Maker::new(place.services(), place.dynamodb());
    if !arguments.aws {
        make(&plan, &maker, bench.keeps_views()).await?;
    }
    let sources = find(&plan, &place, &maker, bench.keeps_views()).await?;
    warn_of_readers(&sources);
    let clock = VirtualClock::new(SystemClock.now(), Pace::Real);
    let names: Vec<&str> = sources.iter().map(|(wanted, _)| &*wanted.name).collect();
    let (first, of_first) = &sources[0];
    let function_arn = function_arn(&of_first.arn, &first.event_source.function_logical_id);
    let factors = sources.iter().map(|(it, _)| it.event_source.parameters.parallelization_factor);
    let stage = Stage {
        stream_names: &names,
        function_arn: &function_arn,
        clock: &clock,
        state: arguments.state.as_deref(),
        endpoint_url: Some(place.tables_url()),
        parallelization_factor: factors.max().unwrap_or(1),
        seed: None,
    };
    let piece = bench.set_up(&stage).await?;
    // From here on what is written is taken up.
    talk(format_args!("{}", place.export_line()));
    let page = (!arguments.no_page).then(Shared::default);
    let _served = match &page {
        Some(page) => Some(serve_page(arguments.port, &names, page).await?),
        None => None,
    };
    let terminal = Rc::new(RefCell::new(Terminal::new(arguments.quiet)));
    let context = Context { place: &place, clock: &clock, state: arguments.state.as_deref(), stop };
    let runs = sources.iter().map(|(wanted, found)| {
        let mapping = Mapping::new(&wanted.name, Rc::clone(&terminal), page.clone());
        context.run(wanted, found, piece.target(), mapping)
    });
    let ended = tokio::select! {
        ended = join_all(runs) => ended,
        never = show_rows(&piece, page.as_ref()) => match never {},
    };
    terminal.borrow_mut().flush();
    let mut exit = Exit::Done;
    let mut failure = None;
    for ((wanted, _), summary) in sources.iter().zip(ended) {
        match summary {
            Ok(summary) => {
                print(&line(&wanted.name, &summary));
                tell(&summary);
                if summary.discards > 0 {
                    exit = Exit::Discarded;
                }
            }
            Err(error) => failure = Some(error),
        }
    }
    print(&rows(&piece.results().await?));
    failure.map_or(Ok(exit), Err)
}

/// Gives out the page, at the port behind that of the services.
async fn serve_page(port: u16, names: &[&str], page: &Shared) -> Result<PageServer, Complaint> {
    let title = format!("dev: {}", names.join(", "));
    let port = if port == 0 { 0 } else { port.saturating_add(1) };
    let served = PageServer::start(port, &title, page.clone()).await?;
    talk(format_args!("the page is {}", served.url()));
    Ok(served)
}

/// Shows the rows of the views to who looks, for as long as the runs go on.
async fn show_rows<P: Piece>(piece: &P, page: Option<&Shared>) -> Infallible {
    let Some(page) = page else { return std::future::pending().await };
    let mut demand = page.demand();
    loop {
        demand.comes().await;
        // What cannot be read now may be readable at the next look.
        if let Ok(results) = piece.results().await {
            page.show(&results.views);
        }
        tokio::time::sleep(ROWS_PAUSE).await;
    }
}

/// What the event sources of one desk share.
struct Context<'a> {
    place: &'a Place,
    clock: &'a Arc<VirtualClock>,
    state: Option<&'a Path>,
    stop: watch::Sender<bool>,
}

impl Context<'_> {
    /// One event source, until it is told to stop. One that fails stops the others.
    async fn run<T: Target>(
        &self,
        wanted: &Wanted,
        found: &Found,
        target: &T,
        mut mapping: Mapping,
    ) -> Result<Summary, Complaint> {
        let result = self.follow(wanted, found, target, &mut mapping).await;
        if result.is_err() {
            self.stop.send_replace(true);
        }
        result
    }

    async fn follow<T: Target>(
        &self,
        wanted: &Wanted,
        found: &Found,
        target: &T,
        mapping: &mut Mapping,
    ) -> Result<Summary, Complaint> {
        let event_source = &wanted.event_source;
        let timeout = Millis::from(event_source.function_timeout_s) * 1000;
        let mut checkpoints = self.checkpoints(wanted, found)?;
        let reading = self.reading(wanted, found, mapping);
        let live = Live::open(reading, &event_source.parameters, &mut checkpoints).await?;
        // A mapping that begins at LATEST keeps when it began, before anything is read.
        checkpoints.save()?;
        let setting = Setting {
            parameters: event_source.parameters.clone(),
            timeout,
            function_arn: function_arn(&found.arn, &event_source.function_logical_id),
            checkpoints,
            // The reader stands behind the checkpoints already.
            from_start: true,
            faults: None,
        };
        let mut stopped = self.stop.subscribe();
        let stop = async move {
            // The sender lives as long as the runs do.
            drop(stopped.wait_for(|is_stopped| *is_stopped).await);
        };
        let limited = Limited { target, timeout: Duration::from_millis(timeout) + TIMEOUT_GRACE };
        let followed = follow(live, &limited, self.clock, setting, stop, mapping).await;
        followed.map_err(complaint)
    }

    fn reading(&self, wanted: &Wanted, found: &Found, mapping: &Mapping) -> Reading {
        let account = found.arn.split(':').nth(4).unwrap_or_default();
        let role =
            format!("arn:aws:iam::{account}:role/{}-role", wanted.event_source.function_logical_id);
        Reading {
            services: self.place.services().clone(),
            source: wanted.event_source.source,
            event_source_arn: found.arn.clone(),
            invoked_as: role,
            mapping_uuid: uuid(fastrand::u128(..)),
            time_zero: self.clock.timestamp(0),
            written: self.place.written(),
            tell: mapping.notices(),
        }
    }

    /// Each mapping has a checkpoint file of its own: two may read one stream.
    fn checkpoints(&self, wanted: &Wanted, found: &Found) -> Result<Checkpoints, Complaint> {
        let Some(state) = self.state else { return Ok(Checkpoints::forgotten()) };
        let directory = mapping_directory(state, wanted);
        std::fs::create_dir_all(&directory)?;
        Ok(Checkpoints::read(&directory, &found.arn)?)
    }
}

fn mapping_directory(state: &Path, wanted: &Wanted) -> PathBuf {
    let event_source = &wanted.event_source;
    let name = format!("{}-{}", event_source.function_logical_id, event_source.logical_id);
    let plain = |it: char| if it.is_ascii_alphanumeric() || it == '-' { it } else { '_' };
    // Two that differ in other characters, or in their service alone, have two directories.
    let whole = format!("{name}/{:?}", event_source.source);
    let told_apart = &hex(&Sha256::digest(whole))[..8];
    let name: String = name.chars().map(plain).collect();
    state.join("mappings").join(format!("{name}-{told_apart}"))
}

/// A UUID of version 4.
fn uuid(random: u128) -> String {
    let hex = format!("{random:032x}");
    format!("{}-{}-4{}-8{}-{}", &hex[..8], &hex[8..12], &hex[13..16], &hex[17..20], &hex[20..])
}

/// Makes the tables and streams: of what keeps its own views only those that it reads, as the
/// others are the views', which make them themselves.
async fn make(plan: &Plan, maker: &Maker, keeps_views: bool) -> Result<(), Complaint> {
    let is_read = |name: &str| plan.wanted.iter().any(|wanted| wanted.name == name);
    for table in plan.tables.iter().filter(|table| !keeps_views || is_read(&table.name)) {
        if maker.table(table).await? {
            talk(format_args!("table {} is made: key {}", table.name, table.key.join(", ")));
        }
    }
    for stream in &plan.streams {
        if maker.stream(stream).await? {
            talk(format_args!("stream {} is made", stream.name));
        }
    }
    Ok(())
}

/// The stream of every event source.
async fn find<'p>(
    plan: &'p Plan,
    place: &Place,
    maker: &Maker,
    keeps_views: bool,
) -> Result<Vec<(&'p Wanted, Found)>, Complaint> {
    let mut sources = Vec::new();
    for wanted in &plan.wanted {
        let source = wanted.event_source.source;
        let found = match source {
            Source::Kinesis => live::kinesis_stream(place.services(), &wanted.name).await?,
            _ => live::table_stream(place.services(), maker.dynamodb(), &wanted.name).await?,
        };
        if keeps_views && !found.has_new_images() {
            let (table, view_type) = (wanted.name.clone(), found.view_type.unwrap_or_default());
            return Err(LiveError::NoImages { table, view_type }.into());
        }
        warn_of_filters(&wanted.event_source.parameters, source, keeps_views);
        sources.push((wanted, found));
    }
    Ok(sources)
}

fn warn_of_readers(sources: &[(&Wanted, Found)]) {
    for (at, (wanted, found)) in sources.iter().enumerate() {
        let readers = sources.iter().filter(|(_, other)| other.arn == found.arn).count();
        let is_first = sources[..at].iter().all(|(_, other)| other.arn != found.arn);
        if wanted.event_source.source == Source::DynamoDb && is_first && readers > READERS_MAX {
            talk(format_args!(
                "warning: {readers} mappings read the stream of table {}; on AWS more than two \
                 throttle each other",
                wanted.name
            ));
        }
    }
}

/// Tells the runs to stop at the first signal, and ends the process at the second.
fn stop_signals() -> Result<watch::Sender<bool>, Complaint> {
    let (sender, _) = watch::channel(false);
    let mut signals = [signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?];
    let stop = sender.clone();
    tokio::spawn(async move {
        any(&mut signals).await;
        talk(format_args!("stopping: the batches under way end first; once more to end at once"));
        stop.send_replace(true);
        // Who signals a group of processes may signal one of them twice.
        let again = Instant::now() + ONE_SIGNAL;
        while Instant::now() < again {
            drop(tokio::time::timeout_at(again, any(&mut signals)).await);
        }
        any(&mut signals).await;
        std::process::exit(130);
    });
    Ok(sender)
}

async fn any([interrupt, terminate]: &mut [Signal; 2]) {
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}

/// A target that is let go of when it outlasts its timeout.
struct Limited<'t, T> {
    target: &'t T,
    timeout: Duration,
}

impl<T: Target> Target for Limited<'_, T> {
    fn invoke(
        &self,
        payload: Bytes,
        call: Call,
    ) -> LocalBoxFuture<'_, Result<Bytes, FunctionError>> {
        async move {
            let invoked = self.target.invoke(payload, call);
            tokio::time::timeout(self.timeout, invoked).await.unwrap_or_else(|_| {
                Err(FunctionError::unhandled("the function was still running at its timeout"))
            })
        }
        .boxed_local()
    }
}

fn line(name: &str, summary: &Summary) -> String {
    format!(
        "{name}: {} records in {} invocations, {} failed, {} bisects, {} discards\n",
        summary.records,
        summary.invocations,
        summary.failed_invocations,
        summary.bisects,
        summary.discards
    )
}

fn rows(results: &Results) -> String {
    let line = |view: &ViewRows| format!("view {}: {} rows\n", view.name, view.total);
    results.views.iter().map(line).collect()
}
