//! What the platform team lets pass, where, and until when.

use super::Observed;
use crate::api::v1alpha1::{AgentException, ExceptedRule, ExceptionEffect, ExceptionTarget};
use k8s_openapi::jiff::Timestamp;
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

/// An exception that can be read and is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exception {
    /// Name of the object.
    pub name: String,
    /// Namespace of the agent.
    pub namespace: String,
    /// Name of the agent.
    pub agent: String,
    /// The rules, or all.
    pub rules: Vec<ExceptedRule>,
    /// What it does.
    pub effect: ExceptionEffect,
    /// The one container or volume; `None` stands for the whole pod.
    pub target: Option<NamedTarget>,
    /// Why, in the platform team's words.
    pub reason: String,
    /// When it ends.
    pub expiration: Timestamp,
}

/// A container or a volume by its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NamedTarget {
    /// A container of any of the pod's lists.
    Container(String),
    /// A volume.
    Volume(String),
}

impl Exception {
    /// `object`, if it is an exception. What the CRD's schema states is checked again: it may have been stored under an
    /// older one.
    fn validate(object: AgentException) -> Option<Self> {
        let AgentException { metadata, spec } = object;
        let target = match spec.target {
            None => None,
            Some(ExceptionTarget { container_name: Some(name), volume_name: None }) => {
                Some(NamedTarget::Container(name))
            }
            Some(ExceptionTarget { container_name: None, volume_name: Some(name) }) => {
                Some(NamedTarget::Volume(name))
            }
            Some(_) => return None,
        };
        if spec.effect == ExceptionEffect::Allow {
            let [rule] = spec.rules[..] else { return None };
            let is_of_the_pod = rule == ExceptedRule::AI501;
            if rule == ExceptedRule::All || target.is_some() == is_of_the_pod {
                return None;
            }
        }
        Some(Self {
            name: metadata.name.unwrap_or_default(),
            namespace: spec.agent_ref.namespace,
            agent: spec.agent_ref.name,
            rules: spec.rules,
            effect: spec.effect,
            target,
            reason: spec.reason,
            expiration: spec.expiration_time.0,
        })
    }

    /// Whether it is in force at `now`.
    pub fn holds_at(&self, now: Timestamp) -> bool {
        now < self.expiration
    }

    /// Whether it is about `rule`.
    pub fn is_about(&self, rule: &str) -> bool {
        self.rules.iter().any(|own| *own == ExceptedRule::All || own.as_str() == rule)
    }
}

/// How many exceptions there are, by what has become of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// In force.
    pub in_force: usize,
    /// Over.
    pub expired: usize,
    /// Without effect, for what is wrong with them.
    pub invalid: usize,
}

/// All exceptions.
#[derive(Clone, Debug, Default)]
pub struct Exceptions {
    /// By the object's name; `None` for one that lets nothing pass.
    all: BTreeMap<String, Option<Arc<Exception>>>,
    /// By namespace and agent, in the order of their names.
    of_agents: HashMap<String, HashMap<String, Vec<Arc<Exception>>>>,
}

impl Exceptions {
    /// The exceptions of an agent, those that are over included.
    pub fn of(&self, namespace: &str, agent: &str) -> &[Arc<Exception>] {
        self.of_agents.get(namespace).and_then(|agents| agents.get(agent)).map_or(&[], Vec::as_slice)
    }

    /// The exception that lets people into the pods of an agent at `now` (AI501), if there is one.
    pub fn interactive(&self, namespace: &str, agent: &str, now: Timestamp) -> Option<&Exception> {
        self.of(namespace, agent).iter().map(Arc::as_ref).find(|exception| {
            exception.effect == ExceptionEffect::Allow
                && exception.rules == [ExceptedRule::AI501]
                && exception.holds_at(now)
        })
    }

    /// When the next of those in force at `now` ends.
    pub fn next_end(&self, now: Timestamp) -> Option<Timestamp> {
        self.valid().filter(|exception| exception.holds_at(now)).map(|exception| exception.expiration).min()
    }

    /// How many there are.
    pub fn census(&self, now: Timestamp) -> Census {
        let in_force = self.valid().filter(|exception| exception.holds_at(now)).count();
        let valid = self.valid().count();
        Census { in_force, expired: valid - in_force, invalid: self.all.len() - valid }
    }

    fn valid(&self) -> impl Iterator<Item = &Arc<Exception>> {
        self.all.values().flatten()
    }

    pub(super) fn apply(&mut self, observed: Observed<AgentException>) {
        let (name, exception) = read(observed);
        self.all.insert(name, exception);
        self.arrange();
    }

    pub(super) fn delete(&mut self, name: &str) {
        self.all.remove(name);
        self.arrange();
    }

    pub(super) fn reset(&mut self, all: Vec<Observed<AgentException>>) {
        self.all = all.into_iter().map(read).collect();
        self.arrange();
    }

    fn arrange(&mut self) {
        let mut of_agents: HashMap<String, HashMap<String, Vec<Arc<Exception>>>> = HashMap::new();
        for exception in self.valid() {
            let agents = of_agents.entry(exception.namespace.clone()).or_default();
            agents.entry(exception.agent.clone()).or_default().push(Arc::clone(exception));
        }
        self.of_agents = of_agents;
    }
}

/// Name and exception. One that is invalid or cannot be read lets nothing pass.
fn read(observed: Observed<AgentException>) -> (String, Option<Arc<Exception>>) {
    match observed {
        Observed::Object(object) => {
            let name = object.metadata.name.clone().unwrap_or_default();
            (name, Exception::validate(*object).map(Arc::new))
        }
        Observed::Unreadable { name, .. } => (name, None),
    }
}
