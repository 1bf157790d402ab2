//! `kubectl deputy can-i`: whether an agent would be given a token, half by half, by the functions that give tokens.

mod remedy;
mod report;

pub use report::{Answer, Report};

use crate::{
    api::v1alpha1::{DelegationMode, ScopeCeiling},
    index::{
        Identity, Snapshot, Standing,
        delegation::{Issuer, Rejected, Resource, UserRights},
    },
    policy::exchange::{Agent, Decision, Grant, Request, Right, Subject, authorize, expiry, narrow},
};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use std::collections::{BTreeMap, BTreeSet};

/// What somebody wants to know.
#[derive(Clone, Debug, Default)]
pub struct Question {
    /// Namespace of the agent.
    pub namespace: String,
    /// Its name.
    pub agent: String,
    /// For whom; `None`: for itself.
    pub user: Option<Asked>,
    /// Name of a `ProtectedResource`, or its identifier.
    pub resource: String,
    /// The scopes.
    pub scopes: BTreeSet<String>,
}

/// A user, as somebody names him.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// His name.
    pub name: String,
    /// His groups.
    pub groups: Vec<String>,
    /// Name of the `TrustedIssuer`; `None`: the one whose users have such names.
    pub issuer: Option<String>,
    /// The scopes that bound what may be lent, as his token would say them.
    pub ceiling: Option<BTreeSet<String>>,
}

/// A user, as policies and the API server call him.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Person {
    /// Name of the `TrustedIssuer`.
    pub issuer: String,
    /// Its URL.
    pub url: String,
    /// After the issuer's mapping.
    pub username: String,
    /// After the issuer's mapping.
    pub groups: Vec<String>,
}

impl Asked {
    /// Who that is. With an issuer named, names may be given as its tokens have them; what it puts before them is put.
    ///
    /// # Errors
    /// Why nobody is meant, in words.
    pub fn person(&self, snapshot: &Snapshot) -> Result<Person, String> {
        let issuer = match &self.issuer {
            Some(name) => match snapshot.delegation.issuer_named(name) {
                None => return Err(format!("there is no TrustedIssuer {name:?}")),
                Some(Err(Rejected { why, .. })) => {
                    return Err(format!("TrustedIssuer {name:?} does not count: {why}"));
                }
                Some(Ok(issuer)) => issuer,
            },
            None => snapshot
                .delegation
                .issuers()
                .find(|issuer| self.name.starts_with(&issuer.username.prefix))
                .ok_or_else(|| self.nobodys(snapshot))?,
        };
        let groups = issuer.groups.as_ref().map(|groups| groups.prefix.as_str());
        if let (None, Some(group)) = (groups, self.groups.first()) {
            let name = &issuer.origin.name;
            return Err(format!("TrustedIssuer {name:?} has no groups, so nobody of it is in {group:?}"));
        }
        let prefixed = |prefix: &str, name: &String| match name.starts_with(prefix) {
            true => name.clone(),
            false => format!("{prefix}{name}"),
        };
        Ok(Person {
            issuer: issuer.origin.name.clone(),
            url: issuer.url.clone(),
            username: prefixed(&issuer.username.prefix, &self.name),
            groups: self.groups.iter().map(|group| prefixed(groups.unwrap_or_default(), group)).collect(),
        })
    }

    fn nobodys(&self, snapshot: &Snapshot) -> String {
        let known = snapshot
            .delegation
            .issuers()
            .map(|issuer| format!("{:?} (TrustedIssuer {})", issuer.username.prefix, issuer.origin.name));
        let known: Vec<_> = known.collect();
        let known = if known.is_empty() { "there is none".to_owned() } else { known.join(", ") };
        format!(
            "no TrustedIssuer calls a user {:?}; give the name that policies use, which begins as one of theirs ({known}), or \
             --issuer",
            self.name
        )
    }
}

/// The `ProtectedResource` that is meant, if it counts.
///
/// # Errors
/// Why it does not, in words.
pub fn resource<'a>(named: &str, snapshot: &'a Snapshot) -> Result<&'a Resource, String> {
    if named.contains("://") {
        let found = snapshot.delegation.resource(named);
        return found
            .map(AsRef::as_ref)
            .ok_or_else(|| format!("no ProtectedResource that counts has the identifier {named:?}"));
    }
    match snapshot.delegation.resource_named(named) {
        None => Err(format!("there is no ProtectedResource {named:?}")),
        Some(Err(Rejected { why, .. })) => Err(format!("ProtectedResource {named:?} does not count: {why}")),
        Some(Ok(resource)) => Ok(resource),
    }
}

/// What is left once agent, owner and policies were asked: what to ask of the user's rights.
#[derive(Debug)]
pub struct Inquiry<'a> {
    question: &'a Question,
    snapshot: &'a Snapshot,
    identity: Result<&'a Identity, String>,
    resource: &'a Resource,
    person: Option<Person>,
}

/// Where the user's rights are asked for, and for which scopes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted<'a> {
    /// Where.
    pub rights: &'a UserRights,
    /// Name of the `ProtectedResource`.
    pub resource: &'a str,
    /// Who.
    pub person: &'a Person,
    /// The scopes.
    pub scopes: Vec<String>,
}

impl<'a> Inquiry<'a> {
    /// What `snapshot` says to `question`.
    ///
    /// # Errors
    /// When it names nobody, or nothing, that counts: there is nothing to intersect.
    pub fn new(question: &'a Question, snapshot: &'a Snapshot) -> Result<Self, String> {
        let resource = resource(&question.resource, snapshot)?;
        let person = question.user.as_ref().map(|user| user.person(snapshot)).transpose()?;
        let identity = standing(question, snapshot);
        Ok(Self { question, snapshot, identity, resource, person })
    }

    fn request(&self) -> Request<'_> {
        let Question { namespace, agent, user, scopes, .. } = self.question;
        let uid = self.identity.as_ref().map_or("", |identity| &identity.uid);
        let ceiling = user.as_ref().and_then(|user| user.ceiling.as_ref());
        let subject = self.person.as_ref().map(|person| Subject {
            issuer: &person.url,
            username: &person.username,
            groups: &person.groups,
            ceiling,
        });
        let agent = Agent { namespace, name: agent, uid };
        Request { agent, subject, resource: self.resource.identifier.as_str(), scopes, resting_on: None }
    }

    /// What is to be asked about the user, if it comes to that.
    pub fn wanted(&self) -> Option<Wanted<'_>> {
        let person = self.person.as_ref()?;
        let Decision::Permit(candidates) = authorize(&self.request(), self.snapshot) else { return None };
        Some(Wanted {
            rights: &self.resource.user_rights,
            resource: &self.resource.origin.name,
            person,
            scopes: candidates.scopes().map(str::to_owned).collect(),
        })
    }

    /// The answer, with the user's rights as far as they are known.
    pub fn answer(&self, rights: &BTreeMap<String, Right>, now: Timestamp) -> Report {
        let (mut policy, mut lifetime, mut denial) = (None, None, None);
        let rows = match authorize(&self.request(), self.snapshot) {
            Decision::Deny(denied) => {
                denial = Some(denied.reason);
                denied.rows
            }
            Decision::Permit(candidates) => {
                policy = Some(candidates.basis.policy.origin.name.clone());
                match narrow(candidates, rights) {
                    Decision::Permit(grant) => {
                        lifetime = lives(&grant, now);
                        grant.rows
                    }
                    Decision::Deny(denied) => {
                        denial = Some(denied.reason);
                        denied.rows
                    }
                }
            }
        };
        Report::new(self, rows, denial, policy, lifetime)
    }

    fn mode(&self) -> DelegationMode {
        if self.person.is_some() { DelegationMode::OnBehalfOfUser } else { DelegationMode::OnOwnBehalf }
    }

    /// The issuer of the user.
    fn issuer(&self) -> Option<&'a Issuer> {
        self.snapshot.delegation.issuer(&self.person.as_ref()?.url).map(AsRef::as_ref)
    }

    /// Whether the scopes of the user's token may bound what is lent, and nobody said which they are.
    fn has_open_ceiling(&self) -> bool {
        let is_given = self.question.user.as_ref().is_some_and(|user| user.ceiling.is_some());
        let bounds = |issuer: &Issuer| {
            issuer.tokens.values().any(|accepted| accepted.scope_ceiling == ScopeCeiling::Mapped)
        };
        !is_given && self.issuer().is_some_and(bounds)
    }
}

/// The agent, if tokens may be given to it but for suspensions; otherwise why not.
fn standing<'a>(question: &Question, snapshot: &'a Snapshot) -> Result<&'a Identity, String> {
    let Question { namespace, agent, .. } = question;
    let named = format!("AgentIdentity {namespace}/{agent}");
    Err(match snapshot.standing(namespace, agent) {
        Standing::Valid(identity) => return Ok(identity),
        Standing::Unknown => format!("there is no {named}"),
        Standing::Invalid(why) => format!("{named} is invalid: {why}"),
        Standing::Deleting(_) => format!("{named} is being deleted"),
        Standing::AccountMissing(_) => {
            format!("{named} has no ServiceAccount agent.{agent} yet; see its conditions")
        }
        Standing::AccountTaken(_) => {
            format!("the ServiceAccount agent.{agent} is not {named}'s own; see its conditions")
        }
    })
}

/// How long a token would live, but for the tokens it is made from.
fn lives(grant: &Grant<'_>, now: Timestamp) -> Option<SignedDuration> {
    match expiry(grant, now, &[]) {
        Decision::Permit(expires) => Some(expires.duration_since(now)),
        Decision::Deny(_) => None,
    }
}
