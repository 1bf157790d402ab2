//! Who may lend what to whom: issuers, resources and policies, validated, and those among them that count.
//!
//! Each kind has one conversion (`TryFrom` of the wire form), which index, controller and broker share. Of objects that
//! claim the same (an identifier, a URL, a prefix of names) the oldest counts, and of equally old ones the first by name.

mod invalid;
mod issuer;
mod policy;
mod resource;

pub(super) use invalid::grants;
pub use invalid::{Grants, InvalidDelegation, Origin};
pub use issuer::{AcceptedTokens, Issuer, IssuerKeys, Mapping};
pub use policy::{Lent, Policy};
pub use resource::{Resource, UserRights};

use super::{Identity, Observed};
use crate::api::v1alpha1::{DelegationPolicy, ProtectedResource, TrustedIssuer};
use issuer::Issuers;
use kube::Resource as _;
use resource::Resources;
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

/// Why an object does not count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// In a word.
    pub reason: Rejection,
    /// In a sentence: what is wrong, and where.
    pub why: String,
}

/// Why an object does not count, in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// An older resource has the identifier.
    IdentifierTaken,
    /// It is invalid in itself, or cannot be read.
    Invalid,
    /// An older issuer has a prefix by which it could make this one's names, or the other way round.
    PrefixTaken,
    /// An older issuer has the URL.
    UrlTaken,
}

/// Policies of a namespace by name; of one that is invalid or cannot be read, why.
type Policies = BTreeMap<String, Result<Arc<Policy>, String>>;

/// All that speaks of delegation. Objects are shared between successive snapshots, and so are the tables that a change does
/// not touch.
#[derive(Clone, Debug, Default)]
pub struct Delegation {
    issuers: Arc<Issuers>,
    resources: Arc<Resources>,
    policies: HashMap<String, Arc<Policies>>,
}

impl Delegation {
    /// The issuer of this URL, byte by byte, if there is one that counts.
    pub fn issuer(&self, url: &str) -> Option<&Arc<Issuer>> {
        self.issuers.by_url(url)
    }

    /// The `TrustedIssuer` of this uid, if it counts.
    pub fn issuer_of(&self, uid: &str) -> Option<&Arc<Issuer>> {
        self.issuers.by_uid(uid)
    }

    /// The issuers that count, in no order.
    pub fn issuers(&self) -> impl Iterator<Item = &Issuer> {
        self.issuers.counting()
    }

    /// The `TrustedIssuer` of this name, or why it does not count; `None` if there is none.
    pub fn issuer_named(&self, name: &str) -> Option<Result<&Arc<Issuer>, Rejected>> {
        self.issuers.standing(name)
    }

    /// The resource of this identifier, if there is one that counts.
    pub fn resource(&self, identifier: &str) -> Option<&Arc<Resource>> {
        self.resources.by_identifier(identifier)
    }

    /// The `ProtectedResource` of this name, or why it does not count; `None` if there is none.
    pub fn resource_named(&self, name: &str) -> Option<Result<&Arc<Resource>, Rejected>> {
        self.resources.standing(name)
    }

    /// The policies that speak of an agent, in the order of their names.
    pub fn policies_of<'a>(
        &'a self,
        identity: &'a Identity,
    ) -> impl Iterator<Item = &'a Arc<Policy>> + use<'a> {
        let policies = self.policies.get(&identity.namespace).into_iter();
        policies.flat_map(|policies| policies.values().flatten()).filter(|policy| policy.speaks_of(identity))
    }

    /// The `DelegationPolicy` of this name, or why it is invalid; `None` if there is none.
    pub fn policy(&self, namespace: &str, name: &str) -> Option<Result<&Arc<Policy>, &str>> {
        Some(self.policies.get(namespace)?.get(name)?.as_ref().map_err(String::as_str))
    }

    /// The policies of a namespace that are invalid or cannot be read, each with why, in the order of their names.
    pub fn invalid_policies<'a>(&'a self, namespace: &str) -> impl Iterator<Item = (&'a str, &'a str)> {
        let policies = self.policies.get(namespace).into_iter().flat_map(|policies| policies.iter());
        policies.filter_map(|(name, policy)| Some((name.as_str(), policy.as_ref().err()?.as_str())))
    }

    pub(super) fn apply_issuer(&mut self, observed: &Observed<TrustedIssuer>) -> bool {
        let (name, object) = read(observed);
        let known = issuer::Known::read(object);
        if self.issuers.has(&name, &known) {
            return false;
        }
        let issuers = Arc::make_mut(&mut self.issuers);
        issuers.put(name, known);
        issuers.arrange();
        true
    }

    pub(super) fn delete_issuer(&mut self, name: &str) {
        let issuers = Arc::make_mut(&mut self.issuers);
        if issuers.remove(name) {
            issuers.arrange();
        }
    }

    pub(super) fn reset_issuers(&mut self, all: &[Observed<TrustedIssuer>]) {
        let mut issuers = Issuers::default();
        for (name, object) in all.iter().map(read) {
            issuers.put(name, issuer::Known::read(object));
        }
        issuers.arrange();
        self.issuers = Arc::new(issuers);
    }

    pub(super) fn apply_resource(&mut self, observed: &Observed<ProtectedResource>) -> bool {
        let (name, object) = read(observed);
        let known = resource::Known::read(object);
        if self.resources.has(&name, &known) {
            return false;
        }
        Arc::make_mut(&mut self.resources).put(name, known);
        true
    }

    pub(super) fn delete_resource(&mut self, name: &str) {
        Arc::make_mut(&mut self.resources).remove(name);
    }

    pub(super) fn reset_resources(&mut self, all: &[Observed<ProtectedResource>]) {
        let mut resources = Resources::default();
        for (name, object) in all.iter().map(read) {
            resources.put(name, resource::Known::read(object));
        }
        self.resources = Arc::new(resources);
    }

    pub(super) fn apply_policy(&mut self, observed: &Observed<DelegationPolicy>) -> bool {
        let (namespace, name, policy) = read_policy(observed);
        let policies = self.policies.entry(namespace).or_default();
        if policies.get(&name) == Some(&policy) {
            return false;
        }
        Arc::make_mut(policies).insert(name, policy);
        true
    }

    pub(super) fn delete_policy(&mut self, namespace: &str, name: &str) {
        let Some(policies) = self.policies.get_mut(namespace) else { return };
        Arc::make_mut(policies).remove(name);
        if policies.is_empty() {
            self.policies.remove(namespace);
        }
    }

    pub(super) fn reset_policies(&mut self, all: &[Observed<DelegationPolicy>]) {
        let mut fresh: HashMap<String, Policies> = HashMap::new();
        for (namespace, name, policy) in all.iter().map(read_policy) {
            fresh.entry(namespace).or_default().insert(name, policy);
        }
        self.policies =
            fresh.into_iter().map(|(namespace, policies)| (namespace, Arc::new(policies))).collect();
    }
}

/// Name of an object and, if it can be read, the object.
fn read<K: kube::Resource>(observed: &Observed<K>) -> (String, Result<&K, String>) {
    match observed {
        Observed::Object(object) => (object.meta().name.clone().unwrap_or_default(), Ok(object)),
        Observed::Unreadable { name, why, .. } => (name.clone(), Err(unreadable(why))),
    }
}

fn read_policy(observed: &Observed<DelegationPolicy>) -> (String, String, Result<Arc<Policy>, String>) {
    let (name, object) = read(observed);
    let namespace = match observed {
        Observed::Object(object) => object.meta().namespace.clone().unwrap_or_default(),
        Observed::Unreadable { namespace, .. } => namespace.clone(),
    };
    let policy = object.and_then(|object| Policy::try_from(object).map_err(|invalid| invalid.to_string()));
    (namespace, name, policy.map(Arc::new))
}

fn unreadable(why: &str) -> String {
    format!("it cannot be read: {why}")
}

#[cfg(test)]
mod tests;
