//! The keys that sign and those that verify, as they are now.

use crate::{
    oauth::{Claims, Metadata, TOKEN_TYPE},
    token::{KeySet, Life, Signer, SigningKeyError},
};
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

/// Keys in use.
#[derive(Debug)]
pub struct Keys {
    set: KeySet,
    life: Life,
    signers: Vec<Signer>,
}

impl Keys {
    /// Takes a set of keys into use.
    ///
    /// # Errors
    /// When one of them is not what it says: then none is used.
    pub fn new(set: KeySet, life: Life) -> Result<Self, SigningKeyError> {
        let signers = set.keys().iter().map(crate::token::SigningKey::signer).collect::<Result<_, _>>()?;
        Ok(Self { set, life, signers })
    }

    /// What signs at `now`.
    pub fn signer(&self, now: Timestamp) -> Option<&Signer> {
        let kid = &self.set.signing(self.life, now)?.kid;
        self.signers.iter().find(|signer| signer.published().kid == *kid)
    }

    /// When the key was made that signs at `now`.
    pub fn signs_since(&self, now: Timestamp) -> Option<Timestamp> {
        self.set.signing(self.life, now).map(|key| key.created)
    }

    /// How long, in seconds, a copy of the published keys is good: whoever fetches them so often knows each key in half the
    /// time before it signs.
    pub fn max_age(&self) -> i64 {
        (self.life.ahead.as_secs() / 2).clamp(0, 3600)
    }

    /// Whether the key of this name is among them.
    pub fn has(&self, kid: &str) -> bool {
        self.signers.iter().any(|signer| signer.published().kid == kid)
    }

    /// The key that signed `token`, by name, and what it says, if that is one of these and it is an access token.
    pub fn verify(&self, token: &str) -> Option<(String, Claims)> {
        self.signers.iter().find_map(|signer| {
            let claims = signer.verify(TOKEN_TYPE, token)?;
            Some((signer.published().kid.clone(), serde_json::from_slice(&claims).ok()?))
        })
    }

    /// The JSON Web Key Set (RFC 7517, section 5) of all of them: those that will sign, sign, and have signed.
    pub fn jwks(&self) -> Value {
        json!({"keys": self.signers.iter().map(|signer| &signer.published().jwk).collect::<Vec<_>>()})
    }

    /// What the broker of this issuer says of itself.
    pub fn metadata(&self, issuer: &str) -> Metadata {
        let mut algorithms: Vec<_> = self.set.keys().iter().map(|key| key.algorithm.as_str()).collect();
        algorithms.sort_unstable();
        algorithms.dedup();
        Metadata::new(issuer, &algorithms)
    }
}
