//! The functions of text: pure, by Unicode code points, without tables of Unicode.
//!
//! Separate because they know no items. They agree with `SQLite`. Case is that of the letters
//! A to Z alone: a table of all letters changes with its version, and rows that were summed up
//! by one would be taken off by another. What it gives up: `É` and `é` are two letters.

use crate::view::definition::{Call, Pattern};
use std::{borrow::Cow, ops::Range, str::Chars};

/// One step of a pattern.
enum Step {
    /// `%`
    AnyText,
    /// `_`
    AnyCharacter,
    Character(char),
    End,
}

fn step(pattern: &mut Chars<'_>, escape: Option<char>) -> Step {
    match pattern.next() {
        None => Step::End,
        Some(one) if Some(one) == escape => pattern.next().map_or(Step::End, Step::Character),
        Some('%') => Step::AnyText,
        Some('_') => Step::AnyCharacter,
        Some(one) => Step::Character(one),
    }
}

/// Whether the whole text has the pattern; case counts.
///
/// Goes back to the last `%` only, so it takes at most the product of both lengths.
pub(super) fn is_like(text: &str, pattern: &Pattern) -> bool {
    let (mut text, mut steps) = (text.chars(), pattern.text.chars());
    // Behind the last `%`, and where in the text that was tried.
    let mut retry: Option<(Chars<'_>, Chars<'_>)> = None;
    loop {
        let (mut steps_after, mut text_after) = (steps.clone(), text.clone());
        let fits = match (step(&mut steps_after, pattern.escape), text_after.next()) {
            (Step::AnyText, _) => {
                retry = Some((steps_after.clone(), text.clone()));
                steps = steps_after;
                continue;
            }
            (Step::End, None) => return true,
            // A later start leaves even less of the text.
            (_, None) => return false,
            (Step::AnyCharacter, Some(_)) => true,
            (Step::Character(wanted), Some(found)) => wanted == found,
            (Step::End, Some(_)) => false,
        };
        if fits {
            (steps, text) = (steps_after, text_after);
            continue;
        }
        let Some((steps_then, text_then)) = &mut retry else { return false };
        text_then.next();
        (steps, text) = (steps_then.clone(), text_then.clone());
    }
}

/// The bytes of the characters from `start`, which counts from 1: all, or so many.
pub(super) fn part(text: &str, start: usize, length: Option<usize>) -> Range<usize> {
    let from = |text: &str, characters: usize| {
        text.char_indices().nth(characters).map_or(text.len(), |(at, _)| at)
    };
    let begin = from(text, start.saturating_sub(1));
    let end = length.map_or(text.len(), |length| begin + from(&text[begin..], length));
    begin..end
}

/// The bytes of a text with every `from` exchanged for `to`.
pub(super) fn replaced_length(text: &str, from: &str, to: &str) -> usize {
    if from.is_empty() {
        return text.len();
    }
    let found = text.matches(from).count();
    (text.len() - found * from.len()).saturating_add(found.saturating_mul(to.len()))
}

/// The text without these characters, or spaces, at the ends that the function means.
pub(super) fn trimmed<'t>(
    text: Cow<'t, str>,
    call: Call,
    characters: Option<&str>,
) -> Cow<'t, str> {
    let strip = |one: char| characters.map_or(one == ' ', |characters| characters.contains(one));
    let cut = |text: &str| {
        let begin = match call {
            Call::Rtrim => 0,
            _ => text.len() - text.trim_start_matches(strip).len(),
        };
        let end = match call {
            Call::Ltrim => text.len(),
            _ => text.trim_end_matches(strip).len(),
        };
        begin..end.max(begin)
    };
    match text {
        Cow::Borrowed(text) => Cow::Borrowed(&text[cut(text)]),
        Cow::Owned(text) => Cow::Owned(text[cut(&text)].to_owned()),
    }
}
