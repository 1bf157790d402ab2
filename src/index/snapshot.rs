//! One immutable world, and the questions it answers.

use super::{
    Account, Claim, Exceptions, Identity, Subject, Suspension,
    delegation::Delegation,
    pod::{LivePod, LivePods},
};
use crate::identity::account_name;
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

/// An identity, or why it grants nothing.
pub(super) type Entry = Result<Arc<Identity>, String>;

/// What is known of one namespace.
#[derive(Clone, Debug, Default)]
pub(super) struct NamespaceWorld {
    pub(super) identities: HashMap<String, Entry>,
    pub(super) accounts: HashMap<String, Account>,
    pub(super) suspensions: BTreeMap<String, Suspension>,
    pub(super) pods: LivePods,
}

impl NamespaceWorld {
    fn is_empty(&self) -> bool {
        self.identities.is_empty()
            && self.accounts.is_empty()
            && self.suspensions.is_empty()
            && self.pods.is_empty()
    }
}

/// The world as one request sees it. Namespaces are shared between successive snapshots, so a change costs a copy of
/// one namespace and of the table of namespaces.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Counts the events this world was made from; goes on record with each decision.
    pub version: u64,
    /// What the platform team lets pass.
    pub exceptions: Arc<Exceptions>,
    /// Who may lend what to whom. Only processes that exchange tokens, or speak of delegation, know any of it.
    pub delegation: Arc<Delegation>,
    pub(super) namespaces: HashMap<String, Arc<NamespaceWorld>>,
    /// By name. A copy of the table is made by a change of a claim alone.
    pub(super) claims: Arc<BTreeMap<String, Claim>>,
}

/// Where an agent's name stands in a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing<'a> {
    /// The identity exists, but its account does not (yet).
    AccountMissing(&'a Identity),
    /// The account of that name is not the identity's own.
    AccountTaken(&'a Identity),
    /// Somebody asked for the identity's deletion.
    Deleting(&'a Identity),
    /// The identity is invalid or unreadable; the text says why.
    Invalid(&'a str),
    /// No identity of that name.
    Unknown,
    /// The identity is valid and its account exists.
    Valid(&'a Identity),
}

impl Standing<'_> {
    /// Whether what is missing may arrive any moment, as when an identity and its pod are applied from one file.
    pub fn may_be_on_its_way(self) -> bool {
        matches!(self, Self::Unknown | Self::AccountMissing(_))
    }
}

impl Snapshot {
    /// Where the agent `name` of `namespace` stands.
    pub fn standing(&self, namespace: &str, name: &str) -> Standing<'_> {
        let Some(world) = self.namespaces.get(namespace) else { return Standing::Unknown };
        let identity = match world.identities.get(name) {
            None => return Standing::Unknown,
            Some(Err(why)) => return Standing::Invalid(why),
            Some(Ok(identity)) => identity,
        };
        if identity.deleting {
            return Standing::Deleting(identity);
        }
        match world.accounts.get(&account_name(name)) {
            None => Standing::AccountMissing(identity),
            Some(account) if account.identity_uid.as_ref() == Some(&identity.uid) => {
                Standing::Valid(identity)
            }
            // The account of a predecessor with the same name is on its way out: the garbage collector removes it.
            Some(account) if account.identity_uid.is_some() => Standing::AccountMissing(identity),
            Some(_) => Standing::AccountTaken(identity),
        }
    }

    /// The account `name` of `namespace`, if the index keeps it.
    pub fn account(&self, namespace: &str, name: &str) -> Option<&Account> {
        self.namespaces.get(namespace)?.accounts.get(name)
    }

    /// The pod of this uid, if it is an agent's and has not ended. Only processes that exchange tokens know any.
    pub fn pod(&self, namespace: &str, uid: &str) -> Option<&LivePod> {
        self.namespaces.get(namespace)?.pods.get(uid)
    }

    /// A suspension of the agent `name` of `namespace`, if one is in force: the first by name.
    pub fn suspension<'a>(&'a self, namespace: &str, name: &'a str) -> Option<&'a Suspension> {
        self.suspensions(namespace, name).next()
    }

    /// Every suspension of the agent `name` of `namespace`.
    pub fn suspensions<'a>(
        &'a self,
        namespace: &str,
        name: &'a str,
    ) -> impl Iterator<Item = &'a Suspension> + use<'a> {
        let world = self.namespaces.get(namespace).into_iter();
        world.flat_map(|world| world.suspensions.values()).filter(move |suspension| suspension.stops(name))
    }

    /// The claim on `subject`, if somebody holds it or held it last.
    pub fn claim(&self, subject: &Subject) -> Option<&Claim> {
        // Most clusters have none, and most names are not worth a hash then.
        if self.claims.is_empty() { None } else { self.claims.get(&subject.claim_name()) }
    }

    /// Every identity that is valid in itself, in no order.
    pub fn identities(&self) -> impl Iterator<Item = &Identity> {
        let entries = self.namespaces.values().flat_map(|world| world.identities.values());
        entries.filter_map(|entry| entry.as_deref().ok())
    }

    /// The identities of a namespace that are valid in themselves, in no order.
    pub fn identities_of(&self, namespace: &str) -> impl Iterator<Item = &Identity> {
        let entries = self.namespaces.get(namespace).into_iter().flat_map(|world| world.identities.values());
        entries.filter_map(|entry| entry.as_deref().ok())
    }

    /// How many identities grant nothing because they are invalid or unreadable.
    pub fn invalid_identities(&self) -> usize {
        self.namespaces.values().flat_map(|world| world.identities.values()).filter(|e| e.is_err()).count()
    }

    pub(super) fn put(&mut self, namespace: &str, world: NamespaceWorld) {
        if world.is_empty() {
            self.namespaces.remove(namespace);
        } else {
            self.namespaces.insert(namespace.to_owned(), Arc::new(world));
        }
    }
}
