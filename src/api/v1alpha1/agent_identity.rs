//! `AgentIdentity`: one agent, one principal.

#![expect(
    unreachable_pub,
    reason = "the KubeSchema derive repeats each struct, with its visibility, inside a function"
)]

use super::ResourceGrant;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// An agent's identity, declared. Deputy gives it a ServiceAccount of its own, `agent.<name>`, and makes every
/// pod that carries the label `deputy.dev/agent: <name>` run as that account, with nothing but short-lived,
/// audience-bound tokens.
#[derive(CustomResource, Clone, Debug, Deserialize, Serialize, PartialEq, KubeSchema)]
#[kube(
    group = "deputy.dev",
    version = "v1alpha1",
    kind = "AgentIdentity",
    plural = "agentidentities",
    singular = "agentidentity",
    shortname = "agid",
    category = "deputy",
    namespaced,
    status = "AgentIdentityStatus",
    doc = "An agent's identity. Deputy gives it a ServiceAccount of its own and makes every pod labelled deputy.dev/agent: <name> run as that account, with nothing but short-lived, audience-bound tokens.",
    validation = Rule::new("self.metadata.name.size() <= 63 && !self.metadata.name.contains('.')").message(
        "metadata.name must be a DNS label of at most 63 characters without dots: it is a label value and part of the ServiceAccount's name"
    ),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason"),
    printcolumn(name = "Pods", type_ = "integer", json_path = ".status.pods.active"),
    printcolumn(name = "Owner", type_ = "string", json_path = ".spec.owner"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Principal", type_ = "string", json_path = ".status.principal", priority = 1)
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.tokens) || self.tokens.all(t, self.tokens.exists_one(u, u.audience == t.audience))")
        .message("spec.tokens: each audience may be declared once"),
    validation = Rule::new("!has(self.credentials) || self.credentials.all(c, self.credentials.exists_one(d, d.secret.secretName == c.secret.secretName))")
        .message("spec.credentials: each Secret may be declared once; list all its keys there"),
    validation = Rule::new("!has(self.credentials) || !has(self.serviceAccount) || !has(self.serviceAccount.imagePullSecrets) || self.credentials.all(c, !self.serviceAccount.imagePullSecrets.exists(p, p.name == c.secret.secretName))")
        .message("spec.credentials: a Secret to pull images with cannot be a credential of the agent too; use another Secret")
)]
pub struct AgentIdentitySpec {
    /// Who answers for this agent: a person's or a team's address. Shown wherever the agent is.
    #[schemars(length(min = 1, max = 253))]
    pub owner: String,

    /// What the agent does, in a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub description: Option<String>,

    /// The only way to shape the managed ServiceAccount `agent.<name>`: edits of the account itself are refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_account: Option<ManagedAccountSpec>,

    /// Whether the agent's container receives a token for the Kubernetes API. What that token may do is up to the
    /// RBAC bound to the account.
    #[serde(default, rename = "kubernetesAPIAccess")]
    pub kubernetes_api_access: KubernetesApiAccess,

    /// Projected tokens the agent's container receives, each for exactly one audience, at
    /// /var/run/secrets/deputy.dev/tokens/NAME.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".to_string()]))]
    pub tokens: Vec<AgentToken>,

    /// The ceiling: all the scopes this agent may ever be given. Worth nothing without the resource's consent and a
    /// DelegationPolicy.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["protectedResourceName".to_string()]))]
    pub grants: Vec<ResourceGrant>,

    /// Static credentials the agent may still use. Each is held by this agent alone, and ends.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".to_string()]))]
    pub credentials: Vec<AgentCredential>,
}

/// What the managed ServiceAccount carries.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ManagedAccountSpec {
    /// Secrets of this namespace to pull images with. The agent's pods get exactly these, never those of the
    /// `default` account.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".to_string()]))]
    pub image_pull_secrets: Vec<PullSecret>,

    /// Annotations that map the account to a role of a cloud, such as eks.amazonaws.com/role-arn. A role has one holder:
    /// the annotation is written once no other identity of the cluster holds the role. Which keys are taken is the
    /// platform team's to say (chart value cloudRoleAnnotations).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 8))]
    #[x_kube(validation = Rule::new("self.all(key, key.size() <= 317)").message("annotation keys have at most 317 characters"))]
    pub annotations: BTreeMap<String, CloudRoleName>,
}

/// What a cloud calls one of its roles.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
#[serde(transparent)]
pub struct CloudRoleName(
    // No blank: two spellings of one role would be two roles.
    #[schemars(length(min = 1, max = 2048), regex(pattern = r"^[!-~]+$"))] pub String,
);

/// A Secret of the same namespace, by name.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PullSecret {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-.a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
}

/// Whether an agent's container receives a token for the Kubernetes API.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
pub enum KubernetesApiAccess {
    /// No token for the Kubernetes API.
    #[default]
    None,
    /// A token that lives an hour, at the path where clients look for it.
    Token,
}

/// One projected token.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AgentToken {
    /// Name of the token's file.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,

    /// The token's only audience: who may accept it. The API server's own audiences are refused.
    #[schemars(length(min = 1, max = 512))]
    pub audience: String,

    /// Seconds the token lives, 600 to 3600. The kubelet renews the file when four fifths of it are over.
    #[serde(default = "default_expiration_seconds")]
    #[schemars(range(min = 600, max = 3600))]
    pub expiration_seconds: i32,
}

/// A static credential of one agent.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.expirationTime < timestamp('2200-01-01T00:00:00Z')")
    .message("expirationTime: name a time at which somebody will look at it again, before the year 2200"))]
pub struct AgentCredential {
    /// What the credential is called here and in conditions.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,

    /// What it is.
    #[serde(rename = "type")]
    pub type_: CredentialType,

    /// The Secret.
    pub secret: SecretCredential,

    /// Why the agent cannot do without.
    #[schemars(length(min = 1, max = 1024))]
    pub reason: String,

    /// When it ends: no pod that uses it starts later. Those that run then are listed in the identity's conditions.
    pub expiration_time: Time,
}

/// Kinds of static credentials.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
pub enum CredentialType {
    /// A Secret of the identity's namespace.
    Secret,
}

/// The part of a Secret that an agent may use, and how.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretCredential {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-.a-z0-9]*[a-z0-9])?$"))]
    pub secret_name: String,

    /// The keys the agent may use: pods list them one by one.
    #[schemars(
        length(min = 1, max = 16),
        inner(length(min = 1, max = 253), regex(pattern = r"^[-._a-zA-Z0-9]+$"))
    )]
    pub keys: Vec<String>,

    /// How the one container that uses it receives it.
    #[serde(default)]
    pub delivery: Delivery,
}

/// How a container receives a credential.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
pub enum Delivery {
    /// As environment variables, each by secretKeyRef.
    Env,
    /// As files in a volume.
    #[default]
    File,
}

/// Lifetime of a token when none is declared; also the longest one.
fn default_expiration_seconds() -> i32 {
    3600
}

/// What Deputy observed.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct AgentIdentityStatus {
    /// The managed ServiceAccount, once it exists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_account: Option<ManagedAccountStatus>,

    /// The agent's principal: its SPIFFE ID in the cluster's trust domain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub principal: Option<String>,

    /// The agent's pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pods: Option<PodCounts>,

    /// Accepted, Ready, Stalled and Suspended.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".to_string()]))]
    pub conditions: Vec<Condition>,
}

/// A ServiceAccount as observed.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ManagedAccountStatus {
    /// Name of the account.
    #[schemars(length(max = 253))]
    pub name: String,
    /// Uid of the account: tokens issued for another uid are dead.
    #[schemars(length(max = 64))]
    pub uid: String,
}

/// How many pods run as the agent.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodCounts {
    /// Pods labelled for this agent that have not ended, and do not wait.
    pub active: i32,
    /// Pods that wait for the agent's suspension to end.
    #[serde(default)]
    pub gated: i32,
}
