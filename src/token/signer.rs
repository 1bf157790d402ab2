//! One key in use: it signs, and shows its public part.

use super::{Algorithm, SigningKeyError};
use aws_lc_rs::{
    digest::{SHA256, digest},
    rand::SystemRandom,
    rsa::PublicKeyComponents,
    signature::{
        ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _,
        RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, RsaKeyPair, UnparsedPublicKey,
    },
};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use std::{borrow::Cow, fmt, sync::OnceLock};

/// The public part of a key.
#[derive(Clone, Debug, PartialEq)]
pub struct Published {
    /// Its name: the thumbprint of RFC 7638.
    pub kid: String,
    /// The JSON Web Key of RFC 7517, with `kid`, `alg` and `use`.
    pub jwk: Value,
}

enum Pair {
    Ecdsa(Box<EcdsaKeyPair>),
    Rsa(Box<RsaKeyPair>),
}

/// A key in use.
pub struct Signer {
    algorithm: Algorithm,
    pair: Pair,
    published: Published,
    random: SystemRandom,
    /// The `typ` it was asked for first, which is the one it is asked for always, and the header that goes with it.
    header: OnceLock<(String, String)>,
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.algorithm.as_str(), self.published.kid)
    }
}

impl Signer {
    /// Takes a key of `algorithm` into use, from PKCS #8.
    ///
    /// # Errors
    /// When the bytes are none.
    pub fn new(algorithm: Algorithm, pkcs8: &[u8]) -> Result<Self, SigningKeyError> {
        let malformed = |_| SigningKeyError::Malformed(algorithm);
        let encoded = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
        // The members that RFC 7638 §3.2 requires, in its order: lexicographic, as serde_json's map has them.
        let (pair, required) = match algorithm {
            Algorithm::Es256 => {
                let pair =
                    EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8).map_err(malformed)?;
                // SEC 1 §2.3.3, uncompressed: 4, then x and y.
                let Some((4, point)) =
                    pair.public_key().as_ref().split_first().map(|(form, point)| (*form, point))
                else {
                    return Err(SigningKeyError::Malformed(algorithm));
                };
                let (x, y) = point.split_at(point.len() / 2);
                let required = json!({"crv": "P-256", "kty": "EC", "x": encoded(x), "y": encoded(y)});
                (Pair::Ecdsa(Box::new(pair)), required)
            }
            Algorithm::Rs256 => {
                let pair = RsaKeyPair::from_pkcs8(pkcs8).map_err(malformed)?;
                let PublicKeyComponents { n, e } = PublicKeyComponents::<Vec<u8>>::from(pair.public_key());
                let required = json!({"e": encoded(&e), "kty": "RSA", "n": encoded(&n)});
                (Pair::Rsa(Box::new(pair)), required)
            }
        };
        let kid = encoded(digest(&SHA256, required.to_string().as_bytes()).as_ref());
        let mut jwk = required;
        jwk["kid"] = json!(kid);
        jwk["alg"] = json!(algorithm.as_str());
        jwk["use"] = json!("sig");
        let published = Published { kid, jwk };
        Ok(Self { algorithm, pair, published, random: SystemRandom::new(), header: OnceLock::new() })
    }

    /// Its public part.
    pub fn published(&self) -> &Published {
        &self.published
    }

    /// The payload of a token, if [`Signer::sign`] made it with this `typ` and this key: its header is compared byte by byte,
    /// and so there is nothing in it to be misread.
    pub fn verify(&self, typ: &str, token: &str) -> Option<Vec<u8>> {
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, payload) = signed.split_once('.')?;
        if header != &*self.header(typ) {
            return None;
        }
        let signature = BASE64_URL_SAFE_NO_PAD.decode(signature).ok()?;
        let verified = match &self.pair {
            Pair::Ecdsa(pair) => UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, pair.public_key().as_ref())
                .verify(signed.as_bytes(), &signature),
            Pair::Rsa(pair) => {
                UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, pair.public_key().as_ref())
                    .verify(signed.as_bytes(), &signature)
            }
        };
        verified.ok()?;
        BASE64_URL_SAFE_NO_PAD.decode(payload).ok()
    }

    fn header(&self, typ: &str) -> Cow<'_, str> {
        let made = || {
            let header = json!({"alg": self.algorithm.as_str(), "typ": typ, "kid": self.published.kid});
            BASE64_URL_SAFE_NO_PAD.encode(header.to_string())
        };
        let (of, header) = self.header.get_or_init(|| (typ.to_owned(), made()));
        if of == typ { Cow::Borrowed(header) } else { Cow::Owned(made()) }
    }

    /// A JWS in compact form (RFC 7515 §7.1) over `claims`, a JSON object, with this `typ`.
    ///
    /// # Errors
    /// When the crypto library refuses.
    pub fn sign(&self, typ: &str, claims: &[u8]) -> Result<String, SigningKeyError> {
        let header = self.header(typ);
        let mut token = String::with_capacity(header.len() + claims.len() * 4 / 3 + 400);
        token.push_str(&header);
        token.push('.');
        BASE64_URL_SAFE_NO_PAD.encode_string(claims, &mut token);
        let failed = |_| SigningKeyError::Signing;
        let message = token.as_bytes();
        let (ecdsa, mut rsa);
        let signature: &[u8] = match &self.pair {
            Pair::Ecdsa(pair) => {
                ecdsa = pair.sign(&self.random, message).map_err(failed)?;
                ecdsa.as_ref()
            }
            Pair::Rsa(pair) => {
                rsa = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &self.random, message, &mut rsa).map_err(failed)?;
                &rsa
            }
        };
        let signature = BASE64_URL_SAFE_NO_PAD.encode(signature);
        token.push('.');
        token.push_str(&signature);
        Ok(token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::SigningKey;
    use aws_lc_rs::{encoding::AsDer as _, encoding::Pkcs8V1Der, rsa::KeySize};
    use jsonwebtoken::{DecodingKey, Validation, decode, decode_header, jwk::Jwk};
    use k8s_openapi::jiff::Timestamp;

    fn pkcs8(algorithm: Algorithm) -> Vec<u8> {
        match algorithm {
            Algorithm::Es256 => {
                let document =
                    EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new());
                document.unwrap().as_ref().to_vec()
            }
            Algorithm::Rs256 => {
                let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
                let der: Pkcs8V1Der<'_> = pair.as_der().unwrap();
                der.as_ref().to_vec()
            }
        }
    }

    /// Judged by a library that is not ours, which also computes the thumbprint by itself.
    #[test]
    fn what_is_signed_is_verified_with_what_is_published() {
        for algorithm in [Algorithm::Es256, Algorithm::Rs256] {
            let key = SigningKey::new(algorithm, &pkcs8(algorithm), Timestamp::UNIX_EPOCH).unwrap();
            let signer = key.signer().unwrap();
            let jwk: Jwk = serde_json::from_value(signer.published().jwk.clone()).unwrap();
            let thumbprint = jwk.thumbprint(jsonwebtoken::jwk::ThumbprintHash::SHA256).unwrap();
            assert_eq!(thumbprint, signer.published().kid);
            let token = signer.sign("at+jwt", b"{\"sub\":\"corp:alice\",\"exp\":4102444800}").unwrap();
            let header = decode_header(&token).unwrap();
            assert_eq!((header.typ.as_deref(), header.kid), (Some("at+jwt"), Some(thumbprint)));
            let validation = Validation::new(header.alg);
            let claims =
                decode::<Value>(&token, &DecodingKey::from_jwk(&jwk).unwrap(), &validation).unwrap().claims;
            assert_eq!(claims["sub"], "corp:alice");
            let payload = signer.verify("at+jwt", &token).unwrap();
            assert_eq!(payload, b"{\"sub\":\"corp:alice\",\"exp\":4102444800}");
            assert_eq!(signer.verify("JWT", &token), None, "another kind of token");
            assert_eq!(signer.verify("at+jwt", &token[..token.len() - 2]), None);
            let other = Signer::new(algorithm, &pkcs8(algorithm)).unwrap();
            assert_eq!(other.verify("at+jwt", &token), None);
            let other: Jwk = serde_json::from_value(other.published().jwk.clone()).unwrap();
            assert!(decode::<Value>(&token, &DecodingKey::from_jwk(&other).unwrap(), &validation).is_err());
        }
    }

    #[test]
    fn a_key_that_is_none_or_another_is_not_used_and_never_shown() {
        let bytes = pkcs8(Algorithm::Es256);
        assert_eq!(
            Signer::new(Algorithm::Rs256, &bytes).unwrap_err(),
            SigningKeyError::Malformed(Algorithm::Rs256)
        );
        let mut key = SigningKey::new(Algorithm::Es256, &bytes, Timestamp::UNIX_EPOCH).unwrap();
        let shown = format!("{key:?} {:?}", key.signer().unwrap());
        assert!(!shown.contains(&base64::prelude::BASE64_STANDARD.encode(&bytes)[..20]), "{shown}");
        key.kid = "another".into();
        assert_eq!(key.signer().unwrap_err(), SigningKeyError::Misnamed("another".into()));
    }
}
