//! One exchange, step by step: two tokens in, a narrower one out.
//!
//! The order is the order of what may be told to whom: the form, then the agent, and the user's token only for a live agent,
//! or the endpoint would tell strangers which tokens are good. Nothing leaves before it is on record, and what it rests on
//! is looked at once more between the record and the answer.

use super::{
    actor::Actor,
    mint::{self, Issuers, Making, OnBehalf},
    record::{Asked, Asking},
    rights::Person,
    service::{Broker, Undone, permitted},
};
use crate::{
    audit::{RightsMode, User},
    index::{Snapshot, delegation::UserRights},
    oauth::{
        Actor as Act, Denied, Half, OAuthError, Parties, Reason, ScopeSet, TOKEN_TYPE, Token, TokenExchange,
        TokenResponse,
    },
    policy::exchange::{Agent, Candidates, Grant, Request, Right, Subject, authorize, expiry, narrow},
    verify::VerifiedSubject,
};
use http::HeaderMap;
use k8s_openapi::jiff::Timestamp;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};
use tokio::time::Instant;

/// A request whose agent is known and may act.
struct Admitted<'a> {
    request: &'a TokenExchange,
    actor: &'a Actor,
    snapshot: Arc<Snapshot>,
    /// Uid of the agent's identity, by which it may act in that view.
    identity: Option<String>,
    now: Timestamp,
    transaction: String,
    /// For whom, and how he is called on record.
    user: Option<(Arc<VerifiedSubject>, User)>,
}

/// What the user may do, who said so, and as of when.
struct Known {
    rights: BTreeMap<String, Right>,
    mode: RightsMode,
    as_of: Timestamp,
}

impl Broker {
    /// The token, or why there is none.
    ///
    /// # Errors
    /// The first step that fails.
    pub async fn exchange(&self, headers: &HeaderMap, body: &[u8]) -> Result<TokenResponse, OAuthError> {
        let began = Instant::now();
        let exchanged = self.go_through(headers, body).await;
        match &exchanged {
            Ok(_) => self.metrics.exchanges.permitted(began.elapsed()),
            Err(OAuthError { reason, .. }) => {
                let half = reason.half().map(Half::as_str);
                self.metrics.exchanges.denied(reason.as_str(), half, began.elapsed());
            }
        }
        exchanged
    }

    /// What was sent is no form, and so no exchange began.
    pub(super) fn unread(&self, reason: Reason) {
        self.count(reason);
        self.metrics.exchanges.denied(reason.as_str(), None, Duration::ZERO);
    }

    async fn go_through(&self, headers: &HeaderMap, body: &[u8]) -> Result<TokenResponse, OAuthError> {
        let admitted = async {
            let request = TokenExchange::parse(headers, body)?;
            self.is_fit()?;
            let (actor, snapshot) = self.authenticate(&request).await?;
            Ok::<_, OAuthError>((request, actor, snapshot))
        };
        let (request, actor, snapshot) = match admitted.await {
            Ok(admitted) => admitted,
            Err(refused) => {
                self.count(refused.reason);
                return Err(refused);
            }
        };
        let (now, transaction) = ((self.clock)(), (self.random)());
        let identity = actor.standing(None, &snapshot, now).ok().map(|(identity, _)| identity.uid.clone());
        let mut admitted =
            Admitted { request: &request, actor: &actor, snapshot, identity, now, transaction, user: None };
        let decided = async {
            admitted.user = self.user(&admitted).await?;
            self.decide(&admitted).await
        };
        let decided = decided.await;
        decided.map_err(|undone| match undone {
            Undone::Denied(reason) => {
                self.note(&admitted.asked().denied(reason));
                reason.into()
            }
            Undone::Withheld(reason) => reason.into(),
        })
    }

    /// The user, if it is for one.
    async fn user(&self, admitted: &Admitted<'_>) -> Result<Option<(Arc<VerifiedSubject>, User)>, Reason> {
        let Parties::OnBehalfOfUser { subject_token, subject_token_type, .. } = &admitted.request.parties
        else {
            return Ok(None);
        };
        let Issuers { cluster, broker } = &self.issuers;
        let actor = Act::agent(cluster, &admitted.actor.account);
        let delegation = &admitted.snapshot.delegation;
        let verified = self.subjects.verify(
            subject_token,
            *subject_token_type,
            delegation,
            broker,
            &actor,
            admitted.now,
        );
        let user = verified.await?;
        let key = self.pseudonyms.borrow().clone().ok_or(Reason::Audit)?;
        let called = key.user(user.issuer_url(), user.username());
        Ok(Some((user, called)))
    }

    /// The agent, and a view of the cluster in which it may act.
    async fn authenticate(&self, request: &TokenExchange) -> Result<(Arc<Actor>, Arc<Snapshot>), Reason> {
        let (Parties::OnBehalfOfUser { actor_token, .. } | Parties::OnOwnBehalf { actor_token }) =
            &request.parties;
        let actor =
            self.questions.agents.of(actor_token.as_str(), &self.issuers.cluster, (self.clock)()).await?;
        let snapshot = self.present(&actor, request.client_id.as_deref()).await?;
        Ok((actor, snapshot))
    }

    async fn decide(&self, admitted: &Admitted<'_>) -> Result<TokenResponse, Undone> {
        let Admitted { actor, snapshot, now, transaction, user, .. } = admitted;
        let scopes: BTreeSet<String> = admitted.scopes().into_iter().collect();
        let candidates = permitted(authorize(&admitted.request(&scopes)?, snapshot))?;
        let known = match user {
            Some((user, _)) => Some(self.known(user, &candidates, *now).await),
            None => None,
        };
        let none = BTreeMap::new();
        let rights = known.as_ref().map_or(&none, |known| &known.rights);
        let grant = permitted(narrow(candidates, rights))?;
        let ends: Vec<_> =
            [actor.expires].into_iter().chain(user.iter().map(|(user, _)| user.expires_at())).collect();
        let expires = permitted(expiry(&grant, *now, &ends))?;
        let jti = (self.random)();
        let on_behalf =
            user.as_ref().zip(known.as_ref()).map(|((user, _), known)| on_behalf(user, known, &grant));
        let making = Making { actor, user: on_behalf.as_ref(), now: *now, expires, jti: &jti, transaction };
        let token = self.sign(&mint::claims(&self.issuers, &grant, making), *now)?;
        let rights = known.as_ref().map(|known| (known.mode, known.as_of));
        let asked = Asked { jti: Some(&jti), ..admitted.asked() };
        let index = self.append(&asked.permitted(&grant, rights)).await?;
        if let Err(reason) = self.may_still_have(admitted, &grant) {
            self.note(&asked.withheld(reason));
            return Err(Undone::Withheld(reason));
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

    /// What the user may do of what is left, as the resource has it asked.
    async fn known(&self, user: &VerifiedSubject, candidates: &Candidates<'_>, now: Timestamp) -> Known {
        let resource = candidates.basis.resource;
        match &resource.user_rights {
            UserRights::Claims { scope_claim } => {
                let has = user.scopes_in(scope_claim);
                let right = |scope: &str| if has.contains(scope) { Right::Allowed } else { Right::Denied };
                let rights = candidates.scopes().map(|scope| (scope.to_owned(), right(scope))).collect();
                Known { rights, mode: RightsMode::Claims, as_of: user.issued_at() }
            }
            UserRights::Kubernetes => {
                let person = Person { username: user.username(), groups: user.groups() };
                let rights =
                    self.questions.rights.of(person, &resource.origin.name, candidates.scopes()).await;
                Known { rights, mode: RightsMode::Kubernetes, as_of: now }
            }
        }
    }

    /// Whether what was permitted would be permitted still: the token is not out yet.
    fn may_still_have(&self, admitted: &Admitted<'_>, grant: &Grant<'_>) -> Result<(), Reason> {
        let snapshot = self.still(admitted.actor, admitted.request.client_id.as_deref())?;
        // All but the time is as it was.
        if Arc::ptr_eq(&snapshot, &admitted.snapshot) {
            return Ok(());
        }
        let scopes: BTreeSet<String> = grant.scopes().map(str::to_owned).collect();
        let resting_on = Some(grant.basis.policy.origin.uid.as_str());
        let candidates =
            permitted(authorize(&Request { resting_on, ..admitted.request(&scopes)? }, &snapshot))?;
        // What the user's token was held against is as it was.
        if candidates.basis.issuer.map(|issuer| &issuer.origin)
            != grant.basis.issuer.map(|issuer| &issuer.origin)
        {
            return Err(Reason::SubjectIssuer);
        }
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
}

impl Admitted<'_> {
    fn scopes(&self) -> Vec<String> {
        self.request.scopes.as_slice().iter().map(|scope| scope.as_str().to_owned()).collect()
    }

    fn request<'s>(&'s self, scopes: &'s BTreeSet<String>) -> Result<Request<'s>, Reason> {
        let uid = self.identity.as_deref().ok_or(Reason::AgentUnknown)?;
        let Actor { namespace, name, .. } = self.actor;
        let subject = self.user.as_ref().map(|(user, _)| Subject {
            issuer: user.issuer_url(),
            username: user.username(),
            groups: user.groups(),
            ceiling: user.ceiling(),
        });
        let resource = self.request.resource.as_str();
        Ok(Request { agent: Agent { namespace, name, uid }, subject, resource, scopes, resting_on: None })
    }

    fn asked(&self) -> Asked<'_> {
        Asked {
            kind: Asking::Exchange,
            now: self.now,
            id: &self.transaction,
            actor: Some(self.actor),
            identity: self.identity.as_deref(),
            user: self.user.as_ref().map(|(_, called)| called.clone()),
            action: Some("token".to_owned()),
            resource: Some(self.request.resource.as_str()),
            scopes: self.scopes(),
            jti: None,
            caller: None,
        }
    }
}

/// What a token says of its user. His groups are in it where somebody will ask for his rights by them; otherwise only those
/// by which the policy lends.
fn on_behalf(user: &VerifiedSubject, known: &Known, grant: &Grant<'_>) -> OnBehalf {
    let asked_by_groups = known.mode == RightsMode::Kubernetes;
    let issuer = grant.basis.issuer.map_or("", |issuer| &issuer.origin.name);
    let is_told = |group: &&String| asked_by_groups || grant.basis.policy.lends_by(issuer, group);
    let groups: Vec<_> = user.groups().iter().filter(is_told).cloned().collect();
    OnBehalf {
        username: user.username().to_owned(),
        groups: (asked_by_groups || !groups.is_empty()).then_some(groups),
        lineage: user.lineage_id().to_owned(),
        auth_time: user.auth_time(),
        rights: (known.mode.as_str(), known.as_of),
    }
}
