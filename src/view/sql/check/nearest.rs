//! What a newcomer can do about a mistake: the word that was meant, the parenthesis that is open.
//!
//! Separate because it knows the statement and the parser does not: the parser says what is
//! wrong at one word, and here the words around it are looked at. What it gives up: it guesses.

use super::SqlError;
use crate::view::sql::{FORM, expression::function_names, words::AGGREGATES};
use sqlparser::tokenizer::{Location, Token, TokenWithSpan};

/// Words that end what is before them, and may be misspelt.
const CLAUSES: [&str; 4] = ["FROM", "WHERE", "GROUP", "AND"];
const HEAD: [&str; 3] = ["CREATE", "MATERIALIZED", "VIEW"];

/// The mistake as it is told, and the word that was meant where that can be said: its index and
/// the keyword.
pub(super) fn told(
    mut error: SqlError,
    tokens: &[TokenWithSpan],
) -> (SqlError, Option<(usize, &'static str)>) {
    let at = Location::new(error.line, error.column);
    let index = tokens.iter().position(|token| token.span.start == at).unwrap_or(tokens.len());
    if let Some((index, keyword)) = misspelt(&error, tokens, index) {
        let token = &tokens[index];
        (error.line, error.column) = (token.span.start.line, token.span.start.column);
        error.problem = format!("expected {keyword}, found `{}`", token.token);
        error.remedy = format!("did you mean {keyword}?");
        return (error, Some((index, keyword)));
    }
    if let Some(name) = function_of(&error) {
        if let Some(meant) = nearest(&name, function_names().chain(AGGREGATES)) {
            error.remedy = format!("did you mean {meant}?");
        }
    } else if error.remedy == FORM
        && let Some(remedy) = of_syntax(&error.problem, tokens, index)
    {
        error.remedy = remedy;
    }
    (error, None)
}

/// The keyword that was meant, at the word that is refused or at the one before it: the parser
/// takes a misspelt keyword for an alias.
fn misspelt(
    error: &SqlError,
    tokens: &[TokenWithSpan],
    index: usize,
) -> Option<(usize, &'static str)> {
    let bare = |index: usize| match &tokens.get(index)?.token {
        Token::Word(word) if word.quote_style.is_none() => Some(word.value.as_str()),
        _ => None,
    };
    if error.problem == "this is no view" {
        let keyword = HEAD.get(index).copied()?;
        return nearest(bare(index)?, [keyword]).map(|keyword| (index, keyword));
    }
    if let Some(rest) = error.problem.strip_prefix("expected ") {
        let expected = rest.split(',').next().unwrap_or_default();
        let known = CLAUSES.into_iter().chain(HEAD).chain(["SELECT", "BY", "AS"]);
        let expected = known.into_iter().find(|word| *word == expected);
        if let (Some(expected), Some(word)) = (expected, bare(index))
            && let Some(keyword) = nearest(word, [expected])
        {
            return Some((index, keyword));
        }
    }
    let is_out_of_place = error.problem.ends_with("has no place here")
        || error.problem.starts_with("expected FROM, found `");
    if !is_out_of_place {
        return None;
    }
    let here = bare(index).and_then(|word| nearest(word, CLAUSES)).map(|it| (index, it));
    here.or_else(|| {
        let before = index.checked_sub(1)?;
        nearest(bare(before)?, CLAUSES).map(|keyword| (before, keyword))
    })
}

/// The name of the function that there is not.
fn function_of(error: &SqlError) -> Option<String> {
    let rest = error.problem.strip_prefix("function ")?;
    rest.strip_suffix(" is not supported").map(str::to_owned)
}

/// What helps where the grammar has something else.
fn of_syntax(problem: &str, tokens: &[TokenWithSpan], index: usize) -> Option<String> {
    if problem.starts_with("expected )") {
        let open = open_parenthesis(&tokens[..index])?;
        let Location { line, column } = open;
        return Some(format!("close the parenthesis of line {line}, column {column}"));
    }
    if problem.starts_with("`)` has no place") {
        return Some("take it away: no parenthesis is open here".to_owned());
    }
    if problem.starts_with("expected an expression") {
        let before = index.checked_sub(1).and_then(|before| tokens.get(before));
        return Some(match before.map(|token| &token.token) {
            Some(Token::Comma) => "take the comma before it away, or write a column".to_owned(),
            _ => "write an attribute, a literal or a function here".to_owned(),
        });
    }
    if problem.starts_with("expected BY") {
        return Some("write GROUP BY and the keys".to_owned());
    }
    if problem.starts_with("expected FROM, found the end") {
        return Some("write FROM and the name of the table or stream".to_owned());
    }
    if problem.starts_with("expected FROM, found `(`") {
        let name = index.checked_sub(1).and_then(|before| tokens.get(before))?;
        let Token::Word(word) = &name.token else { return None };
        let meant = nearest(&word.value, function_names().chain(AGGREGATES))?;
        return Some(format!("did you mean {meant}?"));
    }
    None
}

/// The last parenthesis that is not closed.
fn open_parenthesis(tokens: &[TokenWithSpan]) -> Option<Location> {
    let mut open = Vec::new();
    for token in tokens {
        match token.token {
            Token::LParen => open.push(token.span.start),
            Token::RParen => drop(open.pop()),
            _ => {}
        }
    }
    open.pop()
}

/// The word that was meant, if one of those that are known is at most two letters away (one, of
/// short words); none if the word is known itself.
#[must_use]
pub fn nearest<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    let length = word.chars().count();
    if !(2..=20).contains(&length) {
        return None;
    }
    let far = if length <= 4 { 1 } else { 2 };
    let known = known.into_iter().map(|known| (distance(word, known), known));
    let (distance, meant) = known.min_by_key(|(distance, _)| *distance)?;
    (distance <= far && !word.eq_ignore_ascii_case(meant)).then_some(meant)
}

/// How many letters are to be put in, taken out, exchanged or swapped with their neighbour.
fn distance(one: &str, other: &str) -> usize {
    let letters = |text: &str| text.chars().map(|it| it.to_ascii_lowercase()).collect::<Vec<_>>();
    let (one, other) = (letters(one), letters(other));
    let mut rows: Vec<Vec<usize>> = vec![(0..=other.len()).collect()];
    for (i, a) in one.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, b) in other.iter().enumerate() {
            let mut least =
                (rows[i][j] + usize::from(a != b)).min(row[j] + 1).min(rows[i][j + 1] + 1);
            if i > 0 && j > 0 && *a == other[j - 1] && one[i - 1] == *b {
                least = least.min(rows[i - 1][j - 1] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[one.len()][other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::sql::parse;

    #[test]
    fn the_word_that_was_meant_is_near() {
        for (word, meant) in [
            ("FORM", Some("FROM")),
            ("WERE", Some("WHERE")),
            ("GRUOP", Some("GROUP")),
            ("from", None),
            ("o", None),
            ("orders", None),
        ] {
            assert_eq!(nearest(word, CLAUSES), meant, "{word}");
        }
        assert_eq!(nearest("cuont", function_names().chain(AGGREGATES)), Some("count"));
        assert_eq!(nearest("lowwer", function_names().chain(AGGREGATES)), Some("lower"));
        assert_eq!(nearest("bool_an", function_names().chain(AGGREGATES)), Some("bool_and"));
    }

    #[test]
    fn aggregates_that_are_offered_are_there() {
        for name in AGGREGATES {
            let argument =
                if matches!(name, "bool_and" | "bool_or" | "every") { "a > 1" } else { "a" };
            let text =
                format!("CREATE MATERIALIZED VIEW v AS SELECT {name}({argument}) AS n FROM t");
            assert!(parse(&text).is_ok(), "{name}");
        }
    }
}
