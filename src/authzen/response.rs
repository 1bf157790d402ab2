//! The answer.

use crate::oauth::{Half, Reason};
use serde::Serialize;

/// A decision, and what it rests on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evaluation {
    /// Why not; `None`: it may be done.
    pub reason: Option<Reason>,
    /// The evaluation, on record too.
    pub id: String,
    /// Where a permit is on record: the log and its index in it.
    pub audit: Option<String>,
    /// What is known of the user's rights, if they were asked for.
    pub rights: Option<Rights>,
}

/// The user's rights: who said so, and how old it may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Rights {
    /// `kubernetes` or `claims`.
    pub mode: &'static str,
    /// When it was asked, in seconds since 1970.
    pub as_of: i64,
    /// By how many seconds more the answer may be older.
    pub max_age_s: u64,
}

#[derive(Serialize)]
struct Body<'a> {
    decision: bool,
    context: Context<'a>,
}

#[derive(Serialize)]
struct Context<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    half: Option<Half>,
    evaluation_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    audit: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rights: Option<Rights>,
}

impl Evaluation {
    /// The body of the answer, JSON. Its status is 200, whatever it says.
    pub fn body(&self) -> String {
        let Self { reason, id, audit, rights } = self;
        let context = Context {
            reason: reason.map(Reason::as_str),
            half: reason.and_then(Reason::half),
            evaluation_id: id,
            audit: audit.as_deref(),
            rights: *rights,
        };
        // There is nothing in it that JSON cannot say.
        serde_json::to_string(&Body { decision: reason.is_none(), context }).unwrap_or_default()
    }
}
