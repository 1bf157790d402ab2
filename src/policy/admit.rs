//! The verdict on a pod as it stands.

use super::{
    Action, Finding, Malformed, Settings, checks,
    checks::identity::Bearer,
    facts::{List, PodFacts},
};
use crate::index::{Identity, Snapshot};
use serde_json::Value;

/// What is being admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// New debug containers in a running pod (UPDATE of `pods/ephemeralcontainers`). Only they are judged: the rest of
    /// the pod is immutable and was judged when it was created.
    DebugContainers,
    /// A pod being created.
    Pod,
}

/// What the rules say.
#[derive(Debug)]
pub struct Admission<'a> {
    /// Everything that is wrong, in the order of the pod's families of rules.
    pub findings: Vec<Finding>,
    /// The agent, if the pod is one that may run.
    pub identity: Option<&'a Identity>,
    /// Whether the agent's identity or account may be on its way: decide again on a newer snapshot before refusing.
    pub awaited: bool,
}

impl Admission<'_> {
    /// Whether the request is refused.
    pub fn is_denied(&self) -> bool {
        self.findings.iter().any(|finding| finding.action == Action::Deny)
    }
}

/// Judges `pod` of `namespace`. The caller decides that the pod is within reach: one that names no agent is refused
/// for that.
///
/// # Errors
/// When `pod` is not shaped like a pod.
pub fn admit<'a>(
    pod: &Value,
    namespace: &str,
    subject: Subject,
    snapshot: &'a Snapshot,
    settings: &Settings,
) -> Result<Admission<'a>, Malformed> {
    let facts = PodFacts::read(pod)?;
    let mut findings = vec![];
    let bearer = match subject {
        Subject::Pod => {
            let bearer = checks::identity::check(&facts, namespace, snapshot, &mut findings);
            let identity = bearer.identity();
            // What Kubernetes gives to the pod of nobody is not its author's doing, and goes once it is an agent's.
            if !matches!(bearer, Bearer::Nobody) {
                checks::tokens::check(pod, &facts, identity, settings, &mut findings);
            }
            checks::exposure::check(&facts, settings, &mut findings);
            checks::secrets::check(&facts, identity, settings, &mut findings);
            checks::literals::check(pod, settings, &mut findings);
            checks::sources::check(&facts, settings, &mut findings);
            checks::host::check(&facts, &mut findings);
            bearer
        }
        Subject::DebugContainers => {
            checks::exposure::check_debug_containers(&facts, &mut findings);
            for container in facts.containers.iter().filter(|c| c.list == List::Ephemeral) {
                checks::sources::check_env(container, settings, &mut findings);
                checks::host::check_container(container, &mut findings);
            }
            checks::literals::check_debug_containers(pod, settings, &mut findings);
            Bearer::Nobody
        }
    };
    Ok(Admission { findings, identity: bearer.identity(), awaited: matches!(bearer, Bearer::Awaited) })
}
