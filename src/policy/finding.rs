//! One thing that is wrong with one place, as a person reads it.

use super::{facts::List, rule::Rule};
use std::fmt;

/// Bytes of a finding's path, and of its message. A name in them, judged before Kubernetes looks at it, may be as long
/// as its pod.
const TEXT_BYTES: usize = 768;

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

/// A container or a volume of the pod, by its place in its list. Names are the pod's own, and as long as it likes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// A container.
    Container(List, usize),
    /// A volume.
    Volume(usize),
}

/// Where in the pod something is: a path, and the container or volume it leads into, if it leads into one.
#[derive(Clone, Debug)]
pub struct Place {
    path: String,
    target: Option<Target>,
}

impl Place {
    /// A place in `target`.
    pub fn within(target: Target, path: String) -> Self {
        Self { path, target: Some(target) }
    }

    /// A place below this one.
    pub fn below(&self, below: &str) -> Self {
        Self { path: format!("{}{below}", self.path), target: self.target }
    }
}

impl From<String> for Place {
    fn from(path: String) -> Self {
        Self { path, target: None }
    }
}

impl From<&str> for Place {
    fn from(path: &str) -> Self {
        path.to_owned().into()
    }
}

/// A rule that does not hold at one place. Never holds a value of the object judged: names and lengths only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The rule.
    pub rule: &'static Rule,
    /// What it leads to.
    pub action: Action,
    /// Where: a path into the object, such as `spec.volumes[1]`; at most [`TEXT_BYTES`].
    pub path: String,
    /// The container or volume it is in, if it is in one.
    pub target: Option<Target>,
    /// What is wrong, in a clause; at most [`TEXT_BYTES`].
    pub message: String,
}

impl Finding {
    /// A finding that refuses the request.
    pub fn deny(rule: &'static Rule, place: impl Into<Place>, message: impl Into<String>) -> Self {
        let Place { path, target } = place.into();
        Self { rule, action: Action::Deny, path: cut(path), target, message: cut(message.into()) }
    }

    /// A finding that only warns.
    pub fn warn(rule: &'static Rule, place: impl Into<Place>, message: impl Into<String>) -> Self {
        Self { action: Action::Warn, ..Self::deny(rule, place, message) }
    }

    /// The same in a pod that lies at `root` of another object.
    pub(super) fn under(self, root: &str) -> Self {
        Self { path: cut(format!("{root}.{}", self.path)), ..self }
    }
}

impl Finding {
    /// Where the rule is explained, in parentheses.
    pub fn reference(&self) -> String {
        format!("(docs/rules.md#{})", self.rule.id.to_ascii_lowercase())
    }

    /// As [`fmt::Display`] has it, without what to do: at most so many bytes, with the reference whole.
    pub fn brief(&self, bytes: usize) -> String {
        let reference = self.reference();
        let text = format!("[{}] {}: {}", self.rule.id, self.path, self.message);
        format!("{} {reference}", cut_to(text, bytes.saturating_sub(reference.len() + 1)))
    }
}

/// `[AI202] spec.volumes[1]: mounts Secret "s"; what to do (docs/rules.md#ai202)`.
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Rule { id, remedy, .. } = self.rule;
        write!(f, "[{id}] {}: {}; {remedy} {}", self.path, self.message, self.reference())
    }
}

/// At most [`TEXT_BYTES`] of `text`, whole characters.
fn cut(text: String) -> String {
    cut_to(text, TEXT_BYTES)
}

/// At most so many bytes of `text`, whole characters.
fn cut_to(mut text: String, bytes: usize) -> String {
    const MARK: &str = "...";
    if text.len() > bytes {
        text.truncate(text.floor_char_boundary(bytes.saturating_sub(MARK.len())));
        text.push_str(MARK);
        text.shrink_to_fit();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::rule::AI001;

    #[test]
    fn a_long_name_is_cut_and_what_to_do_is_not() {
        let name = "é".repeat(1 << 20);
        let finding = Finding::deny(&AI001, name.as_str(), name.as_str());
        assert_eq!((finding.path.len(), finding.message.len()), (767, 767));
        assert!(finding.to_string().ends_with("(docs/rules.md#ai001)"));
    }
}
