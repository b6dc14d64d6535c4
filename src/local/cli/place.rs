//! Where a command's files are, as its arguments name it: a path, or `s3://BUCKET/PREFIX`.

use super::Complaint;
use crate::local::place::Place;
#[cfg(feature = "destinations")]
use {
    super::account::Account,
    crate::{
        clock::{Clock, SystemClock},
        config,
        recovery::{
            objects::Objects,
            services::{Endpoints, Services},
        },
    },
    std::{collections::BTreeMap, sync::Arc},
};

/// Bucket and prefix of what begins with `s3://`; none of a path.
pub(super) fn in_bucket(named: &str) -> Option<(&str, &str)> {
    let named = named.strip_prefix("s3://")?;
    Some(named.split_once('/').unwrap_or((named, "")))
}

/// The directory of this path, or the folder of this bucket.
///
/// # Errors
/// There is no Region or there are no credentials, or this program was built without S3.
pub(super) async fn folder(named: &str) -> Result<Place, Complaint> {
    match in_bucket(named) {
        None => Ok(Place::Directory(named.into())),
        Some((bucket, prefix)) => {
            let prefix = prefix.trim_end_matches('/');
            let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
            of_bucket(bucket, prefix).await
        }
    }
}

#[cfg(not(feature = "destinations"))]
#[expect(clippy::unused_async, reason = "as it is with S3")]
async fn of_bucket(_: &str, _: String) -> Result<Place, Complaint> {
    Err(Complaint::new("this program was built without the feature `destinations`: it reads no S3")
        .with_hint("copy it with `aws s3 cp --recursive`, and name the directory"))
}

#[cfg(feature = "destinations")]
pub(super) async fn of_bucket(bucket: &str, prefix: String) -> Result<Place, Complaint> {
    let url = config::bucket_url(config::process_environment());
    let account = Account::for_endpoints([url.as_deref()], None).await?;
    let credentials = account.credentials().cloned();
    let endpoint = config::bucket_endpoint(account.environment(), credentials)?;
    let settings: BTreeMap<String, String> = account.environment().collect();
    let endpoints =
        Endpoints::new(&endpoint.region, &endpoint.credentials, |name| settings.get(name).cloned());
    let network = config::roots(config::process_environment())?.network();
    let seed = SystemClock.now().0.cast_unsigned();
    let services = Services::new(network, endpoints, Arc::new(SystemClock), seed);
    let (objects, bucket) = (Box::new(Objects::new(&services)), bucket.to_owned());
    Ok(Place::Bucket { objects, bucket, prefix })
}
