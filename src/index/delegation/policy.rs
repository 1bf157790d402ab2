//! The one conversion of a `DelegationPolicy`.

use super::invalid::{InvalidDelegation, Origin, distinct, keyed, scopes, seconds};
use crate::{
    api::v1alpha1::{DelegationMode, DelegationPolicy, PolicyAgents, PolicySubjects, PrincipalName},
    index::Identity,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

/// A validated policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// The object.
    pub origin: Origin,
    /// Its namespace, and that of the agents it speaks of.
    pub namespace: String,
    /// What it lends, by name of the `ProtectedResource`.
    pub resources: BTreeMap<String, Lent>,
    /// The longest a token that rests on it lives.
    pub max_token_lifetime: Duration,
    agents: Agents,
    /// Whose rights it lends, by name of the `TrustedIssuer`; `None`: the agent's own.
    subjects: Option<BTreeMap<String, Subjects>>,
}

/// What is lent at one resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lent {
    /// The scopes.
    pub scopes: BTreeSet<String>,
    /// The tools that may be called.
    pub tools: BTreeSet<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Agents {
    Labelled(BTreeMap<String, String>),
    Named(BTreeSet<String>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Subjects {
    users: BTreeSet<String>,
    groups: BTreeSet<String>,
}

impl Policy {
    /// Whether it speaks of the agent `identity`.
    pub fn speaks_of(&self, identity: &Identity) -> bool {
        self.namespace == identity.namespace
            && match &self.agents {
                Agents::Named(names) => names.contains(&identity.name),
                Agents::Labelled(labels) => {
                    labels.iter().all(|(key, value)| identity.labels.get(key) == Some(value))
                }
            }
    }

    /// For whom its agents act.
    pub fn mode(&self) -> DelegationMode {
        if self.subjects.is_some() { DelegationMode::OnBehalfOfUser } else { DelegationMode::OnOwnBehalf }
    }

    /// Whether it lends the rights of this user of the `TrustedIssuer` of that name. Names are those after the issuer's
    /// mapping.
    pub fn lends_rights_of(&self, issuer: &str, username: &str, groups: &[String]) -> bool {
        let subjects = self.subjects.as_ref().and_then(|subjects| subjects.get(issuer));
        subjects.is_some_and(|subjects| {
            subjects.users.contains(username) || groups.iter().any(|group| subjects.groups.contains(group))
        })
    }

    /// Whether it lends the rights of all members of `group`, as the `TrustedIssuer` of that name has them.
    pub fn lends_by(&self, issuer: &str, group: &str) -> bool {
        let subjects = self.subjects.as_ref().and_then(|subjects| subjects.get(issuer));
        subjects.is_some_and(|subjects| subjects.groups.contains(group))
    }

    /// Names of the `TrustedIssuer`s whose users' rights it lends.
    pub fn issuers(&self) -> impl Iterator<Item = &str> {
        self.subjects.iter().flatten().map(|(issuer, _)| issuer.as_str())
    }
}

impl TryFrom<&DelegationPolicy> for Policy {
    type Error = InvalidDelegation;

    /// Validates `object`. Everything the CRD's schema states is checked again: it may have been stored under an older one.
    fn try_from(object: &DelegationPolicy) -> Result<Self, Self::Error> {
        let origin = Origin::of(&object.metadata)?;
        let spec = &object.spec;
        let resources = spec.resources.iter().map(|resource| {
            let tools = resource.tools.iter().map(|tool| &tool.0);
            let tools = if resource.tools.is_empty() {
                BTreeSet::new()
            } else {
                distinct("spec.resources[].tools", tools)?
            };
            let scopes = scopes("spec.resources[].scopes", &resource.scopes)?;
            Ok((resource.protected_resource_name.clone(), Lent { scopes, tools }))
        });
        let resources = keyed("spec.resources", resources)?;
        if resources.is_empty() {
            return Err(InvalidDelegation::Missing("spec.resources"));
        }
        let lifetime = spec.token.max_lifetime_seconds;
        Ok(Self {
            origin,
            namespace: object
                .metadata
                .namespace
                .clone()
                .ok_or(InvalidDelegation::Missing("metadata.namespace"))?,
            resources,
            max_token_lifetime: seconds("spec.token.maxLifetimeSeconds", lifetime, 3600)?,
            agents: agents(&spec.agents)?,
            subjects: subjects(spec.mode, &spec.subjects)?,
        })
    }
}

fn agents(declared: &PolicyAgents) -> Result<Agents, InvalidDelegation> {
    match (&declared.names, &declared.selector) {
        (Some(names), None) => {
            Ok(Agents::Named(distinct("spec.agents.names", names.iter().map(|name| &name.0))?))
        }
        // A selector without labels would select every agent.
        (None, Some(selector)) if !selector.match_labels.is_empty() => {
            let labels = selector.match_labels.iter().map(|(key, value)| (key.clone(), value.0.clone()));
            Ok(Agents::Labelled(labels.collect()))
        }
        (None, Some(_)) => Err(InvalidDelegation::Missing("spec.agents.selector.matchLabels")),
        _ => Err(InvalidDelegation::Combination("spec.agents: set exactly one of names and selector")),
    }
}

fn subjects(
    mode: DelegationMode,
    declared: &[PolicySubjects],
) -> Result<Option<BTreeMap<String, Subjects>>, InvalidDelegation> {
    const AT: &str = "spec.subjects";
    match (mode, declared) {
        (DelegationMode::OnOwnBehalf, []) => Ok(None),
        (DelegationMode::OnOwnBehalf, _) => Err(InvalidDelegation::Combination(
            "spec.subjects: leave it out with mode OnOwnBehalf, in which an agent acts for itself",
        )),
        (DelegationMode::OnBehalfOfUser, []) => Err(InvalidDelegation::Missing(AT)),
        (DelegationMode::OnBehalfOfUser, declared) => {
            let pairs = declared.iter().map(|of| {
                let named = || of.users.iter().chain(&of.groups);
                if named().next().is_none() || named().any(|name| name.0.is_empty()) {
                    return Err(InvalidDelegation::Missing("spec.subjects[]: a user or group"));
                }
                let set = |names: &[PrincipalName]| names.iter().map(|name| name.0.clone()).collect();
                let subjects = Subjects { users: set(&of.users), groups: set(&of.groups) };
                Ok((of.trusted_issuer_name.clone(), subjects))
            });
            keyed(AT, pairs).map(Some)
        }
    }
}
