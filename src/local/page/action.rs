//! What can be asked of a run from its page.
//!
//! An action is a request of its own, with a token that only who was given the page's address
//! knows; the run carries it out and answers. What it keeps: a page of another origin can ask for
//! nothing, as it knows no token and may not send the header that has it.

use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};

/// One action.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(tag = "action", rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Action {
    /// No call begins any more until it is told.
    Pause,
    /// Calls begin by themselves again.
    Resume,
    /// One call begins, in a pause.
    Step,
    /// What happens to the next call.
    Fault {
        /// What happens.
        fault: CallFault,
    },
    /// Puts an item into a table.
    PutItem {
        /// The table.
        table: String,
        /// The item, in DynamoDB's own JSON.
        item: Value,
    },
    /// Puts a record into a stream of Kinesis.
    PutRecord {
        /// The stream.
        stream: String,
        /// The partition key.
        key: String,
        /// The data, as text.
        data: String,
    },
    /// Gives the envelopes of a key's parked records.
    Show {
        /// The key, as the list says it.
        key: String,
        /// ARN of the table or stream that it is of.
        source: String,
    },
    /// Processes a key's parked records in their order.
    Redrive {
        /// The key, as the list says it.
        key: String,
        /// ARN of the table or stream that it is of.
        source: String,
    },
    /// Gives a key's parked records up.
    Drop {
        /// The key, as the list says it.
        key: String,
        /// ARN of the table or stream that it is of.
        source: String,
    },
}

/// What can happen to a call because somebody has asked for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum CallFault {
    /// The function says that it has failed, and has done nothing.
    Fail,
    /// The function does its work, and its answer does not come within its timeout.
    TimeOut,
    /// The function ends in the middle of its work.
    Crash,
    /// The function is called twice with the same records.
    Twice,
}

/// An action that waits for its answer: data, or why there is none.
#[derive(Debug)]
pub struct Asked {
    /// What is asked for.
    pub action: Action,
    /// Who waits.
    pub answer: oneshot::Sender<Result<Value, String>>,
}

/// Who may ask, and who answers.
#[derive(Debug, Clone)]
pub struct Actions {
    /// What a request has to know.
    pub token: String,
    /// Where it is carried out.
    pub asked: mpsc::UnboundedSender<Asked>,
}

impl Actions {
    /// Has an action carried out: a status of HTTP, and the answer.
    pub(super) async fn ask(&self, body: &[u8]) -> (u16, Value) {
        let action: Action = match serde_json::from_slice(body) {
            Ok(action) => action,
            Err(error) => return (400, Value::String(format!("this is no action: {error}"))),
        };
        let (answer, answered) = oneshot::channel();
        let over = || (503, Value::from("the run is over"));
        if self.asked.send(Asked { action, answer }).is_err() {
            return over();
        }
        match answered.await {
            Ok(Ok(answer)) => (200, json!({ "done": answer })),
            // Not a failure of the request: a browser would tell of that on its console.
            Ok(Err(message)) => (200, json!({ "refused": message })),
            Err(_) => over(),
        }
    }
}
