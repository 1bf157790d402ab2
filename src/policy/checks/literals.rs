//! AI206, AI207: keys in clear text. Every string of the pod is looked at, fields this version does not know included,
//! so that no place can be forgotten.

use crate::policy::{
    Finding, Rule, Settings,
    rule::{AI206, AI207},
    walk::{self, Path},
};
use serde_json::Value;

/// Checks the pod's spec and metadata.
pub(in crate::policy) fn check(pod: &Value, settings: &Settings, findings: &mut Vec<Finding>) {
    if let Some(Value::Object(metadata)) = pod.get("metadata") {
        for (key, value) in metadata {
            // Written by the API server: names of fields, never their values.
            if key != "managedFields" {
                scan(value, &Path::Key(&Path::Root("metadata"), key), &AI207, settings, findings);
            }
        }
    }
    if let Some(spec) = pod.get("spec") {
        scan(spec, &Path::Root("spec"), &AI206, settings, findings);
    }
}

/// Checks the debug containers alone.
pub(in crate::policy) fn check_debug_containers(
    pod: &Value,
    settings: &Settings,
    findings: &mut Vec<Finding>,
) {
    if let Some(containers) = pod.pointer("/spec/ephemeralContainers") {
        scan(containers, &Path::Root("spec.ephemeralContainers"), &AI206, settings, findings);
    }
}

fn scan(
    value: &Value,
    root: &Path<'_>,
    rule: &'static Rule,
    settings: &Settings,
    findings: &mut Vec<Finding>,
) {
    walk::strings(value, root, &mut |path, text| {
        if let Some(format) = settings.formats.find(text) {
            let message = format!("matches {format:?} ({} characters)", text.chars().count());
            findings.push(Finding::deny(rule, path.to_string(), message));
        }
    });
}
