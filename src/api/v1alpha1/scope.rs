//! What the kinds of delegation have in common: how scopes and modes are written.

#![expect(
    unreachable_pub,
    reason = "the KubeSchema derive repeats each struct, with its visibility, inside a function"
)]

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A scope, as RFC 6749 has them, within the characters that a verb of RBAC may have too. "*" is none.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq, PartialOrd, Ord, JsonSchema)]
#[serde(transparent)]
pub struct ScopeName(
    #[schemars(length(min = 1, max = 128), regex(pattern = r"^[A-Za-z0-9._:/-]+$"))] pub String,
);

/// Name of a tool, as the Model Context Protocol has them.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq, PartialOrd, Ord, JsonSchema)]
#[serde(transparent)]
pub struct ToolName(
    #[schemars(length(min = 1, max = 128), regex(pattern = r"^[A-Za-z0-9._/-]+$"))] pub String,
);

/// A user or a group, after its issuer's mapping.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq, PartialOrd, Ord, JsonSchema)]
#[serde(transparent)]
pub struct PrincipalName(#[schemars(length(min = 1, max = 253))] pub String);

/// Name of an object that is a DNS label: a namespace or an AgentIdentity.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq, PartialOrd, Ord, JsonSchema)]
#[serde(transparent)]
pub struct LabelName(
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))] pub String,
);

/// For whom an agent acts.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq, PartialOrd, Ord, Hash, JsonSchema)]
pub enum DelegationMode {
    /// For a user, whose token it exchanges.
    OnBehalfOfUser,
    /// For itself.
    OnOwnBehalf,
}

/// Scopes of one ProtectedResource.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq, kube::KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ResourceGrant {
    /// Name of the ProtectedResource.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-.a-z0-9]*[a-z0-9])?$"))]
    pub protected_resource_name: String,

    /// The scopes. What the resource does not offer is worth nothing.
    #[schemars(length(min = 1, max = 32))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub scopes: Vec<ScopeName>,
}
