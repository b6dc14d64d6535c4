//! The expressions: their one canonical text, and what is refused of them.

use super::{check, check_same, one, parse, select};

/// A ledger knows its views by these: another one here and every stored ledger is taken for
/// that of changed views.
#[test]
fn the_fingerprints_of_the_shipped_views_never_change() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("views");
    let found: Vec<String> = ["clicks", "flights", "orders"]
        .iter()
        .flat_map(|file| {
            let text = std::fs::read_to_string(folder.join(format!("{file}.sql"))).unwrap();
            parse(&text).unwrap()
        })
        .map(|view| format!("{} {}", view.name, &view.fingerprint()[..16]))
        .collect();
    let expect = [
        "pages a2412cb50b961e95",
        "new_visitors 24fc70dd77c2eec4",
        "airlines f9d46cb7de2501b6",
        "boards 8fb33382bb36e4ef",
        "late_by_day 362f13c07466c05c",
        "coast_to_coast 930bca44340ae19b",
        "visibility 20db9aa87a4edcce",
        "week ca753aea583b111d",
        "in_the_air 79a7cb890a1e4d5f",
        "worst_delays 90355a918875c604",
        "customer_totals 303b4154d5b97327",
        "orders_by_status 19d0669bb201dd9f",
        "revenue 045ffd8ef641bc58",
        "open_orders 5324311628de07a7",
    ];
    assert_eq!(found, expect);
}

/// Words that mean something in the newer expressions only, as names in the older ones.
#[test]
fn the_fingerprint_of_names_that_became_words_never_changes() {
    let view = select(
        "SELECT end, when, then, else, escape, filter, extract, t.case, t.in, count(*) AS n FROM t \
         WHERE end = 1 AND escape < 'x' AND (filter) OR when.end IS NULL GROUP BY end, when, then, \
         else, escape, filter, extract, t.case, t.in",
    );
    assert_eq!(
        view.to_string(),
        "CREATE MATERIALIZED VIEW v WITH (retention_hours = 24, decimal = decimal(28,9)) AS \
         SELECT end AS end, when AS when, then AS then, else AS else, escape AS escape, filter AS \
         filter, extract AS extract, \"case\" AS \"case\", \"in\" AS \"in\", count(*) AS n FROM t \
         WHERE end = 1 AND escape < 'x' AND filter OR when.end IS NULL GROUP BY end, when, then, \
         else, escape, filter, extract, \"case\", \"in\""
    );
}

/// The canonical text of an expression; another spelling has the same.
#[track_caller]
fn is(spelling: &str, canonical: &str) {
    let text = |expression: &str| {
        let text = select(&format!("SELECT {expression} AS x FROM t")).to_string();
        let begin = text.find("SELECT ").unwrap() + 7;
        text[begin..text.rfind(" AS x").unwrap()].to_owned()
    };
    assert_eq!(text(spelling), canonical);
    assert_eq!(text(canonical), canonical);
}

#[test]
fn conditions_have_one_canonical_text() {
    is("a in (1, -2.50, 1e1)", "a IN (1, -2.5, 10)");
    is("NOT a IN (b + 1)", "a NOT IN (b + 1)");
    is("not (a not in (1))", "NOT a NOT IN (1)");
    is("a + 1 Between b AND (c - 1)", "a + 1 BETWEEN b AND c - 1");
    is("a BETWEEN 1 AND 2 AND b", "a BETWEEN 1 AND 2 AND b");
    is("NOT a BETWEEN 1 AND 2 OR b", "a NOT BETWEEN 1 AND 2 OR b");
    is("(a = b) BETWEEN c AND (d = 1)", "(a = b) BETWEEN c AND (d = 1)");
    is("a LIKE 'x%'", "a LIKE 'x%'");
    is("NOT a LIKE '''!%' escape '!'", "a NOT LIKE '''!%' ESCAPE '!'");
    is("a || b LIKE 'x'", "a || b LIKE 'x'");
    is("a IS TRUE", "a IS TRUE");
    is("NOT a IS FALSE", "a IS NOT FALSE");
    is("a = 1 IS NOT TRUE", "(a = 1) IS NOT TRUE");
    is("a IS DISTINCT FROM b AND c", "a IS DISTINCT FROM b AND c");
    is("NOT a IS DISTINCT FROM b", "a IS NOT DISTINCT FROM b");
    is("(a IN (1)) IS DISTINCT FROM (b = 1)", "(a IN (1)) IS DISTINCT FROM (b = 1)");
}

#[test]
fn cases_have_one_canonical_text() {
    is("case when a then 1 end", "CASE WHEN a THEN 1 END");
    is(
        "CASE a WHEN 1 THEN b WHEN (2) THEN c ELSE NULL END",
        "CASE a WHEN 1 THEN b WHEN 2 THEN c ELSE NULL END",
    );
    let nested = "CASE WHEN a THEN CASE WHEN b THEN 1 END END";
    is(nested, nested);
    // The words of CASE are names outside it, and inside it in quotes or behind a point.
    is("CASE WHEN \"end\".when THEN t.\"then\" END", "CASE WHEN \"end\".when THEN \"then\" END");
    is("t.end + CASE WHEN a THEN t.end END", "end + CASE WHEN a THEN \"end\" END");
    is("end.case", "end.\"case\"");
    is("CASE WHEN \"else\"[0].end THEN 1 END", "CASE WHEN \"else\"[0].end THEN 1 END");
}

#[test]
fn functions_and_casts_have_one_canonical_text() {
    is("a || (b || c) || 'd'", "a || b || c || 'd'");
    is("LOWER(Upper(a))", "lower(upper(a))");
    is("substring(a, 2)", "substr(a, 2)");
    is("trim(a, 'x' || b)", "trim(a, 'x' || b)");
    is("coalesce(a, nullif(b, ''), 'c')", "coalesce(a, nullif(b, ''), 'c')");
    is("ceiling(a) - round(b, 2)", "ceil(a) - round(b, 2)");
    is("abs(-a % 3)", "abs(-a % 3)");
    is("a * (b % 3)", "a * (b % 3)");
    is("(a::numeric)::text", "CAST(CAST(a AS numeric) AS text)");
    is("CAST(a + 1 AS VARCHAR)", "CAST(a + 1 AS text)");
    is("-a::decimal", "-CAST(a AS numeric)");
}

#[test]
fn times_and_elements_have_one_canonical_text() {
    is("date_trunc('HOUR', (a.b))", "date_trunc('hour', a.b)");
    is("date_trunc('day', to_timestamp(a, 'iso'), 'UTC')", "date_trunc('day', a)");
    is(
        "date_trunc('week', to_timestamp(a * 60, 'Seconds'), '-0330')",
        "date_trunc('week', to_timestamp(a * 60, 'seconds'), '-03:30')",
    );
    is("extract(Hour from a)", "EXTRACT(hour FROM a)");
    let epoch = "EXTRACT(epoch FROM to_timestamp(a, 'utc'))";
    is(epoch, epoch);
    is("a [ 0 ] . b[12]", "a[0].b[12]");
    is("t.a.b[0]", "a.b[0]");
    is("cardinality(a[0]) + 1", "cardinality(a[0]) + 1");
    is("contains(a.b, lower(c))", "contains(a.b, lower(c))");
}

#[test]
fn a_filter_is_the_case_it_stands_for() {
    check_same(
        "SELECT count(*) FILTER (WHERE a > 1) AS n FROM t",
        "SELECT count(CASE WHEN a > 1 THEN 1 END) AS n FROM t",
    );
    check_same(
        "SELECT sum(b) filter (where a) AS n, avg(c) FILTER (WHERE NOT a) AS m FROM t",
        "SELECT sum(CASE WHEN a THEN b END) AS n, avg(CASE WHEN NOT a THEN c END) AS m FROM t",
    );
    check("SELECT count(*) FILTER AS n FROM t", (1, 17), "FILTER is not supported");
    check("SELECT count(*) FILTER (a) AS n FROM t", (1, 17), "FILTER is not supported");
    let text = "SELECT lower(a) FILTER (WHERE b) AS n FROM t";
    check(text, (1, 8), "this form of lower is not supported");
    let text = "SELECT sum(a) FILTER (WHERE 1) AS n FROM t";
    check(text, (1, 29), "FILTER needs a truth value, not a number");
}

#[test]
fn a_group_is_an_expression_a_number_or_an_alias() {
    check_same(
        "SELECT lower(a) AS b, count(*) AS n FROM t GROUP BY 1",
        "SELECT lower(a) AS b, count(*) AS n FROM t GROUP BY lower(a)",
    );
    check_same(
        "SELECT count(*) AS n, extract(day FROM a) AS h, b FROM t GROUP BY h, 3",
        "SELECT count(*) AS n, extract(day FROM a) AS h, b FROM t GROUP BY extract(day FROM a), b",
    );
    check(
        "SELECT lower(a) AS b, count(*) AS n FROM t GROUP BY a",
        (1, 8),
        "column b is no aggregate and not in GROUP BY",
    );
}

/// The expression, which stands on a line of its own, is refused at this column.
#[track_caller]
fn refused(expression: &str, column: u64, problem: &str) {
    let text = format!("CREATE MATERIALIZED VIEW v AS SELECT\n{expression}\nAS x FROM t");
    let error = match parse(&text) {
        Ok(views) => panic!("{expression}: accepted as {}", views[0]),
        Err(error) => error,
    };
    assert_eq!((error.column, error.problem.as_str()), (column, problem), "{expression}");
    assert!(error.remedy.len() > 5, "{expression}: {}", error.remedy);
}

#[test]
fn conditions_that_do_not_fit_are_refused_at_their_place() {
    refused("a IN (1, 'x')", 10, "IN compares a number with a text");
    refused("'x' IN (1)", 9, "IN compares a text with a number");
    refused("a IN ()", 7, "expected an expression, found )");
    refused("a BETWEEN 1 AND 'x'", 17, "BETWEEN compares a number with a text");
    refused("a IS DISTINCT b", 6, "DISTINCT is not supported");
    refused("1 IS DISTINCT FROM 'x'", 20, "IS DISTINCT FROM compares a number with a text");
    refused("1 IS TRUE", 1, "IS needs a truth value, not a number");
    refused("a LIKE b", 8, "LIKE needs a literal behind it");
    refused("1 LIKE 'x'", 1, "LIKE needs a text, not a number");
    refused("a LIKE '\\%'", 8, "a pattern with a backslash and no ESCAPE");
    refused("a LIKE 'a!' ESCAPE '!'", 8, "the pattern ends in its ESCAPE character");
    refused("a LIKE 'a' ESCAPE 'xy'", 19, "ESCAPE needs one character");
    refused("a ILIKE 'a'", 3, "ILIKE is not supported");
    refused("a = b IN (1)", 1, "comparisons cannot be chained");
    refused("a IN (1) = b", 1, "comparisons cannot be chained");
    refused("a < b BETWEEN 1 AND 2", 1, "comparisons cannot be chained");
    refused("a IS DISTINCT FROM b = c", 20, "comparisons cannot be chained");
    refused("CASE WHEN 1 THEN 2 END", 11, "WHEN needs a truth value, not a number");
    refused("CASE a WHEN 1 THEN 2 WHEN 'x' THEN 3 END", 27, "CASE compares a number with a text");
    refused("CASE WHEN a THEN 1 ELSE 'x' END", 25, "CASE is a number or a text");
    refused("CASE WHEN a THEN 1", 1, "expected END, found AS");
    refused("CASE WHEN a 1 END", 13, "expected THEN, found 1");
    refused("CASE END", 6, "expected an expression, found END");
}

#[test]
fn functions_that_do_not_fit_are_refused_at_their_place() {
    refused("coalesce(1, 'x')", 13, "coalesce is a number or a text");
    refused("coalesce(a)", 1, "coalesce takes other arguments");
    refused("nullif(1, TRUE)", 11, "nullif compares a number with a truth value");
    refused("a || 1", 6, "`||` needs a text, not a number");
    refused("lower(1)", 7, "lower needs a text, not a number");
    refused("lower(*)", 1, "this form of lower is not supported");
    refused("lower(DISTINCT a)", 7, "DISTINCT is not supported");
    refused("substr(a, 0)", 11, "substr needs a literal from 1");
    refused("substr(a, b)", 11, "substr needs a literal from 1");
    refused("substr(a, 1, -1)", 15, "substr needs a literal from 0");
    refused("round(a, -1)", 11, "round needs a literal from 0 to 30");
    refused("a % 0", 5, "`%` needs a literal behind it");
    refused("a % b", 5, "`%` needs a literal behind it");
    refused("a % 1.5", 5, "`%` needs a literal behind it");
    refused("a / 2", 3, "`/` is not supported");
    refused("CAST(a AS int)", 6, "this CAST is not supported");
    refused("CAST(a AS boolean)", 6, "this CAST is not supported");
    refused("a::numeric(12, 2)", 1, "a type of CAST has no length");
    refused("CAST(TRUE AS text)", 6, "CAST of a truth value to text is not supported");
    refused("CAST(a, b)", 7, "expected AS, found ,");
    refused("ifnull(a, b)", 1, "function ifnull is not supported");
    refused("sqrt(a)", 1, "function sqrt is not supported");
}

#[test]
fn times_and_elements_that_do_not_fit_are_refused_at_their_place() {
    refused("date_trunc('eon', a)", 12, "date_trunc needs what to cut the time to");
    refused("date_trunc('dow', a)", 12, "date_trunc needs what to cut the time to");
    refused("date_trunc('day', 1)", 19, "a time in ISO 8601 needs a text, not a number");
    let unit = "to_timestamp needs a value and its unit";
    refused("date_trunc('day', to_timestamp(a))", 19, unit);
    let unit = "to_timestamp needs the unit of its value";
    refused("date_trunc('day', to_timestamp(a, 'days'))", 35, unit);
    refused("date_trunc('day', a, 'Europe/Berlin')", 22, "this is no fixed time zone");
    refused("to_timestamp(a, 'iso')", 1, "to_timestamp stands inside date_trunc");
    refused("EXTRACT(week FROM a)", 9, "this field is not supported");
    refused("EXTRACT(hour, a)", 13, "expected FROM, found ,");
    refused("a[-1]", 4, "an index of a list is a whole number from 0");
    refused("a[b]", 3, "an index of a list is a whole number from 0");
    refused("a[1:2]", 4, "`:` is not supported");
    refused("lower(a)[0]", 1, "this expression is not supported");
    refused("cardinality('x')", 13, "this is no list of the item");
    refused("contains(lower(a), 'x')", 10, "this is no list of the item");
}

#[test]
fn a_view_whose_canonical_text_is_another_is_refused() {
    let text = "CREATE MATERIALIZED VIEW v AS SELECT count(*) AS b FROM t GROUP BY t.b";
    assert!(parse(text).is_ok(), "as earlier releases");
    let error = parse(&text.replace("count(*)", "count(lower(a))")).unwrap_err();
    let problem = "the view's canonical text is refused: GROUP BY names an aggregate";
    assert_eq!((error.column, error.problem.as_str()), (26, problem));
}

#[test]
fn deep_and_long_expressions_get_an_answer() {
    let parsed = |expression: &str| {
        parse(&format!("CREATE MATERIALIZED VIEW v AS SELECT {expression} AS x FROM t"))
    };
    for (open, close) in [
        ("(", ")"),
        ("CASE WHEN TRUE THEN ", " END"),
        ("CASE ", " WHEN 1 THEN 2 END"),
        ("lower(", ")"),
        ("CAST(", " AS text)"),
        ("coalesce(1, ", ")"),
        ("1 IN (", ")"),
        ("1 BETWEEN (", ") AND 2"),
        ("date_trunc('day', ", ")"),
        ("EXTRACT(day FROM ", ")"),
        ("a[", "]"),
        ("", "::text"),
        ("", " || a"),
        ("", " % 2"),
        ("", " IS TRUE"),
        ("", " IS NULL"),
        ("", " IS DISTINCT FROM 1"),
        ("", "[0]"),
        ("", " LIKE 'x'"),
    ] {
        for n in [10, 45, 60, 200, 900, 5000] {
            let text = format!("{}a{}", open.repeat(n), close.repeat(n));
            if let Ok(views) = parsed(&text) {
                // As earlier releases, which take more of these than they can read again.
                if close == " IS NULL" {
                    continue;
                }
                assert_eq!(one(&views[0].to_string()), views[0]);
            } else {
                assert!(n > 10 || !matches!(open, "lower(" | "("), "{text}");
            }
        }
    }
    let error = parsed(&format!("{}1{}", "(".repeat(5000), ")".repeat(5000))).unwrap_err();
    assert_eq!((error.line, error.problem.contains("4000")), (1, true));
    let long = "x".repeat(1 << 20);
    assert!(parsed(&format!("a = '{long}'")).is_ok());
    assert!(parsed(&format!("a LIKE '{long}'")).is_err());
    assert!(parsed(&"a + ".repeat(1 << 18)).is_err());
    assert!(parsed(&format!("a IN ({}1)", "1, ".repeat(1900))).is_ok());
}
