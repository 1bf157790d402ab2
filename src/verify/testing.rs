//! What the tests of this room share: keys made on the spot, tokens of any shape, an issuer.

use super::{KeySet, VerifiedSubject, peek};
use crate::{
    api::v1alpha1::TrustedIssuer,
    index::{Index, Observed, ReservedAudiences, delegation::Delegation, delegation::Issuer},
    oauth::{Actor, Reason, SubjectTokenType},
};
use aws_lc_rs::{
    rand::SystemRandom,
    rsa::{KeySize, PublicKeyComponents},
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair,
        KeyPair as _, RSA_PKCS1_SHA256, RSA_PSS_SHA256, RsaKeyPair,
    },
};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};
use std::sync::{Arc, LazyLock};

pub(super) const ISSUER: &str = "https://idp.example.com";
pub(super) const OWN: &str = "https://deputy.example.com";
pub(super) const NOW: i64 = 1_795_506_000;

pub(super) fn now() -> Timestamp {
    Timestamp::from_second(NOW).unwrap()
}

pub(super) fn actor() -> Actor {
    Actor::agent("https://cluster.example.com", "system:serviceaccount:research:agent.researcher")
}

pub(super) fn encoded(bytes: impl AsRef<[u8]>) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

/// A key, and the algorithm it signs with.
pub(super) enum Pair {
    Ed25519(Ed25519KeyPair),
    P256(EcdsaKeyPair),
    P384(EcdsaKeyPair),
    Rsa(&'static RsaKeyPair),
    RsaPss(&'static RsaKeyPair),
}

/// Takes a while to make.
static RSA: LazyLock<RsaKeyPair> = LazyLock::new(|| RsaKeyPair::generate(KeySize::Rsa2048).unwrap());

impl Pair {
    pub(super) fn rs256() -> Self {
        Self::Rsa(&RSA)
    }

    pub(super) fn ps256() -> Self {
        Self::RsaPss(&RSA)
    }

    pub(super) fn es256() -> Self {
        Self::P256(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap())
    }

    pub(super) fn es384() -> Self {
        Self::P384(EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap())
    }

    pub(super) fn ed25519() -> Self {
        Self::Ed25519(Ed25519KeyPair::generate().unwrap())
    }

    pub(super) fn alg(&self) -> &'static str {
        match self {
            Self::Ed25519(_) => "EdDSA",
            Self::P256(_) => "ES256",
            Self::P384(_) => "ES384",
            Self::Rsa(_) => "RS256",
            Self::RsaPss(_) => "PS256",
        }
    }

    pub(super) fn jwk(&self, kid: &str) -> Value {
        let point = |crv: &str, pair: &EcdsaKeyPair| {
            let point = &pair.public_key().as_ref()[1..];
            let (x, y) = point.split_at(point.len() / 2);
            json!({"kty": "EC", "crv": crv, "x": encoded(x), "y": encoded(y), "kid": kid})
        };
        match self {
            Self::Ed25519(pair) => {
                json!({"kty": "OKP", "crv": "Ed25519", "x": encoded(pair.public_key()), "kid": kid})
            }
            Self::P256(pair) => point("P-256", pair),
            Self::P384(pair) => point("P-384", pair),
            Self::Rsa(pair) | Self::RsaPss(pair) => {
                let PublicKeyComponents { n, e } = PublicKeyComponents::<Vec<u8>>::from(pair.public_key());
                json!({"kty": "RSA", "n": encoded(n), "e": encoded(e), "kid": kid})
            }
        }
    }

    pub(super) fn key_set(&self, kid: &str) -> KeySet {
        KeySet::parse(json!({"keys": [self.jwk(kid)]}).to_string().as_bytes()).unwrap()
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match self {
            Self::Ed25519(pair) => pair.sign(message).as_ref().to_vec(),
            Self::P256(pair) | Self::P384(pair) => pair.sign(&random, message).unwrap().as_ref().to_vec(),
            Self::Rsa(pair) | Self::RsaPss(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                let encoding = if matches!(self, Self::Rsa(_)) { &RSA_PKCS1_SHA256 } else { &RSA_PSS_SHA256 };
                pair.sign(encoding, &random, message, &mut signature).unwrap();
                signature
            }
        }
    }

    /// A token of these texts, whatever they are.
    pub(super) fn token(&self, header: &str, payload: &str) -> String {
        let signed = format!("{}.{}", encoded(header), encoded(payload));
        let signature = encoded(self.sign(signed.as_bytes()));
        format!("{signed}.{signature}")
    }

    /// A token as it should be, with key `k`.
    pub(super) fn good(&self, claims: &Value) -> String {
        self.token(&self.header("at+jwt").to_string(), &claims.to_string())
    }

    pub(super) fn header(&self, typ: &str) -> Value {
        json!({"alg": self.alg(), "typ": typ, "kid": "k"})
    }
}

pub(super) fn claims() -> Value {
    json!({"iss": ISSUER, "aud": ["deputy", "other"], "sub": "alice", "exp": NOW + 600, "iat": NOW - 60,
           "nbf": NOW - 60, "jti": "j1", "auth_time": NOW - 120, "scope": "read search",
           "groups": ["readers", "authors", "readers"], "tenant": "t1"})
}

/// The claims with one more or another; with null, without it.
pub(super) fn with(member: &str, value: &Value) -> Value {
    let mut claims = claims();
    claims[member] = value.clone();
    if value.is_null() {
        claims.as_object_mut().unwrap().remove(member);
    }
    claims
}

pub(super) fn object(source: &Value) -> TrustedIssuer {
    let mut issuer = json!({"url": ISSUER, "audiences": ["deputy"]});
    issuer.as_object_mut().unwrap().extend(source.as_object().unwrap().clone());
    serde_json::from_value(json!({
        "apiVersion": "deputy.dev/v1alpha1", "kind": "TrustedIssuer",
        "metadata": {"name": "corp", "uid": "issuer-uid", "generation": 3},
        "spec": {
            "issuer": issuer,
            "tokens": [{"type": "AccessToken", "headerTypes": ["at+jwt"]},
                       {"type": "IDToken", "headerTypes": ["JWT", "Absent"], "scopeCeiling": "None"}],
            "claimMappings": {"username": {"claim": "sub", "prefix": "corp:"},
                              "groups": {"claim": "groups", "prefix": "corp:"}},
            "claimValidationRules": [{"claim": "tenant", "requiredValue": "t1"}],
        },
    }))
    .unwrap()
}

pub(super) fn issuer() -> Issuer {
    Issuer::try_from(&object(&json!({}))).unwrap()
}

/// A world with this issuer.
pub(super) fn delegation(object: TrustedIssuer) -> Arc<Delegation> {
    let mut index = Index::new(ReservedAudiences::default());
    index.apply_issuer(&Observed::Object(Box::new(object)));
    Arc::clone(&index.snapshot().delegation)
}

/// Verifies an access token.
pub(super) fn verify(token: &str, keys: &KeySet, issuer: &Issuer) -> Result<VerifiedSubject, Reason> {
    peek(token)?.verify(SubjectTokenType::AccessToken, keys, issuer, OWN, &actor(), now())
}

pub(super) fn subject(pair: &Pair, issuer: &Issuer) -> Arc<VerifiedSubject> {
    Arc::new(verify(&pair.good(&claims()), &pair.key_set("k"), issuer).unwrap())
}
