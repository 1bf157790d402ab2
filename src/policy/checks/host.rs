//! AI401: what reaches into the node.

use crate::policy::{
    Finding, Place,
    facts::{Container, PodFacts, VolumeSource},
    rule::AI401,
};

/// Checks the whole pod.
pub(in crate::policy) fn check(facts: &PodFacts<'_>, findings: &mut Vec<Finding>) {
    for field in &facts.host_namespaces {
        findings.push(Finding::deny(&AI401, format!("spec.{field}"), "joins a namespace of the node"));
    }
    for volume in &facts.volumes {
        if volume.sources.contains(&VolumeSource::HostPath) {
            findings.push(Finding::deny(&AI401, volume.path(".hostPath"), "mounts a directory of the node"));
        }
    }
    if facts.windows.host_process {
        findings.push(host_process(&"spec".into()));
    }
    for container in &facts.containers {
        check_container(container, findings);
    }
}

/// Checks one container.
pub(in crate::policy) fn check_container(container: &Container<'_>, findings: &mut Vec<Finding>) {
    findings.extend(
        container.host_access.iter().map(|(below, what)| Finding::deny(&AI401, container.path(below), what)),
    );
    if container.windows.host_process {
        findings.push(host_process(&container.path("")));
    }
}

fn host_process(of: &Place) -> Finding {
    let at = of.below(".securityContext.windowsOptions.hostProcess");
    Finding::deny(&AI401, at, "runs on the node itself")
}
