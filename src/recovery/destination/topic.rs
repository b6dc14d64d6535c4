//! A topic of Amazon SNS.
//!
//! Separate for its limit, a quarter of a queue's. What it gives up: message attributes, so
//! a subscription's filter policy has to look at the message body
//! (`FilterPolicyScope: MessageBody`), for instance at `error_code`.

use super::{Destination, DestinationError, Fifo, message};
use crate::{
    record::Timestamp,
    recovery::{
        park::envelope::Envelope,
        services::{Services, client_config},
    },
};
use futures_util::future::{BoxFuture, FutureExt as _};
use std::fmt;

/// The longest message, in bytes. Source: `Message` of `Publish` in the SNS API reference.
const MESSAGE_BYTES_MAX: usize = 262_144;

/// A topic.
pub(super) struct Topic {
    client: aws_sdk_sns::Client,
    services: Services,
    arn: String,
    is_fifo: bool,
}

impl fmt::Debug for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Topic").field("arn", &self.arn).finish_non_exhaustive()
    }
}

impl Topic {
    pub(super) fn new(services: &Services, arn: &str, region: &str) -> Self {
        let mut endpoint = services.endpoints.sns.clone();
        if endpoint.url.is_none() {
            region.clone_into(&mut endpoint.region);
        }
        let config = client_config!(aws_sdk_sns, services, &endpoint);
        Self {
            client: aws_sdk_sns::Client::from_conf(config.build()),
            services: services.clone(),
            arn: arn.to_owned(),
            is_fifo: Fifo::is_named_by(arn),
        }
    }

    async fn send_envelope(
        &self,
        envelope: &Envelope,
        deadline: Timestamp,
    ) -> Result<(), DestinationError> {
        let text = message(&self.arn, envelope, MESSAGE_BYTES_MAX)?;
        let mut request = self.client.publish().topic_arn(&self.arn).message(text);
        if self.is_fifo {
            let fifo = Fifo::new(envelope);
            request =
                request.message_group_id(fifo.group).message_deduplication_id(fifo.deduplication);
        }
        let sent = self.services.call("Publish", deadline, || request.clone().send()).await;
        sent.map(drop).map_err(|error| DestinationError::call(&self.arn, envelope, error))
    }
}

impl Destination for Topic {
    fn send<'a>(
        &'a self,
        envelope: &'a Envelope,
        deadline: Timestamp,
    ) -> BoxFuture<'a, Result<(), DestinationError>> {
        self.send_envelope(envelope, deadline).boxed()
    }
}
