//! The canonical SQL text of an expression.
//!
//! Separate from the statement's because it has precedence and places. Invariant: the text of
//! what older versions could define is what they wrote, because a hash of it names stored
//! views. So the words of CASE are in quotes inside a CASE only, where they would be read as
//! its own.

use super::{Name, separated};
use crate::view::{
    definition::{
        Call, Case, Comparison, Element, Expression, Field, Offset, Operation, Part, Path, Pattern,
        Shown, Step, Target, Time, TimeUnit,
    },
    number,
    scalar::Scalar,
    sql,
};
use std::fmt::{self, Display as _};

impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        At { expression: self, binding: 0, in_case: false }.fmt(f)
    }
}

/// An expression at its place.
struct At<'a> {
    expression: &'a Expression,
    /// How tightly an operand must bind there to stand without parentheses.
    binding: u8,
    /// Whether that is inside a CASE.
    in_case: bool,
}

impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.expression.binding() < self.binding {
            f.write_str("(")?;
            self.write(f)?;
            f.write_str(")")
        } else {
            self.write(f)
        }
    }
}

impl<'a> At<'a> {
    const fn operand(&self, expression: &'a Expression, binding: u8) -> Self {
        Self { expression, binding, in_case: self.in_case }
    }

    /// One that stands between commas, or between words that nothing binds to.
    const fn free(&self, expression: &'a Expression) -> Self {
        self.operand(expression, 0)
    }

    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let own = self.expression.binding();
        match self.expression {
            Expression::Path(path) => self.path(f, path),
            Expression::Literal(literal) => fmt_literal(f, literal),
            // A comparison is no operand of another one without parentheses.
            Expression::Compare(comparison, left, right) => {
                let (left, right) = (self.operand(left, own + 1), self.operand(right, own + 1));
                write!(f, "{left} {comparison} {right}")
            }
            // `a - b - c` is `(a - b) - c`.
            Expression::Arithmetic(operation, left, right) => {
                let (left, right) = (self.operand(left, own), self.operand(right, own + 1));
                write!(f, "{left} {operation} {right}")
            }
            // `--` would begin a comment.
            Expression::Negate(inner) => write!(f, "-{}", self.operand(inner, own + 1)),
            Expression::And(parts) => self.joined(f, parts, " AND ", own + 1),
            Expression::Or(parts) => self.joined(f, parts, " OR ", own + 1),
            Expression::Concat(parts) => self.joined(f, parts, " || ", own + 1),
            Expression::Not(inner) => {
                if self.test(f, inner, true)? {
                    return Ok(());
                }
                write!(f, "NOT {}", self.operand(inner, own))
            }
            Expression::Case(case) => Self { in_case: true, ..*self }.case(f, case),
            Expression::Cast(inner, target) => {
                write!(f, "CAST({} AS {target})", self.free(inner))
            }
            Expression::Call(call, arguments) => {
                write!(f, "{call}(")?;
                separated(f, arguments, |f, one| self.free(one).fmt(f))?;
                f.write_str(")")
            }
            Expression::Element(element) => self.element(f, element),
            Expression::Time(time) => self.time(f, time),
            Expression::OfGroup(of_group) => match &of_group.shown {
                Shown::Key(key) => self.free(key).fmt(f),
                Shown::Aggregate(aggregate) => aggregate.fmt(f),
            },
            test => self.test(f, test, false).map(|_| ()),
        }
    }

    /// Writes a test that has a form of its own for its opposite; says whether it is one.
    fn test(
        &self,
        f: &mut fmt::Formatter<'_>,
        test: &'a Expression,
        negated: bool,
    ) -> Result<bool, fmt::Error> {
        let not = if negated { "NOT " } else { "" };
        let operand = |expression| self.operand(expression, 5);
        match test {
            Expression::IsNull(inner) => write!(f, "{} IS {not}NULL", operand(inner))?,
            Expression::Is(inner, value) => {
                write!(f, "{} IS {not}{}", operand(inner), truth(*value))?;
            }
            Expression::IsDistinct(left, right) => {
                write!(f, "{} IS {not}DISTINCT FROM {}", operand(left), operand(right))?;
            }
            Expression::In(value, list) => {
                write!(f, "{} {not}IN (", operand(value))?;
                separated(f, list, |f, one| self.free(one).fmt(f))?;
                f.write_str(")")?;
            }
            Expression::Between(between) => {
                let (low, high) = (operand(&between.low), operand(&between.high));
                write!(f, "{} {not}BETWEEN {low} AND {high}", operand(&between.value))?;
            }
            Expression::Like(inner, Pattern { text, escape }) => {
                write!(f, "{} {not}LIKE {}", operand(inner), Quoted(text))?;
                if let Some(escape) = escape {
                    write!(f, " ESCAPE {}", Quoted(escape.encode_utf8(&mut [0; 4])))?;
                }
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn joined(
        &self,
        f: &mut fmt::Formatter<'_>,
        parts: &'a [Expression],
        operator: &str,
        binding: u8,
    ) -> fmt::Result {
        for (index, part) in parts.iter().enumerate() {
            if index > 0 {
                f.write_str(operator)?;
            }
            self.operand(part, binding).fmt(f)?;
        }
        Ok(())
    }

    fn path(&self, f: &mut fmt::Formatter<'_>, path: &Path) -> fmt::Result {
        // A name behind a point is no word of CASE.
        if !self.in_case || !sql::is_case_word(path.first()) {
            return path.fmt(f);
        }
        write!(f, "\"{}\"", path.first())?;
        path.parts().iter().skip(1).try_for_each(|part| write!(f, ".{}", Name(part)))
    }

    fn case(&self, f: &mut fmt::Formatter<'_>, case: &'a Case) -> fmt::Result {
        f.write_str("CASE")?;
        if let Some(operand) = &case.operand {
            write!(f, " {}", self.free(operand))?;
        }
        for (condition, value) in &case.branches {
            write!(f, " WHEN {} THEN {}", self.free(condition), self.free(value))?;
        }
        if let Some(otherwise) = &case.otherwise {
            write!(f, " ELSE {}", self.free(otherwise))?;
        }
        f.write_str(" END")
    }

    fn element(&self, f: &mut fmt::Formatter<'_>, element: &Element) -> fmt::Result {
        self.path(f, &element.list)?;
        element.steps.iter().try_for_each(|step| match step {
            Step::Index(index) => write!(f, "[{index}]"),
            Step::Name(name) => write!(f, ".{}", Name(name)),
        })
    }

    fn time(&self, f: &mut fmt::Formatter<'_>, time: &'a Time) -> fmt::Result {
        match time.part {
            Part::Start { of, .. } => write!(f, "date_trunc('{of}', ")?,
            Part::Field(field) => write!(f, "EXTRACT({field} FROM ")?,
        }
        match time.unit {
            TimeUnit::Iso => self.free(&time.of).fmt(f)?,
            unit => write!(f, "to_timestamp({}, '{unit}')", self.free(&time.of))?,
        }
        match time.part {
            Part::Start { offset, .. } if offset != Offset::UTC => write!(f, ", '{offset}')"),
            _ => f.write_str(")"),
        }
    }
}

/// As ISO 8601 writes it.
impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::UTC {
            return f.write_str("Z");
        }
        let sign = if self.0 < 0 { '-' } else { '+' };
        let minutes = self.0.unsigned_abs();
        write!(f, "{sign}{:02}:{:02}", minutes / 60, minutes % 60)
    }
}

/// A text as a literal.
struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "'{}'", self.0.replace('\'', "''"))
    }
}

const fn truth(value: bool) -> &'static str {
    if value { "TRUE" } else { "FALSE" }
}

fn fmt_literal(f: &mut fmt::Formatter<'_>, literal: &Scalar) -> fmt::Result {
    match literal {
        Scalar::Null => f.write_str("NULL"),
        Scalar::Bool(value) => f.write_str(truth(*value)),
        Scalar::Number(value) => f.write_str(&number::plain(value)),
        Scalar::Text(text) => Quoted(text).fmt(f),
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Equal => "=",
            Self::NotEqual => "<>",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
        })
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Add => "+",
            Self::Subtract => "-",
            Self::Multiply => "*",
            Self::Remainder => "%",
        })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Number => "numeric",
            Self::Text => "text",
        })
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Coalesce => "coalesce",
            Self::Nullif => "nullif",
            Self::Lower => "lower",
            Self::Upper => "upper",
            Self::Length => "length",
            Self::Substr => "substr",
            Self::Trim => "trim",
            Self::Ltrim => "ltrim",
            Self::Rtrim => "rtrim",
            Self::Replace => "replace",
            Self::Abs => "abs",
            Self::Round => "round",
            Self::Floor => "floor",
            Self::Ceil => "ceil",
            Self::Cardinality => "cardinality",
            Self::Contains => "contains",
        })
    }
}

impl fmt::Display for TimeUnit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Iso => "iso",
            Self::Utc => "utc",
            Self::Seconds => "seconds",
            Self::Milliseconds => "milliseconds",
        })
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Year => "year",
            Self::Quarter => "quarter",
            Self::Month => "month",
            Self::Week => "week",
            Self::Day => "day",
            Self::Hour => "hour",
            Self::Minute => "minute",
            Self::Second => "second",
            Self::Dow => "dow",
            Self::Isodow => "isodow",
            Self::Doy => "doy",
            Self::Epoch => "epoch",
        })
    }
}
