//! Every string of a JSON value with the path to it; the path costs nothing until somebody prints it.

use serde_json::Value;
use std::fmt;

/// A path into a value, as a list from the leaf up.
#[derive(Clone, Copy, Debug)]
pub(super) enum Path<'p> {
    /// The top: a name of its own.
    Root(&'p str),
    /// A key of an object.
    Key(&'p Self, &'p str),
    /// An element of a list.
    Index(&'p Self, usize),
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root(name) => f.write_str(name),
            Self::Key(parent, key) if is_plain(key) => write!(f, "{parent}.{key}"),
            Self::Key(parent, key) => write!(f, "{parent}[{key:?}]"),
            Self::Index(parent, index) => write!(f, "{parent}[{index}]"),
        }
    }
}

fn is_plain(key: &str) -> bool {
    !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// Calls `visit` for every string below `value`. Depth is bounded by the parser that made `value`.
pub(super) fn strings<'a>(value: &'a Value, path: &Path<'_>, visit: &mut dyn FnMut(&Path<'_>, &'a str)) {
    match value {
        Value::String(text) => visit(path, text),
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                strings(item, &Path::Index(path, index), visit);
            }
        }
        Value::Object(map) => {
            for (key, item) in map {
                strings(item, &Path::Key(path, key), visit);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_string_is_visited_with_its_path() {
        let value = json!({"a": ["x", {"b/c": "y"}], "n": 1});
        let mut seen = vec![];
        strings(&value, &Path::Root("spec"), &mut |path, text| {
            seen.push((path.to_string(), text.to_owned()))
        });
        assert_eq!(seen, [("spec.a[0]".into(), "x".into()), ("spec.a[1][\"b/c\"]".into(), "y".to_owned())]);
    }
}
