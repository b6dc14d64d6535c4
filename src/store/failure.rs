//! What a failed call to DynamoDB means.
//!
//! One table for everybody who calls the store: whether something may have been written, and
//! whether asking again can help. A conflict is not a duplicate, and a lost answer is not a
//! failure.

/// Why a call to the store did not succeed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{operation} at {endpoint}: {code}: {message}")]
pub struct StoreError {
    /// The API operation.
    pub operation: &'static str,
    /// Where it was sent: a Region or a URL.
    pub endpoint: String,
    /// What may be done about it.
    pub trouble: Trouble,
    /// DynamoDB's own error code, or ours where no answer came.
    pub code: String,
    /// DynamoDB's message.
    pub message: String,
}

/// What a failed call means for the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// A condition of the request did not hold: nothing was written, look again.
    Guard,
    /// Another transaction holds an item: nothing was written. Not a duplicate.
    Conflict,
    /// Too many requests: nothing was written.
    Throttled,
    /// No answer, or a server error: it may have been written. Look again.
    Unknown,
    /// The request is wrong or not allowed; sending it again does not help.
    Rejected,
}

/// Codes of the DynamoDB developer guide, "Error handling with DynamoDB".
pub(super) fn trouble_of(code: Option<&str>, status: u16) -> Trouble {
    match code {
        Some("ConditionalCheckFailedException") => Trouble::Guard,
        Some("TransactionConflictException" | "TransactionInProgressException") => {
            Trouble::Conflict
        }
        Some(
            "ProvisionedThroughputExceededException"
            | "ThrottlingException"
            | "RequestLimitExceeded"
            | "LimitExceededException",
        ) => Trouble::Throttled,
        _ if status >= 500 => Trouble::Unknown,
        _ => Trouble::Rejected,
    }
}

/// One reason per item of the transaction. A wrong request outweighs all; a failed condition
/// outweighs a conflict, because sending the same again cannot make it hold.
pub(super) fn trouble_of_cancellation<'a>(codes: impl Iterator<Item = &'a str>) -> Trouble {
    let mut trouble = Trouble::Unknown;
    for code in codes {
        let this = match code {
            "None" => continue,
            "ConditionalCheckFailed" => Trouble::Guard,
            "TransactionConflict" => Trouble::Conflict,
            "ThrottlingError" | "ProvisionedThroughputExceeded" => Trouble::Throttled,
            _ => Trouble::Rejected,
        };
        let rank = |trouble| match trouble {
            Trouble::Unknown => 0,
            Trouble::Throttled => 1,
            Trouble::Conflict => 2,
            Trouble::Guard => 3,
            Trouble::Rejected => 4,
        };
        if rank(this) > rank(trouble) {
            trouble = this;
        }
    }
    trouble
}
