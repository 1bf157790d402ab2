//! AI101–AI104, AI108: tokens, the places where they lie, and what says where the broker is.

use crate::{
    index::Identity,
    policy::{
        Finding, Place, Settings,
        facts::{Container, List, Mount, PodFacts, TokenProjection, Volume},
        managed::{self, INJECTED_PREFIX, TOKENS_VOLUME},
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
    let issuer = settings.issuer.as_deref();
    for volume in &facts.volumes {
        if volume.name.starts_with(INJECTED_PREFIX) {
            let message = format!("is named like the volume Kubernetes injects ({INJECTED_PREFIX}*)");
            findings.push(Finding::deny(&AI108, volume.path(".name"), message));
        }
        let own = identity.map_or(Own::No, |identity| own(pod, volume, identity, issuer));
        match own {
            // As Deputy made it, the broker's token included, which no other volume may have.
            Own::AsDeclared => continue,
            Own::Impostor(finding) => findings.push(finding),
            Own::No => {}
        }
        for (index, token) in volume.tokens() {
            let at = volume.path(&format!(".projected.sources[{index}].serviceAccountToken"));
            findings.extend(lifetime(token, &at));
            findings.extend(audience(token, identity, settings, &at));
        }
    }
    if let (Some(issuer), Some(_)) = (issuer, identity) {
        check_broker(pod, facts, issuer, findings);
    }
    for container in &facts.containers {
        check_mounts(facts, container, findings);
    }
}

/// Whether a volume is one that Deputy put there.
enum Own {
    /// It is.
    AsDeclared,
    /// It has the name of one of ours and is not what the identity declares: mounted at a managed path, it would pass for
    /// the agent's tokens.
    Impostor(Finding),
    /// It does not say so.
    No,
}

fn own(pod: &Value, volume: &Volume<'_>, identity: &Identity, issuer: Option<&str>) -> Own {
    let volumes = managed::volumes(identity, issuer);
    let Some(managed) = volumes.iter().find(|managed| managed.name == volume.name) else { return Own::No };
    let message = match managed.desired() {
        Some(desired) if pod["spec"]["volumes"].get(volume.index) == Some(desired) => return Own::AsDeclared,
        Some(_) => "is Deputy's own volume, and not as AgentIdentity declares it",
        None => "is the name of Deputy's own volume, and AgentIdentity declares nothing for it",
    };
    let message = message.replace("AgentIdentity", &format!("AgentIdentity {:?}", identity.name));
    Own::Impostor(Finding::deny(&AI108, volume.path(".name"), message))
}

/// What leads to the broker is in one container, and leads nowhere else: whoever could change it after Deputy put it there
/// could have the agent hand its tokens, and its users', to somebody else.
fn check_broker(pod: &Value, facts: &PodFacts<'_>, issuer: &str, findings: &mut Vec<Finding>) {
    let receives = |container: &&Container<'_>| {
        let is_there = |mount: &Mount<'_>| {
            mount.volume == TOKENS_VOLUME && mount_path::same(mount.path, mount_path::DEPUTY)
        };
        container.list == List::Main && container.mounts.iter().any(is_there)
    };
    if facts.volume(TOKENS_VOLUME).is_none() {
        let message = format!("lacks {TOKENS_VOLUME:?}, with the broker's token and CA");
        findings.push(Finding::deny(&AI108, "spec.volumes", message));
    }
    let mut consumers = facts.containers.iter().filter(receives).peekable();
    if consumers.peek().is_none() {
        let message = format!("none has {TOKENS_VOLUME:?} at {}", mount_path::DEPUTY);
        findings.push(Finding::deny(&AI108, "spec.containers", message));
    }
    for container in consumers {
        let env = pod["spec"]["containers"][container.index]["env"].as_array().map_or(&[][..], Vec::as_slice);
        for (name, value) in managed::environment(issuer) {
            let desired = managed::variable(name, &value);
            let mut named =
                env.iter().enumerate().filter(|(_, variable)| variable["name"] == name).peekable();
            if named.peek().is_none() {
                findings.push(Finding::deny(&AI108, container.path(".env"), format!("lacks {name}={value}")));
            }
            for (index, _) in named.filter(|(_, variable)| **variable != desired) {
                let at = container.path(&format!(".env[{index}]"));
                findings.push(Finding::deny(&AI108, at, format!("is {name}, and not {value}")));
            }
        }
    }
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
        Some(audience) if settings.issuer.as_deref() == Some(audience) => {
            let message =
                format!("{audience:?} is the broker's, whose one token is at {}/token", mount_path::DEPUTY);
            Some(Finding::deny(&AI104, at, message))
        }
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
