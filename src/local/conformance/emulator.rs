//! One case at an emulator: what is made for it, what is seen of it, and its end.

use super::{
    Asked, ConformanceError, FUNCTION,
    called::Asking,
    observed::{Observed, discarded},
    services::{ServiceError, Services, text},
    zip::zipped,
};
use crate::{
    clock::{Clock as _, SystemClock},
    local::simulate::Case,
    record::Source,
};
use serde_json::{Value, json};
use std::time::Duration;

/// Emulators take any role.
const ROLE: &str = "arn:aws:iam::000000000000:role/conformance";
/// Between two looks at what came.
const PAUSE: Duration = Duration::from_millis(100);
/// How long a call that is not expected is waited for.
const GRACE: Duration = Duration::from_secs(2);
/// How long streams and functions may take to become ready.
const READY_S: u64 = 60;
const FUNCTION_TIMEOUT_S: u64 = 30;

/// An emulator, and where its functions ask.
#[derive(Debug)]
pub(super) struct Emulator {
    services: Services,
    asking: Asking,
    callback_url: String,
    runtime: String,
    patience: Duration,
    /// Distinguishes the names of this run.
    run: i64,
}

/// What was made for a case, by its names; none of what is not made yet.
#[derive(Debug, Default)]
struct Made {
    table: Option<String>,
    stream: Option<String>,
    queue_url: Option<String>,
    function: Option<String>,
    mapping: Option<String>,
}

impl Emulator {
    pub(super) async fn new(asked: &Asked) -> Result<Self, ConformanceError> {
        let services = Services::new(&asked.endpoint_url).map_err(ConformanceError::Emulator)?;
        let listen = |source| ConformanceError::Listen { address: asked.listen, source };
        let asking = Asking::start(asked.listen).await.map_err(listen)?;
        let own = || format!("http://{}", asking.address());
        Ok(Self {
            callback_url: asked.callback_url.clone().unwrap_or_else(own),
            asking,
            services,
            runtime: asked.runtime.clone(),
            patience: asked.patience,
            run: SystemClock.now().0,
        })
    }

    /// Runs a case, and deletes what was made for it.
    pub(super) async fn run(
        &self,
        case: &Case,
        expected: &Observed,
    ) -> Result<Observed, ServiceError> {
        let name = format!("conformance-{}-{}", case.id.as_str().unwrap_or_default(), self.run);
        let path = format!("/{name}");
        self.asking.play(&path, &case.function);
        let mut made = Made::default();
        let seen = match self.set_up(case, &name, &path, &mut made).await {
            Ok(()) => self.watch(case, &path, &made, expected).await,
            Err(error) => Err(error),
        };
        self.delete(&made).await;
        self.asking.forget(&path);
        seen
    }

    async fn set_up(
        &self,
        case: &Case,
        name: &str,
        path: &str,
        made: &mut Made,
    ) -> Result<(), ServiceError> {
        let source = match case.source {
            Source::Kinesis => self.stream(case, name, made).await?,
            Source::DynamoDb | Source::Sqs => self.table(case, name, made).await?,
        };
        let queue = json!({ "QueueName": name });
        let created = self.services.ask("AmazonSQS.CreateQueue", &queue).await?;
        let url = text(&created, "CreateQueue", "/QueueUrl")?;
        made.queue_url = Some(url.clone());
        let asked = json!({ "QueueUrl": url, "AttributeNames": ["QueueArn"] });
        let attributes = self.services.ask("AmazonSQS.GetQueueAttributes", &asked).await?;
        let queue = text(&attributes, "GetQueueAttributes", "/Attributes/QueueArn")?;
        self.function(name, path, made).await?;
        let mut mapping = json!({
            "EventSourceArn": source,
            "FunctionName": name,
            "StartingPosition": "TRIM_HORIZON",
            "DestinationConfig": { "OnFailure": { "Destination": queue } },
        });
        for (parameter, value) in &case.mapping {
            mapping[parameter] = value.clone();
        }
        let created = self.services.ask_lambda(("POST", "event-source-mappings"), &mapping).await?;
        made.mapping = Some(text(&created, "CreateEventSourceMapping", "/UUID")?);
        Ok(())
    }

    /// A table whose stream has the case's records: changes of one item for each key.
    async fn table(
        &self,
        case: &Case,
        name: &str,
        made: &mut Made,
    ) -> Result<String, ServiceError> {
        let table = json!({
            "TableName": name,
            "BillingMode": "PAY_PER_REQUEST",
            "AttributeDefinitions": [{ "AttributeName": "pk", "AttributeType": "S" }],
            "KeySchema": [{ "AttributeName": "pk", "KeyType": "HASH" }],
            "StreamSpecification": {
                "StreamEnabled": true, "StreamViewType": "NEW_AND_OLD_IMAGES",
            },
        });
        self.services.ask("DynamoDB_20120810.CreateTable", &table).await?;
        made.table = Some(name.to_owned());
        let asked = json!({ "TableName": name });
        let ready = || async {
            let told = self.services.ask("DynamoDB_20120810.DescribeTable", &asked).await?;
            Ok((told["Table"]["TableStatus"] == "ACTIVE").then_some(told))
        };
        let told = self.ready(name, ready).await?;
        let arn = text(&told, "DescribeTable", "/Table/LatestStreamArn")?;
        for number in 1..=case.records() {
            let key = format!("key-{}", case.key_of(number));
            let item = json!({ "pk": { "S": key }, "n": { "N": number.to_string() } });
            let put = json!({ "TableName": name, "Item": item });
            self.services.ask("DynamoDB_20120810.PutItem", &put).await?;
        }
        Ok(arn)
    }

    /// A stream with the case's records.
    async fn stream(
        &self,
        case: &Case,
        name: &str,
        made: &mut Made,
    ) -> Result<String, ServiceError> {
        let shards = case.shards();
        let stream = json!({ "StreamName": name, "ShardCount": shards });
        self.services.ask("Kinesis_20131202.CreateStream", &stream).await?;
        made.stream = Some(name.to_owned());
        let asked = json!({ "StreamName": name });
        let ready = || async {
            let told = self.services.ask("Kinesis_20131202.DescribeStreamSummary", &asked).await?;
            let is_active = told["StreamDescriptionSummary"]["StreamStatus"] == "ACTIVE";
            Ok(is_active.then_some(told))
        };
        let told = self.ready(name, ready).await?;
        let arn = text(&told, "DescribeStreamSummary", "/StreamDescriptionSummary/StreamARN")?;
        for number in 1..=case.records() {
            let (shard, key) = (case.shard_of(number), case.key_of(number));
            // The shards of a new stream share the hashes evenly.
            let shard = u128::from(shard);
            let hash = shard * (u128::MAX / u128::from(shards)) + shard;
            let put = json!({
                "StreamName": name,
                "PartitionKey": format!("key-{shard}-{key}"),
                "ExplicitHashKey": hash.to_string(),
                "Data": base64_simd::STANDARD.encode_to_string(json!({ "n": number }).to_string()),
            });
            self.services.ask("Kinesis_20131202.PutRecord", &put).await?;
        }
        Ok(arn)
    }

    async fn function(&self, name: &str, path: &str, made: &mut Made) -> Result<(), ServiceError> {
        let code = zipped("function.py", FUNCTION).unwrap_or_default();
        let function = json!({
            "FunctionName": name,
            "Runtime": self.runtime,
            "Role": ROLE,
            "Handler": "function.handler",
            "Code": { "ZipFile": base64_simd::STANDARD.encode_to_string(code) },
            "Timeout": FUNCTION_TIMEOUT_S,
            "Environment": {
                "Variables": { "CONFORMANCE_URL": format!("{}{path}", self.callback_url) },
            },
        });
        self.services.ask_lambda(("POST", "functions"), &function).await?;
        made.function = Some(name.to_owned());
        let asked = format!("functions/{name}/configuration");
        let ready = || async {
            let told = self.services.ask_lambda(("GET", &asked), &Value::Null).await?;
            // An emulator that knows no states has it at once.
            let state = told["State"].as_str().unwrap_or("Active").to_owned();
            Ok((state != "Pending").then_some(told))
        };
        self.ready(name, ready).await?;
        Ok(())
    }

    async fn ready<F>(&self, what: &str, look: impl Fn() -> F) -> Result<Value, ServiceError>
    where
        F: Future<Output = Result<Option<Value>, ServiceError>>,
    {
        let until = SystemClock.now().0 + i64::try_from(READY_S * 1000).unwrap_or(i64::MAX);
        while SystemClock.now().0 < until {
            if let Some(told) = look().await? {
                return Ok(told);
            }
            SystemClock.sleep(PAUSE).await;
        }
        Err(ServiceError::NotReady { what: what.to_owned(), seconds: READY_S })
    }

    /// Looks until what is expected was seen and nothing came after it, until something else was
    /// seen, or until nothing new came for long enough.
    async fn watch(
        &self,
        case: &Case,
        path: &str,
        made: &Made,
        expected: &Observed,
    ) -> Result<Observed, ServiceError> {
        let mut documents = Vec::new();
        let (mut seen, mut since) = (None, SystemClock.now().0);
        loop {
            let url = made.queue_url.clone().unwrap_or_default();
            documents.extend(self.received(&url).await?);
            let played = self.asking.played(path);
            let number = |position: &str| played.numbers.get(position).copied();
            let told = documents.iter().filter_map(|it| discarded(it, number)).collect();
            let documents = documents.iter().map(String::as_str);
            let found = Observed::new(case, &played.calls, told, documents);
            let now = SystemClock.now().0;
            if found.is_settled(expected) {
                return Ok(found);
            }
            let patience = if found == *expected { GRACE } else { self.patience };
            if seen.as_ref() != Some(&found) {
                (seen, since) = (Some(found), now);
            } else if now - since > i64::try_from(patience.as_millis()).unwrap_or(i64::MAX) {
                return Ok(found);
            }
            SystemClock.sleep(PAUSE).await;
        }
    }

    /// What stands in a queue, which is taken out of it.
    async fn received(&self, url: &str) -> Result<Vec<String>, ServiceError> {
        let asked = json!({ "QueueUrl": url, "MaxNumberOfMessages": 10 });
        let told = self.services.ask("AmazonSQS.ReceiveMessage", &asked).await?;
        let messages = told["Messages"].as_array().cloned().unwrap_or_default();
        let mut bodies = Vec::new();
        for message in messages {
            let delete = json!({ "QueueUrl": url, "ReceiptHandle": message["ReceiptHandle"] });
            self.services.ask("AmazonSQS.DeleteMessage", &delete).await?;
            bodies.push(message["Body"].as_str().unwrap_or_default().to_owned());
        }
        Ok(bodies)
    }

    /// Deletes what was made. What an emulator cannot delete stays: its names are of this run.
    async fn delete(&self, made: &Made) {
        if let Some(mapping) = &made.mapping {
            let path = format!("event-source-mappings/{mapping}");
            drop(self.services.ask_lambda(("DELETE", &path), &Value::Null).await);
        }
        if let Some(function) = &made.function {
            let path = format!("functions/{function}");
            drop(self.services.ask_lambda(("DELETE", &path), &Value::Null).await);
        }
        let others = [
            ("DynamoDB_20120810.DeleteTable", "TableName", &made.table),
            ("Kinesis_20131202.DeleteStream", "StreamName", &made.stream),
            ("AmazonSQS.DeleteQueue", "QueueUrl", &made.queue_url),
        ];
        for (operation, name, value) in others {
            if let Some(value) = value {
                drop(self.services.ask(operation, &json!({ name: value })).await);
            }
        }
    }
}
