//! The vocabulary people write in YAML: the kinds of group `deputy.dev`, and the names Deputy puts on objects.
//!
//! Wire form only. Nothing here decides anything; [`crate::index`] turns these types into validated ones.

pub mod condition;
pub mod crd;
pub mod lean;
pub mod reference;
pub mod v1alpha1;

/// API group of every kind of Deputy.
pub const GROUP: &str = "deputy.dev";

/// Field manager of everything the controller applies.
pub const FIELD_MANAGER: &str = "deputy-controller";

/// Label on pods and pod templates: the name of the `AgentIdentity` (same namespace) the pod is to run as.
pub const AGENT_LABEL: &str = "deputy.dev/agent";

/// Annotation stamped on agents' pods at admission: the uid of the `AgentIdentity` they were admitted for.
pub const IDENTITY_UID_ANNOTATION: &str = "deputy.dev/identity-uid";

/// Annotation on pods and pod templates: the one container that receives the agent's tokens.
pub const CONTAINER_ANNOTATION: &str = "deputy.dev/container";

/// kubectl's annotation for the container a person means when he names none; the fallback for [`CONTAINER_ANNOTATION`].
pub const DEFAULT_CONTAINER_ANNOTATION: &str = "kubectl.kubernetes.io/default-container";

/// Scheduling gate of a suspended agent's pods: they wait until the controller lifts it.
pub const SUSPENDED_GATE: &str = "deputy.dev/suspended";

/// Annotation on a managed account that was made while its agent was suspended: the uid of that `AgentSuspension`. Tokens
/// issued before are for the account it replaced, and dead.
pub const SUSPENSION_UID_ANNOTATION: &str = "deputy.dev/suspension-uid";

/// Annotation on pods that carry [`SUSPENDED_GATE`]: a watch of metadata shows it.
pub const GATED_ANNOTATION: &str = "deputy.dev/gated";

/// Annotation on agents' pods that may be entered (`kubectl exec` and its like): the name of the `AgentException` that lets
/// them be. The controller alone writes it.
pub const INTERACTIVE_ANNOTATION: &str = "deputy.dev/interactive";

/// Annotation on a `CredentialClaim` that somebody deleted and the controller put back: its holder lost it, and comes last.
pub const TAKEN_AWAY_ANNOTATION: &str = "deputy.dev/taken-away";

/// Label on namespaces that says how far Deputy's admission reaches there; `agents`: no pod but its holder's may name a
/// claimed Secret; `all`: that, and every pod must be an agent's.
pub const ENFORCE_LABEL: &str = "deputy.dev/enforce";

/// Prefix of managed ServiceAccount names. Reserved cluster-wide: only the controller writes such accounts.
pub const ACCOUNT_PREFIX: &str = "agent.";

/// Key of the agent's ConfigMap, and file in its pods: the certificates of the CAs that the broker's may be signed by.
pub const CA_KEY: &str = "ca.crt";

/// Label on everything the controller makes, with value `deputy`.
pub const MANAGED_BY_LABEL: &str = "app.kubernetes.io/managed-by";
