//! Where AWS does not say what it does: which reading of it a mapping follows.
//!
//! Separate from the parameters because AWS has no such setting. The defaults are those of
//! `docs/fidelity.md`; the others are there to see what would follow if AWS did otherwise.

use super::Millis;

/// The first wait before the same item is called again. AWS documents none; recorded gaps
/// are 186 to 267 ms, then 392 ms.
const BACKOFF_FIRST: Millis = 200;

/// The longest such wait. AWS's is unknown; a minute keeps a blocked lane observable.
const BACKOFF_MAX: Millis = 60_000;

/// No wait can be said to be longer: a week.
const WAIT_MAX: Millis = 604_800_000;

/// The names of all readings of the mapping.
pub const READINGS: [&str; 7] = [
    "on_failure",
    "foreign_identifiers",
    "empty_elements",
    "batching_window",
    "shard_end",
    "backoff_first_ms",
    "backoff_max_ms",
];

/// One choice for each question that AWS leaves open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Readings {
    /// `on_failure`: what becomes of neighbours that one batch has given up.
    pub on_failure: Neighbours,
    /// `foreign_identifiers`: an identifier that is not in the batch, beside one that is.
    pub foreign_identifiers: Claim,
    /// `empty_elements`: an element `{}` of `batchItemFailures`.
    pub empty_elements: Claim,
    /// `batching_window`: what the batching window counts from.
    pub batching_window: WindowStart,
    /// `shard_end`: whether the end of a shard waits for the batching window.
    pub shard_end: ShardEnd,
    /// `backoff_first_ms`: the first wait before the same records are called again.
    pub backoff_first: Millis,
    /// `backoff_max_ms`: the longest such wait; it doubles up to there.
    pub backoff_max: Millis,
}

/// What becomes of neighbours that one batch has given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Neighbours {
    /// Each piece has an on-failure record of its own.
    Single,
    /// Neighbours that ended alike have one together, with the count and the request id of the
    /// last.
    Joined,
}

/// How a claim that cannot be true is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// It fails the whole batch.
    Fails,
    /// It is as if it were not there.
    Ignored,
}

/// What the batching window counts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WindowStart {
    /// The end of the call before, as recorded of streams.
    LastCall,
    /// The arrival of the batch's first record, as documented of Kafka.
    FirstRecord,
}

/// When a shard that has ended sends a part of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShardEnd {
    /// At once.
    AtOnce,
    /// When its batching window is over.
    Waits,
}

/// Why a reading was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReadingError {
    /// There is no such question.
    #[error("unknown reading `{name}`; there are {known}")]
    Unknown {
        /// The name as given.
        name: String,
        /// The names that there are.
        known: String,
    },
    /// There is no such answer.
    #[error("reading `{name}` is `{found}`, expected {expected}")]
    Invalid {
        /// The name.
        name: String,
        /// The value as given.
        found: String,
        /// What would work.
        expected: String,
    },
}

impl Default for Readings {
    fn default() -> Self {
        Self {
            on_failure: Neighbours::Single,
            foreign_identifiers: Claim::Fails,
            empty_elements: Claim::Fails,
            batching_window: WindowStart::LastCall,
            shard_end: ShardEnd::AtOnce,
            backoff_first: BACKOFF_FIRST,
            backoff_max: BACKOFF_MAX,
        }
    }
}

impl Readings {
    /// Chooses one reading by its name.
    ///
    /// # Errors
    /// There is no such name, or no such reading of it.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), ReadingError> {
        const CLAIMS: [(&str, Claim); 2] = [("fail", Claim::Fails), ("ignored", Claim::Ignored)];
        match name {
            "on_failure" => {
                let all = [("single", Neighbours::Single), ("joined", Neighbours::Joined)];
                self.on_failure = one_of(name, value, &all)?;
            }
            "foreign_identifiers" => self.foreign_identifiers = one_of(name, value, &CLAIMS)?,
            "empty_elements" => self.empty_elements = one_of(name, value, &CLAIMS)?,
            "batching_window" => {
                let all = [
                    ("last_call", WindowStart::LastCall),
                    ("first_record", WindowStart::FirstRecord),
                ];
                self.batching_window = one_of(name, value, &all)?;
            }
            "shard_end" => {
                let all = [("at_once", ShardEnd::AtOnce), ("waits", ShardEnd::Waits)];
                self.shard_end = one_of(name, value, &all)?;
            }
            "backoff_first_ms" => self.backoff_first = wait(name, value)?,
            "backoff_max_ms" => self.backoff_max = wait(name, value)?,
            _ => {
                let (name, known) = (name.to_owned(), READINGS.join(", "));
                return Err(ReadingError::Unknown { name, known });
            }
        }
        Ok(())
    }

    /// The wait before the same item is called again, after so many tries. No jitter: a run can be
    /// repeated.
    pub(super) fn backoff(&self, tries: u32) -> Millis {
        let doublings = tries.saturating_sub(1).min(16);
        (self.backoff_first << doublings).min(self.backoff_max)
    }
}

/// The one of these that is named.
///
/// # Errors
/// None is.
pub fn one_of<T: Copy>(name: &str, value: &str, all: &[(&str, T)]) -> Result<T, ReadingError> {
    let found = all.iter().find(|(word, _)| *word == value).map(|(_, found)| *found);
    found.ok_or_else(|| {
        let words: Vec<&str> = all.iter().map(|(word, _)| *word).collect();
        let (name, found) = (name.to_owned(), value.to_owned());
        ReadingError::Invalid { name, found, expected: words.join(" or ") }
    })
}

/// A wait is never nothing: the same call at the same moment would come without end.
fn wait(name: &str, value: &str) -> Result<Millis, ReadingError> {
    let wait = value.parse().ok().filter(|wait| (1..=WAIT_MAX).contains(wait));
    wait.ok_or_else(|| ReadingError::Invalid {
        name: name.to_owned(),
        found: value.to_owned(),
        expected: format!("milliseconds from 1 to {WAIT_MAX}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    // R16
    #[test]
    fn backoff_doubles_up_to_a_minute() {
        let readings = Readings::default();
        let waits: Vec<Millis> = (1..=4).map(|tries| readings.backoff(tries)).collect();
        assert_eq!(waits, [200, 400, 800, 1600]);
        assert_eq!(readings.backoff(9), 51_200);
        assert_eq!(readings.backoff(10), BACKOFF_MAX);
        assert_eq!(readings.backoff(u32::MAX), BACKOFF_MAX);
        let longest = Readings { backoff_first: WAIT_MAX, ..readings };
        assert_eq!(longest.backoff(u32::MAX), BACKOFF_MAX);
    }

    #[test]
    fn every_name_is_taken_and_no_other_word_of_it() {
        for name in READINGS {
            let error = Readings::default().set(name, "perhaps").unwrap_err();
            assert!(matches!(error, ReadingError::Invalid { .. }), "{error}");
        }
        let error = Readings::default().set("on_success", "single").unwrap_err();
        assert!(error.to_string().starts_with("unknown reading `on_success`; there are on_fail"));
        let error = Readings::default().set("on_failure", "both").unwrap_err();
        assert_eq!(error.to_string(), "reading `on_failure` is `both`, expected single or joined");
        assert!(Readings::default().set("backoff_max_ms", "0").is_err());
    }
}
