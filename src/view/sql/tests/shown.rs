//! HAVING and ORDER BY with LIMIT: what they mean, and what is refused.

use super::{check, check_same, one, select};
use crate::view::{
    definition::{Output, Shape, Top, View},
    rows::having::holds,
    scalar::Scalar,
    total::Total,
};

fn top(view: &View) -> Option<Top> {
    let Shape::Groups(groups) = &view.shape else { panic!("not grouped") };
    groups.top
}

#[test]
fn the_same_groups_have_the_same_text() {
    let having = "SELECT a.b AS k, count(*) AS n, sum(x) AS s FROM t GROUP BY a.b HAVING ";
    for (one, other) in [
        ("n > 1", "count(*) > 1"),
        ("k = 'x' AND s < 5", "a.b = 'x' AND sum(x) < 5"),
        ("t.a.b IS NULL", "a.b IS NULL"),
        ("NOT (n BETWEEN 1 AND 3)", "count(*) NOT BETWEEN 1 AND 3"),
    ] {
        check_same(&format!("{having}{one}"), &format!("{having}{other}"));
    }
    let order =
        "SELECT a, b AS c, count(*) AS n, sum(x) FILTER (WHERE y) AS s FROM t GROUP BY a, b";
    for (one, other) in [
        ("n DESC LIMIT 3", "count(*) DESC LIMIT 3"),
        ("3 LIMIT 1000", "n ASC LIMIT 1000"),
        ("4 DESC, a, c LIMIT 1", "sum(x) FILTER (WHERE y) DESC, 1 LIMIT 1"),
    ] {
        check_same(&format!("{order} ORDER BY {one}"), &format!("{order} ORDER BY {other}"));
    }
}

#[test]
fn a_definition_is_read_back_from_its_text() {
    for text in [
        "SELECT a, count(*) AS n FROM t GROUP BY a HAVING n > 1 ORDER BY n DESC LIMIT 10",
        "SELECT a AS limit_of, max(\"order\") AS \"having\" FROM t GROUP BY a ORDER BY 2 LIMIT 1",
        "SELECT a + 1 AS a, avg(x) AS m FROM t GROUP BY a + 1 HAVING m > 2 OR a + 1 < 5",
        "SELECT count(*) AS n FROM t HAVING count(*) > 0",
        "SELECT a, every(x) AS e FROM t GROUP BY a \
         HAVING CASE WHEN e THEN a ELSE 'b' END = 'c'",
    ] {
        let view = select(text);
        let again = one(&view.to_string());
        assert_eq!(again, view, "{view}");
    }
    let view = select("SELECT a, count(*) AS n FROM t GROUP BY a ORDER BY n DESC, a LIMIT 10");
    assert_eq!(top(&view), Some(Top { column: 1, is_descending: true, limit: 10 }));
    assert!(view.to_string().ends_with(" GROUP BY a ORDER BY count(*) DESC LIMIT 10"), "{view}");
}

#[test]
fn all_attributes_are_a_projection_without_columns() {
    let view = select("select * from t where a > 1");
    assert!(view.shows_all() && view.columns().is_empty());
    assert!(view.to_string().ends_with(" AS SELECT * FROM t WHERE a > 1"), "{view}");
    assert_eq!(one(&view.to_string()), view);
}

#[test]
fn groups_of_a_time_can_be_kept_for_so_long() {
    let with = |retain: &str, rest: &str| {
        format!("CREATE MATERIALIZED VIEW v WITH (retain = {retain}) AS SELECT {rest}")
    };
    let days = "count(*) AS n, date_trunc('day', at) AS day FROM t GROUP BY 2, a";
    let view = one(&with("'90 days'", days));
    assert_eq!(one(&view.to_string()), view);
    assert!(view.to_string().contains("decimal = decimal(28,9), retain = '90 days') AS"), "{view}");
    assert_eq!(one(&with("'48 hours'", days)), one(&with("'2 day'", days)));
    assert!(one(&with("'36 hours'", days)).to_string().contains("retain = '36 hours'"));
    for (retain, rest, problem) in [
        ("90", days, "retain is no number of days or hours"),
        ("'0 days'", days, "retain is no number of days or hours"),
        ("'3 months'", days, "retain is no number of days or hours"),
        ("'40000 days'", days, "retain is no number of days or hours"),
        ("'1 day'", "a FROM t", "retain needs a time to count from"),
        ("'1 day'", "a, count(*) AS n FROM t GROUP BY a", "retain needs a time to count from"),
        (
            "'1 day'",
            "date_trunc('day', at) AS d, min(a) AS lo FROM t GROUP BY 1",
            "retain beside min, max and DISTINCT is not supported",
        ),
        (
            "'1 day'",
            "date_trunc('day', a) AS d, date_trunc('day', b) AS e, count(*) AS n FROM t \
             GROUP BY 1, 2",
            "retain needs a time to count from",
        ),
    ] {
        let error = super::parse(&with(retain, rest)).unwrap_err();
        assert_eq!((error.column, &*error.problem), (43, problem), "{retain} {rest}");
    }
}

#[test]
fn groups_can_be_kept_in_several_rows_that_add_up() {
    let with = |stripes: &str, rest: &str| {
        format!("CREATE MATERIALIZED VIEW v WITH (stripes = {stripes}) AS SELECT {rest}")
    };
    let sums = "a, count(*) AS n, min(b) AS lo, avg(c) AS c FROM t GROUP BY a HAVING count(*) > 1";
    let view = one(&with("8", sums));
    assert_eq!(one(&view.to_string()), view);
    assert!(view.to_string().contains("decimal = decimal(28,9), stripes = 8) AS"), "{view}");
    assert_ne!(view.fingerprint(), one(&with("9", sums)).fingerprint());
    for (stripes, rest, problem) in [
        ("1", sums, "stripes is not in its range"),
        ("101", sums, "stripes is not in its range"),
        ("'8'", sums, "stripes is not in its range"),
        ("8", "a FROM t", "stripes needs groups"),
        ("8", "* FROM t", "stripes needs groups"),
        ("8", "count(DISTINCT a) AS n FROM t", "stripes beside DISTINCT is not supported"),
        (
            "8",
            "a, count(*) AS n FROM t GROUP BY a ORDER BY n LIMIT 3",
            "stripes beside LIMIT is not supported",
        ),
    ] {
        let error = super::parse(&with(stripes, rest)).unwrap_err();
        assert_eq!((error.column, &*error.problem), (44, problem), "{stripes} {rest}");
    }
}

#[test]
fn a_name_is_an_attribute_where_the_statement_uses_one() {
    // As in SQLite: `x` is the attribute, which no row has.
    let text = "SELECT a, sum(x) AS x FROM t GROUP BY a HAVING x > 1";
    check(text, (1, 41), "x in HAVING is no aggregate and not in GROUP BY");
    let text = "SELECT a, sum(y) AS x FROM t GROUP BY a HAVING x > 1";
    assert!(select(text).to_string().ends_with("HAVING sum(y) > 1"));
    // In ORDER BY the column comes first.
    let text = "SELECT a, sum(x) AS x FROM t GROUP BY a ORDER BY x LIMIT 1";
    assert!(select(text).to_string().ends_with("ORDER BY sum(x) LIMIT 1"));
}

#[test]
fn having_is_told_of_key_and_totals() {
    let view =
        select("SELECT count(*) AS n, b, sum(x) AS s FROM t GROUP BY b HAVING s > n AND b <> 'z'");
    let Shape::Groups(groups) = &view.shape else { panic!("not grouped") };
    assert_eq!(groups.columns[1].output, Output::Key(0));
    let total = |count: u64, sum: i64| Total { count, sum: sum.into(), extreme: None };
    let told =
        |key: &str, sum: Total| holds(groups, &[Scalar::Text(key.into())], &[total(2, 0), sum]);
    assert_eq!(told("a", total(2, 3)), Ok(true));
    assert_eq!(told("a", total(2, 2)), Ok(false));
    assert_eq!(told("z", total(2, 3)), Ok(false));
    // A sum of nothing is NULL, and so is what is compared with it.
    assert_eq!(told("a", total(0, 3)), Ok(false));
    let number = holds(groups, &[Scalar::Number(1.into())], &[total(2, 0), total(1, 3)]);
    let poison = number.unwrap_err();
    assert_eq!((&*poison.expected, &*poison.found), ("N", "S"));
}

#[test]
fn what_no_row_says_is_refused() {
    let a = "SELECT a, count(*) AS n, avg(x) AS m, every(x) AS e, sum(DISTINCT x) AS d FROM t \
             GROUP BY a";
    let at = a.len() as u64 + 2;
    for (last, column, problem) in [
        ("HAVING sum(x) > 1", 7, "sum(x) is no column of the view"),
        ("HAVING n + 1", 7, "HAVING needs a truth value, not a number"),
        ("HAVING n > 'x'", 11, "`>` compares a number with a text"),
        ("HAVING count(sum(x)) > 1", 13, "an aggregate has no place in an expression"),
        ("HAVING b > 1", 0, "b in HAVING is no aggregate and not in GROUP BY"),
        ("ORDER BY n", 0, "ORDER BY without LIMIT is not supported"),
        ("LIMIT 5", 0, "LIMIT without ORDER BY is not supported"),
        ("ORDER BY n LIMIT 0", 17, "LIMIT is not in its range"),
        ("ORDER BY n LIMIT 1001", 17, "LIMIT is not in its range"),
        ("ORDER BY n LIMIT n", 17, "LIMIT is not in its range"),
        ("ORDER BY a LIMIT 1", 9, "ORDER BY a key is not supported"),
        ("ORDER BY m LIMIT 1", 9, "ORDER BY an average is not supported"),
        ("ORDER BY e LIMIT 1", 9, "ORDER BY a truth value is not supported"),
        ("ORDER BY d LIMIT 1", 9, "ORDER BY sum(DISTINCT …) is not supported"),
        ("ORDER BY n + 1 LIMIT 1", 9, "ORDER BY names no column of the view"),
        ("ORDER BY 9 LIMIT 1", 9, "ORDER BY names no column of the view"),
        ("ORDER BY count(x) LIMIT 1", 9, "ORDER BY names no column of the view"),
        ("ORDER BY n, m LIMIT 1", 12, "this order of equal groups is not supported"),
        ("ORDER BY n, a DESC LIMIT 1", 12, "this order of equal groups is not supported"),
        ("ORDER BY n NULLS LAST LIMIT 1", 11, "NULLS is not supported"),
        ("ORDER BY n LIMIT 1 OFFSET 2", 19, "OFFSET is not supported"),
    ] {
        check(&format!("{a} {last}"), (1, at + column), problem);
    }
    check("SELECT a FROM t HAVING a > 1", (1, 17), "HAVING needs GROUP BY or aggregates");
    check("SELECT a FROM t ORDER BY a LIMIT 1", (1, 17), "ORDER BY needs GROUP BY");
    let one = "SELECT count(*) AS n FROM t ORDER BY n LIMIT 1";
    check(one, (1, 29), "ORDER BY needs GROUP BY");
}
