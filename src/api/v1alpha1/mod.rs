//! Version `v1alpha1` of the kinds.

mod agent_identity;
mod agent_suspension;

pub use agent_identity::{
    AgentIdentity, AgentIdentitySpec, AgentIdentityStatus, AgentToken, KubernetesApiAccess,
    ManagedAccountSpec, ManagedAccountStatus, PodCounts, PullSecret,
};
pub use agent_suspension::{AgentSuspension, AgentSuspensionSpec};
