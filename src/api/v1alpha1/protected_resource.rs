//! `ProtectedResource`: what agents call, and whom its owner lets.

#![expect(
    unreachable_pub,
    reason = "the KubeSchema derive repeats each struct, with its visibility, inside a function"
)]
#![allow(clippy::duplicated_attributes, reason = "several columns have the same type")]

use super::{DelegationMode, LabelName, ScopeName, ToolName};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A service that tokens are made for: its identifier, its scopes and tools, and which agents its owner lets in. Without
/// that consent nobody gets a token for it, whatever else says so. Cluster-scoped, since a URI has one owner.
#[derive(CustomResource, Clone, Debug, Deserialize, Serialize, PartialEq, Eq, KubeSchema)]
#[kube(
    group = "deputy.dev",
    version = "v1alpha1",
    kind = "ProtectedResource",
    plural = "protectedresources",
    singular = "protectedresource",
    shortname = "pres",
    category = "deputy",
    status = "ProtectedResourceStatus",
    doc = "A service that tokens are made for: its identifier, its scopes and tools, and which agents its owner lets in. Cluster-scoped: a URI has one owner.",
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
    printcolumn(name = "Identifier", type_ = "string", json_path = ".spec.identifier"),
    printcolumn(name = "Rights", type_ = "string", json_path = ".spec.userAuthorization.type"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Owner", type_ = "string", json_path = ".spec.owner", priority = 1)
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.tools) || self.tools.all(t, t.scopes.all(s, self.scopes.exists(x, x.name == s)))")
        .message("spec.tools: name only scopes that spec.scopes lists"),
    validation = Rule::new("!has(self.allowedAgents) || self.allowedAgents.all(a, a.scopes.all(s, self.scopes.exists(x, x.name == s)))")
        .message("spec.allowedAgents: name only scopes that spec.scopes lists")
)]
pub struct ProtectedResourceSpec {
    /// The resource indicator of RFC 8707, which is also the audience of tokens for it. An https URI as it is always
    /// written: host in lower case, no user, query, fragment, percent-encoding, dot segment or default port, and no path
    /// that is "/" alone. Cannot be changed. Of two resources with one identifier the older counts.
    #[schemars(
        length(min = 1, max = 512),
        regex(
            pattern = r"^https://[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*(:[1-9][0-9]{0,4})?(/[A-Za-z0-9._~!$&'()*+,;=:@-]+)*/?$"
        )
    )]
    #[x_kube(
        validation = Rule::new("self == oldSelf").message("spec.identifier: cannot be changed; write another resource"),
        validation = Rule::new("!self.matches('^https://[^/]+(:443(/|$)|/$)') && !self.matches('/[.][.]?(/|$)')")
            .message("spec.identifier: leave out the default port, dot segments and a path that is \"/\" alone")
    )]
    pub identifier: String,

    /// Who answers for this resource: a person's or a team's address.
    #[schemars(length(min = 1, max = 253))]
    pub owner: String,

    /// The scopes there are. A scope that is not listed is refused.
    #[schemars(length(min = 1, max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".to_string()]))]
    pub scopes: Vec<ResourceScope>,

    /// The tools it offers over the Model Context Protocol, each with the scopes that calling it takes. A tool that is not
    /// listed is denied.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 128))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".to_string()]))]
    pub tools: Vec<ResourceTool>,

    /// The owner's consent: which agents may have which scopes. Without an entry nobody has any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".to_string()]))]
    pub allowed_agents: Vec<AllowedAgents>,

    /// Who may ask Deputy about tokens and actions of this resource: the resource itself, or a gateway before it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub callers: Vec<ResourceCaller>,

    /// Seconds a token for it lives at most, 60 to 3600.
    #[serde(default = "default_lifetime_seconds")]
    #[schemars(range(min = 60, max = 3600))]
    pub max_token_lifetime_seconds: i32,

    /// Where the user's own rights are asked for.
    pub user_authorization: UserAuthorization,
}

/// A scope of the resource.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ResourceScope {
    /// The scope. With userAuthorization Kubernetes it is also the verb that RBAC is asked about.
    pub name: ScopeName,
}

/// A tool of the resource.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ResourceTool {
    /// The tool.
    pub name: ToolName,

    /// The scopes that calling it takes, all of them.
    #[schemars(length(min = 1, max = 8))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub scopes: Vec<ScopeName>,
}

/// Agents that the owner lets in.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct AllowedAgents {
    /// What the entry is called.
    pub name: LabelName,

    /// Whose agents.
    pub namespaces: NamespaceNames,

    /// For whom they may act.
    #[serde(default = "on_behalf_of_users")]
    #[schemars(length(min = 1, max = 2))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub modes: Vec<DelegationMode>,

    /// The scopes they may have.
    #[schemars(length(min = 1, max = 32))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub scopes: Vec<ScopeName>,
}

/// Namespaces, one by one.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct NamespaceNames {
    /// Their names.
    #[schemars(length(min = 1, max = 64))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub names: Vec<LabelName>,
}

/// Somebody who asks about the resource.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ResourceCaller {
    /// The account it asks as.
    pub service_account: CallerAccount,

    /// What it may ask for.
    #[schemars(length(min = 1, max = 4))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub may: Vec<CallerRight>,
}

/// A ServiceAccount, wherever it is.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CallerAccount {
    /// Its namespace.
    pub namespace: LabelName,
    /// Its name.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-.a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
}

/// What a caller may ask for.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq, PartialOrd, Ord, JsonSchema)]
pub enum CallerRight {
    /// Whether an action that a token was presented for may be done now.
    Decide,
}

/// Where the user's own rights are asked for.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("(self.type == 'Claims') == has(self.claims)")
        .message("spec.userAuthorization.claims: set it with type Claims, and only then")
)]
pub struct UserAuthorization {
    /// Who is asked.
    #[serde(rename = "type")]
    pub type_: UserAuthorizationType,

    /// With type Claims: where in the user's token the scopes are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claims: Option<ClaimedScopes>,
}

/// Who knows the user's own rights.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
pub enum UserAuthorizationType {
    /// The user's token itself, which holds the scopes its issuer gave.
    Claims,
    /// The cluster's own authorization: may the user do the verb NAME-OF-SCOPE on protectedresources/scopes of group
    /// deputy.dev, with this resource's name?
    Kubernetes,
}

/// Where in a user's token the scopes are.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClaimedScopes {
    /// The claim: a string with spaces between scopes, or a list. A token without it gives none.
    #[schemars(length(min = 1, max = 253))]
    pub scope_claim: String,
}

/// What Deputy observed.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProtectedResourceStatus {
    /// Accepted, Ready and Stalled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".to_string()]))]
    pub conditions: Vec<Condition>,
}

fn default_lifetime_seconds() -> i32 {
    600
}

fn on_behalf_of_users() -> Vec<DelegationMode> {
    vec![DelegationMode::OnBehalfOfUser]
}
