//! Everything that is wrong with a text, as opposed to the first thing.
//!
//! There is one parser, and it ends at the first thing that it refuses. So the smallest piece of
//! the statement that has the mistake (a column, an option, one condition of WHERE) is replaced
//! by one that is right, and the statement is read again, until it is read to its end. Separate
//! because a function that starts needs the first mistake only: it neither calls nor carries
//! this. Invariant: there is no mistake exactly where [`parse`](super::parse) takes the text.
//! What it gives up: the second mistake in one piece is told when the first is mended.

mod draft;
mod nearest;

use super::{
    SqlError, Subset, check_canonical, select::NOT_GROUPED, statement, twice, unread, words,
};
use crate::view::definition::View;
use draft::Draft;
pub use nearest::nearest;
use serde::{Serialize, Serializer};
use sqlparser::tokenizer::{Location, Token, TokenWithSpan, Tokenizer};
use std::collections::BTreeSet;

/// So many mistakes of one statement are told at most; what comes then follows from them.
const MISTAKES_MAX: usize = 50;
/// So often a statement is read again at most.
const READS_MAX: usize = 200;

/// What a text has.
#[derive(Debug, Default)]
pub struct Checked {
    /// The views of the statements that have no mistake, in the order of the text.
    pub views: Vec<Found>,
    /// What is wrong, in the order of the text.
    pub mistakes: Vec<Mistake>,
}

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// What, where it begins, and what would work.
    pub error: SqlError,
    /// Line and column behind the word that is wrong.
    pub end: (u64, u64),
}

/// A view, and the words of its statement.
#[derive(Debug)]
pub struct Found {
    /// The view.
    pub view: View,
    /// Where its name stands.
    pub name: Words,
    tokens: Vec<TokenWithSpan>,
}

/// The place of some words in a text: lines and columns, from 1, of their beginning and behind
/// their end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Words {
    /// Line and column of the beginning.
    pub start: (u64, u64),
    /// Line and column behind the end.
    pub end: (u64, u64),
}

impl Serialize for Words {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { start: (line, column), end: (end_line, end_column) } = self;
        let all = [
            ("line", line),
            ("column", column),
            ("end_line", end_line),
            ("end_column", end_column),
        ];
        serializer.collect_map(all)
    }
}

impl Words {
    fn of(token: &TokenWithSpan) -> Self {
        Self { start: pair(token.span.start), end: pair(token.span.end) }
    }
}

impl Found {
    /// Where a word stands first that is no keyword of SQL there: a part of a path.
    #[must_use]
    pub fn name_at(&self, name: &str) -> Option<Words> {
        let is_it =
            |token: &&TokenWithSpan| matches!(&token.token, Token::Word(it) if it.value == name);
        // The name of the view and its options come first, and are no part of it.
        let select = self.tokens.iter().position(|token| is_word(token, "SELECT")).unwrap_or(0);
        self.tokens[select..].iter().find(is_it).map(Words::of)
    }

    /// Where the first key of GROUP BY stands; none without it.
    #[must_use]
    pub fn group_by_at(&self) -> Option<Words> {
        let by = self
            .tokens
            .windows(2)
            .position(|two| is_word(&two[0], "GROUP") && is_word(&two[1], "BY"));
        self.tokens.get(by? + 2).map(Words::of)
    }

    /// Names in double quotes that need none, where a value is compared: `status = "PAID"`.
    #[must_use]
    pub fn quoted_names_compared(&self) -> Vec<(String, Words)> {
        let compares = [Token::Eq, Token::Neq, Token::Lt, Token::Gt, Token::LtEq, Token::GtEq];
        let pairs = self.tokens.windows(2).filter(|two| compares.contains(&two[0].token));
        let names = pairs.filter_map(|two| match &two[1].token {
            Token::Word(word) if word.quote_style.is_some() && !words::is_reserved(&word.value) => {
                Some((word.value.clone(), Words::of(&two[1])))
            }
            _ => None,
        });
        names.collect()
    }

    /// Comparisons with NULL, which are never TRUE: `coupon = NULL`.
    #[must_use]
    pub fn nulls_compared(&self) -> Vec<Words> {
        let pairs = self.tokens.windows(2);
        let nulls = pairs.filter(|two| {
            matches!(two[0].token, Token::Eq | Token::Neq) && is_word(&two[1], "NULL")
        });
        nulls.map(|two| Words::of(&two[1])).collect()
    }
}

/// Reads a text to its end: its views, and everything that is wrong with it.
///
/// # Examples
/// ```
/// let text = "CREATE MATERIALIZED VIEW n AS SELECT summ(a) AS s, a / 2 AS half FROM t;
///     CREATE MATERIALIZED VIEW m AS SELECT count(*) AS orders FROM orders";
/// let checked = changefold::view::sql::check(text);
/// let told: Vec<_> = checked.mistakes.iter().map(|it| it.error.column).collect();
/// assert_eq!(told, [38, 54]);
/// assert_eq!(checked.mistakes[0].error.remedy, "did you mean sum?");
/// assert_eq!(checked.views[0].view.name, "m");
/// ```
#[must_use]
pub fn check(text: &str) -> Checked {
    let mut checked = Checked::default();
    let mut names = BTreeSet::new();
    for statement in statements(text, &mut checked.mistakes) {
        let Some((view, named_at)) = check_statement(&statement, &mut checked.mistakes) else {
            continue;
        };
        if !names.insert(view.name.clone()) {
            checked.mistakes.push(mistake(twice(&view.name, named_at), &statement));
            continue;
        }
        let at_name = statement.iter().find(|token| token.span.start == named_at);
        let name = at_name.map_or(Words { start: pair(named_at), end: pair(named_at) }, Words::of);
        checked.views.push(Found { view, name, tokens: statement });
    }
    checked.mistakes.sort_by_key(|it| (it.error.line, it.error.column));
    checked
}

/// The statements that can be told apart, without what is between their words.
fn statements(text: &str, mistakes: &mut Vec<Mistake>) -> Vec<Vec<TokenWithSpan>> {
    let mut statements = Vec::new();
    let (mut rest, mut lines) = (text, 0);
    loop {
        let mut tokens = Vec::new();
        let ended = Tokenizer::new(&Subset, rest).tokenize_with_location_into_buf(&mut tokens);
        tokens.retain(|token| !matches!(token.token, Token::Whitespace(_)));
        for token in &mut tokens {
            token.span.start.line += lines;
            token.span.end.line += lines;
        }
        let pieces = tokens.split(|token| token.token == Token::SemiColon);
        let pieces = pieces.filter(|piece| !piece.is_empty()).map(<[TokenWithSpan]>::to_vec);
        let mut pieces: Vec<_> = pieces.flat_map(|piece| apart(piece, mistakes)).collect();
        let next = match ended {
            Ok(()) => None,
            Err(mut error) => {
                // What stands before it in its statement is not looked at: it has no end.
                if tokens.last().is_some_and(|token| token.token != Token::SemiColon) {
                    pieces.pop();
                }
                let line = error.location.line;
                error.location.line += lines;
                mistakes.push(mistake(unread(&error), &[]));
                next_view(rest, line)
            }
        };
        statements.append(&mut pieces);
        let Some((after, skipped)) = next else { return statements };
        (rest, lines) = (after, lines + skipped);
    }
}

/// The text from the next line behind this one that begins a view, and how many are before it.
fn next_view(text: &str, line: u64) -> Option<(&str, u64)> {
    let mut at = 0;
    for (number, one) in (0_u64..).zip(text.split_inclusive('\n')) {
        let begins = one.trim_start().get(..6).is_some_and(|it| it.eq_ignore_ascii_case("create"));
        if number >= line && begins {
            return Some((&text[at..], number));
        }
        at += one.len();
    }
    None
}

/// Two views without a semicolon between them.
fn apart(statement: Vec<TokenWithSpan>, mistakes: &mut Vec<Mistake>) -> Vec<Vec<TokenWithSpan>> {
    let mut views = vec![statement];
    while let Some(last) = views.last_mut() {
        let Some(at) = (1..last.len()).find(|at| begins_view(&last[*at..])) else { break };
        let next = last.split_off(at);
        let end = last[at - 1].span.end;
        let error = SqlError::new(end, "a semicolon is missing", "write ; between two views");
        mistakes.push(mistake(error, &[]));
        views.push(next);
    }
    views
}

/// Whether words begin a view. No statement that is taken has these words inside it.
fn begins_view(tokens: &[TokenWithSpan]) -> bool {
    let is = |at: usize, word| tokens.get(at).is_some_and(|token| is_word(token, word));
    let is_plain = is(1, "VIEW") && (is(3, "AS") || is(3, "WITH"));
    is(0, "CREATE") && (is(1, "MATERIALIZED") && is(2, "VIEW") || is_plain)
}

/// Reads one statement until nothing more is wrong; gives its view if nothing was.
fn check_statement(
    statement: &[TokenWithSpan],
    mistakes: &mut Vec<Mistake>,
) -> Option<(View, Location)> {
    let before = mistakes.len();
    let mut draft = Draft::of(statement);
    let mut told_at = BTreeSet::new();
    for _ in 0..READS_MAX {
        let error = match statement::read(draft.tokens.clone()) {
            Ok((view, named_at)) if mistakes.len() == before => {
                let Err(error) = check_canonical(&view, named_at) else {
                    return Some((view, named_at));
                };
                mistakes.push(mistake(error, statement));
                return None;
            }
            Ok(_) => return None,
            Err(error) => error,
        };
        let at = Location::new(error.line, error.column);
        // What follows from what was replaced is not told.
        if draft.is_replaced(at) {
            if !draft.try_another() {
                return None;
            }
            continue;
        }
        if !(draft.has_other_keys && error.problem.ends_with(NOT_GROUPED)) {
            // What was told once and is there again cannot be replaced.
            if !told_at.insert((at, error.problem.clone())) {
                return None;
            }
            let (told, keyword) = nearest::told(error.clone(), &draft.tokens);
            mistakes.push(mistake(told, statement));
            if mistakes.len() - before == MISTAKES_MAX {
                return None;
            }
            if let Some((index, keyword)) = keyword {
                draft.spell(index, keyword);
                continue;
            }
        }
        if !draft.replace(&error) {
            return None;
        }
    }
    None
}

fn mistake(error: SqlError, statement: &[TokenWithSpan]) -> Mistake {
    let start = Location::new(error.line, error.column);
    let token = statement.iter().find(|token| token.span.start == start);
    let end = token.map_or((error.line, error.column + 1), |token| pair(token.span.end));
    Mistake { error, end }
}

fn pair(at: Location) -> (u64, u64) {
    (at.line, at.column)
}

fn is_word(token: &TokenWithSpan, word: &str) -> bool {
    statement::is_word(&token.token, word)
}
