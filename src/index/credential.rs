//! Static credentials an identity declares, what of them is held by one at a time, and who holds it.

use super::Observed;
use crate::api::{
    TAKEN_AWAY_ANNOTATION,
    v1alpha1::{ClaimHolder, ClaimSubject, ClaimType, ClaimedRole, ClaimedSecret, CredentialClaim, Delivery},
};
use aws_lc_rs::digest::{Context, SHA256};
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;
use std::fmt;

/// A Secret an identity declares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credential {
    /// What the identity calls it.
    pub name: String,
    /// Name of the Secret, in the identity's namespace.
    pub secret: String,
    /// The keys its pods may use.
    pub keys: Vec<String>,
    /// How the one container receives it.
    pub delivery: Delivery,
    /// When it ends.
    pub expiration: Timestamp,
}

impl Credential {
    /// Whether no pod may start with it any more.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.expiration <= now
    }
}

/// The annotation by which an account is mapped to a client of Azure, by GUID.
const AZURE_CLIENT: &str = "azure.workload.identity/client-id";

/// The role that `role` under this annotation is, however it is written: a GUID is the same in upper case.
pub fn canonical_role(annotation: &str, role: &str) -> String {
    if annotation == AZURE_CLIENT { role.to_ascii_lowercase() } else { role.to_owned() }
}

/// Something that has one holder at a time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// A role of a cloud.
    CloudRole {
        /// Key of the account's annotation.
        annotation: String,
        /// The role.
        role: String,
    },
    /// A Secret.
    Secret {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
}

impl Subject {
    /// Name of the claim on it. Equal for equal subjects and no others (SHA-256 over the parts and their lengths), so
    /// that the API server's create decides who of two comes first.
    pub fn claim_name(&self) -> String {
        let (prefix, parts) = match self {
            Self::CloudRole { annotation, role } => ("role", [annotation, role]),
            Self::Secret { namespace, name } => ("secret", [namespace, name]),
        };
        let mut digest = Context::new(&SHA256);
        for part in [prefix, parts[0], parts[1]] {
            digest.update(&(part.len() as u64).to_be_bytes());
            digest.update(part.as_bytes());
        }
        let hash: String =
            digest.finish().as_ref().iter().take(20).map(|byte| format!("{byte:02x}")).collect();
        format!("{prefix}.{hash}")
    }

    /// The wire form.
    pub fn to_wire(&self) -> ClaimSubject {
        match self.clone() {
            Self::CloudRole { annotation, role } => ClaimSubject {
                type_: ClaimType::CloudRole,
                secret: None,
                cloud_role: Some(ClaimedRole { annotation, role }),
            },
            Self::Secret { namespace, name } => ClaimSubject {
                type_: ClaimType::Secret,
                secret: Some(ClaimedSecret { namespace, name }),
                cloud_role: None,
            },
        }
    }

    fn from_wire(wire: &ClaimSubject) -> Option<Self> {
        match (wire.type_, &wire.secret, &wire.cloud_role) {
            (ClaimType::CloudRole, None, Some(ClaimedRole { annotation, role })) => {
                Some(Self::CloudRole { annotation: annotation.clone(), role: role.clone() })
            }
            (ClaimType::Secret, Some(ClaimedSecret { namespace, name }), None) => {
                Some(Self::Secret { namespace: namespace.clone(), name: name.clone() })
            }
            _ => None,
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CloudRole { annotation, role } => write!(f, "role {role:?} ({annotation})"),
            Self::Secret { name, .. } => write!(f, "Secret {name:?}"),
        }
    }
}

/// Who holds a subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Uid of the object.
    pub uid: String,
    /// Version of the object: what a write is made conditional on.
    pub resource_version: String,
    /// What is held.
    pub subject: Subject,
    /// Who holds it, or held it last.
    pub holder: ClaimHolder,
    /// Since when the holder may not use it any more.
    pub released: Option<Timestamp>,
    /// Whether somebody took it away from its holder, who then comes last.
    pub taken_away: bool,
}

impl Claim {
    /// Reads a claim. One that cannot be read, or is not named by what it claims, is nobody's: `None`.
    pub fn read(object: &CredentialClaim) -> Option<Self> {
        let subject = Subject::from_wire(&object.spec.subject)?;
        (object.metadata.name == Some(subject.claim_name())).then_some(())?;
        Some(Self {
            uid: object.metadata.uid.clone()?,
            resource_version: object.metadata.resource_version.clone()?,
            subject,
            holder: object.spec.holder.clone(),
            released: object.spec.released_time.as_ref().map(|time| time.0),
            taken_away: object.annotations().contains_key(TAKEN_AWAY_ANNOTATION),
        })
    }

    /// The claim an observed object is; an unreadable one is nobody's.
    pub(super) fn observed(observed: &Observed<CredentialClaim>) -> Option<Self> {
        match observed {
            Observed::Object(object) => Self::read(object),
            Observed::Unreadable { .. } => None,
        }
    }

    /// Whether the identity of this uid may use what is claimed.
    pub fn is_held_by(&self, uid: &str) -> bool {
        self.released.is_none() && self.holder.uid == uid
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn a_claim_is_named_by_what_it_claims_and_by_nothing_else() {
        let secret =
            |namespace: &str, name: &str| Subject::Secret { namespace: namespace.into(), name: name.into() };
        let role = |annotation: &str, role: &str| Subject::CloudRole {
            annotation: annotation.into(),
            role: role.into(),
        };
        let all = [secret("ns", "a"), secret("nsa", ""), secret("n", "sa"), role("ns", "a"), role("n", "sa")];
        let names: HashSet<_> = all.iter().map(Subject::claim_name).collect();
        assert_eq!(names.len(), all.len());
        // Claims in a cluster are found by these names for ever.
        assert_eq!(secret("ns", "a").claim_name(), "secret.88d300ee32cdd8df5251769911b487563d3940bd");
        for subject in all {
            assert_eq!(Subject::from_wire(&subject.to_wire()), Some(subject));
        }
    }
}
