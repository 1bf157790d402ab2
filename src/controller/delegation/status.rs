//! The statuses of issuers, resources and policies, computed as values. Pure: written elsewhere, and only when they differ.

use crate::{
    api::{
        condition::{self, ACCEPTED, READY, STALLED, reason},
        v1alpha1::{
            DelegationMode, DelegationPolicyStatus, PolicyResourceStatus, ProtectedResourceStatus,
            TrustedIssuerStatus,
        },
    },
    index::{
        Identity, Snapshot,
        delegation::{Delegation, Lent, Policy, Rejected, Rejection, Resource},
    },
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use std::{fmt::Display, sync::Arc};

/// How much is said at most, in characters.
const MESSAGE_BOUND: usize = 2048;

/// Whether a condition holds, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Verdict {
    holds: bool,
    reason: &'static str,
    message: String,
}

impl Verdict {
    fn new(holds: bool, reason: &'static str, message: &impl Display) -> Self {
        let mut message = message.to_string();
        if let Some((end, _)) = message.char_indices().nth(MESSAGE_BOUND) {
            message.truncate(end);
            message.push('…');
        }
        Self { holds, reason, message }
    }

    fn condition(&self, type_: &str, when: When<'_>) -> Condition {
        let Self { holds, reason, message } = self;
        condition::condition(type_, *holds, reason, message, when.generation, when.now)
    }
}

/// For which generation of an object a status is, and as of when.
#[derive(Clone, Copy, Debug)]
pub(super) struct When<'a> {
    pub(super) generation: Option<i64>,
    pub(super) now: &'a Time,
}

/// The status of the issuer `name`; `None` if there is none.
pub(super) fn issuer(
    name: &str,
    delegation: &Delegation,
    previous: Option<&TrustedIssuerStatus>,
    when: When<'_>,
) -> Option<TrustedIssuerStatus> {
    let standing = delegation.issuer_named(name)?.map(|_| "its tokens may say who a user is");
    let previous = previous.map(|status| status.conditions.as_slice());
    Some(TrustedIssuerStatus { conditions: counted(standing, previous, when) })
}

/// The status of the resource `name`; `None` if there is none.
pub(super) fn resource(
    name: &str,
    delegation: &Delegation,
    previous: Option<&ProtectedResourceStatus>,
    when: When<'_>,
) -> Option<ProtectedResourceStatus> {
    let standing = delegation.resource_named(name)?.map(|_| "tokens may be made for it");
    let previous = previous.map(|status| status.conditions.as_slice());
    Some(ProtectedResourceStatus { conditions: counted(standing, previous, when) })
}

/// The conditions of an object that counts, or does not.
fn counted(
    standing: Result<&str, Rejected>,
    previous: Option<&[Condition]>,
    when: When<'_>,
) -> Vec<Condition> {
    match standing {
        Ok(effect) => {
            let ready = Verdict::new(true, reason::IN_EFFECT, &effect);
            conditions(&valid(), &ready, previous, when)
        }
        Err(Rejected { reason, why }) => {
            let reason = match reason {
                Rejection::IdentifierTaken => reason::IDENTIFIER_TAKEN,
                Rejection::Invalid => reason::INVALID,
                Rejection::PrefixTaken => reason::PREFIX_TAKEN,
                Rejection::UrlTaken => reason::URL_TAKEN,
            };
            let verdict = Verdict::new(false, reason, &why);
            conditions(&verdict, &verdict, previous, when)
        }
    }
}

fn valid() -> Verdict {
    Verdict::new(true, reason::VALID, &"the spec is valid")
}

/// Accepted, Ready and Stalled. What is not accepted waits for a person; what is not ready may wait for an object that is
/// on its way.
fn conditions(
    accepted: &Verdict,
    ready: &Verdict,
    previous: Option<&[Condition]>,
    when: When<'_>,
) -> Vec<Condition> {
    let stalled = if accepted.holds {
        Verdict::new(false, reason::PROGRESSING, &"nothing waits for a person")
    } else {
        Verdict { holds: true, ..accepted.clone() }
    };
    let mut conditions = previous.unwrap_or_default().to_vec();
    for (type_, verdict) in [(ACCEPTED, accepted), (READY, ready), (STALLED, &stalled)] {
        condition::set(&mut conditions, verdict.condition(type_, when));
    }
    conditions
}

/// The status of the policy `name`; `None` if there is none.
pub(super) fn policy(
    (namespace, name): (&str, &str),
    snapshot: &Snapshot,
    previous: Option<&DelegationPolicyStatus>,
    when: When<'_>,
) -> Option<DelegationPolicyStatus> {
    let conditions_before = previous.map(|status| status.conditions.as_slice());
    let policy = match snapshot.delegation.policy(namespace, name)? {
        Ok(policy) => policy,
        Err(why) => {
            let invalid = Verdict::new(false, reason::INVALID, &why);
            let conditions = conditions(&invalid, &invalid, conditions_before, when);
            return Some(DelegationPolicyStatus { conditions, ..DelegationPolicyStatus::default() });
        }
    };
    let agents: Vec<_> =
        snapshot.identities_of(namespace).filter(|identity| policy.speaks_of(identity)).collect();
    let verdicts: Vec<_> = policy
        .resources
        .iter()
        .map(|(name, lent)| (name, judge(policy, name, lent, &agents, &snapshot.delegation)))
        .collect();
    let ready = ready(policy, &agents, &verdicts, &snapshot.delegation);
    let resources = verdicts.iter().map(|(name, verdict)| {
        let mut before = previous.iter().flat_map(|status| &status.resources);
        let before = before.find(|status| status.protected_resource_name == **name);
        let mut conditions = before.map(|status| status.conditions.clone()).unwrap_or_default();
        condition::set(&mut conditions, verdict.condition(ACCEPTED, when));
        PolicyResourceStatus { protected_resource_name: (*name).clone(), conditions }
    });
    Some(DelegationPolicyStatus {
        matched_agents: i32::try_from(agents.len()).unwrap_or(i32::MAX),
        resources: resources.collect(),
        conditions: conditions(&valid(), &ready, conditions_before, when),
    })
}

/// Whether anything can be lent by the policy.
fn ready(
    policy: &Policy,
    agents: &[&Identity],
    verdicts: &[(&String, Verdict)],
    delegation: &Delegation,
) -> Verdict {
    if agents.is_empty() {
        let message = "it speaks of no AgentIdentity that there is and that is valid";
        return Verdict::new(false, reason::NO_AGENTS, &message);
    }
    let idle: Vec<_> = policy.issuers().filter_map(|name| idle_issuer(name, delegation)).collect();
    if policy.mode() == DelegationMode::OnBehalfOfUser && idle.len() == policy.issuers().count() {
        return Verdict::new(false, reason::NO_ISSUERS, &idle.join("; "));
    }
    let refused = verdicts.iter().filter(|(_, verdict)| !verdict.holds);
    let mut remarks: Vec<_> =
        refused.map(|(name, verdict)| format!("ProtectedResource {name:?}: {}", verdict.message)).collect();
    if remarks.len() == verdicts.len() {
        return Verdict::new(false, reason::NO_RESOURCES, &remarks.join("; "));
    }
    remarks.splice(0..0, idle);
    remarks.insert(0, format!("it lends rights to {} agents", agents.len()));
    Verdict::new(true, reason::IN_EFFECT, &remarks.join("; "))
}

/// What is wrong with an issuer that a policy names.
fn idle_issuer(name: &str, delegation: &Delegation) -> Option<String> {
    match delegation.issuer_named(name) {
        Some(Ok(_)) => None,
        Some(Err(rejected)) => Some(format!("TrustedIssuer {name:?} is not accepted: {}", rejected.why)),
        None => Some(format!("there is no TrustedIssuer {name:?}")),
    }
}

/// Whether anything can be lent at one resource that a policy names.
fn judge(policy: &Policy, name: &str, lent: &Lent, agents: &[&Identity], delegation: &Delegation) -> Verdict {
    let resource = match delegation.resource_named(name) {
        None => {
            let message = format!("there is no ProtectedResource {name:?}");
            return Verdict::new(false, reason::RESOURCE_NOT_FOUND, &message);
        }
        Some(Err(Rejected { why, .. })) => {
            return Verdict::new(false, reason::RESOURCE_NOT_ACCEPTED, &format!("it is not accepted: {why}"));
        }
        Some(Ok(resource)) => resource,
    };
    if !resource.admits(&policy.namespace, policy.mode()) {
        let message = format!(
            "its spec.allowedAgents lets no agent of namespace {:?} in with mode {:?}; ask its owner, {}",
            policy.namespace,
            policy.mode(),
            resource.owner
        );
        return Verdict::new(false, reason::NOT_PERMITTED_BY_RESOURCE, &message);
    }
    let idle: Vec<_> =
        lent.scopes.iter().filter_map(|scope| idle_scope(policy, scope, agents, resource)).collect();
    if idle.len() == lent.scopes.len() {
        return Verdict::new(false, reason::SCOPE_NOT_GRANTED, &idle.join("; "));
    }
    let unknown = lent.tools.iter().filter(|tool| !resource.tools.contains_key(*tool));
    let remarks: Vec<_> =
        idle.into_iter().chain(unknown.map(|tool| format!("it offers no tool {tool:?}"))).collect();
    if remarks.is_empty() {
        Verdict::new(true, reason::ACCEPTED, &"its scopes can be lent")
    } else {
        let message = format!("the rest can be lent: {}", remarks.join("; "));
        Verdict::new(true, reason::PARTLY_ACCEPTED, &message)
    }
}

/// What keeps a scope from being lent to any of the agents.
fn idle_scope(
    policy: &Policy,
    scope: &str,
    agents: &[&Identity],
    resource: &Arc<Resource>,
) -> Option<String> {
    let name = &resource.origin.name;
    if !resource.scopes.contains(scope) {
        Some(format!("it offers no scope {scope:?}"))
    } else if !resource.allows(&policy.namespace, policy.mode(), scope) {
        Some(format!("its spec.allowedAgents does not let these agents have scope {scope:?}"))
    } else if !agents.is_empty() && !agents.iter().any(|agent| agent.may_have(name, scope)) {
        Some(format!("no agent of this policy has scope {scope:?} in its spec.grants"))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::{Index, Observed, ReservedAudiences};
    use k8s_openapi::jiff::Timestamp;

    #[test]
    fn messages_stay_within_bounds_and_statuses_stand_still() {
        let mut index = Index::new(ReservedAudiences::default());
        let why = "ä".repeat(5000);
        index.apply_policy(&Observed::Unreadable { namespace: "ns".into(), name: "p".into(), why });
        let at = |second| Time(Timestamp::from_second(second).unwrap());
        let compute = |previous, second| {
            let now = at(second);
            policy(("ns", "p"), &index.snapshot(), previous, When { generation: Some(1), now: &now }).unwrap()
        };
        let first = compute(None, 1);
        assert_eq!(first.conditions[0].message.chars().count(), MESSAGE_BOUND + 1);
        assert_eq!(compute(Some(&first), 9), first);
    }
}
