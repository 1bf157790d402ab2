//! `CredentialClaim`: who holds a static credential.

#![expect(
    unreachable_pub,
    reason = "the KubeSchema derive repeats each struct, with its visibility, inside a function"
)]

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Says who holds a static credential. Written by Deputy's controller alone, and named by a hash of what is claimed, so
/// that of two who want the same one the API server lets one have it. Cluster-scoped: it outlives the identity that holds
/// it until nothing of that identity uses the credential any more.
#[derive(CustomResource, Clone, Debug, Deserialize, Serialize, PartialEq, KubeSchema)]
#[kube(
    group = "deputy.dev",
    version = "v1alpha1",
    kind = "CredentialClaim",
    plural = "credentialclaims",
    singular = "credentialclaim",
    shortname = "credclaim",
    category = "deputy",
    doc = "Says which AgentIdentity holds a static credential. Written by Deputy's controller alone; deleting it takes the credential away from its holder.",
    validation = Rule::new("self.spec.subject == oldSelf.spec.subject")
        .message("spec.subject: a claim is on what it is named by, and on nothing else"),
    printcolumn(name = "Type", type_ = "string", json_path = ".spec.subject.type"),
    printcolumn(name = "Secret", type_ = "string", json_path = ".spec.subject.secret.name"),
    printcolumn(name = "Role", type_ = "string", json_path = ".spec.subject.cloudRole.role", priority = 1),
    printcolumn(name = "Namespace", type_ = "string", json_path = ".spec.holder.namespace"),
    printcolumn(name = "Holder", type_ = "string", json_path = ".spec.holder.name"),
    printcolumn(name = "Released", type_ = "date", json_path = ".spec.releasedTime"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct CredentialClaimSpec {
    /// What is claimed.
    pub subject: ClaimSubject,

    /// The identity that holds it, or held it last.
    pub holder: ClaimHolder,

    /// Since when the holder may not use it any more. The claim stays until no pod of the holder's can.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub released_time: Option<Time>,
}

/// What is claimed: the one field beside `type` that is named like it.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("(self.type == 'Secret') == has(self.secret) && (self.type == 'CloudRole') == has(self.cloudRole)")
        .message("subject: set the one field that type names")
)]
pub struct ClaimSubject {
    /// Which of the fields is set.
    #[serde(rename = "type")]
    pub type_: ClaimType,
    /// A Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<ClaimedSecret>,
    /// A role of a cloud.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cloud_role: Option<ClaimedRole>,
}

/// Kinds of what can be claimed.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
pub enum ClaimType {
    /// A role of a cloud, named by an annotation of the account.
    CloudRole,
    /// A Secret.
    Secret,
}

/// A Secret.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClaimedSecret {
    /// Its namespace.
    #[schemars(length(min = 1, max = 63))]
    pub namespace: String,
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// A role of a cloud.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClaimedRole {
    /// The annotation's key, which says whose role it is.
    #[schemars(length(min = 1, max = 317))]
    pub annotation: String,
    /// The role, as that cloud calls it.
    #[schemars(length(min = 1, max = 2048))]
    pub role: String,
}

/// An identity.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClaimHolder {
    /// Its namespace.
    #[schemars(length(min = 1, max = 63))]
    pub namespace: String,
    /// Its name.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// Its uid: a later identity of that name is another holder.
    #[schemars(length(min = 1, max = 64))]
    pub uid: String,
}
