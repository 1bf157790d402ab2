//! Events a person can act on. Each is published once, at the transition it tells of.

use super::pods::Agent;
use crate::api::{
    condition::{READY, STALLED, SUSPENDED},
    v1alpha1::{AgentIdentity, AgentIdentityStatus},
};
use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    Client, Resource,
    runtime::events::{Event, EventType, Recorder, Reporter},
};

/// What happened.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Happening {
    /// The account was made.
    AccountCreated {
        /// Its name.
        account: String,
    },
    /// The account had been changed by somebody else.
    DriftHealed {
        /// Its name.
        account: String,
        /// What was put right.
        fields: Vec<&'static str>,
    },
    /// Pods were ended.
    PodsEnded {
        /// Of the suspended agent, by eviction.
        evicted: usize,
        /// Of the suspended agent, by deletion.
        deleted: usize,
        /// Of an identity that is gone and whose name another has.
        predecessors: usize,
    },
    /// An identity is gone and its pods are not.
    PodsOrphaned {
        /// How many.
        active: usize,
    },
    /// The identity cannot be served until a person acts: reason and message of its Ready condition.
    Stalled(String, String),
    /// A credential ends soon or has ended: reason and message of the condition.
    CredentialsExpiring(String, String),
}

impl Happening {
    /// What there is to say when the Ready condition's reason changes.
    pub(super) fn of(status: &AgentIdentityStatus) -> Option<Self> {
        let holds = |type_| status.conditions.iter().any(|c| c.type_ == type_ && c.status == "True");
        let ready = status.conditions.iter().find(|c| c.type_ == READY)?;
        (holds(STALLED) || holds(SUSPENDED))
            .then(|| Self::Stalled(ready.reason.clone(), ready.message.clone()))
    }

    fn event(self) -> Event {
        let (type_, reason, note) = match self {
            Self::AccountCreated { account } => {
                (EventType::Normal, "AccountCreated", format!("created ServiceAccount {account:?}"))
            }
            Self::DriftHealed { account, fields } => {
                let fields = fields.join(", ");
                let note = format!(
                    "ServiceAccount {account:?} had been changed and was put right: {fields}; change the AgentIdentity instead"
                );
                (EventType::Warning, "DriftHealed", note)
            }
            Self::PodsEnded { evicted, deleted, predecessors } => {
                let parts = [
                    (
                        evicted + deleted,
                        format!(
                            "{} of the suspended agent ({evicted} evicted, {deleted} deleted)",
                            evicted + deleted
                        ),
                    ),
                    (predecessors, format!("{predecessors} of an earlier identity of this name")),
                ];
                let parts: Vec<_> =
                    parts.into_iter().filter(|(count, _)| *count > 0).map(|(_, part)| part).collect();
                (EventType::Normal, "PodsEnded", format!("ended pods: {}", parts.join(", ")))
            }
            Self::PodsOrphaned { active } => {
                let note = format!(
                    "the identity is gone and {active} of its pods still run: their tokens die with its ServiceAccount; delete the pods"
                );
                (EventType::Warning, "AgentPodsOrphaned", note)
            }
            Self::Stalled(ref reason, message) | Self::CredentialsExpiring(ref reason, message) => {
                (EventType::Warning, reason.as_str(), message)
            }
        };
        // The API server refuses notes of more than a kilobyte.
        let note = note.chars().take(900).collect();
        Event {
            type_,
            reason: reason.to_owned(),
            note: Some(note),
            action: "Reconcile".to_owned(),
            secondary: None,
        }
    }
}

/// How events name an identity, one that is gone included.
pub(super) fn reference((namespace, name): &Agent, uid: Option<&String>) -> ObjectReference {
    ObjectReference {
        api_version: Some(AgentIdentity::api_version(&()).into_owned()),
        kind: Some(AgentIdentity::kind(&()).into_owned()),
        namespace: Some(namespace.clone()),
        name: Some(name.clone()),
        uid: uid.cloned(),
        ..ObjectReference::default()
    }
}

/// Publishes events; shared, so that repeats are aggregated.
#[derive(Clone)]
pub(super) struct Events(Recorder);

impl Events {
    pub(super) fn new(client: Client, instance: String) -> Self {
        let reporter = Reporter { controller: "deputy-controller".to_owned(), instance: Some(instance) };
        Self(Recorder::new(client, reporter))
    }

    /// Publishes an event about `regarding`. A failure is logged: what happened has happened all the same.
    pub(super) async fn publish(&self, regarding: &ObjectReference, happening: Happening) {
        let event = happening.event();
        if let Err(error) = self.0.publish(&event, regarding).await {
            tracing::debug!(%error, reason = event.reason, "event not published");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_say_what_to_do_and_stay_within_bounds() {
        let healed = Happening::DriftHealed { account: "agent.a".into(), fields: vec!["imagePullSecrets"] };
        assert_eq!(
            healed.event().note.unwrap(),
            "ServiceAccount \"agent.a\" had been changed and was put right: imagePullSecrets; change the AgentIdentity instead"
        );
        let ended = |evicted, deleted, predecessors| {
            Happening::PodsEnded { evicted, deleted, predecessors }.event().note.unwrap()
        };
        assert_eq!(ended(2, 1, 0), "ended pods: 3 of the suspended agent (2 evicted, 1 deleted)");
        assert_eq!(ended(0, 0, 4), "ended pods: 4 of an earlier identity of this name");
        let long = Happening::Stalled("Invalid".into(), "x".repeat(5000)).event();
        assert_eq!(long.note.unwrap().len(), 900);
    }
}
