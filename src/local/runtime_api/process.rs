//! One process of the function: that it runs, that it is killed, how it ended.
//!
//! A task of its own waits for it, so that anybody may kill it at any moment, whoever is
//! polled or not. The process does not outlive that task, and so not the desk's runtime.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};
use tokio::{
    process::{Child, Command},
    sync::{Notify, watch},
};

/// A process that was started.
#[derive(Debug)]
pub(super) struct Process {
    id: u32,
    kill: Notify,
    is_doomed: AtomicBool,
    end: watch::Receiver<Option<String>>,
}

impl Process {
    /// Starts it.
    pub(super) fn start(command: &mut Command) -> io::Result<Arc<Self>> {
        let child = command.kill_on_drop(true).spawn()?;
        let id = child.id().unwrap_or_default();
        let (teller, end) = watch::channel(None);
        let process =
            Arc::new(Self { id, kill: Notify::new(), is_doomed: AtomicBool::new(false), end });
        tokio::spawn(attend(child, Arc::clone(&process), teller));
        Ok(process)
    }

    /// The system's id of it.
    pub(super) fn id(&self) -> u32 {
        self.id
    }

    /// Kills it without warning (SIGKILL), once the runtime gets to it.
    pub(super) fn kill(&self) {
        self.is_doomed.store(true, Ordering::Relaxed);
        self.kill.notify_one();
    }

    /// Whether it is still there.
    pub(super) fn is_alive(&self) -> bool {
        self.end.borrow().is_none()
    }

    /// Whether work may be given to it: it is there, and nobody has killed it.
    pub(super) fn is_usable(&self) -> bool {
        self.is_alive() && !self.is_doomed.load(Ordering::Relaxed)
    }

    /// Waits for its end, and says how it ended: `exit status: 3`, `signal: 6 (SIGABRT)`.
    pub(super) async fn ended(&self) -> String {
        let mut end = self.end.clone();
        match end.wait_for(Option::is_some).await {
            Ok(end) => end.clone().unwrap_or_default(),
            Err(_) => "the desk has stopped".to_owned(),
        }
    }
}

async fn attend(mut child: Child, process: Arc<Process>, teller: watch::Sender<Option<String>>) {
    let status = tokio::select! {
        status = child.wait() => status,
        () = process.kill.notified() => {
            // It fails only for a process that has just ended by itself.
            drop(child.start_kill());
            child.wait().await
        }
    };
    let end = status.map_or_else(|error| error.to_string(), |status| status.to_string());
    teller.send_replace(Some(end));
}
