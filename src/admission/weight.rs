//! What a review costs in memory, told from its bytes before anything is parsed. A parsed value weighs far more than
//! what is on the wire: an object of one short field takes 15 bytes there and some 700 once parsed.

/// What an object may take until it is answered for: a tree node of 632 bytes with a key and a value on the heap and a
/// place in a list, all of it once more when it is patched, and a finding about it.
const OBJECT_BYTES: usize = 2048;
/// The same for any other value: its part of such a node or list, and the heap's smallest pieces.
const VALUE_BYTES: usize = 384;
/// Copies of a text that may be alive together: the parsed one, and the one that is patched.
const COPIES: usize = 2;

/// The size of a JSON document.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Weight {
    /// Brackets that open objects.
    objects: usize,
    /// Brackets that open lists, commas, and one: no fewer than the values that are no objects.
    others: usize,
    bytes: usize,
}

impl Weight {
    /// Weighs a document, which need not be whole or valid.
    pub(super) fn of(document: &[u8]) -> Self {
        let mut weight = Self { objects: 0, others: 1, bytes: document.len() };
        let mut bytes = document.iter();
        while let Some(byte) = bytes.next() {
            match byte {
                b'{' => weight.objects += 1,
                b'[' | b',' => weight.others += 1,
                b'"' => skip_string(&mut bytes),
                _ => (),
            }
        }
        weight
    }

    /// Values of the document: fields, items, and itself. Exact but for empty lists and objects, which count twice.
    pub(super) fn values(self) -> usize {
        self.objects + self.others
    }

    /// Bytes that the document may take at most once it is parsed.
    pub(super) fn parsed_bytes(self) -> usize {
        let Self { objects, others, bytes } = self;
        objects * OBJECT_BYTES + others * VALUE_BYTES + bytes * COPIES
    }
}

/// Goes behind the quote that ends a string.
fn skip_string(bytes: &mut std::slice::Iter<'_, u8>) {
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => return,
            b'\\' => _ = bytes.next(),
            _ => (),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn values(value: &Value) -> usize {
        match value {
            Value::Array(items) => 1 + items.iter().map(values).sum::<usize>(),
            Value::Object(fields) => 1 + fields.values().map(values).sum::<usize>(),
            _ => 1,
        }
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf =
            prop_oneof![Just(json!(null)), any::<i64>().prop_map(|n| json!(n)), ".*".prop_map(Value::String)];
        leaf.prop_recursive(5, 64, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::Array),
                prop::collection::btree_map(".*", inner, 0..6)
                    .prop_map(|m| Value::Object(m.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn no_value_is_missed(value in any_json(), pretty in any::<bool>()) {
            let document = if pretty { serde_json::to_vec_pretty(&value) } else { serde_json::to_vec(&value) }.unwrap();
            let weight = Weight::of(&document);
            let values = values(&value);
            prop_assert!((values..=2 * values).contains(&weight.values()), "{weight:?} for {values}");
        }
    }

    #[test]
    fn what_stands_in_strings_does_not_count() {
        for (document, values) in [
            (r#""[{,,,\",,,\\""#, 1),
            (r#"{"a,b":"c,d"}"#, 2),
            (r#"[1,2,3]"#, 4),
            (r#"["open,,,"#, 2),
            (r#""ends in a backslash,\"#, 1),
            ("", 1),
        ] {
            assert_eq!(Weight::of(document.as_bytes()).values(), values, "{document}");
        }
    }

    #[test]
    fn many_small_values_weigh_more_than_one_large() {
        let small = r#"{"name":"A"},"#.repeat(10_000);
        let large = "x".repeat(small.len());
        assert!(
            Weight::of(small.as_bytes()).parsed_bytes() > 50 * Weight::of(large.as_bytes()).parsed_bytes()
        );
    }
}
