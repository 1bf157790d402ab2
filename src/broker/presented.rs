//! Tokens of ours that come back: read once, and known by a hash from then on. What they say is of the time they were issued
//! at; whether it is so still is judged at every request.

use super::{actor::Actor, keys::Keys};
use crate::{
    audit::RightsMode,
    metrics::{BrokerMetrics, Lookups},
    oauth::{Claims, Reason},
};
use aws_lc_rs::digest::{SHA256, digest};
use k8s_openapi::jiff::Timestamp;
use moka::future::Cache;
use std::{collections::BTreeSet, mem::size_of, sync::Arc, time::Duration};

/// Most bytes of a token: ours are much shorter, but for users of many groups.
const TOKEN: usize = 32 << 10;
/// Bytes of tokens that are remembered.
const REMEMBERED: u64 = 32 << 20;
/// How long one is remembered that nobody presents.
const IDLE: Duration = Duration::from_secs(600);

/// A token of ours that was verified.
#[derive(Debug)]
pub(super) struct Presented {
    /// What it says.
    pub claims: Claims,
    /// Its scopes.
    pub scopes: BTreeSet<String>,
    /// The agent that acts.
    pub actor: Actor,
    /// Who said what its user may do; `None`: it is for nobody but the agent.
    pub mode: Option<RightsMode>,
    kid: String,
}

/// The tokens of ours that were verified.
#[derive(Debug)]
pub struct PresentedTokens {
    known: Cache<[u8; 32], Arc<Presented>>,
    lookups: Lookups,
}

impl PresentedTokens {
    /// None yet.
    pub fn new(metrics: &BrokerMetrics) -> Self {
        let weight = |_: &[u8; 32], presented: &Arc<Presented>| presented.weight();
        let known = Cache::builder().weigher(weight).max_capacity(REMEMBERED).time_to_idle(IDLE).build();
        Self { known, lookups: metrics.lookups("token") }
    }

    /// What `token` says, if `issuer` signed it by one of `keys` and it has not ended.
    ///
    /// # Errors
    /// [`Reason::TokenInvalid`], [`Reason::TokenExpired`].
    pub(super) async fn read(
        &self,
        token: &str,
        issuer: &str,
        keys: &Keys,
        now: Timestamp,
    ) -> Result<Arc<Presented>, Reason> {
        if token.len() > TOKEN {
            return Err(Reason::TokenInvalid);
        }
        let hash = digest(&SHA256, token.as_bytes());
        let id: [u8; 32] = hash.as_ref().try_into().map_err(|_| Reason::TokenInvalid)?;
        let known = self.known.get(&id).await;
        self.lookups.looked(known.is_some());
        let presented = match known {
            Some(presented) => presented,
            None => {
                let (kid, claims) = keys.verify(token).ok_or(Reason::TokenInvalid)?;
                let presented = Arc::new(Presented::new(kid, claims)?);
                self.known.insert(id, Arc::clone(&presented)).await;
                presented
            }
        };
        // A key that is withdrawn takes its tokens along.
        if presented.claims.iss != issuer || !keys.has(&presented.kid) {
            return Err(Reason::TokenInvalid);
        }
        if presented.actor.expires <= now { Err(Reason::TokenExpired) } else { Ok(presented) }
    }
}

impl Presented {
    fn new(kid: String, claims: Claims) -> Result<Self, Reason> {
        let of = &claims.provenance;
        let actor = Actor {
            namespace: of.agent.namespace.clone(),
            name: of.agent.name.clone(),
            account: claims.client_id.clone(),
            account_uid: of.serviceaccount_uid.clone(),
            pod: Some((of.pod.name.clone(), of.pod.uid.clone())),
            credential_id: None,
            expires: Timestamp::from_second(claims.exp).map_err(|_| Reason::TokenInvalid)?,
        };
        let named = |word: &str| {
            [RightsMode::Kubernetes, RightsMode::Claims].into_iter().find(|mode| mode.as_str() == word)
        };
        let mode = of.rights.as_ref().map(|rights| named(&rights.mode).ok_or(Reason::TokenInvalid));
        let scopes = claims.scope.split(' ').map(str::to_owned).collect();
        Ok(Self { mode: mode.transpose()?, scopes, actor, kid, claims })
    }

    /// Bytes it holds, about.
    fn weight(&self) -> u32 {
        let groups = self.claims.groups.iter().flatten().map(|group| group.len() + size_of::<String>());
        let bytes = size_of::<Self>() + 1024 + 4 * self.claims.scope.len() + groups.sum::<usize>();
        u32::try_from(bytes).unwrap_or(u32::MAX)
    }
}
