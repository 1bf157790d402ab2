//! The one conversion from the wire form of an `AgentIdentity` to the validated one. The index, the controller's
//! status and admission all use it, so none of them can disagree on what is valid.

use super::{
    Credential, Subject, canonical_role,
    delegation::{Grants, InvalidDelegation, grants},
};
use crate::api::v1alpha1::{AgentIdentity, KubernetesApiAccess};
use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::Arc,
};

/// Audiences no declared token may have: those of the API server, whose tokens are what `kubernetesAPIAccess` is for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReservedAudiences(Arc<HashSet<String>>);

impl ReservedAudiences {
    /// Whether tokens for `audience` are reserved.
    pub fn contains(&self, audience: &str) -> bool {
        self.0.contains(audience)
    }
}

impl FromIterator<String> for ReservedAudiences {
    fn from_iter<I: IntoIterator<Item = String>>(audiences: I) -> Self {
        Self(Arc::new(audiences.into_iter().collect()))
    }
}

/// What this installation lets identities declare, beyond what the schema says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Declarable {
    /// Audiences of the API server.
    pub reserved: ReservedAudiences,
    /// Keys of `spec.serviceAccount.annotations` that name a role of a cloud.
    pub cloud_role_annotations: Arc<BTreeSet<String>>,
    /// The broker's issuer, which is the audience of the token that every agent has for it.
    pub issuer: Option<Arc<str>>,
}

impl From<ReservedAudiences> for Declarable {
    fn from(reserved: ReservedAudiences) -> Self {
        Self { reserved, ..Self::default() }
    }
}

/// A validated identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Namespace of the identity and of its pods.
    pub namespace: String,
    /// Name: a DNS label.
    pub name: String,
    /// Uid; what pods are stamped with.
    pub uid: String,
    /// Generation of the spec this was made from.
    pub generation: i64,
    /// Who answers for the agent.
    pub owner: String,
    /// Names of the Secrets its pods pull images with.
    pub image_pull_secrets: Vec<String>,
    /// Whether its container receives a token for the Kubernetes API.
    pub kubernetes_api_access: bool,
    /// Its declared tokens.
    pub tokens: Vec<Token>,
    /// Static credentials it declares.
    pub credentials: Vec<Credential>,
    /// Roles of clouds it declares, as annotation and role.
    pub cloud_roles: Vec<(String, String)>,
    /// The most it may ever be given at other services.
    pub grants: Grants,
    /// Labels of the object, by which a policy may speak of it.
    pub labels: BTreeMap<String, String>,
    /// Whether somebody asked for its deletion.
    pub deleting: bool,
}

/// A declared token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// File name.
    pub name: String,
    /// The one audience.
    pub audience: String,
    /// Lifetime in seconds, 600 to 3600.
    pub expiration_seconds: i32,
}

/// Why an `AgentIdentity` grants nothing. Each message says what is wrong, where, and what to do.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Invalid {
    /// A token asks for an audience of the API server.
    #[error(
        "spec.tokens[{name}].audience {audience:?} is an audience of the Kubernetes API server; set kubernetesAPIAccess: Token instead"
    )]
    AudienceReserved {
        /// Name of the token.
        name: String,
        /// The audience.
        audience: String,
    },
    /// A token asks for the audience of the broker.
    #[error(
        "spec.tokens[{name}].audience {audience:?} is the broker's own; remove it: the broker's token is given anyway, at \
         /var/run/secrets/deputy.dev/token"
    )]
    AudienceOfBroker {
        /// Name of the token.
        name: String,
        /// The audience.
        audience: String,
    },
    /// An annotation that is no role of a cloud as far as the platform team says.
    #[error(
        "spec.serviceAccount.annotations: {0:?} is not a key the platform team allows (chart value cloudRoleAnnotations)"
    )]
    Annotation(String),
    /// A role's name with a blank, or a character that is not ASCII.
    #[error("spec.serviceAccount.annotations[{0}]: write the role without blanks, in ASCII")]
    Role(String),
    /// A credential's Secret is declared twice, or with no key.
    #[error("spec.credentials[{0}]: name each Secret once, with at least one key")]
    Credential(String),
    /// A grant that is none.
    #[error(transparent)]
    Grant(#[from] InvalidDelegation),
    /// The API server stored an object without a name, namespace or uid.
    #[error("metadata.{0} is missing")]
    Incomplete(&'static str),
    /// The name is no DNS label.
    #[error("metadata.name {0:?} is not a DNS label of at most 63 characters without dots")]
    Name(String),
    /// Nobody answers for the agent.
    #[error("spec.owner is empty; name who answers for this agent")]
    OwnerMissing,
    /// A token's name cannot be a file name.
    #[error("spec.tokens: {0:?} cannot be a token's name; use lower-case letters, digits and dashes")]
    TokenName(String),
    /// Two tokens share a name or an audience.
    #[error("spec.tokens: {0:?} is declared twice")]
    TokenRepeated(String),
    /// A token lives too long or too short.
    #[error("spec.tokens[{name}].expirationSeconds is {seconds}; use 600 to 3600")]
    TokenExpiration {
        /// Name of the token.
        name: String,
        /// What was asked.
        seconds: i32,
    },
    /// A token without audience would be one for the API server.
    #[error("spec.tokens[{0}].audience is empty; name who may accept the token")]
    TokenAudienceMissing(String),
}

impl Identity {
    /// Validates `object`. Everything the CRD's schema states is checked again: an object may have been stored under
    /// an older schema.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn validate(object: &AgentIdentity, declarable: &Declarable) -> Result<Self, Invalid> {
        let meta = &object.metadata;
        let name = meta.name.clone().ok_or(Invalid::Incomplete("name"))?;
        if !is_dns_label(&name) {
            return Err(Invalid::Name(name));
        }
        if object.spec.owner.trim().is_empty() {
            return Err(Invalid::OwnerMissing);
        }
        let account = object.spec.service_account.iter();
        Ok(Self {
            namespace: meta.namespace.clone().ok_or(Invalid::Incomplete("namespace"))?,
            uid: meta.uid.clone().ok_or(Invalid::Incomplete("uid"))?,
            generation: meta.generation.unwrap_or_default(),
            owner: object.spec.owner.clone(),
            image_pull_secrets: account.flat_map(|a| &a.image_pull_secrets).map(|s| s.name.clone()).collect(),
            kubernetes_api_access: object.spec.kubernetes_api_access == KubernetesApiAccess::Token,
            tokens: validate_tokens(object, declarable)?,
            credentials: validate_credentials(object)?,
            cloud_roles: validate_annotations(object, declarable)?,
            grants: grants(&object.spec.grants)?,
            labels: meta.labels.clone().unwrap_or_default(),
            deleting: meta.deletion_timestamp.is_some(),
            name,
        })
    }

    /// Whether pods of this agent receive any token at all.
    pub fn has_tokens(&self) -> bool {
        self.kubernetes_api_access || !self.tokens.is_empty()
    }

    /// Whether its own grants let it have `scope` of the `ProtectedResource` of that name.
    pub fn may_have(&self, resource: &str, scope: &str) -> bool {
        self.grants.get(resource).is_some_and(|scopes| scopes.contains(scope))
    }

    /// The declared credential that is the Secret `name`.
    pub fn credential(&self, secret: &str) -> Option<&Credential> {
        self.credentials.iter().find(|credential| credential.secret == secret)
    }

    /// What it declares that has one holder at a time.
    pub fn subjects(&self) -> impl Iterator<Item = Subject> {
        let secret =
            |c: &Credential| Subject::Secret { namespace: self.namespace.clone(), name: c.secret.clone() };
        let secrets = self.credentials.iter().map(secret);
        secrets.chain(self.cloud_roles.iter().map(|(annotation, role)| Subject::CloudRole {
            annotation: annotation.clone(),
            role: role.clone(),
        }))
    }
}

fn validate_credentials(object: &AgentIdentity) -> Result<Vec<Credential>, Invalid> {
    let account = object.spec.service_account.iter();
    let mut seen: HashSet<&str> =
        account.flat_map(|a| &a.image_pull_secrets).map(|secret| secret.name.as_str()).collect();
    let credentials = object.spec.credentials.iter().map(|declared| {
        let secret = &declared.secret;
        if secret.keys.is_empty() || !seen.insert(&secret.secret_name) {
            return Err(Invalid::Credential(declared.name.clone()));
        }
        Ok(Credential {
            name: declared.name.clone(),
            secret: secret.secret_name.clone(),
            keys: secret.keys.clone(),
            delivery: secret.delivery,
            expiration: declared.expiration_time.0,
        })
    });
    credentials.collect()
}

fn validate_annotations(
    object: &AgentIdentity,
    declarable: &Declarable,
) -> Result<Vec<(String, String)>, Invalid> {
    let account = object.spec.service_account.iter();
    let annotations = account.flat_map(|account| &account.annotations).map(|(key, role)| {
        if !declarable.cloud_role_annotations.contains(key) {
            Err(Invalid::Annotation(key.clone()))
        } else if !role.0.bytes().all(|byte| byte.is_ascii_graphic()) {
            Err(Invalid::Role(key.clone()))
        } else {
            Ok((key.clone(), canonical_role(key, &role.0)))
        }
    });
    annotations.collect()
}

fn validate_tokens(object: &AgentIdentity, declarable: &Declarable) -> Result<Vec<Token>, Invalid> {
    let mut seen = HashSet::new();
    object
        .spec
        .tokens
        .iter()
        .map(|token| {
            if !is_dns_label(&token.name) {
                return Err(Invalid::TokenName(token.name.clone()));
            }
            if token.audience.is_empty() {
                return Err(Invalid::TokenAudienceMissing(token.name.clone()));
            }
            if !(600..=3600).contains(&token.expiration_seconds) {
                let (name, seconds) = (token.name.clone(), token.expiration_seconds);
                return Err(Invalid::TokenExpiration { name, seconds });
            }
            let named = || (token.name.clone(), token.audience.clone());
            if declarable.reserved.contains(&token.audience) {
                let (name, audience) = named();
                return Err(Invalid::AudienceReserved { name, audience });
            }
            if declarable.issuer.as_deref() == Some(&token.audience) {
                let (name, audience) = named();
                return Err(Invalid::AudienceOfBroker { name, audience });
            }
            for (kind, value) in [("name", &token.name), ("audience", &token.audience)] {
                if !seen.insert((kind, value.clone())) {
                    return Err(Invalid::TokenRepeated(value.clone()));
                }
            }
            Ok(Token {
                name: token.name.clone(),
                audience: token.audience.clone(),
                expiration_seconds: token.expiration_seconds,
            })
        })
        .collect()
}

/// RFC 1123 label: at most 63 lower-case letters, digits and inner dashes.
pub fn is_dns_label(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=63).contains(&text.len())
        && text.bytes().all(inner)
        && !text.starts_with('-')
        && !text.ends_with('-')
}
