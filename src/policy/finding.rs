//! One thing that is wrong with one place, as a person reads it.

use super::rule::Rule;
use std::fmt;

/// What a finding leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    /// The request is refused.
    Deny,
    /// The request goes through with a warning.
    Warn,
}

impl Action {
    /// The word for it in output and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Deny => "deny",
            Self::Warn => "warn",
        }
    }
}

/// A rule that does not hold at one place. Never holds a value of the object judged: names and lengths only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The rule.
    pub rule: &'static Rule,
    /// What it leads to.
    pub action: Action,
    /// Where: a path into the object, such as `spec.volumes[1]`.
    pub path: String,
    /// What is wrong, in a clause.
    pub message: String,
}

impl Finding {
    /// A finding that refuses the request.
    pub fn deny(rule: &'static Rule, path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { rule, action: Action::Deny, path: path.into(), message: message.into() }
    }

    /// A finding that only warns.
    pub fn warn(rule: &'static Rule, path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { action: Action::Warn, ..Self::deny(rule, path, message) }
    }
}

/// `[AI202] spec.volumes[1]: mounts Secret "s"; what to do (docs/rules.md#ai202)`.
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Rule { id, remedy, .. } = self.rule;
        let anchor = id.to_ascii_lowercase();
        write!(f, "[{id}] {}: {}; {remedy} (docs/rules.md#{anchor})", self.path, self.message)
    }
}
