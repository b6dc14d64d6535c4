//! What runs between two changes of the developer's files: the plan, its streams, the function.
//!
//! What is changed is made ready beside what runs. Then the batches under way end, the checkpoints
//! are written, and the next session begins behind them: so a change is taken up between two
//! invocations, and a file that is broken changes nothing.

use super::{
    Complaint, DevArgs, Exit,
    driven::Driven,
    hands::Hands,
    make, named,
    place::Place,
    plan::{Plan, Wanted},
    rebuild::{PATIENCE, Rebuild},
    recorder::Recorder,
    terminal::{Followed, Mapping, Terminal},
    variables,
};
use crate::{
    hex::hex,
    local::{
        checkpoint::Checkpoints,
        cli::{
            bench::{Bench, Piece, Stage},
            print,
            replay::{check_windows, complaint, function_arn, tell, warn_of_filters},
            talk,
        },
        clock::VirtualClock,
        dev::Maker,
        live::{self, Found, Live, LiveError, Reading},
        mapping::Millis,
        page::{Asked, Control, Shared},
        report::LOST,
        run::{Setting, Summary, follow},
        target::Target,
    },
    record::Source,
};
use futures_util::future::join_all;
use sha2::{Digest as _, Sha256};
use std::{
    cell::RefCell,
    collections::BTreeMap,
    convert::Infallible,
    path::{Path, PathBuf},
    pin::pin,
    rc::Rc,
    sync::Arc,
    time::Duration,
};
use tokio::sync::{mpsc::UnboundedReceiver, watch};

/// More mappings than these on one shard of DynamoDB throttle each other.
/// Source: Lambda developer guide, "Using AWS Lambda with Amazon DynamoDB".
const READERS_MAX: usize = 2;

/// What all sessions share.
pub(super) struct Desk<'a> {
    pub(super) arguments: &'a DevArgs,
    pub(super) place: Place,
    pub(super) maker: Maker,
    pub(super) clock: Arc<VirtualClock>,
    /// Where the checkpoints are kept, for longer than the process or not.
    pub(super) state: PathBuf,
    pub(super) terminal: Rc<RefCell<Terminal>>,
    pub(super) page: Option<Shared>,
    /// Where a person says which calls may begin.
    pub(super) control: Option<Control>,
    /// Ends everything.
    pub(super) stop: watch::Sender<bool>,
}

impl Desk<'_> {
    /// Tells a person something, on the terminal and on the page.
    pub(super) fn tell(&self, notice: &str) {
        talk(format_args!("{notice}"));
        if let Some(page) = &self.page {
            page.write(|journal| journal.notice(notice.to_owned()));
        }
    }
}

/// What runs.
pub(super) struct Session<P> {
    pub(super) plan: Plan,
    /// The stream of each event source of the plan.
    found: Vec<Found>,
    keeps_views: bool,
    pub(super) piece: Rc<P>,
}

/// An event source that can be read from now on.
pub(super) struct Opened {
    live: Live,
    checkpoints: Checkpoints,
    mapping: Mapping,
}

/// What the event sources came to, over all sessions, in the order of the plan.
#[derive(Debug, Default)]
pub(super) struct Totals(Vec<Total>);

#[derive(Debug)]
struct Total {
    directory: PathBuf,
    name: String,
    counts: [u64; 6],
}

impl Totals {
    fn add(&mut self, wanted: &Wanted, summary: &Summary) {
        let Summary { records, invocations, failed_invocations, bisects, discards, lost, .. } =
            summary;
        let more = [records, invocations, failed_invocations, bisects, discards, lost];
        let directory = mapping_directory(wanted);
        if !self.0.iter().any(|total| total.directory == directory) {
            let (directory, name) = (directory.clone(), wanted.name.clone());
            self.0.push(Total { directory, name, counts: [0; 6] });
        }
        for total in self.0.iter_mut().filter(|total| total.directory == directory) {
            total.counts.iter_mut().zip(more).for_each(|(count, more)| *count += more);
        }
    }

    /// Says it all.
    pub(super) fn print(&self) -> Exit {
        let mut exit = Exit::Done;
        for Total { name, counts, .. } in &self.0 {
            let [records, invocations, failed, bisects, discards, lost] = counts;
            print(&format!(
                "{name}: {records} records in {invocations} invocations, {failed} failed, \
                 {bisects} bisects, {discards} discards\n"
            ));
            if *lost > 0 {
                talk(format_args!("{name}: {lost} records are lost: {LOST}"));
            }
            if *discards > 0 || *lost > 0 {
                exit = Exit::Discarded;
            }
        }
        exit
    }
}

impl Desk<'_> {
    /// Makes ready what a plan asks for, with a function of this bench.
    pub(super) async fn prepare<B: Bench>(
        &self,
        plan: Plan,
        bench: B,
    ) -> Result<Session<B::Piece>, Complaint> {
        let keeps_views = bench.keeps_views();
        let found = self.find(&plan, keeps_views, bench.takes_windows()).await?;
        let (first, of_first) = (&plan.wanted[0], &found[0]);
        let names: Vec<&str> = plan.wanted.iter().map(|wanted| &*wanted.name).collect();
        let factors =
            plan.wanted.iter().map(|it| it.event_source.parameters.parallelization_factor);
        let stage = Stage {
            stream_names: &names,
            function_arn: &function_arn(&of_first.arn, &first.event_source.function_logical_id),
            clock: &self.clock,
            state: self.arguments.state.as_deref(),
            endpoint_url: Some(self.place.tables_url()),
            parallelization_factor: factors.max().unwrap_or(1),
            seed: None,
            variables: &variables(&plan, &self.place),
        };
        let piece = Rc::new(bench.set_up(&stage).await?);
        Ok(Session { plan, found, keeps_views, piece })
    }

    /// Makes ready another plan for the function that there is.
    pub(super) async fn prepare_with<P: Piece>(
        &self,
        plan: Plan,
        piece: &Rc<P>,
        (keeps_views, takes_windows): (bool, bool),
    ) -> Result<Session<P>, Complaint> {
        let found = self.find(&plan, keeps_views, takes_windows).await?;
        Ok(Session { plan, found, keeps_views, piece: Rc::clone(piece) })
    }

    /// The stream of every event source. What is to be made is made before.
    async fn find(
        &self,
        plan: &Plan,
        keeps_views: bool,
        takes_windows: bool,
    ) -> Result<Vec<Found>, Complaint> {
        for wanted in &plan.wanted {
            check_windows(&wanted.event_source.parameters, takes_windows)?;
        }
        if !self.place.is_aws() {
            make(plan, &self.maker, keeps_views).await?;
        }
        let services = self.place.services();
        let mut all = Vec::new();
        for wanted in &plan.wanted {
            let source = wanted.event_source.source;
            let found = match source {
                Source::Kinesis => live::kinesis_stream(services, &wanted.name).await?,
                _ => live::table_stream(services, self.maker.dynamodb(), &wanted.name).await?,
            };
            if keeps_views && !found.has_new_images() {
                let (table, view_type) = (wanted.name.clone(), found.view_type.unwrap_or_default());
                return Err(LiveError::NoImages { table, view_type }.into());
            }
            warn_of_filters(&wanted.event_source.parameters, source, keeps_views);
            all.push(found);
        }
        warn_of_readers(plan, &all);
        Ok(all)
    }

    /// Opens the streams of a session: what is written from then on is taken up.
    pub(super) async fn open<P: Piece>(
        &self,
        session: &Session<P>,
        recorders: &mut BTreeMap<PathBuf, Recorder>,
    ) -> Result<Vec<Opened>, Complaint> {
        let mut opened = Vec::new();
        for (wanted, found) in session.plan.wanted.iter().zip(&session.found) {
            let recorder = recorders.remove(&mapping_directory(wanted));
            let (terminal, page) = (Rc::clone(&self.terminal), self.page.clone());
            let mapping = Mapping::new(&wanted.name, terminal, page, recorder);
            let directory = self.state.join(mapping_directory(wanted));
            std::fs::create_dir_all(&directory)?;
            // Each mapping has a checkpoint file of its own: two may read one stream.
            let mut checkpoints = Checkpoints::read(&directory, &found.arn)?;
            let reading = self.reading(wanted, found, &mapping);
            let parameters = &wanted.event_source.parameters;
            let live = Live::open(reading, parameters, &mut checkpoints).await?;
            // A mapping that begins at LATEST keeps when it began, before anything is read.
            checkpoints.save()?;
            opened.push(Opened { live, checkpoints, mapping });
        }
        Ok(opened)
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

    /// Runs a session until something else is ready to run, which is given back, or until it is
    /// told to stop. One event source that fails stops the others.
    pub(super) async fn through<P: Piece>(
        &self,
        session: &Session<P>,
        opened: Vec<Opened>,
        (asked, totals): (&mut UnboundedReceiver<Asked>, &mut Totals),
        changed: impl Future<Output = Session<P>>,
    ) -> Result<(Option<Session<P>>, Vec<Option<Recorder>>), Complaint> {
        let (over, _) = watch::channel(false);
        let piece = &*session.piece;
        let followed: Vec<Followed> = opened.iter().map(|it| it.mapping.followed()).collect();
        let of_tables =
            session.plan.wanted.iter().filter(|it| it.event_source.source == Source::DynamoDb);
        let tables: Vec<&str> = of_tables.map(|wanted| &*wanted.name).collect();
        let rebuilding = async {
            if session.keeps_views && !self.place.is_aws() {
                let (clock, page) = (&*self.clock, self.page.as_ref());
                let tell = &|notice: &str| self.tell(notice);
                let (followed, patience) = (&*followed, PATIENCE);
                let rebuild = Rebuild { piece, clock, followed, tell, page, patience };
                rebuild.tables(&tables).await;
            }
            std::future::pending::<Infallible>().await
        };
        if let Some(control) = &self.control {
            control.begin();
        }
        let of_plan = session.plan.wanted.iter().zip(&session.found).zip(opened);
        let runs = of_plan.map(|((wanted, found), opened)| {
            self.run((wanted, found), opened, piece.target(), over.subscribe())
        });
        let mut runs = pin!(join_all(runs));
        let acting = async {
            let Some((page, control)) = self.page.as_ref().zip(self.control.as_ref()) else {
                return std::future::pending().await;
            };
            let (place, dynamodb) = (&self.place, self.maker.dynamodb());
            Hands { piece, place, dynamodb, control, page }.work(asked).await
        };
        let (next, ended) = tokio::select! {
            ended = &mut runs => (None, Some(ended)),
            never = super::show_rows(piece, self.page.as_ref()) => match never {},
            never = acting => match never {},
            never = rebuilding => match never {},
            next = changed => (Some(next), None),
        };
        over.send_replace(true);
        let ended = match ended {
            Some(ended) => ended,
            None => runs.await,
        };
        self.terminal.borrow_mut().flush();
        let mut failure = None;
        let mut recorders = Vec::new();
        for (wanted, (summary, recorder)) in session.plan.wanted.iter().zip(ended) {
            recorders.push(recorder);
            match summary {
                Ok(summary) => {
                    totals.add(wanted, &summary);
                    tell(&summary);
                }
                Err(error) => failure = Some(error),
            }
        }
        failure.map_or(Ok((next, recorders)), Err)
    }

    /// One event source, until the session is over.
    async fn run<T: Target>(
        &self,
        (wanted, found): (&Wanted, &Found),
        Opened { live, checkpoints, mut mapping }: Opened,
        target: &T,
        over: watch::Receiver<bool>,
    ) -> (Result<Summary, Complaint>, Option<Recorder>) {
        let event_source = &wanted.event_source;
        let timeout = Millis::from(event_source.function_timeout_s) * 1000;
        let mut parameters = event_source.parameters.clone();
        parameters.retention_s = Some(found.retention_s);
        let setting = Setting {
            parameters,
            timeout,
            function_arn: function_arn(&found.arn, &event_source.function_logical_id),
            checkpoints,
            // The reader stands behind the checkpoints already.
            from_start: true,
            faults: None,
        };
        let control = self.control.clone();
        let stops = [self.stop.subscribe(), over].map(|mut stop| {
            Box::pin(async move {
                // The sender lives as long as the runs do.
                drop(stop.wait_for(|is_stopped| *is_stopped).await);
            })
        });
        let stop = async move {
            let [all, session] = stops;
            futures_util::future::select(all, session).await;
            control.iter().for_each(Control::end);
        };
        let timeout = Duration::from_millis(timeout);
        let waits = mapping.waits();
        let driven = Driven { target, timeout, control: self.control.clone(), waits };
        let followed = follow(live, &driven, &self.clock, setting, stop, &mut mapping).await;
        if followed.is_err() {
            self.stop.send_replace(true);
        }
        (followed.map_err(complaint), mapping.into_recorder())
    }
}

/// Where a mapping's checkpoints are, in the state directory.
pub(super) fn mapping_directory(wanted: &Wanted) -> PathBuf {
    let event_source = &wanted.event_source;
    let name = format!("{}-{}", event_source.function_logical_id, event_source.logical_id);
    // Two that differ in other characters, or in their service alone, have two directories.
    let whole = format!("{name}/{:?}", event_source.source);
    let told_apart = &hex(&Sha256::digest(whole))[..8];
    Path::new("mappings").join(format!("{}-{told_apart}", named(&name)))
}

/// A UUID of version 4.
fn uuid(random: u128) -> String {
    let hex = format!("{random:032x}");
    format!("{}-{}-4{}-8{}-{}", &hex[..8], &hex[8..12], &hex[13..16], &hex[17..20], &hex[20..])
}

fn warn_of_readers(plan: &Plan, found: &[Found]) {
    for (at, (wanted, this)) in plan.wanted.iter().zip(found).enumerate() {
        let readers = found.iter().filter(|other| other.arn == this.arn).count();
        let is_first = found[..at].iter().all(|other| other.arn != this.arn);
        if wanted.event_source.source == Source::DynamoDb && is_first && readers > READERS_MAX {
            talk(format_args!(
                "warning: {readers} mappings read the stream of table {}; on AWS more than two \
                 throttle each other",
                wanted.name
            ));
        }
    }
}
