//! Texts without regard to case, and texts with wildcards.
//!
//! Both are linear. A text with wildcards is its pieces between the stars: the first stands at
//! the beginning, the last at the end, and each other one is taken where it first occurs behind
//! the one before, which is never wrong as the star before the next piece takes up any slack.
//! So nothing is tried twice; the search for a piece is `str::find`, which is linear too.

/// A text of which every letter may come in either case.
///
/// As `event-ruler` does: a character of the event equals one of the pattern if it is that
/// character, its lower case or its upper case. A case of several characters (ß and SS) is none.
#[derive(Debug)]
pub(super) struct AnyCase(Vec<[char; 3]>);

impl AnyCase {
    pub(super) fn new(text: &str) -> Self {
        let single = |mut cases: Box<dyn Iterator<Item = char>>, own: char| {
            let first = cases.next().unwrap_or(own);
            if cases.next().is_some() { own } else { first }
        };
        let cases = |own: char| {
            let lower = single(Box::new(own.to_lowercase()), own);
            [own, lower, single(Box::new(own.to_uppercase()), own)]
        };
        Self(text.chars().map(cases).collect())
    }

    pub(super) fn is(&self, text: &str) -> bool {
        let mut found = text.chars();
        self.0.iter().all(|cases| found.next().is_some_and(|found| cases.contains(&found)))
            && found.next().is_none()
    }

    pub(super) fn begins(&self, text: &str) -> bool {
        let mut found = text.chars();
        self.0.iter().all(|cases| found.next().is_some_and(|found| cases.contains(&found)))
    }

    pub(super) fn ends(&self, text: &str) -> bool {
        let mut found = text.chars().rev();
        self.0.iter().rev().all(|cases| found.next().is_some_and(|found| cases.contains(&found)))
    }
}

/// More stars than this are refused, whatever stands between them.
///
/// EventBridge refuses a wildcard that is "too complex" and documents no measure. The recorded
/// `*:*:*:*:*:event-bus/*`, with six, is refused. Our reading is the number of stars, as each
/// is one more place that AWS's matcher may be at; AWS may count some with fewer as too complex
/// because of what repeats behind them.
const STARS_MAX: usize = 5;

/// A text with stars that stand for any characters or none.
#[derive(Debug)]
pub(super) struct Wildcard {
    /// What stands before the first star; all of the text if there is none.
    first: String,
    /// What stands behind each star.
    others: Vec<String>,
}

impl Wildcard {
    /// Reads a text in which `\*` is a star and `\\` a backslash.
    ///
    /// # Errors
    /// Two stars stand side by side, there are too many, or a backslash stands before anything
    /// else. The error says what was found.
    pub(super) fn new(text: &str) -> Result<Self, String> {
        let mut pieces = vec![String::new()];
        let mut is_behind_star = false;
        let mut characters = text.chars().enumerate();
        while let Some((at, character)) = characters.next() {
            let is_star = character == '*';
            let piece = match character {
                '*' if is_behind_star => {
                    return Err(format!("two stars side by side at character {at}"));
                }
                '*' => {
                    pieces.push(String::new());
                    None
                }
                '\\' => {
                    let Some((_, escaped @ ('*' | '\\'))) = characters.next() else {
                        let found = "a backslash before no `*` or `\\` at character";
                        return Err(format!("{found} {}", at + 1));
                    };
                    Some(escaped)
                }
                other => Some(other),
            };
            is_behind_star = is_star;
            if let (Some(piece), Some(last)) = (piece, pieces.last_mut()) {
                last.push(piece);
            }
        }
        let stars = pieces.len() - 1;
        if stars > STARS_MAX {
            return Err(format!("too complex, with {stars} stars"));
        }
        let others = pieces.split_off(1);
        Ok(Self { first: pieces.pop().unwrap_or_default(), others })
    }

    pub(super) fn is(&self, text: &str) -> bool {
        let Some((last, middle)) = self.others.split_last() else { return text == self.first };
        let Some(rest) = text.strip_prefix(self.first.as_str()) else { return false };
        let Some(mut rest) = rest.strip_suffix(last.as_str()) else { return false };
        middle.iter().all(|piece| match rest.find(piece.as_str()) {
            Some(at) => {
                rest = &rest[at + piece.len()..];
                true
            }
            None => false,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_is_that_of_single_characters() {
        for (pattern, text, is) in [
            ("", "", true),
            ("", "a", false),
            ("EventB", "eVENTb", true),
            ("EventB", "EventBr", false),
            ("EventBr", "EventB", false),
            ("ÄÖ", "äö", true),
            ("σ", "Σ", true),
            ("straße", "STRASSE", false),
            ("straße", "STRAßE", true),
        ] {
            assert_eq!(AnyCase::new(pattern).is(text), is, "{pattern} {text}");
        }
        assert!(AnyCase::new(".PNG").ends("image.png") && !AnyCase::new(".PNG").ends("png"));
        assert!(AnyCase::new("Äb").begins("äBc") && !AnyCase::new("Äb").begins("ä"));
    }

    #[track_caller]
    fn check(pattern: &str, matching: &[&str], others: &[&str]) {
        let wildcard = Wildcard::new(pattern).unwrap();
        for text in matching {
            assert!(wildcard.is(text), "{pattern} is {text}");
        }
        for text in others {
            assert!(!wildcard.is(text), "{pattern} is not {text}");
        }
    }

    #[test]
    fn stars_take_any_characters_or_none() {
        check("", &[""], &["a"]);
        check("*", &["", "a", "🚀\n"], &[]);
        check("a*", &["a", "ab"], &["", "ba"]);
        check("*a", &["a", "ba"], &["", "ab"]);
        check("a*a", &["aa", "aba"], &["a", "ab"]);
        check("*ab*", &["ab", "xaby", "aab"], &["a", "ba", "a b"]);
        check("a*bc*d", &["abcd", "abbcbcd", "aXbcYd"], &["abd", "abc", "bcd"]);
        check("*a*ab", &["aab", "xaxab"], &["ab"]);
        check("dir/*/🚀*", &["dir//🚀", "dir/a/b/🚀x"], &["dir/🚀"]);
        check(r"a\*b\\*", &[r"a*b\", r"a*b\c"], &["aab", r"a*b"]);
    }

    #[test]
    fn what_stands_wrong_is_named() {
        for (pattern, error) in [
            ("a**b", "two stars side by side at character 2"),
            (r"a\b", r"a backslash before no `*` or `\` at character 2"),
            ("a\\", r"a backslash before no `*` or `\` at character 2"),
            ("*:*:*:*:*:event-bus/*", "too complex, with 6 stars"),
        ] {
            assert_eq!(Wildcard::new(pattern).unwrap_err(), error, "{pattern}");
        }
        assert!(Wildcard::new(r"*\**").is_ok(), "an escaped star stands beside stars");
    }

    /// Trying every way to divide the text among the stars would not end.
    #[test]
    fn a_long_text_that_almost_fits_is_passed_once() {
        let text = "a".repeat(2_000_000);
        for pattern in ["*a*a*a*a*b", "*aa*aab*aa*", "a*a*a*a*ba"] {
            assert!(!Wildcard::new(pattern).unwrap().is(&text), "{pattern}");
        }
        let piece = "a".repeat(4_000) + "b";
        let wildcard = Wildcard::new(&format!("*{piece}*{piece}*")).unwrap();
        assert!(!wildcard.is(&text));
    }
}
