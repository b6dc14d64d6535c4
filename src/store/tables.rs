//! Whole tables: what one is like, a page of a segment of it, one item of it.
//!
//! Beside the rows of our own tables (`store/rows.rs`), because a table that views are computed
//! from belongs to somebody else: its keys are of any type, and its capacity is not ours to use
//! up. So a page that is throttled is not asked for again here; the caller gives way first.
//! What it gives up: projections. A page is paid for by the size of whole items anyway.

use super::{Item, Store, StoreError, Tries, Trouble};
use crate::record::Timestamp;
use aws_sdk_dynamodb::{
    config::{
        ConfigBag, Intercept, RuntimeComponents,
        interceptors::BeforeDeserializationInterceptorContextRef,
    },
    error::BoxError,
    types::{KeyType as KeyPart, ReturnConsumedCapacity, ScalarAttributeType, StreamViewType},
};
use aws_smithy_types::date_time::{DateTime, Format};
use std::sync::{Arc, Mutex, PoisonError};

/// What `DescribeTable` says of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Described {
    /// The table's ARN.
    pub(crate) arn: String,
    /// Its id: a table that was deleted and made again has another one.
    pub(crate) id: Option<String>,
    /// Names of the key attributes, the partition key first.
    pub(crate) keys: Vec<String>,
    /// The types of these, in the same order.
    pub(crate) key_types: Vec<KeyType>,
    /// Items, as DynamoDB counts them about every six hours.
    pub(crate) items: u64,
    /// Their bytes, counted as rarely.
    pub(crate) bytes: u64,
    /// Whether there is a stream, and whether it has the new images.
    pub(crate) stream: TableStream,
}

/// The types that a key attribute may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum KeyType {
    /// Text.
    Text,
    /// A number.
    Number,
    /// Bytes.
    Bytes,
}

/// The stream of a table, as far as views are concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TableStream {
    /// There is none, or it is disabled.
    None,
    /// Its records do not say what an item is now.
    WithoutNewImage,
    /// Its records have the new images.
    WithNewImage,
}

/// Which page of a table is read.
#[derive(Debug, Clone)]
pub(crate) struct PageOf<'t> {
    /// The table, by name or ARN.
    pub(crate) table: &'t str,
    /// Which segment, from 0.
    pub(crate) segment: u32,
    /// Of how many.
    pub(crate) segments: u32,
    /// Behind which key to go on; `None` at the beginning.
    pub(crate) after: Option<Item>,
    /// At most so many items.
    pub(crate) limit: u32,
    /// Whether everything that was written before has to be in it, for twice the price.
    pub(crate) is_consistent: bool,
}

/// A page of a segment.
#[derive(Debug)]
pub(crate) struct SegmentPage {
    /// Its items.
    pub(crate) items: Vec<Item>,
    /// Behind which key the next page begins; `None` at the end of the segment.
    pub(crate) next: Option<Item>,
    /// What the page has cost, in read units.
    pub(crate) read_units: f64,
    /// When it was read, as [`Store::get_dated`] tells it.
    pub(crate) read: Timestamp,
}

impl Store {
    /// Says what a table is like; none if there is no such table.
    ///
    /// # Errors
    /// The store refuses, or stays unavailable until the deadline's reserve.
    pub(crate) async fn describe(
        &self,
        table: &str,
        deadline: Timestamp,
    ) -> Result<Option<Described>, StoreError> {
        const OPERATION: &str = "DescribeTable";
        let mut tries = Tries::new(deadline);
        let found = loop {
            let sent = self.client.describe_table().table_name(table).send().await;
            match self.answered(OPERATION, sent) {
                Ok(output) => break output.table,
                Err(error) if error.code == "ResourceNotFoundException" => return Ok(None),
                Err(error) => self.pause(&mut tries, error).await?,
            }
        };
        let incomplete =
            || self.rejected(OPERATION, "the answer has no ARN, or no key that can be read");
        let found = found.ok_or_else(incomplete)?;
        let mut keys: Vec<_> = found.key_schema().iter().collect();
        keys.sort_by_key(|key| key.key_type() != &KeyPart::Hash);
        let keys: Vec<String> = keys.iter().map(|key| key.attribute_name().to_owned()).collect();
        let type_of = |name: &String| {
            let mut attributes = found.attribute_definitions().iter();
            let attribute = attributes.find(|attribute| attribute.attribute_name() == name)?;
            Some(match attribute.attribute_type() {
                ScalarAttributeType::S => KeyType::Text,
                ScalarAttributeType::N => KeyType::Number,
                ScalarAttributeType::B => KeyType::Bytes,
                _ => return None,
            })
        };
        let key_types: Option<Vec<KeyType>> = keys.iter().map(type_of).collect();
        let key_types = key_types.ok_or_else(incomplete)?;
        let stream = found.stream_specification().filter(|stream| stream.stream_enabled());
        let stream = match stream.map(|stream| stream.stream_view_type()) {
            None => TableStream::None,
            Some(Some(StreamViewType::NewImage | StreamViewType::NewAndOldImages)) => {
                TableStream::WithNewImage
            }
            Some(_) => TableStream::WithoutNewImage,
        };
        Ok(Some(Described {
            arn: found.table_arn().filter(|_| !keys.is_empty()).ok_or_else(incomplete)?.to_owned(),
            id: found.table_id().map(str::to_owned),
            keys,
            key_types,
            items: found.item_count().unwrap_or_default().try_into().unwrap_or_default(),
            bytes: found.table_size_bytes().unwrap_or_default().try_into().unwrap_or_default(),
            stream,
        }))
    }

    /// Reads one page of a segment.
    ///
    /// # Errors
    /// [`Trouble::Throttled`] at once. Else as [`describe`](Self::describe).
    pub(crate) async fn scan_segment(
        &self,
        page: &PageOf<'_>,
        deadline: Timestamp,
    ) -> Result<SegmentPage, StoreError> {
        let mut tries = Tries::new(deadline);
        let whole = |number: u32| i32::try_from(number).unwrap_or(i32::MAX);
        loop {
            let dated = Dated::default();
            let asked = self.clock().now();
            let sent = self
                .client
                .scan()
                .table_name(page.table)
                .segment(whole(page.segment))
                .total_segments(whole(page.segments))
                .limit(whole(page.limit))
                .set_exclusive_start_key(page.after.clone())
                .consistent_read(page.is_consistent)
                .return_consumed_capacity(ReturnConsumedCapacity::Total)
                .customize()
                .interceptor(dated.clone())
                .send()
                .await;
            match self.answered("Scan", sent) {
                Ok(output) => {
                    let consumed = output.consumed_capacity().map(std::slice::from_ref);
                    let consumed = consumed.unwrap_or_default();
                    self.count_read(consumed);
                    let read_units = super::units(consumed);
                    let next = output.last_evaluated_key;
                    let items = output.items.unwrap_or_default();
                    let read = dated.moment().unwrap_or(asked);
                    return Ok(SegmentPage { items, next, read_units, read });
                }
                Err(error) if error.trouble == Trouble::Throttled => return Err(error),
                Err(error) => self.pause(&mut tries, error).await?,
            }
        }
    }

    /// Reads one item, consistently, and tells when that was by the store's own clock: AWS
    /// dates its answers. A store that does not is believed to have our time.
    ///
    /// # Errors
    /// As [`describe`](Self::describe).
    pub(crate) async fn get_dated(
        &self,
        table: &str,
        key: Item,
        deadline: Timestamp,
    ) -> Result<(Option<Item>, Timestamp), StoreError> {
        let mut tries = Tries::new(deadline);
        loop {
            let dated = Dated::default();
            let asked = self.clock().now();
            let sent = self
                .client
                .get_item()
                .table_name(table)
                .set_key(Some(key.clone()))
                .consistent_read(true)
                .return_consumed_capacity(ReturnConsumedCapacity::Total)
                .customize()
                .interceptor(dated.clone())
                .send()
                .await;
            match self.answered("GetItem", sent) {
                Ok(output) => {
                    self.count_read(
                        output.consumed_capacity().map(std::slice::from_ref).unwrap_or_default(),
                    );
                    return Ok((output.item, dated.moment().unwrap_or(asked)));
                }
                Err(error) => self.pause(&mut tries, error).await?,
            }
        }
    }
}

/// Reads the header `Date` of an answer.
#[derive(Debug, Clone, Default)]
pub(super) struct Dated(Arc<Mutex<Option<Timestamp>>>);

impl Dated {
    pub(super) fn moment(&self) -> Option<Timestamp> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Intercept for Dated {
    fn name(&self) -> &'static str {
        "Dated"
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let date = context.response().headers().get("date");
        let moment = date.and_then(|date| DateTime::from_str(date, Format::HttpDate).ok());
        let moment = moment.and_then(|moment| moment.to_millis().ok()).map(Timestamp);
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = moment;
        Ok(())
    }
}
