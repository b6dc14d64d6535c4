//! What a person is told of a live stream: why it cannot be read, and what happened on the way.

use crate::recovery::services::CallError;
use std::fmt;

/// A live stream cannot be read. Each says what is of help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LiveError {
    /// There is no such table or stream, or not any more.
    #[error(
        "{what} {name} is not there{}; create it, or name another Region or endpoint",
        .place.as_deref().map(|place| format!(" ({place})")).unwrap_or_default()
    )]
    Missing {
        /// `table` or `stream`.
        what: &'static str,
        /// Its name or ARN.
        name: String,
        /// Where it was looked for.
        place: Option<String>,
    },
    /// The table writes no stream.
    #[error(
        "table {0} has no stream; turn it on: `aws dynamodb update-table --table-name {0} \
         --stream-specification StreamEnabled=true,StreamViewType=NEW_AND_OLD_IMAGES`"
    )]
    NoStream(String),
    /// The table's stream has no new images, which views are made of.
    #[error(
        "the stream of table {table} has no new images ({view_type}), and views are made of \
         them; AWS changes it only by turning the stream off and on again with \
         StreamViewType=NEW_AND_OLD_IMAGES"
    )]
    NoImages {
        /// The table.
        table: String,
        /// `KEYS_ONLY` or `OLD_IMAGE`.
        view_type: String,
    },
    /// The service refused, or could not be reached.
    #[error("{place}: {}", Told(error))]
    Call {
        /// What was asked, and where.
        place: String,
        /// What the service said.
        error: CallError,
    },
    /// What reads has failed by itself.
    #[error("{place}: the reading has broken off, by a fault of changefold; please report it")]
    BrokenOff {
        /// Stream and shard.
        place: String,
    },
    /// The stream was deleted and made anew, and its positions begin again.
    #[error(
        "{place}: the stream was deleted and made anew, and its record {sequence_number} has a \
         lower position than what was read before; start again, and the new stream is read from \
         its oldest record"
    )]
    MadeAnew {
        /// Stream and shard.
        place: String,
        /// The record's position.
        sequence_number: String,
    },
    /// A record that cannot be delivered as Lambda would.
    #[error("{place}, record {sequence_number}: {what}; it blocks its shard until it can be read")]
    Unreadable {
        /// Stream and shard.
        place: String,
        /// The record's position.
        sequence_number: String,
        /// What is wrong with it.
        what: String,
    },
}

/// Something happened that a person may want to know; the reading goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// A shard is read from now on.
    Begun {
        /// Its name.
        shard_id: String,
    },
    /// A shard was read to its end, and every record of it is finished.
    Finished {
        /// Its name.
        shard_id: String,
    },
    /// Records behind the checkpoint are not there any more; it goes on with the oldest.
    Trimmed {
        /// The shard.
        shard_id: String,
        /// The position behind which they are missing.
        after: String,
    },
    /// The stream does not know the position: it was made anew under its old name.
    UnknownPosition {
        /// The shard.
        shard_id: String,
        /// The position.
        after: String,
    },
    /// A call failed; it is made again.
    Trouble {
        /// What was asked, and where.
        place: String,
        /// What the service said.
        error: CallError,
    },
    /// A record cannot be delivered, and nothing behind it in its shard; it is read again.
    Blocked {
        /// Which one, and why.
        error: LiveError,
    },
    /// Calls succeed again.
    Recovered {
        /// What was asked, and where.
        place: String,
    },
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Begun { shard_id } => write!(f, "shard {shard_id} begins"),
            Self::Finished { shard_id } => write!(f, "shard {shard_id} is finished"),
            Self::Trimmed { shard_id, after } => write!(
                f,
                "warning: shard {shard_id}: the stream has trimmed records behind {after}, they \
                 are lost to this mapping; it goes on with the oldest that is there"
            ),
            Self::UnknownPosition { shard_id, after } => write!(
                f,
                "warning: shard {shard_id}: the stream does not know the checkpoint {after}, so \
                 it was made anew; it is read from its oldest record"
            ),
            Self::Trouble { place, error } => {
                write!(f, "{place}: {}; it is tried again", Told(error))
            }
            Self::Blocked { error } => write!(f, "{error}"),
            Self::Recovered { place } => write!(f, "{place}: it goes on"),
        }
    }
}

/// A failed call, with what is of help.
struct Told<'a>(&'a CallError);

impl fmt::Display for Told<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let CallError { operation, code, message, .. } = self.0;
        write!(f, "{operation}: {code}")?;
        if !message.is_empty() {
            write!(f, ": {message}")?;
        }
        match remedy(code) {
            Some(remedy) => write!(f, "; {remedy}"),
            None => Ok(()),
        }
    }
}

/// What helps against an error of a service, by its code.
fn remedy(code: &str) -> Option<&'static str> {
    Some(match code {
        "NotReachable" | "NoAnswerInTime" => "is the endpoint up, and is its URL right?",
        "ExpiredToken" | "ExpiredTokenException" | "RequestExpired" => {
            "the credentials have expired: `aws sso login`, or new ones in the environment"
        }
        "UnrecognizedClientException"
        | "InvalidSignatureException"
        | "InvalidClientTokenId"
        | "IncompleteSignature"
        | "MissingAuthenticationToken"
        | "RequestNotSent" => "are these the right credentials? AWS_PROFILE chooses a profile",
        "AccessDeniedException" | "AccessDenied" => {
            "reading needs DescribeTable, DescribeStream, GetShardIterator and GetRecords, of \
             Kinesis DescribeStreamSummary, ListShards, GetShardIterator and GetRecords"
        }
        _ => return None,
    })
}
