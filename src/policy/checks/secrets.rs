//! AI201–AI205, AI301, AI304: static credentials, by reference.

use crate::{
    api::v1alpha1::Delivery,
    index::{Claim, Identity, Snapshot, Subject},
    policy::{
        Finding, Place, Settings,
        facts::{PodFacts, Projection, SecretUse, Volume, VolumeSource, Windows},
        rule::{AI201, AI202, AI203, AI204, AI205, AI301, AI304, Rule},
    },
};
use k8s_openapi::jiff::Timestamp;

/// What decides whether a Secret may be used.
#[derive(Clone, Copy)]
pub(in crate::policy) struct Holding<'a> {
    /// The agent; `None` if the pod is nobody's that may run.
    pub(in crate::policy) identity: Option<&'a Identity>,
    pub(in crate::policy) snapshot: &'a Snapshot,
    pub(in crate::policy) now: Timestamp,
}

/// Checks every reference of the pod to a static credential. Returns whether all that is wrong with its Secrets is that the
/// claim of its own identity is not there yet: it may be on its way.
pub(in crate::policy) fn check(
    facts: &PodFacts<'_>,
    holding: Holding<'_>,
    settings: &Settings,
    findings: &mut Vec<Finding>,
) -> bool {
    let mut awaited = false;
    for volume in &facts.volumes {
        awaited |= check_volume(volume, holding, settings, findings);
    }
    for container in &facts.containers {
        for (path, used) in container.env_secrets() {
            awaited |= check_secret(used, path, Delivery::Env, holding, findings);
        }
        windows(&container.windows, &container.path(".securityContext"), findings);
    }
    windows(&facts.windows, &"spec.securityContext".into(), findings);
    let Some(identity) = holding.identity else { return false };
    for (index, name) in facts.pull_secrets.iter().enumerate() {
        if !identity.image_pull_secrets.iter().any(|declared| declared == name) {
            let message = format!("Secret {name:?} is not one of AgentIdentity {:?}", identity.name);
            findings.push(Finding::deny(&AI203, format!("spec.imagePullSecrets[{index}]"), message));
        }
    }
    let elsewhere = facts.pull_secrets.iter().enumerate();
    let elsewhere = elsewhere.map(|(index, name)| (format!("spec.imagePullSecrets[{index}]").into(), *name));
    check_claimed(elsewhere, &identity.namespace, holding.snapshot, findings);
    awaited
}

/// Checks a pod that is no agent's: it may name no Secret that is claimed.
pub(in crate::policy) fn check_claimed<'a>(
    secrets: impl IntoIterator<Item = (Place, &'a str)>,
    namespace: &str,
    snapshot: &Snapshot,
    findings: &mut Vec<Finding>,
) {
    for (path, name) in secrets {
        let subject = Subject::Secret { namespace: namespace.to_owned(), name: name.to_owned() };
        if let Some(claim) = snapshot.claim(&subject) {
            findings.push(Finding::deny(&AI301, path, format!("Secret {name:?} is {}", held_by(claim))));
        }
    }
}

/// Checks one Secret that reaches a container. Returns whether nothing but the claim is missing.
fn check_secret(
    used: &SecretUse<'_>,
    path: Place,
    delivery: Delivery,
    holding: Holding<'_>,
    findings: &mut Vec<Finding>,
) -> bool {
    let name = used.name;
    let rule: &'static Rule = match delivery {
        Delivery::Env => &AI201,
        Delivery::File => &AI202,
    };
    let Some(identity) = holding.identity else {
        findings.push(Finding::deny(rule, path, reads(delivery, name)));
        return false;
    };
    let subject = Subject::Secret { namespace: identity.namespace.clone(), name: name.to_owned() };
    let claim = holding.snapshot.claim(&subject);
    if let Some(claim) = claim.filter(|claim| claim.holder.uid != identity.uid) {
        findings.push(Finding::deny(&AI301, path, format!("Secret {name:?} is {}", held_by(claim))));
        return false;
    }
    let declared = format!("AgentIdentity {:?}", identity.name);
    let Some(credential) = identity.credential(name) else {
        let what = format!("{}, which {declared} does not declare", reads(delivery, name));
        findings.push(Finding::deny(rule, path, what));
        return false;
    };
    let wrong = if credential.delivery != delivery {
        Some(format!("{declared} declares it with delivery: {:?}", credential.delivery))
    } else if credential.is_expired(holding.now) {
        Some(format!("its use ended with the expirationTime in {declared}, {}", credential.expiration))
    } else {
        match &used.keys {
            None => Some(format!("all its keys are taken; list those of {declared}: {:?}", credential.keys)),
            Some(keys) => keys
                .iter()
                .find(|key| !credential.keys.iter().any(|declared| declared == *key))
                .map(|key| format!("{declared} does not declare its key {key:?}")),
        }
    };
    if let Some(wrong) = wrong {
        findings.push(Finding::deny(rule, path, format!("{}: {wrong}", reads(delivery, name))));
        return false;
    }
    if claim.is_some_and(|claim| claim.is_held_by(&identity.uid)) {
        return false;
    }
    let message =
        format!("{declared} does not hold Secret {name:?} yet; its condition CredentialsClaimed says why");
    findings.push(Finding::deny(&AI301, path, message));
    true
}

fn reads(delivery: Delivery, name: &str) -> String {
    match delivery {
        Delivery::Env => format!("reads Secret {name:?} into the environment"),
        Delivery::File => format!("mounts Secret {name:?}"),
    }
}

fn held_by(claim: &Claim) -> String {
    let Claim { holder, released, .. } = claim;
    let verb = if released.is_some() { "still bound to" } else { "held by" };
    format!("{verb} AgentIdentity {:?}", holder.name)
}

fn check_volume(
    volume: &Volume<'_>,
    holding: Holding<'_>,
    settings: &Settings,
    findings: &mut Vec<Finding>,
) -> bool {
    let mut awaited = false;
    for source in &volume.sources {
        match source {
            VolumeSource::Secret(used) => {
                awaited |= check_secret(used, volume.path(".secret"), Delivery::File, holding, findings);
            }
            VolumeSource::StorageKey(fields) => {
                findings.extend(fields.iter().map(|(field, _)| {
                    Finding::deny(
                        &AI204,
                        volume.path(field),
                        "names a storage credential shared by its users",
                    )
                }));
            }
            VolumeSource::Csi { driver, credentials, .. } => {
                if !settings.allowed_csi_drivers.contains(*driver) {
                    let message = format!("driver {driver:?} is not allowed inline");
                    findings.push(Finding::deny(&AI205, volume.path(".csi.driver"), message));
                }
                findings.extend(credentials.iter().map(|field| {
                    Finding::deny(&AI205, volume.path(field), "has the driver deliver a static credential")
                }));
            }
            VolumeSource::Projected(projections) => {
                awaited |= check_projections(volume, projections, holding, findings);
            }
            VolumeSource::EmptyDir
            | VolumeSource::Harmless
            | VolumeSource::HostPath
            | VolumeSource::Unknown(_) => {}
        }
    }
    awaited
}

fn check_projections(
    volume: &Volume<'_>,
    projections: &[Projection<'_>],
    holding: Holding<'_>,
    findings: &mut Vec<Finding>,
) -> bool {
    let mut awaited = false;
    for (index, projection) in projections.iter().enumerate() {
        let at = |field: &str| volume.path(&format!(".projected.sources[{index}].{field}"));
        match projection {
            Projection::Secret(used) => {
                awaited |= check_secret(used, at("secret"), Delivery::File, holding, findings);
            }
            Projection::PodCertificate => {
                let message = "projects a certificate no AgentIdentity declares";
                findings.push(Finding::deny(&AI304, at("podCertificate"), message));
            }
            Projection::Harmless | Projection::Token(_) | Projection::Unknown(_) => {}
        }
    }
    awaited
}

fn windows(options: &Windows, context: &Place, findings: &mut Vec<Finding>) {
    findings.extend(options.gmsa.iter().map(|field| {
        let at = context.below(&format!(".windowsOptions.{field}"));
        Finding::deny(&AI204, at, "runs as a domain service account")
    }));
}
