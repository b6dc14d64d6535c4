//! A diagnostic with the line it is about, as a terminal shows it.
//!
//! Separate because widths are its only business: a tab is four columns, a letter of Chinese two,
//! and of a long line only what is around the place is shown. What it gives up: a mistake that
//! goes over several lines is marked on its first.

use super::Diagnostic;
use std::fmt::Write as _;
use unicode_width::UnicodeWidthChar;

/// So many columns of a line are shown at most.
const COLUMNS_MAX: usize = 100;
/// So many of them are before the place, where the line is longer.
const BEFORE: usize = 40;

/// Shows a diagnostic, and where it is if the text of its file is given.
#[must_use]
pub fn render(diagnostic: &Diagnostic, text: Option<&str>) -> String {
    let Diagnostic { level, file, place, message, help, .. } = diagnostic;
    let mut shown = format!("{level}: {message}\n");
    match place {
        None => push(&mut shown, format_args!(" --> {file}\n  = help: {help}\n")),
        Some(place) => {
            let ((line, column), end) = (place.start, place.end);
            let number = line.to_string();
            let margin = " ".repeat(number.len());
            push(&mut shown, format_args!("{margin}--> {file}:{line}:{column}\n"));
            let index = usize::try_from(line - 1).unwrap_or(usize::MAX);
            if let Some(source) = text.and_then(|text| text.split('\n').nth(index)) {
                let last = if end.0 == line { Some(end.1) } else { None };
                let (source, before, width) = marked(source.trim_end_matches('\r'), column, last);
                push(&mut shown, format_args!("{margin} |\n{number} | {source}\n"));
                let (before, carets) = (" ".repeat(before), "^".repeat(width));
                push(&mut shown, format_args!("{margin} | {before}{carets}\n"));
            }
            push(&mut shown, format_args!("{margin} = help: {help}\n"));
        }
    }
    shown
}

/// What is shown of a line, how many columns are before the mark, and how many it has.
fn marked(line: &str, column: u64, end: Option<u64>) -> (String, usize, usize) {
    let at = usize::try_from(column.saturating_sub(1)).unwrap_or(usize::MAX);
    let end = end.map_or(usize::MAX, |end| usize::try_from(end - 1).unwrap_or(usize::MAX));
    let skipped =
        if line.chars().nth(COLUMNS_MAX).is_some() { at.saturating_sub(BEFORE) } else { 0 };
    let (mut shown, mut columns, mut before, mut width) = (String::new(), 0, None, 0);
    if skipped > 0 {
        shown.push('…');
        columns = 1;
    }
    let mut is_cut = false;
    for (index, character) in line.chars().enumerate().skip(skipped) {
        if columns >= COLUMNS_MAX {
            is_cut = true;
            break;
        }
        if index == at {
            before = Some(columns);
        }
        let wide = match character {
            '\t' => 4,
            _ => character.width().unwrap_or(1),
        };
        match character {
            '\t' => shown.push_str("    "),
            _ if character.is_control() => shown.push('\u{fffd}'),
            _ => shown.push(character),
        }
        if (at..end).contains(&index) {
            width += wide;
        }
        columns += wide;
    }
    if is_cut {
        shown.push('…');
    }
    (shown, before.unwrap_or(columns), width.max(1))
}

fn push(text: &mut String, part: std::fmt::Arguments<'_>) {
    text.write_fmt(part).expect("a String takes all text");
}

#[cfg(test)]
mod tests {
    use super::marked;

    #[track_caller]
    fn check(line: &str, (column, end): (u64, u64), expect: &str, mark: &str) {
        let (shown, before, width) = marked(line, column, Some(end));
        assert_eq!(shown, expect);
        assert_eq!(" ".repeat(before) + &"^".repeat(width), mark);
    }

    #[test]
    fn the_mark_stands_under_the_word_whatever_is_before_it() {
        check("a == 1", (3, 5), "a == 1", "  ^^");
        check("\ta == 1", (4, 6), "    a == 1", "      ^^");
        check("'寸法' == 1", (6, 8), "'寸法' == 1", "       ^^");
        check("a\u{7}b", (2, 3), "a\u{fffd}b", " ^");
        check("a", (2, 3), "a", " ^");
        check("", (1, 2), "", "^");
    }

    #[test]
    fn of_a_long_line_the_place_is_shown() {
        let line = format!("{}==1{}", "a".repeat(500_000), "b".repeat(500_000));
        let (shown, before, width) = marked(&line, 500_001, Some(500_003));
        assert_eq!((before, width), (41, 2));
        assert_eq!(shown.chars().skip(41).take(3).collect::<String>(), "==1");
        assert!(shown.starts_with('…') && shown.ends_with('…') && shown.chars().count() < 110);
    }
}
