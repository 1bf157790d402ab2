//! The verdict on a pod as it stands.

use super::{
    Action, Finding, Malformed, Settings, checks,
    checks::{identity::Bearer, secrets::Holding},
    exceptions::{self, Used},
    facts::{List, PodFacts},
    rule::AI301,
};
use crate::index::{Identity, Snapshot};
use k8s_openapi::jiff::Timestamp;
use serde_json::Value;

/// What is being admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// New debug containers in a running pod (UPDATE of `pods/ephemeralcontainers`). Only they are judged: the rest of
    /// the pod is immutable and was judged when it was created.
    DebugContainers,
    /// New debug containers in a pod that is no agent's: judged by what they read.
    ForeignDebugContainers,
    /// A pod being created that is no agent's and need not be: judged by the Secrets it names.
    ForeignPod,
    /// A pod being created.
    Pod,
}

/// What the rules say.
#[derive(Debug)]
pub struct Admission<'a> {
    /// Everything that is wrong, in the order of the pod's families of rules.
    pub findings: Vec<Finding>,
    /// The exceptions without which there would be more.
    pub exceptions: Vec<Used<'a>>,
    /// The agent, if the pod is one that may run.
    pub identity: Option<&'a Identity>,
    /// Whether the agent's identity, its account or its claim may be on its way: decide again on a newer snapshot before refusing.
    pub awaited: bool,
}

impl Admission<'_> {
    /// Whether the request is refused.
    pub fn is_denied(&self) -> bool {
        self.findings.iter().any(|finding| finding.action == Action::Deny)
    }
}

/// Judges `pod` of `namespace` at `now`. The caller decides that the pod is within reach: one that names no agent is refused
/// for that.
///
/// # Errors
/// When `pod` is not shaped like a pod.
pub fn admit<'a>(
    pod: &Value,
    namespace: &str,
    subject: Subject,
    snapshot: &'a Snapshot,
    now: Timestamp,
    settings: &Settings,
) -> Result<Admission<'a>, Malformed> {
    let facts = PodFacts::read(pod)?;
    let mut findings = vec![];
    let mut claim_awaited = false;
    let bearer = match subject {
        Subject::Pod => {
            let bearer = checks::identity::check(&facts, namespace, snapshot, &mut findings);
            let identity = bearer.identity();
            // What Kubernetes gives to the pod of nobody is not its author's doing, and goes once it is an agent's.
            if !matches!(bearer, Bearer::Nobody) {
                checks::tokens::check(pod, &facts, identity, settings, &mut findings);
            }
            checks::exposure::check(&facts, settings, &mut findings);
            let holding = Holding { identity, snapshot, now };
            claim_awaited = checks::secrets::check(&facts, holding, settings, &mut findings);
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
        Subject::ForeignPod => {
            checks::secrets::check_claimed(facts.secrets(), namespace, snapshot, &mut findings);
            Bearer::Nobody
        }
        Subject::ForeignDebugContainers => {
            let debug = facts.containers.iter().filter(|c| c.list == List::Ephemeral);
            let secrets = debug.flat_map(|c| c.env_secrets().map(|(path, used)| (path, used.name)));
            checks::secrets::check_claimed(secrets, namespace, snapshot, &mut findings);
            Bearer::Nobody
        }
    };
    // Nothing else may be wrong: waiting would not put that right.
    let claim_awaited = claim_awaited && findings.iter().all(|finding| *finding.rule == AI301);
    let awaited = claim_awaited || matches!(bearer, Bearer::Awaited);
    let exceptions = match checks::identity::one_agent(&facts) {
        Ok(agent) => exceptions::apply(&mut findings, &facts, snapshot.exceptions.of(namespace, agent), now),
        // Whose exceptions these would be is not known, and the pod is refused for that.
        Err(_) => vec![],
    };
    Ok(Admission { findings, exceptions, identity: bearer.identity(), awaited })
}
