//! `deputy scan`: manifests judged as the webhook would judge them, without a cluster.
//!
//! * **In.** Bytes become text, text documents, documents objects in which every part knows its line ([`read`]).
//! * **The world.** The input's AgentIdentities, exceptions, suspensions and namespaces go through the same
//!   [`Index`](crate::index::Index) as a cluster's; what the controller would make of them, accounts and claims, is taken
//!   as made ([`World`]).
//! * **The verdict.** Pods and templates go through the same `mutate` and `admit` ([`World::judge`]).
//! * **Out.** A [`Report`], for people, for scripts ([`report`]).
//!
//! Pure: the files are read and the report is printed by `cmd`. What is wrong with a file is told with its line, and no
//! value of it is ever repeated.

mod inputs;
mod judge;
mod located;
pub mod report;
mod scalar;
mod text;
mod world;
mod yaml;

pub use inputs::Inputs;
pub use judge::{Judged, Located as LocatedFinding, Report};
pub use located::{Below, Lines, Located};
pub use world::{Options, World};

/// Something of the input that could not be read, or not be judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unread {
    /// The line, counted from one, if it is of one.
    pub line: Option<usize>,
    /// What is wrong. Never repeats what stands there.
    pub message: String,
}

impl Unread {
    /// Something that is wrong on a line.
    pub fn at(line: usize, message: impl Into<String>) -> Self {
        Self { line: Some(line), message: message.into() }
    }

    /// Something that is wrong with the whole.
    pub fn whole(message: impl Into<String>) -> Self {
        Self { line: None, message: message.into() }
    }
}

/// What was read of a file.
#[derive(Debug, Default)]
pub struct Contents {
    /// Its documents.
    pub documents: Vec<Located>,
    /// What of it could not be read. The documents beside it are there all the same.
    pub unread: Vec<Unread>,
}

/// What to do with the source of a Helm chart.
const RENDER: &str = "this is the source of a Helm chart, and no manifest yet; render it first: helm template CHART | deputy scan -f -";

/// Reads a file; `of_chart` is one of a chart's templates.
pub fn read(bytes: &[u8], of_chart: bool) -> Contents {
    let mut contents = Contents::default();
    let text = match text::text(bytes) {
        Ok(text) => text,
        Err(unread) => {
            contents.unread.push(unread);
            return contents;
        }
    };
    let helm = |part: &str, before: usize| {
        let at = part.find("{{")?;
        Some(Unread::at(before + 1 + part[..at].matches('\n').count(), RENDER))
    };
    if let Some(unread) = helm(&text, 0).filter(|_| of_chart) {
        contents.unread.push(unread);
        return contents;
    }
    for (before, part) in parts(&text) {
        match yaml::documents(part, before) {
            Ok(documents) => contents.documents.extend(documents),
            Err(unread) => {
                let unread = helm(part, before).unwrap_or(unread);
                // Of a chart's source, once is enough.
                if unread.message != RENDER || contents.unread.iter().all(|known| known.message != RENDER) {
                    contents.unread.push(unread);
                }
            }
        }
    }
    contents
}

/// The parts of a file between lines of `---`, each with how many lines stand before it: what breaks one does not break the
/// next.
fn parts(text: &str) -> Vec<(usize, &str)> {
    let (mut parts, mut begin, mut before, mut has_content, mut at) = (vec![], 0, 0, false, 0);
    for (number, line) in text.split_inclusive('\n').enumerate() {
        let word = line.trim_end();
        let rest = word.strip_prefix("---");
        let separates = rest.is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t']));
        if separates && has_content {
            parts.push((before, &text[begin..at]));
            (begin, before, has_content) = (at, number, false);
        }
        // Behind directives, `---` begins the document that they are of.
        let is_content = !separates || rest.is_some_and(|rest| !rest.trim().is_empty());
        has_content |= is_content && !word.trim_start().is_empty() && !word.starts_with(['#', '%']);
        at += line.len();
    }
    parts.push((before, &text[begin..]));
    parts
}

#[cfg(test)]
mod tests;
