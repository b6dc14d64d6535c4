//! Which tokens the subset has, and what to say about the others.
//!
//! Separate because it is a table. A word that SQL knows and the subset does not is refused
//! at its own place, before anything is parsed; every other word that is no keyword of the
//! subset is an ordinary name, so an attribute may be called `date`, `user` or `key`.
//! A word behind a point (`order.limit`) or in double quotes is always a name.

use super::SqlError;
use sqlparser::{
    keywords::Keyword,
    tokenizer::{Token, TokenWithSpan},
};

/// The most tokens of a statement: far beyond any view, and few enough that a chain of
/// operators cannot exhaust the stack.
const TOKENS_MAX: usize = 4000;

/// The subset's own keywords that can follow or begin an expression.
const KEYWORDS: [(&str, Keyword); 12] = [
    ("AS", Keyword::AS),
    ("SELECT", Keyword::SELECT),
    ("FROM", Keyword::FROM),
    ("WHERE", Keyword::WHERE),
    ("GROUP", Keyword::GROUP),
    ("AND", Keyword::AND),
    ("OR", Keyword::OR),
    ("NOT", Keyword::NOT),
    ("IS", Keyword::IS),
    ("NULL", Keyword::NULL),
    ("TRUE", Keyword::TRUE),
    ("FALSE", Keyword::FALSE),
];

/// Words of SQL that are refused wherever they are not names, and what would work instead.
const REFUSED: [(&str, &str); 26] = [
    ("JOIN", "a view reads one source; make a view of each and join where you read"),
    ("HAVING", "filter the groups where you read the view"),
    ("ORDER", "rows print sorted by their key; sort otherwise where you read"),
    ("LIMIT", "cut the rows where you read the view"),
    ("OFFSET", "cut the rows where you read the view"),
    ("FETCH", "cut the rows where you read the view"),
    ("UNION", "write one view for each SELECT"),
    ("INTERSECT", "write one view for each SELECT"),
    ("EXCEPT", "write one view for each SELECT"),
    ("QUALIFY", "filter the rows where you read the view"),
    ("WINDOW", "group with GROUP BY and count, sum or avg"),
    ("DISTINCT", "list the columns in GROUP BY: each group is one row"),
    ("CASE", "write one view for each case, with WHERE"),
    ("CAST", "values keep the type they have in the item"),
    ("TRY_CAST", "values keep the type they have in the item"),
    ("IN", "write a = 1 OR a = 2"),
    ("BETWEEN", "write a >= 1 AND a <= 2"),
    ("LIKE", "compare whole values with ="),
    ("ILIKE", "compare whole values with ="),
    ("RLIKE", "compare whole values with ="),
    ("GLOB", "compare whole values with ="),
    ("REGEXP", "compare whole values with ="),
    ("SIMILAR", "compare whole values with ="),
    ("EXISTS", "test an attribute with IS NOT NULL"),
    ("COLLATE", "text compares by its UTF-8 bytes"),
    ("UNNEST", "lists cannot be unnested yet; use attributes outside lists"),
];

/// Words that are refused right behind a parenthesis and are ordinary names elsewhere.
const REFUSED_AFTER_CALL: [(&str, &str); 3] = [
    ("OVER", "group with GROUP BY and count, sum or avg"),
    ("FILTER", "write the condition in WHERE"),
    ("WITHIN", "group with GROUP BY and count, sum or avg"),
];

/// Whether a name must stand in double quotes to be read as a name everywhere.
pub(in crate::view) fn is_reserved(name: &str) -> bool {
    let is = |word: &str| name.eq_ignore_ascii_case(word);
    KEYWORDS.iter().any(|(word, _)| is(word)) || REFUSED.iter().any(|(word, _)| is(word))
}

/// Checks every token of a statement and makes ordinary names of all words that are no
/// keyword of the subset.
pub(super) fn check(tokens: &mut [TokenWithSpan]) -> Result<(), SqlError> {
    if let Some(token) = tokens.get(TOKENS_MAX) {
        let problem = format!("the statement has more than {TOKENS_MAX} words and signs");
        return Err(SqlError::new(token.span.start, problem, "write several views"));
    }
    let (mut after_period, mut after_call, mut selects) = (false, false, 0);
    for TokenWithSpan { token, span } in tokens {
        if let Some((problem, remedy)) = refuse_sign(token) {
            return Err(SqlError::new(span.start, problem, remedy));
        }
        if let Token::Word(word) = token
            && word.quote_style.is_none()
        {
            let is = |name: &str| !after_period && word.value.eq_ignore_ascii_case(name);
            if let Some((name, remedy)) =
                find(&REFUSED, is).or_else(|| find(&REFUSED_AFTER_CALL, is).filter(|_| after_call))
            {
                let remedy = format!("{remedy} (a column of that name goes in double quotes)");
                return Err(SqlError::new(span.start, format!("{name} is not supported"), remedy));
            }
            selects += usize::from(is("SELECT"));
            if selects > 1 {
                let remedy = "make it a view of its own, and combine them where you read";
                return Err(SqlError::new(span.start, "subqueries are not supported", remedy));
            }
            word.keyword = find(&KEYWORDS, is).map_or(Keyword::NoKeyword, |(_, word)| word);
        }
        after_period = *token == Token::Period;
        after_call = *token == Token::RParen;
    }
    Ok(())
}

fn find<T: Copy>(
    table: &[(&'static str, T)],
    is: impl Fn(&str) -> bool,
) -> Option<(&'static str, T)> {
    table.iter().find(|(word, _)| is(word)).copied()
}

/// What is wrong with a token that no place of the subset has.
fn refuse_sign(token: &Token) -> Option<(String, &'static str)> {
    let remedy = match token {
        Token::Word(_)
        | Token::Number(_, false)
        | Token::SingleQuotedString(_)
        | Token::Comma
        | Token::Eq
        | Token::Neq
        | Token::Lt
        | Token::Gt
        | Token::LtEq
        | Token::GtEq
        | Token::Plus
        | Token::Minus
        | Token::Mul
        | Token::LParen
        | Token::RParen
        | Token::Period => return None,
        Token::Div | Token::DuckIntDiv | Token::Mod => {
            "engines disagree about it; keep sum and count (or avg) and divide where you read"
        }
        Token::StringConcat => "make each part a column of its own",
        Token::DoubleEq => "write =",
        Token::DoubleColon => "values keep the type they have in the item",
        Token::LBracket | Token::RBracket => {
            "elements of lists cannot be read yet; a path has names only, such as a.b.c"
        }
        Token::Number(..) => "write digits with an optional point and exponent",
        Token::Char('“' | '”' | '‘' | '’') => "write straight quotes",
        _ => "the operators are = <> < <= > >= + - *, AND, OR, NOT and IS [NOT] NULL",
    };
    // Tokens of any length come here (dollar quotes, byte strings): the place is enough then.
    let shown = token.to_string();
    let shown = if shown.chars().count() > 20 { "this".to_owned() } else { format!("`{shown}`") };
    Some((format!("{shown} is not supported"), remedy))
}
