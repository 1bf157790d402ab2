//! One exchange, step by step: two tokens in, a narrower one out.
//!
//! The order is the order of what may be told to whom: the form, then the agent, and the user's token only for a live agent,
//! or the endpoint would tell strangers which tokens are good. Nothing leaves before it is on record, and what it rests on
//! is looked at once more between the record and the answer.

use super::{
    actor::{Actor, Presence, Reviews, prefilter},
    keys::Keys,
    mint::{self, Issuers, Making},
    record::Asked,
};
use crate::{
    audit::{Entry, Noise, User},
    index::{Identity, Snapshot, freshness::Freshness},
    metrics::BrokerMetrics,
    oauth::{
        Denied, Half, OAuthError, Parties, Reason, ScopeSet, TOKEN_TYPE, Token, TokenExchange, TokenResponse,
    },
    policy::exchange::{self, Agent, Decision, Grant, Request, authorize, expiry, narrow},
    store::Wal,
};
use http::HeaderMap;
use k8s_openapi::jiff::Timestamp;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    sync::watch,
    time::{Instant, timeout, timeout_at},
};

/// How long a pod that is not known yet is waited for.
const APPEARANCE: Duration = Duration::from_millis(250);
/// How long the record may take.
const RECORD: Duration = Duration::from_secs(2);

/// What the broker decides on, and with.
#[derive(Debug)]
pub struct Broker {
    /// Its own name and the cluster's.
    pub issuers: Issuers,
    /// The newest view of the cluster.
    pub snapshots: watch::Receiver<Arc<Snapshot>>,
    /// How fresh it is.
    pub freshness: watch::Receiver<Freshness>,
    /// Whose token is whose.
    pub reviews: Reviews,
    /// The keys in use.
    pub keys: watch::Receiver<Option<Arc<Keys>>>,
    /// The record.
    pub record: Wal,
    /// What is counted rather than recorded.
    pub noise: Mutex<Noise>,
    /// What is counted for dashboards.
    pub metrics: Arc<BrokerMetrics>,
    /// The time.
    pub clock: fn() -> Timestamp,
    /// An unguessable name.
    pub random: fn() -> String,
}

/// A refusal, and what of it the caller may be told.
type Refused = OAuthError;

/// A request whose agent is known and may act.
struct Admitted<'a> {
    request: &'a TokenExchange,
    actor: &'a Actor,
    snapshot: Arc<Snapshot>,
    now: Timestamp,
    transaction: String,
}

impl Broker {
    /// The token, or why there is none.
    ///
    /// # Errors
    /// The first step that fails.
    pub async fn exchange(&self, headers: &HeaderMap, body: &[u8]) -> Result<TokenResponse, Refused> {
        let began = Instant::now();
        let exchanged = self.go_through(headers, body).await;
        match &exchanged {
            Ok(_) => self.metrics.permitted(began.elapsed()),
            Err(OAuthError { reason, .. }) => {
                self.metrics.denied(reason.as_str(), reason.half().map(Half::as_str), began.elapsed());
            }
        }
        exchanged
    }

    async fn go_through(&self, headers: &HeaderMap, body: &[u8]) -> Result<TokenResponse, Refused> {
        let admitted = async {
            let request = TokenExchange::parse(headers, body)?;
            self.is_fit()?;
            let (actor, snapshot) = self.authenticate(&request).await?;
            Ok::<_, Refused>((request, actor, snapshot))
        };
        let (request, actor, snapshot) = match admitted.await {
            Ok(admitted) => admitted,
            Err(refused) => {
                self.count(refused.reason);
                return Err(refused);
            }
        };
        let (now, transaction) = ((self.clock)(), (self.random)());
        let admitted = Admitted { request: &request, actor: &actor, snapshot, now, transaction };
        let decided = self.decide(&admitted).await;
        if let Err(reason) = &decided {
            self.note(&admitted.asked(None).denied(*reason));
        }
        Ok(decided?)
    }

    /// Whether anything may be permitted at all.
    fn is_fit(&self) -> Result<(), Reason> {
        self.freshness.borrow().check(Instant::now().into_std()).map_err(|_| Reason::Stale)?;
        if *self.record.writable().borrow() { Ok(()) } else { Err(Reason::Audit) }
    }

    /// The agent, and a view of the cluster in which it may act.
    async fn authenticate(&self, request: &TokenExchange) -> Result<(Arc<Actor>, Arc<Snapshot>), Reason> {
        let (Parties::OnBehalfOfUser { actor_token, .. } | Parties::OnOwnBehalf { actor_token }) =
            &request.parties;
        let Issuers { cluster, broker } = &self.issuers;
        let expires = prefilter(actor_token.as_str(), cluster, broker, (self.clock)())?;
        let actor = self.reviews.actor(actor_token.as_str(), expires).await?;
        let (mut snapshots, deadline) = (self.snapshots.clone(), Instant::now() + APPEARANCE);
        loop {
            let snapshot = Arc::clone(&snapshots.borrow_and_update());
            let standing = actor.standing(request.client_id.as_deref(), &snapshot, (self.clock)());
            if standing.map(|(_, presence)| presence)? == Presence::Live {
                return Ok((actor, snapshot));
            }
            if !matches!(timeout_at(deadline, snapshots.changed()).await, Ok(Ok(()))) {
                return Err(Reason::ActorPodGone);
            }
        }
    }

    async fn decide(&self, admitted: &Admitted<'_>) -> Result<TokenResponse, Reason> {
        let Admitted { request, actor, snapshot, now, transaction } = admitted;
        if matches!(request.parties, Parties::OnBehalfOfUser { .. }) {
            return Err(Reason::SubjectIssuer);
        }
        let scopes: BTreeSet<String> = admitted.scopes().into_iter().collect();
        let asked = admitted.request(&scopes)?;
        let candidates = permitted(authorize(&asked, snapshot))?;
        let grant = permitted(narrow(candidates, &BTreeMap::new()))?;
        let expires = permitted(expiry(&grant, *now, &[actor.expires]))?;
        let jti = (self.random)();
        let making = Making { actor, user: None, now: *now, expires, jti: &jti, transaction };
        let token = self.sign(&mint::claims(&self.issuers, &grant, making), *now)?;
        let index = self.append(&admitted.asked(None).permitted(&grant, &jti, None)).await?;
        if let Err(reason) = self.still(admitted, &grant) {
            self.note(&admitted.asked(None).withheld(reason, &jti));
            return Err(reason);
        }
        let given: ScopeSet = grant.scopes().collect::<Vec<_>>().join(" ").parse()?;
        let denied =
            grant.denied().filter_map(|(scope, half)| Some(Denied { scope: scope.parse().ok()?, half }));
        Ok(TokenResponse {
            access_token: Token::from(token),
            expires_in: u64::try_from(expires.duration_since(*now).as_secs()).unwrap_or_default(),
            scopes: given,
            denied: denied.collect(),
            audit: format!("{}#{index}", self.record.log()),
        })
    }

    /// Whether what was permitted would be permitted still: the token is not out yet.
    fn still(&self, admitted: &Admitted<'_>, grant: &Grant<'_>) -> Result<(), Reason> {
        self.is_fit()?;
        let snapshot = Arc::clone(&self.snapshots.borrow());
        let client_id = admitted.request.client_id.as_deref();
        let (_, presence) = admitted.actor.standing(client_id, &snapshot, (self.clock)())?;
        if presence != Presence::Live {
            return Err(Reason::ActorPodGone);
        }
        let scopes: BTreeSet<String> = grant.scopes().map(str::to_owned).collect();
        let resting_on = Some(grant.basis.policy.origin.uid.as_str());
        let candidates =
            permitted(authorize(&Request { resting_on, ..admitted.request(&scopes)? }, &snapshot))?;
        // All that is signed, and not only some of it.
        if candidates.scopes().count() == scopes.len() { Ok(()) } else { Err(Reason::DelegationHalf) }
    }

    fn sign(&self, claims: &crate::oauth::Claims, now: Timestamp) -> Result<String, Reason> {
        let failed = |why: &dyn std::fmt::Display| {
            tracing::error!(%why, "a token could not be signed");
            Reason::Stale
        };
        let keys = self.keys.borrow().clone();
        let signer =
            keys.as_deref().and_then(|keys| keys.signer(now)).ok_or_else(|| failed(&"there is no key"))?;
        let claims = serde_json::to_vec(claims).map_err(|error| failed(&error))?;
        signer.sign(TOKEN_TYPE, &claims).map_err(|error| failed(&error))
    }

    /// Puts a permit on record, and waits until it is durable.
    async fn append(&self, entry: &Entry) -> Result<u64, Reason> {
        let failed = |why: &dyn std::fmt::Display| {
            tracing::error!(%why, "what is permitted cannot be recorded, and so is not permitted");
            Reason::Audit
        };
        let bytes = entry.to_bytes().map_err(|error| failed(&error))?;
        match timeout(RECORD, self.record.append(&bytes)).await {
            Ok(Ok(index)) => Ok(index),
            Ok(Err(error)) => Err(failed(&error)),
            Err(_) => Err(failed(&"the disk takes too long")),
        }
    }

    /// Puts something on record that nobody waits for.
    fn note(&self, entry: &Entry) {
        match entry.to_bytes() {
            Ok(bytes) => self.record.append_unacked(&bytes),
            Err(error) => tracing::error!(%error, "a denial is not on record"),
        }
    }

    fn count(&self, reason: Reason) {
        let mut noise = self.noise.lock().unwrap_or_else(PoisonError::into_inner);
        noise.count(reason.as_str(), (self.clock)());
    }

    /// Puts on record what was counted, once a minute of it is full.
    pub fn tick(&self) {
        let due = self.noise.lock().unwrap_or_else(PoisonError::into_inner).due((self.clock)());
        if let Some(entry) = due {
            self.note(&entry);
        }
        self.metrics.dropped(self.record.dropped());
    }
}

impl Admitted<'_> {
    fn scopes(&self) -> Vec<String> {
        self.request.scopes.as_slice().iter().map(|scope| scope.as_str().to_owned()).collect()
    }

    fn identity(&self) -> Option<&Identity> {
        self.actor.standing(None, &self.snapshot, self.now).ok().map(|(identity, _)| identity)
    }

    fn request<'s>(&'s self, scopes: &'s BTreeSet<String>) -> Result<Request<'s>, Reason> {
        let identity = self.identity().ok_or(Reason::AgentUnknown)?;
        let Identity { namespace, name, uid, .. } = identity;
        let agent = Agent { namespace, name, uid };
        let resource = self.request.resource.as_str();
        Ok(Request { agent, subject: None, resource, scopes, resting_on: None })
    }

    fn asked(&self, user: Option<User>) -> Asked<'_> {
        Asked {
            now: self.now,
            transaction: &self.transaction,
            actor: self.actor,
            identity: self.identity(),
            user,
            resource: self.request.resource.as_str(),
            scopes: self.scopes(),
        }
    }
}

/// What is permitted, or the word for why not. Whoever asks learns no more of objects that he may not read.
fn permitted<T>(decision: Decision<T>) -> Result<T, Reason> {
    match decision {
        Decision::Permit(permitted) => Ok(permitted),
        Decision::Deny(denial) => Err(match denial.reason {
            // A scope that the resource does not offer is one that its owner does not let anybody have.
            exchange::Reason::AgentHalf | exchange::Reason::ScopeUnknown => Reason::AgentHalf,
            exchange::Reason::AgentSuspended => Reason::AgentSuspended,
            exchange::Reason::AgentUnknown => Reason::AgentUnknown,
            exchange::Reason::Delegation => Reason::DelegationHalf,
            exchange::Reason::InvalidTarget(_) => Reason::ResourceUnknown,
            exchange::Reason::NoDelegation => Reason::NoDelegation,
            exchange::Reason::ScopeRequired => Reason::ScopeRequired,
            exchange::Reason::SubjectExpiring => Reason::SubjectExpiring,
            exchange::Reason::SubjectIssuer => Reason::SubjectIssuer,
            exchange::Reason::UserHalf => Reason::UserHalf,
            exchange::Reason::UserHalfUnknown => Reason::UserHalfUnknown,
        }),
    }
}
