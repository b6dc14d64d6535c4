//! What `dev` does when somebody asks for it on the page.

use super::{Piece, Place, Plan};
use crate::{
    local::{
        cli::parked::readable,
        live::LiveError,
        page::{Action, Asked, Control, Shared},
    },
    operation::{Drop, Operation, Redrive, Selection, Shown},
    record::Timestamp,
    recovery::{services::CallError, stream::Clients},
    store::json::item_from_json,
};
use aws_sdk_kinesis::primitives::Blob;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use serde_json::{Value, json};
use std::{collections::VecDeque, convert::Infallible};
use tokio::sync::mpsc::UnboundedReceiver;

/// A put may take so long.
const PATIENCE_MS: i64 = 10_000;

/// What is needed to do it.
pub(super) struct Hands<'a, P> {
    pub(super) piece: &'a P,
    pub(super) place: &'a Place,
    pub(super) dynamodb: &'a aws_sdk_dynamodb::Client,
    pub(super) control: &'a Control,
    pub(super) page: &'a Shared,
}

impl<P: Piece> Hands<'_, P> {
    /// Carries out what is asked for, for ever.
    pub(super) async fn work(&self, asked: &mut UnboundedReceiver<Asked>) -> Infallible {
        carry_out(asked, self.control, |action| self.act(action)).await
    }

    async fn act(&self, action: Action) -> Result<Value, String> {
        let selection = |key, source| Selection {
            keys: vec![key],
            source: Some(source),
            ..Selection::default()
        };
        match action {
            Action::Pause | Action::Resume | Action::Step | Action::Fault { .. } => {
                Err("this is done at once".to_owned())
            }
            Action::PutItem { table, item } => self.put_item(&table, &item).await,
            Action::PutRecord { stream, key, data } => self.put_record(&stream, key, data).await,
            Action::Show { key, source } => {
                let answer = self.operate(Operation::Show(selection(key, source))).await?;
                shown(answer)
            }
            Action::Redrive { key, source } => {
                let redrive =
                    Redrive { keys: vec![key], source: Some(source), ..Redrive::default() };
                self.operate(Operation::Redrive(redrive)).await
            }
            Action::Drop { key, source } => {
                let selection = selection(key, source);
                self.operate(Operation::Drop(Drop { selection, yes: true })).await
            }
        }
    }

    async fn operate(&self, operation: Operation) -> Result<Value, String> {
        let answer = self.piece.operate(operation).await;
        self.page.has_worked();
        answer.map_err(|complaint| complaint.to_string())
    }

    fn deadline(&self) -> Timestamp {
        Timestamp(self.place.services().clock().now().0.saturating_add(PATIENCE_MS))
    }

    fn check_own(&self) -> Result<(), String> {
        if self.place.is_aws() {
            return Err("with --aws the desk reads on AWS and writes nothing there".to_owned());
        }
        Ok(())
    }

    async fn put_item(&self, table: &str, item: &Value) -> Result<Value, String> {
        self.check_own()?;
        let item = item_from_json(item).ok_or(
            "this is no item in DynamoDB's JSON, such as {\"id\": {\"S\": \"a\"}, \"n\": {\"N\": \
             \"1\"}}",
        )?;
        let request = self.dynamodb.put_item().table_name(table).set_item(Some(item));
        let attempt = || request.clone().send();
        let put = self.place.services().call("PutItem", self.deadline(), attempt).await;
        put.map(|_| Value::Null).map_err(|error| told(format!("table {table}"), error))
    }

    async fn put_record(&self, stream: &str, key: String, data: String) -> Result<Value, String> {
        self.check_own()?;
        let clients = Clients::new(self.place.services());
        let request = clients.kinesis.put_record().stream_name(stream);
        let request = request.partition_key(key).data(Blob::new(data));
        let attempt = || request.clone().send();
        let put = self.place.services().call("PutRecord", self.deadline(), attempt).await;
        put.map(|_| Value::Null).map_err(|error| told(format!("stream {stream}"), error))
    }
}

/// Carries out what is asked for: what takes time one after the other, and beside it what says
/// which calls may begin, at once.
async fn carry_out<F: Future<Output = Result<Value, String>>>(
    asked: &mut UnboundedReceiver<Asked>,
    control: &Control,
    act: impl Fn(Action) -> F,
) -> Infallible {
    let mut waiting = VecDeque::new();
    let mut working = FuturesUnordered::new();
    loop {
        if working.is_empty()
            && let Some(Asked { action, answer }) = waiting.pop_front()
        {
            let acting = act(action);
            // Who has asked may be gone by then.
            working.push(async move { drop(answer.send(acting.await)) });
        }
        tokio::select! {
            Some(asked) = asked.recv() => waiting.extend(at_once(control, asked)),
            Some(()) = working.next() => {}
            else => return std::future::pending().await,
        }
    }
}

/// Carries out what takes no time; anything else is given back.
fn at_once(control: &Control, Asked { action, answer }: Asked) -> Option<Asked> {
    let done = match action {
        Action::Pause => {
            control.pause();
            Ok(Value::Null)
        }
        Action::Resume => {
            control.resume();
            Ok(Value::Null)
        }
        Action::Step => {
            control.step();
            Ok(Value::Null)
        }
        Action::Fault { fault } => control.arm(fault).map(|()| Value::Null),
        action => return Some(Asked { action, answer }),
    };
    // Who has asked may be gone by then.
    drop(answer.send(done));
    None
}

fn told(place: String, error: CallError) -> String {
    LiveError::Call { place, error }.to_string()
}

/// Envelopes for reading.
fn shown(answer: Value) -> Result<Value, String> {
    let answer: Shown = serde_json::from_value(answer).map_err(|error| error.to_string())?;
    let shown = answer.parked.into_iter().map(readable);
    shown.collect::<Result<_, _>>().map_err(|complaint| complaint.to_string())
}

/// The tables and streams that the page can write to, with what an item has to have.
pub(super) fn sources(plan: &Plan) -> Value {
    let tables = plan.tables.iter().map(|table| {
        let key = table.attributes.iter().filter(|(name, _)| table.key.contains(name));
        let key = key.map(|(name, kind)| (name.clone(), json!({ kind.as_str(): "" })));
        json!({ "name": table.name, "key": key.collect::<serde_json::Map<_, _>>() })
    });
    let streams = plan.streams.iter().map(|stream| stream.name.clone());
    json!({ "tables": tables.collect::<Vec<_>>(), "streams": streams.collect::<Vec<_>>() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{cell::RefCell, time::Duration};
    use tokio::sync::{mpsc, oneshot};

    fn redrive(key: &str) -> Action {
        Action::Redrive { key: key.to_owned(), source: "arn".to_owned() }
    }

    #[tokio::test]
    async fn a_slow_action_does_not_keep_a_pause_waiting() {
        let (sender, mut asked) = mpsc::unbounded_channel();
        let ask = |action| {
            let (answer, answered) = oneshot::channel();
            sender.send(Asked { action, answer }).unwrap();
            answered
        };
        let control = Control::new(Shared::default());
        let (begun, may_end) = (RefCell::new(Vec::new()), tokio::sync::Notify::new());
        let act = |action| {
            let (begun, may_end) = (&begun, &may_end);
            async move {
                let Action::Redrive { key, .. } = action else { return Ok(Value::Null) };
                begun.borrow_mut().push(key);
                may_end.notified().await;
                Ok(Value::from("redriven"))
            }
        };
        let asking = async {
            let (mut one, mut other) = (ask(redrive("a")), ask(redrive("b")));
            for action in [Action::Pause, Action::Step, Action::Resume, Action::Pause] {
                assert_eq!(ask(action).await, Ok(Ok(Value::Null)));
            }
            assert_eq!(*begun.borrow(), ["a"], "one after the other");
            assert!(one.try_recv().is_err() && other.try_recv().is_err());
            may_end.notify_one();
            assert_eq!(one.await, Ok(Ok("redriven".into())));
            tokio::time::sleep(Duration::from_millis(1)).await;
            assert_eq!(*begun.borrow(), ["a", "b"]);
            may_end.notify_one();
            assert_eq!(other.await, Ok(Ok("redriven".into())));
        };
        tokio::select! {
            never = carry_out(&mut asked, &control, act) => match never {},
            () = asking => {}
        }
        let mut permit = Box::pin(control.permit());
        assert!(futures_util::FutureExt::now_or_never(&mut permit).is_none(), "it is paused");
    }
}
