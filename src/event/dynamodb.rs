//! The body of a DynamoDB Streams record: the member `dynamodb`, and who removed an item.
//!
//! Keys and images stay text until asked for. An image that is absent or `null` is none; an
//! empty object is an image. Member names and meaning: AWS Lambda developer guide,
//! "Using AWS Lambda with Amazon DynamoDB"; time-to-live removals: DynamoDB developer guide,
//! "DynamoDB Streams and Time to Live".

use super::{
    Record, RecordKey,
    attribute::read_item,
    document::read_document,
    error::{DecodeError, DecodeReason},
    json::{Cursor, Fault},
    members::{Members, arrival, known_members},
    record_key::{PlainKey, PlainKeys},
    value::{Text, Value},
};
use crate::record::{Change, RemoveCause, Timestamp};
use serde::Deserialize;
use std::borrow::Cow;

known_members!(Member {
    Arrival = "ApproximateCreationDateTime",
    Keys = "Keys",
    NewImage = "NewImage",
    OldImage = "OldImage",
    SequenceNumber = "SequenceNumber",
} passes "SizeBytes" "StreamViewType");

/// What `dynamodb` holds, values still as text.
#[derive(Debug, Default)]
pub(super) struct DynamoDbBody<'a> {
    pub(super) sequence_number: Option<Cow<'a, str>>,
    arrival: Option<&'a str>,
    keys: Option<&'a str>,
    new_image: Option<&'a str>,
    old_image: Option<&'a str>,
}

impl<'a> DynamoDbBody<'a> {
    pub(super) fn read(
        &mut self,
        cursor: &mut Cursor<'a>,
        repeated: &mut Option<&'static str>,
    ) -> Result<(), Fault> {
        let Some(mut members) = Members::<Member>::open(cursor)? else {
            return Ok(());
        };
        while let Some(member) = members.next(cursor, repeated)? {
            match member {
                Member::Arrival => self.arrival = Some(cursor.raw()?),
                Member::Keys => self.keys = present(cursor.raw()?),
                Member::NewImage => self.new_image = present(cursor.raw()?),
                Member::OldImage => self.old_image = present(cursor.raw()?),
                Member::SequenceNumber => self.sequence_number = cursor.text()?,
            }
        }
        Ok(())
    }

    /// What comes through a data stream, which says the rest otherwise.
    pub(super) fn of(
        keys: &'a str,
        new_image: Option<&'a str>,
        old_image: Option<&'a str>,
    ) -> Self {
        Self { keys: Some(keys), new_image, old_image, ..Self::default() }
    }

    pub(super) fn new_image_text(&self) -> Option<&'a str> {
        self.new_image
    }

    pub(super) fn arrival(&self) -> Option<Timestamp> {
        arrival(self.arrival?)
    }

    pub(super) fn keys_text(&self) -> Option<&'a str> {
        self.keys
    }

    pub(super) fn keys(&self) -> Result<RecordKey<'a>, DecodeError> {
        let missing = || DecodeError::new("Keys", DecodeReason::Missing);
        let text = self.keys.ok_or_else(missing)?;
        if let Some(keys) = plain_keys(text) {
            return Ok(RecordKey::Item(keys));
        }
        match read_item::<Value<'a>>(text, "Keys")? {
            Value::Map(mut keys) if !keys.is_empty() => {
                keys.sort_by(|(a, _), (b, _)| a.cmp(b));
                Ok(RecordKey::Item(keys))
            }
            _ => Err(missing()),
        }
    }

    #[inline]
    pub(super) fn change<T: Deserialize<'a>>(
        &self,
        record: &Record<'_>,
    ) -> Result<Change<T>, DecodeError> {
        #[inline(always)]
        fn image<'a, T: Deserialize<'a>>(
            text: Option<&'a str>,
            root: &'static str,
        ) -> Result<Option<T>, DecodeError> {
            match text {
                Some(text) => Ok(Some(read_item(text, root)?)),
                None => Ok(None),
            }
        }
        match &*record.event_name()? {
            "INSERT" => Ok(Change::Insert { new: image(self.new_image, "NewImage")? }),
            "MODIFY" => Ok(Change::Modify {
                old: image(self.old_image, "OldImage")?,
                new: image(self.new_image, "NewImage")?,
            }),
            "REMOVE" => Ok(Change::Remove {
                old: image(self.old_image, "OldImage")?,
                cause: remove_cause(record.user_identity)?,
            }),
            _ => {
                let expected = "INSERT, MODIFY or REMOVE".to_owned();
                Err(DecodeError::new("eventName", DecodeReason::UnknownName { expected }))
            }
        }
    }
}

/// One or two key attributes that are written plainly, as nearly all are, sorted by name.
fn plain_keys(text: &str) -> Option<Vec<(Cow<'_, str>, Value<'_>)>> {
    let mut attributes = PlainKeys::of(text)?;
    let mut keys = Vec::with_capacity(2);
    while let Some((name, value)) = attributes.next() {
        let value = match value {
            PlainKey::Text(text) => Value::Text(Cow::Borrowed(text)),
            PlainKey::Number(digits) => Value::Number(Cow::Borrowed(digits)),
        };
        keys.push((Cow::Borrowed(name), value));
    }
    let is_whole = attributes.is_at_end();
    match &mut *keys {
        [_] if is_whole => Some(keys),
        [(a, _), (b, _)] if is_whole && a != b => {
            if a > b {
                keys.swap(0, 1);
            }
            Some(keys)
        }
        _ => None,
    }
}

/// An image that is `null` is none.
pub(super) fn present(text: &str) -> Option<&str> {
    (text != "null").then_some(text)
}

#[derive(Deserialize)]
struct UserIdentity<'a> {
    #[serde(borrow, rename = "type")]
    kind: Option<Text<'a>>,
    #[serde(borrow, rename = "principalId")]
    principal: Option<Text<'a>>,
}

fn remove_cause(user_identity: Option<&str>) -> Result<RemoveCause, DecodeError> {
    let identity = match user_identity {
        Some(text) => read_document::<Option<UserIdentity<'_>>>(text, "userIdentity")?,
        None => None,
    };
    let is = |text: &Option<Text<'_>>, word| text.as_ref().is_some_and(|Text(text)| text == word);
    let ttl = identity.is_some_and(|identity| {
        is(&identity.kind, "Service") && is(&identity.principal, "dynamodb.amazonaws.com")
    });
    Ok(if ttl { RemoveCause::Ttl } else { RemoveCause::User })
}
