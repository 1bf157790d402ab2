//! What the index keeps of ServiceAccounts: managed ones (by name), to know that they exist and whose they are; and
//! each namespace's `default`, to know which pull secrets Kubernetes itself put into a pod.

use super::DEFAULT_ACCOUNT;
use crate::{
    api::{self, lean::Lean},
    identity::agent_of_account,
};
use k8s_openapi::{api::core::v1::ServiceAccount, apimachinery::pkg::apis::meta::v1::OwnerReference};

/// A ServiceAccount, as far as decisions need it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// The account's uid.
    pub uid: String,
    /// Uid of the `AgentIdentity` that owns it as its controller, if one does.
    pub identity_uid: Option<String>,
    /// Names of its image pull secrets.
    pub image_pull_secrets: Vec<String>,
}

/// The owner reference that makes an account an identity's own, if `references` has one.
pub fn owning_identity(references: &[OwnerReference]) -> Option<&OwnerReference> {
    references.iter().find(|r| {
        r.controller == Some(true)
            && r.kind == "AgentIdentity"
            && r.api_version.split_once('/').is_some_and(|(group, _)| group == api::GROUP)
    })
}

/// Whether the index keeps accounts of this name.
pub fn keeps_account(name: &str) -> bool {
    name == DEFAULT_ACCOUNT || agent_of_account(name).is_some()
}

/// Namespace, name and kept part of `account`, if it is one the index keeps.
pub(super) fn kept(account: &Lean<ServiceAccount>) -> Option<(String, String, Account)> {
    let name = account.metadata.name.clone().filter(|n| keeps_account(n))?;
    let namespace = account.metadata.namespace.clone()?;
    let owner = account.metadata.owner_references.as_deref().and_then(owning_identity);
    let kept = Account {
        uid: account.metadata.uid.clone()?,
        identity_uid: owner.map(|o| o.uid.clone()),
        image_pull_secrets: account.image_pull_secrets.clone(),
    };
    Some((namespace, name, kept))
}
