//! A statement with its mistakes replaced, one piece after another.
//!
//! A piece is what can be exchanged without anything else changing its meaning: a column of
//! SELECT, an option, what stands between AND and OR in WHERE, a key of GROUP BY. Separate from
//! the parser because it looks at words and parentheses alone, and so works where nothing can be
//! parsed. Invariant: what replaces a piece has the piece's place, so that a mistake found there
//! is known to be of our own making. What it gives up: a statement whose clauses cannot be told
//! apart is not read on.

use super::{SqlError, is_word, nearest};
use sqlparser::{
    keywords::Keyword,
    tokenizer::{Location, Span, Token, TokenWithSpan, Word},
};
use std::ops::Range;

/// Clauses that the subset does not have and that come last.
const LAST: [&str; 10] = [
    "HAVING",
    "ORDER",
    "LIMIT",
    "OFFSET",
    "FETCH",
    "UNION",
    "INTERSECT",
    "EXCEPT",
    "QUALIFY",
    "WINDOW",
];

/// Aggregates of SQL, whether the subset has them or not.
const AGGREGATES: [&str; 13] = [
    "count",
    "sum",
    "avg",
    "min",
    "max",
    "bool_and",
    "bool_or",
    "every",
    "string_agg",
    "group_concat",
    "array_agg",
    "stddev",
    "variance",
];

/// The place of a piece, and what can stand there instead.
type Piece = (Range<usize>, Vec<Vec<Token>>);

pub(super) struct Draft {
    pub(super) tokens: Vec<TokenWithSpan>,
    /// Whether a key of GROUP BY was replaced, so that columns may miss it.
    pub(super) has_other_keys: bool,
    /// Where pieces were replaced.
    replaced: Vec<Span>,
    /// The words before the last replacement, the piece, and what else could take its place.
    last: Option<(Vec<TokenWithSpan>, Piece)>,
    names: usize,
}

impl Draft {
    pub(super) fn of(statement: &[TokenWithSpan]) -> Self {
        let tokens = statement.to_vec();
        Self { tokens, has_other_keys: false, replaced: Vec::new(), last: None, names: 0 }
    }

    /// Whether what stands there is a replacement.
    pub(super) fn is_replaced(&self, at: Location) -> bool {
        self.replaced.iter().any(|span| span.start <= at && (at < span.end || at == span.start))
    }

    /// Writes a keyword in place of a word.
    pub(super) fn spell(&mut self, index: usize, keyword: &str) {
        self.last = None;
        self.tokens[index].token = bare(keyword);
    }

    /// Puts something else in place of the piece that was replaced last.
    pub(super) fn try_another(&mut self) -> bool {
        let Some((tokens, (piece, mut others))) = self.last.take() else { return false };
        let Some(next) = others.pop() else { return false };
        self.tokens.clone_from(&tokens);
        self.splice(piece.clone(), next);
        self.last = Some((tokens, (piece, others)));
        true
    }

    /// Replaces the piece that has a mistake; false where there is none that can be.
    pub(super) fn replace(&mut self, error: &SqlError) -> bool {
        let at = Location::new(error.line, error.column);
        let ended = |token: &TokenWithSpan| token.span.end > at;
        let index = self.tokens.iter().position(ended).unwrap_or(self.tokens.len());
        let Some((piece, mut candidates)) =
            self.head(error, index).or_else(|| self.piece(error, index))
        else {
            return false;
        };
        candidates.reverse();
        let Some(first) = candidates.pop() else { return false };
        let before = self.tokens.clone();
        let span = self.span_of(&piece);
        if !piece.is_empty() || !first.is_empty() {
            self.replaced.push(span);
        }
        self.splice(piece.clone(), first);
        self.last = Some((before, (piece, candidates)));
        true
    }

    fn span_of(&self, piece: &Range<usize>) -> Span {
        let end = self.tokens.last().map_or(Location::new(1, 1), |last| last.span.end);
        let start = self.tokens.get(piece.start).map_or(end, |token| token.span.start);
        let last = self.tokens[piece.clone()].last();
        Span::new(start, last.map_or(start, |last| last.span.end))
    }

    fn splice(&mut self, piece: Range<usize>, with: Vec<Token>) {
        let span = self.span_of(&piece);
        let with = with.into_iter().map(|token| TokenWithSpan { token, span });
        drop(self.tokens.splice(piece, with));
    }

    /// What can stand at the beginning of a statement, up to SELECT.
    fn head(&mut self, error: &SqlError, index: usize) -> Option<Piece> {
        let select = self.find(0, "SELECT");
        if select.is_some_and(|select| index > select) {
            return None;
        }
        let problem = error.problem.as_str();
        let is = |at: usize, word| self.tokens.get(at).is_some_and(|token| is_word(token, word));
        if problem.starts_with("OR REPLACE") {
            return Some((index..(index + 2).min(self.tokens.len()), vec![vec![]]));
        }
        if problem.starts_with("IF NOT EXISTS") {
            return Some((index..(index + 3).min(self.tokens.len()), vec![vec![]]));
        }
        if problem.starts_with("a plain view") {
            return Some((index..index, vec![vec![bare("MATERIALIZED")]]));
        }
        if index == 3 {
            let missing = is(3, "AS") || is(3, "WITH");
            let name = self.name();
            let end = if missing { 3 } else { 4.min(self.tokens.len()) };
            return Some((3..end, vec![vec![name]]));
        }
        if problem.starts_with("expected AS") && self.sign(index, &Token::LParen) {
            return Some((index..self.close(index)? + 1, vec![vec![]]));
        }
        if problem.starts_with("expected AS") && is(index, "SELECT") {
            return Some((index..index, vec![vec![bare("AS")]]));
        }
        if problem.starts_with("expected SELECT")
            && select.is_none()
            && is(index.saturating_sub(1), "AS")
        {
            return Some((index..index, vec![vec![bare("SELECT")]]));
        }
        self.option(index)
    }

    /// The option that stands there, with one comma.
    fn option(&self, index: usize) -> Option<Piece> {
        let with = self.find(0, "WITH").filter(|with| *with < index)?;
        let open = with + 1;
        if !self.sign(open, &Token::LParen) {
            return None;
        }
        let close = self.close(open).filter(|close| index <= *close)?;
        let all = self.parts(open + 1..close, |tokens, at| tokens[at].token == Token::Comma);
        let place = all.iter().position(|one| index <= one.end)?;
        let one = all[place].clone();
        let piece = match (place, all.len()) {
            (_, 1) => with..close + 1,
            (0, _) => one.start..one.end + 1,
            _ => one.start - 1..one.end,
        };
        Some((piece, vec![vec![]]))
    }

    /// The column, source, condition or key that stands there, and what can take its place.
    fn piece(&mut self, error: &SqlError, index: usize) -> Option<Piece> {
        let end = self.tokens.len();
        let select = self.find(0, "SELECT").filter(|select| *select < index)?;
        let clauses = self.clauses(select);
        let of = |word| clauses.iter().find(|(clause, _)| *clause == word).map(|it| it.1.clone());
        let is_last = |range: &Range<usize>| {
            range.contains(&index)
                && LAST.iter().any(|word| is_word(&self.tokens[range.start - 1], word))
        };
        // A clause that there is not, from its word on.
        for (clause, range) in &clauses {
            let from_word = range.start - 1..range.end;
            if clause.is_empty() && (from_word.contains(&index) || is_last(range)) {
                return Some((from_word, vec![vec![]]));
            }
        }
        if error.problem.starts_with("expected FROM") && of("FROM").is_none() {
            let items = of("SELECT")?;
            if index == items.end || index == end {
                let name = self.name();
                return Some((items.end..items.end, vec![vec![bare("FROM"), name]]));
            }
        }
        if error.problem.starts_with("expected BY") {
            return Some((index..index, vec![vec![bare("BY")]]));
        }
        // What is missing at the end of a clause is a part of that clause.
        let is_behind = |range: &Range<usize>| range.start <= index && index <= range.end;
        let holding = clauses.iter().find(|(_, range)| range.contains(&index));
        let (clause, range) = holding
            .filter(|_| !self.begins_clause(index))
            .or_else(|| clauses.iter().find(|(_, range)| is_behind(range)))?
            .clone();
        Some(match clause {
            "SELECT" => self.column(range, index),
            "FROM" => self.source(range, index),
            "WHERE" => self.condition(range, index),
            "GROUP" => {
                self.has_other_keys = true;
                let piece = self.part(range, index, |tokens, at| tokens[at].token == Token::Comma);
                let name = self.name();
                (piece, vec![vec![name]])
            }
            _ => return None,
        })
    }

    fn column(&mut self, range: Range<usize>, index: usize) -> Piece {
        if index == range.start && self.find(index, "DISTINCT") == Some(index) {
            return (index..index + 1, vec![vec![]]);
        }
        let piece = self.part(range.clone(), index, |tokens, at| tokens[at].token == Token::Comma);
        let alias = match &self.tokens[piece.clone()] {
            [.., before, last] if is_word(before, "AS") => Some(last.token.clone()),
            _ => None,
        };
        let calls = self.tokens[range.clone()].windows(2).any(|two| {
            two[1].token == Token::LParen && AGGREGATES.iter().any(|name| is_word(&two[0], name))
        });
        let groups = self.clauses(0).into_iter().find(|(clause, _)| *clause == "GROUP");
        let columns = self.parts(range, |tokens, at| tokens[at].token == Token::Comma);
        let number = columns.iter().position(|one| *one == piece).map(|at| (at + 1).to_string());
        let is_key = groups.iter().any(|(_, keys)| {
            self.tokens[keys.clone()].iter().any(|token| match &token.token {
                Token::Number(digits, _) => Some(digits) == number.as_ref(),
                other => alias.as_ref() == Some(other),
            })
        });
        let is_grouped = (calls || groups.is_some()) && !is_key;
        let count = vec![bare("count"), Token::LParen, Token::Mul, Token::RParen];
        let attribute = vec![self.name()];
        let mut forms = vec![attribute, count];
        if is_grouped {
            forms.reverse();
        }
        let mut candidates = Vec::new();
        for alias in alias.into_iter().chain([self.name()]) {
            for form in &forms {
                candidates.push(form.iter().cloned().chain([bare("AS"), alias.clone()]).collect());
            }
        }
        (piece, candidates)
    }

    /// A source without what stands behind its name and its alias.
    fn source(&mut self, range: Range<usize>, index: usize) -> Piece {
        let name = self.name();
        let is_name = |at: usize| {
            range.contains(&at)
                && matches!(&self.tokens[at].token, Token::Word(word)
                if !word.value.is_empty() && !is_word(&self.tokens[at], "AS"))
        };
        if index == range.start || !is_name(range.start) {
            return (range, vec![vec![name]]);
        }
        let behind = range.start + 1;
        let is_as = range.contains(&behind) && is_word(&self.tokens[behind], "AS");
        let alias = behind + usize::from(is_as);
        let joins = ["LEFT", "RIGHT", "FULL", "INNER", "CROSS", "NATURAL", "JOIN"];
        let joined =
            range.contains(&alias) && joins.iter().any(|word| is_word(&self.tokens[alias], word));
        let kept = if is_name(alias) && !joined { alias + 1 } else { behind };
        if index >= kept {
            return (kept..range.end, vec![vec![]]);
        }
        (range, vec![vec![name]])
    }

    fn condition(&self, range: Range<usize>, index: usize) -> Piece {
        let piece = self.part(range, index, |tokens, at| {
            // The AND of BETWEEN joins no conditions.
            let before = tokens[..at].iter().rposition(|token| {
                is_word(token, "AND") || is_word(token, "OR") || is_word(token, "BETWEEN")
            });
            let bounds = before.is_some_and(|before| is_word(&tokens[before], "BETWEEN"));
            is_word(&tokens[at], "OR") || is_word(&tokens[at], "AND") && !bounds
        });
        (piece, vec![vec![bare("TRUE")]])
    }

    /// The part of a clause that has this word, or ends before it.
    fn part(
        &self,
        range: Range<usize>,
        index: usize,
        parts_at: impl Fn(&[TokenWithSpan], usize) -> bool,
    ) -> Range<usize> {
        let parts = self.parts(range.clone(), parts_at);
        parts.into_iter().find(|part| index <= part.end).unwrap_or(range)
    }

    /// The parts of a range between words that stand in no parentheses and in no CASE.
    fn parts(
        &self,
        range: Range<usize>,
        parts_at: impl Fn(&[TokenWithSpan], usize) -> bool,
    ) -> Vec<Range<usize>> {
        let (mut parts, mut start, mut depth) = (Vec::new(), range.start, 0_usize);
        for at in range.clone() {
            let token = &self.tokens[at];
            match token.token {
                Token::LParen | Token::LBracket => depth += 1,
                Token::RParen | Token::RBracket => depth = depth.saturating_sub(1),
                _ if is_word(token, "CASE") => depth += 1,
                _ if is_word(token, "END") => depth = depth.saturating_sub(1),
                _ if depth == 0 && parts_at(&self.tokens, at) => {
                    parts.push(start..at);
                    start = at + 1;
                }
                _ => {}
            }
        }
        parts.push(start..range.end);
        parts
    }

    /// The clauses from SELECT on, each without its first words; "" for one that there is not.
    fn clauses(&self, select: usize) -> Vec<(&'static str, Range<usize>)> {
        let mut clauses: Vec<(&'static str, Range<usize>)> = Vec::new();
        let select = self.find(select, "SELECT").unwrap_or(select);
        let mut open = ("SELECT", select + 1);
        let is_closed = self.is_closed(select);
        let mut depth = 0_usize;
        for at in select + 1..self.tokens.len() {
            match self.tokens[at].token {
                Token::LParen => depth += 1,
                Token::RParen => depth = depth.saturating_sub(1),
                _ => {}
            }
            let Some((clause, words)) = self.clause_at(at).filter(|_| depth == 0 || !is_closed)
            else {
                continue;
            };
            clauses.push((open.0, open.1..at));
            open = (clause, (at + words).min(self.tokens.len()));
        }
        clauses.push((open.0, open.1..self.tokens.len()));
        clauses
    }

    /// The clause that begins at a word, and how many words begin it.
    fn clause_at(&self, at: usize) -> Option<(&'static str, usize)> {
        let is = |at: usize, word| self.tokens.get(at).is_some_and(|token| is_word(token, word));
        let before = |word| at > 0 && is(at - 1, word);
        if at > 0 && self.sign(at - 1, &Token::Period) || before("AS") {
            return None;
        }
        // Where parentheses do not match, FROM and WHERE of these stand in none.
        if is(at, "FROM") && !before("DISTINCT") && !(at > 2 && is(at - 3, "EXTRACT")) {
            return Some(("FROM", 1));
        }
        if self.is_misspelt_from(at) && self.find(0, "FROM").is_none() {
            return Some(("FROM", 1));
        }
        if is(at, "WHERE") && !(at > 1 && is(at - 2, "FILTER")) {
            return Some(("WHERE", 1));
        }
        if is(at, "GROUP") {
            return Some(("GROUP", 1 + usize::from(is(at + 1, "BY"))));
        }
        // LIMIT belongs to the ORDER BY before it.
        let is_order = |token: &TokenWithSpan| is_word(token, "ORDER");
        if is(at, "LIMIT") && self.tokens[..at].iter().any(is_order) {
            return None;
        }
        LAST.iter().any(|word| is(at, word)).then_some(("", 1))
    }

    /// A word that is nearly FROM, between a column and a source.
    fn is_misspelt_from(&self, at: usize) -> bool {
        let word = |at: usize| match self.tokens.get(at).map(|token| &token.token) {
            Some(Token::Word(word)) => Some(word.value.as_str()),
            _ => None,
        };
        let is_short = |word: &&str| (3..=5).contains(&word.len());
        let Some(here) = word(at).filter(is_short).filter(|_| word(at + 1).is_some()) else {
            return false;
        };
        nearest(here, ["FROM"]).is_some()
    }

    fn begins_clause(&self, index: usize) -> bool {
        index < self.tokens.len() && self.clause_at(index).is_some()
    }

    /// Whether every parenthesis from there on is closed.
    fn is_closed(&self, from: usize) -> bool {
        let signs = self.tokens[from..].iter();
        signs.fold(0_i64, |depth, token| match token.token {
            Token::LParen => depth + 1,
            Token::RParen => depth - 1,
            _ => depth,
        }) == 0
    }

    fn find(&self, from: usize, word: &str) -> Option<usize> {
        (from..self.tokens.len()).find(|at| is_word(&self.tokens[*at], word))
    }

    fn sign(&self, at: usize, sign: &Token) -> bool {
        self.tokens.get(at).is_some_and(|token| token.token == *sign)
    }

    /// The parenthesis that closes this one.
    fn close(&self, open: usize) -> Option<usize> {
        let mut depth = 0_usize;
        (open..self.tokens.len()).find(|at| {
            match self.tokens[*at].token {
                Token::LParen => depth += 1,
                Token::RParen => depth = depth.saturating_sub(1),
                _ => {}
            }
            depth == 0
        })
    }

    /// A name that no statement has.
    fn name(&mut self) -> Token {
        self.names += 1;
        let value = format!("changefold-replacement-{}", self.names);
        Token::Word(Word { value, quote_style: Some('"'), keyword: Keyword::NoKeyword })
    }
}

fn bare(word: &str) -> Token {
    let value = word.to_owned();
    Token::Word(Word { value, quote_style: None, keyword: Keyword::NoKeyword })
}
