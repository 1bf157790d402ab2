//! Agents' pods that live.

use crate::api::{AGENT_LABEL, lean::Lean};
use k8s_openapi::{api::core::v1::Pod, jiff::Timestamp};
use kube::ResourceExt as _;
use std::{collections::HashMap, sync::Arc};

/// Live pods by uid.
pub(super) type LivePods = HashMap<Arc<str>, LivePod>;

/// A pod of an agent's that has not ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LivePod {
    /// Its name.
    pub name: Arc<str>,
    /// When it has to be gone, once somebody asked for its deletion.
    pub ends: Option<Timestamp>,
}

impl LivePod {
    /// Whether it lives at `now`. What is past its end may run on where its node cannot be reached, and is not the agent
    /// any more.
    pub fn lives(&self, now: Timestamp) -> bool {
        self.ends.is_none_or(|ends| now < ends)
    }
}

/// Namespace, uid and pod, if it is an agent's. Pods that have ended by themselves are not watched.
pub(super) fn kept(pod: &Lean<Pod>) -> Option<(String, Arc<str>, LivePod)> {
    pod.labels().contains_key(AGENT_LABEL).then_some(())?;
    let ends = pod.metadata.deletion_timestamp.as_ref().map(|time| time.0);
    let live = LivePod { name: pod.metadata.name.as_deref()?.into(), ends };
    Some((pod.metadata.namespace.clone()?, pod.metadata.uid.as_deref()?.into(), live))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::{Declarable, Index};
    use serde_json::{Value, json};

    fn pod(name: &str, uid: &str, labels: Value, deleted: Option<&str>) -> Lean<Pod> {
        let metadata = json!({"name": name, "namespace": "ns", "uid": uid, "labels": labels, "deletionTimestamp": deleted});
        serde_json::from_value(json!({"metadata": metadata})).unwrap()
    }

    #[test]
    fn an_agents_pod_lives_until_it_has_to_be_gone() {
        let agent = json!({"deputy.dev/agent": "a"});
        let mut index = Index::new(Declarable::default());
        index.apply_pod(&pod("p", "1", agent.clone(), None));
        index.apply_pod(&pod("plain", "2", json!({"app": "x"}), None));
        let world = index.snapshot();
        assert!(world.pod("ns", "1").is_some_and(|pod| pod.lives(Timestamp::MAX)));
        assert_eq!((world.pod("ns", "2"), world.pod("other", "1")), (None, None));

        index.apply_pod(&pod("p", "1", agent.clone(), Some("2026-01-01T00:00:30Z")));
        let ends: Timestamp = "2026-01-01T00:00:30Z".parse().unwrap();
        let world = index.snapshot();
        let ending = world.pod("ns", "1").unwrap();
        assert!(ending.lives(ends - k8s_openapi::jiff::SignedDuration::from_secs(1)) && !ending.lives(ends));

        // A successor of the same name is another pod.
        index.delete_pod("ns", "p");
        index.apply_pod(&pod("p", "3", agent, None));
        let world = index.snapshot();
        assert!(world.pod("ns", "1").is_none() && world.pod("ns", "3").is_some());
        index.reset_pods(&[]);
        assert_eq!(index.snapshot().pod("ns", "3"), None);
    }
}
