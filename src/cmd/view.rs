//! What a role that permits things looks at: the newest snapshot, and the proof that it is fresh.

use crate::{
    index::{
        Index, Snapshot,
        freshness::{Freshness, Wholeness},
    },
    metrics::{FreshnessMetrics, IndexMetrics, Metrics},
    runtime::{
        admin::Check,
        freshness::{Config, Published, prove},
        watch::{Fed, Kinds, feed},
    },
};
use anyhow::anyhow;
use kube::Client;
use std::sync::Arc;
use tokio::sync::watch;

/// A view of the cluster, kept by a future beside it.
pub(super) struct View {
    pub(super) snapshots: watch::Receiver<Arc<Snapshot>>,
    pub(super) freshness: watch::Receiver<Freshness>,
    /// Whether every watch has delivered its first list.
    pub(super) is_synced: watch::Receiver<bool>,
    is_fresh: watch::Receiver<bool>,
}

impl View {
    /// The view, and what keeps it: a future that ends only with why it could not go on.
    pub(super) fn new(
        client: &Client,
        index: Index,
        kinds: Kinds,
        proving: Config,
        metrics: &mut Metrics,
        watch_metrics: &Arc<IndexMetrics>,
    ) -> (Self, impl Future<Output = anyhow::Error> + use<>) {
        let (snapshots, newest) = watch::channel(index.snapshot());
        let (watches, wholeness) = watch::channel(Wholeness::default());
        let (synced, is_synced) = watch::channel(false);
        let (freshness, proved) = watch::channel(Freshness::unproved(proving.bound));
        let (fresh, is_fresh) = watch::channel(false);
        let published =
            Published { freshness, is_fresh: fresh, metrics: FreshnessMetrics::register(metrics) };
        let fed =
            feed(client.clone(), index, kinds, Fed { snapshots, watches, synced }, Arc::clone(watch_metrics));
        let proof = prove(client.clone(), proving, wholeness, published, Arc::clone(watch_metrics));
        let kept = async {
            tokio::select! {
                () = fed => anyhow!("the watches ended"),
                () = proof => anyhow!("the watch of this replica's Lease ended"),
            }
        };
        (Self { snapshots: newest, freshness: proved, is_synced, is_fresh }, kept)
    }

    /// What readiness waits for.
    pub(super) fn checks(&self) -> [Check; 2] {
        [
            Check { name: "index synced", passed: self.is_synced.clone() },
            Check { name: "view fresh", passed: self.is_fresh.clone() },
        ]
    }
}
