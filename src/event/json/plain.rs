//! JSON in its plain spelling: no white space, and strings without escapes.
//!
//! Services write it so. Each function here answers at once or not at all, and if it does not,
//! the cursor has not moved: the caller then reads the same place by the general functions. It
//! is separate from the cursor because the rule is another, and so that the fast path can be
//! read on its own.

use super::{Cursor, scan};
use crate::event::number::ShortNumber;

impl<'a> Cursor<'a> {
    /// Passes `"name":`, or `,"name":` behind another member.
    #[inline(always)]
    pub(in crate::event) fn plain_member(&mut self, first: &mut bool) -> Option<&'a str> {
        let quoted = if *first { self.rest } else { self.rest.strip_prefix(",")? };
        let (name, behind) = scan::split_plain(quoted.strip_prefix("\"")?);
        self.rest = behind.strip_prefix("\":")?;
        *first = false;
        Some(name)
    }

    /// Passes a member's name that `known` tells from the text it begins with: what it is, and
    /// how long it is with quotes and colon.
    #[inline(always)]
    pub(in crate::event) fn known_member<K>(
        &mut self,
        first: &mut bool,
        known: impl FnOnce(&str) -> Option<(K, usize)>,
    ) -> Option<K> {
        let quoted = if *first { self.rest } else { self.rest.strip_prefix(",")? };
        let (member, len) = known(quoted)?;
        self.rest = quoted.get(len..)?;
        *first = false;
        Some(member)
    }

    /// Passes this very text.
    #[inline(always)]
    pub(in crate::event) fn plain(&mut self, expected: &str) -> bool {
        match self.rest.strip_prefix(expected) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    /// Passes a string without escapes, and what stands before its first byte and behind its
    /// last: the quotes and more. A brace may open before it that is closed behind it.
    #[inline(always)]
    pub(in crate::event) fn plain_between(
        &mut self,
        before: &str,
        behind: &str,
    ) -> Option<&'a str> {
        if self.depth_left <= 1 {
            return None;
        }
        let (text, rest) = scan::split_plain(self.rest.strip_prefix(before)?);
        self.rest = rest.strip_prefix(behind)?;
        Some(text)
    }

    /// Passes a number between such texts, if `value` can tell what it is.
    #[inline(always)]
    pub(in crate::event) fn plain_number_between<T>(
        &mut self,
        before: &str,
        behind: &str,
        value: impl FnOnce(ShortNumber) -> Option<T>,
    ) -> Option<T> {
        if self.depth_left <= 1 {
            return None;
        }
        let text = self.rest.strip_prefix(before)?;
        let number = ShortNumber::at_start(text.as_bytes())?;
        let rest = text.get(number.len..)?.strip_prefix(behind)?;
        let value = value(number)?;
        self.rest = rest;
        Some(value)
    }

    /// Passes a type tag and its brace, which is counted: `{"tag":`.
    #[inline(always)]
    pub(in crate::event) fn plain_tag(&mut self, tag: &str) -> bool {
        if self.depth_left <= 1 || !self.plain(tag) {
            return false;
        }
        self.depth_left -= 1;
        true
    }

    /// Passes a literal with its tag, which opens and closes a brace.
    #[inline(always)]
    pub(in crate::event) fn plain_literal(&mut self, literal: &str) -> bool {
        self.depth_left > 1 && self.plain(literal)
    }

    /// Whether this text is all that is left.
    #[inline]
    pub(in crate::event) fn is_before_last(&self, text: &str) -> bool {
        self.rest == text
    }

    /// Whether this very text comes next.
    #[inline(always)]
    pub(in crate::event) fn starts_with(&self, expected: &str) -> bool {
        self.rest.starts_with(expected)
    }

    /// The byte after the next two: the first letter of a plain type tag.
    #[inline(always)]
    pub(in crate::event) fn third_byte(&self) -> Option<u8> {
        self.rest.as_bytes().get(2).copied()
    }

    /// Passes a string without escapes.
    #[inline(always)]
    pub(in crate::event) fn plain_string(&mut self) -> Option<&'a str> {
        let (text, rest) = scan::split_plain(self.rest.strip_prefix("\"")?);
        self.rest = rest.strip_prefix("\"")?;
        Some(text)
    }

    /// The characters of a string without escapes that is all there is.
    #[inline]
    pub(in crate::event) fn plain_whole_string(mut self) -> Option<&'a str> {
        self.plain_string().filter(|_| self.rest.is_empty())
    }
}
