//! How many pods run as each agent, counted from a metadata-only watch of labelled pods.

use std::collections::{BTreeMap, HashMap, HashSet};

/// An agent by namespace and name.
pub(super) type Agent = (String, String);

/// What is known of an active pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) uid: String,
    /// The identity it was admitted for.
    pub(super) identity_uid: Option<String>,
    /// Whether it waits for a suspension to end.
    pub(super) gated: bool,
}

/// The active pods of every agent.
#[derive(Debug, Default)]
pub(super) struct Pods {
    /// By name.
    by_agent: HashMap<Agent, BTreeMap<String, Known>>,
    agent_of: HashMap<Agent, String>,
}

impl Pods {
    /// How many pods of `agent` are active and do not wait.
    pub(super) fn active(&self, agent: &Agent) -> usize {
        self.by_agent.get(agent).map_or(0, |pods| pods.values().filter(|pod| !pod.gated).count())
    }

    /// Uids of the pods of `agent` that are active and do not wait.
    pub(super) fn running(&self, agent: &Agent) -> impl Iterator<Item = &str> {
        let pods = self.by_agent.get(agent).into_iter().flat_map(BTreeMap::values);
        pods.filter(|pod| !pod.gated).map(|pod| pod.uid.as_str())
    }

    /// Whether a pod of `agent` was admitted for another identity than the one of uid `living`.
    pub(super) fn has_predecessors(&self, agent: &Agent, living: &str) -> bool {
        let mut pods = self.by_agent.get(agent).into_iter().flat_map(BTreeMap::values);
        pods.any(|pod| pod.identity_uid.as_deref().is_some_and(|uid| uid != living))
    }

    /// Names of the pods of `agent` that wait for its suspension to end.
    pub(super) fn gated(&self, agent: &Agent) -> Vec<String> {
        let pods = self.by_agent.get(agent).into_iter().flatten();
        pods.filter(|(_, pod)| pod.gated).map(|(name, _)| name.clone()).collect()
    }

    /// Pod `name` is active and labelled for `agent`; returns the agents of whose pods something changed.
    pub(super) fn put(&mut self, namespace: &str, name: &str, agent: &str, now: Known) -> Vec<Agent> {
        let pod = (namespace.to_owned(), name.to_owned());
        if self.agent_of.get(&pod).is_some_and(|known| known == agent) {
            let agent = (pod.0, agent.to_owned());
            let pods = self.by_agent.entry(agent.clone()).or_default();
            let is_news = pods.get(name) != Some(&now);
            pods.insert(pod.1, now);
            return if is_news { vec![agent] } else { vec![] };
        }
        let mut changed = self.remove(namespace, name);
        let agent = (namespace.to_owned(), agent.to_owned());
        self.agent_of.insert((namespace.to_owned(), name.to_owned()), agent.1.clone());
        self.by_agent.entry(agent.clone()).or_default().insert(name.to_owned(), now);
        changed.push(agent);
        changed
    }

    /// Pod `name` has ended or is gone; returns the agent whose count changed.
    pub(super) fn remove(&mut self, namespace: &str, name: &str) -> Vec<Agent> {
        let Some(agent) = self.agent_of.remove(&(namespace.to_owned(), name.to_owned())) else {
            return vec![];
        };
        let agent = (namespace.to_owned(), agent);
        if let Some(pods) = self.by_agent.get_mut(&agent) {
            pods.remove(name);
            if pods.is_empty() {
                self.by_agent.remove(&agent);
            }
        }
        vec![agent]
    }

    /// Forgets everything but the pods in `listed`; returns the agents whose count changed.
    pub(super) fn retain(&mut self, listed: &HashSet<(String, String)>) -> Vec<Agent> {
        let gone: Vec<_> = self.agent_of.keys().filter(|pod| !listed.contains(pod)).cloned().collect();
        gone.iter().flat_map(|(namespace, name)| self.remove(namespace, name)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agent(name: &str) -> Agent {
        ("ns".into(), name.into())
    }

    fn waits(gated: bool) -> Known {
        Known { gated, ..Known::default() }
    }

    #[test]
    fn counts_follow_the_pods() {
        let mut pods = Pods::default();
        assert_eq!(pods.put("ns", "p1", "a", waits(false)), [agent("a")]);
        assert_eq!(pods.put("ns", "p1", "a", waits(false)), []);
        pods.put("ns", "p2", "a", waits(false));
        pods.put("other", "p1", "a", waits(false));
        assert_eq!((pods.active(&agent("a")), pods.active(&agent("b"))), (2, 0));
        assert_eq!(pods.put("ns", "p2", "b", waits(false)), [agent("a"), agent("b")]);
        assert_eq!((pods.active(&agent("a")), pods.active(&agent("b"))), (1, 1));
        assert_eq!(pods.remove("ns", "p1"), [agent("a")]);
        assert_eq!(pods.remove("ns", "p1"), []);
        assert_eq!(pods.active(&agent("a")), 0);
    }

    #[test]
    fn a_pod_that_waits_is_none_that_is_active() {
        let mut pods = Pods::default();
        pods.put("ns", "p1", "a", waits(true));
        pods.put("ns", "p2", "a", waits(false));
        assert_eq!((pods.active(&agent("a")), pods.gated(&agent("a"))), (1, vec!["p1".to_owned()]));
        assert_eq!(pods.put("ns", "p1", "a", waits(false)), [agent("a")]);
        assert_eq!((pods.active(&agent("a")), pods.gated(&agent("a"))), (2, vec![]));
    }

    #[test]
    fn a_fresh_list_forgets_what_it_does_not_hold() {
        let mut pods = Pods::default();
        pods.put("ns", "p1", "a", waits(false));
        pods.put("ns", "p2", "a", waits(false));
        let listed = [("ns".to_owned(), "p2".to_owned())].into();
        assert_eq!(pods.retain(&listed), [agent("a")]);
        assert_eq!(pods.active(&agent("a")), 1);
    }

    #[test]
    fn a_pod_of_the_same_name_is_another_if_its_uid_is() {
        let mut pods = Pods::default();
        let with = |uid: &str, identity_uid: &str| Known {
            uid: uid.into(),
            identity_uid: Some(identity_uid.into()),
            gated: false,
        };
        pods.put("ns", "p1", "a", with("1", "old"));
        assert!(pods.has_predecessors(&agent("a"), "new"));
        assert_eq!(pods.put("ns", "p1", "a", with("2", "new")), [agent("a")]);
        assert_eq!(pods.put("ns", "p1", "a", with("2", "new")), []);
        assert!(pods.running(&agent("a")).eq(["2"]));
        assert!(!pods.has_predecessors(&agent("a"), "new"));
    }
}
