//! The SQL of views: a closed subset, compiled to definitions.
//!
//! ```sql
//! CREATE MATERIALIZED VIEW name [WITH (key = path, decimal = '28,9', retention_hours = 24)]
//! AS SELECT … FROM source [[AS] alias] [, unnest(list) AS element] [WHERE …] [GROUP BY …]
//! [HAVING …] [ORDER BY … LIMIT n]
//! ```
//!
//! The `sqlparser` crate reads tokens and expressions; the statement around them is read
//! here, so that every refusal has the place of the very word it refuses. Invariants: what is
//! not in the subset is refused, never ignored; any text gives an answer, however deep or
//! long. What it gives up: everything SQL's engines disagree about, and with it chained
//! comparisons, division and implicit names of computed columns.
//!
//! A word of the newer expressions is a keyword at its own place only, such as WHEN between
//! CASE and END. Elsewhere it is a name, as it was: a stored view is known by its text.
//!
//! How names are found: an unquoted or quoted name is taken exactly as it is spelled. In a
//! path of two parts or more, a first part equal to the alias of FROM (or, without an alias,
//! to its name) is a qualifier. A path whose first part is the name of the elements leads into
//! an element. WHERE and SELECT name attributes only. A single name in GROUP
//! BY is the attribute of that name if the statement uses one elsewhere; else the SELECT
//! column with that alias, if there is one; else an attribute. That is `SQLite`'s rule for a
//! table that has exactly the columns the statement names.

mod check;
mod expression;
mod select;
mod statement;
mod words;

use crate::view::definition::View;
use sqlparser::{
    ast::{CastKind, DateTimeField, Expr, ExtractSyntax},
    dialect::Dialect,
    keywords::Keyword,
    parser::{Parser, ParserError},
    tokenizer::{Location, Token, Tokenizer, TokenizerError},
};
use std::collections::BTreeSet;

pub use check::{Checked, Found, Mistake, Words, check, nearest};
pub(super) use words::{is_case_word, is_reserved};

/// Why a text defines no view, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {problem}: {remedy}")]
#[non_exhaustive]
pub struct SqlError {
    /// Line of the text, from 1.
    pub line: u64,
    /// Character of the line, from 1.
    pub column: u64,
    /// What is wrong there.
    pub problem: String,
    /// What would work.
    pub remedy: String,
}

impl SqlError {
    fn new(at: Location, problem: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { line: at.line, column: at.column, problem: problem.into(), remedy: remedy.into() }
    }
}

/// The shape of every statement, as the remedy where nothing nearer is known.
const FORM: &str = "a view is CREATE MATERIALIZED VIEW name [WITH (…)] AS SELECT … FROM source \
                    [, unnest(list) AS element] [LEFT JOIN table ON table.key = attribute] \
                    [WHERE …] [GROUP BY …] [HAVING …] [ORDER BY … LIMIT n]";

/// Reads the views of a text; statements are separated by semicolons.
///
/// A text without statements gives no views.
///
/// # Errors
/// The first thing outside the subset, or two views of one name.
///
/// # Examples
/// ```
/// let text = "CREATE MATERIALIZED VIEW n AS SELECT count(*) AS orders FROM orders";
/// let views = changefold::view::sql::parse(text)?;
/// assert_eq!(views[0].columns(), ["orders"]);
/// let error = changefold::view::sql::parse("DROP VIEW n").unwrap_err();
/// assert_eq!((error.line, error.column), (1, 1));
/// # Ok::<(), changefold::view::sql::SqlError>(())
/// ```
pub fn parse(text: &str) -> Result<Vec<View>, SqlError> {
    let views = read(text)?;
    let mut parsed = Vec::with_capacity(views.len());
    for (view, named_at) in views {
        check_canonical(&view, named_at)?;
        parsed.push(view);
    }
    Ok(parsed)
}

/// What is stored of a view is its canonical text, which can be deeper and longer. What earlier
/// releases took is taken as it was.
fn check_canonical(view: &View, named_at: Location) -> Result<(), SqlError> {
    if !view.has_newer_expressions() {
        return Ok(());
    }
    let remedy = "write several views, or call the columns otherwise";
    let again = read(&view.to_string()).map_err(|error| {
        let problem = format!("the view's canonical text is refused: {}", error.problem);
        SqlError::new(named_at, problem, remedy)
    })?;
    if !again.iter().map(|(again, _)| again).eq([view]) {
        let problem = "the view's canonical text is that of another view";
        return Err(SqlError::new(named_at, problem, remedy));
    }
    Ok(())
}

/// Reads the views of a text; with each comes the place of its name.
fn read(text: &str) -> Result<Vec<(View, Location)>, SqlError> {
    let tokens = Tokenizer::new(&Subset, text).tokenize_with_location();
    let tokens = tokens.map_err(|error| unread(&error))?;
    let mut views = Vec::new();
    let mut names = BTreeSet::new();
    for statement in tokens.split(|token| token.token == Token::SemiColon) {
        let statement: Vec<_> = statement
            .iter()
            .filter(|token| !matches!(token.token, Token::Whitespace(_)))
            .cloned()
            .collect();
        if statement.is_empty() {
            continue;
        }
        let (view, named_at) = statement::read(statement)?;
        if !names.insert(view.name.clone()) {
            return Err(twice(&view.name, named_at));
        }
        views.push((view, named_at));
    }
    Ok(views)
}

/// What is no word and no sign.
fn unread(error: &TokenizerError) -> SqlError {
    let remedy = "text stands in 'single quotes', a name in \"double quotes\"";
    SqlError::new(error.location, lower_first(&error.message), remedy)
}

fn twice(name: &str, named_at: Location) -> SqlError {
    let problem = format!("view {name} is defined twice");
    SqlError::new(named_at, problem, "give one of them another name")
}

/// The tokenizer's rules: names of letters, digits and `_`, or in double quotes.
#[derive(Debug)]
struct Subset;

impl Dialect for Subset {
    fn is_identifier_start(&self, character: char) -> bool {
        character.is_alphabetic() || character == '_'
    }

    fn is_identifier_part(&self, character: char) -> bool {
        character.is_alphanumeric() || character == '_'
    }

    fn is_delimited_identifier_start(&self, character: char) -> bool {
        character == '"'
    }

    fn supports_filter_during_aggregation(&self) -> bool {
        true
    }

    /// Only the subset's own keywords reach the parser as keywords; most cannot begin an
    /// expression, and none is a name there.
    fn parse_prefix(&self, parser: &mut Parser<'_>) -> Option<Result<Expr, ParserError>> {
        let next = parser.peek_token();
        let Token::Word(word) = &next.token else { return None };
        match word.keyword {
            Keyword::NoKeyword | Keyword::NOT | Keyword::NULL | Keyword::TRUE | Keyword::FALSE => {
                None
            }
            // Read here, because the parser would take them for names where they break.
            Keyword::CASE => {
                parser.next_token();
                Some(parser.parse_case_expr())
            }
            Keyword::CAST => {
                parser.next_token();
                Some(parser.parse_cast_expr(CastKind::Cast))
            }
            Keyword::EXTRACT => {
                parser.next_token();
                Some(read_extract(parser))
            }
            _ => Some(parser.expected("an expression", next)),
        }
    }
}

/// `(field FROM value)`. The fields are ordinary words, so that attributes can be called so.
fn read_extract(parser: &mut Parser<'_>) -> Result<Expr, ParserError> {
    parser.expect_token(&Token::LParen)?;
    let field = DateTimeField::Custom(parser.parse_identifier()?);
    parser.expect_keyword(Keyword::FROM)?;
    let expr = Box::new(parser.parse_expr()?);
    parser.expect_token(&Token::RParen)?;
    Ok(Expr::Extract { field, syntax: ExtractSyntax::From, expr })
}

fn lower_first(message: &str) -> String {
    let mut characters = message.chars();
    match characters.next() {
        Some(first) => first.to_lowercase().chain(characters).collect(),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests;
