//! An object, and where in its file each part of it stands.

use serde_json::Value;
use std::collections::BTreeMap;

/// A value as it was read, with lines.
#[derive(Clone, Debug)]
pub struct Located {
    /// The value.
    pub value: Value,
    /// Where it stands.
    pub lines: Lines,
}

/// Lines of a value, counted from one. What came by an alias or a merge has the lines of where it was written.
#[derive(Clone, Debug)]
pub struct Lines {
    /// The line it begins on; of what stands under a key, the key's.
    pub line: usize,
    /// What is below.
    pub below: Below,
}

/// Lines of what is below a value.
#[derive(Clone, Debug)]
pub enum Below {
    /// Nothing.
    Leaf,
    /// Items.
    List(Vec<Lines>),
    /// Fields.
    Map(BTreeMap<String, Lines>),
}

impl Lines {
    /// A value with nothing below.
    pub fn leaf(line: usize) -> Self {
        Self { line, below: Below::Leaf }
    }

    /// The line of `path`, in the form findings have it (`spec.volumes[1]`, `metadata.labels["a/b"]`), or of as much of it as
    /// is there: what is missing, or was cut, is missed where it should be.
    pub fn of(&self, path: &str) -> usize {
        let (mut at, mut rest) = (self, path);
        while let Some((below, left)) = at.step(rest) {
            (at, rest) = (below, left);
        }
        at.line
    }

    /// The part that the beginning of `path` leads to, and the rest of the path.
    fn step<'p>(&self, path: &'p str) -> Option<(&Self, &'p str)> {
        let is_whole = |rest: &str| rest.is_empty() || rest.starts_with(['.', '[']);
        match &self.below {
            Below::Leaf => None,
            Below::List(items) => {
                let (index, rest) = path.strip_prefix('[')?.split_once(']')?;
                Some((items.get(index.parse::<usize>().ok()?)?, rest))
            }
            Below::Map(fields) => fields.iter().find_map(|(key, lines)| {
                let plain = path.strip_prefix('.').unwrap_or(path).strip_prefix(key.as_str());
                let quoted = || path.strip_prefix(format!("[{key:?}]").as_str());
                plain.filter(|rest| is_whole(rest)).or_else(quoted).map(|rest| (lines, rest))
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(line: usize, fields: &[(&str, Lines)]) -> Lines {
        let fields = fields.iter().map(|(key, lines)| ((*key).to_owned(), lines.clone())).collect();
        Lines { line, below: Below::Map(fields) }
    }

    #[test]
    fn a_path_leads_to_a_line_and_one_that_is_not_there_to_the_nearest() {
        let volume =
            map(5, &[("name", Lines::leaf(5)), ("secret", map(6, &[("secretName", Lines::leaf(7))]))]);
        let list = Lines { line: 4, below: Below::List(vec![Lines::leaf(4), volume]) };
        let labels = map(9, &[("deputy.dev/agent", Lines::leaf(10)), ("a\"b", Lines::leaf(11))]);
        let top =
            map(1, &[("spec", map(3, &[("volumes", list), ("volume", Lines::leaf(8))])), ("labels", labels)]);
        for (path, line) in [
            ("spec.volumes[1].secret.secretName", 7),
            ("spec.volumes[1].secret", 6),
            ("spec.volumes[1].csi", 5),
            ("spec.volumes[2]", 4),
            ("spec.volume", 8),
            ("spec.volumeMounts", 3),
            ("labels[\"deputy.dev/agent\"]", 10),
            ("labels[\"a\\\"b\"]", 11),
            ("labels[\"deputy.dev/ag...", 9),
            ("nowhere", 1),
            ("", 1),
        ] {
            assert_eq!(top.of(path), line, "{path}");
        }
    }
}
