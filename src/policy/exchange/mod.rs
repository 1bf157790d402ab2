//! What an agent may be given at a resource, for a user or for itself.
//!
//! * **Halves.** The agent's: its own grants and the resource owner's consent. The delegation: one policy that lends the
//!   user's rights. The user's: the scopes of the user's token, if it bounds them, and what the user may do now. A scope is
//!   permitted if no half denies it.
//! * **Control flow.** [`authorize`] asks the snapshot, and leaves candidates; somebody asks for the user's rights to those;
//!   [`narrow`] takes away what the user may not do; [`expiry`] says how long it holds.
//! * **One policy.** A token rests on exactly one: that by which most of what was asked for can be given, then the oldest,
//!   then the first by name. Never on two together, or nobody could say by whose word the agent acts.
//! * **Default deny.** What is unknown, invalid or not answered permits nothing.
//! * **Again.** What was permitted is judged again by the same functions, with the policy it rests on: before a token
//!   leaves, and when somebody presents it: [`act`] leaves those candidates that the one action takes, and all of them must
//!   be left in the end ([`whole`]).

mod action;
mod denial;
mod row;

pub use action::{Action, act, whole};
pub use denial::{Denial, Half, Reason, Target};
pub use row::{Right, Row};

use crate::{
    api::v1alpha1::DelegationMode,
    index::{
        Identity, Snapshot, Standing,
        delegation::{Issuer, Policy, Resource},
    },
};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

/// A token that lives less long is worth nothing.
const SHORTEST: SignedDuration = SignedDuration::from_secs(30);

/// What is asked for. All of it is authenticated but for resource and scopes.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// Who asks.
    pub agent: Agent<'a>,
    /// For whom; `None`: for itself.
    pub subject: Option<Subject<'a>>,
    /// The resource's identifier.
    pub resource: &'a str,
    /// The scopes.
    pub scopes: &'a BTreeSet<String>,
    /// Uid of the policy that something permitted earlier rests on; `None`: any may be chosen.
    pub resting_on: Option<&'a str>,
}

/// An agent.
#[derive(Clone, Copy, Debug)]
pub struct Agent<'a> {
    /// Its namespace.
    pub namespace: &'a str,
    /// Its name.
    pub name: &'a str,
    /// Uid of its `AgentIdentity`.
    pub uid: &'a str,
}

/// A user, as the user's verified token says.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// URL of the token's issuer.
    pub issuer: &'a str,
    /// The user's name after the issuer's mapping.
    pub username: &'a str,
    /// The user's groups after the issuer's mapping.
    pub groups: &'a [String],
    /// The token's own scopes, if they bound what may be lent.
    pub ceiling: Option<&'a BTreeSet<String>>,
}

/// A decision. Not a `Result`: a denial is no failure, and goes on record too.
#[must_use]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision<T> {
    /// This much is permitted.
    Permit(T),
    /// Nothing is.
    Deny(Denial),
}

/// What is left for the user's rights to narrow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidates<'a> {
    /// On what it rests.
    pub basis: Basis<'a>,
    /// Each scope that was asked for.
    pub rows: Vec<Row>,
}

/// The objects that a decision rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Basis<'a> {
    /// The agent.
    pub identity: &'a Identity,
    /// Where.
    pub resource: &'a Resource,
    /// By whose word.
    pub policy: &'a Policy,
    /// Who says who the user is; `None` on an agent's own behalf.
    pub issuer: Option<&'a Issuer>,
}

/// What is permitted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant<'a> {
    /// On what it rests.
    pub basis: Basis<'a>,
    /// Each scope that was asked for.
    pub rows: Vec<Row>,
}

impl Candidates<'_> {
    /// The scopes that are left, in order. Never none.
    pub fn scopes(&self) -> impl Iterator<Item = &str> {
        left(&self.rows)
    }
}

impl Grant<'_> {
    /// The scopes, in order. Never none.
    pub fn scopes(&self) -> impl Iterator<Item = &str> {
        left(&self.rows)
    }

    /// The scopes that were asked for and are not among them, each with the first half that denies it.
    pub fn denied(&self) -> impl Iterator<Item = (&str, Half)> {
        self.rows.iter().filter_map(|row| Some((row.scope.as_str(), row.denied_by()?)))
    }
}

fn left(rows: &[Row]) -> impl Iterator<Item = &str> {
    rows.iter().filter(|row| row.denied_by().is_none()).map(|row| row.scope.as_str())
}

/// What may be given, but for the user's own rights.
pub fn authorize<'a>(request: &Request<'_>, snapshot: &'a Snapshot) -> Decision<Candidates<'a>> {
    let world = World::of(request, snapshot);
    let rows = world.rows(request);
    match world.judge(request, snapshot, &rows) {
        Ok(basis) => Decision::Permit(Candidates { basis, rows }),
        Err(reason) => Decision::Deny(Denial::new(reason, rows)),
    }
}

/// What of a snapshot a request is about, as far as it is there.
struct World<'a> {
    identity: Option<&'a Identity>,
    resource: Option<&'a Resource>,
    issuer: Option<&'a Issuer>,
    policy: Option<&'a Policy>,
}

impl<'a> World<'a> {
    fn of(request: &Request<'_>, snapshot: &'a Snapshot) -> Self {
        let delegation = &snapshot.delegation;
        let Agent { namespace, name, uid } = request.agent;
        let identity = match snapshot.standing(namespace, name) {
            Standing::Valid(identity) if identity.uid == uid => Some(identity),
            _ => None,
        };
        let issuer = request.subject.and_then(|subject| issuer(subject, snapshot));
        let resource = delegation.resource(request.resource).map(AsRef::as_ref);
        let mut world = Self { identity, resource, issuer, policy: None };
        world.policy = world.choose(request, snapshot);
        world
    }

    /// The policy that the answer rests on: that by which most can be given, then the oldest, then the first by name. Of
    /// those by which nothing can be given, that which names most of what was asked for.
    fn choose(&self, request: &Request<'_>, snapshot: &'a Snapshot) -> Option<&'a Policy> {
        let (identity, resource) = (self.identity?, self.resource?);
        let unlent = self.rows(request);
        let rank = |policy: &&'a Policy| {
            let lent = policy.resources.get(&resource.origin.name).map(|lent| &lent.scopes);
            let lends = |row: &&Row| lent.is_some_and(|scopes| scopes.contains(&row.scope));
            let named = unlent.iter().filter(lends);
            let given = named.clone().filter(|row| row.is_of_agent() && row.within_ceiling);
            (Reverse(given.count()), Reverse(named.count()), policy.origin.seniority())
        };
        let policies = snapshot.delegation.policies_of(identity).map(AsRef::as_ref);
        policies.filter(|policy: &&Policy| self.is_meant(policy, request)).min_by_key(rank)
    }

    /// Whether `policy` is about this user, or the agent itself, at this resource.
    fn is_meant(&self, policy: &Policy, request: &Request<'_>) -> bool {
        let is_for = match (request.subject, self.issuer) {
            (None, _) => policy.mode() == DelegationMode::OnOwnBehalf,
            (Some(subject), Some(issuer)) => {
                policy.lends_rights_of(&issuer.origin.name, subject.username, subject.groups)
            }
            (Some(_), None) => false,
        };
        let is_there =
            self.resource.is_some_and(|resource| policy.resources.contains_key(&resource.origin.name));
        is_for && is_there && request.resting_on.is_none_or(|uid| policy.origin.uid == uid)
    }

    fn rows(&self, request: &Request<'_>) -> Vec<Row> {
        let (namespace, mode) = (request.agent.namespace, mode(request));
        let resource = self.resource;
        let rows = request.scopes.iter().map(|scope| Row {
            scope: scope.clone(),
            offered: resource.is_some_and(|resource| resource.scopes.contains(scope)),
            granted: self
                .identity
                .zip(resource)
                .is_some_and(|(identity, resource)| identity.may_have(&resource.origin.name, scope)),
            consented: resource.is_some_and(|resource| resource.allows(namespace, mode, scope)),
            lent: self
                .policy
                .zip(resource)
                .and_then(|(policy, resource)| policy.resources.get(&resource.origin.name))
                .is_some_and(|lent| lent.scopes.contains(scope)),
            within_ceiling: request
                .subject
                .and_then(|subject| subject.ceiling)
                .is_none_or(|ceiling| ceiling.contains(scope)),
            right: None,
        });
        rows.collect()
    }

    /// On what the answer rests, or the first reason against there being one.
    fn judge(&self, request: &Request<'_>, snapshot: &Snapshot, rows: &[Row]) -> Result<Basis<'a>, Reason> {
        let Agent { namespace, name, .. } = request.agent;
        let identity = self.identity.ok_or(Reason::AgentUnknown)?;
        if snapshot.suspension(namespace, name).is_some() {
            return Err(Reason::AgentSuspended);
        }
        if request.subject.is_some() && self.issuer.is_none() {
            return Err(Reason::SubjectIssuer);
        }
        let resource = self.resource.ok_or(Reason::InvalidTarget(Target::Unknown))?;
        if !resource.admits(namespace, mode(request)) {
            return Err(Reason::InvalidTarget(Target::NoConsent));
        }
        if !identity.grants.contains_key(&resource.origin.name) {
            return Err(Reason::InvalidTarget(Target::NoGrant));
        }
        let policy = self.policy.ok_or(Reason::NoDelegation)?;
        if rows.is_empty() {
            return Err(Reason::ScopeRequired);
        }
        if !rows.iter().all(|row| row.offered) {
            return Err(Reason::ScopeUnknown);
        }
        if !rows.iter().any(Row::is_of_agent) {
            return Err(Reason::AgentHalf);
        }
        if !rows.iter().any(|row| row.is_of_agent() && row.lent) {
            return Err(Reason::Delegation);
        }
        if left(rows).next().is_none() {
            return Err(Reason::UserHalf);
        }
        Ok(Basis { identity, resource, policy, issuer: self.issuer })
    }
}

fn mode(request: &Request<'_>) -> DelegationMode {
    if request.subject.is_some() { DelegationMode::OnBehalfOfUser } else { DelegationMode::OnOwnBehalf }
}

/// The issuer of a subject, if it counts and calls users and groups as it did when the token was read.
fn issuer<'a>(subject: Subject<'_>, snapshot: &'a Snapshot) -> Option<&'a Issuer> {
    let issuer = snapshot.delegation.issuer(subject.issuer)?;
    let is_group =
        |group: &String| issuer.groups.as_ref().is_some_and(|mapping| group.starts_with(&mapping.prefix));
    let is_its_own =
        subject.username.starts_with(&issuer.username.prefix) && subject.groups.iter().all(is_group);
    is_its_own.then_some(issuer)
}

/// Takes away what the user may not do, or what nobody could say. On an agent's own behalf there is no user, and nothing to
/// take away.
pub fn narrow<'a>(candidates: Candidates<'a>, rights: &BTreeMap<String, Right>) -> Decision<Grant<'a>> {
    let Candidates { basis, mut rows } = candidates;
    if basis.issuer.is_some() {
        for row in rows.iter_mut().filter(|row| row.denied_by().is_none()) {
            row.right = Some(rights.get(&row.scope).copied().unwrap_or(Right::Unknown));
        }
    }
    if left(&rows).next().is_some() {
        Decision::Permit(Grant { basis, rows })
    } else if rows.iter().any(|row| row.right == Some(Right::Unknown)) {
        Decision::Deny(Denial::new(Reason::UserHalfUnknown, rows))
    } else {
        Decision::Deny(Denial::new(Reason::UserHalf, rows))
    }
}

/// Until when a token for `grant` holds: no longer than policy and resource let it, nor than the tokens it is made from,
/// which end at `ends`.
pub fn expiry(grant: &Grant<'_>, now: Timestamp, ends: &[Timestamp]) -> Decision<Timestamp> {
    let Basis { policy, resource, .. } = grant.basis;
    let longest = policy.max_token_lifetime.min(resource.max_token_lifetime);
    let latest = now.checked_add(longest).unwrap_or(Timestamp::MAX);
    let expiry = ends.iter().copied().fold(latest, Timestamp::min);
    if expiry.duration_since(now) < SHORTEST {
        Decision::Deny(Denial::new(Reason::SubjectExpiring, grant.rows.clone()))
    } else {
        Decision::Permit(expiry)
    }
}
