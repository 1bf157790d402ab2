//! Users under pseudonyms: the record says that it was the same user, and who holds the key can ask whether it was this
//! one. A plain hash would not do: there are few users, and anybody could hash them all.

use super::User;
use aws_lc_rs::hmac;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use std::fmt;

/// The entry of the Secret in which the key rests.
pub const PSEUDONYM_KEY_ENTRY: &str = "key";

/// Bytes a key has at least: as many as HMAC-SHA256 makes (RFC 2104, section 3).
const KEY: usize = 32;
/// Bytes of a pseudonym.
const PSEUDONYM: usize = 16;

/// The key of the pseudonyms.
pub struct PseudonymKey {
    kid: String,
    key: hmac::Key,
}

/// A key too short to be one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the key of the log's pseudonyms has {0} bytes and needs {KEY}, from a source of randomness")]
pub struct WeakKey(usize);

impl PseudonymKey {
    /// The key of these bytes, called `kid` in the log.
    ///
    /// # Errors
    /// When there are fewer than 32.
    pub fn new(kid: String, bytes: &[u8]) -> Result<Self, WeakKey> {
        if bytes.len() < KEY {
            return Err(WeakKey(bytes.len()));
        }
        Ok(Self { kid, key: hmac::Key::new(hmac::HMAC_SHA256, bytes) })
    }

    /// The user that `issuer` calls `subject`. An issuer is a URL and has no NUL, so that no two pairs are one.
    pub fn user(&self, issuer: &str, subject: &str) -> User {
        let mut context = hmac::Context::with_key(&self.key);
        for part in [issuer, "\0", subject] {
            context.update(part.as_bytes());
        }
        let tag = context.sign();
        let tag = tag.as_ref().get(..PSEUDONYM).unwrap_or_default();
        User { pseudonym: URL_SAFE_NO_PAD.encode(tag), kid: self.kid.clone() }
    }
}

impl fmt::Debug for PseudonymKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PseudonymKey").field("kid", &self.kid).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pseudonym_is_the_users_and_the_keys() {
        let [key, other] = [1, 2].map(|byte| PseudonymKey::new(format!("k{byte}"), &[byte; 32]).unwrap());
        let alice = key.user("https://a.example", "alice");
        assert_eq!(alice, key.user("https://a.example", "alice"));
        assert_eq!((alice.pseudonym.len(), alice.kid.as_str()), (22, "k1"));
        for (issuer, subject) in
            [("https://a.example", "bob"), ("https://b.example", "alice"), ("https://a.examplea", "lice")]
        {
            assert_ne!(alice.pseudonym, key.user(issuer, subject).pseudonym, "{issuer} {subject}");
        }
        assert_ne!(alice.pseudonym, other.user("https://a.example", "alice").pseudonym);
    }

    /// Of Python's `hmac`: the first 16 bytes, base64url.
    #[test]
    fn a_pseudonym_can_be_made_elsewhere() {
        let key = PseudonymKey::new("k".into(), &[1; 32]).unwrap();
        assert_eq!(key.user("https://a.example", "alice").pseudonym, "pUC7LM_Bx4UCAOqa2Mj9Hw");
    }

    #[test]
    fn a_key_that_can_be_guessed_is_refused() {
        assert_eq!(PseudonymKey::new("k".into(), &[1; 31]).unwrap_err(), WeakKey(31));
        let shown = format!("{:?}", PseudonymKey::new("k".into(), &[1; 32]).unwrap());
        assert_eq!(shown, "PseudonymKey { kid: \"k\", .. }");
    }
}
