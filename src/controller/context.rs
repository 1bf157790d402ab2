//! What reconciles share.

use super::{
    Config,
    bundle::Bundles,
    claims::Claims,
    ending::{self, Handled},
    events::Events,
    identities::Guarded,
    pods::{Agent, Pods},
    retries::Retries,
    status::Made,
    tally::Tally,
};
use crate::{
    api::v1alpha1::{AgentIdentityStatus, PodCounts},
    index::{Declarable, Index},
    metrics::ControllerMetrics,
};
use kube::{
    Client,
    runtime::reflector::{ObjectRef, Store},
};
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{sync::Semaphore, time::Instant};

/// What a reconcile works with.
pub(super) struct Context {
    pub(super) client: Client,
    /// Where there is a broker.
    pub(super) bundles: Option<Bundles>,
    pub(super) claims: Claims,
    pub(super) config: Config,
    pub(super) events: Events,
    pub(super) metrics: Arc<ControllerMetrics>,
    pub(super) pods: Mutex<Pods>,
    /// Only its suspensions are kept.
    pub(super) suspensions: Mutex<Index>,
    handled: Mutex<Handled>,
    pub(super) pages: Semaphore,
    retries: Mutex<Retries>,
    tally: Mutex<Tally>,
}

impl Context {
    pub(super) fn new(client: Client, config: Config, metrics: Arc<ControllerMetrics>) -> Self {
        Self {
            bundles: config.authorities.clone().map(Bundles::new),
            claims: Claims::new(config.claim_quiet),
            events: Events::new(client.clone(), config.instance.clone()),
            client,
            config,
            metrics,
            pods: Mutex::default(),
            suspensions: Mutex::new(Index::new(Declarable::default())),
            handled: Mutex::default(),
            pages: ending::pages(),
            retries: Mutex::default(),
            tally: Mutex::default(),
        }
    }

    pub(super) fn handled(&self) -> MutexGuard<'_, Handled> {
        self.handled.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn retries(&self) -> MutexGuard<'_, Retries> {
        self.retries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long until what was refused of an agent may be tried again.
    pub(super) fn pause(&self, made: Made, agent: &Agent) -> Duration {
        let retries = match (made, &self.bundles) {
            (Made::ConfigMap, Some(bundles)) => bundles.retries(),
            _ => self.retries(),
        };
        retries.pause(agent, Instant::now())
    }

    /// How many pods the agent has, and the names of those that wait.
    pub(super) fn pods(&self, agent: &Agent) -> (PodCounts, Vec<String>) {
        let pods = self.pods.lock().unwrap_or_else(PoisonError::into_inner);
        let gated = pods.gated(agent);
        let number = |count: usize| i32::try_from(count).unwrap_or(i32::MAX);
        (PodCounts { active: number(pods.active(agent)), gated: number(gated.len()) }, gated)
    }

    pub(super) fn count(&self, agent: &Agent, status: &AgentIdentityStatus) {
        let mut tally = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
        tally.put(agent, &status.conditions);
        tally.report(&self.metrics);
    }

    /// Identities that were counted and are not in `store` any more.
    pub(super) fn lost(&self, store: &Store<Guarded>) -> Vec<Agent> {
        let tally = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
        let is_lost =
            |(namespace, name): &&Agent| store.get(&ObjectRef::new(name).within(namespace)).is_none();
        tally.agents().filter(is_lost).cloned().collect()
    }

    /// An identity is gone.
    pub(super) fn forget(&self, agent: &Agent) {
        self.retries().forget(agent);
        if let Some(bundles) = &self.bundles {
            bundles.retries().forget(agent);
        }
        self.handled().forget(agent);
        let mut tally = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
        tally.remove(agent);
        tally.report(&self.metrics);
    }
}
