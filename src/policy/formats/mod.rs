//! Formats of keys, from a data file in the manner of gitleaks.
//!
//! The text is passed over once, by one automaton that knows the keywords of all formats; a format's pattern is tried
//! only where one of its keywords stands, on a few bytes from there on. What it costs does not depend on how many formats
//! there are. What looks like base64 is decoded, once, and passed over in the same way.

mod base64;
mod file;
mod suspicion;
mod text;

pub use file::FormatError;
pub(in crate::policy) use suspicion::is_suspicious;

use aho_corasick::AhoCorasick;
use file::Format;
use std::sync::Arc;

/// Bytes of a name that are looked at, and of what stands under it in one.
const NAMED_BYTES: usize = 1024;

/// What Deputy ships.
const BUILTIN: &str = include_str!("formats.toml");

/// A set of formats, compiled. Matching is linear in the text whatever the patterns are.
#[derive(Clone, Debug, Default)]
pub struct Formats(Arc<Compiled>);

#[derive(Debug, Default)]
struct Compiled {
    /// `None` for no format at all.
    automaton: Option<AhoCorasick>,
    /// By the automaton's numbers.
    keywords: Vec<Keyword>,
    formats: Vec<Format>,
}

/// What the automaton looks for.
#[derive(Debug)]
struct Keyword {
    bytes: usize,
    /// Places in the list of formats.
    formats: Vec<usize>,
}

impl Formats {
    /// The formats Deputy ships.
    ///
    /// # Errors
    /// When the file is broken.
    pub fn builtin() -> Result<Self, FormatError> {
        Self::from_toml(BUILTIN)
    }

    /// The formats Deputy ships, and those of a file of the platform team's: TOML as ours, or the same in JSON.
    ///
    /// # Errors
    /// When it is no such file, or a format is not within bounds.
    pub fn builtin_and(own: &str) -> Result<Self, FormatError> {
        let own =
            if own.trim_start().starts_with('{') { serde_json::from_str(own)? } else { toml::from_str(own)? };
        file::compile([toml::from_str(BUILTIN)?, own])
    }

    /// Compiles a format file.
    ///
    /// # Errors
    /// When it is no such file, or a format is not within bounds.
    pub fn from_toml(text: &str) -> Result<Self, FormatError> {
        file::compile([toml::from_str(text)?])
    }

    /// The id of the first format that `text` holds an instance of: as it stands, or under one layer of base64.
    pub fn find(&self, text: &str) -> Option<&str> {
        let found = self.find_in(text.as_bytes());
        found.or_else(|| base64::layers(text.as_bytes(), |layer| self.find_in(layer)))
    }

    /// As [`Self::find`], in what stands under `name`: a variable's value, a header's, an annotation's.
    pub fn find_under(&self, name: &str, text: &str) -> Option<&str> {
        self.find(text).or_else(|| {
            let name = &name[..name.floor_char_boundary(NAMED_BYTES)];
            let text = &text[..text.floor_char_boundary(NAMED_BYTES)];
            let is_known = self.hits(name.as_bytes()).any(|(_, keyword)| self.is_named(keyword));
            if is_known { self.find_in(format!("{name}={text}").as_bytes()) } else { None }
        })
    }

    /// How many formats there are.
    pub fn len(&self) -> usize {
        self.0.formats.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn is_named(&self, keyword: &Keyword) -> bool {
        keyword.formats.iter().any(|index| self.0.formats[*index].is_named())
    }

    /// Every place where a keyword stands.
    fn hits<'t>(&'t self, text: &'t [u8]) -> impl Iterator<Item = (usize, &'t Keyword)> {
        let hits = self.0.automaton.iter().flat_map(move |automaton| automaton.find_overlapping_iter(text));
        hits.map(|hit| (hit.start(), &self.0.keywords[hit.pattern().as_usize()]))
    }

    fn find_in(&self, text: &[u8]) -> Option<&str> {
        self.hits(text).find_map(|(at, keyword)| {
            let formats = keyword.formats.iter().map(|index| &self.0.formats[*index]);
            let mut matching = formats.filter(|format| format.is_at(text, at, keyword.bytes));
            matching.next().map(Format::id)
        })
    }
}

#[cfg(test)]
mod tests;
