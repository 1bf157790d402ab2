//! The validated world.
//!
//! Watch events go in, an immutable [`Snapshot`] comes out; whoever decides takes one snapshot per request and sees
//! one world. Synchronous and free of I/O: [`crate::runtime`] feeds it.
//!
//! An object that is invalid or cannot be read stays in the index as *that*, and grants nothing. Objects only ever
//! grant, so forgetting one can close a door but never open one.

mod account;
mod credential;
pub mod delegation;
mod exception;
pub mod freshness;
mod identity;
mod pod;
mod snapshot;
mod suspension;

pub use account::{Account, keeps_account, owning_identity};
pub use credential::{Claim, Credential, Subject, canonical_role};
pub use exception::{Census, Exception, Exceptions, NamedTarget};
pub use identity::{Declarable, Identity, Invalid, ReservedAudiences, Token, is_dns_label};
pub use pod::LivePod;
pub use snapshot::{Snapshot, Standing};
pub use suspension::Suspension;

use crate::api::{
    lean::Lean,
    v1alpha1::{
        AgentException, AgentIdentity, AgentSuspension, CredentialClaim, DelegationPolicy, ProtectedResource,
        TrustedIssuer,
    },
};
use delegation::Delegation;
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use kube::core::DeserializeGuard;
use pod::LivePods;
use snapshot::{Entry, NamespaceWorld};
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

/// Name of the account Kubernetes gives to pods that name none.
pub const DEFAULT_ACCOUNT: &str = "default";

/// An object as a watch delivers it: read, or at least named.
#[derive(Debug)]
pub enum Observed<T> {
    /// The object.
    Object(Box<T>),
    /// An object whose content could not be decoded, and why.
    Unreadable {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// The decoder's message.
        why: String,
    },
}

impl<K> From<DeserializeGuard<K>> for Observed<K> {
    fn from(guard: DeserializeGuard<K>) -> Self {
        match guard.0 {
            Ok(object) => Self::Object(Box::new(object)),
            Err(invalid) => Self::Unreadable {
                namespace: invalid.metadata.namespace.unwrap_or_default(),
                name: invalid.metadata.name.unwrap_or_default(),
                why: invalid.error,
            },
        }
    }
}

/// Builds snapshots from events. Owned by one task.
#[derive(Debug)]
pub struct Index {
    declarable: Declarable,
    current: Arc<Snapshot>,
}

impl Index {
    /// An empty world in which identities declare what is `declarable`.
    pub fn new(declarable: impl Into<Declarable>) -> Self {
        Self { declarable: declarable.into(), current: Arc::default() }
    }

    /// The world as of the last event.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.current)
    }

    /// An identity appeared or changed.
    pub fn apply_identity(&mut self, observed: Observed<AgentIdentity>) {
        let (namespace, name, entry) = self.entry(observed);
        self.change(&namespace, |world| {
            world.identities.insert(name, entry);
        });
    }

    /// An identity is gone.
    pub fn delete_identity(&mut self, namespace: &str, name: &str) {
        self.change(namespace, |world| {
            world.identities.remove(name);
        });
    }

    /// The full list of identities: what is not in it is gone.
    pub fn reset_identities(&mut self, all: Vec<Observed<AgentIdentity>>) {
        let mut fresh: HashMap<String, HashMap<String, Entry>> = HashMap::new();
        for observed in all {
            let (namespace, name, entry) = self.entry(observed);
            fresh.entry(namespace).or_default().insert(name, entry);
        }
        self.change_all(fresh, |world, identities| world.identities = identities);
    }

    /// An account appeared or changed. Accounts that are neither managed by name nor `default` are not kept.
    pub fn apply_account(&mut self, account: &Lean<ServiceAccount>) {
        let Some((namespace, name, account)) = account::kept(account) else { return };
        self.change(&namespace, |world| {
            world.accounts.insert(name, account);
        });
    }

    /// An account is gone.
    pub fn delete_account(&mut self, namespace: &str, name: &str) {
        if keeps_account(name) {
            self.change(namespace, |world| {
                world.accounts.remove(name);
            });
        }
    }

    /// The full list of accounts: what is not in it is gone.
    pub fn reset_accounts(&mut self, all: &[Lean<ServiceAccount>]) {
        let mut fresh: HashMap<String, HashMap<String, Account>> = HashMap::new();
        for (namespace, name, account) in all.iter().filter_map(account::kept) {
            fresh.entry(namespace).or_default().insert(name, account);
        }
        self.change_all(fresh, |world, accounts| world.accounts = accounts);
    }

    /// A pod appeared or changed. One that is no agent's is not kept.
    pub fn apply_pod(&mut self, pod: &Lean<Pod>) {
        if let Some((namespace, uid, live)) = pod::kept(pod) {
            self.change(&namespace, |world| {
                world.pods.insert(uid, live);
            });
        }
    }

    /// A pod is gone, or has ended.
    pub fn delete_pod(&mut self, namespace: &str, name: &str) {
        self.change(namespace, |world| world.pods.retain(|_, pod| *pod.name != *name));
    }

    /// The full list of pods: what is not in it is gone.
    pub fn reset_pods(&mut self, all: &[Lean<Pod>]) {
        let mut fresh: HashMap<String, LivePods> = HashMap::new();
        for (namespace, uid, live) in all.iter().filter_map(pod::kept) {
            fresh.entry(namespace).or_default().insert(uid, live);
        }
        self.change_all(fresh, |world, pods| world.pods = pods);
    }

    /// A suspension appeared.
    pub fn apply_suspension(&mut self, observed: Observed<AgentSuspension>) {
        let (namespace, suspension) = Suspension::read(observed);
        self.change(&namespace, |world| {
            world.suspensions.insert(suspension.name.clone(), suspension);
        });
    }

    /// A suspension is gone.
    pub fn delete_suspension(&mut self, namespace: &str, name: &str) {
        self.change(namespace, |world| {
            world.suspensions.remove(name);
        });
    }

    /// The full list of suspensions: what is not in it is gone.
    pub fn reset_suspensions(&mut self, all: Vec<Observed<AgentSuspension>>) {
        let mut fresh: HashMap<String, BTreeMap<String, Suspension>> = HashMap::new();
        for (namespace, suspension) in all.into_iter().map(Suspension::read) {
            fresh.entry(namespace).or_default().insert(suspension.name.clone(), suspension);
        }
        self.change_all(fresh, |world, suspensions| world.suspensions = suspensions);
    }

    /// A claim appeared or changed. One that is not what its name says is nobody's, and so not kept.
    pub fn apply_claim(&mut self, observed: Observed<CredentialClaim>) {
        let mut next = Snapshot::clone(&self.current);
        let claims = Arc::make_mut(&mut next.claims);
        match (Claim::observed(&observed), observed) {
            (Some(claim), _) => claims.insert(claim.subject.claim_name(), claim),
            (None, Observed::Object(object)) => claims.remove(&object.metadata.name.unwrap_or_default()),
            (None, Observed::Unreadable { name, .. }) => claims.remove(&name),
        };
        self.publish(next);
    }

    /// A claim is gone.
    pub fn delete_claim(&mut self, name: &str) {
        let mut next = Snapshot::clone(&self.current);
        Arc::make_mut(&mut next.claims).remove(name);
        self.publish(next);
    }

    /// The full list of claims: what is not in it is gone.
    pub fn reset_claims(&mut self, all: &[Observed<CredentialClaim>]) {
        let mut next = Snapshot::clone(&self.current);
        let claims = all.iter().filter_map(Claim::observed);
        next.claims = Arc::new(claims.map(|claim| (claim.subject.claim_name(), claim)).collect());
        self.publish(next);
    }

    fn publish(&mut self, mut next: Snapshot) {
        next.version += 1;
        self.current = Arc::new(next);
    }

    /// An exception appeared or changed.
    pub fn apply_exception(&mut self, observed: Observed<AgentException>) {
        self.change_exceptions(|exceptions| exceptions.apply(observed));
    }

    /// An exception is gone.
    pub fn delete_exception(&mut self, name: &str) {
        self.change_exceptions(|exceptions| exceptions.delete(name));
    }

    /// The full list of exceptions: what is not in it is gone.
    pub fn reset_exceptions(&mut self, all: Vec<Observed<AgentException>>) {
        self.change_exceptions(|exceptions| exceptions.reset(all));
    }

    /// An issuer appeared or changed. What changes nothing here, as a status does, makes no new snapshot.
    pub fn apply_issuer(&mut self, observed: &Observed<TrustedIssuer>) {
        self.change_delegation(|delegation| delegation.apply_issuer(observed));
    }

    /// An issuer is gone.
    pub fn delete_issuer(&mut self, name: &str) {
        self.change_delegation(|delegation| {
            delegation.delete_issuer(name);
            true
        });
    }

    /// The full list of issuers: what is not in it is gone.
    pub fn reset_issuers(&mut self, all: &[Observed<TrustedIssuer>]) {
        self.change_delegation(|delegation| {
            delegation.reset_issuers(all);
            true
        });
    }

    /// A resource appeared or changed. What changes nothing here, as a status does, makes no new snapshot.
    pub fn apply_resource(&mut self, observed: &Observed<ProtectedResource>) {
        self.change_delegation(|delegation| delegation.apply_resource(observed));
    }

    /// A resource is gone.
    pub fn delete_resource(&mut self, name: &str) {
        self.change_delegation(|delegation| {
            delegation.delete_resource(name);
            true
        });
    }

    /// The full list of resources: what is not in it is gone.
    pub fn reset_resources(&mut self, all: &[Observed<ProtectedResource>]) {
        self.change_delegation(|delegation| {
            delegation.reset_resources(all);
            true
        });
    }

    /// A policy appeared or changed. What changes nothing here, as a status does, makes no new snapshot.
    pub fn apply_policy(&mut self, observed: &Observed<DelegationPolicy>) {
        self.change_delegation(|delegation| delegation.apply_policy(observed));
    }

    /// A policy is gone.
    pub fn delete_policy(&mut self, namespace: &str, name: &str) {
        self.change_delegation(|delegation| {
            delegation.delete_policy(namespace, name);
            true
        });
    }

    /// The full list of policies: what is not in it is gone.
    pub fn reset_policies(&mut self, all: &[Observed<DelegationPolicy>]) {
        self.change_delegation(|delegation| {
            delegation.reset_policies(all);
            true
        });
    }

    fn entry(&self, observed: Observed<AgentIdentity>) -> (String, String, Entry) {
        match observed {
            Observed::Object(object) => {
                let namespace = object.metadata.namespace.clone().unwrap_or_default();
                let name = object.metadata.name.clone().unwrap_or_default();
                let entry = Identity::validate(&object, &self.declarable);
                (namespace, name, entry.map(Arc::new).map_err(|invalid| invalid.to_string()))
            }
            Observed::Unreadable { namespace, name, why } => {
                (namespace, name, Err(format!("it cannot be read: {why}")))
            }
        }
    }

    /// `edit` says whether it changed anything.
    fn change_delegation(&mut self, edit: impl FnOnce(&mut Delegation) -> bool) {
        let mut delegation = Delegation::clone(&self.current.delegation);
        if edit(&mut delegation) {
            let mut next = Snapshot::clone(&self.current);
            next.delegation = Arc::new(delegation);
            self.publish(next);
        }
    }

    fn change_exceptions(&mut self, edit: impl FnOnce(&mut Exceptions)) {
        let mut next = Snapshot::clone(&self.current);
        edit(Arc::make_mut(&mut next.exceptions));
        next.version += 1;
        self.current = Arc::new(next);
    }

    fn change(&mut self, namespace: &str, edit: impl FnOnce(&mut NamespaceWorld)) {
        let mut next = Snapshot::clone(&self.current);
        let mut world = next.namespaces.get(namespace).map(|w| NamespaceWorld::clone(w)).unwrap_or_default();
        edit(&mut world);
        next.put(namespace, world);
        self.publish(next);
    }

    fn change_all<T: Default>(
        &mut self,
        mut fresh: HashMap<String, T>,
        edit: impl Fn(&mut NamespaceWorld, T),
    ) {
        let mut next = Snapshot::clone(&self.current);
        let known: Vec<String> = next.namespaces.keys().cloned().collect();
        for namespace in known {
            let mut world = NamespaceWorld::clone(&next.namespaces[&namespace]);
            edit(&mut world, fresh.remove(&namespace).unwrap_or_default());
            next.put(&namespace, world);
        }
        for (namespace, values) in fresh {
            let mut world = NamespaceWorld::default();
            edit(&mut world, values);
            next.put(&namespace, world);
        }
        self.publish(next);
    }
}

#[cfg(test)]
mod tests;
