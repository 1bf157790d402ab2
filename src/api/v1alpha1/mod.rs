//! Version `v1alpha1` of the kinds.

mod agent_identity;

pub use agent_identity::{
    AgentIdentity, AgentIdentitySpec, AgentIdentityStatus, AgentToken, KubernetesApiAccess,
    ManagedAccountSpec, ManagedAccountStatus, PodCounts, PullSecret,
};
