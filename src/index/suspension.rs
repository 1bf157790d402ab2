//! Who is switched off.

use super::Observed;
use crate::api::v1alpha1::{AgentSuspension, RunningPods};
use k8s_openapi::jiff::Timestamp;

/// A suspension in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suspension {
    /// Name of the object.
    pub name: String,
    /// Its uid; empty for one that cannot be read.
    pub uid: String,
    /// The agent; `None` stands for every agent of the namespace.
    pub agent: Option<String>,
    /// Since when, by the API server's clock in whole seconds; `None` for one that cannot be read.
    pub since: Option<Timestamp>,
    /// What becomes of the pods that run. One that cannot be read keeps them: what cannot be undone is not done on a guess.
    pub pods: RunningPods,
    /// Why, in the requester's words; for one that cannot be read, that.
    pub reason: String,
    /// By whom, if it says so.
    pub requested_by: Option<String>,
}

impl Suspension {
    /// Namespace and suspension. One that cannot be read suspends its whole namespace: what it meant to stop is not
    /// known, and a switch must not fail on.
    pub fn read(observed: Observed<AgentSuspension>) -> (String, Self) {
        match observed {
            Observed::Object(object) => {
                let AgentSuspension { metadata, spec } = *object;
                let suspension = Self {
                    name: metadata.name.unwrap_or_default(),
                    uid: metadata.uid.unwrap_or_default(),
                    agent: spec.agent_name,
                    since: metadata.creation_timestamp.map(|time| time.0),
                    pods: spec.pods,
                    reason: spec.reason,
                    requested_by: spec.requested_by,
                };
                (metadata.namespace.unwrap_or_default(), suspension)
            }
            Observed::Unreadable { namespace, name, why } => {
                let reason =
                    format!("it cannot be read, and so suspends every agent of the namespace: {why}");
                let suspension = Self {
                    name,
                    uid: String::new(),
                    agent: None,
                    since: None,
                    pods: RunningPods::Retain,
                    reason,
                    requested_by: None,
                };
                (namespace, suspension)
            }
        }
    }

    /// Whether it stops `agent`.
    pub fn stops(&self, agent: &str) -> bool {
        self.agent.as_deref().is_none_or(|own| own == agent)
    }
}
