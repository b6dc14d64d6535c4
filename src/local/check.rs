//! What a compiler would say of view definitions: everything that is wrong, what will hurt, and
//! how a view is kept.
//!
//! What is wrong is the parser's ([`sql::check`]) and the function's own: files that are checked
//! together are refused exactly where a function that has them would not start. What will hurt
//! can be told from the text, and better from a fixture and the template (`warnings.rs`).
//! Separate from the command because a test checks what it says.

pub mod excerpt;
pub mod explain;
pub mod observed;
mod warnings;

use crate::{
    local::template::EventSource,
    view::{
        OpenError, Views,
        definition::View,
        load::{self, LoadError},
        sql::{self, Found, Words},
    },
};
use observed::Observed;
use serde::Serialize;
use std::{
    fmt,
    path::{Path, PathBuf},
};

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// A function with this file does not start.
    Error,
    /// It starts, and something will hurt.
    Warning,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Error => "error",
            Self::Warning => "warning",
        })
    }
}

/// One thing to know about a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    /// How bad it is.
    pub level: Level,
    /// The file, as it was named.
    pub file: String,
    /// Where in it; none if it is about the file as a whole.
    #[serde(flatten)]
    pub place: Option<Words>,
    /// The view, where it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub view: Option<String>,
    /// What is the matter.
    pub message: String,
    /// What would work.
    pub help: String,
}

/// A file that was read.
#[derive(Debug)]
pub struct File {
    /// Its path, as it was named.
    pub name: String,
    /// Its text.
    pub text: String,
    /// The views of it that have no mistake.
    pub views: Vec<Found>,
}

/// What is known of files that a function would be given together.
#[derive(Debug, Default)]
pub struct Check {
    /// The files.
    pub files: Vec<File>,
    /// What there is to know, in the order of the files and their lines.
    pub diagnostics: Vec<Diagnostic>,
}

impl Check {
    /// Reads files, and the `.sql` files of directories, and says what is wrong.
    ///
    /// # Errors
    /// A path cannot be read.
    pub fn of(paths: &[PathBuf]) -> Result<Self, LoadError> {
        let mut check = Self::default();
        for path in paths {
            for file in load::files(path)? {
                let text = load::text(&file)?;
                check.add(file.display().to_string(), text);
            }
        }
        check.refuse_together();
        Ok(check)
    }

    /// Takes a text in, under the name of its file.
    pub fn add(&mut self, name: String, text: String) {
        let checked = sql::check(&text);
        for mistake in checked.mistakes {
            let (error, end) = (mistake.error, mistake.end);
            self.diagnostics.push(Diagnostic {
                level: Level::Error,
                file: name.clone(),
                place: Some(Words { start: (error.line, error.column), end }),
                view: None,
                message: error.problem,
                help: error.remedy,
            });
        }
        self.files.push(File { name, text, views: checked.views });
    }

    /// What no file has by itself: names that clash, and too many views of a source.
    fn refuse_together(&mut self) {
        let all: Vec<View> = self.views().cloned().collect();
        if Views::check(&all).is_ok() {
            return self.sort();
        }
        let mut taken: Vec<View> = Vec::new();
        for file in &self.files {
            for found in &file.views {
                taken.push(found.view.clone());
                let Err(error) = Views::check(&taken) else { continue };
                taken.pop();
                let (message, help) = match error {
                    OpenError::Twice(name) => {
                        let first = self
                            .files
                            .iter()
                            .find(|file| file.views.iter().any(|found| found.view.name == name));
                        let file = first.map_or("", |file| file.name.as_str());
                        let help = "rename one of them, or check the files apart if no function \
                                    has both";
                        (format!("view {name} is in {file} already"), help.to_owned())
                    }
                    other => {
                        let text = other.to_string();
                        let (message, help) = text.split_once("; ").unwrap_or((&text, "split it"));
                        (message.to_owned(), help.to_owned())
                    }
                };
                if self.diagnostics.iter().any(|it| it.message == message) {
                    continue;
                }
                self.diagnostics.push(Diagnostic {
                    level: Level::Error,
                    file: file.name.clone(),
                    place: Some(found.name),
                    view: Some(found.view.name.clone()),
                    message,
                    help,
                });
            }
        }
        self.sort();
    }

    /// Adds what will hurt, as far as the text, a fixture and a template tell.
    pub fn warn(&mut self, observed: &[Observed], template: Option<(&Path, &[EventSource])>) {
        let mut warnings = Vec::new();
        for file in &self.files {
            for found in &file.views {
                warnings.extend(warnings::of(&file.name, found, observed));
            }
        }
        if let Some((path, sources)) = template {
            let views: Vec<&Found> = self.files.iter().flat_map(|file| &file.views).collect();
            warnings.extend(warnings::of_filters(path, sources, &views));
        }
        self.diagnostics.extend(warnings);
        self.sort();
    }

    /// How many there are of a level.
    #[must_use]
    pub fn count(&self, level: Level) -> usize {
        self.diagnostics.iter().filter(|it| it.level == level).count()
    }

    /// The text of a file.
    #[must_use]
    pub fn text_of(&self, name: &str) -> Option<&str> {
        self.files.iter().find(|file| file.name == name).map(|file| file.text.as_str())
    }

    /// All views without a mistake.
    pub fn views(&self) -> impl Iterator<Item = &View> {
        self.files.iter().flat_map(|file| &file.views).map(|found| &found.view)
    }

    fn sort(&mut self) {
        let names: Vec<String> = self.files.iter().map(|file| file.name.clone()).collect();
        self.diagnostics.sort_by_key(|it| {
            let file = names.iter().position(|name| *name == it.file).unwrap_or(usize::MAX);
            (file, it.place.map(|place| place.start), it.level)
        });
    }
}

#[cfg(test)]
mod tests;
