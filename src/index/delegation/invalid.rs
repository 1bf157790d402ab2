//! Why an object of delegation grants nothing, and the checks its kinds have in common.

use crate::api::v1alpha1::{ResourceGrant, ScopeName};
use k8s_openapi::{apimachinery::pkg::apis::meta::v1::ObjectMeta, jiff::Timestamp};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

/// Why a `TrustedIssuer`, `ProtectedResource` or `DelegationPolicy`, or a grant, is invalid. Each message says what is
/// wrong and where.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum InvalidDelegation {
    /// Somebody asked for its deletion.
    #[error("it is being deleted")]
    Deleting,
    /// Something that must be there is not.
    #[error("{0} is missing or empty")]
    Missing(&'static str),
    /// Something is there twice.
    #[error("{at}: {value:?} is listed twice")]
    Repeated {
        /// Where.
        at: &'static str,
        /// What.
        value: String,
    },
    /// A value that is not one.
    #[error("{at}: {value:?} {why}")]
    Value {
        /// Where.
        at: &'static str,
        /// What.
        value: String,
        /// What is wrong with it.
        why: String,
    },
    /// A document inside the object that cannot be read. It is not shown.
    #[error("{at} {why}")]
    Document {
        /// Where.
        at: &'static str,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Two fields that do not go together.
    #[error("{0}")]
    Combination(&'static str),
}

/// What every object has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Name of the object.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// Generation of the spec it was made from.
    pub generation: i64,
    /// When it was created, by the API server's clock in whole seconds.
    pub created: Option<Timestamp>,
}

impl Origin {
    pub(super) fn of(meta: &ObjectMeta) -> Result<Self, InvalidDelegation> {
        if meta.deletion_timestamp.is_some() {
            return Err(InvalidDelegation::Deleting);
        }
        Ok(Self {
            name: meta.name.clone().ok_or(InvalidDelegation::Missing("metadata.name"))?,
            uid: meta.uid.clone().ok_or(InvalidDelegation::Missing("metadata.uid"))?,
            generation: meta.generation.unwrap_or_default(),
            created: meta.creation_timestamp.as_ref().map(|time| time.0),
        })
    }

    /// Who of two comes first: the older; of two that are equally old, the first by name.
    pub fn seniority(&self) -> (Option<Timestamp>, &str) {
        (self.created, &self.name)
    }
}

/// What an agent may be given at most, by name of the `ProtectedResource`.
pub type Grants = BTreeMap<String, BTreeSet<String>>;

/// Reads `spec.grants` of an identity.
pub(in crate::index) fn grants(declared: &[ResourceGrant]) -> Result<Grants, InvalidDelegation> {
    const AT: &str = "spec.grants";
    let pairs =
        declared.iter().map(|grant| Ok((grant.protected_resource_name.clone(), scopes(AT, &grant.scopes)?)));
    keyed(AT, pairs)
}

/// Scopes, each of which is one and none of which is there twice.
pub(super) fn scopes(at: &'static str, scopes: &[ScopeName]) -> Result<BTreeSet<String>, InvalidDelegation> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"._:/-".contains(&b);
    for ScopeName(scope) in scopes {
        if !(1..=128).contains(&scope.len()) || !scope.bytes().all(allowed) {
            let why = "is no scope; use 1 to 128 letters, digits and . _ : / -".to_owned();
            return Err(InvalidDelegation::Value { at, value: scope.clone(), why });
        }
    }
    distinct(at, scopes.iter().map(|scope| &scope.0))
}

/// The values, of which there is at least one and none is empty or there twice.
pub(super) fn distinct<'a>(
    at: &'static str,
    values: impl IntoIterator<Item = &'a String>,
) -> Result<BTreeSet<String>, InvalidDelegation> {
    let mut set = BTreeSet::new();
    for value in values {
        if value.is_empty() {
            return Err(InvalidDelegation::Missing(at));
        }
        if !set.insert(value.clone()) {
            return Err(InvalidDelegation::Repeated { at, value: value.clone() });
        }
    }
    if set.is_empty() { Err(InvalidDelegation::Missing(at)) } else { Ok(set) }
}

/// The pairs as a table, no key of which is empty or there twice.
pub(super) fn keyed<T>(
    at: &'static str,
    pairs: impl Iterator<Item = Result<(String, T), InvalidDelegation>>,
) -> Result<BTreeMap<String, T>, InvalidDelegation> {
    let mut table = BTreeMap::new();
    for pair in pairs {
        let (key, value) = pair?;
        if key.is_empty() {
            return Err(InvalidDelegation::Missing(at));
        }
        if table.insert(key.clone(), value).is_some() {
            return Err(InvalidDelegation::Repeated { at, value: key });
        }
    }
    Ok(table)
}

/// A span of seconds within bounds.
pub(super) fn seconds(at: &'static str, seconds: i32, longest: i32) -> Result<Duration, InvalidDelegation> {
    let within = (60..=longest).contains(&seconds).then(|| u64::try_from(seconds).ok()).flatten();
    let why = || format!("is not within 60 to {longest}");
    within.map(Duration::from_secs).ok_or_else(|| InvalidDelegation::Value {
        at,
        value: seconds.to_string(),
        why: why(),
    })
}
