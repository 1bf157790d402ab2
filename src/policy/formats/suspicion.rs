//! What looks like a key without being of a known format: by what it is called, and by its letters. A guess, good for a
//! warning.

use super::text::{entropy, is_placeholder};

/// Words that name a credential.
const CREDENTIALS: [&str; 11] = [
    "apikey",
    "bearer",
    "credential",
    "credentials",
    "passphrase",
    "passwd",
    "password",
    "privatekey",
    "pwd",
    "secret",
    "token",
];
/// Words that make a key of "key" when they stand before it.
const KINDS_OF_KEY: [&str; 8] =
    ["access", "api", "auth", "encryption", "license", "private", "secret", "signing"];
/// Words that make something else of the whole name, wherever they stand.
const ABOUT: [&str; 8] = ["audience", "checksum", "digest", "fingerprint", "hash", "public", "sha", "sha256"];
/// Words that make something else of the whole name at its end.
const POINTERS: [&str; 24] = [
    "arn",
    "class",
    "dir",
    "endpoint",
    "file",
    "header",
    "host",
    "id",
    "issuer",
    "limit",
    "model",
    "mount",
    "name",
    "namespace",
    "path",
    "prefix",
    "ref",
    "seconds",
    "ttl",
    "type",
    "uri",
    "url",
    "version",
    "volume",
];

/// Whether `value` looks like a key, and `name` says that it is one.
pub(in crate::policy) fn is_suspicious(name: &str, value: &str) -> bool {
    looks_random(value) && names_a_credential(name)
}

fn names_a_credential(name: &str) -> bool {
    let words = words(&name[..name.floor_char_boundary(256)]);
    let is_in = |list: &[&str], word: &String| list.contains(&word.as_str());
    let kind_of_key = |pair: &[String]| pair[1] == "key" && is_in(&KINDS_OF_KEY, &pair[0]);
    let is_named = words.iter().any(|word| is_in(&CREDENTIALS, word)) || words.windows(2).any(kind_of_key);
    is_named
        && !words.iter().any(|word| is_in(&ABOUT, word))
        && !words.last().is_some_and(|word| is_in(&POINTERS, word))
}

/// The words of `API_KEY`, `apiKey`, `x-api-key`, in small letters.
fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut was_small = false;
    for c in name.chars() {
        let begins = !c.is_alphanumeric() || (c.is_uppercase() && was_small);
        if begins && words.last().is_some_and(|word| !word.is_empty()) {
            words.push(String::new());
        }
        if let (true, Some(word)) = (c.is_alphanumeric(), words.last_mut()) {
            word.push(c.to_ascii_lowercase());
        }
        was_small = c.is_lowercase() || c.is_ascii_digit();
    }
    words.retain(|word| !word.is_empty());
    words
}

/// One long word of many different letters and digits. Not words with dashes between, such as a model's name; not a UUID,
/// nor a path, nor what is put in later.
fn looks_random(value: &str) -> bool {
    let value = value.trim();
    let bytes = value.as_bytes();
    if !(20..=512).contains(&bytes.len()) || !bytes.iter().all(u8::is_ascii_graphic) {
        return false;
    }
    let is_open = ["$(", "${", "{{", "<", "://", "sha256:"].iter().any(|mark| value.contains(mark));
    if is_open || value.starts_with(['/', '.', '-']) || is_uuid(bytes) || is_placeholder(bytes) {
        return false;
    }
    let has = |class: fn(&u8) -> bool| bytes.iter().any(class);
    let is_mixed = |part: &str| {
        part.bytes().any(|b| b.is_ascii_alphabetic()) && part.bytes().filter(u8::is_ascii_digit).count() >= 2
    };
    let least = if bytes.iter().all(u8::is_ascii_hexdigit) { 3.0 } else { 3.5 };
    has(u8::is_ascii_digit)
        && has(u8::is_ascii_alphabetic)
        && value.split(|c: char| !c.is_ascii_alphanumeric()).any(|part| part.len() >= 8 && is_mixed(part))
        && entropy(bytes) >= least
}

fn is_uuid(text: &[u8]) -> bool {
    let is_in_place = |(at, byte): (usize, &u8)| match at {
        8 | 13 | 18 | 23 => *byte == b'-',
        _ => byte.is_ascii_hexdigit(),
    };
    text.len() == 36 && text.iter().enumerate().all(is_in_place)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_what_is_a_credential() {
        for name in [
            "API_KEY",
            "apiKey",
            "x-api-key",
            "DB_PASSWORD",
            "--auth-token",
            "clientSecret",
            "ACCESS_KEY",
            "TOKEN",
            "example.com/signing-key",
            "privateKey",
            "GITHUB_TOKEN_2",
        ] {
            assert!(names_a_credential(name), "{name}");
        }
        for name in [
            "TOKEN_FILE",
            "SECRET_NAME",
            "API_KEY_ID",
            "MAX_TOKENS",
            "TOKENIZER",
            "checksum/secret",
            "PUBLIC_TOKEN",
            "KEY",
            "KEYBOARD",
            "PASSWORD_HASH",
            "TOKEN_URL",
            "IMAGE",
            "accessPath",
            "monkey",
            "tokenAudience",
            "",
        ] {
            assert!(!names_a_credential(name), "{name}");
        }
    }

    #[test]
    fn letters_say_what_is_random() {
        let letters: String = "aB3dE6gH9jK2mN5pQ8sTu4vW7".chars().cycle().skip(3).take(33).collect();
        let hex: String = "9f86d081884c7d659a2feaa0".chars().rev().cycle().take(40).collect();
        for value in [letters.clone(), hex, format!("{letters}=="), format!(" {letters}\n")] {
            assert!(looks_random(&value), "{value}");
        }
        for value in [
            "claude-opus-4-20250514",
            "meta-llama/Llama-3.3-70B-Instruct-Turbo",
            "f47ac10b-58cc-4372-a567-0e02b2c3d479",
            "$(API_KEY_FROM_SOMEWHERE_1)",
            "<your-key-goes-here-123>",
            "https://login.example.com/oauth2/v2/token",
            "/var/run/secrets/deputy.dev/tokens/papers2",
            "changeme-changeme-12345678",
            "research-platform@example.com",
            "2026-11-24T22:31:50.123456Z",
            "aaaaaaaaaaaaaaaaaaaaaaaaaa11",
            "short1A2b3C",
            "a sentence with 12345 words and 4b5c6d7e8f9",
        ] {
            assert!(!looks_random(value), "{value}");
        }
        assert!(is_suspicious("API_KEY", &letters) && !is_suspicious("API_KEY_ID", &letters));
    }
}
