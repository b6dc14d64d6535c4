//! Any text gives an answer, and what is accepted comes back from its canonical text.

use super::parse;
use proptest::prelude::*;

pub(super) const WORDS: [&str; 79] = [
    "CREATE",
    "MATERIALIZED",
    "VIEW",
    "v",
    "WITH",
    "(",
    ")",
    "key",
    "=",
    "decimal",
    "'12,2'",
    "AS",
    "SELECT",
    "a",
    "b",
    ".",
    ",",
    "count",
    "sum",
    "avg",
    "*",
    "FROM",
    "t",
    "o",
    "WHERE",
    "GROUP",
    "BY",
    "AND",
    "OR",
    "NOT",
    "IS",
    "NULL",
    "TRUE",
    "FALSE",
    "1",
    "2.5",
    "1e3",
    "'x'",
    "''",
    "\"q\"",
    "<>",
    "<",
    "<=",
    ">",
    ">=",
    "+",
    "-",
    ";",
    "LIMIT",
    "CASE",
    "IN",
    "DISTINCT",
    "DATE",
    "INTERVAL",
    "--",
    "/*",
    "*/",
    "'",
    "\"",
    "[",
    "]",
    "WHEN",
    "THEN",
    "ELSE",
    "END",
    "BETWEEN",
    "LIKE",
    "ESCAPE",
    "FILTER",
    "EXTRACT",
    "lower",
    "substr",
    "date_trunc",
    "CAST",
    "text",
    "::",
    "||",
    "%",
    "0",
];

const VIEW: &str = "CREATE MATERIALIZED VIEW v WITH (key = a.b, decimal = '12,2') AS SELECT o.a \
                    AS x, count(*) AS n, sum(b * -2.5) AS s FROM t o WHERE a IS NOT NULL AND (b = \
                    'é' OR NOT c < 1e3) GROUP BY a";

const EXPRESSIONS: &str = "\
    CREATE MATERIALIZED VIEW v AS SELECT CASE a WHEN 1 THEN b ELSE lower ( c || 'x' ) \
    END AS x , count(*) FILTER (WHERE d IN ( 1 , 2.5 ) AND e NOT LIKE '!%' ESCAPE '!' ) \
    AS n , sum ( CAST ( f . g [ 0 ] AS numeric ) % 3 ) AS s FROM t WHERE h IS NOT \
    DISTINCT FROM i :: text OR j BETWEEN 1 AND 2 AND k IS NOT TRUE GROUP BY 1 , EXTRACT \
    ( hour FROM l ) , date_trunc ( 'day' , to_timestamp ( m , 'seconds' ) , '+02:00' )";

/// What is accepted comes back from its canonical text.
fn check_answer(text: &str) {
    for view in parse(text).unwrap_or_default() {
        assert_eq!(parse(&view.to_string()).as_deref(), Ok(&[view][..]));
    }
}

proptest! {
    #[test]
    fn any_text_is_answered(text in any::<String>()) {
        check_answer(&text);
    }

    #[test]
    fn any_words_are_answered(words in prop::collection::vec(0..WORDS.len(), 0..40)) {
        let words: Vec<_> = words.into_iter().map(|word| WORDS[word]).collect();
        check_answer(&words.join(" "));
        check_answer(&format!("CREATE MATERIALIZED VIEW v AS SELECT {}", words.join(" ")));
    }

    #[test]
    fn a_view_with_words_exchanged_is_answered(
        text in prop::sample::select([VIEW, EXPRESSIONS].as_slice()),
        changes in prop::collection::vec((0..120_usize, 0..WORDS.len(), 0..3_u8), 1..4),
    ) {
        let mut words: Vec<_> = text.split(' ').collect();
        for (at, word, kind) in changes {
            let at = at % words.len();
            match kind {
                0 => words[at] = WORDS[word],
                1 => words.insert(at, WORDS[word]),
                _ => drop(words.remove(at)),
            }
        }
        check_answer(&words.join(" "));
    }

    #[test]
    fn a_view_with_characters_exchanged_is_answered(
        at in 0..VIEW.len(), character in any::<char>(),
    ) {
        let mut text: Vec<char> = VIEW.chars().collect();
        let at = at % text.len();
        text[at] = character;
        check_answer(&text.into_iter().collect::<String>());
    }
}
