//! The proof that this replica sees the cluster as it is: its own Lease, written every so often, has to come back
//! through a watch. See [`crate::index::freshness`] for what that proves.

use super::{clock, watch::relisted};
use crate::{
    index::freshness::{Freshness, Prover, Wholeness},
    metrics::{FreshnessMetrics, IndexMetrics},
};
use futures::{FutureExt as _, StreamExt as _, future::BoxFuture, future::OptionFuture};
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, OwnerReference},
    jiff::Timestamp,
};
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
    runtime::watcher::{self, Event},
};
use std::{pin::pin, sync::Arc, time::Duration};
use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior, interval, sleep_until, timeout},
};

/// How the proof is made.
#[derive(Clone, Debug)]
pub struct Config {
    /// Namespace of the Lease.
    pub namespace: String,
    /// Name of the Lease and of its holder: the pod's.
    pub pod: String,
    /// The pod's uid: the Lease goes when the pod does. None outside of a cluster.
    pub pod_uid: Option<String>,
    /// Who writes, as managed fields show it.
    pub field_manager: &'static str,
    /// How often the Lease is written.
    pub renewal: Duration,
    /// How old the view may be.
    pub bound: Duration,
}

/// What the proof is published to.
#[derive(Debug)]
pub struct Published {
    /// The proof itself, for decisions.
    pub freshness: watch::Sender<Freshness>,
    /// Whether the view is fresh, for readiness.
    pub is_fresh: watch::Sender<bool>,
    /// The same for dashboards.
    pub metrics: Arc<FreshnessMetrics>,
}

/// Proves for ever. `watches` says how the watches that make up the view are doing.
///
/// Returns only when the watch of the Lease ends, which it does not by itself; the process should then end as well.
pub async fn prove(
    client: Client,
    config: Config,
    watches: watch::Receiver<Wholeness>,
    published: Published,
    watch_metrics: Arc<IndexMetrics>,
) {
    let api = Api::<Lease>::namespaced(client, &config.namespace);
    let mine = watcher::Config::default().fields(&format!("metadata.name={}", config.pod));
    let mut echoes = pin!(relisted(api.clone(), mine, "leases", watch_metrics));
    let mut prover = Prover::new(config.bound);
    let mut ticks = interval(config.renewal);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut write: Option<BoxFuture<'_, ()>> = None;
    loop {
        let end = prover.freshness().ends().map(Instant::from_std);
        tokio::select! {
            _ = ticks.tick(), if write.is_none() => {
                let renewed = MicroTime(whole_microseconds(clock::now()));
                prover.send(renewed.clone(), Instant::now().into_std(), *watches.borrow());
                write = Some(renew(&api, &config, renewed).boxed());
            }
            Some(()) = OptionFuture::from(write.as_mut()) => write = None,
            echo = echoes.next() => {
                let Some(echo) = echo else { return };
                // A list shows that the object is there, not that the watch delivers.
                let Ok(Event::Apply(lease)) = echo else { continue };
                let renewed = lease.spec.and_then(|spec| spec.renew_time);
                if renewed.is_some_and(|renewed| prover.receive(&renewed, *watches.borrow())) {
                    published.freshness.send_replace(prover.freshness());
                    published.is_fresh.send_if_modified(|fresh| !std::mem::replace(fresh, true));
                    published.metrics.proved(clock::now());
                }
            }
            Some(()) = OptionFuture::from(end.map(sleep_until)), if *published.is_fresh.borrow() => {
                tracing::error!(bound_seconds = config.bound.as_secs(), "the view of the cluster is too old: nothing is permitted");
                published.is_fresh.send_replace(false);
            }
        }
    }
}

/// Writes the Lease once. One that fails is followed by the next.
async fn renew(api: &Api<Lease>, config: &Config, renewed: MicroTime) {
    let lease = lease(config, renewed);
    let parameters = PatchParams::apply(config.field_manager).force();
    match timeout(2 * config.renewal, api.patch(&config.pod, &parameters, &Patch::Apply(&lease))).await {
        Ok(Ok(_)) => (),
        Ok(Err(error)) => tracing::warn!(%error, lease = config.pod, "the Lease could not be written"),
        Err(_) => tracing::warn!(lease = config.pod, "writing the Lease took too long"),
    }
}

/// As it will be read back: the API keeps no more.
fn whole_microseconds(time: Timestamp) -> Timestamp {
    Timestamp::from_microsecond(time.as_microsecond()).unwrap_or(time)
}

fn lease(config: &Config, renewed: MicroTime) -> Lease {
    let owner = config.pod_uid.as_ref().map(|uid| OwnerReference {
        api_version: "v1".to_owned(),
        kind: "Pod".to_owned(),
        name: config.pod.clone(),
        uid: uid.clone(),
        ..OwnerReference::default()
    });
    Lease {
        metadata: ObjectMeta {
            name: Some(config.pod.clone()),
            owner_references: owner.map(|owner| vec![owner]),
            ..ObjectMeta::default()
        },
        spec: Some(LeaseSpec {
            holder_identity: Some(config.pod.clone()),
            lease_duration_seconds: i32::try_from(config.bound.as_secs()).ok(),
            renew_time: Some(renewed),
            ..LeaseSpec::default()
        }),
    }
}
