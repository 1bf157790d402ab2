//! Which of the agents' pods may be entered (AI501): a policy of the API server reads it off an annotation of each pod,
//! which follows the exceptions here. A policy has no clock: that an exception ends is this loop's to see.

use crate::{
    api::{AGENT_LABEL, FIELD_MANAGER, INTERACTIVE_ANNOTATION, lean::Lean, v1alpha1::AgentException},
    index::{Census, Exceptions, Index, ReservedAudiences},
    metrics::{ControllerMetrics, IndexMetrics},
    runtime::{
        client::of_metadata,
        clock,
        watch::{List, config, retried},
    },
};
use futures::{StreamExt, stream::select};
use k8s_openapi::{api::core::v1::Pod, jiff::Timestamp};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{Patch, PatchParams},
    core::DeserializeGuard,
    runtime::watcher::{Event, watcher},
};
use serde_json::json;
use std::{collections::BTreeMap, pin::pin, sync::Arc, time::Duration};
use tokio::time::timeout;

/// The longest time between two looks: a machine's clock may be set.
const LONGEST: Duration = Duration::from_secs(60);

/// The time after which what was refused is tried again.
const AGAIN: Duration = Duration::from_secs(5);

/// What a watch delivered.
enum Delivery {
    Exception(Event<DeserializeGuard<AgentException>>),
    Pod(Event<Lean<Pod>>),
}

/// A pod by namespace and name.
type PodName = (String, String);

/// What is known of an agent's pod.
#[derive(Clone, Debug, PartialEq, Eq)]
struct AgentPod {
    uid: Option<String>,
    agent: String,
    /// The exception that its annotation names.
    mark: Option<String>,
}

/// The agents' pods.
#[derive(Debug, Default)]
struct Pods {
    known: BTreeMap<PodName, AgentPod>,
    /// A list on its way.
    listed: BTreeMap<PodName, AgentPod>,
    complete: bool,
}

impl Pods {
    fn take(&mut self, event: Event<Lean<Pod>>) {
        match event {
            Event::Apply(pod) => {
                let name = name(&pod);
                match read(&pod) {
                    Some(read) => drop(self.known.insert(name, read)),
                    None => drop(self.known.remove(&name)),
                }
            }
            Event::Delete(pod) => drop(self.known.remove(&name(&pod))),
            Event::Init => self.listed.clear(),
            Event::InitApply(pod) => self.listed.extend(read(&pod).map(|read| (name(&pod), read))),
            Event::InitDone => {
                self.known = std::mem::take(&mut self.listed);
                self.complete = true;
            }
        }
    }

    /// The pods whose annotation does not say what the exceptions say at `now`, and what it should say.
    fn wrong(&self, exceptions: &Exceptions, now: Timestamp) -> Vec<(PodName, Option<String>)> {
        let should = |((namespace, name), pod): (&PodName, &AgentPod)| {
            let mark =
                exceptions.interactive(namespace, &pod.agent, now).map(|exception| exception.name.clone());
            (mark != pod.mark).then(|| ((namespace.clone(), name.clone()), mark))
        };
        self.known.iter().filter_map(should).collect()
    }
}

fn name(pod: &Lean<Pod>) -> PodName {
    (pod.namespace().unwrap_or_default(), pod.name_any())
}

fn read(pod: &Lean<Pod>) -> Option<AgentPod> {
    let agent = pod.labels().get(AGENT_LABEL)?.clone();
    let mark = pod.annotations().get(INTERACTIVE_ANNOTATION).cloned();
    Some(AgentPod { uid: pod.meta().uid.clone(), agent, mark })
}

/// Keeps the annotations for ever.
///
/// Returns only when the watches end, which they do not by themselves; the process should then end as well.
pub async fn run(client: Client, metrics: Arc<ControllerMetrics>, watches: Arc<IndexMetrics>) {
    let exceptions: Api<DeserializeGuard<AgentException>> = Api::all(client.clone());
    let exceptions = retried(watcher(exceptions, config()), "agentexceptions", &watches);
    let agents = config().labels(AGENT_LABEL).fields("status.phase!=Succeeded,status.phase!=Failed");
    let pods: Api<Lean<Pod>> = Api::all(of_metadata(&client));
    let events = retried(watcher(pods, agents), "pods", &watches);
    let mut deliveries = pin!(select(exceptions.map(Delivery::Exception), events.map(Delivery::Pod)));

    let mut index = Index::new(ReservedAudiences::default());
    let (mut list, mut pods, mut listed) = (List::default(), Pods::default(), false);
    let mut pause = LONGEST;
    loop {
        match timeout(pause, deliveries.next()).await {
            Ok(None) => return,
            Ok(Some(Delivery::Exception(event))) => {
                listed |= matches!(event, Event::InitDone);
                list.take(&mut index, Ok(event));
            }
            Ok(Some(Delivery::Pod(event))) => pods.take(event),
            Err(_) => {}
        }
        // Before both lists are whole, an exception may not be known yet.
        if !listed || !pods.complete {
            continue;
        }
        let (snapshot, now) = (index.snapshot(), clock::now());
        let exceptions = &snapshot.exceptions;
        report(exceptions, now, &metrics);
        pause = until(exceptions.next_end(now), now);
        for (pod, mark) in pods.wrong(exceptions, now) {
            match write(&client, &pod, pods.known.get(&pod), mark.as_deref(), &metrics).await {
                Ok(()) => {
                    if let Some(known) = pods.known.get_mut(&pod) {
                        known.mark = mark;
                    }
                }
                Err(error) => {
                    tracing::warn!(namespace = pod.0, name = pod.1, %error, "the annotation is refused; it will be tried again");
                    pause = pause.min(AGAIN);
                }
            }
        }
    }
}

fn report(exceptions: &Exceptions, now: Timestamp, metrics: &ControllerMetrics) {
    let Census { in_force, expired, invalid } = exceptions.census(now);
    for (state, count) in [("in_force", in_force), ("expired", expired), ("invalid", invalid)] {
        metrics.exceptions(state, count);
    }
    metrics.next_exception_ends(exceptions.next_end(now));
}

/// The time to the next look, if nothing happens before.
fn until(end: Option<Timestamp>, now: Timestamp) -> Duration {
    let left = end.and_then(|end| Duration::try_from(end.duration_since(now)).ok());
    left.unwrap_or(LONGEST).min(LONGEST)
}

/// Writes one pod's annotation. The uid keeps it from landing on a successor; one that is gone is done.
async fn write(
    client: &Client,
    (namespace, name): &PodName,
    known: Option<&AgentPod>,
    mark: Option<&str>,
    metrics: &ControllerMetrics,
) -> Result<(), kube::Error> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let uid = known.and_then(|pod| pod.uid.as_deref());
    let patch =
        Patch::Merge(json!({"metadata": {"uid": uid, "annotations": {INTERACTIVE_ANNOTATION: mark}}}));
    let parameters = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    metrics.wrote("patch", "pods");
    match pods.patch_metadata(name, &parameters, &patch).await {
        Ok(_) => {
            tracing::info!(namespace, name, exception = mark, "who may enter the pod has changed");
            Ok(())
        }
        Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::Observed;

    fn pod(name: &str, agent: &str, mark: Option<&str>) -> Lean<Pod> {
        serde_json::from_value(json!({"metadata": {"name": name, "namespace": "ns", "uid": name,
            "labels": {AGENT_LABEL: agent}, "annotations": {INTERACTIVE_ANNOTATION: mark.unwrap_or_default()}}}))
        .map(|mut pod: Lean<Pod>| {
            if mark.is_none() {
                pod.metadata.annotations = None;
            }
            pod
        })
        .unwrap()
    }

    fn end() -> Timestamp {
        "2027-01-15T00:00:00Z".parse().unwrap()
    }

    fn exceptions() -> Arc<Exceptions> {
        let mut index = Index::new(ReservedAudiences::default());
        let object = json!({"apiVersion": "deputy.dev/v1alpha1", "kind": "AgentException", "metadata": {"name": "e"},
            "spec": {"agentRef": {"namespace": "ns", "name": "a"}, "rules": ["AI501"], "effect": "Allow", "reason": "r",
                     "expirationTime": "2027-01-15T00:00:00Z"}});
        index.apply_exception(Observed::Object(serde_json::from_value(object).unwrap()));
        Arc::clone(&index.snapshot().exceptions)
    }

    #[test]
    fn marks_follow_the_exceptions() {
        let before = end() - k8s_openapi::jiff::SignedDuration::from_secs(1);
        let mut pods = Pods::default();
        for event in [
            Event::Init,
            Event::InitApply(pod("new", "a", None)),
            Event::InitApply(pod("marked", "a", Some("e"))),
            Event::InitApply(pod("former", "a", Some("another"))),
            Event::InitApply(pod("other", "b", Some("e"))),
            Event::InitApply(pod("plain", "b", None)),
            Event::InitDone,
        ] {
            pods.take(event);
        }
        let wrong = |pods: &Pods, now| -> Vec<(String, Option<String>)> {
            pods.wrong(&exceptions(), now).into_iter().map(|((_, name), mark)| (name, mark)).collect()
        };
        let e = || Some("e".to_owned());
        assert_eq!(
            wrong(&pods, before),
            [("former".to_owned(), e()), ("new".to_owned(), e()), ("other".to_owned(), None)]
        );
        let over = ["former", "marked", "other"].map(|name| (name.to_owned(), None));
        assert_eq!(wrong(&pods, end()), over);
        for name in ["former", "new"] {
            pods.take(Event::Apply(pod(name, "a", Some("e"))));
        }
        pods.take(Event::Delete(pod("other", "b", None)));
        assert_eq!(wrong(&pods, before), []);
        // A later list holds less than there was.
        for event in [Event::Init, Event::InitApply(pod("new", "a", None)), Event::InitDone] {
            pods.take(event);
        }
        assert_eq!(wrong(&pods, before), [("new".to_owned(), e())]);
    }

    #[test]
    fn the_end_of_an_exception_is_looked_at_when_it_comes() {
        let seconds = |s| k8s_openapi::jiff::SignedDuration::from_secs(s);
        assert_eq!(until(Some(end()), end() - seconds(7)), Duration::from_secs(7));
        assert_eq!(until(Some(end()), end() - seconds(7000)), LONGEST);
        assert_eq!(until(None, end()), LONGEST);
    }
}
