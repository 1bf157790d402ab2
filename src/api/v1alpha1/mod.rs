//! Version `v1alpha1` of the kinds.

mod agent_exception;
mod agent_identity;
mod agent_suspension;
mod credential_claim;
mod delegation_policy;
mod protected_resource;
mod scope;
mod trusted_issuer;

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
pub use delegation_policy::{
    AgentSelector, DelegationPolicy, DelegationPolicySpec, DelegationPolicyStatus, LabelValue, PolicyAgents,
    PolicyResource, PolicyResourceStatus, PolicySubjects, PolicyToken,
};
pub use protected_resource::{
    AllowedAgents, CallerAccount, CallerRight, ClaimedScopes, NamespaceNames, ProtectedResource,
    ProtectedResourceSpec, ProtectedResourceStatus, ResourceCaller, ResourceScope, ResourceTool,
    UserAuthorization, UserAuthorizationType,
};
pub use scope::{DelegationMode, LabelName, PrincipalName, ResourceGrant, ScopeName, ToolName};
pub use trusted_issuer::{
    AcceptedToken, ClaimMappings, ClaimRule, IssuerSource, PrefixedClaim, ScopeCeiling, TokenHeaderType,
    TrustedIssuer, TrustedIssuerSpec, TrustedIssuerStatus, UserTokenType,
};
