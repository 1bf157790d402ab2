//! Who is switched off.

use super::Observed;
use crate::api::v1alpha1::AgentSuspension;

/// A suspension in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suspension {
    /// Name of the object.
    pub name: String,
    /// Its uid; empty for one that cannot be read.
    pub uid: String,
    /// The agent; `None` stands for every agent of the namespace.
    pub agent: Option<String>,
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
                    reason: spec.reason,
                    requested_by: spec.requested_by,
                };
                (metadata.namespace.unwrap_or_default(), suspension)
            }
            Observed::Unreadable { namespace, name, why } => {
                let reason =
                    format!("it cannot be read, and so suspends every agent of the namespace: {why}");
                (namespace, Self { name, uid: String::new(), agent: None, reason, requested_by: None })
            }
        }
    }

    /// Whether it stops `agent`.
    pub fn stops(&self, agent: &str) -> bool {
        self.agent.as_deref().is_none_or(|own| own == agent)
    }
}
