//! `SQLite` computing the same SQL over the final items: the oracle of every view.
//!
//! Nested paths become flat columns, typed by what the items hold, so that `SQLite` coerces
//! nothing. Integers and text must equal exactly, decimals and averages within 1e-9
//! relative; sums of plain columns are compared exactly as well, against integers scaled by
//! 10^9 (the declared scale).

use bigdecimal::{BigDecimal, ToPrimitive};
use changefold::view::{rows::Listing, scalar::Scalar};
use flate2::read::MultiGzDecoder;
use rusqlite::{Connection, types::Value as Sql};
use serde_json::{Value as Json, json};
use std::{collections::BTreeMap, fmt::Write as _, io::Read as _, path::Path};

const SCALE: u32 = 9;

/// The items of a table at rest, by key.
pub(crate) type Items = BTreeMap<String, Json>;

/// Applies one stream record to the items.
pub(crate) fn follow(items: &mut Items, record: &Json) {
    let change = &record["dynamodb"];
    let key = change["Keys"].to_string();
    match record["eventName"].as_str() {
        Some("REMOVE") => items.remove(&key),
        _ => items.insert(key, change["NewImage"].clone()),
    };
}

/// The items at the end of a fixture of one record a line, gzipped or not.
pub(crate) fn items(fixture: &Path) -> Items {
    let bytes = std::fs::read(fixture).unwrap();
    let mut text = String::new();
    MultiGzDecoder::new(bytes.as_slice()).read_to_string(&mut text).unwrap_or_else(|_| {
        text = String::from_utf8(bytes.clone()).unwrap();
        text.len()
    });
    let mut items = Items::new();
    for line in text.lines() {
        follow(&mut items, &serde_json::from_str(line).unwrap());
    }
    items
}

/// The statements of a file of views, without its comments.
pub(crate) fn statements(text: &str) -> Vec<String> {
    let code: Vec<&str> = text.lines().map(|line| line.split("--").next().unwrap()).collect();
    let code = code.join("\n");
    let statements = code.split(';').map(str::trim).filter(|statement| !statement.is_empty());
    statements.map(str::to_owned).collect()
}

/// What differs between a view's rows and `SQLite`'s, if anything.
pub(crate) fn compare(
    create_view: &str,
    from: &str,
    items: &Items,
    listing: &Listing,
) -> Result<(), String> {
    compare_joined(create_view, &[(from, items)], listing)
}

/// The same of a view that reads several tables: what it selects from comes first. Their names have
/// aliases in the statement.
pub(crate) fn compare_joined(
    create_view: &str,
    tables: &[(&str, &Items)],
    listing: &Listing,
) -> Result<(), String> {
    let database = Connection::open_in_memory().unwrap();
    for (table, items) in tables {
        load(&database, table, items);
    }
    let (from, _) = tables[0];
    let select = select_of(create_view);
    let tokens = tokens(select);
    let plain = rows_of(&database, &rewritten(&tokens, from, false));
    let exact = rows_of(&database, &rewritten(&tokens, from, true));
    let ours: Vec<Vec<Cell>> =
        listing.rows.iter().map(|row| row.iter().map(cell).collect()).collect();
    same_rows(create_view, &ours, &plain, close)?;
    if plain != exact {
        same_rows(create_view, &ours, &exact, |ours, theirs| {
            close(ours, theirs) || scaled(ours, theirs)
        })?;
    }
    Ok(())
}

fn same_rows(
    view: &str,
    ours: &[Vec<Cell>],
    theirs: &[Vec<Cell>],
    equal: impl Fn(&Cell, &Cell) -> bool,
) -> Result<(), String> {
    // The first rows are told by their order as well.
    let is_ordered = view.to_uppercase().contains("ORDER BY");
    let (ours, theirs) = if is_ordered {
        (ours.iter().collect(), theirs.iter().collect())
    } else {
        (ordered(ours), ordered(theirs))
    };
    if ours.len() != theirs.len() {
        return Err(format!("{view}: {} rows, SQLite has {}", ours.len(), theirs.len()));
    }
    for (ours, theirs) in ours.iter().zip(&theirs) {
        let same =
            ours.len() == theirs.len() && ours.iter().zip(theirs.iter()).all(|(a, b)| equal(a, b));
        if !same {
            return Err(format!("{view}: row {ours:?}, SQLite has {theirs:?}"));
        }
    }
    Ok(())
}

#[derive(Debug, Clone, PartialEq, PartialOrd)]
enum Cell {
    Null,
    Integer(i64),
    Decimal(BigDecimal),
    Real(f64),
    Text(String),
}

fn cell(scalar: &Scalar) -> Cell {
    match scalar {
        Scalar::Null => Cell::Null,
        Scalar::Bool(value) => Cell::Integer(i64::from(*value)),
        Scalar::Number(value) if value.is_integer() => {
            value.to_i64().map_or(Cell::Decimal(value.clone()), Cell::Integer)
        }
        Scalar::Number(value) => Cell::Decimal(value.clone()),
        Scalar::Text(text) => Cell::Text(text.clone()),
    }
}

fn float(cell: &Cell) -> Option<f64> {
    match cell {
        #[expect(clippy::cast_precision_loss, reason = "compared within a tolerance")]
        Cell::Integer(value) => Some(*value as f64),
        Cell::Decimal(value) => value.to_f64(),
        Cell::Real(value) => Some(*value),
        Cell::Null | Cell::Text(_) => None,
    }
}

fn close(ours: &Cell, theirs: &Cell) -> bool {
    match (ours, theirs) {
        (Cell::Integer(ours), Cell::Integer(theirs)) => ours == theirs,
        _ => match (float(ours), float(theirs)) {
            (Some(ours), Some(theirs)) => {
                (ours - theirs).abs() <= 1e-9 * ours.abs().max(theirs.abs()).max(1.0)
            }
            _ => ours == theirs,
        },
    }
}

/// A sum against `SQLite`'s sum of the same values as integers times 10^9.
fn scaled(ours: &Cell, theirs: &Cell) -> bool {
    let ours = match ours {
        Cell::Integer(value) => BigDecimal::from(*value),
        Cell::Decimal(value) => value.clone(),
        _ => return false,
    };
    matches!(theirs, Cell::Integer(theirs) if ours * 10_u64.pow(SCALE) == *theirs)
}

/// Rows ordered by their exact cells only, so that rounding cannot change the order.
fn ordered(rows: &[Vec<Cell>]) -> Vec<&Vec<Cell>> {
    let mut rows: Vec<&Vec<Cell>> = rows.iter().collect();
    let exact = |row: &Vec<Cell>| {
        let mut text = String::new();
        for cell in row {
            match cell {
                Cell::Text(value) => write!(text, "s{value}\u{0}").unwrap(),
                Cell::Null => text.push_str("n\u{0}"),
                _ => {}
            }
        }
        text
    };
    rows.sort_by(|a, b| {
        exact(a).cmp(&exact(b)).then_with(|| {
            let floats = |row: &Vec<Cell>| row.iter().filter_map(float).collect::<Vec<_>>();
            floats(a).partial_cmp(&floats(b)).expect("no NaN here")
        })
    });
    rows
}

fn rows_of(database: &Connection, select: &str) -> Vec<Vec<Cell>> {
    let mut statement =
        database.prepare(select).unwrap_or_else(|error| panic!("{select}: {error}"));
    let columns = statement.column_count();
    let rows = statement.query_map([], |row| {
        (0..columns)
            .map(|index| {
                Ok(match row.get::<_, Sql>(index)? {
                    Sql::Null => Cell::Null,
                    Sql::Integer(value) => Cell::Integer(value),
                    Sql::Real(value) => Cell::Real(value),
                    Sql::Text(text) => Cell::Text(text),
                    Sql::Blob(_) => unreachable!("no column holds bytes"),
                })
            })
            .collect()
    });
    rows.unwrap().collect::<Result<_, _>>().unwrap()
}

fn load(database: &Connection, from: &str, items: &Items) {
    let flat: Vec<BTreeMap<String, Sql>> = items
        .values()
        .map(|item| {
            let mut columns = BTreeMap::new();
            for (name, value) in item.as_object().unwrap() {
                flatten(name, value, &mut columns);
            }
            columns
        })
        .collect();
    let mut kinds: BTreeMap<&str, &str> = BTreeMap::new();
    for (name, value) in flat.iter().flatten() {
        let kind = match value {
            Sql::Null => continue,
            Sql::Integer(_) => "INTEGER",
            Sql::Real(_) => "REAL",
            _ => "TEXT",
        };
        let known = kinds.entry(name).or_insert(kind);
        if kind == "REAL" {
            *known = kind;
        }
    }
    let columns: Vec<String> =
        kinds.iter().map(|(name, kind)| format!("\"{name}\" {kind}")).collect();
    let create = format!("CREATE TABLE \"{from}\" ({}) STRICT", columns.join(", "));
    database.execute(&create, []).unwrap();
    let places = vec!["?"; kinds.len()].join(", ");
    let mut insert =
        database.prepare(&format!("INSERT INTO \"{from}\" VALUES ({places})")).unwrap();
    for item in &flat {
        let values = kinds.keys().map(|name| item.get(*name).cloned().unwrap_or(Sql::Null));
        insert.execute(rusqlite::params_from_iter(values)).unwrap();
    }
}

fn flatten(name: &str, value: &Json, columns: &mut BTreeMap<String, Sql>) {
    let (kind, value) = value.as_object().unwrap().iter().next().unwrap();
    match kind.as_str() {
        "S" => {
            columns.insert(name.to_owned(), Sql::Text(value.as_str().unwrap().to_owned()));
        }
        "N" => {
            let digits = value.as_str().unwrap();
            let number: BigDecimal = digits.parse().unwrap();
            let plain = number
                .is_integer()
                .then(|| number.to_i64())
                .flatten()
                .map_or_else(|| Sql::Real(digits.parse().unwrap()), Sql::Integer);
            columns.insert(name.to_owned(), plain);
            if let Some(scaled) = (number * 10_u64.pow(SCALE)).to_i64() {
                columns.insert(format!("{name}#scaled"), Sql::Integer(scaled));
            }
        }
        "BOOL" => {
            columns.insert(name.to_owned(), Sql::Integer(i64::from(value.as_bool().unwrap())));
        }
        "M" => {
            for (member, value) in value.as_object().unwrap() {
                flatten(&format!("{name}.{member}"), value, columns);
            }
        }
        "L" => {
            columns.insert(name.to_owned(), Sql::Text(plain(&json!({ "L": value })).to_string()));
        }
        // NULL is a missing column; the views of the fixtures look at nothing else.
        _ => {}
    }
}

/// An attribute as JSON without its types.
fn plain(attribute: &Json) -> Json {
    let (kind, value) = attribute.as_object().unwrap().iter().next().unwrap();
    match kind.as_str() {
        "N" => Json::Number(value.as_str().unwrap().parse().unwrap()),
        "L" => value.as_array().unwrap().iter().map(plain).collect(),
        "M" => {
            let members = value.as_object().unwrap().iter();
            Json::Object(members.map(|(name, value)| (name.clone(), plain(value))).collect())
        }
        "NULL" => Json::Null,
        _ => value.clone(),
    }
}

fn select_of(create_view: &str) -> &str {
    let upper = create_view.to_uppercase();
    let start = upper.find("SELECT").expect("a view selects");
    &create_view[start..]
}

#[derive(Debug, Clone, PartialEq)]
enum Token<'a> {
    Word(&'a str),
    Other(&'a str),
}

fn tokens(text: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let is_word = |c: char| c.is_alphanumeric() || c == '_' || c == '.';
        let length = match first {
            '\'' | '"' => rest[1..].find(first).expect("quotes close") + 2,
            c if c.is_alphabetic() || c == '_' => rest.find(|c| !is_word(c)).unwrap_or(rest.len()),
            c => c.len_utf8(),
        };
        let (token, after) = rest.split_at(length);
        let word = first.is_alphabetic() || first == '_';
        tokens.push(if word { Token::Word(token) } else { Token::Other(token) });
        rest = after;
    }
    tokens
}

/// The SELECT for `SQLite`: paths as flat columns and, if asked, sums of a plain column over
/// its scaled twin.
fn rewritten(tokens: &[Token<'_>], from: &str, scaled: bool) -> String {
    let aliases = aliases(tokens);
    let element = element(tokens);
    let flat = |path: &str, twin: &str| match path.split_once('.') {
        Some((alias, rest)) if Some(alias) == element => {
            format!("json_extract({alias}.value, '$.{rest}')")
        }
        Some((alias, rest)) if aliases.contains(&alias) => format!("{alias}.\"{rest}{twin}\""),
        _ => {
            let path = path.strip_prefix(&format!("{from}.")).unwrap_or(path);
            format!("\"{path}{twin}\"")
        }
    };
    let mut text = String::new();
    let mut index = 0;
    while index < tokens.len() {
        if let [Token::Word(sum), Token::Other("("), Token::Word(path), Token::Other(")"), ..] =
            &tokens[index..]
            && scaled
            && sum.eq_ignore_ascii_case("sum")
        {
            write!(text, "sum({})", flat(path, "#scaled")).unwrap();
            index += 4;
            continue;
        }
        match &tokens[index] {
            Token::Word(path) if path.contains('.') => text.push_str(&flat(path, "")),
            Token::Word(text_of) | Token::Other(text_of) => text.push_str(text_of),
        }
        index += 1;
    }
    // `SQLite` calls them otherwise.
    text.replace("unnest(", "json_each(")
        .replace("date_trunc('hour', ", "strftime('%Y-%m-%dT%H:00:00Z', ")
}

/// What an element of the list is called, of a statement that reads those.
fn element<'t>(tokens: &[Token<'t>]) -> Option<&'t str> {
    let mut words = tokens.iter().filter_map(|token| match token {
        Token::Word(word) => Some(*word),
        Token::Other(_) => None,
    });
    words.find(|word| *word == "unnest")?;
    words.nth(2)
}

/// What the tables are called, of a statement that reads several or the elements of a list.
fn aliases<'t>(tokens: &[Token<'t>]) -> Vec<&'t str> {
    let words: Vec<&str> = tokens
        .iter()
        .filter_map(|token| match token {
            Token::Word(word) => Some(*word),
            Token::Other(_) => None,
        })
        .collect();
    if !words.contains(&"JOIN") && !words.contains(&"unnest") {
        return Vec::new();
    }
    let named = words.windows(3).filter(|words| matches!(words[0], "FROM" | "JOIN"));
    named.map(|words| words[2]).collect()
}
