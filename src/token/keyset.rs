//! Which keys there are, which one signs, and when the next is made: pure steps over time.
//!
//! A key is published for a while before it signs, and for a while after it has signed last. Which one signs follows from
//! the keys and the time alone: nothing has to be written for it, and replicas that see the same keys agree, but for what
//! their clocks differ, at which both keys are published anyway. So no verifier that refreshes its copy of the keys within
//! [`Life::ahead`] meets a token of a key that it cannot know.

use super::Signer;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use std::fmt;

/// The entry of the Secret in which the keys rest.
pub const SIGNING_KEYS_ENTRY: &str = "keys.json";

/// A signature algorithm of RFC 7518 §3.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Algorithm {
    /// ECDSA with P-256 and SHA-256.
    #[serde(rename = "ES256")]
    Es256,
    /// RSASSA-PKCS1-v1_5 with SHA-256: what RFC 9068 §2.1 has every verifier know.
    #[serde(rename = "RS256")]
    Rs256,
}

impl Algorithm {
    /// Its name in a token's header.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Es256 => "ES256",
            Self::Rs256 => "RS256",
        }
    }
}

/// A key, as it is stored. Its private part is never shown.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SigningKey {
    /// Its name in tokens: the thumbprint of RFC 7638.
    pub kid: String,
    /// What it signs with.
    pub algorithm: Algorithm,
    /// When it was made.
    pub created: Timestamp,
    /// PKCS #8, in base64.
    pkcs8: String,
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kid, algorithm, created, pkcs8: _ } = self;
        write!(f, "{} {kid} of {created}", algorithm.as_str())
    }
}

/// Why a key cannot be used. Says nothing of the key.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SigningKeyError {
    /// The bytes are no key of the algorithm.
    #[error("not a private key of {0:?} in PKCS #8")]
    Malformed(Algorithm),
    /// The key's name is not its thumbprint.
    #[error("key {0:?} is another one than its name says")]
    Misnamed(String),
    /// The text is no set of keys.
    #[error("not a set of signing keys: {0}")]
    Unreadable(String),
    /// The crypto library does not sign.
    #[error("the key does not sign")]
    Signing,
}

impl SigningKey {
    /// A key made at `created` of these bytes.
    ///
    /// # Errors
    /// When they are no key of `algorithm`.
    pub fn new(algorithm: Algorithm, pkcs8: &[u8], created: Timestamp) -> Result<Self, SigningKeyError> {
        let kid = Signer::new(algorithm, pkcs8)?.published().kid.clone();
        Ok(Self { kid, algorithm, created, pkcs8: BASE64_STANDARD.encode(pkcs8) })
    }

    /// What signs with it.
    ///
    /// # Errors
    /// When the stored bytes are not the key they should be.
    pub fn signer(&self) -> Result<Signer, SigningKeyError> {
        let malformed = || SigningKeyError::Malformed(self.algorithm);
        let pkcs8 = BASE64_STANDARD.decode(&self.pkcs8).map_err(|_| malformed())?;
        let signer = Signer::new(self.algorithm, &pkcs8)?;
        if signer.published().kid == self.kid {
            Ok(signer)
        } else {
            Err(SigningKeyError::Misnamed(self.kid.clone()))
        }
    }
}

/// How long keys serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    /// From one key to the next.
    pub rotation: SignedDuration,
    /// How long a key is published before it signs.
    pub ahead: SignedDuration,
    /// How long a key is published after it has signed last: as long as its tokens live, at least.
    pub after: SignedDuration,
}

impl Default for Life {
    /// A month, with an hour before and two after.
    fn default() -> Self {
        Self {
            rotation: SignedDuration::from_hours(30 * 24),
            ahead: SignedDuration::from_hours(1),
            after: SignedDuration::from_hours(2),
        }
    }
}

/// All keys there are, the oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeySet {
    keys: Vec<SigningKey>,
}

/// What is to be done about the keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Make another key, and come again.
    Create,
    /// The oldest is of no use any more: drop it, and come again.
    DropOldest,
    /// Nothing before this time.
    KeepUntil(Timestamp),
}

fn later(at: Timestamp, by: SignedDuration) -> Timestamp {
    at.checked_add(by).unwrap_or(Timestamp::MAX)
}

impl KeySet {
    /// Reads what [`KeySet::to_json`] wrote.
    ///
    /// # Errors
    /// When it is not that.
    pub fn from_json(text: &[u8]) -> Result<Self, SigningKeyError> {
        // Its messages name places and types; a value that does not fit is not repeated.
        let unreadable = |error: serde_json::Error| {
            SigningKeyError::Unreadable(format!("line {}, column {}", error.line(), error.column()))
        };
        let mut set: Self = serde_json::from_slice(text).map_err(unreadable)?;
        set.keys.sort_by_key(|key| key.created);
        Ok(set)
    }

    /// As it is stored, private parts included.
    ///
    /// # Errors
    /// None that the type allows.
    pub fn to_json(&self) -> serde_json::Result<String> {
        serde_json::to_string(self)
    }

    /// All of them, the oldest first.
    pub fn keys(&self) -> &[SigningKey] {
        &self.keys
    }

    /// The key that signs at `now`: the newest that has been published for long enough, else the oldest there is.
    pub fn signing(&self, life: Life, now: Timestamp) -> Option<&SigningKey> {
        let is_ripe = |key: &&SigningKey| later(key.created, life.ahead) <= now;
        self.keys.iter().rev().find(is_ripe).or_else(|| self.keys.first())
    }

    /// What is to be done, with keys of `algorithm` wanted.
    pub fn next(&self, algorithm: Algorithm, life: Life, now: Timestamp) -> Next {
        let Some(newest) = self.keys.last() else { return Next::Create };
        let renewal = later(newest.created, life.rotation);
        if newest.algorithm != algorithm || renewal <= now {
            return Next::Create;
        }
        let Some(successor) = self.keys.get(1) else { return Next::KeepUntil(renewal) };
        let drop = later(later(successor.created, life.ahead), life.after);
        if drop <= now { Next::DropOldest } else { Next::KeepUntil(renewal.min(drop)) }
    }

    /// With another key, the newest.
    #[must_use]
    pub fn with(mut self, key: SigningKey) -> Self {
        self.keys.push(key);
        self
    }

    /// Without the oldest key.
    #[must_use]
    pub fn without_oldest(mut self) -> Self {
        if !self.keys.is_empty() {
            self.keys.remove(0);
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;

    fn minute(n: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + n * 60).unwrap()
    }

    fn key(n: i64, algorithm: Algorithm) -> SigningKey {
        SigningKey { kid: format!("k{n}"), algorithm, created: minute(n), pkcs8: String::new() }
    }

    /// At every minute of four months: whoever fetched the keys within the last hour knows the key that signs, and whoever
    /// fetches them now knows every key that signed within the last hour, which is as long as a token lives.
    #[test]
    fn nobody_meets_a_token_of_a_key_he_cannot_know() {
        let life = Life::default();
        let (mut set, mut past, mut signed) = (KeySet::default(), VecDeque::new(), VecDeque::new());
        let (mut created, mut dropped) = (0, 0);
        for n in 0..120 * 24 * 60 {
            let now = minute(n);
            loop {
                match set.next(Algorithm::Es256, life, now) {
                    Next::Create => {
                        created += 1;
                        set = set.with(key(n, Algorithm::Es256));
                    }
                    Next::DropOldest => {
                        dropped += 1;
                        set = set.without_oldest();
                    }
                    Next::KeepUntil(at) => {
                        assert!(at > now);
                        break;
                    }
                }
            }
            let kids: Vec<_> = set.keys().iter().map(|key| key.kid.clone()).collect();
            let signing = set.signing(life, now).unwrap().kid.clone();
            past.push_back(kids.clone());
            signed.push_back(signing.clone());
            if past.len() > 60 {
                past.pop_front();
                signed.pop_front();
            }
            assert!(past.iter().all(|known| known.contains(&signing)), "minute {n}");
            assert!(signed.iter().all(|kid| kids.contains(kid)), "minute {n}");
        }
        assert!(created == 4 && dropped == 3, "{created} created, {dropped} dropped");
    }

    #[test]
    fn another_algorithm_is_brought_in_like_another_key() {
        let life = Life::default();
        let set = KeySet::default().with(key(0, Algorithm::Es256));
        assert_eq!(set.next(Algorithm::Rs256, life, minute(1)), Next::Create);
        let set = set.with(key(1, Algorithm::Rs256));
        assert_eq!(set.signing(life, minute(60)).unwrap().algorithm, Algorithm::Es256);
        assert_eq!(set.signing(life, minute(61)).unwrap().algorithm, Algorithm::Rs256);
        assert_eq!(set.next(Algorithm::Rs256, life, minute(61)), Next::KeepUntil(minute(181)));
        assert_eq!(set.next(Algorithm::Rs256, life, minute(181)), Next::DropOldest);
    }

    #[test]
    fn what_is_stored_is_read_back_and_what_is_not_a_set_is_told_without_its_content() {
        let set = KeySet::default().with(key(0, Algorithm::Es256)).with(key(1, Algorithm::Rs256));
        assert_eq!(KeySet::from_json(set.to_json().unwrap().as_bytes()), Ok(set));
        let told =
            KeySet::from_json(b"{\"keys\": [{\"kid\": \"s3cret\", \"algorithm\": \"s3cret\"}]}").unwrap_err();
        assert!(!told.to_string().contains("s3cret"), "{told}");
    }
}
