//! AI212: what this version does not know may be a credential.

use crate::policy::{
    Finding, Place, Settings,
    facts::{Container, EnvKind, PodFacts, Projection, VolumeSource},
    rule::AI212,
};

/// Checks that every volume, projection and environment source is of a known kind.
pub(in crate::policy) fn check(facts: &PodFacts<'_>, settings: &Settings, findings: &mut Vec<Finding>) {
    for volume in &facts.volumes {
        for source in &volume.sources {
            match source {
                VolumeSource::Unknown(key) if !settings.known.volumes.contains(*key) => {
                    findings.push(unknown(volume.path(&format!(".{key}")), key));
                }
                VolumeSource::Projected(projections) => {
                    for (index, projection) in projections.iter().enumerate() {
                        if let Projection::Unknown(key) = projection
                            && !settings.known.projections.contains(*key)
                        {
                            let at = volume.path(&format!(".projected.sources[{index}].{key}"));
                            findings.push(unknown(at, key));
                        }
                    }
                }
                _ => {}
            }
        }
    }
    for container in &facts.containers {
        check_env(container, settings, findings);
    }
}

/// Checks the sources of one container's environment.
pub(in crate::policy) fn check_env(
    container: &Container<'_>,
    settings: &Settings,
    findings: &mut Vec<Finding>,
) {
    for source in &container.env_sources {
        let EnvKind::Unknown(key) = source.kind else { continue };
        let known = if source.below.starts_with(".envFrom") {
            &settings.known.env_from_sources
        } else {
            &settings.known.env_sources
        };
        if !known.contains(key) {
            findings.push(unknown(container.path(&source.below), key));
        }
    }
}

fn unknown(place: Place, key: &str) -> Finding {
    Finding::deny(&AI212, place, format!("{key:?} is unknown to this version of Deputy"))
}
