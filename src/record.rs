//! What a record is called and where it stands, in the words of the two services.
//!
//! Everything here is a plain value without IO. The types borrow from the payload where
//! they can, so that reading a batch does not copy it.

use std::{borrow::Cow, cmp::Ordering, fmt};

/// The most digits a Kinesis sequence number may have.
///
/// Source: the pattern of `SequenceNumber` in the Kinesis API reference, `0|([1-9]\d{0,128})`.
pub const SEQUENCE_NUMBER_DIGITS_MAX: usize = 129;

/// Position of a record within its shard.
///
/// Text of 1 to 129 decimal digits, compared as a number and never parsed into one: within
/// one DynamoDB shard the length varies. Equality is numeric too (`007` equals `7`), while
/// [`as_str`](Self::as_str) and `Display` give back exactly what was received, because
/// Lambda only accepts its own text as an item identifier.
///
/// # Examples
/// ```
/// use changefold::record::SequenceNumber;
/// let earlier = SequenceNumber::new("9700001729061958505432")?;
/// let later = SequenceNumber::new("11900001787531427260892")?;
/// assert!(earlier < later);
/// assert!(SequenceNumber::new("").is_err());
/// # Ok::<(), changefold::record::SequenceNumberError>(())
/// ```
#[derive(Debug, Clone)]
pub struct SequenceNumber<'a>(Cow<'a, str>);

impl<'a> SequenceNumber<'a> {
    /// Checks and wraps the text of a sequence number.
    ///
    /// # Errors
    /// The text is empty, longer than 129 characters, or has a character that is not a digit.
    pub fn new(text: impl Into<Cow<'a, str>>) -> Result<Self, SequenceNumberError> {
        let text = text.into();
        if text.is_empty() {
            return Err(SequenceNumberError::Empty);
        }
        if text.len() > SEQUENCE_NUMBER_DIGITS_MAX {
            return Err(SequenceNumberError::TooLong { digits: text.len() });
        }
        // All are looked at, whatever is found: so they are looked at side by side.
        if !text.bytes().fold(true, |all, byte| all & byte.is_ascii_digit()) {
            return Err(SequenceNumberError::NotDecimal);
        }
        Ok(Self(text))
    }

    /// The text as it was received.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A copy that no longer borrows from the payload.
    #[must_use]
    pub fn into_owned(self) -> SequenceNumber<'static> {
        SequenceNumber(Cow::Owned(self.0.into_owned()))
    }

    /// A text whose byte order is the numeric order, at any length: three digits of length,
    /// a colon, the digits without leading zeros.
    #[must_use]
    pub fn sortable(&self) -> String {
        let digits = self.significant();
        format!("{:03}:{digits}", digits.len())
    }

    fn significant(&self) -> &str {
        if !self.0.starts_with('0') {
            return &self.0;
        }
        let digits = self.0.trim_start_matches('0');
        if digits.is_empty() { "0" } else { digits }
    }
}

impl Ord for SequenceNumber<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        let (a, b) = (self.significant(), other.significant());
        a.len().cmp(&b.len()).then_with(|| a.cmp(b))
    }
}

impl PartialOrd for SequenceNumber<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for SequenceNumber<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.significant() == other.significant()
    }
}

impl Eq for SequenceNumber<'_> {}

impl fmt::Display for SequenceNumber<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a text is not a sequence number.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SequenceNumberError {
    /// Nothing between the quotes.
    #[error("the sequence number is empty")]
    Empty,
    /// More digits than Kinesis allows.
    #[error("the sequence number has {digits} digits, more than 129")]
    TooLong {
        /// How many characters were found.
        digits: usize,
    },
    /// A character outside `0` to `9`.
    #[error("the sequence number is not a decimal number")]
    NotDecimal,
}

/// Which service a record comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// A change of a DynamoDB item (`eventSource` is `aws:dynamodb`).
    DynamoDb,
    /// A record of a Kinesis data stream (`eventSource` is `aws:kinesis`).
    Kinesis,
    /// A message of an SQS queue (`eventSource` is `aws:sqs`).
    Sqs,
}

impl Source {
    /// Whether Lambda is told of each record by itself, as of a queue's messages. A stream is
    /// only told one position, and everything from there on comes again.
    #[must_use]
    pub fn is_queue(self) -> bool {
        match self {
            Self::DynamoDb | Self::Kinesis => false,
            Self::Sqs => true,
        }
    }
}

/// A moment, in milliseconds since the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(pub i64);

/// What happened to an item, with its images where the stream carries them.
///
/// An image is `None` when the stream's view type leaves it out; an image that is there and
/// empty is `Some` of whatever your type makes of an empty map. A Kinesis record is an
/// `Insert` of its data, a queue's message one of its body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change<T> {
    /// The item is new.
    Insert {
        /// The item as it is now.
        new: Option<T>,
    },
    /// The item was there before.
    Modify {
        /// The item as it was.
        old: Option<T>,
        /// The item as it is now.
        new: Option<T>,
    },
    /// The item is gone.
    Remove {
        /// The item as it was.
        old: Option<T>,
        /// Who removed it.
        cause: RemoveCause,
    },
}

impl<T> Change<T> {
    /// The item after the change, if there is one and the stream carries it.
    pub fn new_image(&self) -> Option<&T> {
        match self {
            Self::Insert { new } | Self::Modify { new, .. } => new.as_ref(),
            Self::Remove { .. } => None,
        }
    }

    /// The item before the change, if there was one and the stream carries it.
    pub fn old_image(&self) -> Option<&T> {
        match self {
            Self::Modify { old, .. } | Self::Remove { old, .. } => old.as_ref(),
            Self::Insert { .. } => None,
        }
    }
}

/// Who removed an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RemoveCause {
    /// DynamoDB itself, because the item's time to live had passed (`userIdentity` names the
    /// service principal `dynamodb.amazonaws.com`).
    Ttl,
    /// A request of the table's users.
    User,
}

#[cfg(test)]
mod tests {
    use super::*;
    use bigdecimal::BigDecimal;
    use proptest::prelude::*;
    use std::str::FromStr;

    #[track_caller]
    fn check(text: &str, expected: Option<&SequenceNumberError>) {
        assert_eq!(SequenceNumber::new(text).err().as_ref(), expected, "{text}");
    }

    #[test]
    fn a_sequence_number_is_decimal_text_up_to_129_digits() {
        check("0", None);
        check("007", None);
        check(&"9".repeat(129), None);
        check("", Some(&SequenceNumberError::Empty));
        check(&"9".repeat(130), Some(&SequenceNumberError::TooLong { digits: 130 }));
        for text in ["-1", "+1", " 1", "1.0", "1e3", "0x1", "٣", "latest"] {
            check(text, Some(&SequenceNumberError::NotDecimal));
        }
    }

    #[test]
    fn leading_zeros_count_for_nothing_but_are_kept() {
        let (padded, plain) = (SequenceNumber::new("007"), SequenceNumber::new("7"));
        assert_eq!(padded, plain);
        assert_eq!(padded.map(|number| number.to_string()), Ok("007".to_owned()));
        assert_eq!(SequenceNumber::new("000").map(|zero| zero.sortable()), Ok("001:0".to_owned()));
    }

    fn digits() -> impl Strategy<Value = String> {
        prop_oneof!["[0-9]{1,129}", "0{0,3}[0-9]{1,3}", "1[0-9]{20,23}"]
    }

    proptest! {
        #[test]
        fn order_and_equality_are_those_of_the_numbers(a in digits(), b in digits()) {
            let big = |text: &str| BigDecimal::from_str(text).unwrap();
            let expected = big(&a).cmp(&big(&b));
            let a = SequenceNumber::new(a).unwrap();
            let b = SequenceNumber::new(b).unwrap();
            prop_assert_eq!(a.cmp(&b), expected);
            prop_assert_eq!(a == b, expected == Ordering::Equal);
            prop_assert_eq!(a.sortable().cmp(&b.sortable()), expected);
        }
    }

    #[test]
    fn a_change_has_the_images_of_its_kind() {
        let modify = Change::Modify { old: Some(1), new: Some(2) };
        assert_eq!((modify.old_image(), modify.new_image()), (Some(&1), Some(&2)));
        let remove = Change::Remove { old: Some(1), cause: RemoveCause::User };
        assert_eq!((remove.old_image(), remove.new_image()), (Some(&1), None));
        let insert = Change::Insert { new: Some(2) };
        assert_eq!((insert.old_image(), insert.new_image()), (None, Some(&2)));
    }
}
