//! What the endpoints share: what is decided on and with, the record, and whether anything may be permitted at all.

use super::{
    actor::{Actor, Presence},
    caller::Caller,
    keys::Keys,
    mint::Issuers,
    presented::PresentedTokens,
    reviews::Reviews,
    rights::Rights,
};
use crate::{
    audit::{Entry, Noise, PseudonymKey},
    index::{Snapshot, freshness::Freshness},
    metrics::BrokerMetrics,
    oauth::Reason,
    policy::exchange::{self, Decision},
    store::Wal,
    verify::Verifier,
};
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    sync::watch,
    time::{Instant, timeout, timeout_at},
};

/// How long a pod that is not known yet is waited for.
const APPEARANCE: Duration = Duration::from_millis(250);
/// How long the record may take.
const RECORD: Duration = Duration::from_secs(2);

/// What is asked of the API server.
#[derive(Debug)]
pub struct Questions {
    /// Which agent a token is of.
    pub(super) agents: Reviews<Actor>,
    /// Who asks about actions.
    pub(super) callers: Reviews<Caller>,
    /// What users may do.
    pub(super) rights: Rights,
}

impl Questions {
    /// Questions about tokens for `issuer`, this broker, and about users.
    pub fn new(client: &Client, issuer: &str, metrics: &Arc<BrokerMetrics>) -> Self {
        Self {
            agents: Reviews::of_agents(client.clone(), issuer.to_owned(), metrics),
            callers: Reviews::of_callers(client.clone(), issuer.to_owned(), metrics),
            rights: Rights::new(client.clone(), metrics),
        }
    }
}

/// What the broker decides on, and with.
#[derive(Debug)]
pub struct Broker {
    /// Its own name and the cluster's.
    pub issuers: Issuers,
    /// The newest view of the cluster.
    pub snapshots: watch::Receiver<Arc<Snapshot>>,
    /// How fresh it is.
    pub freshness: watch::Receiver<Freshness>,
    /// What only the API server knows.
    pub questions: Questions,
    /// Its own tokens that came back.
    pub presented: PresentedTokens,
    /// Of whom users' tokens speak.
    pub subjects: Verifier,
    /// By which users are on record.
    pub pseudonyms: watch::Receiver<Option<Arc<PseudonymKey>>>,
    /// The keys in use.
    pub keys: watch::Receiver<Option<Arc<Keys>>>,
    /// The record.
    pub record: Wal,
    /// What is counted rather than recorded.
    pub noise: Mutex<Noise>,
    /// What is counted for dashboards.
    pub metrics: Arc<BrokerMetrics>,
    /// The time.
    pub clock: fn() -> Timestamp,
    /// An unguessable name.
    pub random: fn() -> String,
}

/// Why a decision led to nothing.
pub(super) enum Undone {
    /// Nothing was permitted.
    Denied(Reason),
    /// What was permitted was withheld, which is on record already.
    Withheld(Reason),
}

impl From<Reason> for Undone {
    fn from(reason: Reason) -> Self {
        Self::Denied(reason)
    }
}

impl Broker {
    /// Whether anything may be permitted at all.
    pub(super) fn is_fit(&self) -> Result<(), Reason> {
        self.freshness.borrow().check(Instant::now().into_std()).map_err(|_| Reason::Stale)?;
        if *self.record.writable().borrow() { Ok(()) } else { Err(Reason::Audit) }
    }

    /// A view of the cluster in which `actor` may act, who calls itself `client_id`.
    ///
    /// # Errors
    /// Why it may not.
    pub(super) async fn present(
        &self,
        actor: &Actor,
        client_id: Option<&str>,
    ) -> Result<Arc<Snapshot>, Reason> {
        let (mut snapshots, deadline) = (self.snapshots.clone(), Instant::now() + APPEARANCE);
        loop {
            let snapshot = Arc::clone(&snapshots.borrow_and_update());
            if actor.standing(client_id, &snapshot, (self.clock)())?.1 == Presence::Live {
                return Ok(snapshot);
            }
            if !matches!(timeout_at(deadline, snapshots.changed()).await, Ok(Ok(()))) {
                return Err(Reason::ActorPodGone);
            }
        }
    }

    /// The view of the cluster as it is by now, in which `actor` may act still: for what is permitted and on record already.
    ///
    /// # Errors
    /// Why nothing is permitted any more.
    pub(super) fn still(&self, actor: &Actor, client_id: Option<&str>) -> Result<Arc<Snapshot>, Reason> {
        self.is_fit()?;
        let snapshot = Arc::clone(&self.snapshots.borrow());
        match actor.standing(client_id, &snapshot, (self.clock)())?.1 {
            Presence::Live => Ok(snapshot),
            Presence::Unseen => Err(Reason::ActorPodGone),
        }
    }

    /// Puts a permit on record, and waits until it is durable.
    pub(super) async fn append(&self, entry: &Entry) -> Result<u64, Reason> {
        let failed = |why: &dyn std::fmt::Display| {
            tracing::error!(%why, "what is permitted cannot be recorded, and so is not permitted");
            Reason::Audit
        };
        let bytes = entry.to_bytes().map_err(|error| failed(&error))?;
        match timeout(RECORD, self.record.append(&bytes)).await {
            Ok(Ok(index)) => Ok(index),
            Ok(Err(error)) => Err(failed(&error)),
            Err(_) => Err(failed(&"the disk takes too long")),
        }
    }

    /// Puts something on record that nobody waits for.
    pub(super) fn note(&self, entry: &Entry) {
        match entry.to_bytes() {
            Ok(bytes) => self.record.append_unacked(&bytes),
            Err(error) => tracing::error!(%error, "a denial is not on record"),
        }
    }

    /// A request was refused whose sender could not be told.
    pub(super) fn count(&self, reason: Reason) {
        let mut noise = self.noise.lock().unwrap_or_else(PoisonError::into_inner);
        noise.count(reason.as_str(), (self.clock)());
    }

    /// Puts on record what was counted, once a minute of it is full, and measures what nobody asks about.
    pub fn tick(&self) {
        let due = self.noise.lock().unwrap_or_else(PoisonError::into_inner).due((self.clock)());
        if let Some(entry) = due {
            self.note(&entry);
        }
        self.metrics.dropped(self.record.dropped());
        self.metrics.recorded(self.record.size());
        if let Some(created) = self.keys.borrow().as_ref().and_then(|keys| keys.signs_since((self.clock)())) {
            self.metrics.signs_by(created);
        }
    }
}

/// What is permitted, or the word for why not. Whoever asks learns no more of objects that he may not read.
pub(super) fn permitted<T>(decision: Decision<T>) -> Result<T, Reason> {
    match decision {
        Decision::Permit(permitted) => Ok(permitted),
        Decision::Deny(denial) => Err(match denial.reason {
            // A scope that the resource does not offer is one that its owner does not let anybody have.
            exchange::Reason::AgentHalf | exchange::Reason::ScopeUnknown => Reason::AgentHalf,
            exchange::Reason::ActionUnknown => Reason::ActionUnknown,
            exchange::Reason::AgentSuspended => Reason::AgentSuspended,
            exchange::Reason::AgentUnknown => Reason::AgentUnknown,
            exchange::Reason::Delegation => Reason::DelegationHalf,
            exchange::Reason::InsufficientScope => Reason::InsufficientScope,
            exchange::Reason::InvalidTarget(_) => Reason::ResourceUnknown,
            exchange::Reason::NoDelegation => Reason::NoDelegation,
            exchange::Reason::ScopeRequired => Reason::ScopeRequired,
            exchange::Reason::SubjectExpiring => Reason::SubjectExpiring,
            exchange::Reason::SubjectIssuer => Reason::SubjectIssuer,
            exchange::Reason::ToolNotLent => Reason::ToolNotLent,
            exchange::Reason::ToolUnlisted => Reason::ToolUnlisted,
            exchange::Reason::UserHalf => Reason::UserHalf,
            exchange::Reason::UserHalfUnknown => Reason::UserHalfUnknown,
        }),
    }
}
