//! Settings of whom the function believes: which on-failure messages it takes in, and which
//! queues bring parked records back.

use super::Reader;
#[cfg(feature = "destinations")]
use super::{Fault, durable::CONSUMER};
use crate::event::ParkedQueues;
#[cfg(feature = "destinations")]
use crate::rescue::{Bucket, Trust};

/// ARNs of the tables, table streams and data streams whose on-failure messages are taken in,
/// with commas between.
pub const RESCUE_STREAMS: &str = "CHANGEFOLD_RESCUE_STREAMS";
/// Buckets that on-failure objects are fetched from, `NAME` or `NAME@ACCOUNT`, with commas
/// between.
pub const RESCUE_BUCKETS: &str = "CHANGEFOLD_RESCUE_BUCKETS";
/// ARNs of the queues whose messages may bring parked records back, with commas between.
pub const PARKED_QUEUES: &str = "CHANGEFOLD_PARKED_QUEUES";

/// All of them.
pub(super) const KNOWN: [&str; 3] = [RESCUE_STREAMS, RESCUE_BUCKETS, PARKED_QUEUES];

impl Reader {
    /// The parts of a list, without white space around them; empty ones are left out.
    fn list(&self, name: &str) -> Vec<String> {
        let text = self.get(name).unwrap_or_default();
        let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        parts.map(str::to_owned).collect()
    }

    pub(super) fn parked_queues(&mut self) -> ParkedQueues {
        let arns = self.list(PARKED_QUEUES);
        let is_queue = |arn: &String| {
            let parts = arn_parts(arn);
            parts.is_some_and(|[service, _, name]| service == "sqs" && !name.contains([':', '/']))
        };
        if !arns.iter().all(is_queue) {
            self.invalid(PARKED_QUEUES, "arn:aws:sqs:REGION:ACCOUNT:NAME, with commas between");
        }
        ParkedQueues::new(arns)
    }

    /// Whom to believe about what the mapping gave up; none: nobody.
    #[cfg(feature = "destinations")]
    pub(super) fn trust(&mut self, function: &str) -> Option<Trust> {
        let streams = self.list(RESCUE_STREAMS);
        if !streams.iter().all(|arn| is_stream(arn)) {
            self.invalid(
                RESCUE_STREAMS,
                "arn:aws:dynamodb:REGION:ACCOUNT:table/NAME (/stream/LABEL may follow) or \
                 arn:aws:kinesis:REGION:ACCOUNT:stream/NAME, with commas between",
            );
        }
        let buckets = self.buckets(&streams);
        if streams.is_empty() {
            if self.get(RESCUE_BUCKETS).is_some() {
                let remedy = "objects are fetched for the streams that it names only";
                self.fault(Fault::Missing { name: RESCUE_STREAMS, remedy });
            }
            return None;
        }
        let is_named = self.get(CONSUMER).is_some();
        Some(Trust::new(function, streams, buckets).of_any_alias(is_named))
    }

    /// A bucket without an account belongs to that of the streams.
    #[cfg(feature = "destinations")]
    fn buckets(&mut self, streams: &[String]) -> Vec<Bucket> {
        let account = |arn: &String| arn.split(':').nth(4).map(str::to_owned);
        let mut accounts: Vec<_> = streams.iter().filter_map(account).collect();
        accounts.dedup();
        let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
        let mut buckets = Vec::new();
        for text in self.list(RESCUE_BUCKETS) {
            let (name, owner) = match text.split_once('@') {
                Some((name, owner)) => (name, owner.to_owned()),
                None if accounts.len() > 1 => {
                    let expected = "NAME@ACCOUNT, since the streams are of several accounts";
                    self.invalid(RESCUE_BUCKETS, expected);
                    continue;
                }
                None => (&*text, accounts.first().cloned().unwrap_or_default()),
            };
            let is_account = owner.len() == 12 && owner.bytes().all(|byte| byte.is_ascii_digit());
            if name.is_empty() || !name.chars().all(is_name) || !(is_account || streams.is_empty())
            {
                let expected = "NAME or NAME@ACCOUNT, twelve digits, with commas between";
                self.invalid(RESCUE_BUCKETS, expected);
            }
            buckets.push(Bucket { name: name.to_owned(), owner });
        }
        buckets
    }

    /// Whether the services are needed for sure, so that a Region has to be known.
    #[cfg(feature = "destinations")]
    pub(super) fn rescues(&self) -> bool {
        self.get(RESCUE_STREAMS).is_some()
    }

    #[cfg(not(feature = "destinations"))]
    pub(super) fn refuse_rescue(&mut self) {
        for name in [RESCUE_STREAMS, RESCUE_BUCKETS] {
            if self.get(name).is_some() {
                self.invalid(name, "a build with the feature `destinations`");
            }
        }
    }
}

/// Service, account and resource of an ARN.
fn arn_parts(arn: &str) -> Option<[&str; 3]> {
    let parts: Vec<_> = arn.splitn(6, ':').collect();
    let ["arn", partition, service, region, account, resource] = parts[..] else { return None };
    let is_whole = [partition, region, account, resource].iter().all(|part| !part.is_empty());
    is_whole.then_some([service, account, resource])
}

#[cfg(feature = "destinations")]
fn is_stream(arn: &str) -> bool {
    let Some([service, _, resource]) = arn_parts(arn) else { return false };
    let kind = match service {
        "dynamodb" => "table/",
        "kinesis" => "stream/",
        _ => return false,
    };
    let Some(name) = resource.strip_prefix(kind) else { return false };
    let (name, rest) = name.split_once('/').map_or((name, None), |(name, rest)| (name, Some(rest)));
    let is_rest = |rest: &str| {
        let after = if service == "dynamodb" { "stream/" } else { "consumer/" };
        rest.strip_prefix(after).is_some_and(|rest| !rest.is_empty())
    };
    !name.is_empty() && rest.is_none_or(is_rest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{
        Config,
        durable::tests::{read, refused},
    };

    const TABLE: &str = "arn:aws:dynamodb:eu-west-1:123456789012:table/orders";
    const QUEUE: &str = "arn:aws:sqs:eu-west-1:123456789012:parked";

    #[test]
    fn no_queue_is_believed_unless_it_is_named() {
        assert!(read(&[]).unwrap().durable.parked_queues.is_empty());
        let two = format!(" {QUEUE}, {QUEUE}.fifo,");
        let durable = read(&[(PARKED_QUEUES, &two)]).unwrap().durable;
        let expected = ParkedQueues::new([QUEUE.to_owned(), format!("{QUEUE}.fifo")]);
        assert_eq!(durable.parked_queues, expected);
        for bad in ["parked", "https://sqs.eu-west-1.amazonaws.com/1/q", TABLE, "arn:aws:sqs:::q"] {
            refused(&[(PARKED_QUEUES, bad)], "CHANGEFOLD_PARKED_QUEUES is not valid");
        }
    }

    #[cfg(feature = "destinations")]
    #[test]
    fn nothing_is_rescued_unless_a_stream_is_named() {
        assert!(read(&[]).unwrap().durable.trust.is_none());
        let clicks = "arn:aws:kinesis:eu-west-1:123456789012:stream/clicks";
        let label = format!("{TABLE}/stream/2026-09-17T12:50:51.000, {clicks}");
        let name = ("AWS_LAMBDA_FUNCTION_NAME", "shop");
        let durable = read(&[name, (RESCUE_STREAMS, &label), (RESCUE_BUCKETS, "b,c@210987654321")]);
        let bucket = |name: &str, owner: &str| Bucket { name: name.into(), owner: owner.into() };
        let buckets = vec![bucket("b", "123456789012"), bucket("c", "210987654321")];
        let streams = label.split(", ").map(str::to_owned).collect();
        assert_eq!(durable.unwrap().durable.trust, Some(Trust::new("shop", streams, buckets)));
    }

    #[cfg(feature = "destinations")]
    #[test]
    fn each_fault_is_named() {
        for bad in ["orders", QUEUE, &format!("{TABLE}/index/i"), "arn:aws:dynamodb:r:1:table/"] {
            refused(&[(RESCUE_STREAMS, bad)], "CHANGEFOLD_RESCUE_STREAMS is not valid");
        }
        let streams = (RESCUE_STREAMS, TABLE);
        for bad in ["s3://b", "b@", "@123456789012", "b@12345678901a"] {
            refused(&[streams, (RESCUE_BUCKETS, bad)], "CHANGEFOLD_RESCUE_BUCKETS is not valid");
        }
        refused(&[(RESCUE_BUCKETS, "b")], "CHANGEFOLD_RESCUE_STREAMS is not set");
        let two = format!("{TABLE},{}", TABLE.replace("123456789012", "210987654321"));
        refused(&[(RESCUE_STREAMS, &two), (RESCUE_BUCKETS, "b")], "NAME@ACCOUNT");
        assert!(read(&[(RESCUE_STREAMS, &two), (RESCUE_BUCKETS, "b@123456789012")]).is_ok());
        let error = Config::from_env([(RESCUE_STREAMS.to_owned(), TABLE.to_owned())]).unwrap_err();
        assert!(error.to_string().contains("AWS_REGION is not set"), "{error}");
    }

    #[cfg(not(feature = "destinations"))]
    #[test]
    fn a_build_that_cannot_rescue_says_so() {
        refused(&[(RESCUE_STREAMS, TABLE)], "a build with the feature `destinations`");
    }
}
