//! When what failed is tried again: kube-runtime's usual backoff, one for each identity.
//!
//! An account that was refused is not sent again before that, whatever else happens: our own status write is an event
//! too, and a message that differs each time (a quota tells how much is used) would otherwise chase itself.

use super::pods::Agent;
use kube::runtime::watcher::DefaultBackoff;
use std::{collections::HashMap, time::Duration};
use tokio::time::Instant;

/// The uid and generation of an identity: what a refusal was about. Another one is worth a try at once.
pub(super) type Declared = (Option<String>, Option<i64>);

/// The pause when the backoff has no more to give, which it always has.
const PAUSE: Duration = Duration::from_secs(30);

/// Identities that failed since they last succeeded.
#[derive(Default)]
pub(super) struct Retries(HashMap<Agent, Retry>);

#[derive(Default)]
struct Retry {
    backoff: DefaultBackoff,
    refusal: Option<Refusal>,
}

struct Refusal {
    declared: Declared,
    why: String,
    until: Instant,
}

impl Retries {
    /// `agent` failed; returns how long to wait.
    pub(super) fn failed(&mut self, agent: &Agent) -> Duration {
        self.0.entry(agent.clone()).or_default().backoff.next().unwrap_or(PAUSE)
    }

    /// The account of `agent`, as `declared`, was refused.
    pub(super) fn refuse(&mut self, agent: &Agent, declared: Declared, why: &str, now: Instant) {
        let until = now + self.failed(agent);
        let refusal = Refusal { declared, why: why.to_owned(), until };
        self.0.entry(agent.clone()).or_default().refusal = Some(refusal);
    }

    /// Why the account of `agent`, as `declared`, was refused, if it is too early to try again.
    pub(super) fn refused(&self, agent: &Agent, declared: &Declared, now: Instant) -> Option<String> {
        let refusal = self.0.get(agent)?.refusal.as_ref()?;
        (refusal.declared == *declared && now < refusal.until).then(|| refusal.why.clone())
    }

    /// How long until the refused account of `agent` may be tried again.
    pub(super) fn pause(&self, agent: &Agent, now: Instant) -> Duration {
        let refusal = self.0.get(agent).and_then(|retry| retry.refusal.as_ref());
        refusal.map_or(PAUSE, |refusal| refusal.until.saturating_duration_since(now))
    }

    /// `agent` succeeded, or is gone.
    pub(super) fn forget(&mut self, agent: &Agent) {
        self.0.remove(agent);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agent() -> Agent {
        ("ns".into(), "a".into())
    }

    fn declared(generation: i64) -> Declared {
        (Some("u".into()), Some(generation))
    }

    #[test]
    fn pauses_grow_until_it_succeeds() {
        let mut retries = Retries::default();
        let pauses: Vec<_> = (0..8).map(|_| retries.failed(&agent())).collect();
        assert!(pauses[0] < Duration::from_secs(2), "{pauses:?}");
        assert!(pauses[7] >= Duration::from_secs(30), "{pauses:?}");
        retries.forget(&agent());
        assert!(retries.failed(&agent()) < Duration::from_secs(2));
    }

    #[test]
    fn a_refusal_holds_for_its_pause_and_for_what_was_refused() {
        let mut retries = Retries::default();
        let now = Instant::now();
        retries.refuse(&agent(), declared(1), "quota", now);
        let pause = retries.pause(&agent(), now);
        assert!(pause >= Duration::from_millis(800), "{pause:?}");
        assert_eq!(retries.refused(&agent(), &declared(1), now).as_deref(), Some("quota"));
        assert_eq!(retries.refused(&agent(), &declared(2), now), None);
        assert_eq!(retries.refused(&agent(), &declared(1), now + pause), None);
        assert_eq!(retries.refused(&("ns".into(), "b".into()), &declared(1), now), None);
        retries.failed(&agent());
        assert!(retries.refused(&agent(), &declared(1), now).is_some(), "another failure is no permission");
        retries.forget(&agent());
        assert_eq!(retries.refused(&agent(), &declared(1), now), None);
    }
}
