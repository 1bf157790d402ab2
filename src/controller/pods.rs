//! How many pods run as each agent, counted from a metadata-only watch of labelled pods.

use std::collections::{BTreeMap, HashMap, HashSet};

/// An agent by namespace and name.
pub(super) type Agent = (String, String);

/// The active pods of every agent.
#[derive(Debug, Default)]
pub(super) struct Pods {
    /// Names of the pods, and whether they wait for a suspension to end.
    by_agent: HashMap<Agent, BTreeMap<String, bool>>,
    agent_of: HashMap<Agent, String>,
}

impl Pods {
    /// How many pods of `agent` are active and do not wait.
    pub(super) fn active(&self, agent: &Agent) -> usize {
        self.by_agent.get(agent).map_or(0, |pods| pods.values().filter(|gated| !**gated).count())
    }

    /// Names of the pods of `agent` that wait for its suspension to end.
    pub(super) fn gated(&self, agent: &Agent) -> Vec<String> {
        let pods = self.by_agent.get(agent).into_iter().flatten();
        pods.filter(|(_, gated)| **gated).map(|(name, _)| name.clone()).collect()
    }

    /// Pod `name` is active, labelled for `agent`, and waits if it is `gated`; returns the agents whose count changed.
    pub(super) fn put(&mut self, namespace: &str, name: &str, agent: &str, gated: bool) -> Vec<Agent> {
        let pod = (namespace.to_owned(), name.to_owned());
        if self.agent_of.get(&pod).is_some_and(|known| known == agent) {
            let agent = (pod.0, agent.to_owned());
            let before = self.by_agent.entry(agent.clone()).or_default().insert(pod.1, gated);
            return if before == Some(gated) { vec![] } else { vec![agent] };
        }
        let mut changed = self.remove(namespace, name);
        let agent = (namespace.to_owned(), agent.to_owned());
        self.agent_of.insert((namespace.to_owned(), name.to_owned()), agent.1.clone());
        self.by_agent.entry(agent.clone()).or_default().insert(name.to_owned(), gated);
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

    #[test]
    fn counts_follow_the_pods() {
        let mut pods = Pods::default();
        assert_eq!(pods.put("ns", "p1", "a", false), [agent("a")]);
        assert_eq!(pods.put("ns", "p1", "a", false), []);
        pods.put("ns", "p2", "a", false);
        pods.put("other", "p1", "a", false);
        assert_eq!((pods.active(&agent("a")), pods.active(&agent("b"))), (2, 0));
        assert_eq!(pods.put("ns", "p2", "b", false), [agent("a"), agent("b")]);
        assert_eq!((pods.active(&agent("a")), pods.active(&agent("b"))), (1, 1));
        assert_eq!(pods.remove("ns", "p1"), [agent("a")]);
        assert_eq!(pods.remove("ns", "p1"), []);
        assert_eq!(pods.active(&agent("a")), 0);
    }

    #[test]
    fn a_pod_that_waits_is_none_that_is_active() {
        let mut pods = Pods::default();
        pods.put("ns", "p1", "a", true);
        pods.put("ns", "p2", "a", false);
        assert_eq!((pods.active(&agent("a")), pods.gated(&agent("a"))), (1, vec!["p1".to_owned()]));
        assert_eq!(pods.put("ns", "p1", "a", false), [agent("a")]);
        assert_eq!((pods.active(&agent("a")), pods.gated(&agent("a"))), (2, vec![]));
    }

    #[test]
    fn a_fresh_list_forgets_what_it_does_not_hold() {
        let mut pods = Pods::default();
        pods.put("ns", "p1", "a", false);
        pods.put("ns", "p2", "a", false);
        let listed = [("ns".to_owned(), "p2".to_owned())].into();
        assert_eq!(pods.retain(&listed), [agent("a")]);
        assert_eq!(pods.active(&agent("a")), 1);
    }
}
