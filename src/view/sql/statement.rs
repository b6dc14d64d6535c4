//! The statement around the expressions: names, and the order of the clauses.
//!
//! Separate from the expressions because it knows no types: it cuts the statement into
//! pieces, each with its place, and hands them on.

mod last;
mod options;

use super::{
    FORM, SqlError, Subset,
    expression::{Scope, without_parentheses},
    lower_first,
    select::{self, Item, Piece},
    words,
};
use crate::view::definition::{
    Expression, Join, RETENTION_HOURS_DEFAULT, Shape, Type, Unnest, View,
};
use options::Options;
use sqlparser::{
    ast::{BinaryOperator, Expr},
    keywords::Keyword,
    parser::{Parser, ParserError},
    tokenizer::{Location, Token, TokenWithSpan},
};

/// The longest view name: with a prefix it stays within the 255 characters of a table name.
///
/// Source: `DynamoDB` developer guide, "Naming rules".
const NAME_BYTES_MAX: usize = 200;

/// Reads one statement, which has at least one token; also says where the view's name stands.
pub(super) fn read(mut tokens: Vec<TokenWithSpan>) -> Result<(View, Location), SqlError> {
    let end = tokens.last().map_or(Location::new(1, 1), |last| last.span.end);
    read_head(&tokens, end)?;
    words::check(&mut tokens)?;
    let parser = Parser::new(&Subset).with_tokens_with_locations(tokens);
    let mut reader = Reader { parser, end };
    for word in ["CREATE", "MATERIALIZED", "VIEW"] {
        reader.expect_word(word)?;
    }
    let (name, named_at) = reader.name("the view")?;
    check_view_name(&name, named_at)?;
    let mut options = Options::default();
    if reader.accept_word("WITH") {
        options.read(&mut reader)?;
    }
    reader.expect_word("AS")?;
    let selected_at = reader.at();
    let items = reader.select_list()?;
    reader.expect_word("FROM")?;
    let (from, _) = reader.name("the table or stream")?;
    let qualifier = reader.source_alias()?.unwrap_or_else(|| from.clone());
    let mut scope = Scope {
        qualifier,
        element: None,
        list: None,
        joined: None,
        having: None,
        aliased: Vec::new(),
        references: Vec::new(),
    };
    let unnest = reader.unnest(&mut scope, &from)?;
    let join = reader.join(&mut scope, &from)?;
    if items.is_empty() && join.is_some() {
        let remedy = "name the columns of both";
        return Err(SqlError::new(selected_at, "SELECT * of a join is not supported", remedy));
    }
    let filter = if reader.accept_word("WHERE") { Some(reader.expression()?) } else { None };
    let groups = reader.group_by()?;
    let last = reader.last_clauses()?;
    reader.finish()?;
    let (filter, mut shape) = select::compile(&scope, items, filter, (groups, last))?;
    if let Some((hours, at)) = options.retain {
        select::retain(&mut shape, hours, at)?;
    }
    if let Some((stripes, at)) = options.stripes {
        select::stripes(&mut shape, stripes, at)?;
    }
    if let (Some((_, at)), Shape::Rows(_)) = (&unnest, &shape) {
        let remedy = "write GROUP BY or aggregates; rows of single elements are not supported";
        return Err(SqlError::new(
            *at,
            "elements of a list are neither grouped nor counted",
            remedy,
        ));
    }
    let view = View {
        name,
        from,
        key: options.key,
        unnest: unnest.map(|(unnest, _)| unnest),
        join,
        retention_hours: options.retention_hours.unwrap_or(RETENTION_HOURS_DEFAULT),
        decimal: options.decimal.unwrap_or_default(),
        filter,
        shape,
    };
    Ok((view, named_at))
}

/// Refuses another statement at its first differing word, before looking at the rest of it.
fn read_head(tokens: &[TokenWithSpan], end: Location) -> Result<(), SqlError> {
    for (index, expected) in ["CREATE", "MATERIALIZED", "VIEW"].into_iter().enumerate() {
        let token = tokens.get(index);
        if token.is_some_and(|token| is_word(&token.token, expected)) {
            continue;
        }
        let at = token.map_or(end, |token| token.span.start);
        let found = |word| token.is_some_and(|token| is_word(&token.token, word));
        let (problem, remedy) = if found("OR") {
            ("OR REPLACE is not supported", "a changed definition is another view: rename it")
        } else if found("VIEW") {
            ("a plain view is not supported", "write CREATE MATERIALIZED VIEW")
        } else {
            ("this is no view", FORM)
        };
        return Err(SqlError::new(at, problem, remedy));
    }
    match tokens.get(3..5) {
        Some([first, second]) if is_word(&first.token, "IF") && is_word(&second.token, "NOT") => {
            let remedy = "write the name; a view that exists already is kept";
            Err(SqlError::new(first.span.start, "IF NOT EXISTS is not supported", remedy))
        }
        _ => Ok(()),
    }
}

fn check_view_name(name: &str, at: Location) -> Result<(), SqlError> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    if name.len() <= NAME_BYTES_MAX && name.bytes().all(fits) {
        return Ok(());
    }
    let remedy = "its table is named after it: up to 200 letters, digits, `_`, `-` and `.`";
    Err(SqlError::new(at, "the view's name cannot name a table", remedy))
}

pub(super) fn is_word(token: &Token, word: &str) -> bool {
    matches!(token, Token::Word(found)
        if found.quote_style.is_none() && found.value.eq_ignore_ascii_case(word))
}

/// The tokens of one statement, read from left to right.
struct Reader<'a> {
    parser: Parser<'a>,
    /// Where the statement ends: the place of whatever is missing there.
    end: Location,
}

impl Reader<'_> {
    fn at(&self) -> Location {
        let token = self.parser.peek_token();
        if token.token == Token::EOF { self.end } else { token.span.start }
    }

    fn next_is(&self, word: &str) -> bool {
        is_word(&self.parser.peek_token().token, word)
    }

    fn accept_word(&mut self, word: &str) -> bool {
        let found = self.next_is(word);
        if found {
            self.parser.next_token();
        }
        found
    }

    fn expect_word(&mut self, word: &str) -> Result<(), SqlError> {
        if self.accept_word(word) { Ok(()) } else { Err(self.unexpected(word)) }
    }

    fn expect_sign(&mut self, sign: &Token) -> Result<(), SqlError> {
        if self.parser.consume_token(sign) {
            Ok(())
        } else {
            Err(self.unexpected(&format!("`{sign}`")))
        }
    }

    /// The next token is not what the grammar has here.
    fn unexpected(&self, expected: &str) -> SqlError {
        SqlError::new(self.at(), format!("expected {expected}, found {}", self.found()), FORM)
    }

    fn found(&self) -> String {
        match self.parser.peek_token().token {
            Token::EOF => "the end of the statement".to_owned(),
            Token::SingleQuotedString(_) => "a text".to_owned(),
            token => format!("`{token}`"),
        }
    }

    /// One name; `of` says whose.
    fn name(&mut self, of: &str) -> Result<(String, Location), SqlError> {
        let at = self.at();
        let name = match self.parser.peek_token().token {
            Token::Word(word) if word.keyword == Keyword::NoKeyword => word.value,
            Token::Word(word) => {
                let remedy = "write it in double quotes if it is one";
                let problem = format!("expected the name of {of}, found {}", word.value);
                return Err(SqlError::new(at, problem, remedy));
            }
            _ => return Err(self.unexpected(&format!("the name of {of}"))),
        };
        self.parser.next_token();
        if name.is_empty() {
            return Err(SqlError::new(at, format!("the name of {of} is empty"), FORM));
        }
        if self.parser.peek_token().token == Token::Period {
            let remedy = "write it in double quotes if the point belongs to it";
            let problem = format!("the name of {of} has one part only");
            return Err(SqlError::new(self.at(), problem, remedy));
        }
        Ok((name, at))
    }

    fn expression(&mut self) -> Result<Piece, SqlError> {
        let at = self.at();
        match self.parser.parse_expr() {
            Ok(expression) => Ok(Piece { at, expression }),
            Err(error) => Err(self.syntax_error(&error)),
        }
    }

    /// The parser writes the place into its message.
    fn syntax_error(&self, error: &ParserError) -> SqlError {
        let message = match error {
            ParserError::RecursionLimitExceeded => {
                let remedy = "take parentheses away, or write several views";
                return SqlError::new(self.at(), "nested too deeply", remedy);
            }
            ParserError::TokenizerError(message) | ParserError::ParserError(message) => message,
        };
        let placed = message.rsplit_once(" at Line: ").and_then(|(message, place)| {
            let (line, column) = place.split_once(", Column: ")?;
            Some((message, Location::new(line.parse().ok()?, column.parse().ok()?)))
        });
        let (message, at) = placed.unwrap_or((message, self.end));
        let problem = lower_first(message).replacen("expected: ", "expected ", 1);
        let problem = problem.replacen("found: EOF", "found the end of the statement", 1);
        SqlError::new(at, problem.replacen("found: ", "found ", 1), FORM)
    }

    fn select_list(&mut self) -> Result<Vec<Item>, SqlError> {
        if self.next_is("WITH") {
            let remedy = "make it a view of its own, and combine them where you read";
            return Err(SqlError::new(self.at(), "WITH is not supported", remedy));
        }
        self.expect_word("SELECT")?;
        let mut items = Vec::new();
        loop {
            let at = self.at();
            if self.parser.consume_token(&Token::Mul) {
                // All attributes: a list without columns.
                let is_alone = items.is_empty() && self.next_is("FROM");
                return if is_alone { Ok(items) } else { Err(star(at)) };
            }
            let piece = self.expression()?;
            if self.parser.peek_token().token == Token::Period {
                return Err(star(self.at()));
            }
            let alias = if self.accept_word("AS") { Some(self.name("the column")?) } else { None };
            items.push(Item { piece, alias });
            if self.parser.consume_token(&Token::Comma) {
                continue;
            }
            if let Token::Word(word) = self.parser.peek_token().token
                && word.keyword == Keyword::NoKeyword
            {
                let remedy = format!("write AS {} if it names the column", word.value);
                let problem = format!("expected FROM, found `{}`", word.value);
                return Err(SqlError::new(self.at(), problem, remedy));
            }
            return Ok(items);
        }
    }

    /// The alias of FROM; then nothing but WHERE, GROUP BY or the end may follow.
    fn source_alias(&mut self) -> Result<Option<String>, SqlError> {
        if self.parser.peek_token().token == Token::LParen {
            return Err(self.unexpected("an alias, WHERE or GROUP BY"));
        }
        let named = self.accept_word("AS")
            || matches!(self.parser.peek_token().token, Token::Word(word)
                if word.keyword == Keyword::NoKeyword);
        Ok(if named { Some(self.name("the table or stream")?.0) } else { None })
    }

    /// `, unnest(list) AS element`, and where it begins. The scope knows the element from then on.
    fn unnest(
        &mut self,
        scope: &mut Scope,
        from: &str,
    ) -> Result<Option<(Unnest, Location)>, SqlError> {
        let comma = self.at();
        if !self.parser.consume_token(&Token::Comma) {
            return Ok(None);
        }
        let at = self.at();
        if !self.accept_word("UNNEST") {
            let remedy = "a view reads one source, the lists in it with `, unnest(list) AS \
                          element`, and the item that each item names with LEFT JOIN … ON";
            return Err(SqlError::new(comma, "several sources are not supported", remedy));
        }
        self.expect_sign(&Token::LParen)?;
        let list = self.expression()?;
        let Expression::Path(path) = scope.expression(&list.expression, list.at)? else {
            let remedy = "write unnest(lines), or unnest(cart.lines)";
            return Err(SqlError::new(list.at, "unnest needs an attribute of the item", remedy));
        };
        self.expect_sign(&Token::RParen)?;
        self.accept_word("AS");
        let (element, named_at) = self.name("an element")?;
        if element == scope.qualifier || element == from {
            let problem = format!("an element cannot have the name of its source, {element}");
            return Err(SqlError::new(named_at, problem, "give it another name"));
        }
        if self.parser.peek_token().token == Token::Comma {
            let remedy = "a view reads the elements of one list";
            return Err(SqlError::new(self.at(), "a second list is not supported", remedy));
        }
        scope.element = Some(element.clone());
        scope.list = Some(path.clone());
        Ok(Some((Unnest { list: path, element }, at)))
    }

    /// `[LEFT] JOIN table [AS] alias ON alias.key = reference`. The scope knows the alias from then
    /// on.
    fn join(&mut self, scope: &mut Scope, from: &str) -> Result<Option<Join>, SqlError> {
        let at = self.at();
        let is_left = self.accept_word("LEFT");
        let is_inner = !is_left && self.accept_word("INNER");
        if is_left {
            self.accept_word("OUTER");
        }
        if !self.accept_word("JOIN") {
            return if is_left || is_inner { Err(self.unexpected("JOIN")) } else { Ok(None) };
        }
        if scope.element.is_some() {
            let remedy = "make a view of each; the elements of lists are not joined";
            return Err(SqlError::new(at, "unnest and JOIN in one view are not supported", remedy));
        }
        let (table, named_at) = self.name("the joined table")?;
        let alias = self.source_alias()?.unwrap_or_else(|| table.clone());
        if table == from {
            let remedy = "write the attributes into the item, or read both where you read";
            return Err(SqlError::new(named_at, "a table cannot be joined with itself", remedy));
        }
        if alias == scope.qualifier || alias == from {
            let problem = format!("both tables are called {alias}");
            return Err(SqlError::new(named_at, problem, "give one of them another alias"));
        }
        if !self.next_is("ON") {
            let problem = format!("expected ON, found {}", self.found());
            return Err(SqlError::new(self.at(), problem, words::ONE_ITEM));
        }
        self.expect_word("ON")?;
        let on = self.expression()?;
        scope.joined = Some(alias.clone());
        for (table, called) in [(from, scope.qualifier.clone()), (table.as_str(), alias.clone())] {
            if table != called {
                scope.aliased.push((table.to_owned(), called));
            }
        }
        let Some((key, reference)) = join_condition(&on.expression, &alias) else {
            let problem = "a join is by the key of the joined table";
            return Err(SqlError::new(on.at, problem, words::ONE_ITEM));
        };
        let key = key.to_owned();
        let reference = scope.expression(reference, on.at)?;
        let mut is_of_item = false;
        let mut is_of_joined = false;
        reference.visit_paths(&mut |path| {
            let is_joined = path.first() == alias;
            is_of_joined |= is_joined;
            is_of_item |= !is_joined;
        });
        reference.visit_paths(&mut |path| scope.references.push(path.first().to_owned()));
        if is_of_joined || !is_of_item {
            let problem = format!("ON does not say which item of {alias} an item names");
            return Err(SqlError::new(on.at, problem, words::ONE_ITEM));
        }
        if matches!(reference.known_type(), Some(Type::Bool)) {
            let remedy = "name it by a text or a number";
            return Err(SqlError::new(on.at, "a truth value is no key", remedy));
        }
        let next = self.parser.peek_token().token;
        if next == Token::Comma || self.next_is("JOIN") || self.next_is("LEFT") {
            let remedy = "a view joins one table; write what it needs of others into the items";
            return Err(SqlError::new(self.at(), "a second JOIN is not supported", remedy));
        }
        Ok(Some(Join { table, alias, key, reference, is_inner: !is_left }))
    }

    fn group_by(&mut self) -> Result<Vec<Piece>, SqlError> {
        let mut pieces = Vec::new();
        if self.accept_word("GROUP") {
            self.expect_word("BY")?;
            loop {
                pieces.push(self.expression()?);
                if !self.parser.consume_token(&Token::Comma) {
                    break;
                }
            }
        }
        Ok(pieces)
    }

    fn finish(&self) -> Result<(), SqlError> {
        if self.parser.peek_token().token == Token::EOF {
            return Ok(());
        }
        let problem = format!("{} has no place here", self.found());
        Err(SqlError::new(self.at(), problem, FORM))
    }
}

/// The key attribute of the joined table, and what it is equal to.
fn join_condition<'e>(on: &'e Expr, alias: &str) -> Option<(&'e str, &'e Expr)> {
    let on = without_parentheses(on);
    let Expr::BinaryOp { left, op: BinaryOperator::Eq, right } = on else { return None };
    let key = |side: &'e Expr| match without_parentheses(side) {
        Expr::CompoundIdentifier(parts) => match parts.as_slice() {
            [table, key] if table.value == alias && !key.value.is_empty() => Some(&*key.value),
            _ => None,
        },
        _ => None,
    };
    match (key(left), key(right)) {
        (Some(key), None) => Some((key, right)),
        (None, Some(key)) => Some((key, left)),
        _ => None,
    }
}

fn star(at: Location) -> SqlError {
    let remedy = "write * alone for all attributes, or name the columns";
    SqlError::new(at, "* beside other columns is not supported", remedy)
}
