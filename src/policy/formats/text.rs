//! What a key's surroundings and its own letters say.

/// What stands in keys that are none. In small letters.
const PLACEHOLDERS: [&str; 11] = [
    "abcdefgh",
    "changeme",
    "dummy",
    "example",
    "placeholder",
    "redacted",
    "xxxxx",
    "your-",
    "your_",
    "yourkey",
    "12345678",
];

/// Whether a word may begin at `at`: no letter or digit stands before, unless an escape ends there, as in `\nKEY` or
/// `%20KEY`.
pub(super) fn may_begin(text: &[u8], at: usize) -> bool {
    let word = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    if !word(text.get(at)) || !word(text[..at].last()) {
        return true;
    }
    let before = &text[..at];
    let escaped = |mark: &[u8], digits: usize| {
        let from = before.len().checked_sub(mark.len() + digits);
        let escape = from.and_then(|from| before[from..].strip_prefix(mark));
        escape.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    };
    matches!(before, [.., b'\\', b'a' | b'b' | b'f' | b'n' | b'r' | b't' | b'v'])
        || escaped(b"%", 2)
        || escaped(b"\\x", 2)
        || escaped(b"\\u", 4)
}

/// Whether a word may end before `end`.
pub(super) fn may_end(text: &[u8], end: usize) -> bool {
    let word = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    !word(text[..end].last()) || !word(text.get(end))
}

/// Shannon's entropy in bits a byte.
pub(super) fn entropy(text: &[u8]) -> f64 {
    let mut counts = [0_u32; 256];
    for byte in text {
        counts[usize::from(*byte)] += 1;
    }
    let total = text.len() as f64;
    let bits = |count: &u32| {
        let share = f64::from(*count) / total;
        -share * share.log2()
    };
    counts.iter().filter(|count| **count > 0).map(bits).sum()
}

/// Whether it says itself that it is none.
pub(super) fn is_placeholder(text: &[u8]) -> bool {
    let text = text.to_ascii_lowercase();
    PLACEHOLDERS.iter().any(|word| text.windows(word.len()).any(|part| part == word.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_begins_after_what_is_no_word_and_after_an_escape() {
        for (before, may) in [
            ("", true),
            (" ", true),
            ("_", true),
            ("\\n", true),
            ("x\\\\n", true),
            ("%20", true),
            ("a%3D", true),
            ("\\u003d", true),
            ("\\x22", true),
            ("a", false),
            ("0", false),
            ("%2g", false),
            ("n", false),
            ("\\q", false),
            ("u003d", false),
        ] {
            let text = format!("{before}key");
            assert_eq!(may_begin(text.as_bytes(), before.len()), may, "{text}");
        }
        assert!(may_begin(b"a-----", 1), "what begins with no letter may stand anywhere");
        assert!(may_end(b"key", 3) && may_end(b"key ", 3) && may_end(b"key=x", 4) && !may_end(b"keys", 3));
    }

    #[test]
    fn entropy_is_nothing_for_one_letter_and_all_for_all() {
        assert!(entropy(b"aaaaaaaa") < 0.001);
        assert!((entropy(b"abcdefgh") - 3.0).abs() < 0.001);
    }
}
