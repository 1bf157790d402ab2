//! What became of issuers, resources and policies: their statuses follow the objects they speak of.
//!
//! One index of all of them, and of identities; after each change the statuses it may concern are computed anew, and those
//! that differ are written. Level-triggered: nothing is remembered but what the objects themselves say.

mod known;
mod status;

use crate::{
    api::{
        FIELD_MANAGER,
        v1alpha1::{AgentIdentity, DelegationPolicy, ProtectedResource, TrustedIssuer},
    },
    index::{Declarable, Index},
    metrics::{ControllerMetrics, IndexMetrics},
    runtime::{
        clock,
        watch::{List, config, retried},
    },
};
use futures::{
    Stream, StreamExt,
    future::ready,
    stream::{self, select},
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use known::{Known, Name};
use kube::{
    Api, Client, Resource,
    api::{DynamicObject, Patch, PatchParams},
    core::{ApiResource, DeserializeGuard},
    runtime::watcher::{Event, watcher},
};
use serde_json::{Value, json};
use status::When;
use std::{collections::BTreeSet, pin::pin, sync::Arc, time::Duration};
use tokio::time::{Instant, timeout, timeout_at};

/// What happens within this time is one look.
const PAUSE: Duration = Duration::from_millis(50);

/// The time after which what was refused is tried again.
const AGAIN: Duration = Duration::from_secs(5);

/// The longest time between two looks.
const LONGEST: Duration = Duration::from_secs(3600);

/// Statuses written at once.
const CONCURRENCY: usize = 16;

/// What a watch delivered.
enum Delivery {
    Identity(Event<DeserializeGuard<AgentIdentity>>),
    Issuer(Event<DeserializeGuard<TrustedIssuer>>),
    Policy(Event<DeserializeGuard<DelegationPolicy>>),
    Resource(Event<DeserializeGuard<ProtectedResource>>),
}

/// A kind that has a status here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Issuer,
    Policy,
    Resource,
}

/// An object with a status.
type Key = (Kind, Name);

/// A status that is not as it should be.
struct Write {
    key: Key,
    uid: Option<String>,
    status: Value,
}

/// All that is known.
struct World {
    index: Index,
    identities: List<DeserializeGuard<AgentIdentity>>,
    identities_listed: bool,
    issuers: Known<TrustedIssuer>,
    policies: Known<DelegationPolicy>,
    resources: Known<ProtectedResource>,
    /// Whose status may not be as it should be.
    due: BTreeSet<Key>,
}

/// Keeps the statuses for ever.
///
/// Returns only when the watches end, which they do not by themselves; the process should then end as well.
pub async fn run(
    client: Client,
    declarable: Declarable,
    metrics: Arc<ControllerMetrics>,
    watches: Arc<IndexMetrics>,
) {
    let mut deliveries = pin!(deliveries(&client, &watches));
    let mut world = World::new(declarable);
    let mut pause = LONGEST;
    loop {
        match timeout(pause, deliveries.next()).await {
            Ok(None) => return,
            Ok(Some(delivery)) => world.take(delivery),
            Err(_) => {}
        }
        // From the first on and not from the last, or a stream without end would keep us from looking.
        let end = Instant::now() + PAUSE;
        while let Ok(Some(delivery)) = timeout_at(end, deliveries.next()).await {
            world.take(delivery);
        }
        // Before every list is whole, much would look as if it were missing.
        if !world.is_listed() {
            continue;
        }
        let writes = world.look(&Time(clock::now()));
        let refused = write_all(&writes, &client, &metrics).await;
        pause = if refused.is_empty() { LONGEST } else { AGAIN };
        for Write { key, .. } in writes {
            if !refused.contains(&key) {
                world.written(&key);
            }
        }
        world.due.extend(refused);
    }
}

fn deliveries(client: &Client, watches: &Arc<IndexMetrics>) -> impl Stream<Item = Delivery> + use<> {
    let issuers = watcher(Api::all(client.clone()), config());
    let resources = watcher(Api::all(client.clone()), config());
    let policies = watcher(Api::all(client.clone()), config());
    let identities = watcher(Api::all(client.clone()), config());
    let of_platform = select(
        retried(issuers, "trustedissuers", watches).map(Delivery::Issuer),
        retried(resources, "protectedresources", watches).map(Delivery::Resource),
    );
    let of_tenants = select(
        retried(policies, "delegationpolicies", watches).map(Delivery::Policy),
        retried(identities, "agentidentities", watches).map(Delivery::Identity),
    );
    select(of_platform, of_tenants)
}

impl World {
    fn new(declarable: Declarable) -> Self {
        Self {
            index: Index::new(declarable),
            identities: List::default(),
            identities_listed: false,
            issuers: Known::default(),
            policies: Known::default(),
            resources: Known::default(),
            due: BTreeSet::new(),
        }
    }

    fn is_listed(&self) -> bool {
        let Self { issuers, policies, resources, .. } = self;
        self.identities_listed && issuers.is_listed() && policies.is_listed() && resources.is_listed()
    }

    /// Takes in what a watch delivered, and sees whom it concerns.
    fn take(&mut self, delivery: Delivery) {
        let before = self.index.snapshot().version;
        let of = |kind: Kind, name: Option<Name>| name.map(|name| (kind, name));
        match delivery {
            Delivery::Identity(event) => {
                let namespace = match &event {
                    Event::Apply(identity) | Event::Delete(identity) => identity.meta().namespace.clone(),
                    Event::Init | Event::InitApply(_) | Event::InitDone => None,
                };
                let is_list = matches!(event, Event::InitDone);
                self.identities_listed |= is_list;
                self.identities.take(&mut self.index, Ok(event));
                let is_concerned = |(of, _): &&Name| is_list || namespace.as_ref() == Some(of);
                let concerned = self.policies.names().filter(is_concerned);
                self.due.extend(concerned.map(|name| (Kind::Policy, name.clone())));
            }
            Delivery::Policy(event) => {
                let is_list = matches!(event, Event::InitDone);
                self.due.extend(of(Kind::Policy, self.policies.take(event, &mut self.index)));
                if is_list {
                    self.due.extend(self.policies.names().map(|name| (Kind::Policy, name.clone())));
                }
            }
            Delivery::Issuer(event) => {
                self.due.extend(of(Kind::Issuer, self.issuers.take(event, &mut self.index)));
                self.all_if_changed(before);
            }
            Delivery::Resource(event) => {
                self.due.extend(of(Kind::Resource, self.resources.take(event, &mut self.index)));
                self.all_if_changed(before);
            }
        }
    }

    /// An issuer or a resource may make way for another, and any policy may speak of it.
    fn all_if_changed(&mut self, before: u64) {
        if self.index.snapshot().version != before {
            self.due.extend(self.issuers.names().map(|name| (Kind::Issuer, name.clone())));
            self.due.extend(self.policies.names().map(|name| (Kind::Policy, name.clone())));
            self.due.extend(self.resources.names().map(|name| (Kind::Resource, name.clone())));
        }
    }

    fn written(&mut self, (kind, name): &Key) {
        match kind {
            Kind::Issuer => self.issuers.written(name),
            Kind::Policy => self.policies.written(name),
            Kind::Resource => self.resources.written(name),
        }
    }

    /// The statuses that are due and not as they should be.
    fn look(&mut self, now: &Time) -> Vec<Write> {
        let snapshot = self.index.snapshot();
        let delegation = &snapshot.delegation;
        let due = std::mem::take(&mut self.due);
        let writes = due.into_iter().filter_map(|(kind, name)| {
            let (uid, status) = match kind {
                Kind::Issuer => self.issuers.differing(&name, |previous, generation| {
                    status::issuer(&name.1, delegation, previous, When { generation, now })
                }),
                Kind::Policy => self.policies.differing(&name, |previous, generation| {
                    status::policy((&name.0, &name.1), &snapshot, previous, When { generation, now })
                }),
                Kind::Resource => self.resources.differing(&name, |previous, generation| {
                    status::resource(&name.1, delegation, previous, When { generation, now })
                }),
            }?;
            Some(Write { key: (kind, name), uid, status })
        });
        writes.collect()
    }
}

/// Writes the statuses; returns those that were not taken and are worth another try.
async fn write_all(writes: &[Write], client: &Client, metrics: &ControllerMetrics) -> BTreeSet<Key> {
    let attempts = writes.iter().map(|write| async move {
        let error = patch(write, client, metrics).await.err()?;
        let (kind, (namespace, name)) = &write.key;
        tracing::warn!(?kind, namespace, name, %error, "the status is refused; it will be tried again");
        Some(write.key.clone())
    });
    stream::iter(attempts).buffer_unordered(CONCURRENCY).filter_map(ready).collect().await
}

/// Server-side apply, so that a field no longer in the status goes. The uid keeps it from landing on a successor; an object
/// that is gone is done.
async fn patch(write: &Write, client: &Client, metrics: &ControllerMetrics) -> Result<(), kube::Error> {
    let (kind, (namespace, name)) = &write.key;
    let (resource, written) = match kind {
        Kind::Issuer => (ApiResource::erase::<TrustedIssuer>(&()), "trustedissuers/status"),
        Kind::Policy => (ApiResource::erase::<DelegationPolicy>(&()), "delegationpolicies/status"),
        Kind::Resource => (ApiResource::erase::<ProtectedResource>(&()), "protectedresources/status"),
    };
    let objects: Api<DynamicObject> = match kind {
        Kind::Policy => Api::namespaced_with(client.clone(), namespace, &resource),
        Kind::Issuer | Kind::Resource => Api::all_with(client.clone(), &resource),
    };
    let patch = json!({
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        "metadata": {"name": name, "uid": write.uid},
        "status": write.status,
    });
    metrics.wrote("patch", written);
    match objects.patch_status(name, &PatchParams::apply(FIELD_MANAGER).force(), &Patch::Apply(patch)).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.is_conflict() || super::refusal::is_moot(&status) => Ok(()),
        Err(error) => Err(error),
    }
}
