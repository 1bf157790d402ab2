//! How agents stand, as a table for people and as JSON for scripts.

use super::{Switch, Target, escaped_json, table::aligned};
use crate::api::{
    condition::READY,
    v1alpha1::{AgentIdentity, PodCounts},
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{ResourceExt as _, core::DeserializeGuard};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// One agent.
#[derive(Clone, Debug)]
pub struct Agent {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its identity.
    pub identity: Identity,
    /// The suspensions that stop it; `None` where they are not known.
    pub suspensions: Option<Vec<Switch>>,
}

/// What is known of an agent's identity.
#[derive(Clone, Debug)]
pub enum Identity {
    /// It was read.
    Read(Box<AgentIdentity>),
    /// It is there, and cannot be read: why.
    Unreadable(String),
    /// There is none; a suspension waits for it.
    Absent,
    /// The identities were not to be seen.
    Unknown,
}

/// Agents by namespace and name.
#[derive(Clone, Debug)]
pub struct Report(pub Vec<Agent>);

impl Report {
    /// Brings together what was read; `None` for what could not be. With an `owner`, only that owner's agents, and those
    /// whose owner cannot be read; with a `name`, only agents of that name.
    pub fn new(
        identities: Option<Vec<DeserializeGuard<AgentIdentity>>>,
        switches: Option<&[Switch]>,
        owner: Option<&str>,
        name: Option<&str>,
    ) -> Self {
        let listed = identities.is_some();
        let mut found = BTreeMap::new();
        for guard in identities.into_iter().flatten() {
            let key = (guard.namespace().unwrap_or_default(), guard.name_any());
            let identity = match guard.0 {
                Ok(identity) if owner.is_some_and(|owner| identity.spec.owner != owner) => continue,
                Ok(identity) => Identity::Read(Box::new(identity)),
                Err(invalid) => Identity::Unreadable(invalid.error),
            };
            found.insert(key, identity);
        }
        if owner.is_none() {
            for switch in switches.unwrap_or_default() {
                let Some(agent) = &switch.suspension.agent else { continue };
                let unseen = || if listed { Identity::Absent } else { Identity::Unknown };
                found.entry((switch.namespace.clone(), agent.clone())).or_insert_with(unseen);
            }
        }
        let agents = found.into_iter().filter(|((_, agent), _)| name.is_none_or(|name| name == agent));
        let agents = agents.map(|((namespace, name), identity)| {
            let target = Target { namespace, agent: Some(name.clone()) };
            let suspensions =
                switches.map(|all| all.iter().filter(|switch| switch.stops(&target)).cloned().collect());
            Agent { namespace: target.namespace, name, identity, suspensions }
        });
        Self(agents.collect())
    }

    /// A line for each suspension of each agent; the namespace if `across` namespaces.
    pub fn table(&self, across: bool) -> String {
        let titles =
            ["NAMESPACE", "AGENT", "OWNER", "READY", "REASON", "PODS", "WAITING", "SUSPENDED", "BY", "WHY"];
        let mut rows = vec![titles.map(str::to_owned)];
        for agent in &self.0 {
            let (ready, reason) = agent.readiness();
            let pods = |count: fn(PodCounts) -> i32| agent.pods().map(|pods| count(pods).to_string());
            let or_none = |text: Option<String>| text.unwrap_or_else(|| "<none>".to_owned());
            let row = |since: &str, by: &str, why: &str| {
                [
                    agent.namespace.clone(),
                    agent.name.clone(),
                    or_none(agent.owner().map(str::to_owned)),
                    ready.to_owned(),
                    reason.to_owned(),
                    or_none(pods(|pods| pods.active)),
                    or_none(pods(|pods| pods.gated)),
                    since.to_owned(),
                    by.to_owned(),
                    why.to_owned(),
                ]
            };
            match agent.suspensions.as_deref() {
                None => rows.push(row("unknown", "", "")),
                Some([]) => rows.push(row("no", "", "")),
                Some(suspensions) => rows.extend(suspensions.iter().map(|switch| {
                    let since = or_none(switch.since.as_ref().map(|since| since.0.to_string()));
                    let by = or_none(switch.suspension.requested_by.clone());
                    row(&since, &by, &switch.suspension.reason)
                })),
            }
        }
        aligned(&rows, usize::from(!across))
    }

    /// Everything, for scripts.
    pub fn json(&self) -> Result<String, serde_json::Error> {
        let agents: Vec<_> = self.0.iter().map(Agent::json).collect();
        let text = serde_json::to_string_pretty(&json!({"agents": agents}))?;
        Ok(escaped_json(&text) + "\n")
    }
}

impl Agent {
    fn read(&self) -> Option<&AgentIdentity> {
        match &self.identity {
            Identity::Read(identity) => Some(identity),
            _ => None,
        }
    }

    fn owner(&self) -> Option<&str> {
        self.read().map(|identity| identity.spec.owner.as_str())
    }

    fn pods(&self) -> Option<PodCounts> {
        self.read()?.status.as_ref()?.pods
    }

    fn ready(&self) -> Option<&Condition> {
        self.read()?.status.as_ref()?.conditions.iter().find(|condition| condition.type_ == READY)
    }

    /// Status and reason of the condition `Ready`, or why there is none.
    fn readiness(&self) -> (&str, &str) {
        match &self.identity {
            Identity::Read(_) => {
                self.ready().map_or(("Unknown", "NotReconciled"), |ready| (&ready.status, &ready.reason))
            }
            Identity::Unreadable(_) => ("False", "Unreadable"),
            Identity::Absent => ("False", "NoIdentity"),
            Identity::Unknown => ("Unknown", "NotSeen"),
        }
    }

    fn json(&self) -> Value {
        let (ready, reason) = self.readiness();
        let message = match &self.identity {
            Identity::Unreadable(why) => Some(why.as_str()),
            _ => self.ready().map(|ready| ready.message.as_str()),
        };
        let suspensions = self.suspensions.as_ref().map(|all| {
            let each = all.iter().map(|switch| {
                json!({
                    "name": switch.suspension.name,
                    "wholeNamespace": switch.suspension.agent.is_none(),
                    "since": switch.since,
                    "requestedBy": switch.suspension.requested_by,
                    "reason": switch.suspension.reason,
                    "readable": switch.readable,
                })
            });
            each.collect::<Vec<_>>()
        });
        json!({
            "namespace": self.namespace,
            "name": self.name,
            "owner": self.owner(),
            "ready": ready,
            "reason": reason,
            "message": message,
            "pods": self.pods(),
            "suspended": self.suspensions.as_ref().map(|all| !all.is_empty()),
            "suspensions": suspensions,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::v1alpha1::AgentSuspension;

    fn identity(namespace: &str, name: &str, owner: &Value) -> DeserializeGuard<AgentIdentity> {
        let condition = json!({"type": "Ready", "status": "True", "reason": "AccountReady", "message": "m",
            "lastTransitionTime": "2026-01-02T03:04:05Z"});
        serde_json::from_value(json!({
            "apiVersion": "deputy.dev/v1alpha1", "kind": "AgentIdentity", "spec": {"owner": owner},
            "metadata": {"name": name, "namespace": namespace, "uid": name},
            "status": {"pods": {"active": 2, "gated": 1}, "conditions": [condition]},
        }))
        .unwrap()
    }

    fn switch(namespace: &str, name: &str, agent: Option<&str>, reason: &str) -> Switch {
        let guard: DeserializeGuard<AgentSuspension> = serde_json::from_value(json!({
            "apiVersion": "deputy.dev/v1alpha1", "kind": "AgentSuspension",
            "spec": {"agentName": agent, "reason": reason, "requestedBy": "dana"},
            "metadata": {"name": name, "namespace": namespace, "uid": name, "creationTimestamp": "2026-01-02T03:04:05Z"},
        }))
        .unwrap();
        guard.into()
    }

    fn world() -> (Vec<DeserializeGuard<AgentIdentity>>, Vec<Switch>) {
        let identities = vec![
            identity("two", "b", &json!("kim")),
            identity("one", "a", &json!("dana")),
            identity("one", "torn", &json!(7)),
        ];
        let switches = vec![
            switch("one", "s", Some("a"), "INC-1"),
            switch("one", "wide", None, "INC-2\u{1b}[1m"),
            switch("two", "early", Some("gone"), "r"),
        ];
        (identities, switches)
    }

    #[test]
    fn every_agent_has_its_lines() {
        let (identities, switches) = world();
        let table = Report::new(Some(identities), Some(&switches), None, None).table(true);
        let expected = "\
NAMESPACE   AGENT   OWNER    READY   REASON         PODS     WAITING   SUSPENDED              BY     WHY
one         a       dana     True    AccountReady   2        1         2026-01-02T03:04:05Z   dana   INC-1
one         a       dana     True    AccountReady   2        1         2026-01-02T03:04:05Z   dana   INC-2\\u{1b}[1m
one         torn    <none>   False   Unreadable     <none>   <none>    2026-01-02T03:04:05Z   dana   INC-2\\u{1b}[1m
two         b       kim      True    AccountReady   2        1         no
two         gone    <none>   False   NoIdentity     <none>   <none>    2026-01-02T03:04:05Z   dana   r
";
        assert_eq!(table, expected);
    }

    #[test]
    fn an_owners_agents_are_his_and_those_of_nobody_known() {
        let names = |owner, name| {
            let (identities, switches) = world();
            let report = Report::new(Some(identities), Some(&switches), owner, name);
            report.0.iter().map(|agent| agent.name.clone()).collect::<Vec<_>>()
        };
        assert_eq!(names(Some("kim"), None), ["torn", "b"]);
        assert_eq!(names(Some("Kim"), None), ["torn"]);
        assert_eq!(names(None, Some("b")), ["b"]);
        assert_eq!(names(None, Some("gone")), ["gone"]);
        assert_eq!(names(None, Some("none")), Vec::<String>::new());
    }

    /// What was not to be seen is unknown, and not: not suspended.
    #[test]
    fn what_was_not_seen_is_unknown() {
        let (identities, switches) = world();
        let report = Report::new(Some(identities), None, None, Some("b"));
        assert!(report.table(false).contains("unknown"), "{}", report.table(false));
        let json: Value = serde_json::from_str(&report.json().unwrap()).unwrap();
        assert_eq!(
            (&json["agents"][0]["suspended"], &json["agents"][0]["suspensions"]),
            (&Value::Null, &Value::Null)
        );
        let report = Report::new(None, Some(&switches), None, None);
        assert!(report.table(false).contains("Unknown   NotSeen"), "{}", report.table(false));
    }

    #[test]
    fn json_has_everything() {
        let (identities, switches) = world();
        let text = Report::new(Some(identities), Some(&switches), None, Some("a")).json().unwrap();
        let json: Value = serde_json::from_str(&text).unwrap();
        let suspension = |name: &str, whole: bool, reason: &str| {
            json!({"name": name, "wholeNamespace": whole, "since": "2026-01-02T03:04:05Z", "requestedBy": "dana",
                "reason": reason, "readable": true})
        };
        let expected = json!({"agents": [{"namespace": "one", "name": "a", "owner": "dana", "ready": "True",
            "reason": "AccountReady", "message": "m", "pods": {"active": 2, "gated": 1}, "suspended": true,
            "suspensions": [suspension("s", false, "INC-1"), suspension("wide", true, "INC-2\u{1b}[1m")]}]});
        assert_eq!(json, expected);
    }
}
