//! `kubectl deputy log`: what is on record, of every replica, in the order in which it happened.

mod filter;
mod table;

pub use filter::Filter;

use crate::audit::{Entry, LogId};
use k8s_openapi::jiff::Timestamp;

/// An entry, and where it stands.
#[derive(Clone, Debug)]
pub struct Found {
    /// Who keeps it: a replica, or a directory.
    pub replica: String,
    /// The id of its log.
    pub origin: String,
    /// Its index there.
    pub index: u64,
    /// The entry as it is stored.
    pub stored: String,
    /// What it says.
    pub entry: Entry,
}

/// A line that is no entry, or one of a form that this version does not know.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// No line of a record.
    #[error("what it says is not a record's")]
    Line,
    /// An entry that this version cannot read.
    #[error("entry {0} cannot be read by this version of the plugin: {1}")]
    Entry(u64, serde_json::Error),
}

/// The entries of one log.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// Who keeps it.
    pub replica: &'a str,
    /// Its id.
    pub origin: &'a str,
}

impl Source<'_> {
    /// An entry as a replica shows it: `{"index":N,"entry":ENTRY}`, in just this form, which leaves ENTRY as it is stored.
    ///
    /// # Errors
    /// When it is none.
    pub fn line(self, line: &str) -> Result<Found, Unreadable> {
        let parts = line.strip_prefix("{\"index\":").and_then(|rest| rest.strip_suffix('}'));
        let (index, stored) =
            parts.and_then(|parts| parts.split_once(",\"entry\":")).ok_or(Unreadable::Line)?;
        self.stored(index.parse().map_err(|_| Unreadable::Line)?, stored.as_bytes())
    }

    /// An entry as it is stored.
    ///
    /// # Errors
    /// When it is none.
    pub fn stored(self, index: u64, stored: &[u8]) -> Result<Found, Unreadable> {
        let entry = serde_json::from_slice(stored).map_err(|error| Unreadable::Entry(index, error))?;
        let (replica, origin) = (self.replica.to_owned(), self.origin.to_owned());
        Ok(Found { replica, origin, index, stored: String::from_utf8_lossy(stored).into_owned(), entry })
    }
}

impl Found {
    /// When it happened.
    pub fn time(&self) -> Timestamp {
        self.entry.ts.0
    }
}

/// An entry that is asked for: its index, and the log if it is named. `LOG#INDEX` is what an answer with a token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The log.
    pub origin: Option<String>,
    /// The index.
    pub index: u64,
}

impl std::str::FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (origin, index) = text.split_once('#').map_or((None, text), |(log, index)| (Some(log), index));
        let is_origin =
            |log: &str| log.len() == 2 * LogId::LENGTH && log.bytes().all(|b| b.is_ascii_hexdigit());
        match index.parse() {
            Ok(index) if origin.is_none_or(is_origin) => {
                Ok(Self { origin: origin.map(str::to_ascii_lowercase), index })
            }
            _ => Err("is no place in a record: give an index, or LOG#INDEX as an answer names it in `audit`"
                .to_owned()),
        }
    }
}

/// In the order of time; of one log in its own.
pub fn merge(found: &mut [Found]) {
    found.sort_by(|one, other| {
        let same = one.origin == other.origin;
        let by_index = if same { one.index.cmp(&other.index) } else { one.origin.cmp(&other.origin) };
        one.time().cmp(&other.time()).then(by_index)
    });
}

#[cfg(test)]
mod tests;
