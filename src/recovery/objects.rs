//! Objects of a bucket that are read whole: exports of tables, and archives of streams.
//!
//! Separate from the on-failure objects (`fetch`), which are small and of one account. An object
//! here may be larger than memory, so it is written down while it comes. What it gives up: an
//! answer that breaks off is asked for again from its beginning.

use super::{
    fetch::FetchError,
    services::{CallError, Services, client_config},
};
use crate::record::Timestamp;
use std::io::Write;

/// How often an answer that breaks off is asked for again.
const BREAKS_MAX: u32 = 3;

/// Buckets, and how to reach them.
#[derive(Debug, Clone)]
pub struct Objects {
    services: Services,
    s3: aws_sdk_s3::Client,
}

/// Where an object's bytes are put.
pub trait Sink: Write {
    /// Forgets what was written: the object comes again from its beginning.
    ///
    /// # Errors
    /// It cannot be forgotten.
    fn clear(&mut self) -> std::io::Result<()>;
}

/// An object cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    /// S3 does not give it.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// What has come cannot be kept.
    #[error("{place} cannot be kept in a file")]
    Kept {
        /// The object.
        place: String,
        /// Why not.
        source: std::io::Error,
    },
}

impl ObjectError {
    /// Whether there is no such object.
    #[must_use]
    pub fn is_not_there(&self) -> bool {
        let Self::Fetch(FetchError::Call { source, .. }) = self else { return false };
        source.code == "NoSuchKey"
    }
}

impl Objects {
    /// Builds the client. Does no IO.
    #[must_use]
    pub fn new(services: &Services) -> Self {
        let endpoint = &services.endpoints.s3;
        // Servers that are not AWS have no host name for each bucket.
        let config =
            client_config!(aws_sdk_s3, services, endpoint).force_path_style(endpoint.url.is_some());
        Self { services: services.clone(), s3: aws_sdk_s3::Client::from_conf(config.build()) }
    }

    /// The keys that begin with a prefix, in their order, and how many bytes each has.
    ///
    /// # Errors
    /// The bucket may not be listed, or S3 does not answer in time.
    pub async fn list(
        &self,
        bucket: &str,
        prefix: &str,
        deadline: Timestamp,
    ) -> Result<Vec<(String, u64)>, FetchError> {
        let (mut found, mut token) = (Vec::new(), None::<String>);
        loop {
            let attempt = || {
                let request = self.s3.list_objects_v2().bucket(bucket).prefix(prefix);
                request.set_continuation_token(token.clone()).send()
            };
            let page = self.services.call("ListObjectsV2", deadline, attempt).await;
            let place = || format!("s3://{bucket}/{prefix}");
            let page = page.map_err(|source| FetchError::Call { place: place(), source })?;
            found.extend(page.contents().iter().filter_map(|object| {
                let bytes = u64::try_from(object.size().unwrap_or_default()).unwrap_or_default();
                Some((object.key()?.to_owned(), bytes))
            }));
            token = page.next_continuation_token().map(str::to_owned);
            if token.is_none() {
                return Ok(found);
            }
        }
    }

    /// Writes an object down.
    ///
    /// # Errors
    /// It is not there, may not be read, breaks off again and again, or cannot be written down.
    pub async fn save(
        &self,
        (bucket, key): (&str, &str),
        sink: &mut impl Sink,
        deadline: Timestamp,
    ) -> Result<(), ObjectError> {
        let place = || format!("s3://{bucket}/{key}");
        let attempt = || self.s3.get_object().bucket(bucket).key(key).send();
        let mut breaks = 0;
        'again: loop {
            let kept = |source| ObjectError::Kept { place: place(), source };
            let answer = self.services.call("GetObject", deadline, attempt).await;
            let answer = answer.map_err(|source| FetchError::Call { place: place(), source })?;
            let mut body = answer.body;
            sink.clear().map_err(kept)?;
            loop {
                match body.try_next().await {
                    Ok(Some(chunk)) => sink.write_all(&chunk).map_err(kept)?,
                    Ok(None) => return sink.flush().map_err(kept),
                    Err(error) if breaks == BREAKS_MAX => {
                        let source = CallError::broken_off("GetObject", &error);
                        return Err(FetchError::Call { place: place(), source }.into());
                    }
                    Err(_) => {
                        breaks += 1;
                        continue 'again;
                    }
                }
            }
        }
    }
}
