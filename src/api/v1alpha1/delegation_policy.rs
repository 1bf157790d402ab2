//! `DelegationPolicy`: which agents may borrow whose rights.

#![expect(
    unreachable_pub,
    reason = "the KubeSchema derive repeats each struct, with its visibility, inside a function"
)]
#![allow(clippy::duplicated_attributes, reason = "several columns have the same type")]

use super::{DelegationMode, LabelName, PrincipalName, ScopeName, ToolName};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Lets agents of its namespace act for users, or for themselves, at some resources. It only ever grants, and only what
/// the agent's own grants, the resource's consent and the user's rights leave of it. A token rests on one policy.
#[derive(CustomResource, Clone, Debug, Deserialize, Serialize, PartialEq, Eq, KubeSchema)]
#[kube(
    group = "deputy.dev",
    version = "v1alpha1",
    kind = "DelegationPolicy",
    plural = "delegationpolicies",
    singular = "delegationpolicy",
    shortname = "delpol",
    category = "deputy",
    namespaced,
    status = "DelegationPolicyStatus",
    doc = "Lets agents of its namespace act for users, or for themselves, at some resources: at most as far as the agent's grants, the resource's consent and the user's own rights go.",
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason"
    ),
    printcolumn(name = "Mode", type_ = "string", json_path = ".spec.mode"),
    printcolumn(name = "Agents", type_ = "integer", json_path = ".status.matchedAgents"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(
        name = "Resources",
        type_ = "string",
        json_path = ".spec.resources[*].protectedResourceName",
        priority = 1
    )
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("(self.mode == 'OnBehalfOfUser') == has(self.subjects)")
        .message("spec.subjects: say for whom with mode OnBehalfOfUser, and leave it out with OnOwnBehalf")
)]
pub struct DelegationPolicySpec {
    /// The agents, of this namespace.
    pub agents: PolicyAgents,

    /// For whom they act.
    pub mode: DelegationMode,

    /// Whose rights they may borrow.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["trustedIssuerName".to_string()]))]
    pub subjects: Vec<PolicySubjects>,

    /// Where, and which rights.
    #[schemars(length(min = 1, max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["protectedResourceName".to_string()]))]
    pub resources: Vec<PolicyResource>,

    /// The tokens that rest on this policy.
    #[serde(default)]
    pub token: PolicyToken,
}

/// Agents, by exactly one of their names and their labels.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.names) != has(self.selector)")
        .message("spec.agents: set exactly one of names and selector")
)]
pub struct PolicyAgents {
    /// Names of AgentIdentities.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub names: Option<Vec<LabelName>>,

    /// Labels of AgentIdentities.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<AgentSelector>,
}

/// AgentIdentities by their labels.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct AgentSelector {
    /// The labels, all of which an AgentIdentity must have.
    #[schemars(extend("minProperties" = 1, "maxProperties" = 16))]
    #[x_kube(validation = Rule::new("self.all(key, key.size() <= 317)").message("label keys have at most 317 characters"))]
    pub match_labels: BTreeMap<String, LabelValue>,
}

/// The value of a label.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
#[serde(transparent)]
pub struct LabelValue(#[schemars(length(max = 63))] pub String);

/// Users and groups of one issuer. There is no wildcard.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.users) || has(self.groups)")
        .message("spec.subjects: name users or groups; there is no wildcard")
)]
pub struct PolicySubjects {
    /// Name of the TrustedIssuer.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-.a-z0-9]*[a-z0-9])?$"))]
    pub trusted_issuer_name: String,

    /// Users, with the issuer's prefix.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 256))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub users: Vec<PrincipalName>,

    /// Groups, with the issuer's prefix.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 64))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub groups: Vec<PrincipalName>,
}

/// What may be done at one resource.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct PolicyResource {
    /// Name of the ProtectedResource.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-.a-z0-9]*[a-z0-9])?$"))]
    pub protected_resource_name: String,

    /// The scopes.
    #[schemars(length(min = 1, max = 32))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub scopes: Vec<ScopeName>,

    /// The tools that may be called. A tool that is not listed is denied.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 128))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub tools: Vec<ToolName>,
}

/// Tokens that rest on a policy.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PolicyToken {
    /// Seconds they live at most, 60 to 3600.
    #[serde(default = "default_lifetime_seconds")]
    #[schemars(range(min = 60, max = 3600))]
    pub max_lifetime_seconds: i32,
}

impl Default for PolicyToken {
    fn default() -> Self {
        Self { max_lifetime_seconds: default_lifetime_seconds() }
    }
}

/// What Deputy observed.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct DelegationPolicyStatus {
    /// How many agents it speaks of.
    #[serde(default)]
    pub matched_agents: i32,

    /// What became of each resource it names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["protectedResourceName".to_string()]))]
    pub resources: Vec<PolicyResourceStatus>,

    /// Accepted, Ready and Stalled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".to_string()]))]
    pub conditions: Vec<Condition>,
}

/// What became of one resource that a policy names.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct PolicyResourceStatus {
    /// Name of the ProtectedResource.
    #[schemars(length(min = 1, max = 253))]
    pub protected_resource_name: String,

    /// Accepted: whether any scope can be lent there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".to_string()]))]
    pub conditions: Vec<Condition>,
}

fn default_lifetime_seconds() -> i32 {
    300
}
