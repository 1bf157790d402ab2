//! From a token to whom it speaks of.

use super::{
    Issuers, VerifiedSubject,
    cache::{Cache, Known, TokenId, token_id},
    peek,
};
use crate::{
    index::delegation::{Delegation, Issuer},
    metrics::Lookups,
    oauth::{Actor, Reason, SubjectTokenType, Token},
};
use k8s_openapi::jiff::Timestamp;
use std::{fmt, sync::Arc};

/// Verifies users' tokens.
pub struct Verifier {
    issuers: Issuers,
    cache: Cache,
    lookups: Lookups,
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Verifier({:?})", self.issuers)
    }
}

impl Verifier {
    /// Has the keys of issuers from `issuers`, and tells `lookups` how often a token was known.
    pub fn new(issuers: Issuers, lookups: Lookups) -> Self {
        Self { issuers, cache: Cache::default(), lookups }
    }

    /// Whom `token` speaks of, which the client calls a `kind`, and which `actor` shows at `now`. Only issuers that count in
    /// `delegation` are believed. `own_issuer` is Deputy's own `iss`.
    ///
    /// May wait for an issuer's keys, at most [`super::Bounds::fetch`], once in a while.
    ///
    /// # Errors
    /// As [`peek`], [`super::Peeked::trusted`] and [`super::Peeked::verify`] have them, in this order.
    pub async fn verify(
        &self,
        token: &Token,
        kind: SubjectTokenType,
        delegation: &Delegation,
        own_issuer: &str,
        actor: &Actor,
        now: Timestamp,
    ) -> Result<Arc<VerifiedSubject>, Reason> {
        let id = token_id(token.as_str(), kind);
        let known = self.known(&id, delegation, own_issuer).await;
        self.lookups.looked(known.is_some());
        if let Some((known, issuer)) = known {
            known.still_stands(issuer, actor, now)?;
            return Ok(known);
        }
        let peeked = peek(token.as_str())?;
        let issuer = peeked.trusted(delegation, own_issuer)?;
        // Before anything is fetched for it.
        peeked.accepted(kind, issuer)?;
        let keys = self.issuers.keys(issuer, peeked.kid()).await;
        let key = keys.select(peeked.kid(), peeked.algorithm)?.id;
        let (kid, algorithm) = (peeked.kid.clone(), peeked.algorithm);
        let subject = Arc::new(peeked.verify(kind, &keys, issuer, own_issuer, actor, now)?);
        self.cache.put(id, Known { kid, algorithm, key, subject: Arc::clone(&subject) });
        Ok(subject)
    }

    /// Whom a token was found to speak of before, and its issuer, if issuer and key are what they were: all that a look into
    /// the token would tell is then as it was.
    async fn known<'d>(
        &self,
        id: &TokenId,
        delegation: &'d Delegation,
        own_issuer: &str,
    ) -> Option<(Arc<VerifiedSubject>, &'d Issuer)> {
        let known = self.cache.get(id)?;
        let url = Some(known.subject.issuer_url()).filter(|url| *url != own_issuer)?;
        let issuer = delegation.issuer(url)?;
        let keys = self.issuers.keys(issuer, known.kid.as_deref()).await;
        let key = keys.select(known.kid.as_deref(), known.algorithm).ok()?;
        known.rests_on(&key.id, issuer).then(|| (Arc::clone(&known.subject), &**issuer))
    }
}
