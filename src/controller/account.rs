//! The managed ServiceAccount: what it should be, and what is to be done about what is there. Pure.

use crate::{
    api::{self, v1alpha1::AgentIdentity},
    identity::account_name,
    index::{Identity, owning_identity},
};
use k8s_openapi::{
    api::core::v1::{LocalObjectReference, ServiceAccount},
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};
use kube::Resource;
use std::collections::{BTreeMap, BTreeSet};

/// What is to be done.
#[derive(Debug, PartialEq)]
pub(super) enum Plan {
    /// An account of a deleted identity with the same name is still there; the garbage collector removes it, and its
    /// deletion brings us back.
    AwaitPredecessor,
    /// There is none: create it.
    Create,
    /// It was made before the agent was suspended, and tokens were issued for it: make another in its place.
    Replace,
    /// It differs in these fields: replace it.
    Heal(Vec<&'static str>),
    /// It is as declared.
    Keep,
    /// It is not ours, and is never adopted.
    Taken,
}

/// The account of `identity`, which holds these roles (annotation and role), made while the `suspensions` of these uids are
/// in force.
pub(super) fn build(identity: &Identity, roles: &[(&str, &str)], suspensions: &[&str]) -> ServiceAccount {
    let made_under = suspensions.first().map(|uid| (api::SUSPENSION_UID_ANNOTATION, *uid));
    let annotations: BTreeMap<String, String> =
        made_under.iter().chain(roles).map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    ServiceAccount {
        metadata: ObjectMeta {
            annotations: (!annotations.is_empty()).then_some(annotations),
            ..owned(identity)
        },
        automount_service_account_token: Some(false),
        image_pull_secrets: pull_secrets(identity),
        secrets: None,
    }
}

/// Metadata of what is made for `identity`, and goes with it.
pub(super) fn owned(identity: &Identity) -> ObjectMeta {
    ObjectMeta {
        name: Some(account_name(&identity.name)),
        namespace: Some(identity.namespace.clone()),
        labels: Some([(api::MANAGED_BY_LABEL.to_owned(), "deputy".to_owned())].into()),
        owner_references: Some(vec![OwnerReference {
            api_version: AgentIdentity::api_version(&()).into_owned(),
            kind: AgentIdentity::kind(&()).into_owned(),
            name: identity.name.clone(),
            uid: identity.uid.clone(),
            controller: Some(true),
            // No finalizers anywhere: deleting the identity must not wait for what it owns.
            block_owner_deletion: Some(false),
        }]),
        ..ObjectMeta::default()
    }
}

fn pull_secrets(identity: &Identity) -> Option<Vec<LocalObjectReference>> {
    let secrets = &identity.image_pull_secrets;
    (!secrets.is_empty())
        .then(|| secrets.iter().map(|name| LocalObjectReference { name: name.clone() }).collect())
}

/// Compares what should be with what is, while the `suspensions` of these uids are in force. Annotations of these keys are
/// those that name roles.
pub(super) fn plan(
    desired: &ServiceAccount,
    observed: Option<&ServiceAccount>,
    suspensions: &[&str],
    role_keys: &BTreeSet<String>,
) -> Plan {
    let Some(observed) = observed else { return Plan::Create };
    match owner(observed) {
        None => Plan::Taken,
        Some(uid) if Some(uid) != owner(desired) => Plan::AwaitPredecessor,
        Some(_) if !suspensions.is_empty() && !is_made_under(observed, suspensions) => Plan::Replace,
        Some(_) => match drift(desired, observed, role_keys) {
            fields if fields.is_empty() => Plan::Keep,
            fields => Plan::Heal(fields),
        },
    }
}

/// Uid of the identity whose own the account is.
fn owner(account: &ServiceAccount) -> Option<&str> {
    account.metadata.owner_references.as_deref().and_then(owning_identity).map(|owner| owner.uid.as_str())
}

/// Whether the account of the identity of this uid was there before any of the `suspensions`: tokens may live that were issued
/// for it.
pub(super) fn outlives(account: &ServiceAccount, identity_uid: &str, suspensions: &[&str]) -> bool {
    owner(account) == Some(identity_uid) && !is_made_under(account, suspensions)
}

/// Whether the account was made while one of these was in force: no token was issued for it since.
fn is_made_under(account: &ServiceAccount, suspensions: &[&str]) -> bool {
    let annotations = account.metadata.annotations.as_ref();
    let made_under = annotations.and_then(|annotations| annotations.get(api::SUSPENSION_UID_ANNOTATION));
    made_under.is_some_and(|uid| suspensions.contains(&uid.as_str()))
}

/// The annotations that name roles.
fn roles<'a>(
    account: &'a ServiceAccount,
    keys: &'a BTreeSet<String>,
) -> impl Iterator<Item = (&'a String, &'a String)> {
    account.metadata.annotations.iter().flatten().filter(|(key, _)| keys.contains(*key))
}

fn drift(
    desired: &ServiceAccount,
    observed: &ServiceAccount,
    role_keys: &BTreeSet<String>,
) -> Vec<&'static str> {
    let label = |account: &ServiceAccount| {
        account.metadata.labels.as_ref().and_then(|labels| labels.get(api::MANAGED_BY_LABEL).cloned())
    };
    let list = |secrets: &Option<Vec<LocalObjectReference>>| secrets.clone().unwrap_or_default();
    let differs = [
        (
            "automountServiceAccountToken",
            desired.automount_service_account_token != observed.automount_service_account_token,
        ),
        ("imagePullSecrets", list(&desired.image_pull_secrets) != list(&observed.image_pull_secrets)),
        ("secrets", observed.secrets.as_ref().is_some_and(|secrets| !secrets.is_empty())),
        ("metadata.ownerReferences", desired.metadata.owner_references != observed.metadata.owner_references),
        ("metadata.labels", label(desired) != label(observed)),
        ("metadata.annotations", !roles(desired, role_keys).eq(roles(observed, role_keys))),
    ];
    differs.into_iter().filter(|(_, differs)| *differs).map(|(field, _)| field).collect()
}

/// `observed` with everything that is ours put right. It is written as a whole, with its resourceVersion: server-side
/// apply cannot take out list items that somebody else put in.
pub(super) fn healed(
    desired: &ServiceAccount,
    observed: &ServiceAccount,
    role_keys: &BTreeSet<String>,
) -> ServiceAccount {
    let mut account = observed.clone();
    let annotations = account.metadata.annotations.get_or_insert_default();
    annotations.retain(|key, _| !role_keys.contains(key));
    annotations.extend(roles(desired, role_keys).map(|(key, role)| (key.clone(), role.clone())));
    account.automount_service_account_token = desired.automount_service_account_token;
    account.image_pull_secrets.clone_from(&desired.image_pull_secrets);
    account.secrets = None;
    account.metadata.owner_references.clone_from(&desired.metadata.owner_references);
    account
        .metadata
        .labels
        .get_or_insert_default()
        .extend(desired.metadata.labels.clone().unwrap_or_default());
    account
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::index::Token;
    use k8s_openapi::api::core::v1::ObjectReference;

    pub(in crate::controller) fn identity() -> Identity {
        Identity {
            namespace: "ns".into(),
            name: "a".into(),
            uid: "u".into(),
            generation: 1,
            owner: "o@example.com".into(),
            image_pull_secrets: vec!["regcred".into()],
            kubernetes_api_access: false,
            tokens: Vec::<Token>::new(),
            credentials: vec![],
            cloud_roles: vec![],
            grants: BTreeMap::default(),
            labels: BTreeMap::default(),
            deleting: false,
        }
    }

    fn keys() -> BTreeSet<String> {
        ["example.com/role".to_owned()].into()
    }

    #[test]
    fn what_is_there_decides_what_is_done() {
        let desired = build(&identity(), &[], &[]);
        assert_eq!(desired.metadata.name.as_deref(), Some("agent.a"));
        assert_eq!(plan(&desired, None, &[], &keys()), Plan::Create);
        assert_eq!(plan(&desired, Some(&desired), &[], &keys()), Plan::Keep);

        let mut foreign = desired.clone();
        foreign.metadata.owner_references = None;
        assert_eq!(plan(&desired, Some(&foreign), &[], &keys()), Plan::Taken);
        let mut not_controlled = desired.clone();
        not_controlled.metadata.owner_references.as_mut().unwrap()[0].controller = None;
        assert_eq!(plan(&desired, Some(&not_controlled), &[], &keys()), Plan::Taken);
        let mut predecessor = desired.clone();
        predecessor.metadata.owner_references.as_mut().unwrap()[0].uid = "old".into();
        assert_eq!(plan(&desired, Some(&predecessor), &[], &keys()), Plan::AwaitPredecessor);
    }

    #[test]
    fn every_field_of_ours_is_healed_and_nothing_else_is_touched() {
        let desired = build(&identity(), &[], &[]);
        type Edit = fn(&mut ServiceAccount);
        let edits: [(&str, Edit); 6] = [
            ("metadata.annotations", |a| {
                a.metadata.annotations.as_mut().unwrap().insert("example.com/role".into(), "stolen".into());
            }),
            ("automountServiceAccountToken", |a| a.automount_service_account_token = None),
            ("imagePullSecrets", |a| a.image_pull_secrets = None),
            ("secrets", |a| a.secrets = Some(vec![ObjectReference::default()])),
            ("metadata.ownerReferences", |a| {
                let owners = a.metadata.owner_references.as_mut().unwrap();
                owners.push(OwnerReference { uid: "x".into(), ..OwnerReference::default() });
            }),
            ("metadata.labels", |a| a.metadata.labels = None),
        ];
        for (field, edit) in edits {
            let mut observed = desired.clone();
            observed.metadata.annotations = Some([("theirs".to_owned(), "kept".to_owned())].into());
            observed.metadata.resource_version = Some("7".into());
            edit(&mut observed);
            assert_eq!(plan(&desired, Some(&observed), &[], &keys()), Plan::Heal(vec![field]));
            let healed = healed(&desired, &observed, &keys());
            assert_eq!(plan(&desired, Some(&healed), &[], &keys()), Plan::Keep, "{field}");
            let kept = BTreeMap::from([("theirs".to_owned(), "kept".to_owned())]);
            assert_eq!(healed.metadata.annotations, Some(kept));
            assert_eq!(healed.metadata.resource_version, observed.metadata.resource_version);
        }
    }

    #[test]
    fn an_account_from_before_a_suspension_is_replaced_once() {
        let before = build(&identity(), &[], &[]);
        let (first, both) = (["s1"], ["s0", "s1"]);
        let desired = build(&identity(), &[], &first);
        assert_eq!(plan(&desired, Some(&before), &first, &keys()), Plan::Replace);
        assert_eq!(plan(&desired, Some(&desired), &first, &keys()), Plan::Keep);
        // Another beside it, or its end, is no reason: no token was issued in between.
        assert_eq!(plan(&build(&identity(), &[], &both), Some(&desired), &both, &keys()), Plan::Keep);
        assert_eq!(plan(&before, Some(&desired), &[], &keys()), Plan::Keep);
        assert_eq!(plan(&build(&identity(), &[], &["s2"]), Some(&desired), &["s2"], &keys()), Plan::Replace);
    }

    #[test]
    fn a_role_is_on_the_account_while_it_is_held() {
        let (without, with) =
            (build(&identity(), &[], &[]), build(&identity(), &[("example.com/role", "r")], &[]));
        for (desired, observed) in [(&with, &without), (&without, &with)] {
            let heal = Plan::Heal(vec!["metadata.annotations"]);
            assert_eq!(plan(desired, Some(observed), &[], &keys()), heal);
            let healed = healed(desired, observed, &keys());
            assert_eq!(plan(desired, Some(&healed), &[], &keys()), Plan::Keep);
        }
    }
}
