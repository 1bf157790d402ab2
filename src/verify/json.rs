//! JSON objects in which every member is named once, at every depth (RFC 8259, section 4: of two that are equal, readers
//! disagree which counts; RFC 7515, section 4 and RFC 7519, section 4 let us refuse both).

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, Error, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Number, Value};
use std::fmt;

/// The object that `bytes` are, UTF-8 and without a byte beside it; `None` if they are none. How deep it may be is bounded
/// by serde_json.
pub(super) fn object(bytes: &[u8]) -> Option<Map<String, Value>> {
    match serde_json::from_slice(bytes) {
        Ok(Strict(Value::Object(object))) => Some(object),
        _ => None,
    }
}

/// The member `name` of an object that [`object`] has read before: nothing is made of the others.
pub(super) fn member(bytes: &[u8], name: &str) -> Option<Value> {
    serde_json::Deserializer::from_slice(bytes).deserialize_map(Sought(name)).ok().flatten()
}

struct Sought<'n>(&'n str);

impl<'de> Visitor<'de> for Sought<'_> {
    type Value = Option<Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Option<Value>, A::Error> {
        let mut found = None;
        while let Some(is_sought) = members.next_key_seed(Named(self.0))? {
            if is_sought {
                found = Some(members.next_value()?);
            } else {
                members.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }
}

/// Whether a name is this one.
struct Named<'n>(&'n str);

impl<'de> DeserializeSeed<'de> for Named<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Named<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a member")
    }

    fn visit_str<E>(self, name: &str) -> Result<bool, E> {
        Ok(name == self.0)
    }
}

/// A value without repeated members.
struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StrictVisitor).map(Self)
    }
}

struct StrictVisitor;

impl<'de> Visitor<'de> for StrictVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON without repeated members")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("not finite"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Value, A::Error> {
        let mut values = vec![];
        while let Some(Strict(value)) = sequence.next_element()? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            let Strict(value) = members.next_value()?;
            if object.insert(name, value).is_some() {
                return Err(A::Error::custom("a member is repeated"));
            }
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_repeated_member_is_refused_at_any_depth_and_in_any_spelling() {
        for text in [
            r#"{"a": 1, "a": 1}"#,
            r#"{"sub": 1, "\u0073ub": 2}"#,
            r#"{"a": [{"b": {"c": 1, "d": 2, "c": 1}}]}"#,
            r#"{"a": 1} {}"#,
            r#"{"a": 1e999}"#,
            r#"{"a": "\ud800"}"#,
            "[]",
            "1",
            "",
        ] {
            assert_eq!(object(text.as_bytes()), None, "{text}");
        }
        assert_eq!(object(b"{\"a\": \"\xff\"}"), None, "no UTF-8");
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(5000), "]".repeat(5000));
        assert_eq!(object(deep.as_bytes()), None);
        assert!(object(br#"{"a": {"b": 1}, "b": [{"b": 1}, {"b": 2}]}"#).is_some());
    }

    #[test]
    fn one_member_is_found_among_the_others() {
        let text = br#"{"a": {"sought": 1}, "\u0073ought": ["x", {"y": 2}], "b": "sought"}"#;
        for name in ["a", "sought", "b", "c"] {
            assert_eq!(member(text, name).as_ref(), object(text).unwrap().get(name), "{name}");
        }
        assert_eq!((member(b"[]", "a"), member(b"", "a"), member(b"{", "a")), (None, None, None));
    }

    proptest! {
        #[test]
        fn what_is_read_is_what_serde_json_reads(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            if let Some(object) = object(&bytes) {
                prop_assert_eq!(Value::Object(object), serde_json::from_slice::<Value>(&bytes).unwrap());
            }
        }
    }
}
