//! Typed looks into raw JSON: absent and null are the same, and another type is an error that says where.

use serde_json::{Map, Value};

/// Something that is not shaped like a pod.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{path}: expected {expected}")]
pub struct Malformed {
    /// Where.
    pub path: String,
    /// What should be there.
    pub expected: &'static str,
}

/// A JSON object, or nothing, with the path to it. Absent and null are the same; another type is an error.
pub(super) struct Node<'a> {
    map: Option<&'a Map<String, Value>>,
    path: String,
}

impl<'a> Node<'a> {
    pub(super) fn top(value: &'a Value) -> Result<Self, Malformed> {
        match value {
            Value::Object(map) => Ok(Self { map: Some(map), path: String::new() }),
            _ => Err(Malformed { path: "the object".to_owned(), expected: "a pod" }),
        }
    }

    fn new(value: Option<&'a Value>, path: String) -> Result<Self, Malformed> {
        match value {
            None | Some(Value::Null) => Ok(Self { map: None, path }),
            Some(Value::Object(map)) => Ok(Self { map: Some(map), path }),
            Some(_) => Err(Malformed { path, expected: "an object" }),
        }
    }

    fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    fn value(&self, key: &str) -> Option<&'a Value> {
        self.map?.get(key).filter(|value| !value.is_null())
    }

    fn typed<T>(
        &self,
        key: &str,
        expected: &'static str,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, Malformed> {
        let Some(value) = self.value(key) else { return Ok(None) };
        read(value).map(Some).ok_or_else(|| Malformed { path: self.path_of(key), expected })
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.value(key).is_some()
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = (&'a str, &'a Value)> {
        self.map.into_iter().flatten().filter(|(_, v)| !v.is_null()).map(|(k, v)| (k.as_str(), v))
    }

    pub(super) fn child(&self, key: &str) -> Result<Self, Malformed> {
        match self.value(key) {
            // No path is needed below nothing, and none is made: this is the hot path.
            None => Ok(Self { map: None, path: String::new() }),
            value => Self::new(value, self.path_of(key)),
        }
    }

    pub(super) fn list(&self, key: &str) -> Result<Vec<Self>, Malformed> {
        let Some(items) = self.typed(key, "a list", Value::as_array)? else { return Ok(vec![]) };
        let path = self.path_of(key);
        items.iter().enumerate().map(|(i, item)| Self::new(Some(item), format!("{path}[{i}]"))).collect()
    }

    pub(super) fn list_of_str(&self, key: &str) -> Result<Vec<&'a str>, Malformed> {
        let items = self.typed(key, "a list", Value::as_array)?.map_or(&[][..], Vec::as_slice);
        let strings = items.iter().map(Value::as_str).collect::<Option<_>>();
        strings.ok_or_else(|| Malformed { path: self.path_of(key), expected: "a list of strings" })
    }

    pub(super) fn str(&self, key: &str) -> Result<Option<&'a str>, Malformed> {
        self.typed(key, "a string", Value::as_str)
    }

    pub(super) fn non_empty(&self, key: &str) -> Result<Option<&'a str>, Malformed> {
        Ok(self.str(key)?.filter(|text| !text.is_empty()))
    }

    pub(super) fn bool(&self, key: &str) -> Result<Option<bool>, Malformed> {
        self.typed(key, "a boolean", Value::as_bool)
    }

    pub(super) fn i64(&self, key: &str) -> Result<Option<i64>, Malformed> {
        self.typed(key, "an integer", Value::as_i64)
    }
}
