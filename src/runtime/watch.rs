//! From the API server's watches to the newest snapshot. One task owns the [`Index`]; readers hold a
//! [`tokio::sync::watch::Receiver`] and take one snapshot per request.

use super::clock;
use crate::{
    api::v1alpha1::AgentIdentity,
    index::{Index, Observed, Snapshot},
    metrics::IndexMetrics,
};
use futures::{Stream, StreamExt, stream::select};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::{
    Api, Client, ResourceExt,
    core::DeserializeGuard,
    runtime::{
        WatchStreamExt,
        watcher::{self, Event, watcher},
    },
};
use std::{pin::pin, sync::Arc};
use tokio::sync::watch;

/// What one of the watches delivered.
enum Delivery {
    Identity(Event<DeserializeGuard<AgentIdentity>>),
    Account(Event<ServiceAccount>),
}

/// Feeds `index` for ever and publishes each snapshot it makes. `synced` turns true once every watch has delivered its
/// first full list, and stays true: a watch that breaks resumes, and what is known meanwhile is the last that was.
///
/// Returns only when the watches end, which they do not by themselves; the process should then end as well.
pub async fn feed(
    client: Client,
    mut index: Index,
    snapshots: watch::Sender<Arc<Snapshot>>,
    synced: watch::Sender<bool>,
    metrics: Arc<IndexMetrics>,
) {
    let config = watcher::Config::default();
    let identities = retried(watcher(Api::all(client.clone()), config.clone()), "agentidentities", &metrics);
    let accounts = retried(watcher(Api::all(client), config), "serviceaccounts", &metrics);
    let mut deliveries = pin!(select(identities.map(Delivery::Identity), accounts.map(Delivery::Account)));
    let (mut fresh_identities, mut fresh_accounts) = (List::default(), List::default());
    while let Some(delivery) = deliveries.next().await {
        let changed = match delivery {
            Delivery::Identity(event) => apply_identity(&mut index, &mut fresh_identities, event),
            Delivery::Account(event) => apply_account(&mut index, &mut fresh_accounts, event),
        };
        if changed {
            let snapshot = index.snapshot();
            metrics.advanced(snapshot.version, clock::now());
            snapshots.send_replace(snapshot);
            if fresh_identities.complete && fresh_accounts.complete {
                synced.send_if_modified(|synced| !std::mem::replace(synced, true));
            }
        }
    }
}

/// A list on its way, and whether one was ever complete.
struct List<T> {
    items: Vec<T>,
    complete: bool,
}

impl<T> Default for List<T> {
    fn default() -> Self {
        Self { items: vec![], complete: false }
    }
}

impl<T> List<T> {
    fn take(&mut self) -> Vec<T> {
        self.complete = true;
        std::mem::take(&mut self.items)
    }
}

/// Whether a new snapshot was made.
fn apply_identity(
    index: &mut Index,
    list: &mut List<Observed<AgentIdentity>>,
    event: Event<DeserializeGuard<AgentIdentity>>,
) -> bool {
    match event {
        Event::Apply(object) => index.apply_identity(observed(object)),
        Event::Delete(object) => {
            index.delete_identity(&object.namespace().unwrap_or_default(), &object.name_any());
        }
        Event::Init => list.items.clear(),
        Event::InitApply(object) => list.items.push(observed(object)),
        Event::InitDone => {
            index.reset_identities(list.take());
            return true;
        }
    }
    list.complete
}

/// Whether a new snapshot was made.
fn apply_account(index: &mut Index, list: &mut List<ServiceAccount>, event: Event<ServiceAccount>) -> bool {
    match event {
        Event::Apply(account) => index.apply_account(&account),
        Event::Delete(account) => {
            index.delete_account(&account.namespace().unwrap_or_default(), &account.name_any());
        }
        Event::Init => list.items.clear(),
        Event::InitApply(account) => list.items.push(account),
        Event::InitDone => {
            index.reset_accounts(&list.take());
            return true;
        }
    }
    list.complete
}

fn observed(guard: DeserializeGuard<AgentIdentity>) -> Observed<AgentIdentity> {
    match guard.0 {
        Ok(object) => Observed::Object(Box::new(object)),
        Err(invalid) => Observed::Unreadable {
            namespace: invalid.metadata.namespace.unwrap_or_default(),
            name: invalid.metadata.name.unwrap_or_default(),
            why: invalid.error,
        },
    }
}

/// A watch's events without its errors: those are logged and counted, and the watch goes on after a pause that grows.
pub fn retried<T, S: Stream<Item = watcher::Result<T>>>(
    stream: S,
    resource: &'static str,
    metrics: &Arc<IndexMetrics>,
) -> impl Stream<Item = T> + use<T, S> {
    let metrics = Arc::clone(metrics);
    stream.default_backoff().filter_map(move |item| {
        let event = item
            .inspect_err(|error| {
                tracing::warn!(resource, %error, "watch failed and will be tried again");
                metrics.watch_failed(resource);
            })
            .ok();
        std::future::ready(event)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::{ReservedAudiences, Standing};
    use serde_json::{Value, json};

    fn identity(name: &str, owner: &Value) -> DeserializeGuard<AgentIdentity> {
        serde_json::from_value(json!({
            "apiVersion": "deputy.dev/v1alpha1", "kind": "AgentIdentity", "spec": {"owner": owner},
            "metadata": {"name": name, "namespace": "ns", "uid": name, "generation": 1},
        }))
        .unwrap()
    }

    fn named(name: &str) -> DeserializeGuard<AgentIdentity> {
        identity(name, &json!("o@example.com"))
    }

    fn known(index: &Index, name: &str) -> bool {
        index.snapshot().standing("ns", name) != Standing::Unknown
    }

    #[test]
    fn a_list_takes_effect_when_it_is_whole() {
        let mut index = Index::new(ReservedAudiences::default());
        let mut list = List::default();
        assert!(!apply_identity(&mut index, &mut list, Event::Init));
        assert!(!apply_identity(&mut index, &mut list, Event::InitApply(named("a"))));
        assert!(!known(&index, "a"));
        // The list broke off and starts again: what it held so far may be gone.
        assert!(!apply_identity(&mut index, &mut list, Event::Init));
        assert!(!apply_identity(&mut index, &mut list, Event::InitApply(named("b"))));
        assert!(apply_identity(&mut index, &mut list, Event::InitDone));
        assert!(list.complete && !known(&index, "a") && known(&index, "b"));

        assert!(apply_identity(&mut index, &mut list, Event::Apply(named("c"))));
        assert!(apply_identity(&mut index, &mut list, Event::Delete(named("b"))));
        assert!(known(&index, "c") && !known(&index, "b"));
        // During a later list the world stays as it was, and the watch still counts as synced.
        assert!(apply_identity(&mut index, &mut list, Event::Init) && known(&index, "c"));
        assert!(apply_identity(&mut index, &mut list, Event::InitDone) && !known(&index, "c"));
    }

    #[test]
    fn an_identity_that_cannot_be_read_is_known_as_that() {
        let mut index = Index::new(ReservedAudiences::default());
        let unreadable = identity("a", &json!(["not", "a", "string"]));
        assert!(unreadable.0.is_err());
        apply_identity(&mut index, &mut List::default(), Event::Apply(unreadable));
        assert!(matches!(index.snapshot().standing("ns", "a"), Standing::Invalid(_)));
    }

    #[test]
    fn accounts_come_and_go() {
        let mut index = Index::new(ReservedAudiences::default());
        let account: ServiceAccount =
            serde_json::from_value(json!({"metadata": {"name": "default", "namespace": "ns", "uid": "x"}}))
                .unwrap();
        let mut list = List::default();
        apply_account(&mut index, &mut list, Event::Init);
        apply_account(&mut index, &mut list, Event::InitApply(account.clone()));
        assert!(apply_account(&mut index, &mut list, Event::InitDone));
        assert!(index.snapshot().account("ns", "default").is_some());
        apply_account(&mut index, &mut list, Event::Delete(account));
        assert_eq!(index.snapshot().account("ns", "default"), None);
    }
}
