//! Lambda's loop around the function, on the official runtime.
//!
//! It is separate, and a feature, so that the desk builds without it. The payload reaches the
//! function as the bytes Lambda sent: the runtime would parse it into an owned tree first,
//! which costs more than everything else we do with it. So a layer takes the body out of the
//! invocation, leaves `null` in its place, and `Payload` takes it back where the runtime
//! expects to deserialise. One invocation at a time: AWS sends a stream's batches that way.

use crate::{
    batch::Work,
    call::Call,
    clock::{Clock, SystemClock},
    config::{self, Config, ConfigError},
    event::ParkedQueues,
    handler::Function,
    operation::Operations,
    record::Timestamp,
    telemetry::{self, LogErrors, Telemetry, TelemetryError},
};
use bytes::Bytes;
use lambda_runtime::{Diagnostic, LambdaEvent, LambdaInvocation, Runtime, service_fn};
use lambda_runtime_api_client::{Client, body::Body, build_request};
use serde::{Deserialize, Deserializer, de};
use std::{
    cell::{Cell, RefCell},
    error::Error,
    mem,
    process::ExitCode,
    sync::Arc,
    task::{Context, Poll},
};
use tower::{Layer, Service};

/// Why a function does not start: a stable code, and the error.
#[derive(Debug)]
pub struct Refusal {
    code: &'static str,
    error: Box<dyn Error>,
}

impl Refusal {
    /// A reason not to start.
    pub fn new(code: &'static str, error: impl Into<Box<dyn Error>>) -> Self {
        Self { code, error: error.into() }
    }
}

/// Runs a function from its settings to its end: `open` turns them into its work.
///
/// What makes starting impossible is logged and told to Lambda; the exit code is a failure.
///
/// # Panics
/// The system gives the process no reactor.
pub fn start<S, W: Work>(
    settings: Result<S, ConfigError>,
    common: impl Fn(&S) -> &Config,
    open: impl AsyncFnOnce(S, Arc<dyn Clock>) -> Result<W, Refusal>,
) -> ExitCode {
    let default = (config::LOG_DEFAULT, "", LogErrors::default());
    let (log, name, errors) = settings.as_ref().map_or(default, |settings| {
        let config = common(settings);
        (&*config.log, &*config.function_name, config.log_errors)
    });
    let telemetry = match telemetry::init(log, name) {
        Ok(telemetry) => telemetry.telling_of_errors(errors),
        Err(error) => return unlogged(&error),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a process at its start can have one reactor");
    runtime.block_on(async {
        #[cfg(feature = "destinations")]
        let rescue = settings.as_ref().ok().and_then(|settings| {
            let clock: Arc<dyn Clock> = Arc::new(SystemClock);
            let seed = clock.now().0.cast_unsigned();
            common(settings).durable.rescue(&clock, seed)
        });
        let parked_queues = settings.as_ref().map_or_else(
            |_| ParkedQueues::default(),
            |settings| common(settings).durable.parked_queues.clone(),
        );
        let timeout_ms = settings.as_ref().map_or(0, |settings| common(settings).timeout_ms);
        let operations =
            settings.as_ref().map_or_else(|_| Operations::Off, |it| common(it).operations);
        let made = match settings {
            Ok(settings) => open(settings, Arc::new(SystemClock)).await,
            Err(error) => Err(Refusal::new(ConfigError::CODE, error)),
        };
        let work = match made {
            Ok(work) => work,
            Err(Refusal { code, error }) => {
                refuse_to_start(code, &*error).await;
                return ExitCode::FAILURE;
            }
        };
        let function = Function::new(work, Arc::new(SystemClock))
            .with_parked_queues(parked_queues)
            .with_operations(operations);
        #[cfg(feature = "destinations")]
        let function = function.with_rescue(rescue);
        match serve(&function, &telemetry, timeout_ms).await {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                telemetry::serving_ended(&*error);
                ExitCode::FAILURE
            }
        }
    })
}

#[expect(clippy::print_stderr, reason = "there is no log to say it in")]
fn unlogged(error: &TelemetryError) -> ExitCode {
    eprintln!("error: {}", telemetry::Chain(error));
    ExitCode::FAILURE
}

/// Answers Lambda's invocations until the execution environment ends. An invocation whose
/// deadline has passed when it comes (only emulators do that) is given `timeout_ms`.
///
/// # Errors
/// Lambda's Runtime API cannot be reached.
pub async fn serve<W: Work>(
    function: &Function<W>,
    telemetry: &Telemetry,
    timeout_ms: u32,
) -> Result<(), lambda_runtime::Error> {
    let has_warned = Cell::new(false);
    let has_warned = &has_warned;
    let handler = service_fn(move |event: LambdaEvent<Payload>| async move {
        let LambdaEvent { payload: Payload(payload), context, .. } = event;
        let (deadline, is_assumed) = deadline(context.deadline, function.clock().now(), timeout_ms);
        let caller = caller(&context);
        let call = Call::new(context.request_id, deadline)
            .with_function_arn(context.invoked_function_arn)
            .with_caller(caller);
        if is_assumed && !has_warned.replace(true) {
            telemetry::deadline_unusable(&call, context.deadline, deadline);
        }
        let reply = function.invoke(&payload, &call).await;
        telemetry.flush(&call.request_id);
        reply.map_err(|halt| {
            // The cause may be a processor's error: it is told as the log tells it.
            let source = halt.source().filter(|_| !telemetry::is_codes_alone());
            diagnostic(halt.code, &halt.message, source)
        })
    });
    Runtime::new(handler).layer(RawBodyLayer).run().await
}

/// Says that the function cannot start: in the log, and to Lambda, which passes it on to
/// whoever invokes. The process should end with a failure after it.
async fn refuse_to_start(code: &str, error: &(dyn Error + 'static)) {
    telemetry::start_failed(code, error);
    let posted = async {
        let diagnostic = diagnostic(code, &error.to_string(), error.source());
        let request = build_request()
            .method("POST")
            .uri("/2018-06-01/runtime/init/error")
            .header("lambda-runtime-function-error-type", code)
            .body(Body::from(serde_json::to_vec(&diagnostic)?))?;
        Client::builder().build()?.call(request).await?;
        Ok::<(), lambda_runtime::Error>(())
    };
    if let Err(error) = posted.await {
        telemetry::serving_ended(&*error);
    }
}

/// The message and what is below it, so that the console shows the whole reason.
fn diagnostic(code: &str, message: &str, source: Option<&(dyn Error + 'static)>) -> Diagnostic {
    let below = source.map(|source| format!(": {}", telemetry::Bounded(source)));
    let error_message = format!("{message}{}", below.unwrap_or_default());
    Diagnostic { error_type: code.to_owned(), error_message }
}

/// The most characters of what a caller says of itself.
const CALLER_CHARS_MAX: usize = 100;

/// Who invoked the function: a Cognito identity, which AWS has checked, or else the application
/// that the client context names, which anybody may write. A caller with a role tells Lambda's
/// function nothing; `CloudTrail` has it, by the request id.
fn caller(context: &lambda_runtime::Context) -> Option<String> {
    let identity = context.identity.as_ref().map(|it| ("cognito", &it.identity_id));
    let client = context.client_context.as_ref().map(|it| ("client", &it.client.app_title));
    let (kind, name) = identity.or(client).filter(|(_, name)| !name.is_empty())?;
    let name = name.chars().filter(|it| !it.is_control()).take(CALLER_CHARS_MAX);
    Some(format!("{kind}:{}", name.collect::<String>()))
}

/// When the invocation will be cut off, and whether we had to assume it.
fn deadline(received_ms: u64, Timestamp(now): Timestamp, timeout_ms: u32) -> (Timestamp, bool) {
    match i64::try_from(received_ms) {
        Ok(received) if received > now => (Timestamp(received), false),
        _ => (Timestamp(now.saturating_add(i64::from(timeout_ms))), true),
    }
}

thread_local! {
    /// The body between the layer and the handler. The runtime deserialises within `call`,
    /// without a point where another task could run.
    static BODY: RefCell<Option<Bytes>> = const { RefCell::new(None) };
}

/// The payload of one invocation, byte for byte.
struct Payload(Bytes);

impl<'de> Deserialize<'de> for Payload {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        de::IgnoredAny::deserialize(deserializer)?;
        let body = BODY.take();
        body.map(Self).ok_or_else(|| de::Error::custom("the runtime lost the payload"))
    }
}

struct RawBodyLayer;

struct RawBody<S>(S);

impl<S> Layer<S> for RawBodyLayer {
    type Service = RawBody<S>;

    fn layer(&self, inner: S) -> RawBody<S> {
        RawBody(inner)
    }
}

impl<S: Service<LambdaInvocation>> Service<LambdaInvocation> for RawBody<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, mut invocation: LambdaInvocation) -> S::Future {
        BODY.set(Some(mem::replace(&mut invocation.body, Bytes::from_static(b"null"))));
        self.0.call(invocation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::Halt;

    #[test]
    fn a_deadline_in_the_past_is_replaced() {
        let now = Timestamp(1_700_000_000_000);
        assert_eq!(deadline(1_700_000_003_000, now, 60_000), (Timestamp(1_700_000_003_000), false));
        assert_eq!(deadline(600_000, now, 60_000), (Timestamp(1_700_000_060_000), true));
        assert_eq!(deadline(1_700_000_000_000, now, 60_000), (Timestamp(1_700_000_060_000), true));
        assert_eq!(deadline(u64::MAX, now, 60_000), (Timestamp(1_700_000_060_000), true));
    }

    #[test]
    fn a_diagnostic_tells_the_whole_reason_under_our_code() {
        let halt = Halt::new("OrderUnknown", "no order").caused_by("a reason");
        let told = diagnostic(halt.code, &halt.message, Error::source(&halt));
        assert_eq!(
            (&*told.error_type, &*told.error_message),
            ("OrderUnknown", "no order: a reason")
        );
    }

    #[test]
    fn the_payload_is_taken_once() {
        BODY.set(Some(Bytes::from_static(b"{")));
        let Payload(body) = serde_json::from_str("null").unwrap();
        assert_eq!(body, Bytes::from_static(b"{"));
        assert!(serde_json::from_str::<Payload>("null").is_err());
    }
}
