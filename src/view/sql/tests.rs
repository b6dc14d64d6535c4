//! What is accepted and what it means; what is refused, where and why.

mod any_text;
mod checked;
mod expressions;
mod shown;

use super::parse;
use crate::view::definition::{
    Aggregate, Comparison, DecimalBound, Expression, Function, Output, Path, Shape, View,
};
use crate::view::scalar::Scalar;

fn one(text: &str) -> View {
    let mut views = parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    assert_eq!(views.len(), 1);
    views.remove(0)
}

/// A view with this text behind AS.
fn select(text: &str) -> View {
    one(&format!("CREATE MATERIALIZED VIEW v AS {text}"))
}

fn path(text: &str) -> Expression {
    let mut parts = text.split('.').map(str::to_owned);
    Expression::Path(Path::new(parts.next().unwrap(), parts))
}

#[test]
fn a_whole_definition_is_read() {
    let view = one(
        "-- totals\n create materialized view customer_totals\n with (key = id.order, Decimal = \
         decimal(12, 2), RETENTION_HOURS = 168) as select customer.id as customer_id, Count(*) as \
         orders, SUM(amount) as total, avg(o.amount) as mean /* all */ from \"Orders-2024.v1\" as \
         o where status <> 'CANCELLED' group by customer.id;",
    );
    assert_eq!(view.name, "customer_totals");
    assert_eq!(view.from, "Orders-2024.v1");
    assert_eq!(view.key, Some(Path::new("id".into(), ["order".into()])));
    assert_eq!(view.retention_hours, 168);
    assert_eq!(view.decimal, DecimalBound { precision: 12, scale: 2 });
    let text = Expression::Literal(Scalar::Text("CANCELLED".into()));
    let filter =
        Expression::Compare(Comparison::NotEqual, Box::new(path("status")), Box::new(text));
    assert_eq!(view.filter, Some(filter));
    assert_eq!(view.columns(), ["customer_id", "orders", "total", "mean"]);
    let Shape::Groups(groups) = &view.shape else { panic!("not grouped") };
    assert_eq!(groups.keys, [path("customer.id")]);
    let aggregate = |function, argument| Aggregate { function, argument };
    assert_eq!(
        groups.aggregates,
        [
            aggregate(Function::Count, None),
            aggregate(Function::Sum, Some(path("amount"))),
            aggregate(Function::Avg, Some(path("amount"))),
        ]
    );
    let outputs: Vec<_> = groups.columns.iter().map(|column| column.output).collect();
    let expect = [Output::Key(0), Output::Aggregate(0), Output::Aggregate(1), Output::Aggregate(2)];
    assert_eq!(outputs, expect);
    let attributes: Vec<_> = view.attributes().into_iter().collect();
    assert_eq!(attributes, ["amount", "customer", "id", "status"]);
}

#[test]
fn defaults_are_those_of_the_services() {
    let view = select("SELECT a FROM t");
    assert_eq!((view.retention_hours, view.key), (24, None));
    assert_eq!(view.decimal, DecimalBound { precision: 28, scale: 9 });
    assert!(matches!(view.shape, Shape::Rows(_)));
}

#[test]
fn a_file_may_hold_several_statements_or_none() {
    let text = ";CREATE MATERIALIZED VIEW a AS SELECT x FROM t; -- done\n\n;
        CREATE MATERIALIZED VIEW b AS SELECT x FROM t -- end";
    let names: Vec<_> = parse(text).unwrap().into_iter().map(|view| view.name).collect();
    assert_eq!(names, ["a", "b"]);
    assert_eq!(parse(" -- nothing\n").unwrap(), []);
}

/// Both SELECTs mean the same.
#[track_caller]
fn check_same(text: &str, other: &str) {
    assert_eq!(select(text), select(other), "{text} | {other}");
    assert_eq!(select(text).fingerprint(), select(other).fingerprint());
}

#[test]
fn spelling_without_meaning_is_not_part_of_a_definition() {
    check_same("SELECT a.b FROM t", "select\n\"a\" . \"b\" AS b -- c\nFROM \"t\"");
    check_same("SELECT o.a FROM t o", "SELECT a FROM t");
    check_same("SELECT t.a, t.t FROM t", "SELECT a, t FROM t AS t");
    check_same("SELECT a FROM t WHERE a != 1.50", "SELECT a FROM t WHERE ((a) <> 1.5)");
    check_same("SELECT a FROM t WHERE NOT a IS NULL", "SELECT a FROM t WHERE a IS NOT NULL");
    check_same("SELECT a FROM t WHERE a AND (b AND c)", "SELECT a FROM t WHERE (a AND b) AND c");
    check_same("SELECT -(1) AS x FROM t", "SELECT -1 AS x FROM t");
    check_same("SELECT a - b - c AS x FROM t", "SELECT (a - b) - c AS x FROM t");
    check_same("SELECT a + b * -c AS x FROM t", "SELECT a + (b * (-c)) AS x FROM t");
    check_same(
        "SELECT a FROM t WHERE a = 1 OR NOT b < 2 AND c + 1 IS NULL",
        "SELECT a FROM t WHERE (a = 1) OR ((NOT (b < 2)) AND ((c + 1) IS NULL))",
    );
    check_same(
        "SELECT a, count(*) AS n FROM t GROUP BY a, a",
        "SELECT a, COUNT( * ) AS n FROM t GROUP BY t.a",
    );
    let default = one("CREATE MATERIALIZED VIEW v WITH (decimal = '28,9', retention_hours = 24) \
                       AS SELECT a FROM t");
    assert_eq!(default.fingerprint(), select("SELECT a FROM t").fingerprint());
}

#[test]
fn everything_with_meaning_is_part_of_a_fingerprint() {
    let mut texts = vec![
        "CREATE MATERIALIZED VIEW v AS SELECT a FROM t".to_owned(),
        "CREATE MATERIALIZED VIEW w AS SELECT a FROM t".to_owned(),
        "CREATE MATERIALIZED VIEW v WITH (key = a) AS SELECT a FROM t".to_owned(),
        "CREATE MATERIALIZED VIEW v WITH (key = a.b) AS SELECT a FROM t".to_owned(),
        "CREATE MATERIALIZED VIEW v WITH (key = \"a.b\") AS SELECT a FROM t".to_owned(),
        "CREATE MATERIALIZED VIEW v WITH (retention_hours = 48) AS SELECT a FROM t".to_owned(),
        "CREATE MATERIALIZED VIEW v WITH (decimal = '28,8') AS SELECT a FROM t".to_owned(),
    ];
    for select in [
        "a FROM T",
        "A FROM t",
        "a AS b FROM t",
        "b AS a FROM t",
        "a, b FROM t",
        "b, a FROM t",
        "a FROM t WHERE a",
        "a FROM t WHERE NOT a",
        "a FROM t WHERE \"NULL\"",
        "a FROM t WHERE NULL",
        "a FROM t WHERE a = 1",
        "a FROM t WHERE 1 = a",
        "a FROM t WHERE a = '1'",
        "a FROM t WHERE a = TRUE",
        "a FROM t WHERE a = \"TRUE\"",
        "a FROM t WHERE a - (b - c) = 0",
        "a FROM t WHERE a - b - c = 0",
        "a FROM t WHERE a AND b OR c",
        "a FROM t WHERE a AND (b OR c)",
        "a FROM t GROUP BY a",
        "a FROM t GROUP BY a, b",
        "a, count(*) AS n FROM t GROUP BY a",
        "a, count(b) AS n FROM t GROUP BY a",
        "a, sum(b) AS n FROM t GROUP BY a",
        "a, avg(b) AS n FROM t GROUP BY a",
        "count(*) AS n FROM t",
    ] {
        texts.push(format!("CREATE MATERIALIZED VIEW v AS SELECT {select}"));
    }
    let mut hashes: Vec<_> = texts.iter().map(|text| one(text).fingerprint()).collect();
    assert!(hashes.iter().all(|hash| hash.len() == 64));
    hashes.sort_unstable();
    hashes.dedup();
    assert_eq!(hashes.len(), texts.len());
}

#[test]
fn the_fingerprint_of_a_definition_never_changes() {
    let view = select("SELECT a, sum(b) AS s FROM t WHERE c > 1 GROUP BY a");
    assert_eq!(
        view.to_string(),
        "CREATE MATERIALIZED VIEW v WITH (retention_hours = 24, decimal = decimal(28,9)) AS \
         SELECT a AS a, sum(b) AS s FROM t WHERE c > 1 GROUP BY a"
    );
    assert_eq!(
        view.fingerprint(),
        "68cfe2b06fd87cf523de61c91ac4951fc64114feeaef773acea4255fe92dba01"
    );
}

#[test]
fn words_that_are_keywords_elsewhere_are_names_here() {
    let view = select(
        "SELECT date, user, key, value, timestamp, position, interval, left, filter, over, view, \
         created.order, created.\"from\", \"limit\", by, Straße FROM t",
    );
    let names = view.columns().join(" ");
    let expect = "date user key value timestamp position interval left filter over view order \
                  from limit by Straße";
    assert_eq!(names, expect);
    assert_eq!(one(&view.to_string()), view);
}

#[test]
fn a_name_in_group_by_is_the_attribute_if_there_is_one_and_else_the_alias() {
    check_same(
        "SELECT customer.id AS customer, count(*) AS n FROM t GROUP BY customer",
        "SELECT customer.id AS customer, count(*) AS n FROM t GROUP BY customer.id",
    );
    check_same(
        "SELECT a + 1 AS b, count(*) AS n FROM t GROUP BY b",
        "SELECT a + 1 AS b, count(*) AS n FROM t GROUP BY a + 1",
    );
    check_same(
        "SELECT a AS b, b AS a FROM t GROUP BY a, b",
        "SELECT a AS b, b AS a FROM t GROUP BY t.a, t.b",
    );
    check(
        "SELECT a + 1 AS a, count(*) AS n FROM t GROUP BY a",
        (1, 8),
        "column a is no aggregate and not in GROUP BY",
    );
}

#[test]
fn the_elements_of_a_list_have_a_name_of_their_own() {
    let view = select(
        "SELECT l.sku, o.kind, sum(l.price) AS s, count(\"unnest\") AS n FROM orders o, \
         Unnest(o.cart.lines) l WHERE l.price > 1 AND kind IS NOT NULL GROUP BY l.sku, o.kind",
    );
    let attributes: Vec<_> = view.attributes().into_iter().collect();
    assert_eq!(attributes, ["cart", "kind", "unnest"]);
    assert_eq!(
        view.to_string(),
        "CREATE MATERIALIZED VIEW v WITH (retention_hours = 24, decimal = decimal(28,9)) AS \
         SELECT l.sku AS sku, kind AS kind, sum(l.price) AS s, count(\"unnest\") AS n FROM orders, \
         unnest(cart.lines) AS l WHERE l.price > 1 AND kind IS NOT NULL GROUP BY l.sku, kind"
    );
    assert_eq!(one(&view.to_string()), view);
    let other = select("SELECT count(*) AS n FROM t, unnest(a) AS x");
    assert_ne!(other.fingerprint(), select("SELECT count(*) AS n FROM t").fingerprint());
    let grouped = "SELECT x.sku AS a, count(*) AS n FROM t, unnest(a) AS x GROUP BY a";
    check(grouped, (1, 8), "column a is no aggregate and not in GROUP BY");
    let n = |from: &str| format!("SELECT count(*) AS n FROM {from}");
    check(&n("t, unnest(a) AS x, unnest(b) AS y"), (1, 44), "a second list is not supported");
    check(&n("t, unnest(a) AS x, u"), (1, 44), "a second list is not supported");
    check(&n("t, unnest(a[0].b) AS x"), (1, 37), "unnest needs an attribute of the item");
    check(&n("t, unnest(a + 1) AS x"), (1, 37), "unnest needs an attribute of the item");
    check(&n("t, unnest(a) WHERE x > 1"), (1, 40), "expected the name of an element, found WHERE");
    let missing = "expected the name of an element, found the end of the statement";
    check(&n("t, unnest(a)"), (1, 39), missing);
    check(&n("t, unnest(a) AS t"), (1, 43), "an element cannot have the name of its source, t");
    check(&n("u t, unnest(a) AS u"), (1, 45), "an element cannot have the name of its source, u");
    let hidden = "the element x hides the attribute of that name";
    check(&n("t, unnest(a) AS x WHERE t.x > 1"), (1, 51), hidden);
    let alone = "elements of a list are neither grouped nor counted";
    check("SELECT x.a FROM t, unnest(a) AS x", (1, 20), alone);
}

/// The text behind AS is refused at this line and column for this reason.
#[track_caller]
fn check(text: &str, place: (u64, u64), problem: &str) {
    let error = match parse(&format!("CREATE MATERIALIZED VIEW v AS\n{text}")) {
        Ok(views) => panic!("{text}: accepted as {}", views[0]),
        Err(error) => error,
    };
    let found = (error.line - 1, error.column, error.problem.as_str());
    assert_eq!(found, (place.0, place.1, problem), "{text}");
    assert!(!error.remedy.is_empty());
    assert!(error.to_string().starts_with(&format!("line {}, column {}", error.line, place.1)));
}

#[test]
fn clauses_outside_the_subset_are_refused_at_their_word() {
    check("SELECT a FROM t LEFT JOIN u USING (a)", (1, 35), "expected ON, found `(`");
    check("SELECT a FROM t FULL JOIN u ON t.a = u.a", (1, 17), "FULL JOIN is not supported");
    check(
        "SELECT a FROM t RIGHT OUTER JOIN u ON t.a = u.a",
        (1, 17),
        "RIGHT JOIN is not supported",
    );
    check(
        "SELECT a FROM t JOIN u ON u.a < t.a",
        (1, 27),
        "a join is by the key of the joined table",
    );
    check(
        "SELECT a FROM t JOIN u ON u.a = u.b",
        (1, 27),
        "a join is by the key of the joined table",
    );
    check(
        "SELECT a FROM t JOIN u ON u.a = 5",
        (1, 27),
        "ON does not say which item of u an item names",
    );
    check("SELECT a FROM t JOIN t ON t.a = b", (1, 22), "a table cannot be joined with itself");
    check("SELECT u FROM t JOIN u ON u.a = b", (1, 8), "u is a table");
    check(
        "SELECT t.u FROM t JOIN u ON u.a = b",
        (1, 8),
        "the table u hides the attribute of that name",
    );
    check(
        "SELECT a FROM t JOIN u ON u.a = b JOIN v ON v.a = b",
        (1, 35),
        "a second JOIN is not supported",
    );
    check("SELECT * FROM t JOIN u ON u.a = b", (1, 1), "SELECT * of a join is not supported");
    check("SELECT join FROM t", (1, 8), "JOIN is not supported");
    check("SELECT a FROM t, u", (1, 16), "several sources are not supported");
    check("SELECT a FROM (SELECT a FROM t) AS s", (1, 16), "subqueries are not supported");
    check("SELECT a FROM t WHERE a = (SELECT 1)", (1, 28), "subqueries are not supported");
    check("WITH c AS (x) SELECT a FROM c", (1, 1), "WITH is not supported");
    check("SELECT DISTINCT a FROM t", (1, 8), "DISTINCT is not supported");
    check("SELECT avg(DISTINCT a) AS n FROM t", (1, 8), "avg(DISTINCT …) is not supported");
    check("SELECT count(DISTINCT *) AS n FROM t", (1, 8), "this form of count is not supported");
    check("SELECT count(DISTINCT a, b) AS n FROM t", (1, 8), "this form of count is not supported");
    check("SELECT min(a = 1) AS n FROM t", (1, 12), "min of a truth value is not supported");
    check("SELECT string_agg(a) AS n FROM t", (1, 8), "function string_agg is not supported");
    check("SELECT a FROM t OFFSET 1", (1, 17), "OFFSET is not supported");
    check("SELECT a FROM t UNION SELECT a FROM u", (1, 17), "UNION is not supported");
    check("SELECT sum(a) OVER () AS s FROM t", (1, 15), "OVER is not supported");
    check("SELECT unnest(l) AS x FROM t", (1, 8), "UNNEST is not supported");
    check("SELECT a, unnest(l) AS x FROM t", (1, 11), "UNNEST is not supported");
    check("SELECT *, a FROM t", (1, 8), "* beside other columns is not supported");
    check("SELECT a, * FROM t", (1, 11), "* beside other columns is not supported");
    check("SELECT a, t.* FROM t", (1, 12), "* beside other columns is not supported");
    check("SELECT * FROM t GROUP BY a", (1, 26), "SELECT * has no groups");
    check(
        "SELECT * FROM t, unnest(l) AS x",
        (1, 18),
        "elements of a list are neither grouped nor counted",
    );
    check("SELECT ALL a FROM t", (1, 12), "expected FROM, found `a`");
    check("VALUES (1)", (1, 1), "expected SELECT, found `VALUES`");
    check("SELECT a FROM s.t", (1, 16), "the name of the table or stream has one part only");
    check("SELECT a FROM f(1)", (1, 16), "expected an alias, WHERE or GROUP BY, found `(`");
    check("SELECT a FROM t o p", (1, 19), "`p` has no place here");
    check("SELECT a FROM t GROUP BY ROLLUP(a)", (1, 26), "function rollup is not supported");
    check("SELECT a FROM t GROUP BY (a, b)", (1, 26), "this expression is not supported");
}

#[test]
fn expressions_outside_the_subset_are_refused_at_their_place() {
    check("SELECT a / 2 AS h FROM t", (1, 10), "`/` is not supported");
    check("SELECT a -> 'b' AS h FROM t", (1, 10), "`->` is not supported");
    check("SELECT a FROM t WHERE a == 1", (1, 25), "`==` is not supported");
    check("SELECT a FROM t WHERE EXISTS (b)", (1, 23), "EXISTS is not supported");
    check("SELECT s.f(a) AS m FROM t", (1, 8), "this function is not supported");
    check("SELECT +a AS m FROM t", (1, 9), "this expression is not supported");
    check("SELECT X'00' AS m FROM t", (1, 8), "`X'00'` is not supported");
    check("SELECT (a).b AS m FROM t", (1, 9), "this expression is not supported");
    check("SELECT 1E126 AS m FROM t", (1, 8), "a number is between 1E-130 and 9.99E125");
    let digits = "1".repeat(39);
    check(&format!("SELECT {digits} AS m FROM t"), (1, 8), "a number has at most 38 digits");
    check("SELECT a FROM t WHERE a < b < c", (1, 23), "comparisons cannot be chained");
    check("SELECT a FROM t WHERE a = b < c", (1, 23), "comparisons cannot be chained");
}

#[test]
fn types_that_are_known_must_fit() {
    check("SELECT a FROM t WHERE 1", (1, 23), "WHERE needs a truth value, not a number");
    check("SELECT a FROM t WHERE a AND 'x'", (1, 29), "AND needs a truth value, not a text");
    check("SELECT a FROM t WHERE NOT a + 1", (1, 27), "NOT needs a truth value, not a number");
    check(
        "SELECT a FROM t WHERE a = 1 OR b = 1 OR 2",
        (1, 41),
        "OR needs a truth value, not a number",
    );
    check("SELECT a + 'x' AS s FROM t", (1, 12), "`+` needs a number, not a text");
    check("SELECT -'x' AS s FROM t", (1, 9), "`-` needs a number, not a text");
    check("SELECT a * (b = 1) AS s FROM t", (1, 13), "`*` needs a number, not a truth value");
    check("SELECT sum(a = 1) AS s FROM t", (1, 12), "sum needs a number, not a truth value");
    check("SELECT avg('x') AS s FROM t", (1, 12), "avg needs a number, not a text");
    check("SELECT a FROM t WHERE 'x' = 1", (1, 29), "`=` compares a text with a number");
    check(
        "SELECT a FROM t WHERE a + 1 <> TRUE",
        (1, 32),
        "`<>` compares a number with a truth value",
    );
}

#[test]
fn columns_and_groups_must_have_one_meaning() {
    check("SELECT a + 1 FROM t", (1, 8), "a computed column has no name");
    check("SELECT a, count(*) FROM t GROUP BY a", (1, 11), "a computed column has no name");
    check("SELECT a, b.a FROM t", (1, 11), "there are two columns a");
    check("SELECT a, b AS a FROM t", (1, 16), "there are two columns a");
    check("SELECT _a FROM t", (1, 8), "column _a cannot be called so");
    check("SELECT a AS _v FROM t", (1, 13), "column _v cannot be called so");
    check("SELECT a b FROM t", (1, 10), "expected FROM, found `b`");
    check("SELECT a, count(*) AS n FROM t", (1, 8), "column a is no aggregate and not in GROUP BY");
    check("SELECT b FROM t GROUP BY a", (1, 8), "column b is no aggregate and not in GROUP BY");
    check("SELECT sum(a) + 1 AS s FROM t", (1, 8), "an aggregate has no place in an expression");
    check(
        "SELECT a FROM t WHERE count(*) > 1",
        (1, 23),
        "an aggregate has no place in an expression",
    );
    check("SELECT sum(avg(a)) AS s FROM t", (1, 12), "an aggregate has no place in an expression");
    check("SELECT a, count(*) AS n FROM t GROUP BY n", (1, 41), "GROUP BY names an aggregate");
    check("SELECT a FROM t GROUP BY 'x'", (1, 26), "GROUP BY names a constant");
    check("SELECT a FROM t GROUP BY -1", (1, 26), "GROUP BY names a constant");
    check("SELECT a FROM t GROUP BY 2", (1, 26), "there is no column 2");
    check("SELECT a FROM t GROUP BY 0", (1, 26), "there is no column 0");
    check("SELECT a, count(*) AS n FROM t GROUP BY 2", (1, 41), "GROUP BY names an aggregate");
    check("SELECT sum(*) AS s FROM t", (1, 8), "this form of sum is not supported");
    check("SELECT count() AS s FROM t", (1, 8), "this form of count is not supported");
    check("SELECT avg(a, b) AS s FROM t", (1, 8), "this form of avg is not supported");
    check("SELECT \"\" AS s FROM t", (1, 8), "an attribute's name is empty");
}

#[test]
fn broken_texts_are_refused_where_they_break() {
    check(
        "SELECT a FROM",
        (1, 14),
        "expected the name of the table or stream, found the end of the statement",
    );
    check("SELECT FROM t", (1, 8), "expected an expression, found FROM");
    check(
        "SELECT a FROM t WHERE",
        (1, 22),
        "expected an expression, found the end of the statement",
    );
    check("SELECT a FROM t WHERE (a = 1", (1, 29), "expected ), found the end of the statement");
    check("SELECT a FROM t WHERE a = AND b", (1, 27), "expected an expression, found AND");
    check("SELECT a FROM t GROUP a", (1, 23), "expected BY, found `a`");
    check("SELECT a FROM where", (1, 15), "expected the name of the table or stream, found where");
    check("SELECT a FROM t WHERE a = 'x", (1, 27), "unterminated string literal");
    check("SELECT a FROM t )", (1, 17), "`)` has no place here");
    check("SELECT a FROM t WHERE b = ¼", (1, 27), "`¼` is not supported");
}

/// The whole text is refused at this place for this reason.
#[track_caller]
fn check_whole(text: &str, place: (u64, u64), problem: &str) {
    let error = parse(text).unwrap_err();
    assert_eq!((error.line, error.column, error.problem.as_str()), (place.0, place.1, problem));
}

#[test]
fn other_statements_and_options_are_refused() {
    check_whole("DROP VIEW v", (1, 1), "this is no view");
    check_whole("SELECT 1 LIMIT 2", (1, 1), "this is no view");
    check_whole("CREATE TABLE t (a int)", (1, 8), "this is no view");
    check_whole("CREATE VIEW v AS SELECT a FROM t", (1, 8), "a plain view is not supported");
    let text = "CREATE OR REPLACE MATERIALIZED VIEW v AS SELECT a FROM t";
    check_whole(text, (1, 8), "OR REPLACE is not supported");
    check_whole("CREATE", (1, 7), "this is no view");
    let text = "CREATE MATERIALIZED VIEW IF NOT EXISTS v AS SELECT a FROM t";
    check_whole(text, (1, 26), "IF NOT EXISTS is not supported");
    let text = "CREATE MATERIALIZED VIEW \"a b\" AS SELECT a FROM t";
    check_whole(text, (1, 26), "the view's name cannot name a table");
    let text = "CREATE MATERIALIZED VIEW a.b AS SELECT a FROM t";
    check_whole(text, (1, 27), "the name of the view has one part only");
    let text = "CREATE MATERIALIZED VIEW v (x) AS SELECT a FROM t";
    check_whole(text, (1, 28), "expected AS, found `(`");
    let text = "CREATE MATERIALIZED VIEW v AS SELECT a FROM t;\n\
                CREATE MATERIALIZED VIEW v AS SELECT b FROM t";
    check_whole(text, (2, 26), "view v is defined twice");
    for (options, column, problem) in [
        ("", 35, "expected the name of an option, found `)`"),
        ("strips = 4", 35, "there is no option strips"),
        ("retention = 4", 35, "there is no option retention"),
        ("key = 'a'", 41, "key is no attribute"),
        ("key = a, key = b", 44, "option key is given twice"),
        ("retention_hours = 23", 53, "retention_hours is not in its range"),
        ("retention_hours = 1.5", 53, "retention_hours is not in its range"),
        ("decimal = '39,1'", 45, "decimal is not digits in all and after the point"),
        ("decimal = '2,3'", 45, "decimal is not digits in all and after the point"),
        ("decimal = decimal(2)", 45, "decimal is not digits in all and after the point"),
        ("key", 38, "expected `=`, found `)`"),
    ] {
        let text = format!("CREATE MATERIALIZED VIEW vie WITH ({options}) AS SELECT a FROM t");
        check_whole(&text, (1, column + 1), problem);
    }
    let text = "CREATE MATERIALIZED VIEW v WITH (retention = 48) AS SELECT a FROM t";
    assert_eq!(parse(text).unwrap_err().remedy, "did you mean retention_hours?");
}

#[test]
fn long_and_deep_texts_get_an_answer() {
    let wide = |operator: &str, n: usize| vec!["a"; n].join(operator);
    let filtered = |filter: &str| {
        parse(&format!("CREATE MATERIALIZED VIEW v AS SELECT a FROM t WHERE {filter}"))
    };
    assert!(filtered(&wide(" AND ", 1900)).is_ok());
    assert!(filtered(&wide(" AND ", 2100)).is_err());
    assert!(filtered(&format!("{} > 0", wide(" + ", 90))).is_ok());
    assert!(filtered(&format!("{} > 0", wide(" + ", 1900))).is_err());
    assert!(filtered(&format!("{} > 0", wide(" / ", 1_000_000))).is_err());
    for (open, close) in [("(", ")"), ("NOT ", ""), ("- ", ""), ("f(", ")"), ("sum(a + ", ")")] {
        for n in [40, 900] {
            let text = format!("{}a{}", open.repeat(n), close.repeat(n));
            // Some are views and some are not; all are answered at once.
            drop(filtered(&text));
            drop(parse(&format!("CREATE MATERIALIZED VIEW v AS SELECT {text} AS x FROM t")));
        }
    }
    assert!(filtered(&"(".repeat(3000)).is_err());
    assert!(filtered(&"a.".repeat(1900)).is_err());
}
