//! `AgentException`: the platform team's way to let one thing pass, for a while.

#![expect(
    unreachable_pub,
    reason = "the KubeSchema derive repeats each struct, with its visibility, inside a function"
)]
#![allow(clippy::duplicated_attributes, reason = "several columns have the same type")]

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Lets an agent's pods through at one place where a rule refuses them, until it ends. Cluster-scoped: the platform
/// team's, never the tenant's. It only ever grants, so that one that cannot be read opens nothing.
#[derive(CustomResource, Clone, Debug, Deserialize, Serialize, PartialEq, Eq, KubeSchema)]
#[kube(
    group = "deputy.dev",
    version = "v1alpha1",
    kind = "AgentException",
    plural = "agentexceptions",
    singular = "agentexception",
    shortname = "agexc",
    category = "deputy",
    doc = "Lets the pods of one agent through where a rule refuses them, until it ends. Cluster-scoped: the platform team's to write.",
    printcolumn(name = "Namespace", type_ = "string", json_path = ".spec.agentRef.namespace"),
    printcolumn(name = "Agent", type_ = "string", json_path = ".spec.agentRef.name"),
    printcolumn(name = "Rules", type_ = "string", json_path = ".spec.rules"),
    printcolumn(name = "Effect", type_ = "string", json_path = ".spec.effect"),
    printcolumn(name = "Ends", type_ = "string", json_path = ".spec.expirationTime"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".spec.reason", priority = 1)
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.effect != 'Allow' || self.rules.size() == 1")
        .message("spec.rules: effect Allow takes exactly one rule; write one exception for each"),
    validation = Rule::new(
        "self.effect != 'Allow' || self.rules.all(r, r in ['AI107', 'AI204', 'AI205', 'AI206', 'AI212', 'AI304', 'AI401', 'AI501', 'AI502'])"
    ).message("spec.rules: this rule may be warned of (effect Warn), and not allowed; docs/rules.md says which may be"),
    validation = Rule::new("self.effect != 'Warn' || !self.rules.exists(r, r == 'AI501')")
        .message("spec.rules: AI501 can be allowed (effect Allow), and not warned of"),
    validation = Rule::new("!self.rules.exists(r, r == '*') || self.rules.size() == 1")
        .message("spec.rules: \"*\" stands for every rule that may be warned of; leave the others out"),
    validation = Rule::new("self.effect != 'Allow' || has(self.target) != self.rules.exists(r, r == 'AI501')")
        .message("spec.target: effect Allow is for one container or volume, by name; only AI501, which is of the whole pod, has none")
)]
pub struct AgentExceptionSpec {
    /// The agent whose pods it is for.
    #[x_kube(validation = Rule::new("self == oldSelf").message("spec.agentRef: cannot be changed; write another exception"))]
    pub agent_ref: AgentReference,

    /// The rules, by id. With effect Warn also ["*"]: every rule that may be warned of. docs/rules.md says of each rule
    /// what an exception may do.
    #[schemars(length(min = 1, max = 16))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub rules: Vec<ExceptedRule>,

    /// Allow: the rule does not refuse there. Warn: it only warns, which is for the time in which workloads are brought
    /// under Deputy.
    pub effect: ExceptionEffect,

    /// The container or volume it is for. Required with Allow, but for AI501; unset with Warn: the whole pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<ExceptionTarget>,

    /// Why, for whoever audits it.
    #[schemars(length(min = 1, max = 1024))]
    pub reason: String,

    /// When it ends. At most 366 days after it is created.
    pub expiration_time: Time,
}

/// An AgentIdentity, wherever it is.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AgentReference {
    /// Its namespace.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub namespace: String,
    /// Its name.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
}

/// A rule there may be an exception of. On the others rests that a pod is the agent it says it is.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
#[expect(missing_docs, reason = "the rule table says what each is")]
pub enum ExceptedRule {
    AI101,
    AI102,
    AI103,
    AI104,
    AI107,
    AI201,
    AI202,
    AI203,
    AI204,
    AI205,
    AI206,
    AI207,
    AI212,
    AI304,
    AI401,
    AI501,
    AI502,
    #[serde(rename = "*")]
    All,
}

/// What an exception does.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
pub enum ExceptionEffect {
    /// The rule does not refuse there.
    Allow,
    /// The rule only warns.
    Warn,
}

/// A container or a volume of the pod, by name. Exactly one.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.containerName) != has(self.volumeName)")
        .message("spec.target: name a container or a volume, and not both")
)]
pub struct ExceptionTarget {
    /// Name of a container, init container or debug container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub container_name: Option<String>,
    /// Name of a volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub volume_name: Option<String>,
}

impl ExceptedRule {
    /// The rule's id, or "*".
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AI101 => "AI101",
            Self::AI102 => "AI102",
            Self::AI103 => "AI103",
            Self::AI104 => "AI104",
            Self::AI107 => "AI107",
            Self::AI201 => "AI201",
            Self::AI202 => "AI202",
            Self::AI203 => "AI203",
            Self::AI204 => "AI204",
            Self::AI205 => "AI205",
            Self::AI206 => "AI206",
            Self::AI207 => "AI207",
            Self::AI212 => "AI212",
            Self::AI304 => "AI304",
            Self::AI401 => "AI401",
            Self::AI501 => "AI501",
            Self::AI502 => "AI502",
            Self::All => "*",
        }
    }
}
