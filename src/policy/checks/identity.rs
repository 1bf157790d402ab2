//! AI001–AI004, AI006: which agent a pod is, and whether it may be.

use crate::{
    api,
    identity::agent_of_account,
    index::{DEFAULT_ACCOUNT, Identity, Snapshot, Standing, Suspension},
    policy::{
        Finding,
        facts::PodFacts,
        rule::{AI001, AI002, AI003, AI004, AI006, AI009},
    },
};

/// Path of the agent's label.
pub(in crate::policy) const LABEL_PATH: &str = "metadata.labels[\"deputy.dev/agent\"]";

/// Path of the account.
pub(in crate::policy) const ACCOUNT_PATH: &str = "spec.serviceAccountName";

/// Whose pod it is.
#[derive(Clone, Copy, Debug)]
pub(in crate::policy) enum Bearer<'a> {
    /// An agent's that may run.
    Agent(&'a Identity),
    /// An agent's whose identity or account may be on its way.
    Awaited,
    /// Nobody's that may run.
    Nobody,
}

impl<'a> Bearer<'a> {
    /// The agent's identity, if it may run.
    pub(in crate::policy) fn identity(self) -> Option<&'a Identity> {
        match self {
            Self::Agent(identity) => Some(identity),
            Self::Awaited | Self::Nobody => None,
        }
    }
}

/// Checks that the pod is exactly one agent's and that this agent may run.
pub(in crate::policy) fn check<'a>(
    facts: &PodFacts<'_>,
    namespace: &str,
    snapshot: &'a Snapshot,
    findings: &mut Vec<Finding>,
) -> Bearer<'a> {
    if let (Some(account), Some(alias)) = (facts.account, facts.account_alias)
        && account != alias
    {
        let message = format!("is {alias:?} and serviceAccountName is {account:?}");
        findings.push(Finding::deny(&AI002, "spec.serviceAccount", message));
    }
    let agent = match one_agent(facts) {
        Ok(agent) => agent,
        Err(finding) => {
            findings.push(finding);
            return Bearer::Nobody;
        }
    };
    match snapshot.standing(namespace, agent) {
        Standing::Valid(identity) => {
            findings.extend(stamp(facts, identity));
            if let Some(suspension) = snapshot.suspension(namespace, agent).filter(|_| !facts.is_gated) {
                findings.push(suspended(agent, suspension, "spec.schedulingGates", "the pod does not wait"));
            }
            Bearer::Agent(identity)
        }
        standing => {
            findings.push(not_usable(agent, namespace, standing));
            if standing.may_be_on_its_way() { Bearer::Awaited } else { Bearer::Nobody }
        }
    }
}

/// The agent that label and account agree on.
pub(in crate::policy) fn one_agent<'a>(facts: &PodFacts<'a>) -> Result<&'a str, Finding> {
    let account = facts.account.or(facts.account_alias);
    match (facts.label, account, account.and_then(agent_of_account)) {
        (Some(""), ..) => Err(Finding::deny(&AI001, LABEL_PATH, "is empty: it names no agent")),
        (Some(label), _, Some(agent)) if label == agent => Ok(label),
        (Some(label), Some(account), _) if account != DEFAULT_ACCOUNT => {
            let message = format!("the pod is labelled for agent {label:?} and runs as {account:?}");
            Err(Finding::deny(&AI003, ACCOUNT_PATH, message))
        }
        (None, Some(account), Some(agent)) => {
            let message = format!(
                "{account:?} is the account of agent {agent:?}, and the pod does not carry its label"
            );
            Err(Finding::deny(&AI004, ACCOUNT_PATH, message))
        }
        (None, Some(account), None) if account != DEFAULT_ACCOUNT => {
            let message = format!("{account:?} is no agent's account, and this namespace runs agents only");
            Err(Finding::deny(&AI001, ACCOUNT_PATH, message))
        }
        _ => Err(Finding::deny(&AI002, ACCOUNT_PATH, "agents may not run as \"default\"")),
    }
}

/// The finding for an agent that may not run.
pub(in crate::policy) fn not_usable(agent: &str, namespace: &str, standing: Standing<'_>) -> Finding {
    let identity = format!("AgentIdentity {agent:?} of namespace {namespace:?}");
    let message = match standing {
        Standing::AccountMissing(_) => format!("{identity} has no ServiceAccount \"agent.{agent}\" yet"),
        Standing::AccountTaken(_) => format!("the ServiceAccount \"agent.{agent}\" is not {identity}'s own"),
        Standing::Deleting(_) => format!("{identity} is being deleted"),
        Standing::Invalid(why) => format!("{identity} is not valid: {why}"),
        Standing::Unknown => format!("there is no {identity}"),
        Standing::Valid(_) => format!("{identity} may run"),
    };
    Finding::deny(&AI001, LABEL_PATH, message)
}

/// The finding for a pod of a suspended agent that would start.
pub(in crate::policy) fn suspended(agent: &str, suspension: &Suspension, path: &str, what: &str) -> Finding {
    let Suspension { name, reason, .. } = suspension;
    let message = format!("agent {agent:?} is suspended by AgentSuspension {name:?} ({reason}), and {what}");
    Finding::deny(&AI009, path, message)
}

/// The stamp says which of the identities that ever had this name the pod was admitted for.
fn stamp(facts: &PodFacts<'_>, identity: &Identity) -> Option<Finding> {
    let path = format!("metadata.annotations[{:?}]", api::IDENTITY_UID_ANNOTATION);
    match facts.identity_uid {
        Some(uid) if uid == identity.uid => None,
        Some(_) => Some(Finding::deny(&AI006, path, "names another identity than the agent's present one")),
        None => {
            Some(Finding::deny(&AI006, path, "is missing: the pod was not made by Deputy's mutating webhook"))
        }
    }
}
