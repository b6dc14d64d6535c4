//! The last clauses of a statement: HAVING, ORDER BY and LIMIT.
//!
//! Separate because they say nothing of what is kept, only which groups are shown. Here they are
//! cut into pieces as the others are.

use super::{Reader, SqlError};
use crate::view::sql::select::{Last, Order, Piece, Sort};
use sqlparser::ast::{Expr, Value};

/// The most groups that LIMIT takes.
const LIMIT_MAX: usize = 1000;

impl Reader<'_> {
    pub(super) fn last_clauses(&mut self) -> Result<Last, SqlError> {
        let at = self.at();
        let having = if self.accept_word("HAVING") {
            Some(Piece { at, ..self.expression()? })
        } else {
            None
        };
        Ok(Last { having, order: self.order()? })
    }

    fn order(&mut self) -> Result<Option<Order>, SqlError> {
        let at = self.at();
        if self.next_is("LIMIT") {
            let remedy = "write ORDER BY total DESC before it, with the column that says which";
            return Err(SqlError::new(at, "LIMIT without ORDER BY is not supported", remedy));
        }
        if !self.accept_word("ORDER") {
            return Ok(None);
        }
        self.expect_word("BY")?;
        let mut by = Vec::new();
        loop {
            let piece = self.expression()?;
            let is_descending = self.accept_word("DESC");
            if !is_descending {
                self.accept_word("ASC");
            }
            if self.next_is("NULLS") {
                let remedy = "take it away: groups whose value is NULL are not among the first";
                return Err(SqlError::new(self.at(), "NULLS is not supported", remedy));
            }
            by.push(Sort { piece, is_descending });
            if !self.parser.consume_token(&sqlparser::tokenizer::Token::Comma) {
                break;
            }
        }
        if !self.accept_word("LIMIT") {
            let remedy = "write LIMIT and how many behind it; all rows print sorted by their key, \
                          so sort them otherwise where you read";
            return Err(SqlError::new(at, "ORDER BY without LIMIT is not supported", remedy));
        }
        let Piece { at: limit_at, expression } = self.expression()?;
        let limit = match &expression {
            Expr::Value(value) => match &value.value {
                Value::Number(digits, false) => digits.parse().ok(),
                _ => None,
            },
            _ => None,
        };
        let limit = limit.filter(|limit| (1..=LIMIT_MAX).contains(limit)).ok_or_else(|| {
            let remedy = format!("write a whole number from 1 to {LIMIT_MAX}");
            SqlError::new(limit_at, "LIMIT is not in its range", remedy)
        })?;
        Ok(Some(Order { at, by, limit }))
    }
}
