//! The keys of all issuers: fetched when they are needed, and not again too soon.
//!
//! A set is fetched when there is none, when a token names a key that is not in it, and when it is old; the last without
//! making anybody wait as long as it is not twice as old. When that fails, the set before stays, until it is an hour old. Who asks while a fetch is
//! under way waits for that one. A fetch outlives the request that began it: to hang up is no way to use up the one
//! that a minute has.

use super::{fetch, jwks::KeySet};
use crate::{
    index::delegation::{Issuer, IssuerKeys},
    metrics::IssuerMetrics,
};
use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, timeout},
};

/// Most issuers whose keys are held. Those that a snapshot has no more are forgotten first: nobody asks for them.
const ISSUERS: usize = 256;

/// How often, and how long.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// How long one fetch may take, both documents together.
    pub fetch: Duration,
    /// How long after a fetch failed the next begins, while there are no keys at all or one is sought that is not there.
    pub retry: Duration,
    /// How long after a fetch for a key that was not there the next such fetch begins, and after any the next for age.
    pub refresh: Duration,
    /// How old a set may be before it is fetched again beside its use. Twice as old, its use waits for that.
    pub stale: Duration,
    /// How old a set may be at all: an issuer that nobody reached for so long may have withdrawn any key of it.
    pub end: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self {
            fetch: seconds(2),
            retry: seconds(10),
            refresh: seconds(60),
            stale: seconds(600),
            end: seconds(3600),
        }
    }
}

/// What is known of one issuer's keys.
#[derive(Default)]
struct State {
    keys: Option<Arc<KeySet>>,
    /// When those came.
    fetched: Option<Instant>,
    /// When a fetch began last.
    begun: Option<Instant>,
    /// From when on one may begin because a key is not there.
    seek_again: Option<Instant>,
    /// Closed when the fetch that is under way is over, however it ends.
    under_way: Option<watch::Receiver<()>>,
    /// When somebody asked last.
    used: Option<Instant>,
}

/// What is to be done before an answer.
#[derive(Debug, PartialEq, Eq)]
enum Due {
    Nothing,
    /// Fetch, and do not wait for it.
    Beside,
    /// Fetch, or join the fetch that is under way, and wait for it.
    First,
}

impl State {
    fn is_under_way(&self) -> bool {
        self.under_way.as_ref().is_some_and(|done| done.has_changed().is_ok())
    }

    /// What is to be done for one who asks for the key `kid`.
    fn due(&mut self, kid: Option<&str>, bounds: &Bounds, now: Instant) -> Due {
        let is_past = |time: Option<Instant>, span| time.is_none_or(|time| now.duration_since(time) >= span);
        if is_past(self.fetched, bounds.end) {
            self.keys = None;
        }
        let may_begin = |seldom| self.is_under_way() || is_past(self.begun, seldom);
        let Some(keys) = &self.keys else {
            return if may_begin(bounds.retry) { Due::First } else { Due::Nothing };
        };
        if !keys.has(kid) {
            let may_seek = self.seek_again.is_none_or(|time| time <= now);
            if may_seek {
                self.seek_again = Some(now + bounds.refresh);
            }
            return if may_seek || self.is_under_way() { Due::First } else { Due::Nothing };
        }
        if !is_past(self.fetched, bounds.stale) || !may_begin(bounds.refresh) {
            Due::Nothing
        } else if is_past(self.fetched, bounds.stale * 2) {
            Due::First
        } else {
            Due::Beside
        }
    }
}

#[derive(Default)]
struct Slot(Mutex<State>);

impl Slot {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An issuer as it was once: what it says of its keys may change with its generation.
type Version = (String, i64);

/// The keys of all issuers.
pub struct Issuers {
    bounds: Bounds,
    metrics: Arc<IssuerMetrics>,
    slots: Mutex<HashMap<Version, Arc<Slot>>>,
    fetches: Mutex<JoinSet<()>>,
}

impl fmt::Debug for Issuers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Issuers({:?})", self.bounds)
    }
}

impl Issuers {
    /// Knows no keys yet. Fetches end when it is dropped.
    pub fn new(bounds: Bounds, metrics: Arc<IssuerMetrics>) -> Self {
        Self { bounds, metrics, slots: Mutex::default(), fetches: Mutex::default() }
    }

    /// The keys of `issuer`, for a token that names `kid`. None of them if they could not be had.
    ///
    /// `issuer` is of a snapshot: nobody's keys are fetched whom the platform team does not trust. May take
    /// [`Bounds::fetch`].
    pub async fn keys(&self, issuer: &Issuer, kid: Option<&str>) -> Arc<KeySet> {
        let now = Instant::now();
        let slot = self.slot(issuer, now);
        let done = {
            let mut state = slot.lock();
            state.used = Some(now);
            match &issuer.keys {
                IssuerKeys::Inline(document) => {
                    // Its one conversion has read it; what of it can be used is seen here.
                    let parse = || Arc::new(KeySet::parse(document.as_bytes()).unwrap_or_default());
                    return Arc::clone(state.keys.get_or_insert_with(parse));
                }
                IssuerKeys::Discovered { certificate_authority } => {
                    let due = state.due(kid, &self.bounds, now);
                    let begin = || self.fetch(issuer, certificate_authority.clone(), &slot);
                    if due != Due::Nothing && !state.is_under_way() {
                        state.begun = Some(now);
                        state.under_way = Some(begin());
                    }
                    state.under_way.clone().filter(|_| due == Due::First)
                }
            }
        };
        if let Some(mut done) = done {
            // The fetch has a limit of its own; this is for a runtime too busy to keep it.
            drop(timeout(self.bounds.fetch * 2, done.changed()).await);
        }
        slot.lock().keys.clone().unwrap_or_default()
    }

    fn slot(&self, issuer: &Issuer, now: Instant) -> Arc<Slot> {
        let origin = &issuer.origin;
        let version = (origin.uid.clone(), origin.generation);
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = slots.get(&version) {
            return Arc::clone(slot);
        }
        slots.retain(|(uid, generation), _| *uid != origin.uid || *generation > origin.generation);
        if slots.len() >= ISSUERS {
            let unused = slots.iter().min_by_key(|(_, slot)| slot.lock().used.unwrap_or(now));
            if let Some(version) = unused.map(|(version, _)| version.clone()) {
                slots.remove(&version);
            }
        }
        Arc::clone(slots.entry(version).or_default())
    }

    /// Begins a fetch. The channel closes when it is over.
    fn fetch(&self, issuer: &Issuer, authority: Option<String>, slot: &Arc<Slot>) -> watch::Receiver<()> {
        let (running, done) = watch::channel(());
        let (url, name) = (issuer.url.clone(), issuer.origin.name.clone());
        let (slot, metrics) = (Arc::clone(slot), Arc::clone(&self.metrics));
        let Bounds { fetch: limit, retry, .. } = self.bounds;
        let mut fetches = self.fetches.lock().unwrap_or_else(PoisonError::into_inner);
        while fetches.try_join_next().is_some() {}
        fetches.spawn(async move {
            match fetch::keys(&url, authority, limit).await {
                Ok(keys) => {
                    metrics.fetched("fetched");
                    let mut state = slot.lock();
                    state.keys = Some(Arc::new(keys));
                    state.fetched = Some(Instant::now());
                }
                Err(failure) => {
                    metrics.fetched(failure.as_str());
                    // An issuer that was only restarting has not used up the minute.
                    let (mut state, soon) = (slot.lock(), Instant::now() + retry);
                    state.seek_again = state.seek_again.map(|time| time.min(soon));
                    drop(state);
                    tracing::warn!(issuer = name, %failure, "an issuer's keys could not be fetched");
                }
            }
            drop(running);
        });
        done
    }
}

#[cfg(test)]
mod tests;
