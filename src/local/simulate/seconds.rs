//! Virtual time as cases write it: seconds, to the millisecond.

use crate::local::mapping::Millis;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// No moment of a case is further from its beginning: thirty years.
const SECONDS_MAX: f64 = 1e9;

/// A moment of a case, in milliseconds since its beginning; before it, it is negative.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seconds(pub(super) i64);

/// A length of time or a moment that is not before the beginning, in milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::local) struct Since(pub(super) Millis);

impl<'de> Deserialize<'de> for Seconds {
    #[expect(clippy::cast_possible_truncation, reason = "the range was checked")]
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let seconds = f64::deserialize(deserializer)?;
        if !(-SECONDS_MAX..=SECONDS_MAX).contains(&seconds) {
            return Err(D::Error::custom("a moment is in seconds, thirty years at most"));
        }
        Ok(Self((seconds * 1_000.0).round() as i64))
    }
}

impl<'de> Deserialize<'de> for Since {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Seconds(millis) = Seconds::deserialize(deserializer)?;
        let since = Millis::try_from(millis);
        since.map(Self).map_err(|_| D::Error::custom("a time in seconds that is not negative"))
    }
}

impl Serialize for Since {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(millis) = self;
        if millis.is_multiple_of(1_000) {
            return serializer.serialize_u64(millis / 1_000);
        }
        #[expect(clippy::cast_precision_loss, reason = "no run is so long")]
        serializer.serialize_f64(*millis as f64 / 1_000.0)
    }
}

/// Milliseconds as seconds in words.
pub(super) fn millis(millis: i64) -> String {
    let (sign, millis) = (if millis < 0 { "-" } else { "" }, millis.unsigned_abs());
    match (millis / 1_000, millis % 1_000) {
        (seconds, 0) => format!("{sign}{seconds}"),
        (seconds, rest) => format!("{sign}{seconds}.{rest:03}"),
    }
}
