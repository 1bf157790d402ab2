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

/// A string somewhere in a value.
#[derive(Clone, Copy, Debug)]
pub(super) struct Text<'a> {
    /// What it is called: its key, or, of a `value` beside a `name`, that name; the same for what a list holds.
    pub(super) name: &'a str,
    /// The string.
    pub(super) text: &'a str,
}

/// Calls `visit` for every string below `value`. Depth is bounded by the parser that made `value`.
pub(super) fn strings<'a>(value: &'a Value, path: &Path<'_>, visit: &mut dyn FnMut(&Path<'_>, Text<'a>)) {
    visit_under("", value, path, visit);
}

fn visit_under<'a>(
    name: &'a str,
    value: &'a Value,
    path: &Path<'_>,
    visit: &mut dyn FnMut(&Path<'_>, Text<'a>),
) {
    match value {
        Value::String(text) => visit(path, Text { name, text }),
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                visit_under(name, item, &Path::Index(path, index), visit);
            }
        }
        Value::Object(map) => {
            let named = map.get("name").and_then(Value::as_str);
            for (key, item) in map {
                let name = named.filter(|_| key == "value").unwrap_or(key);
                visit_under(name, item, &Path::Key(path, key), visit);
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
        let value = json!({"a": ["x", {"b/c": "y"}], "n": 1, "v": {"name": "N", "value": "z"}});
        let mut seen = vec![];
        strings(&value, &Path::Root("spec"), &mut |path, Text { name, text }| {
            seen.push(format!("{path} {name} {text}"));
        });
        assert_eq!(
            seen,
            ["spec.a[0] a x", "spec.a[1][\"b/c\"] b/c y", "spec.v.name name N", "spec.v.value N z"]
        );
    }
}
