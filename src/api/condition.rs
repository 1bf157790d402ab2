//! Condition types and reasons, and the one function that sets a condition.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// The spec is valid and within bounds that no schema can state.
pub const ACCEPTED: &str = "Accepted";
/// The identity holds every static credential it declares.
pub const CREDENTIALS_CLAIMED: &str = "CredentialsClaimed";
/// A declared static credential ends within a fortnight, or has ended.
pub const CREDENTIALS_EXPIRING: &str = "CredentialsExpiring";
/// The agent can run: the spec is accepted and its account exists as declared.
pub const READY: &str = "Ready";
/// Somebody switched the agent off.
pub const SUSPENDED: &str = "Suspended";
/// Waiting will not help; a person has to change something.
pub const STALLED: &str = "Stalled";

/// Reasons, in the order of the conditions they appear in.
pub mod reason {
    /// `Accepted=True`: the spec is valid.
    pub const VALID: &str = "Valid";
    /// `Accepted=False`: the spec breaks a rule that the schema could not state.
    pub const INVALID: &str = "Invalid";
    /// `Accepted=False`: a declared token has an audience of the API server itself, or of the broker.
    pub const AUDIENCE_RESERVED: &str = "AudienceReserved";
    /// `Accepted=False`, and `Ready=False`: an older `ProtectedResource` has the identifier.
    pub const IDENTIFIER_TAKEN: &str = "IdentifierTaken";
    /// `Accepted=False`, and `Ready=False`: an older `TrustedIssuer` has the URL.
    pub const URL_TAKEN: &str = "URLTaken";
    /// `Accepted=False`, and `Ready=False`: an older `TrustedIssuer` has a prefix that is equal or begins alike.
    pub const PREFIX_TAKEN: &str = "PrefixTaken";
    /// `Accepted=True` of a resource in a policy: its scopes can be lent.
    pub const ACCEPTED: &str = "Accepted";
    /// `Accepted=True` of a resource in a policy: some of what is listed there can be lent.
    pub const PARTLY_ACCEPTED: &str = "PartlyAccepted";
    /// `Accepted=False` of a resource in a policy: there is no such `ProtectedResource`.
    pub const RESOURCE_NOT_FOUND: &str = "ResourceNotFound";
    /// `Accepted=False` of a resource in a policy: the `ProtectedResource` is not accepted itself.
    pub const RESOURCE_NOT_ACCEPTED: &str = "ResourceNotAccepted";
    /// `Accepted=False` of a resource in a policy: its owner does not let these agents in.
    pub const NOT_PERMITTED_BY_RESOURCE: &str = "NotPermittedByResource";
    /// `Accepted=False` of a resource in a policy: no scope listed there is offered, consented to and granted to an agent.
    pub const SCOPE_NOT_GRANTED: &str = "ScopeNotGranted";
    /// `Ready=True` of an issuer, a resource or a policy: it takes effect.
    pub const IN_EFFECT: &str = "InEffect";
    /// `Ready=False` of a policy: it speaks of no agent that there is.
    pub const NO_AGENTS: &str = "NoAgents";
    /// `Ready=False` of a policy: none of the issuers it names is accepted.
    pub const NO_ISSUERS: &str = "NoIssuers";
    /// `Ready=False` of a policy: none of the resources it names is accepted.
    pub const NO_RESOURCES: &str = "NoResources";
    /// `Ready=True`: the account exists as declared.
    pub const ACCOUNT_READY: &str = "AccountReady";
    /// `Ready=False`: the API server refuses to let the account be made or put right.
    pub const ACCOUNT_REFUSED: &str = "AccountRefused";
    /// `Ready=False`: a ServiceAccount of that name exists which this identity does not own.
    pub const ACCOUNT_TAKEN: &str = "AccountTaken";
    /// `Ready=False`: the API server refuses to let the ConfigMap be made or written that tells the agent whom to trust.
    pub const CONFIG_MAP_REFUSED: &str = "ConfigMapRefused";
    /// `Ready=False`: a ConfigMap of that name exists which this identity does not own.
    pub const CONFIG_MAP_TAKEN: &str = "ConfigMapTaken";
    /// `CredentialsClaimed=True`: it holds all it declares.
    pub const CLAIMED: &str = "Claimed";
    /// `CredentialsClaimed=False`, and `Ready=False`: a claim is on its way.
    pub const CLAIM_PENDING: &str = "ClaimPending";
    /// `CredentialsClaimed=False`, and `Ready=False`: another identity holds what it declares.
    pub const HELD_BY_ANOTHER: &str = "HeldByAnother";
    /// `CredentialsClaimed=False`, and `Ready=False`: nothing keeps other pods of the namespace from what it declares.
    pub const NAMESPACE_NOT_ENFORCED: &str = "NamespaceNotEnforced";
    /// `CredentialsExpiring=True`: a credential ends within a fortnight.
    pub const EXPIRES_SOON: &str = "ExpiresSoon";
    /// `CredentialsExpiring=True`, and `Ready=False`: a credential has ended.
    pub const EXPIRED: &str = "Expired";
    /// `CredentialsExpiring=False`: none ends within a fortnight.
    pub const NOT_EXPIRING: &str = "NotExpiring";
    /// `Suspended=True`, and `Ready=False`: an `AgentSuspension` names the agent, or all of its namespace.
    pub const SUSPENDED: &str = "Suspended";
    /// `Suspended=False`: no suspension is in force.
    pub const NOT_SUSPENDED: &str = "NotSuspended";
    /// `Stalled=False`: nothing waits for a person.
    pub const PROGRESSING: &str = "Progressing";
}

/// Sets `next` in `conditions`, keeping `lastTransitionTime` when the status did not change.
///
/// The list stays sorted by type so that two computations of one state are equal.
pub fn set(conditions: &mut Vec<Condition>, next: Condition) {
    match conditions.iter_mut().find(|c| c.type_ == next.type_) {
        Some(old) => {
            let since = if old.status == next.status {
                old.last_transition_time.clone()
            } else {
                next.last_transition_time.clone()
            };
            *old = Condition { last_transition_time: since, ..next };
        }
        None => conditions.push(next),
    }
    conditions.sort_by(|a, b| a.type_.cmp(&b.type_));
}

/// Builds a condition as of `now`.
pub fn condition(
    type_: &str,
    status: bool,
    reason: &str,
    message: impl Into<String>,
    observed_generation: Option<i64>,
    now: &Time,
) -> Condition {
    Condition {
        type_: type_.to_owned(),
        status: if status { "True" } else { "False" }.to_owned(),
        reason: reason.to_owned(),
        message: message.into(),
        observed_generation,
        last_transition_time: now.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::jiff::Timestamp;

    fn at(second: i64) -> Time {
        Time(Timestamp::from_second(second).unwrap())
    }

    #[test]
    fn transition_time_moves_only_with_the_status() {
        let mut all = vec![];
        set(&mut all, condition(READY, false, "A", "a", Some(1), &at(1)));
        set(&mut all, condition(READY, false, "B", "b", Some(2), &at(2)));
        assert_eq!(all[0].last_transition_time, at(1));
        assert_eq!((all[0].reason.as_str(), all[0].observed_generation), ("B", Some(2)));
        set(&mut all, condition(READY, true, "C", "c", Some(2), &at(3)));
        assert_eq!(all[0].last_transition_time, at(3));
        assert_eq!(all.len(), 1);
    }

    #[test]
    fn order_does_not_depend_on_the_order_of_setting() {
        let (mut left, mut right) = (vec![], vec![]);
        for type_ in [READY, ACCEPTED, STALLED] {
            set(&mut left, condition(type_, true, "R", "m", None, &at(1)));
        }
        for type_ in [STALLED, READY, ACCEPTED] {
            set(&mut right, condition(type_, true, "R", "m", None, &at(1)));
        }
        assert_eq!(left, right);
    }
}
