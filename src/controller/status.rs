//! The status of an identity, computed as a value. Pure: written elsewhere, and only when it differs.

use super::credentials::Credentials;
use crate::{
    api::{
        condition::{
            self, ACCEPTED, CREDENTIALS_CLAIMED, CREDENTIALS_EXPIRING, READY, STALLED, SUSPENDED, reason,
        },
        v1alpha1::{AgentIdentityStatus, ManagedAccountStatus, PodCounts},
    },
    identity::{TrustDomain, account_name},
    index::{Invalid, Suspension},
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// How a reconcile ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// All that is made for the identity is as declared, and its account has this uid.
    Ready {
        /// The account's uid.
        account_uid: String,
    },
    /// Something is not.
    Hindered {
        /// The uid of the account that is there, if one is.
        account_uid: Option<String>,
        /// What is in the way.
        by: Hindrance,
    },
    /// The identity grants nothing: reason and message.
    Invalid(&'static str, String),
}

/// What is made for an identity, under one name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Made {
    /// The ServiceAccount.
    Account,
    /// The ConfigMap with the CAs of the broker.
    ConfigMap,
}

/// What keeps something from being made, or put right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Hindrance {
    /// That of a deleted namesake is still there.
    Predecessor(Made),
    /// The API server refuses it, in these words.
    Refused(Made, String),
    /// It is somebody else's.
    Taken(Made),
    /// It is not known yet which CAs an agent is to trust.
    Unknown,
}

impl Made {
    fn kind(self) -> &'static str {
        match self {
            Self::Account => "ServiceAccount",
            Self::ConfigMap => "ConfigMap",
        }
    }

    /// Reasons for one that is refused, and for one that is somebody else's.
    fn reasons(self) -> (&'static str, &'static str) {
        match self {
            Self::Account => (reason::ACCOUNT_REFUSED, reason::ACCOUNT_TAKEN),
            Self::ConfigMap => (reason::CONFIG_MAP_REFUSED, reason::CONFIG_MAP_TAKEN),
        }
    }
}

impl Outcome {
    /// The outcome for an identity that did not validate.
    pub(super) fn invalid(invalid: &Invalid) -> Self {
        let reason = match invalid {
            Invalid::AudienceReserved { .. } | Invalid::AudienceOfBroker { .. } => reason::AUDIENCE_RESERVED,
            _ => reason::INVALID,
        };
        Self::Invalid(reason, invalid.to_string())
    }

    /// The outcome where this is in the way besides. What is wrong with the account itself is told first, unless the account
    /// only waits for this.
    pub(super) fn but_for(self, besides: Option<Hindrance>) -> Self {
        match (self, besides) {
            (Self::Ready { account_uid }, Some(by)) => Self::Hindered { account_uid: Some(account_uid), by },
            (Self::Hindered { account_uid, by: Hindrance::Unknown }, Some(by)) => {
                Self::Hindered { account_uid, by }
            }
            (outcome, _) => outcome,
        }
    }
}

/// The identity a status is for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Of<'a> {
    pub(super) namespace: &'a str,
    pub(super) name: &'a str,
    pub(super) generation: Option<i64>,
}

/// What else is so of an agent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Circumstances<'a> {
    pub(super) credentials: &'a Credentials,
    pub(super) suspension: Option<&'a Suspension>,
    pub(super) pods: PodCounts,
}

/// The status after `outcome`, given the `previous` one.
pub(super) fn status(
    of: Of<'_>,
    outcome: &Outcome,
    circumstances: Circumstances<'_>,
    trust_domain: &TrustDomain,
    previous: Option<&AgentIdentityStatus>,
    now: &Time,
) -> AgentIdentityStatus {
    let Circumstances { credentials, suspension, pods } = circumstances;
    let account = account_name(of.name);
    let mut conditions = previous.map(|status| status.conditions.clone()).unwrap_or_default();
    // Each type once: a condition that went and came back within one computation would never stand still.
    let [accepted, mut ready, mut stalled] = conditions_of(of, outcome, &account, now);
    let of_credentials = credential_conditions(of, credentials, now);
    if matches!(outcome, Outcome::Ready { .. })
        && let Some((reason, message, is_stalled)) = obstacle(credentials)
    {
        let make = |type_, status| condition::condition(type_, status, reason, message, of.generation, now);
        ready = make(READY, false);
        if is_stalled {
            stalled = make(STALLED, true);
        }
    }
    let (suspended, not_ready) = suspended(of, outcome, suspension, now);
    // What is not declared any more is not spoken of.
    let spoken_of = |c: &Condition| of_credentials.iter().any(|next| next.type_ == c.type_);
    conditions.retain(|c| !CREDENTIAL_CONDITIONS.contains(&c.type_.as_str()) || spoken_of(c));
    for next in [accepted, not_ready.unwrap_or(ready), stalled, suspended].into_iter().chain(of_credentials) {
        condition::set(&mut conditions, next);
    }
    let service_account = match outcome {
        Outcome::Ready { account_uid } | Outcome::Hindered { account_uid: Some(account_uid), .. } => {
            Some(ManagedAccountStatus { name: account.clone(), uid: account_uid.clone() })
        }
        _ => None,
    };
    AgentIdentityStatus {
        service_account,
        principal: Some(trust_domain.principal(of.namespace, &account)),
        pods: Some(pods),
        conditions,
    }
}

fn conditions_of(of: Of<'_>, outcome: &Outcome, account: &str, now: &Time) -> [Condition; 3] {
    let make = |type_, status, reason: &str, message: &str| {
        condition::condition(type_, status, reason, message, of.generation, now)
    };
    let accepted = make(ACCEPTED, true, reason::VALID, "the spec is valid");
    let moving = |message: &str| make(STALLED, false, reason::PROGRESSING, message);
    match outcome {
        Outcome::Ready { .. } => [
            accepted,
            make(READY, true, reason::ACCOUNT_READY, &format!("pods may run as ServiceAccount {account:?}")),
            moving("nothing waits for a person"),
        ],
        Outcome::Hindered { by, .. } => {
            let (reason, is_stalled, message) = hindrance(of, by, account);
            let stalled = if is_stalled { make(STALLED, true, reason, &message) } else { moving(&message) };
            [accepted, make(READY, false, reason, &message), stalled]
        }
        Outcome::Invalid(reason, message) => [
            make(ACCEPTED, false, reason, message),
            make(READY, false, reason, message),
            make(STALLED, true, reason, message),
        ],
    }
}

/// Reason, whether waiting will not help, and message.
fn hindrance(of: Of<'_>, by: &Hindrance, name: &str) -> (&'static str, bool, String) {
    match by {
        Hindrance::Predecessor(made) => {
            let message = format!("the {} of a deleted identity of this name is being removed", made.kind());
            (reason::PROGRESSING, false, message)
        }
        Hindrance::Refused(made, why) => {
            let message = format!("the API server refuses {} {name:?}: {why}", made.kind());
            (made.reasons().0, true, message)
        }
        Hindrance::Taken(made) => {
            let kind = made.kind();
            let message = format!(
                "{kind} {name:?} exists and is not this identity's; to clear it: kubectl delete {} {name} -n {}",
                kind.to_lowercase(),
                of.namespace
            );
            (made.reasons().1, true, message)
        }
        Hindrance::Unknown => {
            (reason::PROGRESSING, false, "the certificate authority of the broker is being made".to_owned())
        }
    }
}

const CREDENTIAL_CONDITIONS: [&str; 2] = [CREDENTIALS_CLAIMED, CREDENTIALS_EXPIRING];

/// The conditions of an identity that declares static credentials or roles.
fn credential_conditions(of: Of<'_>, credentials: &Credentials, now: &Time) -> Vec<Condition> {
    let Some(verdict) = &credentials.claimed else { return vec![] };
    let make = |type_, status, reason: &str, message: &str| {
        condition::condition(type_, status, reason, message, of.generation, now)
    };
    let expiring = match &credentials.expiring {
        None => make(CREDENTIALS_EXPIRING, false, reason::NOT_EXPIRING, "none ends within 14 days"),
        Some((message, is_over)) => {
            let reason = if *is_over { reason::EXPIRED } else { reason::EXPIRES_SOON };
            make(CREDENTIALS_EXPIRING, true, reason, message)
        }
    };
    vec![make(CREDENTIALS_CLAIMED, verdict.holds, verdict.reason, &verdict.message), expiring]
}

/// What about its credentials keeps an agent from running: reason, message, and whether waiting will not help.
fn obstacle(credentials: &Credentials) -> Option<(&'static str, &str, bool)> {
    match (&credentials.claimed, &credentials.expiring) {
        (Some(verdict), _) if !verdict.holds => Some((verdict.reason, &verdict.message, verdict.stalled)),
        (_, Some((message, true))) => Some((reason::EXPIRED, message, true)),
        _ => None,
    }
}

/// The condition `Suspended`; and, for a suspended agent that could run otherwise, why it is not ready.
fn suspended(
    of: Of<'_>,
    outcome: &Outcome,
    suspension: Option<&Suspension>,
    now: &Time,
) -> (Condition, Option<Condition>) {
    let make = |type_, status, reason: &str, message: &str| {
        condition::condition(type_, status, reason, message, of.generation, now)
    };
    let Some(Suspension { name, reason: why, requested_by, .. }) = suspension else {
        return (make(SUSPENDED, false, reason::NOT_SUSPENDED, "no AgentSuspension is in force"), None);
    };
    let by = requested_by.as_ref().map(|who| format!(" by {who:?}")).unwrap_or_default();
    let message = format!("suspended{by} with AgentSuspension {name:?}: {why}");
    let not_ready =
        matches!(outcome, Outcome::Ready { .. }).then(|| make(READY, false, reason::SUSPENDED, &message));
    (make(SUSPENDED, true, reason::SUSPENDED, &message), not_ready)
}

/// Reason of a condition, if the status has it.
pub(super) fn reason_of<'a>(type_: &str, status: Option<&'a AgentIdentityStatus>) -> Option<&'a str> {
    let conditions = &status?.conditions;
    conditions.iter().find(|c| c.type_ == type_).map(|c| c.reason.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::jiff::Timestamp;

    fn compute(
        outcome: &Outcome,
        generation: i64,
        previous: Option<&AgentIdentityStatus>,
        second: i64,
    ) -> AgentIdentityStatus {
        let of = Of { namespace: "ns", name: "a", generation: Some(generation) };
        let now = Time(Timestamp::from_second(second).unwrap());
        status(
            of,
            outcome,
            Circumstances {
                credentials: &Credentials::default(),
                suspension: None,
                pods: PodCounts { active: 3, gated: 1 },
            },
            &"cluster.local".parse().unwrap(),
            previous,
            &now,
        )
    }

    fn hindered(account_uid: Option<&str>, by: Hindrance) -> Outcome {
        Outcome::Hindered { account_uid: account_uid.map(str::to_owned), by }
    }

    fn shown(status: &AgentIdentityStatus) -> Vec<(&str, &str, &str)> {
        status.conditions.iter().map(|c| (c.type_.as_str(), c.status.as_str(), c.reason.as_str())).collect()
    }

    #[test]
    fn each_outcome_has_its_conditions() {
        let ready = compute(&Outcome::Ready { account_uid: "u".into() }, 1, None, 1);
        assert_eq!(
            shown(&ready),
            [
                ("Accepted", "True", "Valid"),
                ("Ready", "True", "AccountReady"),
                ("Stalled", "False", "Progressing"),
                ("Suspended", "False", "NotSuspended")
            ]
        );
        assert_eq!(ready.principal.as_deref(), Some("spiffe://cluster.local/ns/ns/sa/agent.a"));
        assert_eq!(
            ready.service_account,
            Some(ManagedAccountStatus { name: "agent.a".into(), uid: "u".into() })
        );
        assert_eq!(ready.pods, Some(PodCounts { active: 3, gated: 1 }));

        let taken = compute(&hindered(None, Hindrance::Taken(Made::Account)), 1, Some(&ready), 2);
        assert_eq!(
            shown(&taken),
            [
                ("Accepted", "True", "Valid"),
                ("Ready", "False", "AccountTaken"),
                ("Stalled", "True", "AccountTaken"),
                ("Suspended", "False", "NotSuspended")
            ]
        );
        assert!(taken.conditions[1].message.ends_with("kubectl delete serviceaccount agent.a -n ns"));
        assert_eq!(taken.service_account, None);

        let refused = |uid| hindered(uid, Hindrance::Refused(Made::Account, "exceeded quota".into()));
        let not_made = compute(&refused(None), 1, None, 1);
        assert_eq!(
            shown(&not_made),
            [
                ("Accepted", "True", "Valid"),
                ("Ready", "False", "AccountRefused"),
                ("Stalled", "True", "AccountRefused"),
                ("Suspended", "False", "NotSuspended")
            ]
        );
        assert_eq!(
            not_made.conditions[1].message,
            "the API server refuses ServiceAccount \"agent.a\": exceeded quota"
        );
        assert_eq!(not_made.service_account, None);
        assert_eq!(compute(&refused(Some("u")), 1, None, 1).service_account, ready.service_account);
        assert_eq!(
            shown(&compute(&Outcome::Ready { account_uid: "u".into() }, 1, Some(&not_made), 2)),
            shown(&ready)
        );

        let reserved = Invalid::AudienceReserved { name: "t".into(), audience: "api".into() };
        let invalid = compute(&Outcome::invalid(&reserved), 1, None, 1);
        assert_eq!(
            shown(&invalid),
            [
                ("Accepted", "False", "AudienceReserved"),
                ("Ready", "False", "AudienceReserved"),
                ("Stalled", "True", "AudienceReserved"),
                ("Suspended", "False", "NotSuspended")
            ]
        );
        let waiting = compute(&hindered(None, Hindrance::Predecessor(Made::Account)), 1, None, 1);
        assert_eq!(reason_of(READY, Some(&waiting)), Some("Progressing"));
    }

    #[test]
    fn what_else_is_in_the_way_is_told_of_an_account_that_is_ready_or_waits_for_it() {
        let ready = Outcome::Ready { account_uid: "u".into() };
        let (theirs, own) = (Hindrance::Taken(Made::ConfigMap), Hindrance::Taken(Made::Account));
        let waits = hindered(None, Hindrance::Unknown);
        assert_eq!(ready.clone().but_for(None), ready);
        assert_eq!(waits.but_for(Some(theirs.clone())), hindered(None, theirs.clone()));
        let worse = hindered(None, own);
        assert_eq!(worse.clone().but_for(Some(theirs.clone())), worse);

        let squatted = compute(&ready.but_for(Some(theirs)), 1, None, 2);
        assert_eq!(reason_of(READY, Some(&squatted)), Some("ConfigMapTaken"));
        assert_eq!(reason_of(STALLED, Some(&squatted)), Some("ConfigMapTaken"));
        let account = squatted.service_account.map(|account| account.uid);
        assert_eq!(account.as_deref(), Some("u"), "it is there all the same");
    }

    #[test]
    fn nothing_new_is_nothing_different() {
        let outcome = Outcome::Ready { account_uid: "u".into() };
        let first = compute(&outcome, 1, None, 1);
        assert_eq!(compute(&outcome, 1, Some(&first), 999), first);
        let edited = compute(&outcome, 2, Some(&first), 999);
        assert_eq!(edited.conditions[1].observed_generation, Some(2));
        assert_eq!(edited.conditions[1].last_transition_time, first.conditions[1].last_transition_time);
    }
}
