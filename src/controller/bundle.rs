//! The ConfigMap by which an agent knows the broker: `agent.<name>` beside the identity, with the CAs that the broker's
//! certificate may be signed by. Where there is no broker there is none.
//!
//! It is kept as the account is: one that is somebody else's is never adopted, and it goes with its identity. The CAs change
//! at times, and every ConfigMap with them, long before one of them signs.

use super::{
    account::owned,
    context::Context,
    identities::Error,
    pods::Agent,
    refusal,
    retries::{Declared, Retries},
    status::{Hindrance, Made},
    writing,
};
use crate::{
    api::{CA_KEY, FIELD_MANAGER, MANAGED_BY_LABEL},
    identity::account_name,
    index::{Identity, owning_identity},
};
use k8s_openapi::{api::core::v1::ConfigMap, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::{sync::watch, time::Instant};

/// What all of them are to hold, and which were refused.
pub(super) struct Bundles {
    authorities: watch::Receiver<Option<Arc<str>>>,
    /// Apart from the accounts': one that is refused keeps no account from being replaced.
    retries: Mutex<Retries>,
}

impl Bundles {
    /// `authorities` are the CAs in PEM, once they are known.
    pub(super) fn new(authorities: watch::Receiver<Option<Arc<str>>>) -> Self {
        Self { authorities, retries: Mutex::default() }
    }

    pub(super) fn retries(&self) -> MutexGuard<'_, Retries> {
        self.retries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
enum Plan {
    /// There is none: create it.
    Create,
    /// It is as it should be.
    Keep,
    /// It is of a deleted identity of the same name; the garbage collector removes it.
    Predecessor,
    /// It is not ours, and is never adopted.
    Taken,
    /// It differs.
    Write,
}

fn build(identity: &Identity, authorities: &str) -> ConfigMap {
    ConfigMap {
        metadata: owned(identity),
        data: Some([(CA_KEY.to_owned(), authorities.to_owned())].into()),
        ..ConfigMap::default()
    }
}

fn plan(desired: &ConfigMap, observed: Option<&ConfigMap>) -> Plan {
    let Some(observed) = observed else { return Plan::Create };
    let owner = |map: &ConfigMap| {
        map.metadata.owner_references.as_deref().and_then(owning_identity).map(|owner| owner.uid.clone())
    };
    let held = |map: &ConfigMap| map.data.as_ref().and_then(|data| data.get(CA_KEY).cloned());
    // By the label it is watched.
    let label = |map: &ConfigMap| {
        map.metadata.labels.as_ref().and_then(|labels| labels.get(MANAGED_BY_LABEL).cloned())
    };
    match owner(observed) {
        None => Plan::Taken,
        uid if uid != owner(desired) => Plan::Predecessor,
        _ if held(observed) == held(desired) && label(observed) == label(desired) => Plan::Keep,
        _ => Plan::Write,
    }
}

/// Brings the ConfigMap of `identity` about; returns what is in the way.
pub(super) async fn keep(
    identity: &Identity,
    agent: &Agent,
    declared: &Declared,
    context: &Context,
) -> Result<Option<Hindrance>, Error> {
    let Some(bundles) = &context.bundles else { return Ok(None) };
    let authorities = bundles.authorities.borrow().clone();
    let Some(authorities) = authorities else { return Ok(Some(Hindrance::Unknown)) };
    let maps = api(&context.client, &identity.namespace);
    let desired = build(identity, &authorities);
    let observed = maps.get_opt(&account_name(&identity.name)).await.map_err(Error::ReadBundle)?;
    let plan = plan(&desired, observed.as_ref());
    match plan {
        Plan::Taken => return Ok(Some(Hindrance::Taken(Made::ConfigMap))),
        Plan::Predecessor => return Ok(Some(Hindrance::Predecessor(Made::ConfigMap))),
        Plan::Create | Plan::Write => {
            if let Some(why) = bundles.retries().refused(agent, declared, Instant::now()) {
                return Ok(Some(Hindrance::Refused(Made::ConfigMap, why)));
            }
            if let Err(error) = write(&maps, desired, observed, context).await {
                let Some(why) = refusal::of(&error) else { return Err(Error::WriteBundle(error)) };
                let (namespace, name) = agent;
                tracing::warn!(namespace, name, why, "the ConfigMap is refused; it will be tried again");
                bundles.retries().refuse(agent, declared.clone(), &why, Instant::now());
                return Ok(Some(Hindrance::Refused(Made::ConfigMap, why)));
            }
        }
        Plan::Keep => {}
    }
    bundles.retries().forget(agent);
    Ok(None)
}

fn api(client: &Client, namespace: &str) -> Api<ConfigMap> {
    Api::namespaced(client.clone(), namespace)
}

/// A new one by POST: one that appeared meanwhile is a conflict to look at again, not one to adopt. The uid keeps a change
/// from landing on a successor.
async fn write(
    maps: &Api<ConfigMap>,
    desired: ConfigMap,
    observed: Option<ConfigMap>,
    context: &Context,
) -> kube::Result<()> {
    let Some(observed) = observed else {
        context.metrics.wrote("create", "configmaps");
        return maps.create(&writing(), &desired).await.map(drop);
    };
    let ObjectMeta { name, uid, .. } = observed.metadata;
    let metadata = ObjectMeta { uid, ..desired.metadata };
    let patch = Patch::Apply(ConfigMap { metadata, ..desired });
    context.metrics.wrote("patch", "configmaps");
    let params = PatchParams::apply(FIELD_MANAGER).force();
    maps.patch(&name.unwrap_or_default(), &params, &patch).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::{super::account::tests::identity, *};

    #[test]
    fn what_is_there_decides_what_is_done() {
        let desired = build(&identity(), "one two");
        assert_eq!(desired.metadata.name.as_deref(), Some("agent.a"));
        assert_eq!(plan(&desired, None), Plan::Create);
        assert_eq!(plan(&desired, Some(&desired)), Plan::Keep);
        assert_eq!(plan(&desired, Some(&build(&identity(), "one"))), Plan::Write);

        type Edit = fn(&mut ConfigMap);
        let edits: [(Plan, Edit); 6] = [
            (Plan::Keep, |map| map.data.as_mut().unwrap().extend([("theirs".into(), "kept".into())])),
            (Plan::Write, |map| map.data = None),
            (Plan::Write, |map| map.metadata.labels = None),
            (Plan::Taken, |map| map.metadata.owner_references = None),
            (Plan::Taken, |map| map.metadata.owner_references.as_mut().unwrap()[0].controller = None),
            (Plan::Predecessor, |map| {
                map.metadata.owner_references.as_mut().unwrap()[0].uid = "old".into();
            }),
        ];
        for (expected, edit) in edits {
            let mut observed = desired.clone();
            edit(&mut observed);
            assert_eq!(plan(&desired, Some(&observed)), expected, "{observed:?}");
        }
    }
}
