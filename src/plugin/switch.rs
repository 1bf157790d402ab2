//! Suspensions as the plugin sees them: which are whose, and which still stop an agent.

use crate::{
    api::v1alpha1::AgentSuspension,
    index::{Observed, Suspension},
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{Resource as _, ResourceExt as _, core::DeserializeGuard};
use std::fmt;

/// Whom to switch: an agent, or every agent of a namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The namespace.
    pub namespace: String,
    /// The agent; `None` stands for every agent of the namespace.
    pub agent: Option<String>,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.agent {
            Some(agent) => write!(f, "agent {}/{agent}", self.namespace),
            None => write!(f, "every agent of namespace {}", self.namespace),
        }
    }
}

/// Whose suspensions are to go.
#[derive(Clone, Copy, Debug)]
pub enum Whose<'a> {
    /// Those that this user asked for.
    Own(&'a str),
    /// Everybody's.
    Anyones,
}

/// A suspension, and what the index has no use for.
#[derive(Clone, Debug)]
pub struct Switch {
    /// Its namespace.
    pub namespace: String,
    /// What it stops.
    pub suspension: Suspension,
    /// Its uid, also of one that cannot be read.
    pub uid: Option<String>,
    /// Since when.
    pub since: Option<Time>,
    /// Whether its content could be read.
    pub readable: bool,
    /// Whether it is on its way out.
    pub deleting: bool,
}

impl From<DeserializeGuard<AgentSuspension>> for Switch {
    fn from(guard: DeserializeGuard<AgentSuspension>) -> Self {
        let (uid, since, readable) = (guard.uid(), guard.creation_timestamp(), guard.0.is_ok());
        let deleting = guard.meta().deletion_timestamp.is_some();
        let (namespace, suspension) = Suspension::read(Observed::from(guard));
        Self { namespace, suspension, uid, since, readable, deleting }
    }
}

impl Switch {
    /// Whether it stops the target: for a whole namespace, as a whole.
    pub fn stops(&self, target: &Target) -> bool {
        self.namespace == target.namespace
            && match &target.agent {
                Some(agent) => self.suspension.stops(agent),
                None => self.suspension.agent.is_none(),
            }
    }

    /// Whether `resume` of the target deletes it. Never one that stops more than the target, and never one whose content
    /// is not known.
    pub fn goes_with(&self, target: &Target, whose: Whose<'_>) -> bool {
        let is_whose = match whose {
            Whose::Own(user) => self.suspension.requested_by.as_deref() == Some(user),
            Whose::Anyones => true,
        };
        self.readable
            && is_whose
            && self.namespace == target.namespace
            && self.suspension.agent == target.agent
    }

    /// Whether it is `requester`'s own of exactly this target.
    pub fn is_of(&self, target: &Target, requester: &str) -> bool {
        self.goes_with(target, Whose::Own(requester))
    }

    /// By whom, since when and why, in words.
    pub fn account(&self) -> String {
        let Suspension { name, reason, requested_by, .. } = &self.suspension;
        let by = requested_by.as_ref().map_or_else(|| "by nobody named".to_owned(), |by| format!("by {by}"));
        let since = self.since.as_ref().map_or_else(String::new, |since| format!(" since {}", since.0));
        format!("AgentSuspension {name:?} {by}{since}: {reason}")
    }

    /// What a person does to a target that this one still stops.
    pub fn remedy(&self, target: &Target) -> String {
        let (namespace, name) = (&self.namespace, &self.suspension.name);
        match (&self.suspension.agent, &target.agent) {
            _ if !self.readable => format!("kubectl -n {namespace} delete agentsuspension {name}"),
            (Some(agent), _) => format!("kubectl deputy resume {agent} -n {namespace} --by-anyone"),
            (None, None) => format!("kubectl deputy resume --all -n {namespace} --by-anyone"),
            (None, Some(_)) => {
                format!("kubectl deputy resume --all -n {namespace}, with --by-anyone if it is not your own")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn switch(name: &str, spec: &Value) -> Switch {
        let object: DeserializeGuard<AgentSuspension> = serde_json::from_value(json!({
            "apiVersion": "deputy.dev/v1alpha1", "kind": "AgentSuspension", "spec": spec,
            "metadata": {"name": name, "namespace": "ns", "uid": name, "creationTimestamp": "2026-01-02T03:04:05Z"},
        }))
        .unwrap();
        object.into()
    }

    fn target(namespace: &str, agent: Option<&str>) -> Target {
        Target { namespace: namespace.to_owned(), agent: agent.map(str::to_owned) }
    }

    #[test]
    fn resume_takes_away_what_is_ones_own_and_of_the_target_alone() {
        let own = switch("own", &json!({"agentName": "a", "reason": "r", "requestedBy": "dana"}));
        let other = switch("other", &json!({"agentName": "a", "reason": "r", "requestedBy": "kim"}));
        let unnamed = switch("unnamed", &json!({"agentName": "a", "reason": "r"}));
        let wide = switch("wide", &json!({"reason": "r", "requestedBy": "dana"}));
        let unreadable = switch("unreadable", &json!({"reason": 7, "requestedBy": "dana"}));
        let (agent, all) = (target("ns", Some("a")), target("ns", None));
        let dana = Whose::Own("dana");
        let rows = [
            (&own, true, true, true, false),
            (&other, true, false, true, false),
            (&unnamed, true, false, true, false),
            (&wide, true, false, false, true),
            (&unreadable, true, false, false, true),
        ];
        for (switch, stops_agent, own_goes, anyones_goes, stops_all) in rows {
            let name = &switch.suspension.name;
            assert_eq!(switch.stops(&agent), stops_agent, "{name}");
            assert_eq!(switch.goes_with(&agent, dana), own_goes, "{name}");
            assert_eq!(switch.goes_with(&agent, Whose::Anyones), anyones_goes, "{name}");
            assert_eq!(switch.stops(&all), stops_all, "{name}");
            for elsewhere in [target("other", Some("a")), target("other", None)] {
                assert!(!switch.stops(&elsewhere) && !switch.goes_with(&elsewhere, Whose::Anyones), "{name}");
            }
        }
        assert!(!own.stops(&target("ns", Some("b"))));
        assert!(wide.goes_with(&all, dana) && !unreadable.goes_with(&all, Whose::Anyones));
    }

    #[test]
    fn each_that_is_left_names_its_remedy() {
        let agent = target("ns", Some("a"));
        let remedy = |spec: Value| switch("s", &spec).remedy(&agent);
        assert_eq!(
            remedy(json!({"agentName": "a", "reason": "r"})),
            "kubectl deputy resume a -n ns --by-anyone"
        );
        assert!(remedy(json!({"reason": "r"})).starts_with("kubectl deputy resume --all -n ns,"));
        assert_eq!(remedy(json!({"reason": 7})), "kubectl -n ns delete agentsuspension s");
    }

    #[test]
    fn an_account_says_by_whom_since_when_and_why() {
        let said = switch("s", &json!({"reason": "INC-1", "requestedBy": "dana"})).account();
        assert_eq!(said, "AgentSuspension \"s\" by dana since 2026-01-02T03:04:05Z: INC-1");
    }
}
