//! Every operator on every type, and every poison by its report.

mod expressions;

use super::{Addition, Contribution, ELEMENTS_MAX, Poison, evaluate};
use crate::{
    event::Value,
    view::{
        definition::{Shape, View},
        number,
        scalar::Scalar,
        sql,
        total::{Addend, Total, finish, totals},
    },
};

fn view(select: &str) -> View {
    sql::parse(&format!("CREATE MATERIALIZED VIEW v AS SELECT {select}")).unwrap().remove(0)
}

fn number(text: &str) -> Value<'_> {
    Value::Number(text.into())
}

fn text(text: &str) -> Value<'_> {
    Value::Text(text.into())
}

fn map<'a>(members: impl IntoIterator<Item = (&'a str, Value<'a>)>) -> Value<'a> {
    Value::Map(members.into_iter().map(|(name, value)| (name.into(), value)).collect())
}

/// Every type, and paths to them.
fn item() -> Value<'static> {
    map([
        ("n", number("2.50")),
        ("one", number("1")),
        ("s", text("abc")),
        ("empty", text("")),
        ("yes", Value::Bool(true)),
        ("no", Value::Bool(false)),
        ("null", Value::Null),
        ("list", Value::List(vec![number("1")])),
        ("binary", Value::Binary(b"x".as_slice().into())),
        ("texts", Value::TextSet(vec!["x".into()])),
        ("numbers", Value::NumberSet(vec!["1".into()])),
        ("binaries", Value::BinarySet(vec![b"x".as_slice().into()])),
        ("m", map([("n", number("7")), ("null", Value::Null), ("m", map([("s", text("é"))]))])),
        ("big", number("12345678901234567890123456789012345678")),
        ("huge", number("1E1000000000")),
        ("tiny", number("1E-1000000000")),
        ("wide", number("123456789012345678901234567890123456789")),
        ("odd", number("1x")),
    ])
}

/// What the expression is for [`item`], as a cell of a table.
#[track_caller]
fn check(expression: &str, expect: &str) {
    let view = view(&format!("{expression} AS x FROM t"));
    match evaluate(&view, &item()) {
        Ok(Contribution::Row(row)) => assert_eq!(row[0].to_json(), expect, "{expression}"),
        other => panic!("{expression}: {other:?}"),
    }
}

#[test]
fn attributes_are_found_by_exact_name_and_missing_ones_are_null() {
    check("n", "2.5");
    check("s", "\"abc\"");
    check("empty", "\"\"");
    check("yes", "true");
    check("N", "null");
    check("missing", "null");
    check("\"null\"", "null");
    check("m.n", "7");
    check("m.m.s", "\"é\"");
    check("m.missing.deeper", "null");
    check("m.\"null\".deeper", "null");
    check("missing.deeper", "null");
    check("t.m.n", "7");
    check("\"m.n\"", "null");
}

#[test]
fn the_last_of_equal_names_wins() {
    let item = map([("a", number("1")), ("a", number("2"))]);
    let found = evaluate(&view("a FROM t"), &item);
    assert_eq!(found, Ok(Contribution::Row(vec![Scalar::Number(2.into())])));
}

#[test]
fn arithmetic_is_exact_and_null_spreads() {
    check("n + one", "3.5");
    check("one - n * 2", "-4");
    check("-n", "-2.5");
    check("-(n - n)", "0");
    check("0.1 + 0.2", "0.3");
    check("n * missing", "null");
    check("-missing", "null");
    check("big - 1", "12345678901234567890123456789012345677");
    check("1e100 * 1e25 * 1e-125", "1");
}

#[test]
fn comparisons_are_by_value_and_by_bytes() {
    check("n = 2.5", "true");
    check("n <> 2.500", "false");
    check("n < 10", "true");
    check("s < 'abd'", "true");
    check("s >= 'Z'", "true");
    check("m.m.s > 'z'", "true");
    check("empty = ''", "true");
    check("empty IS NULL", "false");
    check("yes = TRUE", "true");
    check("no <= yes", "true");
    check("yes = (n > 1)", "true");
    check("missing = missing", "null");
    check("n <> NULL", "null");
    check("missing = 'x'", "null");
}

#[test]
fn logic_has_three_values() {
    let values = [("yes", Some(true)), ("no", Some(false)), ("missing", None)];
    let cell = |value: Option<bool>| value.map_or("null".to_owned(), |value| value.to_string());
    for (left, a) in values {
        check(&format!("NOT {left}"), &cell(a.map(|a| !a)));
        for (right, b) in values {
            let and = match (a, b) {
                (Some(false), _) | (_, Some(false)) => Some(false),
                (Some(true), Some(true)) => Some(true),
                _ => None,
            };
            let or = match (a, b) {
                (Some(true), _) | (_, Some(true)) => Some(true),
                (Some(false), Some(false)) => Some(false),
                _ => None,
            };
            check(&format!("{left} AND {right}"), &cell(and));
            check(&format!("{left} OR {right}"), &cell(or));
            check(&format!("{left} AND {right} AND yes"), &cell(and));
        }
    }
}

#[test]
fn every_type_can_be_tested_for_null() {
    for name in ["n", "s", "yes", "list", "binary", "texts", "numbers", "binaries", "m", "huge"] {
        check(&format!("{name} IS NULL"), "false");
        check(&format!("{name} IS NOT NULL"), "true");
    }
    check("missing IS NULL", "true");
    check("\"null\" IS NULL", "true");
    check("(n + missing) IS NULL", "true");
    check("(missing = 1) IS NULL", "true");
}

#[test]
fn the_first_deciding_operand_ends_and_and_or() {
    check("no AND s > 1", "false");
    check("yes OR s > 1", "true");
    check("one = 2 AND one = 1 AND s > 1", "false");
    check_poison("s > 1 AND no AS x FROM t", "s", "N", "S");
    check_poison("missing AND s > 1 AS x FROM t", "s", "N", "S");
    check_poison("yes AND s > 1 AS x FROM t", "s", "N", "S");
    check_poison("no OR s > 1 AS x FROM t", "s", "N", "S");
}

/// The view takes [`item`] for poison, with this report.
#[track_caller]
fn check_poison(select: &str, attribute: &str, expected: &str, found: &str) {
    let poison = Poison {
        attribute: attribute.to_owned(),
        expected: expected.to_owned(),
        found: found.to_owned(),
    };
    assert_eq!(evaluate(&view(select), &item()), Err(poison), "{select}");
}

#[test]
fn a_value_of_another_type_is_poison() {
    check_poison("s + 1 AS x FROM t", "s", "N", "S");
    check_poison("1 - yes AS x FROM t", "yes", "N", "BOOL");
    check_poison("missing * s AS x FROM t", "s", "N", "S");
    check_poison("-m AS x FROM t", "m", "N", "M");
    check_poison("n FROM t WHERE s > 1", "s", "N", "S");
    check_poison("n FROM t WHERE 'a' = n", "n", "S", "N");
    check_poison("n FROM t WHERE n = TRUE", "n", "BOOL", "N");
    check_poison("n FROM t WHERE yes = 1", "yes", "N", "BOOL");
    check_poison("n FROM t WHERE n + 1 = s", "s", "N", "S");
    check_poison("n FROM t WHERE n", "n", "BOOL", "N");
    check_poison("n FROM t WHERE NOT s", "s", "BOOL", "S");
    check_poison("n FROM t WHERE yes AND list", "list", "BOOL", "L");
    // Of two attributes the second one is named, with the type of the first.
    check_poison("n FROM t WHERE s = n", "n", "S", "N");
    check_poison("n FROM t WHERE n < yes", "yes", "N", "BOOL");
    check_poison("n FROM t WHERE n = list", "list", "N", "L");
    check_poison("n FROM t WHERE list = n", "list", "N, S or BOOL", "L");
    check_poison("n FROM t WHERE missing = list", "list", "N, S or BOOL", "L");
    check_poison("sum(s) AS x FROM t", "s", "N", "S");
    check_poison("avg(yes) AS x FROM t", "yes", "N", "BOOL");
}

#[test]
fn what_has_no_place_in_a_row_is_poison() {
    for (name, found) in [
        ("list", "L"),
        ("m", "M"),
        ("binary", "B"),
        ("texts", "SS"),
        ("numbers", "NS"),
        ("binaries", "BS"),
    ] {
        check_poison(&format!("{name} FROM t"), name, "N, S or BOOL", found);
        let grouped = format!("count(*) AS c FROM t GROUP BY {name}");
        check_poison(&grouped, name, "N, S or BOOL", found);
        check_poison(&format!("n FROM t WHERE {name} = 'x'"), name, "S", found);
    }
}

#[test]
fn a_path_through_something_else_than_a_map_is_poison() {
    check_poison("s.x FROM t", "s", "M", "S");
    check_poison("m.n.x.y FROM t", "m.n", "M", "N");
    check_poison("list.x IS NULL AS x FROM t", "list", "M", "L");
    check_poison("count(yes.x) AS c FROM t", "yes", "M", "BOOL");
    let found = evaluate(&view("a FROM t"), &Value::List(Vec::new())).unwrap_err();
    assert_eq!(found.to_string(), "attribute `(item)`: expected M, found L");
}

#[test]
fn numbers_beyond_the_limits_are_poison() {
    let range = "a number between 1E-130 and 9.99E125";
    let product = format!("n * 1{} * n * n", "0".repeat(125));
    check_poison("wide FROM t", "wide", "at most 38 digits", "more digits");
    check_poison("huge FROM t", "huge", range, "a number outside that range");
    check_poison("tiny = 0 AS x FROM t", "tiny", range, "a number outside that range");
    check_poison("huge = s AS x FROM t", "huge", range, "a number outside that range");
    check_poison("odd FROM t", "odd", "N", "text that is not a number");
    check_poison("big * big AS x FROM t", "big * big", "at most 38 digits", "more digits");
    check_poison("big + n > 0 AS x FROM t", "big + n", "at most 38 digits", "more digits");
    check_poison("n * 1e125 * n * n AS x FROM t", &product, range, "a number outside that range");
    check("wide IS NULL", "false");
}

#[test]
fn what_is_summed_must_fit_the_declared_decimal() {
    let declared = |argument: &str, decimal: &str| {
        let text = format!(
            "CREATE MATERIALIZED VIEW v WITH (decimal = '{decimal}') AS SELECT sum({argument}) AS \
             s, min FROM t GROUP BY min"
        );
        evaluate(&sql::parse(&text).unwrap()[0], &item()).map_err(|poison| poison.to_string())
    };
    assert!(declared("n", "2,1").is_ok());
    assert!(declared("99.99 + n - n", "4,2").is_ok());
    assert_eq!(
        declared("n", "12,0"),
        Err("attribute `n`: expected decimal(12,0), found 1 digits after the point".to_owned())
    );
    assert_eq!(
        declared("n * 4", "2,2"),
        Err("attribute `n * 4`: expected decimal(2,2), found 2 digits before the point".to_owned())
    );
    assert!(declared("100 * one", "4,2").is_err());
    assert!(declared("-100 * one", "4,2").is_err());
    assert!(declared("0.001 * one", "4,2").is_err());
    assert!(declared("0 * one", "2,2").is_ok());
    check_poison("avg(big) AS x FROM t", "big", "decimal(28,9)", "38 digits before the point");
    // A column, a key and a count are not summed.
    check("big", "12345678901234567890123456789012345678");
    assert!(evaluate(&view("big, count(big) AS c FROM t GROUP BY big"), &item()).is_ok());
}

#[test]
fn a_group_key_must_fit_a_partition_key() {
    let long = |length: usize| "x".repeat(length);
    let (fits, exceeds) = (long(2048 - "S2043:".len()), long(2049 - "S2043:".len()));
    let view = view("count(*) AS c FROM t GROUP BY a");
    assert!(evaluate(&view, &map([("a", text(&fits))])).is_ok());
    assert_eq!(
        evaluate(&view, &map([("a", text(&exceeds))])).unwrap_err().to_string(),
        "attribute `a`: expected a group key of at most 2048 bytes, found 2049 bytes"
    );
    // A stripe takes five of them.
    let text_of = "CREATE MATERIALIZED VIEW v WITH (stripes = 100) AS SELECT count(*) AS c FROM t \
                   GROUP BY a";
    let striped = sql::parse(text_of).unwrap().remove(0);
    assert!(evaluate(&striped, &map([("a", text(&long(2043 - "S2038:".len())))])).is_ok());
    let poison = evaluate(&striped, &map([("a", text(&long(2044 - "S2038:".len())))]));
    assert!(poison.unwrap_err().to_string().contains("at most 2043 bytes, found 2044"));
}

#[test]
fn where_keeps_only_true_and_is_read_first() {
    let item = item();
    let kept = |filter: &str| {
        let view = view(&format!("list FROM t WHERE {filter}"));
        evaluate(&view, &item) != Ok(Contribution::Nothing)
    };
    assert!(kept("yes"));
    assert!(!kept("no"));
    assert!(!kept("missing"));
    assert!(!kept("NULL"));
    assert!(!kept("missing = 1 OR no"));
}

#[test]
fn an_item_adds_to_one_group() {
    let item = item();
    let view = view(
        "s, count(*) AS a, count(list) AS b, count(missing) AS c, sum(n) AS d, avg(n * 2) AS e, \
         sum(missing) AS f FROM t GROUP BY s, missing, n > 1",
    );
    let value = |text| Some(number::read(text).unwrap());
    let addend = |count, sum| Addend { count, sum, value: None };
    let expect = Contribution::Groups(vec![Addition {
        key: vec![Scalar::Text("abc".into()), Scalar::Null, Scalar::Bool(true)],
        addends: vec![
            addend(1, None),
            addend(1, None),
            addend(0, None),
            addend(1, value("2.5")),
            addend(1, value("5")),
            addend(0, None),
        ],
    }]);
    assert_eq!(evaluate(&view, &item), Ok(expect));
}

#[test]
fn aggregates_of_one_argument_share_its_values() {
    let addends = |columns: &str| {
        let view = view(&format!("{columns} FROM t"));
        match evaluate(&view, &item()) {
            Ok(Contribution::Groups(mut added)) => Ok(added.remove(0).addends),
            Ok(other) => panic!("{other:?}"),
            Err(poison) => Err(poison.to_string()),
        }
    };
    let none = Addend::default;
    let number = Some(Scalar::Number(number::read("2.5").unwrap()));
    let text = Some(Scalar::Text("abc".into()));
    let of = |value: &Option<Scalar>| Addend { value: value.clone(), ..none() };
    assert_eq!(
        addends(
            "min(n) AS a, count(DISTINCT n) AS b, max(s) AS c, sum(DISTINCT n) AS d, min(s) AS e"
        ),
        Ok(vec![of(&number), none(), of(&text), none(), none()])
    );
    assert_eq!(
        addends("min(missing) AS a, count(DISTINCT missing) AS b"),
        Ok(vec![none(), none()])
    );
    assert_eq!(
        addends("bool_and(n > 1) AS a, bool_or(n > 9) AS b, bool_or(missing > 1) AS c"),
        Ok(vec![
            Addend { count: 1, sum: Some(1.into()), value: None },
            Addend { count: 1, sum: Some(0.into()), value: None },
            none(),
        ])
    );
    assert_eq!(
        addends("min(list) AS a").unwrap_err(),
        "attribute `list`: expected N, S or BOOL, found L"
    );
    let wrong = addends("count(DISTINCT yes) AS a, max(yes) AS b").unwrap_err();
    assert_eq!(wrong, "attribute `yes`: expected N or S, found BOOL");
    let wrong = addends("count(DISTINCT s) AS a, sum(DISTINCT s) AS b").unwrap_err();
    assert_eq!(wrong, "attribute `s`: expected N, found S");
}

#[test]
fn each_element_of_a_list_adds_to_its_group() {
    let line =
        |sku: &'static str, price: Value<'static>| map([("sku", text(sku)), ("price", price)]);
    let lines =
        vec![line("a", number("2")), Value::Null, line("b", number("3")), line("a", number("4"))];
    let item = map([
        ("kind", text("order")),
        ("lines", Value::List(lines)),
        ("tags", Value::TextSet(vec!["x".into(), "y".into()])),
        ("sizes", Value::NumberSet(vec!["1".into(), "2.5".into()])),
        ("missing", Value::Null),
        ("note", text("n")),
    ]);
    let added = |rest: &str| match evaluate(&view(rest), &item) {
        Ok(Contribution::Nothing) => "nothing".to_owned(),
        Ok(Contribution::Groups(added)) => {
            let one = |it: Addition| {
                let key = it.key.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
                let sum =
                    |it: &Addend| it.sum.as_ref().map(ToString::to_string).unwrap_or_default();
                format!("{key}:{}", it.addends.iter().map(sum).collect::<Vec<_>>().join(","))
            };
            added.into_iter().map(one).collect::<Vec<_>>().join(" ")
        }
        Ok(other) => panic!("{other:?}"),
        Err(poison) => poison.to_string(),
    };
    for (rest, expected) in [
        (
            "line.sku, sum(line.price) AS s FROM t, unnest(lines) AS line GROUP BY line.sku",
            "a:2 NULL: b:3 a:4",
        ),
        (
            "kind, sum(l.price) AS s FROM t o, unnest(o.lines) l WHERE l.price > 2 GROUP BY kind",
            "order:3 order:4",
        ),
        ("tag, sum(2) AS s FROM t, unnest(tags) AS tag GROUP BY tag", "x:2 y:2"),
        ("sum(size) AS s FROM t, unnest(sizes) AS size", ":1 :2.5"),
        ("sum(x) AS s FROM t, unnest(missing) AS x", "nothing"),
        ("sum(x) AS s FROM t, unnest(absent.list) AS x", "nothing"),
        (
            "sum(x) AS s FROM t, unnest(note) AS x",
            "attribute `note`: expected L, SS or NS, found S",
        ),
        ("sum(x) AS s FROM t, unnest(note) AS x WHERE kind = 'cart' AND x > 1", "nothing"),
        ("sum(x) AS s FROM t, unnest(tags) AS x", "attribute `x`: expected N, found S"),
    ] {
        assert_eq!(added(rest), expected, "{rest}");
    }
    let many = map([("lines", Value::List(vec![Value::Null; ELEMENTS_MAX + 1]))]);
    let of_many = view("count(*) AS n FROM t, unnest(lines) AS line");
    let poison = evaluate(&of_many, &many).unwrap_err().to_string();
    assert_eq!(poison, "attribute `lines`: expected at most 1000 elements, found 1001 elements");
}

#[test]
fn a_row_shows_key_and_totals_in_select_order() {
    let view =
        view("sum(a) AS s, b, avg(a) AS m, count(a) AS n, count(*) AS k FROM t GROUP BY c, b");
    let mut items = Vec::new();
    for (a, b) in [("0.10", true), ("0.20", true), ("1", false)] {
        let a = if b { number(a) } else { Value::Null };
        let item = map([("a", a), ("b", text("x"))]);
        let Ok(Contribution::Groups(mut added)) = evaluate(&view, &item) else {
            panic!("no group")
        };
        items.push(added.remove(0).addends);
    }
    let Shape::Groups(groups) = &view.shape else { panic!("no groups") };
    let totals = totals(groups, items.iter().map(Vec::as_slice));
    let key = [Scalar::Null, Scalar::Text("x".into())];
    let json = |row: Vec<Scalar>| serde_json::to_string(&row).unwrap();
    assert_eq!(json(finish(&view, &key, &totals)), "[0.3,\"x\",0.15,2,3]");
    let nothing = vec![Total::default(); 4];
    assert_eq!(json(finish(&view, &key, &nothing)), "[null,\"x\",null,0,0]");
    // State of another definition shows as NULL instead of a panic.
    assert_eq!(json(finish(&view, &[], &[])), "[null,null,null,null,null]");
}
