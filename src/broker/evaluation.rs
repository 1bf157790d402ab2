//! One question, step by step: may what a token was given for be done now?
//!
//! The token is believed for what it says of its issue, and for nothing else: the agent, its pod, the policy it rests on, the
//! owner's consent and the user's right are looked at as they are now. An answer is always 200; only who does not say who he
//! is, or asks what nobody can read, is told so in other words. A permit waits for the record, and is judged once more before
//! it is answered; a denial waits for nothing.

use super::{
    caller::Caller,
    presented::Presented,
    record::{Asked, Asking},
    rights::{PERMIT, Person},
    service::{Broker, Undone, permitted},
};
use crate::{
    api::v1alpha1::CallerRight,
    audit::{RightsMode, User},
    authzen::{Evaluation, EvaluationRequest, Rights, TOOL_CALL},
    index::{
        Snapshot,
        delegation::{Issuer, Resource, UserRights},
    },
    oauth::{Half, OAuthError, Reason},
    policy::exchange::{Action, Agent, Candidates, Request, Right, Subject, act, narrow, whole},
};
use http::HeaderMap;
use k8s_openapi::jiff::Timestamp;
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::time::Instant;

/// A question, and what is found out about it.
struct Question<'a> {
    caller: &'a Caller,
    request: &'a EvaluationRequest<'a>,
    now: Timestamp,
    id: String,
    /// The token, once it is verified.
    presented: Option<Arc<Presented>>,
    /// The resource's own word for what is to be done, once it is known to have one: nothing else of the caller's words is
    /// put on record.
    action: Option<String>,
    /// How the user is called on record.
    user: Option<User>,
}

/// What is answered beside yes.
struct Permit {
    audit: String,
    rights: Option<Rights>,
}

/// What a user may do, by whose word, and how old that is.
struct RightsNow {
    rights: BTreeMap<String, Right>,
    mode: RightsMode,
    /// When it was asked.
    as_of: Timestamp,
    /// By how much more it may be older.
    max_age: Duration,
}

impl RightsNow {
    fn told(&self) -> Rights {
        Rights { mode: self.mode.as_str(), as_of: self.as_of.as_second(), max_age_s: self.max_age.as_secs() }
    }
}

impl Broker {
    /// Who asks, by the token in these `headers`.
    ///
    /// # Errors
    /// When that cannot be told.
    pub(super) async fn caller(&self, headers: &HeaderMap) -> Result<Arc<Caller>, OAuthError> {
        let caller = self.questions.callers.caller(headers, &self.issuers.cluster, (self.clock)()).await;
        caller.map_err(|reason| {
            self.count(reason);
            reason.into()
        })
    }

    /// Whether what `body` asks about may be done.
    ///
    /// # Errors
    /// Only when it cannot be read.
    pub(super) async fn evaluate(&self, caller: &Caller, body: &[u8]) -> Result<Evaluation, OAuthError> {
        let began = Instant::now();
        let request = EvaluationRequest::parse(body)?;
        let (now, id) = ((self.clock)(), (self.random)());
        let mut question =
            Question { caller, request: &request, now, id, presented: None, action: None, user: None };
        let answered = self.answer(&mut question).await.map_err(|undone| match undone {
            Undone::Denied(reason) => {
                self.note(&question.asked().denied(reason));
                reason
            }
            Undone::Withheld(reason) => reason,
        });
        let id = question.id;
        Ok(match answered {
            Ok(Permit { audit, rights }) => {
                self.metrics.evaluations.permitted(began.elapsed());
                Evaluation { reason: None, id, audit: Some(audit), rights }
            }
            Err(reason) => {
                let half = reason.half().map(Half::as_str);
                self.metrics.evaluations.denied(reason.as_str(), half, began.elapsed());
                Evaluation { reason: Some(reason), id, audit: None, rights: None }
            }
        })
    }

    async fn answer(&self, question: &mut Question<'_>) -> Result<Permit, Undone> {
        self.is_fit()?;
        let presented = self.presented(question).await?;
        let resource = question.resource(&presented, &self.snapshots.borrow())?.clone();
        question.action = question.named(&resource);
        let snapshot = self.present(&presented.actor, None).await?;
        question.user = self.user_of(&presented, &snapshot)?;
        let candidates = question.judge(&presented, &snapshot)?;
        let known = self.rights_now(&presented, &candidates, question.now).await;
        let none = BTreeMap::new();
        let rights = known.as_ref().map_or(&none, |known| &known.rights);
        let grant = permitted(whole(permitted(narrow(candidates, rights))?))?;
        let asked = question.asked();
        let on_record = known.as_ref().map(|known| (known.mode, known.as_of));
        let index = self.append(&asked.permitted(&grant, on_record)).await?;
        if let Err(reason) = self.may_still(question, &presented, &snapshot) {
            self.note(&asked.withheld(reason));
            return Err(Undone::Withheld(reason));
        }
        Ok(Permit {
            audit: format!("{}#{index}", self.record.log()),
            rights: known.as_ref().map(RightsNow::told),
        })
    }

    /// The token that is presented, if it is one and the question is about it.
    async fn presented(&self, question: &mut Question<'_>) -> Result<Arc<Presented>, Reason> {
        let token = question.request.access_token().ok_or(Reason::TokenRequired)?;
        let keys = self.keys.borrow().clone().ok_or(Reason::Stale)?;
        let presented = self.presented.read(token, &self.issuers.broker, &keys, question.now).await?;
        question.presented = Some(Arc::clone(&presented));
        if question.request.is_about(&presented.claims) {
            Ok(presented)
        } else {
            Err(Reason::SubjectMismatch)
        }
    }

    /// How the user of a token is called on record.
    fn user_of(&self, presented: &Presented, snapshot: &Snapshot) -> Result<Option<User>, Reason> {
        let Some(issuer) = issuer(presented, snapshot)? else { return Ok(None) };
        let key = self.pseudonyms.borrow().clone().ok_or(Reason::Audit)?;
        Ok(Some(key.user(&issuer.url, &presented.claims.sub)))
    }

    /// What the user of a token may do now; `None` if there is no user.
    async fn rights_now(
        &self,
        presented: &Presented,
        candidates: &Candidates<'_>,
        now: Timestamp,
    ) -> Option<RightsNow> {
        let Presented { claims, mode, .. } = presented;
        let (mode, resource) = ((*mode)?, candidates.basis.resource);
        let all = |right| candidates.scopes().map(|scope| (scope.to_owned(), right)).collect();
        let is_same = claims.provenance.resource.generation == resource.origin.generation;
        Some(match (mode, &resource.user_rights) {
            (RightsMode::Kubernetes, UserRights::Kubernetes) => {
                let person =
                    Person { username: &claims.sub, groups: claims.groups.as_deref().unwrap_or_default() };
                let rights =
                    self.questions.rights.of(person, &resource.origin.name, candidates.scopes()).await;
                RightsNow { rights, mode, as_of: now, max_age: PERMIT }
            }
            // The user's own token said so; it is not here to be asked again, and another claim may count by now.
            (RightsMode::Claims, UserRights::Claims { .. }) if is_same => {
                let as_of = claims.provenance.rights.as_ref().map_or(claims.iat, |rights| rights.as_of);
                let as_of = Timestamp::from_second(as_of).unwrap_or(Timestamp::MIN);
                RightsNow { rights: all(Right::Allowed), mode, as_of, max_age: Duration::ZERO }
            }
            _ => RightsNow { rights: all(Right::Unknown), mode, as_of: now, max_age: Duration::ZERO },
        })
    }

    /// Whether what was permitted as things were in `before` would be permitted still.
    fn may_still(
        &self,
        question: &Question<'_>,
        presented: &Presented,
        before: &Arc<Snapshot>,
    ) -> Result<(), Reason> {
        let snapshot = self.still(&presented.actor, None)?;
        // Otherwise all but the time is as it was.
        if Arc::ptr_eq(&snapshot, before) { Ok(()) } else { question.judge(presented, &snapshot).map(drop) }
    }
}

impl Question<'_> {
    /// The resource of the token, if the caller may ask about it.
    fn resource<'s>(
        &self,
        presented: &Presented,
        snapshot: &'s Snapshot,
    ) -> Result<&'s Arc<Resource>, Reason> {
        let Presented { claims, .. } = presented;
        let resource = snapshot.delegation.resource(&claims.aud);
        // Another object of that identifier is another owner's.
        let resource = resource.filter(|resource| resource.origin.uid == claims.provenance.resource.uid);
        let resource = resource.ok_or(Reason::ResourceUnknown)?;
        let Caller { namespace, account, .. } = self.caller;
        if resource.is_called_by(namespace, account, CallerRight::Decide) {
            Ok(resource)
        } else {
            Err(Reason::CallerUnlisted)
        }
    }

    /// What is to be done, if the resource has a word for it.
    fn named(&self, resource: &Resource) -> Option<String> {
        match self.action(resource)? {
            Action::Tool(tool) if resource.tools.contains_key(tool) => Some(format!("{TOOL_CALL} {tool}")),
            Action::Tool(_) => Some(TOOL_CALL.to_owned()),
            Action::Scope(scope) => resource.scopes.contains(scope).then(|| scope.to_owned()),
        }
    }

    fn action(&self, resource: &Resource) -> Option<Action<'_>> {
        let on_resource = || self.request.action_on(resource.identifier.as_str()).map(Action::Scope);
        self.request.tool().map(Action::Tool).or_else(on_resource)
    }

    /// What of the user's rights it takes. All the rest permits it, as things are in `snapshot`.
    fn judge<'s>(&self, presented: &Presented, snapshot: &'s Snapshot) -> Result<Candidates<'s>, Reason> {
        let Presented { claims, scopes, .. } = presented;
        let of = &claims.provenance;
        let resource = self.resource(presented, snapshot)?;
        let action = self.action(resource).ok_or(Reason::ActionUnknown)?;
        let issuer = issuer(presented, snapshot)?;
        let subject = issuer.map(|issuer| Subject {
            issuer: &issuer.url,
            username: &claims.sub,
            groups: claims.groups.as_deref().unwrap_or_default(),
            // Whatever bounded the scopes of the token is in them.
            ceiling: None,
        });
        let agent = Agent { namespace: &of.agent.namespace, name: &of.agent.name, uid: &of.agent.uid };
        let resting_on = Some(of.policy.uid.as_str());
        let request = Request { agent, subject, resource: &claims.aud, scopes, resting_on };
        permitted(act(&request, action, snapshot))
    }

    fn asked(&self) -> Asked<'_> {
        let presented = self.presented.as_deref();
        let claims = presented.map(|presented| &presented.claims);
        Asked {
            kind: Asking::Evaluation,
            now: self.now,
            id: &self.id,
            actor: presented.map(|presented| &presented.actor),
            identity: claims.map(|claims| claims.provenance.agent.uid.as_str()),
            user: self.user.clone(),
            action: self.action.clone(),
            resource: claims.map(|claims| claims.aud.as_str()),
            scopes: vec![],
            jti: claims.map(|claims| claims.jti.as_str()),
            caller: Some(&self.caller.username),
        }
    }
}

/// Who said who the user of a token is, if it is for one. What the user's own token was held against must be as it was: that
/// token is not here to be held against anything else.
fn issuer<'s>(presented: &Presented, snapshot: &'s Snapshot) -> Result<Option<&'s Arc<Issuer>>, Reason> {
    let Some(of) = &presented.claims.provenance.issuer else { return Ok(None) };
    let issuer = snapshot.delegation.issuer_of(&of.uid);
    let issuer = issuer.filter(|issuer| issuer.origin.generation == of.generation);
    issuer.ok_or(Reason::SubjectIssuer).map(Some)
}
