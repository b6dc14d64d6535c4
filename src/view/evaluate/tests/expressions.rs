//! Every expression beyond the operators: its values, its NULLs and its poisons.

use super::{Contribution, Poison, evaluate, map, number, text, view};
use crate::{event::Value, view::scalar::Scalar};

fn item() -> Value<'static> {
    map([
        ("n", number("-2.50")),
        ("i", number("7")),
        ("s", text("Straße Ä")),
        ("padded", text("  a b ")),
        ("digits", text(" 12.50 ")),
        ("yes", Value::Bool(true)),
        ("no", Value::Bool(false)),
        ("big", number("12345678901234567890123456789012345678")),
        ("huge", number("9E125")),
        ("tiny", number("-1E-130")),
        ("at", text("2013-01-01T23:59:60Z")),
        ("time", text("2026-03-02T23:05:06.250+02:00")),
        ("local", text("2026-03-02 23:05")),
        ("ms", number("1772485506250")),
        ("before", number("-0.5")),
        (
            "lines",
            Value::List(vec![
                map([
                    ("price", number("1.5")),
                    ("tags", Value::List(vec![text("a"), Value::Null])),
                ]),
                Value::Null,
                text("x"),
            ]),
        ),
        ("texts", Value::TextSet(vec!["x".into(), "y".into()])),
        ("numbers", Value::NumberSet(vec!["1.0".into(), "2".into()])),
        ("binaries", Value::BinarySet(vec![b"x".as_slice().into()])),
        ("m", map([("a", number("1")), ("list", Value::List(Vec::new()))])),
    ])
}

fn value(expression: &str) -> Result<Scalar, Poison> {
    let view = view(&format!("{expression} AS x FROM t"));
    match evaluate(&view, &item())? {
        Contribution::Row(mut row) => Ok(row.remove(0)),
        other => panic!("{expression}: {other:?}"),
    }
}

#[track_caller]
fn check(expression: &str, expect: &str) {
    let found = value(expression).unwrap_or_else(|poison| panic!("{expression}: {poison}"));
    assert_eq!(found.to_json().replace('"', "'"), expect, "{expression}");
}

#[track_caller]
fn poison(expression: &str, attribute: &str, expected: &str, found: &str) {
    let poison = value(expression).expect_err(expression);
    let parts = (poison.attribute.as_str(), poison.expected.as_str(), poison.found.as_str());
    assert_eq!(parts, (attribute, expected, found), "{expression}");
}

#[test]
fn tests_of_values_have_three_values() {
    check("i IN (1, 7)", "true");
    check("i IN (1, 2)", "false");
    check("i IN (1, NULL)", "null");
    check("i NOT IN (7, NULL)", "false");
    check("missing IN (1)", "null");
    check("i IN (7, s)", "true");
    check("n BETWEEN -2.5 AND 0", "true");
    check("n BETWEEN 0 AND missing", "false");
    check("n BETWEEN missing AND -3", "false");
    check("n BETWEEN missing AND 0", "null");
    check("n NOT BETWEEN -9 AND 0", "false");
    check("n BETWEEN 0 AND s", "false");
    check("yes IS TRUE", "true");
    check("missing IS TRUE", "false");
    check("missing IS NOT TRUE", "true");
    check("no IS FALSE", "true");
    check("missing IS NOT FALSE", "true");
    check("missing IS DISTINCT FROM NULL", "false");
    check("i IS DISTINCT FROM missing", "true");
    check("i IS NOT DISTINCT FROM 7.0", "true");
    poison("i IN (1, s)", "s", "N", "S");
    poison("s BETWEEN 1 AND 2", "s", "N", "S");
    poison("i IS TRUE", "i", "BOOL", "N");
    poison("i IS DISTINCT FROM s", "s", "N", "S");
}

#[test]
fn cases_take_their_first_branch_and_look_no_further() {
    check("CASE WHEN no THEN 1 WHEN missing THEN 2 WHEN yes THEN 3 ELSE 4 END", "3");
    check("CASE WHEN no THEN 1 END", "null");
    check("CASE WHEN missing THEN 1 ELSE 2 END", "2");
    check("CASE i WHEN 1 THEN 'a' WHEN 7.0 THEN 'b' END", "'b'");
    check("CASE missing WHEN NULL THEN 1 ELSE 2 END", "2");
    check("CASE i WHEN 7 THEN s WHEN s THEN s END", "'Straße Ä'");
    check("CASE WHEN yes THEN i ELSE s END", "7");
    check("CASE WHEN yes THEN i ELSE s * 2 END", "7");
    check("CASE WHEN yes THEN lines END IS NULL", "false");
    check("coalesce(missing, NULL, i, s)", "7");
    check("coalesce(missing, NULL)", "null");
    check("coalesce(missing, lines) IS NULL", "false");
    check("nullif(i, 7)", "null");
    check("nullif(i, 8)", "7");
    check("nullif(i, missing)", "7");
    check("nullif(missing, 1)", "null");
    poison("CASE WHEN yes THEN s ELSE 1 END", "s", "N", "S");
    poison("CASE WHEN yes THEN s END + 1", "s", "N", "S");
    poison("CASE WHEN yes THEN lines END", "lines", "N, S or BOOL", "L");
    poison("coalesce(s, 1)", "s", "N", "S");
    poison("CASE i WHEN 'x' THEN 1 END", "i", "S", "N");
}

#[test]
fn patterns_are_of_whole_texts_and_case_counts() {
    for (pattern, fits) in [
        ("%", true),
        ("Straße Ä", true),
        ("straße Ä", false),
        ("Stra_e _", true),
        ("Stra_e __", false),
        ("%Ä", true),
        ("%e%", true),
        ("S%t%a%e%Ä", true),
        ("%ß%ß%", false),
        ("", false),
        ("%%", true),
        ("S%_", true),
    ] {
        check(&format!("s LIKE '{pattern}'"), if fits { "true" } else { "false" });
    }
    check("'100%' LIKE '100!%' ESCAPE '!'", "true");
    check("'100x' LIKE '100!%' ESCAPE '!'", "false");
    check("'a!' LIKE 'a!!' ESCAPE '!'", "true");
    check("'a%b' LIKE 'a%%b' ESCAPE '%'", "true");
    check("'a_b' LIKE 'a\\_b' ESCAPE '\\'", "true");
    check("'' LIKE ''", "true");
    check("missing LIKE 'x'", "null");
    check("lower(s) LIKE 'straße%'", "true");
    poison("i LIKE '7'", "i", "S", "N");
}

#[test]
fn a_pattern_of_many_wildcards_takes_no_time() {
    let text = "a".repeat(400_000);
    let item = map([("s", super::text(&text))]);
    let pattern = "%a".repeat(400) + "b";
    let found = evaluate(&view(&format!("s LIKE '{pattern}' AS x FROM t")), &item);
    assert_eq!(found, Ok(Contribution::Row(vec![Scalar::Bool(false)])));
}

#[test]
fn texts_are_of_characters_and_case_is_of_ascii() {
    check("s || '!' || padded", "'Straße Ä!  a b '");
    check("s || missing", "null");
    check("lower(s)", "'straße Ä'");
    check("upper(s)", "'STRAßE Ä'");
    check("length(s)", "8");
    check("length('😀')", "1");
    check("substr(s, 5, 2)", "'ße'");
    check("substr(s, 7)", "' Ä'");
    check("substr(s, 9)", "''");
    check("substr(s, 90, 1)", "''");
    check("substr(s, 1, 0)", "''");
    check("substr(s || s, 8, 2)", "'ÄS'");
    check("trim(padded)", "'a b'");
    check("ltrim(padded)", "'a b '");
    check("rtrim(padded)", "'  a b'");
    check("trim('   ')", "''");
    check("trim(s, 'SÄ')", "'traße '");
    check("trim(s, '')", "'Straße Ä'");
    check("replace(padded, ' ', '__')", "'____a__b__'");
    check("replace(s, '', 'x')", "'Straße Ä'");
    check("replace(s, 'a', missing)", "null");
    check("length(missing)", "null");
    poison("i || 'x'", "i", "S", "N");
    poison("lower(yes)", "yes", "S", "BOOL");
}

#[test]
fn a_text_too_long_for_any_item_is_poison_before_it_is_made() {
    let long = "x".repeat(300_000);
    let item = map([("s", super::text(&long))]);
    for (expression, bytes) in [
        ("s || s", "600000 bytes"),
        ("replace(s, 'x', s)", "90000000000 bytes"),
        ("replace(replace(s, 'x', 'y'), 'y', 'éé')", "1200000 bytes"),
    ] {
        let poison = evaluate(&view(&format!("{expression} AS x FROM t")), &item).unwrap_err();
        let parts = (poison.attribute.as_str(), poison.expected.as_str(), poison.found.as_str());
        assert_eq!(parts, (expression, "a text of at most 409600 bytes", bytes));
    }
}

#[test]
fn numbers_are_rounded_exactly() {
    check("abs(n)", "2.5");
    check("round(n)", "-3");
    check("round(n, 1)", "-2.5");
    check("round(2.675, 2)", "2.68");
    check("round(-0.4)", "0");
    check("floor(n)", "-3");
    check("ceil(n)", "-2");
    check("floor(i)", "7");
    check("floor(tiny)", "-1");
    check("ceil(tiny)", "0");
    check("round(big * 0.1)", "1234567890123456789012345678901234568");
    check("round(huge, 30) = huge", "true");
    check("floor(missing)", "null");
    check("i % 4", "3");
    check("-i % 4", "-3");
    check("i % -4", "3");
    check("huge % 7", "3");
    check("missing % 4", "null");
    poison("n % 2", "n % 2", "whole numbers", "a fraction");
    poison("abs(s)", "s", "N", "S");
    poison("ceil(big * 10 + 0.1)", "big * 10 + 0.1", "at most 38 digits", "more digits");
}

#[test]
fn casts_are_exact_or_poison() {
    check("CAST(digits AS numeric)", "12.5");
    check("digits::numeric * 2", "25");
    check("n::text", "'-2.5'");
    check("huge::text LIKE '9000%'", "true");
    check("CAST(yes AS numeric) + CAST(no AS numeric)", "1");
    check("s::text", "'Straße Ä'");
    check("missing::text", "null");
    let not_a_number = "text that is not a number";
    poison("s::numeric", "CAST(s AS numeric)", "N", not_a_number);
    poison("''::numeric", "CAST('' AS numeric)", "N", not_a_number);
    poison(
        "'1e999'::numeric",
        "CAST('1e999' AS numeric)",
        "a number between 1E-130 and 9.99E125",
        "a number outside that range",
    );
    poison("yes::text", "yes", "N or S", "BOOL");
    poison("lines::text", "lines", "N, S or BOOL", "L");
}

#[test]
fn times_are_cut_in_their_zone() {
    check("date_trunc('second', time)", "'2026-03-02T21:05:06Z'");
    check("date_trunc('minute', time)", "'2026-03-02T21:05:00Z'");
    check("date_trunc('hour', time)", "'2026-03-02T21:00:00Z'");
    check("date_trunc('day', time)", "'2026-03-02T00:00:00Z'");
    check("date_trunc('day', time, '+03:00')", "'2026-03-03T00:00:00+03:00'");
    check("date_trunc('hour', time, '-00:30')", "'2026-03-02T20:00:00-00:30'");
    check("date_trunc('week', '2026-03-01T00:00:00Z')", "'2026-02-23T00:00:00Z'");
    check("date_trunc('month', time)", "'2026-03-01T00:00:00Z'");
    check("date_trunc('quarter', '2026-06-30T00:00Z')", "'2026-04-01T00:00:00Z'");
    check("date_trunc('year', time)", "'2026-01-01T00:00:00Z'");
    check("date_trunc('hour', to_timestamp(ms, 'milliseconds'))", "'2026-03-02T21:00:00Z'");
    check("date_trunc('day', to_timestamp(before, 'seconds'))", "'1969-12-31T00:00:00Z'");
    check("date_trunc('minute', to_timestamp(local, 'utc'))", "'2026-03-02T23:05:00Z'");
    check("date_trunc('day', missing)", "null");
    check("date_trunc('day', '0000-02-29T00:00:00Z')", "'0000-02-29T00:00:00Z'");
}

#[test]
fn fields_of_times_are_numbers_in_utc() {
    for (field, expect) in [
        ("year", "2026"),
        ("quarter", "1"),
        ("month", "3"),
        ("day", "2"),
        ("hour", "21"),
        ("minute", "5"),
        ("second", "6.25"),
        ("dow", "1"),
        ("isodow", "1"),
        ("doy", "61"),
        ("epoch", "1772485506.25"),
    ] {
        check(&format!("EXTRACT({field} FROM time)"), expect);
        check(&format!("EXTRACT({field} FROM to_timestamp(ms, 'milliseconds'))"), expect);
    }
    check("EXTRACT(dow FROM '2026-03-01T00:00:00Z')", "0");
    check("EXTRACT(isodow FROM '2026-03-01T00:00:00Z')", "7");
    check("EXTRACT(epoch FROM to_timestamp(before, 'seconds'))", "-0.5");
    check("EXTRACT(hour FROM date_trunc('hour', time, '+02:00'))", "21");
}

#[test]
fn what_is_no_time_is_poison_and_nothing_is_guessed() {
    let with = "an ISO 8601 time with its offset, such as 2026-03-02T08:05:00Z";
    let without = "an ISO 8601 time without an offset, such as 2026-03-02T08:05:00";
    let counted = "a time of the years 0000 to 9999, to the nanosecond, as N";
    poison("date_trunc('day', s)", "s", with, "another text");
    poison("date_trunc('day', local)", "local", with, "another text");
    poison("date_trunc('day', at)", "at", with, "another text");
    poison("date_trunc('day', ms)", "ms", with, "N");
    poison("date_trunc('day', yes)", "yes", with, "BOOL");
    poison("date_trunc('day', to_timestamp(time, 'utc'))", "time", without, "another text");
    poison("date_trunc('day', to_timestamp(time, 'seconds'))", "time", counted, "S");
    poison("date_trunc('day', to_timestamp(ms, 'seconds'))", "ms", counted, "another number");
    poison("date_trunc('day', to_timestamp(huge, 'seconds'))", "huge", counted, "another number");
    poison("date_trunc('day', to_timestamp(tiny, 'seconds'))", "tiny", counted, "another number");
    for text in [
        "2026-02-29T00:00:00Z",
        "2026-13-01T00:00:00Z",
        "2026-00-01T00:00:00Z",
        "2026-01-00T00:00:00Z",
        "2026-01-01T24:00:00Z",
        "2026-01-01T00:60:00Z",
        "2026-01-01T00:00:00.Z",
        "2026-01-01T00:00:00.1234567891Z",
        "2026-01-01T00:00:00",
        "2026-01-01",
        "2026-1-1T00:00:00Z",
        "20260101T000000Z",
        "2026-01-01T00:00:00+2",
        "2026-01-01T00:00:00+02:00x",
        "2026-01-01T00:00:00+99:00",
        "-2026-01-01T00:00:00Z",
        "２026-01-01T00:00:00Z",
        "0000-01-01T00:00:00+01:00",
        "",
    ] {
        assert!(value(&format!("date_trunc('day', '{text}')")).is_err(), "{text}");
    }
}

#[test]
fn lists_maps_and_sets_are_looked_into() {
    check("lines[0].price + 1", "2.5");
    check("lines[0].tags[0]", "'a'");
    check("lines[0].tags[1]", "null");
    check("lines[0].tags[9]", "null");
    check("lines[1].price", "null");
    check("lines[2]", "'x'");
    check("lines[9].price", "null");
    check("missing[0]", "null");
    check("lines[0] IS NOT NULL", "true");
    check("lines[1] IS NULL", "true");
    check("cardinality(lines)", "3");
    check("cardinality(m)", "2");
    check("cardinality(m.list)", "0");
    check("cardinality(texts)", "2");
    check("cardinality(binaries)", "1");
    check("cardinality(lines[0].tags)", "2");
    check("cardinality(missing)", "null");
    check("contains(lines, 'x')", "true");
    check("contains(lines, 'y')", "null");
    check("contains(m.list, 'y')", "false");
    check("contains(texts, 'y')", "true");
    check("contains(texts, 'z')", "false");
    check("contains(texts, 1)", "false");
    check("contains(numbers, 1)", "true");
    check("contains(numbers, '1')", "false");
    check("contains(missing, 1)", "null");
    check("contains(texts, missing)", "null");
    check("contains(binaries, 'x')", "false");
    poison("lines[0]", "lines[0]", "N, S or BOOL", "M");
    poison("lines[2].price", "lines[2]", "M", "S");
    poison("texts[0]", "texts", "L", "SS");
    poison("lines[0].price || 'x'", "lines[0].price", "S", "N");
    poison("cardinality(s)", "s", "L, M or a set", "S");
    poison("contains(s, 'a')", "s", "L or a set", "S");
}

#[test]
fn a_filter_leaves_values_out_that_would_be_poison() {
    let view = view("sum(s) FILTER (WHERE no) AS a, count(*) FILTER (WHERE yes) AS b FROM t");
    let Ok(Contribution::Groups(added)) = evaluate(&view, &item()) else { panic!() };
    let counts: Vec<_> = added[0].addends.iter().map(|addend| addend.count).collect();
    assert_eq!(counts, [0, 1]);
}
