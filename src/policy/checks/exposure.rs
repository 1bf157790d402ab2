//! AI107, AI502: who in the pod can reach a credential besides its one consumer.

use super::tokens::check_mounts;
use crate::policy::{
    Finding, Settings,
    facts::{Container, EnvKind, List, PodFacts, Volume},
    rule::{AI107, AI502},
};

/// Checks that each credential of the pod has one consumer.
pub(in crate::policy) fn check(facts: &PodFacts<'_>, settings: &Settings, findings: &mut Vec<Finding>) {
    let credentials: Vec<&Volume<'_>> = facts.volumes.iter().filter(|v| v.carries_credential()).collect();
    if facts.shares_processes && !credentials.is_empty() && facts.declared_containers().count() > 1 {
        let message = "every container can read the others' files, tokens included";
        findings.push(Finding::deny(&AI107, "spec.shareProcessNamespace", message));
    }
    for (own, group) in groups(&credentials, settings) {
        second_consumers(facts, &group, own, findings);
    }
    for container in facts.declared_containers() {
        check_container(container, &credentials, findings);
    }
}

/// Volumes that must share one consumer: those with the agent's own credentials are one group, and each volume with
/// nothing but a mesh's tokens is one of its own, consumed by the mesh's proxy.
fn groups<'v, 'a>(credentials: &[&'v Volume<'a>], settings: &Settings) -> Vec<(bool, Vec<&'v Volume<'a>>)> {
    let is_mesh = |volume: &Volume<'_>| {
        let mut tokens = volume.tokens().peekable();
        tokens.peek().is_some()
            && tokens.all(|(_, t)| t.audience.is_some_and(|a| settings.allowed_audiences.contains(a)))
    };
    let (mesh, own): (Vec<_>, Vec<_>) = credentials.iter().copied().partition(|volume| is_mesh(volume));
    let mut groups: Vec<_> = mesh.into_iter().map(|volume| (false, vec![volume])).collect();
    groups.push((true, own));
    groups
}

fn second_consumers(facts: &PodFacts<'_>, group: &[&Volume<'_>], own: bool, findings: &mut Vec<Finding>) {
    let mut first: Option<&str> = None;
    for container in facts.declared_containers() {
        // A Secret in the environment is a credential of the agent's own as much as one in a volume.
        let by_mount =
            container.mounts.iter().enumerate().find(|(_, m)| group.iter().any(|v| v.name == m.volume));
        let by_mount = by_mount.map(|(index, mount)| {
            let at = container.path(&format!(".volumeMounts[{index}]"));
            (
                at,
                format!(
                    "volume {:?} carries {} credentials",
                    mount.volume,
                    if own { "the agent's" } else { "a mesh's" }
                ),
            )
        });
        let by_env = || {
            let secret = container.env_secrets().next().filter(|_| own);
            secret.map(|(at, used)| (at, format!("Secret {:?} is a credential of the agent", used.name)))
        };
        let Some((at, what)) = by_mount.or_else(by_env) else { continue };
        match first {
            None => first = Some(container.name),
            Some(first) => {
                let message = format!("{what}, and container {first:?} already has those");
                findings.push(Finding::deny(&AI107, at, message));
            }
        }
    }
}

fn check_container(container: &Container<'_>, credentials: &[&Volume<'_>], findings: &mut Vec<Finding>) {
    for (index, mount) in container.mounts.iter().enumerate() {
        if mount.partial && credentials.iter().any(|volume| volume.name == mount.volume) {
            let at = container.path(&format!(".volumeMounts[{index}].subPath"));
            findings.push(Finding::deny(&AI107, at, "a file mounted by subPath is never renewed"));
        }
    }
    for source in container.env_sources.iter().filter(|source| source.kind == EnvKind::File) {
        let message = "hands on a file another container wrote, whose content nobody can judge";
        findings.push(Finding::deny(&AI107, container.path(&source.below), message));
    }
}

/// Checks the debug containers of an agent's running pod.
pub(in crate::policy) fn check_debug_containers(facts: &PodFacts<'_>, findings: &mut Vec<Finding>) {
    for container in facts.containers.iter().filter(|c| c.list == List::Ephemeral) {
        if facts.shares_processes {
            let message = "the pod shares its process namespace: a debug container reads the agent's files through /proc";
            findings.push(Finding::deny(&AI502, container.path(""), message));
        }
        if let Some(target) = container.target {
            let message =
                format!("joins the processes of container {target:?} and reads its files through /proc");
            findings.push(Finding::deny(&AI502, container.path(".targetContainerName"), message));
        }
        for (index, mount) in container.mounts.iter().enumerate() {
            if facts.volume(mount.volume).is_none_or(Volume::carries_credential) {
                let at = container.path(&format!(".volumeMounts[{index}]"));
                let message = format!("mounts volume {:?}, which carries a credential", mount.volume);
                findings.push(Finding::deny(&AI502, at, message));
            }
        }
        for source in &container.env_sources {
            if matches!(source.kind, EnvKind::Secret(_) | EnvKind::File) {
                let message = "reads a credential into a debug container";
                findings.push(Finding::deny(&AI502, container.path(&source.below), message));
            }
        }
        check_mounts(facts, container, findings);
    }
}
