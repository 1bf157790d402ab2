//! Ending pods: each by eviction where that may help a Job, and by deletion where it does not go through at once.

use super::{
    fate::{Cause, End, Pod},
    pods::{Agent, Pods},
    refusal, running,
};
use crate::{identity::account_name, index::Suspension, metrics::ControllerMetrics};
use futures::{StreamExt, stream};
use k8s_openapi::api::core::v1 as core;
use kube::{
    Api, Client,
    api::{DeleteParams, PostParams, Preconditions},
};
use serde::de::IgnoredAny;
use serde_json::json;
use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};
use tokio::{
    sync::Semaphore,
    time::{Instant, sleep, timeout},
};

/// How long an eviction may take.
const EVICTION: Duration = Duration::from_secs(1);
/// The pause before one that was forbidden is tried again: the policy that lets the controller evict where there is a
/// suspension may hear of it a little later than the controller.
const PAUSE: Duration = Duration::from_millis(100);
/// Pods of one agent that are ended at once.
const AT_ONCE: usize = 8;
/// Pages read at once, whoever's.
const PAGES: usize = 2;

/// What was done about agents that are suspended, since this process began. Nothing hangs on it but work saved.
#[derive(Debug, Default)]
pub(super) struct Handled(HashMap<Agent, Handling>);

#[derive(Debug)]
struct Handling {
    since: Instant,
    /// Uids of the suspensions.
    by: Vec<String>,
    /// Uids of the pods that were looked at, once all were.
    pods: Option<HashSet<String>>,
}

impl Handled {
    /// `agent` is suspended by these, or not any more; returns since when it is known to be.
    pub(super) fn switch(
        &mut self,
        agent: &Agent,
        suspensions: &[&Suspension],
        now: Instant,
    ) -> Option<Instant> {
        if suspensions.is_empty() {
            self.0.remove(agent);
            return None;
        }
        let by: Vec<_> = suspensions.iter().map(|suspension| suspension.uid.clone()).collect();
        let handling =
            self.0.entry(agent.clone()).or_insert_with(|| Handling { since: now, by: vec![], pods: None });
        if handling.by != by {
            // One that follows upon another's end is new to the API server too.
            let goes_on = handling.by.is_empty() || by.iter().any(|uid| handling.by.contains(uid));
            let since = if goes_on { handling.since } else { now };
            *handling = Handling { since, by, pods: None };
        }
        Some(handling.since)
    }

    /// Whether there may be pods of suspended `agent` that were not looked at.
    pub(super) fn is_open(&self, agent: &Agent, pods: &Pods) -> bool {
        self.0.get(agent).is_some_and(|handling| {
            let Some(seen) = &handling.pods else { return true };
            pods.running(agent).any(|uid| !seen.contains(uid))
        })
    }

    /// Every pod of suspended `agent` was looked at: those of these uids.
    pub(super) fn done(&mut self, agent: &Agent, pods: HashSet<String>) {
        if let Some(handling) = self.0.get_mut(agent) {
            handling.pods = Some(pods);
        }
    }

    /// The identity is gone.
    pub(super) fn forget(&mut self, agent: &Agent) {
        self.0.remove(agent);
    }
}

/// What was done.
#[derive(Debug, Default)]
pub(super) struct Ended {
    /// Uids of all pods there were.
    pub(super) seen: HashSet<String>,
    /// Pods of a suspended agent that were evicted.
    pub(super) evicted: usize,
    /// Pods of a suspended agent that were deleted.
    pub(super) deleted: usize,
    /// Pods of an identity whose name another has.
    pub(super) predecessors: usize,
}

/// What it is done with.
pub(super) struct Ender<'a> {
    pub(super) client: &'a Client,
    pub(super) pages: &'a Semaphore,
    pub(super) metrics: &'a ControllerMetrics,
}

/// As many turns as there are pages that may be read at once.
pub(super) fn pages() -> Semaphore {
    Semaphore::new(PAGES)
}

#[derive(Clone, Copy)]
enum Way {
    Evicted,
    Deleted,
}

impl Ended {
    fn count(&mut self, cause: Cause, way: Way) {
        let count = match (cause, way) {
            (Cause::Suspension, Way::Evicted) => &mut self.evicted,
            (Cause::Suspension, Way::Deleted) => &mut self.deleted,
            (Cause::Succession, _) => &mut self.predecessors,
        };
        *count += 1;
    }
}

impl Ender<'_> {
    /// Ends those pods of `agent` that `fate` says. One that cannot be ended does not save the others.
    ///
    /// `lives` says whether the identity that `fate` knows is the living one, and is asked after a list that holds a pod
    /// of another: uids do not come back, so that the other is then the one that is gone.
    ///
    /// # Errors
    /// The first of them, beside what was done; what was not ended is to be looked at again.
    pub(super) async fn end<L: Future<Output = Result<bool, kube::Error>>>(
        &self,
        agent: &Agent,
        fate: impl Fn(&Pod) -> Option<End>,
        lives: impl Fn() -> L,
    ) -> (Ended, Result<(), kube::Error>) {
        let (namespace, name) = agent;
        let account = account_name(name);
        let (mut ended, mut result, mut start) = (Ended::default(), Ok(()), None::<String>);
        loop {
            let listed = {
                // Never closed. What is left of a page once it is read is small.
                let _turn = self.pages.acquire().await;
                running::page(self.client, namespace, &account, start.as_deref()).await
            };
            let page = match listed {
                Ok(page) => page,
                Err(error) => return (ended, result.and(Err(error))),
            };
            let mut ends: Vec<_> =
                page.pods.iter().filter_map(|pod| fate(pod).map(|end| (pod, end))).collect();
            if ends.iter().any(|(_, end)| end.cause == Cause::Succession) {
                let lives = lives().await;
                if !matches!(lives, Ok(true)) {
                    ends.retain(|(_, end)| end.cause != Cause::Succession);
                }
                result = result.and_then(|()| lives.map(|_| ()));
            }
            let ends = ends
                .into_iter()
                .map(|(pod, end)| async move { (end.cause, self.end_one(namespace, pod, end).await) });
            let mut ends = stream::iter(ends).buffer_unordered(AT_ONCE);
            while let Some((cause, way)) = ends.next().await {
                match way {
                    Ok(Some(way)) => ended.count(cause, way),
                    Ok(None) => {}
                    Err(error) => result = result.and(Err(error)),
                }
            }
            drop(ends);
            ended.seen.extend(page.pods.into_iter().map(|pod| pod.uid));
            let Some(next) = page.next else { return (ended, result) };
            start = Some(next);
        }
    }

    /// Ends exactly this pod; `None` if it was gone.
    async fn end_one(&self, namespace: &str, pod: &Pod, end: End) -> Result<Option<Way>, kube::Error> {
        let pods: Api<core::Pod> = Api::namespaced(self.client.clone(), namespace);
        if end.evict
            && let Ok(Ok(way)) = timeout(EVICTION, self.evict(&pods, pod, end)).await
        {
            return Ok(way.inspect(|_| self.ended(namespace, pod, end, "evicted")));
        }
        let this_one = DeleteParams {
            grace_period_seconds: Some(end.grace),
            preconditions: Some(Preconditions { uid: Some(pod.uid.clone()), resource_version: None }),
            ..DeleteParams::default()
        };
        self.metrics.wrote("delete", "pods");
        match pods.delete(&pod.name, &this_one).await {
            Ok(_) => {
                self.ended(namespace, pod, end, "deleted");
                Ok(Some(Way::Deleted))
            }
            Err(error) if is_gone(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// kube's own way to evict loses the precondition: it writes `delete_options`.
    async fn evict(&self, pods: &Api<core::Pod>, pod: &Pod, end: End) -> Result<Option<Way>, kube::Error> {
        let eviction = json!({
            "apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod.name},
            "deleteOptions": {"gracePeriodSeconds": end.grace, "preconditions": {"uid": pod.uid}},
        });
        loop {
            self.metrics.wrote("create", "pods/eviction");
            let asked = PostParams::default();
            let answer: Result<IgnoredAny, _> =
                pods.create_subresource("eviction", &pod.name, &asked, &eviction).await;
            match answer {
                Ok(_) => return Ok(Some(Way::Evicted)),
                Err(error) if is_gone(&error) => return Ok(None),
                Err(kube::Error::Api(status)) if status.is_forbidden() && !refusal::is_moot(&status) => {
                    sleep(PAUSE).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn ended(&self, namespace: &str, pod: &Pod, end: End, way: &'static str) {
        let cause = match end.cause {
            Cause::Suspension => "suspension",
            Cause::Succession => "succession",
        };
        self.metrics.ended_pod(cause, way);
        tracing::info!(namespace, name = pod.name, cause, "the pod was {way}");
    }
}

/// Whether the pod is gone, or another has its name.
fn is_gone(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.is_not_found() || status.is_conflict())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{api::v1alpha1::RunningPods, controller::pods::Known};

    fn suspension(uid: &str) -> Suspension {
        Suspension {
            name: uid.into(),
            uid: uid.into(),
            agent: None,
            since: None,
            pods: RunningPods::Delete,
            reason: "r".into(),
            requested_by: None,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn pods_are_looked_at_once_for_each_suspension_and_for_each_pod() {
        let agent = ("ns".to_owned(), "a".to_owned());
        let (s1, s2) = (suspension("s1"), suspension("s2"));
        let (mut handled, mut pods) = (Handled::default(), Pods::default());
        let pod = |uid: &str| Known { uid: uid.into(), ..Known::default() };
        assert_eq!(handled.switch(&agent, &[], Instant::now()), None);
        assert!(!handled.is_open(&agent, &pods));

        let start = Instant::now();
        assert_eq!(handled.switch(&agent, &[&s1], start), Some(start));
        assert!(handled.is_open(&agent, &pods), "also without a pod that is known");
        handled.done(&agent, HashSet::new());
        assert!(!handled.is_open(&agent, &pods));
        pods.put("ns", "p", "a", Known { gated: true, ..pod("1") });
        assert!(!handled.is_open(&agent, &pods));
        pods.put("ns", "p", "a", pod("2"));
        assert!(handled.is_open(&agent, &pods));
        handled.done(&agent, ["2".to_owned()].into());
        assert!(!handled.is_open(&agent, &pods));

        sleep(PAUSE).await;
        assert_eq!(handled.switch(&agent, &[&s1, &s2], Instant::now()), Some(start));
        assert!(handled.is_open(&agent, &pods), "another suspension may ask for more");
        handled.done(&agent, ["2".to_owned()].into());
        assert_eq!(handled.switch(&agent, &[&s2], Instant::now()), Some(start));
        let later = Instant::now();
        assert_eq!(handled.switch(&agent, &[&s1], later), Some(later), "none of those before");
        handled.switch(&agent, &[], later);
        assert!(!handled.is_open(&agent, &pods));
    }
}
