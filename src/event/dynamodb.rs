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
    members::{Members, arrival},
    value::{Text, Value},
};
use crate::record::{Change, RemoveCause, Timestamp};
use serde::Deserialize;
use std::borrow::Cow;

/// What `dynamodb` holds, values still as text.
#[derive(Debug, Default)]
pub(super) struct DynamoDbBody<'a> {
    pub(super) sequence_number: Option<Cow<'a, str>>,
    pub(super) arrival: Option<Timestamp>,
    keys: Option<&'a str>,
    new_image: Option<&'a str>,
    old_image: Option<&'a str>,
}

impl<'a> DynamoDbBody<'a> {
    pub(super) fn read(
        cursor: &mut Cursor<'a>,
        repeated: &mut Option<&'static str>,
    ) -> Result<Self, Fault> {
        let mut body = Self::default();
        let known =
            &["SequenceNumber", "ApproximateCreationDateTime", "Keys", "NewImage", "OldImage"];
        let Some(mut members) = Members::open(cursor, known)? else {
            return Ok(body);
        };
        while let Some(member) = members.next(cursor, repeated)? {
            match member {
                "SequenceNumber" => body.sequence_number = cursor.text()?,
                "ApproximateCreationDateTime" => body.arrival = arrival(cursor.raw()?),
                "Keys" => body.keys = present(cursor.raw()?),
                "NewImage" => body.new_image = present(cursor.raw()?),
                _ => body.old_image = present(cursor.raw()?),
            }
        }
        Ok(body)
    }

    pub(super) fn keys(&self) -> Result<RecordKey<'a>, DecodeError> {
        let missing = || DecodeError::new("Keys", DecodeReason::Missing);
        match read_item::<Value<'a>>(self.keys.ok_or_else(missing)?, "Keys")? {
            Value::Map(mut keys) if !keys.is_empty() => {
                keys.sort_by(|(a, _), (b, _)| a.cmp(b));
                Ok(RecordKey::Item(keys))
            }
            _ => Err(missing()),
        }
    }

    pub(super) fn change<T: Deserialize<'a>>(
        &self,
        record: &Record<'_>,
    ) -> Result<Change<T>, DecodeError> {
        let image =
            |text: Option<&'a str>, root| text.map(|text| read_item(text, root)).transpose();
        Ok(match &*record.event_name()? {
            "INSERT" => Change::Insert { new: image(self.new_image, "NewImage")? },
            "MODIFY" => Change::Modify {
                old: image(self.old_image, "OldImage")?,
                new: image(self.new_image, "NewImage")?,
            },
            "REMOVE" => Change::Remove {
                old: image(self.old_image, "OldImage")?,
                cause: remove_cause(record.user_identity)?,
            },
            _ => {
                let expected = "INSERT, MODIFY or REMOVE".to_owned();
                return Err(DecodeError::new("eventName", DecodeReason::UnknownName { expected }));
            }
        })
    }
}

fn present(text: &str) -> Option<&str> {
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
