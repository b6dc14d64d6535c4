//! The verb `dev`: tables and streams on the desk, and the function behind them as on AWS.
//!
//! One process serves DynamoDB and Kinesis on one port ([`Endpoint`](crate::local::endpoint)),
//! makes what the template asks for, and runs every event source mapping of it in real time.
//! Elsewhere (`--endpoint-url`) it makes the same; AWS itself (`--aws`) it only reads, and keeps
//! the views on the desk. What is changed in the files is taken up between two invocations
//! ([`session`]).

mod arguments;
mod changes;
mod driven;
mod hands;
mod place;
mod plan;
mod rebuild;
mod recorder;
mod scratch;
mod session;
mod terminal;

pub(super) use arguments::DevArgs;

use super::{
    Complaint, Exit,
    bench::{Bench, Piece},
    print, talk,
};
use crate::{
    clock::{Clock as _, SystemClock},
    config,
    hex::hex,
    local::{
        clock::{Pace, VirtualClock},
        dev::Maker,
        page::{Actions, Asked, Control, Journal, PageServer, Shared},
        report::{Results, ViewRows},
    },
};
use changes::Watched;
use place::Place;
use plan::Plan;
use recorder::Recorder;
use scratch::Scratch;
use session::{Desk, Session, Totals, mapping_directory};
use std::{
    cell::RefCell,
    collections::BTreeMap,
    convert::Infallible,
    io::Read as _,
    path::{Path, PathBuf},
    rc::Rc,
    time::Duration,
};
use terminal::Terminal;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::{mpsc, watch},
    time::Instant,
};

/// Signals that come so soon after the first are taken for the same.
const ONE_SIGNAL: Duration = Duration::from_millis(500);

/// Between two readings of the views' rows for the page.
const ROWS_PAUSE: Duration = Duration::from_millis(500);

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
    let scratch = Scratch::new(arguments.state.as_deref(), &random()?).map_err(|error| {
        Complaint::new(format!("what is kept while it runs has no directory: {error}"))
            .with_hint("set TMPDIR, or name a directory with --state")
    })?;
    let place = Place::open(arguments, scratch.path()).await?;
    let bench = bench(place.tables_url());
    let page =
        (!arguments.no_page).then(|| Ok::<_, Complaint>(Shared::new(Journal::new(random()?))));
    let page = page.transpose()?;
    let desk = Desk {
        arguments,
        maker: Maker::new(place.services(), place.dynamodb()),
        place,
        clock: VirtualClock::new(SystemClock.now(), Pace::Real),
        state: scratch.path().to_owned(),
        terminal: Rc::new(RefCell::new(Terminal::new(arguments.quiet))),
        control: page.clone().map(Control::new),
        page,
        stop,
    };
    let kind = (bench.keeps_views(), bench.takes_windows());
    let spare = bench.again();
    let mut watched = Watched::new(files(arguments, &bench));
    let mut session = desk.prepare(plan, bench).await?;
    let mut recorders = recorders(arguments, &session.plan)?;
    let (asks, mut asked) = mpsc::unbounded_channel();
    let (mut totals, mut served) = (Totals::default(), None);
    loop {
        let opened = desk.open(&session, &mut recorders).await?;
        if let Some(page) = &desk.page {
            let names: Vec<&str> = session.plan.wanted.iter().map(|it| &*it.name).collect();
            page.entitle(&format!("dev: {}", names.join(", ")), hands::sources(&session.plan));
        }
        if served.is_none() {
            // From here on what is written is taken up.
            talk(format_args!("{}", desk.place.export_line()));
            served = Some(serve_page(&desk, asks.clone()).await?);
        }
        let changed = changed(&desk, &session, (spare.as_ref(), kind), &mut watched);
        let heard = (&mut asked, &mut totals);
        let (next, left) = match desk.through(&session, opened, heard, changed).await {
            Ok(ended) => ended,
            Err(error) => {
                totals.print();
                return Err(error);
            }
        };
        let Some(next) = next else { break };
        let directories = session.plan.wanted.iter().map(mapping_directory);
        recorders = directories.zip(left).filter_map(|(at, it)| Some((at, it?))).collect();
        session = next;
    }
    let exit = totals.print();
    print(&rows(&session.piece.results().await?));
    Ok(exit)
}

/// The files that a change of is taken up.
fn files<B: Bench>(arguments: &DevArgs, bench: &B) -> Vec<PathBuf> {
    let mut files = bench.files();
    files.extend(plan::template_path(arguments).map(Path::to_owned));
    files.extend(arguments.watch.iter().cloned());
    files
}

/// Waits until a change of the files has given something that can run. What cannot is told, and
/// what runs goes on.
async fn changed<B: Bench>(
    desk: &Desk<'_>,
    session: &Session<B::Piece>,
    (spare, kind): (Option<&B>, (bool, bool)),
    watched: &mut Watched,
) -> Session<B::Piece> {
    loop {
        let names = watched.change().await;
        let renewed = async {
            let plan = Plan::read(desk.arguments)?;
            match spare.and_then(Bench::again) {
                Some(bench) => desk.prepare(plan, bench).await,
                None => desk.prepare_with(plan, &session.piece, kind).await,
            }
        };
        match renewed.await {
            Ok(next) => {
                desk.tell(&format!("{names}: the change is taken up"));
                return next;
            }
            Err(Complaint { message, hint }) => {
                let hint = hint.map(|hint| format!("; {hint}")).unwrap_or_default();
                desk.tell(&format!("{names}: {message}{hint}; what ran before goes on"));
            }
        }
    }
}

/// What a program finds in its environment: the template's variables, unless the desk's own
/// environment says otherwise, and where the services are.
fn variables(plan: &Plan, place: &Place) -> Vec<(String, String)> {
    for name in &plan.environment.unknown {
        talk(format_args!(
            "the template's variable {name} is left out: of its functions Ref, GetAtt, Sub and \
             Join are followed"
        ));
    }
    let said: Vec<String> = config::process_environment().map(|(name, _)| name).collect();
    let of_template = plan.environment.variables.iter();
    let of_template = of_template.filter(|(name, _)| !said.contains(name)).cloned();
    of_template.chain(place.variables()).collect()
}

/// Gives out the page, at the port behind that of the services; nothing where there is none.
async fn serve_page(
    desk: &Desk<'_>,
    asked: mpsc::UnboundedSender<Asked>,
) -> Result<Option<PageServer>, Complaint> {
    let Some(page) = &desk.page else { return Ok(None) };
    let port = desk.arguments.port;
    let port = if port == 0 { 0 } else { port.saturating_add(1) };
    let actions = Actions { token: random()?, asked };
    let served = PageServer::start(port, page.clone(), actions).await?;
    talk(format_args!("the page is {}", served.url()));
    Ok(Some(served))
}

/// A recorder for each event source, if they are to be recorded.
fn recorders(arguments: &DevArgs, plan: &Plan) -> Result<BTreeMap<PathBuf, Recorder>, Complaint> {
    let Some(file) = &arguments.record else { return Ok(BTreeMap::new()) };
    let of_one = |wanted: &plan::Wanted| {
        let event_source = &wanted.event_source;
        let path = match plan.wanted.as_slice() {
            [_] => file.clone(),
            all => file.with_extension(format!("{}.jsonl", record_name(wanted, all))),
        };
        let recorder = Recorder::create(&path, event_source.parameters.parallelization_factor)?;
        talk(format_args!("{} is recorded in {}", wanted.name, path.display()));
        Ok((mapping_directory(wanted), recorder))
    };
    plan.wanted.iter().map(of_one).collect()
}

/// What tells the records of an event source from those of the others: its name, and where another
/// one has that, what tells their checkpoints apart.
fn record_name(wanted: &plan::Wanted, all: &[plan::Wanted]) -> String {
    let name = |wanted: &plan::Wanted| named(&wanted.event_source.logical_id).to_lowercase();
    if all.iter().filter(|other| name(other) == name(wanted)).count() == 1 {
        return named(&wanted.event_source.logical_id);
    }
    let directory = mapping_directory(wanted);
    directory.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// A name as part of a file's name.
fn named(name: &str) -> String {
    let plain = |it: char| if it.is_ascii_alphanumeric() || it == '-' { it } else { '_' };
    name.chars().map(plain).collect()
}

/// Sixteen bytes that nobody can guess, in hex.
fn random() -> Result<String, Complaint> {
    let mut bytes = [0; 16];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(hex(&bytes))
}

/// Shows the rows of the views to who looks, for as long as the runs go on.
async fn show_rows<P: Piece>(piece: &P, page: Option<&Shared>) -> Infallible {
    let Some(page) = page else { return std::future::pending().await };
    let mut demand = page.demand();
    loop {
        demand.comes().await;
        // What cannot be read now may be readable at the next look.
        if let Ok(results) = piece.results().await {
            page.show(&results);
        }
        tokio::time::sleep(ROWS_PAUSE).await;
    }
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

fn rows(results: &Results) -> String {
    let line = |view: &ViewRows| format!("view {}: {} rows\n", view.name, view.total);
    results.views.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::{plan::Wanted, record_name};
    use crate::record::Source;

    #[test]
    fn event_sources_of_one_name_are_recorded_in_files_of_their_own() {
        let wanted = |source, name: &str| Wanted::assumed(source, name);
        let all = [
            wanted(Source::DynamoDb, "orders"),
            wanted(Source::Kinesis, "orders"),
            wanted(Source::Kinesis, "Orders"),
            wanted(Source::Kinesis, "clicks"),
        ];
        let names: Vec<String> = all.iter().map(|it| record_name(it, &all)).collect();
        assert_eq!(names[3], "clicks");
        let mut several: Vec<String> = names.iter().map(|it| it.to_lowercase()).collect();
        several.sort_unstable();
        several.dedup();
        assert_eq!(several.len(), 4, "{names:?}");
    }
}
