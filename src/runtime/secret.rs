//! A Secret followed by name: the kubelet refreshes a mounted one up to a minute late.

use super::watch::retried;
use crate::metrics::IndexMetrics;
use futures::{Stream, StreamExt as _};
use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{
    Api, Client,
    runtime::{
        WatchStreamExt as _,
        watcher::{self, watcher},
    },
};
use std::{collections::BTreeMap, sync::Arc};

/// What the Secret `name` holds, and what it holds after each change. One that goes is not told of: what was read stays.
pub fn follow(
    client: Client,
    namespace: &str,
    name: &str,
    watches: &Arc<IndexMetrics>,
) -> impl Stream<Item = BTreeMap<String, ByteString>> + use<> {
    let secrets: Api<Secret> = Api::namespaced(client, namespace);
    let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let found = retried(watcher(secrets, config).applied_objects(), "secrets", watches);
    found.map(|secret| secret.data.unwrap_or_default())
}
