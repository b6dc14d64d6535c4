//! The verb `replay`: a backlog through the mapping to the function, and what came of it.

use super::{
    Complaint, Exit, Format, ReplayArgs,
    bench::{Bench, Piece, Stage},
    print, progress, talk,
};
use crate::{
    local::{
        carried,
        checkpoint::Checkpoints,
        clock::{Pace, VirtualClock},
        endpoint::{self, EndpointError, State},
        faults::Faults,
        filter::HIDES_FROM_VIEWS,
        mapping::{Millis, OnFailure, Parameters, RETENTION_HOURS, StartingPosition},
        on_failure_files::OnFailureFiles,
        page::Journal,
        report::{LOST, Report},
        run::{self, Invoked, Observer, RunError, Setting, Summary},
        source::Fixtures,
        target::{Target, with_sources},
        template::{EventSource, TEMPLATE_DEFAULT, Template},
    },
    record::Source,
};
use indicatif::ProgressBar;
use serde_json::Value;
use std::{
    io,
    ops::RangeInclusive,
    path::{Path, PathBuf},
};

/// How many hours one may ask of Kinesis.
const RETENTION_RANGE: RangeInclusive<u32> = 24..=8_760;

/// Shorter runs are over before anybody looks at a bar.
const LONG_RUN_RECORDS: u64 = 10_000;

pub(super) fn replay<B: Bench>(arguments: &ReplayArgs, bench: B) -> Result<Exit, Complaint> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // Turns are dealt by the run itself; tokio's budget would only add pauses of its own.
    let ran = runtime.block_on(tokio::task::unconstrained(run_once(arguments, bench)));
    let (report, written) = ran?;
    tell(&report.summary);
    match arguments.format {
        Format::Table => print(&report.text()),
        Format::Json => {
            report.cuts().iter().for_each(|cut| talk(format_args!("{cut}")));
            print(&(report.json() + "\n"));
        }
    }
    written?;
    let is_whole = report.summary.discards == 0 && report.summary.lost == 0;
    Ok(if is_whole { Exit::Done } else { Exit::Discarded })
}

/// What came of it, and whether all could be written beside it that was asked for.
async fn run_once<B: Bench>(
    arguments: &ReplayArgs,
    bench: B,
) -> Result<(Report, Result<(), Complaint>), Complaint> {
    let mut fixtures = Fixtures::open(&arguments.fixtures)?;
    if let Some(seed) = arguments.reshard {
        fixtures = fixtures.resharded(seed)?;
    }
    let (parameters, timeout, function) = mapping(arguments, &fixtures)?;
    check_windows(&parameters, bench.takes_windows())?;
    warn_of_filters(&parameters, fixtures.source(), bench.keeps_views());
    let files = on_failure_files(arguments, &parameters)?;
    let _alone = arguments.state.clone().map(take).transpose()?;
    let checkpoints = checkpoints(arguments.state.as_deref(), &fixtures)?;
    let clock = VirtualClock::new(fixtures.time_zero(), bench.pace());
    let function_arn = function_arn(fixtures.stream_arn(), &function);
    let tables = carried::tables(&fixtures, &arguments.fixtures)?;
    let stream_names = names(&fixtures, &tables);
    let stage = Stage {
        stream_names: &stream_names,
        function_arn: &function_arn,
        clock: &clock,
        state: arguments.state.as_deref(),
        endpoint_url: None,
        parallelization_factor: parameters.parallelization_factor,
        seed: arguments.faults,
        variables: &[],
    };
    let serves_store = bench.serves_store();
    let piece = bench.set_up(&stage).await?;
    let faults = arguments.faults.map(|seed| Faults::new(seed, &parameters, timeout));
    let faults =
        if clock.is_real() { faults.map(|it| it.of_process(serves_store)) } else { faults };
    let setting = Setting {
        parameters,
        timeout,
        function_arn,
        checkpoints,
        from_start: arguments.from_start,
        faults,
    };
    let journal = arguments.report.as_ref().map(|_| Journal::default());
    let mut watching = Watching { bar: bar(fixtures.records()), journal, files, failed: None };
    let result = run::observed(&fixtures, piece.target(), &clock, setting, &mut watching).await;
    watching.bar.finish_and_clear();
    let summary = result.map_err(complaint)?;
    let mut written = watching.tell_files(arguments.on_failure.as_deref());
    let results = piece.results().await?;
    let report = Report { seed: arguments.faults, summary, results };
    if let (Some(path), Some(journal)) = (&arguments.report, &watching.journal) {
        let names = arguments.fixtures.iter().map(|path| path.display().to_string());
        let title = format!("Replay of {}", names.collect::<Vec<_>>().join(", "));
        match std::fs::write(path, journal.page(&title, &report)) {
            Ok(()) => talk(format_args!("the page is {}", path.display())),
            Err(error) => {
                let message = format!("the page {} cannot be written: {error}", path.display());
                written = written.and(Err(Complaint::new(message)));
            }
        }
    }
    Ok((report, written))
}

/// Shows how far a replay is, and keeps what its page will show.
struct Watching {
    bar: ProgressBar,
    journal: Option<Journal>,
    files: Option<OnFailureFiles>,
    /// Why an on-failure record could not be written.
    failed: Option<io::Error>,
}

impl Watching {
    /// What became of the on-failure records that were to be written.
    fn tell_files(&mut self, directory: Option<&Path>) -> Result<(), Complaint> {
        let (Some(files), Some(directory)) = (&self.files, directory) else { return Ok(()) };
        let directory = directory.display();
        if let Some(error) = self.failed.take() {
            let message = format!("an on-failure record cannot be written: {error}");
            let hint = "run it again with --from-start and an empty directory";
            return Err(Complaint::new(message).with_hint(hint));
        }
        talk(format_args!("{} on-failure records are in {directory}", files.written()));
        Ok(())
    }
}

impl Observer for Watching {
    fn read(&mut self, records: u64) {
        self.bar.set_position(records);
    }

    fn invoked(&mut self, invoked: &Invoked<'_>) {
        if let Some(journal) = &mut self.journal {
            journal.invoked(invoked);
        }
    }

    fn discarded(&mut self, on_failure: &OnFailure) {
        if let Some(journal) = &mut self.journal {
            journal.discarded(on_failure);
        }
        if let Some(files) = &mut self.files
            && let Err(error) = files.write(on_failure)
        {
            self.failed.get_or_insert(error);
        }
    }
}

/// What a view may have in its `FROM` to read these fixtures.
fn names<'f>(fixtures: &'f Fixtures, tables: &'f [String]) -> Vec<&'f str> {
    let stream = fixtures.stream_name();
    let others = tables.iter().map(String::as_str).filter(|table| *table != stream);
    std::iter::once(stream).chain(others).collect()
}

/// Delivers the fixtures to a target that is made for their stream, and gives it back.
pub(super) async fn through<T: Target>(
    arguments: &ReplayArgs,
    make: impl FnOnce(&[&str]) -> Result<T, Complaint>,
) -> Result<T, Complaint> {
    let mut fixtures = Fixtures::open(&arguments.fixtures)?;
    if let Some(seed) = arguments.reshard {
        fixtures = fixtures.resharded(seed)?;
    }
    let (parameters, timeout, function) = mapping(arguments, &fixtures)?;
    let clock = VirtualClock::new(fixtures.time_zero(), Pace::Virtual);
    let tables = carried::tables(&fixtures, &arguments.fixtures)?;
    let stream_names = names(&fixtures, &tables);
    let target = make(&stream_names)?;
    let setting = Setting {
        parameters,
        timeout,
        function_arn: function_arn(fixtures.stream_arn(), &function),
        checkpoints: Checkpoints::forgotten(),
        from_start: arguments.from_start,
        faults: None,
    };
    let ran = run::run(&fixtures, &target, &clock, setting, &mut |_| {}).await;
    ran.map_err(complaint)?;
    Ok(target)
}

/// The mapping's parameters, the function's timeout, and its logical id.
fn mapping(
    arguments: &ReplayArgs,
    fixtures: &Fixtures,
) -> Result<(Parameters, Millis, String), Complaint> {
    let (event_source, kept_hours) = event_source(arguments, fixtures.source())?;
    let mut parameters = event_source.parameters.clone();
    for (name, value) in &arguments.assignments {
        parameters.set(name, &Value::String(value.clone()))?;
    }
    parameters.check(fixtures.source())?;
    let hours = retention(arguments.retention.or(kept_hours), fixtures.source())?;
    parameters.retention_s = Some(hours * 3_600);
    if parameters.starting_position == StartingPosition::Latest {
        talk(format_args!(
            "StartingPosition is LATEST: the fixture is played from its first record, as if the \
             mapping had been there before it"
        ));
    }
    let timeout = Millis::from(event_source.function_timeout_s) * 1000;
    Ok((parameters, timeout, event_source.function_logical_id.clone()))
}

/// The directory for on-failure records, if one is asked for and somebody would get them.
fn on_failure_files(
    arguments: &ReplayArgs,
    parameters: &Parameters,
) -> Result<Option<OnFailureFiles>, Complaint> {
    let Some(directory) = &arguments.on_failure else { return Ok(None) };
    if parameters.on_failure.is_none() {
        return Err(Complaint::new(
            "--on-failure: the mapping has no on-failure destination, so AWS writes nothing either",
        )
        .with_hint(
            "name one in the template, or with --set \
             DestinationConfig.OnFailure.Destination=arn:aws:sqs:eu-west-1:123456789012:failed",
        ));
    }
    let files = OnFailureFiles::open(directory).map_err(|error| {
        let message = format!("on-failure records cannot go to {}: {error}", directory.display());
        Complaint::new(message).with_hint("name a directory that is empty or not there yet")
    })?;
    Ok(Some(files))
}

/// Whether the function can answer what the mapping asks.
pub(super) fn check_windows(parameters: &Parameters, takes_windows: bool) -> Result<(), Complaint> {
    if parameters.tumbling_window_s.is_none() || takes_windows {
        return Ok(());
    }
    Err(Complaint::new(
        "TumblingWindowInSeconds is set, and neither views nor a processor take windows",
    )
    .with_hint("take it out, or drive a function that does with --exec"))
}

/// What a mapping's filters do that one may not expect of them.
pub(super) fn warn_of_filters(parameters: &Parameters, source: Source, keeps_views: bool) {
    let filters = &parameters.filters;
    if keeps_views && !filters.is_empty() {
        talk(format_args!(
            "warning: {HIDES_FROM_VIEWS}; put the condition into the view's WHERE instead"
        ));
    }
    if source == Source::Kinesis && filters.asks_beside_data() {
        talk(format_args!(
            "warning: FilterCriteria asks for another key than `data`; AWS documents no other \
             for Kinesis"
        ));
    }
}

/// How many hours the stream keeps a record.
fn retention(asked: Option<u32>, source: Source) -> Result<u32, Complaint> {
    match asked {
        Some(hours) if source == Source::DynamoDb && hours != RETENTION_HOURS => {
            Err(Complaint::new(format!(
                "--retention {hours}: DynamoDB Streams keep a record for {RETENTION_HOURS} hours, \
                 and nothing changes that"
            ))
            .with_hint("leave it out"))
        }
        asked => Ok(asked.unwrap_or(RETENTION_HOURS)),
    }
}

/// How many hours the template says that the stream of an event source keeps a record.
fn kept_hours(template: &Template, event_source: &EventSource) -> Result<Option<u32>, Complaint> {
    let of_arn = event_source.stream.rsplit('/').next().unwrap_or_default();
    let mut streams = template.streams().into_iter();
    let stream = streams.find(|it| it.logical_id == event_source.stream || it.name == of_arn);
    let Some((stream, hours)) = stream.and_then(|it| it.retention_hours.map(|hours| (it, hours)))
    else {
        return Ok(None);
    };
    let kept = u32::try_from(hours).ok().filter(|hours| RETENTION_RANGE.contains(hours));
    kept.map(Some).ok_or_else(|| {
        let (least, most) = RETENTION_RANGE.into_inner();
        Complaint::new(format!(
            "{}: RetentionPeriodHours is {hours}, expected {least} to {most}",
            stream.logical_id
        ))
    })
}

/// The event source that fits the fixture: the template's, or without one what is assumed; and
/// how many hours its stream keeps a record, if the template says it.
fn event_source(
    arguments: &ReplayArgs,
    kind: Source,
) -> Result<(EventSource, Option<u32>), Complaint> {
    let (chosen, function) = (arguments.event_source.as_deref(), arguments.function.as_deref());
    let path = arguments.template.as_deref();
    match Template::read(path.unwrap_or(Path::new(TEMPLATE_DEFAULT))) {
        Ok(template) => {
            let template = match function {
                Some(function) => template.of_function(function)?,
                None => template,
            };
            let event_source = template.event_source(kind, chosen)?;
            let hours = kept_hours(&template, &event_source)?;
            Ok((event_source, hours))
        }
        Err(error) if path.is_none() && error.is_not_there() => match chosen.or(function) {
            None => {
                talk(format_args!(
                    "no {TEMPLATE_DEFAULT} here: the mapping has AWS's defaults with \
                     ReportBatchItemFailures and BisectBatchOnFunctionError on, the function \
                     {} s; --template or --set say otherwise",
                    EventSource::TIMEOUT_ASSUMED_S
                ));
                Ok((EventSource::assumed(kind), None))
            }
            Some(name) => Err(Complaint::new(format!("no template to find `{name}` in"))
                .with_hint("name the one that has it with --template")),
        },
        Err(error) if error.is_not_there() => Err(Complaint::new(with_sources(&error))
            .with_hint("name another, or leave --template out to run with AWS's defaults")),
        Err(error) => Err(error.into()),
    }
}

/// The state directory, for this process alone.
pub(super) fn take(directory: PathBuf) -> Result<State, Complaint> {
    endpoint::take(directory).map_err(|error| match error {
        EndpointError::InUse { .. } => error.into(),
        error => Complaint::new(with_sources(&error))
            .with_hint("--state names a directory, which is made if it is not there"),
    })
}

fn checkpoints(state: Option<&Path>, fixtures: &Fixtures) -> Result<Checkpoints, Complaint> {
    let Some(directory) = state else { return Ok(Checkpoints::forgotten()) };
    Ok(Checkpoints::read(directory, fixtures.stream_arn())?)
}

/// The function's ARN, in the Region and account of its stream.
pub(super) fn function_arn(stream_arn: &str, function: &str) -> String {
    let mut parts = stream_arn.split(':');
    let (partition, region) = (parts.nth(1).unwrap_or("aws"), parts.nth(1).unwrap_or_default());
    let account = parts.next().unwrap_or_default();
    format!("arn:{partition}:lambda:{region}:{account}:function:{function}")
}

fn bar(records: u64) -> ProgressBar {
    if records < LONG_RUN_RECORDS { ProgressBar::hidden() } else { progress(records, "records") }
}

/// What a person should know beside the report.
pub(super) fn tell(summary: &Summary) {
    for (message, count) in &summary.errors {
        talk(format_args!("function error ({count} times): {message}"));
    }
    if summary.lost > 0 {
        talk(format_args!("{} records are lost: {LOST}", summary.lost));
    }
    if summary.discards > 0 {
        talk(format_args!(
            "the mapping discarded records: {} on-failure records, see `on_failure`",
            summary.discards
        ));
    }
}

pub(super) fn complaint(error: RunError) -> Complaint {
    let stuck = matches!(error, RunError::Stuck { .. });
    let complaint = Complaint::from(error);
    if stuck {
        return complaint.with_hint("bound it: --set MaximumRetryAttempts=10");
    }
    complaint
}

#[cfg(test)]
mod tests {
    use super::{function_arn, kept_hours};
    use crate::{local::template::Template, record::Source};

    #[test]
    fn a_stream_keeps_records_as_long_as_its_template_says() {
        let path =
            std::env::temp_dir().join(format!("changefold-kept-{}.yaml", std::process::id()));
        let hours = |properties: &str, stream: &str| {
            let text = format!(
                "Resources:\n  Clicks: {{Type: AWS::Kinesis::Stream, Properties: {properties}}}\n  \
                 F:\n    Type: AWS::Serverless::Function\n    Properties:\n      Events:\n        \
                 E: {{Type: Kinesis, Properties: {{Stream: {stream}, StartingPosition: \
                 TRIM_HORIZON}}}}\n"
            );
            std::fs::write(&path, text).unwrap();
            let template = Template::read(&path).unwrap();
            let event_source = template.event_source(Source::Kinesis, None).unwrap();
            kept_hours(&template, &event_source).map_err(|error| error.to_string())
        };
        let two_days = "{RetentionPeriodHours: 48, Name: web}";
        assert_eq!(hours(two_days, "!GetAtt Clicks.Arn"), Ok(Some(48)));
        assert_eq!(hours(two_days, "arn:aws:kinesis:eu-west-1:1:stream/web"), Ok(Some(48)));
        assert_eq!(hours(two_days, "arn:aws:kinesis:eu-west-1:1:stream/other"), Ok(None));
        assert_eq!(hours("{}", "!GetAtt Clicks.Arn"), Ok(None));
        for asked in [i32::MIN, -1, 0, 23, 8_761, i32::MAX] {
            let refused =
                hours(&format!("{{RetentionPeriodHours: {asked}}}"), "!GetAtt Clicks.Arn");
            let expected = format!("Clicks: RetentionPeriodHours is {asked}, expected 24 to 8760");
            assert_eq!(refused, Err(expected));
        }
        let year = hours("{RetentionPeriodHours: 8760}", "!GetAtt Clicks.Arn");
        assert_eq!(year, Ok(Some(8_760)));
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn the_function_stands_beside_its_stream() {
        let stream = "arn:aws:dynamodb:eu-west-1:123456789012:table/t/stream/2026";
        let function = "arn:aws:lambda:eu-west-1:123456789012:function:Views";
        assert_eq!(function_arn(stream, "Views"), function);
    }
}
