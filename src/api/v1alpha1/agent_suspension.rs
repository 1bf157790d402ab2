//! `AgentSuspension`: the switch.

#![expect(
    unreachable_pub,
    reason = "the KubeSchema derive repeats each struct, with its visibility, inside a function"
)]

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Switches an agent off for as long as it exists: creating it is off, deleting it is on. An object of its own, so that
/// whoever is on call needs no right on identities, and re-applying the identity from Git does not undo it.
#[derive(CustomResource, Clone, Debug, Deserialize, Serialize, PartialEq, Eq, KubeSchema)]
#[kube(
    group = "deputy.dev",
    version = "v1alpha1",
    kind = "AgentSuspension",
    plural = "agentsuspensions",
    singular = "agentsuspension",
    shortname = "agsusp",
    category = "deputy",
    namespaced,
    doc = "Switches an agent, or every agent of the namespace, off for as long as this object exists. Deleting it switches the agent on again.",
    validation = Rule::new("self.spec == oldSelf.spec")
        .message("spec: a suspension cannot be changed; create another and delete this one"),
    printcolumn(name = "Agent", type_ = "string", json_path = ".spec.agentName"),
    printcolumn(name = "Pods", type_ = "string", json_path = ".spec.pods"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".spec.reason"),
    printcolumn(name = "By", type_ = "string", json_path = ".spec.requestedBy"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct AgentSuspensionSpec {
    /// Name of the AgentIdentity to suspend. Unset: every agent of the namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub agent_name: Option<String>,

    /// What becomes of the pods that run: `Delete` ends them within half a minute, by eviction where that is possible;
    /// `Retain` keeps them as evidence, without a valid token.
    #[serde(default)]
    pub pods: RunningPods,

    /// Why, for whoever finds the agent stopped.
    #[schemars(length(min = 1, max = 1024))]
    pub reason: String,

    /// Who asked for it: the requester's own user name, or unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub requested_by: Option<String>,
}

/// What a suspension does to the pods that run.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
pub enum RunningPods {
    /// They are ended.
    #[default]
    Delete,
    /// They are kept.
    Retain,
}
