//! AI101–AI104, AI108: tokens, and the places where they lie.

use crate::{
    index::Identity,
    policy::{
        Finding, Place, Settings,
        facts::{Container, Mount, PodFacts, TokenProjection, Volume},
        managed::{self, INJECTED_PREFIX},
        mount_path::{self, Relation},
        rule::{AI101, AI102, AI103, AI104, AI108},
    },
};
use serde_json::Value;

/// Checks tokens against the identity; what depends on it is left out when it is not known, since the pod is then
/// refused for that.
pub(in crate::policy) fn check(
    pod: &Value,
    facts: &PodFacts<'_>,
    identity: Option<&Identity>,
    settings: &Settings,
    findings: &mut Vec<Finding>,
) {
    if facts.automount != Some(false) {
        findings.push(Finding::deny(&AI101, "spec.automountServiceAccountToken", "is not false"));
    }
    for volume in &facts.volumes {
        if volume.name.starts_with(INJECTED_PREFIX) {
            let message = format!("is named like the volume Kubernetes injects ({INJECTED_PREFIX}*)");
            findings.push(Finding::deny(&AI108, volume.path(".name"), message));
        }
        findings.extend(identity.and_then(|identity| impostor(pod, volume, identity)));
        for (index, token) in volume.tokens() {
            let at = volume.path(&format!(".projected.sources[{index}].serviceAccountToken"));
            findings.extend(lifetime(token, &at));
            findings.extend(audience(token, identity, settings, &at));
        }
    }
    for container in &facts.containers {
        check_mounts(facts, container, findings);
    }
}

/// A volume with the name of one of ours that is not what the identity declares: mounted at a managed path, it would
/// pass for the agent's tokens.
fn impostor(pod: &Value, volume: &Volume<'_>, identity: &Identity) -> Option<Finding> {
    let volumes = managed::volumes(identity);
    let managed = volumes.iter().find(|managed| managed.name == volume.name)?;
    let message = match managed.desired() {
        Some(desired) if pod["spec"]["volumes"].get(volume.index) == Some(desired) => return None,
        Some(_) => "is Deputy's own volume, and not as AgentIdentity declares it",
        None => "is the name of Deputy's own volume, and AgentIdentity declares nothing for it",
    };
    let message = message.replace("AgentIdentity", &format!("AgentIdentity {:?}", identity.name));
    Some(Finding::deny(&AI108, volume.path(".name"), message))
}

fn lifetime(token: &TokenProjection<'_>, at: &Place) -> Option<Finding> {
    // Absent means 3600, the longest allowed.
    let seconds = token.expiration_seconds.filter(|seconds| !(600..=3600).contains(seconds))?;
    Some(Finding::deny(&AI103, at.below(".expirationSeconds"), format!("is {seconds}")))
}

fn audience(
    token: &TokenProjection<'_>,
    identity: Option<&Identity>,
    settings: &Settings,
    at: &Place,
) -> Option<Finding> {
    let identity = identity?;
    let at = at.below(".audience");
    match token.audience {
        None if identity.kubernetes_api_access => None,
        None => Some(Finding::deny(&AI102, at, "is empty, which means the Kubernetes API")),
        Some(audience) if settings.reserved.contains(audience) => (!identity.kubernetes_api_access)
            .then(|| Finding::deny(&AI102, at, format!("{audience:?} is the Kubernetes API's"))),
        Some(audience) if identity.tokens.iter().any(|declared| declared.audience == audience) => None,
        Some(audience) if settings.allowed_audiences.contains(audience) => None,
        Some(audience) => {
            let message = format!("{audience:?} is not declared by AgentIdentity {:?}", identity.name);
            Some(Finding::deny(&AI104, at, message))
        }
    }
}

/// Nothing but the managed volumes may be mounted at, under or above the managed paths; above, an empty directory may:
/// only the pod itself writes there, and `/run` as one is common.
pub(in crate::policy) fn check_mounts(
    facts: &PodFacts<'_>,
    container: &Container<'_>,
    findings: &mut Vec<Finding>,
) {
    for (index, mount) in container.mounts.iter().enumerate() {
        let counterfeit = [mount_path::SERVICE_ACCOUNT, mount_path::DEPUTY]
            .into_iter()
            .find(|managed| is_counterfeit(facts, mount, managed));
        if let Some(managed) = counterfeit {
            let at = container.path(&format!(".volumeMounts[{index}].mountPath"));
            let message = format!("volume {:?} is mounted over {managed}", mount.volume);
            findings.push(Finding::deny(&AI108, at, message));
        }
    }
}

fn is_counterfeit(facts: &PodFacts<'_>, mount: &Mount<'_>, managed: &str) -> bool {
    match mount_path::relation(mount.path, managed) {
        Relation::Apart => false,
        Relation::Above => !facts.volume(mount.volume).is_some_and(Volume::starts_empty),
        Relation::Inside => !managed::belongs_at(mount.volume, mount.path),
    }
}
