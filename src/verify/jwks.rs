//! An issuer's keys (RFC 7517): those that can verify what we accept, and no other.

use super::json;
use crate::oauth::Reason;
use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use jsonwebtoken::DecodingKey;
use serde_json::{Map, Value};
use std::collections::HashMap;

/// Most bytes of a set.
pub(super) const BYTES: usize = 256 * 1024;
/// Most keys of a set, the ignored ones included.
const KEYS: usize = 100;
/// Most bytes of a key's name.
pub(super) const KID: usize = 256;
/// Bits of an RSA modulus: RFC 7518, section 3.3, and what can be verified in bounded time.
const MODULUS: std::ops::RangeInclusive<usize> = 2048..=8192;
/// Members of a key that only its holder may know (RFC 7518, section 6). Who publishes them shares the key with all.
const PRIVATE: [&str; 7] = ["d", "p", "q", "dp", "dq", "qi", "k"];

/// A signature algorithm that we accept: all are asymmetric (RFC 7518, section 3.1; RFC 8037; RFC 9864).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Algorithm {
    Rs256,
    Ps256,
    Es256,
    Es384,
    Ed25519,
}

impl Algorithm {
    /// By its name in a header or a key.
    pub(super) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "RS256" => Self::Rs256,
            "PS256" => Self::Ps256,
            "ES256" => Self::Es256,
            "ES384" => Self::Es384,
            "EdDSA" | "Ed25519" => Self::Ed25519,
            _ => return None,
        })
    }

    fn key_type(self) -> KeyType {
        match self {
            Self::Rs256 | Self::Ps256 => KeyType::Rsa,
            Self::Es256 => KeyType::P256,
            Self::Es384 => KeyType::P384,
            Self::Ed25519 => KeyType::Ed25519,
        }
    }

    fn for_library(self) -> jsonwebtoken::Algorithm {
        match self {
            Self::Rs256 => jsonwebtoken::Algorithm::RS256,
            Self::Ps256 => jsonwebtoken::Algorithm::PS256,
            Self::Es256 => jsonwebtoken::Algorithm::ES256,
            Self::Es384 => jsonwebtoken::Algorithm::ES384,
            Self::Ed25519 => jsonwebtoken::Algorithm::EdDSA,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum KeyType {
    Rsa,
    P256,
    P384,
    Ed25519,
}

/// What makes a key this key and no other: a hash over its type and its numbers.
pub(super) type KeyId = [u8; 32];

/// A public key that verifies signatures.
#[derive(Clone, Debug)]
pub(super) struct Key {
    kid: Option<String>,
    key_type: KeyType,
    /// The one algorithm it is for, if it says so.
    algorithm: Option<Algorithm>,
    key: DecodingKey,
    pub(super) id: KeyId,
}

impl Key {
    /// `None` if it cannot verify what we accept, or should not.
    fn parse(jwk: &Map<String, Value>) -> Option<Self> {
        if PRIVATE.iter().any(|member| jwk.contains_key(*member)) || !is_to_verify(jwk) {
            return None;
        }
        let text = |member| jwk.get(member).and_then(Value::as_str);
        let number = |member| BASE64_URL_SAFE_NO_PAD.decode(text(member)?).ok();
        let of_length = |member, length| number(member).filter(|bytes: &Vec<u8>| bytes.len() == length);
        let point = |length| Some([&[4][..], &of_length("x", length)?, &of_length("y", length)?].concat());
        let (key_type, numbers, key) = match (text("kty")?, text("crv")) {
            ("RSA", _) => {
                let (n, e) = (unsigned(number("n")?), unsigned(number("e")?));
                if !is_sound(&n, &e) {
                    return None;
                }
                let length = u32::try_from(n.len()).ok()?.to_be_bytes();
                let key = DecodingKey::from_rsa_raw_components(&n, &e);
                (KeyType::Rsa, [&length[..], &n, &e].concat(), key)
            }
            ("EC", Some("P-256")) => {
                let point: Vec<u8> = point(32)?;
                (KeyType::P256, point.clone(), DecodingKey::from_ec_der(&point))
            }
            ("EC", Some("P-384")) => {
                let point: Vec<u8> = point(48)?;
                (KeyType::P384, point.clone(), DecodingKey::from_ec_der(&point))
            }
            ("OKP", Some("Ed25519")) => {
                let point = of_length("x", 32)?;
                (KeyType::Ed25519, point.clone(), DecodingKey::from_ed_der(&point))
            }
            _ => return None,
        };
        let algorithm = match jwk.get("alg") {
            None => None,
            Some(alg) => Some(Algorithm::named(alg.as_str()?).filter(|named| named.key_type() == key_type)?),
        };
        let kid = match jwk.get("kid") {
            None => None,
            Some(kid) => Some(kid.as_str().filter(|kid| kid.len() <= KID)?.to_owned()),
        };
        let mut id = KeyId::default();
        id.copy_from_slice(digest(&SHA256, &[&[key_type as u8][..], &numbers].concat()).as_ref());
        Some(Self { kid, key_type, algorithm, key, id })
    }

    fn fits(&self, algorithm: Algorithm) -> bool {
        self.key_type == algorithm.key_type() && self.algorithm.is_none_or(|own| own == algorithm)
    }

    /// Whether `signature`, base64url, is this key's over `signed` by `algorithm`, which it [fits](Self::fits).
    pub(super) fn has_signed(&self, algorithm: Algorithm, signed: &str, signature: &str) -> bool {
        let verified =
            jsonwebtoken::crypto::verify(signature, signed.as_bytes(), &self.key, algorithm.for_library());
        matches!(verified, Ok(true))
    }
}

/// RFC 7517, sections 4.2 and 4.3. What is there and not understood forbids.
fn is_to_verify(jwk: &Map<String, Value>) -> bool {
    let names_verify = |operations: &Value| {
        operations.as_array().is_some_and(|all| all.iter().any(|operation| operation == "verify"))
    };
    jwk.get("use").is_none_or(|purpose| purpose == "sig") && jwk.get("key_ops").is_none_or(names_verify)
}

/// Without leading zeros, which some issuers write.
fn unsigned(mut number: Vec<u8>) -> Vec<u8> {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    number.drain(..zeros);
    number
}

/// Whether an RSA key is long enough to be one, and not so long, nor its exponent, that to verify with it costs too much.
/// An exponent of 1 would make every message its own signature.
fn is_sound(n: &[u8], e: &[u8]) -> bool {
    let bits = n.len() * 8 - n.first().map_or(0, |byte| byte.leading_zeros() as usize);
    let is_small = (1..=4).contains(&e.len());
    MODULUS.contains(&bits) && is_small && e != [1] && e.last().is_some_and(|byte| byte % 2 == 1)
}

/// Why a document is no set of keys. Says nothing of its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidKeySet {
    /// Not a JSON Web Key Set.
    #[error("not a JSON Web Key Set, or a member in it is repeated")]
    Malformed,
    /// More bytes or keys than we read.
    #[error("a JSON Web Key Set may have 256 KiB and 100 keys")]
    TooLarge,
}

/// An issuer's keys that can verify what we accept.
#[derive(Clone, Debug, Default)]
pub struct KeySet {
    keys: Vec<Key>,
}

impl KeySet {
    /// Reads a JSON Web Key Set (RFC 7517, section 5). Keys are ignored that cannot verify what we accept (symmetric ones,
    /// RSA below 2048 bits, unknown types), that are for something else by `use`, `key_ops` or `alg`, that come with their
    /// private part, and of which two have one name: nobody could say which is meant.
    ///
    /// # Errors
    /// When it is none, or too large.
    pub fn parse(document: &[u8]) -> Result<Self, InvalidKeySet> {
        if document.len() > BYTES {
            return Err(InvalidKeySet::TooLarge);
        }
        let set = json::object(document).ok_or(InvalidKeySet::Malformed)?;
        let keys = set.get("keys").and_then(Value::as_array).ok_or(InvalidKeySet::Malformed)?;
        if keys.len() > KEYS {
            return Err(InvalidKeySet::TooLarge);
        }
        let mut keys: Vec<_> = keys.iter().filter_map(Value::as_object).filter_map(Key::parse).collect();
        let mut uses = HashMap::<_, usize>::new();
        for key in &keys {
            *uses.entry(key.kid.clone()).or_default() += 1;
        }
        keys.retain(|key| key.kid.is_none() || uses.get(&key.kid) == Some(&1));
        Ok(Self { keys })
    }

    /// Whether there is a key of this name; without a name, whether there is any.
    pub(super) fn has(&self, kid: Option<&str>) -> bool {
        self.keys.iter().any(|key| kid.is_none() || key.kid.as_deref() == kid)
    }

    /// The key that a token of `algorithm` is to be verified with.
    ///
    /// # Errors
    /// [`Reason::SubjectKey`] when there is none of this name, or without a name not exactly one that fits;
    /// [`Reason::SubjectAlg`] when the one of this name is for something else.
    pub(super) fn select(&self, kid: Option<&str>, algorithm: Algorithm) -> Result<&Key, Reason> {
        if kid.is_some() {
            let named = self.keys.iter().find(|key| key.kid.as_deref() == kid).ok_or(Reason::SubjectKey)?;
            return if named.fits(algorithm) { Ok(named) } else { Err(Reason::SubjectAlg) };
        }
        let mut fitting = self.keys.iter().filter(|key| key.fits(algorithm));
        match (fitting.next(), fitting.next()) {
            (Some(key), None) => Ok(key),
            _ => Err(Reason::SubjectKey),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verify::testing::Pair;
    use proptest::prelude::*;
    use serde_json::json;

    fn parse(keys: &Value) -> KeySet {
        KeySet::parse(json!({"keys": keys}).to_string().as_bytes()).unwrap()
    }

    #[test]
    fn corpus_06_jwks_poison() {
        let good = Pair::es256().jwk("good");
        let with = |member: &str, value: Value| {
            let mut key = good.clone();
            key[member] = value;
            key
        };
        let rsa = |bytes: usize, e: &str| {
            let n = BASE64_URL_SAFE_NO_PAD.encode(vec![0xff; bytes]);
            json!({"kty": "RSA", "n": n, "e": e, "kid": "bad"})
        };
        for poison in [
            json!({"kty": "oct", "k": "c2VjcmV0", "kid": "bad"}),
            rsa(128, "AQAB"),
            rsa(255, "AQAB"),
            rsa(1025, "AQAB"),
            rsa(256, "AQ"),
            rsa(256, "AQAA"),
            rsa(256, ""),
            json!({"kty": "RSA", "n": format!("AAAA{}", "A".repeat(400)), "e": "AQAB"}),
            with("d", json!("AAAA")),
            with("use", json!("enc")),
            with("use", json!(null)),
            with("key_ops", json!(["sign"])),
            with("key_ops", json!("verify")),
            with("alg", json!("ES384")),
            with("alg", json!("HS256")),
            with("alg", json!(null)),
            with("kid", json!(7)),
            with("kid", json!("k".repeat(257))),
            with("crv", json!("P-521")),
            with("crv", json!("P-384")),
            with("kty", json!("ec")),
            with("x", json!("AAAA")),
            json!("good"),
        ] {
            let set = parse(&json!([poison]));
            assert!(set.keys.is_empty(), "{poison}");
            let set = parse(&json!([poison, good]));
            assert!(set.has(Some("good")), "{poison} does not harm the others");
        }
        let twice = parse(&json!([good, Pair::es256().jwk("good"), Pair::es384().jwk("other")]));
        assert!(!twice.has(Some("good")) && twice.has(Some("other")), "both are ignored");
    }

    #[test]
    fn a_set_is_bounded() {
        let key = Pair::es256().jwk("k");
        let many = |count| json!({"keys": vec![key.clone(); count]}).to_string();
        assert!(KeySet::parse(many(100).as_bytes()).is_ok());
        assert_eq!(KeySet::parse(many(101).as_bytes()).unwrap_err(), InvalidKeySet::TooLarge);
        let long = json!({"keys": [key], "x": "x".repeat(BYTES)}).to_string();
        assert_eq!(KeySet::parse(long.as_bytes()).unwrap_err(), InvalidKeySet::TooLarge);
        for text in ["", "[]", "{}", r#"{"keys": {}}"#, r#"{"keys": [], "keys": []}"#] {
            assert_eq!(KeySet::parse(text.as_bytes()).unwrap_err(), InvalidKeySet::Malformed, "{text}");
        }
    }

    #[test]
    fn a_key_is_for_its_own_algorithms_alone() {
        let all =
            [Algorithm::Rs256, Algorithm::Ps256, Algorithm::Es256, Algorithm::Es384, Algorithm::Ed25519];
        let rsa = Pair::rs256().jwk("k");
        let mut ps256 = rsa.clone();
        ps256["alg"] = json!("PS256");
        for (jwk, fitting) in [
            (rsa, &all[..2]),
            (ps256, &all[1..2]),
            (Pair::es256().jwk("k"), &all[2..3]),
            (Pair::es384().jwk("k"), &all[3..4]),
            (Pair::ed25519().jwk("k"), &all[4..]),
        ] {
            let set = parse(&json!([jwk]));
            for algorithm in all {
                let named = set.select(Some("k"), algorithm).map(|_| ());
                let expected = if fitting.contains(&algorithm) { Ok(()) } else { Err(Reason::SubjectAlg) };
                assert_eq!(named, expected, "{jwk} {algorithm:?}");
                assert_eq!(set.select(None, algorithm).is_ok(), fitting.contains(&algorithm));
            }
        }
        let two = parse(&json!([Pair::es256().jwk("a"), Pair::es256().jwk("b"), Pair::es384().jwk("c")]));
        assert_eq!(two.select(None, Algorithm::Es256).unwrap_err(), Reason::SubjectKey, "which of the two?");
        assert!(two.select(None, Algorithm::Es384).is_ok());
        assert_eq!(two.select(Some("x"), Algorithm::Es256).unwrap_err(), Reason::SubjectKey);
    }

    proptest! {
        #[test]
        fn any_bytes_can_be_read(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            drop(KeySet::parse(&bytes));
        }
    }
}
