//! AI201–AI205, AI304: static credentials, by reference.

use crate::{
    index::Identity,
    policy::{
        Finding, Settings,
        facts::{Container, EnvKind, PodFacts, Projection, Volume, VolumeSource, Windows},
        rule::{AI201, AI202, AI203, AI204, AI205, AI304},
    },
};

/// Checks every reference of the pod to a static credential.
pub(in crate::policy) fn check(
    facts: &PodFacts<'_>,
    identity: Option<&Identity>,
    settings: &Settings,
    findings: &mut Vec<Finding>,
) {
    for volume in &facts.volumes {
        check_volume(volume, settings, findings);
    }
    for container in &facts.containers {
        check_env(container, findings);
        windows(&container.windows, &container.path(".securityContext"), findings);
    }
    windows(&facts.windows, "spec.securityContext", findings);
    let Some(identity) = identity else { return };
    for (index, name) in facts.pull_secrets.iter().enumerate() {
        if !identity.image_pull_secrets.iter().any(|declared| declared == name) {
            let message = format!("Secret {name:?} is not one of AgentIdentity {:?}", identity.name);
            findings.push(Finding::deny(&AI203, format!("spec.imagePullSecrets[{index}]"), message));
        }
    }
}

/// Checks the Secrets in one container's environment.
pub(in crate::policy) fn check_env(container: &Container<'_>, findings: &mut Vec<Finding>) {
    for source in &container.env_sources {
        if let EnvKind::Secret(name) = source.kind {
            let at = container.path(&source.below);
            findings.push(Finding::deny(&AI201, at, format!("reads Secret {name:?} into the environment")));
        }
    }
}

fn check_volume(volume: &Volume<'_>, settings: &Settings, findings: &mut Vec<Finding>) {
    for source in &volume.sources {
        match source {
            VolumeSource::Secret(name) => {
                let message = format!("mounts Secret {name:?}");
                findings.push(Finding::deny(&AI202, volume.path(".secret"), message));
            }
            VolumeSource::StorageKey(fields) => {
                findings.extend(fields.iter().map(|field| {
                    Finding::deny(
                        &AI204,
                        volume.path(field),
                        "names a storage credential shared by its users",
                    )
                }));
            }
            VolumeSource::Csi { driver, credentials } => {
                if !settings.allowed_csi_drivers.contains(*driver) {
                    let message = format!("driver {driver:?} is not allowed inline");
                    findings.push(Finding::deny(&AI205, volume.path(".csi.driver"), message));
                }
                findings.extend(credentials.iter().map(|field| {
                    Finding::deny(&AI205, volume.path(field), "has the driver deliver a static credential")
                }));
            }
            VolumeSource::Projected(projections) => check_projections(volume, projections, findings),
            VolumeSource::EmptyDir
            | VolumeSource::Harmless
            | VolumeSource::HostPath
            | VolumeSource::Unknown(_) => {}
        }
    }
}

fn check_projections(volume: &Volume<'_>, projections: &[Projection<'_>], findings: &mut Vec<Finding>) {
    for (index, projection) in projections.iter().enumerate() {
        let at = |field: &str| volume.path(&format!(".projected.sources[{index}].{field}"));
        match projection {
            Projection::Secret(name) => {
                findings.push(Finding::deny(&AI202, at("secret"), format!("mounts Secret {name:?}")));
            }
            Projection::PodCertificate => {
                let message = "projects a certificate no AgentIdentity declares";
                findings.push(Finding::deny(&AI304, at("podCertificate"), message));
            }
            Projection::Harmless | Projection::Token(_) | Projection::Unknown(_) => {}
        }
    }
}

fn windows(options: &Windows, context: &str, findings: &mut Vec<Finding>) {
    findings.extend(options.gmsa.iter().map(|field| {
        Finding::deny(&AI204, format!("{context}.windowsOptions.{field}"), "runs as a domain service account")
    }));
}
