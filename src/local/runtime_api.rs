//! The function in a process of its own, behind Lambda's Runtime API.
//!
//! Whatever runs on Lambda runs here unchanged, in any language: a program is started with
//! Lambda's environment and asks over HTTP for its invocations, as it does in production (the
//! Runtime API of 2018-06-01). So the process itself is under test: its start, its settings,
//! its death. As on Lambda an execution environment serves one invocation at a time: another
//! one that begins meanwhile gets another environment, idle ones are used again, and one that
//! died or was too slow is replaced. What it gives up: extensions, streamed replies, freezing
//! between invocations, limits on memory; and an environment that starts has the invocation's
//! timeout for it rather than ten seconds.

mod environment;
mod exchange;
mod process;
mod program;

pub use program::Program;

use super::{
    clock::VirtualClock,
    store_server::ServedStore,
    target::{FunctionError, Target},
};
use crate::{call::Call, clock::Clock, record::Timestamp};
use bytes::Bytes;
use environment::{Environment, Loss};
use exchange::Invocation;
use futures_util::future::{FutureExt, LocalBoxFuture};
use process::Process;
use std::{
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// A program as the function: a [`Target`] whose invocations reach other processes.
///
/// It lives on the tokio runtime of its caller, with time and IO. Dropping it ends the idle
/// environments; dropping an invocation ends its own.
#[derive(Debug)]
pub struct RuntimeApi {
    program: Program,
    clock: Arc<dyn Clock>,
    /// What is served to the program, and the clock that knows whose turn it is.
    store: Option<(ServedStore, Arc<VirtualClock>)>,
    idle: Mutex<Vec<Environment>>,
    processes: Mutex<Vec<Weak<Process>>>,
    started: AtomicU64,
    invoked: AtomicU64,
}

impl RuntimeApi {
    /// Makes a program the function. Nothing is started before the first invocation or
    /// [`warm_up`](Self::warm_up). The clock has to be a real one: the program sees deadlines
    /// in it.
    #[must_use]
    pub fn new(program: Program, clock: Arc<dyn Clock>) -> Self {
        Self {
            program,
            clock,
            store: None,
            idle: Mutex::default(),
            processes: Mutex::default(),
            started: AtomicU64::new(0),
            invoked: AtomicU64::new(0),
        }
    }

    /// Gives the program a DynamoDB to ask, whose calls meet the faults of the invocation that
    /// makes them, as the clock of the run knows it.
    #[must_use]
    pub fn with_store(self, store: ServedStore, turns: Arc<VirtualClock>) -> Self {
        Self { store: Some((store, turns)), ..self }
    }

    /// Starts one environment ahead of the first invocation, and waits until it is ready.
    ///
    /// # Errors
    /// The program cannot be started, says that it cannot serve, or ends, before it is ready.
    pub async fn warm_up(&self, deadline: Timestamp) -> Result<(), FunctionError> {
        let mut timeout = pin!(self.until(deadline));
        let mut environment = self.start().await?;
        let outcome = tokio::select! {
            biased;
            outcome = environment.ready() => outcome,
            error = &mut timeout => return Err(error),
        };
        outcome.map_err(Loss::into_error)?;
        lock(&self.idle).push(environment);
        Ok(())
    }

    /// The processes that are there now, busy or idle, by the system's id.
    #[must_use]
    pub fn process_ids(&self) -> Vec<u32> {
        let processes = self.processes();
        processes.iter().filter(|process| process.is_alive()).map(|process| process.id()).collect()
    }

    /// Kills every process at this moment (SIGKILL), busy or idle. Their invocations fail, as
    /// when Lambda loses an environment; the next ones start new processes.
    pub fn kill_all(&self) {
        for process in self.processes() {
            process.kill();
        }
    }

    async fn serve(&self, payload: Bytes, call: Call) -> Result<Bytes, FunctionError> {
        let mut timeout = pin!(self.until(call.deadline));
        let of_program = || self.program.function_arn().to_owned();
        let function_arn = call.function_arn.clone().unwrap_or_else(of_program);
        let trace_id = self.trace_id();
        let turn = self.store.as_ref().and_then(|(_, turns)| turns.current());
        let invocation = Invocation { call, payload, function_arn, trace_id, turn };
        loop {
            let idle = self.idle();
            let was_idle = idle.is_some();
            let mut environment = match idle {
                Some(environment) => environment,
                None => self.start().await?,
            };
            let outcome = tokio::select! {
                biased;
                outcome = environment.invoke(invocation.clone()) => outcome,
                error = &mut timeout => return Err(error),
            };
            match outcome {
                Ok(answer) => {
                    lock(&self.idle).push(environment);
                    return answer;
                }
                // It died between two invocations, which is no failure of this one.
                Err(Loss::BeforeItBegan(_)) if was_idle => {}
                Err(loss) => return Err(loss.into_error()),
            }
        }
    }

    /// A trace that nobody samples, in the format of AWS X-Ray: second and number in hex.
    fn trace_id(&self) -> String {
        let number = self.invoked.fetch_add(1, Ordering::Relaxed) + 1;
        format!("Root=1-{:08x}-{number:024x};Sampled=0", self.clock.now().0 / 1000)
    }

    /// Waits for the deadline; the error of whoever is still at work then.
    fn until(&self, deadline: Timestamp) -> impl Future<Output = FunctionError> + use<> {
        let left_ms = deadline.0.saturating_sub(self.clock.now().0).max(0).cast_unsigned();
        let sleep = self.clock.sleep(Duration::from_millis(left_ms));
        sleep.map(move |()| {
            FunctionError::unhandled(format!(
                "the function timed out after {left_ms} ms; its process was killed"
            ))
        })
    }

    /// An environment that waits for an invocation, the last used first.
    fn idle(&self) -> Option<Environment> {
        let mut idle = lock(&self.idle);
        idle.retain(|environment| environment.process().is_usable());
        idle.pop()
    }

    async fn start(&self) -> Result<Environment, FunctionError> {
        let number = self.started.fetch_add(1, Ordering::Relaxed) + 1;
        let store = self.store.as_ref().map(|(store, _)| store.clone());
        let started = Environment::start(&self.program, number, store).await;
        let environment = started.map_err(|error| {
            FunctionError::unhandled(format!(
                "{} cannot be started: {error}",
                self.program.path().display()
            ))
        })?;
        lock(&self.processes).push(Arc::downgrade(environment.process()));
        Ok(environment)
    }

    fn processes(&self) -> Vec<Arc<Process>> {
        let mut processes = lock(&self.processes);
        processes.retain(|process| process.strong_count() > 0);
        processes.iter().filter_map(Weak::upgrade).collect()
    }
}

impl Target for RuntimeApi {
    fn invoke(
        &self,
        payload: Bytes,
        call: Call,
    ) -> LocalBoxFuture<'_, Result<Bytes, FunctionError>> {
        self.serve(payload, call).boxed_local()
    }
}

/// Nothing that is locked here is left half done by a panic.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
