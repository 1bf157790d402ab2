//! Version `v1alpha1` of the kinds.

mod agent_exception;
mod agent_identity;
mod agent_suspension;
mod credential_claim;

pub use agent_exception::{
    AgentException, AgentExceptionSpec, AgentReference, ExceptedRule, ExceptionEffect, ExceptionTarget,
};
pub use agent_identity::{
    AgentCredential, AgentIdentity, AgentIdentitySpec, AgentIdentityStatus, AgentToken, CloudRoleName,
    CredentialType, Delivery, KubernetesApiAccess, ManagedAccountSpec, ManagedAccountStatus, PodCounts,
    PullSecret, SecretCredential,
};
pub use agent_suspension::{AgentSuspension, AgentSuspensionSpec, RunningPods};
pub use credential_claim::{
    ClaimHolder, ClaimSubject, ClaimType, ClaimedRole, ClaimedSecret, CredentialClaim, CredentialClaimSpec,
};
