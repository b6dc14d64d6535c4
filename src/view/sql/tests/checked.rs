//! Several mistakes at once: each told once, and none that follows from another.

use super::{
    super::{check, parse},
    any_text::WORDS,
};
use proptest::prelude::*;

/// The mistakes of a text behind AS, as `line:column problem`.
#[track_caller]
fn mistakes(text: &str, expect: &[&str]) {
    whole(&format!("CREATE MATERIALIZED VIEW v AS\n{text}"), expect);
}

#[track_caller]
fn whole(text: &str, expect: &[&str]) {
    let checked = check(text);
    let told: Vec<_> = checked
        .mistakes
        .iter()
        .map(|it| format!("{}:{} {}", it.error.line, it.error.column, it.error.problem))
        .collect();
    assert_eq!(told, expect, "{text}");
    assert_eq!(parse(text).is_ok(), told.is_empty());
}

#[test]
fn every_piece_of_a_statement_has_its_own_mistake() {
    mistakes(
        "SELECT a / 2 AS half, summ(b) AS s, count(*) FROM t WHERE c == 1 AND d ~ 2 OR e > 'x' + 1 \
         GROUP BY lowr(a), 9",
        &[
            "2:10 `/` is not supported",
            "2:23 function summ is not supported",
            "2:37 a computed column has no name",
            "2:61 `==` is not supported",
            "2:72 `~` is not supported",
            "2:83 `+` needs a number, not a text",
            "2:100 function lowr is not supported",
            "2:109 there is no column 9",
        ],
    );
}

#[test]
fn a_replaced_piece_has_no_mistakes_of_its_own() {
    // The key is gone, but no column is said to miss it.
    mistakes(
        "SELECT a, count(*) AS n FROM t GROUP BY foo(a)",
        &["2:41 function foo is not supported"],
    );
    mistakes(
        "SELECT foo(a) AS h, count(*) AS n FROM t GROUP BY h",
        &["2:8 function foo is not supported"],
    );
    mistakes(
        "SELECT foo(a) AS h, count(*) AS n FROM t GROUP BY 1",
        &["2:8 function foo is not supported"],
    );
    mistakes(
        "SELECT a, avg(DISTINCT b) AS m FROM t GROUP BY a",
        &["2:11 avg(DISTINCT …) is not supported"],
    );
    mistakes("SELECT a, min(b) AS m, count(DISTINCT c) AS n FROM t GROUP BY a", &[]);
    mistakes(
        "SELECT a, b FROM t GROUP BY a HAVING a > 1 ORDER BY c / 2 LIMIT 3",
        &["2:11 column b is no aggregate and not in GROUP BY", "2:55 `/` is not supported"],
    );
    mistakes(
        "SELECT o.a, foo(c.b) AS x FROM t o FULL JOIN c ON c.id = o.a WHERE d == 2",
        &[
            "2:13 function foo is not supported",
            "2:36 FULL JOIN is not supported",
            "2:70 `==` is not supported",
        ],
    );
}

#[test]
fn a_misspelt_keyword_is_the_only_mistake() {
    mistakes("SELCT a FROM t", &["2:1 expected SELECT, found `SELCT`"]);
    mistakes("SELECT a FORM t WHERE a = 1", &["2:10 expected FROM, found `FORM`"]);
    mistakes(
        "SELECT a / 2 AS h FRM t",
        &["2:10 `/` is not supported", "2:19 expected FROM, found `FRM`"],
    );
    mistakes("SELECT a FROM t WERE a = 1", &["2:17 expected WHERE, found `WERE`"]);
    mistakes("SELECT a FROM t o WHRE a = 1", &["2:19 expected WHERE, found `WHRE`"]);
    mistakes("SELECT a FROM t WHERE a = 1 ADN b = 2", &["2:29 expected AND, found `ADN`"]);
    mistakes("SELECT a FROM t GRUOP BY a", &["2:17 expected GROUP, found `GRUOP`"]);
    whole(
        "CREATE MATERIALISED VIEW v AS SELECT a FROM t",
        &["1:8 expected MATERIALIZED, found `MATERIALISED`"],
    );
}

#[test]
fn what_is_missing_is_told_where_it_is_missing() {
    mistakes("SELECT a, FROM t", &["2:11 expected an expression, found FROM"]);
    mistakes("SELECT a, b", &["2:12 expected FROM, found the end of the statement"]);
    mistakes(
        "SELECT a WHERE b == 1",
        &["2:10 expected FROM, found `WHERE`", "2:18 `==` is not supported"],
    );
    mistakes(
        "SELECT sum(a AS s, b / 2 AS h FROM t GROUP BY foo(c)",
        // The parenthesis is told when the column is mended.
        &["2:22 `/` is not supported", "2:47 function foo is not supported"],
    );
    mistakes(
        "SELECT a FROM t WHERE",
        &["2:22 expected an expression, found the end of the statement"],
    );
    mistakes("SELECT a FROM t GROUP a", &["2:23 expected BY, found `a`"]);
    whole(
        "CREATE MATERIALIZED VIEW AS SELECT a / 2 AS h FROM t",
        &["1:26 expected the name of the view, found AS", "1:38 `/` is not supported"],
    );
    whole(
        "CREATE MATERIALIZED VIEW v SELECT a / 2 AS h FROM t",
        &["1:28 expected AS, found `SELECT`", "1:37 `/` is not supported"],
    );
}

#[test]
fn heads_and_options_are_read_on() {
    whole(
        "CREATE OR REPLACE MATERIALIZED VIEW v WITH (kye = a, decimal = '99,1', \
         retention_hours = 24) AS SELECT a / 2 AS h FROM t",
        &[
            "1:8 OR REPLACE is not supported",
            "1:45 there is no option kye",
            "1:64 decimal is not digits in all and after the point",
            "1:106 `/` is not supported",
        ],
    );
    whole(
        "CREATE VIEW \"a b\" (x) AS SELECT DISTINCT a FROM s.t",
        &[
            "1:8 a plain view is not supported",
            "1:13 the view's name cannot name a table",
            "1:19 expected AS, found `(`",
            "1:33 DISTINCT is not supported",
            "1:50 the name of the table or stream has one part only",
        ],
    );
}

#[test]
fn statements_are_told_apart() {
    whole(
        "CREATE MATERIALIZED VIEW a AS SELECT x / 2 AS h FROM t;\nDROP VIEW a;\n\
         CREATE MATERIALIZED VIEW b AS SELECT x FROM t\nCREATE MATERIALIZED VIEW b AS SELECT y == \
         1 AS z FROM t;\nCREATE MATERIALIZED VIEW c AS SELECT x FROM t WHERE d = 'open\n\
         ;\nCREATE MATERIALIZED VIEW b AS SELECT x FROM t",
        &[
            "1:40 `/` is not supported",
            "2:1 this is no view",
            "3:46 a semicolon is missing",
            "4:40 `==` is not supported",
            "5:57 unterminated string literal",
            "7:26 view b is defined twice",
        ],
    );
}

#[test]
fn long_deep_and_strange_texts_are_answered_at_once() {
    let deep = format!("SELECT {}a{} AS x FROM t", "(".repeat(5_000), ")".repeat(5_000));
    mistakes(
        &deep,
        // CREATE … AS SELECT and 3,994 parentheses come before.
        &["2:4002 the statement has more than 4000 words and signs"],
    );
    let long = format!("SELECT a FROM t WHERE {}", "a / 2 > 1 AND ".repeat(80_000));
    assert_eq!(check(&format!("CREATE MATERIALIZED VIEW v AS {long}")).mistakes.len(), 1);
    let many = "CREATE MATERIALIZED VIEW v AS SELECT a / 2 AS h FROM t;".repeat(18_000);
    assert_eq!(check(&many).mistakes.len(), 18_000);
    let wide = format!("SELECT {} FROM t", "a / 2 AS b, ".repeat(300) + "c");
    assert_eq!(check(&format!("CREATE MATERIALIZED VIEW v AS {wide}")).mistakes.len(), 50);
    mistakes(
        "SELECT 'größe 寸法 😀' AS s, a / 2 AS h\r\nFROM t\r\nWHERE\tb == 1",
        &["2:29 `/` is not supported", "4:9 `==` is not supported"],
    );
}

const TEXT: &str = "CREATE MATERIALIZED VIEW v WITH ( key = a.b , decimal = '12,2' ) AS \
    SELECT o.a AS x , count ( * ) AS n , sum ( b * -2.5 ) FILTER ( WHERE c = 1 ) AS s , \
    EXTRACT ( hour FROM d ) AS h FROM t o WHERE a IS NOT NULL AND ( b BETWEEN 1 AND 2 OR CASE \
    WHEN c THEN d ELSE e END = 1 ) GROUP BY a , 4 ; \
    CREATE MATERIALIZED VIEW w AS SELECT p , q . r FROM u";

proptest! {
    /// No text makes it panic, and it finds nothing exactly where the function takes the file.
    #[test]
    fn nothing_is_wrong_exactly_where_the_text_is_taken(
        changes in prop::collection::vec((0..160_usize, 0..WORDS.len(), 0..4_u8), 0..6),
    ) {
        let mut words: Vec<_> = TEXT.split(' ').filter(|it| !it.is_empty()).collect();
        for (at, word, kind) in changes {
            let at = at % words.len();
            match kind {
                0 => words[at] = WORDS[word],
                1 => words.insert(at, WORDS[word]),
                2 => drop(words.remove(at)),
                _ => { let other = (at + word) % words.len(); words.swap(at, other); }
            }
        }
        let text = words.join(" ");
        let checked = check(&text);
        prop_assert_eq!(checked.mistakes.is_empty(), parse(&text).is_ok(), "{}", text);
        if let Ok(views) = parse(&text) {
            prop_assert!(checked.views.iter().map(|it| &it.view).eq(&views));
        }
    }

    #[test]
    fn any_text_is_checked(text in any::<String>()) {
        prop_assert_eq!(check(&text).mistakes.is_empty(), parse(&text).is_ok());
    }
}
