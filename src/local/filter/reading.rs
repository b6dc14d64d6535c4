//! A pattern that is being read, and where.

use super::{
    PatternError,
    written::{At, Document},
};

/// A walk over a document that knows where it is.
pub(super) struct Reading<'d, 't> {
    pub(super) document: &'d Document<'t>,
    /// Keys and indices from the outside in.
    pub(super) path: String,
}

impl Reading<'_, '_> {
    /// Goes into a part of the place where it is, and back. An error keeps its own place.
    pub(super) fn within<T>(
        &mut self,
        part: &str,
        work: impl FnOnce(&mut Self) -> Result<T, PatternError>,
    ) -> Result<T, PatternError> {
        let length = self.path.len();
        if length > 0 && !part.starts_with('[') {
            self.path.push('.');
        }
        self.path.push_str(part);
        let result = work(self);
        self.path.truncate(length);
        result
    }

    pub(super) fn error(&self, found: String, allowed: &'static str) -> PatternError {
        PatternError::Refused { place: self.path.clone(), found, allowed }
    }

    pub(super) fn refused(&self, at: At, allowed: &'static str) -> PatternError {
        self.error(self.document.found(at), allowed)
    }
}
