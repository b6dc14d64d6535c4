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

/// The subset's own keywords, wherever they are not names.
const KEYWORDS: [(&str, Keyword); 20] = [
    ("AS", Keyword::AS),
    ("SELECT", Keyword::SELECT),
    ("FROM", Keyword::FROM),
    ("WHERE", Keyword::WHERE),
    ("GROUP", Keyword::GROUP),
    ("HAVING", Keyword::HAVING),
    ("ORDER", Keyword::ORDER),
    ("LIMIT", Keyword::LIMIT),
    ("AND", Keyword::AND),
    ("OR", Keyword::OR),
    ("NOT", Keyword::NOT),
    ("IS", Keyword::IS),
    ("NULL", Keyword::NULL),
    ("TRUE", Keyword::TRUE),
    ("FALSE", Keyword::FALSE),
    ("CASE", Keyword::CASE),
    ("CAST", Keyword::CAST),
    ("IN", Keyword::IN),
    ("BETWEEN", Keyword::BETWEEN),
    ("LIKE", Keyword::LIKE),
];

/// Keywords between CASE and its END, and ordinary names elsewhere: older views may have
/// attributes that are called so, and their canonical text must stay what it is.
const CASE_WORDS: [(&str, Keyword); 4] = [
    ("WHEN", Keyword::WHEN),
    ("THEN", Keyword::THEN),
    ("ELSE", Keyword::ELSE),
    ("END", Keyword::END),
];

/// Words of SQL that are refused wherever they are not names, and what would work instead.
const REFUSED: [(&str, &str); 18] = [
    (
        "JOIN",
        "it belongs behind FROM, as in FROM orders o LEFT JOIN customers c ON c.id = o.customer_id",
    ),
    ("OFFSET", "cut the rows where you read the view"),
    ("FETCH", "cut the rows where you read the view"),
    ("UNION", "write one view for each SELECT"),
    ("INTERSECT", "write one view for each SELECT"),
    ("EXCEPT", "write one view for each SELECT"),
    ("QUALIFY", "filter the rows where you read the view"),
    ("WINDOW", "group with GROUP BY and count, sum or avg"),
    ("DISTINCT", "list the columns in GROUP BY: each group is one row"),
    ("TRY_CAST", "write CAST; an item whose value does not fit is quarantined"),
    ("ILIKE", "write lower(x) LIKE 'a%'"),
    ("RLIKE", "write LIKE, where % is any text and _ any character"),
    ("GLOB", "write LIKE, where % is any text and _ any character"),
    ("REGEXP", "write LIKE, where % is any text and _ any character"),
    ("SIMILAR", "write LIKE, where % is any text and _ any character"),
    ("EXISTS", "test an attribute with IS NOT NULL"),
    ("COLLATE", "text compares by its UTF-8 bytes"),
    ("UNNEST", "it belongs behind FROM, as in FROM orders, unnest(lines) AS line"),
];

/// Joins that are refused, where a name may be too: right before JOIN.
const REFUSED_JOINS: [(&str, &str); 8] = [
    ("RIGHT", "write FROM the other table, with LEFT JOIN this one"),
    ("FULL", "write a view of each side; rows of both have no source item of their own"),
    ("CROSS", ONE_ITEM),
    ("NATURAL", ONE_ITEM),
    ("SEMI", ONE_ITEM),
    ("ANTI", ONE_ITEM),
    ("ASOF", ONE_ITEM),
    ("LATERAL", ONE_ITEM),
];
/// The join that there is.
pub(super) const ONE_ITEM: &str = "an item joins the one that it names: LEFT JOIN customers c \
                                   ON c.id = o.customer_id";

/// Words that are refused right behind a parenthesis and are ordinary names elsewhere.
const REFUSED_AFTER_CALL: [(&str, &str); 3] = [
    ("OVER", "group with GROUP BY and count, sum or avg"),
    ("FILTER", "write FILTER (WHERE condition)"),
    ("WITHIN", "group with GROUP BY and count, sum or avg"),
];

/// The names of aggregates: the calls in which DISTINCT has a place, if only to be refused for what
/// it is.
pub(super) const AGGREGATES: [&str; 8] =
    ["count", "sum", "avg", "min", "max", "bool_and", "bool_or", "every"];

/// Whether a name must stand in double quotes to be read as a name everywhere.
pub(in crate::view) fn is_reserved(name: &str) -> bool {
    let is = |word: &str| name.eq_ignore_ascii_case(word);
    KEYWORDS.iter().any(|(word, _)| is(word)) || REFUSED.iter().any(|(word, _)| is(word))
}

/// Whether a name is one of the words of CASE.
pub(in crate::view) fn is_case_word(name: &str) -> bool {
    CASE_WORDS.iter().any(|(word, _)| name.eq_ignore_ascii_case(word))
}

/// Checks every token of a statement and makes ordinary names of all words that are no
/// keyword of the subset where they stand.
pub(super) fn check(tokens: &mut [TokenWithSpan]) -> Result<(), SqlError> {
    if let Some(token) = tokens.get(TOKENS_MAX) {
        let problem = format!("the statement has more than {TOKENS_MAX} words and signs");
        return Err(SqlError::new(token.span.start, problem, "write several views"));
    }
    let (mut cases, mut selects) = (0_usize, 0);
    for index in 0..tokens.len() {
        let (before, rest) = tokens.split_at_mut(index);
        let Some((TokenWithSpan { token, span }, after)) = rest.split_first_mut() else { break };
        let place = Place { before, after };
        if let Some((problem, remedy)) = refuse_sign(token) {
            return Err(SqlError::new(span.start, problem, remedy));
        }
        let Token::Word(word) = token else { continue };
        if word.quote_style.is_some() {
            continue;
        }
        let behind = |sign: &Token| before.last().is_some_and(|last| last.token == *sign);
        let is = |name: &str| !behind(&Token::Period) && word.value.eq_ignore_ascii_case(name);
        let case_word = find(&CASE_WORDS, is).filter(|_| cases > 0);
        let keyword = case_word.or_else(|| find(&KEYWORDS, is)).or_else(|| place.keyword(is));
        if keyword.is_none()
            && let Some((name, remedy)) = find(&REFUSED, is)
                .or_else(|| find(&REFUSED_AFTER_CALL, is).filter(|_| behind(&Token::RParen)))
        {
            let remedy = format!("{remedy} (a column of that name goes in double quotes)");
            return Err(SqlError::new(span.start, format!("{name} is not supported"), remedy));
        }
        if let Some((name, remedy)) = find(&REFUSED_JOINS, is).filter(|_| place.is_before_join()) {
            let problem = format!("{name} JOIN is not supported");
            return Err(SqlError::new(span.start, problem, remedy));
        }
        selects += usize::from(is("SELECT"));
        if selects > 1 {
            let remedy = "make it a view of its own, and combine them where you read";
            return Err(SqlError::new(span.start, "subqueries are not supported", remedy));
        }
        let keyword = keyword.map_or(Keyword::NoKeyword, |(_, word)| word);
        match keyword {
            Keyword::CASE => cases += 1,
            Keyword::END => cases -= 1,
            _ => {}
        }
        word.keyword = keyword;
    }
    Ok(())
}

/// Where a word stands.
struct Place<'t> {
    before: &'t [TokenWithSpan],
    after: &'t [TokenWithSpan],
}

impl Place<'_> {
    /// Whether JOIN comes next, or OUTER JOIN.
    fn is_before_join(&self) -> bool {
        let is = |at: usize, name: &str| {
            matches!(self.after.get(at).map(|token| &token.token), Some(Token::Word(word))
                if word.quote_style.is_none() && word.value.eq_ignore_ascii_case(name))
        };
        is(0, "JOIN") || is(0, "OUTER") && is(1, "JOIN")
    }

    /// The words that are keywords at one place only, where no name can be.
    fn keyword(&self, is: impl Fn(&str) -> bool) -> Option<(&'static str, Keyword)> {
        let is_word = |token: Option<&TokenWithSpan>, name: &str| {
            matches!(token.map(|token| &token.token), Some(Token::Word(word))
                if word.quote_style.is_none() && word.value.eq_ignore_ascii_case(name))
        };
        let is_sign = |token: Option<&TokenWithSpan>, sign: &Token| {
            token.is_some_and(|token| token.token == *sign)
        };
        let (last, next) = (self.before.last(), self.after.first());
        let opens = is_sign(next, &Token::LParen);
        if is("DISTINCT") {
            let tested = is_word(last, "IS") || is_word(last, "NOT");
            let called = self.before.iter().rev().nth(1);
            let is_in_call = is_sign(last, &Token::LParen)
                && AGGREGATES.iter().any(|name| is_word(called, name))
                && !is_sign(next, &Token::RParen);
            let is_keyword = tested && is_word(next, "FROM") || is_in_call;
            return is_keyword.then_some(("DISTINCT", Keyword::DISTINCT));
        }
        if is("FILTER") {
            let filters = opens && is_word(self.after.get(1), "WHERE");
            return (filters && is_sign(last, &Token::RParen))
                .then_some(("FILTER", Keyword::FILTER));
        }
        if is("UNNEST") {
            let is_behind_from = self.before.iter().any(|token| is_word(Some(token), "FROM"));
            let is_keyword = opens && is_sign(last, &Token::Comma) && is_behind_from;
            return is_keyword.then_some(("UNNEST", Keyword::UNNEST));
        }
        let is_joined = |back: usize| {
            let words = self.before.iter().rev().take(back);
            words.clone().any(|token| is_word(Some(token), "JOIN"))
        };
        let is_behind_from = || self.before.iter().any(|token| is_word(Some(token), "FROM"));
        if (is("LEFT") || is("INNER") || is("OUTER")) && self.is_before_join() && is_behind_from() {
            return Some(("LEFT", Keyword::LEFT));
        }
        if is("JOIN") && is_behind_from() {
            return Some(("JOIN", Keyword::JOIN));
        }
        // JOIN, the table, AS and its alias.
        if is("ON") && is_joined(4) && !is_word(last, "JOIN") && !is_word(last, "AS") {
            return Some(("ON", Keyword::ON));
        }
        if is("EXTRACT") {
            return opens.then_some(("EXTRACT", Keyword::EXTRACT));
        }
        let behind_text =
            last.is_some_and(|last| matches!(last.token, Token::SingleQuotedString(_)));
        (is("ESCAPE") && behind_text).then_some(("ESCAPE", Keyword::ESCAPE))
    }
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
        | Token::Mod
        | Token::StringConcat
        | Token::DoubleColon
        | Token::LBracket
        | Token::RBracket
        | Token::LParen
        | Token::RParen
        | Token::Period => return None,
        Token::Div | Token::DuckIntDiv => {
            "engines disagree about it; keep sum and count (or avg) and divide where you read"
        }
        Token::DoubleEq => "write =",
        Token::Number(..) => "write digits with an optional point and exponent",
        Token::Char('“' | '”' | '‘' | '’') => "write straight quotes",
        _ => "the operators are = <> < <= > >= + - * % ||, AND, OR, NOT, IS, IN, BETWEEN and LIKE",
    };
    // Tokens of any length come here (dollar quotes, byte strings): the place is enough then.
    let shown = token.to_string();
    let shown = if shown.chars().count() > 20 { "this".to_owned() } else { format!("`{shown}`") };
    Some((format!("{shown} is not supported"), remedy))
}
