//! `TrustedIssuer`: whose tokens say who a user is.

#![expect(
    unreachable_pub,
    reason = "the KubeSchema derive repeats each struct, with its visibility, inside a function"
)]
#![allow(clippy::duplicated_attributes, reason = "several columns have the same type")]

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// An identity provider whose tokens say who a user is, in the shape of Kubernetes' structured authentication. Cluster-
/// scoped: the platform team's to write.
#[derive(CustomResource, Clone, Debug, Deserialize, Serialize, PartialEq, Eq, KubeSchema)]
#[kube(
    group = "deputy.dev",
    version = "v1alpha1",
    kind = "TrustedIssuer",
    plural = "trustedissuers",
    singular = "trustedissuer",
    shortname = "tiss",
    category = "deputy",
    status = "TrustedIssuerStatus",
    doc = "An identity provider whose tokens say who a user is, in the shape of Kubernetes' structured authentication. Cluster-scoped: the platform team's to write.",
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
    printcolumn(name = "URL", type_ = "string", json_path = ".spec.issuer.url"),
    printcolumn(name = "Prefix", type_ = "string", json_path = ".spec.claimMappings.username.prefix"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct TrustedIssuerSpec {
    /// The provider.
    pub issuer: IssuerSource,

    /// Which of its tokens count as the user's.
    #[schemars(length(min = 1, max = 2))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".to_string()]))]
    pub tokens: Vec<AcceptedToken>,

    /// What the user and the user's groups are called here and in RBAC.
    pub claim_mappings: ClaimMappings,

    /// Claims that a token must have.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["claim".to_string()]))]
    pub claim_validation_rules: Vec<ClaimRule>,

    /// Seconds since a token was issued after which it does not count any more, 60 to 86400: so old may the groups in it
    /// be.
    #[serde(default = "default_age_seconds")]
    #[schemars(range(min = 60, max = 86400))]
    pub max_token_age_seconds: i32,
}

/// An identity provider, and where its keys are.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.certificateAuthority) || !has(self.jwks)")
        .message("spec.issuer: with jwks nothing is fetched, so that certificateAuthority would do nothing; set one of them")
)]
pub struct IssuerSource {
    /// The claim `iss` of its tokens, byte by byte. Its keys are found from here (OpenID Connect Discovery) unless jwks
    /// is set. Cannot be changed. Of two issuers with one URL the older counts.
    #[schemars(length(min = 1, max = 512), regex(pattern = r"^https://[^@#?\s]+$"))]
    #[x_kube(
        validation = Rule::new("self == oldSelf").message("spec.issuer.url: cannot be changed; write another issuer")
    )]
    pub url: String,

    /// Audiences, of which a token must have one.
    #[schemars(length(min = 1, max = 16), inner(length(min = 1, max = 253)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub audiences: Vec<String>,

    /// Certificates, as PEM, that the provider's own is checked against. The system's if unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 65536))]
    pub certificate_authority: Option<String>,

    /// The provider's keys, as a JSON Web Key Set, for one that cannot be reached. Only public keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 65536))]
    pub jwks: Option<String>,
}

/// A kind of token that counts as the user's.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.type != 'IDToken' || (self.scopeCeiling == 'None' && !self.headerTypes.exists(t, t == 'at+jwt'))")
        .message("spec.tokens: an ID token has no scopes and is never of header type at+jwt; set scopeCeiling: None and list JWT or Absent")
)]
pub struct AcceptedToken {
    /// What the token is to the provider.
    #[serde(rename = "type")]
    pub type_: UserTokenType,

    /// What the header `typ` may be. Providers that do not mark their tokens (RFC 9068) need JWT or Absent here.
    #[schemars(length(min = 1, max = 3))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub header_types: Vec<TokenHeaderType>,

    /// Whether the token's own claim `scope` bounds what may be lent with it.
    #[serde(default)]
    pub scope_ceiling: ScopeCeiling,
}

/// What a user's token is to its provider.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq, PartialOrd, Ord, JsonSchema)]
pub enum UserTokenType {
    /// An access token.
    AccessToken,
    /// An ID token: it says who the user is, and was never meant to be shown to others.
    IDToken,
}

/// The header `typ` of a token.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq, PartialOrd, Ord, JsonSchema)]
pub enum TokenHeaderType {
    /// None.
    Absent,
    /// `JWT`.
    #[serde(rename = "JWT")]
    Jwt,
    /// `at+jwt`: an access token by RFC 9068.
    #[serde(rename = "at+jwt")]
    AtJwt,
}

/// Whether a token's own claim `scope` bounds what may be lent with it.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
pub enum ScopeCeiling {
    /// It does: no scope that the token does not name.
    #[default]
    Mapped,
    /// It does not: the token only says who the user is.
    None,
}

/// What users and groups are called.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClaimMappings {
    /// The user.
    pub username: PrefixedClaim,
    /// The user's groups. None if unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub groups: Option<PrefixedClaim>,
}

/// A claim, and what is put before its value. The same as in the API server's own mapping, or RBAC speaks of somebody else.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct PrefixedClaim {
    /// The claim.
    #[schemars(length(min = 1, max = 253))]
    pub claim: String,

    /// What is put before its value: no two issuers can then mean the same name. Of two issuers whose prefixes are equal,
    /// or begin alike so that one could make the other's names, the older counts.
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(
        validation = Rule::new("!self.startsWith('system:') && !'system:'.startsWith(self)")
            .message("prefix: names that begin with \"system:\" are Kubernetes' own, and no prefix may lead to one")
    )]
    pub prefix: String,
}

/// A claim that a token must have.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClaimRule {
    /// The claim.
    #[schemars(length(min = 1, max = 253))]
    pub claim: String,
    /// Its value, a string.
    #[schemars(length(min = 1, max = 253))]
    pub required_value: String,
}

/// What Deputy observed.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct TrustedIssuerStatus {
    /// Accepted, Ready and Stalled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".to_string()]))]
    pub conditions: Vec<Condition>,
}

fn default_age_seconds() -> i32 {
    3600
}
